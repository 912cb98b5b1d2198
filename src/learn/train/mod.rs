//! Training: what is trained, what is minimised, how weights follow.

mod batch;
#[cfg(test)]
mod batch_tests;
mod checkpoint;
mod classification;
pub mod detection;
mod dual;
mod ema;
mod history;
mod loss;
mod objective;
mod optimizer;
mod options;
pub mod parametrize;
mod params;
mod plan;
mod reach;
#[cfg(test)]
mod reach_tests;
mod rehearsal;
#[cfg(test)]
mod resume_tests;
mod room;
mod run;
mod scaler;
mod schedule;
mod second_branch;
mod step;
#[cfg(test)]
mod test_support;
#[cfg(test)]
mod tests;
mod trainer;
mod validate;

pub use classification::{ClassificationLoss, cross_entropy};
pub use detection::DetectionLoss;
pub use dual::{DualLoss, Share};
pub use ema::Ema;
pub use history::{Epoch, History};
pub use loss::{Loss, attach};
pub use objective::{EndToEnd, Objective, TaskLoss, pick};
pub use optimizer::{Optimizer, Pace, UpdateRule, gradient_norm};
pub use options::{Freeze, OptimizerKind, ScaleKind, ScheduleKind, Train};
pub use params::{MASKS_KEY, Param, ParamSet, ancestors, trainable, write_back};
pub use rehearsal::Rehearsal;
pub use schedule::Schedule;
pub use second_branch::{Beside, SecondBranch};
pub use trainer::{Trained, fit};
