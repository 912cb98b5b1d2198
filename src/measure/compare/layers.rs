//! Two models value by value: where inside of them they part.

use super::{Distance, Sums};
use compresso_base::context::Context;
use compresso_base::error::{Error, Result};
use compresso_base::report::{Cell, Plot, Series, SeriesKind, Table};
use compresso_exec::compiled::Seen;
use compresso_exec::{Engine, Run, run};
use compresso_learn::data::{Dataset, ImageForm, Loader, LoaderOptions};
use compresso_learn::eval::InputForm;
use compresso_model::{Element, Graph, Model, Value, passes};
use indexmap::IndexMap;
use serde::Serialize;
use std::collections::{HashMap, HashSet};

/// How far a value inside of the two models is apart.
#[derive(Debug, Clone, Serialize)]
pub struct ValueDistance {
    /// The operator that makes it in the first model.
    pub op: String,
    /// How far; its `output` is the value's name.
    #[serde(flatten)]
    pub distance: Distance,
}

/// The float32 values of the same name and shape that nodes of both models make, in the first model's order.
///
/// Batch norms are folded first, as `quantize` does, so that a model and its quantized form have the same values.
///
/// # Errors
/// `Argument` for models that are not fed one image tensor, or share no value; whatever loading and running report.
pub(super) fn by_value(a: &Model, b: &Model, data: &Dataset, size: [usize; 2], ctx: &Context) -> Result<Vec<ValueDistance>> {
    let graphs = [passes::simplify(a.graph())?.0, passes::simplify(b.graph())?.0];
    let made = |g: &Graph| -> Result<HashSet<String>> {
        let facts = g.facts()?;
        let float = |n: &&String| facts.get(n.as_str()).is_some_and(|f| f.element == Element::F32);
        Ok(g.nodes().iter().flat_map(|n| &n.outputs).filter(float).cloned().collect())
    };
    let names: HashSet<String> = made(&graphs[0])?.intersection(&made(&graphs[1])?).cloned().collect();
    if names.is_empty() {
        return Err(Error::argument("the two models make no values of the same name").hint("a model and what was made from it do"));
    }
    let mut looks = [Look::new(a, &graphs[0], &names, ctx)?, Look::new(b, &graphs[1], &names, ctx)?];
    let batch = looks[0].batch.or(looks[1].batch).unwrap_or(1);
    let form = ImageForm::of(a.graph(), a.task());
    let loader = Loader::new(data, LoaderOptions { batch, size, drop_last: batch > 1, form, ..LoaderOptions::default() }, ctx)?;
    let mut progress = ctx.progress("compare values", loader.batches() as u64);
    let mut sums: IndexMap<String, Sums> = IndexMap::new();
    for images in loader {
        let images = images?.images;
        let mut exact: HashMap<String, (Vec<usize>, Vec<f64>)> = HashMap::new();
        looks[0].run(&images, ctx, &mut |seen| {
            exact.insert(seen.name.to_string(), (seen.dims.to_vec(), in_order(seen)));
            Ok(())
        })?;
        looks[1].run(&images, ctx, &mut |seen| {
            if let Some((_, x)) = exact.remove(seen.name).filter(|(dims, _)| dims == seen.dims) {
                sums.entry(seen.name.to_string()).or_default().add(&x, &in_order(seen));
            }
            Ok(())
        })?;
        progress.step("")?;
    }
    let found = graphs[0].nodes().iter().flat_map(|n| n.outputs.iter().map(move |o| (n, o)));
    Ok(found.filter_map(|(n, o)| Some(ValueDistance { op: n.op.clone(), distance: sums.get(o)?.distance(o) })).collect())
}

/// A model that is run with its inner values looked at.
struct Look<'a> {
    model: &'a Model,
    graph: &'a Graph,
    names: &'a HashSet<String>,
    engine: Option<Engine>,
    /// Images that it takes at once, where it says.
    batch: Option<usize>,
}

impl<'a> Look<'a> {
    fn new(model: &'a Model, graph: &'a Graph, names: &'a HashSet<String>, ctx: &Context) -> Result<Self> {
        let mut feeds = graph.feeds();
        let (Some(input), None) = (feeds.next(), feeds.next()) else {
            return Err(Error::argument(format!("expected a model with one input, this one has {}", graph.feeds().count())));
        };
        let batch = InputForm::of(&input.fact).batch(&input.fact);
        let engine = Engine::watching(graph, &[], names.clone(), ctx.threads)?;
        Ok(Self { model, graph, names, engine: Some(engine), batch })
    }
    fn run(&mut self, images: &candle_core::Tensor, ctx: &Context, see: &mut dyn FnMut(&Seen<'_>) -> Result<()>) -> Result<()> {
        let input = self.graph.feeds().next().ok_or_else(|| Error::internal("the model has an input"))?;
        let fed = InputForm::of(&input.fact).feed(self.model.task(), &input.fact, images)?;
        let feeds = HashMap::from([(input.name.clone(), fed)]);
        if let Some(engine) = &mut self.engine {
            if engine.run_watched(&feeds, Some(&ctx.cancel), see)? {
                return Ok(());
            }
            self.engine = None;
        }
        let mut observe = |name: &str, value: &Value| -> Result<()> {
            if !self.names.contains(name) || value.element != Element::F32 {
                return Ok(());
            }
            let (dims, values) = (value.dims(), value.to_f32s()?);
            let mut strides = vec![1; dims.len()];
            (1..dims.len()).rev().for_each(|i| strides[i - 1] = strides[i] * dims[i]);
            see(&Seen { name, dims, strides: &strides, values: &values })
        };
        run(self.graph, &feeds, Run { cancel: Some(&ctx.cancel), observer: Some(&mut observe), ..Run::default() }).map(drop)
    }
}

/// The values in row-major order, whatever their layout.
fn in_order(seen: &Seen<'_>) -> Vec<f64> {
    let count: usize = seen.dims.iter().product();
    let mut found = Vec::with_capacity(count);
    let (last, step) = (seen.dims.last().copied().unwrap_or(1), seen.strides.last().copied().unwrap_or(1));
    let outer = seen.dims.len().saturating_sub(1);
    for row in 0..count.checked_div(last).unwrap_or(0) {
        let mut left = row;
        let at = seen.dims[..outer].iter().zip(&seen.strides[..outer]).rev().fold(0, |at, (&n, &stride)| {
            let here = left % n;
            left /= n;
            at + here * stride
        });
        found.extend((0..last).map(|i| f64::from(seen.values[at + i * step])));
    }
    found
}

/// The first value at which the signal over noise is below so many decibels, or a number is not finite in one of the two.
pub(super) fn first_divergence(values: &[ValueDistance], below: f64) -> Option<&ValueDistance> {
    values.iter().find(|v| v.distance.not_finite > 0 || v.distance.sqnr_db.is_some_and(|db| db < below))
}

pub(super) fn table(values: &[ValueDistance]) -> Table {
    let mut t = Table::new("Difference by value", &["value", "made by", ">max abs", ">SQNR (dB)", ">cosine"]);
    for ValueDistance { op, distance: d } in values {
        let noise = d.sqnr_db.map_or_else(Cell::none, |db| Cell::shown(format!("{db:.1}"), db));
        let cosine = Cell::shown(format!("{:.6}", d.cosine), d.cosine);
        t.row([Cell::from(&d.output), Cell::from(op), Cell::number(d.max_abs), noise, cosine]);
    }
    t
}

#[expect(clippy::cast_precision_loss, reason = "values of a graph are few")]
pub(super) fn plot(values: &[ValueDistance]) -> Plot {
    let points = values.iter().enumerate().filter_map(|(i, v)| Some((i as f64, v.distance.sqnr_db?))).collect();
    let series = vec![Series { name: "signal over noise".into(), kind: SeriesKind::Line, points, labels: Vec::new() }];
    Plot { series, ..Plot::default() }.titled("Where two models part", "value, in the order of the graph", "dB")
}
