//! Pruning: removing channels (the model gets smaller and faster) or setting single weights to zero.
//!
//! Channels are removed in groups that the graph itself tells ([`groups`]): no layer list is needed. The pruned graph is
//! checked against the same graph with the removed channels set to zero; when outputs differ, the call fails.
//!
//! ```
//! use compresso_base::Context;
//! use compresso_compress::prune::Prune;
//! let options = Prune { ratio: 0.5, ..Prune::default() };
//! assert_eq!(options.align, 8);
//! # let _ = (options, Context::new());
//! ```

mod algebra;
mod combine;
mod costs;
mod criteria;
mod gather;
mod group_report;
mod groups;
mod judge;
mod latency;
mod linear;
mod moments;
mod options;
mod readers;
mod recover;
mod report;
mod rounds;
mod score;
mod select;
mod sensitivity;
mod slices;
mod student;
mod surgery;
mod verify;
mod weights;
mod whole;

#[cfg(test)]
mod tests;

pub use combine::{Normalization, Reduction};
pub use costs::Budget;
pub use criteria::{CRITERIA, Criterion, Importance, Need, Score};
pub use group_report::{GroupCost, GroupReport};
pub use groups::{Analysis, Group, Groups, PruneGroups, Stay, groups};
pub use latency::Timed;
pub use recover::{Recover, Recovery};
pub use report::{LayerChange, PruneReport, prune_report};
pub use rounds::Ramp;
pub use sensitivity::{GroupSensitivity, Measure, PruneSensitivity, Removals};
pub use slices::{Activations, GroupSlices, Norm, Role, Rows, Slice};
pub use student::Student;
pub use surgery::Removal;
pub use whole::Whole;

use crate::damage::Damage;
use crate::recover::Recover as Imitate;
use compresso_base::context::Context;
use compresso_base::error::{Error, Result};
use compresso_base::operation::{Arg, ArgKind, Argument, Operation, Options, Signature, in_range};
use compresso_learn::data::Dataset;
use compresso_measure::runtimes::RuntimeName;
use compresso_model::classes::ClassMatch;
use compresso_model::{Made, Model, Task};
use rounds::Seen;

compresso_base::choice! {
    /// What is removed.
    pub enum Granularity {
        /// Whole channels: smaller and faster on any runtime.
        Channels = "channels",
        /// Single weights, set to zero: the shapes stay.
        Weights = "weights",
    }
}

compresso_base::choice! {
    /// Among what the least important are sought.
    pub enum Ranking {
        /// All layers together; layers end up with different shares.
        Global = "global",
        /// Each layer (group of layers) on its own, with the same share.
        Layer = "layer",
    }
}

compresso_base::options! {
    /// Options of `prune`.
    pub struct Prune {
        /// Share to remove, at least 0 and below 1: of all channels (or weights) that may go. Less is removed where
        /// `align`, `min_channels` and `exclude` say so. 0 does nothing.
        pub ratio: f64 = 0.5,
        /// What `ratio` is a share of: the channels that may go ("channels"), the weights of layers ("params"), the
        /// multiply-accumulates of a run ("macs"), of which at least so much goes, if it can, or the time of a run ("latency"): up to seven
        /// candidates are timed beside the model, on this machine, and the recipe has the share of multiply-accumulates that was found.
        pub budget: Budget = Budget::Channels,
        /// The runtime in which budget: "latency" times runs; left out: "native".
        pub runtime: Option<RuntimeName> = None,
        /// "channels" removes whole channels, "weights" sets single weights to zero (shapes and speed stay).
        pub method: Granularity = Granularity::Channels,
        /// "global" ranks all layers together; "layer" removes the same share of each group of layers.
        pub scope: Ranking = Ranking::Global,
        /// Shares of single groups, in place of `ratio`: by a group's name, as `prune_groups` and the `ratios` of a `sensitivity` report have
        /// it, or by patterns of layers, which a group's own name overrides. What nothing here names keeps its channels.
        pub ratios: serde_json::Map<String, serde_json::Value> = serde_json::Map::new(),
        /// By what channels are ranked; left out: "reconstruction" where a dataset is given, else "l2". docs/pruning.md says what each
        /// goes by and which of them look at images.
        pub importance: Option<Importance> = None,
        /// How the pruned model is brought back without training: "weights" solves the weights of layers whose input changed by least
        /// squares on images, such that they give what they gave; "bias" their biases alone; left out: "weights" where a dataset
        /// is given, else "none".
        pub recover: Option<Recover> = None,
        /// Passes over the training images in which the pruned model then learns, without labels, to give what the unpruned one gives (as
        /// `recover` does, with its defaults); with several `steps` after each of them. 0: none.
        pub fine_tune: usize = 0,
        /// What becomes of the scores that the layers of a group give a channel; left out: "sum" for "taylor", else "mean".
        pub reduction: Option<Reduction> = None,
        /// Makes scores of different layers comparable: each layer's scores as they are ("none"), by their mean, their
        /// largest, as distances from their mean in standard deviations ("gaussian"), or "lamp"; left out: what the
        /// importance is made for, mostly "mean".
        pub normalization: Option<Normalization> = None,
        /// Count the weights that read a channel with those that make it.
        pub readers: bool = false,
        /// Where the importance reads labels: "same": model and dataset must have the same classes, by name, in any order; "shared": at
        /// least one, and labels of classes that the model lacks are left out.
        pub classes: ClassMatch = ClassMatch::Same,
        /// Images that the importance looks at, and those on which weights are solved.
        pub images: usize = 100,
        /// Rounds in which the ratio is reached; each ranks anew what is left.
        pub steps: usize = 1,
        /// How the removed share grows over the rounds: evenly ("linear"), slowly at both ends ("cosine"), by the same share
        /// of what is left ("exponential"), or fast at first ("cubic").
        pub schedule: Ramp = Ramp::Linear,
        /// Kept channels of each layer are rounded to the nearest multiple of this where its parts allow, for fast kernels.
        /// 1 for no rounding.
        pub align: usize = 8,
        /// Each layer keeps at least so many channels (or all, if it has fewer).
        pub min_channels: usize = 8,
        /// Layers to leave alone: names of nodes, values or weights, parts of them such as "model.22"; `*` stands for any text, `?` for
        /// one character.
        pub exclude: Vec<String> = Vec::new(),
        /// Prune only these layers, named as in `exclude`; empty for all.
        pub include: Vec<String> = Vec::new(),
        /// Only say what would go: the model comes back as it is, with the report of the pruned one, before any recovery.
        pub dry_run: bool = false,
        /// Judge the model before and after on up to 64 images of the dataset, where one is given, and say what was lost.
        #[replayed = false]
        pub score: bool = true,
    }
}

/// Prunes a model. `data` gives the images on which pruned and masked model are compared (without it they are seeded noise), and
/// those that criteria need.
///
/// # Errors
/// `Argument` for options out of range, a layer that would be left empty, or a criterion that needs images without `data`;
/// `Missing` for names that match nothing; `Unsupported` for quantized models and models in which nothing can be pruned; `Check` when the pruned model does
/// not equal the masked one.
impl Operation for Prune {
    const SIGNATURE: Signature = Signature {
        name: "prune",
        summary: "A model without its least important channels (or with its smallest weights set to zero)",
        group: "compress",
        args: &[Arg::new("m", ArgKind::Model), Arg::optional("d", ArgKind::Dataset)],
        returns: "model",
        fields: Self::FIELDS,
        examples: &[
            r#"prune(model("yolov8n"), #{ ratio: 0.25 })"#,
            r#"prune(model("yolov8n"), #{ ratio: 0.5, scope: "layer", importance: "batchnorm", exclude: ["model.0"] })"#,
            r#"prune(model("classifier"), #{ method: "weights", ratio: 0.8 })"#,
            r#"prune(model("classifier", #{ classes: 3, image_size: 32 }), dataset("shapes", #{ images: 8, size: 32, classes: 3, task: "classify" }), #{ importance: "taylor", images: 8, steps: 2 })"#,
        ],
        keywords: &["channels", "filters", "sparsity", "slimming", "magnitude", "structured", "unstructured", "remove", "smaller"],
    };
    type Inputs<'a> = (&'a Model, Option<&'a Dataset>);
    type Output = Made<PruneReport>;

    fn run(&self, (model, data): (&Model, Option<&Dataset>), ctx: &Context) -> Result<Made<PruneReport>> {
        in_range("ratio", self.ratio, 0.0..1.0)?;
        in_range("align", self.align as f64, 1.0..)?;
        in_range("images", self.images as f64, 1.0..)?;
        in_range("steps", self.steps as f64, 1.0..)?;
        self.possible(data)?;
        ctx.note_each(self.idle(model, data));
        let mut seen = Seen::default();
        let graph = if self.ratio == 0.0 && self.ratios.is_empty() {
            ctx.note("prune: the ratio is 0, so the model stays as it is");
            None
        } else {
            let graph = self.rounds_seen(model, data, ctx, &mut |pruned, _| self.tuned(pruned, model, data, ctx), &mut seen)?;
            if graph.is_none() && self.method == Granularity::Channels {
                ctx.note(format!(
                    "prune: nothing removed: at ratio {} every layer keeps all its channels (align: {}, min_channels: {})",
                    self.ratio, self.align, self.min_channels
                ));
            }
            graph
        };
        let Some(mut graph) = graph else { return Ok(Made { model: model.clone(), report: prune_report(model, model).ok() }) };
        if !self.dry_run {
            graph = self.tuned(Model::new(graph, model.task().clone()), model, data, ctx)?.into_graph();
        }
        let args = std::iter::once(model.into()).chain(data.map(Into::into));
        // A recipe does the same wherever it is run.
        let found = seen.timed.as_ref().map(|t| Self { ratio: t.ratio, budget: Budget::Macs, runtime: None, ..self.clone() });
        let pruned = model.derive(graph, found.as_ref().unwrap_or(self).call(args).seeded(ctx.seed));
        if self.dry_run {
            let mut report = prune_report(model, &pruned)?;
            report.latency = seen.timed.take();
            ctx.note_each(report.latency.iter().map(Timed::headline).chain(seen.short(self)));
            ctx.note(format!("{} (a dry run: the model stays as it is)", report.headline()));
            return Ok(Made { model: model.clone(), report: Some(report) });
        }
        let mut report = match &seen.first {
            Some(found) => {
                // Surgery leaves the form in which layers read constants of their own.
                let mut report = report::between((model, &found.graph), (&pruned, pruned.graph()))?;
                report.stays = found.stays();
                ctx.note(report.headline());
                let lines = [report.kept_line(), report::widened(model.graph(), pruned.graph())?];
                ctx.note_each(lines.into_iter().flatten().chain(seen.short(self)));
                report.latency = seen.timed.take();
                ctx.note_each(report.latency.iter().map(Timed::headline));
                report.recovery = seen.recoveries.pop();
                report.recovery.iter().for_each(|r| ctx.note(format!("prune: {}", r.headline())));
                Some(report)
            }
            // A model whose shapes cannot be followed has no report, and needs none where single weights are removed.
            None => prune_report(model, &pruned).ok(),
        };
        if data.is_none() && self.method == Granularity::Channels && has_learnt(model) {
            ctx.note(
                "prune: warning: without images nothing makes up for the channels that are gone, and nothing is judged; a trained model loses \
                 most of its score so. Give a dataset, labelled or not: prune(m, d), in a command --data",
            );
        }
        if let Some(data) = data.filter(|_| self.score) {
            let damage = Damage::told("prune", "train it on, or remove less", [model, &pruned], data, ctx)?;
            if let Some(report) = &mut report {
                report.score = damage;
            }
        }
        Ok(Made { report, model: pruned })
    }
}

impl Prune {
    /// What the option `fine_tune` makes of a pruned model.
    fn tuned(&self, pruned: Model, unpruned: &Model, data: Option<&Dataset>, ctx: &Context) -> Result<Model> {
        if self.fine_tune == 0 {
            return Ok(pruned);
        }
        let Some(data) = data else {
            return Err(Error::argument("option 'fine_tune' needs images, and no dataset was given").hint("labels are not read"));
        };
        let graph = Imitate { epochs: self.fine_tune, ..Imitate::default() }.graph(&pruned, unpruned, data, ctx)?;
        Ok(Model::new(graph, pruned.task().clone()))
    }

    /// The pruned model without its report.
    ///
    /// # Errors
    /// As [`Prune::run`].
    pub fn apply(&self, model: &Model, data: Option<&Dataset>, ctx: &Context) -> Result<Model> {
        Ok(self.run((model, data), ctx)?.model)
    }
}

/// Whether a model may have been trained: it comes from a file, or a step of its recipe learns. One of the zoo has random weights, and of one
/// that was made in Rust nothing is known.
fn has_learnt(model: &Model) -> bool {
    let Some(recipe) = model.recipe() else { return false };
    recipe.steps().iter().any(|call| {
        let reads = !call.files.is_empty() || call.args.iter().any(|a| matches!(a, Argument::File { .. } | Argument::Named(_)));
        reads || matches!(call.operation.as_str(), "train" | "distill" | "recover")
    })
}

/// Values whose channels training reads by number: they are not pruned.
pub fn head_values(task: &Task) -> Vec<String> {
    let Some(d) = task.detect() else { return Vec::new() };
    let free = d.head.iter().flat_map(|h| h.boxes.iter().chain(&h.scores));
    free.chain(d.anchors.iter().flat_map(|a| &a.outputs)).cloned().collect()
}
