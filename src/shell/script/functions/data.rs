//! Datasets.

use super::signature;
use crate::error::Result;
use crate::learn::data::{self, Grid, GridOptions, SplitOptions};
use crate::operation::Arg;
use crate::shell::script::binding::{Binding, Call};
use crate::shell::script::value::{Report, to_usize};
use rhai::Dynamic;

pub(super) const TABLE: &[Binding] = &[
    Binding { signature: data::SIGNATURE, call: |c| Ok(Dynamic::from(data::dataset(&c.text(0)?, &c.options()?, &c.ctx)?)) },
    Binding {
        signature: signature(
            ("data", "split"),
            "A split of a dataset: \"train\", \"val\" or \"test\"",
            &[Arg::new("d", "dataset"), Arg::new("name", "text")],
            "dataset",
            &["dataset(\"shapes\", #{ images: 8 }).split(\"val\").count"],
            &["train", "val", "test", "subset"],
        ),
        call: |c| Ok(Dynamic::from(c.dataset(0)?.split(&c.text(1)?)?)),
    },
    Binding {
        signature: SplitOptions::SIGNATURE,
        call: |c| Ok(Dynamic::from(c.options::<SplitOptions>()?.apply(&c.dataset(0)?, c.ctx.seed)?)),
    },
    Binding {
        signature: GridOptions::SIGNATURE,
        call: |c| Ok(Dynamic::from(Report::new(Grid::of(&c.dataset(0)?, &c.options()?, &c.ctx)?))),
    },
    Binding {
        signature: signature(
            ("data", "take"),
            "The first images of a dataset",
            &[Arg::new("d", "dataset"), Arg::new("n", "whole number")],
            "dataset",
            &["dataset(\"shapes\", #{ images: 8 }).take(4).count"],
            &["head", "first", "subset", "limit"],
        ),
        call: take,
    },
];

fn take(c: &Call<'_>) -> Result<Dynamic> {
    Ok(Dynamic::from(c.dataset(0)?.take(to_usize(c.int(1)?, "the number of images")?)))
}
