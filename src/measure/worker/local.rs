//! A carrier in this process.

use super::{Carrier, Fault, Opened, Order, noise};
use crate::memory::{Before, Peak};
use crate::runtimes::{Opening, Runtime, named};
use compresso_base::context::Context;
use compresso_base::error::{Error, Result};
use compresso_exec::{Outputs, StepTime};
use compresso_model::Value;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// A model in a runtime in this process.
pub struct Local<'a> {
    runtime: Box<dyn Runtime + 'a>,
    ctx: &'a Context,
    before: Option<Before>,
    opened: Opened,
}

impl<'a> Local<'a> {
    /// Loads a model and runs it once. Memory is counted where `alone` says that this process does nothing else: from
    /// where the runtime's library is loaded, and nothing of the model.
    ///
    /// # Errors
    /// As [`Open`](crate::runtimes::Open); what the first run reports.
    pub fn open(order: &Order, alone: bool, ctx: &'a Context) -> Result<Self> {
        let spec = named(&order.runtime)?;
        spec.require()?;
        let open = match (order.training, spec.train) {
            (false, _) => spec.open,
            (true, Some(train)) => train,
            (true, None) => return Err(Error::unsupported(format!("{} does not train", spec.name))),
        };
        let before = alone.then(Before::now).flatten();
        let start = Instant::now();
        let mut runtime = open(&Opening { file: order.file.clone(), names: order.names.clone(), threads: order.threads, ctx })?;
        let load_ms = start.elapsed().as_secs_f64() * 1e3;
        runtime.feed(&noise(&order.inputs, order.seed)?)?;
        let start = Instant::now();
        runtime.step()?;
        let first_ms = start.elapsed().as_secs_f64() * 1e3;
        Ok(Self { runtime, ctx, before, opened: Opened { load_ms, first_ms } })
    }
}

impl Carrier for Local<'_> {
    fn opened(&self) -> Opened {
        self.opened
    }
    fn step(&mut self, runs: usize) -> Result<Vec<f64>, Fault> {
        let mut times = Vec::with_capacity(runs);
        for _ in 0..runs {
            self.ctx.check()?;
            let start = Instant::now();
            self.runtime.step()?;
            times.push(start.elapsed().as_secs_f64() * 1e3);
        }
        Ok(times)
    }
    fn run_for(&mut self, seconds: f64) -> Result<usize, Fault> {
        let until = Instant::now() + Duration::from_secs_f64(seconds);
        let mut runs = 0;
        while Instant::now() < until {
            self.ctx.check()?;
            self.runtime.step()?;
            runs += 1;
        }
        Ok(runs)
    }
    fn run(&mut self, feeds: &HashMap<String, Value>) -> Result<Outputs, Fault> {
        Ok(self.runtime.run(feeds)?)
    }
    fn profile(&mut self, runs: usize) -> Result<Vec<StepTime>, Fault> {
        Ok(self.runtime.profile(runs)?)
    }
    fn peak(&mut self) -> Result<Option<Peak>, Fault> {
        Ok(self.before.and_then(Before::peak))
    }
}
