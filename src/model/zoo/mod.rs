//! Architectures that the library can build: YOLOv8 in its five sizes, a small classifier, and any architecture file of
//! the same style.

mod blocks;
mod detect;
mod yaml;

pub use yaml::{Architecture, parse};

use super::{Classify, Constant, Decode, Detect, Dim, Element, Fact, GraphBuilder, Model, Task};
use crate::error::{At, Error, Result, nearest};
use blocks::{Blocks, Feature};
use indexmap::IndexMap;
use std::path::Path;

/// Size and scaling of a model to be built.
#[derive(Debug, Clone, Default)]
pub struct ZooOptions {
    /// Class names; `None`: as many unnamed ones as the architecture says.
    pub classes: Option<Vec<String>>,
    /// Height and width in pixels; default 640 × 640 for detectors, 224 × 224 for classifiers.
    pub image_size: Option<[usize; 2]>,
    /// Factor on channel counts, in place of the named scale's.
    pub width: Option<f64>,
    /// Factor on repeats, in place of the named scale's.
    pub depth: Option<f64>,
    /// Seed of the initial weights.
    pub seed: u64,
}

const YOLOV8: &str = include_str!("yolov8.yaml");
const CLASSIFIER: &str = include_str!("classifier.yaml");

/// Names that [`build`] knows, with what they are.
pub const NAMES: &[(&str, &str)] = &[
    ("yolov8n", "YOLOv8 nano detector"),
    ("yolov8s", "YOLOv8 small detector"),
    ("yolov8m", "YOLOv8 medium detector"),
    ("yolov8l", "YOLOv8 large detector"),
    ("yolov8x", "YOLOv8 extra large detector"),
    ("classifier", "small image classifier of YOLOv8 blocks"),
];

/// Operator set of built graphs.
const OPSET: i64 = 17;

/// Builds a zoo model by name, or the model of an architecture file (`.yaml`, `.yml`), with random weights.
///
/// # Errors
/// `Missing` for an unknown name, `Io` and `Format` (with the line) for a bad file, `Argument` for a bad option.
pub fn build(source: &str, options: &ZooOptions) -> Result<Model> {
    if source.ends_with(".yaml") || source.ends_with(".yml") {
        let path = Path::new(source);
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) => {
                // `yolov8s.yaml` without such a file means the zoo's own.
                let stem = path.file_stem().and_then(|s| s.to_str()).unwrap_or_default();
                if e.kind() == std::io::ErrorKind::NotFound && source.trim_end_matches(".yaml") == stem && is_name(stem) {
                    return build(stem, options);
                }
                return Err(Error::io(path, e));
            }
        };
        // `mynet-s.yaml` and `yolov8s.yaml` name a scale by the last letter of the stem.
        let stem = path.file_stem().and_then(|s| s.to_str()).unwrap_or_default();
        let arch = parse(&text).in_file(path)?;
        let wanted = stem.chars().last().map(String::from).unwrap_or_default();
        let scale = arch.scales.iter().find(|s| s.0 == wanted).or_else(|| arch.scales.first()).cloned();
        return assemble(&arch, scale, stem, options, None).in_file(path);
    }
    let (text, scale) = match source {
        "classifier" => (CLASSIFIER, "n"),
        _ if is_name(source) => (YOLOV8, source.trim_start_matches("yolov8")),
        _ => return Err(unknown(source)),
    };
    let arch = parse(text)?;
    let scale = arch.scales.iter().find(|s| s.0 == scale).cloned();
    assemble(&arch, scale, source, options, None)
}

/// True for a name that [`build`] knows.
pub fn is_name(name: &str) -> bool {
    NAMES.iter().any(|(n, _)| *n == name)
}

fn unknown(name: &str) -> Error {
    let e = Error::missing(format!("the zoo has no model '{name}'"));
    match nearest(name, NAMES.iter().map(|n| n.0)) {
        Some(near) => e.hint(format!("did you mean '{near}'?")),
        None => e.hint(format!(
            "it has {}; files end in .onnx, .safetensors or .yaml",
            NAMES.iter().map(|n| n.0).collect::<Vec<_>>().join(", ")
        )),
    }
}

/// Rounds a channel count up to a multiple of 8.
fn round_up(channels: f64) -> usize {
    ((channels / 8.0).ceil() as usize).max(1) * 8
}

/// Builds an architecture at a scale, with the weights of `given`, all of which must have their place, or with random ones.
///
/// # Errors
/// `Format` and `Unsupported`, naming the line of the architecture; `Missing`, `Shape` and `Unsupported` for given weights
/// that do not fit it; `Argument` for a bad option.
pub(in crate::model) fn assemble(
    arch: &Architecture,
    scale: Option<(String, f64, f64, usize)>,
    name: &str,
    options: &ZooOptions,
    given: Option<IndexMap<String, Constant>>,
) -> Result<Model> {
    let (_, depth, width, most) = scale.unwrap_or((String::new(), 1.0, 1.0, 1 << 20));
    let depth = options.depth.unwrap_or(depth);
    let width = options.width.unwrap_or(width);
    for (option, value) in [("depth", depth), ("width", width)] {
        if !(value > 0.0 && value <= 16.0) {
            return Err(Error::argument(format!("option '{option}' must be above 0 and at most 16, got {value}")));
        }
    }
    let detector = arch.layers.iter().any(|l| l.module == "Detect");
    let image = options.image_size.unwrap_or(if detector { [640, 640] } else { [224, 224] });
    let classes = match &options.classes {
        Some(names) if names.is_empty() => return Err(Error::argument("option 'classes' must name at least one class")),
        Some(names) => names.clone(),
        None => (0..arch.classes).map(|i| format!("class{i}")).collect(),
    };
    let multiple = if detector { arch.strides.iter().copied().max().unwrap_or(32) } else { 1 };
    if image.iter().any(|&n| n == 0 || n % multiple != 0 || n > 8192) {
        return Err(Error::argument(format!(
            "option 'image_size' must be a multiple of {multiple} from {multiple} to 8192, got {}x{}",
            image[0], image[1]
        )));
    }
    let mut graph = GraphBuilder::new(name, OPSET);
    let shape = vec![Dim::symbol("batch"), Dim::Known(3), Dim::Known(image[0]), Dim::Known(image[1])];
    let input = Feature { value: graph.input("images", Fact::new(Element::F32, shape)), channels: 3, size: image };
    let mut b = match given {
        Some(given) => Blocks::with_weights(graph, given),
        None => Blocks::new(graph, options.seed),
    };
    let mut made: Vec<Feature> = Vec::with_capacity(arch.layers.len());
    let mut task = None;
    for (i, layer) in arch.layers.iter().enumerate() {
        let inputs: Vec<Feature> = layer.from.iter().map(|f| f.map_or_else(|| input.clone(), |j| made[j].clone())).collect();
        if inputs.iter().any(|f| f.value.is_empty()) {
            return Err(layer.error("reads a layer that has no feature map"));
        }
        let x = inputs.first().cloned().ok_or_else(|| layer.error("needs an input"))?;
        if inputs.len() > 1 && !matches!(layer.module.as_str(), "Concat" | "Detect") {
            return Err(layer.error("takes one input"));
        }
        let repeats = if layer.repeats > 1 { ((layer.repeats as f64 * depth).round() as usize).max(1) } else { 1 };
        let scope = format!("model.{i}");
        let out = |k: usize| -> Result<usize> { Ok(round_up(layer.size(k, "channels", None)?.min(most) as f64 * width)) };
        // Blocks other than these are repeated as a chain.
        let chain = |b: &mut Blocks, step: &mut dyn FnMut(&mut Blocks, &str, &Feature) -> Result<Feature>| -> Result<Feature> {
            if repeats == 1 {
                return step(b, &scope, &x);
            }
            (0..repeats).try_fold(x.clone(), |y, r| step(b, &format!("{scope}.{r}"), &y))
        };
        let feature = match layer.module.as_str() {
            "Conv" | "DWConv" => {
                let (c, k, s) = (out(0)?, layer.size(1, "kernel", Some(1))?, layer.size(2, "stride", Some(1))?);
                if k > 31 || s > 31 {
                    return Err(layer.error(format!("kernel and stride must be at most 31, got {k} and {s}")));
                }
                let depthwise = layer.module == "DWConv";
                chain(&mut b, &mut |b, n, x| {
                    let groups = if depthwise { gcd(x.channels, c) } else { 1 };
                    b.conv(n, x, c, k, s, groups)
                })?
            }
            "C2f" => b.c2f(&scope, &x, out(0)?, repeats, layer.flag(1, "shortcut", false)?)?,
            "C3" => b.c3(&scope, &x, out(0)?, repeats, layer.flag(1, "shortcut", true)?)?,
            "Bottleneck" => {
                let (c, shortcut) = (out(0)?, layer.flag(1, "shortcut", true)?);
                chain(&mut b, &mut |b, n, x| b.bottleneck(n, x, c, shortcut, [3, 3], 0.5))?
            }
            "SPPF" => {
                let k = layer.size(1, "kernel", Some(5))?;
                if k % 2 == 0 || k > 31 {
                    return Err(layer.error(format!("the kernel must be odd and at most 31, got {k}")));
                }
                b.sppf(&scope, &x, out(0)?, k)?
            }
            "Upsample" | "nn.Upsample" => {
                // Ultralytics writes [size, factor, mode] with no size.
                let factor = layer.size(usize::from(matches!(layer.args.first(), Some(yaml::Value::Null))), "factor", Some(2))?;
                if factor > 8 {
                    return Err(layer.error(format!("the factor must be at most 8, got {factor}")));
                }
                if layer.args.iter().any(|a| matches!(a, yaml::Value::Text(m) if m != "nearest")) {
                    return Err(layer.error("only nearest upsampling is supported"));
                }
                b.upsample(&scope, &x, factor)?
            }
            "Concat" => {
                if let Some(f) = inputs.iter().find(|f| f.size != x.size) {
                    return Err(layer.error(format!("joins maps of different sizes: {:?} and {:?}", x.size, f.size)));
                }
                let parts: Vec<String> = inputs.iter().map(|f| f.value.clone()).collect();
                Feature { value: b.concat(&scope, &parts), channels: inputs.iter().map(|f| f.channels).sum(), size: x.size }
            }
            "Detect" => {
                if inputs.len() != arch.strides.len() {
                    return Err(layer.error(format!("has {} levels, but 'strides' lists {}", inputs.len(), arch.strides.len())));
                }
                for (f, &s) in inputs.iter().zip(&arch.strides) {
                    if f.size != image.map(|n| n / s) {
                        return Err(layer.error(format!(
                            "expects a map of 1/{s} of the image, {:?}, got {:?}",
                            image.map(|n| n / s),
                            f.size
                        )));
                    }
                }
                let (output, head) = detect::detect(&mut b, &scope, &inputs, classes.len(), &arch.strides, arch.reg_max)?;
                b.graph.output(&output);
                task = Some(Task::Detect(Detect {
                    classes: classes.clone(),
                    image_size: image,
                    decode: Decode::Yolo { output },
                    head: Some(head),
                }));
                Feature { value: String::new(), channels: 0, size: [0, 0] }
            }
            "Classify" => {
                let output = b.classify(&scope, &x, classes.len())?;
                b.graph.output(&output);
                task = Some(Task::Classify(Classify { classes: classes.clone(), image_size: image, output }));
                Feature { value: String::new(), channels: 0, size: [0, 0] }
            }
            other => {
                const MODULES: &[&str] = &["Conv", "DWConv", "C2f", "C3", "Bottleneck", "SPPF", "Upsample", "Concat", "Detect", "Classify"];
                let e = Error::unsupported(format!("the module {other} is not supported")).at(format!("line {}", layer.line));
                return Err(match nearest(other, MODULES.iter().copied()) {
                    Some(near) => e.hint(format!("did you mean {near}? Supported: {}", MODULES.join(", "))),
                    None => e.hint(format!("supported modules: {}", MODULES.join(", "))),
                });
            }
        };
        if feature.channels > 1 << 16 {
            return Err(layer.error(format!("has {} channels, more than 65536", feature.channels)));
        }
        made.push(feature);
    }
    let task = task.ok_or_else(|| Error::format("the architecture ends without Detect or Classify"))?;
    let left: Vec<&str> = b.left_over().collect();
    if let Some(first) = left.first() {
        let e = Error::unsupported(format!("{} weights have no place in the architecture, such as '{first}'", left.len()));
        return Err(e.hint("the network differs from the architecture that it names"));
    }
    Ok(Model::new(b.graph.finish()?, task))
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}
