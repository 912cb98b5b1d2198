//! `compare`: how far the outputs of two models, or two tensors, are apart.

use candle_core::{Device, Tensor};
use compresso_base::context::Context;
use compresso_base::error::{Error, Result};
use compresso_base::operation::{Arg, ArgKind, Operation, Options, Signature, in_range};
use compresso_base::report::{Show, Table, number};
use compresso_learn::data::{DataOptions, Dataset, ImageForm, Loader, LoaderOptions};
use compresso_learn::eval::ImageRunner;
use compresso_model::classes::{ClassMap, ClassMatch, Side};
use compresso_model::{Decode, Detect, Model, Task, Value};
use serde::Serialize;

compresso_base::options! {
    /// Options of `compare`.
    pub struct Compare {
        /// Images to run both models on.
        pub images: usize = 16,
        /// Images per run.
        pub batch: usize = 4,
    }
}

/// Distances between two sets of numbers, `a` being the reference.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Distance {
    /// Output name.
    pub output: String,
    /// Numbers compared.
    pub count: usize,
    /// Largest absolute difference.
    pub max_abs: f64,
    /// Mean absolute difference.
    pub mean_abs: f64,
    /// Largest absolute difference over the largest absolute value of `a`.
    pub max_rel: f64,
    /// Cosine of the angle between the two; 1 when they point the same way.
    pub cosine: f64,
    /// Numbers that are NaN or infinite in one of them only.
    pub not_finite: usize,
}

/// What `compare` found.
#[derive(Debug, Clone, Serialize)]
pub struct Comparison {
    pub outputs: Vec<Distance>,
    /// Images that were run; 0 for tensors.
    pub images: usize,
    /// How the classes of the two models were matched, where their lists differ.
    pub classes: Option<String>,
}

/// Running sums of a [`Distance`].
#[derive(Default)]
struct Sums {
    count: usize,
    max_abs: f64,
    sum_abs: f64,
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
    Ok(Comparison { outputs: vec![sums.distance("values")], images: 0, classes: None })
}

/// A model, or a tensor.
const SIDE: ArgKind = ArgKind::OneOf(&[ArgKind::Model, ArgKind::Tensor]);

/// The distances between the outputs of two models on the first images of a dataset (seeded noise without one), the first model
/// being the reference. Classes are matched by name. The outputs are those that the models' task reads, all of them where it is not known; they are compared in
/// order. For tensors there is [`compare_tensors`].
///
/// # Errors
/// `Shape` when the outputs differ in number or shape; whatever loading and running report.
impl Operation for Compare {
    const SIGNATURE: Signature = Signature {
        name: "compare",
        summary: "How far the outputs of two models are apart on images of a dataset (seeded noise without one); also of two tensors",
        group: "measure",
        args: &[Arg::new("a", SIDE), Arg::new("b", SIDE), Arg::optional("d", ArgKind::Dataset)],
        returns: "report",
        fields: Self::FIELDS,
        examples: &[
            "let m = model(\"classifier\", #{ classes: 3, image_size: 32 }); compare(m, m, #{ images: 2 }).max_abs",
            "compare(tensor([1, 2]), tensor([1, 2.5])).max_abs",
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
    let mut all: Vec<(String, Sums)> = Vec::new();
    let mut images = 0;
    let order = Order::of(a, b)?;
    let (mut runner_a, mut runner_b) = (ImageRunner::new(a, ctx), ImageRunner::new(b, ctx));
    for batch in loader {
        let batch = batch?;
        images += batch.indices.len();
        let (of_a, of_b) = (runner_a.run(&batch.images)?, runner_b.run(&batch.images)?);
        if of_a.len() != of_b.len() {
            return Err(Error::shape(format!("the models have {} and {} outputs", of_a.len(), of_b.len())));
        }
        for (i, ((name, x), (other, y))) in of_a.iter().zip(&of_b).enumerate() {
            let y = &order.of_first(other, y)?;
            if x.dims() != y.dims() {
                let shapes = format!("'{name}' and '{other}' have shapes {:?} and {:?}", x.dims(), y.dims());
                return Err(Error::shape(format!("the outputs differ in shape: {shapes}")));
            }
            if i == all.len() {
                all.push((name.clone(), Sums::default()));
            }
            all[i].1.add(&x.to_f64s()?, &y.to_f64s()?);
        }
        progress.step("")?;
    }
    Ok(Comparison { outputs: all.iter().map(|(name, sums)| sums.distance(name)).collect(), images, classes: order.note })
}

/// The second model's numbers in the order of the first one's classes.
#[derive(Default)]
struct Order {
    /// The output that has an axis of classes; the indices of the second's along it.
    output: String,
    axis: usize,
    indices: Option<Tensor>,
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
        let note = map.note().map(String::from);
        if map.is_identity() {
            return Ok(Self { note, ..Self::default() });
        }
        // Where the classes stand: after so many other numbers.
        let (output, axis, before) = match b.task() {
            Task::Classify(c) => (&c.output, 1, 0),
            Task::Detect(Detect { decode: Decode::Yolo { output }, .. }) => (output, 1, 4),
            _ => {
                let e = Error::unsupported(
                    "the two models number their classes differently, and where these stand in the outputs is not known",
                );
                return Err(e.hint("evaluate(m, d) judges each model by itself"));
            }
        };
        let indices: Vec<u32> = (0..before).chain(map.numbers().iter().flatten().map(|&n| n as u32 + before)).collect();
        Ok(Self { output: output.clone(), axis, indices: Some(Tensor::new(indices, &Device::Cpu)?), note })
    }

    fn of_first(&self, output: &str, y: &Value) -> Result<Value> {
        match &self.indices {
            Some(indices) if output == self.output => {
                let moved = y.tensor.to_device(&Device::Cpu)?.contiguous()?.index_select(indices, self.axis)?;
                y.with(moved)
            }
            _ => Ok(y.clone()),
        }
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
        let mut t = Table::new("Difference", &["output", ">numbers", ">max abs", ">mean abs", ">max rel", ">cosine"]);
        for d in &self.outputs {
            let cells = [d.max_abs, d.mean_abs, d.max_rel].map(number);
            t.row([d.output.clone(), d.count.to_string()].into_iter().chain(cells).chain([format!("{:.6}", d.cosine)]));
        }
        vec![t]
    }
    fn notes(&self) -> Vec<String> {
        let mut notes = vec!["max rel: largest difference over the largest value of the first model".to_string()];
        if self.images > 0 {
            notes.insert(0, format!("{} images", self.images));
        }
        let odd = self.outputs.iter().filter(|d| d.not_finite > 0);
        notes.extend(self.classes.clone());
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
        }
        data
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(v: &[f32]) -> Value {
        Value::plain(Tensor::new(v, &Device::Cpu).unwrap()).unwrap()
    }

    #[test]
    fn distances_of_known_vectors() {
        let d = &compare_tensors(&value(&[3.0, 4.0]), &value(&[4.0, 3.0])).unwrap().outputs[0];
        assert_eq!((d.max_abs, d.mean_abs, d.max_rel, d.cosine), (1.0, 1.0, 0.25, 24.0 / 25.0));
        let same = &compare_tensors(&value(&[0.0, f32::INFINITY]), &value(&[0.0, f32::INFINITY])).unwrap().outputs[0];
        assert_eq!((same.max_abs, same.max_rel, same.cosine, same.not_finite), (0.0, 0.0, 1.0, 0));
        let nan = &compare_tensors(&value(&[1.0, 1.0]), &value(&[1.0, f32::NAN])).unwrap().outputs[0];
        assert_eq!(nan.not_finite, 1);
        assert!(compare_tensors(&value(&[1.0]), &value(&[1.0, 2.0])).is_err());
    }
}
