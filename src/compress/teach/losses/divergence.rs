//! Divergence of a student's logits from its teacher's, with gradients worked out beside the values.

use candle_core::Tensor;
use compresso_base::error::{Error, Result};
use compresso_learn::train::attach;
use compresso_model::DetectHead;
use rayon::prelude::*;

/// A soft loss: its value per image mean, and the scalar whose gradients train the student.
#[derive(Debug)]
pub struct Soft {
    /// The mean over the images of the batch.
    pub value: f64,
    /// Of a classifier the value, of a detector the value times the images of the batch.
    pub total: Tensor,
}

impl Soft {
    /// Of a mean over the batch that the tensor library differentiates.
    ///
    /// # Errors
    /// Whatever reading the scalar reports.
    pub(in crate::teach) fn of(total: Tensor) -> Result<Self> {
        Ok(Self { value: f64::from(total.to_scalar::<f32>()?), total })
    }
}

/// Divergence of the student's class distribution from the teacher's, both softened by `temperature`, times its square
/// (Hinton et al. 2015): `T² · KL(softmax(t / T) ‖ softmax(s / T))`, mean over the batch.
///
/// # Shapes
/// Both `[batch, classes]`. No gradient flows to the teacher.
///
/// # Errors
/// `Shape` when they differ.
pub fn class_divergence(student: &Tensor, teacher: &Tensor, temperature: f64) -> Result<Soft> {
    let &[batch, classes] = student.dims() else {
        return Err(Error::shape(format!("expected logits [batch, classes], got {:?}", student.dims())));
    };
    same_shape(student, teacher, "logits")?;
    let (mut s, t) = (read(student)?, read(teacher)?);
    let mut value = 0.0;
    for (s, t) in s.chunks_exact_mut(classes.max(1)).zip(t.chunks_exact(classes.max(1))) {
        value += row_divergence(s, t, temperature, 1.0 / batch as f64);
    }
    Ok(Soft { value, total: attach(student, value, s)? })
}

/// `weight · T² · KL(softmax(t / T) ‖ softmax(s / T))` of one row; `s` becomes its gradient.
fn row_divergence(s: &mut [f32], t: &[f32], temperature: f64, weight: f64) -> f64 {
    let log_sum = |v: &[f32]| {
        let max = v.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        f64::from(max) / temperature + v.iter().map(|&x| (f64::from(x - max) / temperature).exp()).sum::<f64>().ln()
    };
    let (ls, lt) = (log_sum(s), log_sum(t));
    let mut sum = 0.0;
    for (s, &t) in s.iter_mut().zip(t) {
        let (log_p, log_q) = (f64::from(*s) / temperature - ls, f64::from(t) / temperature - lt);
        let q = log_q.exp();
        // 0 · log 0 is 0.
        if q > 0.0 {
            sum += q * (log_q - log_p);
        }
        *s = (weight * temperature * (log_p.exp() - q)) as f32;
    }
    weight * temperature * temperature * sum
}

/// Gains of the two parts of [`head_divergence`].
#[derive(Debug, Clone, Copy)]
pub struct Gains {
    /// Of class logits.
    pub class: f64,
    /// Of the distances of the boxes' sides.
    pub boxes: f64,
}

impl Gains {
    pub(super) const fn times(self, class: f64, boxes: f64) -> Self {
        Self { class: self.class * class, boxes: self.boxes * boxes }
    }
}

/// What [`head_divergence`] says of the classes in a cell.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ClassPart {
    /// Nothing.
    None,
    /// The divergence, in all cells alike.
    Everywhere,
    /// The divergence, weighted by the teacher's confidence in the cell.
    Confident,
    /// The cross-entropy, times this power of the difference of the two probabilities; not softened.
    Focused(f64),
}

/// One level's raw values of student and teacher.
#[derive(Debug, Clone, Copy)]
pub struct LevelPair<'a> {
    /// `[batch, 4 * reg_max, height, width]`.
    pub boxes: [&'a Tensor; 2],
    /// `[batch, classes, height, width]`.
    pub scores: [&'a Tensor; 2],
}

/// Divergence of a detector's raw head from its teacher's.
///
/// Class logits: per cell and class, between Bernoulli distributions softened by `temperature`, as `classes` says. Boxes: between the
/// softened distributions of each side's distance, averaged over the four sides and weighted by the teacher's confidence
/// in the cell (localization distillation, Zheng et al. 2022). Both are multiplied by the temperature squared; of plain
/// distances, in place of distributions, the absolute difference is taken as it is. All is divided by the sum of the teacher's confidences
/// over the batch (at least 1). The total is the value times the images of the batch, as that of the detection loss is.
///
/// # Errors
/// `Shape` when student and teacher differ.
pub fn head_divergence(levels: &[LevelPair<'_>], head: &DetectHead, temperature: f64, gains: Gains, classes: ClassPart) -> Result<Soft> {
    let mut data = Vec::with_capacity(levels.len());
    let mut confidence_sum = 0.0;
    for level in levels {
        same_shape(level.boxes[0], level.boxes[1], "box values")?;
        same_shape(level.scores[0], level.scores[1], "class logits")?;
        let &[batch, count, height, width] = level.scores[0].dims() else {
            return Err(Error::shape(format!("expected class logits [batch, classes, height, width], got {:?}", level.scores[0].dims())));
        };
        if level.boxes[0].dims() != [batch, 4 * head.reg_max, height, width] {
            return Err(Error::shape(format!("box values {:?} do not fit {} bins", level.boxes[0].dims(), head.reg_max)));
        }
        let cells = height * width;
        let scores = read(level.scores[1])?;
        // Per image and cell: the teacher's probability of its likeliest class.
        let mut confidence = vec![0f32; batch * cells];
        for (image, out) in scores.chunks_exact((count * cells).max(1)).zip(confidence.chunks_exact_mut(cells.max(1))) {
            for class in image.chunks_exact(cells) {
                out.iter_mut().zip(class).for_each(|(c, &x)| *c = c.max(1.0 / (1.0 + (-x).exp())));
            }
        }
        confidence_sum += confidence.iter().map(|&c| f64::from(c)).sum::<f64>();
        data.push((batch, cells, scores, confidence));
    }
    let normaliser = confidence_sum.max(1.0);
    let batch = data.first().map_or(1, |d| d.0) as f64;
    let mut value = 0.0;
    let mut gradients = Vec::new();
    for (level, (_, cells, scores, confidence)) in levels.iter().zip(&data) {
        if classes != ClassPart::None {
            let mut s = read(level.scores[0])?;
            value += class_part(&mut s, scores, confidence, *cells, classes, temperature, gains.class / normaliser);
            gradients.push((level.scores[0], s));
        }
        let mut b = read(level.boxes[0])?;
        value += box_divergence(&mut b, &read(level.boxes[1])?, confidence, *cells, head.reg_max, temperature, gains.boxes / normaliser);
        gradients.push((level.boxes[0], b));
    }
    let mut total: Option<Tensor> = None;
    for (x, mut gradient) in gradients {
        gradient.iter_mut().for_each(|g| *g *= batch as f32);
        // The first term carries the value.
        let term = attach(x, if total.is_none() { value * batch } else { 0.0 }, gradient)?;
        total = Some(match total {
            Some(t) => (t + term)?,
            None => term,
        });
    }
    let total = total.ok_or_else(|| Error::internal("a head without levels"))?;
    Ok(Soft { value, total })
}

/// Sum over all cells and classes; `s`, `[batch, classes, cells]`, becomes its gradient.
fn class_part(s: &mut [f32], t: &[f32], confidence: &[f32], cells: usize, part: ClassPart, temperature: f64, weight: f64) -> f64 {
    let cells = cells.max(1);
    let classes = (s.len() / confidence.len().max(1)).max(1);
    let (inv, square) = ((1.0 / temperature) as f32, temperature * temperature);
    let rows = s.par_chunks_mut(cells).zip(t.par_chunks(cells)).enumerate().map(|(row, (s, t))| {
        let confidence = &confidence[row / classes * cells..];
        let mut sum = 0.0;
        for ((s, &t), &c) in s.iter_mut().zip(t).zip(confidence) {
            let (value, slope) = match part {
                ClassPart::Focused(power) => focused(Bernoulli::of(*s), Bernoulli::of(t), power),
                _ => {
                    let (p, q) = (Bernoulli::of(*s * inv), Bernoulli::of(t * inv));
                    let by = if part == ClassPart::Confident { f64::from(c) } else { 1.0 };
                    (by * square * q.divergence(p), by * temperature * f64::from(q.away(p)))
                }
            };
            sum += value;
            *s = (weight * slope) as f32;
        }
        sum
    });
    // Summed in order, so that the result does not depend on threads.
    weight * rows.collect::<Vec<f64>>().into_iter().sum::<f64>()
}

/// A probability given by its logit, with the logarithms of it and of its complement.
#[derive(Clone, Copy)]
struct Bernoulli {
    p: f32,
    log: f32,
    log_not: f32,
}

impl Bernoulli {
    fn of(x: f32) -> Self {
        let e = (-x.abs()).exp();
        let (p, tail) = (1.0 / (1.0 + e), e.ln_1p());
        if x >= 0.0 { Self { p, log: -tail, log_not: -x - tail } } else { Self { p: 1.0 - p, log: x - tail, log_not: -tail } }
    }
    /// Of `other` from this.
    fn divergence(self, other: Self) -> f64 {
        f64::from(self.p * (self.log - other.log) + (1.0 - self.p) * (self.log_not - other.log_not))
    }
    fn away(self, other: Self) -> f32 {
        other.p - self.p
    }
}

/// `|q − p|^power · (−q log p − (1 − q) log (1 − p))`, and its slope by the logit of `p`.
fn focused(p: Bernoulli, q: Bernoulli, power: f64) -> (f64, f64) {
    let off = f64::from(q.away(p));
    let entropy = -f64::from(q.p * p.log + (1.0 - q.p) * p.log_not);
    let by = off.abs().powf(power);
    let of_weight = if power == 0.0 || off == 0.0 { 0.0 } else { power * off.abs().powf(power - 1.0) * off.signum() };
    (by * entropy, by * off + of_weight * f64::from(p.p * (1.0 - p.p)) * entropy)
}

/// Sum over cells of the mean divergence of the four sides, weighted by confidence; `s` becomes its gradient.
fn box_divergence(s: &mut [f32], t: &[f32], confidence: &[f32], cells: usize, bins: usize, temperature: f64, weight: f64) -> f64 {
    let image = (4 * bins * cells).max(1);
    let parts = s.par_chunks_mut(image).zip(t.par_chunks(image)).zip(confidence.par_chunks(cells.max(1))).map(|((s, t), confidence)| {
        let (mut row, mut truth) = (vec![0f32; bins], vec![0f32; bins]);
        let mut sum = 0.0;
        for side in 0..4 {
            for (cell, &c) in confidence.iter().enumerate() {
                let at = |k: usize| (side * bins + k) * cells + cell;
                if bins == 1 {
                    let (i, weight) = (at(0), weight * f64::from(c) / 4.0);
                    let off = f64::from(s[i] - t[i]);
                    sum += weight * off.abs();
                    s[i] = if off == 0.0 { 0.0 } else { (weight * off.signum()) as f32 };
                    continue;
                }
                for k in 0..bins {
                    (row[k], truth[k]) = (s[at(k)], t[at(k)]);
                }
                sum += row_divergence(&mut row, &truth, temperature, weight * f64::from(c) / 4.0);
                for k in 0..bins {
                    s[at(k)] = row[k];
                }
            }
        }
        sum
    });
    parts.collect::<Vec<f64>>().into_iter().sum()
}

pub(in crate::teach) fn read(t: &Tensor) -> Result<Vec<f32>> {
    Ok(t.flatten_all()?.to_vec1()?)
}

fn same_shape(student: &Tensor, teacher: &Tensor, what: &str) -> Result<()> {
    if student.dims() == teacher.dims() {
        return Ok(());
    }
    let e = Error::shape(format!("the student's {what} are {:?}, the teacher's {:?}", student.dims(), teacher.dims()));
    Err(e.hint("logits of models with the same classes and image size can be compared; else use method \"features\""))
}
