//! The forward computation of recurrent layers. Every operation in it is differentiable.

use super::cell::{Cell, State, functions};
use super::{Kind, batch_first, directions};
use crate::ops::elementwise::{Binary, binary};
use crate::ops::ints::count;
use crate::ops::run::Exec;
use crate::value::Value;
use candle_core::Tensor;
use compresso_base::error::{Error, Result};

/// Sizes of a layer, as the shapes of its inputs say.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    steps: usize,
    batch: usize,
    hidden: usize,
}

/// Data, weights and states in the order of `layout` 0, in the type in which they are computed with.
struct Inputs {
    x: Tensor,
    lengths: Option<Vec<usize>>,
    sizes: Sizes,
    /// The inputs from the weights on, by position; peepholes last.
    given: [Option<Tensor>; 8],
}

fn expect(what: &str, got: &[usize], expected: &[usize]) -> Result<()> {
    if got == expected { Ok(()) } else { Err(Error::shape(format!("expected {what} of shape {expected:?}, got {got:?}"))) }
}

fn read(cx: &Exec<'_>, kind: Kind) -> Result<Inputs> {
    let x = cx.tensor(0)?;
    if !x.dtype().is_float() {
        return Err(Error::dtype(format!("expected floating point, got {}", cx.input(0)?.element)));
    }
    let wide = |t: &Tensor| t.to_dtype(crate::ops::run::wide(x.dtype()));
    let first = batch_first(cx.node)?;
    let x = if first && x.rank() == 3 { x.transpose(0, 1)? } else { x.clone() };
    let (&[steps, batch, inputs], &[_, _, hidden]) = (x.dims(), cx.tensor(2)?.dims()) else {
        let (a, b) = (cx.tensor(0)?.dims(), cx.tensor(2)?.dims());
        return Err(Error::shape(format!("expected data and recurrent weights with three axes, got {a:?} and {b:?}")));
    };
    let (d, g) = (directions(cx.node)?.len(), kind.gates());
    if let Some(said) = cx.node.find_int("hidden_size")?.filter(|&n| usize::try_from(n).ok() != Some(hidden)) {
        return Err(Error::shape(format!("attribute 'hidden_size' is {said}, but the recurrent weights have {hidden} inputs")));
    }
    if hidden == 0 || inputs == 0 {
        return Err(Error::shape(format!("a recurrent layer needs inputs and hidden units, got {inputs} and {hidden}")));
    }
    let rows = hidden.saturating_mul(g);
    count(&[steps, batch, rows])?;
    count(&[steps, d, batch, hidden])?;
    let mut given: [Option<Tensor>; 8] = std::array::from_fn(|_| None);
    let state = [d, batch, hidden];
    let wanted: [(usize, &str, &[usize]); 6] = [
        (1, "weights", &[d, rows, inputs]),
        (2, "recurrent weights", &[d, rows, hidden]),
        (3, "a bias", &[d, rows.saturating_mul(2)]),
        (5, "an initial state", &state),
        (6, "an initial cell", &state),
        (7, "peepholes", &[d, hidden.saturating_mul(3)]),
    ];
    for (i, what, dims) in wanted {
        let Some(v) = cx.get(i).filter(|_| i < 6 || kind == Kind::Lstm) else { continue };
        let t = if first && (5..7).contains(&i) && v.tensor.rank() == 3 { v.tensor.transpose(0, 1)? } else { v.tensor.clone() };
        expect(what, t.dims(), dims)?;
        given[i] = Some(wide(&t)?);
    }
    let lengths = match cx.ints(4)? {
        None => None,
        Some(v) => {
            let lengths: Vec<usize> = v.iter().filter_map(|&n| usize::try_from(n).ok()).filter(|&n| n <= steps).collect();
            if lengths.len() != batch || v.len() != batch {
                return Err(Error::shape(format!("expected {batch} lengths of sequences from 0 to {steps}, got {v:?}")));
            }
            lengths.iter().any(|&n| n < steps).then_some(lengths)
        }
    };
    Ok(Inputs { x: wide(&x)?, lengths, sizes: Sizes { steps, batch, hidden }, given })
}

/// All states, and the last of each sequence, in the order of `layout` 0.
pub(super) fn forward(cx: &Exec<'_>, kind: Kind) -> Result<Vec<Value>> {
    let inputs = read(cx, kind)?;
    let Sizes { steps, batch, hidden } = inputs.sizes;
    let order = directions(cx.node)?;
    let functions = functions(cx.node, kind, order.len())?;
    let clip = Some(cx.node.get_float("clip", 0.0)?).filter(|&c| c > 0.0);
    let zeros = |dims: &[usize]| Tensor::zeros(dims, inputs.x.dtype(), inputs.x.device());
    let (mut all, mut last, mut cells) = (Vec::new(), Vec::new(), Vec::new());
    for (d, (&backwards, functions)) in order.iter().zip(functions).enumerate() {
        let of = |i: usize| inputs.given[i].as_ref().map(|t| t.get(d)).transpose();
        let missing = || Error::format("the weights of a recurrent layer are missing");
        let (weight, recurrent) = (of(1)?.ok_or_else(missing)?, of(2)?.ok_or_else(missing)?);
        let n = hidden * kind.gates();
        let (mut bias, mut inner_bias) = (None, None);
        if let Some(b) = of(3)? {
            let (data, mut state) = (b.narrow(0, 0, n)?, b.narrow(0, n, n)?);
            if kind == Kind::Gru {
                // The last gate's bias of the state belongs into the product that the reset gate multiplies.
                inner_bias = Some(state.narrow(0, 2 * hidden, hidden)?.reshape((1, hidden))?);
                state = Tensor::cat(&[&state.narrow(0, 0, 2 * hidden)?, &zeros(&[hidden])?], 0)?;
            }
            bias = Some((data + state)?.reshape((1, n))?);
        }
        let peephole = |p: &Tensor, i: usize| p.narrow(0, i * hidden, hidden)?.reshape((1, hidden));
        let peepholes = match of(7)? {
            Some(p) => Some([peephole(&p, 0)?, peephole(&p, 1)?, peephole(&p, 2)?]),
            None => None,
        };
        let (kept, reset) =
            if kind == Kind::Gru { (2 * hidden, Some(recurrent.narrow(0, 2 * hidden, hidden)?.t()?.contiguous()?)) } else { (n, None) };
        let cell = Cell {
            kind,
            hidden,
            recurrent: recurrent.narrow(0, 0, kept)?.t()?.contiguous()?,
            reset,
            inner_bias,
            peepholes,
            functions,
            clip,
            coupled: cx.node.get_int("input_forget", 0)? != 0,
            reset_after: cx.node.get_int("linear_before_reset", 0)? != 0,
        };
        let start = |i: usize| -> Result<Tensor> {
            match of(i)? {
                Some(t) => Ok(t.contiguous()?),
                None => Ok(zeros(&[batch, hidden])?),
            }
        };
        let mut state = State { hidden: start(5)?, cell: if kind == Kind::Lstm { Some(start(6)?) } else { None } };
        let mut states = Vec::with_capacity(steps);
        if steps > 0 && batch > 0 {
            let x = inputs.x.contiguous()?.reshape((steps * batch, ()))?.matmul(&weight.t()?)?;
            let x = match &bias {
                Some(b) => binary(Binary::Add, &x, b)?,
                None => x,
            };
            let x = x.reshape((steps, batch, n))?;
            for i in 0..steps {
                let t = if backwards { steps - 1 - i } else { i };
                let new = cell.step(&x.get(t)?, &state)?;
                states.push(advance(&mut state, new, inputs.lengths.as_deref(), t)?);
            }
        }
        if backwards {
            states.reverse();
        }
        all.push(if states.is_empty() { zeros(&[steps, batch, hidden])? } else { Tensor::stack(&states, 0)? });
        last.push(state.hidden);
        cells.extend(state.cell);
    }
    let first = batch_first(cx.node)?;
    let element = cx.input(0)?;
    let finish = |t: Tensor| element.with(t.to_dtype(element.tensor.dtype())?.contiguous()?);
    let d = order.len();
    // Tensors without elements are made, not stacked.
    let state = |list: &[Tensor]| match (batch, first) {
        (0, true) => zeros(&[batch, d, hidden]),
        (0, false) => zeros(&[d, batch, hidden]),
        _ => Tensor::stack(list, usize::from(first)),
    };
    // [t, b, h] of each direction to [t, d, b, h] or [b, t, d, h].
    let all = match (steps * batch, first) {
        (0, true) => zeros(&[batch, steps, d, hidden])?,
        (0, false) => zeros(&[steps, d, batch, hidden])?,
        (_, true) => Tensor::stack(&all, 2)?.transpose(0, 1)?,
        (_, false) => Tensor::stack(&all, 1)?,
    };
    let mut out = vec![finish(all)?, finish(state(&last)?)?];
    if kind == Kind::Lstm {
        out.push(finish(state(&cells)?)?);
    }
    Ok(out)
}

/// Goes on to the new state where sequences have a step `t`; what the step gives, zero elsewhere.
fn advance(state: &mut State, new: State, lengths: Option<&[usize]>, t: usize) -> Result<Tensor> {
    let Some(lengths) = lengths.filter(|l| l.iter().any(|&n| n <= t)) else {
        *state = new;
        return Ok(state.hidden.clone());
    };
    let dims = new.hidden.dims().to_vec();
    let there: Vec<u8> = lengths.iter().map(|&n| u8::from(t < n)).collect();
    let there = Tensor::from_vec(there, (dims[0], 1), new.hidden.device())?.broadcast_as(dims)?.contiguous()?;
    let out = there.where_cond(&new.hidden, &new.hidden.zeros_like()?)?;
    state.hidden = there.where_cond(&new.hidden, &state.hidden)?;
    if let (Some(old), Some(new)) = (&mut state.cell, &new.cell) {
        *old = there.where_cond(new, old)?;
    }
    Ok(out)
}
