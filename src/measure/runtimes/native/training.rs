//! Training steps of this library's own executor, timed as a runtime.

use crate::runtimes::{Opening, Runtime};
use compresso_base::context::Context;
use compresso_base::error::{Error, Result};
use compresso_exec::Outputs;
use compresso_learn::train::Rehearsal;
use compresso_model::{LoadOptions, Model, Value};
use std::collections::HashMap;

/// A model whose step is one of training: forward, backward, update.
struct Training<'a> {
    model: Model,
    ctx: &'a Context,
    rehearsal: Option<Rehearsal<'a>>,
    pool: rayon::ThreadPool,
}

/// # Errors
/// Those of loading the model; `Unavailable` when the threads cannot be started.
pub(super) fn open<'a>(o: &Opening<'a>) -> Result<Box<dyn Runtime + 'a>> {
    let model = Model::load(&o.file, &LoadOptions::default())?;
    Ok(Box::new(Training { model, ctx: o.ctx, rehearsal: None, pool: super::pool(o.threads)? }))
}

impl Runtime for Training<'_> {
    fn run(&mut self, _: &HashMap<String, Value>) -> Result<Outputs> {
        Err(Error::unsupported("a training step has no outputs"))
    }
    fn feed(&mut self, feeds: &HashMap<String, Value>) -> Result<()> {
        let images = match feeds.values().collect::<Vec<_>>()[..] {
            [images] => images.tensor.to_device(&self.ctx.device)?,
            _ => return Err(Error::unsupported(format!("training needs a model with one input, this one has {}", feeds.len()))),
        };
        self.rehearsal = Some(Rehearsal::new(&self.model, images, self.ctx)?);
        Ok(())
    }
    fn step(&mut self) -> Result<()> {
        let rehearsal = self.rehearsal.as_mut().ok_or_else(|| Error::internal("a training step without images"))?;
        self.pool.install(|| rehearsal.step())?;
        // A GPU still works when its orders have been given.
        Ok(self.ctx.device.synchronize()?)
    }
}
