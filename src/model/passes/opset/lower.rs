//! Lowers a graph to an older ONNX operator set, where that one can say exactly the same.
//!
//! The reverse of [raising](super::convert), from ONNX's [changelog](https://github.com/onnx/onnx/blob/main/docs/Changelog.md): inputs
//! become attributes again, attributes that came later are dropped where they say what always held, operators that came later become
//! what they are defined by. All else is refused, naming the node.

use super::super::{Pass, PassContext, Rewrite};
use crate::constant::Constant;
use crate::element::Element;
use crate::graph::{Attr, Fact, Node, normalize_axis};
use crate::ops::activation::{DROPOUT, ERF, GELU, HARD_SIGMOID, HARD_SWISH, MISH, SOFTPLUS, TANH};
use crate::ops::arithmetic::{ADD, DIV, MUL, SUB};
use crate::ops::concat::PAD;
use crate::ops::grid_sample::GRID_SAMPLE;
use crate::ops::later::later;
use crate::ops::math::SQRT;
use crate::ops::norm::{GROUP_NORMALIZATION, LAYER_NORMALIZATION};
use crate::ops::quantize::{DEQUANTIZE_LINEAR, QUANTIZE_LINEAR};
use crate::ops::reduce::{self, REDUCE_MEAN, REDUCE_SUM};
use crate::ops::region::ROI_ALIGN;
use crate::ops::resize::RESIZE;
use crate::ops::scatter::{SCATTER_ELEMENTS, SCATTER_ND};
use crate::ops::schema;
use crate::ops::shape::{SQUEEZE, UNSQUEEZE};
use crate::ops::slice::SPLIT;
use crate::ops::softmax::{HARDMAX, LOG_SOFTMAX, SOFTMAX};
use crate::ops::spectrum::DFT;
use crate::ops::transpose::TRANSPOSE;
use compresso_base::error::{Error, Result};

/// Lowers the ONNX operator set where it is newer.
#[derive(Debug, Clone, Copy)]
pub struct LowerOpset {
    to: i64,
}

impl LowerOpset {
    /// To the set `to`, 11 to 21.
    ///
    /// # Errors
    /// `Argument` for another set.
    pub fn to(to: i64) -> Result<Self> {
        if (11..=21).contains(&to) {
            Ok(Self { to })
        } else {
            Err(Error::argument(format!("graphs are lowered to operator sets 11 to 21, not {to}")))
        }
    }
}

impl Pass for LowerOpset {
    fn name(&self) -> &'static str {
        "lower_opset"
    }
    fn summary(&self) -> &'static str {
        "Lowers a newer operator set, where the older one can say exactly the same"
    }
    fn rewrite<'g>(&self, cx: &PassContext<'g>) -> Result<Rewrite<'g>> {
        let graph = cx.graph();
        let from = graph.opset();
        let mut lower = Lower { cx, from, to: self.to, out: cx.rewrite() };
        if from <= self.to {
            return Ok(lower.out);
        }
        for (i, node) in graph.nodes().iter().enumerate() {
            if matches!(node.domain.as_str(), "" | "ai.onnx") {
                lower.node(i, node).map_err(|e| e.at(node.label()))?;
            }
        }
        let mut out = lower.out;
        let domain = if graph.opsets().contains_key("") { "" } else { "ai.onnx" };
        out.patch.set_opset(domain, self.to);
        out.done.push(format!("the operator set is lowered from {from} to {}", self.to));
        Ok(out)
    }
}

struct Lower<'c, 'g> {
    cx: &'c PassContext<'g>,
    from: i64,
    to: i64,
    out: Rewrite<'g>,
}

impl<'g> Lower<'_, 'g> {
    fn crosses(&self, version: i64) -> bool {
        self.to < version && version <= self.from
    }

    fn node(&mut self, i: usize, node: &'g Node) -> Result<()> {
        if node.inner().next().is_some() {
            return Err(Error::unsupported("graphs with inner graphs are not lowered").hint("export the model with the older operator set"));
        }
        self.types(node)?;
        let since = schema::of("", &node.op).and_then(|s| s.counts.first()).map_or(1, |c| c.0);
        if since > self.to {
            return self.replace(i, node, since);
        }
        let mut new = node.clone();
        self.convert(&mut new)?;
        for (name, since, plain) in later(&node.op, self.to) {
            let Some(value) = new.attrs.get(name) else { continue };
            if !plain.is(value) {
                return Err(Error::unsupported(format!("attribute '{name}' came with operator set {since}, and is not left out here")));
            }
            new.attrs.shift_remove(name);
        }
        if new != *node {
            *self.out.patch.edit(i) = new;
        }
        Ok(())
    }

    /// Element types that operators got later.
    fn types(&self, node: &Node) -> Result<()> {
        let facts = self.cx.facts()?;
        for (at, name) in node.inputs.iter().enumerate() {
            let Some(element) = facts.get(name).map(|f: &Fact| f.element) else { continue };
            let since = schema::late(&node.op, at, element);
            if since > self.to {
                return Err(Error::unsupported(format!("'{name}' is {element}, which {} takes since operator set {since}", node.op)));
            }
        }
        Ok(())
    }

    fn convert(&mut self, new: &mut Node) -> Result<()> {
        match new.op.as_str() {
            SQUEEZE | UNSQUEEZE if self.crosses(13) => self.input_to_ints(new, 1, "axes"),
            op if self.crosses(if op == REDUCE_SUM { 13 } else { 18 }) && reduce::OPS.iter().any(|o| o.name == op) => self.reduction(new),
            SPLIT => self.split(new),
            PAD if self.crosses(18) || self.crosses(19) => self.pad(new),
            RESIZE => self.resize(new),
            SOFTMAX | LOG_SOFTMAX | HARDMAX if self.crosses(13) => self.softmax(new),
            SCATTER_ELEMENTS | SCATTER_ND if self.crosses(18) && matches!(new.get_str("reduction", "none")?, "max" | "min") => {
                Err(Error::unsupported("the reductions \"max\" and \"min\" came with operator set 18"))
            }
            GRID_SAMPLE if self.crosses(20) && new.input(0).map(|x| self.cx.rank(x)).transpose()?.flatten() != Some(4) => {
                Err(Error::unsupported("grids over three axes came with operator set 20"))
            }
            GRID_SAMPLE if self.crosses(20) => {
                for (old, now) in [("bilinear", "linear"), ("bicubic", "cubic")] {
                    if new.get_str("mode", "linear")? == now {
                        new.attrs.insert("mode".into(), Attr::text(old));
                    }
                }
                Ok(())
            }
            DROPOUT if self.crosses(12) => {
                if new.output(1).is_some_and(|mask| self.cx.is_used(mask)) || new.input(2).is_some() {
                    return Err(Error::unsupported("a Dropout that trains, or whose mask is read, is not lowered"));
                }
                new.inputs.truncate(1);
                new.attrs.clear();
                Ok(())
            }
            QUANTIZE_LINEAR | DEQUANTIZE_LINEAR if self.crosses(13) => {
                let scale = new.input(1).and_then(|s| self.cx.graph().constant(s));
                if scale.is_some_and(|s| s.count() == 1 && s.dims().is_empty()) {
                    new.attrs.shift_remove("axis");
                    return Ok(());
                }
                Err(Error::unsupported("scales per channel came with operator set 13"))
            }
            ROI_ALIGN if self.crosses(16) && !new.attrs.contains_key("coordinate_transformation_mode") => {
                Err(Error::unsupported("positions from pixel centres, its default, came with operator set 16"))
            }
            GROUP_NORMALIZATION if self.crosses(21) => {
                Err(Error::unsupported("its scale is one for each channel, which operator set 20 cannot say"))
            }
            DFT if self.crosses(20) => Err(Error::unsupported("its axis is an input since operator set 20")),
            _ => Ok(()),
        }
    }

    /// Turns a constant input of integers, where there is one, into an attribute. The input must be the last.
    fn input_to_ints(&mut self, new: &mut Node, at: usize, name: &str) -> Result<()> {
        if new.input(at).is_some() {
            let computed = || Error::unsupported(format!("its {name} are computed, and an attribute before"));
            let values = self.cx.ints(new, at)?.ok_or_else(computed)?;
            new.attrs.insert(name.into(), Attr::Ints(values));
        }
        new.inputs.truncate(at);
        Ok(())
    }

    fn reduction(&mut self, new: &mut Node) -> Result<()> {
        self.input_to_ints(new, 1, "axes")?;
        if new.find_ints("axes")?.is_none_or(<[i64]>::is_empty) {
            new.attrs.shift_remove("axes");
        }
        Ok(())
    }

    fn split(&mut self, new: &mut Node) -> Result<()> {
        if self.crosses(18) && new.attrs.shift_remove("num_outputs").is_some() && new.input(1).is_none() {
            let sizes: Vec<Option<usize>> = new.outputs.iter().map(|o| self.size(o, new.get_int("axis", 0).unwrap_or(0))).collect();
            if sizes.iter().any(|s| s.is_none() || *s != sizes[0]) {
                return Err(Error::unsupported("its parts are not known to be equal").hint("open the model with image_size or batch"));
            }
        }
        if self.crosses(13) { self.input_to_ints(new, 1, "split") } else { Ok(()) }
    }

    /// The size of an axis of a value.
    fn size(&self, name: &str, axis: i64) -> Option<usize> {
        let fact = self.cx.facts().ok()?.get(name)?;
        fact.dim(isize::try_from(axis).ok()?)
    }

    fn pad(&mut self, new: &mut Node) -> Result<()> {
        if self.crosses(19) && new.get_str("mode", "constant")? == "wrap" {
            return Err(Error::unsupported("the mode \"wrap\" came with operator set 19"));
        }
        if !self.crosses(18) {
            return Ok(());
        }
        if new.input(3).is_some() {
            let rank = self.cx.rank(new.input(0).unwrap_or_default())?;
            let (Some(axes), Some(pads), Some(rank)) = (self.cx.ints(new, 3)?, self.cx.ints(new, 1)?, rank) else {
                return Err(Error::unsupported("its axes came with operator set 18, and are not constant with its pads"));
            };
            let mut all = vec![0; 2 * rank];
            for (i, axis) in axes.iter().enumerate() {
                let axis = normalize_axis(*axis, rank)?;
                let (Some(before), Some(after)) = (pads.get(i), pads.get(axes.len() + i)) else {
                    return Err(Error::format("two pads are needed for each axis"));
                };
                (all[axis], all[rank + axis]) = (*before, *after);
            }
            new.inputs[1] = self.constant(new, "pads", Constant::ints(&all));
            new.inputs.truncate(3);
        }
        while new.inputs.last().is_some_and(String::is_empty) {
            new.inputs.pop();
        }
        Ok(())
    }

    fn resize(&mut self, new: &mut Node) -> Result<()> {
        if self.crosses(19) && new.get_str("coordinate_transformation_mode", "half_pixel")? == "half_pixel_symmetric" {
            return Err(Error::unsupported("the coordinates \"half_pixel_symmetric\" came with operator set 19"));
        }
        // Region and scales may be left out since set 13.
        if self.crosses(13) {
            for at in [1, 2] {
                if new.inputs.len() <= at || new.inputs[at].is_empty() {
                    new.inputs.resize(new.inputs.len().max(at + 1), String::new());
                    new.inputs[at] = self.constant(new, "none", Constant::floats(&[0], &[])?);
                }
            }
        }
        Ok(())
    }

    /// Before set 13 it runs over all axes from `axis` on: the axis goes last.
    fn softmax(&mut self, new: &mut Node) -> Result<()> {
        let (x, y) = (new.input(0).unwrap_or_default().to_string(), new.output(0).unwrap_or_default().to_string());
        let rank = self.cx.rank(&x)?.ok_or_else(|| Error::unsupported(format!("the number of axes of '{x}' is not known")))?;
        let axis = normalize_axis(new.get_int("axis", -1)?, rank)?;
        let last = rank - 1;
        new.attrs.insert("axis".into(), Attr::Int(last as i64));
        if axis != last {
            let mut order: Vec<i64> = (0..rank as i64).collect();
            order.swap(axis, last);
            let before = self.add(TRANSPOSE, new, &[&x], |n| n.ints("perm", &order));
            let after = self.out.patch.fresh(&format!("{y}_last"));
            new.inputs[0] = before;
            new.outputs[0].clone_from(&after);
            let name = self.out.patch.fresh(&format!("{y}_{TRANSPOSE}"));
            self.out.patch.add(Node::new(TRANSPOSE, name, [after], [y]).ints("perm", &order));
        }
        Ok(())
    }

    /// What an operator that came later is defined by.
    fn replace(&mut self, i: usize, node: &'g Node, since: i64) -> Result<()> {
        let x = node.input(0).unwrap_or_default();
        let unknown = || Error::unsupported(format!("{} came with operator set {since}", node.op));
        let element = self.cx.facts()?.get(x).map(|f| f.element);
        if element != Some(Element::F32) {
            return Err(unknown());
        }
        let [a, b] = match node.op.as_str() {
            HARD_SWISH => [x.to_string(), self.add(HARD_SIGMOID, node, &[x], |n| n.float("alpha", 1.0 / 6.0).float("beta", 0.5))],
            MISH => {
                let soft = self.add(SOFTPLUS, node, &[x], |n| n);
                [x.to_string(), self.add(TANH, node, &[&soft], |n| n)]
            }
            GELU if node.get_str("approximate", "none")? == "none" => {
                let (root, one, half) = (self.number(node, 2f32.sqrt()), self.number(node, 1.0), self.number(node, 0.5));
                let part = self.add(DIV, node, &[x, &root], |n| n);
                let erf = self.add(ERF, node, &[&part], |n| n);
                let above = self.add(ADD, node, &[&erf, &one], |n| n);
                [self.add(MUL, node, &[x, &half], |n| n), above]
            }
            LAYER_NORMALIZATION if node.outputs.iter().skip(1).all(String::is_empty) => return self.layer_norm(i, node),
            _ => return Err(unknown()),
        };
        let new = self.out.patch.edit(i);
        new.op = MUL.into();
        new.inputs = vec![a, b];
        new.attrs.clear();
        Ok(())
    }

    fn layer_norm(&mut self, i: usize, node: &Node) -> Result<()> {
        let x = node.input(0).unwrap_or_default();
        let rank = self.cx.rank(x)?.ok_or_else(|| Error::unsupported(format!("the number of axes of '{x}' is not known")))?;
        let axes: Vec<i64> = (normalize_axis(node.get_int("axis", -1)?, rank)? as i64..rank as i64).collect();
        // Before 18, to which it is lowered here, the axes are an attribute.
        let epsilon = self.number(node, node.get_float("epsilon", 1e-5)?);
        let mean = self.add(REDUCE_MEAN, node, &[x], |n| n.ints("axes", &axes));
        let centred = self.add(SUB, node, &[x, &mean], |n| n);
        let square = self.add(MUL, node, &[&centred, &centred], |n| n);
        let variance = self.add(REDUCE_MEAN, node, &[&square], |n| n.ints("axes", &axes));
        let above = self.add(ADD, node, &[&variance, &epsilon], |n| n);
        let root = self.add(SQRT, node, &[&above], |n| n);
        let mut last = (DIV, centred, root);
        for (op, at) in [(MUL, 1), (ADD, 2)] {
            if let Some(with) = node.input(at) {
                let made = self.add(last.0, node, &[&last.1, &last.2], |n| n);
                last = (op, made, with.to_string());
            }
        }
        let new = self.out.patch.edit(i);
        (new.op, new.inputs) = (last.0.into(), vec![last.1, last.2]);
        new.attrs.clear();
        new.outputs.truncate(1);
        Ok(())
    }

    /// Adds a node beside `beside`, and gives its output.
    fn add(&mut self, op: &str, beside: &Node, inputs: &[&str], set: impl FnOnce(Node) -> Node) -> String {
        let stem = beside.output(0).unwrap_or("value");
        self.out.patch.op(op, stem, inputs.iter().copied(), set)
    }

    fn constant(&mut self, beside: &Node, what: &str, value: Constant) -> String {
        self.out.patch.constant(&format!("{}_{what}", beside.output(0).unwrap_or("value")), value)
    }

    fn number(&mut self, beside: &Node, value: f32) -> String {
        self.constant(beside, "number", Constant::scalar(value))
    }
}
