//! Inputs and outputs that the file holds in integers, where they are asked for: for programs and chips that have no floats.

use super::builder::{Builder, Form};
use super::codes;
use super::layout::plain;
use super::model::{File, Grid, Kind, Type};
use super::rounding::grid_of;
use crate::Artefact;
use compresso_base::error::{At, Error, Result};
use compresso_model::Graph;

compresso_base::choice! {
    /// How a file holds the floats that it is fed with or gives away.
    pub enum EndType {
        /// As floats.
        Float32 = "float32",
        /// As the int8 that a layer reads or makes, with its scale and zero point.
        Int8 = "int8",
        /// As that int8 plus 128.
        Uint8 = "uint8",
        /// As the int16 that a layer reads or makes.
        Int16 = "int16",
    }
}

impl EndType {
    /// # Errors
    /// `Argument` where integers of this type cannot be held so.
    fn fits(self, kind: Kind, option: &str) -> Result<()> {
        let has = if kind == Kind::I16 { "int16" } else { "int8" };
        if (kind == Kind::I16) == (self == Self::Int16) {
            return Ok(());
        }
        Err(Error::argument(format!("it is rounded to {has}, which is not held as {self}")).hint(format!("use {option}: \"{has}\"")))
    }
}

/// Settings of the writer that say how inputs and outputs are held.
pub const INPUTS: &str = "inputs";
/// As [`INPUTS`].
pub const OUTPUTS: &str = "outputs";

/// What was asked for of inputs and outputs of floats.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ends {
    pub inputs: EndType,
    pub outputs: EndType,
}

impl Ends {
    pub fn of(artefact: &Artefact<'_>) -> Result<Self> {
        let read = |name: &str| match artefact.settings.get(name) {
            Some(v) => serde_json::from_value(v.clone()).map_err(|e| Error::argument(format!("option '{name}' is {v}")).because(e)),
            None => Ok(EndType::Float32),
        };
        Ok(Self { inputs: read(INPUTS)?, outputs: read(OUTPUTS)? })
    }
    /// True where some are integers.
    pub fn are_integers(self) -> bool {
        [self.inputs, self.outputs].iter().any(|&e| e != EndType::Float32)
    }
}

/// An input of floats that is fed as integers, in steps of the QuantizeLinear that alone reads it.
pub(super) fn feed(b: &mut Builder<'_>, name: &str, wanted: EndType, shape: &[usize], perm: Vec<usize>) -> Result<()> {
    let grid = steps(b.graph, name).and_then(|grid| wanted.fits(grid.kind, INPUTS).map(|()| grid)).at(|| format!("input '{name}'"))?;
    let t = if wanted == EndType::Uint8 {
        let t = b.input(name, Type::rounded(shape, grid.unsigned()));
        b.requantize(t, &grid)
    } else {
        b.input(name, Type::rounded(shape, grid))
    };
    b.hold(name, perm, t, Form::Rounded);
    Ok(())
}

/// The steps in which all that read an input round it.
fn steps(graph: &Graph, name: &str) -> Result<Grid> {
    let mut grids = Vec::new();
    for &i in graph.consumers().get(name).into_iter().flatten() {
        let node = &graph.nodes()[i];
        if !node.is("QuantizeLinear") {
            let e = Error::unsupported(format!("{} reads it as floats, so that integers cannot be fed", node.label()));
            return Err(e.hint("use inputs: \"float32\", or precision: \"int8\" without leaving out the first layer"));
        }
        grids.push(grid_of(graph, node)?);
    }
    let first = grids.first().cloned().ok_or_else(|| Error::unsupported("nothing reads it, so that it has no scale"))?;
    if grids.iter().any(|g| *g != first) {
        return Err(Error::unsupported("it is rounded with several scales").hint("use inputs: \"float32\""));
    }
    Ok(first)
}

/// An output of floats that is given away as integers, which it is there in.
pub(super) fn give(b: &mut Builder<'_>, name: &str, wanted: EndType) -> Result<()> {
    let rank = b.dims(name)?.len();
    if !b.is_rounded(name) {
        let e = Error::unsupported("it is computed in floats after the last layer, so that it is not there in integers");
        return Err(e.hint("use outputs: \"float32\"; classifiers whose last layer is quantized give integers"));
    }
    let grid = b.grid(name).ok_or_else(|| Error::internal("what is rounded has a scale"))?;
    wanted.fits(grid.kind, OUTPUTS)?;
    let mut t = b.read(name, &plain(rank), Form::Rounded)?;
    if wanted == EndType::Uint8 {
        let made = Type::rounded(&b.of(t).shape, grid.unsigned());
        t = b.op(codes::quantize(), &[t], made);
    }
    b.output(name, t)
}

/// What the integers at a file's ends stand for.
pub(super) fn described(file: &File) -> Vec<String> {
    let mut told = Vec::new();
    for (what, list) in [("input", &file.inputs), ("output", &file.outputs)] {
        for t in list.iter().map(|&t| &file.tensors[t]) {
            if let Some(Grid { kind, scales, zero_points, .. }) = &t.made.grid {
                let kind = match kind {
                    Kind::U8 => EndType::Uint8,
                    Kind::I16 => EndType::Int16,
                    _ => EndType::Int8,
                };
                told.push(format!("{what} '{}' is {kind}: scale {}, zero point {}", t.name, scales[0], zero_points[0]));
            }
        }
    }
    told
}
