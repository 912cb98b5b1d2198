//! What a program does around a model, as nodes of its graph: [`EmbedNms`] suppresses overlapping boxes, [`EmbedPreprocessing`] takes the
//! bytes of an image.

mod nms;
mod preprocessing;

pub use nms::EmbedNms;
pub use preprocessing::{EmbedPreprocessing, ImageLayout};
