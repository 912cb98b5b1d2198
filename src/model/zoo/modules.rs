//! The modules that architecture files name: one table entry each.

use super::blocks::{Act, Conv};
use super::csp::Bottleneck;
use super::site::{LARGEST_WINDOW, Made, Site};
use super::yaml::Value;
use super::{anchors, area, detect, elan, hgnet, instances, residual, rtdetr};
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
    one("DepthwiseSeparable", &["channels", "stride"], residual::separable),
    one("ResNetStem", &["channels"], residual::resnet_stem),
    one("BasicBlock", &["channels", "stride"], residual::basic_block),
    one("ResNetBottleneck", &["channels", "stride"], residual::resnet_bottleneck),
    one("ConvNormReLU6", &["channels", "kernel", "stride"], residual::conv_norm_relu6),
    one("InvertedResidual", &["channels", "stride", "expansion"], residual::inverted_residual),
    one("SCDown", &["channels", "kernel", "stride"], sc_down),
    one("PSA", &["channels", "expansion"], psa),
    one("C2fCIB", &["channels", "shortcut", "large", "groups", "expansion"], c2f_cib),
    one("A2C2f", &["channels", "attention", "areas", "residual", "ratio", "expansion", "groups", "shortcut"], area::a2c2f),
    one("ELAN1", &["channels", "inner", "branch"], elan::elan1),
    one("RepNCSPELAN4", &["channels", "inner", "branch", "repeats"], elan::rep_ncsp_elan4),
    one("RepConv", &["channels"], elan::rep_conv),
    one("AConv", &["channels"], elan::a_conv),
    one("ADown", &["channels"], elan::a_down),
    one("SPPELAN", &["channels", "inner", "kernel"], elan::spp_elan),
    one("CBLinear", &["channels"], elan::cb_linear),
    many("CBFuse", &["parts"], elan::cb_fuse),
    one("Identity", &[], identity),
    one("HGStem", &["inner", "channels"], hgnet::hg_stem),
    one("HGBlock", &["inner", "channels", "kernel", "light", "shortcut"], hgnet::hg_block),
    one("ResNetLayer", &["inputs", "channels", "stride", "first", "repeats", "expansion"], hgnet::resnet_layer),
    one("RepC3", &["channels", "expansion"], hgnet::rep_c3),
    one("AIFI", &["hidden", "heads"], hgnet::aifi),
    many("Detect", &["classes", "branches"], detect::emit),
    many("v10Detect", &["classes"], detect::emit),
    many("Segment", &["classes", "masks", "channels"], instances::segment),
    many("Pose", &["classes", "key points"], instances::pose),
    many("OBB", &["classes", "angles"], instances::obb),
    many("Segment26", &["classes", "masks", "channels"], instances::segment),
    many("Pose26", &["classes", "key points"], instances::pose),
    many("OBB26", &["classes", "angles"], instances::obb),
    many("DetectAnchors", &["classes"], anchors::emit),
    many("RTDETRDecoder", &["classes", "width", "queries", "points", "heads", "layers", "hidden"], rtdetr::emit),
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
    let k = s.odd(4, 3)?;
    Ok(Made::Feature(s.b.c3k(&s.scope, &s.inputs[0], out, s.repeats, shortcut, e, k)?))
}

fn c3k2(s: &mut Site<'_>) -> Result<Made> {
    ungrouped(s, 4)?;
    // The larger models have the nested blocks everywhere.
    let nested = s.layer.flag(1, "c3k", false)? || ["m", "l", "x"].contains(&s.plan.scale.as_str());
    let (out, e) = (s.channels(0)?, s.layer.factor(2, "expansion", 0.5, 4.0)?);
    let shortcut = s.layer.flag(5, "shortcut", true)?;
    if s.layer.flag(3, "attention", false)? {
        return Ok(Made::Feature(s.b.c3k2_attended(&s.scope, &s.inputs[0], out, s.repeats, e, shortcut)?));
    }
    Ok(Made::Feature(s.b.c3k2(&s.scope, &s.inputs[0], out, s.repeats, nested, e, shortcut)?))
}

fn c2f_cib(s: &mut Site<'_>) -> Result<Made> {
    ungrouped(s, 3)?;
    let (out, e) = (s.channels(0)?, s.layer.factor(4, "expansion", 0.5, 4.0)?);
    let (shortcut, large) = (s.layer.flag(1, "shortcut", false)?, s.layer.flag(2, "large", false)?);
    Ok(Made::Feature(s.b.c2f_cib(&s.scope, &s.inputs[0], out, s.repeats, shortcut, large, e)?))
}

/// A pointwise and a strided depthwise convolution (YOLOv10).
fn sc_down(s: &mut Site<'_>) -> Result<Made> {
    let c = window(s, Conv::new(s.channels(0)?, 1), 1, 2, 3, 4)?;
    s.chain(|b, name, x| {
        let y = b.conv(&format!("{name}.cv1"), x, Conv::new(c.out, 1))?;
        b.conv(&format!("{name}.cv2"), &y, Conv { out: y.channels, ..c }.groups(y.channels).act(Act::None))
    })
}

/// That an attention block gives as many channels as it reads; given weights say how many these are.
fn keeps_channels(s: &Site<'_>) -> Result<()> {
    let (out, reads) = (s.channels(0)?, s.inputs[0].channels);
    if out == reads || !s.b.is_new() {
        return Ok(());
    }
    Err(s.layer.error(format!("keeps the channels: it reads {reads} and is to give {out}")))
}

fn psa(s: &mut Site<'_>) -> Result<Made> {
    keeps_channels(s)?;
    let e = s.layer.factor(1, "expansion", 0.5, 4.0)?;
    s.chain(|b, name, x| b.psa(name, x, e))
}

fn identity(s: &mut Site<'_>) -> Result<Made> {
    Ok(Made::Feature(s.inputs[0].clone()))
}

fn c2psa(s: &mut Site<'_>) -> Result<Made> {
    keeps_channels(s)?;
    let e = s.layer.factor(1, "expansion", 0.5, 4.0)?;
    Ok(Made::Feature(s.b.c2psa(&s.scope, &s.inputs[0], s.repeats, e)?))
}

/// With its last two arguments it is the block of YOLO26, without an activation after the first convolution.
fn sppf(s: &mut Site<'_>) -> Result<Made> {
    let (out, k) = (s.channels(0)?, s.odd(1, 5)?);
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
