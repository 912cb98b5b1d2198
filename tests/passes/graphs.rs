//! Random graphs of what passes look for: every value is a float32 image `[1, 4, 4, 4]`.

use compresso::model::{Attr, Constant, Element, Fact, Graph, GraphBuilder, Node, Patch, Payload, ValueInfo};
use proptest::prelude::*;

const DIMS: [usize; 4] = [1, 4, 4, 4];

/// A graph of up to ten pieces, with one to three of their results as outputs, and up to three of the constants that they read.
pub fn graphs() -> impl Strategy<Value = Graph> {
    let piece = (0..32u8, any::<u8>(), any::<u8>());
    let some = |least: usize| proptest::collection::vec(any::<u8>(), least..4);
    (proptest::collection::vec(piece, 1..10), some(1), some(0)).prop_map(|(pieces, outputs, weights)| {
        let mut b = GraphBuilder::new("random", 17);
        b.input("c", Fact::known(Element::Bool, &[]));
        let mut values = vec![b.input("x", Fact::known(Element::F32, &DIMS))];
        let shared = [weight(&mut b, "shared_weight", &[4, 4, 1, 1]), weight(&mut b, "shared_bias", &[4])];
        for (kind, i, j) in pieces {
            // Mostly the latest value, so that pieces follow one another.
            let a = if i.is_multiple_of(3) { &values[usize::from(i) % values.len()] } else { values.last().unwrap() }.clone();
            let other = values[usize::from(j) % values.len()].clone();
            let made = piece_of(&mut b, kind, j, &a, &other, &shared);
            values.push(made);
        }
        let mut chosen: Vec<&String> = outputs.iter().map(|&n| &values[1 + usize::from(n) % (values.len() - 1)]).collect();
        chosen.sort();
        chosen.dedup();
        chosen.into_iter().for_each(|name| b.output(name));
        let g = b.finish().unwrap();
        let mut patch = Patch::new(&g);
        let mut outputs = g.outputs().to_vec();
        for n in weights {
            let (name, c) = g.constants().get_index(usize::from(n) % g.constants().len()).unwrap();
            if !g.is_output(name) && outputs.iter().all(|o| o.name != *name) {
                outputs.push(ValueInfo::new(name.clone(), Fact::known(c.element(), c.dims())));
            }
        }
        patch.set_outputs(outputs);
        patch.apply().unwrap()
    })
}

/// A constant whose numbers follow from its name.
fn weight(b: &mut GraphBuilder, name: &str, dims: &[usize]) -> String {
    let seed = name.bytes().fold(7u32, |s, c| s.wrapping_mul(31).wrapping_add(u32::from(c)));
    let number = |i: u32| f64::from((seed.wrapping_add(i)).wrapping_mul(2_654_435_761) >> 8) / f64::from(1u32 << 24);
    let count: usize = dims.iter().product();
    let values: Vec<f32> = (0..count as u32).map(|i| (number(i) + 0.25) as f32).collect();
    b.constant(name, Constant::floats(dims, &values).unwrap())
}

/// A third input of Gemm, for sixteen rows of four.
fn bias_of_gemm(b: &mut GraphBuilder, n: u8) -> String {
    weight(b, "bias", if n.is_multiple_of(2) { &[4] } else { &[16, 4] })
}

fn piece_of(b: &mut GraphBuilder, kind: u8, n: u8, a: &str, other: &str, shared: &[String; 2]) -> String {
    match kind {
        0 => b.op("Relu", &[a]),
        1 => b.op("Add", &[a, other]),
        2 => b.op("Identity", &[a]),
        3 | 4 => {
            let s = b.op("Sigmoid", &[a]);
            // Now and then with another reader, or a product of something else.
            match n % 5 {
                0 => b.op("Add", &[&s, a]),
                1 => b.op("Mul", &[&s, other]),
                _ => b.op("Mul", &[a, &s]),
            }
        }
        5 => {
            let alpha = if n.is_multiple_of(3) { 0.2 } else { 1.0 / 6.0 };
            let s = b.node(Node::new("HardSigmoid", "", [a], [""]).float("alpha", alpha));
            b.op("Mul", &[&s, a])
        }
        31 => {
            // Branches over one value that are added.
            let (w, v) = (weight(b, "wide", &[4, 4, 3, 3]), weight(b, "narrow", &[4, 4, 1, 1]));
            let wide = b.node(Node::new("Conv", "", [a, &w], [""]).ints("pads", &[1, 1, 1, 1]));
            let from = if n.is_multiple_of(5) { other } else { a };
            let narrow = b.op("Conv", &[from, &v, &shared[1]]);
            let sum = b.op("Add", &[&narrow, &wide]);
            let stats: Vec<String> = ["scale", "shift", "mean", "variance"].iter().map(|s| weight(b, s, &[4])).collect();
            let norm = b.op("BatchNormalization", &[a, &stats[0], &stats[1], &stats[2], &stats[3]]);
            let sum = b.op("Add", &[&sum, &norm]);
            if n.is_multiple_of(3) { b.op("Add", &[&sum, &wide]) } else { sum }
        }
        6 | 7 => {
            let own = weight(b, "weight", &[4, 4, 1, 1]);
            let bias = weight(b, "bias", &[4]);
            match n % 4 {
                0 => b.op("Conv", &[a, &shared[0], &shared[1]]),
                1 => b.op("Conv", &[a, &own, &shared[1]]),
                2 => b.op("Conv", &[a, &own]),
                _ => b.op("Conv", &[a, &own, &bias]),
            }
        }
        8 | 9 => {
            let stats: Vec<String> = ["scale", "shift", "mean", "variance"].iter().map(|s| weight(b, s, &[4])).collect();
            b.op("BatchNormalization", &[a, &stats[0], &stats[1], &stats[2], &stats[3]])
        }
        10 => b.op("Dropout", &[a]),
        11 => {
            let parts = b.node(Node::new("Split", "", [a], ["", ""]).int("axis", 1));
            let second = parts.replace("_output_0", "_output_1");
            let order = if n.is_multiple_of(3) { [second, parts] } else { [parts, second] };
            b.node(Node::new("Concat", "", order, [""]).int("axis", 1))
        }
        12 => {
            let (p, q) = (weight(b, "p", &[4, 1, 1]), weight(b, "q", &[4, 1, 1]));
            let sum = b.op("Sub", &[&p, &q]);
            b.op("Mul", &[a, &sum])
        }
        13 => {
            let shape = b.op("Shape", &[other]);
            b.op("Reshape", &[a, &shape])
        }
        14 => {
            // A list, read at a place and joined.
            let s = b.op("SequenceConstruct", &[a, other]);
            let place = b.constant("place", Constant::ints(&[i64::from(n % 2)]));
            let one = b.op("SequenceAt", &[&s, &place]);
            let all = b.node(Node::new("ConcatFromSequence", "", [s.as_str()], [""]).int("axis", 1).int("new_axis", 1));
            let axes = b.constant("axes", Constant::ints(&[1]));
            let sum = b.node(Node::new("ReduceSum", "", [all.as_str(), axes.as_str()], [""]).int("keepdims", 0));
            b.op("Sub", &[&one, &sum])
        }
        18 => {
            let first = b.node(Node::new("Transpose", "", [a], [""]).ints("perm", &[0, 2, 3, 1]));
            let first = if n.is_multiple_of(4) { b.op("Relu", &[&first]) } else { first };
            let back = if n.is_multiple_of(3) { [0, 1, 3, 2] } else { [0, 3, 1, 2] };
            b.node(Node::new("Transpose", "", [first.as_str()], [""]).ints("perm", &back))
        }
        19 => {
            // Pads that a convolution can take over, and pads that it cannot.
            let pads: [i64; 8] = match n % 5 {
                0 => [0; 8],
                1 => [0, 0, 1, 2, 0, 0, 1, 0],
                2 => [0, 0, -1, 0, 0, 0, 1, 0],
                3 => [0, 1, 0, 0, 0, 0, 0, 0],
                _ => [0, 0, 0, 1, 0, 0, 2, 0],
            };
            let pads_name = b.constant("pads", Constant::ints(&pads));
            let value = b.constant("value", Constant::scalar(if n.is_multiple_of(7) { 0.5 } else { 0.0 }));
            let node = Node::new("Pad", "", [a, &pads_name, &value], [""]);
            let padded = b.node(if n.is_multiple_of(11) { node.attr("mode", Attr::text("edge")) } else { node });
            let channels = 4 + usize::from(n % 5 == 3);
            let w = weight(b, "weight", &[4, channels, 3, 3]);
            let strided = b.node(Node::new("Conv", "", [padded.as_str(), &w], [""]).ints("pads", &[1, 1, 1, 1]));
            let (mean, size) = (b.op("GlobalAveragePool", &[&strided]), b.op("Sigmoid", &[a]));
            b.op("Mul", &[&mean, &size])
        }
        20 => {
            let axes = |b: &mut GraphBuilder, list: &[i64]| b.constant("axes", Constant::ints(list));
            let whole = b.node(Node::new("ReduceMax", "", [a], [""]).ints("axes", &[1, 2]));
            let (one, two) = (axes(b, &[1]), axes(b, if n.is_multiple_of(3) { &[0] } else { &[-2] }));
            let s = b.op("Squeeze", &[&whole, &one]);
            let s = b.op("Squeeze", &[&s, &two]);
            let back = b.constant("back", Constant::ints(&[1, 1, 1, 4]));
            let s = b.op("Reshape", &[&s, &back]);
            b.op("Add", &[a, &s])
        }
        21 => {
            let taken = b.node(Node::new("ReduceMean", "", [a], [""]).ints("axes", &[-1, 1]).int("keepdims", 0));
            let axes = b.constant("axes", Constant::ints(if n.is_multiple_of(3) { &[1, 2] } else { &[3, 1] }));
            let put = b.op("Unsqueeze", &[&taken, &axes]);
            let put = if n.is_multiple_of(5) { b.op("Add", &[&put, &put]) } else { put };
            b.op("Add", &[a, &put])
        }
        22 => {
            let axis = i64::from(n % 3);
            let inner = b.node(Node::new("Concat", "", [a, other], [""]).int("axis", 1));
            let parts = [inner.as_str(), &inner];
            let nested = b.node(Node::new("Concat", "", parts, [""]).int("axis", if axis == 2 { 1 } else { axis }));
            let outer = b.node(Node::new("Concat", "", [&inner, a], [""]).int("axis", -3));
            let (p, q) = (b.op("ReduceMax", &[&nested]), b.op("ReduceMin", &[&outer]));
            let sum = b.op("Add", &[&p, &q]);
            b.op("Add", &[a, &sum])
        }
        23 => {
            let soft = b.node(Node::new("Softmax", "", [a], [""]).int("axis", i64::from(n % 4)));
            if n.is_multiple_of(2) {
                b.op("Log", &[&soft])
            } else {
                let largest = b.node(Node::new("ArgMax", "", [soft.as_str()], [""]).int("axis", i64::from(n / 4 % 4)));
                let number = b.node(Node::new("Cast", "", [largest.as_str()], [""]).int("to", 1));
                let again = b.node(Node::new("Cast", "", [number.as_str()], [""]).int("to", 1));
                b.op("Add", &[a, &again])
            }
        }
        24 => {
            // Matrices, some of them turned.
            let flat = b.constant("flat", Constant::ints(&[16, 4]));
            let x = b.op("Reshape", &[a, &flat]);
            let w = weight(b, "matrix", &[4, 4]);
            let w = if n.is_multiple_of(2) { b.node(Node::new("Transpose", "", [w.as_str()], [""]).ints("perm", &[1, 0])) } else { w };
            let bias = match n % 3 {
                0 => weight(b, "row", &[4]),
                1 => weight(b, "column", &[16, 1]),
                _ => weight(b, "stack", &[1, 1, 4]),
            };
            let y = if n.is_multiple_of(5) {
                let turned = b.node(Node::new("Transpose", "", [x.as_str()], [""]));
                let bias = bias_of_gemm(b, n);
                b.node(Node::new("Gemm", "", [turned.as_str(), &w, &bias], [""]).int("transA", 1).float("alpha", 0.5))
            } else {
                let product = b.op("MatMul", &[&x, &w]);
                b.op("Add", &if n.is_multiple_of(7) { [&product, &product] } else { [&bias, &product] }.map(String::as_str))
            };
            let image = b.constant("image", Constant::ints(&[1, 4, 4, 4]));
            b.op("Reshape", &[&y, &image])
        }
        25 => {
            let w = weight(b, "weight", &[4, 4, 1, 1]);
            let bias = weight(b, "bias", &[4]);
            let y = if n.is_multiple_of(2) { b.op("Conv", &[a, &w]) } else { b.op("Conv", &[a, &w, &bias]) };
            let dims: &[usize] = [&[1, 4, 1, 1][..], &[4, 1, 1], &[4], &[1], &[1, 4, 1, 4], &[]][usize::from(n) % 6];
            let term = weight(b, "term", dims);
            b.op("Add", &if n.is_multiple_of(5) { [&term, &y] } else { [&y, &term] }.map(String::as_str))
        }
        26 => {
            // What does nothing, and what nearly does.
            let ints = |b: &mut GraphBuilder, v: i64| b.constant("number", Constant::ints(&[v]));
            let (start, end, axis) =
                (ints(b, if n.is_multiple_of(2) { 0 } else { 3 }), ints(b, if n.is_multiple_of(2) { 4 } else { -9 }), ints(b, 1));
            let step = ints(b, if n.is_multiple_of(2) { 1 } else { -1 });
            let s = b.op("Slice", &[a, &start, &end, &axis, &step]);
            let shape = b.constant("same", Constant::ints(&[1, 4, if n.is_multiple_of(3) { -1 } else { 4 }, 4]));
            let s = b.op(if n.is_multiple_of(3) { "Reshape" } else { "Expand" }, &[&s, &shape]);
            let s = b.node(Node::new("Concat", "", [s.as_str()], [""]).int("axis", 2));
            b.node(
                Node::new("Transpose", "", [s.as_str()], [""])
                    .ints("perm", if n.is_multiple_of(5) { &[0, 2, 1, 3] } else { &[0, 1, 2, 3] }),
            )
        }
        27 => {
            // The same twice, from constants that are the same by two names.
            let numbers = Constant::floats(&[1, 4, 1, 1], &[0.5, 1.5, -1.0, 2.0]).unwrap();
            let (p, q) = (b.constant("twin", numbers.clone()), b.constant("twin", numbers));
            let (x, y) = (b.op("Mul", &[a, &p]), b.op("Mul", &[a, &q]));
            b.op("Sub", &[&x, if n.is_multiple_of(2) { &y } else { other }])
        }
        28 => {
            // GELU as exporters write it, and what is nearly one.
            let number = |b: &mut GraphBuilder, v: f32| b.constant("number", Constant::scalar(v));
            let (root, one, half) =
                (number(b, std::f32::consts::SQRT_2), number(b, if n.is_multiple_of(7) { 1.5 } else { 1.0 }), number(b, 0.5));
            let inner = b.op("Div", &[a, &root]);
            let gate = b.op("Erf", &[&inner]);
            let sum = b.op("Add", &[&gate, &one]);
            let x = if n.is_multiple_of(5) { other } else { a };
            match n % 3 {
                0 => {
                    let product = b.op("Mul", &[x, &sum]);
                    b.op("Mul", &[&product, &half])
                }
                1 => {
                    let product = b.op("Mul", &[&sum, &half]);
                    b.op("Mul", &[&product, x])
                }
                _ => {
                    let product = b.op("Mul", &[&half, x]);
                    b.op("Mul", &[&product, &sum])
                }
            }
        }
        30 => {
            // Small factors of a large value, added to it.
            let (p, q) = (weight(b, "p", &[4, 1, 1]), weight(b, "q", if n.is_multiple_of(3) { &[4] } else { &[1] }));
            let sum = b.op("GlobalAveragePool", &[a]);
            let small = if n.is_multiple_of(2) { b.op("Mul", &[&sum, &p]) } else { p.clone() };
            let m = b.op("Mul", &[if n.is_multiple_of(7) { other } else { a }, &small]);
            let m = if n.is_multiple_of(5) { m } else { b.op("Mul", &[&q, &m]) };
            let m = if n.is_multiple_of(4) { m } else { b.op("Add", &[&m, &p]) };
            b.op("Add", &[a, &m])
        }
        29 => {
            // A layer normalization in its parts, over the last axis or another.
            let axis = if n.is_multiple_of(5) { 1 } else { -1 };
            let mean = |b: &mut GraphBuilder, x: &str| b.node(Node::new("ReduceMean", "", [x], [""]).ints("axes", &[axis]));
            let center = mean(b, a);
            let inner = b.op("Sub", &[a, &center]);
            let two = b.constant("two", Constant::scalar(if n.is_multiple_of(7) { 4.0 } else { 2.0 }));
            let square = if n.is_multiple_of(2) { b.op("Pow", &[&inner, &two]) } else { b.op("Mul", &[&inner, &inner]) };
            let variance = mean(b, &square);
            let epsilon = b.constant("epsilon", Constant::scalar(1e-2));
            let shifted = b.op("Add", &[&variance, &epsilon]);
            let root = b.op("Sqrt", &[&shifted]);
            let y = b.op("Div", &[&inner, &root]);
            let scale = weight(b, "scale", if n.is_multiple_of(3) { &[4, 1] } else { &[4] });
            let y = b.op("Mul", &[&y, &scale]);
            if n.is_multiple_of(4) { b.op("Add", &[&y, other]) } else { b.op("Add", &[&shared[1], &y]) }
        }
        16 => {
            // The four rows of each image as steps, from an initial state of zero or another.
            let rows = b.constant("rows", Constant::ints(&[4, 4, 4]));
            let x = b.op("Reshape", &[a, &rows]);
            let (w, r) = (weight(b, "w", &[1, 12, 4]), weight(b, "r", &[1, 12, 4]));
            let zero = b.constant("zero", Constant::floats(&[1, 4, 4], &[0.0; 16]).unwrap());
            let state = if n.is_multiple_of(2) { zero } else { weight(b, "state", &[1, 4, 4]) };
            let y = b.node(Node::new("GRU", "", [x.as_str(), &w, &r, "", "", &state], [""]));
            let image = b.constant("image", Constant::ints(&[1, 4, 4, 4]));
            b.op("Reshape", &[&y, &image])
        }
        _ => {
            let branch = |value: f32| {
                let mut g = GraphBuilder::new("branch", 17);
                let k = g.constant("k", Constant::scalar(value));
                // Names that a pass would like to give.
                let out = g.node(Node::new("Identity", "", [k.as_str()], [format!("shared_weight_folded_{value}")]));
                g.output(&out);
                Attr::Graph(Box::new(g.finish().unwrap()))
            };
            // Now and then the condition is known.
            let known = Constant::new(Element::Bool, Vec::new(), Payload::Raw(vec![n & 1].into())).unwrap();
            let condition = if kind == 15 { b.constant("known", known) } else { "c".into() };
            let node = Node::new("If", "", [condition], [""]).attr("then_branch", branch(1.0)).attr("else_branch", branch(2.0));
            let k = b.node(node);
            b.op("Mul", &[a, &k])
        }
    }
}
