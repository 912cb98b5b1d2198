//! A process for each model and runtime that is measured.
//!
//! What runs a model is a [`Carrier`]: a [`Local`] in this process, or a [`Process`] that has a `Local` in another one, its
//! worker. A worker holds one model in one runtime, so that its peak memory is theirs, and that the end of one is not the
//! end of all. It is timed where it runs; only results travel.
//!
//! - The worker is the program `compresso`, or any other that calls [`hook`]; see [`program`].
//! - Requests and answers are frames on its standard input and output; see [`protocol`].
//! - It waits for requests without using the processor, and ends when its input does, even amid a request.

mod cores;
mod local;
mod process;
pub mod program;
pub mod protocol;
mod serve;

pub(crate) use cores::check as check_cores;
pub use local::Local;
pub use process::Process;
pub use program::hook;

use crate::memory::Peak;
use crate::runtimes::RuntimeSpec;
use candle_core::{Device, Tensor};
use compresso_base::context::Context;
use compresso_base::error::{Error, Result};
use compresso_exec::{Outputs, StepTime};
use compresso_model::graph::specialize;
use compresso_model::{Element, Graph, Value, ValueInfo};
use compresso_target::Names;
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// What a carrier is to load, and to run it on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Order {
    /// Name of the runtime.
    pub runtime: String,
    /// Its artefact.
    pub file: PathBuf,
    /// Threads that the runtime may use.
    pub threads: usize,
    /// Cores that a process of its own is kept on; none: where the system puts it.
    #[serde(default)]
    pub cores: Vec<usize>,
    /// A step is one of training, not of inference.
    pub training: bool,
    /// The CUDA device of training; the CPU when there is none.
    pub gpu: Option<usize>,
    /// Seed of the noise, and of training.
    pub seed: u64,
    /// Bytes that the process may take, where it has a limit.
    #[serde(default)]
    pub memory: Option<u64>,
    /// What the artefact calls inputs and outputs.
    #[serde(default)]
    pub names: Names,
    /// Steps run on seeded noise in these.
    pub inputs: Vec<Input>,
}

/// Name, element type (by its ONNX code) and shape of an input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Input {
    /// As the graph calls it.
    pub name: String,
    /// The [`Element::code`] of its type.
    pub element: i32,
    /// Its shape; no size is open.
    pub dims: Vec<usize>,
}

impl Input {
    /// The inputs of a graph, with unknown batch sizes filled in by `batch` and unknown heights and widths by `image`.
    ///
    /// # Errors
    /// `Argument` when a size is still open.
    pub fn of(graph: &Graph, batch: usize, image: Option<[usize; 2]>) -> Result<Vec<Self>> {
        let make = |input: &ValueInfo| {
            let fact = specialize(&input.fact, batch, image);
            let open = || Error::argument(format!("the input '{}' is {}, with sizes left open", input.name, input.fact));
            Ok(Self { name: input.name.clone(), element: fact.element.code(), dims: fact.dims().ok_or_else(open)? })
        };
        graph.feeds().map(make).collect()
    }
}

/// Milliseconds until a model has run once, its library being loaded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Opened {
    /// Reading the artefact and making it ready.
    pub load_ms: f64,
    /// The first run, in which most runtimes plan memory and pack weights.
    pub first_ms: f64,
}

/// One model, loaded into one runtime.
pub trait Carrier {
    /// What loading and the first run took.
    fn opened(&self) -> Opened;
    /// Runs this many times and gives the milliseconds of each.
    fn step(&mut self, runs: usize) -> Result<Vec<f64>, Fault>;
    /// Runs for this long, and says how often.
    fn run_for(&mut self, seconds: f64) -> Result<usize, Fault>;
    /// Runs on values by input name.
    fn run(&mut self, feeds: &HashMap<String, Value>) -> Result<Outputs, Fault>;
    /// The least time of each step of the plan in `runs` runs.
    fn profile(&mut self, runs: usize) -> Result<Vec<StepTime>, Fault>;
    /// What loading and running took so far, in a process of its own; `None` in one that does other things, and where the
    /// system does not say it.
    fn peak(&mut self) -> Result<Option<Peak>, Fault>;
}

/// Why a carrier gives no answer.
#[derive(Debug)]
pub enum Fault {
    /// Its process has ended: how, and what it last wrote.
    Ended(String),
    /// It says why.
    Error(Error),
}

impl From<Error> for Fault {
    fn from(e: Error) -> Self {
        Self::Error(e)
    }
}

impl Fault {
    /// As an error.
    pub fn error(self) -> Error {
        match self {
            Self::Ended(how) => Error::internal(how),
            Self::Error(e) => e,
        }
    }
}

/// Loads a model into a runtime and runs it once: in the runtime's own program, else in a worker of `program`, else in this process.
///
/// # Errors
/// As [`Local::open`] and [`Process::open`].
pub fn carry<'a>(spec: &RuntimeSpec, order: &Order, program: Option<&Path>, ctx: &'a Context) -> Result<Box<dyn Carrier + 'a>, Fault> {
    Ok(match (spec.worker, program) {
        (Some(worker), _) => Box::new(Process::open(worker()?, order, &ctx.cancel)?),
        (None, Some(program)) => Box::new(Process::open(Process::command(program), order, &ctx.cancel)?),
        (None, None) => Box::new(Local::open(order, false, ctx)?),
    })
}

/// Seeded numbers between 0 and 1 for each float input, zeros for others.
///
/// # Errors
/// `DType` for inputs of a type that cannot be computed with.
pub fn noise(inputs: &[Input], seed: u64) -> Result<HashMap<String, Value>> {
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    let make = |input: &Input| {
        let element = Element::from_code(input.element).ok_or_else(|| Error::dtype(format!("there is no type {}", input.element)))?;
        let storage = element.storage().ok_or_else(|| Error::dtype(format!("inputs of type {element} cannot be made")))?;
        compresso_base::memory::claim_tensor(&input.dims, storage.size_in_bytes(), 2, || {
            format!("input '{}' of shape {:?}", input.name, input.dims)
        })?;
        let tensor = if element.is_float() {
            let values: Vec<f32> = (0..input.dims.iter().product()).map(|_| rng.random::<f32>()).collect();
            Tensor::from_vec(values, input.dims.as_slice(), &Device::Cpu)?.to_dtype(storage)?
        } else {
            Tensor::zeros(input.dims.as_slice(), storage, &Device::Cpu)?
        };
        Ok((input.name.clone(), Value::new(element, tensor)?))
    };
    inputs.iter().map(make).collect()
}
