//! Norms over groups of channels, and what else keeps channels: whole groups go, and what stays is said with its reason.

use super::*;

/// GroupNormalization as one operator.
fn group_norm(n: &mut Net, x: &str, c: usize, groups: usize, opset: i64) -> String {
    let entries = if opset >= 21 { c } else { groups };
    let (scale, bias) = (n.positive("gn.scale", entries), n.weight("gn.bias", &[entries]));
    n.b.node(Node::new("GroupNormalization", "gn", [x, &scale, &bias], [""]).int("num_groups", groups as i64))
}

/// The same as PyTorch exports it for older operator sets: every group as one channel of an instance norm.
fn composed(n: &mut Net, x: &str, c: usize, groups: usize, size: Option<usize>) -> String {
    let split = n.ints(&[0, groups as i64, -1]);
    let back = match size {
        Some(s) => n.ints(&[1, c as i64, s as i64, s as i64]),
        None => n.op("Shape", &[x]),
    };
    let y = n.op("Reshape", &[x, &split]);
    let ones = n.b.constant("ones", Constant::floats(&[groups], &vec![1.0; groups]).unwrap());
    let zeros = n.b.constant("zeros", Constant::floats(&[groups], &vec![0.0; groups]).unwrap());
    let y = n.b.node(Node::new("InstanceNormalization", "gn", [y.as_str(), &ones, &zeros], [""]));
    let y = n.op("Reshape", &[&y, &back]);
    let w = n.weight("gn.weight", &[c, 1, 1]);
    let y = n.op("Mul", &[&y, &w]);
    let b = n.weight("gn.shift", &[c, 1, 1]);
    n.op("Add", &[&y, &b])
}

#[test]
fn whole_groups_go_from_before_a_group_norm() {
    for opset in [18, 21] {
        let mut n = Net::new(opset);
        let x = n.image(3, 6);
        let y = n.conv("a", &x, 3, 16, 3, 1);
        let y = n.conv("depthwise", &y, 16, 16, 3, 16);
        let y = group_norm(&mut n, &y, 16, 8, opset);
        let y = n.silu(&y);
        let m = n.end(&y, 16);
        assert_eq!(group_sizes(&m), [("a".into(), 8)], "opset {opset}: a choice for each group of two channels");
        let p = prove(&m);
        assert_eq!(dims(&p, "a.weight"), [8, 3, 3, 3]);
        assert_eq!(attr_int(&p, "gn", "num_groups"), 4);
        assert_eq!(attr_int(&p, "depthwise", "group"), 8);
        assert_eq!(dims(&p, "gn.scale"), [if opset == 21 { 8 } else { 4 }]);
        assert_eq!(dims(&p, "last.weight")[1], 8);
    }
}

#[test]
fn whole_groups_go_from_before_a_composed_group_norm() {
    for open in [false, true] {
        let mut n = Net::new(17);
        let size = |s: &str| if open { Dim::symbol(s) } else { Dim::Known(6) };
        let x = n.b.input("x", Fact::new(Element::F32, vec![size("n"), Dim::Known(3), size("h"), size("w")]));
        let y = n.conv("a", &x, 3, 16, 3, 1);
        let y = composed(&mut n, &y, 16, 8, None);
        let y = n.op("Relu", &[&y]);
        let y = n.conv("b", &y, 16, 16, 3, 1);
        let y = composed(&mut n, &y, 16, 4, None);
        let m = n.end(&y, 16);
        assert_eq!(group_sizes(&m), [("a".into(), 8), ("b".into(), 4)], "open: {open}");
        let p = prove(&m);
        assert_eq!((dims(&p, "a.weight")[0], dims(&p, "b.weight")), (8, [8, 8, 3, 3].as_slice()));
        assert_eq!(dims(&p, "last.weight")[1], 8);
    }
    let mut n = Net::new(17);
    let x = n.image(3, 6);
    let y = n.conv("a", &x, 3, 64, 1, 1);
    let y = composed(&mut n, &y, 64, 8, Some(6));
    let m = n.end(&y, 64);
    // The defaults keep eight channels of a layer, not eight groups.
    let p = Prune::default().apply(&m, None, &Context::new()).unwrap();
    assert_eq!(dims(&p, "a.weight")[0], 32);
}

/// A shared head after two levels: its convolutions lose the same groups for both.
#[test]
fn a_shared_head_with_group_norms_is_pruned_once_for_all_levels() {
    let mut n = Net::new(17);
    let x = n.image(3, 8);
    let a = n.conv("a", &x, 3, 8, 3, 1);
    let a = n.op("Relu", &[&a]);
    let b = n.b.node(Node::new("MaxPool", "", [a.as_str()], [""]).ints("kernel_shape", &[2, 2]).ints("strides", &[2, 2]));
    let w = n.weight("head.weight", &[8, 8, 3, 3]);
    let mut made = Vec::new();
    for (level, size) in [(&a, 8), (&b, 4)] {
        let y = n.b.node(Node::new("Conv", "", [level.as_str(), &w], [""]).ints("pads", &[1; 4]));
        let y = composed(&mut n, &y, 8, 4, Some(size));
        let to = n.ints(&[1, 8, -1]);
        made.push(n.op("Reshape", &[&y, &to]));
    }
    let y = n.b.node(Node::new("Concat", "", [&made[0], &made[1]], [""]).int("axis", 2));
    let v = n.weight("out.weight", &[3, 8, 1]);
    let y = n.b.node(Node::new("Conv", "out", [y.as_str(), &v], [""]));
    n.b.output(&y);
    let m = n.model();
    let p = prove(&m);
    assert_eq!(dims(&p, "head.weight"), [4, 4, 3, 3]);
    assert_eq!(dims(&p, "out.weight"), [3, 4, 1]);
}

fn stays(m: &Model) -> Vec<(String, String)> {
    let found = Analysis::new(m.graph(), &head_values(m.task())).unwrap();
    found.stays().into_iter().map(|s| (s.names(), s.because)).collect()
}

#[test]
fn what_stays_is_said_with_its_reason() {
    let mut n = Net::new(17);
    let x = n.image(3, 6);
    let y = n.conv("a", &x, 3, 8, 1, 1);
    let y = composed(&mut n, &y, 8, 1, Some(6));
    let stem = n.conv("b", &y, 8, 8, 3, 1);
    let t = n.b.node(Node::new("Transpose", "", [stem.as_str()], [""]).ints("perm", &[0, 2, 3, 1]));
    let (s, b) = (n.positive("ln.scale", 8), n.weight("ln.bias", &[8]));
    let y = n.b.node(Node::new("LayerNormalization", "ln", [t.as_str(), &s, &b], [""]));
    let w = n.weight("fc1.weight", &[8, 32]);
    let y = n.b.node(Node::new("MatMul", "fc1", [y.as_str(), &w], [""]));
    let y = n.op("Tanh", &[&y]);
    let w = n.weight("fc2.weight", &[32, 8]);
    let y = n.b.node(Node::new("MatMul", "fc2", [y.as_str(), &w], [""]));
    let y = n.op("Add", &[&t, &y]);
    let y = n.b.node(Node::new("Transpose", "", [y.as_str()], [""]).ints("perm", &[0, 3, 1, 2]));
    let m = n.end(&y, 8);
    assert_eq!(group_sizes(&m), [("fc1".into(), 32)]);
    let together = "takes their mean and variance together";
    assert_eq!(
        stays(&m),
        [
            ("a".into(), format!("InstanceNormalization 'gn' {together}")),
            ("b, fc2".into(), format!("LayerNormalization 'ln' {together}")),
            ("last".into(), "they are an output of the model".into()),
        ]
    );
    let notes = Arc::new(Notes::default());
    let ctx = Context::new().with_progress(notes.clone());
    let made = half().run((&m, None), &ctx).unwrap();
    let said = notes.take().join("\n");
    assert!(said.contains("3 layers keep all their channels, 1 of them because InstanceNormalization 'gn' takes"), "{said}");
    let report = made.report.unwrap();
    let shown = format!("{:?}", compresso_base::report::Show::tables(&report));
    assert!(shown.contains("b, fc2") && shown.contains("they are an output of the model"), "{shown}");
}

#[test]
fn a_model_in_which_nothing_can_go_is_refused_with_the_reason() {
    let mut n = Net::new(17);
    let x = n.image(3, 4);
    let y = n.conv("a", &x, 3, 8, 1, 1);
    let y = n.b.node(Node::new("Softmax", "soft", [y.as_str()], [""]).int("axis", 1));
    n.b.output(&y);
    let e = half().apply(&n.model(), None, &Context::new()).unwrap_err();
    let hint = e.suggestion().unwrap();
    assert!(hint.contains("the channels of a stay because Softmax 'soft' computes over all of them together"), "{hint}");
}
