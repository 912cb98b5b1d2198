//! The two files of the IR: the network as XML, and what its Const layers hold.

use super::element::{attribute, precision};
use super::net::{Layer, Net, Output};
use compresso_base::error::{At, Result};
use compresso_model::Dim;
use std::collections::HashMap;
use std::fmt::Write;

/// Constants begin at multiples of so many bytes, as vector instructions like them.
const ALIGNMENT: usize = 64;

/// What the network says of itself: groups of names with values.
pub(super) type Info = Vec<(String, Vec<(String, String)>)>;

/// Text and constants of a network.
///
/// # Errors
/// `Unsupported` for element types that the IR lacks.
pub(super) fn render(net: &Net, name: &str, info: &Info) -> Result<(String, Vec<u8>)> {
    let mut blob = Blob::default();
    let mut text = format!("<?xml version=\"1.0\"?>\n<net name=\"{}\" version=\"11\">\n\t<layers>\n", escaped(name));
    for (id, layer) in net.layers.iter().enumerate() {
        write_layer(&mut text, net, id, layer, &mut blob).at(|| format!("layer '{}' ({})", layer.name, layer.kind))?;
    }
    text += "\t</layers>\n\t<edges>\n";
    for (id, layer) in net.layers.iter().enumerate() {
        for (at, from) in layer.inputs.iter().enumerate() {
            let port = net.layers[from.layer].inputs.len() + from.output;
            let _ = writeln!(text, "\t\t<edge from-layer=\"{}\" from-port=\"{port}\" to-layer=\"{id}\" to-port=\"{at}\" />", from.layer);
        }
    }
    text += "\t</edges>\n\t<rt_info>\n";
    for (group, values) in info {
        let _ = writeln!(text, "\t\t<{group}>");
        for (name, value) in values {
            let _ = writeln!(text, "\t\t\t<{name} value=\"{}\" />", escaped(value));
        }
        let _ = writeln!(text, "\t\t</{group}>");
    }
    text += "\t</rt_info>\n</net>\n";
    Ok((text, blob.bytes))
}

fn write_layer(text: &mut String, net: &Net, id: usize, layer: &Layer, blob: &mut Blob) -> Result<()> {
    let mut attrs = layer.attrs.clone();
    if let (Some(data), Some(out)) = (&layer.data, layer.outputs.first()) {
        let bytes = data.bytes()?;
        let shape: Vec<String> = out.shape.iter().flatten().map(ToString::to_string).collect();
        attrs.push(("element_type", attribute(out.element)?.into()));
        attrs.push(("shape", shape.join(", ")));
        attrs.push(("offset", blob.place(&bytes).to_string()));
        attrs.push(("size", bytes.len().to_string()));
    }
    let (name, kind, set) = (escaped(&layer.name), layer.kind, layer.set);
    let _ = writeln!(text, "\t\t<layer id=\"{id}\" name=\"{name}\" type=\"{kind}\" version=\"opset{set}\">");
    if !attrs.is_empty() {
        let attrs: Vec<String> = attrs.iter().map(|(k, v)| format!("{k}=\"{}\"", escaped(v))).collect();
        let _ = writeln!(text, "\t\t\t<data {} />", attrs.join(" "));
    }
    if layer.decompresses {
        *text += "\t\t\t<rt_info>\n\t\t\t\t<attribute name=\"decompression\" version=\"0\" />\n\t\t\t</rt_info>\n";
    }
    if !layer.inputs.is_empty() {
        *text += "\t\t\t<input>\n";
        for (at, from) in layer.inputs.iter().enumerate() {
            write_port(text, at, net.output(*from), false)?;
        }
        *text += "\t\t\t</input>\n";
    }
    if !layer.outputs.is_empty() {
        *text += "\t\t\t<output>\n";
        for (at, out) in layer.outputs.iter().enumerate() {
            write_port(text, layer.inputs.len() + at, out, true)?;
        }
        *text += "\t\t\t</output>\n";
    }
    *text += "\t\t</layer>\n";
    Ok(())
}

fn write_port(text: &mut String, id: usize, out: &Output, named: bool) -> Result<()> {
    let _ = write!(text, "\t\t\t\t<port id=\"{id}\" precision=\"{}\"", precision(out.element)?);
    if named && !out.names.is_empty() {
        // Names are parted by commas; a backslash makes one part of a name.
        let names: Vec<String> = out.names.iter().map(|n| n.replace(',', "\\,")).collect();
        let _ = write!(text, " names=\"{}\"", escaped(&names.join(",")));
    }
    let dims = out.shape.as_deref().unwrap_or_default();
    if dims.is_empty() {
        *text += " />\n";
        return Ok(());
    }
    *text += ">\n";
    for dim in dims {
        let _ = writeln!(text, "\t\t\t\t\t<dim>{}</dim>", size(dim));
    }
    *text += "\t\t\t\t</port>\n";
    Ok(())
}

/// A size as the IR has it: open ones are -1.
pub(super) fn size(dim: &Dim) -> String {
    dim.known().map_or_else(|| "-1".into(), |n| n.to_string())
}

/// Text as it stands in an attribute; what XML has no characters for becomes a question mark.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\t' | '\n' | '\r' => {
                let _ = write!(out, "&#{};", u32::from(c));
            }
            c if c < ' ' || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('?'),
            c => out.push(c),
        }
    }
    out
}

/// The second file: equal constants stand in it once.
#[derive(Default)]
struct Blob {
    bytes: Vec<u8>,
    /// Places by hash and length.
    places: HashMap<(u64, usize), Vec<usize>>,
}

impl Blob {
    fn place(&mut self, bytes: &[u8]) -> usize {
        let known = self.places.entry((hash(bytes), bytes.len())).or_default();
        if let Some(&at) = known.iter().find(|&&at| self.bytes[at..at + bytes.len()] == *bytes) {
            return at;
        }
        let at = self.bytes.len().next_multiple_of(ALIGNMENT);
        self.bytes.resize(at, 0);
        self.bytes.extend_from_slice(bytes);
        known.push(at);
        at
    }
}

/// The same for the same bytes in every process.
fn hash(bytes: &[u8]) -> u64 {
    use std::hash::{DefaultHasher, Hasher};
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

/// Whether a name may stand for an element of the XML.
pub(super) fn element_name(name: &str) -> bool {
    let first = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    first && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
}
