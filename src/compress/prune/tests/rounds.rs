//! Prunings in several rounds.

use super::*;
use compresso_model::Patch;

#[test]
fn rounds_end_where_one_shot_does() {
    let m = two_layers();
    for schedule in [Ramp::Linear, Ramp::Cosine, Ramp::Exponential, Ramp::Cubic] {
        for (align, kept) in [(1, 8), (4, 8)] {
            let options = Prune { steps: 3, schedule, align, ..half() };
            let p = options.apply(&m, None, &Context::new()).unwrap();
            assert_eq!(dims(&p, "a.weight")[0], kept, "{schedule}");
            assert_eq!(dims(&p, "b.weight"), [kept, kept, 1, 1], "{schedule}");
        }
    }
    let p = Prune { steps: 3, ..half() }.apply(&m, None, &Context::new()).unwrap();
    assert_eq!(p.steps().len(), 1);
    assert_eq!(p.steps()[0].options["steps"], 3);
    let e = Prune { steps: 0, ..half() }.apply(&m, None, &Context::new()).unwrap_err();
    assert!(e.to_string().contains("option 'steps' must be at least 1"), "{e}");
}

/// What happens between two rounds counts in the second.
#[test]
fn each_round_ranks_anew() {
    let m = two_layers();
    let mut seen = Vec::new();
    let mut between = |model: Model, round: usize| {
        let weight = model.graph().constant("b.weight").unwrap().clone();
        seen.push((round, weight.dims()[0]));
        // The first channels that are left become the smallest.
        let inner = weight.count() / weight.dims()[0];
        let mut values = weight.to_f32s().unwrap();
        values[..4 * inner].iter_mut().for_each(|w| *w *= 1e-3);
        let mut patch = Patch::new(model.graph());
        patch.set_constant("b.weight", Constant::floats(weight.dims(), &values).unwrap());
        Ok(Model::new(patch.apply().unwrap(), model.task().clone()))
    };
    let options = Prune { steps: 2, include: vec!["b".into()], ..half() };
    let graph = options.rounds(&m, None, &Context::new(), &mut between).unwrap().unwrap();
    assert_eq!(seen, [(1, 12)]);
    let left = graph.constant("b.weight").unwrap();
    assert_eq!(left.dims()[0], 8);
    assert!((0..8).all(|i| slice(left, 0, i).iter().any(|w| w.abs() > 1e-2)), "none of those made small is left");
}

#[test]
fn single_weights_go_in_rounds_too() {
    let m = two_layers();
    let base = Prune { method: Granularity::Weights, ratio: 0.6, ..Prune::default() };
    let zeros = |options: Prune| {
        let p = options.apply(&m, None, &Context::new()).unwrap();
        p.graph().constant("b.weight").unwrap().to_f32s().unwrap().iter().map(|w| *w == 0.0).collect::<Vec<_>>()
    };
    assert_eq!(zeros(Prune { steps: 4, schedule: Ramp::Cubic, ..base.clone() }), zeros(base));
}

/// Where a single channel is left after the second round, there is nothing to choose from in the third.
#[test]
fn rounds_end_early_where_nothing_is_left_to_remove() {
    let mut n = Net::new(17);
    let x = n.image(3, 4);
    let y = n.conv("a", &x, 3, 4, 1, 1);
    let (flat, image) = (n.ints(&[1, 4, 16]), n.ints(&[1, 4, 4, 4]));
    let y = n.op("Reshape", &[&y, &flat]);
    let y = n.op("Relu", &[&y]);
    let y = n.op("Reshape", &[&y, &image]);
    let m = n.end(&y, 4);
    let once = Prune { ratio: 0.75, ..half() }.apply(&m, None, &Context::new()).unwrap();
    assert_eq!(group_sizes(&once), []);
    let p = Prune { ratio: 0.75, steps: 3, schedule: Ramp::Cubic, ..half() }.apply(&m, None, &Context::new()).unwrap();
    assert_eq!(dims(&p, "a.weight"), dims(&once, "a.weight"));
    // A model in which nothing can be removed from the start is still refused.
    assert!(Prune { steps: 3, ..half() }.apply(&once, None, &Context::new()).is_err());
}
