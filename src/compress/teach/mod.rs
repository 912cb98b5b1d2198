//! What a model learns from another on the same images: the losses of logits, outputs and feature maps, with or without labels beside them.
//! `distill` trains a student so, `recover` a compressed model.

mod features;
mod logits;
pub mod losses;
mod objective;
mod outputs;
mod points;
mod teacher;

pub use crate::choice::{Chosen, Entry, Number};
pub use features::{Comparing, FeaturePair, Named, pairs, resize};
pub use losses::{ClassPart, FeatureLoss, Gains, LevelPair, LogitLoss, Soft, class_divergence, head_divergence};
pub use objective::{Features, Imitation, Lesson};
pub use outputs::{difference, output_difference};
pub use points::points;
