//! An operation is an options struct that can be run: defined once, it serves Rust, scripts, help, completion and recipes.
//!
//! [`options!`](crate::options) writes the struct, its `Default`, its serde form and its documented
//! [`FIELDS`](Options::FIELDS) from one text. [`Operation`] adds a [`Signature`] (name, positional arguments, examples), what it
//! is given, and the work. `shell` binds it to the script language and builds `help()` from it; `deploy::replay` runs it again
//! from a [`Recipe`].
//!
//! ```
//! compresso_base::options! {
//!     /// Options of a made-up operation.
//!     pub struct Blur {
//!         /// Radius in pixels.
//!         pub radius: usize = 3,
//!     }
//! }
//! use compresso_base::operation::{decode, Options};
//! let blur: Blur = decode(serde_json::json!({ "radius": 5 })).unwrap();
//! assert_eq!(blur.radius, 5);
//! assert_eq!(Blur::FIELDS[0].doc, "Radius in pixels.");
//! let e = decode::<Blur>(serde_json::json!({ "radios": 5 })).unwrap_err();
//! assert!(e.to_string().contains("did you mean 'radius'?"));
//! ```

mod digest;
mod inputs;
mod macros;
mod options;
mod recipe;
mod signature;

pub use digest::Digest;
pub use inputs::{Arguments, Input, Inputs};
pub use options::{
    Field, OptionKind, OptionValue, Options, changed, decode, default_of, idle, in_range, replayed, splice, spliced, trim_doc,
};
pub use recipe::{Argument, Call, Parting, Recipe};
pub use signature::{Arg, ArgKind, Signature};

use crate::context::Context;
use crate::error::Result;

/// Options that can be run.
///
/// ```
/// use compresso_base::operation::{Arg, ArgKind, Operation, Options, Signature};
/// use compresso_base::{Context, Result};
/// compresso_base::options! {
///     /// Options of a made-up operation.
///     pub struct Repeat {
///         /// How often.
///         pub times: usize = 2,
///     }
/// }
/// impl Operation for Repeat {
///     const SIGNATURE: Signature = Signature {
///         name: "repeat",
///         summary: "A text, several times",
///         group: "session",
///         args: &[Arg::new("text", ArgKind::Text)],
///         returns: "text",
///         fields: Self::FIELDS,
///         examples: &[],
///         keywords: &[],
///     };
///     type Inputs<'a> = &'a str;
///     type Output = String;
///     fn run(&self, text: &str, _: &Context) -> Result<String> {
///         Ok(text.repeat(self.times))
///     }
/// }
/// assert_eq!(Repeat::default().run("ab", &Context::new()).unwrap(), "abab");
/// ```
pub trait Operation: Options {
    /// Name, arguments and examples, for scripts, help and recipes.
    const SIGNATURE: Signature;
    /// What it is given beside the options, one for each argument of the signature.
    type Inputs<'a>: Inputs<'a>;
    /// What it gives: a value, with a report where there is something to report.
    type Output;

    /// # Errors
    /// `Argument` for options out of range; those of the work; `Cancelled`.
    fn run(&self, inputs: Self::Inputs<'_>, ctx: &Context) -> Result<Self::Output>;

    /// This call, for a recipe; `args` stand in the signature's order.
    fn call(&self, args: impl IntoIterator<Item = Argument<Recipe>>) -> Call<Recipe> {
        Call::new(Self::SIGNATURE.name, args, changed(self))
    }
}
