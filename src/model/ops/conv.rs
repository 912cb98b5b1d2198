//! Conv, ConvTranspose, ConvInteger.
//!
//! <https://onnx.ai/onnx/operators/onnx__Conv.html>,
//! <https://onnx.ai/onnx/operators/onnx__ConvTranspose.html>,
//! <https://onnx.ai/onnx/operators/onnx__ConvInteger.html>

mod labels;

use super::backward::{Back, Flow};
use super::cost::{self, CostInput};
use super::def::{OpDef, ParamKind, operators};
use super::facts::at_least_one;
use super::run::Exec;
use super::weight::{ChannelAxis, WeightAxes, WeightRule};
use super::window::{AutoPad, WindowAttrs};
use crate::element::Element;
use crate::graph::{Cost, Dim, Fact, Infer, Node};
use crate::value::Value;
use candle_core::{DType, Tensor};
use compresso_base::error::{Error, Result};
use compresso_kernels::{ConvShape, Window, ops};

operators! {
    pub const CONV: &str = "Conv";
    pub const CONV_TRANSPOSE: &str = "ConvTranspose";
    pub const CONV_INTEGER: &str = "ConvInteger";
}

/// Convolutions, transposed ones and those on integers.
pub const OPS: &[OpDef] = &[
    OpDef::new(CONV, &[1, 11, 22], infer_conv, conv)
        .cost(conv_cost)
        .layer(WeightRule::new(1, conv_axes).integer(CONV_INTEGER))
        .params(&[(1, ParamKind::Weight), (2, ParamKind::Bias)])
        .backward(|_| Some(conv_backward))
        .channels(labels::conv),
    OpDef::new(CONV_TRANSPOSE, &[1, 11, 22], infer_transpose, transpose)
        .cost(transpose_cost)
        .layer(WeightRule::new(1, transpose_axes))
        .params(&[(1, ParamKind::Weight), (2, ParamKind::Bias)])
        .channels(labels::conv_transpose),
    INTEGER,
];

/// ConvInteger, which QLinearConv is made of too.
pub(super) const INTEGER: OpDef =
    OpDef::new(CONV_INTEGER, &[10], infer_integer, integer).cost(conv_cost).quantized(Some(WeightRule::new(1, conv_axes)));

/// `[out, in / groups, window…]`.
pub(super) fn conv_axes(node: &Node, rank: usize) -> Result<Option<WeightAxes>> {
    let axes = WeightAxes { output: ChannelAxis::whole(0), input: ChannelAxis { axis: 1, groups: groups(node)? } };
    Ok((rank >= 2).then_some(axes))
}

/// `[in, out / groups, window…]`.
fn transpose_axes(node: &Node, rank: usize) -> Result<Option<WeightAxes>> {
    let axes = WeightAxes { output: ChannelAxis { axis: 1, groups: groups(node)? }, input: ChannelAxis::whole(0) };
    Ok((rank >= 2).then_some(axes))
}

fn groups(node: &Node) -> Result<usize> {
    at_least_one(node, "group")
}

/// Checks channels `[in, weight's first, weight's second]` of a convolution.
fn check_channels(node: &Node, x: usize, w: [usize; 2], groups: usize) -> Result<()> {
    let all = w[1].checked_mul(groups).ok_or_else(|| Error::shape(format!("{groups} groups of {} channels", w[1])))?;
    let (inputs, outputs) = if node.op == "ConvTranspose" { (w[0], all) } else { (all, w[0]) };
    if x != inputs {
        return Err(Error::shape(format!("the weight expects {inputs} input channels (groups: {groups}), got {x}")));
    }
    if inputs % groups != 0 || outputs % groups != 0 {
        return Err(Error::shape(format!("{inputs} input and {outputs} output channels do not divide into {groups} groups")));
    }
    Ok(())
}

/// The fact of a convolution's output of type `element`; `size` gives each spatial size.
fn infer_with(cx: &Infer<'_>, element: Element, size: impl Fn(&WindowAttrs, usize, &Dim) -> Result<Dim>) -> Result<Vec<Fact>> {
    let (Some(x), Some(w)) = (cx.shape(0)?, cx.shape(1)?) else { return Ok(vec![Fact::unranked(element)]) };
    if x.len() < 3 || x.len() != w.len() {
        return Err(Error::shape(format!(
            "expected [batch, channels, spatial…] and a weight of the same rank, got ranks {} and {}",
            x.len(),
            w.len()
        )));
    }
    let groups = groups(cx.node)?;
    if let (Some(c), Some(w0), Some(w1)) = (x[1].known(), w[0].known(), w[1].known()) {
        check_channels(cx.node, c, [w0, w1], groups)?;
    }
    let channels = if cx.node.op == "ConvTranspose" { w[1].times(&Dim::Known(groups)) } else { w[0].clone() };
    let kernel: Option<Vec<usize>> = w[2..].iter().map(Dim::known).collect();
    let mut shape = vec![x[0].clone(), channels];
    match (&kernel, cx.node.find_ints("kernel_shape")?) {
        (None, None) => shape.resize(x.len(), Dim::Unknown),
        _ => {
            let attrs = WindowAttrs::of(cx.node, kernel.as_deref(), x.len() - 2)?;
            for (d, n) in x[2..].iter().enumerate() {
                shape.push(size(&attrs, d, n)?);
            }
        }
    }
    Ok(vec![Fact::new(element, shape)])
}

fn infer_conv(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    infer_with(cx, cx.input(0)?.element, WindowAttrs::output)
}

fn infer_integer(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    infer_with(cx, Element::I32, WindowAttrs::output)
}

fn infer_transpose(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    let rank = cx.shape(0)?.map_or(0, |s| s.len().saturating_sub(2));
    let extra = TransposeAttrs::of(cx.node, rank)?;
    infer_with(cx, cx.input(0)?.element, |attrs, d, n| {
        if let Some(size) = &extra.output {
            return Ok(Dim::Known(size[d]));
        }
        let (stride, add) = (attrs.stride[d], (attrs.extent(d) as i64).saturating_add(extra.padding[d] as i64));
        if matches!(attrs.auto_pad, AutoPad::SameUpper | AutoPad::SameLower) {
            return Ok(n.times(&Dim::Known(stride)));
        }
        let add = add - stride as i64 - (attrs.pad_begin[d] + attrs.pad_end[d]) as i64;
        Ok(match (stride, add) {
            (_, 0) => n.times(&Dim::Known(stride)),
            _ => n.map(&format!("({stride}*{{}}{add:+})"), |n| {
                usize::try_from(i64::try_from(n.checked_mul(stride)?).ok()?.checked_add(add)?).ok()
            }),
        })
    })
}

/// Attributes of ConvTranspose that Conv lacks.
struct TransposeAttrs {
    padding: Vec<usize>,
    output: Option<Vec<usize>>,
}

impl TransposeAttrs {
    fn of(node: &Node, rank: usize) -> Result<Self> {
        let list = |name: &str| -> Result<Option<Vec<usize>>> {
            let Some(v) = node.find_ints(name)?.filter(|v| !v.is_empty()) else { return Ok(None) };
            // Some exporters write the batch and channels too.
            let v = if v.len() == rank + 2 { &v[2..] } else { v };
            let sizes: Option<Vec<usize>> = v.iter().map(|&x| usize::try_from(x).ok()).collect();
            match sizes {
                Some(s) if s.len() == rank => Ok(Some(s)),
                _ => Err(Error::format(format!("attribute '{name}' must have {rank} sizes, got {v:?}"))),
            }
        };
        Ok(Self { padding: list("output_padding")?.unwrap_or_else(|| vec![0; rank]), output: list("output_shape")? })
    }
}

/// The window of the convolution that a ConvTranspose is the transpose of: its input is the operator's output.
fn transpose_window(node: &Node, kernel: &[usize], input: &[usize]) -> Result<Window> {
    let rank = input.len();
    let attrs = WindowAttrs::of(node, Some(kernel), rank)?;
    let extra = TransposeAttrs::of(node, rank)?;
    let (mut begin, mut end) = (attrs.pad_begin.clone(), attrs.pad_end.clone());
    let mut sizes = Vec::with_capacity(rank);
    for d in 0..rank {
        let steps = input[d].saturating_mul(attrs.stride[d]);
        let full = steps.saturating_add(extra.padding[d]).saturating_add(attrs.extent(d)).saturating_sub(attrs.stride[d]);
        let same = matches!(attrs.auto_pad, AutoPad::SameUpper | AutoPad::SameLower);
        let wanted = match &extra.output {
            Some(size) => Some(size[d]),
            None if same => Some(input[d].saturating_mul(attrs.stride[d])),
            None => None,
        };
        sizes.push(match wanted {
            Some(size) => {
                let total = full.saturating_sub(size);
                let half = total / 2;
                begin[d] = if attrs.auto_pad == AutoPad::SameUpper { half } else { total - half };
                end[d] = total - begin[d];
                size
            }
            None => full.checked_sub(begin[d] + end[d]).ok_or_else(|| {
                Error::shape(format!("padding of {} leaves nothing of {full} positions of spatial axis {d}", begin[d] + end[d]))
            })?,
        });
    }
    let window = Window {
        input: sizes,
        kernel: attrs.kernel,
        stride: attrs.stride,
        dilation: attrs.dilation,
        pad_begin: begin,
        pad_end: end,
        output: input.to_vec(),
    };
    window.check()?;
    Ok(window)
}

/// Checks the operands of a convolution at run time and gives the number of groups.
fn check(node: &Node, x: &Tensor, w: &Tensor) -> Result<usize> {
    let groups = groups(node)?;
    if x.rank() < 3 || x.rank() != w.rank() {
        return Err(Error::shape(format!(
            "expected [batch, channels, spatial…] and a weight of the same rank, got {:?} and {:?}",
            x.dims(),
            w.dims()
        )));
    }
    check_channels(node, x.dims()[1], [w.dims()[0], w.dims()[1]], groups)?;
    Ok(groups)
}

fn shape_of(node: &Node, x: &Tensor, w: &Tensor) -> Result<ConvShape> {
    let groups = check(node, x, w)?;
    let window = WindowAttrs::of(node, Some(&w.dims()[2..]), x.rank() - 2)?.resolve(&x.dims()[2..])?;
    Ok(ConvShape { batch: x.dims()[0], in_channels: x.dims()[1], out_channels: w.dims()[0], groups, window })
}

fn bias<'a>(cx: &Exec<'a>, channels: usize) -> Result<Option<&'a Tensor>> {
    match cx.get(2).map(|v| &v.tensor) {
        Some(b) if b.dims() != [channels] => Err(Error::shape(format!("expected a bias of [{channels}], got {:?}", b.dims()))),
        b => Ok(b),
    }
}

fn conv(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let (x, w) = (cx.tensor(0)?, cx.tensor(1)?);
    let shape = shape_of(cx.node, x, w)?;
    cx.one(ops::conv(&shape, x, w, bias(cx, shape.out_channels)?)?)
}

fn conv_backward(back: &Back<'_>) -> Result<Vec<(usize, Flow)>> {
    let (x, w) = (back.cx.tensor(0)?, back.cx.tensor(1)?);
    let shape = shape_of(back.cx.node, x, w)?;
    let needs = [0, 1, 2].map(|i| back.needs.get(i).is_some_and(|&n| n));
    let gradients = ops::conv_backward(&shape, x, w, back.gradient()?, needs)?;
    Ok(gradients.into_iter().enumerate().filter_map(|(i, g)| Some((i, Flow::Own(g?)))).collect())
}

fn transpose(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let (x, w) = (cx.tensor(0)?, cx.tensor(1)?);
    let groups = check(cx.node, x, w)?;
    let window = transpose_window(cx.node, &w.dims()[2..], &x.dims()[2..])?;
    let shape = ConvShape { batch: x.dims()[0], in_channels: w.dims()[1] * groups, out_channels: x.dims()[1], groups, window };
    cx.one(ops::conv_transpose(&shape, x, w, bias(cx, shape.in_channels)?)?)
}

/// Integer convolution: exact in float32, because every partial sum stays below 2^24, when the window is small; otherwise
/// split into parts of input channels that are.
fn integer(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let shape = shape_of(cx.node, cx.tensor(0)?, cx.tensor(1)?)?;
    let zeroed = |i: usize, zero: usize, axis: usize| -> Result<Tensor> {
        let t = cx.tensor(i)?.to_dtype(DType::F32)?;
        let Some(z) = cx.get(zero) else { return Ok(t) };
        let z = z.tensor.to_dtype(DType::F32)?;
        if z.elem_count() == 1 {
            return Ok(t.broadcast_sub(&z.reshape(vec![1; t.rank()])?)?);
        }
        let mut dims = vec![1; t.rank()];
        dims[axis] = z.elem_count();
        Ok(t.broadcast_sub(&z.reshape(dims)?)?)
    };
    let (x, w) = (zeroed(0, 2, 1)?, zeroed(1, 3, 0)?);
    let taps = shape.window.kernel_len();
    let Some(per_channel) = taps.checked_mul(255 * 255).filter(|&n| (1..=1 << 24).contains(&n)) else {
        return Err(Error::unsupported(format!("an integer convolution with a window of {taps} taps is not exact")));
    };
    let channels = w.dims()[1];
    let part = ((1 << 24) / per_channel).min(channels);
    let mut sum: Option<Tensor> = None;
    let mut start = 0;
    while start < channels {
        let len = part.min(channels - start);
        let (xs, s) = if len == channels {
            (x.clone(), shape.clone())
        } else {
            let pieces: Vec<Tensor> = (0..shape.groups).map(|g| x.narrow(1, g * channels + start, len)).collect::<Result<_, _>>()?;
            (Tensor::cat(&pieces, 1)?, ConvShape { in_channels: len * shape.groups, ..shape.clone() })
        };
        let y = ops::conv(&s, &xs, &w.narrow(1, start, len)?, None)?.to_dtype(DType::I32)?;
        sum = Some(match sum {
            Some(s) => (s + y)?,
            None => y,
        });
        start += len;
    }
    let y = sum.ok_or_else(|| Error::shape("a convolution without input channels"))?;
    Ok(vec![Value::new(Element::I32, y)?])
}

fn window_macs(cx: &CostInput<'_>) -> Option<u64> {
    let shape = cx.inputs.get(1).copied().flatten()?.shape.as_ref()?;
    shape.get(1..)?.iter().try_fold(1u64, |n, d| n.checked_mul(d.known()? as u64))
}

fn conv_cost(cx: &CostInput<'_>) -> Cost {
    let outputs = cx.outputs.first().and_then(|f| cost::elements(f));
    Cost { macs: outputs.zip(window_macs(cx)).map_or(0, |(o, w)| cost::times(o, w)), other: 0 }
}

fn transpose_cost(cx: &CostInput<'_>) -> Cost {
    let inputs = cx.inputs.first().copied().flatten().and_then(cost::elements);
    Cost { macs: inputs.zip(window_macs(cx)).map_or(0, |(o, w)| cost::times(o, w)), other: 0 }
}
