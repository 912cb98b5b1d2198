//! Single weights.

use super::*;

/// Threshold by `torch.quantile(torch.cat([w.abs().flatten() for w in weights]), 0.4)`: for |w| = 1..10 it is 4.6.
#[test]
fn weights_below_the_quantile_become_zero() {
    let mut n = Net::new(17);
    let x = n.b.input("x", Fact::known(Element::F32, &[1, 2]));
    let w = n.b.constant("fc1.weight", Constant::floats(&[2, 3], &[1., -2., 3., -4., 5., -6.]).unwrap());
    let y = n.b.node(Node::new("MatMul", "fc1", [&x, &w], [""]));
    let w = n.b.constant("fc2.weight", Constant::floats(&[3, 1], &[7., 8., 9.]).unwrap());
    let y = n.b.node(Node::new("MatMul", "fc2", [&y, &w], [""]));
    let w = n.b.constant("fc3.weight", Constant::floats(&[1, 1], &[10.]).unwrap());
    let y = n.b.node(Node::new("MatMul", "fc3", [&y, &w], [""]));
    n.b.output(&y);
    let m = n.model();
    let ctx = Context::new();
    let prune = |options: Prune| options.apply(&m, None, &ctx).unwrap();
    let base = Prune { method: Granularity::Weights, ratio: 0.4, ..Prune::default() };
    let values = |m: &Model, name: &str| m.graph().constant(name).unwrap().to_f32s().unwrap();
    let p = prune(base.clone());
    assert_eq!(values(&p, "fc1.weight"), [0., 0., 0., 0., 5., -6.]);
    assert_eq!(values(&p, "fc2.weight"), [7., 8., 9.]);
    assert_eq!(p.graph().metadata()[compresso_learn::train::MASKS_KEY], r#"["fc1.weight","fc2.weight","fc3.weight"]"#);
    assert_eq!(p.steps()[0].options["method"], "weights");
    let p = prune(Prune { scope: Ranking::Layer, exclude: vec!["fc1".into(), "fc3".into()], ..base });
    assert_eq!(values(&p, "fc1.weight"), [1., -2., 3., -4., 5., -6.]);
    assert_eq!(values(&p, "fc2.weight"), [0., 8., 9.], "the quantile of 7, 8, 9 at 0.4 is 7.8");
}

#[test]
fn a_weight_that_is_an_output_too_is_pruned_in_a_copy() {
    let mut n = Net::new(17);
    let x = n.b.input("x", Fact::known(Element::F32, &[1, 2]));
    let w = n.b.constant("w", Constant::floats(&[2, 2], &[1., -2., 3., -4.]).unwrap());
    let y = n.b.node(Node::new("MatMul", "first", [&x, &w], [""]));
    let y = n.b.node(Node::new("MatMul", "second", [&y, &w], [""]));
    n.b.output(&y);
    n.b.output(&w);
    let m = n.model();
    let p = Prune { method: Granularity::Weights, ratio: 0.5, ..Prune::default() }.apply(&m, None, &Context::new()).unwrap();
    assert_eq!(p.graph().constant("w"), m.graph().constant("w"));
    assert_eq!(p.graph().constant("w_pruned").unwrap().to_f32s().unwrap(), [0., 0., 3., -4.]);
    assert!(p.graph().nodes().iter().all(|n| n.inputs[1] == "w_pruned"));
    assert_eq!(p.graph().metadata()[compresso_learn::train::MASKS_KEY], r#"["w_pruned"]"#);
}
