//! The operators, in all forms that the writer takes.

use super::cases::Cases;
use super::judge::Judge;
use super::shapes;
use compresso::Context;
use compresso::deploy::CoremlExport;
use compresso::model::{Attr, Constant, Element, LoadOptions, Model, Node};

/// Nodes with one input that need no more.
const PLAIN: &[&str] = &[
    "Relu",
    "Sigmoid",
    "Tanh",
    "Exp",
    "Abs",
    "Neg",
    "Floor",
    "Ceil",
    "Sign",
    "Erf",
    "Sin",
    "Cos",
    "Sinh",
    "Cosh",
    "Atan",
    "Softplus",
    "Softsign",
    "Mish",
    "HardSwish",
    "Round",
    "Gelu",
    "Elu",
    "Celu",
    "Selu",
    "HardSigmoid",
    "LeakyRelu",
    "ThresholdedRelu",
    "Identity",
    "Reciprocal",
    "IsNaN",
    "Dropout",
];

fn elementwise(c: &mut Cases) {
    for op in PLAIN {
        let x = c.x(&[2, 3, 4]);
        c.op(op, &[&x], |n| n);
    }
    for op in ["Log", "Sqrt"] {
        let x = c.between(&[2, 3], 0.1, 3.0);
        c.op(op, &[&x], |n| n);
    }
    for op in ["Asin", "Acos", "Atanh", "Tan"] {
        let x = c.between(&[2, 3], -0.9, 0.9);
        c.op(op, &[&x], |n| n);
    }
    let x = c.x(&[3, 4]);
    c.op("Gelu", &[&x], |n| n.attr("approximate", Attr::text("tanh")));
    c.op("Elu", &[&x], |n| n.float("alpha", 0.3));
    c.op("Celu", &[&x], |n| n.float("alpha", 0.7));
    c.op("Selu", &[&x], |n| n.float("alpha", 1.2).float("gamma", 0.9));
    c.op("HardSigmoid", &[&x], |n| n.float("alpha", 0.3).float("beta", 0.4));
    c.op("LeakyRelu", &[&x], |n| n.float("alpha", 0.2));
    c.op("ThresholdedRelu", &[&x], |n| n.float("alpha", 0.5));
    let (low, high) = (c.floats(&[], &[-0.5]), c.floats(&[], &[0.75]));
    c.op("Clip", &[&x, &low, &high], |n| n);
    c.op("Clip", &[&x, "", &high], |n| n);
    c.op("Clip", &[&x, &low], |n| n);
    c.op("Clip", &[&x], |n| n);
    let (zero, six) = (c.floats(&[], &[0.0]), c.floats(&[], &[6.0]));
    c.op("Clip", &[&x, &zero, &six], |n| n);
    let i = c.ints(&[4], &[-3, 2, 9, 5]);
    let low = c.constant(Constant::new(Element::I64, vec![], compresso::model::Payload::Int64s(vec![0])).unwrap());
    let high = c.constant(Constant::new(Element::I64, vec![], compresso::model::Payload::Int64s(vec![6])).unwrap());
    c.op("Clip", &[&i, &low, &high], |n| n);
    let x = c.x(&[2, 3, 4, 5]);
    for dims in [&[3, 1, 1][..], &[1], &[5], &[1, 3, 1, 1], &[2, 3, 4, 5], &[4, 1]] {
        let slope = c.w(dims);
        c.op("PRelu", &[&x, &slope], |n| n);
    }
    let gate = c.inner(Node::new("Sigmoid", "gate", [x.as_str()], [""]));
    c.op("Mul", &[&x, &gate], |n| n);
}

fn arithmetic(c: &mut Cases) {
    let x = c.x(&[2, 3, 4, 5]);
    for op in ["Add", "Sub", "Mul", "Div", "Min", "Max", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal"] {
        for dims in [&[2, 3, 4, 5][..], &[5], &[4, 1], &[1, 3, 1, 1], &[1]] {
            let y = c.between(dims, 0.5, 2.0);
            c.op(op, &[&x, &y], |n| n);
            c.op(op, &[&y, &x], |n| n);
        }
        let y = c.w(&[3, 1, 1]);
        c.op(op, &[&x, &y], |n| n);
        let y = c.floats(&[], &[0.5]);
        c.op(op, &[&x, &y], |n| n);
    }
    let (a, b) = (c.ints(&[4], &[7, -7, 7, -7]), c.ints(&[4], &[2, 2, -3, -2]));
    for op in ["Add", "Sub", "Mul", "Div", "Mod", "Min", "Max", "Equal", "Less"] {
        c.op(op, &[&a, &b], |n| n);
    }
    let three = c.list(&[3]);
    c.op("Div", &[&a, &three], |n| n);
    c.op("Mod", &[&a, &b], |n| n.int("fmod", 1));
    let (p, q) = (c.between(&[2, 3], 0.5, 4.0), c.between(&[3], -1.5, 1.5));
    c.op("Mod", &[&p, &q], |n| n.int("fmod", 1));
    c.op("Pow", &[&p, &q], |n| n);
    let two = c.list(&[2, 3, -1]);
    c.op("Pow", &[&p, &two], |n| n);
    let squares = c.floats(&[], &[2.0]);
    c.op("Pow", &[&a, &squares], |n| n);
    let y = c.x(&[4, 5]);
    for op in ["Sum", "Mean", "Max", "Min"] {
        c.op(op, &[&x, &y, &x], |n| n);
        c.op(op, &[&x], |n| n);
    }
    let less = c.inner(Node::new("Less", "less", [a.as_str(), &b], [""]));
    let more = c.inner(Node::new("Greater", "more", [a.as_str(), &three], [""]));
    for op in ["And", "Or", "Xor", "Equal"] {
        c.op(op, &[&less, &more], |n| n);
    }
    c.op("Not", &[&less], |n| n);
    let (u, v) = (c.x(&[2, 4]), c.x(&[1]));
    c.op("Where", &[&less, &u, &v], |n| n);
    // The condition has more elements than what it chooses from.
    c.op("Where", &[&less, &v, &v], |n| n);
    for to in [Element::I64, Element::I32, Element::Bool, Element::F32] {
        let x = c.between(&[2, 3], 0.0, 4.0);
        c.op("Cast", &[&x], |n| n.int("to", to.code().into()));
    }
    c.op("Cast", &[&less], |n| n.int("to", Element::F32.code().into()));
    c.op("Cast", &[&a], |n| n.int("to", Element::F32.code().into()));
}

fn layers(c: &mut Cases) {
    let plain = |n: Node| n;
    for (x, w, bias, attrs) in [
        (&[2, 4, 9][..], &[6, 4, 3][..], true, &[("pads", &[1, 1][..])][..]),
        (&[1, 4, 9, 8], &[6, 4, 3, 3], true, &[("pads", &[1, 2, 0, 1]), ("strides", &[2, 1])]),
        (&[1, 4, 9, 8], &[6, 2, 3, 3], true, &[("group", &[2]), ("dilations", &[2, 2])]),
        (&[1, 4, 9, 8], &[4, 1, 3, 3], false, &[("group", &[4])]),
        (&[1, 4, 9, 8], &[8, 1, 3, 3], true, &[("group", &[4])]),
        (&[1, 2, 5, 6, 7], &[4, 2, 3, 3, 2], true, &[("pads", &[1, 1, 1, 1, 1, 1])]),
    ] {
        let (x, w, b) = (c.x(x), c.w(w), c.w(&w[..1]));
        let inputs: Vec<&str> = if bias { vec![&x, &w, &b] } else { vec![&x, &w] };
        c.op("Conv", &inputs, |n| with_lists(n, attrs));
    }
    for pad in ["SAME_UPPER", "SAME_LOWER", "VALID"] {
        let (x, w) = (c.x(&[1, 3, 10, 11]), c.w(&[4, 3, 3, 4]));
        c.op("Conv", &[&x, &w], |n| n.attr("auto_pad", Attr::text(pad)).ints("strides", &[2, 2]));
        let t = c.w(&[3, 4, 3, 4]);
        c.op("ConvTranspose", &[&x, &t], |n| n.attr("auto_pad", Attr::text(pad)).ints("strides", &[2, 2]));
        c.op("MaxPool", &[&x], |n| n.attr("auto_pad", Attr::text(pad)).ints("kernel_shape", &[3, 2]).ints("strides", &[2, 2]));
        c.op("AveragePool", &[&x], |n| n.attr("auto_pad", Attr::text(pad)).ints("kernel_shape", &[3, 2]).ints("strides", &[2, 2]));
    }
    // Weights and biases that are computed.
    let (x, w, b) = (c.x(&[1, 3, 8, 8]), c.x(&[4, 3, 3, 3]), c.x(&[4]));
    c.op("Conv", &[&x, &w], plain);
    c.op("Conv", &[&x, &w, &b], plain);
    for (x, w, bias, attrs) in [
        (&[2, 4, 9][..], &[4, 6, 3][..], true, &[("strides", &[2][..])][..]),
        (&[1, 4, 5, 6], &[4, 3, 2, 2], true, &[("strides", &[2, 2])]),
        (&[1, 4, 5, 6], &[4, 3, 3, 3], true, &[("strides", &[2, 3]), ("output_padding", &[1, 2]), ("pads", &[1, 0, 1, 1])]),
        (&[1, 4, 5, 6], &[4, 3, 3, 3], true, &[("strides", &[2, 2]), ("output_padding", &[1, 1])]),
        (&[1, 4, 5, 6], &[4, 3, 3, 3], true, &[("group", &[2]), ("dilations", &[2, 1])]),
        (&[1, 4, 5, 6], &[4, 3, 3, 3], false, &[("strides", &[2, 2]), ("output_shape", &[10, 12])]),
    ] {
        let group = attrs.iter().find(|(n, _)| *n == "group").map_or(1, |(_, v)| v[0]) as usize;
        let (x, t, b) = (c.x(x), c.w(w), c.w(&[w[1] * group]));
        let inputs: Vec<&str> = if bias { vec![&x, &t, &b] } else { vec![&x, &t] };
        c.op("ConvTranspose", &inputs, |n| with_lists(n, attrs));
    }
    for (a, b) in [(&[3, 4][..], &[4, 5][..]), (&[2, 3, 4], &[4, 5]), (&[2, 1, 3, 4], &[5, 4, 2]), (&[4], &[4, 5]), (&[2, 3, 4], &[4])] {
        let (a, w, b) = (c.x(a), c.w(b), c.x(b));
        c.op("MatMul", &[&a, &w], plain);
        c.op("MatMul", &[&a, &b], plain);
    }
    let (a, at, b, bt) = (c.x(&[3, 4]), c.x(&[4, 3]), c.w(&[4, 5]), c.w(&[5, 4]));
    for (dims, alpha, beta) in [(&[5][..], 1.0, 1.0), (&[3, 1], 0.5, 2.0), (&[1], 1.0, 0.5), (&[3, 5], 2.0, 1.0)] {
        let bias = c.w(dims);
        c.op("Gemm", &[&a, &b, &bias], |n| n.float("alpha", alpha).float("beta", beta));
        c.op("Gemm", &[&a, &bt, &bias], |n| n.int("transB", 1).float("alpha", alpha).float("beta", beta));
        c.op("Gemm", &[&at, &bt, &bias], |n| n.int("transA", 1).int("transB", 1).float("alpha", alpha).float("beta", beta));
    }
    c.op("Gemm", &[&a, &bt], |n| n.int("transB", 1));
}

fn with_lists(mut n: Node, attrs: &[(&str, &[i64])]) -> Node {
    for (name, list) in attrs {
        n = if *name == "group" { n.int(name, list[0]) } else { n.ints(name, list) };
    }
    n
}

/// Every form of pools; the last windows of ceil_mode are where runtimes differ.
fn pools(c: &mut Cases) {
    for (size, kernel, stride, pad) in [(7, 3, 2, 1), (8, 3, 2, 1), (8, 2, 2, 0), (7, 2, 2, 0), (9, 3, 3, 1), (6, 4, 3, 2), (5, 5, 1, 2)] {
        for ceil in [0, 1] {
            let x = c.x(&[1, 2, size, size + 1]);
            let common =
                |n: Node| n.ints("kernel_shape", &[kernel; 2]).ints("strides", &[stride; 2]).ints("pads", &[pad; 4]).int("ceil_mode", ceil);
            c.op("MaxPool", &[&x], common);
            for counted in [0, 1] {
                c.op("AveragePool", &[&x], |n| common(n).int("count_include_pad", counted));
            }
        }
    }
    let x = c.x(&[2, 3, 9, 10]);
    c.op("AveragePool", &[&x], |n| n.ints("kernel_shape", &[3, 2]).ints("pads", &[1, 0, 0, 1]));
    for dims in [&[2, 3, 9][..], &[1, 2, 5, 6, 7], &[2, 3, 4, 5]] {
        let x = c.x(dims);
        c.op("MaxPool", &[&x], |n| n.ints("kernel_shape", &vec![2; dims.len() - 2]));
        c.op("AveragePool", &[&x], |n| n.ints("kernel_shape", &vec![3; dims.len() - 2]).ints("strides", &vec![2; dims.len() - 2]));
        c.op("GlobalAveragePool", &[&x], |n| n);
        c.op("GlobalMaxPool", &[&x], |n| n);
    }
}

/// The graph of some cases as a package, beside the same in our executor.
fn judged(judge: &Judge, name: &str, opset: i64, fill: impl Fn(&mut Cases)) {
    let mut cases = Cases::new(opset);
    fill(&mut cases);
    let (graph, feeds) = cases.finish();
    let model = Model::of_graph(graph, &LoadOptions::default()).unwrap();
    CoremlExport::default().apply(&model, judge.path(name), None, &Context::new()).unwrap_or_else(|e| panic!("{name}: {e}"));
    judge.expect(name, model.graph(), &feeds);
}

#[test]
fn every_operator_gives_what_our_executor_gives() {
    let judge = Judge::new();
    judged(&judge, "elementwise", 20, elementwise);
    judged(&judge, "arithmetic", 18, arithmetic);
    judged(&judge, "layers", 17, layers);
    judged(&judge, "pools", 19, pools);
    judged(&judge, "shapes", 18, shapes::shapes);
    judged(&judge, "old_shapes", 9, shapes::old);
    judged(&judge, "reductions", 18, shapes::reductions);
    judged(&judge, "indexing", 18, shapes::indexing);
    judged(&judge, "resizes", 18, shapes::resizes);
    judged(&judge, "norms", 21, shapes::norms);
    judged(&judge, "old_norms", 18, |c| {
        let (x, scale, bias) = (c.x(&[2, 6, 4, 5]), c.w(&[3]), c.w(&[3]));
        c.op("GroupNormalization", &[&x, &scale, &bias], |n| n.int("num_groups", 3));
    });
    let mut seen = 0;
    let mut wrong = Vec::new();
    for (name, verdict) in judge.verdicts() {
        seen += verdict.outputs.len();
        wrong.extend(verdict.wrong(1e-3, 0.999).into_iter().map(|w| format!("{name}: {w}")));
    }
    assert!(wrong.is_empty(), "{} of {seen} outputs:\n{}", wrong.len(), wrong.join("\n"));
    assert!(seen > 400, "{seen}");
}
