//! The named lists of passes: the registration of every pass.
//!
//! A pass is registered by its line in one of the lists below. Passes that belong to a room above this one (they need what
//! this room does not know) stand in a [`Pipeline`] of that room.

use super::{
    DEAD_CODE, ELIMINATE_DEADEND, ELIMINATE_IDENTITY, ELIMINATE_NOP_CAST, ELIMINATE_NOP_CONCAT, ELIMINATE_NOP_DROPOUT,
    ELIMINATE_NOP_EXPAND, ELIMINATE_NOP_PAD, ELIMINATE_NOP_RESHAPE, ELIMINATE_NOP_SLICE, ELIMINATE_NOP_TRANSPOSE,
    ELIMINATE_UNUSED_INITIALIZER, EliminateCommonSubexpression, EliminateDuplicateInitializer, EliminateWholeScatter, ExpandQLinear,
    ExtractConstants, FoldBatchNorm, FoldConstants, FuseAddBias, FuseBatchNormActivation, FuseConcats, FuseFakeQuantize, FuseGelu,
    FuseHardSwish, FuseLayerNorm, FuseLogSoftmax, FuseMatMulAdd, FusePad, FuseReduceUnsqueeze, FuseSqueezes, FuseSwish, FuseTransposeGemm,
    FuseTransposes, InlineBranches, JoinFactors, JoinSplits, MergeParallelConvs, MonotoneArgMax, Outcome, OwnVectors, Pass, RaiseOpset,
    ResolveSequences, UnrollLoops, ZeroStates, run,
};
use crate::graph::Graph;
use compresso_base::error::{Error, Result, nearest};

/// Passes in running order, an order in which they help each other.
pub type Passes = &'static [&'static dyn Pass];

/// What any use of a graph without training gains by.
pub const CLEAN: Passes =
    &[&FoldConstants, &InlineBranches, &UnrollLoops, &ResolveSequences, &ELIMINATE_IDENTITY, &FoldBatchNorm, &DEAD_CODE];

/// Operators on quantized numbers in the form that layers between QuantizeLinear and DequantizeLinear have.
const EXPANDED: Passes = &[&ExpandQLinear];

/// What makes a graph of standard operators smaller, beside what any engine does for itself.
const SMALLER: Passes = &[
    &ExtractConstants,
    &ELIMINATE_NOP_DROPOUT,
    &ELIMINATE_NOP_CAST,
    &ELIMINATE_NOP_CONCAT,
    &ELIMINATE_NOP_EXPAND,
    &ELIMINATE_NOP_PAD,
    &ELIMINATE_NOP_RESHAPE,
    &ELIMINATE_NOP_SLICE,
    &ELIMINATE_NOP_TRANSPOSE,
    &FuseTransposes,
    &FuseSqueezes,
    &FuseReduceUnsqueeze,
    &FuseConcats,
    &FuseLogSoftmax,
    &MonotoneArgMax,
    &FusePad,
    &FuseMatMulAdd,
    &FuseTransposeGemm,
    &FuseAddBias,
    &EliminateDuplicateInitializer,
    &EliminateCommonSubexpression,
    &ELIMINATE_DEADEND,
    &ELIMINATE_UNUSED_INITIALIZER,
];

/// Layers that are summed, as one.
const MERGED: Passes = &[&MergeParallelConvs];

/// Nodes joined into one that only this library's executors know, and what else they would carry out in more steps.
const JOINED: Passes = &[&FuseSwish, &FuseHardSwish, &FuseGelu, &FuseLayerNorm, &EliminateWholeScatter, &JoinFactors];

/// A named list of passes.
#[derive(Debug, Clone, Copy)]
pub struct Pipeline {
    /// The word for it in [`find`] and in errors.
    pub name: &'static str,
    /// One sentence.
    pub summary: &'static str,
    /// Its passes in running order, as lists that pipelines share.
    pub lists: &'static [Passes],
}

/// For any inference engine.
pub const INFERENCE: Pipeline = Pipeline { name: "inference", summary: "What every inference engine gains by", lists: &[CLEAN] };

/// Before training: the same constants, values and gradients with less memory moved, forward and backward.
pub const TRAINING: Pipeline = Pipeline {
    name: "training",
    summary: "Less memory to move, with the same parameters and gradients",
    lists: &[&[
        &InlineBranches,
        &UnrollLoops,
        &ResolveSequences,
        &FuseSwish,
        &FuseHardSwish,
        &FuseBatchNormActivation,
        &FuseFakeQuantize,
        &JoinSplits,
    ]],
};

/// Before pruning: each layer reads constants of its own.
pub const PRUNE: Pipeline = Pipeline {
    name: "prune",
    summary: "Computed values as constants, and no vector that several layers share",
    lists: &[&[&FoldConstants, &InlineBranches, &UnrollLoops, &ResolveSequences, &ZeroStates, &OwnVectors]],
};

/// Before quantization.
pub const QUANTIZE: Pipeline = Pipeline {
    name: "quantize",
    summary: "As inference, in an operator set that has scales per channel",
    lists: &[CLEAN, &[&RaiseOpset::PER_CHANNEL]],
};

/// For the planned executor of this library.
pub const NATIVE: Pipeline = Pipeline {
    name: "native",
    summary: "As inference, with activations of several nodes as one",
    lists: &[EXPANDED, CLEAN, &[&FusePad], MERGED, JOINED],
};

/// For onnxruntime.
pub const ONNXRUNTIME: Pipeline = Pipeline { name: "onnxruntime", summary: "As inference; onnxruntime fuses for itself", lists: &[CLEAN] };

/// For TensorRT.
pub const TENSORRT: Pipeline = Pipeline { name: "tensorrt", summary: "As inference; TensorRT fuses for itself", lists: &[EXPANDED, CLEAN] };

/// For whoever reads the graph: as few nodes of standard operators as the passes can make of it.
pub const OPTIMIZE: Pipeline =
    Pipeline { name: "optimize", summary: "As inference, with fewer nodes of standard operators", lists: &[CLEAN, MERGED, SMALLER] };

/// For OpenVINO.
pub const OPENVINO: Pipeline = Pipeline { name: "openvino", summary: "As inference; OpenVINO fuses for itself", lists: &[EXPANDED, CLEAN] };

/// All pipelines of this room.
pub const PIPELINES: &[Pipeline] = &[INFERENCE, TRAINING, PRUNE, QUANTIZE, NATIVE, ONNXRUNTIME, TENSORRT, OPENVINO, OPTIMIZE];

impl Pipeline {
    /// Its passes in running order.
    pub fn passes(&self) -> Vec<&'static dyn Pass> {
        self.lists.concat()
    }
    /// Runs its passes until none of them finds anything more to do.
    ///
    /// # Errors
    /// As [`run`].
    pub fn run(&self, graph: &Graph) -> Result<Outcome> {
        self.run_keeping(graph, &[])
    }
    /// As [`Pipeline::run`]; the values named in `keep` stay, as graph outputs do.
    ///
    /// # Errors
    /// As [`run`].
    pub fn run_keeping(&self, graph: &Graph, keep: &[String]) -> Result<Outcome> {
        run(graph, &self.passes(), keep).map_err(|e| e.at(format!("pipeline '{}'", self.name)))
    }
}

/// The pipeline with this name.
///
/// # Errors
/// `Argument`, with the nearest name.
pub fn find(name: &str) -> Result<&'static Pipeline> {
    PIPELINES.iter().find(|p| p.name == name).ok_or_else(|| unknown("pipeline", name, PIPELINES.iter().map(|p| p.name)))
}

/// All passes of the pipelines, each once.
pub fn passes() -> Vec<&'static dyn Pass> {
    let mut all: Vec<&'static dyn Pass> = Vec::new();
    for pass in PIPELINES.iter().flat_map(Pipeline::passes) {
        if all.iter().all(|p| p.name() != pass.name()) {
            all.push(pass);
        }
    }
    all
}

/// What onnxoptimizer calls a pass that has another name here.
const ALIASES: &[(&str, &str)] = &[("fuse_bn_into_conv", "fold_batch_norm")];

/// The pass with this name, or with onnxoptimizer's name for it.
///
/// # Errors
/// `Argument`, with the nearest name.
pub fn pass(name: &str) -> Result<&'static dyn Pass> {
    let all = passes();
    let name = ALIASES.iter().find(|(other, _)| *other == name).map_or(name, |(_, own)| own);
    all.iter().copied().find(|p| p.name() == name).ok_or_else(|| unknown("pass", name, all.iter().map(|p| p.name())))
}

fn unknown(what: &str, name: &str, names: impl Iterator<Item = &'static str> + Clone) -> Error {
    let e = Error::argument(format!("there is no {what} '{name}'"));
    match nearest(name, names.clone()) {
        Some(near) => e.hint(format!("did you mean '{near}'?")),
        None => e.hint(format!("there are {}", names.collect::<Vec<_>>().join(", "))),
    }
}
