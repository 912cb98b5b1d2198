use super::*;
use crate::{Attr, Dim, Fact, GraphBuilder, stats};

fn floats(dims: &[usize]) -> Constant {
    let n: usize = dims.iter().product();
    let values: Vec<f32> = (0..n).map(|i| ((i * 37 + 11) % 101) as f32 / 50.0 - 0.97).collect();
    Constant::floats(dims, &values).unwrap()
}

fn halves(dims: &[usize]) -> Constant {
    let t = floats(dims).tensor(&candle_core::Device::Cpu).unwrap().to_dtype(candle_core::DType::F16).unwrap();
    Constant::from_storage(Element::F16, &t).unwrap()
}

fn params(graph: &Graph) -> u64 {
    stats(graph, &graph.facts().unwrap()).unwrap().params
}

/// A linear layer of 3 to 5 features whose weight `place` puts into the graph, read twice, with a bias.
fn linear(place: impl Fn(&mut GraphBuilder) -> String) -> Graph {
    let mut b = GraphBuilder::new("g", 17);
    let x = b.input("x", Fact::known(Element::F32, &[2, 3]));
    let w = place(&mut b);
    let y = b.node(Node::new("MatMul", "fc", [x.as_str(), &w], [""]));
    let bias = b.constant("bias", floats(&[5]));
    let y = b.node(Node::new("Add", "", [bias.as_str(), &y], [""]));
    let z = b.node(Node::new("MatMul", "again", [x.as_str(), &w], [""]));
    let y = b.node(Node::new("Add", "", [y.as_str(), &z], [""]));
    b.output(&y);
    b.finish().unwrap()
}

#[test]
fn a_weight_counts_once_wherever_it_lies() {
    let transposed = |b: &mut GraphBuilder, w: &str| b.node(Node::new("Transpose", "", [w], [""]).ints("perm", &[1, 0]));
    let graphs = [
        linear(|b| b.constant("w", floats(&[3, 5]))),
        linear(|b| {
            let w = b.constant("w", floats(&[5, 3]));
            transposed(b, &w)
        }),
        linear(|b| b.node(Node::new("Constant", "w", Vec::<String>::new(), [""]).attr("value", Attr::Tensor(floats(&[3, 5]))))),
        linear(|b| {
            let w = b.node(Node::new("Constant", "w", Vec::<String>::new(), [""]).attr("value", Attr::Tensor(halves(&[5, 3]))));
            let w = b.op("Identity", &[&w]);
            let w = b.node(Node::new("Cast", "", [w.as_str()], [""]).int("to", 1));
            transposed(b, &w)
        }),
        linear(|b| {
            let (w, to) = (b.constant("w", floats(&[15])), b.constant("to", Constant::ints(&[3, 5])));
            b.op("Reshape", &[&w, &to])
        }),
        linear(|b| {
            let ints = Constant::new(Element::I8, vec![3, 5], crate::Payload::Raw(vec![3u8; 15].into())).unwrap();
            let (w, scale) = (b.constant("w", ints), b.constant("scale", Constant::scalar(0.1)));
            b.op("DequantizeLinear", &[&w, &scale])
        }),
        // Normalized when the graph runs.
        linear(|b| {
            let w = b.constant("w", floats(&[3, 5]));
            let norm = b.node(Node::new("ReduceL2", "", [w.as_str()], [""]).ints("axes", &[0]));
            b.op("Div", &[&w, &norm])
        }),
    ];
    for g in &graphs {
        assert_eq!(params(g), 20, "{}", g.dump(None));
        let s = stats(g, &g.facts().unwrap()).unwrap();
        let layer = s.layers.iter().find(|l| l.params == 15).unwrap();
        assert_eq!(layer.name, "fc", "the first layer that computes with the weight has it");
        assert!(s.weight_bytes >= 35 && s.weight_bytes <= 120, "{}", s.weight_bytes);
    }
    let bytes: Vec<u64> = graphs[..4].iter().map(|g| stats(g, &g.facts().unwrap()).unwrap().weight_bytes).collect();
    assert_eq!(bytes, [80, 80, 80, 50], "as they are stored: half of 60, and 20");
}

/// Layer scales, embeddings of positions, a class token and a learned factor behind a layer are parameters; means of images, anchors behind
/// the last layer, masks and tables of sines are none.
#[test]
fn parameters_between_layers_are_told_from_settings() {
    let net = |position: Constant, held: bool| {
        let mut b = GraphBuilder::new("g", 17);
        let x = b.input("x", Fact::known(Element::F32, &[1, 3, 4]));
        let mean = b.constant("mean", floats(&[4]));
        let x = b.op("Add", &[&x, &mean]);
        let w = b.constant("w", floats(&[4, 8]));
        let y = b.op("MatMul", &[&x, &w]);
        let token = b.constant("token", floats(&[1, 1, 8]));
        let y = b.node(Node::new("Concat", "", [token.as_str(), &y], [""]).int("axis", 1));
        let p = if held {
            b.node(Node::new("Constant", "p", Vec::<String>::new(), [""]).attr("value", Attr::Tensor(position)))
        } else {
            b.constant("position", position)
        };
        let y = b.op("Add", &[&y, &p]);
        let gamma = b.constant("gamma", floats(&[8]));
        let y = b.op("Mul", &[&y, &gamma]);
        let w = b.constant("v", floats(&[8, 8]));
        let y = b.op("MatMul", &[&y, &w]);
        let factor = b.constant("factor", Constant::scalar(1.2));
        let y = b.op("Mul", &[&y, &factor]);
        let y = b.op("Exp", &[&y]);
        let anchors = b.constant("anchors", floats(&[1, 4, 8]));
        let y = b.op("Mul", &[&y, &anchors]);
        b.output(&y);
        b.finish().unwrap()
    };
    let rest = 32 + 8 + 8 + 64 + 1;
    assert_eq!(params(&net(floats(&[1, 4, 8]), false)), rest + 32);
    assert_eq!(params(&net(floats(&[1, 4, 8]), true)), rest, "a constant node beside initializers is a setting");
    let mask: Vec<f32> = (0..32).map(|i| if i % 3 == 0 { 0.0 } else { -100.0 }).collect();
    assert_eq!(params(&net(Constant::floats(&[1, 4, 8], &mask).unwrap(), false)), rest);
    let waves: Vec<f32> = (0..4u8)
        .flat_map(|p| {
            (0..4u8).flat_map(move |k| [(f32::from(p) / 3f32.powi(i32::from(k))).sin(), (f32::from(p) / 3f32.powi(i32::from(k))).cos()])
        })
        .collect();
    assert_eq!(params(&net(Constant::floats(&[1, 4, 8], &waves).unwrap(), false)), rest);
}

/// A bias that is joined of stored parts: of a constant node among initializers nothing is counted.
#[test]
fn a_setting_that_is_joined_to_a_parameter_is_none() {
    let net = |held: &dyn Fn(&mut GraphBuilder, &[usize]) -> String| {
        let mut b = GraphBuilder::new("g", 17);
        let x = b.input("x", Fact::known(Element::F32, &[2, 3]));
        let w = b.constant("w", floats(&[3, 6]));
        let y = b.op("MatMul", &[&x, &w]);
        let (q, v) = (b.constant("q", floats(&[2])), b.constant("v", floats(&[2])));
        let k = held(&mut b, &[2]);
        let bias = b.node(Node::new("Concat", "", [q.as_str(), &k, &v], [""]).int("axis", 0));
        let y = b.op("Add", &[&y, &bias]);
        b.output(&y);
        b.finish().unwrap()
    };
    let node = |b: &mut GraphBuilder, dims: &[usize]| {
        b.node(Node::new("Constant", "k", Vec::<String>::new(), [""]).attr("value", Attr::Tensor(floats(dims))))
    };
    assert_eq!(params(&net(&node)), 18 + 4);
    assert_eq!(params(&net(&|b, dims| b.constant("k", floats(dims)))), 18 + 6);
}

#[test]
fn running_statistics_are_no_parameters_and_inner_graphs_are_counted() {
    let mut b = GraphBuilder::new("g", 17);
    let x = b.input("x", Fact::known(Element::F32, &[1, 4, 2, 2]));
    let v: Vec<String> = ["s", "b", "m", "v"].iter().map(|n| b.constant(n, floats(&[4]))).collect();
    let y = b.op("BatchNormalization", &[&x, &v[0], &v[1], &v[2], &v[3]]);
    let mut inner = GraphBuilder::new("inner", 17);
    let (x, w) = (inner.constant("ix", floats(&[1, 4, 2, 2])), inner.constant("iw", floats(&[4, 4, 1, 1])));
    let z = inner.op("Conv", &[&x, &w]);
    inner.output(&z);
    let inner = Attr::Graph(Box::new(inner.finish().unwrap()));
    let yes = Constant::new(Element::Bool, vec![], crate::Payload::Raw(vec![1u8].into())).unwrap();
    let choice = Node::new("If", "if", [b.constant("yes", yes)], [""]);
    let z = b.node(choice.attr("then_branch", inner.clone()).attr("else_branch", inner));
    let y = b.op("Add", &[&y, &z]);
    b.output(&y);
    let g = b.finish().unwrap();
    let s = stats(&g, &g.facts().unwrap()).unwrap();
    assert_eq!((s.params, s.weight_bytes), (8 + 2 * 16, 4 * 16 + 1 + 2 * (64 + 64)));
}

/// A layer inside a branch counts where its weight is stored: inside, or around the If and read from there, once for both branches.
#[test]
fn weights_that_branches_read_count_once_and_their_macs_are_unknown() {
    let choice = |known: bool, within: bool| {
        let mut b = GraphBuilder::new("g", 17);
        let x = b.input("x", Fact::known(Element::F32, &[1, 4, 2, 2]));
        let w = b.constant("w", floats(&[4, 4, 1, 1]));
        let moved = b.op("Identity", &[&w]);
        let branch = |name: &str, kernel: &[usize]| {
            let mut inner = GraphBuilder::new(name, 17);
            let w = if within { inner.constant(&format!("{name}_w"), floats(kernel)) } else { moved.clone() };
            let y = inner.node(Node::new("Conv", name, [x.as_str(), &w], [""]));
            inner.output(&y);
            Attr::Graph(Box::new(inner.finish_inner()))
        };
        let condition = if known {
            b.constant("yes", Constant::new(Element::Bool, vec![], crate::Payload::Raw(vec![1u8].into())).unwrap())
        } else {
            b.input("condition", Fact::known(Element::Bool, &[]))
        };
        let node = Node::new("If", "choose", [condition.as_str()], [""]);
        let y = node.attr("then_branch", branch("then", &[4, 4, 1, 1])).attr("else_branch", branch("else", &[4, 4, 1, 1]));
        let y = b.node(y);
        // A bias behind a layer, also where that is inside.
        let bias = b.constant("bias", floats(&[4, 1, 1]));
        let y = b.op("Add", &[&y, &bias]);
        b.output(&y);
        let g = b.finish().unwrap();
        stats(&g, &g.facts().unwrap()).unwrap()
    };
    for known in [false, true] {
        assert_eq!(choice(known, false).params, 16 + 4, "known {known}");
        // Nothing reads the weight around them.
        assert_eq!(choice(known, true).params, 16 + 16 + 4, "known {known}");
    }
    assert_eq!((choice(false, true).macs, choice(true, true).macs), (None, Some(4 * 4 * 4)));
}

#[test]
fn branches_without_layers_cost_nothing_and_others_are_told() {
    let of = |op: &'static str| {
        let mut b = GraphBuilder::new("g", 17);
        let x = b.input("x", Fact::known(Element::F32, &[4, 4]));
        let c = b.input("c", Fact::known(Element::Bool, &[]));
        let branch = |name: &str| {
            let mut inner = GraphBuilder::new(name, 17);
            let y = if op == "MatMul" { inner.op(op, &[&x, &x]) } else { inner.op(op, &[&x]) };
            inner.output(&y);
            Attr::Graph(Box::new(inner.finish_inner()))
        };
        let y = Node::new("If", "choose", [c.as_str()], [""]).attr("then_branch", branch("a")).attr("else_branch", branch("b"));
        let y = b.node(y);
        b.output(&y);
        crate::Model::new(b.finish().unwrap(), crate::Task::Unknown)
    };
    let notes = |m: &crate::Model| compresso_base::report::Show::notes(&m.summary().unwrap()).join("\n");
    let (free, open) = (of("Relu"), of("MatMul"));
    assert_eq!((free.macs().unwrap(), open.macs().unwrap()), (Some(0), None));
    assert_eq!(notes(&free), "");
    assert!(notes(&open).contains("the MACs inside node 'choose' (If) are unknown"), "{}", notes(&open));
}

#[test]
fn multiply_accumulates_of_open_sizes_are_unknown() {
    let mut b = GraphBuilder::new("g", 17);
    let x = b.input("x", Fact::new(Element::F32, vec![Dim::symbol("n"), Dim::Known(3), Dim::symbol("h"), Dim::symbol("w")]));
    let w = b.constant("w", floats(&[4, 3, 1, 1]));
    let y = b.node(Node::new("Conv", "c", [x.as_str(), &w], [""]));
    let y = b.op("Relu", &[&y]);
    let y = b.op("GlobalAveragePool", &[&y]);
    b.output(&y);
    let m = crate::Model::new(b.finish().unwrap(), crate::Task::Unknown);
    let s = m.stats().unwrap();
    assert_eq!((s.macs, s.params), (None, 12));
    assert_eq!(
        s.layers.iter().map(|l| l.macs()).collect::<Vec<_>>(),
        [None, Some(0), Some(0)],
        "what does not multiply costs none at any size"
    );
    assert_eq!(m.stats_at(Some([8, 4])).unwrap().macs, Some(12 * 32));
    let line = compresso_base::report::Show::line(&m).unwrap();
    assert!(line.contains("12 parameters, MACs unknown"), "{line}");
    let m = m.with_image_size([2, 2]);
    assert_eq!((m.macs().unwrap(), m.image_size()), (Some(48), Some([2, 2])));
}
