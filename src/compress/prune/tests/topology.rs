//! Each topology in a small net: intended channels can be pruned, and the pruned net equals the masked one.

use super::*;

#[test]
fn chain_with_batch_norm() {
    let mut n = Net::new(17);
    let x = n.image(3, 8);
    let y = n.conv("a", &x, 3, 8, 3, 1);
    let y = n.batch_norm("bn", &y, 8);
    let y = n.silu(&y);
    let y = n.conv("b", &y, 8, 6, 3, 1);
    let y = n.op("Sigmoid", &[&y]);
    let m = n.end(&y, 6);
    assert_eq!(group_sizes(&m), [("a".into(), 8), ("b".into(), 6)]);
    let p = prove(&m);
    assert_eq!(dims(&p, "a.weight"), [4, 3, 3, 3]);
    assert_eq!(dims(&p, "bn.running_var"), [4]);
    assert_eq!(dims(&p, "b.weight"), [3, 4, 3, 3]);
    assert_eq!(dims(&p, "last.weight"), [3, 3, 1, 1], "the outputs stay");
}

#[test]
fn residual_additions_join_their_layers() {
    let mut n = Net::new(17);
    let x = n.image(3, 8);
    let stem = n.conv("stem", &x, 3, 8, 3, 1);
    let stem = n.op("Relu", &[&stem]);
    let y = n.conv("a", &stem, 8, 10, 3, 1);
    let y = n.op("Relu", &[&y]);
    let y = n.conv("b", &y, 10, 8, 3, 1);
    let y = n.op("Add", &[&y, &stem]);
    let y = n.op("Relu", &[&y]);
    let m = n.end(&y, 8);
    let found = groups(m.graph(), &[]).unwrap();
    assert_eq!(found.0[0].layers, ["stem", "b"]);
    assert_eq!(group_sizes(&m), [("stem".into(), 8), ("a".into(), 10)]);
    let p = prove(&m);
    assert_eq!((dims(&p, "stem.weight")[0], dims(&p, "b.weight")[0], dims(&p, "last.weight")[1]), (4, 4, 4));
}

#[test]
fn concat_keeps_groups_apart() {
    let mut n = Net::new(17);
    let x = n.image(3, 8);
    let a = n.conv("a", &x, 3, 4, 3, 1);
    let b = n.conv("b", &x, 3, 6, 1, 1);
    let y = n.b.node(Node::new("Concat", "", [&a, &x, &b], [""]).int("axis", -3));
    let y = n.op("Relu", &[&y]);
    let m = n.end(&y, 13);
    assert_eq!(group_sizes(&m), [("a".into(), 4), ("b".into(), 6)]);
    let p = prove(&m);
    assert_eq!(dims(&p, "last.weight"), [3, 2 + 3 + 3, 1, 1]);
}

/// A C2f block: split, bottleneck on one half, concat of all.
#[test]
fn split_halves_are_groups_of_their_own() {
    for (opset, with_input) in [(17, true), (17, false), (18, false), (11, false)] {
        let mut n = Net::new(opset);
        let x = n.image(3, 8);
        let y = n.conv("cv1", &x, 3, 16, 1, 1);
        let y = n.silu(&y);
        let mut split = Node::new("Split", "split", [&y], ["left", "right"]).int("axis", 1);
        if with_input {
            split.inputs.push(n.ints(&[8, 8]));
        } else if opset == 18 {
            split = split.int("num_outputs", 2);
        }
        n.b.node(split);
        let inner = n.conv("m", "right", 8, 8, 3, 1);
        let inner = n.op("Relu", &[&inner]);
        let sum = n.op("Add", &[&inner, "right"]);
        let y = n.b.node(Node::new("Concat", "", ["left", "right", &sum], [""]).int("axis", 1));
        let m = n.end(&y, 24);
        assert_eq!(group_sizes(&m), [("cv1".into(), 8), ("cv1".into(), 8)]);
        let options = Prune { ratio: 0.4, scope: Ranking::Global, ..half() };
        let p = prove_with(&m, &options);
        let kept = dims(&p, "cv1.weight")[0];
        assert_eq!(kept, 16 - 6);
        assert_eq!(dims(&p, "last.weight")[1], kept + dims(&p, "m.weight")[0]);
    }
}

#[test]
fn flatten_spreads_a_channel_over_its_positions() {
    for symbolic in [false, true] {
        let mut n = Net::new(17);
        let batch = if symbolic { Dim::symbol("batch") } else { Dim::Known(1) };
        let x = n.b.input("x", Fact::new(Element::F32, vec![batch, Dim::Known(3), Dim::Known(4), Dim::Known(4)]));
        let y = n.conv("a", &x, 3, 8, 3, 1);
        let y = n.op("Relu", &[&y]);
        let y = n.b.node(Node::new("MaxPool", "", [&y], [""]).ints("kernel_shape", &[2, 2]).ints("strides", &[2, 2]));
        let y = n.b.node(Node::new("Flatten", "", [&y], [""]));
        let (w, b) = (n.weight("fc.weight", &[10, 8 * 4]), n.weight("fc.bias", &[10]));
        let y = n.b.node(Node::new("Gemm", "fc", [&y, &w, &b], [""]).int("transB", 1));
        let y = n.op("Relu", &[&y]);
        let w = n.weight("out.weight", &[10, 5]);
        let y = n.b.node(Node::new("MatMul", "out", [&y, &w], [""]));
        n.b.output(&y);
        let m = n.model();
        assert_eq!(group_sizes(&m), [("a".into(), 8), ("fc".into(), 10)]);
        let p = prove(&m);
        assert_eq!(dims(&p, "fc.weight"), [5, 16]);
        assert_eq!(dims(&p, "out.weight"), [5, 5]);
    }
}

#[test]
fn squeeze_and_excite() {
    for conv in [true, false] {
        let mut n = Net::new(17);
        let x = n.image(3, 6);
        let y = n.conv("a", &x, 3, 8, 3, 1);
        let y = n.op("Relu", &[&y]);
        let s = n.op("GlobalAveragePool", &[&y]);
        let s = if conv {
            let s = n.conv("down", &s, 8, 4, 1, 1);
            let s = n.op("Relu", &[&s]);
            n.conv("up", &s, 4, 8, 1, 1)
        } else {
            let s = n.b.node(Node::new("Flatten", "", [&s], [""]));
            let w = n.weight("down.weight", &[8, 4]);
            let s = n.b.node(Node::new("MatMul", "down", [&s, &w], [""]));
            let s = n.op("Relu", &[&s]);
            let w = n.weight("up.weight", &[4, 8]);
            let s = n.b.node(Node::new("MatMul", "up", [&s, &w], [""]));
            let target = n.ints(&[1, 8, 1, 1]);
            let s = n.op("Reshape", &[&s, &target]);
            let full = n.ints(&[1, 8, 6, 6]);
            n.op("Expand", &[&s, &full])
        };
        let s = n.op("HardSigmoid", &[&s]);
        let y = n.op("Mul", &[&y, &s]);
        let m = n.end(&y, 8);
        let found = groups(m.graph(), &[]).unwrap();
        assert_eq!(found.0[0].layers, ["a", "up"]);
        assert_eq!(group_sizes(&m), [("a".into(), 8), ("down".into(), 4)]);
        let p = prove(&m);
        assert_eq!(dims(&p, "down.weight"), if conv { vec![2, 4, 1, 1] } else { vec![4, 2] });
    }
}

/// YOLO11's attention: one convolution makes queries, keys and values of several heads.
#[test]
fn attention_prunes_inner_sizes_of_heads() {
    let (heads, key, value, size) = (2usize, 4usize, 8usize, 3usize);
    let mut n = Net::new(17);
    let x = n.image(3, size);
    let y = n.conv("a", &x, 3, heads * value, 1, 1);
    let each = key * 2 + value;
    let qkv = n.conv("qkv", &y, heads * value, heads * each, 1, 1);
    let tokens = (size * size) as i64;
    let target = n.ints(&[1, heads as i64, each as i64, tokens]);
    let qkv = n.op("Reshape", &[&qkv, &target]);
    let sizes = n.ints(&[key as i64, key as i64, value as i64]);
    n.b.node(Node::new("Split", "split", [&qkv, &sizes], ["q", "k", "v"]).int("axis", 2));
    let q = n.b.node(Node::new("Transpose", "", ["q"], [""]).ints("perm", &[0, 1, 3, 2]));
    let s = n.op("MatMul", &[&q, "k"]);
    let scale = n.b.constant("scale", Constant::scalar(0.5));
    let s = n.op("Mul", &[&s, &scale]);
    let s = n.b.node(Node::new("Softmax", "", [&s], [""]).int("axis", -1));
    let s = n.b.node(Node::new("Transpose", "", [&s], [""]).ints("perm", &[0, 1, 3, 2]));
    let y = n.op("MatMul", &["v", &s]);
    let image = n.ints(&[1, (heads * value) as i64, size as i64, size as i64]);
    let y = n.op("Reshape", &[&y, &image]);
    let v = n.op("Reshape", &["v", &image]);
    let pe = n.conv("pe", &v, heads * value, heads * value, 3, heads * value);
    let y = n.op("Add", &[&y, &pe]);
    let m = n.end(&y, heads * value);
    assert_eq!(group_sizes(&m), [("a".into(), 16), ("qkv".into(), 4), ("qkv".into(), 8)]);
    let p = prove(&m);
    assert_eq!(dims(&p, "qkv.weight"), [heads * each / 2, 8, 1, 1]);
    assert_eq!(attr_int(&p, "pe", "group"), 8);
    assert_eq!(dims(&p, "last.weight")[1], 8);
}

/// Keys after a sigmoid are not zero where they are masked, so the sum over them cannot leave them out.
#[test]
fn products_of_values_that_masking_leaves_alone_are_fixed() {
    let mut n = Net::new(17);
    let x = n.image(3, 3);
    let q = n.conv("q", &x, 3, 4, 1, 1);
    let k = n.conv("k", &x, 3, 4, 1, 1);
    let (q, k) = (n.op("Sigmoid", &[&q]), n.op("Sigmoid", &[&k]));
    let flat = n.ints(&[1, 4, 9]);
    let (q, k) = (n.op("Reshape", &[&q, &flat]), n.op("Reshape", &[&k, &flat]));
    let q = n.b.node(Node::new("Transpose", "", [&q], [""]).ints("perm", &[0, 2, 1]));
    let y = n.op("MatMul", &[&q, &k]);
    n.b.output(&y);
    let m = n.model();
    assert_eq!(group_sizes(&m), []);
    let e = half().apply(&m, None, &Context::new()).unwrap_err();
    assert_eq!(e.kind(), compresso_base::ErrorKind::Unsupported);
}

#[test]
fn operators_that_look_across_channels_fix_them() {
    for op in ["Softmax", "ReduceMean", "LRN", "ArgMax", "LpNormalization", "ReduceMax"] {
        let mut n = Net::new(17);
        let x = n.image(3, 4);
        let y = n.conv("a", &x, 3, 8, 1, 1);
        let node = Node::new(op, "", [&y], [""]);
        let y = n.b.node(match op {
            "ReduceMean" | "ReduceMax" => node.ints("axes", &[1]),
            "LRN" => node.int("size", 3),
            _ => node.int("axis", 1),
        });
        n.b.output(&y);
        assert_eq!(group_sizes(&n.model()), [], "{op}");
    }
}

#[test]
fn padding_resizing_instance_norm_and_pools() {
    let mut n = Net::new(17);
    let x = n.image(3, 6);
    let y = n.conv("a", &x, 3, 6, 3, 1);
    let (s, b) = (n.positive("in.scale", 6), n.weight("in.bias", &[6]));
    let y = n.op("InstanceNormalization", &[&y, &s, &b]);
    let pads = n.ints(&[0, 0, 1, 1, 0, 2, 1, 1]);
    let y = n.op("Pad", &[&y, &pads]);
    let y = n.b.node(Node::new("AveragePool", "", [&y], [""]).ints("kernel_shape", &[2, 2]).ints("strides", &[2, 2]));
    let sizes = n.ints(&[1, 8, 8, 8]);
    let y = n.b.node(Node::new("Resize", "", [&y, "", "", &sizes], [""]).attr("mode", compresso_model::Attr::text("nearest")));
    let m = n.end(&y, 8);
    assert_eq!(group_sizes(&m), [("a".into(), 6)]);
    let p = prove(&m);
    assert_eq!(dims(&p, "last.weight")[1], 3 + 2, "padded channels stay");
}

#[test]
fn a_wrong_pruning_does_not_pass() {
    let mut n = Net::new(17);
    let x = n.image(3, 4);
    let y = n.conv("a", &x, 3, 8, 1, 1);
    let y = n.op("Relu", &[&y]);
    let m = n.end(&y, 8);
    let found = Analysis::new(m.graph(), &[]).unwrap();
    let atoms = &found.groups.0[0].atoms;
    let (one, other) = (Removal::new(&found, [atoms[0]]), Removal::new(&found, [atoms[1]]));
    let check =
        |a: &Removal<'_>, b: &Removal<'_>| verify::equal(&a.masked().unwrap(), &b.pruned().unwrap(), m.task(), None, &Context::new());
    check(&one, &one).unwrap();
    let e = check(&one, &other).unwrap_err();
    assert_eq!(e.kind(), compresso_base::ErrorKind::Check);
    assert!(e.to_string().contains("the pruned model does not equal the masked one"), "{e}");
}
