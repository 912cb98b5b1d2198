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

/// A name unlike the others, without the spaces that end it in the file, and not longer than NCNN reads.
fn unique(name: &str, used: &mut HashSet<String>) -> String {
    let plain: String = name.chars().map(|c| if c.is_ascii_graphic() { c } else { '_' }).take(200).collect();
    let plain = if plain.is_empty() { "layer".to_string() } else { plain };
    let name = std::iter::once(plain.clone()).chain((1..).map(|i| format!("{plain}_{i}"))).find(|n| !used.contains(n)).unwrap_or(plain);
    used.insert(name.clone());
    name
}

fn write_param(text: &mut String, layer: &Layer, id: u32, value: &Param) -> Result<()> {
    let _ = match value {
        Param::Int(v) => write!(text, " {id}={v}"),
        Param::Float(v) => write!(text, " {id}={}", float(*v).map_err(|e| e.at(layer.name.clone()))?),
        Param::Ints(v) => write!(text, " {}", array(id, v.iter().map(ToString::to_string).collect())),
        Param::Floats(v) => {
            let words: Result<Vec<String>> = v.iter().map(|&v| float(v)).collect();
            write!(text, " {}", array(id, words.map_err(|e| e.at(layer.name.clone()))?))
        }
    };
    Ok(())
}

/// Nine digits say a float32 exactly, and NCNN reads at most fifteen characters.
fn float(v: f32) -> Result<String> {
    if v.is_finite() {
        Ok(format!("{v:.8e}"))
    } else {
        Err(Error::unsupported(format!("a parameter is {v}, and NCNN's files hold finite numbers")))
    }
}

/// Arrays have the number -23300 - id, and say how many they are.
fn array(id: u32, words: Vec<String>) -> String {
    let words: Vec<String> = std::iter::once(words.len().to_string()).chain(words).collect();
    format!("-{}={}", 23300 + id, words.join(","))
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
            Weight::Tagged(v) | Weight::Exact(v) => {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_written_as_ncnn_reads_it() {
        let layers = vec![
            Layer { name: "x".into(), outputs: vec![0], ..Layer::new("Input").sizes(&[3, 4, 5]) },
            Layer { name: "a b".into(), inputs: vec![0], outputs: vec![1], ..Layer::new("ReLU").float(0, 0.1) },
            Layer { name: "a b".into(), inputs: vec![1], outputs: vec![2], ..Layer::new("Crop").ints(9, [1, 2]) },
        ];
        let net = Net { layers, blobs: 3, outputs: vec![2] };
        assert_eq!(
            param(&net).unwrap(),
            "7767517\n3 3\nInput x 0 1 in0 0=5 1=4 2=3\nReLU a_b 1 1 in0 1 0=1.00000001e-1\nCrop a_b_1 1 1 1 out0 -23309=2,1,2\n"
        );
        assert!((f32::MIN_POSITIVE * -1.234_567_8).to_string().len() > 15 && float(-f32::MIN_POSITIVE).unwrap().len() <= 15);
        assert!(float(f32::NAN).is_err());
    }

    #[test]
    fn weights_have_their_tags_and_start_at_multiples_of_four() {
        let layer = Layer::new("Convolution").weight(Weight::Tagged(vec![1.0, 1e9, -2.0])).weight(Weight::Plain(vec![0.5]));
        let net = Net { layers: vec![layer.weight(Weight::Int8(vec![1, -1, 2]))], blobs: 0, outputs: Vec::new() };
        let whole = bin(&net, false);
        assert_eq!(whole.len(), 4 + 12 + 4 + 4 + 4);
        assert_eq!((&whole[..8], &whole[20..]), (&[0, 0, 0, 0, 0, 0, 128, 63][..], &[0x38, 0x4B, 0x0D, 0, 1, 255, 2, 0][..]));
        let half = bin(&net, true);
        assert_eq!(half.len(), 4 + 8 + 4 + 4 + 4);
        assert_eq!(&half[..12], &[0x47, 0x6B, 0x30, 0x01, 0, 0x3C, 0xFF, 0x7B, 0, 0xC0, 0, 0]);
    }
}
