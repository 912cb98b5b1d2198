//! The list of criteria, and what becomes of a criterion that is wrong.

use super::*;
use compresso_base::operation::{OptionKind, OptionValue, decode};
use std::collections::HashSet;

#[test]
fn scripts_know_each_criterion_by_a_name_of_its_own() {
    let names: Vec<&str> = CRITERIA.iter().map(|c| c.name).collect();
    assert_eq!(names.iter().collect::<HashSet<_>>().len(), names.len());
    assert!(matches!(Importance::KIND, OptionKind::Choice(words) if words == names));
    for criterion in CRITERIA {
        assert!(!criterion.summary.is_empty(), "{}", criterion.name);
        let options: Prune = decode(serde_json::json!({ "importance": criterion.name })).unwrap();
        assert_eq!(options.importance, Some(Importance::of(criterion)));
        let wanted = serde_json::json!({ "importance": criterion.name });
        assert_eq!(serde_json::Value::Object(compresso_base::operation::changed(&options)), wanted);
        // What a fallback needs is there.
        let needs = |c: &Criterion| c.fallback.is_none_or(|f| f.needs.iter().all(|n| c.needs(*n)));
        assert!(needs(criterion), "{}", criterion.name);
    }
    let e = decode::<Prune>(serde_json::json!({ "importance": "tailor" })).unwrap_err();
    assert_eq!(e.suggestion(), Some("did you mean \"taylor\"?"));
    let e = decode::<Prune>(serde_json::json!({ "reduction": "average" })).unwrap_err();
    assert!(e.to_string().contains("option 'reduction' expects"), "{e}");
}

#[test]
fn what_the_page_says_of_criteria_is_so() {
    let page = include_str!("../../../../docs/pruning.md");
    let table = page.lines().skip_while(|l| !l.starts_with("| importance |")).skip(2).take_while(|l| l.starts_with('|'));
    let said: Vec<&str> = table.collect();
    let rows: Vec<String> = CRITERIA.iter().map(|c| format!("| `{}` | {} |", c.name, c.summary)).collect();
    assert_eq!(said, rows, "docs/pruning.md");
}

fn fails(criterion: &'static Criterion) -> compresso_base::Error {
    Prune { importance: Some(Importance::of(criterion)), ..half() }.apply(&two_layers(), None, &Context::new()).unwrap_err()
}

#[test]
fn wrong_criteria_do_not_prune() {
    const SHORT: Criterion = Criterion::new("short", "One score too few.", &[], Score::Slice(|s| Ok(Some(vec![1.0; s.len() - 1]))));
    let e = fails(&SHORT);
    assert!(e.to_string().contains("importance \"short\" gives 15 scores for 16 channels"), "{e}");
    const BROKEN: Criterion = Criterion::new("broken", "No numbers.", &[], Score::Group(|g| Ok(vec![f64::NAN; g.channels()])));
    let e = fails(&BROKEN);
    assert_eq!(e.kind(), compresso_base::ErrorKind::Check);
    // It asks for weights that it does not declare, and gets none.
    const UNDECLARED: Criterion =
        Criterion::new("undeclared", "Nothing.", &[], Score::Slice(|s| Ok(s.weights().map(|w| w.map(|row| row.sum())))));
    let e = fails(&UNDECLARED);
    assert!(e.to_string().contains("importance \"undeclared\" finds nothing to go by"), "{e}");
}

/// A criterion sees producers and consumers of a group, and which of its channels each index is.
#[test]
fn groups_show_all_their_slices() {
    const READ: Criterion = Criterion::new(
        "read",
        "Absolute weights of all slices that read or make a channel, biases and norms included.",
        &[Need::Weights],
        Score::Group(|g| {
            let mut scores = vec![0.0; g.channels()];
            for slice in &g.slices {
                let Some(weights) = slice.weights() else { continue };
                for (i, channel) in g.channels_of(slice).into_iter().enumerate() {
                    if let Some(channel) = channel {
                        scores[channel] += weights.row(i).map(f64::abs).sum::<f64>();
                    }
                }
            }
            Ok(scores)
        }),
    );
    let m = two_layers();
    let found = Analysis::new(m.graph(), &[]).unwrap();
    let got = scores(&Prune { readers: true, ..raw(Importance::of(&READ)) }, &found, None).unwrap().remove(0);
    let places =
        [("a.weight", 0), ("a.bias", 0), ("bn.weight", 0), ("bn.bias", 0), ("bn.running_mean", 0), ("bn.running_var", 0), ("b.weight", 1)];
    let sum =
        |i: usize| -> f64 { places.iter().flat_map(|&(name, axis)| slice(m.graph().constant(name).unwrap(), axis, i)).map(f64::abs).sum() };
    close(&got, &(0..16).map(sum).collect::<Vec<_>>());
}
