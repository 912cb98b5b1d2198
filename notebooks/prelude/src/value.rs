//! What the value of a cell's last expression shows.
//!
//! The kernel hands the expression to [`value!`](crate::value). Which of the traits below serves it is decided by the order in
//! which the compiler looks for methods: it takes the one that wants the most references of those that fit. Their names are
//! such that no cell has the same.

use crate::cell::send;
use crate::results::all;
use compresso::report::{Media, Show};
use compresso::shell::jupyter::Event;
use std::fmt::Debug;
use std::ops::Deref;

/// Shows the value of an expression, if it has one.
#[doc(hidden)]
#[macro_export]
macro_rules! value {
    ($value:expr) => {
        match &$value {
            __cell_value => {
                use $crate::value::*;
                let __cell_own = __cell_value.evcxr_display();
                (&&&&&&&CellValue(__cell_value, __cell_own)).__cell_tell()
            }
        }
    };
}

/// A value, and what its `evcxr_display` returned.
pub struct CellValue<'a, T: ?Sized, Own>(pub &'a T, pub Own);

/// What stands for "no `evcxr_display`".
pub struct NoDisplay;

/// The `evcxr_display` of types that have none. One of a type's own, or of a trait of its, by which crates for evcxr show
/// their values, comes before it; behind a reference or in a box it is not found.
pub trait OwnDisplay {
    fn evcxr_display(&self) -> NoDisplay {
        NoDisplay
    }
}

impl<T: ?Sized> OwnDisplay for &T {}

fn tell(media: Vec<Media>) {
    send(&Event::Value { media: media.into_iter().map(|m| m.0).collect() });
}

fn tell_shown(value: &impl Show) {
    match value.line() {
        Some(line) => tell(vec![Media::text(line)]),
        None => tell(all(value)),
    }
}

/// What is no value.
pub trait TellNothing {
    fn __cell_tell(&self) {}
}

impl TellNothing for &&&&&&CellValue<'_, (), NoDisplay> {}

/// Results of the library.
pub trait TellShown {
    fn __cell_tell(&self);
}

impl<T: Show> TellShown for &&&&&CellValue<'_, T, NoDisplay> {
    fn __cell_tell(&self) {
        tell_shown(self.0);
    }
}

/// References to results, and boxes of them.
pub trait TellPointed {
    fn __cell_tell(&self);
}

impl<P: Deref> TellPointed for &&&&CellValue<'_, P, NoDisplay>
where
    P::Target: Show + Sized,
{
    fn __cell_tell(&self) {
        tell_shown(&**self.0);
    }
}

/// What perhaps is a result: the last `?` may be left out.
pub trait TellTried {
    fn __cell_tell(&self);
}

impl<T: Show, E: Debug> TellTried for &&&CellValue<'_, std::result::Result<T, E>, NoDisplay> {
    fn __cell_tell(&self) {
        match self.0 {
            Ok(value) => tell_shown(value),
            Err(e) => tell(vec![Media::text(format!("Err({e:?})"))]),
        }
    }
}

/// All that can be printed.
pub trait TellPrinted {
    fn __cell_tell(&self);
}

impl<T: Debug + ?Sized> TellPrinted for &&CellValue<'_, T, NoDisplay> {
    fn __cell_tell(&self) {
        tell(vec![Media::text(format!("{:?}", self.0))]);
    }
}

/// What cannot: its type.
pub trait TellType {
    fn __cell_tell(&self);
}

impl<T: ?Sized> TellType for &CellValue<'_, T, NoDisplay> {
    fn __cell_tell(&self) {
        tell(vec![Media::text(format!("a value of type {}", std::any::type_name::<T>()))]);
    }
}

/// What has displayed itself.
pub trait TellNoMore {
    fn __cell_tell(&self) {}
}

impl<T: ?Sized, Own> TellNoMore for CellValue<'_, T, Own> {}
