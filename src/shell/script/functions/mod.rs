//! The functions of the language, a file per group.

mod bounded;
mod compress;
mod data;
mod deploy;
mod experiments;
mod files;
mod lists;
mod measure;
mod models;
mod numbers;
mod plot_rows;
mod plots;
mod results;
mod session;
mod sorting;
mod tensors;

use super::call::{Binding, Call};
use super::value::{ModelValue, Report};
use crate::learn::train::Trained;
use crate::model::Made;
use crate::operation::{Arg, Signature};
use crate::report::Show;
use rhai::Dynamic;

/// All functions, in the order of `help()`.
pub(super) const TABLES: &[&[Binding]] = &[
    models::TABLE,
    data::TABLE,
    compress::TABLE,
    deploy::TABLE,
    measure::TABLE,
    experiments::TABLE,
    results::TABLE,
    plots::TABLE,
    lists::TABLE,
    tensors::TABLE,
    numbers::TABLE,
    files::TABLE,
    session::TABLE,
];

pub(super) use bounded::register_bounded;
pub(super) use numbers::register_numbers;
pub(super) use session::register_vars;
pub use session::{check_threads, parse_device};
pub(super) use sorting::register_sorting;
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

/// A result as a script value.
fn report(result: impl Show + 'static) -> Dynamic {
    Dynamic::from(Report::new(result))
}

/// A model as a script value, with the report of what made it.
fn made(made: Made<impl Show + 'static>) -> Dynamic {
    Dynamic::from::<ModelValue>(made.map(Report::new))
}

/// The trained model. When the user stopped the training, the session keeps it too, for the script ends here.
fn trained(c: &Call<'_>, trained: Trained) -> Dynamic {
    let cancelled = trained.history.cancelled;
    c.shared.keep_trained(&trained.model);
    let value = made(trained.into());
    if cancelled {
        c.shared.keep_partial(value.clone());
    }
    value
}
