//! Shapes with known, symbolic and unknown sizes.

use crate::constant::Constant;
use crate::element::Element;
use compresso_base::error::{Error, Result};
use compresso_base::memory;
use std::fmt;
use std::sync::Arc;

/// One size of a shape.
///
/// A symbol stands for a size that is known only when the graph runs. Arithmetic on symbols gives a symbol whose name
/// is the formula, so two sizes computed the same way are equal.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Dim {
    /// A number.
    Known(usize),
    /// A name, or the formula by which the size follows from named ones.
    Symbol(Arc<str>),
    /// Nothing is known of it: two such sizes need not be the same.
    Unknown,
}

impl Dim {
    /// The size that goes by this name.
    pub fn symbol(name: impl AsRef<str>) -> Self {
        Self::Symbol(name.as_ref().into())
    }
    /// Its number; `None` for a symbol and where nothing is known.
    pub fn known(&self) -> Option<usize> {
        if let Self::Known(n) = self { Some(*n) } else { None }
    }
    /// Applies `f` to a known size; a symbol becomes the symbol `formula` with `{}` replaced by its name.
    pub fn map(&self, formula: &str, f: impl FnOnce(usize) -> Option<usize>) -> Self {
        match self {
            Self::Known(n) => f(*n).map_or(Self::Unknown, Self::Known),
            Self::Symbol(s) => Self::symbol(formula.replace("{}", s)),
            Self::Unknown => Self::Unknown,
        }
    }
    /// The product; known when both are (without overflow) or one is 0 or 1.
    #[must_use]
    pub fn times(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::Known(a), Self::Known(b)) => a.checked_mul(*b).map_or(Self::Unknown, Self::Known),
            (Self::Known(1), d) | (d, Self::Known(1)) => d.clone(),
            (Self::Known(0), _) | (_, Self::Known(0)) => Self::Known(0),
            (Self::Unknown, _) | (_, Self::Unknown) => Self::Unknown,
            (a, b) => Self::symbol(format!("{a}*{b}")),
        }
    }
    /// The sum; known when both are (without overflow).
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::Known(a), Self::Known(b)) => a.checked_add(*b).map_or(Self::Unknown, Self::Known),
            (Self::Known(0), d) | (d, Self::Known(0)) => d.clone(),
            (Self::Unknown, _) | (_, Self::Unknown) => Self::Unknown,
            (a, b) => Self::symbol(format!("({a}+{b})")),
        }
    }
    /// True when the two sizes can be equal at run time.
    pub fn compatible(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Known(a), Self::Known(b)) => a == b,
            _ => true,
        }
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(n) => write!(f, "{n}"),
            Self::Symbol(s) => f.write_str(s),
            Self::Unknown => f.write_str("?"),
        }
    }
}

impl From<usize> for Dim {
    fn from(n: usize) -> Self {
        Self::Known(n)
    }
}

/// What is known of a value before the graph runs: its element type, shape and, for small integer tensors such as
/// computed shapes, its contents.
#[derive(Debug, Clone, PartialEq)]
pub struct Fact {
    /// Type of its elements.
    pub element: Element,
    /// `None`: the rank is unknown.
    pub shape: Option<Vec<Dim>>,
    /// The contents of an integer scalar or one-dimensional tensor, where they are (partly) known.
    pub contents: Option<Vec<Dim>>,
    /// The value when it is a constant of the graph.
    pub constant: Option<Constant>,
}

impl Fact {
    /// A value of this type and shape, of whose contents nothing is known.
    pub fn new(element: Element, shape: Vec<Dim>) -> Self {
        Self { element, shape: Some(shape), contents: None, constant: None }
    }
    /// A value of which only the type is known.
    pub fn unranked(element: Element) -> Self {
        Self { element, shape: None, contents: None, constant: None }
    }
    /// As [`Fact::new`], of sizes that are all known.
    pub fn known(element: Element, dims: &[usize]) -> Self {
        Self::new(element, dims.iter().map(|&d| Dim::Known(d)).collect())
    }
    /// All that a constant says: type, shape and contents.
    pub fn of(constant: &Constant) -> Self {
        let mut fact = Self::known(constant.element(), constant.dims());
        if constant.element().is_int() && constant.dims().len() <= 1 && constant.count() <= 64 {
            // Negative entries (such as -1 in Reshape) are read from `constant`, not from `contents`.
            if let Ok(v) = constant.to_i64s() {
                fact.contents = v.iter().map(|&x| usize::try_from(x).ok().map(Dim::Known)).collect();
            }
        }
        fact.constant = Some(constant.clone());
        fact
    }
    /// Number of axes; `None` when it is unknown.
    pub fn rank(&self) -> Option<usize> {
        self.shape.as_ref().map(Vec::len)
    }
    /// All sizes, when all are known.
    pub fn dims(&self) -> Option<Vec<usize>> {
        self.shape.as_ref()?.iter().map(Dim::known).collect()
    }
    /// Fails for more elements than any memory holds, by the known sizes alone.
    ///
    /// # Errors
    /// `Shape`, with this fact.
    pub fn countable(&self) -> Result<()> {
        let known = self.shape.iter().flatten().filter_map(Dim::known);
        let why = || Error::shape(format!("{self} has sizes whose product is too large"));
        memory::elements(known).map(|_| ()).ok_or_else(why)
    }
    /// One size, when it is known; negative axes count from the end.
    pub fn dim(&self, axis: isize) -> Option<usize> {
        let shape = self.shape.as_ref()?;
        let axis = if axis < 0 { axis + isize::try_from(shape.len()).ok()? } else { axis };
        shape.get(usize::try_from(axis).ok()?)?.known()
    }
    /// Number of elements, when all sizes are known.
    pub fn count(&self) -> Option<usize> {
        memory::elements(self.dims()?)
    }
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.element)?;
        match &self.shape {
            None => f.write_str("[..]"),
            Some(shape) => {
                f.write_str("[")?;
                for (i, d) in shape.iter().enumerate() {
                    write!(f, "{}{d}", if i > 0 { ", " } else { "" })?;
                }
                f.write_str("]")
            }
        }
    }
}
