//! Merges convolutions of one value whose results are added.
//!
//! A convolution is linear in its weight, so that a sum of two over one value is one with the sum of the weights, where the taps of one are
//! taps of the other. A BatchNormalization of the value itself is a convolution of one tap. So do blocks that are trained with several branches
//! (RepVGG, MobileOne) become one layer. Computed in float64 and rounded once to the weight's own type.
//!
//! ONNX: [Conv](https://onnx.ai/onnx/operators/onnx__Conv.html), [Add](https://onnx.ai/onnx/operators/onnx__Add.html),
//! [BatchNormalization](https://onnx.ai/onnx/operators/onnx__BatchNormalization.html).

use super::{Pass, PassContext, Rewrite};
use crate::constant::Constant;
use crate::element::Element;
use crate::graph::Node;
use crate::ops::arithmetic::ADD;
use crate::ops::conv::CONV;
use crate::ops::norm::BATCH_NORMALIZATION;
use crate::ops::window::{AutoPad, WindowAttrs};
use compresso_base::error::Result;
use std::collections::HashSet;

/// Merges convolutions and batch normalizations of one value whose results are added.
#[derive(Debug, Clone, Copy)]
pub struct MergeParallelConvs;

impl Pass for MergeParallelConvs {
    fn name(&self) -> &'static str {
        "merge_parallel_convs"
    }
    fn summary(&self) -> &'static str {
        "Merges convolutions and batch normalizations of one value whose results are added"
    }
    fn rewrite<'g>(&self, cx: &PassContext<'g>) -> Result<Rewrite<'g>> {
        let mut out = cx.rewrite();
        let mut touched: HashSet<usize> = HashSet::new();
        for (i, add) in cx.graph().nodes().iter().enumerate().filter(|(_, n)| n.is(ADD)) {
            let branch =
                |input: usize| add.input(input).and_then(|x| cx.producer(x)).filter(|(_, n)| n.is(CONV) || n.is(BATCH_NORMALIZATION));
            let (Some((p, a)), Some((q, b))) = (branch(0), branch(1)) else { continue };
            let apart = p == q || a.input(0).is_none() || a.input(0) != b.input(0) || !a.is(CONV) && !b.is(CONV);
            if apart || touched.contains(&p) || touched.contains(&q) {
                continue;
            }
            match merge(cx, a, b).map_err(|e| e.at(add.label()))? {
                Err(reason) => out.refused.push(format!("{} and {} stay: {reason}", a.label(), b.label())),
                Ok(Merged { weight, bias, second }) => {
                    let (kept, layer, gone) = if second { (q, b, p) } else { (p, a, q) };
                    touched.extend([p, q]);
                    let name = out.patch.fresh(&format!("{}_merged", layer.inputs[1]));
                    let bias_name = out.patch.fresh(&format!("{name}_bias"));
                    out.patch.set_constant(&name, weight);
                    out.patch.set_constant(&bias_name, bias);
                    let edited = out.patch.edit(kept);
                    edited.inputs.truncate(1);
                    edited.inputs.extend([name, bias_name]);
                    out.patch.remove(gone);
                    out.patch.remove(i);
                    out.patch.redirect(&add.outputs[0], &layer.outputs[0]);
                    out.done.push(format!("{} and {} are one layer", a.label(), b.label()));
                }
            }
        }
        Ok(out)
    }
}

struct Merged {
    weight: Constant,
    bias: Constant,
    /// The layer that stays is the second.
    second: bool,
}

/// A convolution with constant weights `[out, in / groups, kernel…]`.
struct Branch {
    element: Element,
    outs: usize,
    ins: usize,
    groups: usize,
    window: WindowAttrs,
    weight: Vec<f64>,
    bias: Vec<f64>,
}

/// The layer that does the work of two, or why there is none.
fn merge(cx: &PassContext<'_>, a: &Node, b: &Node) -> Result<Result<Merged, String>> {
    for node in [a, b] {
        if cx.sole_reader(&node.outputs[0]).is_none() {
            return Ok(Err(format!("'{}' has other readers", node.outputs[0])));
        }
    }
    let mut found = Vec::new();
    for (node, other) in [(a, b), (b, a)] {
        match if node.is(CONV) { conv(cx, node)? } else { norm(cx, node, other)? } {
            Ok(branch) => found.push(branch),
            Err(reason) => return Ok(Err(reason)),
        }
    }
    let taps = |b: &Branch| b.window.kernel.iter().product::<usize>();
    // A batch norm has no weight to be replaced.
    let second = !a.is(CONV) || b.is(CONV) && taps(&found[1]) > taps(&found[0]);
    if second {
        found.reverse();
    }
    let [mut wide, narrow] = match <[Branch; 2]>::try_from(found) {
        Ok(two) => two,
        Err(_) => return Ok(Err("there are not two".into())),
    };
    if let Some(reason) = differ(&wide, &narrow) {
        return Ok(Err(reason));
    }
    let Some(places) = places(&wide.window, &narrow.window) else {
        return Ok(Err("no window lies in the other".into()));
    };
    let (all, some) = (taps(&wide), taps(&narrow));
    for (i, w) in narrow.weight.iter().enumerate() {
        wide.weight[i / some * all + places[i % some]] += w;
    }
    wide.bias.iter_mut().zip(&narrow.bias).for_each(|(a, b)| *a += b);
    if wide.weight.iter().chain(&wide.bias).any(|v| !v.is_finite()) {
        return Ok(Err("a weight would be infinite or undefined".into()));
    }
    let dims = [&[wide.outs, wide.ins], wide.window.kernel.as_slice()].concat();
    let weight = Constant::rounded(wide.element, &dims, wide.weight)?;
    Ok(Ok(Merged { weight, bias: Constant::rounded(wide.element, &[wide.outs], wide.bias)?, second }))
}

/// What keeps two branches from being one, apart from their windows' taps.
fn differ(a: &Branch, b: &Branch) -> Option<String> {
    let (v, w) = (&a.window, &b.window);
    if a.element != b.element {
        return Some("their weights have different types".into());
    }
    if (a.outs, a.ins, a.groups, v.kernel.len()) != (b.outs, b.ins, b.groups, w.kernel.len()) {
        return Some("their channels, groups or axes differ".into());
    }
    if v.stride != w.stride {
        return Some("their strides differ".into());
    }
    // With one stride, equal sizes for any input.
    let same = (0..v.kernel.len()).all(|d| {
        let (sum_v, sum_w) = (v.pad_begin[d] + v.pad_end[d], w.pad_begin[d] + w.pad_end[d]);
        sum_v + w.extent(d) == sum_w + v.extent(d)
    });
    (!same).then(|| "they make results of different sizes".into())
}

/// The tap of the wide window that each tap of the narrow one is, in row-major order.
fn places(wide: &WindowAttrs, narrow: &WindowAttrs) -> Option<Vec<usize>> {
    let mut places = vec![0];
    for d in 0..wide.kernel.len() {
        let along = (0..narrow.kernel[d]).map(|k| {
            let at = (k * narrow.dilation[d] + wide.pad_begin[d]).checked_sub(narrow.pad_begin[d])?;
            let tap = at / wide.dilation[d];
            (at % wide.dilation[d] == 0 && tap < wide.kernel[d]).then_some(tap)
        });
        let along = along.collect::<Option<Vec<usize>>>()?;
        places = places.iter().flat_map(|p| along.iter().map(move |k| p * wide.kernel[d] + k)).collect();
    }
    Some(places)
}

fn conv(cx: &PassContext<'_>, node: &Node) -> Result<Result<Branch, String>> {
    let constant = |i: usize| node.input(i).map(|n| cx.graph().constant(n));
    let Some(Some(weight)) = constant(1) else { return Ok(Err(format!("the weight of {} is not a constant", node.label()))) };
    let dims = weight.dims();
    if dims.len() < 3 || !matches!(weight.element(), Element::F32 | Element::F64 | Element::F16 | Element::BF16) {
        return Ok(Err(format!("the weight of {} is not that of floats over spatial axes", node.label())));
    }
    let bias = match constant(2) {
        None => vec![0.0; dims[0]],
        Some(Some(b)) if b.count() == dims[0] && b.element() == weight.element() => b.to_f64s()?,
        Some(_) => return Ok(Err(format!("the bias of {} is not a constant per channel", node.label()))),
    };
    let window = WindowAttrs::of(node, Some(&dims[2..]), dims.len() - 2)?;
    if !matches!(window.auto_pad, AutoPad::Explicit | AutoPad::Valid) {
        return Ok(Err(format!("{} works its pads out from the size", node.label())));
    }
    let groups = usize::try_from(node.get_int("group", 1)?).unwrap_or(1).max(1);
    Ok(Ok(Branch { element: weight.element(), outs: dims[0], ins: dims[1], groups, window, weight: weight.to_f64s()?, bias }))
}

/// A batch norm as a convolution of one tap with the groups and strides of another, of stride 1.
fn norm(cx: &PassContext<'_>, bn: &Node, other: &Node) -> Result<Result<Branch, String>> {
    let like = match conv(cx, other)? {
        Ok(like) => like,
        Err(reason) => return Ok(Err(reason)),
    };
    if bn.get_int("training_mode", 0)? != 0 || bn.outputs.iter().skip(1).any(|o| cx.is_used(o)) {
        return Ok(Err(format!("{} takes statistics", bn.label())));
    }
    let mut given = Vec::new();
    for i in 1..5 {
        match bn.input(i).and_then(|n| cx.graph().constant(n)) {
            Some(c) if c.count() == like.outs => given.push(c.to_f64s()?),
            _ => return Ok(Err(format!("input {i} of {} is not a constant per output channel", bn.label()))),
        }
    }
    if like.outs != like.ins * like.groups || like.window.stride.iter().any(|&s| s != 1) {
        return Ok(Err(format!("{} does not make an image like its input", other.label())));
    }
    let epsilon = f64::from(bn.get_float("epsilon", 1e-5)?);
    let scale: Vec<f64> = given[0].iter().zip(&given[3]).map(|(g, v)| g / (v + epsilon).sqrt()).collect();
    let bias = (0..like.outs).map(|c| given[1][c] - given[2][c] * scale[c]).collect();
    let mut weight = vec![0.0; like.outs * like.ins];
    (0..like.outs).for_each(|c| weight[c * like.ins + c % like.ins] = scale[c]);
    let one = vec![1; like.window.kernel.len()];
    let none = vec![0; one.len()];
    let window = WindowAttrs {
        kernel: one.clone(),
        stride: one.clone(),
        dilation: one,
        pad_begin: none.clone(),
        pad_end: none,
        auto_pad: AutoPad::Explicit,
        ceil: false,
    };
    Ok(Ok(Branch { window, weight, bias, ..like }))
}
