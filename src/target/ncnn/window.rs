//! Windows that slide over one to three axes: convolutions, their transposes, pools.

use super::build::{Build, input};
use super::net::{Layer, Weight};
use super::shape::image;
use compresso_base::error::{Error, Result};
use compresso_model::Node;

/// A window's sizes, outermost axis first.
#[derive(Debug)]
pub(super) struct Window {
    pub kernel: Vec<usize>,
    pub stride: Vec<usize>,
    pub dilation: Vec<usize>,
    /// What is padded before and after each axis.
    pub before: Vec<usize>,
    pub after: Vec<usize>,
}

impl Window {
    /// The window that a node's attributes say, over axes with `sizes` elements.
    pub(super) fn of(node: &Node, kernel: &[usize], sizes: &[usize]) -> Result<Self> {
        let rank = kernel.len();
        let list = |name: &str| -> Result<Vec<usize>> {
            match node.find_ints(name)? {
                Some(v) if !v.is_empty() => v.iter().map(|&v| positive(name, v)).collect(),
                _ => Ok(vec![1; rank]),
            }
        };
        let (stride, dilation) = (list("strides")?, list("dilations")?);
        if sizes.len() != rank || stride.len() != rank || dilation.len() != rank || stride.contains(&0) || kernel.contains(&0) {
            return Err(Error::shape(format!("a window {kernel:?} with strides {stride:?} over {sizes:?}")));
        }
        let (mut before, mut after) = (vec![0; rank], vec![0; rank]);
        match node.get_str("auto_pad", "NOTSET")? {
            "VALID" => {}
            same @ ("SAME_UPPER" | "SAME_LOWER") => {
                for i in 0..rank {
                    let needed = (sizes[i].div_ceil(stride[i]) - 1) * stride[i] + (kernel[i] - 1) * dilation[i] + 1;
                    let total = needed.saturating_sub(sizes[i]);
                    let small = total / 2;
                    (before[i], after[i]) = if same == "SAME_UPPER" { (small, total - small) } else { (total - small, small) };
                }
            }
            _ => {
                if let Some(pads) = node.find_ints("pads")?.filter(|p| !p.is_empty()) {
                    let pads = pads.iter().map(|&p| positive("pads", p)).collect::<Result<Vec<_>>>()?;
                    if pads.len() != 2 * rank {
                        return Err(Error::shape(format!("{} pads for {rank} axes", pads.len())));
                    }
                    (before, after) = (pads[..rank].to_vec(), pads[rank..].to_vec());
                }
            }
        }
        Ok(Self { kernel: kernel.to_vec(), stride, dilation, before, after })
    }

    /// Kernel, dilation, stride and padding as convolutions have them.
    fn on(&self, layer: Layer) -> Layer {
        const IDS: [[u32; 5]; 3] = [[1, 2, 3, 4, 15], [11, 12, 13, 14, 16], [21, 22, 23, 24, 17]];
        let axes = [&self.kernel, &self.dilation, &self.stride, &self.before, &self.after];
        // Width comes first.
        (0..self.kernel.len()).fold(layer, |layer, i| {
            let at = self.kernel.len() - 1 - i;
            axes.iter().zip(IDS[i]).fold(layer, |layer, (sizes, id)| layer.int(id, sizes[at]))
        })
    }
}

fn positive(name: &str, value: i64) -> Result<usize> {
    usize::try_from(value).map_err(|_| Error::unsupported(format!("attribute '{name}' has {value}, and NCNN takes no negative one")))
}

/// Channels and spatial sizes of a tensor with a batch of one.
pub(super) fn channels_of(dims: &[usize]) -> Result<(usize, &[usize])> {
    match dims {
        [1, channels, spatial @ ..] if (1..=3).contains(&spatial.len()) => Ok((*channels, spatial)),
        [n, _, spatial @ ..] if (1..=3).contains(&spatial.len()) => {
            Err(Error::unsupported(format!("it works on a batch of {n}, and NCNN's blobs have no batch")))
        }
        _ => Err(Error::unsupported(format!("it works on {dims:?}; NCNN slides windows over one to three axes behind batch and channels"))),
    }
}

/// Where fewer products than so many add up to an output (first layers, depthwise ones), the weight stays in float32: it is small, and
/// what rounding to float16 changes is not averaged out.
const EXACT: usize = 32;

/// The weight of a layer, and of an int8 one the scales of its integers.
#[derive(Debug)]
pub(super) struct Numbers {
    pub weight: Weight,
    /// Scale of the input's integers, and of the weight's for each output channel.
    pub scales: Option<(f32, Vec<f32>)>,
    /// What the layer reads.
    pub source: String,
}

/// A convolution. `numbers`: its weight, dims `[outputs, inputs / group, …]`.
pub(super) fn conv(cx: &mut Build<'_>, node: &Node, numbers: Numbers) -> Result<()> {
    let (dims, weight, out) = (cx.input_dims(node, 0)?, cx.input_dims(node, 1)?, cx.output_dims(node)?);
    let (_, spatial) = channels_of(&dims)?;
    let window = Window::of(node, &weight[2..], spatial)?;
    let group = group(node)?;
    let kind = match (spatial.len(), group) {
        (1, 1) => "Convolution1D",
        (1, _) => "ConvolutionDepthWise1D",
        (2, 1) => "Convolution",
        (2, _) => "ConvolutionDepthWise",
        (_, 1) => "Convolution3D",
        _ => "ConvolutionDepthWise3D",
    };
    let layer = window.on(Layer::new(kind).int(0, weight[0]));
    finish(cx, node, layer, group, weight[0], numbers, (&dims[1..], &out[1..]))
}

fn group(node: &Node) -> Result<usize> {
    Ok(positive("group", node.get_int("group", 1)?)?.max(1))
}

fn finish(
    cx: &mut Build<'_>,
    node: &Node,
    layer: Layer,
    group: usize,
    outputs: usize,
    numbers: Numbers,
    (from, to): (&[usize], &[usize]),
) -> Result<()> {
    let bias = node.input(2).map(|_| cx.floats(node, 2, "the bias")).transpose()?;
    let count = match &numbers.weight {
        Weight::Tagged(v) | Weight::Exact(v) | Weight::Plain(v) => v.len(),
        Weight::Int8(v) => v.len(),
    };
    let mut layer = layer.int(5, usize::from(bias.is_some())).int(6, count);
    if group > 1 {
        layer = layer.int(7, group);
    }
    layer.weights.push(match numbers.weight {
        Weight::Tagged(v) if count < EXACT * outputs => Weight::Exact(v),
        weight => weight,
    });
    layer.weights.extend(bias.map(Weight::Plain));
    if let Some((input, weights)) = numbers.scales {
        let weights = if weights.len() == 1 { vec![weights[0]; outputs] } else { weights };
        // NCNN multiplies with scales.
        let turned = weights.iter().map(|s| 1.0 / s).collect();
        layer = layer.int(8, 1).weight(Weight::Plain(turned)).weight(Weight::Plain(vec![1.0 / input]));
    }
    let x = cx.view(&numbers.source, from)?;
    let blob = cx.layer(layer, &[x]);
    cx.made(node, blob, to.to_vec())
}

/// A transposed convolution, whose weight is `[inputs, outputs / group, …]` here and turned there.
pub(super) fn conv_transpose(cx: &mut Build<'_>, node: &Node) -> Result<()> {
    let (dims, weight, out) = (cx.input_dims(node, 0)?, cx.input_dims(node, 1)?, cx.output_dims(node)?);
    let (inputs, spatial) = channels_of(&dims)?;
    let group = group(node)?;
    if node.find_ints("output_shape")?.is_some_and(|s| !s.is_empty()) || node.get_str("auto_pad", "NOTSET")?.starts_with("SAME") {
        return Err(Error::unsupported("its padding follows from the shape of its output; NCNN wants explicit pads"));
    }
    let window = Window::of(node, &weight[2..], spatial)?;
    let extra = match node.find_ints("output_padding")? {
        Some(p) if !p.is_empty() => p.iter().map(|&p| positive("output_padding", p)).collect::<Result<Vec<_>>>()?,
        _ => vec![0; spatial.len()],
    };
    let kind = match (spatial.len(), group) {
        (1, 1) => "Deconvolution1D",
        (1, _) => "DeconvolutionDepthWise1D",
        (2, 1) => "Deconvolution",
        (2, _) => "DeconvolutionDepthWise",
        (_, 1) => "Deconvolution3D",
        _ => "DeconvolutionDepthWise3D",
    };
    let (per_group, taps) = (weight[1], weight[2..].iter().product::<usize>());
    let layer = window.on(Layer::new(kind).int(0, per_group * group));
    let layer = extra.iter().rev().zip([18, 19, 20]).fold(layer, |layer, (&p, id)| layer.int(id, p));
    let values = cx.floats(node, 1, "the weight")?;
    let from = inputs / group;
    let mut turned = Vec::with_capacity(values.len());
    for g in 0..group {
        for o in 0..per_group {
            for i in 0..from {
                let at = ((g * from + i) * per_group + o) * taps;
                turned.extend_from_slice(&values[at..at + taps]);
            }
        }
    }
    let numbers = Numbers { weight: Weight::Tagged(turned), scales: None, source: input(node, 0)?.to_string() };
    finish(cx, node, layer, group, per_group * group, numbers, (&dims[1..], &out[1..]))
}

/// A pool: its layer by the number of its axes, and the ids of kernel, stride, padding before and after of each axis, width first.
const POOLS: [&str; 3] = ["Pooling1D", "Pooling", "Pooling3D"];
const POOL_IDS: [[u32; 4]; 3] = [[1, 2, 3, 14], [11, 12, 13, 15], [21, 22, 23, 16]];

/// A largest or a mean value of each window.
pub(super) fn pool(cx: &mut Build<'_>, node: &Node, mean: bool) -> Result<()> {
    if node.output(1).is_some_and(|o| cx.is_read(o)) {
        return Err(Error::unsupported("NCNN's pools do not say where the largest value was"));
    }
    let (dims, out) = (cx.input_dims(node, 0)?, cx.output_dims(node)?);
    let (_, spatial) = channels_of(&dims)?;
    let kernel = node.find_ints("kernel_shape")?.ok_or_else(|| Error::format("attribute 'kernel_shape' is missing"))?;
    let kernel = kernel.iter().map(|&k| positive("kernel_shape", k)).collect::<Result<Vec<_>>>()?;
    let mut window = Window::of(node, &kernel, spatial)?;
    if window.dilation.iter().any(|&d| d != 1) {
        return Err(Error::unsupported("NCNN's pools have no dilation"));
    }
    let counts = node.get_int("count_include_pad", 0)? != 0;
    for i in 0..spatial.len() {
        // The last window may reach beyond the padding (ceil_mode); there it is padded further, which neither a largest value
        // nor a mean of what is not padding sees.
        let reach = (out[i + 2] - 1) * window.stride[i] + kernel[i];
        let end = reach.saturating_sub(spatial[i] + window.before[i]);
        if end > window.after[i] {
            if mean && counts {
                return Err(Error::unsupported(
                    "a mean that counts padding over windows that reach beyond it (ceil_mode, count_include_pad)",
                ));
            }
            window.after[i] = end;
        }
    }
    let rank = spatial.len();
    let layer = Layer::new(POOLS[rank - 1]).int(0, usize::from(mean)).int(5, 1).int(6, usize::from(mean && counts));
    let axes = [&window.kernel, &window.stride, &window.before, &window.after];
    let layer =
        (0..rank).fold(layer, |layer, i| axes.iter().zip(POOL_IDS[i]).fold(layer, |layer, (sizes, id)| layer.int(id, sizes[rank - 1 - i])));
    let x = cx.view(input(node, 0)?, &dims[1..])?;
    let blob = cx.layer(layer, &[x]);
    cx.made(node, blob, out[1..].to_vec())
}

/// A largest or a mean value of each channel.
pub(super) fn global_pool(cx: &mut Build<'_>, node: &Node, mean: bool) -> Result<()> {
    let dims = cx.input_dims(node, 0)?;
    let [n, channels, spatial @ ..] = dims.as_slice() else {
        return Err(Error::unsupported(format!("it works on {dims:?}, which has no channels")));
    };
    // Images of a batch are channels too: each is reduced alone.
    let count = n * channels;
    let x = cx.view(input(node, 0)?, &image(count, spatial))?;
    let blob = cx.layer(Layer::new("Pooling").int(0, usize::from(mean)).int(4, 1), &[x]);
    cx.made(node, blob, vec![count])
}
