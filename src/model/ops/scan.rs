//! Scan: runs a body over slices of its inputs.
//!
//! <https://onnx.ai/onnx/operators/onnx__Scan.html>. Version 8 had batches and lengths of sequences; since version 9 the inputs are
//! states, then what is scanned.

use super::control::{common, graph, outputs, run, unstacked};
use super::def::OpDef;
use super::facts::{axis_of, fact};
use super::roles::Data;
use super::run::Exec;
use crate::graph::{Dim, Fact, Graph, Infer, Node};
use crate::value::Value;
use candle_core::Tensor;
use compresso_base::error::{Error, Result};

/// The operator that runs an inner graph over slices.
pub const OPS: &[OpDef] = &[OpDef::new("Scan", &[8, 9, 11, 16, 19, 21, 23, 24, 25], infer, scan).data(Data::All).not_foldable()];

/// How a node scans.
struct Plan<'a> {
    body: &'a Graph,
    /// Inputs before the first state: version 8 has lengths there.
    first: usize,
    states: usize,
    inputs: Vec<Way>,
    outputs: Vec<Way>,
}

/// An axis and a direction.
#[derive(Debug, Clone, Copy)]
struct Way {
    axis: i64,
    backwards: bool,
}

fn ways(node: &Node, axes: &str, directions: &str, n: usize) -> Result<Vec<Way>> {
    let list = |name: &str| -> Result<Vec<i64>> {
        match node.find_ints(name)? {
            None => Ok(vec![0; n]),
            Some(v) if v.len() == n => Ok(v.to_vec()),
            Some(v) => Err(Error::format(format!("attribute '{name}' must have {n} entries, got {}", v.len()))),
        }
    };
    Ok(list(axes)?.into_iter().zip(list(directions)?).map(|(axis, d)| Way { axis, backwards: d != 0 }).collect())
}

impl<'a> Plan<'a> {
    fn of(node: &'a Node, opset: i64) -> Result<Self> {
        let body = graph(node, "body")?;
        let first = usize::from(opset < 9);
        let scanned = node.find_int("num_scan_inputs")?.and_then(|n| usize::try_from(n).ok());
        let scanned = scanned.ok_or_else(|| Error::format("attribute 'num_scan_inputs' must be a number of inputs"))?;
        let all = node.inputs.len().saturating_sub(first);
        let (i, o) = (body.inputs().len(), body.outputs().len());
        let states = all.checked_sub(scanned).filter(|&s| scanned > 0 && i == all && o >= s && node.outputs.len() <= o);
        let states = states.ok_or_else(|| {
            Error::format(format!("the body has {i} inputs and {o} outputs, which do not fit {all} inputs of which {scanned} are scanned"))
        })?;
        let (inputs, outputs) = if opset < 9 {
            // One axis, behind that of the batch.
            (ways(node, "", "directions", scanned)?, ways(node, "", "", o - states)?)
        } else {
            (
                ways(node, "scan_input_axes", "scan_input_directions", scanned)?,
                ways(node, "scan_output_axes", "scan_output_directions", o - states)?,
            )
        };
        Ok(Self { body, first, states, inputs, outputs })
    }
}

/// A fact without the axis at `axis`, and that axis's size.
fn slice(f: &Fact, axis: i64) -> Result<(Fact, Dim)> {
    let Some(mut shape) = f.shape.clone() else { return Ok((fact(f.element, None), Dim::Unknown)) };
    let size = shape.remove(axis_of(axis, shape.len())?);
    Ok((fact(f.element, Some(shape)), size))
}

fn infer(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    let plan = Plan::of(cx.node, cx.opset)?;
    // In version 8 all have the batch in front, which the body does not see.
    let mut batch = Dim::Unknown;
    let mut front = |f: &Fact| -> Result<Fact> {
        let (inner, b) = slice(f, 0)?;
        if b != Dim::Unknown {
            batch = b;
        }
        Ok(inner)
    };
    let old = plan.first == 1;
    let mut states = Vec::with_capacity(plan.states);
    for i in 0..plan.states {
        let f = cx.input(plan.first + i)?;
        states.push(if old { front(f)? } else { fact(f.element, f.shape.clone()) });
    }
    let mut given = cx.outer.clone();
    let mut steps = Dim::Unknown;
    for (i, way) in plan.inputs.iter().enumerate() {
        let f = cx.input(plan.first + plan.states + i)?;
        let f = if old { front(f)? } else { f.clone() };
        let (inner, n) = slice(&f, way.axis)?;
        if !n.compatible(&steps) {
            return Err(Error::shape(format!("scanned inputs have {steps} and {n} slices")));
        }
        if steps.known().is_none() {
            steps = n;
        }
        given.insert(plan.body.inputs()[plan.states + i].name.clone(), inner);
    }
    let mut made = Vec::new();
    // A state may change its sizes: first with its own, then with those that stayed.
    for _ in 0..2 {
        for (input, f) in plan.body.inputs().iter().zip(&states) {
            given.insert(input.name.clone(), f.clone());
        }
        made = outputs(plan.body, &given)?;
        states = states.iter().zip(&made).map(|(a, b)| common(a, b)).collect::<Result<_>>()?;
    }
    let with_batch = |f: Fact| if old { fact(f.element, f.shape.map(|s| [&[batch.clone()][..], &s].concat())) } else { f };
    let mut out: Vec<Fact> = states.into_iter().map(with_batch).collect();
    for (f, way) in made[plan.states..].iter().zip(&plan.outputs) {
        let shape = match &f.shape {
            None => None,
            Some(s) => {
                let mut s = s.clone();
                s.insert(axis_of(way.axis, s.len() + 1)?, steps.clone());
                Some(s)
            }
        };
        out.push(with_batch(fact(f.element, shape)));
    }
    Ok(out)
}

fn scan(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let plan = Plan::of(cx.node, cx.opset)?;
    let inputs = (plan.first..cx.input_count()).map(|i| cx.input(i).cloned()).collect::<Result<Vec<_>>>()?;
    if plan.first == 0 {
        return over(cx, &plan, inputs);
    }
    if cx.get(0).is_some() {
        return Err(Error::unsupported("lengths of sequences in a Scan of operator set 8 are not supported"));
    }
    let batch = inputs.first().and_then(|v| v.dims().first().copied()).unwrap_or(0);
    if batch == 0 || inputs.iter().any(|v| v.dims().first() != Some(&batch)) {
        return Err(Error::shape("the inputs of a Scan of operator set 8 have one batch size, which is not 0"));
    }
    let mut all: Vec<Vec<Tensor>> = Vec::new();
    let mut last = Vec::new();
    for b in 0..batch {
        let one = inputs.iter().map(|v| v.with(v.tensor.get(b)?)).collect::<Result<Vec<_>>>()?;
        last = over(cx, &plan, one)?;
        all.resize(last.len(), Vec::new());
        all.iter_mut().zip(&last).for_each(|(list, v)| list.push(v.tensor.clone()));
    }
    last.iter().zip(all).map(|(v, list)| v.with(Tensor::stack(&list, 0)?)).collect()
}

/// Runs the body on each slice.
fn over(cx: &Exec<'_>, plan: &Plan<'_>, mut state: Vec<Value>) -> Result<Vec<Value>> {
    let scanned = state.split_off(plan.states);
    let axes = scanned.iter().zip(&plan.inputs).map(|(v, w)| axis_of(w.axis, v.dims().len())).collect::<Result<Vec<_>>>()?;
    let steps = scanned.first().zip(axes.first()).map_or(0, |(v, &a)| v.dims()[a]);
    if let Some((v, a)) = scanned.iter().zip(&axes).find(|(v, a)| v.dims()[**a] != steps) {
        return Err(Error::shape(format!("scanned inputs have {steps} and {} slices", v.dims()[*a])));
    }
    let mut collected: Vec<Vec<Value>> = vec![Vec::new(); plan.outputs.len()];
    for step in 0..steps {
        let names = plan.body.inputs().iter().map(|i| i.name.clone());
        let mut feeds: Vec<(String, Value)> = Vec::with_capacity(plan.body.inputs().len());
        let slices = scanned.iter().zip(&axes).zip(&plan.inputs).map(|((v, &axis), way)| {
            let at = if way.backwards { steps - 1 - step } else { step };
            v.with(v.tensor.narrow(axis, at, 1)?.squeeze(axis)?)
        });
        for (name, value) in names.zip(state.into_iter().map(Ok).chain(slices)) {
            feeds.push((name, value?));
        }
        let mut out = run(cx, plan.body, feeds)?.into_iter();
        state = out.by_ref().take(plan.states).collect();
        let rest: Vec<Value> = out.collect();
        if state.len() != plan.states || rest.len() != collected.len() {
            return Err(Error::format("two outputs of the body have one name"));
        }
        collected.iter_mut().zip(rest).for_each(|(all, v)| all.push(v));
    }
    for ((mut all, way), info) in collected.into_iter().zip(&plan.outputs).zip(&plan.body.outputs()[plan.states..]) {
        let Some(first) = all.first().cloned() else {
            state.push(unstacked(&info.fact, &cx.device())?);
            continue;
        };
        if way.backwards {
            all.reverse();
        }
        let parts: Vec<&Tensor> = all.iter().map(|v| &v.tensor).collect();
        state.push(first.with(Tensor::stack(&parts, axis_of(way.axis, first.dims().len() + 1)?)?)?);
    }
    Ok(state)
}
