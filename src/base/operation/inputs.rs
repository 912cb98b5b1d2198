//! Arguments whose types are known only when a call runs, and how an operation's inputs are read from them.

use crate::error::{Error, Result};
use std::any::Any;
use std::path::Path;

/// The arguments of a call, in the order of the signature; `None` where one was left out. Each is of the Rust type that its
/// [`ArgKind`](super::ArgKind) stands for: a text is a `String`, a whole number an `i64`, a number an `f64`.
#[derive(Default)]
pub struct Arguments(Vec<Option<Box<dyn Any>>>);

impl Arguments {
    /// Adds an argument.
    pub fn push<T: Any>(&mut self, value: T) {
        self.0.push(Some(Box::new(value)));
    }
    /// Adds an argument of any type, or that none was given.
    pub fn push_any(&mut self, value: Option<Box<dyn Any>>) {
        self.0.push(value);
    }
    /// The argument at a place.
    ///
    /// # Errors
    /// `Argument` for one of another type.
    pub fn get<T: Any>(&self, at: usize) -> Result<Option<&T>> {
        match self.0.get(at).and_then(Option::as_ref) {
            None => Ok(None),
            Some(value) => value.downcast_ref().map(Some).ok_or_else(|| Error::argument(format!("argument {} is of another kind", at + 1))),
        }
    }
    fn needed<T: Any>(&self, at: usize) -> Result<&T> {
        self.get(at)?.ok_or_else(|| Error::argument(format!("argument {} is missing", at + 1)))
    }
}

/// What can be one input of an operation.
pub trait Input<'a>: Sized {
    /// # Errors
    /// `Argument` for a missing argument, or one of another type.
    fn read(args: &'a Arguments, at: usize) -> Result<Self>;
}

impl<'a, T: Any> Input<'a> for &'a T {
    fn read(args: &'a Arguments, at: usize) -> Result<Self> {
        args.needed(at)
    }
}
impl<'a, T: Any> Input<'a> for Option<&'a T> {
    fn read(args: &'a Arguments, at: usize) -> Result<Self> {
        args.get(at)
    }
}
impl<'a> Input<'a> for &'a str {
    fn read(args: &'a Arguments, at: usize) -> Result<Self> {
        args.needed::<String>(at).map(String::as_str)
    }
}
impl<'a> Input<'a> for &'a Path {
    fn read(args: &'a Arguments, at: usize) -> Result<Self> {
        args.needed::<String>(at).map(Path::new)
    }
}
impl<'a, T: Any> Input<'a> for &'a [T] {
    fn read(args: &'a Arguments, at: usize) -> Result<Self> {
        args.needed::<Vec<T>>(at).map(Vec::as_slice)
    }
}
impl<'a> Input<'a> for usize {
    fn read(args: &'a Arguments, at: usize) -> Result<Self> {
        let n = *args.needed::<i64>(at)?;
        Self::try_from(n).map_err(|_| Error::argument(format!("argument {} must not be negative, got {n}", at + 1)))
    }
}

/// The inputs of an operation: one, or a tuple of up to four.
pub trait Inputs<'a>: Sized {
    /// # Errors
    /// As [`Input::read`].
    fn read(args: &'a Arguments) -> Result<Self>;
}

impl<'a, A: Input<'a>> Inputs<'a> for A {
    fn read(args: &'a Arguments) -> Result<Self> {
        A::read(args, 0)
    }
}
impl<'a, A: Input<'a>, B: Input<'a>> Inputs<'a> for (A, B) {
    fn read(args: &'a Arguments) -> Result<Self> {
        Ok((A::read(args, 0)?, B::read(args, 1)?))
    }
}
impl<'a, A: Input<'a>, B: Input<'a>, C: Input<'a>> Inputs<'a> for (A, B, C) {
    fn read(args: &'a Arguments) -> Result<Self> {
        Ok((A::read(args, 0)?, B::read(args, 1)?, C::read(args, 2)?))
    }
}
impl<'a, A: Input<'a>, B: Input<'a>, C: Input<'a>, D: Input<'a>> Inputs<'a> for (A, B, C, D) {
    fn read(args: &'a Arguments) -> Result<Self> {
        Ok((A::read(args, 0)?, B::read(args, 1)?, C::read(args, 2)?, D::read(args, 3)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_are_read_by_type_and_place() {
        let mut args = Arguments::default();
        args.push("a".to_string());
        args.push(-3i64);
        args.push_any(None);
        let (text, n, none) = <(&str, &i64, Option<&f64>)>::read(&args).unwrap();
        assert_eq!((text, *n, none), ("a", -3, None));
        assert_eq!(<(&str, usize)>::read(&args).unwrap_err().to_string(), "argument 2 must not be negative, got -3");
        assert_eq!(<&f64 as Inputs>::read(&args).unwrap_err().to_string(), "argument 1 is of another kind");
        assert_eq!(<(&str, &i64, &f64)>::read(&args).unwrap_err().to_string(), "argument 3 is missing");
    }
}
