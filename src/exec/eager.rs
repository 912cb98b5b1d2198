//! Runs a graph node by node on candle, on any device, with gradients.

use super::precision;
use super::tape::Tape;
use candle_core::{DType, Device, Tensor, Var};
use compresso_base::context::Cancel;
use compresso_base::error::{At, Error, Result, nearest};
use compresso_model::ops::{self, Exec, RunMode};
use compresso_model::{Graph, Node, Value};
use indexmap::IndexMap;
use std::collections::{HashMap, HashSet};

/// Outputs by name, in the order asked for.
pub type Outputs = IndexMap<String, Value>;
/// Tensors that stand in for constants of the same name: variables under training.
pub type Params = IndexMap<String, Tensor>;
/// Sees each value as it is made (and each input), for calibration.
pub type Observer<'a> = &'a mut dyn FnMut(&str, &Value) -> Result<()>;

/// Settings of a run; `Run::default()` gives the graph's outputs, on the CPU, in inference mode.
#[derive(Default)]
pub struct Run<'a> {
    /// Values to return; empty: the graph's outputs. Nodes that these do not need are not run.
    pub wanted: &'a [&'a str],
    /// Tensors in the places of constants.
    pub params: Option<&'a Params>,
    /// Values that [`run_with_tape`] takes as given: no gradient flows through them to what they were made of.
    pub stops: &'a [&'a str],
    /// Inference or training; inference where nothing is said.
    pub mode: Option<&'a RunMode>,
    /// What the run is stopped by, between nodes.
    pub cancel: Option<&'a Cancel>,
    /// Sees each value.
    pub observer: Option<Observer<'a>>,
    /// Where nodes run; the CPU where nothing is said.
    pub device: Option<Device>,
}

/// Runs `graph` on `feeds` (tensors by input name).
///
/// # Errors
/// `Argument` for missing, unknown or ill-shaped inputs; `Missing` for wanted values that do not exist; whatever an
/// operator reports, with its node; `Cancelled`.
pub fn run(graph: &Graph, feeds: &HashMap<String, Value>, options: Run<'_>) -> Result<Outputs> {
    let params = options.params;
    start(graph, feeds, options, params, &mut None)
}

/// Goes on with a run: `held` are values of the graph, inner ones too, and what they were made of is not run again. Nobody
/// observes it.
///
/// # Errors
/// As [`run`]; `Missing` for inputs that are needed and not held.
pub fn resume(graph: &Graph, held: HashMap<String, Value>, options: Run<'_>) -> Result<Outputs> {
    let default_mode = RunMode::default();
    let mode = options.mode.unwrap_or(&default_mode);
    let device = options.device.clone().or_else(|| held.values().next().map(|v| v.tensor.device().clone())).unwrap_or(Device::Cpu);
    let scope = Scope { params: options.params, stops: options.stops, cancel: options.cancel, mode, device: &device };
    run_in(graph, held, options.wanted, &scope, &mut None, &mut None)
}

/// As [`run`], and remembers what gradients with respect to the variables among the parameters need. Outputs that depend on
/// these are variables of their own: candle's backward pass stops there, and [`Tape::backward`] goes on.
///
/// # Errors
/// As [`run`].
pub fn run_with_tape<'g>(graph: &'g Graph, feeds: &HashMap<String, Value>, options: Run<'_>) -> Result<(Outputs, Tape<'g>)> {
    let none = Params::new();
    let params = options.params.unwrap_or(&none);
    let plain: Params = params.iter().map(|(n, t)| (n.clone(), t.detach())).collect();
    let mut tape = Some(Tape::new(params));
    let mut outputs = start(graph, feeds, options, Some(&plain), &mut tape)?;
    let mut tape = tape.unwrap_or_default();
    tape.finish(&mut outputs)?;
    Ok((outputs, tape))
}

fn start<'g>(
    graph: &'g Graph,
    feeds: &HashMap<String, Value>,
    mut options: Run<'_>,
    params: Option<&Params>,
    tape: &mut Option<Tape<'g>>,
) -> Result<Outputs> {
    check_feeds(graph, feeds)?;
    let default_mode = RunMode::default();
    let mode = options.mode.unwrap_or(&default_mode);
    let device = options.device.clone().or_else(|| feeds.values().next().map(|v| v.tensor.device().clone())).unwrap_or(Device::Cpu);
    let wanted: Vec<&str> =
        if options.wanted.is_empty() { graph.outputs().iter().map(|o| o.name.as_str()).collect() } else { options.wanted.to_vec() };
    let scope = Scope { params, stops: options.stops, cancel: options.cancel, mode, device: &device };
    run_in(graph, feeds.clone(), &wanted, &scope, &mut options.observer, tape)
}

/// What all nodes of a run share.
struct Scope<'a> {
    params: Option<&'a Params>,
    stops: &'a [&'a str],
    cancel: Option<&'a Cancel>,
    mode: &'a RunMode,
    device: &'a Device,
}

fn run_in<'g>(
    graph: &'g Graph,
    mut values: HashMap<String, Value>,
    wanted: &[&str],
    scope: &Scope<'_>,
    observer: &mut Option<Observer<'_>>,
    tape: &mut Option<Tape<'g>>,
) -> Result<Outputs> {
    // The body of a loop may have no nodes.
    scope.cancel.map_or(Ok(()), Cancel::check)?;
    let needed = needed_nodes(graph, wanted, &values);
    // How many needed nodes still read each value; a value is dropped at zero.
    let mut readers: HashMap<&str, usize> = HashMap::new();
    for &i in &needed {
        let node = &graph.nodes()[i];
        for name in node.inputs.iter().map(String::as_str).chain(node.captured()) {
            *readers.entry(name).or_default() += 1;
        }
    }
    let keep: HashSet<&str> = wanted.iter().copied().collect();
    if let Some(observe) = observer {
        for input in graph.feeds() {
            if let Some(v) = values.get(&input.name) {
                observe(&input.name, v)?;
            }
        }
    }
    let lookup = |values: &HashMap<String, Value>, name: &str| -> Result<Option<Value>> {
        if name.is_empty() {
            return Ok(None);
        }
        if let Some(v) = values.get(name) {
            return Ok(Some(v.clone()));
        }
        match (scope.params.and_then(|p| p.get(name)), graph.constant(name)) {
            (Some(t), Some(c)) => Ok(Some(Value::new(c.element(), t.clone())?)),
            (None, Some(c)) => Ok(Some(Value::of_constant(c, scope.device)?)),
            (Some(t), None) => Ok(Some(Value::plain(t.clone())?)),
            (None, None) => Ok(None),
        }
    };
    for &i in &needed {
        let node = &graph.nodes()[i];
        if let Some(c) = scope.cancel {
            c.check()?;
        }
        let op = ops::find(node)?;
        let inputs_of = |values: &HashMap<String, Value>| node.inputs.iter().map(|n| lookup(values, n)).collect::<Result<Vec<_>>>();
        let run_node = |values: &HashMap<String, Value>, inputs: &[Option<Value>]| -> Result<Vec<Value>> {
            let subgraph = |g: &Graph, feeds: Vec<(String, Value)>| -> Result<Vec<Value>> {
                let mut inner: HashMap<String, Value> = values.clone();
                for name in node.captured() {
                    if let Some(v) = lookup(values, name)? {
                        inner.insert(name.to_string(), v);
                    }
                }
                inner.extend(feeds);
                let wanted: Vec<&str> = g.outputs().iter().map(|o| o.name.as_str()).collect();
                let outputs = run_in(g, inner, &wanted, scope, &mut None, &mut None)?;
                Ok(outputs.into_values().collect())
            };
            let mut cx = Exec::new(node, graph.opset_of(node), inputs, scope.mode);
            if !op.sequences && cx.inputs().any(Value::is_sequence) {
                return Err(Error::dtype("expected tensors, got a sequence"));
            }
            cx.subgraph = Some(&subgraph);
            op.run(&cx)
        };
        let short = precision::short_of(scope.mode.precision, node);
        // In short numbers, where asked for: float32 goes in and comes out.
        let run_short = |values: &HashMap<String, Value>, inputs: &[Option<Value>]| -> Result<Vec<Value>> {
            match short {
                None => run_node(values, inputs),
                Some(short) if scope.device.is_cpu() => {
                    precision::rounded_values(run_node(values, &precision::rounded(inputs, short)?)?, short)
                }
                Some(short) => precision::widened(run_node(values, &precision::shortened(inputs, short)?)?),
            }
        };
        let run_on_tape = |values: &HashMap<String, Value>, tape: &mut Option<Tape<'g>>| -> Result<Vec<Value>> {
            let inputs = inputs_of(values)?;
            let reads = || node.inputs.iter().map(String::as_str).chain(node.captured());
            let stopped = || node.outputs.iter().all(|n| n.is_empty() || scope.stops.contains(&n.as_str()));
            let live = tape.as_mut().filter(|t| reads().any(|n| t.is_live(n)) && !stopped());
            let Some(tape) = live else { return run_short(values, &inputs) };
            let cx = Exec::new(node, graph.opset_of(node), &inputs, scope.mode);
            let placed = |v: &Value| op.backward_anywhere || v.tensor.device().is_cpu();
            let ruled = |v: &Value| !v.tensor.dtype().is_float() || v.tensor.dtype() == DType::F32 && placed(v);
            if let Some(rule) = cx.inputs().all(ruled).then(|| (op.backward)(&cx)).flatten() {
                let Some(short) = short else {
                    let made = run_node(values, &inputs)?;
                    tape.by_rule(&cx, node, rule, &inputs, &made);
                    return Ok(made);
                };
                let inputs = precision::rounded(&inputs, short)?;
                let cx = Exec::new(node, graph.opset_of(node), &inputs, scope.mode);
                let made = precision::rounded_values(run_node(values, &inputs)?, short)?;
                tape.by_rule(&cx, node, rule, &inputs, &made);
                return Ok(made);
            }
            // Variables stand in for what candle is to differentiate by.
            let mut values = values.clone();
            let mut variables: Vec<(String, Tensor)> = Vec::new();
            for name in reads().filter(|n| tape.is_live(n)) {
                if let Some(v) = lookup(&values, name)?.filter(|v| !v.tensor.is_variable()) {
                    let variable = Var::from_tensor(&v.tensor)?.into_inner();
                    variables.push((name.to_string(), variable.clone()));
                    values.insert(name.to_string(), v.with(variable)?);
                }
            }
            let made = run_short(&values, &inputs_of(&values)?)?;
            if made.iter().any(Value::is_sequence) {
                return Err(Error::unsupported("a sequence that trained constants lead to is not supported in training"));
            }
            Ok(tape.by_candle(node, graph.opset_of(node), variables, made))
        };
        let made = run_on_tape(&values, tape).at(|| place(node, &values))?;
        for (name, value) in node.outputs.iter().zip(made) {
            if name.is_empty() {
                continue;
            }
            if let Some(observe) = observer {
                observe(name, &value)?;
            }
            if readers.contains_key(name.as_str()) || keep.contains(name.as_str()) {
                values.insert(name.clone(), value);
            }
        }
        for name in node.inputs.iter().map(String::as_str).chain(node.captured()) {
            if let Some(n) = readers.get_mut(name) {
                *n -= 1;
                if *n == 0 && !keep.contains(name) {
                    values.remove(name);
                }
            }
        }
    }
    wanted
        .iter()
        .map(|&name| match lookup(&values, name)? {
            Some(v) => Ok((name.to_string(), v)),
            None => Err(missing(graph, name)),
        })
        .collect()
}

/// Indices of the nodes that the wanted values need beside those that are there, in running order.
fn needed_nodes(graph: &Graph, wanted: &[&str], given: &HashMap<String, Value>) -> Vec<usize> {
    let makers = graph.producers();
    let mut needed = vec![false; graph.nodes().len()];
    let mut stack: Vec<&str> = wanted.to_vec();
    while let Some(name) = stack.pop() {
        if given.contains_key(name) {
            continue;
        }
        if let Some(&i) = makers.get(name)
            && !needed[i]
        {
            needed[i] = true;
            let node = &graph.nodes()[i];
            stack.extend(node.inputs.iter().map(String::as_str).chain(node.captured()));
        }
    }
    (0..needed.len()).filter(|&i| needed[i]).collect()
}

fn place(node: &Node, values: &HashMap<String, Value>) -> String {
    let shapes: Vec<String> =
        node.inputs.iter().map(|n| values.get(n).map_or_else(|| n.clone(), |v| format!("{}{:?}", v.element, v.dims()))).collect();
    format!("{} on ({})", node.label(), shapes.join(", "))
}

pub(super) fn missing(graph: &Graph, name: &str) -> Error {
    let e = Error::missing(format!("the graph has no value '{name}'"));
    let names = graph.nodes().iter().flat_map(|n| n.outputs.iter().map(String::as_str));
    match nearest(name, names) {
        Some(near) => e.hint(format!("did you mean '{near}'?")),
        None => e,
    }
}

pub(super) fn check_feeds(graph: &Graph, feeds: &HashMap<String, Value>) -> Result<()> {
    let names = || graph.feeds().map(|f| f.name.as_str()).collect::<Vec<_>>().join(", ");
    for name in feeds.keys() {
        if !graph.inputs().iter().any(|f| f.name == *name) {
            return Err(Error::argument(format!("the graph has no input '{name}'")).hint(format!("its inputs are: {}", names())));
        }
    }
    for input in graph.feeds() {
        let place = || format!("input '{}'", input.name);
        let Some(v) = feeds.get(&input.name) else {
            return Err(Error::argument(format!("no value given; the inputs are: {}", names())).at(place()));
        };
        if v.element != input.fact.element {
            return Err(Error::dtype(format!("expected {}, got {}", input.fact.element, v.element)).at(place()));
        }
        let Some(shape) = &input.fact.shape else { continue };
        let fits = shape.len() == v.dims().len() && shape.iter().zip(v.dims()).all(|(d, &n)| d.known().is_none_or(|k| k == n));
        if !fits {
            return Err(Error::shape(format!("expected {}, got {}{:?}", input.fact, v.element, v.dims())).at(place()));
        }
    }
    Ok(())
}
