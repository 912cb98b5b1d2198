//! A training in progress: what the loop works on and a checkpoint keeps.

use super::ema::Ema;
use super::history::History;
use super::options::Train;
use super::parametrize::Tensors;
use super::plan::Plan;
use super::step::Stepper;
use crate::data::Dataset;
use compresso_base::context::Context;
use compresso_base::error::Result;
use compresso_model::Model;

/// The weights of the epoch with the best score.
pub(super) struct Best {
    pub epoch: usize,
    pub score: f64,
    pub tensors: Tensors,
}

/// A training in progress.
pub(super) struct Run<'a> {
    pub model: &'a Model,
    pub data: &'a Dataset,
    pub val: Option<&'a Dataset>,
    pub options: &'a Train,
    pub ctx: &'a Context,
    pub plan: Plan,
    pub ema: Option<Ema>,
    pub history: History,
    pub best: Option<Best>,
}

impl Run<'_> {
    /// The weights that are judged and kept.
    pub fn tensors(&self, stepper: &Stepper<'_>) -> Result<Tensors> {
        match &self.ema {
            Some(ema) => ema.tensors(),
            None => stepper.params.tensors().into_iter().map(|(n, t)| Ok((n, t.copy()?))).collect(),
        }
    }
}
