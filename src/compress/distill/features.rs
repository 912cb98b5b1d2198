//! What a student learns from a teacher's feature maps.

use candle_core::{Device, Tensor};
use compresso_base::error::{At, Error, Result};
use compresso_kernels::resize::AxisMap;
use compresso_kernels::{ConvShape, Window, ops};
use compresso_learn::train::{Param, ancestors};
use compresso_model::ops::ParamKind;
use compresso_model::{Facts, Graph, Model, Task, graph::infer_at};
use rand::RngExt;
use rand::SeedableRng;

/// A feature map of the student beside one of the teacher.
pub struct FeaturePair {
    pub student: String,
    pub teacher: String,
    /// A 1×1 convolution, `[teacher channels, student channels, 1, 1]`, where the channels differ.
    pub adapter: Option<Param>,
}

impl FeaturePair {
    /// Mean squared difference of the student's features, through the adapter and resized to the teacher's size, from
    /// the teacher's.
    ///
    /// # Shapes
    /// Both `[batch, channels, height, width]`.
    ///
    /// # Errors
    /// `Shape` when channels differ and there is no adapter.
    pub fn loss(&self, student: &Tensor, teacher: &Tensor) -> Result<Tensor> {
        let teacher = teacher.detach();
        let &[_, _, height, width] = teacher.dims() else {
            return Err(Error::shape(format!("expected features [batch, channels, height, width], got {:?}", teacher.dims())));
        };
        let adapted = match &self.adapter {
            Some(a) => pointwise(student, a.var.as_tensor())?,
            None => student.clone(),
        };
        let resized = resize(&adapted, [height, width])?;
        if resized.dims() != teacher.dims() {
            return Err(Error::shape(format!("the student's features are {:?}, the teacher's {:?}", resized.dims(), teacher.dims())));
        }
        Ok((resized - teacher)?.sqr()?.mean_all()?)
    }
}

/// A 1×1 convolution without bias.
fn pointwise(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    let (batch, in_channels, h, w) = x.dims4()?;
    let shape = ConvShape { batch, in_channels, out_channels: weight.dim(0)?, groups: 1, window: Window::square([h, w], 1, 1, 0, 1) };
    ops::conv(&shape, x, weight, None)
}

/// Bilinear resize of `[batch, channels, height, width]`, sampling at pixel centres and repeating the edges, as
/// PyTorch's `interpolate(mode="bilinear")`.
pub fn resize(x: &Tensor, size: [usize; 2]) -> Result<Tensor> {
    let (_, _, h, w) = x.dims4()?;
    let y = ops::resize_axis(&linear(h, size[0]), x, 2)?;
    ops::resize_axis(&linear(w, size[1]), &y, 3)
}

fn linear(input: usize, output: usize) -> AxisMap {
    let (mut index, mut weight) = (Vec::with_capacity(2 * output), Vec::with_capacity(2 * output));
    for o in 0..output {
        let at = ((o as f64 + 0.5) * input as f64 / output as f64 - 0.5).max(0.0);
        let low = (at as usize).min(input - 1);
        let high = (low + 1).min(input - 1);
        let share = (at - low as f64) as f32;
        index.extend([low as u32, high as u32]);
        weight.extend([1.0 - share, share]);
    }
    AxisMap { input, output, taps: 2, index, weight }
}

/// Pairs of feature maps: by name, or, without names, what feeds each level of a detector's head, or the last feature
/// map of a classifier. Adapters start as small random numbers drawn from `seed`.
///
/// # Errors
/// `Missing` for unknown names; `Argument` when the lists do not pair up; `Shape` for values that are not feature maps.
pub fn pairs(
    student: &Model,
    teacher: &Model,
    names: &[String],
    teacher_names: &[String],
    seed: u64,
    device: &Device,
) -> Result<Vec<FeaturePair>> {
    let of = |model: &Model, names: &[String], who: &str| -> Result<Vec<(String, usize)>> {
        let facts = infer_at(model.graph(), 1, model.task().image_size()).at(|| who.to_string())?;
        let names = if names.is_empty() { automatic(model, &facts).at(|| who.to_string())? } else { names.to_vec() };
        names.into_iter().map(|n| channels(model.graph(), &facts, &n).map(|c| (n, c)).at(|| who.to_string())).collect()
    };
    let own = of(student, names, "student")?;
    let other = of(teacher, if teacher_names.is_empty() { names } else { teacher_names }, "teacher")?;
    if own.len() != other.len() || own.is_empty() {
        let e = Error::argument(format!("{} feature maps of the student, {} of the teacher", own.len(), other.len()));
        return Err(e.hint("give as many names in 'features' as in 'teacher_features'"));
    }
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    let pair = |(i, ((student, from), (teacher, to))): (usize, ((String, usize), (String, usize)))| -> Result<FeaturePair> {
        let mut adapter = None;
        if from != to {
            // Uniform with the variance 1 / inputs.
            let bound = (3.0 / from as f32).sqrt();
            let values: Vec<f32> = (0..from * to).map(|_| rng.random_range(-bound..bound)).collect();
            let weight = Tensor::from_vec(values, (to, from, 1, 1), device)?;
            adapter = Some(Param::new(format!("distill.adapter.{i}.weight"), &weight, ParamKind::Weight)?);
        }
        Ok(FeaturePair { student, teacher, adapter })
    };
    own.into_iter().zip(other).enumerate().map(pair).collect()
}

fn channels(graph: &Graph, facts: &Facts, name: &str) -> Result<usize> {
    let Some(fact) = facts.get(name) else {
        // Its error names the nearest value.
        return Err(graph.find(name).err().unwrap_or_else(|| Error::missing(format!("'{name}' is a node, not a value"))));
    };
    match fact.rank() {
        Some(4) => fact.dim(1).ok_or_else(|| Error::shape(format!("the channels of '{name}' are not known"))),
        _ => Err(Error::shape(format!("'{name}' is {fact}, expected a feature map [batch, channels, height, width]"))),
    }
}

/// Names of the feature maps that say most: see [`pairs`].
fn automatic(model: &Model, facts: &Facts) -> Result<Vec<String>> {
    let graph = model.graph();
    let nodes = |value: &String| ancestors(graph, std::slice::from_ref(value));
    let first_output = |i: usize| graph.nodes()[i].outputs.first().cloned();
    let unknown = || Error::unsupported("which feature maps to compare is not known for this model").hint("name them in option 'features'");
    match model.task() {
        Task::Detect(d) => {
            let head = d.head.as_ref().ok_or_else(unknown)?;
            let level = |(boxes, scores): (&String, &String)| {
                // The last value on which both branches of the level depend.
                let of_scores = nodes(scores);
                nodes(boxes).into_iter().rev().find(|i| of_scores.binary_search(i).is_ok()).and_then(first_output).ok_or_else(unknown)
            };
            head.boxes.iter().zip(&head.scores).map(level).collect()
        }
        Task::Classify(c) => {
            let spatial = |name: &String| {
                facts.get(name).is_some_and(|f| f.rank() == Some(4) && f.dim(2).zip(f.dim(3)).is_some_and(|(h, w)| h * w > 1))
            };
            let last = nodes(&c.output).into_iter().rev().filter_map(first_output).find(spatial);
            Ok(vec![last.ok_or_else(unknown)?])
        }
        Task::Unknown | Task::Instances(_) => Err(unknown()),
    }
}
