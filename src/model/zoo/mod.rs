//! Architectures that the library can build by name, and any architecture file of the same style.

mod anchors;
mod area;
mod args;
mod assemble;
mod attention;
mod blocks;
mod csp;
mod detect;
mod elan;
mod families;
mod grid;
mod hgnet;
mod instances;
mod modules;
mod plan;
mod residual;
mod rtdetr;
mod sequence;
mod site;
mod yaml;

pub(crate) use assemble::assemble;
pub(crate) use attention::attention_heads;
pub use yaml::{Architecture, ArchitectureLayer, Value, parse};

use super::Model;
use compresso_base::error::{At, Error, Result, nearest};
use families::lookup;
pub use families::names;
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

/// Builds a zoo model by name, or the model of an architecture file (`.yaml`, `.yml`), with random weights.
///
/// # Errors
/// `Missing` for an unknown name, `Io` and `Format` (with the line) for a bad file, `Argument` for a bad option.
pub fn build(source: &str, options: &ZooOptions) -> Result<Model> {
    if source.ends_with(".yaml") || source.ends_with(".yml") {
        let path = Path::new(source);
        let stem = path.file_stem().and_then(|s| s.to_str()).unwrap_or_default();
        // `yolov8s.yaml` without such a file means the zoo's own.
        if !path.exists() && source.trim_end_matches(".yaml") == stem && is_name(stem) {
            return build(stem, options);
        }
        let text = compresso_base::files::read_text(path)?;
        let arch = parse(&text).in_file(path)?;
        let scale = scale_of(&arch, stem);
        return assemble(&arch, scale, stem, options, None).in_file(path);
    }
    let (family, scale) = lookup(source).ok_or_else(|| unknown(source))?;
    let arch = family.architecture()?;
    let scale = arch.scales.iter().find(|s| s.0 == scale).or_else(|| arch.scales.first()).cloned();
    assemble(&arch, scale, source, options, None)
}

/// Factors on channels and repeats of a model of the zoo by name, which [`ZooOptions`] may replace.
///
/// # Errors
/// `Missing` for an unknown name.
pub fn factors(name: &str) -> Result<Factors> {
    let (family, scale) = lookup(name).ok_or_else(|| unknown(name))?;
    let arch = family.architecture()?;
    let scale = arch.scales.iter().find(|s| s.0 == scale).or_else(|| arch.scales.first());
    Ok(scale.map_or(Factors { width: 1.0, depth: 1.0 }, |&(_, depth, width, _)| Factors { width, depth }))
}

/// See [`factors`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Factors {
    /// Multiplies numbers of channels.
    pub width: f64,
    /// Multiplies numbers of repeats.
    pub depth: f64,
}

/// The scale that a file's name ends with, as in `mynet-s`, `yolov8s`, `yolov5su` and `yolo11s-cls`; else the first.
fn scale_of(arch: &Architecture, stem: &str) -> Option<(String, f64, f64, usize)> {
    let base = ["-cls", "-seg", "-pose", "-obb"].iter().find_map(|task| stem.strip_suffix(task)).unwrap_or(stem);
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
