//! How a model gets small. The techniques do not import each other.

#![warn(missing_docs)]

mod choice;
pub mod damage;
pub mod distill;
pub mod images;
mod probe;
pub mod prune;
pub mod quantize;
pub mod recover;
pub mod score;
pub mod sensitivity;
pub mod teach;

#[cfg(test)]
mod channels_tests;
