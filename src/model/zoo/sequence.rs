//! Layers on sequences `[batch, positions, channels]` (Vaswani et al. 2017, "Attention Is All You Need"), with PyTorch's
//! names of constants.

use super::blocks::Blocks;
use crate::Constant;
use compresso_base::error::{Error, Result};

/// PyTorch's constant of layer normalisations.
const EPSILON: f32 = 1e-5;

/// A sequence under construction.
#[derive(Debug, Clone)]
pub struct Sequence {
    pub value: String,
    pub positions: usize,
    pub channels: usize,
}

/// A linear layer's weights in a graph.
#[derive(Debug, Clone)]
pub struct LinearLayer {
    name: String,
    weight: String,
    bias: String,
    channels: usize,
}

impl Sequence {
    /// The same shape under another value.
    pub fn with(&self, value: String) -> Self {
        Self { value, ..self.clone() }
    }
}

impl Blocks {
    /// A linear layer on the last axis: `name.weight`, `name.bias`.
    pub fn dense(&mut self, name: &str, x: &Sequence, out: usize) -> Result<Sequence> {
        let layer = self.linear_layer(name, x.channels, out)?;
        Ok(self.apply(&layer, x))
    }

    /// The weights of a linear layer, which may be applied several times. Given ones say how many channels it makes.
    pub fn linear_layer(&mut self, name: &str, inputs: usize, out: usize) -> Result<LinearLayer> {
        let channels = self.given(&format!("{name}.weight")).and_then(|d| d.first().copied()).unwrap_or(out);
        let weight = self.weights(&format!("{name}.weight"), &[channels, inputs])?;
        let bias = self.filled(&format!("{name}.bias"), channels, 0.0)?;
        Ok(LinearLayer { name: name.to_string(), weight, bias, channels })
    }

    pub fn apply(&mut self, layer: &LinearLayer, x: &Sequence) -> Sequence {
        let value = self.affine(&layer.name, &x.value, &layer.weight, &layer.bias);
        Sequence { value, channels: layer.channels, ..x.clone() }
    }

    /// `x · wᵀ + b`.
    fn affine(&mut self, name: &str, x: &str, w: &str, b: &str) -> String {
        let w = self.node("Transpose", name, &[w], |n| n.ints("perm", &[1, 0]));
        let y = self.named("MatMul", name, &[x, &w]);
        self.named("Add", name, &[&y, b])
    }

    /// Linear layers in a row (`name.layers.N`) with a rectifier between them.
    pub fn perceptron(&mut self, name: &str, x: &Sequence, widths: &[usize]) -> Result<Sequence> {
        let mut y = x.clone();
        for (i, &width) in widths.iter().enumerate() {
            if i > 0 {
                y = y.with(self.named("Relu", name, &[&y.value]));
            }
            y = self.dense(&format!("{name}.layers.{i}"), &y, width)?;
        }
        Ok(y)
    }

    /// Layer normalisation: `name.weight`, `name.bias`.
    pub fn layer_norm(&mut self, name: &str, x: &Sequence) -> Result<Sequence> {
        let w = self.filled(&format!("{name}.weight"), x.channels, 1.0)?;
        let b = self.filled(&format!("{name}.bias"), x.channels, 0.0)?;
        Ok(x.with(self.node("LayerNormalization", name, &[&x.value, &w, &b], |n| n.int("axis", -1).float("epsilon", EPSILON))))
    }

    /// `x / 2 · (1 + erf(x / √2))` (Hendrycks and Gimpel 2016).
    pub fn gelu(&mut self, name: &str, x: &Sequence) -> Sequence {
        let constants = [("root", std::f32::consts::SQRT_2), ("one", 1.0), ("half", 0.5)];
        let [root, one, half] = constants.map(|(n, v)| self.graph.constant(&format!("{name}.{n}"), Constant::scalar(v)));
        let y = self.named("Div", name, &[&x.value, &root]);
        let y = self.named("Erf", name, &[&y]);
        let y = self.named("Add", name, &[&y, &one]);
        let y = self.named("Mul", name, &[&x.value, &y]);
        x.with(self.named("Mul", name, &[&y, &half]))
    }

    pub fn sum(&mut self, name: &str, x: &Sequence, y: &Sequence) -> Sequence {
        x.with(self.named("Add", name, &[&x.value, &y.value]))
    }

    /// Attention of several heads (`name.in_proj_weight`, `name.in_proj_bias`, `name.out_proj`); `places` is added to what
    /// queries and keys are made from.
    pub fn heads(&mut self, name: &str, x: &Sequence, places: &str, heads: usize) -> Result<Sequence> {
        let (c, n) = (x.channels, x.positions as i64);
        if heads == 0 || !c.is_multiple_of(heads) {
            return Err(Error::shape(format!("{c} channels do not divide into {heads} heads")));
        }
        let (h, d) = (heads as i64, (c / heads) as i64);
        let w = self.weights(&format!("{name}.in_proj_weight"), &[3 * c, c])?;
        let b = self.filled(&format!("{name}.in_proj_bias"), 3 * c, 0.0)?;
        let sizes = self.ints(&format!("{name}.split"), &[c as i64; 3]);
        let mut thirds = |what: &str, value: &str| self.split::<3>(&format!("{name}.{what}"), value, &sizes, 0);
        let (w, b) = (thirds("weight", &w), thirds("bias", &b));
        let placed = self.named("Add", name, &[&x.value, places]);
        let split = self.ints(&format!("{name}.heads"), &[0, n, h, d]);
        let mut part = |i: usize, from: &str, perm: [i64; 4]| {
            let y = self.affine(name, from, &w[i], &b[i]);
            let y = self.named("Reshape", name, &[&y, &split]);
            self.node("Transpose", name, &[&y], |n| n.ints("perm", &perm))
        };
        let (q, k, v) = (part(0, &placed, [0, 2, 1, 3]), part(1, &placed, [0, 2, 3, 1]), part(2, &x.value, [0, 2, 1, 3]));
        let scale = self.graph.constant(&format!("{name}.scale"), Constant::scalar((d as f32).powf(-0.5)));
        let q = self.named("Mul", name, &[&q, &scale]);
        let scores = self.named("MatMul", name, &[&q, &k]);
        let shares = self.node("Softmax", name, &[&scores], |n| n.int("axis", -1));
        let y = self.named("MatMul", name, &[&shares, &v]);
        let y = self.node("Transpose", name, &[&y], |n| n.ints("perm", &[0, 2, 1, 3]));
        let joined = self.ints(&format!("{name}.joined"), &[0, n, c as i64]);
        let y = x.with(self.named("Reshape", name, &[&y, &joined]));
        self.dense(&format!("{name}.out_proj"), &y, c)
    }
}
