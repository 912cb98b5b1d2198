//! Random graphs of what passes look for: every value is a float32 image `[1, 4, 4, 4]`.

use compresso::model::{Attr, Constant, Element, Fact, Graph, GraphBuilder, Node, Patch, Payload, ValueInfo};
use proptest::prelude::*;

const DIMS: [usize; 4] = [1, 4, 4, 4];

/// A graph of up to ten pieces, with one to three of their results as outputs, and up to three of the constants that they read.
pub fn graphs() -> impl Strategy<Value = Graph> {
    let piece = (0..18u8, any::<u8>(), any::<u8>());
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
