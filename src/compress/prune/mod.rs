//! Pruning: removing channels (the model gets smaller and faster) or setting single weights to zero.
//!
//! Channels are removed in groups that the graph itself tells ([`groups`]): no layer list is needed. The pruned graph is
//! checked against the same graph with the removed channels set to zero; when outputs differ, the call fails.
//!
//! ```
//! use compresso::{Context, compress::prune::Prune};
//! let options = Prune { ratio: 0.5, ..Prune::default() };
//! assert_eq!(options.align, 8);
//! # let _ = (options, Context::new());
//! ```

mod groups;
mod importance;
mod report;
mod select;
mod surgery;
mod verify;
mod weights;

#[cfg(test)]
mod tests;

pub use groups::{Analysis, Group, Groups, groups};
pub use report::{LayerChange, PruneReport, prune_report};
pub use surgery::Removal;

use compresso_base::context::Context;
use compresso_base::error::{Error, Result};
use compresso_base::operation::{Arg, Options, Signature, changed, in_range};
use compresso_learn::data::Dataset;
use compresso_model::{Model, Step, Task};

compresso_base::choice! {
    /// What is removed.
    pub enum Method {
        /// Whole channels: smaller and faster on any runtime.
        Channels = "channels",
        /// Single weights, set to zero: the shapes stay.
        Weights = "weights",
    }
}

compresso_base::choice! {
    /// Among what the least important are sought.
    pub enum Scope {
        /// All layers together; layers end up with different shares.
        Global = "global",
        /// Each layer (group of layers) on its own, with the same share.
        Layer = "layer",
    }
}

compresso_base::choice! {
    /// How the importance of a channel is measured.
    pub enum Importance {
        /// Sum of absolute weights.
        L1 = "l1",
        /// Root of the sum of squared weights.
        L2 = "l2",
        /// Absolute scale (gamma) of the batch norms after the layer (network slimming).
        BatchNorm = "batchnorm",
        /// Seeded random numbers: a baseline to compare with.
        Random = "random",
    }
}

compresso_base::options! {
    /// Options of `prune`.
    pub struct Prune {
        /// Share to remove, at least 0 and below 1: of all channels (or weights) that may go. Less is removed where
        /// `align`, `min_channels` and `exclude` say so. 0 does nothing.
        pub ratio: f64 = 0.5,
        /// "channels" removes whole channels, "weights" sets single weights to zero (shapes and speed stay).
        pub method: Method = Method::Channels,
        /// "global" ranks all layers together, each channel by its share of its layer's mean; "layer" removes the same share
        /// of each group of layers.
        pub scope: Scope = Scope::Global,
        /// How channels are ranked: "l1" or "l2" norm of their weights (times the scale of a batch norm that follows),
        /// "batchnorm" for the batch norm's scale alone (layers without one by "l2"), or "random".
        pub importance: Importance = Importance::L2,
        /// Kept channels of each layer are rounded to the nearest multiple of this where its parts allow, for fast kernels.
        /// 1 for no rounding.
        pub align: usize = 8,
        /// Each layer keeps at least so many channels (or all, if it has fewer).
        pub min_channels: usize = 8,
        /// Layers to leave alone: names of nodes or weights, parts of them such as "model.22", `*` for any text.
        pub exclude: Vec<String> = Vec::new(),
        /// Prune only these layers, named as in `exclude`; empty for all.
        pub include: Vec<String> = Vec::new(),
    }
}

/// How scripts see [`Prune`].
pub const SIGNATURE: Signature = Signature {
    name: "prune",
    summary: "A model without its least important channels (or with its smallest weights set to zero)",
    group: "compress",
    args: &[Arg::new("m", "model"), Arg::optional("d", "dataset")],
    returns: "model",
    fields: Prune::FIELDS,
    examples: &[
        r#"prune(model("yolov8n"), #{ ratio: 0.25 })"#,
        r#"prune(model("yolov8n"), #{ ratio: 0.5, scope: "layer", importance: "batchnorm", exclude: ["model.0"] })"#,
        r#"prune(model("classifier"), #{ method: "weights", ratio: 0.8 })"#,
    ],
    keywords: &["channels", "filters", "sparsity", "slimming", "magnitude", "structured", "unstructured", "remove", "smaller"],
};

impl Prune {
    /// The pruned model. `data` gives the images on which pruned and masked model are compared; without it they are
    /// seeded noise.
    ///
    /// # Errors
    /// `Argument` for options out of range, names that match nothing, or a layer that would be left empty;
    /// `Unsupported` for quantized models and models in which nothing can be pruned; `Check` when the pruned model does
    /// not equal the masked one.
    pub fn apply(&self, model: &Model, data: Option<&Dataset>, ctx: &Context) -> Result<Model> {
        in_range("ratio", self.ratio, 0.0..1.0)?;
        in_range("align", self.align as f64, 1.0..)?;
        if self.ratio == 0.0 {
            ctx.note("prune: the ratio is 0, so the model stays as it is");
            return Ok(model.clone());
        }
        let graph = match self.method {
            Method::Channels => self.channels(model, data, ctx)?,
            Method::Weights => weights::prune(self, model.graph(), ctx)?,
        };
        let Some(graph) = graph else { return Ok(model.clone()) };
        let args = data.into_iter().map(Dataset::expression).collect();
        let pruned = model.derive(graph, Step::new(SIGNATURE.name, args, changed(self)));
        if self.method == Method::Channels {
            ctx.note(prune_report(model, &pruned)?.headline());
        }
        Ok(pruned)
    }

    /// The graph without channels; `None` when all stay.
    fn channels(&self, model: &Model, data: Option<&Dataset>, ctx: &Context) -> Result<Option<compresso_model::Graph>> {
        let found = Analysis::new(model.graph(), &head_values(model.task()))?;
        let chosen = found.groups.chosen(&self.include, &self.exclude)?;
        if chosen.is_empty() {
            let e = Error::unsupported("no channels of this model can be removed");
            return Err(e.hint("prune_groups(m) lists what can be pruned; method: \"weights\" works on any model with weights"));
        }
        ctx.check()?;
        let scores = importance::scores(self.importance, &found, &chosen, ctx)?;
        let (all, weights) = select::axes(&found, &chosen);
        let atoms = select::select(self, &chosen, &scores, &all, &weights)?;
        if atoms.is_empty() {
            ctx.note(format!(
                "prune: nothing removed: at ratio {} every layer keeps all its channels (align: {}, min_channels: {})",
                self.ratio, self.align, self.min_channels
            ));
            return Ok(None);
        }
        let removal = Removal::new(&found, atoms);
        let pruned = removal.pruned()?;
        let masked = removal.masked()?;
        verify::equal(&masked, &pruned, model.task(), data, ctx)?;
        Ok(Some(pruned))
    }
}

/// Values whose channels training reads by number: they are not pruned.
pub fn head_values(task: &Task) -> Vec<String> {
    let Some(d) = task.detect() else { return Vec::new() };
    let free = d.head.iter().flat_map(|h| h.boxes.iter().chain(&h.scores));
    free.chain(d.anchors.iter().flat_map(|a| &a.outputs)).cloned().collect()
}
