//! The modules that architecture files name: one table entry each.

use super::blocks::{Act, Conv, Feature};
use super::csp::Bottleneck;
use super::site::{Made, Site};
use super::yaml::Value;
use super::{anchors, detect};
use compresso_base::error::{Error, Result, nearest};

/// A module of architecture files.
pub struct Module {
    pub name: &'static str,
    /// Its arguments, in order.
    pub args: &'static [&'static str],
    /// Whether it reads more than one layer.
    pub joins: bool,
    pub emit: fn(&mut Site<'_>) -> Result<Made>,
}

const fn one(name: &'static str, args: &'static [&'static str], emit: fn(&mut Site<'_>) -> Result<Made>) -> Module {
    Module { name, args, joins: false, emit }
}
const fn many(name: &'static str, args: &'static [&'static str], emit: fn(&mut Site<'_>) -> Result<Made>) -> Module {
    Module { name, args, joins: true, emit }
}

const CSP: &[&str] = &["channels", "shortcut", "groups", "expansion"];

/// All modules.
const MODULES: &[Module] = &[
    one("Conv", &["channels", "kernel", "stride", "padding", "groups", "dilation", "activation"], conv),
    one("DWConv", &["channels", "kernel", "stride", "dilation", "activation"], dw_conv),
    one("Bottleneck", &["channels", "shortcut", "groups"], bottleneck),
    one("C2f", CSP, c2f),
    one("C3", CSP, c3),
    one("C3k", &["channels", "shortcut", "groups", "expansion", "kernel"], c3k),
    one("C3k2", &["channels", "c3k", "expansion", "attention", "groups", "shortcut"], c3k2),
    one("C2PSA", &["channels", "expansion"], c2psa),
    one("SPPF", &["channels", "kernel", "pools", "shortcut"], sppf),
    one("Upsample", &["size", "factor", "mode"], upsample),
    many("Concat", &["axis"], concat),
    one("LightweightAttention", &["reduction"], lightweight_attention),
    one("DepthwiseSeparable", &["channels", "stride"], separable),
    one("ResNetStem", &["channels"], resnet_stem),
    one("BasicBlock", &["channels", "stride"], basic_block),
    one("ResNetBottleneck", &["channels", "stride"], resnet_bottleneck),
    one("ConvNormReLU6", &["channels", "kernel", "stride"], conv_norm_relu6),
    one("InvertedResidual", &["channels", "stride", "expansion"], inverted_residual),
    many("Detect", &["classes", "branches"], detect::emit),
    many("DetectAnchors", &["classes"], anchors::emit),
    one("Classify", &["classes", "channels"], classify),
    one("Linear", &["classes"], linear),
];

/// The module of this name; `nn.` and `torch.nn.` before it are left out.
///
/// # Errors
/// `Unsupported`, with the nearest names.
pub fn find(name: &str) -> Result<&'static Module> {
    let plain = name.trim_start_matches("torch.").trim_start_matches("nn.");
    if let Some(module) = MODULES.iter().find(|m| m.name == plain) {
        return Ok(module);
    }
    let all = MODULES.iter().map(|m| m.name).collect::<Vec<_>>().join(", ");
    let e = Error::unsupported(format!("the module {name} is not supported"));
    Err(match nearest(plain, MODULES.iter().map(|m| m.name)) {
        Some(near) => e.hint(format!("did you mean {near}? Supported: {all}")),
        None => e.hint(format!("supported modules: {all}")),
    })
}

/// Largest kernel, stride and dilation.
const LARGEST_WINDOW: usize = 31;

/// Reads the arguments of a convolution, from the kernel on.
fn window(s: &Site<'_>, conv: Conv, kernel: usize, stride: usize, dilation: usize, activation: usize) -> Result<Conv> {
    let layer = s.layer;
    let [k, stride, d] =
        [layer.size(kernel, "kernel", Some(1))?, layer.size(stride, "stride", Some(1))?, layer.size(dilation, "dilation", Some(1))?];
    if k.max(stride).max(d) > LARGEST_WINDOW {
        return Err(layer.error(format!("kernel, stride and dilation must be at most {LARGEST_WINDOW}, got {k}, {stride} and {d}")));
    }
    let act = match layer.args.get(activation) {
        Some(Value::Text(name)) => match name.as_str() {
            "silu" | "nn.SiLU()" => Act::Silu,
            "relu" | "nn.ReLU()" => Act::Relu,
            "relu6" | "nn.ReLU6()" => Act::Relu6,
            _ => return Err(layer.error(format!("the activation {name} is not supported; silu, relu, relu6, true and false are"))),
        },
        _ if layer.flag(activation, "activation", true)? => Act::Silu,
        _ => Act::None,
    };
    Ok(Conv { kernel: k, stride, dilation: d, pad: d * (k - 1).div_ceil(2), act, ..conv })
}

fn conv(s: &mut Site<'_>) -> Result<Made> {
    let mut c = window(s, Conv::new(s.channels(0)?, 1), 1, 2, 5, 6)?;
    if !matches!(s.layer.args.get(3), None | Some(Value::Null)) {
        c.pad = s.layer.whole(3, "padding", LARGEST_WINDOW)?;
    }
    c.groups = s.layer.size(4, "groups", Some(1))?;
    let layer = s.layer;
    s.chain(|b, name, x| {
        if x.channels % c.groups != 0 || c.out % c.groups != 0 {
            return Err(layer.error(format!("{} groups do not divide {} and {} channels", c.groups, x.channels, c.out)));
        }
        b.conv(name, x, c)
    })
}

fn dw_conv(s: &mut Site<'_>) -> Result<Made> {
    let c = window(s, Conv::new(s.channels(0)?, 1), 1, 2, 3, 4)?;
    s.chain(|b, name, x| b.conv(name, x, c.depthwise(x.channels)))
}

/// Refuses arguments that have one possible value here.
fn ungrouped(s: &Site<'_>, i: usize) -> Result<()> {
    match s.layer.size(i, "groups", Some(1))? {
        1 => Ok(()),
        n => Err(s.layer.error(format!("argument {} (groups) must be 1, got {n}", i + 1))),
    }
}

fn bottleneck(s: &mut Site<'_>) -> Result<Made> {
    ungrouped(s, 2)?;
    let (out, shortcut) = (s.channels(0)?, s.layer.flag(1, "shortcut", true)?);
    s.chain(|b, name, x| b.bottleneck(name, x, out, Bottleneck { shortcut, ..Bottleneck::default() }))
}

fn c2f(s: &mut Site<'_>) -> Result<Made> {
    ungrouped(s, 2)?;
    let (out, shortcut, e) = (s.channels(0)?, s.layer.flag(1, "shortcut", false)?, s.layer.factor(3, "expansion", 0.5, 4.0)?);
    Ok(Made::Feature(s.b.c2f(&s.scope, &s.inputs[0], out, s.repeats, shortcut, e)?))
}

fn c3(s: &mut Site<'_>) -> Result<Made> {
    ungrouped(s, 2)?;
    let (out, shortcut, e) = (s.channels(0)?, s.layer.flag(1, "shortcut", true)?, s.layer.factor(3, "expansion", 0.5, 4.0)?);
    Ok(Made::Feature(s.b.c3(&s.scope, &s.inputs[0], out, s.repeats, shortcut, e)?))
}

fn c3k(s: &mut Site<'_>) -> Result<Made> {
    ungrouped(s, 2)?;
    let (out, shortcut, e) = (s.channels(0)?, s.layer.flag(1, "shortcut", true)?, s.layer.factor(3, "expansion", 0.5, 4.0)?);
    let k = odd(s, 4, 3)?;
    Ok(Made::Feature(s.b.c3k(&s.scope, &s.inputs[0], out, s.repeats, shortcut, e, k)?))
}

fn c3k2(s: &mut Site<'_>) -> Result<Made> {
    if s.layer.flag(3, "attention", false)? {
        return Err(s.layer.error("attention inside C3k2 is not supported"));
    }
    ungrouped(s, 4)?;
    // The larger models have the nested blocks everywhere.
    let nested = s.layer.flag(1, "c3k", false)? || ["m", "l", "x"].contains(&s.plan.scale.as_str());
    let (out, e) = (s.channels(0)?, s.layer.factor(2, "expansion", 0.5, 4.0)?);
    let shortcut = s.layer.flag(5, "shortcut", true)?;
    Ok(Made::Feature(s.b.c3k2(&s.scope, &s.inputs[0], out, s.repeats, nested, e, shortcut)?))
}

fn c2psa(s: &mut Site<'_>) -> Result<Made> {
    let (out, e) = (s.channels(0)?, s.layer.factor(1, "expansion", 0.5, 4.0)?);
    if out != s.inputs[0].channels {
        return Err(s.layer.error(format!("keeps the channels: it reads {} and is to give {out}", s.inputs[0].channels)));
    }
    Ok(Made::Feature(s.b.c2psa(&s.scope, &s.inputs[0], s.repeats, e)?))
}

/// Argument `i` as an odd kernel.
fn odd(s: &Site<'_>, i: usize, default: usize) -> Result<usize> {
    match s.layer.size(i, "kernel", Some(default))? {
        k if k % 2 == 1 && k <= LARGEST_WINDOW => Ok(k),
        k => Err(s.layer.error(format!("the kernel must be odd and at most {LARGEST_WINDOW}, got {k}"))),
    }
}

/// With its last two arguments it is the block of YOLO26, without an activation after the first convolution.
fn sppf(s: &mut Site<'_>) -> Result<Made> {
    let (out, k) = (s.channels(0)?, odd(s, 1, 5)?);
    let (n, shortcut) = (s.layer.size(2, "pools", Some(3))?, s.layer.flag(3, "shortcut", false)?);
    if n > 16 {
        return Err(s.layer.error(format!("the pools must be at most 16, got {n}")));
    }
    let act = if s.layer.args.len() > 2 { Act::None } else { Act::Silu };
    Ok(Made::Feature(s.b.sppf(&s.scope, &s.inputs[0], out, k, n, act, shortcut)?))
}

/// Arguments `[size, factor, mode]` with no size, as Ultralytics writes it, or `[factor, mode]`.
fn upsample(s: &mut Site<'_>) -> Result<Made> {
    let layer = s.layer;
    let factor = layer.size(usize::from(matches!(layer.args.first(), Some(Value::Null))), "factor", Some(2))?;
    if factor > 8 {
        return Err(layer.error(format!("the factor must be at most 8, got {factor}")));
    }
    if layer.args.iter().any(|a| matches!(a, Value::Text(m) if m != "nearest")) {
        return Err(layer.error("only nearest upsampling is supported"));
    }
    Ok(Made::Feature(s.b.upsample(&s.scope, &s.inputs[0], factor)?))
}

fn concat(s: &mut Site<'_>) -> Result<Made> {
    let first = &s.inputs[0];
    if let Some(f) = s.inputs.iter().find(|f| f.size != first.size) {
        return Err(s.layer.error(format!("joins maps of different sizes: {:?} and {:?}", first.size, f.size)));
    }
    Ok(Made::Feature(s.b.concat(&s.scope, &s.inputs.iter().collect::<Vec<_>>())))
}

/// The usual reduction of squeeze-and-excitation.
pub const REDUCTION: usize = 16;

fn lightweight_attention(s: &mut Site<'_>) -> Result<Made> {
    let reduction = s.layer.size(0, "reduction", Some(REDUCTION))?;
    Ok(Made::Feature(s.b.squeeze_excite(&s.scope, &s.inputs[0], reduction)?))
}

/// Argument `i` as a stride of 1 or 2.
fn stride(s: &Site<'_>, i: usize) -> Result<usize> {
    match s.layer.size(i, "stride", Some(1))? {
        n @ (1 | 2) => Ok(n),
        n => Err(s.layer.error(format!("argument {} (stride) must be 1 or 2, got {n}", i + 1))),
    }
}

/// Repeats beyond the first have stride 1.
fn separable(s: &mut Site<'_>) -> Result<Made> {
    let (out, mut stride) = (s.channels(0)?, stride(s, 1)?);
    s.chain(|b, name, x| b.separable(name, x, out, std::mem::replace(&mut stride, 1)))
}

fn resnet_stem(s: &mut Site<'_>) -> Result<Made> {
    let out = s.channels(0)?;
    Ok(Made::Feature(s.b.resnet_stem(&s.scope, &s.inputs[0], out)?))
}

/// A stage of residual blocks, numbered even when there is one; repeats beyond the first have stride 1.
fn stage(s: &mut Site<'_>, layers: &[(usize, usize)]) -> Result<Made> {
    let mut stride = stride(s, 1)?;
    let mut y: Feature = s.inputs[0].clone();
    for i in 0..s.repeats {
        y = s.b.residual(&format!("{}.{i}", s.scope), &y, layers, std::mem::replace(&mut stride, 1))?;
    }
    Ok(Made::Feature(y))
}

fn basic_block(s: &mut Site<'_>) -> Result<Made> {
    let out = s.channels(0)?;
    stage(s, &[(out, 3), (out, 3)])
}

/// Channels are those of the output, four times those inside.
fn resnet_bottleneck(s: &mut Site<'_>) -> Result<Made> {
    let out = s.channels(0)?;
    let inner = (out / 4).max(1);
    stage(s, &[(inner, 1), (inner, 3), (out, 1)])
}

fn conv_norm_relu6(s: &mut Site<'_>) -> Result<Made> {
    let (out, k, stride) = (s.channels(0)?, odd(s, 1, 3)?, stride(s, 2)?);
    let c = Conv { stride, ..Conv::new(out, k).act(Act::Relu6) };
    let names = [format!("{}.0", s.scope), format!("{}.1", s.scope)];
    Ok(Made::Feature(s.b.conv_norm([&names[0], &names[1]], &s.inputs[0], c)?))
}

fn inverted_residual(s: &mut Site<'_>) -> Result<Made> {
    let (out, mut stride) = (s.channels(0)?, stride(s, 1)?);
    let expansion = s.layer.size(2, "expansion", Some(6))?;
    if expansion > 64 {
        return Err(s.layer.error(format!("argument 3 (expansion) must be at most 64, got {expansion}")));
    }
    s.chain(|b, name, x| b.inverted_residual(name, x, out, std::mem::replace(&mut stride, 1), expansion))
}

/// A pointwise convolution (1280 channels), the mean of each channel, a linear layer.
fn classify(s: &mut Site<'_>) -> Result<Made> {
    let hidden = s.layer.size(1, "channels", Some(1280))?;
    let y = s.b.conv(&format!("{}.conv", s.scope), &s.inputs[0], Conv::new(hidden, 1))?;
    let y = s.b.pooled(&s.scope, &y);
    let y = s.b.linear(&format!("{}.linear", s.scope), &y, s.plan.classes.len())?;
    Ok(s.logits(y.value))
}

/// The mean of each channel and a linear layer.
fn linear(s: &mut Site<'_>) -> Result<Made> {
    let y = s.b.pooled(&s.scope, &s.inputs[0]);
    let y = s.b.linear(&s.scope, &y, s.plan.classes.len())?;
    Ok(s.logits(y.value))
}
