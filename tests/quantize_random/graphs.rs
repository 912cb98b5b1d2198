//! Random graphs of all operators that multiply with weights, and of what stands between them.

use compresso::model::{Attr, Constant, Element, Fact, Graph, GraphBuilder, Node};
use rand::prelude::*;
use rand_chacha::ChaCha8Rng;
use std::collections::HashMap;

/// A value that is there to be read.
#[derive(Debug, Clone)]
pub(super) struct Made {
    pub name: String,
    pub dims: Vec<usize>,
}

/// Builds one graph of an image `[1, 3, side, side]`.
#[derive(Debug)]
pub struct Random {
    pub rng: ChaCha8Rng,
    pub(super) b: GraphBuilder,
    pub(super) made: Vec<Made>,
    /// Weights and biases by their shapes, for those who share them.
    stored: HashMap<Vec<usize>, Vec<String>>,
    /// Names that quantization would like to give, in use inside inner graphs.
    pub(super) taken: usize,
    layers: usize,
}

impl Random {
    /// # Panics
    /// When what it builds is no valid graph.
    pub fn graph(seed: u64) -> (Graph, ChaCha8Rng) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let side = *[6, 8, 9].choose(&mut rng).unwrap();
        let opset = *[13, 17, 19, 21].choose(&mut rng).unwrap();
        let mut b = GraphBuilder::new("random", opset);
        b.input("x", Fact::known(Element::F32, &[1, 3, side, side]));
        let made = vec![Made { name: "x".into(), dims: vec![1, 3, side, side] }];
        let mut g = Self { rng, b, made, stored: HashMap::new(), taken: 0, layers: 0 };
        let wanted = g.rng.random_range(2..6);
        while g.layers < wanted {
            let at = g.pick();
            if g.rng.random_bool(0.55) {
                g.layer(&at);
            } else {
                g.between(&at, opset);
            }
        }
        let last = g.made.last().unwrap().name.clone();
        let mut outputs = vec![last];
        // Inner values are outputs too.
        for m in g.made[1..g.made.len() - 1].iter().cloned() {
            if g.rng.random_bool(0.15) {
                outputs.push(m.name);
            }
        }
        outputs.iter().for_each(|o| g.b.output(o));
        (g.b.finish().unwrap_or_else(|e| panic!("seed {seed}: {e}")), g.rng)
    }

    /// Mostly what was made last.
    fn pick(&mut self) -> Made {
        let n = self.made.len();
        let at = if self.rng.random_bool(0.75) { n - 1 } else { self.rng.random_range(0..n) };
        self.made[at].clone()
    }
    pub(super) fn one_of<T: Copy>(&mut self, of: &[T]) -> T {
        *of.choose(&mut self.rng).unwrap()
    }
    pub(super) fn push(&mut self, name: String, dims: &[usize]) {
        self.made.push(Made { name, dims: dims.to_vec() });
    }
    pub(super) fn node(&mut self, node: Node) -> String {
        self.b.node(node)
    }
    pub(super) fn op(&mut self, op: &str, inputs: &[&str]) -> Node {
        // A few nodes have no name, as many files have none.
        let name = if self.rng.random_bool(0.1) { String::new() } else { format!("n{}", self.made.len()) };
        Node::new(op, name, inputs.iter().copied(), [""])
    }

    /// A weight with channels along `axis`: ordinary ones, some zero, tiny, huge, or too small for a scale; or one that another
    /// layer has.
    fn weight(&mut self, dims: &[usize], axis: usize) -> String {
        if let Some(names) = self.stored.get(dims)
            && self.rng.random_bool(0.4)
        {
            return names.choose(&mut self.rng).unwrap().clone();
        }
        let fan = dims.iter().product::<usize>() / dims[axis].max(1);
        let whole = self.one_of(&[1.0, 1.0, 1.0, 1.0, 1e-4, 1e-9, 30.0, 0.0]);
        let sizes: Vec<f32> =
            (0..dims[axis]).map(|_| whole * self.one_of(&[1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 1e-3, 1e-8, 1e-42, 20.0])).collect();
        let limit = 1.5 / (fan.max(1) as f32).sqrt();
        let inner: usize = dims[axis + 1..].iter().product();
        let values: Vec<f32> =
            (0..dims.iter().product()).map(|i: usize| self.rng.random_range(-limit..limit) * sizes[i / inner % dims[axis]]).collect();
        self.store("w", dims, &values)
    }
    /// Numbers of any size.
    fn bias(&mut self, dims: &[usize]) -> String {
        if let Some(names) = self.stored.get(dims)
            && self.rng.random_bool(0.3)
        {
            return names.choose(&mut self.rng).unwrap().clone();
        }
        let whole = self.one_of(&[1.0, 1.0, 1.0, 0.0, 100.0]);
        let values: Vec<f32> = (0..dims.iter().product::<usize>())
            .map(|_| whole * self.rng.random_range(-1f32..1.0) * self.one_of(&[1.0, 1.0, 0.0, 5.0, 1e-3]))
            .collect();
        self.store("b", dims, &values)
    }
    fn store(&mut self, stem: &str, dims: &[usize], values: &[f32]) -> String {
        let name = self.b.constant(stem, Constant::floats(dims, values).unwrap());
        self.stored.entry(dims.to_vec()).or_default().push(name.clone());
        name
    }

    fn layer(&mut self, x: &Made) {
        let d = x.dims.clone();
        if d.iter().product::<usize>() > 4000 {
            return;
        }
        self.layers += 1;
        match d.len() {
            1 => self.layers -= 1,
            2 if self.rng.random_bool(0.6) => self.gemm(x),
            3..=5 if d[2..].iter().all(|&n| n >= 3) && self.rng.random_bool(0.6) => self.conv(x),
            3..=4 if self.rng.random_bool(0.5) => self.conv_transpose(x),
            _ => self.matmul(x),
        }
    }
    fn conv(&mut self, x: &Made) {
        let (c, spatial) = (x.dims[1], x.dims.len() - 2);
        let groups: Vec<usize> = [1, 1, 1, 2, c].into_iter().filter(|g| c % g == 0).collect();
        let group = self.one_of(&groups);
        let out = group * self.one_of(&[1, 2, 3, 4]).max(if group == 1 { 2 } else { 1 });
        let k = self.one_of(&[1, 1, 2, 3]);
        let (stride, pad) = (self.one_of(&[1, 1, 2]), if k == 3 { self.one_of(&[0, 1]) } else { 0 });
        let dims = [vec![out, c / group], vec![k; spatial]].concat();
        let mut inputs = vec![x.name.clone(), self.weight(&dims, 0)];
        if self.rng.random_bool(0.8) {
            inputs.push(self.bias(&[out]));
        }
        let node = self.op("Conv", &inputs.iter().map(String::as_str).collect::<Vec<_>>());
        let node = node.int("group", group as i64).ints("strides", &vec![stride; spatial]).ints("pads", &vec![pad; 2 * spatial]);
        let name = self.node(node);
        let size = |n: &usize| (n + 2 * pad as usize - k) / stride as usize + 1;
        self.push(name, &[vec![x.dims[0], out], x.dims[2..].iter().map(size).collect()].concat());
    }
    fn conv_transpose(&mut self, x: &Made) {
        let (c, spatial) = (x.dims[1], x.dims.len() - 2);
        let groups: Vec<usize> = [1, 1, 2].into_iter().filter(|g| c % g == 0).collect();
        let group = self.one_of(&groups);
        let (per, k, stride) = (self.one_of(&[1, 2, 3]), self.one_of(&[1, 2, 3]), self.one_of(&[1, 1, 2]));
        let dims = [vec![c, per], vec![k; spatial]].concat();
        let mut inputs = vec![x.name.clone(), self.weight(&dims, 1)];
        if self.rng.random_bool(0.8) {
            inputs.push(self.bias(&[per * group]));
        }
        let node = self.op("ConvTranspose", &inputs.iter().map(String::as_str).collect::<Vec<_>>());
        let name = self.node(node.int("group", group as i64).ints("strides", &vec![stride; spatial]));
        let size = |n: &usize| (n - 1) * stride as usize + k;
        self.push(name, &[vec![x.dims[0], per * group], x.dims[2..].iter().map(size).collect()].concat());
    }
    fn gemm(&mut self, x: &Made) {
        let [rows, columns] = [x.dims[0], x.dims[1]];
        let (ta, tb) = (self.rng.random_bool(0.25), self.rng.random_bool(0.5));
        let (m, k) = if ta { (columns, rows) } else { (rows, columns) };
        let n = self.one_of(&[1, 3, 8]);
        let weight = if tb { self.weight(&[n, k], 0) } else { self.weight(&[k, n], 1) };
        let mut inputs = vec![x.name.clone(), weight];
        let shapes: [&[usize]; 6] = [&[n], &[n], &[1, n], &[1], &[m, 1], &[m, n]];
        if self.rng.random_bool(0.85) {
            let shape = self.one_of(&shapes);
            inputs.push(self.bias(shape));
        }
        let mut node = self.op("Gemm", &inputs.iter().map(String::as_str).collect::<Vec<_>>());
        node = node.int("transA", i64::from(ta)).int("transB", i64::from(tb));
        if self.rng.random_bool(0.3) {
            node = node.float("alpha", self.one_of(&[0.5, -2.0]));
        }
        if self.rng.random_bool(0.3) {
            node = node.float("beta", self.one_of(&[0.5, 3.0]));
        }
        let name = self.node(node);
        self.push(name, &[m, n]);
    }
    /// Weights of rank 1 to one more than the input's.
    fn matmul(&mut self, x: &Made) {
        let rank = x.dims.len();
        let (k, n) = (x.dims[rank - 1], self.one_of(&[1, 3, 8]));
        let batch = &x.dims[..rank - 2];
        let dims = match self.rng.random_range(0..5) {
            0 => vec![k],
            1 if rank > 2 => [batch, &[k, n]].concat(),
            2 => [vec![1; rank - 2], vec![k, n]].concat(),
            3 => [vec![2], vec![1; rank - 2], vec![k, n]].concat(),
            _ => vec![k, n],
        };
        let weight = self.weight(&dims, dims.len() - 1);
        let node = self.op("MatMul", &[&x.name, &weight]);
        let name = self.node(node);
        let mut out = x.dims[..rank - 1].to_vec();
        if dims.len() > 1 {
            out.push(n);
        }
        if dims.len() > rank {
            out.insert(0, 2);
        }
        self.push(name, &out);
    }

    /// What has no weight.
    fn between(&mut self, x: &Made, opset: i64) {
        let (d, name) = (x.dims.clone(), x.name.as_str());
        let count: usize = d.iter().product();
        match self.rng.random_range(0..17) {
            0 | 1 => self.same("Relu", x, |n| n),
            2 => self.same("Sigmoid", x, |n| n),
            3 => self.same("LeakyRelu", x, |n| n.float("alpha", 0.2)),
            4 => {
                let bounds = [0.0f32, 6.0].map(|v| self.b.constant("bound", Constant::scalar(v)));
                let node = self.op("Clip", &[name, &bounds[0], &bounds[1]]);
                let out = self.node(node);
                self.push(out, &d);
            }
            5 | 6 if (3..=4).contains(&d.len()) && d[2..].iter().all(|&n| n >= 4) => self.pool(x, opset),
            7 if (3..=5).contains(&d.len()) => {
                let node = self.op("GlobalAveragePool", &[name]);
                let out = self.node(node);
                self.push(out, &[vec![d[0], d[1]], vec![1; d.len() - 2]].concat());
            }
            8 => {
                let perm: Vec<usize> = (0..d.len()).rev().collect();
                // The batch stays in front.
                let perm: Vec<usize> = if d[0] == 1 { [vec![0], perm[..d.len() - 1].to_vec()].concat() } else { perm };
                let node = self.op("Transpose", &[name]).ints("perm", &perm.iter().map(|&p| p as i64).collect::<Vec<_>>());
                let out = self.node(node);
                self.push(out, &perm.iter().map(|&p| d[p]).collect::<Vec<_>>());
            }
            9 | 10 => {
                let shapes: Vec<Vec<usize>> = match d.len() {
                    4 if (count / (d[0] * d[1])).is_multiple_of(9) => vec![vec![d[0], d[1], 3, d[2] * d[3] / 9, 3]],
                    4 => vec![vec![d[0], d[1], d[2] * d[3]], vec![d[0] * d[1], d[2] * d[3]], vec![1, count]],
                    3 => vec![vec![d[0], d[1], d[2], 1], vec![d[0] * d[1], d[2]]],
                    2 => vec![vec![1, d[0], d[1]], vec![1, 1, d[0], d[1]]],
                    1 => vec![vec![1, d[0]]],
                    _ => vec![vec![1, count]],
                };
                let to = shapes.choose(&mut self.rng).unwrap().clone();
                let shape = self.b.constant("shape", Constant::ints(&to.iter().map(|&n| n as i64).collect::<Vec<_>>()));
                let node = self.op("Reshape", &[name, &shape]);
                let out = self.node(node);
                self.push(out, &to);
            }
            11 | 12 => self.together(x),
            13 if d.len() >= 2 && d[1] >= 2 => {
                let [a, b] = [1, d[1] - 1];
                let sizes = self.b.constant("sizes", Constant::ints(&[a as i64, b as i64]));
                let mut node = self.op("Split", &[name, &sizes]).int("axis", 1);
                node.outputs.push(String::new());
                let stem = format!("split{}", self.made.len());
                node.outputs = vec![format!("{stem}_0"), format!("{stem}_1")];
                self.node(node);
                for (i, n) in [a, b].into_iter().enumerate() {
                    let mut dims = d.clone();
                    dims[1] = n;
                    self.push(format!("{stem}_{i}"), &dims);
                }
            }
            14 if d.len() == 4 && count < 800 => {
                let scales = self.b.constant("scales", Constant::floats(&[4], &[1.0, 1.0, 2.0, 2.0]).unwrap());
                let mode = self.one_of(&["nearest", "linear"]);
                let node = self.op("Resize", &[name, "", &scales]).attr("mode", Attr::text(mode));
                let node = node.attr("coordinate_transformation_mode", Attr::text("asymmetric")).attr("nearest_mode", Attr::text("floor"));
                let out = self.node(node);
                self.push(out, &[d[0], d[1], 2 * d[2], 2 * d[3]]);
            }
            15 => self.choice(x),
            16 => self.repeat(x),
            _ => {}
        }
    }
    fn same(&mut self, op: &str, x: &Made, attrs: impl Fn(Node) -> Node) {
        let node = self.op(op, &[&x.name]);
        let out = self.node(attrs(node));
        self.push(out, &x.dims);
    }
    /// Dilations, rounding up and counted padding in all combinations.
    fn pool(&mut self, x: &Made, opset: i64) {
        let average = self.rng.random_bool(0.6);
        let n = x.dims.len() - 2;
        let k = self.one_of(&[2, 3]);
        let mut node = self.op(if average { "AveragePool" } else { "MaxPool" }, &[&x.name]).ints("kernel_shape", &vec![k; n]);
        let (pad, stride) = (self.one_of(&[0, 1]), self.one_of(&[1, 2]));
        // Dilated averages came with operator set 19.
        let dilation = if average && opset < 19 || k == 3 && x.dims[2..].iter().any(|&n| n < 5) { 1 } else { self.one_of(&[1, 1, 2]) };
        node = node.ints("pads", &vec![pad; 2 * n]).ints("strides", &vec![stride; n]);
        if dilation > 1 {
            node = node.ints("dilations", &vec![dilation; n]);
        }
        let reach = dilation * (k - 1) + 1;
        // Where the last window would begin in the padding after the end, onnxruntime 1.32 says one size and computes another, and
        // refuses what reads it.
        let beyond = |&n: &usize| (n as i64 + 2 * pad - reach + stride - 1) / stride * stride >= n as i64 + pad;
        let up = i64::from(self.rng.random_bool(0.3) && !x.dims[2..].iter().any(beyond));
        node = node.int("ceil_mode", up);
        if average {
            node = node.int("count_include_pad", i64::from(self.rng.random_bool(0.5)));
        }
        let size = |&n: &usize| {
            let room = n as i64 + 2 * pad - reach;
            (if up == 1 { (room + stride - 1) / stride } else { room / stride } + 1) as usize
        };
        let out = self.node(node);
        self.push(out, &[x.dims[..2].to_vec(), x.dims[2..].iter().map(size).collect()].concat());
    }
    /// Two values of one shape, or one with itself.
    fn together(&mut self, x: &Made) {
        let alike: Vec<String> = self.made.iter().filter(|m| m.dims == x.dims).map(|m| m.name.clone()).collect();
        let other = alike.choose(&mut self.rng).unwrap().clone();
        match self.rng.random_range(0..3) {
            0 => {
                let node = self.op("Add", &[&x.name, &other]);
                let out = self.node(node);
                self.push(out, &x.dims);
            }
            1 => {
                let node = self.op("Mul", &[&x.name, &other]);
                let out = self.node(node);
                self.push(out, &x.dims);
            }
            _ if x.dims.len() >= 2 => {
                let node = self.op("Concat", &[&x.name, &other]).int("axis", 1);
                let out = self.node(node);
                let mut dims = x.dims.clone();
                dims[1] *= 2;
                self.push(out, &dims);
            }
            _ => {}
        }
    }
}
