//! Grouped, depthwise and transposed convolutions, and the shuffles between them.

use super::*;

#[test]
fn channel_shuffle_keeps_its_groups_equal() {
    let mut n = Net::new(17);
    let x = n.image(3, 4);
    let y = n.conv("a", &x, 3, 12, 1, 1);
    let y = shuffle(&mut n, &y, 12, 2, 4);
    let y = n.conv("dw", &y, 12, 12, 3, 12);
    let y = n.op("Relu", &[&y]);
    let m = n.end(&y, 12);
    assert_eq!(group_sizes(&m), [("a".into(), 6)]);
    let p = prove(&m);
    assert_eq!(dims(&p, "a.weight")[0], 6);
    assert_eq!(dims(&p, "dw.weight"), [6, 1, 3, 3]);
    assert_eq!(attr_int(&p, "dw", "group"), 6);
}

#[test]
fn shuffle_between_grouped_convolutions() {
    let mut n = Net::new(17);
    let x = n.image(3, 4);
    let y = n.conv("a", &x, 3, 16, 1, 1);
    let y = n.conv("g1", &y, 16, 24, 1, 4);
    let y = n.op("Relu", &[&y]);
    let y = shuffle(&mut n, &y, 24, 4, 4);
    let y = n.conv("dw", &y, 24, 24, 3, 24);
    let m = n.end(&y, 24);
    assert_eq!(group_sizes(&m), [("a".into(), 4), ("g1".into(), 6)]);
    let p = prove(&m);
    assert_eq!(dims(&p, "g1.weight"), [12, 2, 1, 1]);
    assert_eq!(attr_int(&p, "g1", "group"), 4);
    assert_eq!(attr_int(&p, "dw", "group"), 12);
}

#[test]
fn depthwise_with_a_multiplier_loses_whole_groups() {
    let mut n = Net::new(17);
    let x = n.image(3, 6);
    let y = n.conv("a", &x, 3, 6, 1, 1);
    let y = n.conv("dw", &y, 6, 12, 3, 6);
    let y = n.op("HardSwish", &[&y]);
    let m = n.end(&y, 12);
    assert_eq!(group_sizes(&m), [("a".into(), 6)]);
    let p = prove(&m);
    assert_eq!(dims(&p, "dw.weight"), [6, 1, 3, 3]);
    assert_eq!(attr_int(&p, "dw", "group"), 3);
    assert_eq!(dims(&p, "last.weight")[1], 6);
}

#[test]
fn transposed_convolutions() {
    for groups in [1usize, 2, 8] {
        let mut n = Net::new(17);
        let x = n.image(3, 4);
        let y = n.conv("a", &x, 3, 8, 1, 1);
        let out = if groups == 8 { 1 } else { 4 };
        let w = n.weight("up.weight", &[8, out, 2, 2]);
        let bias = n.weight("up.bias", &[out * groups]);
        let y = n.b.node(Node::new("ConvTranspose", "up", [&y, &w, &bias], [""]).int("group", groups as i64).ints("strides", &[2, 2]));
        let y = n.op("Relu", &[&y]);
        let m = n.end(&y, out * groups);
        let expected: Vec<(String, usize)> = match groups {
            1 => vec![("a".into(), 8), ("up".into(), 4)],
            2 => vec![("a".into(), 4), ("up".into(), 4)],
            _ => vec![("a".into(), 8)],
        };
        assert_eq!(group_sizes(&m), expected);
        let p = prove(&m);
        assert_eq!(dims(&p, "a.weight")[0], 4);
        assert_eq!(dims(&p, "up.bias")[0], out * groups / 2);
        assert_eq!(attr_int(&p, "up", "group"), if groups == 8 { 4 } else { groups as i64 });
    }
}

#[test]
fn depth_to_space_keeps_blocks_whole() {
    for mode in ["DCR", "CRD"] {
        let mut n = Net::new(17);
        let x = n.image(3, 4);
        let y = n.conv("a", &x, 3, 24, 1, 1);
        let y = n.b.node(Node::new("DepthToSpace", "", [&y], [""]).int("blocksize", 2).attr("mode", compresso_model::Attr::text(mode)));
        let y = n.op("Relu", &[&y]);
        let y = n.b.node(Node::new("SpaceToDepth", "", [&y], [""]).int("blocksize", 2));
        let m = n.end(&y, 24);
        assert_eq!(group_sizes(&m), [("a".into(), 6)]);
        assert_eq!(dims(&prove(&m), "a.weight")[0], 12);
    }
}
