//! A float graph that was calibrated once, to be rounded in any number of ways.

use super::affine::Affine;
use super::auto;
use super::calibrate::{self, Ranges, Shares};
use super::clipped::{self, Clipped};
use super::fit::{self, Chosen, Fit};
use super::judge::Judge;
use super::observers::Observe;
use super::placement::{self, Plan};
use super::reconstruct::{Choices, reconstruct};
use super::{Quantize, Settings, nothing_left, static_int8};
use compresso_base::context::Context;
use compresso_base::error::{Error, Result};
use compresso_base::report::counted;
use compresso_learn::data::Dataset;
use compresso_model::names::Patterns;
use compresso_model::{Graph, Task};
use compresso_target::{Elementwise, Quantization};
use std::collections::HashMap;

/// Images on which candidates of the observer `auto` are compared, and which layers' errors are measured on.
pub(super) const JUDGED: usize = 8;
/// With fewer images that take no part in calibration, nothing is chosen by measured error.
const LEAST_JUDGED: usize = 4;
/// Calibration images that weights and biases are chosen by.
const RECONSTRUCTED: usize = 32;

/// A layer of a plan and why it stays in float.
pub(super) type Left = (usize, String);

pub(super) struct Calibrated<'a> {
    pub graph: &'a Graph,
    /// With all layers that can be quantized.
    pub plan: Plan,
    pub ranges: Ranges,
    pub settings: Settings,
    pub chosen: Chosen,
    rules: Quantization,
    elementwise: bool,
    observer: Observe,
    choices: Choices,
    task: &'a Task,
    dataset: &'a Dataset,
    pub shares: Shares,
}

/// A rounded graph.
pub(super) struct Rounded {
    /// The float graph that was rounded: the calibrated one, or one with other weights and biases.
    pub float: Graph,
    pub graph: Graph,
    pub plan: Plan,
    /// Values whose scale leaves out much of what calibration saw.
    pub clipped: Vec<Clipped>,
}

impl<'a> Calibrated<'a> {
    /// # Errors
    /// `Argument` without a dataset; `Unsupported` where no layer can be quantized; those of calibration.
    pub fn new(
        options: &Quantize,
        graph: &'a Graph,
        task: &'a Task,
        dataset: Option<&'a Dataset>,
        settings: Settings,
        ctx: &Context,
    ) -> Result<Self> {
        let dataset = dataset.ok_or_else(|| {
            Error::argument("static quantization needs images to calibrate on")
                .hint("pass a dataset, as in quantize(m, d), or use mode: \"dynamic\"")
        })?;
        let elementwise = settings.rules.elementwise.chosen(options.elementwise);
        let rules = match options.elementwise {
            Some(false) => Quantization { elementwise: Elementwise::Never, ..settings.rules },
            _ => settings.rules,
        };
        let patterns = Patterns { include: &options.include, exclude: &options.exclude };
        let plan = placement::plan(graph, patterns, &options.target, &rules, elementwise)?;
        nothing_left(&plan)?;
        let wanted = |n: &str| plan.values.contains_key(n);
        let observer = options.observer.clone();
        let shares = Shares::of(graph, dataset, options.images)?;
        let ranges = calibrate::observe(graph, task, dataset, wanted, std::slice::from_ref(&observer), shares.calibrated, ctx)?;
        let choices = options.choices();
        let mut new =
            Self { graph, plan, ranges, settings, chosen: Chosen::new(), rules, elementwise, observer, choices, task, dataset, shares };
        if new.observer.chooses() && !(shares.apart() && shares.judges >= LEAST_JUDGED) {
            let images = counted(shares.calibrated, "image");
            ctx.note(format!(
                "quantize: observer \"auto\" takes the ranges of \"mse\": beside the {images} of calibration there are not {LEAST_JUDGED} \
                 to choose by"
            ));
        } else if new.observer.chooses() {
            let judge = new.judge(JUDGED, ctx)?;
            new.chosen = auto::choose(graph, &new.plan, &new.ranges, &new.observer, &new.settings, &judge, ctx)?;
        }
        Ok(new)
    }

    /// What holds rounded graphs against the float one, on up to so many images that took no part in calibration, where there are such.
    ///
    /// # Errors
    /// As [`Judge::new`].
    pub fn judge<'c>(&'c self, images: usize, ctx: &'c Context) -> Result<Judge<'c>> {
        Judge::new(self.graph, self.task, self.dataset, self.shares.from, images.min(self.shares.judges), ctx)
    }

    /// The plan with these layers in float, and the scales of its values.
    fn fitted(&self, left: &[Left]) -> Result<(Plan, HashMap<String, Affine>)> {
        let mut plan = match left {
            [] => self.plan.clone(),
            left => self.plan.clone().without(self.graph, left.to_vec(), &self.rules, self.elementwise)?,
        };
        nothing_left(&plan)?;
        // What stands around a layer that turns out to have no scale is placed anew.
        loop {
            if let Some(limit) = self.rules.spread_limit {
                let uneven = static_int8::drop_uneven(self.graph, &mut plan, &self.ranges, limit);
                plan.skip(uneven, "its channels differ too much for one scale");
            }
            match fit::fit(self.graph, &mut plan, &self.ranges, &self.observer, &self.chosen, &self.settings)? {
                Fit::Scales(values) => return Ok((plan, values)),
                Fit::Left(left) => plan = plan.without(self.graph, left, &self.rules, self.elementwise)?,
            }
            nothing_left(&plan)?;
        }
    }

    /// Rounded to the nearest, with these layers in float.
    ///
    /// # Errors
    /// `Unsupported` where nothing is left to round; those of rewriting.
    pub fn nearest(&self, left: &[Left]) -> Result<Rounded> {
        let (plan, values) = self.fitted(left)?;
        let graph = static_int8::insert(self.graph, &plan, &values, &self.settings)?;
        let clipped = clipped::find(&plan, &values, &self.ranges, &self.settings);
        Ok(Rounded { float: self.graph.clone(), graph, plan, clipped })
    }

    /// Rounded as the options say, with these layers in float.
    ///
    /// # Errors
    /// As [`Calibrated::nearest`], and those of [`reconstruct`].
    pub fn rounded(&self, left: &[Left], ctx: &Context) -> Result<Rounded> {
        if !self.choices.any() {
            return self.nearest(left);
        }
        let (plan, values) = self.fitted(left)?;
        let source = (self.task, self.dataset, self.shares.calibrated.min(RECONSTRUCTED));
        let float = reconstruct(self.graph, &plan, &values, &self.settings, source, self.choices, ctx)?;
        let graph = static_int8::insert(&float, &plan, &values, &self.settings)?;
        let clipped = clipped::find(&plan, &values, &self.ranges, &self.settings);
        Ok(Rounded { float, graph, plan, clipped })
    }
}

/// Weights alone, with what the options choose for them where there are images.
///
/// # Errors
/// As [`reconstruct`].
pub(super) fn weights_alone(
    graph: &Graph,
    plan: &mut Plan,
    settings: &Settings,
    choices: Choices,
    (task, dataset, images): (&Task, Option<&Dataset>, usize),
    ctx: &Context,
) -> Result<Graph> {
    if !choices.any() {
        return Ok(graph.clone());
    }
    let dataset = dataset.ok_or_else(|| {
        let e = Error::argument("rounding and biases that are chosen need images to choose by");
        e.hint("pass a dataset, as in quantize(m, d, …)")
    })?;
    fit::weights(graph, plan, settings)?;
    reconstruct(graph, plan, &HashMap::new(), settings, (task, dataset, images.min(RECONSTRUCTED)), choices, ctx)
}
