//! What Rust notebooks load: the library, a session, the operations of scripts, inline display.
//!
//! All cells of a notebook share this one object, and with it the library's state.

pub mod cell;
mod macros;
pub mod operations;
mod results;
mod session;
mod tensors;
pub mod value;

pub use operations::*;
pub use results::*;
pub use session::*;
pub use tensors::*;

pub use compresso::compress::distill::Distill;
pub use compresso::compress::prune::{Prune, PruneReport, Student};
pub use compresso::compress::quantize::{Quantize, QuantizeReport};
pub use compresso::compress::recover::Recover;
pub use compresso::compress::sensitivity::{Sensitivity, SensitivityReport};
pub use compresso::deploy::{
    CoremlExport, Deploy, Deployed, EmbedNms, EmbedPreprocessing, ExportPrecision, ImageLayout, NcnnExport, OnnxExport, OpenvinoExport,
    Optimize, OptimizeReport, TensorrtExport, TfliteExport,
};
pub use compresso::learn::data::{DataOptions, Dataset, GridOptions, SplitOptions};
pub use compresso::learn::eval::{Evaluate, Evaluation, Predict, Predictions};
pub use compresso::learn::train::{History, Train};
pub use compresso::measure::compare::{Compare, Comparison};
pub use compresso::measure::{Benchmark, BenchmarkReport};
pub use compresso::model::{Loaded, Made, ModelOptions, Resize, Summary, Value};
pub use compresso::operation::{Operation, Recipe};
pub use compresso::report::{Media, Plot, Series, SeriesKind, Show, Table};
pub use compresso::search::{By, Compress, CompressReport, Technique};
pub use compresso::target::Target;
pub use compresso::{Context, Error, ErrorKind, Model, Result};
pub use serde_json::json;
pub use {candle_core, candle_nn, compresso, indexmap, serde_json};
