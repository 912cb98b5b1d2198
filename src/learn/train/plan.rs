//! What a training does, as far as it can be said beforehand.

use super::batch::takes_any_batch;
use super::optimizer::UpdateRule;
use super::options::{OptimizerKind, Train};
use super::schedule::Schedule;
use super::step::{Pacing, image_input};
use crate::data::Dataset;
use compresso_base::context::Context;
use compresso_base::error::{Error, Result};
use compresso_model::{Dim, Model};

/// What follows from options, model and data.
#[derive(Debug)]
pub(super) struct Plan {
    pub size: [usize; 2],
    pub batch: usize,
    /// The model takes batches of another size, and is trained as one that takes any.
    pub open_batch: bool,
    pub drop_last: bool,
    pub steps_per_epoch: usize,
    pub rule: UpdateRule,
    momentum: f64,
    warmup_momentum: f64,
    warmup_bias: f64,
    schedule: Schedule,
}

impl std::fmt::Display for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = match self.rule {
            UpdateRule::Sgd { .. } => "SGD",
            UpdateRule::Adam { .. } => "Adam",
            UpdateRule::AdamW { .. } => "AdamW",
        };
        write!(f, "{name}, learning rate {}, momentum {}", self.schedule.rate, self.momentum)
    }
}

impl Plan {
    /// # Errors
    /// `Argument` for an image size that the model does not take; `Unsupported` for models of several inputs.
    pub fn new(model: &Model, data: &Dataset, options: &Train, ctx: &Context) -> Result<Self> {
        let input = image_input(model.graph())?;
        let shape = input.fact.shape.as_deref().unwrap_or(&[]);
        let known = |axis: usize| shape.get(axis).and_then(Dim::known);
        let fixed = match (known(2), known(3)) {
            (Some(h), Some(w)) => Some([h, w]),
            _ => None,
        };
        let size = match (options.image_size.map(|s| [s, s]), fixed) {
            (Some(asked), Some(fixed)) if asked != fixed => {
                let e = Error::argument(format!("option 'image_size' is {}, the model takes {}×{} images", asked[0], fixed[0], fixed[1]));
                return Err(e.hint("build the model at the size it is to be trained at"));
            }
            (Some(asked), _) => asked,
            (None, Some(fixed)) => fixed,
            (None, None) => {
                model.task().image_size().ok_or_else(|| Error::argument("the model's image size is not known; give option 'image_size'"))?
            }
        };
        let n = data.len();
        let mut batch = options.batch.min(n.max(1));
        let fixed = known(0).filter(|fixed| *fixed != batch);
        let open_batch = fixed.is_some() && takes_any_batch(model, ctx)?;
        if let Some(fixed) = fixed.filter(|_| !open_batch) {
            if fixed != options.batch {
                ctx.note(format!("train: the model takes batches of {fixed}, not {}, and one image depends on the others", options.batch));
            }
            batch = fixed;
        }
        // A small rest would weigh as much as a full batch in the statistics of batch norms.
        let rest = n % batch;
        let drop_last = n > batch && (known(0).is_some() && !open_batch || rest * 2 < batch);
        let steps_per_epoch = if drop_last { n / batch } else { n.div_ceil(batch) };
        let total_steps = steps_per_epoch * options.epochs;
        let kind = match options.optimizer {
            OptimizerKind::Auto if total_steps > 10_000 => OptimizerKind::Sgd,
            OptimizerKind::Auto => OptimizerKind::AdamW,
            given => given,
        };
        let (rule, momentum, rate) = match kind {
            OptimizerKind::Sgd => (UpdateRule::Sgd { nesterov: true }, 0.937, 0.01),
            OptimizerKind::Adam => (UpdateRule::Adam { beta2: 0.999, epsilon: 1e-8 }, 0.9, 1e-3),
            OptimizerKind::AdamW | OptimizerKind::Auto => (UpdateRule::AdamW { beta2: 0.999, epsilon: 1e-8 }, 0.9, 2e-3),
        };
        let warmup = (options.warmup * steps_per_epoch as f64).round().min(total_steps as f64 / 5.0) as usize;
        let schedule = Schedule {
            kind: options.schedule,
            rate: options.learning_rate.unwrap_or(rate),
            final_share: options.final_rate,
            warmup_steps: warmup,
            total_steps,
        };
        let momentum = options.momentum.unwrap_or(momentum);
        Ok(Self {
            size,
            batch,
            open_batch,
            drop_last,
            steps_per_epoch,
            rule,
            momentum,
            warmup_momentum: options.warmup_momentum.unwrap_or(momentum),
            warmup_bias: options.warmup_bias,
            schedule,
        })
    }

    /// The settings of a step, counted from 0. During the warm-up, momentum and the learning rate of biases go straight to
    /// what they are afterwards.
    pub fn pacing(&self, step: usize, options: &Train) -> Pacing {
        let learning_rate = self.schedule.at(step);
        let warm = ((step + 1) as f64 / self.schedule.warmup_steps.max(1) as f64).min(1.0);
        let toward = |from: f64, to: f64| if warm < 1.0 { from + (to - from) * warm } else { to };
        let within = step % self.steps_per_epoch + 1;
        Pacing {
            step,
            total: self.schedule.total_steps,
            learning_rate,
            bias_rate: if warm < 1.0 { toward(self.warmup_bias, self.schedule.rate) } else { learning_rate },
            momentum: toward(self.warmup_momentum, self.momentum),
            weight_decay: options.weight_decay,
            clip: options.clip,
            hold: !within.is_multiple_of(options.accumulate) && within < self.steps_per_epoch,
        }
    }
}
