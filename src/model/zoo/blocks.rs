//! The blocks that architecture files name, emitted as graph nodes with PyTorch-style constant names.
//!
//! Shapes are `[batch, channels, height, width]` throughout.

use crate::error::{Error, Result};
use crate::model::{Attr, Constant, GraphBuilder, Node};
use indexmap::IndexMap;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A value under construction with its channels and size.
#[derive(Debug, Clone)]
pub struct Feature {
    pub value: String,
    pub channels: usize,
    pub size: [usize; 2],
}

/// Emits blocks into a graph, with weights that are given by name or drawn from a seed.
#[derive(Debug)]
pub struct Blocks {
    pub graph: GraphBuilder,
    rng: ChaCha8Rng,
    /// The weights that are still to be placed. `None`: initial weights are drawn.
    given: Option<IndexMap<String, Constant>>,
}

/// Batch-norm constants of the YOLO family.
const BN_EPSILON: f32 = 1e-3;
/// ONNX momentum weighs the old value: 1 − PyTorch's 0.03.
const BN_MOMENTUM: f32 = 0.97;

impl Blocks {
    pub fn new(graph: GraphBuilder, seed: u64) -> Self {
        Self { graph, rng: ChaCha8Rng::seed_from_u64(seed), given: None }
    }
    /// Blocks whose parameters are taken from `given`, by name. Nothing larger than these is allocated for parameters.
    pub fn with_weights(graph: GraphBuilder, given: IndexMap<String, Constant>) -> Self {
        Self { given: Some(given), ..Self::new(graph, 0) }
    }
    /// Names of given weights that no block took.
    pub fn left_over(&self) -> impl Iterator<Item = &str> {
        self.given.iter().flat_map(IndexMap::keys).map(String::as_str)
    }

    /// A learnt constant: the given one, or what `initial` draws.
    fn parameter(&mut self, name: &str, dims: &[usize], initial: impl FnOnce(&mut ChaCha8Rng) -> Vec<f32>) -> Result<String> {
        let value = match &mut self.given {
            None => Constant::floats(dims, &initial(&mut self.rng))?,
            Some(given) => {
                let path = self.graph.path(name);
                let value = given.swap_remove(&path).ok_or_else(|| Error::missing(format!("there is no weight '{path}'")))?;
                if value.dims() != dims {
                    return Err(Error::shape(format!("weight '{path}' has shape {:?}, expected {dims:?}", value.dims())));
                }
                value
            }
        };
        Ok(self.graph.constant(name, value))
    }
    /// Uniform weights in ±1/√fan_in, PyTorch's default for convolutions and linear layers.
    fn weights(&mut self, name: &str, dims: &[usize]) -> Result<String> {
        let fan_in: usize = dims[1..].iter().product();
        let bound = 1.0 / (fan_in.max(1) as f32).sqrt();
        self.parameter(name, dims, |rng| (0..dims.iter().product()).map(|_| rng.random_range(-bound..bound)).collect())
    }
    fn filled(&mut self, name: &str, count: usize, value: f32) -> Result<String> {
        self.parameter(name, &[count], |_| vec![value; count])
    }

    /// A convolution without batch norm: `name.weight`, `name.bias` when `bias` is given.
    pub fn conv2d(
        &mut self,
        name: &str,
        x: &Feature,
        out: usize,
        k: usize,
        s: usize,
        groups: usize,
        bias: Option<Vec<f32>>,
    ) -> Result<Feature> {
        let w = self.weights(&format!("{name}.weight"), &[out, x.channels / groups, k, k])?;
        let mut inputs = vec![x.value.clone(), w];
        if let Some(b) = bias {
            inputs.push(self.parameter(&format!("{name}.bias"), &[out], |_| b)?);
        }
        let pad = k / 2;
        let node = Node::new("Conv", self.graph.path(&format!("{name}.Conv")), inputs, [""])
            .ints("dilations", &[1, 1])
            .int("group", groups as i64)
            .ints("kernel_shape", &[k as i64; 2])
            .ints("pads", &[pad as i64; 4])
            .ints("strides", &[s as i64; 2]);
        let size = x.size.map(|n| (n + 2 * pad - k) / s + 1);
        Ok(Feature { value: self.graph.node(node), channels: out, size })
    }

    /// Conv, batch norm, SiLU.
    pub fn conv(&mut self, name: &str, x: &Feature, out: usize, k: usize, s: usize, groups: usize) -> Result<Feature> {
        let y = self.conv2d(&format!("{name}.conv"), x, out, k, s, groups, None)?;
        let bn = format!("{name}.bn");
        let inputs = [
            y.value.clone(),
            self.filled(&format!("{bn}.weight"), out, 1.0)?,
            self.filled(&format!("{bn}.bias"), out, 0.0)?,
            self.filled(&format!("{bn}.running_mean"), out, 0.0)?,
            self.filled(&format!("{bn}.running_var"), out, 1.0)?,
        ];
        let path = self.graph.path(&format!("{bn}.BatchNormalization"));
        let node = Node::new("BatchNormalization", path, inputs, [""]).float("epsilon", BN_EPSILON).float("momentum", BN_MOMENTUM);
        let normal = self.graph.node(node);
        let gate = self.named("Sigmoid", &format!("{name}.act"), &[&normal]);
        let value = self.named("Mul", &format!("{name}.act"), &[&normal, &gate]);
        Ok(Feature { value, ..y })
    }

    /// A node named `scope.path.Op`.
    pub fn named(&mut self, op: &str, path: &str, inputs: &[&str]) -> String {
        let name = self.graph.path(&format!("{path}.{op}"));
        self.graph.node(Node::new(op, name, inputs.iter().copied(), [""]))
    }

    /// Two convolutions with an optional shortcut.
    pub fn bottleneck(
        &mut self,
        name: &str,
        x: &Feature,
        out: usize,
        shortcut: bool,
        kernels: [usize; 2],
        expansion: f64,
    ) -> Result<Feature> {
        let hidden = ((out as f64 * expansion) as usize).max(1);
        let y = self.conv(&format!("{name}.cv1"), x, hidden, kernels[0], 1, 1)?;
        let y = self.conv(&format!("{name}.cv2"), &y, out, kernels[1], 1, 1)?;
        if shortcut && x.channels == out {
            let value = self.named("Add", name, &[&x.value, &y.value]);
            return Ok(Feature { value, ..y });
        }
        Ok(y)
    }

    /// Cross-stage partial block with two branches and all bottleneck outputs concatenated (YOLOv8).
    pub fn c2f(&mut self, name: &str, x: &Feature, out: usize, n: usize, shortcut: bool) -> Result<Feature> {
        let half = (out / 2).max(1);
        let y = self.conv(&format!("{name}.cv1"), x, 2 * half, 1, 1, 1)?;
        let sizes = self.graph.constant(&format!("{name}.split"), Constant::ints(&[half as i64; 2]));
        let path = self.graph.path(&format!("{name}.Split"));
        let outputs = [format!("{path}_output_0"), format!("{path}_output_1")];
        self.graph.node(Node::new("Split", path, [y.value.clone(), sizes], outputs.clone()).int("axis", 1));
        let mut parts = outputs.to_vec();
        let mut last = Feature { value: outputs[1].clone(), channels: half, size: y.size };
        for i in 0..n {
            last = self.bottleneck(&format!("{name}.m.{i}"), &last, half, shortcut, [3, 3], 1.0)?;
            parts.push(last.value.clone());
        }
        let all = Feature { value: self.concat(name, &parts), channels: (2 + n) * half, size: y.size };
        self.conv(&format!("{name}.cv2"), &all, out, 1, 1, 1)
    }

    /// Cross-stage partial block with three convolutions (YOLOv5).
    pub fn c3(&mut self, name: &str, x: &Feature, out: usize, n: usize, shortcut: bool) -> Result<Feature> {
        let half = (out / 2).max(1);
        let mut a = self.conv(&format!("{name}.cv1"), x, half, 1, 1, 1)?;
        let b = self.conv(&format!("{name}.cv2"), x, half, 1, 1, 1)?;
        for i in 0..n {
            a = self.bottleneck(&format!("{name}.m.{i}"), &a, half, shortcut, [1, 3], 1.0)?;
        }
        let all = Feature { value: self.concat(name, &[a.value, b.value]), channels: 2 * half, size: a.size };
        self.conv(&format!("{name}.cv3"), &all, out, 1, 1, 1)
    }

    /// Spatial pyramid pooling by three chained max pools.
    pub fn sppf(&mut self, name: &str, x: &Feature, out: usize, k: usize) -> Result<Feature> {
        let hidden = (x.channels / 2).max(1);
        let y = self.conv(&format!("{name}.cv1"), x, hidden, 1, 1, 1)?;
        let mut parts = vec![y.value.clone()];
        for _ in 0..3 {
            let last = parts.last().map(String::as_str).unwrap_or_default();
            let path = self.graph.path(&format!("{name}.MaxPool_{}", parts.len()));
            let pool = Node::new("MaxPool", path, [last], [""])
                .ints("kernel_shape", &[k as i64; 2])
                .ints("pads", &[(k / 2) as i64; 4])
                .ints("strides", &[1, 1]);
            parts.push(self.graph.node(pool));
        }
        let all = Feature { value: self.concat(name, &parts), channels: 4 * hidden, size: y.size };
        self.conv(&format!("{name}.cv2"), &all, out, 1, 1, 1)
    }

    /// Joins values along the channels.
    pub fn concat(&mut self, name: &str, parts: &[String]) -> String {
        let path = self.graph.path(&format!("{name}.Concat"));
        self.graph.node(Node::new("Concat", path, parts, [""]).int("axis", 1))
    }

    /// Nearest-neighbour upsampling by a whole factor.
    pub fn upsample(&mut self, name: &str, x: &Feature, factor: usize) -> Result<Feature> {
        let f = factor as f32;
        let scales = self.graph.constant(&format!("{name}.scales"), Constant::floats(&[4], &[1.0, 1.0, f, f])?);
        let path = self.graph.path(&format!("{name}.Resize"));
        let node = Node::new("Resize", path, [x.value.as_str(), "", &scales], [""])
            .attr("coordinate_transformation_mode", Attr::text("asymmetric"))
            .attr("mode", Attr::text("nearest"))
            .attr("nearest_mode", Attr::text("floor"));
        Ok(Feature { value: self.graph.node(node), channels: x.channels, size: x.size.map(|n| n * factor) })
    }

    /// Global average pooling and a linear layer: logits `[batch, classes]`.
    pub fn classify(&mut self, name: &str, x: &Feature, classes: usize) -> Result<String> {
        let pooled = self.named("GlobalAveragePool", name, &[&x.value]);
        let flat = self.named("Flatten", name, &[&pooled]);
        let w = self.weights(&format!("{name}.linear.weight"), &[classes, x.channels])?;
        let b = self.filled(&format!("{name}.linear.bias"), classes, 0.0)?;
        let path = self.graph.path(&format!("{name}.linear.Gemm"));
        Ok(self.graph.node(Node::new("Gemm", path, [flat, w, b], [""]).int("transB", 1)))
    }
}
