//! `compare`: how far the outputs of two models, or two tensors, are apart.

mod benchmarks;
mod layers;
#[cfg(test)]
mod tests;

pub use benchmarks::{BenchmarkComparison, Change, compare_benchmarks};
pub use layers::ValueDistance;

use candle_core::{Device, Tensor};
use compresso_base::context::Context;
use compresso_base::error::{Error, Result};
use compresso_base::operation::{Arg, ArgKind, Operation, Options, Signature, in_range};
use compresso_base::report::{Cell, Plot, Show, Table, counted};
use compresso_learn::data::{DataOptions, Dataset, ImageForm, Loader, LoaderOptions};
use compresso_learn::eval::{ImageRunner, class_places, output_parts};
use compresso_model::classes::{ClassMap, ClassMatch, Side};
use compresso_model::{Model, Task, Value};
use indexmap::IndexMap;
use serde::Serialize;

compresso_base::options! {
    /// Options of `compare`.
    pub struct Compare {
        /// Images to run both models on.
        pub images: usize = 16,
        /// Images per run.
        pub batch: usize = 4,
        /// Compare the values inside of the models too, those that have the same name in both, and say where they part first.
        pub layers: bool = false,
        /// Two values have parted when their signal over noise is below this, in decibels.
        pub parted: f64 = 20.0,
    }
}

/// Distances between two sets of numbers, `a` being the reference.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Distance {
    /// Name of the output; of boxes and scores apart where an output joins them: `output0 boxes`.
    pub output: String,
    /// Numbers compared.
    pub count: usize,
    /// Largest absolute difference.
    pub max_abs: f64,
    /// Mean absolute difference.
    pub mean_abs: f64,
    /// Largest absolute difference over the largest absolute value of `a`.
    pub max_rel: f64,
    /// Signal over noise in decibels: the squares of `a` over those of the differences. `None` where nothing differs, or `a` is zero.
    pub sqnr_db: Option<f64>,
    /// Cosine of the angle between the two; 1 when they point the same way.
    pub cosine: f64,
    /// Numbers that are NaN or infinite in one of them only.
    pub not_finite: usize,
}

/// What `compare` found.
#[derive(Debug, Clone, Serialize)]
pub struct Comparison {
    /// Of each output, or part of one, in the first model's order; a single one for tensors.
    pub outputs: Vec<Distance>,
    /// Images that were run; 0 for tensors.
    pub images: usize,
    /// How the classes of the two models were matched, where their lists differ.
    pub classes: Option<String>,
    /// The values inside of both, where they were asked for.
    pub layers: Vec<ValueDistance>,
    /// The first of them at which the models have parted.
    pub first_divergence: Option<String>,
}

/// Running sums of a [`Distance`].
#[derive(Default)]
struct Sums {
    count: usize,
    max_abs: f64,
    sum_abs: f64,
    sum_squares: f64,
    largest: f64,
    dot: f64,
    squares: (f64, f64),
    not_finite: usize,
}

impl Sums {
    fn add(&mut self, a: &[f64], b: &[f64]) {
        for (&x, &y) in a.iter().zip(b) {
            self.count += 1;
            if !(x.is_finite() && y.is_finite()) {
                // The same infinity (or NaN) in both is no difference.
                self.not_finite += usize::from(!(x == y || (x.is_nan() && y.is_nan())));
                continue;
            }
            let d = (x - y).abs();
            self.max_abs = self.max_abs.max(d);
            self.sum_abs += d;
            self.sum_squares += d * d;
            self.largest = self.largest.max(x.abs());
            self.dot += x * y;
            self.squares.0 += x * x;
            self.squares.1 += y * y;
        }
    }
    fn distance(&self, output: &str) -> Distance {
        let norms = (self.squares.0 * self.squares.1).sqrt();
        let ratio = |a: f64, b: f64| {
            if b > 0.0 {
                a / b
            } else if a > 0.0 {
                f64::INFINITY
            } else {
                0.0
            }
        };
        // Two zero vectors do not differ; a zero vector has no direction otherwise.
        let cosine = if norms > 0.0 { self.dot / norms } else { f64::from(u8::from(self.squares.0 == self.squares.1)) };
        Distance {
            output: output.into(),
            count: self.count,
            max_abs: self.max_abs,
            mean_abs: ratio(self.sum_abs, self.count as f64),
            max_rel: ratio(self.max_abs, self.largest),
            sqnr_db: (self.sum_squares > 0.0 && self.squares.0 > 0.0).then(|| 10.0 * (self.squares.0 / self.sum_squares).log10()),
            cosine,
            not_finite: self.not_finite,
        }
    }
}

/// The distance between two tensors of one shape.
///
/// # Errors
/// `Shape` when the shapes differ.
pub fn compare_tensors(a: &Value, b: &Value) -> Result<Comparison> {
    if a.dims() != b.dims() {
        return Err(Error::shape(format!("the tensors have different shapes, {:?} and {:?}", a.dims(), b.dims())));
    }
    let mut sums = Sums::default();
    sums.add(&a.to_f64s()?, &b.to_f64s()?);
    Ok(Comparison { outputs: vec![sums.distance("values")], images: 0, classes: None, layers: Vec::new(), first_divergence: None })
}

/// A model, a tensor, or a report of `benchmark`, which is a map where it was read from a file.
const SIDE: ArgKind = ArgKind::OneOf(&[ArgKind::Model, ArgKind::Tensor, ArgKind::Report, ArgKind::Map]);

/// The distances between the outputs of two models on the first images of a dataset (seeded noise without one), the first model
/// being the reference. Classes are matched by name. The outputs are those that the models' task reads, all of them where it is not known; they are compared in
/// order. For tensors there is [`compare_tensors`].
///
/// # Errors
/// `Shape` when the outputs differ in number or shape; whatever loading and running report.
impl Operation for Compare {
    const SIGNATURE: Signature = Signature {
        name: "compare",
        summary: "How far the outputs of two models are apart on images of a dataset (seeded noise without one); also of two tensors, and what \
                  changed between two reports of benchmark",
        group: "measure",
        args: &[Arg::new("a", SIDE), Arg::new("b", SIDE), Arg::optional("d", ArgKind::Dataset)],
        returns: "report",
        fields: Self::FIELDS,
        examples: &[
            "let m = model(\"classifier\", #{ classes: 3, image_size: 32 }); compare(m, m, #{ images: 2 }).max_abs",
            "let m = model(\"classifier\", #{ classes: 3, image_size: 32 }); compare(m, m, #{ images: 2, layers: true }).first_divergence",
            "compare(tensor([1, 2]), tensor([1, 2.5])).max_abs",
            "let m = model(\"classifier\", #{ image_size: 32 }); let r = benchmark(m, #{ runs: 9, runtimes: [\"native\"] }); compare(r, r).changes[0].speedup.verdict",
        ],
        keywords: &["difference", "error", "equal", "cosine", "numeric", "diff"],
    };
    type Inputs<'a> = (&'a Model, &'a Model, Option<&'a Dataset>);
    type Output = Comparison;

    fn run(&self, (a, b, data): Self::Inputs<'_>, ctx: &Context) -> Result<Comparison> {
        match data {
            Some(data) => compare(a, b, data, self, ctx),
            None => {
                let noise = DataOptions { images: Some(self.images), ..DataOptions::default() }.run("random", ctx)?;
                compare(a, b, &noise, self, ctx)
            }
        }
    }
}

fn compare(a: &Model, b: &Model, data: &Dataset, options: &Compare, ctx: &Context) -> Result<Comparison> {
    in_range("images", options.images as f64, 1.0..)?;
    in_range("batch", options.batch as f64, 1.0..=4096.0)?;
    let size = a.task().image_size().or(b.task().image_size()).or_else(|| input_size(a));
    let size = size
        .ok_or_else(|| Error::argument("the models do not say their image size").hint("open them with model(path, #{ image_size: … })"))?;
    let data = data.for_evaluation().take(options.images);
    let settings = LoaderOptions { batch: options.batch, size, form: ImageForm::of(a.graph(), a.task()), ..LoaderOptions::default() };
    let loader = Loader::new(&data, settings, ctx)?;
    let mut progress = ctx.progress("compare", loader.batches() as u64);
    let mut all: IndexMap<String, Sums> = IndexMap::new();
    let mut images = 0;
    let mut order = Order::of(a, b)?;
    let (mut runner_a, mut runner_b) = (ImageRunner::new(a, ctx), ImageRunner::new(b, ctx));
    for batch in loader {
        let batch = batch?;
        images += batch.indices.len();
        let (of_a, of_b) = (runner_a.run(&batch.images)?, runner_b.run(&batch.images)?);
        if of_a.len() != of_b.len() {
            return Err(Error::shape(format!("the models have {} and {} outputs", of_a.len(), of_b.len())));
        }
        for ((name, x), (other, y)) in of_a.iter().zip(&of_b) {
            let y = &order.of_first(b.task(), other, y)?;
            if x.dims() != y.dims() {
                let shapes = format!("'{name}' and '{other}' have shapes {:?} and {:?}", x.dims(), y.dims());
                return Err(Error::shape(format!("the outputs differ in shape: {shapes}")));
            }
            let (dims, x, y) = (x.dims(), x.to_f64s()?, y.to_f64s()?);
            let parts = output_parts(a.task(), name, dims);
            if parts.is_empty() {
                all.entry(name.clone()).or_default().add(&x, &y);
            }
            for part in parts {
                all.entry(format!("{name} {}", part.name)).or_default().add(&part.of(&x, dims), &part.of(&y, dims));
            }
        }
        order.check()?;
        progress.step("")?;
    }
    let layers = if options.layers { layers::by_value(a, b, &data, size, ctx)? } else { Vec::new() };
    let first_divergence = layers::first_divergence(&layers, options.parted).map(|v| v.distance.output.clone());
    let outputs = all.iter().map(|(name, sums)| sums.distance(name)).collect();
    Ok(Comparison { outputs, images, classes: order.note, layers, first_divergence })
}

/// The second model's numbers in the order of the first one's classes.
#[derive(Default)]
struct Order {
    /// For each class of the first model the second's number; `None` where they number them alike.
    numbers: Option<Vec<usize>>,
    /// An output had its classes put in order.
    applied: bool,
    note: Option<String>,
}

impl Order {
    /// # Errors
    /// `Argument` for models of other classes.
    fn of(a: &Model, b: &Model) -> Result<Self> {
        let (first, second) = (a.task().classes(), b.task().classes());
        if first.is_empty() || second.is_empty() || std::mem::discriminant(a.task()) != std::mem::discriminant(b.task()) {
            return Ok(Self::default());
        }
        let sides = (Side { who: "the second model", names: second }, Side { who: "the first model", names: first });
        let map = ClassMap::between(sides.0, sides.1, ClassMatch::Same)
            .map_err(|e| e.hint("outputs of other classes cannot be compared; evaluate(m, d) judges each model by itself"))?;
        let numbers = (!map.is_identity()).then(|| map.numbers().iter().flatten().copied().collect());
        Ok(Self { numbers, applied: false, note: map.note().map(String::from) })
    }

    /// An output of the second model as the first would have it.
    fn of_first(&mut self, task: &Task, output: &str, y: &Value) -> Result<Value> {
        let Some(numbers) = &self.numbers else { return Ok(y.clone()) };
        let Some((axis, places)) = class_places(task, output, y.dims()) else { return Ok(y.clone()) };
        let mut from: Vec<usize> = (0..y.dims()[axis]).collect();
        places.iter().zip(numbers).for_each(|(&place, &number)| from[place] = places[number]);
        let from: Vec<u32> = from.into_iter().map(|i| i as u32).collect();
        self.applied = true;
        y.with(y.tensor.to_device(&Device::Cpu)?.contiguous()?.index_select(&Tensor::new(from, &Device::Cpu)?, axis)?)
    }

    /// # Errors
    /// `Unsupported` where the outputs do not show their classes on an axis of their own.
    fn check(&self) -> Result<()> {
        if self.numbers.is_none() || self.applied {
            return Ok(());
        }
        let e = Error::unsupported("the two models number their classes differently, and where these stand in the outputs is not known");
        Err(e.hint("evaluate(m, d) judges each model by itself"))
    }
}

/// Height and width of an image input `[batch, 3, height, width]`.
fn input_size(m: &Model) -> Option<[usize; 2]> {
    let shape = m.graph().feeds().next()?.fact.shape.as_ref()?;
    if shape.len() == 4 { Some([shape[2].known()?, shape[3].known()?]) } else { None }
}

impl Comparison {
    /// The output that is furthest off.
    fn worst(&self) -> Option<&Distance> {
        self.outputs.iter().max_by(|a, b| a.max_rel.total_cmp(&b.max_rel))
    }
}

impl Show for Comparison {
    fn tables(&self) -> Vec<Table> {
        let mut t = Table::new("Difference", &["output", ">numbers", ">max abs", ">mean abs", ">max rel", ">SQNR (dB)", ">cosine"])
            .minor(["numbers", "max rel", "mean abs"]);
        for d in &self.outputs {
            let errors = [d.max_abs, d.mean_abs, d.max_rel].map(Cell::number);
            let noise = d.sqnr_db.map_or_else(Cell::none, |db| Cell::shown(format!("{db:.1}"), db));
            let cosine = Cell::shown(format!("{:.6}", d.cosine), d.cosine);
            t.row([Cell::from(&d.output), d.count.to_string().into()].into_iter().chain(errors).chain([noise, cosine]));
        }
        if self.layers.is_empty() { vec![t] } else { vec![t, layers::table(&self.layers)] }
    }
    fn plots(&self) -> Vec<Plot> {
        if self.layers.iter().any(|v| v.distance.sqnr_db.is_some()) { vec![layers::plot(&self.layers)] } else { Vec::new() }
    }
    fn notes(&self) -> Vec<String> {
        let mut notes = vec!["max rel: largest difference over the largest value of the first model".to_string()];
        if self.images > 0 {
            notes.insert(0, counted(self.images, "image"));
        }
        let odd = self.outputs.iter().filter(|d| d.not_finite > 0);
        notes.extend(self.classes.clone());
        if !self.layers.is_empty() {
            notes.push(match &self.first_divergence {
                Some(value) => format!("the models part first at '{value}'"),
                None => "the models part nowhere".into(),
            });
        }
        notes.extend(odd.map(|d| format!("'{}': {} numbers are not finite in one of the two", d.output, d.not_finite)));
        notes
    }
    /// The figures of the output that is furthest off, and all of them in `outputs`.
    fn data(&self) -> serde_json::Value {
        let mut data = serde_json::to_value(self.worst()).unwrap_or_default();
        if let serde_json::Value::Object(map) = &mut data {
            map.insert("outputs".into(), serde_json::to_value(&self.outputs).unwrap_or_default());
            map.insert("images".into(), self.images.into());
            map.insert("classes".into(), self.classes.clone().into());
            map.insert("layers".into(), serde_json::to_value(&self.layers).unwrap_or_default());
            map.insert("first_divergence".into(), self.first_divergence.clone().into());
        }
        data
    }
}
