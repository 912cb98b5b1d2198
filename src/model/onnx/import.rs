//! Protobuf to graph.

use super::external::Files;
use super::functions::{Function, Functions};
use super::proto::{AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, attribute_type as kind};
use super::scan::{GRAPH_FIELDS, MODEL_FIELDS, decode, keep, malformed, put_header, unknown_fields};
use super::text::entries;
use super::{Print, sparse, tensor, types};
use crate::graph::NEWEST_OPSET;
use crate::wire::Wire;
use crate::{Attr, Graph, Node};
use bytes::{BufMut, Bytes, BytesMut};
use compresso_base::error::{Error, Result};
use indexmap::IndexMap;
use indexmap::map::Entry;
use prost::Message;
use std::collections::HashSet;

/// Graphs nested deeper than this (If in Loop in If …) are refused.
const MAX_DEPTH: usize = 24;
/// Oldest version of the ONNX operator set that is understood.
const OLDEST_OPSET: i64 = 7;

/// The graph of an encoded `ModelProto`.
pub fn model(bytes: &Bytes, files: &Files) -> Result<Graph> {
    if bytes.is_empty() {
        return Err(Error::format("the file is empty"));
    }
    if bytes.starts_with(b"version https://git-lfs") {
        return Err(Error::format("this is a Git LFS pointer, not a model").hint("fetch the file itself with 'git lfs pull'"));
    }
    let mut proto: ModelProto = decode(bytes, "the model")?;
    let graph_bytes =
        proto.graph.take().ok_or_else(|| Error::format("the model has no graph: the file is damaged or not an ONNX model"))?;
    let opsets = opsets(&proto.opset_import, "the model")?;
    let unknown = unknown_fields(bytes, MODEL_FIELDS).map_err(|e| malformed("the model", e))?;
    let encoded = std::mem::take(&mut proto.functions);
    let functions = Functions::new(encoded.iter().map(|b| function(b, files)).collect::<Result<_>>()?)?;
    let mut graph = graph(&graph_bytes, proto.clone(), &unknown, &opsets, files, 0)?;
    if functions.are_called(&graph) {
        // The model is saved as it is run, without them.
        functions.inline(&mut graph)?;
    } else if !encoded.is_empty() {
        // What nothing calls is kept.
        graph = self::graph(&graph_bytes, ModelProto { functions: encoded, ..proto }, &unknown, &opsets, files, 0)?;
    }
    if !graph.opsets.contains_key("")
        && !graph.opsets.contains_key("ai.onnx")
        && graph.nodes.iter().any(|n| matches!(n.domain.as_str(), "" | "ai.onnx"))
    {
        return Err(Error::format("the model does not say which operator set it uses"));
    }
    graph.check()?;
    Ok(graph)
}

/// Operator sets by domain. `of` says whose they are.
fn opsets(imports: &[OperatorSetIdProto], of: &str) -> Result<IndexMap<String, i64>> {
    let mut map = IndexMap::new();
    for o in imports {
        let (domain, version) = (o.domain.clone().unwrap_or_default(), o.version.unwrap_or(0));
        let said = if domain.is_empty() { "ONNX".to_string() } else { format!("'{domain}'") };
        if matches!(domain.as_str(), "" | "ai.onnx") && !(OLDEST_OPSET..=NEWEST_OPSET).contains(&version) {
            let e = Error::unsupported(format!("the ONNX operator set {version} is not supported ({OLDEST_OPSET} to {NEWEST_OPSET} are)"));
            return Err(e.hint("export the model again with a supported opset, or convert it with onnx.version_converter"));
        }
        if map.insert(domain, version).is_some_and(|before| before != version) {
            return Err(Error::format(format!("{of} uses two versions of the {said} operator set")));
        }
    }
    Ok(map)
}

/// A graph, with the shell of the model it belongs to (an empty one for inner graphs).
fn graph(
    bytes: &Bytes,
    mut shell: ModelProto,
    unknown: &[u8],
    opsets: &IndexMap<String, i64>,
    files: &Files,
    depth: usize,
) -> Result<Graph> {
    if depth > MAX_DEPTH {
        return Err(Error::format(format!("graphs are nested deeper than {MAX_DEPTH} levels")));
    }
    let mut proto: GraphProto = decode(bytes, "the graph")?;
    let mut graph = Graph { name: proto.name.clone().unwrap_or_default(), opsets: opsets.clone(), ..Graph::default() };
    let mut print = Print::default();

    for b in std::mem::take(&mut proto.initializer) {
        let (name, c) = tensor::import(&b, files)?;
        print.constant(&name, &c);
        add_constant(&mut graph, name, c)?;
    }
    for b in &proto.sparse_initializer {
        let (name, c) = sparse::import(b, files)?;
        print.constant(&name, &c);
        add_constant(&mut graph, name, c)?;
    }
    for b in std::mem::take(&mut proto.input) {
        let (info, typed) = types::import(&b)?;
        if depth == 0 && !typed {
            let e = Error::unsupported("is not a tensor of a known type (only tensors can be fed)");
            return Err(e.at(format!("input '{}'", info.name)));
        }
        if info.name.is_empty() {
            return Err(Error::format("an input of the graph has no name"));
        }
        print.bytes(&b);
        graph.inputs.push(info);
    }
    let mut declared = HashSet::new();
    for b in std::mem::take(&mut proto.output) {
        let (info, _) = types::import(&b)?;
        if depth == 0 && !declared.insert(info.name.clone()) {
            return Err(Error::check(format!("the output '{}' is declared twice", info.name)));
        }
        graph.outputs.push(info);
    }
    let listed = std::mem::take(&mut proto.value_info);
    graph.value_info = types::value_infos(&listed)?;
    if graph.value_info.len() != listed.len() {
        // Some tools list values twice. The shell keeps the list.
        proto.value_info = listed;
    }
    let nodes = std::mem::take(&mut proto.node);
    graph.nodes = Vec::with_capacity(nodes.len());
    for (i, b) in nodes.iter().enumerate() {
        print.bytes(b);
        let node = node(b, opsets, files, depth).map_err(|e| if e.places().next().is_none() { e.at(format!("node {i}")) } else { e })?;
        graph.nodes.push(node);
    }
    graph.metadata = entries(&shell.metadata_props);
    graph.sort()?;

    let more = unknown_fields(bytes, GRAPH_FIELDS).map_err(|e| malformed("the graph", e))?;
    let inner = [proto.encode_to_vec().as_slice(), &more].concat();
    shell.graph = None;
    let mut wire = BytesMut::with_capacity(8 + shell.encoded_len() + inner.len() + unknown.len() + 16);
    wire.put_u64_le(print.finish());
    wire.put_slice(&shell.encode_to_vec());
    let mut header = Vec::new();
    put_header(7, inner.len(), &mut header);
    wire.put_slice(&header);
    wire.put_slice(&inner);
    wire.put_slice(unknown);
    graph.wire = Wire(Some(wire.freeze()));
    Ok(graph)
}

/// An operator that the model defines itself.
fn function(bytes: &Bytes, files: &Files) -> Result<Function> {
    let proto: FunctionProto = decode(bytes, "a function")?;
    let id = [proto.domain.unwrap_or_default(), proto.name.unwrap_or_default(), proto.overload.unwrap_or_default()];
    let place = |e: Error| e.at(format!("function '{}'", id[1]));
    let opsets = opsets(&proto.opset_import, "the function").map_err(place)?;
    let default = |b: &Bytes| -> Result<(String, Attr)> {
        let p: AttributeProto = decode(b, "an attribute")?;
        Ok((p.name.clone().unwrap_or_default(), attribute(b, p, &opsets, files, 0)?))
    };
    Ok(Function {
        defaults: proto.attribute_proto.iter().map(default).collect::<Result<_>>().map_err(place)?,
        nodes: proto.node.iter().map(|b| node(b, &opsets, files, 0)).collect::<Result<_>>().map_err(place)?,
        constants: IndexMap::new(),
        inputs: proto.input,
        outputs: proto.output,
        opsets,
        id,
    })
}

fn add_constant(graph: &mut Graph, name: String, c: crate::Constant) -> Result<()> {
    if name.is_empty() {
        return Err(Error::format("an initializer of the graph has no name"));
    }
    match graph.constants.entry(name) {
        Entry::Occupied(e) => Err(Error::check(format!("the constant '{}' is there twice", e.key()))),
        Entry::Vacant(e) => {
            e.insert(c);
            Ok(())
        }
    }
}

fn node(bytes: &Bytes, opsets: &IndexMap<String, i64>, files: &Files, depth: usize) -> Result<Node> {
    let bytes = keep(bytes);
    let proto: NodeProto = decode(&bytes, "a node")?;
    let mut node = Node {
        name: proto.name.unwrap_or_default(),
        op: proto.op_type.unwrap_or_default(),
        domain: proto.domain.unwrap_or_default(),
        inputs: proto.input,
        outputs: proto.output,
        attrs: IndexMap::with_capacity(proto.attribute.len()),
        wire: Wire(None),
    };
    if node.op.is_empty() {
        return Err(Error::format("has no operator").at(node.label()));
    }
    if node.inputs.is_empty() && node.outputs.is_empty() {
        return Err(Error::format("has neither inputs nor outputs").at(node.label()));
    }
    let mut seen = HashSet::new();
    for b in &proto.attribute {
        let p: AttributeProto = decode(b, "an attribute").map_err(|e| e.at(node.label()))?;
        let name = p.name.clone().unwrap_or_default();
        let place = |e: Error| e.at(format!("attribute '{name}'")).at(node.label());
        if !seen.insert(name.clone()) {
            return Err(place(Error::format("is there twice")));
        }
        let value = attribute(b, p, opsets, files, depth).map_err(place)?;
        node.attrs.insert(name, value);
    }
    node.wire = Wire(Some(bytes));
    Ok(node)
}

fn attribute(bytes: &Bytes, p: AttributeProto, opsets: &IndexMap<String, i64>, files: &Files, depth: usize) -> Result<Attr> {
    let inner = |b: &Bytes| graph(b, ModelProto::default(), &[], opsets, files, depth + 1);
    let tensor = |b: &Bytes| tensor::import(b, files).map(|(_, c)| c);
    if p.ref_attr_name.as_deref().is_some_and(|r| !r.is_empty()) {
        return Ok(Attr::Opaque(bytes.clone()));
    }
    // Files before IR version 2 do not say the type; the field that is there tells it.
    let said = p.r#type.unwrap_or(kind::UNDEFINED);
    let ty = if said == kind::UNDEFINED { guess(&p) } else { said };
    Ok(match ty {
        kind::FLOAT => Attr::Float(p.f.unwrap_or(0.0)),
        kind::INT => Attr::Int(p.i.unwrap_or(0)),
        kind::STRING => Attr::Str(p.s.unwrap_or_default()),
        kind::TENSOR => Attr::Tensor(tensor(&p.t.ok_or_else(|| Error::format("has no tensor"))?)?),
        kind::GRAPH => Attr::Graph(Box::new(inner(&p.g.ok_or_else(|| Error::format("has no graph"))?)?)),
        kind::FLOATS => Attr::Floats(p.floats),
        kind::INTS => Attr::Ints(p.ints),
        kind::STRINGS => Attr::Strs(p.strings),
        kind::TENSORS => Attr::Tensors(p.tensors.iter().map(tensor).collect::<Result<_>>()?),
        kind::GRAPHS => Attr::Graphs(p.graphs.iter().map(inner).collect::<Result<_>>()?),
        // Sparse tensors, types, and kinds of the future are kept as they are.
        _ => Attr::Opaque(bytes.clone()),
    })
}

fn guess(p: &AttributeProto) -> i32 {
    let present = [
        (p.f.is_some(), kind::FLOAT),
        (p.i.is_some(), kind::INT),
        (p.s.is_some(), kind::STRING),
        (p.t.is_some(), kind::TENSOR),
        (p.g.is_some(), kind::GRAPH),
        (!p.ints.is_empty(), kind::INTS),
        (!p.strings.is_empty(), kind::STRINGS),
        (!p.tensors.is_empty(), kind::TENSORS),
        (!p.graphs.is_empty(), kind::GRAPHS),
        (p.sparse_tensor.is_some() || p.tp.is_some(), kind::UNDEFINED),
    ];
    // Nothing there is an empty list.
    present.iter().find(|(there, _)| *there).map_or(kind::FLOATS, |(_, k)| *k)
}
