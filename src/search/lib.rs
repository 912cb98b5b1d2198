//! The search for a small and fast model that still does its work: which techniques, how much of each.
//!
//! - `plan`: what may be done to a model, step by step.
//! - `store`: what was made and measured, kept on disk so that a search that was stopped goes on where it was.
//! - `course`: candidates are made, judged and timed.
//! - `strategy`: which plan is tried next.
//! - `choice`: which candidate is taken, and why others are not.
//! - `front`: which candidates no other one beats.
//! - `guide`: what a few measurements say of what to do next.
//! - `report`: all of them, and why each was taken or not.

#![warn(missing_docs)]

mod choice;
mod course;
mod front;
mod goals;
mod guide;
mod operation;
mod options;
mod plan;
mod report;
mod store;
mod strategy;
#[cfg(test)]
mod tests;

pub use guide::{Advice, Guide, GuideReport};
pub use options::{By, Compress, Technique};
pub use plan::{Means, Plan};
pub use report::{Candidate, CompressReport};
