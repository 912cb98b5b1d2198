//! Rewrites of a graph that leave its outputs unchanged, and the named lists in which they run.
//!
//! A [`Pass`] reads a graph through a [`PassContext`] and returns a [`Rewrite`]: a patch, and in words what it did and what
//! it had to leave alone and why. A [`Pipeline`] is a named list of passes, run until none of them finds anything more to
//! do; [`pipelines`] has them all. A new pass is one file and one line there: see docs/adding-a-pass.md. Tests hold the outputs
//! before every pass and pipeline against the outputs after.

mod context;
mod dead_code;
mod duplicates;
mod eliminate;
mod expand_qlinear;
mod fold_batch_norm;
mod fold_constants;
mod fuse_add_bias;
mod fuse_axes;
mod fuse_concats;
mod fuse_fake_quantize;
mod fuse_gelu;
mod fuse_gemm;
mod fuse_layer_norm;
mod fuse_log_softmax;
mod fuse_pad;
mod fuse_swish;
mod fuse_transposes;
mod hold_constants;
mod inline_branches;
mod join_factors;
mod join_splits;
mod merge_parallel_convs;
mod monotone_argmax;
mod opset;
mod own_vectors;
pub mod pipelines;
mod resolve_sequences;
mod run;
mod unroll_loops;
mod whole_scatter;
mod zero_states;

pub use context::PassContext;
pub use dead_code::{DEAD_CODE, DeadCode, ELIMINATE_DEADEND, ELIMINATE_UNUSED_INITIALIZER};
pub use duplicates::{EliminateCommonSubexpression, EliminateDuplicateInitializer};
pub use eliminate::{
    ELIMINATE_IDENTITY, ELIMINATE_NOP_CAST, ELIMINATE_NOP_CONCAT, ELIMINATE_NOP_DROPOUT, ELIMINATE_NOP_EXPAND, ELIMINATE_NOP_PAD,
    ELIMINATE_NOP_RESHAPE, ELIMINATE_NOP_SLICE, ELIMINATE_NOP_TRANSPOSE, EliminateNop,
};
pub use expand_qlinear::ExpandQLinear;
pub use fold_batch_norm::FoldBatchNorm;
pub use fold_constants::FoldConstants;
pub use fuse_add_bias::FuseAddBias;
pub use fuse_axes::{FuseReduceUnsqueeze, FuseSqueezes};
pub use fuse_concats::FuseConcats;
pub use fuse_fake_quantize::FuseFakeQuantize;
pub use fuse_gelu::FuseGelu;
pub use fuse_gemm::{FuseMatMulAdd, FuseTransposeGemm};
pub use fuse_layer_norm::FuseLayerNorm;
pub use fuse_log_softmax::FuseLogSoftmax;
pub use fuse_pad::FusePad;
pub use fuse_swish::{FuseBatchNormActivation, FuseHardSwish, FuseSwish};
pub use fuse_transposes::FuseTransposes;
pub use hold_constants::ExtractConstants;
pub use inline_branches::InlineBranches;
pub use join_factors::JoinFactors;
pub use join_splits::JoinSplits;
pub use merge_parallel_convs::MergeParallelConvs;
pub use monotone_argmax::MonotoneArgMax;
pub(crate) use opset::Raise;
pub use opset::{LowerOpset, RaiseOpset};
pub use own_vectors::OwnVectors;
pub use pipelines::Pipeline;
pub use resolve_sequences::ResolveSequences;
pub use run::{Outcome, PassReport, run};
pub use unroll_loops::UnrollLoops;
pub use whole_scatter::EliminateWholeScatter;
pub use zero_states::ZeroStates;

use super::graph::{Graph, Patch};
use compresso_base::error::Result;

/// One rewrite of a graph. Options of a pass are fields of the type that implements this.
pub trait Pass: std::fmt::Debug + Sync {
    /// Its name in reports and errors: snake case, unlike that of any other pass.
    fn name(&self) -> &'static str;
    /// One sentence.
    fn summary(&self) -> &'static str;
    /// What the pass would do to the graph of `cx`: one sweep over it. A pipeline calls it again on the graph that it leaves,
    /// so a rewrite must come nearer to a graph on which it finds nothing.
    ///
    /// # Errors
    /// `Unsupported` where the graph cannot be had in the form that the pass is there to give; whatever shape inference
    /// reports. What merely stays as it is, is no error but a line of [`Rewrite::refused`].
    fn rewrite<'g>(&self, cx: &PassContext<'g>) -> Result<Rewrite<'g>>;
}

/// What a pass wants to do to a graph.
#[derive(Debug)]
pub struct Rewrite<'g> {
    /// The edits, which are not made yet.
    pub patch: Patch<'g>,
    /// One line per change: `node 'bn1' (BatchNormalization) is folded into node 'conv1' (Conv)`. Empty exactly when the patch
    /// is.
    pub done: Vec<String>,
    /// One line per place that looked right and was left alone, with the reason.
    pub refused: Vec<String>,
    /// Lines on what a user should know of the result: numbers that changed by more than rounding.
    pub warnings: Vec<String>,
    /// Constants that were made as copies of others: copy and original.
    pub copies: Vec<(String, String)>,
}

/// Runs the pipeline [`pipelines::INFERENCE`]: the graph as an inference engine wants it.
///
/// # Errors
/// As [`run`].
pub fn simplify(graph: &Graph) -> Result<(Graph, Vec<PassReport>)> {
    pipelines::INFERENCE.run(graph).map(|o| (o.graph, o.reports))
}
