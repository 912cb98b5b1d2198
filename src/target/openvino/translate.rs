//! From a graph to a network of the IR.

use super::element::attribute;
use super::lower::{Entry, Form, Lower, open, value};
use super::net::{Net, Port};
use super::xml::size;
use super::{elementwise, indexing, layers, quantized, reduce, resize, shapes};
use compresso_base::error::{Error, Result};
use compresso_model::{Element, Facts, Graph, Node};

/// All operators that are written, a list for each kind.
pub(super) const FAMILIES: &[&[Entry]] =
    &[layers::OPS, elementwise::OPS, shapes::OPS, reduce::OPS, indexing::OPS, resize::OPS, quantized::OPS];

fn form(node: &Node) -> Result<Form> {
    let own = node.domain.is_empty() || node.domain == "ai.onnx";
    let found = FAMILIES.iter().flat_map(|f| f.iter()).find(|(name, _)| own && *name == node.op);
    found.map(|(_, form)| *form).ok_or_else(|| {
        let whose = if own { String::new() } else { format!(" of the domain '{}'", node.domain) };
        Error::unsupported(format!("OpenVINO's writer has no layers for the operator {}{whose}", node.op))
    })
}

/// The network of a graph, or what cannot be written, at each node. `half`: large float32 constants are stored in float16.
///
/// # Errors
/// Whatever shape inference reports.
pub(super) fn translate(graph: &Graph, half: bool) -> Result<std::result::Result<Net, Vec<Error>>> {
    let facts = graph.facts()?;
    let mut net = Net::new(half);
    let mut wrong = Vec::new();
    for input in graph.feeds() {
        if let Err(e) = parameter(&mut net, &facts, &input.name) {
            wrong.push(e.at(format!("input '{}'", input.name)));
            stand_in(&mut net, &facts, std::slice::from_ref(&input.name));
        }
    }
    let makers = graph.producers();
    for node in graph.nodes() {
        let mut cx = Lower { graph, node, opset: graph.opset_of(node), facts: &facts, makers: &makers, net: &mut net };
        match form(node).and_then(|form| lower(&mut cx, form)).and_then(|()| ranked(&facts, node)) {
            Ok(()) => quantized::carry(&mut cx),
            Err(e) => {
                wrong.push(e.at(node.label()));
                // What comes after it is looked at all the same.
                stand_in(&mut net, &facts, &node.outputs);
            }
        }
    }
    for output in graph.outputs() {
        if let Err(e) = value(&mut net, graph, &output.name).and_then(|port| result(&mut net, &output.name, port)) {
            wrong.push(e.at(format!("output '{}'", output.name)));
        }
    }
    if !wrong.is_empty() {
        return Ok(Err(wrong));
    }
    net.sweep();
    Ok(Ok(net))
}

fn lower(cx: &mut Lower<'_>, form: Form) -> Result<()> {
    match form {
        Form::Same(kind, set) => elementwise::simple(cx, kind, set, Vec::new()),
        Form::Test(kind, set) => {
            let inputs = cx.inputs()?;
            let y = cx.typed(kind, set, Vec::new(), &inputs, Element::Bool);
            cx.one(y)
        }
        Form::Chain(kind) => reduce::chain(cx, kind),
        Form::With(with) => with(cx),
    }
}

/// The CPU plugin has no values of an open rank.
fn ranked(facts: &Facts, node: &Node) -> Result<()> {
    let open_rank = |name: &String| facts.get(name).is_some_and(|f| f.shape.is_none());
    if node.outputs.iter().any(open_rank) { Err(open("the rank of what it makes")) } else { Ok(()) }
}

fn parameter(net: &mut Net, facts: &Facts, name: &str) -> Result<()> {
    let fact = facts.get(name).ok_or_else(|| Error::internal("an input without a type"))?;
    // The CPU plugin takes open sizes, but no open rank.
    let shape = fact.shape.clone().ok_or_else(|| open("the rank of an input"))?;
    let written = shape.iter().map(size).collect::<Vec<_>>().join(",");
    let attrs = vec![("shape", written), ("element_type", attribute(fact.element)?.to_string())];
    let layer = net.add(name, "Parameter", 1, attrs, &[], &[fact.element]);
    net.set(name, Port { layer, output: 0 }, Some(shape));
    Ok(())
}

fn result(net: &mut Net, name: &str, port: Port) -> Result<()> {
    attribute(net.element(port))?;
    net.add(&format!("{name}/sink_port_0"), "Result", 1, Vec::new(), &[port], &[]);
    Ok(())
}

/// Makes values that cannot be written known to what reads them.
fn stand_in(net: &mut Net, facts: &Facts, names: &[String]) {
    for name in names.iter().filter(|n| !n.is_empty()) {
        let element = facts.get(name).map_or(Element::F32, |f| f.element);
        let layer = net.add(name, "Unknown", 0, Vec::new(), &[], &[element]);
        net.set(name, Port { layer, output: 0 }, None);
    }
}
