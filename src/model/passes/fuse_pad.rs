//! Merges pads of zeros into the convolution that reads them.
//!
//! ONNX: [Pad](https://onnx.ai/onnx/operators/onnx__Pad.html), [Conv](https://onnx.ai/onnx/operators/onnx__Conv.html).

use super::{Pass, PassContext, Rewrite};
use crate::graph::{Attr, Node, normalize_axis};
use crate::ops::concat::PAD;
use crate::ops::conv::CONV;
use compresso_base::error::Result;

/// Merges pads of zeros into the convolution that reads them.
#[derive(Debug, Clone, Copy)]
pub struct FusePad;

impl Pass for FusePad {
    fn name(&self) -> &'static str {
        "fuse_pad_into_conv"
    }
    fn summary(&self) -> &'static str {
        "Merges pads of zeros into the convolution that reads them"
    }
    fn rewrite<'g>(&self, cx: &PassContext<'g>) -> Result<Rewrite<'g>> {
        let mut out = cx.rewrite();
        for (i, conv) in cx.graph().nodes().iter().enumerate().filter(|(_, n)| n.is(CONV)) {
            let Some((_, pad)) = conv.input(0).and_then(|x| cx.producer(x)).filter(|(_, n)| n.is(PAD)) else { continue };
            match merged(cx, pad, conv)? {
                Err(reason) => out.refused.push(format!("{} stays: {reason}", pad.label())),
                Ok(pads) => {
                    let edited = out.patch.edit(i);
                    edited.inputs[0].clone_from(&pad.inputs[0]);
                    edited.attrs.insert("pads".into(), Attr::Ints(pads));
                    edited.attrs.shift_remove("auto_pad");
                    out.done.push(format!("{} is merged into {}", pad.label(), conv.label()));
                }
            }
        }
        Ok(out)
    }
}

/// The convolution's pads with those of the Pad, or why they cannot be.
fn merged(cx: &PassContext<'_>, pad: &Node, conv: &Node) -> Result<Result<Vec<i64>, String>> {
    let mode = pad.get_str("mode", "constant")?;
    if mode != "constant" {
        return Ok(Err(format!("it pads by '{mode}', a convolution by zeros")));
    }
    if !matches!(conv.get_str("auto_pad", "NOTSET")?, "NOTSET" | "VALID") {
        return Ok(Err(format!("{} works its pads out from the size", conv.label())));
    }
    let zero = match pad.input(2) {
        None => pad.get_float("value", 0.0)? == 0.0,
        Some(value) => match cx.graph().constant(value) {
            Some(c) => c.to_f64s()?.iter().all(|&v| v == 0.0),
            None => false,
        },
    };
    if !zero {
        return Ok(Err("it pads by another number than zero".into()));
    }
    let Some(rank) = pad.input(0).map(|x| cx.rank(x)).transpose()?.flatten() else {
        return Ok(Err("the number of axes is not known".into()));
    };
    let (Some(given), true) = (cx.listed(pad, "pads", 1)?, rank > 2) else { return Ok(Err("its pads are not constant".into())) };
    let axes: Vec<usize> = match pad.input(3) {
        None => (0..rank).collect(),
        Some(_) => match cx.ints(pad, 3)? {
            Some(list) => list.into_iter().map(|a| normalize_axis(a, rank)).collect::<Result<_>>()?,
            None => return Ok(Err("its axes are not constant".into())),
        },
    };
    if given.len() != 2 * axes.len() {
        return Ok(Err("its pads do not fit its axes".into()));
    }
    let spatial = rank - 2;
    let mut pads = conv.find_ints("pads")?.map_or_else(|| vec![0; 2 * spatial], <[i64]>::to_vec);
    if pads.len() != 2 * spatial {
        return Ok(Err("the convolution's pads do not fit its axes".into()));
    }
    for (at, &axis) in axes.iter().enumerate() {
        let (before, after) = (given[at], given[axes.len() + at]);
        if before < 0 || after < 0 {
            return Ok(Err("it cuts off".into()));
        }
        match axis.checked_sub(2) {
            None if before != 0 || after != 0 => return Ok(Err("it pads images or channels".into())),
            None => {}
            Some(axis) => {
                for (to, by) in [(axis, before), (spatial + axis, after)] {
                    let Some(sum) = pads[to].checked_add(by) else { return Ok(Err("its pads are too large".into())) };
                    pads[to] = sum;
                }
            }
        }
    }
    Ok(Ok(pads))
}
