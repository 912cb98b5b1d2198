//! Training steps of this library's own executor, timed as a runtime.

use super::Runtime;
use compresso_base::context::Context;
use compresso_base::error::{Error, Result};
use compresso_exec::Outputs;
use compresso_learn::train::Rehearsal;
use compresso_model::{Model, Value};
use std::collections::HashMap;

/// A model whose step is one of training: forward, backward, update.
pub struct Training<'a> {
    model: &'a Model,
    ctx: &'a Context,
    rehearsal: Option<Rehearsal<'a>>,
    pool: rayon::ThreadPool,
}

impl<'a> Training<'a> {
    /// # Errors
    /// `Unavailable` when the threads cannot be started.
    pub fn new(model: &'a Model, threads: usize, ctx: &'a Context) -> Result<Self> {
        Ok(Self { model, ctx, rehearsal: None, pool: super::native::pool(threads)? })
    }
}

impl Runtime for Training<'_> {
    fn name(&self) -> &'static str {
        "native"
    }
    fn version(&self) -> String {
        env!("CARGO_PKG_VERSION").into()
    }
    fn run(&mut self, _: &HashMap<String, Value>) -> Result<Outputs> {
        Err(Error::unsupported("a training step has no outputs"))
    }
    fn feed(&mut self, feeds: &HashMap<String, Value>) -> Result<()> {
        let images = match feeds.values().collect::<Vec<_>>()[..] {
            [images] => images.tensor.to_device(&self.ctx.device)?,
            _ => return Err(Error::unsupported(format!("training needs a model with one input, this one has {}", feeds.len()))),
        };
        self.rehearsal = Some(Rehearsal::new(self.model, images, self.ctx)?);
        Ok(())
    }
    fn step(&mut self) -> Result<()> {
        let rehearsal = self.rehearsal.as_mut().ok_or_else(|| Error::internal("a training step without images"))?;
        self.pool.install(|| rehearsal.step()).map(drop)
    }
}
