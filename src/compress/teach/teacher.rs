//! The model that is learnt from.

use candle_core::Tensor;
use compresso_base::context::Context;
use compresso_base::error::{At, Error, Result};
use compresso_exec::{self as exec, Engine, Outputs};
use compresso_learn::eval::model_input;
use compresso_model::{Model, Value};
use std::collections::HashMap;

/// A teacher that is asked for some of its values.
pub(super) struct Teacher<'a> {
    model: &'a Model,
    /// Its input, and its batch size where that is fixed.
    input: (String, Option<usize>),
    wanted: Vec<String>,
    /// Planned, on the CPU.
    engine: Option<Engine>,
}

impl<'a> Teacher<'a> {
    /// # Errors
    /// `Unsupported` for models with several inputs; what planning reports.
    pub fn new(model: &'a Model, mut wanted: Vec<String>, ctx: &Context) -> Result<Self> {
        let feeds: Vec<_> = model.graph().feeds().collect();
        let [input] = feeds[..] else {
            return Err(Error::unsupported(format!("a teacher needs one input, this one has {}", feeds.len())));
        };
        let batch = input.fact.shape.as_ref().and_then(|s| s.first()?.known());
        wanted.sort_unstable();
        wanted.dedup();
        let names: Vec<&str> = wanted.iter().map(String::as_str).collect();
        let engine = if ctx.device.is_cpu() { Some(Engine::new(model.graph(), &names, ctx.threads)?) } else { None };
        Ok(Self { model, input: (input.name.clone(), batch), wanted, engine })
    }

    /// What it says of a batch of images `[batch, channels, height, width]`.
    ///
    /// # Errors
    /// `Argument` for a batch that its own batch size does not divide; whatever running reports; `Cancelled`.
    pub fn teach(&mut self, images: &Tensor, ctx: &Context) -> Result<Outputs> {
        let Self { model, input, wanted, engine } = self;
        let names: Vec<&str> = wanted.iter().map(String::as_str).collect();
        let mut run = |images: Tensor| -> Result<Outputs> {
            let feeds = HashMap::from([(input.0.clone(), Value::plain(images)?)]);
            if let Some(engine) = engine {
                return engine.run(&feeds, Some(&ctx.cancel)).at(|| "teacher".to_string());
            }
            let run = exec::Run { wanted: &names, cancel: Some(&ctx.cancel), device: Some(ctx.device.clone()), ..exec::Run::default() };
            exec::run(model.graph(), &feeds, run).at(|| "teacher".to_string())
        };
        let images = &model_input(model.task(), images)?;
        let n = images.dim(0)?;
        let Some(size) = input.1.filter(|&size| size != n) else {
            return run(images.clone());
        };
        if size == 0 || n % size != 0 {
            return Err(Error::argument(format!("the teacher takes batches of {size} images, which do not make up {n}")));
        }
        let parts = (0..n / size).map(|i| run(images.narrow(0, i * size, size)?.contiguous()?)).collect::<Result<Vec<_>>>()?;
        let join = |name: &String| -> Result<(String, Value)> {
            let tensors: Vec<Tensor> = parts.iter().map(|p| p[name].tensor.clone()).collect();
            Ok((name.clone(), Value::plain(Tensor::cat(&tensors, 0)?)?))
        };
        wanted.iter().map(join).collect()
    }
}
