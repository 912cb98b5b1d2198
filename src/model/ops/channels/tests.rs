use super::*;
use crate::Element;

/// Labels of a reshape of `from`, whose axes are labelled where `labelled` says; as roots, `None` for fixed axes. Roots of
/// fixed atoms are left out of the second result: those that can still be removed.
fn reshaped(from: &[Dim], labelled: &[bool], to: &[Dim]) -> (Vec<Option<Vec<Atom>>>, Vec<Atom>) {
    let mut labels = Labels::new();
    let axes: Vec<AxisLabels> = from.iter().zip(labelled).map(|(d, &l)| l.then(|| labels.fresh(d.known().unwrap()))).collect();
    let (node, facts) = (Node::default(), Facts::new());
    let mut cx = Channels { node: &node, index: 0, opset: 17, facts: &facts, labels: &mut labels };
    let out = reshape(&mut cx, from, &axes, to);
    let roots = out.iter().map(|l| l.as_ref().map(|l| l.iter().map(|&a| labels.root(a)).collect())).collect();
    let mut free: Vec<Atom> = (0..labels.parent.len() as Atom).filter(|&a| labels.root(a) == a && !labels.is_frozen(a)).collect();
    free.sort_unstable();
    (roots, free)
}

fn known(sizes: &[usize]) -> Vec<Dim> {
    sizes.iter().map(|&n| Dim::Known(n)).collect()
}

#[test]
fn merged_axes_repeat_the_labels() {
    let (out, free) = reshaped(&known(&[1, 3, 2, 2]), &[false, true, false, false], &known(&[1, 12]));
    assert_eq!(out, [None, Some(vec![0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2])]);
    assert_eq!(free, [0, 1, 2]);
    // The labelled axis inside: repeats as a whole.
    let (out, _) = reshaped(&known(&[2, 3]), &[false, true], &known(&[6]));
    assert_eq!(out, [Some(vec![0, 1, 2, 0, 1, 2])]);
}

#[test]
fn a_split_axis_joins_over_the_smaller_factor() {
    let (out, free) = reshaped(&known(&[1, 6, 5]), &[false, true, false], &known(&[1, 2, 3, 5]));
    assert_eq!(out, [None, None, Some(vec![0, 1, 2]), None]);
    assert_eq!(free, [0, 1, 2]);
    let (out, free) = reshaped(&known(&[6]), &[true], &known(&[3, 2]));
    assert_eq!(out, [Some(vec![0, 2, 4]), None]);
    assert_eq!(free, [0, 2, 4]);
}

#[test]
fn a_split_follows_labels_that_repeat_already() {
    let mut labels = Labels::new();
    let axis = labels.fresh(8);
    // Groups of two: index within the group goes from all groups.
    (2..8).for_each(|i| labels.join(axis[i], axis[i % 2]));
    let (node, facts) = (Node::default(), Facts::new());
    let mut cx = Channels { node: &node, index: 0, opset: 17, facts: &facts, labels: &mut labels };
    let out = reshape(&mut cx, &known(&[8]), &[Some(axis)], &known(&[4, 2]));
    assert_eq!(out[0], None);
    let inner: Vec<Atom> = out[1].as_ref().unwrap().iter().map(|&a| labels.root(a)).collect();
    assert_eq!(inner, [0, 1]);
}

#[test]
fn two_labelled_axes_cannot_both_lose_indices() {
    let (out, free) = reshaped(&known(&[2, 3]), &[true, true], &known(&[6]));
    assert_eq!(out, [Some(vec![2, 3, 4, 2, 3, 4])]);
    assert_eq!(free, [2, 3, 4], "the axis with fewer choices is fixed");
}

#[test]
fn symbols_align_and_unknown_products_fix() {
    let b = Dim::symbol("batch");
    let from = [b.clone(), Dim::Known(4), Dim::Known(2)];
    let (out, free) = reshaped(&from, &[false, true, false], &[b.clone(), Dim::Known(8)]);
    assert_eq!((out, free.len()), (vec![None, Some(vec![0, 0, 1, 1, 2, 2, 3, 3])], 4));
    // One open size on each side, and equal products: it is the same size.
    let (out, _) = reshaped(&from, &[false, true, false], &[Dim::Unknown, Dim::Known(8)]);
    assert!(out[1].is_some());
    // A batch that takes part in the new size.
    let (out, free) = reshaped(&from, &[false, true, false], &[Dim::Unknown, Dim::Known(2)]);
    assert_eq!((out, free.len()), (vec![None, None], 0));
}

#[test]
fn axes_of_size_one_are_fixed() {
    let (out, free) = reshaped(&known(&[1, 1, 4]), &[false, true, true], &known(&[4, 1]));
    assert_eq!(out, [Some(vec![1, 2, 3, 4]), None]);
    assert_eq!(free, [1, 2, 3, 4]);
}

#[test]
fn joining_reaches_what_was_labelled_before_and_keeps_what_is_frozen() {
    let mut labels = Labels::new();
    let (a, b) = (labels.fresh(2), labels.fresh(2));
    labels.set("a", vec![Some(a.clone())]);
    labels.freeze(b[1]);
    labels.join(a[0], b[0]);
    labels.join(a[1], b[1]);
    assert_eq!(labels.root(b[0]), labels.root(a[0]));
    assert!(!labels.is_frozen(a[0]) && labels.is_frozen(a[1]));
    labels.freeze_value("a");
    assert!(labels.is_frozen(b[0]));
}

#[test]
fn broadcasting_fixes_repeated_axes_and_joins_the_others() {
    let facts: Facts = [("x", vec![1, 4, 3]), ("y", vec![4, 1]), ("z", vec![1])]
        .into_iter()
        .map(|(n, d)| (n.to_string(), Fact::known(Element::F32, &d)))
        .collect();
    let mut labels = Labels::new();
    for (name, sizes) in [("x", vec![1, 4, 3]), ("y", vec![4, 1]), ("z", vec![1])] {
        let axes = sizes.iter().map(|&n| Some(labels.fresh(n))).collect();
        labels.set(name, axes);
    }
    let node = Node::new("Sum", "", ["x", "y", "z"], ["out"]);
    let mut cx = Channels { node: &node, index: 0, opset: 17, facts: &facts, labels: &mut labels };
    let found = join_broadcast(&mut cx, &[0, 1, 2], 0).unwrap();
    assert_eq!(found.carriers, [vec![], vec![0, 1], vec![0]]);
    let root = |value: &str, axis: usize, i: usize| labels.root(labels.axis(value, axis).unwrap()[i]);
    assert!((0..4).all(|i| root("x", 1, i) == root("y", 0, i)));
    assert!(labels.is_frozen(root("y", 1, 0)) && labels.is_frozen(root("z", 0, 0)) && labels.is_frozen(root("x", 0, 0)));
    assert!(!labels.is_frozen(root("x", 2, 0)));
}
