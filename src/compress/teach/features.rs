//! What a student learns from a teacher's feature maps.

use super::losses::{FeatureLoss, Maps};
use super::points::points;
use crate::choice::Chosen;
use candle_core::{Device, Tensor};
use compresso_base::error::{At, Error, Result};
use compresso_kernels::resize::AxisMap;
use compresso_kernels::{ConvShape, Window, ops};
use compresso_learn::train::Param;
use compresso_model::ops::ParamKind;
use compresso_model::{Facts, Graph, Model, graph::infer_at};
use rand::RngExt;
use rand::SeedableRng;

/// A feature map of the student beside one of the teacher.
pub struct FeaturePair {
    /// Name of the value in the student's graph.
    pub student: String,
    /// Name of the value in the teacher's graph.
    pub teacher: String,
    /// A 1×1 convolution, `[teacher channels, student channels, 1, 1]`, where the channels differ.
    pub adapter: Option<Param>,
    /// What the loss trains beside the student.
    pub variables: Vec<Param>,
    /// Factor on the loss.
    pub weight: f64,
}

/// How feature maps are compared.
#[derive(Debug, Clone, Copy)]
pub struct Comparing<'a> {
    /// The loss, with values for its numbers.
    pub loss: &'a Chosen<FeatureLoss>,
    /// A loss in squares of the maps' numbers is divided by the mean square of the teacher's map.
    pub balance: bool,
    /// Seed of what the loss draws for the batch.
    pub seed: u64,
}

impl FeaturePair {
    /// The loss of the student's features, through the adapter and resized to the teacher's size, beside the teacher's.
    ///
    /// # Shapes
    /// Both `[batch, channels, height, width]`; `confidence` `[batch, 1, …, …]` of any size, which is resized.
    ///
    /// # Errors
    /// `Shape` when channels differ and there is no adapter.
    pub fn loss(&self, student: &Tensor, teacher: &Tensor, confidence: Option<&Tensor>, how: Comparing<'_>) -> Result<Tensor> {
        let teacher = teacher.detach();
        let &[_, _, height, width] = teacher.dims() else {
            return Err(Error::shape(format!("expected features [batch, channels, height, width], got {:?}", teacher.dims())));
        };
        let adapted = match &self.adapter {
            Some(a) => pointwise(student, a.var.as_tensor())?,
            None => student.clone(),
        };
        let to_size = |x: &Tensor| if x.dims()[2..] == [height, width] { Ok(x.clone()) } else { resize(x, [height, width]) };
        let student = to_size(&adapted)?;
        if student.dims() != teacher.dims() {
            return Err(Error::shape(format!("the student's features are {:?}, the teacher's {:?}", student.dims(), teacher.dims())));
        }
        let confidence = confidence.map(to_size).transpose()?;
        let entry = how.loss.entry();
        let maps =
            Maps { student: &student, teacher: &teacher, confidence: confidence.as_ref(), variables: &self.variables, seed: how.seed };
        let loss = (entry.loss)(&maps, how.loss.values())?;
        let size = if how.balance && entry.squared { f64::from(teacher.sqr()?.mean_all()?.to_scalar::<f32>()?).max(1e-12) } else { 1.0 };
        Ok((loss * (self.weight / size))?)
    }

    /// Tensors that are trained with the student and dropped at the end.
    pub fn trained(&self) -> impl Iterator<Item = &Param> {
        self.adapter.iter().chain(&self.variables)
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

/// Which feature maps are compared.
#[derive(Debug, Clone, Copy, Default)]
pub struct Named<'a> {
    /// Of the student; none: see [`points`].
    pub student: &'a [String],
    /// Of the teacher; none: the same names.
    pub teacher: &'a [String],
    /// A factor for each; none: 1.
    pub weights: &'a [f64],
}

/// Pairs of feature maps: by name, or, without names, what the heads read. Adapters and other weights that a loss trains start as small
/// random numbers drawn from `seed`.
///
/// # Errors
/// `Missing` for unknown names; `Argument` when the lists do not pair up; `Shape` for values that are not feature maps.
pub fn pairs(
    student: &Model,
    teacher: &Model,
    names: Named<'_>,
    loss: &Chosen<FeatureLoss>,
    seed: u64,
    device: &Device,
) -> Result<Vec<FeaturePair>> {
    let of = |model: &Model, names: &[String], who: &str| -> Result<Vec<(String, usize)>> {
        let facts = infer_at(model.graph(), 1, model.image_size()).at(|| who.to_string())?;
        let names = if names.is_empty() { points(model, &facts).at(|| who.to_string())? } else { names.to_vec() };
        names.into_iter().map(|n| channels(model.graph(), &facts, &n).map(|c| (n, c)).at(|| who.to_string())).collect()
    };
    let own = of(student, names.student, "student")?;
    let other = of(teacher, if names.teacher.is_empty() { names.student } else { names.teacher }, "teacher")?;
    if own.len() != other.len() || own.is_empty() {
        let e = Error::argument(format!("{} feature maps of the student, {} of the teacher", own.len(), other.len()));
        return Err(e.hint("give as many names in 'features' as in 'teacher_features'"));
    }
    if !names.weights.is_empty() && names.weights.len() != own.len() {
        let e = Error::argument(format!("{} weights for {} feature maps", names.weights.len(), own.len()));
        return Err(e.at("option 'feature_weights'"));
    }
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    // Uniform with the variance 1 / inputs.
    let mut drawn = |name: String, shape: [usize; 4]| -> Result<Param> {
        let bound = (3.0 / shape[1..].iter().product::<usize>() as f32).sqrt();
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| rng.random_range(-bound..bound)).collect();
        Param::new(name, &Tensor::from_vec(values, &shape, device)?, ParamKind::Weight)
    };
    let mut pairs = Vec::with_capacity(own.len());
    for (i, ((student, from), (teacher, to))) in own.into_iter().zip(other).enumerate() {
        let adapter = (from != to).then(|| drawn(format!("distill.adapter.{i}.weight"), [to, from, 1, 1])).transpose()?;
        let variables = (loss.entry().variables)(to).into_iter().map(|(name, shape)| drawn(format!("distill.{name}.{i}"), shape));
        let variables = variables.collect::<Result<_>>()?;
        pairs.push(FeaturePair { student, teacher, adapter, variables, weight: names.weights.get(i).copied().unwrap_or(1.0) });
    }
    Ok(pairs)
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
