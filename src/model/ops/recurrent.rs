//! Recurrent layers: RNN, GRU, LSTM.
//!
//! <https://onnx.ai/onnx/operators/onnx__LSTM.html>, <https://onnx.ai/onnx/operators/onnx__GRU.html>,
//! <https://onnx.ai/onnx/operators/onnx__RNN.html>. Version 14 brought `layout`, version 22 bfloat16.
//!
//! # Shapes
//! With t steps, b sequences, i inputs, h hidden units, d directions and g gates: data `[t, b, i]`, weights `[d, g·h, i]`,
//! recurrent weights `[d, g·h, h]`, bias `[d, 2·g·h]` (of the data, then of the state), initial states `[d, b, h]`, peepholes
//! `[d, 3·h]`. The outputs are all states `[t, d, b, h]` and the last ones `[d, b, h]`. With `layout` 1 the sequences come
//! first: `[b, t, i]`, `[b, d, h]`, `[b, t, d, h]`.

mod cell;
mod labels;
mod run;

use super::channels::Channels;
use super::cost::CostInput;
use super::def::{OpDef, ParamKind, operators};
use super::facts::fact;
use crate::graph::{Cost, Dim, Fact, Infer, Node};
use compresso_base::error::{Error, Result};

/// What training changes of a recurrent layer.
const PARAMS: &[(usize, ParamKind)] = &[(1, ParamKind::Weight), (2, ParamKind::Weight), (3, ParamKind::Bias), (7, ParamKind::Bias)];

const fn layer(
    name: &'static str,
    kind: fn(&Infer<'_>) -> Result<Vec<Fact>>,
    forward: fn(&super::run::Exec<'_>) -> Result<Vec<crate::value::Value>>,
    cost: fn(&CostInput<'_>) -> Cost,
    channels: fn(&mut Channels<'_>) -> Result<()>,
) -> OpDef {
    OpDef::new(name, &[7, 14, 22], kind, forward).cost(cost).channels(channels).params(PARAMS)
}

operators! {
    pub const RNN: &str = "RNN";
    pub const GRU: &str = "GRU";
    pub const LSTM: &str = "LSTM";
}

/// Positions of the initial states among the inputs, which are zero where they are left out.
pub const STATES: [usize; 2] = [5, 6];

/// True for a recurrent layer.
pub fn is_recurrent(node: &Node) -> bool {
    [RNN, GRU, LSTM].iter().any(|op| node.is(op))
}

/// Recurrent layers over sequences.
pub const OPS: &[OpDef] = &[
    layer(RNN, |cx| infer(cx, Kind::Rnn), |cx| run::forward(cx, Kind::Rnn), |cx| cost(cx, Kind::Rnn), |cx| labels::label(cx, Kind::Rnn)),
    layer(GRU, |cx| infer(cx, Kind::Gru), |cx| run::forward(cx, Kind::Gru), |cx| cost(cx, Kind::Gru), |cx| labels::label(cx, Kind::Gru)),
    layer(
        LSTM,
        |cx| infer(cx, Kind::Lstm),
        |cx| run::forward(cx, Kind::Lstm),
        |cx| cost(cx, Kind::Lstm),
        |cx| labels::label(cx, Kind::Lstm),
    ),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Rnn,
    Gru,
    Lstm,
}

impl Kind {
    /// How many parts of h rows the weights have.
    const fn gates(self) -> usize {
        match self {
            Self::Rnn => 1,
            Self::Gru => 3,
            Self::Lstm => 4,
        }
    }
}

/// The order in which each direction reads the steps: true from the last to the first.
fn directions(node: &Node) -> Result<&'static [bool]> {
    match node.get_str("direction", "forward")? {
        "forward" => Ok(&[false]),
        "reverse" => Ok(&[true]),
        "bidirectional" => Ok(&[false, true]),
        other => Err(Error::format(format!("attribute 'direction' must be forward, reverse or bidirectional, got '{other}'"))),
    }
}

/// True when the sequences come first.
fn batch_first(node: &Node) -> Result<bool> {
    match node.get_int("layout", 0)? {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(Error::format(format!("attribute 'layout' must be 0 or 1, got {other}"))),
    }
}

fn infer(cx: &Infer<'_>, kind: Kind) -> Result<Vec<Fact>> {
    let x = cx.input(0)?;
    let first = batch_first(cx.node)?;
    let d = Dim::Known(directions(cx.node)?.len());
    let size = |shape: Option<&[Dim]>, i: usize| -> Result<Dim> {
        match shape {
            None => Ok(Dim::Unknown),
            Some(s) if s.len() == 3 => Ok(s[i].clone()),
            Some(s) => Err(Error::shape(format!("data and weights of a recurrent layer have three axes, got {}", s.len()))),
        }
    };
    let (data, recurrent) = (cx.shape(0)?, cx.shape(2)?);
    let (steps, batch) = (size(data, usize::from(first))?, size(data, usize::from(!first))?);
    let h = size(recurrent, 2)?;
    let rows = h.map("", |h| h.checked_mul(kind.gates()));
    for (input, axis, expected) in [(1, 0, &d), (2, 0, &d), (1, 1, &rows), (2, 1, &rows), (1, 2, &size(data, 2)?)] {
        let got = size(cx.shape(input)?, axis)?;
        if !got.compatible(expected) {
            return Err(Error::shape(format!("input {input} has {got} indices on axis {axis}, expected {expected}")));
        }
    }
    let state = if first { vec![batch.clone(), d.clone(), h.clone()] } else { vec![d.clone(), batch.clone(), h.clone()] };
    let all = if first { vec![batch, steps, d, h] } else { vec![steps, d, batch, h] };
    let mut out = vec![fact(x.element, Some(all)), fact(x.element, Some(state.clone()))];
    if kind == Kind::Lstm {
        out.push(fact(x.element, Some(state)));
    }
    Ok(out)
}

/// Products with both weights, for each step, sequence and direction. An unknown number of sequences counts as 1.
fn cost(cx: &CostInput<'_>, kind: Kind) -> Cost {
    let sizes = || -> Option<u64> {
        let (x, r) = (cx.inputs.first().copied().flatten()?, cx.inputs.get(2).copied().flatten()?);
        let first = isize::from(batch_first(cx.node).ok()?);
        let (steps, batch) = (x.dim(first)?, x.dim(1 - first).unwrap_or(1));
        let (inputs, hidden) = (x.dim(2)?, r.dim(2)?);
        let rows = hidden.checked_mul(kind.gates())?.checked_mul(directions(cx.node).ok()?.len())?;
        let each = rows.checked_mul(inputs.checked_add(hidden)?)?;
        steps.checked_mul(batch)?.checked_mul(each)?.try_into().ok()
    };
    Cost { macs: sizes().unwrap_or(0), other: cx.outputs.first().and_then(|f| super::cost::elements(f)).unwrap_or(0) }
}
