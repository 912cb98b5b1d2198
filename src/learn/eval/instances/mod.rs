//! Objects of which more is found than an upright box: read from a model's outputs, suppressed, in pixels of the image.

mod decode;
mod mask;
mod part;
mod points;
mod turned;

pub use decode::{Instance, Limits, instances};
pub use mask::Mask;
pub use part::Part;
pub use points::{KeyPoint, bones, point_name};
pub use turned::TurnedBox;

#[cfg(test)]
mod tests;
