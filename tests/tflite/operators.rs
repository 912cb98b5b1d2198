//! Graphs of one or a few nodes over the forms that the target says it takes.

use compresso::model::{Attr, Constant, Element, Fact, GraphBuilder, LoadOptions, Model, Node};
use compresso_test_support::Draw;

/// Graphs by name.
#[derive(Default)]
struct Cases(Vec<(String, Model)>);

fn noise(dims: &[usize], seed: u64) -> Constant {
    let mut draw = Draw(seed * 77 + 3);
    let values: Vec<f32> = (0..dims.iter().product()).map(|_| draw.signed()).collect();
    Constant::floats(dims, &values).unwrap()
}

impl Cases {
    /// A graph that `make` builds from its inputs; what it gives are the outputs.
    fn graph(
        &mut self,
        name: &str,
        opset: i64,
        inputs: &[(Element, &[usize])],
        make: impl FnOnce(&mut GraphBuilder, &[String]) -> Vec<String>,
    ) {
        let mut b = GraphBuilder::new(name, opset);
        let xs: Vec<String> = inputs.iter().enumerate().map(|(i, &(e, dims))| b.input(&format!("x{i}"), Fact::known(e, dims))).collect();
        let made = make(&mut b, &xs);
        for y in &made {
            b.output(y);
        }
        let graph = b.finish().unwrap_or_else(|e| panic!("{name}: {e}"));
        let model = Model::of_graph(graph, &LoadOptions::default()).unwrap_or_else(|e| panic!("{name}: {e}"));
        let name = format!("{:03}_{name}", self.0.len());
        self.0.push((name, model));
    }

    /// A node of set 17 that reads float inputs of these sizes, then constants.
    fn node(&mut self, node: Node, inputs: &[&[usize]], constants: Vec<Constant>) {
        self.at(17, node, inputs, constants);
    }
    fn at(&mut self, opset: i64, mut node: Node, inputs: &[&[usize]], constants: Vec<Constant>) {
        let name = node.op.clone();
        let inputs: Vec<(Element, &[usize])> = inputs.iter().map(|&d| (Element::F32, d)).collect();
        self.graph(&name, opset, &inputs, |b, xs| {
            node.inputs = xs.to_vec();
            for (i, c) in constants.into_iter().enumerate() {
                node.inputs.push(b.constant(&format!("c{i}"), c));
            }
            b.node(node.clone());
            node.outputs.iter().enumerate().map(|(i, _)| format!("{name}_output_{i}")).collect()
        });
    }
}

fn node(op: &str) -> Node {
    Node::new(op, "", [""; 0], [""])
}

fn convolutions(c: &mut Cases) {
    // Kernel, sizes in and out, groups, then strides, pads, dilations.
    type Form<'a> = ([usize; 2], [usize; 2], i64, [i64; 2], [i64; 4], [i64; 2]);
    let forms: [Form<'_>; 12] = [
        ([3, 3], [4, 6], 1, [1, 1], [1, 1, 1, 1], [1, 1]),
        ([3, 3], [4, 6], 1, [2, 2], [1, 1, 1, 1], [1, 1]),
        ([3, 3], [4, 6], 1, [2, 2], [0, 0, 1, 1], [1, 1]),
        ([1, 1], [4, 6], 1, [1, 1], [0, 0, 0, 0], [1, 1]),
        ([1, 1], [4, 6], 1, [2, 2], [0, 0, 0, 0], [1, 1]),
        ([5, 3], [4, 6], 1, [1, 2], [2, 0, 1, 1], [1, 1]),
        ([3, 3], [4, 6], 1, [1, 1], [2, 2, 2, 2], [2, 2]),
        ([3, 3], [4, 8], 2, [1, 1], [1, 1, 1, 1], [1, 1]),
        ([3, 3], [6, 6], 6, [1, 1], [1, 1, 1, 1], [1, 1]),
        ([3, 3], [6, 12], 6, [2, 2], [1, 1, 1, 1], [1, 1]),
        ([5, 5], [6, 6], 6, [1, 1], [4, 4, 4, 4], [2, 2]),
        ([7, 7], [3, 4], 1, [2, 2], [3, 3, 3, 3], [1, 1]),
    ];
    for (kernel, [from, to], groups, strides, pads, dilations) in forms {
        let w = noise(&[to, from / groups as usize, kernel[0], kernel[1]], from as u64);
        let conv = node("Conv").ints("strides", &strides).ints("pads", &pads).ints("dilations", &dilations).int("group", groups);
        c.node(conv, &[&[2, from, 10, 13]], vec![w, noise(&[to], 5)]);
    }
    for pad in ["SAME_UPPER", "SAME_LOWER", "VALID"] {
        let conv = node("Conv").attr("auto_pad", Attr::text(pad)).ints("strides", &[2, 2]);
        c.node(conv, &[&[1, 3, 9, 12]], vec![noise(&[4, 3, 3, 4], 2)]);
    }
    c.node(node("Conv").ints("pads", &[1, 2]).ints("strides", &[2]), &[&[2, 3, 11]], vec![noise(&[4, 3, 4], 3), noise(&[4], 1)]);
    c.node(node("Conv").int("group", 4).ints("pads", &[2, 0]), &[&[1, 4, 9]], vec![noise(&[4, 1, 3], 3)]);
    let transposed: [(i64, [usize; 2], [i64; 2], [i64; 4], [i64; 2]); 7] = [
        (1, [2, 2], [2, 2], [0, 0, 0, 0], [0, 0]),
        (1, [4, 4], [2, 2], [1, 1, 1, 1], [0, 0]),
        (1, [3, 3], [2, 2], [1, 1, 1, 1], [1, 1]),
        (1, [3, 5], [1, 3], [0, 2, 1, 0], [0, 2]),
        (1, [2, 2], [3, 3], [0, 0, 0, 0], [1, 0]),
        (2, [3, 3], [2, 2], [1, 1, 1, 1], [0, 1]),
        (4, [4, 4], [2, 2], [1, 1, 1, 1], [0, 0]),
    ];
    for (groups, kernel, strides, pads, more) in transposed {
        let conv = node("ConvTranspose").ints("strides", &strides).ints("pads", &pads).ints("output_padding", &more).int("group", groups);
        c.node(conv, &[&[2, 4, 5, 6]], vec![noise(&[4, 3, kernel[0], kernel[1]], 8), noise(&[3 * groups as usize], 2)]);
    }
    c.node(node("ConvTranspose").ints("strides", &[2]).ints("pads", &[1, 0]), &[&[1, 4, 7]], vec![noise(&[4, 3, 4], 4)]);
}

fn pools(c: &mut Cases) {
    for op in ["MaxPool", "AveragePool"] {
        for (kernel, strides, pads, ceil) in [
            ([2, 2], [2, 2], [0, 0, 0, 0], 0),
            ([3, 3], [2, 2], [1, 1, 1, 1], 0),
            ([3, 3], [1, 1], [1, 1, 1, 1], 0),
            ([5, 5], [1, 1], [2, 2, 2, 2], 0),
            ([3, 2], [2, 3], [1, 0, 0, 1], 0),
            ([3, 3], [2, 2], [0, 0, 0, 0], 1),
            ([2, 2], [2, 2], [1, 1, 0, 0], 1),
        ] {
            let pool = node(op).ints("kernel_shape", &kernel).ints("strides", &strides).ints("pads", &pads).int("ceil_mode", ceil);
            c.node(pool.clone(), &[&[2, 3, 10, 14]], vec![]);
            if op == "AveragePool" && ceil == 0 {
                c.node(pool.int("count_include_pad", 1), &[&[1, 3, 10, 14]], vec![]);
            }
        }
        c.node(node(op).ints("kernel_shape", &[3]).ints("pads", &[1, 1]).ints("strides", &[2]), &[&[1, 5, 9]], vec![]);
    }
    for op in ["GlobalAveragePool", "GlobalMaxPool"] {
        c.node(node(op), &[&[2, 5, 4, 6]], vec![]);
        c.node(node(op), &[&[2, 5, 6]], vec![]);
    }
}

fn arithmetic(c: &mut Cases) {
    let shapes: [(&[usize], &[usize]); 9] = [
        (&[2, 3, 4, 5], &[2, 3, 4, 5]),
        (&[2, 3, 4, 5], &[1, 3, 1, 1]),
        (&[2, 3, 4, 5], &[3, 1, 1]),
        (&[2, 3, 4, 5], &[5]),
        (&[4, 5], &[2, 3, 1, 1]),
        (&[2, 3, 4], &[3, 1]),
        (&[2, 3, 4, 5, 2], &[1, 3, 1, 1, 2]),
        (&[2, 3, 2, 3, 2, 2], &[2, 3, 1, 1, 1, 1]),
        (&[3, 1], &[1, 4]),
    ];
    for (a, b) in shapes {
        for op in ["Add", "Mul", "Sub", "Div", "Min", "Max"] {
            c.node(node(op), &[a, b], vec![]);
            c.node(node(op), &[a], vec![noise(b, 4)]);
        }
        for op in ["Less", "GreaterOrEqual", "Equal"] {
            c.graph(op, 17, &[(Element::F32, a), (Element::F32, b)], |g, x| {
                let near = g.op(op, &[&x[0], &x[1]]);
                vec![g.node(Node::new("Cast", "", [near], [""]).int("to", 1))]
            });
        }
        c.graph("Where", 17, &[(Element::F32, a), (Element::F32, b)], |g, x| {
            let more = g.op("Greater", &[&x[0], &x[1]]);
            let not = g.op("Not", &[&more]);
            vec![g.op("Where", &[&not, &x[1], &x[0]])]
        });
    }
    c.node(node("Sum"), &[&[2, 3], &[3], &[2, 1]], vec![]);
    c.node(node("Mean"), &[&[2, 3], &[3]], vec![]);
    for exponent in [2.0, 0.5, 3.0, -1.0] {
        c.graph("Pow", 17, &[(Element::F32, &[2, 3, 4, 4])], |g, x| {
            let x = g.op("Abs", &[&x[0]]);
            let one = g.constant("one", Constant::scalar(0.3));
            let x = g.op("Add", &[&x, &one]);
            let e = g.constant("e", Constant::scalar(exponent));
            vec![g.op("Pow", &[&x, &e])]
        });
    }
    c.graph("ints", 17, &[(Element::I64, &[2, 3])], |g, x| {
        let k = g.constant("k", Constant::ints(&[3, 2, 5]));
        let product = g.op("Mul", &[&x[0], &k]);
        let rest = g.op("Mod", &[&product, &k]);
        vec![g.op("Add", &[&product, &k]), rest, g.op("Div", &[&product, &k])]
    });
    c.node(node("PRelu"), &[&[1, 3, 4, 5]], vec![noise(&[3, 1, 1], 2)]);
    c.node(node("PRelu"), &[&[2, 3]], vec![noise(&[1], 2)]);
}

fn functions(c: &mut Cases) {
    let names = [
        "Relu",
        "Sigmoid",
        "Tanh",
        "Exp",
        "Abs",
        "Neg",
        "Floor",
        "Ceil",
        "Round",
        "Sin",
        "Cos",
        "Sign",
        "HardSwish",
        "HardSigmoid",
        "LeakyRelu",
        "Elu",
        "Selu",
        "Celu",
        "Softplus",
        "Softsign",
        "Erf",
        "Reciprocal",
    ];
    for op in names {
        c.node(node(op), &[&[1, 3, 5, 6]], vec![]);
    }
    c.node(node("Elu").float("alpha", 0.7), &[&[2, 9]], vec![]);
    c.node(node("HardSigmoid").float("alpha", 1.0 / 6.0), &[&[2, 9]], vec![]);
    c.at(20, node("Gelu"), &[&[2, 9]], vec![]);
    c.at(20, node("Gelu").attr("approximate", Attr::text("tanh")), &[&[2, 9]], vec![]);
    c.at(18, node("Mish"), &[&[2, 9]], vec![]);
    for op in ["Log", "Sqrt"] {
        c.graph(op, 17, &[(Element::F32, &[2, 3, 4, 4])], |g, x| {
            let x = g.op("Abs", &[&x[0]]);
            vec![g.op(op, &[&x])]
        });
    }
    for (low, high) in [(0.0, 6.0), (-1.0, 1.0), (-0.5, 0.25), (0.0, 1.0)] {
        c.node(node("Clip"), &[&[1, 3, 4, 5]], vec![Constant::scalar(low), Constant::scalar(high)]);
        c.at(9, node("Clip").float("min", low).float("max", high), &[&[1, 3, 4, 5]], vec![]);
    }
    // GELU as exporters write it, in three orders.
    for order in 0..3 {
        c.graph("gelu", 17, &[(Element::F32, &[2, 5, 8])], |g, x| {
            let [root, one, half] = [std::f32::consts::SQRT_2, 1.0, 0.5].map(|v| g.constant("k", Constant::scalar(v)));
            let x = &x[0];
            let scaled = g.op("Div", &[x, &root]);
            let e = g.op("Erf", &[&scaled]);
            let e = g.op("Add", &[&e, &one]);
            let y = match order {
                0 => {
                    let y = g.op("Mul", &[x, &e]);
                    g.op("Mul", &[&y, &half])
                }
                1 => {
                    let y = g.op("Mul", &[&e, &half]);
                    g.op("Mul", &[x, &y])
                }
                _ => {
                    let y = g.op("Mul", &[x, &half]);
                    g.op("Mul", &[&y, &e])
                }
            };
            vec![y]
        });
    }
}

fn moves(c: &mut Cases) {
    let reshapes: [(&[usize], &[i64]); 8] = [
        (&[2, 6, 4, 5], &[2, 6, 20]),
        (&[2, 6, 4, 5], &[2, -1]),
        (&[2, 6, 4, 5], &[2, 2, 3, 4, 5]),
        (&[2, 6, 4, 5], &[0, 3, 8, -1]),
        (&[1, 6, 1, 1], &[1, 6]),
        (&[2, 6, 4, 5], &[240]),
        (&[2, 6, 4, 6], &[2, 6, 2, 2, 3, 2]),
        (&[1, 8], &[1, 8, 1, 1]),
    ];
    for (dims, to) in reshapes {
        c.node(node("Reshape"), &[dims], vec![Constant::ints(to)]);
    }
    for perm in [[0, 2, 3, 1], [0, 3, 1, 2], [3, 2, 1, 0], [1, 0, 2, 3]] {
        c.node(node("Transpose").ints("perm", &perm), &[&[2, 3, 4, 5]], vec![]);
    }
    c.node(node("Transpose").ints("perm", &[0, 3, 1, 4, 2, 5]), &[&[2, 3, 2, 4, 2, 3]], vec![]);
    c.graph("shuffle", 17, &[(Element::F32, &[1, 8, 5, 6])], |g, x| {
        let w = g.constant("w", noise(&[8, 8, 1, 1], 2));
        let y = g.op("Conv", &[&x[0], &w]);
        let shape = g.constant("s", Constant::ints(&[1, 2, 4, 5, 6]));
        let y = g.op("Reshape", &[&y, &shape]);
        let y = g.node(Node::new("Transpose", "", [y], [""]).ints("perm", &[0, 2, 1, 3, 4]));
        let shape = g.constant("s", Constant::ints(&[1, 8, 5, 6]));
        let y = g.op("Reshape", &[&y, &shape]);
        vec![g.op("Conv", &[&y, &w])]
    });
    c.graph("pixels", 17, &[(Element::F32, &[1, 4, 8, 6])], |g, x| {
        let tensor = |b: &mut GraphBuilder, dims: &[i64]| b.constant("s", Constant::ints(dims));
        let shape = tensor(g, &[1, 4, 4, 2, 3, 2]);
        let y = g.op("Reshape", &[&x[0], &shape]);
        let y = g.node(Node::new("Transpose", "", [y], [""]).ints("perm", &[0, 1, 3, 5, 2, 4]));
        let shape = tensor(g, &[1, 16, 4, 3]);
        vec![g.op("Reshape", &[&y, &shape])]
    });
    for axis in [0, 1, 2, 3, -1] {
        c.node(node("Concat").int("axis", axis), &[&[2, 3, 4, 5], &[2, 3, 4, 5]], vec![noise(&[2, 3, 4, 5], 1)]);
        c.node(node("Flatten").int("axis", axis), &[&[2, 3, 4, 5]], vec![]);
        c.node(node("Gather").int("axis", axis), &[&[2, 3, 4, 5]], vec![Constant::ints(&[1, -1])]);
        for op in ["Softmax", "LogSoftmax"] {
            c.node(node(op).int("axis", axis), &[&[2, 3, 4, 5]], vec![]);
        }
        for kept in [0, 1] {
            c.graph("arg", 17, &[(Element::F32, &[2, 3, 4, 5])], |g, x| {
                let arg = |op: &str| Node::new(op, "", [x[0].as_str()], [""]).int("axis", axis).int("keepdims", kept);
                vec![g.node(arg("ArgMax")), g.node(arg("ArgMin"))]
            });
        }
        let sum = node("CumSum").int("exclusive", i64::from(axis == 1)).int("reverse", i64::from(axis == 2));
        c.graph("CumSum", 17, &[(Element::F32, &[2, 3, 4, 5])], |g, x| {
            let axis = g.constant("axis", Constant::new(Element::I64, vec![], Constant::ints(&[axis]).payload().clone()).unwrap());
            let mut sum = sum.clone();
            sum.inputs = vec![x[0].clone(), axis];
            vec![g.node(sum)]
        });
    }
    c.node(
        node("Gather").int("axis", 1),
        &[&[2, 3, 4, 5]],
        vec![Constant::new(Element::I64, vec![2, 2], Constant::ints(&[0, 1, 2, 1]).payload().clone()).unwrap()],
    );
    c.node(
        node("Gather").int("axis", 2),
        &[&[2, 3, 4, 5]],
        vec![Constant::new(Element::I64, vec![], Constant::ints(&[-2]).payload().clone()).unwrap()],
    );
    c.graph("picked", 17, &[(Element::F32, &[2, 9, 4])], |g, x| {
        let k = g.constant("k", Constant::ints(&[3]));
        let top = g.node(Node::new("TopK", "top", [x[0].as_str(), &k], ["", ""]).int("axis", 1));
        let rows = g.node(Node::new("GatherElements", "", [x[0].as_str(), "top_output_1"], [""]).int("axis", 1));
        vec![top, "top_output_1".into(), rows]
    });
    let mut split = node("Split").int("axis", 1);
    split.outputs = vec![String::new(); 2];
    c.node(split.clone(), &[&[2, 6, 4, 5]], vec![]);
    c.node(split.clone(), &[&[2, 6, 4, 5]], vec![Constant::ints(&[1, 5])]);
    c.at(11, split.int("axis", -1).ints("split", &[3, 2]), &[&[2, 6, 5]], vec![]);
    let slices: [[&[i64]; 4]; 6] = [
        [&[0, 1], &[2, 3], &[1, 2], &[1, 1]],
        [&[-3], &[i64::MAX], &[3], &[1]],
        [&[0, 1], &[i64::MAX, i64::MAX], &[2, 3], &[2, 2]],
        [&[-1], &[i64::MIN], &[3], &[-1]],
        [&[4], &[0], &[3], &[-2]],
        [&[0], &[-1], &[0], &[1]],
    ];
    for [starts, ends, axes, steps] in slices {
        c.node(node("Slice"), &[&[2, 6, 4, 5]], [starts, ends, axes, steps].map(Constant::ints).to_vec());
    }
    c.at(9, node("Slice").ints("starts", &[1]).ints("ends", &[3]).ints("axes", &[1]), &[&[2, 6, 4]], vec![]);
    let pads = [0, 1, 0, 2, 1, 0, 3, 0];
    c.node(node("Pad"), &[&[2, 3, 4, 5]], vec![Constant::ints(&pads)]);
    c.node(node("Pad"), &[&[2, 3, 4, 5]], vec![Constant::ints(&pads), Constant::scalar(-1.5)]);
    c.node(node("Pad").attr("mode", Attr::text("reflect")), &[&[2, 3, 4, 5]], vec![Constant::ints(&[0, 0, 1, 2, 0, 0, 2, 1])]);
    c.at(9, node("Pad").ints("pads", &pads), &[&[2, 3, 4, 5]], vec![]);
    c.node(node("Tile"), &[&[2, 3, 4]], vec![Constant::ints(&[1, 2, 3])]);
    c.node(node("Expand"), &[&[3, 1, 5]], vec![Constant::ints(&[2, 3, 4, 1])]);
    c.node(node("Squeeze"), &[&[2, 1, 4, 1]], vec![Constant::ints(&[1, -1])]);
    c.node(node("Unsqueeze"), &[&[2, 3, 4, 5]], vec![Constant::ints(&[0, -1])]);
    for mode in ["DCR", "CRD"] {
        c.node(node("DepthToSpace").int("blocksize", 2).attr("mode", Attr::text(mode)), &[&[2, 12, 4, 5]], vec![]);
    }
    c.node(node("SpaceToDepth").int("blocksize", 2), &[&[2, 3, 4, 6]], vec![]);
}

fn products(c: &mut Cases) {
    let shapes: [(&[usize], &[usize]); 7] = [
        (&[3, 4], &[4, 5]),
        (&[2, 3, 4], &[2, 4, 5]),
        (&[2, 3, 3, 4], &[2, 3, 4, 5]),
        (&[2, 3, 3, 4], &[4, 5]),
        (&[3, 4], &[2, 1, 4, 5]),
        (&[2, 3, 4], &[4]),
        (&[4], &[2, 4, 5]),
    ];
    for (a, b) in shapes {
        c.node(node("MatMul"), &[a, b], vec![]);
        c.node(node("MatMul"), &[a], vec![noise(b, 6)]);
    }
    for (a, b) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let sizes = |turned: i64, r: usize, s: usize| if turned == 0 { [r, s] } else { [s, r] };
        let (x, w) = (sizes(a, 3, 4), sizes(b, 4, 5));
        let gemm = node("Gemm").int("transA", a).int("transB", b).float("alpha", 0.5).float("beta", 2.0);
        c.node(gemm.clone(), &[&x], vec![noise(&w, 3), noise(&[5], 4)]);
        c.node(gemm.clone(), &[&x, &w], vec![noise(&[3, 1], 4)]);
        c.node(gemm, &[&x], vec![noise(&w, 3)]);
    }
    // Attention, with the turn that exporters write before the second product.
    c.graph("attention", 17, &[(Element::F32, &[1, 24, 4, 5])], |g, x| {
        let w = g.constant("w", noise(&[24, 24, 1, 1], 2));
        let y = g.op("Conv", &[&x[0], &w]);
        let shape = g.constant("s", Constant::ints(&[1, 2, 12, 20]));
        let y = g.op("Reshape", &[&y, &shape]);
        let mut parts = Node::new("Split", "parts", [y.as_str()], ["q", "k", "v"]).int("axis", 2);
        parts.inputs.push(g.constant("sizes", Constant::ints(&[3, 3, 6])));
        g.node(parts);
        let q = g.node(Node::new("Transpose", "", ["q"], [""]).ints("perm", &[0, 1, 3, 2]));
        let scores = g.op("MatMul", &[&q, "k"]);
        let scores = g.node(Node::new("Softmax", "", [scores], [""]).int("axis", -1));
        let scores = g.node(Node::new("Transpose", "", [scores], [""]).ints("perm", &[0, 1, 3, 2]));
        let y = g.op("MatMul", &["v", &scores]);
        let shape = g.constant("s", Constant::ints(&[1, 12, 4, 5]));
        let y = g.op("Reshape", &[&y, &shape]);
        let w = g.constant("w", noise(&[6, 12, 3, 3], 2));
        vec![g.op("Conv", &[&y, &w])]
    });
}

fn reductions(c: &mut Cases) {
    for op in ["ReduceMean", "ReduceMax", "ReduceMin", "ReduceSum", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceSumSquare"] {
        for (axes, kept) in [(&[1][..], 1), (&[2, 3], 0), (&[-1], 0), (&[0, 2], 1), (&[], 0)] {
            let mut reduce = node(op).int("keepdims", kept);
            let mut constants = Vec::new();
            if op == "ReduceSum" && !axes.is_empty() {
                constants.push(Constant::ints(axes));
            } else if !axes.is_empty() {
                reduce = reduce.ints("axes", axes);
            }
            c.node(reduce, &[&[2, 3, 4, 5]], constants);
        }
    }
    c.node(node("LayerNormalization").int("axis", -1), &[&[2, 5, 8]], vec![noise(&[8], 1), noise(&[8], 2)]);
    c.node(node("LayerNormalization").int("axis", 2), &[&[2, 3, 4, 5]], vec![noise(&[4, 5], 1), noise(&[4, 5], 2)]);
    c.node(node("InstanceNormalization"), &[&[2, 3, 4, 5]], vec![noise(&[3], 1), noise(&[3], 2)]);
    c.at(21, node("GroupNormalization").int("num_groups", 2), &[&[2, 6, 4, 5]], vec![noise(&[6], 1), noise(&[6], 2)]);
}

fn resizes(c: &mut Cases) {
    for at in ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"] {
        for mode in ["nearest", "linear"] {
            for factors in [[2.0f32, 2.0], [0.5, 0.5], [3.0, 1.5]] {
                for rounding in ["round_prefer_floor", "floor", "ceil", "round_prefer_ceil"] {
                    if mode == "linear" && rounding != "floor" {
                        continue;
                    }
                    let resize = Node::new("Resize", "", [""; 0], [""])
                        .attr("mode", Attr::text(mode))
                        .attr("coordinate_transformation_mode", Attr::text(at))
                        .attr("nearest_mode", Attr::text(rounding));
                    c.graph(&format!("Resize_{mode}_{at}"), 17, &[(Element::F32, &[1, 3, 6, 8])], |g, x| {
                        let mut resize = resize.clone();
                        let scales = g.constant("scales", Constant::floats(&[4], &[1.0, 1.0, factors[0], factors[1]]).unwrap());
                        resize.inputs = vec![x[0].clone(), String::new(), scales];
                        vec![g.node(resize)]
                    });
                }
            }
        }
    }
    c.at(
        9,
        node("Upsample").attr("mode", Attr::text("nearest")),
        &[&[1, 3, 4, 5]],
        vec![Constant::floats(&[4], &[1.0, 1.0, 2.0, 2.0]).unwrap()],
    );
}

fn samples(c: &mut Cases) {
    for padding in ["zeros", "border"] {
        for corners in [0, 1] {
            let sample = node("GridSample").attr("padding_mode", Attr::text(padding)).int("align_corners", corners);
            // Places of [-2, 2): some lie outside.
            c.node(sample, &[&[2, 4, 5, 7], &[2, 3, 6, 2]], vec![]);
        }
    }
}

/// All of them.
pub fn cases() -> Vec<(String, Model)> {
    let mut c = Cases::default();
    convolutions(&mut c);
    pools(&mut c);
    arithmetic(&mut c);
    functions(&mut c);
    moves(&mut c);
    products(&mut c);
    reductions(&mut c);
    resizes(&mut c);
    samples(&mut c);
    c.0
}
