//! Reads an architecture file in the style of Ultralytics: a list of `[from, repeats, module, args]`, or
//! `[from, repeats, module, args, name]` where the layer's weights have names of their own.

use compresso_base::error::{Error, Result};
use saphyr::{LoadableYamlNode, MarkedYaml, Scalar, YamlData};

/// An architecture as its file states it, before scaling.
#[derive(Debug, Clone)]
pub struct Architecture {
    /// Number of classes.
    pub classes: usize,
    /// Channels of its images: 1, 3 or 4 (`ch` or `channels` in a file).
    pub channels: usize,
    /// Named scales: (name, depth factor, width factor, largest channel count before scaling).
    pub scales: Vec<(String, f64, f64, usize)>,
    /// Input pixels per cell of the head's levels; empty: as the layers make them.
    pub strides: Vec<usize>,
    /// Bins of each box side's distribution; 1: distances themselves.
    pub reg_max: usize,
    /// Whether the head gives finished detections, by branches for which one box is right for each object. `None`: as its
    /// module usually does.
    pub end_to_end: Option<bool>,
    /// Key points of an object, and numbers of each (2, or 3 with a visibility).
    pub key_points: [usize; 2],
    /// Widths and heights of the anchor boxes in pixels, per level of the head; none for anchor-free heads.
    pub anchors: Vec<Vec<[f64; 2]>>,
    /// The layers of `backbone`, then of `head`.
    pub layers: Vec<ArchitectureLayer>,
}

impl Default for Architecture {
    fn default() -> Self {
        Self {
            classes: 80,
            channels: 3,
            scales: Vec::new(),
            strides: Vec::new(),
            reg_max: 16,
            end_to_end: None,
            key_points: [17, 3],
            anchors: Vec::new(),
            layers: Vec::new(),
        }
    }
}

/// One line of `backbone` or `head`.
#[derive(Debug, Clone, Default)]
pub struct ArchitectureLayer {
    /// Line in the file, from 1.
    pub line: usize,
    /// Indices of the layers it reads; `None` is the image.
    pub from: Vec<Option<usize>>,
    /// How often the module comes in a row, before the depth factor.
    pub repeats: usize,
    /// The name of its module, such as `C2f`.
    pub module: String,
    /// The module's arguments, as many as the line has.
    pub args: Vec<Value>,
    /// What the names of its weights start with; `None`: `model.` and the layer's number.
    pub name: Option<String>,
}

/// An argument of a layer.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A whole number.
    Int(i64),
    /// A number with a fraction.
    Float(f64),
    /// True or false, in YAML's or Python's spelling.
    Bool(bool),
    /// A word.
    Text(String),
    /// `null` or `None`.
    Null,
    /// Whole numbers, from 0.
    Sizes(Vec<usize>),
}

/// Most layers and repeats that a file may ask for; more is taken for a mistake.
const MOST_LAYERS: usize = 2000;

/// Parses the text of an architecture file.
///
/// # Errors
/// `Format`, naming the line, for anything that is not such a file.
pub fn parse(text: &str) -> Result<Architecture> {
    let documents = MarkedYaml::load_from_str(text).map_err(|e| {
        Error::format(format!("not valid YAML: {}", e.info())).at(format!("line {}, column {}", e.marker().line(), e.marker().col() + 1))
    })?;
    let root = documents.first().ok_or_else(|| Error::format("the file is empty"))?;
    let mut arch = Architecture::default();
    if let Some(nc) = get(root, "nc")? {
        arch.classes = count(nc, "nc", 10_000)?;
    }
    for key in ["ch", "channels"] {
        if let Some(n) = get(root, key)? {
            arch.channels = count(n, key, 4)?;
        }
    }
    if !crate::IMAGE_CHANNELS.contains(&arch.channels) {
        return Err(at(root, "images have 1, 3 or 4 channels"));
    }
    if let Some(r) = get(root, "reg_max")? {
        arch.reg_max = count(r, "reg_max", 64)?;
    }
    if let Some(e) = get(root, "end2end")? {
        arch.end_to_end = match value(e)? {
            Value::Bool(b) => Some(b),
            Value::Null => None,
            _ => return Err(at(e, "end2end must be true or false")),
        };
    }
    if let Some(k) = get(root, "kpt_shape")? {
        let [points, numbers] = list(k, "kpt_shape")? else { return Err(at(k, "kpt_shape is [key points, 2 or 3]")) };
        arch.key_points = [count(points, "the key points", 1000)?, count(numbers, "the numbers of a key point", 3)?];
    }
    if let Some(s) = get(root, "strides")? {
        arch.strides = list(s, "strides")?.iter().map(|v| count(v, "a stride", 1024)).collect::<Result<_>>()?;
    }
    if let Some(levels) = get(root, "anchors")? {
        arch.anchors = list(levels, "anchors")?.iter().map(anchors).collect::<Result<_>>()?;
    }
    match get(root, "scales")? {
        Some(scales) => {
            let YamlData::Mapping(map) = &scales.data else {
                return Err(at(scales, "scales must be a map from name to [depth, width, channels]"));
            };
            for (name, v) in map {
                let parts = list(v, "a scale")?;
                let [depth, width, most] = parts else { return Err(at(v, "a scale is [depth, width, largest channel count]")) };
                let name = text_of(name).ok_or_else(|| at(name, "the name of a scale must be text"))?;
                arch.scales.push((name, factor(depth)?, factor(width)?, count(most, "the largest channel count", 1 << 20)?));
            }
        }
        None => {
            let depth = get(root, "depth_multiple")?.map_or(Ok(1.0), factor)?;
            let width = get(root, "width_multiple")?.map_or(Ok(1.0), factor)?;
            arch.scales.push((String::new(), depth, width, 1 << 20));
        }
    }
    for part in ["backbone", "head"] {
        let Some(layers) = get(root, part)? else {
            if part == "backbone" {
                return Err(at(root, "there is no 'backbone'")
                    .hint("an architecture file has a backbone: and a head: list of [from, repeats, module, args]"));
            }
            continue;
        };
        for node in list(layers, part)? {
            let index = arch.layers.len();
            if index >= MOST_LAYERS {
                return Err(at(node, format!("more than {MOST_LAYERS} layers")));
            }
            arch.layers.push(layer(node, index)?);
        }
    }
    Ok(arch)
}

fn layer(node: &MarkedYaml<'_>, index: usize) -> Result<ArchitectureLayer> {
    let parts = list(node, "a layer")?;
    let ([from, repeats, module, args] | [from, repeats, module, args, _]) = parts else {
        return Err(at(node, "a layer is [from, repeats, module, args]"));
    };
    let name = match parts.get(4) {
        Some(name) => Some(text_of(name).ok_or_else(|| at(name, "the name of a layer's weights must be text"))?),
        None => None,
    };
    let from = match &from.data {
        YamlData::Sequence(many) => many.iter().map(|f| source(f, index)).collect::<Result<_>>()?,
        _ => vec![source(from, index)?],
    };
    let module = text_of(module).ok_or_else(|| at(module, "the module must be a name"))?;
    let args = match &args.data {
        YamlData::Sequence(many) => many.iter().map(value).collect::<Result<_>>()?,
        _ => return Err(at(args, "the arguments must be a list")),
    };
    Ok(ArchitectureLayer { line: node.span.start.line(), from, repeats: count(repeats, "repeats", 100)?, module, args, name })
}

/// One level's anchors: width and height of each, in turn.
fn anchors(node: &MarkedYaml<'_>) -> Result<Vec<[f64; 2]>> {
    let size = |v: &MarkedYaml<'_>| match v.data {
        YamlData::Value(Scalar::Integer(n)) if (1..=8192).contains(&n) => Ok(n as f64),
        YamlData::Value(Scalar::FloatingPoint(f)) if f.0 > 0.0 && f.0 <= 8192.0 => Ok(f.0),
        _ => Err(at(v, "the size of an anchor must be a number of pixels above 0 and at most 8192")),
    };
    let sizes = list(node, "the anchors of a level")?.iter().map(size).collect::<Result<Vec<_>>>()?;
    if sizes.is_empty() || sizes.len() % 2 != 0 || sizes.len() > 64 {
        return Err(at(node, "a level's anchors are pairs of width and height, from 1 to 32 pairs"));
    }
    Ok(sizes.chunks_exact(2).map(|p| [p[0], p[1]]).collect())
}

/// The layer that `from` names: negative counts back, others are absolute.
fn source(node: &MarkedYaml<'_>, index: usize) -> Result<Option<usize>> {
    let YamlData::Value(Scalar::Integer(from)) = &node.data else {
        return Err(at(node, "from must be a whole number or a list of them"));
    };
    let here = i64::try_from(index).unwrap_or(i64::MAX);
    let absolute = if *from < 0 { here.saturating_add(*from) } else { *from };
    match absolute {
        -1 if index == 0 => Ok(None),
        a if (0..here).contains(&a) => Ok(Some(usize::try_from(a).unwrap_or(0))),
        _ => Err(at(node, format!("from {from} does not name a layer before layer {index}"))),
    }
}

fn value(node: &MarkedYaml<'_>) -> Result<Value> {
    Ok(match &node.data {
        YamlData::Value(Scalar::Integer(v)) => Value::Int(*v),
        YamlData::Value(Scalar::FloatingPoint(v)) => Value::Float(v.0),
        YamlData::Value(Scalar::Boolean(v)) => Value::Bool(*v),
        YamlData::Value(Scalar::Null) => Value::Null,
        // Python spellings that these files use.
        YamlData::Value(Scalar::String(s)) if s == "None" => Value::Null,
        YamlData::Value(Scalar::String(s)) if s == "True" || s == "False" => Value::Bool(s == "True"),
        YamlData::Value(Scalar::String(s)) => Value::Text(s.to_string()),
        YamlData::Sequence(items) => {
            let size = |v: &MarkedYaml<'_>| match v.data {
                YamlData::Value(Scalar::Integer(n)) => usize::try_from(n).ok().filter(|n| *n <= 1 << 20),
                _ => None,
            };
            let sizes: Option<Vec<usize>> = items.iter().map(size).collect();
            Value::Sizes(sizes.ok_or_else(|| at(node, "a list among the arguments must be of whole numbers from 0 to 1048576"))?)
        }
        _ => return Err(at(node, "an argument must be a number, text, true or false")),
    })
}

fn at(node: &MarkedYaml<'_>, message: impl Into<String>) -> Error {
    Error::format(message).at(format!("line {}, column {}", node.span.start.line(), node.span.start.col() + 1))
}

fn get<'a, 'b>(node: &'a MarkedYaml<'b>, key: &str) -> Result<Option<&'a MarkedYaml<'b>>> {
    let YamlData::Mapping(map) = &node.data else { return Err(at(node, "expected a map (key: value lines)")) };
    Ok(map.iter().find(|(k, _)| text_of(k).as_deref() == Some(key)).map(|(_, v)| v))
}

fn list<'a, 'b>(node: &'a MarkedYaml<'b>, what: &str) -> Result<&'a [MarkedYaml<'b>]> {
    match &node.data {
        YamlData::Sequence(items) => Ok(items),
        _ => Err(at(node, format!("{what} must be a list"))),
    }
}

fn count(node: &MarkedYaml<'_>, what: &str, most: usize) -> Result<usize> {
    match &node.data {
        YamlData::Value(Scalar::Integer(v)) => usize::try_from(*v).ok().filter(|n| (1..=most).contains(n)),
        _ => None,
    }
    .ok_or_else(|| at(node, format!("{what} must be a whole number from 1 to {most}")))
}

fn factor(node: &MarkedYaml<'_>) -> Result<f64> {
    let v = match &node.data {
        YamlData::Value(Scalar::FloatingPoint(v)) => v.0,
        YamlData::Value(Scalar::Integer(v)) => *v as f64,
        _ => f64::NAN,
    };
    if v > 0.0 && v <= 16.0 { Ok(v) } else { Err(at(node, "a factor must be a number above 0 and at most 16")) }
}

fn text_of(node: &MarkedYaml<'_>) -> Option<String> {
    match &node.data {
        YamlData::Value(Scalar::String(s)) => Some(s.to_string()),
        YamlData::Value(Scalar::Integer(i)) => Some(i.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_count_back_or_name_a_layer() {
        let a =
            parse("nc: 3\nbackbone:\n  - [-1, 1, Conv, [8, 3, 2]]\n  - [-1, 2, C2f, [8, True]]\nhead:\n  - [[-1, 0], 1, Concat, [1]]\n")
                .unwrap();
        assert_eq!(a.classes, 3);
        let from: Vec<_> = a.layers.iter().map(|l| l.from.clone()).collect();
        assert_eq!(from, [vec![None], vec![Some(0)], vec![Some(1), Some(0)]]);
        assert_eq!(a.layers[1].args, [Value::Int(8), Value::Bool(true)]);
        assert_eq!(a.layers[2].line, 6);
    }

    #[test]
    fn mistakes_name_their_line() {
        let error = |text: &str| parse(text).unwrap_err().to_string();
        assert!(error("backbone:\n  - [-1, 1, Conv]\n").starts_with("line 2, column 5: a layer is"));
        assert!(error("backbone:\n  - [4, 1, Conv, [8]]\n").contains("from 4 does not name a layer before layer 0"));
        assert!(error("backbone:\n  - [-1, 0, Conv, [8]]\n").contains("repeats must be a whole number from 1 to 100"));
        let broken = error("backbone: [[");
        assert!(broken.starts_with("line ") && broken.contains("not valid YAML"), "{broken}");
        assert!(error("nc: many\nbackbone: []").contains("nc must be a whole number"));
        assert!(error("").contains("empty"));
        assert!(error("- 1\n- 2\n").contains("expected a map"));
    }
}
