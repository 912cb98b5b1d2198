//! From a graph to an ML program.

use super::image::Pixels;
use super::lower::{Entry, Form, Lower, RANK, held, lacks, open};
use super::names::Features;
use super::program::{Kind, Program, Ref, Type};
use super::weights::{Weights, encode};
use super::{activation, arithmetic, cuts, indexing, layers, pools, quantized, reduce, resize, shapes};
use compresso_base::error::{Error, Result};
use compresso_model::{Facts, Graph, Node};

/// All operators that are written, a list for each kind.
const FAMILIES: &[&[Entry]] = &[
    layers::OPS,
    pools::OPS,
    activation::OPS,
    arithmetic::OPS,
    shapes::OPS,
    cuts::OPS,
    reduce::OPS,
    indexing::OPS,
    resize::OPS,
    quantized::OPS,
];

fn form(node: &Node) -> Result<Form> {
    let own = node.domain.is_empty() || node.domain == "ai.onnx";
    let found = FAMILIES.iter().flat_map(|f| f.iter()).find(|(name, _)| own && *name == node.op);
    found.map(|(_, form)| *form).ok_or_else(|| {
        let whose = if own { String::new() } else { format!(" of the domain '{}'", node.domain) };
        Error::unsupported(format!("Core ML's writer has no operations for the operator {}{whose}", node.op))
    })
}

/// The program of a graph whose sizes are known, or what cannot be written, at each node. `image`: the input that is an image.
///
/// # Errors
/// Whatever shape inference reports.
pub(super) fn translate(
    graph: &Graph,
    form_of_weights: Weights,
    image: Option<&Pixels>,
) -> Result<std::result::Result<Program, Vec<Error>>> {
    let facts = graph.facts()?;
    let features = Features::of(graph);
    let encoded = encode(graph, form_of_weights)?;
    let mut net = Program::new(features.inputs.values().chain(features.outputs.values()).cloned());
    let mut wrong = Vec::new();
    for input in graph.feeds() {
        if let Err(e) = feed(&mut net, &facts, &input.name, &features.inputs[&input.name], image.filter(|i| i.name == input.name)) {
            wrong.push(e.at(format!("input '{}'", input.name)));
            stand_in(&mut net, &facts, std::slice::from_ref(&input.name));
        }
    }
    for node in graph.nodes() {
        let mut cx = Lower { graph, node, opset: graph.opset_of(node), facts: &facts, net: &mut net, encoded: &encoded };
        let made = form(node).and_then(|form| sized(&facts, node).and_then(|()| lower(&mut cx, form)));
        if let Err(e) = made {
            wrong.push(e.at(node.label()));
            // What comes after it is looked at all the same.
            stand_in(&mut net, &facts, &node.outputs);
        }
    }
    for output in graph.outputs() {
        if let Err(e) = result(&mut net, graph, &facts, &output.name, &features.outputs[&output.name]) {
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
        Form::Same(kind) => {
            let x = cx.float(0)?;
            let y = cx.like(kind, x, &[]);
            cx.one(y)
        }
        Form::With(with) => with(cx),
    }
}

/// All sizes of what a node makes are known, and none is 0.
fn sized(facts: &Facts, node: &Node) -> Result<()> {
    for fact in node.outputs.iter().filter_map(|name| facts.get(name)) {
        match fact.dims() {
            None => return Err(open(format!("the sizes of what it makes, which is {fact},"))),
            Some(dims) if dims.contains(&0) => return Err(lacks("tensors without elements")),
            Some(_) => {}
        }
    }
    Ok(())
}

fn feed(net: &mut Program, facts: &Facts, name: &str, feature: &str, image: Option<&Pixels>) -> Result<()> {
    let fact = facts.get(name).ok_or_else(|| Error::internal("an input without a type"))?;
    let dims = fact.dims().ok_or_else(|| open(format!("its sizes, it is {fact},")))?;
    let kind = Kind::of(fact.element)?;
    if kind == Kind::Bool {
        return Err(lacks("inputs of booleans"));
    }
    if dims.is_empty() || dims.len() > RANK || dims.contains(&0) {
        return Err(lacks(format!("inputs of the shape {dims:?}: they have 1 to {RANK} axes, and elements")));
    }
    let mut value = net.input(feature, Type::new(kind, &dims));
    if let Some(image) = image {
        value = image.write(net, value, fact)?;
    }
    net.know(name, value);
    Ok(())
}

/// Makes a value an output under its own name; booleans are given out as int32.
fn result(net: &mut Program, graph: &Graph, facts: &Facts, name: &str, feature: &str) -> Result<()> {
    let rank = facts.get(name).and_then(compresso_model::Fact::rank);
    if let Some(rank) = rank.filter(|&r| r == 0 || r > RANK) {
        return Err(lacks(format!("outputs of {rank} axes; they have 1 to {RANK}")));
    }
    let made = net.value(name).map_or_else(|| constant_output(net, graph, facts, name), Ok)?;
    let mut value = made;
    if matches!(net.made(value).kind, Kind::Bool | Kind::I8 | Kind::U8) {
        let dims = net.made(value).dims.clone();
        let word = net.constant("cast_dtype", super::program::Literal::text(Kind::I32.word()));
        let inputs = vec![("x", vec![value]), ("dtype", vec![word])];
        value = net.operation(feature, "cast", inputs, Vec::new(), vec![Type::new(Kind::I32, &dims)])[0];
    } else if net.inputs.contains(&value) || net.outputs.contains(&value) || net.is_constant(value) {
        // A value has one name.
        let like = net.made(value).clone();
        value = net.operation(feature, "identity", vec![("x", vec![value])], Vec::new(), vec![like])[0];
    }
    net.rename(value, feature, true);
    net.outputs.push(value);
    Ok(())
}

/// An output that no node makes.
fn constant_output(net: &mut Program, graph: &Graph, facts: &Facts, name: &str) -> Result<Ref> {
    let constant = graph.constant(name).or_else(|| facts.get(name)?.constant.as_ref());
    let c = constant.ok_or_else(|| Error::internal("an output that nothing makes"))?;
    super::lower::constant_value(net, &std::collections::BTreeMap::new(), name, c)
}

/// Makes values that cannot be written known to what reads them.
fn stand_in(net: &mut Program, facts: &Facts, names: &[String]) {
    for name in names.iter().filter(|n| !n.is_empty()) {
        let fact = facts.get(name);
        let kind = fact.and_then(|f| Kind::of(f.element).ok()).unwrap_or(Kind::F32);
        let dims = fact.and_then(compresso_model::Fact::dims).unwrap_or_default();
        let value = net.operation(name, "unknown", Vec::new(), Vec::new(), vec![Type::new(kind, &held(&dims))])[0];
        net.know(name, value);
    }
}
