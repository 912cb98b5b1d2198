//! Convolutions, norms, activations and moves, emitted as graph nodes with PyTorch-style constant names.
//!
//! Shapes are `[batch, channels, height, width]` throughout.

use crate::{Attr, Constant, GraphBuilder, Node};
use compresso_base::error::{Error, Result};
use compresso_base::memory;
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

impl Feature {
    /// The same shape under another value.
    pub fn with(&self, value: String) -> Self {
        Self { value, ..self.clone() }
    }
}

/// What follows a convolution's batch norm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    None,
    /// `x · sigmoid(x)` (Elfwing et al. 2017).
    Silu,
    Relu,
    /// `min(max(x, 0), 6)` (Howard et al. 2017, "MobileNets").
    Relu6,
}

/// A convolution: square kernel, equal padding on all sides.
#[derive(Debug, Clone, Copy)]
pub struct Conv {
    /// Output channels.
    pub out: usize,
    pub kernel: usize,
    pub stride: usize,
    pub pad: usize,
    pub groups: usize,
    pub dilation: usize,
    pub act: Act,
}

impl Conv {
    /// Stride 1, padded by half the kernel, followed by SiLU.
    pub fn new(out: usize, kernel: usize) -> Self {
        Self { out, kernel, stride: 1, pad: kernel / 2, groups: 1, dilation: 1, act: Act::Silu }
    }
    pub fn groups(self, groups: usize) -> Self {
        Self { groups, ..self }
    }
    pub fn act(self, act: Act) -> Self {
        Self { act, ..self }
    }
    /// Depthwise as far as the channels allow: as many groups as divide inputs and outputs.
    pub fn depthwise(self, channels: usize) -> Self {
        Self { groups: gcd(channels, self.out), ..self }
    }
    /// Size of the output along one axis; `None` when the window does not fit into the padded input.
    fn reach(&self, n: usize) -> Option<usize> {
        let window = self.dilation * (self.kernel - 1) + 1;
        Some((n + 2 * self.pad).checked_sub(window)? / self.stride + 1)
    }
}

/// Constants of batch norms.
#[derive(Debug, Clone, Copy)]
pub struct BatchNorm {
    pub epsilon: f32,
    /// Weight of the old running statistics (1 − PyTorch's momentum).
    pub momentum: f32,
}

/// Emits blocks into a graph, with weights that are given by name or drawn from a seed.
#[derive(Debug)]
pub struct Blocks {
    pub graph: GraphBuilder,
    pub batch_norm: BatchNorm,
    rng: ChaCha8Rng,
    /// The weights that are still to be placed. `None`: initial weights are drawn.
    given: Option<IndexMap<String, Constant>>,
    /// Limits of ReLU6, once there are some.
    limits: Option<[String; 2]>,
}

impl Blocks {
    pub fn new(graph: GraphBuilder, batch_norm: BatchNorm, seed: u64) -> Self {
        Self { graph, batch_norm, rng: ChaCha8Rng::seed_from_u64(seed), given: None, limits: None }
    }
    /// Blocks whose parameters are taken from `given`, by name. Nothing larger than these is allocated for parameters.
    pub fn with_weights(graph: GraphBuilder, batch_norm: BatchNorm, given: IndexMap<String, Constant>) -> Self {
        Self { given: Some(given), ..Self::new(graph, batch_norm, 0) }
    }
    /// Whether initial weights are drawn, not given.
    pub fn is_new(&self) -> bool {
        self.given.is_none()
    }
    /// Shape of a given weight that is still to be placed.
    pub fn given(&self, name: &str) -> Option<&[usize]> {
        Some(self.given.as_ref()?.get(&self.graph.path(name))?.dims())
    }
    /// Leaves out the given weights whose names start so.
    pub fn leave_out(&mut self, prefix: &str) {
        if let Some(given) = &mut self.given {
            given.retain(|name, _| !name.starts_with(prefix));
        }
    }
    /// The convolution with as many outputs as its given weight has: a pruned network is as wide as its weights.
    fn as_given(&self, name: &str, x: &Feature, c: Conv) -> Conv {
        match self.given(name) {
            Some(&[out, inputs, _, _]) if c.groups == 1 || inputs == 0 => Conv { out, ..c },
            Some(&[out, inputs, _, _]) if x.channels.is_multiple_of(inputs) => Conv { out, groups: x.channels / inputs, ..c },
            _ => c,
        }
    }
    /// Names of given weights that no block took.
    pub fn left_over(&self) -> impl Iterator<Item = &str> {
        self.given.iter().flat_map(IndexMap::keys).map(String::as_str)
    }

    /// A learnt constant: the given one, or what `initial` draws.
    fn parameter(&mut self, name: &str, dims: &[usize], initial: impl FnOnce(&mut ChaCha8Rng) -> Vec<f32>) -> Result<String> {
        let value = match &mut self.given {
            None => {
                // The numbers, and the constant that is made of them.
                memory::claim_tensor(dims, 4, 2, || format!("the weight '{}' of shape {dims:?}", self.graph.path(name)))?;
                Constant::floats(dims, &initial(&mut self.rng))?
            }
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
    pub fn weights(&mut self, name: &str, dims: &[usize]) -> Result<String> {
        let fan_in: usize = dims[1..].iter().product();
        let bound = 1.0 / (fan_in.max(1) as f32).sqrt();
        self.parameter(name, dims, |rng| (0..dims.iter().product()).map(|_| rng.random_range(-bound..bound)).collect())
    }
    pub fn filled(&mut self, name: &str, count: usize, value: f32) -> Result<String> {
        self.parameter(name, &[count], |_| vec![value; count])
    }
    /// A list of integers, such as a shape.
    pub fn ints(&mut self, name: &str, values: &[i64]) -> String {
        self.graph.constant(name, Constant::ints(values))
    }

    /// A node named `path.Op` with one output.
    pub fn named(&mut self, op: &str, path: &str, inputs: &[&str]) -> String {
        self.node(op, path, inputs, |n| n)
    }
    /// The same with attributes.
    pub fn node(&mut self, op: &str, path: &str, inputs: &[&str], attrs: impl FnOnce(Node) -> Node) -> String {
        let name = if path.is_empty() { op.to_string() } else { format!("{path}.{op}") };
        let name = self.graph.path(&name);
        self.graph.node(attrs(Node::new(op, name, inputs.iter().copied(), [""])))
    }

    /// A convolution alone: `name.weight`, and `name.bias` when `bias` is given.
    pub fn conv2d(&mut self, name: &str, x: &Feature, c: Conv, bias: Option<Vec<f32>>) -> Result<Feature> {
        if !x.channels.is_multiple_of(c.groups.max(1)) || !c.out.is_multiple_of(c.groups.max(1)) {
            return Err(Error::shape(format!("{} groups do not divide {} and {} channels", c.groups, x.channels, c.out)));
        }
        let w = self.weights(&format!("{name}.weight"), &[c.out, x.channels / c.groups, c.kernel, c.kernel])?;
        let mut inputs = vec![x.value.clone(), w];
        if let Some(b) = bias {
            inputs.push(self.parameter(&format!("{name}.bias"), &[c.out], |_| b)?);
        }
        let node = Node::new("Conv", self.graph.path(&format!("{name}.Conv")), inputs, [""])
            .ints("dilations", &[c.dilation as i64; 2])
            .int("group", c.groups as i64)
            .ints("kernel_shape", &[c.kernel as i64; 2])
            .ints("pads", &[c.pad as i64; 4])
            .ints("strides", &[c.stride as i64; 2]);
        let mut size = x.size;
        for n in &mut size {
            *n = c.reach(*n).ok_or_else(|| Error::shape(format!("a window of {} does not fit a map of {n}", c.kernel)))?;
        }
        Ok(Feature { value: self.graph.node(node), channels: c.out, size })
    }

    /// Batch norm: `name.weight`, `name.bias`, `name.running_mean`, `name.running_var`.
    pub fn norm(&mut self, name: &str, x: &Feature) -> Result<Feature> {
        let inputs = [
            x.value.clone(),
            self.filled(&format!("{name}.weight"), x.channels, 1.0)?,
            self.filled(&format!("{name}.bias"), x.channels, 0.0)?,
            self.filled(&format!("{name}.running_mean"), x.channels, 0.0)?,
            self.filled(&format!("{name}.running_var"), x.channels, 1.0)?,
        ];
        let BatchNorm { epsilon, momentum } = self.batch_norm;
        let path = self.graph.path(&format!("{name}.BatchNormalization"));
        let node = Node::new("BatchNormalization", path, inputs, [""]).float("epsilon", epsilon).float("momentum", momentum);
        Ok(x.with(self.graph.node(node)))
    }

    pub fn activate(&mut self, name: &str, x: &Feature, act: Act) -> Feature {
        x.with(match act {
            Act::None => x.value.clone(),
            Act::Silu => {
                let gate = self.named("Sigmoid", name, &[&x.value]);
                self.named("Mul", name, &[&x.value, &gate])
            }
            Act::Relu => self.named("Relu", name, &[&x.value]),
            Act::Relu6 => {
                let graph = &mut self.graph;
                let limit = |(name, value)| graph.constant(name, Constant::scalar(value));
                let [low, high] = self.limits.get_or_insert_with(|| [("relu6.low", 0.0), ("relu6.high", 6.0)].map(limit)).clone();
                self.named("Clip", name, &[&x.value, &low, &high])
            }
        })
    }

    /// Convolution (`name.conv`), batch norm (`name.bn`), activation. Given weights say how many channels it makes.
    pub fn conv(&mut self, name: &str, x: &Feature, c: Conv) -> Result<Feature> {
        let c = self.as_given(&format!("{name}.conv.weight"), x, c);
        let y = self.conv2d(&format!("{name}.conv"), x, c, None)?;
        let y = self.norm(&format!("{name}.bn"), &y)?;
        Ok(self.activate(&format!("{name}.act"), &y, c.act))
    }

    /// The sum of two maps of one shape.
    pub fn add(&mut self, name: &str, x: &Feature, y: &Feature) -> Result<Feature> {
        if (x.channels, x.size) != (y.channels, y.size) {
            let shape = |f: &Feature| format!("{} channels of {:?}", f.channels, f.size);
            return Err(Error::shape(format!("'{name}' adds maps of different shapes: {} and {}", shape(x), shape(y))));
        }
        Ok(y.with(self.named("Add", name, &[&x.value, &y.value])))
    }

    /// Joins values along the channels.
    pub fn concat(&mut self, name: &str, parts: &[&Feature]) -> Feature {
        let values: Vec<&str> = parts.iter().map(|p| p.value.as_str()).collect();
        let value = self.node("Concat", name, &values, |n| n.int("axis", 1));
        Feature { value, channels: parts.iter().map(|p| p.channels).sum(), size: parts.first().map_or([0; 2], |p| p.size) }
    }

    /// The channels in two parts, equal where their number is even.
    pub fn halves(&mut self, name: &str, x: &Feature) -> [Feature; 2] {
        let first = x.channels.div_ceil(2);
        let rest = x.channels - first;
        let sizes = self.ints(&format!("{name}.split"), &[first as i64, rest as i64]);
        let [a, b] = self.split(name, &x.value, &sizes, 1);
        [(a, first), (b, rest)].map(|(value, channels)| Feature { value, channels, size: x.size })
    }

    /// A value in `N` parts along an axis; `sizes` names the constant of their sizes.
    pub fn split<const N: usize>(&mut self, name: &str, value: &str, sizes: &str, axis: i64) -> [String; N] {
        let path = self.graph.path(&format!("{name}.Split"));
        let parts: [String; N] = std::array::from_fn(|i| format!("{path}_output_{i}"));
        self.graph.node(Node::new("Split", path, [value, sizes], parts.clone()).int("axis", axis));
        parts
    }

    /// The channels in parts of these sizes, whose sum they are.
    pub fn parts(&mut self, name: &str, x: &Feature, sizes: &[usize]) -> Vec<Feature> {
        let list: Vec<i64> = sizes.iter().map(|&n| n as i64).collect();
        let list = self.ints(&format!("{name}.split"), &list);
        let path = self.graph.path(&format!("{name}.Split"));
        let outputs: Vec<String> = (0..sizes.len()).map(|i| format!("{path}_output_{i}")).collect();
        self.graph.node(Node::new("Split", path, [x.value.clone(), list], outputs.clone()).int("axis", 1));
        outputs.into_iter().zip(sizes).map(|(value, &channels)| Feature { value, channels, size: x.size }).collect()
    }

    /// A max pool that keeps the size when the stride is 1.
    pub fn max_pool(&mut self, name: &str, x: &Feature, kernel: usize, stride: usize) -> Feature {
        let pad = kernel / 2;
        let value = self.node("MaxPool", name, &[&x.value], |n| {
            n.ints("kernel_shape", &[kernel as i64; 2]).ints("pads", &[pad as i64; 4]).ints("strides", &[stride as i64; 2])
        });
        Feature { value, channels: x.channels, size: x.size.map(|n| (n + 2 * pad).saturating_sub(kernel) / stride + 1) }
    }

    /// Nearest-neighbour upsampling by a whole factor.
    pub fn upsample(&mut self, name: &str, x: &Feature, factor: usize) -> Result<Feature> {
        let f = factor as f32;
        let scales = self.graph.constant(&format!("{name}.scales"), Constant::floats(&[4], &[1.0, 1.0, f, f])?);
        let value = self.node("Resize", name, &[&x.value, "", &scales], |n| {
            n.attr("coordinate_transformation_mode", Attr::text("asymmetric"))
                .attr("mode", Attr::text("nearest"))
                .attr("nearest_mode", Attr::text("floor"))
        });
        Ok(Feature { value, channels: x.channels, size: x.size.map(|n| n * factor) })
    }

    /// A transposed convolution of 2 × 2 that doubles height and width: `name.weight`, `name.bias`.
    pub fn doubled(&mut self, name: &str, x: &Feature, out: usize) -> Result<Feature> {
        let out = self.given(&format!("{name}.weight")).and_then(|d| d.get(1).copied()).unwrap_or(out);
        let w = self.weights(&format!("{name}.weight"), &[x.channels, out, 2, 2])?;
        let b = self.filled(&format!("{name}.bias"), out, 0.0)?;
        let value = self.node("ConvTranspose", name, &[&x.value, &w, &b], |n| n.ints("kernel_shape", &[2, 2]).ints("strides", &[2, 2]));
        Ok(Feature { value, channels: out, size: x.size.map(|n| 2 * n) })
    }

    /// The mean of each channel, `[batch, channels]`.
    pub fn pooled(&mut self, name: &str, x: &Feature) -> Feature {
        let mean = self.named("GlobalAveragePool", name, &[&x.value]);
        Feature { value: self.named("Flatten", name, &[&mean]), channels: x.channels, size: [1, 1] }
    }

    /// A linear layer on `[batch, channels]`: `name.weight`, `name.bias`.
    pub fn linear(&mut self, name: &str, x: &Feature, out: usize) -> Result<Feature> {
        let w = self.weights(&format!("{name}.weight"), &[out, x.channels])?;
        let b = self.filled(&format!("{name}.bias"), out, 0.0)?;
        let value = self.node("Gemm", name, &[&x.value, &w, &b], |n| n.int("transB", 1));
        Ok(Feature { value, channels: out, size: [1, 1] })
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}
