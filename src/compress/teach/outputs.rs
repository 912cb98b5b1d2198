//! What a student for masks, key points or turned boxes learns from its teacher's outputs.

use super::losses::{Soft, read};
use candle_core::Tensor;
use compresso_base::error::{Error, Result};
use compresso_learn::train::attach;
use compresso_model::{InstanceKind, Instances};

/// Probabilities are kept this far from 0 and 1, where their logarithms end.
const EDGE: f64 = 1e-6;

/// Difference of a model's outputs from its teacher's, of the same shapes: see [`Instances`].
///
/// For each anchor the divergence of the class probabilities, each a Bernoulli distribution; and, weighted by the teacher's
/// confidence in the anchor, the squared differences of the box and of the key points as parts of the teacher's box, the
/// divergence of their visibilities, the squared sine of the angle between turned boxes, or the mean squared difference of the
/// coefficients of masks as part of their mean square. Their sum is divided by that of the confidences over the batch (at least
/// 1). The prototypes' mean squared difference, as part of their mean square, is added. The total is the value times the images
/// of the batch, as that of the detection loss is.
///
/// # Errors
/// `Shape` when student and teacher differ, or the outputs are not of the task's form; `Argument` without outputs.
pub fn output_difference(task: &Instances, student: &[Tensor], teacher: &[Tensor]) -> Result<Soft> {
    for (s, t) in student.iter().zip(teacher) {
        if s.dims() != t.dims() {
            let e = Error::shape(format!("the student's outputs are {:?}, the teacher's {:?}", s.dims(), t.dims()));
            return Err(e.hint("models of one image size and as many prototypes can be compared; else use method \"features\""));
        }
    }
    let (Some(first), Some(of_teacher)) = (student.first(), teacher.first()) else {
        return Err(Error::argument("there are no outputs to compare"));
    };
    let &[batch, rows, anchors] = first.dims() else {
        return Err(Error::shape(format!("expected [batch, numbers, anchors], got {:?}", first.dims())));
    };
    let classes = task.classes.len();
    let own = match task.kind {
        InstanceKind::Masks { prototypes } => prototypes,
        InstanceKind::KeyPoints { points, numbers } => points * numbers.max(2),
        InstanceKind::Turned => 1,
    };
    if rows != 4 + classes + own || classes == 0 || batch * anchors == 0 {
        return Err(Error::shape(format!("expected [batch, 4 + {classes} classes + {own}, anchors], got {:?}", first.dims())));
    }
    let (mut s, t) = (read(first)?, read(of_teacher)?);
    let image = rows * anchors;
    // Per image and anchor: the teacher's probability of its likeliest class.
    let confidence: Vec<Vec<f32>> = t
        .chunks_exact(image)
        .map(|t| (0..anchors).map(|a| (4..4 + classes).map(|r| t[r * anchors + a]).fold(0f32, f32::max)).collect())
        .collect();
    let normaliser = confidence.iter().flatten().map(|&c| f64::from(c)).sum::<f64>().max(1.0);
    let more = 4 + classes..rows;
    let coefficients = mean_square(t.chunks_exact(image).flat_map(|t| &t[more.start * anchors..]).copied());
    let mut value = 0.0;
    for ((s, t), confidence) in s.chunks_exact_mut(image).zip(t.chunks_exact(image)).zip(&confidence) {
        for (a, &confidence) in confidence.iter().enumerate() {
            let mut anchor = Anchor { s: &mut *s, t, a, anchors, weight: 1.0 / normaliser, sum: 0.0 };
            (4..4 + classes).for_each(|r| anchor.bernoulli(r, 1.0));
            anchor.weight *= f64::from(confidence);
            let [w, h] = [2, 3].map(|r| anchor.teacher(r).max(1.0));
            [w, h, w, h].into_iter().enumerate().for_each(|(r, size)| anchor.squared(r, 0.25 / (size * size)));
            match task.kind {
                InstanceKind::Masks { prototypes } => {
                    more.clone().for_each(|r| anchor.squared(r, 1.0 / (coefficients * prototypes.max(1) as f64)));
                }
                InstanceKind::KeyPoints { points, numbers } => {
                    for start in more.clone().step_by(numbers.max(1)) {
                        let seen = if numbers > 2 { anchor.teacher(start + 2) } else { 1.0 } / points.max(1) as f64;
                        anchor.squared(start, seen / (w * w));
                        anchor.squared(start + 1, seen / (h * h));
                        if numbers > 2 {
                            anchor.bernoulli(start + 2, 1.0 / points.max(1) as f64);
                        }
                    }
                }
                InstanceKind::Turned => anchor.angle(more.start),
            }
            value += anchor.sum;
        }
    }
    let mut gradients = vec![(first, s)];
    for (x, teacher) in student.iter().zip(teacher).skip(1) {
        let (mut s, t) = (read(x)?, read(teacher)?);
        let weight = 1.0 / (mean_square(t.iter().copied()) * t.len().max(1) as f64);
        for (s, &t) in s.iter_mut().zip(&t) {
            let off = f64::from(*s - t);
            value += weight * off * off;
            *s = (2.0 * weight * off) as f32;
        }
        gradients.push((x, s));
    }
    let mut total: Option<Tensor> = None;
    for (x, mut gradient) in gradients {
        gradient.iter_mut().for_each(|g| *g *= batch as f32);
        // The first term carries the value.
        let term = attach(x, if total.is_none() { value * batch as f64 } else { 0.0 }, gradient)?;
        total = Some(match total {
            Some(t) => (t + term)?,
            None => term,
        });
    }
    let total = total.ok_or_else(|| Error::internal("a model without outputs"))?;
    Ok(Soft { value, total })
}

/// Mean squared difference of values of any meaning from the teacher's, each channel as a share of its variance over the batch, so that
/// channels of different units count alike; the mean over channels, then over values.
///
/// # Shapes
/// Of `[batch, channels]` and `[batch, channels, height, width]` the second axis has the channels, of three axes the shorter of the last two.
///
/// # Errors
/// `Shape` when they differ.
pub fn difference(student: &[Tensor], teacher: &[Tensor]) -> Result<Soft> {
    let mut total: Option<Tensor> = None;
    for (s, t) in student.iter().zip(teacher) {
        if s.dims() != t.dims() {
            return Err(Error::shape(format!("the student's outputs are {:?}, the teacher's {:?}", s.dims(), t.dims())));
        }
        let axis = match s.dims() {
            &[_, a, b] if b < a => 2,
            [_, _, ..] => 1,
            _ => 0,
        };
        let rows = |x: &Tensor| -> Result<Tensor> { Ok(x.transpose(0, axis)?.contiguous()?.flatten_from(1)?) };
        let (s, t) = (rows(s)?, rows(&t.detach())?);
        let variance = t.broadcast_sub(&t.mean_keepdim(1)?)?.sqr()?.mean_keepdim(1)?;
        // Of a channel that hardly varies, the difference counts beside its size.
        let scale = variance.maximum(&(t.sqr()?.mean_keepdim(1)? * HARDLY)?)?.maximum(1e-12)?;
        let term = ((s - &t)?.sqr()?.mean_keepdim(1)? / scale)?.mean_all()?;
        total = Some(match total {
            Some(total) => (total + term)?,
            None => term,
        });
    }
    let total = total.ok_or_else(|| Error::argument("there are no outputs to compare"))?;
    Soft::of((total / student.len() as f64)?)
}

/// Least variance of a channel, as a share of its mean square.
const HARDLY: f64 = 1e-3;

/// Not below what keeps a quotient finite.
fn mean_square(values: impl Iterator<Item = f32>) -> f64 {
    let (sum, count) = values.fold((0.0, 0usize), |(sum, n), v| (sum + f64::from(v) * f64::from(v), n + 1));
    (sum / count.max(1) as f64).max(1e-12)
}

/// One anchor of one image: the student's numbers become the slopes of what is added to the sum.
struct Anchor<'a> {
    s: &'a mut [f32],
    t: &'a [f32],
    a: usize,
    anchors: usize,
    weight: f64,
    sum: f64,
}

impl Anchor<'_> {
    fn teacher(&self, row: usize) -> f64 {
        f64::from(self.t[row * self.anchors + self.a])
    }

    /// Adds what `of` gives for the student's and the teacher's number, with its slope.
    fn add(&mut self, row: usize, factor: f64, of: impl FnOnce(f64, f64) -> (f64, f64)) {
        let at = row * self.anchors + self.a;
        let (value, slope) = of(f64::from(self.s[at]), f64::from(self.t[at]));
        let weight = self.weight * factor;
        self.sum += weight * value;
        self.s[at] = (weight * slope) as f32;
    }

    fn squared(&mut self, row: usize, factor: f64) {
        self.add(row, factor, |s, t| ((s - t) * (s - t), 2.0 * (s - t)));
    }

    /// Divergence of the student's probability from the teacher's.
    fn bernoulli(&mut self, row: usize, factor: f64) {
        let inside = |p: f64| p.clamp(EDGE, 1.0 - EDGE);
        self.add(row, factor, |s, t| {
            let (p, q) = (inside(s), inside(t));
            (q * (q / p).ln() + (1.0 - q) * ((1.0 - q) / (1.0 - p)).ln(), (p - q) / (p * (1.0 - p)))
        });
    }

    fn angle(&mut self, row: usize) {
        self.add(row, 1.0, |s, t| ((s - t).sin().powi(2), (2.0 * (s - t)).sin()));
    }
}
