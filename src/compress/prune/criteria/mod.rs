//! What makes a channel worth keeping: one file for each criterion, and one line in the list below. See
//! docs/adding-a-criterion.md.
//!
//! `cargo fmt` does not look into files that a macro names; `rustfmt` takes them by their paths.

use super::Whole;
use super::combine::{Normalization, Reduction};
use super::slices::{GroupSlices, Role, Slice};
use compresso_base::error::{Error, Result};
use compresso_base::operation::{OptionKind, OptionValue};
use compresso_model::ops::channels::Atom;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::HashMap;
use std::fmt;

/// What a criterion wants to know of a model. It is gathered once, for all layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// The constants.
    Weights,
    /// What images make of the values. Needs a dataset.
    Activations,
    /// Gradients of a loss with respect to the constants. Needs a dataset: of the task's loss where the dataset has labels
    /// for it, else of half the square of the outputs' norm, as in Aljundi et al., "Memory aware synapses" (2018).
    Gradients,
    /// Squares of the same gradients, taken for each image alone. Needs a dataset.
    Curvature,
    /// How the channels that layers read vary together on images. Needs a dataset.
    Covariances,
}

/// How a criterion scores. Higher scores stay.
#[derive(Debug, Clone, Copy)]
pub enum Score {
    /// Slice by slice: one score for each index of its axis; `None` for slices that say nothing. These are normalized
    /// over the slice, then reduced over the slices of a group.
    Slice(fn(&Slice<'_>) -> Result<Option<Vec<f64>>>),
    /// All slices of a group together: one score for each of its channels, normalized over the group.
    Group(fn(&mut GroupSlices<'_>) -> Result<Vec<f64>>),
    /// The whole model: a score for each channel, not normalized.
    Model(fn(&Whole<'_>) -> Result<HashMap<Atom, f64>>),
}

/// A way to rank channels.
#[derive(Debug, Clone, Copy)]
pub struct Criterion {
    /// The word in scripts.
    pub name: &'static str,
    /// One sentence.
    pub summary: &'static str,
    /// What is gathered for it.
    pub needs: &'static [Need],
    /// How it scores.
    pub score: Score,
    /// Where the option `reduction` is left out.
    pub reduction: Reduction,
    /// Where the option `normalization` is left out.
    pub normalization: Normalization,
    /// Counts the weights that read a channel, whatever the option `readers` says.
    pub readers: bool,
    /// Ranks channels that no slice gives a score; without one they are the first to go. It may need no more than this.
    pub fallback: Option<&'static Criterion>,
    /// Refuses models for which it makes no sense, given all slices of the model.
    pub check: fn(&[Slice<'_>]) -> Result<()>,
}

impl Criterion {
    /// One that takes the mean over the slices of a group, each a share of its layer's mean.
    pub const fn new(name: &'static str, summary: &'static str, needs: &'static [Need], score: Score) -> Self {
        let (reduction, normalization) = (Reduction::Mean, Normalization::Mean);
        Self { name, summary, needs, score, reduction, normalization, readers: false, fallback: None, check: |_| Ok(()) }
    }
    /// With another reduction where the option is left out.
    pub const fn reduction(mut self, reduction: Reduction) -> Self {
        self.reduction = reduction;
        self
    }
    /// With another normalization where the option is left out.
    pub const fn normalization(mut self, normalization: Normalization) -> Self {
        self.normalization = normalization;
        self
    }
    /// That counts the weights that read a channel, too.
    pub const fn readers(mut self) -> Self {
        self.readers = true;
        self
    }
    /// With a criterion for channels that no slice gives a score.
    pub const fn fallback(mut self, fallback: &'static Criterion) -> Self {
        self.fallback = Some(fallback);
        self
    }
    /// With a function that refuses models for which it makes no sense.
    pub const fn check(mut self, check: fn(&[Slice<'_>]) -> Result<()>) -> Self {
        self.check = check;
        self
    }
    /// Whether this is gathered for it.
    pub fn needs(&self, need: Need) -> bool {
        self.needs.contains(&need)
    }
}

/// The criterion by which channels are ranked: a word in scripts.
#[derive(Clone, Copy)]
pub struct Importance(&'static Criterion);

impl Importance {
    /// A criterion that stands in no list: for Rust only, since a script, and the steps of a saved model, do not know its
    /// name.
    pub const fn of(criterion: &'static Criterion) -> Self {
        Self(criterion)
    }
    /// The criterion that the word stands for.
    pub const fn criterion(self) -> &'static Criterion {
        self.0
    }
}

/// Declares files of criteria and lists them.
macro_rules! criteria {
    ($($file:ident::$criterion:ident),+ $(,)?) => {
        $(mod $file;)+
        /// All criteria that scripts know, in the order in which help lists them.
        pub const CRITERIA: &[&Criterion] = &[$(&$file::$criterion),+];
        impl Importance {
            $(#[doc = concat!("`", stringify!($file), "`")] pub const $criterion: Self = Self(&$file::$criterion);)+
        }
    };
}

criteria! {
    l1::L1,
    l2::L2,
    batchnorm::BATCHNORM,
    random::RANDOM,
    fpgm::FPGM,
    lamp::LAMP,
    taylor::TAYLOR,
    activation::ACTIVATION,
    apoz::APOZ,
    fisher::FISHER,
    hessian::HESSIAN,
    group_l1::GROUP_L1,
    group_l2::GROUP_L2,
    group_taylor::GROUP_TAYLOR,
    group_hessian::GROUP_HESSIAN,
    reconstruction::RECONSTRUCTION,
}

const NAMES: [&str; CRITERIA.len()] = {
    let mut names = [""; CRITERIA.len()];
    let mut i = 0;
    while i < names.len() {
        names[i] = CRITERIA[i].name;
        i += 1;
    }
    names
};

impl OptionValue for Importance {
    const KIND: OptionKind = OptionKind::Choice(&NAMES);
}

impl Serialize for Importance {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.name)
    }
}

impl<'de> Deserialize<'de> for Importance {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let found = CRITERIA.iter().find(|c| c.name == name);
        found.map(|c| Self(c)).ok_or_else(|| serde::de::Error::unknown_variant(&name, &NAMES))
    }
}

impl PartialEq for Importance {
    fn eq(&self, other: &Self) -> bool {
        self.0.name == other.0.name
    }
}

impl Eq for Importance {}

impl fmt::Display for Importance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name)
    }
}

impl fmt::Debug for Importance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Importance({})", self.0.name)
    }
}

/// The example of docs/adding-a-criterion.md, in a list of its own.
#[cfg(test)]
pub(super) mod recipe {
    use super::*;

    criteria! {
        deviation::DEVIATION,
    }
}
