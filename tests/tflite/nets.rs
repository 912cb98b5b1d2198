//! Small networks of 8 x 8 images.

use compresso::model::{Constant, Element, Fact, GraphBuilder, LoadOptions, Model, Node};

fn net(build: impl Fn(&mut GraphBuilder, &str) -> String) -> Model {
    let mut b = GraphBuilder::new("net", 17);
    let x = b.input("x", Fact::known(Element::F32, &[1, 3, 8, 8]));
    let y = build(&mut b, &x);
    b.output(&y);
    Model::of_graph(b.finish().unwrap(), &LoadOptions::default()).unwrap()
}

fn weight(b: &mut GraphBuilder, name: &str, dims: &[usize]) -> String {
    let values: Vec<f32> = (0..dims.iter().product()).map(|i: usize| (i as f32 * 0.7).sin() * 0.3).collect();
    b.constant(name, Constant::floats(dims, &values).unwrap())
}

/// A convolution, its transpose, a matrix product and shares of one.
pub fn small() -> Model {
    net(|b, x| {
        let (w, u, v) = (weight(b, "w", &[12, 3, 3, 3]), weight(b, "u", &[12, 8, 2, 2]), weight(b, "v", &[8, 5]));
        let y = b.op("Conv", &[x, &w]);
        let y = b.op("Relu", &[&y]);
        let y = b.node(Node::new("ConvTranspose", "up", [y.as_str(), &u], [""]).ints("strides", &[2, 2]));
        let y = b.op("GlobalAveragePool", &[&y]);
        let y = b.node(Node::new("Flatten", "flat", [y.as_str()], [""]));
        let y = b.op("MatMul", &[&y, &v]);
        b.node(Node::new("Softmax", "shares", [y.as_str()], [""]).int("axis", -1))
    })
}

/// What is computed on integers between layers, and what moves them.
pub fn various() -> Model {
    net(|b, x| {
        let conv = |b: &mut GraphBuilder, x: &str, name: &str, inner: usize| {
            let w = weight(b, name, &[8, inner, 1, 1]);
            b.op("Conv", &[x, &w])
        };
        let ints = |b: &mut GraphBuilder, values: &[i64]| b.constant("ints", Constant::ints(values));
        let y = conv(b, x, "a", 3);
        let y = b.node(Node::new("LeakyRelu", "leaky", [y.as_str()], [""]).float("alpha", 0.1));
        let y = conv(b, &y, "b", 8);
        let y = b.op("HardSwish", &[&y]);
        let y = conv(b, &y, "c", 8);
        let t = b.op("Tanh", &[&y]);
        let y = b.op("Add", &[&y, &t]);
        let y = b.node(Node::new("DepthToSpace", "depth", [y.as_str()], [""]).int("blocksize", 2));
        let y = conv(b, &y, "d", 2);
        let pads = ints(b, &[0, 0, 1, 1, 0, 0, 1, 1]);
        let y = b.op("Pad", &[&y, &pads]);
        let mut parts = Node::new("Split", "parts", [y.as_str()], ["first", "second"]).int("axis", 1);
        parts.inputs.push(ints(b, &[4, 4]));
        b.node(parts);
        let s = b.op("Sigmoid", &["first"]);
        let y = b.op("Mul", &["second", &s]);
        let (starts, ends, axes, steps) = (ints(b, &[0, 1]), ints(b, &[17, 18]), ints(b, &[2, 3]), ints(b, &[2, 2]));
        let y = b.op("Slice", &[&y, &starts, &ends, &axes, &steps]);
        let scales = b.constant("scales", Constant::floats(&[4], &[1.0, 1.0, 2.0, 2.0]).unwrap());
        let resized = |b: &mut GraphBuilder, mode: &str| {
            let resize = Node::new("Resize", "", [y.as_str(), "", &scales], [""]);
            b.node(resize.attr("mode", compresso::model::Attr::text(mode)))
        };
        let (near, linear) = (resized(b, "nearest"), resized(b, "linear"));
        let y = b.node(Node::new("Concat", "both", [near.as_str(), &linear], [""]).int("axis", 1));
        let pool = Node::new("MaxPool", "pool", [y.as_str()], [""]).ints("kernel_shape", &[3, 3]).ints("pads", &[1, 1, 0, 0]);
        let y = b.node(pool.ints("strides", &[2, 2]));
        let y = conv(b, &y, "e", 8);
        let y = b.node(Node::new("AveragePool", "mean", [y.as_str()], [""]).ints("kernel_shape", &[2, 2]));
        let y = conv(b, &y, "f", 8);
        let y = b.node(Node::new("ReduceMean", "all", [y.as_str()], [""]).ints("axes", &[2, 3]).int("keepdims", 0));
        let w = weight(b, "g", &[8, 5]);
        b.op("Gemm", &[&y, &w])
    })
}
