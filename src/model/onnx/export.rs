//! Graph to protobuf.

use super::external::ExternalData;
use super::proto::{AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto, attribute_type as kind};
use super::scan::{GRAPH_FIELDS, MODEL_FIELDS, decode, malformed, put_header, unknown_fields};
use super::text::{entries, set};
use super::{Print, sparse, tensor, types};
use crate::{Attr, Constant, Element, Fact, Facts, Graph, Node, ValueInfo};
use bytes::{Buf, BufMut, Bytes};
use compresso_base::error::{Error, Result};
use prost::Message;
use std::collections::{HashMap, HashSet};

/// Protobuf cannot hold more in one message.
pub const MESSAGE_LIMIT: usize = i32::MAX as usize;

/// Where the values of constants of the main graph lie, for those that do not stand in the model file.
pub type Places = HashMap<String, ExternalData>;

/// The encoded `ModelProto` of a graph.
pub fn model(graph: &Graph, places: &Places) -> Result<Vec<u8>> {
    let mut shell = Shell::of(graph)?;
    if shell.fresh {
        shell.model.producer_name = Some("compresso".into());
        shell.model.producer_version = Some(env!("CARGO_PKG_VERSION").into());
    }
    let encoded = graph_proto(graph, &mut shell, places, true)?;
    if entries(&shell.model.metadata_props) != graph.metadata {
        let entry = |(k, v): (&String, &String)| StringStringEntryProto { key: Some(k.clone()), value: Some(v.clone()) };
        shell.model.metadata_props = graph.metadata.iter().map(entry).collect();
    }
    let before =
        shell.model.opset_import.iter().find(|o| matches!(o.domain.as_deref(), None | Some("" | "ai.onnx"))).and_then(|o| o.version);
    let changed = set_opsets(&mut shell.model, graph) || encoded.changed;
    let needed = ir_version(graph, &encoded);
    // Readers of an older operator set may know no newer version of the format.
    let lowered = before.is_some_and(|before| before > graph.opset());
    if shell.fresh || lowered || (changed && shell.model.ir_version.is_some_and(|v| v < needed)) {
        shell.model.ir_version = Some(needed);
    }

    // The graph goes in field 7, between the others, without being encoded twice.
    let tail = ModelProto {
        opset_import: std::mem::take(&mut shell.model.opset_import),
        metadata_props: std::mem::take(&mut shell.model.metadata_props),
        training_info: std::mem::take(&mut shell.model.training_info),
        functions: std::mem::take(&mut shell.model.functions),
        configuration: std::mem::take(&mut shell.model.configuration),
        ..ModelProto::default()
    };
    let inner = encoded.proto.encoded_len() + shell.graph_unknown.len();
    let total = shell.model.encoded_len() + inner + tail.encoded_len() + shell.model_unknown.len() + 16;
    if total > MESSAGE_LIMIT {
        let e = Error::unsupported(format!("the model is {total} bytes, and ONNX files hold at most {MESSAGE_LIMIT}"));
        return Err(e.hint("save it with external data"));
    }
    let mut out = Vec::with_capacity(total);
    encode_into(&shell.model, &mut out);
    put_header(7, inner, &mut out);
    encode_into(&encoded.proto, &mut out);
    out.put_slice(&shell.graph_unknown);
    encode_into(&tail, &mut out);
    out.put_slice(&shell.model_unknown);
    Ok(out)
}

fn encode_into(message: &impl Message, out: &mut Vec<u8>) {
    message.encode(out).expect("a vector grows as needed");
}

/// What the file had around the graph's items.
struct Shell {
    model: ModelProto,
    graph: GraphProto,
    model_unknown: Bytes,
    graph_unknown: Bytes,
    print: u64,
    /// True for a graph that came from no file.
    fresh: bool,
}

impl Shell {
    fn of(graph: &Graph) -> Result<Self> {
        let Some(mut wire) = graph.wire.0.clone() else {
            let (model, graph) = (ModelProto::default(), GraphProto::default());
            return Ok(Self { model, graph, model_unknown: Bytes::new(), graph_unknown: Bytes::new(), print: 0, fresh: true });
        };
        let print = wire.get_u64_le();
        let mut model: ModelProto = decode(&wire, "the model")?;
        let inner = model.graph.take().unwrap_or_default();
        Ok(Self {
            model,
            graph: decode(&inner, "the graph")?,
            model_unknown: unknown_fields(&wire, MODEL_FIELDS).map_err(|e| malformed("the model", e))?,
            graph_unknown: unknown_fields(&inner, GRAPH_FIELDS).map_err(|e| malformed("the graph", e))?,
            print,
            fresh: false,
        })
    }
}

struct Encoded {
    proto: GraphProto,
    /// Nodes, inputs or the constants' types differ from the file's.
    changed: bool,
}

fn graph_proto(graph: &Graph, shell: &mut Shell, places: &Places, main: bool) -> Result<Encoded> {
    let mut p = std::mem::take(&mut shell.graph);
    let mut print = Print::default();
    set(&mut p.name, &graph.name);
    if shell.fresh && graph.name.is_empty() {
        // A name is required.
        p.name = Some("main".into());
    }

    // Sparse constants stay sparse while they have the values of the file.
    let mut sparse_names = Vec::new();
    let mut kept = Vec::new();
    for b in std::mem::take(&mut p.sparse_initializer) {
        let (name, dense) = sparse::import(&b, &super::external::Files::default())?;
        if graph.constants.get(&name).is_some_and(|c| *c == dense) {
            sparse_names.push(name);
            kept.push(b);
        }
    }
    p.sparse_initializer = kept;
    for (name, c) in &graph.constants {
        if sparse_names.contains(name) {
            continue;
        }
        print.constant(name, c);
        let external = if main { places.get(name) } else { None };
        p.initializer.push(tensor::export(c, Some(name), external)?);
    }
    for name in &sparse_names {
        print.constant(name, &graph.constants[name]);
    }
    for info in &graph.inputs {
        let b = types::export(info)?;
        print.bytes(&b);
        p.input.push(b);
    }
    for node in &graph.nodes {
        let b = encode_node(node)?;
        print.bytes(&b);
        p.node.push(b);
    }
    let changed = shell.fresh || print.finish() != shell.print;
    let facts = if changed && main { inferred(graph) } else { None };
    for info in &graph.outputs {
        let better = facts.as_ref().and_then(|f| corrected(info, f));
        p.output.push(types::export(better.as_ref().unwrap_or(info))?);
    }
    let listed = std::mem::take(&mut p.value_info);
    if !changed && !listed.is_empty() && types::value_infos(&listed)? == graph.value_info {
        p.value_info = listed;
    } else if let Some(facts) = &facts {
        for info in graph.value_info.values().filter(|i| facts.contains_key(&i.name)) {
            p.value_info.push(types::export(corrected(info, facts).as_ref().unwrap_or(info))?);
        }
    } else if !changed || shell.fresh {
        p.value_info = graph.value_info.values().map(types::export).collect::<Result<_>>()?;
    }
    if changed {
        let made = graph.nodes.iter().flat_map(|n| n.outputs.iter().map(String::as_str));
        let alive: HashSet<&str> =
            made.chain(graph.constants.keys().map(String::as_str)).chain(graph.inputs.iter().map(|i| i.name.as_str())).collect();
        p.quantization_annotation.retain(|a| alive.contains(a.tensor_name.as_deref().unwrap_or("")));
    }
    Ok(Encoded { proto: p, changed })
}

/// Types by inference alone: after a change, what the file said may be wrong.
fn inferred(graph: &Graph) -> Option<Facts> {
    let mut g = graph.clone();
    g.value_info.clear();
    for o in &mut g.outputs {
        o.fact = Fact::unranked(o.fact.element);
    }
    crate::infer(&g).ok()
}

/// The declaration with the inferred type, where the two contradict each other or the declaration has no shape.
fn corrected(info: &ValueInfo, facts: &Facts) -> Option<ValueInfo> {
    let found = facts.get(&info.name)?;
    let agrees = found.element == info.fact.element
        && match (&found.shape, &info.fact.shape) {
            (Some(a), Some(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.compatible(b)),
            (found, None) => found.is_none(),
            (None, Some(_)) => true,
        };
    if agrees {
        return None;
    }
    let fact = Fact { contents: None, constant: None, ..found.clone() };
    Some(ValueInfo { fact, ..info.clone() })
}

/// Sets the operator sets to the graph's; says whether any differed.
fn set_opsets(model: &mut ModelProto, graph: &Graph) -> bool {
    let before = model.opset_import.clone();
    for (domain, &version) in &graph.opsets {
        let same = |o: &&mut OperatorSetIdProto| o.domain.as_deref().unwrap_or("") == domain;
        match model.opset_import.iter_mut().find(same) {
            Some(o) if o.version == Some(version) => {}
            Some(o) => o.version = Some(version),
            None => model.opset_import.push(OperatorSetIdProto { domain: Some(domain.clone()), version: Some(version) }),
        }
    }
    model.opset_import.retain(|o| graph.opsets.contains_key(o.domain.as_deref().unwrap_or("")));
    model.opset_import != before
}

/// The oldest IR version that allows what a graph uses (table of releases in ONNX's docs/Versioning.md).
fn ir_version(graph: &Graph, encoded: &Encoded) -> i64 {
    let by_opset = match graph.opset() {
        ..=8 => 3,
        9 => 4,
        10 => 5,
        11 => 6,
        12..=14 => 7,
        15..=18 => 8,
        19..=20 => 9,
        21..=22 => 10,
        23 => 11,
        24 => 12,
        25..=26 => 13,
        _ => 14,
    };
    // Until version 4, every initializer was also an input.
    let inputs: HashSet<&str> = graph.inputs.iter().map(|i| i.name.as_str()).collect();
    let listed = graph.constants.keys().all(|name| inputs.contains(name.as_str()));
    let by_inputs = if listed && encoded.proto.sparse_initializer.is_empty() { 3 } else { 4 };
    let by_types = graph.constants.values().map(|c| element_since(c.element())).max().unwrap_or(3);
    by_opset.max(by_inputs).max(by_types)
}

fn element_since(e: Element) -> i64 {
    match e {
        Element::F8E4M3FN | Element::F8E4M3FNUZ | Element::F8E5M2 | Element::F8E5M2FNUZ => 9,
        Element::U4 | Element::I4 => 10,
        Element::F4E2M1 => 11,
        Element::F8E8M0 => 12,
        Element::U2 | Element::I2 => 13,
        Element::F6E2M3 | Element::F6E3M2 => 14,
        _ => 3,
    }
}

fn encode_node(node: &Node) -> Result<Bytes> {
    let had: Option<NodeProto> = node.wire.0.as_ref().map(|w| decode(w, "a node")).transpose()?;
    let mut p = had.clone().unwrap_or_default();
    p.input.clone_from(&node.inputs);
    p.output.clone_from(&node.outputs);
    set(&mut p.name, &node.name);
    set(&mut p.op_type, &node.op);
    set(&mut p.domain, &node.domain);
    let mut before: HashMap<String, (Bytes, AttributeProto)> = HashMap::new();
    for b in std::mem::take(&mut p.attribute) {
        let a: AttributeProto = decode(&b, "an attribute")?;
        before.insert(a.name.clone().unwrap_or_default(), (b, a));
    }
    for (name, attr) in &node.attrs {
        p.attribute.push(encode_attribute(name, attr, before.remove(name)).map_err(|e| e.at(node.label()))?);
    }
    Ok(match (&node.wire.0, had) {
        (Some(wire), Some(had)) if had == p => wire.clone(),
        _ => p.encode_to_vec().into(),
    })
}

fn encode_attribute(name: &str, attr: &Attr, before: Option<(Bytes, AttributeProto)>) -> Result<Bytes> {
    if let Attr::Opaque(b) = attr {
        return Ok(b.clone());
    }
    let (bytes, had) = before.map_or((None, None), |(b, a)| (Some(b), Some(a)));
    let mut p = AttributeProto { doc_string: had.as_ref().and_then(|a| a.doc_string.clone()), ..AttributeProto::default() };
    p.name = had.as_ref().map_or_else(|| Some(name.to_string()), |a| a.name.clone());
    let inner = |g: &Graph| -> Result<Bytes> {
        let mut shell = Shell::of(g)?;
        let encoded = graph_proto(g, &mut shell, &Places::new(), false)?;
        let mut out = encoded.proto.encode_to_vec();
        out.extend_from_slice(&shell.graph_unknown);
        Ok(out.into())
    };
    let tensor = |c: &Constant| tensor::export(c, None, None);
    p.r#type = Some(match attr {
        Attr::Float(v) => {
            p.f = Some(*v);
            kind::FLOAT
        }
        Attr::Int(v) => {
            p.i = Some(*v);
            kind::INT
        }
        Attr::Str(v) => {
            p.s = Some(v.clone());
            kind::STRING
        }
        Attr::Tensor(c) => {
            p.t = Some(tensor(c)?);
            kind::TENSOR
        }
        Attr::Graph(g) => {
            p.g = Some(inner(g)?);
            kind::GRAPH
        }
        Attr::Floats(v) => {
            p.floats.clone_from(v);
            kind::FLOATS
        }
        Attr::Ints(v) => {
            p.ints.clone_from(v);
            kind::INTS
        }
        Attr::Strs(v) => {
            p.strings.clone_from(v);
            kind::STRINGS
        }
        Attr::Tensors(v) => {
            p.tensors = v.iter().map(tensor).collect::<Result<_>>()?;
            kind::TENSORS
        }
        Attr::Graphs(v) => {
            p.graphs = v.iter().map(inner).collect::<Result<_>>()?;
            kind::GRAPHS
        }
        Attr::Opaque(_) => kind::UNDEFINED,
    });
    // The same value stays as it was written, whatever else the file said of it.
    if let (Some(bytes), Some(had)) = (bytes, had)
        && same_value(&had, &p)
    {
        return Ok(bytes);
    }
    Ok(p.encode_to_vec().into())
}

/// Whether an attribute of a file has the value of one to be written. An absent scalar is zero.
fn same_value(had: &AttributeProto, p: &AttributeProto) -> bool {
    let said = had.r#type.unwrap_or(kind::UNDEFINED);
    let (a, b) = (had, p);
    (said == kind::UNDEFINED || Some(said) == p.r#type)
        && match p.r#type.unwrap_or(kind::UNDEFINED) {
            kind::FLOAT => a.f.unwrap_or(0.0).to_bits() == b.f.unwrap_or(0.0).to_bits(),
            kind::INT => a.i.unwrap_or(0) == b.i.unwrap_or(0),
            kind::STRING => a.s.as_deref().unwrap_or_default() == b.s.as_deref().unwrap_or_default(),
            kind::TENSOR => a.t == b.t,
            kind::GRAPH => a.g == b.g,
            kind::FLOATS => a.floats.len() == b.floats.len() && a.floats.iter().zip(&b.floats).all(|(a, b)| a.to_bits() == b.to_bits()),
            kind::INTS => a.ints == b.ints,
            kind::STRINGS => a.strings == b.strings,
            kind::TENSORS => a.tensors == b.tensors,
            kind::GRAPHS => a.graphs == b.graphs,
            _ => false,
        }
}
