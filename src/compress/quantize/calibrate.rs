//! Ranges of activations, from images of a dataset.

use super::affine::{Grid, Range};
use super::extremes::{MinMax, gathered};
use super::observers::{Histogram, Observe, Observer, Sample};
use crate::images;
use crate::probe::Probe;
use compresso_base::context::Context;
use compresso_base::error::{At, Error, Result};
use compresso_exec::compiled::Seen;
use compresso_learn::data::Dataset;
use compresso_model::{Graph, Task, Value};
use indexmap::IndexMap;
use std::collections::HashMap;

/// What was seen of each value, by name.
#[derive(Debug, Default)]
pub struct Ranges {
    seen: IndexMap<String, Activation>,
    observers: Vec<Observe>,
    /// Images that were run.
    pub images: usize,
}

/// What was seen of one value.
#[derive(Debug)]
struct Activation {
    extremes: MinMax,
    /// One for each of [`Ranges`]' observers.
    observers: Vec<Box<dyn Observer>>,
}

impl Ranges {
    /// The range that an observer makes of values that share a scale, for a grid. It contains zero.
    ///
    /// # Errors
    /// `Missing` for a value that was not observed, `Argument` for an observer that did not take part.
    pub fn range(&self, observer: &Observe, values: &[&str], grid: Grid) -> Result<Range> {
        Ok(self.merged(observer, values)?.range(grid).with_zero())
    }
    /// The ranges from which an observer lets choose ([`Observer::candidates`]), with their names. They contain zero.
    ///
    /// # Errors
    /// As [`Ranges::range`].
    pub fn candidates(&self, observer: &Observe, values: &[&str], grid: Grid) -> Result<Vec<(&'static str, Range)>> {
        let found = self.merged(observer, values)?.candidates(grid);
        Ok(found.into_iter().map(|(name, range)| (name, range.with_zero())).collect())
    }
    /// What an observer has seen of values that share a scale.
    fn merged(&self, observer: &Observe, values: &[&str]) -> Result<Box<dyn Observer>> {
        let name = observer.entry().name;
        let Some(which) = self.observers.iter().position(|o| o == observer) else {
            return Err(Error::argument(format!("the observer '{name}', with these options, did not take part in calibration")));
        };
        let mut all = observer.observer();
        for value in values {
            let missing = || Error::missing(format!("calibration saw no values of '{value}'"));
            let seen = self.seen.get(*value).filter(|a| !a.extremes.range().is_empty()).ok_or_else(missing)?;
            all.merge(seen.observers[which].as_ref());
        }
        Ok(all)
    }
    /// The extremes of a value.
    pub fn get(&self, value: &str) -> Option<&MinMax> {
        self.seen.get(value).map(|a| &a.extremes)
    }
    /// The distribution of a value, where an observer keeps it.
    pub fn histogram(&self, value: &str) -> Option<&Histogram> {
        self.seen.get(value)?.observers.iter().find_map(|o| o.histogram())
    }
    /// The extremes of all observed values that were finite on all images, in the order in which these were first made.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Range)> {
        self.seen.iter().filter(|(_, a)| !a.extremes.is_broken()).map(|(name, a)| (name.as_str(), a.extremes.range()))
    }
    /// The observed values that were infinite or not a number on some image: masks of attention are.
    pub fn broken(&self) -> impl Iterator<Item = &str> {
        self.seen.iter().filter(|(_, a)| a.extremes.is_broken()).map(|(name, _)| name.as_str())
    }
}

/// Inputs for a graph that takes one image tensor `[batch, channels, height, width]`, from a dataset, each with its number of images.
///
/// The images are a sample drawn with the context's seed, made as for evaluation. A graph with a fixed batch size gets batches of that size.
pub struct Images(images::Images);

impl Images {
    /// # Errors
    /// `Unsupported` for a graph whose input is not one image tensor; `Argument` when the dataset is empty.
    pub fn new(graph: &Graph, task: &Task, dataset: &Dataset, images: usize, ctx: &Context) -> Result<Self> {
        Self::after(0, graph, task, dataset, images, ctx)
    }

    /// As [`Images::new`], without the first `skip` images of the sample.
    ///
    /// # Errors
    /// As there.
    pub fn after(skip: usize, graph: &Graph, task: &Task, dataset: &Dataset, images: usize, ctx: &Context) -> Result<Self> {
        // One image at a time stays in the caches.
        images::Images::after(skip, graph, task, dataset, images, 1, ctx).map(Self)
    }
}

/// Of so many images, one is held out.
const HELD_OUT: usize = 5;

/// Which images of a sample calibrate, and which judge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shares {
    /// The first so many calibrate.
    pub calibrated: usize,
    /// Those from here on judge.
    pub from: usize,
    /// How many there are of these.
    pub judges: usize,
}

impl Shares {
    /// Where `images` are wanted for calibration, images after them judge. If there are none, a fifth of all is held out; of fewer than five
    /// all do both.
    ///
    /// # Errors
    /// As [`images::own_batch`].
    pub fn of(graph: &Graph, dataset: &Dataset, images: usize) -> Result<Self> {
        let batch = images::own_batch(graph)?.unwrap_or(1).max(1);
        let (all, wanted) = (dataset.for_training().len() / batch, images.div_ceil(batch));
        if all == 0 {
            return Ok(Self { calibrated: images, from: 0, judges: images });
        }
        let calibrated = if all > wanted { wanted } else { all - all / HELD_OUT };
        let from = if calibrated == all { 0 } else { calibrated };
        Ok(Self { calibrated: if all > wanted { images } else { calibrated * batch }, from: from * batch, judges: (all - from) * batch })
    }
    /// True where the images that judge take no part in calibration.
    pub fn apart(&self) -> bool {
        self.from >= self.calibrated
    }
}

impl Iterator for Images {
    type Item = Result<(usize, HashMap<String, Value>)>;

    /// The next number of images and the values to feed.
    fn next(&mut self) -> Option<Self::Item> {
        let batch = self.0.next()?;
        Some(batch.and_then(|batch| Ok((batch.indices.len(), self.0.feeds(&batch)?))))
    }
}

/// Runs images through the graph, which must be as [`simplify`](compresso_model::passes::simplify) leaves it, and keeps the
/// extremes of each float32 value that `wanted` accepts. Values may be infinite or not a number ([`Ranges::broken`]).
///
/// # Errors
/// As [`Images::new`]; `Cancelled`.
pub fn calibrate(
    graph: &Graph,
    task: &Task,
    dataset: &Dataset,
    wanted: impl Fn(&str) -> bool,
    images: usize,
    ctx: &Context,
) -> Result<Ranges> {
    observe(graph, task, dataset, wanted, &[], images, ctx)
}

/// As [`calibrate`], with any number of observers of each value in one pass over the images.
///
/// # Errors
/// As [`calibrate`]; `Check` when a value that is observed is infinite or not a number.
pub fn observe(
    graph: &Graph,
    task: &Task,
    dataset: &Dataset,
    wanted: impl Fn(&str) -> bool,
    observers: &[Observe],
    images: usize,
    ctx: &Context,
) -> Result<Ranges> {
    let made = graph.nodes().iter().flat_map(|n| n.outputs.iter().map(String::as_str));
    let names = graph.feeds().map(|i| i.name.as_str()).chain(made).filter(|n| !n.is_empty() && wanted(n)).map(String::from);
    let mut probe = Probe::new(graph, names.collect(), ctx)?;
    let mut ranges = Ranges { observers: observers.to_vec(), ..Ranges::default() };
    let total = images.min(dataset.for_training().len());
    let mut progress = ctx.progress("calibrate", total as u64);
    for feeds in Images::new(graph, task, dataset, images, ctx)? {
        let (count, feeds) = feeds?;
        let seen = &mut ranges.seen;
        let mut see = |value: &Seen<'_>| -> Result<()> {
            if wanted(value.name) {
                let activation = match seen.get_mut(value.name) {
                    Some(a) => a,
                    None => seen.entry(value.name.to_string()).or_insert_with(|| Activation {
                        extremes: MinMax::default(),
                        observers: observers.iter().map(Observe::observer).collect(),
                    }),
                };
                let range = activation.extremes.see_strided(value.values, value.dims, value.strides);
                if activation.extremes.is_broken() && !observers.is_empty() {
                    return Err(Error::check(format!("'{}' is infinite or not a number on a calibration image", value.name))
                        .hint("the float model itself is broken: evaluate it first"));
                }
                if !observers.is_empty() && !range.is_empty() {
                    let values = gathered(value.values, value.dims, value.strides);
                    activation.observers.iter_mut().for_each(|o| o.observe(Sample { values: &values, range }));
                }
            }
            Ok(())
        };
        probe.run(&feeds, &mut see).at(|| "calibration".into())?;
        ranges.images += count;
        for _ in 0..count {
            progress.step("")?;
        }
    }
    if ranges.images == 0 {
        return Err(Error::argument(format!("'{}' gave no image to calibrate on", dataset.label())));
    }
    Ok(ranges)
}
