//! The functions of the language, a file per group.

mod compress;
mod data;
mod deploy;
mod measure;
mod models;
mod results;
mod session;
mod tensors;

use super::binding::Binding;
use crate::operation::{Arg, Signature};

/// All functions, in the order of `help()`.
pub(super) const TABLES: &[&[Binding]] =
    &[models::TABLE, data::TABLE, compress::TABLE, deploy::TABLE, measure::TABLE, results::TABLE, tensors::TABLE, session::TABLE];

pub(super) use session::register_vars;
pub use session::{check_threads, device_name, parse_device};
pub(super) use tensors::register_operators;

/// A signature without options.
const fn signature(
    (group, name): (&'static str, &'static str),
    summary: &'static str,
    args: &'static [Arg],
    returns: &'static str,
    examples: &'static [&'static str],
    keywords: &'static [&'static str],
) -> Signature {
    Signature { name, summary, group, args, returns, fields: &[], examples, keywords }
}
