//! Scripts as experiments: their parameters, the folder that a run leaves, and sweeps over a grid of parameters.
//!
//! - [`Journal`]: the parameters that a script is given and reads, and the metrics that it records.
//! - [`Recorder`] writes the folder of a run; [`Runs`] lists and compares such folders.
//! - [`Sweep`] runs a script for each point of a grid, in processes of this machine or as jobs of a Slurm cluster. Each run has a folder
//!   named by the hash of script and parameters, so that none is run twice and a sweep that was stopped goes on.

#![warn(missing_docs)]

mod figures;
mod grid;
mod job;
mod journal;
mod pool;
mod record;
mod report;
mod runs;
mod slurm;
mod sweep;

pub use journal::{Journal, Saved, parse_setting};
pub use record::{Conditions, Recorder, RunRecord, Status, new_folder};
pub use report::{Place, SweepReport};
pub use runs::{Runs, RunsReport};
pub use sweep::Sweep;
