//! Helpers of shape rules: facts of results, and arithmetic on partly known integer contents.

use super::ints::Ints;
use crate::constant::Constant;
use crate::element::Element;
use crate::graph::{Dim, Fact, Infer, Node, broadcast};
use candle_core::Device;
use compresso_base::error::{Error, Result};

/// Contents with more entries than this are not followed.
const CONTENTS_LIMIT: usize = 64;

/// One entry of an integer vector during inference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A number that is known.
    Int(i64),
    /// A size known by name only, or not at all (then perhaps negative).
    Size(Dim),
}

impl Item {
    /// An entry of which nothing is known.
    pub fn unknown() -> Self {
        Self::Size(Dim::Unknown)
    }
    /// The entry that holds a size.
    pub fn of_dim(d: &Dim) -> Self {
        match d {
            Dim::Known(n) => i64::try_from(*n).map_or_else(|_| Self::unknown(), Self::Int),
            d => Self::Size(d.clone()),
        }
    }
    /// The entry as a size; a negative one is no size and gives `Unknown`.
    pub fn to_dim(&self) -> Dim {
        match self {
            Self::Int(v) => usize::try_from(*v).map_or(Dim::Unknown, Dim::Known),
            Self::Size(d) => d.clone(),
        }
    }
    /// Its number, when it is known.
    pub fn int(&self) -> Option<i64> {
        if let Self::Int(v) = self { Some(*v) } else { None }
    }
}

/// A fact of an element and, where known, a shape.
pub fn fact(element: Element, shape: Option<Vec<Dim>>) -> Fact {
    Fact { element, shape, contents: None, constant: None }
}

/// True for elements whose vectors are followed.
fn counts(e: Element) -> bool {
    e.is_int() || e == Element::Bool
}

/// The entries of an integer or bool scalar or vector, where anything is known of them.
pub fn items(fact: &Fact) -> Option<Vec<Item>> {
    if let Some(c) = fact.constant.as_ref().filter(|c| c.dims().len() <= 1 && c.count() <= CONTENTS_LIMIT && counts(c.element())) {
        return Some(c.to_i64s().ok()?.into_iter().map(Item::Int).collect());
    }
    Some(fact.contents.as_ref()?.iter().map(Item::of_dim).collect())
}

/// A fact of an integer scalar or vector with these entries; a constant when all are known.
pub fn of_items(element: Element, scalar: bool, items: &[Item]) -> Fact {
    let dims: &[usize] = if scalar { &[] } else { &[items.len()] };
    if let Some(ints) = items.iter().map(Item::int).collect::<Option<Vec<_>>>()
        // Numbers beyond the type wrap, as they do when the graph runs.
        && let Ok(v) = (Ints { dims: dims.to_vec(), data: ints }).into_value(element, &Device::Cpu)
        && let Ok(c) = Constant::from_storage(element, &v.tensor)
    {
        return Fact::of(&c);
    }
    let mut fact = Fact::known(element, dims);
    if items.len() <= CONTENTS_LIMIT {
        fact.contents = Some(items.iter().map(Item::to_dim).collect());
    }
    fact
}

/// The rule of binary and variadic elementwise operators: all inputs broadcast. The result has the type `element`, or
/// that of the first input.
pub fn broadcast_inputs(cx: &Infer<'_>, element: Option<Element>) -> Result<Fact> {
    let first = cx.input(0)?;
    let mut shape = first.shape.clone();
    for i in 1..cx.input_count() {
        let other = cx.input(i)?;
        shape = match (&shape, &other.shape) {
            (Some(a), Some(b)) => Some(broadcast(a, b)?),
            _ => None,
        };
    }
    Ok(fact(element.unwrap_or(first.element), shape))
}

/// Checks that inputs from `first` on have the element of input `first`.
pub fn same_elements(cx: &Infer<'_>, first: usize) -> Result<()> {
    let expected = cx.input(first)?.element;
    for i in first + 1..cx.input_count() {
        if let Some(f) = cx.get(i)
            && f.element != expected
        {
            return Err(Error::dtype(format!("expected {expected} as input {first} has, got {} for input {i}", f.element)));
        }
    }
    Ok(())
}

/// The axes that a list names in a tensor of `rank` dimensions, in the list's order.
///
/// # Errors
/// `Shape` when one is out of range or named twice.
pub fn axes_of(list: &[i64], rank: usize) -> Result<Vec<usize>> {
    let mut out = Vec::with_capacity(list.len());
    for &a in list {
        let r = i64::try_from(rank).unwrap_or(i64::MAX);
        if a < -r || a >= r {
            return Err(Error::shape(format!("axis {a} is out of range for rank {rank}")));
        }
        let axis = crate::graph::normalize_axis(a, rank)?;
        if out.contains(&axis) {
            return Err(Error::shape(format!("axis {a} is named twice")));
        }
        out.push(axis);
    }
    Ok(out)
}

/// The axis that a number names in a tensor of `rank` dimensions; a scalar has none.
///
/// # Errors
/// `Shape` when it is out of range.
pub fn axis_of(axis: i64, rank: usize) -> Result<usize> {
    Ok(axes_of(&[axis], rank)?[0])
}

/// A size from an integer that a model gives.
///
/// # Errors
/// `Shape` when it is negative.
pub fn size(v: i64, what: &str) -> Result<usize> {
    usize::try_from(v).map_err(|_| Error::shape(format!("{what} must not be negative, got {v}")))
}

/// A size from an attribute, 1 where it is left out.
///
/// # Errors
/// `Format` when it is not positive.
pub fn at_least_one(node: &Node, name: &str) -> Result<usize> {
    let n = node.get_int(name, 1)?;
    usize::try_from(n).ok().filter(|&n| n > 0).ok_or_else(|| Error::format(format!("attribute '{name}' must be at least 1, got {n}")))
}

/// Shape rule of operators whose output is like input 0.
pub fn infer_same(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    let x = cx.input(0)?;
    Ok(vec![Fact { element: x.element, shape: x.shape.clone(), contents: None, constant: None }])
}

/// Most axes that the shape of a value may turn out to have.
const MOST_AXES: usize = 255;

/// The shape of a value of so many axes, of whose sizes none is known; `None` where their number is not known either.
///
/// # Errors
/// `Shape` for more axes than any value has.
pub(super) fn open_shape(rank: Option<usize>) -> Result<Option<Vec<Dim>>> {
    match rank {
        Some(n) if n > MOST_AXES => Err(Error::shape(format!("a shape of {n} axes: there are at most {MOST_AXES}"))),
        rank => Ok(rank.map(|n| vec![Dim::Unknown; n])),
    }
}
