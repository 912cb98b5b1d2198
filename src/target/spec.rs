//! What a target is, as data.

use super::{Artefact, Finding, Names, Op, Quantization, Remark};
use compresso_base::error::Result;
use compresso_model::passes::Pipeline;
use compresso_model::{Element, Graph};
use std::path::{Path, PathBuf};

/// A kind of file, or a runtime, that models are made for. Most are ONNX with differences, so that a specification names these
/// and takes the rest from another one (`..onnx::SPEC`).
#[derive(Debug, Clone, Copy)]
pub struct TargetSpec {
    /// As scripts call it.
    pub name: &'static str,
    /// As sentences call it: "TensorRT".
    pub title: &'static str,
    /// One sentence without its full stop.
    pub summary: &'static str,
    /// Operators that it takes, or those that it refuses, each with the reason.
    pub operators: Takes<Op, Remark>,
    /// Element types of the inputs and constants that it takes, or those that it refuses.
    pub elements: Takes<Element, Element>,
    /// What works but not at its best.
    pub advice: &'static [Remark],
    /// What else it would refuse or run badly.
    pub rules: &'static [fn(&Graph) -> Result<Vec<Finding>>],
    /// How it runs integers; `None` when it runs none.
    pub quantization: Option<Quantization>,
    /// What is run on a float32 graph before it is converted and written.
    pub pipeline: Pipeline,
    /// The file can leave sizes open. Otherwise what a model leaves open is filled in before it is written.
    pub open_sizes: bool,
    /// Inputs and results may have a size of 0. Otherwise such a graph is refused before its writer sees it.
    pub empty: bool,
    /// What float16 is there.
    pub float16: Float16,
    /// A file or a folder, and how its name ends.
    pub destination: Destination,
    /// The writer reads the range of every value (int8), beside a graph in float.
    pub calibration: bool,
    /// What the file calls inputs and outputs.
    pub names: fn(&Graph) -> Names,
    /// What reports say of the file besides.
    pub told: fn(&Artefact<'_>) -> Result<Vec<String>>,
    /// The runtime that runs the files, as `benchmark` calls it.
    pub runtime: Option<&'static str>,
    /// Writes what was prepared to the destination, which may be there already, and says which files were written, the model first.
    pub write: fn(&Artefact<'_>, &Path) -> Result<Vec<PathBuf>>,
}

/// What is taken: a list of it, or all but a list.
#[derive(Debug, Clone, Copy)]
pub enum Takes<T: 'static, R: 'static> {
    /// These, and nothing else.
    Only(&'static [T]),
    /// All but these.
    AllBut(&'static [R]),
}

/// What a target makes of float16.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Float16 {
    /// The types of all values: the graph is converted, with float32 where digits or range ask for it.
    Typed,
    /// A way to store weights: the writer gets the float32 graph, and the runtime chooses what it computes in.
    Stored,
}

/// Where a target's files go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// Into a file whose name ends so, without the full stop.
    File(&'static str),
    /// Into a folder.
    Folder,
    /// Into a folder whose name ends so, without the full stop, and which is replaced as a whole.
    Package(&'static str),
}

impl Destination {
    /// How names of what is written end, where it matters.
    pub fn ending(self) -> Option<&'static str> {
        match self {
            Self::File(ending) | Self::Package(ending) => Some(ending),
            Self::Folder => None,
        }
    }
}
