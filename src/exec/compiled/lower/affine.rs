//! What is one product and one sum per channel: a BatchNormalization that no layer before it has taken up, arithmetic with
//! constants, and several of these in a row.

use super::{Lower, Op, Val};
use crate::compiled::tensor::Kind;
use compresso_base::error::Result;
use compresso_kernels::activation::Activation;
use compresso_model::graph::Node;
use compresso_model::ops::arithmetic::{ADD, DIV, MUL, SUB};
use compresso_model::ops::norm::BATCH_NORMALIZATION;

/// `act(x · scale + shift)`, with one number of each for a channel.
#[derive(Debug, Clone)]
pub struct PerChannel {
    pub scale: Vec<f32>,
    pub shift: Vec<f32>,
    pub act: Option<Activation>,
}

/// The same before it is rounded, with the value that it is of.
struct Line {
    of: String,
    scale: Vec<f64>,
    shift: Vec<f64>,
    /// Arithmetic with one number for all channels.
    even: bool,
}

impl Lower<'_> {
    /// Lowers a node that is a product and a sum per channel, with those after it; false for any other.
    pub(super) fn affine(&mut self, node: &Node) -> Result<bool> {
        let Some(Line { of, mut scale, mut shift, even }) = self.line(node)? else { return Ok(false) };
        let norm = node.is(BATCH_NORMALIZATION);
        let dims = self.dims(&of)?;
        // A function of bytes stays one where it is the same for all channels.
        if dims.contains(&0) || !norm && (even || self.coded(&of).is_some()) {
            return Ok(false);
        }
        let x = self.float(&of)?;
        let last = |id: usize| self.tensors.layout(id).is_some_and(|l| l.strides.get(1) == Some(&1));
        if !norm && !last(x) {
            return Ok(false);
        }
        let mut makes = node.outputs[0].clone();
        while let Some(i) = self.sole_reader(&makes).filter(|&i| !self.done[i])
            && let Some(next) = self.line(&self.graph.nodes()[i])?.filter(|next| next.of == makes)
        {
            for (c, (s, t)) in next.scale.iter().zip(&next.shift).enumerate() {
                (scale[c], shift[c]) = (scale[c] * s, shift[c] * s + t);
            }
            self.take(i);
            makes.clone_from(&self.graph.nodes()[i].outputs[0]);
        }
        let mut act = None;
        if let Some(f) = self.activation_of(&makes)? {
            act = Some(f.act);
            self.take(f.node);
            makes = f.makes;
        }
        let x = match *dims.as_slice() {
            [n, c] => self.shaped(x, &[n, c, 1, 1])?,
            _ => self.as_4d(x)?,
        };
        let x = self.image(x, false)?;
        let wide = self.tensors[x].dims.clone();
        let y = self.tensors.root(Kind::F32, &wide, &[0, 2, 3, 1]);
        let single = |v: Vec<f64>| v.into_iter().map(|v| v as f32).collect();
        self.step(Op::PerChannel(Box::new(PerChannel { scale: single(scale), shift: single(shift), act })), &[x], &[y]);
        let y = self.shaped(y, &dims)?;
        self.set(&makes, Val::Float(y))?;
        Ok(true)
    }

    /// What a node is, if it is a product and a sum per channel of an image or of rows.
    fn line(&self, node: &Node) -> Result<Option<Line>> {
        if !matches!(node.domain.as_str(), "" | "ai.onnx") || node.outputs.is_empty() {
            return Ok(None);
        }
        if node.is(BATCH_NORMALIZATION) {
            return self.norm(node);
        }
        if ![ADD, MUL, SUB, DIV].iter().any(|op| node.is(op)) {
            return Ok(None);
        }
        let (left, right) = (&node.inputs[0], &node.inputs[1]);
        let (of, constant, turned) = match (self.constant_floats(left)?, self.constant_floats(right)?) {
            (None, Some(c)) => (left.clone(), c, false),
            (Some(c), None) if !node.is(DIV) => (right.clone(), c, true),
            _ => return Ok(None),
        };
        let (dims, (shape, values)) = (self.dims(&of)?, constant);
        let Some(&channels) = dims.get(1).filter(|_| (3..=4).contains(&dims.len())) else { return Ok(None) };
        // The constant's axes are the last ones of the value's: one number, or one for each channel.
        let fits =
            shape.len() <= dims.len() && shape.iter().rev().enumerate().all(|(i, &n)| n == 1 || n == channels && i + 2 == dims.len());
        if !fits {
            return Ok(None);
        }
        let at = |c: usize| f64::from(values[if values.len() == 1 { 0 } else { c }]);
        let each = |f: &dyn Fn(f64) -> f64| (0..channels).map(|c| f(at(c))).collect::<Vec<f64>>();
        let (scale, shift) = match (node.op.as_str(), turned) {
            (ADD, _) => (vec![1.0; channels], each(&|v| v)),
            (SUB, false) => (vec![1.0; channels], each(&|v| -v)),
            (SUB, true) => (vec![-1.0; channels], each(&|v| v)),
            (MUL, _) => (each(&|v| v), vec![0.0; channels]),
            _ => (each(&|v| 1.0 / v), vec![0.0; channels]),
        };
        Ok(Some(Line { of, scale, shift, even: values.len() == 1 }))
    }

    /// A BatchNormalization by constant statistics.
    fn norm(&self, node: &Node) -> Result<Option<Line>> {
        let read = |name: &String| !name.is_empty() && (self.is_wanted(name) || self.consumers.contains_key(name.as_str()));
        if node.get_int("training_mode", 0)? != 0 || node.outputs[1..].iter().any(read) {
            return Ok(None);
        }
        let dims = self.dims(&node.inputs[0])?;
        let Some(&channels) = dims.get(1).filter(|_| (2..=4).contains(&dims.len())) else { return Ok(None) };
        let mut given = Vec::new();
        for i in 1..5 {
            match node.input(i).map(|n| self.constant_floats(n)).transpose()?.flatten() {
                Some((_, v)) if v.len() == channels => given.push(v),
                _ => return Ok(None),
            }
        }
        let epsilon = f64::from(node.get_float("epsilon", 1e-5)?);
        let number = |i: usize, c: usize| f64::from(given[i][c]);
        let scale: Vec<f64> = (0..channels).map(|c| number(0, c) / (number(3, c) + epsilon).sqrt()).collect();
        let shift = (0..channels).map(|c| number(1, c) - number(2, c) * scale[c]).collect();
        Ok(Some(Line { of: node.inputs[0].clone(), scale, shift, even: false }))
    }
}
