//! What the value of a cell's last expression shows.
//!
//! The kernel hands the expression to [`value!`](crate::value). Which of the traits below serves it is decided by the order in
//! which the compiler looks for methods: it takes the one that needs the fewest references first, and with it the first kind
//! that fits.

use crate::cell::send;
use crate::results::all;
use compresso::report::{Media, Show};
use compresso::shell::jupyter::Event;
use std::fmt::Debug;

/// Shows the value of an expression, if it has one.
#[doc(hidden)]
#[macro_export]
macro_rules! value {
    ($value:expr) => {
        match &$value {
            value => {
                use $crate::value::*;
                let own = value.evcxr_display();
                (&&&&&&Cell(value, own)).tell()
            }
        }
    };
}

/// A value, and what its `evcxr_display` returned.
pub struct Cell<'a, T: ?Sized, Own>(pub &'a T, pub Own);

/// No `evcxr_display` of its own.
pub struct Nothing;

/// All types have this `evcxr_display`; one of a type's own, by which crates for evcxr show their values, hides it.
pub trait OwnDisplay {
    fn evcxr_display(&self) -> Nothing {
        Nothing
    }
}

impl<T: ?Sized> OwnDisplay for T {}

fn tell(media: Vec<Media>) {
    send(&Event::Value { media: media.into_iter().map(|m| m.0).collect() });
}

fn tell_shown(value: &impl Show) {
    match value.line() {
        Some(line) => tell(vec![Media::text(line)]),
        None => tell(all(value)),
    }
}

/// What has shown itself, and what is no value.
pub trait TellNothing {
    fn tell(&self) {}
}

impl<T: ?Sized> TellNothing for &&&&&Cell<'_, T, ()> {}
impl TellNothing for &&&&&Cell<'_, (), Nothing> {}

/// Results of the library.
pub trait TellShown {
    fn tell(&self);
}

impl<T: Show> TellShown for &&&&Cell<'_, T, Nothing> {
    fn tell(&self) {
        tell_shown(self.0);
    }
}

/// References to results.
pub trait TellReferred {
    fn tell(&self);
}

impl<T: Show> TellReferred for &&&Cell<'_, &T, Nothing> {
    fn tell(&self) {
        tell_shown(*self.0);
    }
}

/// What perhaps is a result: the last `?` may be left out.
pub trait TellTried {
    fn tell(&self);
}

impl<T: Show, E: Debug> TellTried for &&Cell<'_, std::result::Result<T, E>, Nothing> {
    fn tell(&self) {
        match self.0 {
            Ok(value) => tell_shown(value),
            Err(e) => tell(vec![Media::text(format!("Err({e:?})"))]),
        }
    }
}

/// All that can be printed.
pub trait TellPrinted {
    fn tell(&self);
}

impl<T: Debug + ?Sized> TellPrinted for &Cell<'_, T, Nothing> {
    fn tell(&self) {
        tell(vec![Media::text(format!("{:?}", self.0))]);
    }
}

/// Everything else: its type.
pub trait TellType {
    fn tell(&self);
}

impl<T: ?Sized, Own> TellType for Cell<'_, T, Own> {
    fn tell(&self) {
        tell(vec![Media::text(format!("a value of type {}", std::any::type_name::<T>()))]);
    }
}
