//! `optimize`: rewrites that leave the outputs as they are, held against the graph before.

use compresso_base::context::Context;
use compresso_base::error::{Error, Result};
use compresso_base::operation::{Arg, ArgKind, Operation, Options, Signature};
use compresso_base::report::{Cell, Show, Table};
use compresso_compress::images::image_size;
use compresso_exec::{Run, run};
use compresso_measure::compare::compare_tensors;
use compresso_measure::worker::{Input, noise};
use compresso_model::graph::Graph;
use compresso_model::ops::quantized_node;
use compresso_model::passes::{self, Pass, PassReport, pipelines};
use compresso_model::{Made, Model};
use compresso_target::Target;
use serde::Serialize;

/// A difference of outputs, over the largest number, that rounding in another order explains: float32, and float16.
const TOLERANCE: [f64; 2] = [1e-3, 2e-2];

compresso_base::options! {
    /// Options of `optimize`.
    pub struct Optimize {
        /// Passes to run, by name: "fuse_bn_into_conv", "eliminate_identity", …; the list of the target, or all that make a graph smaller, when
        /// left out.
        pub passes: Option<Vec<String>> = None,
        /// For whom: the passes that are run before a model is written for it.
        pub target: Option<Target> = None,
        /// Run the model before and after on noise, and refuse a result that differs.
        #[replayed = false]
        pub check: bool = true,
    }
}

/// What each pass did.
#[derive(Debug, Clone, Serialize)]
pub struct OptimizeReport {
    /// What each pass did.
    pub passes: Vec<PassReport>,
    /// Nodes of the graph as given.
    pub nodes_before: usize,
    /// Nodes that are left.
    pub nodes_after: usize,
    /// Bytes of the constants of the graph as given.
    pub bytes_before: u64,
    /// Bytes of those that are left.
    pub bytes_after: u64,
    /// The largest difference of an output over its largest number, on noise; `None` where it was not asked for, or could not be run.
    pub difference: Option<f64>,
    /// Why the outputs could not be compared.
    pub unchecked: Option<String>,
}

/// # Errors
/// `Argument` for a pass that there is not, with the nearest name, and for passes beside a target; `Check` when an output differs; `Unsupported`
/// where a pass cannot give the form that it is for.
impl Operation for Optimize {
    const SIGNATURE: Signature = Signature {
        name: "optimize",
        summary: "Rewrites the graph with the same outputs: removes what does nothing, joins what one node can do; m.report says what each pass did",
        group: "deploy",
        args: &[Arg::new("m", ArgKind::Model)],
        returns: "model",
        fields: Self::FIELDS,
        examples: &[
            r#"optimize(model("yolov8n", #{ image_size: 64 }))"#,
            r#"optimize(model("classifier", #{ image_size: 32 }), #{ passes: ["fuse_bn_into_conv", "eliminate_deadend"] }).report"#,
        ],
        keywords: &["simplify", "onnxoptimizer", "onnxslim", "onnxsim", "passes", "fuse", "fold", "graph", "clean"],
    };
    type Inputs<'a> = &'a Model;
    type Output = Made<OptimizeReport>;

    fn run(&self, model: &Model, ctx: &Context) -> Result<Made<OptimizeReport>> {
        let list: Vec<&dyn Pass> = match (&self.passes, self.target) {
            (Some(_), Some(_)) => {
                return Err(Error::argument("options 'passes' and 'target' are both given").hint("a target has its own list of passes"));
            }
            (Some(names), None) => names.iter().map(|n| Ok(pipelines::pass(n)? as &dyn Pass)).collect::<Result<_>>()?,
            (None, Some(target)) => target.pipeline.passes().into_iter().map(|p| p as &dyn Pass).collect(),
            (None, None) => pipelines::OPTIMIZE.passes().into_iter().map(|p| p as &dyn Pass).collect(),
        };
        let before = model.graph();
        let out = passes::run(before, &list, &[])?;
        ctx.check()?;
        let changed = out.changes > 0;
        let (difference, unchecked) = match (self.check && changed).then(|| difference(model, &out.graph, ctx)) {
            None => (None, None),
            Some(Ok(d)) => (Some(d), None),
            Some(Err(e)) if e.is_cancelled() => return Err(e),
            Some(Err(e)) => (None, Some(e.message().to_string())),
        };
        let halved = before.constants().values().any(|c| c.element().is_float() && c.element() != compresso_model::Element::F32);
        let tolerance = TOLERANCE[usize::from(halved || quantized_node(before).is_some())];
        if let Some(d) = difference.filter(|d| d.is_nan() || *d > tolerance) {
            let e =
                Error::check(format!("an output moved by {d:.1e} of its largest number, more than rounding explains ({tolerance:.0e})"));
            return Err(e.hint("name fewer passes, and please report the model"));
        }
        let bytes = |g: &Graph| g.constants().values().map(|c| c.byte_size() as u64).sum();
        let report = OptimizeReport {
            nodes_before: before.nodes().len(),
            nodes_after: out.graph.nodes().len(),
            bytes_before: bytes(before),
            bytes_after: bytes(&out.graph),
            passes: out.reports,
            difference,
            unchecked,
        };
        ctx.note(report.line());
        let made = if changed { model.derive(out.graph, self.call([model.into()])) } else { model.clone() };
        Ok(Made { model: made, report: Some(report) })
    }
}

impl Optimize {
    /// As [`Optimize::run`].
    ///
    /// # Errors
    /// As there.
    pub fn apply(&self, model: &Model, ctx: &Context) -> Result<Made<OptimizeReport>> {
        self.run(model, ctx)
    }
}

/// The largest difference of an output over its largest number, on noise.
fn difference(model: &Model, after: &Graph, ctx: &Context) -> Result<f64> {
    let size = image_size(model.graph(), model.task()).ok();
    let inputs = Input::of(model.graph(), 1, size)?;
    let feeds = noise(&inputs, ctx.seed)?;
    let before = run(model.graph(), &feeds, Run::default())?;
    ctx.check()?;
    let after = run(after, &feeds, Run::default())?;
    let mut worst = 0f64;
    for (a, b) in before.values().zip(after.values()) {
        for d in compare_tensors(a, b)?.outputs {
            worst = if d.not_finite > 0 { f64::INFINITY } else { worst.max(d.max_rel) };
        }
    }
    Ok(worst)
}

impl OptimizeReport {
    fn line(&self) -> String {
        let changes: usize = self.passes.iter().map(|p| p.done.len()).sum();
        let equal = match (self.difference, &self.unchecked) {
            (Some(d), _) => format!("outputs equal to {d:.0e}"),
            (None, Some(why)) => format!("outputs not compared: {why}"),
            (None, None) => "outputs not compared".into(),
        };
        let (before, after) = (self.nodes_before, self.nodes_after);
        if changes == 0 {
            format!("optimize: nothing to do, {before} nodes")
        } else {
            format!("optimize: {before} → {after} nodes, {changes} changes; {equal}")
        }
    }
}

impl Show for OptimizeReport {
    fn tables(&self) -> Vec<Table> {
        let mut t = Table::new("Passes", &["pass", ">changes", ">left alone", "for example"]);
        for p in self.passes.iter().filter(|p| !p.done.is_empty() || !p.refused.is_empty()) {
            let example = p.done.first().or(p.refused.first()).cloned().unwrap_or_default();
            t.row([Cell::from(p.pass), p.done.len().to_string().into(), p.refused.len().to_string().into(), example.into()]);
        }
        vec![t]
    }
    fn notes(&self) -> Vec<String> {
        let warnings = self.passes.iter().flat_map(|p| p.warnings.iter().cloned());
        std::iter::once(self.line()).chain(warnings).collect()
    }
    fn data(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}
