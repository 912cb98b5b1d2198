//! Budgets, shares of single layers, dry runs, sensitivity: what goes, told before and asked for in other words.

use super::*;
use crate::prune::judge::{Judge, feeds as images_of};
use compresso_base::ErrorKind;
use compresso_base::report::Show;
use compresso_learn::data::{DataOptions, dataset};

fn shapes() -> Dataset {
    let options = serde_json::json!({ "images": 12, "size": 16, "classes": 3, "task": "detect" });
    dataset("shapes", &compresso_base::operation::decode::<DataOptions>(options).unwrap(), &Context::new()).unwrap()
}

#[test]
fn a_budget_of_work_or_weights_is_kept() {
    let m = two_layers();
    let stats = |m: &Model| m.stats().unwrap();
    for ratio in [0.1, 0.3, 0.6] {
        let with = |budget| Prune { ratio, budget, align: 1, min_channels: 1, ..Prune::default() };
        let macs = with(Budget::Macs).apply(&m, None, &Context::new()).unwrap();
        let left = stats(&macs).macs.unwrap() as f64 / stats(&m).macs.unwrap() as f64;
        // One channel of 16 is up to an eighth of this net.
        assert!(left <= 1.0 - ratio && left > 1.0 - ratio - 0.13, "{ratio}: {left}");
        let params = with(Budget::Params).apply(&m, None, &Context::new()).unwrap();
        let left = stats(&params).params as f64 / stats(&m).params as f64;
        assert!(left <= 1.02 - ratio && left > 1.0 - ratio - 0.13, "{ratio}: {left}");
    }
}

#[test]
fn single_layers_lose_what_they_are_told_to() {
    let ratios =
        |list: serde_json::Value| Prune { ratios: list.as_object().unwrap().clone(), align: 1, min_channels: 1, ..Prune::default() };
    let apply = |options: Prune| options.apply(&two_layers(), None, &Context::new());
    let p = apply(ratios(serde_json::json!({ "a": 0.25 }))).unwrap();
    assert_eq!((dims(&p, "a.weight")[0], dims(&p, "b.weight")), (12, &[16, 12, 1, 1][..]));
    assert_eq!(apply(ratios(serde_json::json!({ "c": 0.25 }))).unwrap_err().kind(), ErrorKind::Missing);
    for wrong in [serde_json::json!(1.0), serde_json::json!(-0.1), serde_json::json!("half")] {
        assert_eq!(apply(ratios(serde_json::json!({ "a": wrong }))).unwrap_err().kind(), ErrorKind::Argument);
    }
}

#[test]
fn a_dry_run_tells_and_leaves_the_model() {
    let m = two_layers();
    let made = Prune { dry_run: true, ..half() }.run((&m, None), &Context::new()).unwrap();
    assert!(made.model.steps().is_empty() && made.model.stats().unwrap().params == m.stats().unwrap().params);
    let (plan, real) = (made.report.unwrap(), half().run((&m, None), &Context::new()).unwrap().report.unwrap());
    assert_eq!((plan.params_after, plan.macs_after), (real.params_after, real.macs_after));
    assert!(plan.params_after < plan.params_before);
}

fn removals(ratios: &[f64]) -> Removals {
    let ratios = ratios.to_vec();
    Removals {
        ratios,
        measure: Measure::Error,
        importance: Some(Importance::L2),
        images: 4,
        tolerance: 0.01,
        exclude: vec![],
        include: vec![],
    }
}

/// A layer whose halves go different ways, as in a C2f block.
fn split() -> Model {
    let mut n = Net::new(13);
    let x = n.image(3, 8);
    let y = n.conv("cv1", &x, 3, 16, 1, 1);
    let sizes = n.ints(&[8, 8]);
    n.b.node(Node::new("Split", "split", [&y, &sizes], ["left", "right"]).int("axis", 1));
    let inner = n.conv("m", "right", 8, 8, 3, 1);
    let sum = n.op("Add", &[&inner, "right"]);
    let y = n.b.node(Node::new("Concat", "", ["left", "right", &sum], [""]).int("axis", 1));
    n.end(&y, 24)
}

/// Groups that share their first layer have names and shares of their own.
#[test]
fn halves_of_a_layer_are_told_apart_by_name() {
    let (m, data, ctx) = (split(), shapes(), Context::new());
    let names: Vec<String> = groups(m.graph(), &[]).unwrap().0.into_iter().map(|g| g.name).collect();
    assert_eq!(names, ["cv1#1", "cv1#2"]);
    let report = removals(&[0.25, 0.5]).measure(&m, &data, &ctx).unwrap();
    assert_eq!(report.ratios.keys().collect::<Vec<_>>(), ["cv1#1", "cv1#2"]);
    assert_eq!(report.tables()[0].plain().1.iter().map(|r| r[0].clone()).collect::<Vec<_>>(), ["cv1#1", "cv1#2"]);
    let heat = report.plots().remove(0).heat.unwrap();
    assert_eq!(heat.rows, ["cv1#1", "cv1#2"]);
    let kept = |ratios: serde_json::Value| {
        let options = Prune { ratios: ratios.as_object().unwrap().clone(), align: 1, min_channels: 1, ..Prune::default() };
        let p = options.apply(&m, None, &ctx).unwrap();
        (dims(&p, "cv1.weight")[0], dims(&p, "m.weight")[0])
    };
    // The first half goes to the end alone, the second through `m` too.
    assert_eq!(kept(serde_json::json!({ "cv1#1": 0.5 })), (12, 8));
    assert_eq!(kept(serde_json::json!({ "cv1#2": 0.25 })), (14, 6));
    assert_eq!(kept(serde_json::json!({ "cv1": 0.25 })), (12, 6), "a layer's name is a pattern for all its groups");
    assert_eq!(kept(serde_json::json!({ "cv1": 0.25, "cv1#1": 0.5 })), (10, 6), "a group's own name goes before patterns");
    assert_eq!(kept(serde_json::json!({ "cv1#1": 0.5, "cv*": 0.25 })), (10, 6), "in whatever order");
    let wrong = Prune { ratios: serde_json::json!({ "cv2": 0.5 }).as_object().unwrap().clone(), ..half() };
    let e = wrong.apply(&m, None, &ctx).unwrap_err().to_string();
    assert!(e.contains("option 'ratios': 'cv2' matches no layer") && e.contains("did you mean 'cv1"), "{e}");
    let table = &PruneGroups {}.run(&m, &ctx).unwrap().tables()[0];
    assert_eq!(table.plain().1.iter().map(|r| r[0].clone()).collect::<Vec<_>>(), ["cv1#1", "cv1#2"]);
}

/// Each loss is that of the model pruned there and nowhere else.
#[test]
fn sensitivity_is_the_error_of_pruning_one_group() {
    let (m, data, ctx) = (two_layers(), shapes(), Context::new());
    let tried = [0.25, 0.5];
    let options = removals(&tried);
    let report = options.measure(&m, &data, &ctx).unwrap();
    let feeds = images_of(m.graph(), m.task(), &data, 4, &ctx).unwrap();
    let judge = Judge::new(m.graph(), &feeds, &ctx).unwrap();
    assert_eq!(report.groups.iter().map(|g| g.layers[0].as_str()).collect::<Vec<_>>(), ["a", "b"]);
    for group in &report.groups {
        for (ratio, loss) in tried.iter().zip(&group.losses) {
            let ratios = serde_json::json!({ (group.layers[0].as_str()): ratio }).as_object().unwrap().clone();
            let alone = Prune { ratios, importance: Some(Importance::L2), ..half() }.apply(&m, None, &ctx).unwrap();
            let expected = judge.error(alone.graph(), &ctx).unwrap();
            assert!((loss - expected).abs() <= 1e-3 * expected, "{loss} is not {expected}");
        }
        assert!(group.losses[0] <= group.losses[1] && group.losses[1] > 0.0 && group.ratio <= 0.5 && group.saving > 0.0);
    }
    // The report's ratios are an option of `prune`.
    let fitted = Prune { ratios: report.ratios.clone(), align: 1, min_channels: 1, ..Prune::default() };
    assert!(fitted.apply(&m, None, &ctx).is_ok());
    assert_eq!((report.tables().len(), report.plots().len()), (1, 2));
    let e = removals(&[1.0]).measure(&m, &data, &ctx).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Argument);
}

#[test]
fn groups_say_what_they_cost_and_what_stays() {
    let report = PruneGroups {}.run(&two_layers(), &Context::new()).unwrap();
    let found: Vec<_> = report.groups.iter().map(|g| (g.group.layers[0].as_str(), g.group.channels)).collect();
    assert_eq!(found, [("a", 16), ("b", 16)]);
    // Weights: a 48, b 256, last 48. Half of a's channels: 24 and 128.
    assert!((report.groups[0].params - 152.0 / 352.0).abs() < 1e-9, "{}", report.groups[0].params);
    assert!(report.groups.iter().all(|g| g.macs.is_some_and(|m| m > 0.0 && m < 1.0)));
    assert_eq!(report.stays.iter().flat_map(|s| &s.layers).collect::<Vec<_>>(), ["last"]);
    assert_eq!((report.tables().len(), report.plots().len()), (2, 1));
}
