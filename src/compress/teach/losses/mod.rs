//! What a student may learn from: one file for each loss, and one line in the lists below. See docs/adding-a-loss.md.

use crate::choice::{Entry, Number};
use candle_core::Tensor;
use compresso_base::error::Result;
use compresso_learn::train::Param;
use compresso_model::DetectHead;

#[cfg(test)]
mod cosine;
mod divergence;
pub mod tensors;
#[cfg(test)]
mod tests;

pub(super) use divergence::read;
pub use divergence::{ClassPart, Gains, LevelPair, Soft, class_divergence, head_divergence};

/// A loss of logits: of a classifier, of a detector's raw head, or of both.
#[derive(Debug)]
pub struct LogitLoss {
    /// The word in scripts.
    pub name: &'static str,
    /// One sentence.
    pub summary: &'static str,
    /// Numbers that may be given with the word.
    pub numbers: &'static [Number],
    /// Where the option `temperature` is left out: of classifiers, of detectors.
    pub temperature: [f64; 2],
    /// Of classifiers. `numbers` are values in the order of the entry's.
    pub classes: Option<fn(&Classes<'_>, numbers: &[f64]) -> Result<Soft>>,
    /// Of detectors.
    pub head: Option<fn(&Heads<'_>, numbers: &[f64]) -> Result<Soft>>,
}

/// Logits of a batch of a classifier.
#[derive(Debug, Clone, Copy)]
pub struct Classes<'a> {
    /// `[batch, classes]`: the student's.
    pub student: &'a Tensor,
    /// Of the same shape, in the student's order of classes; no gradient flows to it.
    pub teacher: &'a Tensor,
    /// The right class of each image; empty where there are no labels.
    pub labels: &'a [usize],
    /// By which logits are divided; 1 leaves them as they are.
    pub temperature: f64,
}

/// Raw heads of a batch of a detector.
#[derive(Debug, Clone, Copy)]
pub struct Heads<'a> {
    /// Raw values of both, level by level.
    pub levels: &'a [LevelPair<'a>],
    /// The student's head; the teacher's has the same strides and bins.
    pub head: &'a DetectHead,
    /// Those of the loss from labels.
    pub gains: Gains,
    /// By which logits are divided; 1 leaves them as they are.
    pub temperature: f64,
}

/// A loss of feature maps.
#[derive(Debug)]
pub struct FeatureLoss {
    /// The word in scripts.
    pub name: &'static str,
    /// One sentence.
    pub summary: &'static str,
    /// Numbers that may be given with the word.
    pub numbers: &'static [Number],
    /// In squares of the maps' numbers, so that maps of larger numbers count more unless they are balanced.
    pub squared: bool,
    /// Asks for [`Maps::confidence`].
    pub confidence: bool,
    /// Weights that are trained with the student and dropped at the end, of maps of so many channels: name and shape of each.
    pub variables: fn(channels: usize) -> Vec<(&'static str, [usize; 4])>,
    /// The loss, a scalar.
    pub loss: fn(&Maps<'_>, numbers: &[f64]) -> Result<Tensor>,
}

impl FeatureLoss {
    const fn new(
        name: &'static str,
        summary: &'static str,
        numbers: &'static [Number],
        loss: fn(&Maps<'_>, numbers: &[f64]) -> Result<Tensor>,
    ) -> Self {
        Self { name, summary, numbers, squared: false, confidence: false, variables: |_| Vec::new(), loss }
    }
    const fn squared(mut self) -> Self {
        self.squared = true;
        self
    }
    const fn with_confidence(mut self) -> Self {
        self.confidence = true;
        self
    }
}

/// Feature maps of a batch.
#[derive(Debug, Clone, Copy)]
pub struct Maps<'a> {
    /// `[batch, channels, height, width]`: of the student, brought to the teacher's channels and size.
    pub student: &'a Tensor,
    /// Of the same shape; no gradient flows to it.
    pub teacher: &'a Tensor,
    /// `[batch, 1, height, width]`: the teacher's probability of its likeliest class at each place, where it is a detector.
    pub confidence: Option<&'a Tensor>,
    /// [`FeatureLoss::variables`].
    pub variables: &'a [Param],
    /// Seed of what is drawn for the batch.
    pub seed: u64,
}

/// Declares files of losses and lists them.
macro_rules! losses {
    ($kind:ty, $what:literal: $($file:ident::$loss:ident),+ $(,)?) => {
        $(mod $file;)+
        impl Entry for $kind {
            const WHAT: &'static str = $what;
            const ALL: &'static [&'static Self] = &[$(&$file::$loss),+];
            const NAMES: &'static [&'static str] = &[$($file::$loss.name),+];
            fn name(&self) -> &'static str {
                self.name
            }
            fn numbers(&self) -> &'static [Number] {
                self.numbers
            }
        }
    };
}

losses! {
    LogitLoss, "loss of logits":
    kd::KD,
    weighted::WEIGHTED,
    ld::LD,
    bce::BCE,
    dkd::DKD,
    dist::DIST,
}

losses! {
    FeatureLoss, "loss of feature maps":
    mse::MSE,
    confident::CONFIDENT,
    attention::ATTENTION,
    cwd::CWD,
    pkd::PKD,
    mgd::MGD,
    fgd::FGD,
}
