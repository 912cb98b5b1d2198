//! Sizes, indices and constants in a graph follow the channels that are kept.

use super::*;

#[test]
fn slices_and_gathers_follow() {
    for opset in [9, 17] {
        let mut n = Net::new(opset);
        let x = n.image(3, 4);
        let y = n.conv("a", &x, 3, 10, 1, 1);
        let y = n.op("Relu", &[&y]);
        let slice = |n: &mut Net, y: &str, from: i64, to: i64| {
            if opset < 10 {
                return n.b.node(Node::new("Slice", "", [y], [""]).ints("axes", &[1]).ints("starts", &[from]).ints("ends", &[to]));
            }
            let (s, e, a, step) = (n.ints(&[from]), n.ints(&[to]), n.ints(&[1]), n.ints(&[1]));
            n.op("Slice", &[y, &s, &e, &a, &step])
        };
        let left = slice(&mut n, &y, 0, -6);
        let right = slice(&mut n, &y, 4, i64::MAX);
        let right = n.conv("b", &right, 6, 4, 3, 1);
        let order = n.ints(&[3, 0, 2, 1]);
        let left = n.b.node(Node::new("Gather", "", [&left, &order], [""]).int("axis", 1));
        let y = n.op("Add", &[&left, &right]);
        let m = n.end(&y, 4);
        assert_eq!(group_sizes(&m), [("a".into(), 4), ("a".into(), 6)], "opset {opset}");
        let p = prove(&m);
        assert_eq!((dims(&p, "a.weight")[0], dims(&p, "b.weight")[1], dims(&p, "last.weight")[1]), (5, 3, 2));
    }
}

/// Targets computed from the shape at run time are replaced by what is known, open sizes stay open.
#[test]
fn reshapes_computed_from_a_symbolic_batch() {
    let mut n = Net::new(17);
    let x = n.b.input("x", Fact::new(Element::F32, vec![Dim::symbol("batch"), Dim::Known(3), Dim::Known(4), Dim::Known(4)]));
    let y = n.conv("a", &x, 3, 8, 1, 1);
    let shape = n.op("Shape", &[&y]);
    let zero = n.ints(&[0]);
    let batch = n.b.node(Node::new("Gather", "", [&shape, &zero], [""]).int("axis", 0));
    let rest = n.ints(&[2, 4, 16]);
    let target = n.b.node(Node::new("Concat", "", [&batch, &rest], [""]).int("axis", 0));
    let y = n.op("Reshape", &[&y, &target]);
    let y = n.op("Relu", &[&y]);
    let whole = n.op("Reshape", &[&y, &shape]);
    let m = n.end(&whole, 8);
    assert_eq!(group_sizes(&m), [("a".into(), 4)]);
    let p = prove(&m);
    assert_eq!(dims(&p, "a.weight")[0], 4);
}

/// A scale that a file computes from a channel count keeps its value.
#[test]
fn numbers_computed_from_a_shape_keep_their_values() {
    let mut n = Net::new(17);
    let x = n.image(3, 4);
    let y = n.conv("a", &x, 3, 8, 1, 1);
    let shape = n.op("Shape", &[&y]);
    let one = n.ints(&[1]);
    let c = n.b.node(Node::new("Gather", "", [&shape, &one], [""]).int("axis", 0));
    let c = n.b.node(Node::new("Cast", "", [&c], [""]).int("to", 1));
    let c = n.op("Sqrt", &[&c]);
    let y = n.op("Div", &[&y, &c]);
    let m = n.end(&y, 8);
    prove(&m);
}

#[test]
fn constants_in_arithmetic_go_along_and_divisors_stay_finite() {
    let mut n = Net::new(17);
    let x = n.image(3, 4);
    let y = n.conv("a", &x, 3, 8, 1, 1);
    let values: Vec<f32> = (0..8).map(|i| 1.0 + i as f32).collect();
    let d = n.b.constant("divisor", Constant::floats(&[1, 8, 1, 1], &values).unwrap());
    let s = n.b.constant("slope", Constant::floats(&[8, 1, 1], &values).unwrap());
    let y = n.op("Div", &[&y, &d]);
    let y = n.op("PRelu", &[&y, &s]);
    let y = n.op("Sub", &[&y, &s]);
    let m = n.end(&y, 8);
    let p = prove(&m);
    assert_eq!(dims(&p, "divisor"), [1, 4, 1, 1]);
    assert_eq!(dims(&p, "slope"), [4, 1, 1]);
}

/// Two batch norms that share one vector in the file do not have to lose the same channels.
#[test]
fn vectors_shared_by_two_layers_are_split() {
    let mut n = Net::new(17);
    let x = n.image(3, 4);
    let shared = n.positive("shared", 6);
    let mut y = x;
    for (name, from) in [("a", 3), ("b", 6)] {
        y = n.conv(name, &y, from, 6, 1, 1);
        let bias = n.weight(&format!("{name}.shift"), &[6]);
        let mean = n.weight(&format!("{name}.mean"), &[6]);
        y = n.op("BatchNormalization", &[&y, &shared, &bias, &mean, &shared]);
        y = n.op("Relu", &[&y]);
    }
    let m = n.end(&y, 6);
    assert_eq!(group_sizes(&m), [("a".into(), 6), ("b".into(), 6)]);
    let p = prove_with(&m, &Prune { include: vec!["a".into()], ..half() });
    assert_eq!(dims(&p, "b.weight"), [6, 3, 1, 1]);
    let options = Prune { include: vec!["last".into()], ..half() };
    let e = options.apply(&m, None, &Context::new()).unwrap_err();
    assert!(e.to_string().contains("'last' matches no layer"), "{e}");
}

#[test]
fn weights_shared_by_two_layers_are_pruned_once() {
    let mut n = Net::new(17);
    let x = n.image(3, 4);
    let a = n.conv("a", &x, 3, 6, 1, 1);
    let b = n.conv("b", &x, 3, 6, 1, 1);
    let w = n.weight("head.weight", &[4, 6, 1, 1]);
    let (a, b) = (n.op("Conv", &[&a, &w]), n.op("Conv", &[&b, &w]));
    let y = n.b.node(Node::new("Concat", "", [&a, &b], [""]).int("axis", 2));
    let m = n.end(&y, 4);
    let found = groups(m.graph(), &[]).unwrap();
    assert_eq!(found.0[0].layers, ["a", "b"]);
    assert_eq!(dims(&prove(&m), "head.weight"), [2, 3, 1, 1]);
}

#[test]
fn declared_types_follow() {
    let mut n = Net::new(17);
    let x = n.image(3, 4);
    let y = n.conv("a", &x, 3, 8, 1, 1);
    let y = n.op("Relu", &[&y]);
    let m = n.end(&y, 8);
    let p = prove(&m);
    let facts = compresso_model::infer(p.graph()).unwrap();
    assert_eq!(facts["a_output_0"].dims().unwrap(), [1, 4, 4, 4]);
}
