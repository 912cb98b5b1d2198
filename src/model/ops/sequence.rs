//! Sequences of tensors: SequenceEmpty, SequenceConstruct, SequenceInsert, SequenceErase, SequenceAt, SequenceLength,
//! SplitToSequence, ConcatFromSequence, SequenceMap; Optional, OptionalGetElement, OptionalHasElement.
//!
//! <https://onnx.ai/onnx/operators/onnx__SequenceInsert.html> and siblings. What is known of a sequence before the graph runs is the
//! element of its members. An optional value is there: it is what it holds. Before training and planning, sequences whose members
//! are known are resolved by the pass `resolve_sequences`.

use super::cat::cat;
use super::control::{graph, outputs, run};
use super::def::{OpDef, operators};
use super::facts::{axis_of, fact, size};
use super::random::element;
use super::roles::Data;
use super::run::Exec;
use crate::element::Element;
use crate::graph::{Fact, Infer, Node};
use crate::value::Value;
use candle_core::Tensor;
use compresso_base::error::{Error, Result};

operators! {
    pub const SEQUENCE_EMPTY: &str = "SequenceEmpty";
    pub const SEQUENCE_CONSTRUCT: &str = "SequenceConstruct";
    pub const SEQUENCE_INSERT: &str = "SequenceInsert";
    pub const SEQUENCE_ERASE: &str = "SequenceErase";
    pub const SEQUENCE_AT: &str = "SequenceAt";
    pub const SEQUENCE_LENGTH: &str = "SequenceLength";
    pub const SPLIT_TO_SEQUENCE: &str = "SplitToSequence";
    pub const CONCAT_FROM_SEQUENCE: &str = "ConcatFromSequence";
}

const fn of_sequence(
    name: &'static str,
    since: &'static [i64],
    infer: fn(&Infer<'_>) -> Result<Vec<Fact>>,
    forward: fn(&Exec<'_>) -> Result<Vec<Value>>,
) -> OpDef {
    OpDef::new(name, since, infer, forward).data(Data::All).not_foldable().sequences()
}

/// Operators on sequences of tensors and on optional values.
pub const OPS: &[OpDef] = &[
    of_sequence(SEQUENCE_EMPTY, &[11], infer_empty, |cx| Ok(vec![Value::sequence(element(cx.node, Element::F32)?, Vec::new())?])),
    of_sequence(SEQUENCE_CONSTRUCT, &[11], infer_element, construct),
    of_sequence(SEQUENCE_INSERT, &[11], infer_element, insert),
    of_sequence(SEQUENCE_ERASE, &[11], infer_element, erase),
    of_sequence(SEQUENCE_AT, &[11], infer_element, at),
    of_sequence(SEQUENCE_LENGTH, &[11], |_| Ok(vec![Fact::known(Element::I64, &[])]), length),
    of_sequence(SPLIT_TO_SEQUENCE, &[11, 24], infer_element, split),
    of_sequence(CONCAT_FROM_SEQUENCE, &[11], infer_element, concat),
    of_sequence("SequenceMap", &[17], infer_map, map),
    of_sequence("Optional", &[15, 28], infer_optional, |cx| Ok(vec![cx.input(0)?.clone()])),
    of_sequence("OptionalGetElement", &[15, 18, 28], infer_optional, |cx| Ok(vec![cx.input(0)?.clone()])),
    of_sequence("OptionalHasElement", &[15, 18, 28], |_| Ok(vec![Fact::known(Element::Bool, &[])]), has_element),
];

/// The element of the members, which is all that is known.
fn infer_element(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    Ok(vec![fact(cx.input(0)?.element, None)])
}

fn infer_optional(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    match cx.get(0) {
        Some(f) => Ok(vec![f.clone()]),
        None => Err(Error::unsupported("an optional value that is left out is not supported")),
    }
}

fn infer_empty(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    Ok(vec![fact(element(cx.node, Element::F32)?, None)])
}

/// A place in a sequence of `n`, counted from the end when negative.
///
/// # Errors
/// `Shape` when it is out of range.
pub fn position(i: i64, n: usize) -> Result<usize> {
    let at = if i < 0 { i.saturating_add(n as i64) } else { i };
    usize::try_from(at).ok().filter(|&a| a < n).ok_or_else(|| Error::shape(format!("position {i} is out of range for a sequence of {n}")))
}

/// The position that input `i` names among `n`, when it is given.
fn given(cx: &Exec<'_>, i: usize, n: usize) -> Result<Option<usize>> {
    match cx.ints(i)?.as_deref() {
        None => Ok(None),
        Some([p]) => position(*p, n).map(Some),
        Some(p) => Err(Error::shape(format!("a position is one number, got {p:?}"))),
    }
}

fn construct(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let members: Vec<Value> = (0..cx.input_count()).map(|i| cx.input(i).cloned()).collect::<Result<_>>()?;
    Ok(vec![Value::sequence(cx.input(0)?.element, members)?])
}

fn insert(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let mut members = cx.input(0)?.members()?.to_vec();
    let new = cx.input(1)?;
    // One may stand behind all others too.
    let n = members.len();
    let place = match cx.ints(2)?.as_deref() {
        None => n,
        Some([p]) if usize::try_from(*p) == Ok(n) => n,
        Some(_) => given(cx, 2, n)?.unwrap_or(n),
    };
    members.insert(place, new.clone());
    // An empty sequence takes the element of its first member.
    let element = if n == 0 { new.element } else { cx.input(0)?.element };
    Ok(vec![Value::sequence(element, members)?])
}

fn erase(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let all = cx.input(0)?;
    let mut members = all.members()?.to_vec();
    let last = members.len().checked_sub(1).ok_or_else(|| Error::shape("nothing can be taken out of an empty sequence"))?;
    members.remove(given(cx, 1, members.len())?.unwrap_or(last));
    Ok(vec![Value::sequence(all.element, members)?])
}

fn at(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let members = cx.input(0)?.members()?;
    let place = given(cx, 1, members.len())?.ok_or_else(|| Error::format("the position is missing"))?;
    Ok(vec![members[place].clone()])
}

fn length(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let n = cx.input(0)?.members()?.len() as i64;
    Ok(vec![Value::new(Element::I64, Tensor::new(n, &cx.device())?)?])
}

/// Sizes of the parts of an axis of `n`: all of 1 and whether the axis goes, without a list; else parts of one size, the last one
/// shorter, or as listed.
///
/// # Errors
/// `Shape` for sizes that do not fit.
pub fn parts(node: &Node, split: Option<(&[i64], bool)>, n: usize) -> Result<(Vec<usize>, bool)> {
    let Some((sizes, scalar)) = split else { return Ok((vec![1; n], node.get_int("keepdims", 1)? == 0)) };
    if let (&[each], true) = (sizes, scalar) {
        let each =
            usize::try_from(each).ok().filter(|&e| e > 0).ok_or_else(|| Error::shape(format!("parts must be positive, got {each}")))?;
        let rest = n % each;
        return Ok((std::iter::repeat_n(each, n / each).chain((rest > 0).then_some(rest)).collect(), false));
    }
    let sizes = sizes.iter().map(|&s| size(s, "a part")).collect::<Result<Vec<_>>>()?;
    if sizes.iter().try_fold(0usize, |sum, &s| sum.checked_add(s)) != Some(n) {
        return Err(Error::shape(format!("parts {sizes:?} do not make up an axis of {n}")));
    }
    Ok((sizes, false))
}

fn split(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let x = cx.input(0)?;
    let axis = axis_of(cx.node.get_int("axis", 0)?, x.dims().len())?;
    let sizes = cx.ints(1)?;
    let scalar = cx.get(1).is_some_and(|s| s.dims().is_empty());
    let (sizes, squeezed) = parts(cx.node, sizes.as_deref().map(|s| (s, scalar)), x.dims()[axis])?;
    let mut start = 0;
    let mut members = Vec::with_capacity(sizes.len());
    for n in sizes {
        let part = x.tensor.narrow(axis, start, n)?;
        members.push(x.with(if squeezed { part.squeeze(axis)? } else { part })?);
        start += n;
    }
    Ok(vec![Value::sequence(x.element, members)?])
}

fn concat(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let members = cx.input(0)?.members()?;
    let first = members.first().ok_or_else(|| Error::shape("an empty sequence has nothing to join"))?;
    let axis = cx.node.find_int("axis")?.ok_or_else(|| Error::format("attribute 'axis' is missing"))?;
    let rank = first.dims().len();
    let new = cx.node.get_int("new_axis", 0)? != 0;
    let axis = axis_of(axis, if new { rank + 1 } else { rank })?;
    let fits = |m: &Value| m.dims().len() == rank && (0..rank).all(|a| (a == axis && !new) || m.dims()[a] == first.dims()[a]);
    if let Some(other) = members.iter().find(|m| !fits(m)) {
        return Err(Error::shape(format!("tensors of {:?} and {:?} do not join along axis {axis}", first.dims(), other.dims())));
    }
    let tensors: Vec<&Tensor> = members.iter().map(|m| &m.tensor).collect();
    if new {
        return Ok(vec![first.with(Tensor::stack(&tensors, axis)?)?]);
    }
    let filled: Vec<&Tensor> = tensors.into_iter().filter(|t| t.dims()[axis] > 0).collect();
    let out = if filled.is_empty() || first.dims().iter().enumerate().any(|(a, &d)| a != axis && d == 0) {
        let mut dims = first.dims().to_vec();
        dims[axis] = members.iter().map(|m| m.dims()[axis]).sum();
        Tensor::zeros(dims, first.tensor.dtype(), first.tensor.device())?
    } else {
        cat(&filled, axis)?
    };
    Ok(vec![first.with(out)?])
}

fn has_element(cx: &Exec<'_>) -> Result<Vec<Value>> {
    Ok(vec![Value::bool(Tensor::new(u8::from(cx.get(0).is_some()), &cx.device())?)?])
}

fn infer_map(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    let body = graph(cx.node, "body")?;
    let mut given = cx.outer.clone();
    for (i, input) in body.inputs().iter().enumerate() {
        given.insert(input.name.clone(), fact(cx.input(i)?.element, None));
    }
    Ok(outputs(body, &given)?.into_iter().map(|f| fact(f.element, None)).collect())
}

/// Runs the body on each member of the first input; other sequences go along, tensors stay.
fn map(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let body = graph(cx.node, "body")?;
    let inputs = (0..cx.input_count()).map(|i| cx.input(i)).collect::<Result<Vec<_>>>()?;
    let n = cx.input(0)?.members()?.len();
    if body.inputs().len() != inputs.len() || inputs.iter().any(|v| v.is_sequence() && v.members().map_or(0, <[Value]>::len) != n) {
        return Err(Error::shape(format!(
            "the body has {} inputs; {} are given, and sequences must have {n} members",
            body.inputs().len(),
            inputs.len()
        )));
    }
    let mut all: Vec<Vec<Value>> = vec![Vec::new(); body.outputs().len()];
    for i in 0..n {
        let one = inputs.iter().map(|v| if v.is_sequence() { Ok(v.members()?[i].clone()) } else { Ok((*v).clone()) });
        let values = one.collect::<Result<Vec<_>>>()?;
        let feeds = body.inputs().iter().map(|i| i.name.clone()).zip(values).collect();
        let made = run(cx, body, feeds)?;
        if made.len() != all.len() {
            return Err(Error::format("two outputs of the body have one name"));
        }
        all.iter_mut().zip(made).for_each(|(list, v)| list.push(v));
    }
    all.into_iter()
        .zip(body.outputs())
        .map(|(list, info)| Value::sequence(list.first().map_or(info.fact.element, |v| v.element), list))
        .collect()
}
