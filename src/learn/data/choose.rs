//! `split` and `take`: parts of datasets.

use super::Dataset;
use compresso_base::context::Context;
use compresso_base::error::Result;
use compresso_base::operation::{Arg, ArgKind, Operation, Options, Signature};

compresso_base::options! {
    /// Chooses a split of a dataset: see [`Dataset::split`].
    pub struct Split {}
}

impl Operation for Split {
    const SIGNATURE: Signature = Signature {
        name: "split",
        summary: "A split of a dataset: \"train\", \"val\" or \"test\"",
        group: "data",
        args: &[Arg::new("d", ArgKind::Dataset), Arg::new("name", ArgKind::Text)],
        returns: "dataset",
        fields: Self::FIELDS,
        examples: &["dataset(\"shapes\", #{ images: 8 }).split(\"val\").count"],
        keywords: &["train", "val", "test", "subset"],
    };
    type Inputs<'a> = (&'a Dataset, &'a str);
    type Output = Dataset;

    fn run(&self, (data, name): (&Dataset, &str), _: &Context) -> Result<Dataset> {
        data.split(name)
    }
}

compresso_base::options! {
    /// Takes the first images of a dataset: see [`Dataset::take`].
    pub struct Take {}
}

impl Operation for Take {
    const SIGNATURE: Signature = Signature {
        name: "take",
        summary: "The first images of a dataset",
        group: "data",
        args: &[Arg::new("d", ArgKind::Dataset), Arg::new("n", ArgKind::Int)],
        returns: "dataset",
        fields: Self::FIELDS,
        examples: &["dataset(\"shapes\", #{ images: 8 }).take(4).count"],
        keywords: &["head", "first", "subset", "limit"],
    };
    type Inputs<'a> = (&'a Dataset, usize);
    type Output = Dataset;

    fn run(&self, (data, count): (&Dataset, usize), _: &Context) -> Result<Dataset> {
        Ok(data.take(count))
    }
}
