//! Cases of operators that move, choose, reduce and resize.

use super::cases::Cases;
use compresso::model::{Attr, Constant, Node};

pub fn shapes(c: &mut Cases) {
    let x = c.x(&[2, 3, 4, 5]);
    for to in [&[2, 12, 5][..], &[0, -1], &[0, 0, 20], &[6, -1, 1], &[-1]] {
        let shape = c.list(to);
        c.op("Reshape", &[&x, &shape], |n| n);
    }
    for axis in [0, 1, 2, 3, 4, -1] {
        c.op("Flatten", &[&x], |n| n.int("axis", axis));
    }
    c.op("Transpose", &[&x], |n| n);
    c.op("Transpose", &[&x], |n| n.ints("perm", &[0, 2, 3, 1]));
    // Windows of images, which have six axes for a while, and points of a volume that are spread.
    let (wide, volume) = (c.x(&[2, 4, 6, 3]), c.x(&[1, 8, 2, 3, 2]));
    for (from, split, perm, to) in [
        (&wide, &[2, 2, 2, 3, 2, 3][..], &[0, 1, 3, 2, 4, 5][..], &[-1, 4, 3][..]),
        (&volume, &[1, 1, 2, 2, 2, 2, 3, 2], &[0, 1, 5, 2, 6, 3, 7, 4], &[1, 1, 4, 6, 4]),
    ] {
        let (split, to) = (c.list(split), c.list(to));
        let windows = c.inner(Node::new("Reshape", "cut", [from.as_str(), &split], [""]));
        let moved = c.inner(Node::new("Transpose", "moved", [windows.as_str()], [""]).ints("perm", perm));
        c.op("Reshape", &[&moved, &to], |n| n);
    }
    for axes in [&[0][..], &[-1], &[2]] {
        let axes = c.list(axes);
        c.op("Unsqueeze", &[&x, &axes], |n| n);
    }
    let ones = c.x(&[1, 3, 1, 5]);
    let axes = c.list(&[0, -2]);
    c.op("Squeeze", &[&ones, &axes], |n| n);
    c.op("Squeeze", &[&ones], |n| n);
    let y = c.x(&[2, 1, 4, 5]);
    c.op("Concat", &[&x, &y, &x], |n| n.int("axis", 1));
    c.op("Concat", &[&x, &x], |n| n.int("axis", -1));
    c.op("Concat", &[&x], |n| n.int("axis", 0));
    let parts = c.list(&[1, 2]);
    c.case("Split", Node::new("Split", "", [x.as_str(), &parts], ["", ""]).int("axis", 1));
    c.case("Split", Node::new("Split", "", [x.as_str()], ["", ""]).int("axis", -2).int("num_outputs", 2));
    c.case("Split", Node::new("Split", "", [x.as_str()], ["", "", ""]).int("axis", 3).int("num_outputs", 3));
    for (starts, ends, axes, steps) in [
        (&[1][..], &[i64::MAX][..], Some(&[1][..]), None),
        (&[0, -2], &[2, i64::MAX], Some(&[3, 2]), Some(&[2, 1][..])),
        (&[-1], &[i64::MIN], Some(&[-1]), Some(&[-1])),
        (&[3], &[-100], Some(&[3]), Some(&[-2])),
        (&[3, 100], &[0, 0], Some(&[2, 3]), Some(&[-2, -3])),
        (&[0, 1, 1, 1], &[1, 3, -1, 100], None, None),
    ] {
        let mut inputs = vec![x.clone(), c.list(starts), c.list(ends)];
        inputs.push(axes.map_or_else(String::new, |a| c.list(a)));
        inputs.extend(steps.map(|s| c.list(s)));
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        c.op("Slice", &inputs, |n| n);
    }
    let small = c.x(&[3, 1]);
    for to in [&[2, 3, 4][..], &[1, 1], &[3, 5], &[2, 1, 1, 6]] {
        let to = c.list(to);
        c.op("Expand", &[&small, &to], |n| n);
    }
    let repeats = c.list(&[1, 2, 1, 3]);
    c.op("Tile", &[&x, &repeats], |n| n);
    for mode in ["constant", "edge", "reflect"] {
        let pads = c.list(&[0, 0, 1, 2, 0, 0, 2, 1]);
        c.op("Pad", &[&x, &pads], |n| n.attr("mode", Attr::text(mode)));
    }
    let (pads, value, axes) = (c.list(&[1, -1, 0, 2]), c.floats(&[], &[0.5]), c.list(&[-1, 2]));
    c.op("Pad", &[&x, &pads, &value, &axes], |n| n);
    let (ints, pads) = (c.ints(&[2, 2], &[1, -2, 3, 4]), c.list(&[1, 0, 0, 2]));
    c.op("Pad", &[&ints, &pads], |n| n);
    let deep = c.x(&[1, 8, 2, 3]);
    for mode in ["DCR", "CRD"] {
        c.op("DepthToSpace", &[&deep], |n| n.int("blocksize", 2).attr("mode", Attr::text(mode)));
    }
    let wide = c.x(&[1, 3, 4, 6]);
    c.op("SpaceToDepth", &[&wide], |n| n.int("blocksize", 2));
    c.op("Trilu", &[&x], |n| n);
    let k = c.constant(Constant::new(compresso::model::Element::I64, vec![], compresso::model::Payload::Int64s(vec![-1])).unwrap());
    c.op("Trilu", &[&x, &k], |n| n.int("upper", 0));
    // Sizes that the model computes are known.
    let shape = c.inner(Node::new("Shape", "shape", [x.as_str()], [""]));
    let zeros = c.inner(Node::new("ConstantOfShape", "zeros", [shape.as_str()], [""]));
    c.op("Add", &[&x, &zeros], |n| n);
    c.op("Identity", &[&shape], |n| n);
}

/// Forms of old operator sets, in which settings are attributes.
pub fn old(c: &mut Cases) {
    let x = c.x(&[2, 3, 4, 5]);
    c.op("Squeeze", &[&x], |n| n);
    c.op("Unsqueeze", &[&x], |n| n.ints("axes", &[0]));
    c.op("Slice", &[&x], |n| n.ints("starts", &[1, 0]).ints("ends", &[3, -1]).ints("axes", &[1, 3]));
    c.case("Split", Node::new("Split", "", [x.as_str()], ["", ""]).int("axis", 3).ints("split", &[2, 3]));
    c.case("Split", Node::new("Split", "", [x.as_str()], ["", ""]).int("axis", 2));
    c.op("Pad", &[&x], |n| n.ints("pads", &[0, 0, 1, 1, 0, 0, 0, 2]).float("value", 0.25));
    c.op("Clip", &[&x], |n| n.float("min", -0.5).float("max", 0.5));
    c.op("Clip", &[&x], |n| n);
    c.op("ReduceSum", &[&x], |n| n.ints("axes", &[1, -1]).int("keepdims", 0));
    c.op("ReduceMean", &[&x], |n| n.ints("axes", &[2, 3]));
    for axis in [0, 1, 2, 3] {
        c.op("Softmax", &[&x], |n| n.int("axis", axis));
        c.op("LogSoftmax", &[&x], |n| n.int("axis", axis));
    }
    c.op("Softmax", &[&x], |n| n);
    for mode in ["nearest", "linear"] {
        let scales = c.floats(&[4], &[1.0, 1.0, 2.0, 3.0]);
        c.op("Upsample", &[&x, &scales], |n| n.attr("mode", Attr::text(mode)));
    }
    c.case("TopK", Node::new("TopK", "", [x.as_str()], ["", ""]).int("k", 3).int("axis", 3));
}

pub fn reductions(c: &mut Cases) {
    let x = c.x(&[2, 3, 4, 5]);
    for op in ["Mean", "Sum", "Max", "Min", "Prod", "L1", "L2", "SumSquare", "LogSumExp"] {
        let op = format!("Reduce{op}");
        for (axes, keep) in [(&[1][..], 1), (&[-1, 2], 0), (&[0, 1, 2, 3], 1)] {
            let axes = c.list(axes);
            c.op(&op, &[&x, &axes], |n| n.int("keepdims", keep));
        }
        c.op(&op, &[&x], |n| n);
    }
    for op in ["ReduceMean", "ReduceSum", "ReduceMax"] {
        c.op(op, &[&x], |n| n.int("noop_with_empty_axes", 1));
    }
    let positive = c.between(&[2, 3], 0.5, 2.0);
    c.op("ReduceLogSum", &[&positive], |n| n);
    let ints = c.ints(&[2, 3], &[3, -1, 4, 1, -5, 9]);
    for op in ["ReduceSum", "ReduceMax", "ReduceProd"] {
        let axes = c.list(&[1]);
        c.op(op, &[&ints, &axes], |n| n);
    }
    for op in ["ArgMax", "ArgMin"] {
        c.op(op, &[&x], |n| n.int("axis", 2));
        c.op(op, &[&x], |n| n.int("axis", -1).int("keepdims", 0));
    }
    let k = c.list(&[3]);
    for (axis, largest) in [(-1, 1), (1, 0), (2, 1)] {
        let node = Node::new("TopK", "", [x.as_str(), &k], ["", ""]);
        c.case("TopK", node.int("axis", axis).int("largest", largest));
    }
    for (exclusive, reverse) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
        let axis = c.list(&[2]);
        c.op("CumSum", &[&x, &axis], |n| n.int("exclusive", exclusive).int("reverse", reverse));
    }
    for axis in [0, 1, -1] {
        c.op("Softmax", &[&x], |n| n.int("axis", axis));
        c.op("LogSoftmax", &[&x], |n| n.int("axis", axis));
    }
}

pub fn indexing(c: &mut Cases) {
    let x = c.x(&[3, 4, 5]);
    for axis in [0, 1, -1] {
        let at = c.ints(&[2, 2], &[0, 2, -1, 1]);
        c.op("Gather", &[&x, &at], |n| n.int("axis", axis));
        for list in [&[1, -2][..], &[-1]] {
            let at = c.list(list);
            c.op("Gather", &[&x, &at], |n| n.int("axis", axis));
        }
    }
    let one = c.constant(Constant::new(compresso::model::Element::I64, vec![], compresso::model::Payload::Int64s(vec![-1])).unwrap());
    c.op("Gather", &[&x, &one], |n| n.int("axis", 1));
    let mask = c.inner(Node::new("Greater", "mask", [x.as_str(), &x], [""]));
    let at = c.list(&[1, -2]);
    c.op("Gather", &[&mask, &at], |n| n.int("axis", 1));
    for axis in [0, 1, -1] {
        let at = c.ints(&[2, 2, 2], &[0, 2, -1, 1, -3, 0, 1, 2]);
        c.op("GatherElements", &[&x, &at], |n| n.int("axis", axis));
    }
    let at =
        c.constant(Constant::new(compresso::model::Element::I64, vec![2, 2], compresso::model::Payload::Int64s(vec![0, 1, 2, 3])).unwrap());
    c.op("GatherND", &[&x, &at], |n| n);
    let at =
        c.constant(Constant::new(compresso::model::Element::I64, vec![3, 1], compresso::model::Payload::Int64s(vec![2, 0, 1])).unwrap());
    c.op("GatherND", &[&x, &at], |n| n.int("batch_dims", 1));
    let image = c.x(&[2, 3, 6, 7]);
    let grid = c.between(&[2, 4, 5, 2], -1.3, 1.3);
    for padding in ["zeros", "border"] {
        for corners in [0, 1] {
            c.op("GridSample", &[&image, &grid], |n| n.attr("padding_mode", Attr::text(padding)).int("align_corners", corners));
        }
    }
}

pub fn resizes(c: &mut Cases) {
    let coordinates = ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"];
    let x = c.x(&[1, 2, 5, 6]);
    for mode in ["nearest", "linear", "cubic"] {
        for coordinates in coordinates {
            let set = |n: Node| n.attr("mode", Attr::text(mode)).attr("coordinate_transformation_mode", Attr::text(coordinates));
            let scales = c.floats(&[4], &[1.0, 1.0, 2.0, 2.0]);
            c.op("Resize", &[&x, "", &scales], set);
            let scales = c.floats(&[4], &[1.0, 1.0, 0.6, 1.5]);
            c.op("Resize", &[&x, "", &scales], set);
            let sizes = c.list(&[1, 2, 8, 3]);
            c.op("Resize", &[&x, "", "", &sizes], set);
        }
    }
    for rounding in ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"] {
        for coordinates in ["half_pixel", "asymmetric", "align_corners"] {
            let scales = c.floats(&[4], &[1.0, 1.0, 2.0, 0.5]);
            c.op("Resize", &[&x, "", &scales], |n| {
                n.attr("nearest_mode", Attr::text(rounding)).attr("coordinate_transformation_mode", Attr::text(coordinates))
            });
        }
    }
    let (line, volume) = (c.x(&[2, 3, 7]), c.x(&[1, 2, 3, 4, 5]));
    for mode in ["nearest", "linear"] {
        let scales = c.floats(&[1], &[2.0]);
        c.op("Resize", &[&line, "", &scales], |n| n.attr("mode", Attr::text(mode)).ints("axes", &[2]));
        let sizes = c.list(&[1, 2, 6, 8, 5]);
        c.op("Resize", &[&volume, "", "", &sizes], |n| n.attr("mode", Attr::text(mode)));
    }
    let sizes = c.list(&[9, 4]);
    c.op("Resize", &[&x, "", "", &sizes], |n| n.attr("mode", Attr::text("linear")).ints("axes", &[-2, 3]));
    let same = c.floats(&[4], &[1.0; 4]);
    c.op("Resize", &[&x, "", &same], |n| n);
    let symmetric = c.floats(&[4], &[1.0, 1.0, 2.0, 1.5]);
    c.op("Resize", &[&x, "", &symmetric], |n| {
        n.attr("mode", Attr::text("linear")).attr("coordinate_transformation_mode", Attr::text("half_pixel_symmetric"))
    });
}

pub fn norms(c: &mut Cases) {
    let x = c.x(&[2, 6, 4, 5]);
    let (scale, bias) = (c.w(&[5]), c.w(&[5]));
    c.case("LayerNormalization", Node::new("LayerNormalization", "", [x.as_str(), &scale, &bias], [""]));
    c.op("LayerNormalization", &[&x, &scale], |n| n.float("epsilon", 1e-3));
    let (scale, bias) = (c.w(&[4, 5]), c.w(&[4, 5]));
    c.op("LayerNormalization", &[&x, &scale, &bias], |n| n.int("axis", 2));
    let computed = c.x(&[5]);
    c.op("LayerNormalization", &[&x, &computed], |n| n);
    let (scale, bias) = (c.w(&[6]), c.w(&[6]));
    c.op("InstanceNormalization", &[&x, &scale, &bias], |n| n.float("epsilon", 1e-4));
    for groups in [1, 2, 3, 6] {
        c.op("GroupNormalization", &[&x, &scale, &bias], |n| n.int("num_groups", groups));
    }
    // A batch norm that no layer takes up, over images and over vectors.
    let (mean, variance, vectors) = (c.w(&[6]), c.between(&[6], 0.5, 2.0), c.x(&[2, 6]));
    let known = c.floats(&[6], &[0.5, 1.0, 1.5, 2.0, 0.7, 0.9]);
    c.op("BatchNormalization", &[&x, &scale, &bias, &mean, &variance], |n| n.float("epsilon", 1e-3));
    c.op("BatchNormalization", &[&x, &scale, &bias, &mean, &known], |n| n);
    c.op("BatchNormalization", &[&vectors, &scale, &bias, &mean, &known], |n| n);
    for size in [3, 5] {
        c.op("LRN", &[&x], |n| n.int("size", size).float("alpha", 0.1).float("beta", 0.6).float("bias", 1.5));
    }
    c.op("LpNormalization", &[&x], |n| n.int("axis", 1));
    c.op("LpNormalization", &[&x], |n| n.int("axis", -1).int("p", 1));
}
