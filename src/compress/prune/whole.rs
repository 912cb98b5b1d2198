//! A whole model, for criteria that rank the channels of all layers together.

use super::Group;
use super::costs::{Budget, Costs};
use super::gather::Gathered;
use super::readers::Readers;
use compresso_base::context::Context;
use compresso_base::error::Result;

/// A model with what was gathered about it.
#[derive(Debug)]
pub struct Whole<'a> {
    pub(super) gathered: &'a Gathered<'a>,
    /// The groups that are ranked.
    pub groups: &'a [&'a Group],
    /// Channels that each layer keeps.
    pub least: usize,
    /// The share that is to go.
    pub ratio: f64,
    /// What the pruning runs under: threads, seed, cancellation.
    pub ctx: &'a Context,
}

impl Whole<'_> {
    /// The layers as readers of channels, by the covariances.
    pub(super) fn readers(&self) -> Result<Readers> {
        Readers::new(self.gathered.found, &self.gathered.covariances)
    }
    /// Multiply-accumulates; weights where they are not known.
    pub(super) fn costs(&self) -> Result<Costs> {
        Ok(Costs::new(self.gathered.found, self.gathered.task, Budget::Macs)?.0)
    }
}
