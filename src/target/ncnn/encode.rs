//! The two files of a network: the text of its layers and the numbers of its weights.
//!
//! <https://github.com/Tencent/ncnn/wiki/param-and-model-file-structure>

use super::net::{Blob, Layer, Net, Param, Weight};
use compresso_base::error::{Error, Result};
use half::f16;
use std::collections::{HashMap, HashSet};
use std::fmt::Write;

const MAGIC: u32 = 7_767_517;
const FLOAT16: u32 = 0x0130_6B47;
const INT8: u32 = 0x000D_4B38;

/// The text of the layers. Inputs are called in0, in1, …, outputs out0, out1, ….
///
/// # Errors
/// `Unsupported` for a parameter that is infinite or not a number.
pub(super) fn param(net: &Net) -> Result<String> {
    let mut names: HashMap<Blob, String> = net.outputs.iter().enumerate().map(|(i, &b)| (b, format!("out{i}"))).collect();
    let inputs = net.layers.iter().filter(|l| l.kind == "Input").flat_map(|l| &l.outputs);
    names.extend(inputs.enumerate().map(|(i, &b)| (b, format!("in{i}"))));
    let mut next = 0;
    for &blob in net.layers.iter().flat_map(|l| &l.outputs) {
        names.entry(blob).or_insert_with(|| {
            next += 1;
            next.to_string()
        });
    }
    let mut text = format!("{MAGIC}\n{} {}\n", net.layers.len(), names.len());
    let mut used = HashSet::new();
    for layer in &net.layers {
        let _ = write!(text, "{} {} {} {}", layer.kind, unique(&layer.name, &mut used), layer.inputs.len(), layer.outputs.len());
        for blob in layer.inputs.iter().chain(&layer.outputs) {
            let _ = write!(text, " {}", names[blob]);
        }
        for (id, value) in &layer.params {
            write_param(&mut text, layer, *id, value)?;
        }
        text.push('\n');
    }
    Ok(text)
}

/// A name without the spaces that end it in the file, unlike the others.
fn unique(name: &str, used: &mut HashSet<String>) -> String {
    let plain: String = name.chars().map(|c| if c.is_whitespace() || c.is_control() { '_' } else { c }).take(200).collect();
    let plain = if plain.is_empty() { "layer".to_string() } else { plain };
    let name = std::iter::once(plain.clone()).chain((1..).map(|i| format!("{plain}_{i}"))).find(|n| !used.contains(n)).unwrap_or(plain);
    used.insert(name.clone());
    name
}

fn write_param(text: &mut String, layer: &Layer, id: u32, value: &Param) -> Result<()> {
    let _ = match value {
        Param::Int(v) => write!(text, " {id}={v}"),
        // Nine digits say a float32 exactly, and NCNN reads at most fifteen characters.
        Param::Float(v) if v.is_finite() => write!(text, " {id}={v:.8e}"),
        Param::Float(v) => {
            return Err(Error::unsupported(format!("a parameter is {v}, and NCNN's files hold finite numbers")).at(layer.name.clone()));
        }
        // Arrays have the number -23300 - id, and say how many they are.
        Param::Ints(v) => {
            let words: Vec<String> = std::iter::once(v.len().to_string()).chain(v.iter().map(ToString::to_string)).collect();
            write!(text, " -{}={}", 23300 + id, words.join(","))
        }
    };
    Ok(())
}

/// The numbers of all layers in order. `half`: those behind a tag are float16, the larger ones as the largest that it has.
pub(super) fn bin(net: &Net, half: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    for weight in net.layers.iter().flat_map(|l| &l.weights) {
        match weight {
            Weight::Tagged(v) if half => {
                bytes.extend(FLOAT16.to_le_bytes());
                bytes.extend(v.iter().flat_map(|&v| f16::from_f32(v.clamp(f16::MIN.to_f32(), f16::MAX.to_f32())).to_le_bytes()));
            }
            Weight::Tagged(v) => {
                bytes.extend(0u32.to_le_bytes());
                bytes.extend(v.iter().flat_map(|v| v.to_le_bytes()));
            }
            Weight::Plain(v) => bytes.extend(v.iter().flat_map(|v| v.to_le_bytes())),
            Weight::Int8(v) => {
                bytes.extend(INT8.to_le_bytes());
                bytes.extend(v.iter().flat_map(|v| v.to_le_bytes()));
            }
        }
        // What follows stands at a multiple of four.
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    bytes
}
