//! `compress` as an operation.

use crate::course::Course;
use crate::options::{Compress, Technique};
use crate::report::CompressReport;
use compresso_base::context::Context;
use compresso_base::error::{Error, Result};
use compresso_base::operation::{Arg, ArgKind, Operation, Options, Signature, in_range};
use compresso_learn::data::Dataset;
use compresso_measure::sensor;
use compresso_model::ops::quantized_node;
use compresso_model::{Made, Model};

impl Operation for Compress {
    const SIGNATURE: Signature = Signature {
        name: "compress",
        summary: "Searches for the smallest and fastest model that keeps its score: prunes and quantizes, judges and times each candidate",
        group: "compress",
        args: &[Arg::new("m", ArgKind::Model), Arg::new("d", ArgKind::Dataset)],
        returns: "model",
        fields: Self::FIELDS,
        examples: &[
            r#"let d = dataset("shapes", #{ images: 24, size: 32, classes: 2, task: "classify" }); let m = train(model("classifier", #{ classes: d.classes, image_size: 32 }), d, #{ epochs: 3, batch: 8 }); compress(m, d, #{ max_drop: 0.2, runs: 8, budget_minutes: 0.2 })"#,
        ],
        keywords: &["search", "auto", "automl", "pareto", "trade-off", "best", "smaller", "faster", "budget", "latency"],
    };
    type Inputs<'a> = (&'a Model, &'a Dataset);
    type Output = Made<CompressReport>;

    fn run(&self, (model, data): (&Model, &Dataset), ctx: &Context) -> Result<Made<CompressReport>> {
        in_range("max_drop", self.max_drop, 0.0..1.0)?;
        in_range("budget_minutes", self.budget_minutes, 0.0..)?;
        in_range("images", self.images as f64, 1.0..)?;
        in_range("judged", self.judged as f64, 1.0..)?;
        // Fewer rounds tell nothing of two models.
        in_range("runs", self.runs as f64, 8.0..=1e6)?;
        for (name, target) in [("latency_ms", self.latency_ms), ("size_mb", self.size_mb), ("energy_j", self.energy_j)] {
            target.map_or(Ok(()), |t| in_range(name, t, f64::MIN_POSITIVE..))?;
        }
        if self.techniques.is_empty() {
            return Err(Error::argument("option 'techniques' is empty").hint(r#"the default is ["prune", "quantize", "distill"]"#));
        }
        let without = |t: Technique| !self.techniques.contains(&t);
        for (technique, what) in
            [(Technique::Train, "trains"), (Technique::Distill, "trains"), (Technique::Sensitivity, "shares out the cuts of")]
        {
            if without(Technique::Prune) && !without(technique) {
                let what = format!("technique '{technique}' {what} pruned models, and 'prune' is not among the techniques");
                return Err(Error::argument(what));
            }
        }
        if let Some(node) = quantized_node(model.graph()) {
            let e = Error::unsupported(format!("the model is quantized already ({})", node.label()));
            return Err(e.hint("give the float model that it was made from"));
        }
        self.runtime.spec()?.require()?;
        if self.energy_j.is_some() {
            sensor(&self.runtime, ctx).map_err(|e| e.at("option 'energy_j'").hint("latency_ms is a goal that any machine can measure"))?;
        }
        Course::new(self, model, data, ctx)?.run()
    }
}
