//! Training steps without labels, for timing.

use super::loss::{Loss, attach};
use super::objective::{Objective, TaskLoss, pick};
use super::optimizer::UpdateRule;
use super::options::Train;
use super::second_branch::Beside;
use super::step::{Pacing, Stepper};
use crate::data::Batch;
use candle_core::{DType, Tensor};
use compresso_base::context::Context;
use compresso_base::error::{Error, Result};
use compresso_exec::Outputs;
use compresso_model::{Graph, Model, Task};

/// A model that takes training steps on the same images: forward, backward, and an update by stochastic gradient descent.
/// The loss is the sum of the mean squares of the values that the model's own loss would read.
pub struct Rehearsal<'a> {
    stepper: Stepper<'a>,
    batch: Batch,
    steps: usize,
}

impl<'a> Rehearsal<'a> {
    /// `images` is `[batch, channels, height, width]`.
    ///
    /// # Errors
    /// `Unsupported` for models that cannot be trained.
    pub fn new(model: &Model, images: Tensor, ctx: &'a Context) -> Result<Self> {
        let objective = match model.task() {
            Task::Unknown | Task::Instances(_) => {
                MeanSquares { wanted: model.graph().outputs().iter().map(|o| o.name.clone()).collect(), of: None }
            }
            _ => {
                let loss = TaskLoss::for_training(model, 0.0)?;
                MeanSquares { wanted: loss.wanted(), of: Some(loss) }
            }
        };
        let stepper =
            Stepper::new(model, Box::new(objective), Vec::new(), (UpdateRule::Sgd { nesterov: true }, false), &Train::default(), ctx)?;
        let (n, _, h, w) = images.dims4()?;
        stepper.claim(n, [h, w])?;
        let batch = Batch { images, targets: Vec::new(), labels: Vec::new(), indices: Vec::new(), letterboxes: Vec::new() };
        Ok(Self { stepper, batch, steps: 0 })
    }
    /// One step; returns the loss before it.
    ///
    /// # Errors
    /// `Check` when numbers are not finite; whatever the graph reports; `Cancelled`.
    pub fn step(&mut self) -> Result<f64> {
        let rate = 1e-4;
        let pacing = Pacing {
            step: self.steps,
            total: 0,
            learning_rate: rate,
            bias_rate: rate,
            momentum: 0.9,
            weight_decay: 5e-4,
            clip: 10.0,
            hold: false,
        };
        self.steps += 1;
        Ok(self.stepper.step(&self.batch, &pacing)?.parts.iter().map(|(_, v)| v).sum())
    }
}

/// Sum of the mean squares of the values that a loss reads.
struct MeanSquares {
    wanted: Vec<String>,
    /// The loss, where the model has one.
    of: Option<TaskLoss>,
}

impl Objective for MeanSquares {
    fn wanted(&self) -> Vec<String> {
        self.wanted.clone()
    }
    fn beside(&self, graph: &Graph) -> Result<Option<Beside>> {
        self.of.as_ref().map_or(Ok(None), |loss| loss.beside(graph))
    }
    fn loss(&mut self, outputs: &Outputs, _: &Batch, _: &Context) -> Result<Loss> {
        let mut total: Option<Tensor> = None;
        let mut sum = 0.0;
        for x in pick(outputs, &self.wanted)? {
            if !x.dtype().is_float() {
                return Err(Error::unsupported(format!("a loss of values of type {:?}", x.dtype())));
            }
            let mut values: Vec<f32> = x.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?;
            let scale = 1.0 / values.len().max(1) as f64;
            let mean = values.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>() * scale;
            values.iter_mut().for_each(|v| *v *= (2.0 * scale) as f32);
            let part = attach(&x, mean, values)?;
            sum += mean;
            total = Some(match total {
                Some(t) => (t + part)?,
                None => part,
            });
        }
        let total = total.ok_or_else(|| Error::unsupported("a model without outputs cannot be trained"))?;
        Ok(Loss { total, parts: vec![("mean squares", sum)] })
    }
}
