//! Architectures that the library can build by name, and any architecture file of the same style.

mod anchors;
mod assemble;
mod attention;
mod blocks;
mod csp;
mod detect;
mod modules;
mod plan;
mod residual;
mod site;
mod yaml;

pub(crate) use assemble::assemble;
pub use yaml::{Architecture, ArchitectureLayer, Value, parse};

use super::Model;
use compresso_base::error::{At, Error, Result, nearest};
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
    /// Numbers of the layers after which channel attention is put in (squeeze-and-excitation with a reduction of 16). Its
    /// weights are named `attention.N`; those of the layers keep their names.
    pub attention: Vec<usize>,
    /// Seed of the initial weights.
    pub seed: u64,
}

/// Models that share an architecture file, in several sizes: `prefix`, scale, `suffix` make a name.
struct Family {
    prefix: &'static str,
    suffix: &'static str,
    about: &'static str,
    text: &'static str,
    scales: &'static [&'static str],
}

const SIZES: &[&str] = &["n", "s", "m", "l", "x"];

const FAMILIES: &[Family] = &[
    family("yolov8", "", "YOLOv8 detector", include_str!("arch/yolov8.yaml"), SIZES),
    family("yolo11", "", "YOLO11 detector", include_str!("arch/yolo11.yaml"), SIZES),
    family("yolov5", "u", "YOLOv5 detector with an anchor-free head", include_str!("arch/yolov5u.yaml"), SIZES),
    family("yolov5", "", "YOLOv5 detector with anchors", include_str!("arch/yolov5.yaml"), SIZES),
    family("mobile_yolo", "", "detector of depthwise separable blocks", include_str!("arch/mobile_yolo.yaml"), &["", "-n", "-s"]),
    family("yolov8", "-cls", "YOLOv8 classifier", include_str!("arch/yolov8-cls.yaml"), SIZES),
    family("yolo11", "-cls", "YOLO11 classifier", include_str!("arch/yolo11-cls.yaml"), SIZES),
    family("resnet18", "", "residual network of 18 layers", include_str!("arch/resnet18.yaml"), &[""]),
    family("resnet34", "", "residual network of 34 layers", include_str!("arch/resnet34.yaml"), &[""]),
    family("resnet50", "", "residual network of 50 layers", include_str!("arch/resnet50.yaml"), &[""]),
    family("mobilenet_v2", "", "MobileNetV2 classifier", include_str!("arch/mobilenet_v2.yaml"), &[""]),
    family("classifier", "", "small image classifier of YOLOv8 blocks", include_str!("arch/classifier.yaml"), &[""]),
];

const fn family(
    prefix: &'static str,
    suffix: &'static str,
    about: &'static str,
    text: &'static str,
    scales: &'static [&'static str],
) -> Family {
    Family { prefix, suffix, about, text, scales }
}

/// Names that [`build`] knows, with what they are.
pub fn names() -> impl Iterator<Item = (String, String)> {
    FAMILIES.iter().flat_map(|f| {
        f.scales.iter().map(|scale| {
            let size = match scale.trim_start_matches('-') {
                "n" => ", nano",
                "s" => ", small",
                "m" => ", medium",
                "l" => ", large",
                "x" => ", extra large",
                _ => "",
            };
            (format!("{}{scale}{}", f.prefix, f.suffix), format!("{}{size}", f.about))
        })
    })
}

/// The family of a name, and the scale.
fn lookup(name: &str) -> Option<(&'static Family, &'static str)> {
    FAMILIES.iter().find_map(|f| {
        let scale = name.strip_prefix(f.prefix)?.strip_suffix(f.suffix)?;
        f.scales.iter().find(|s| **s == scale).map(|s| (f, s.trim_start_matches('-')))
    })
}

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
        let stem = path.file_stem().and_then(|s| s.to_str()).unwrap_or_default();
        let arch = parse(&text).in_file(path)?;
        let scale = scale_of(&arch, stem);
        return assemble(&arch, scale, stem, options, None).in_file(path);
    }
    let (family, scale) = lookup(source).ok_or_else(|| unknown(source))?;
    let arch = parse(family.text)?;
    let scale = arch.scales.iter().find(|s| s.0 == scale).or_else(|| arch.scales.first()).cloned();
    assemble(&arch, scale, source, options, None)
}

/// The scale that a file's name ends with, as in `mynet-s`, `yolov8s`, `yolov5su` and `yolo11s-cls`; else the first.
fn scale_of(arch: &Architecture, stem: &str) -> Option<(String, f64, f64, usize)> {
    let base = stem.strip_suffix("-cls").unwrap_or(stem);
    let named = |base: &str| arch.scales.iter().find(|s| !s.0.is_empty() && base.ends_with(&s.0));
    named(base).or_else(|| named(base.strip_suffix('u')?)).or_else(|| arch.scales.first()).cloned()
}

/// True for a name that [`build`] knows.
pub fn is_name(name: &str) -> bool {
    lookup(name).is_some()
}

fn unknown(name: &str) -> Error {
    let e = Error::missing(format!("the zoo has no model '{name}'"));
    let all: Vec<String> = names().map(|n| n.0).collect();
    match nearest(name, all.iter().map(String::as_str)) {
        Some(near) => e.hint(format!("did you mean '{near}'?")),
        None => e.hint(format!("it has {}; files end in .onnx, .safetensors or .yaml", all.join(", "))),
    }
}
