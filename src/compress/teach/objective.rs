//! The loss of a student beside its teacher.

use super::features::{Comparing, FeaturePair, Named, pairs};
use super::logits::{Logits, order};
use super::losses::{Classes, FeatureLoss, Heads, LevelPair, LogitLoss, Soft};
use super::outputs::{difference, output_difference};
use super::teacher::Teacher;
use crate::choice::Chosen;
use candle_core::Tensor;
use compresso_base::context::Context;
use compresso_base::error::{At, Error, Result};
use compresso_exec::Outputs;
use compresso_learn::data::Batch;
use compresso_learn::train::parametrize::StepCount;
use compresso_learn::train::{Beside, Loss, Objective, Param, TaskLoss, pick};
use compresso_model::classes::ClassMatch;
use compresso_model::{Graph, Model, Task};

/// What is learnt from a teacher, and how much it counts.
#[derive(Debug, Clone)]
pub struct Lesson<'a> {
    /// Learn from labels too, where the task has a loss from them; with which label smoothing.
    pub labels: Option<f64>,
    /// Logits, or outputs, and their loss.
    pub logits: Option<&'a Chosen<LogitLoss>>,
    /// Where left out, the loss's own.
    pub temperature: Option<f64>,
    /// Feature maps, and their loss; `None`: none are compared.
    pub features: Option<Features<'a>>,
    /// Factor on what is learnt from the teacher's logits or outputs.
    pub soft: f64,
    /// Factor on the loss from labels.
    pub hard: f64,
    /// How classes of the two are matched.
    pub classes: ClassMatch,
}

/// Feature maps that are compared.
#[derive(Debug, Clone, Copy)]
pub struct Features<'a> {
    /// The loss, with values for its numbers.
    pub loss: &'a Chosen<FeatureLoss>,
    /// Which values of the two.
    pub names: Named<'a>,
    /// Factor on the sum over all pairs.
    pub weight: f64,
    /// As [`Comparing::balance`].
    pub balance: bool,
}

/// The weighted sum of what is learnt from logits or outputs, from labels and from feature maps.
pub struct Imitation<'a> {
    teacher: Teacher<'a>,
    /// `None` where the teacher alone is learnt from.
    hard: Option<TaskLoss>,
    logits: Option<(Logits, &'a Chosen<LogitLoss>)>,
    /// Number in the teacher of each of the student's classes, where the two differ.
    order: Option<Tensor>,
    pairs: Vec<FeaturePair>,
    lesson: Lesson<'a>,
    /// Class logits of the teacher's levels, for feature losses that ask for its confidence.
    scores: Vec<String>,
    /// Batches that were seen.
    seen: u64,
    seed: u64,
}

impl<'a> Imitation<'a> {
    /// # Errors
    /// `Unsupported` and `Argument` when the models' tasks do not fit together; as [`pairs`].
    pub fn new(student: &Model, teacher: &'a Model, lesson: Lesson<'a>, ctx: &Context) -> Result<Self> {
        let mut hard = match (student.task(), lesson.labels) {
            (Task::Instances(_), _) | (_, None) => None,
            (_, Some(smoothing)) => Some(TaskLoss::for_training(student, smoothing)?),
        };
        let logits = match lesson.logits {
            Some(loss) => Some((Logits::of(student, teacher, loss, lesson.labels.is_some())?, loss)),
            None => None,
        };
        if logits.is_some() {
            // What the teacher says reaches the student's features through the head that it is said of.
            hard = hard.map(TaskLoss::undivided);
        }
        let by_class = logits.as_ref().is_some_and(|(l, _)| !matches!(l, Logits::Any(_)));
        let order = if by_class { order(student, teacher, lesson.classes, ctx)? } else { None };
        let pairs = match &lesson.features {
            None => Vec::new(),
            Some(f) => pairs(student, teacher, f.names, f.loss, ctx.seed, &ctx.device)?,
        };
        let confident = lesson.features.is_some_and(|f| f.loss.entry().confidence);
        let scores = teacher.task().detect().and_then(|d| d.head.as_ref()).filter(|_| confident).map_or(Vec::new(), |h| h.scores.clone());
        let mut wanted: Vec<String> = pairs.iter().map(|f| f.teacher.clone()).chain(scores.iter().cloned()).collect();
        match logits.as_ref().map(|(l, _)| l) {
            None => {}
            Some(Logits::Classes { teacher, .. }) => wanted.push(teacher.clone()),
            Some(Logits::Heads { teacher, .. }) => wanted.extend(teacher.boxes.iter().chain(&teacher.scores).cloned()),
            Some(Logits::Instances { teacher, .. } | Logits::Any(teacher)) => wanted.extend(teacher.iter().cloned()),
        }
        let teacher = Teacher::new(teacher, wanted, ctx)?;
        Ok(Self { teacher, hard, logits, order, pairs, lesson, scores, seen: 0, seed: ctx.seed })
    }

    /// The teacher's logits `[batch, classes, …]` in the student's order of classes.
    fn in_order(&self, logits: Tensor) -> Result<Tensor> {
        match &self.order {
            Some(order) => Ok(logits.contiguous()?.index_select(order, 1)?),
            None => Ok(logits),
        }
    }

    /// The teacher's outputs in the student's order of classes: those of the first stand behind the four numbers of the box.
    fn outputs_in_order(&self, mut outputs: Vec<Tensor>) -> Result<Vec<Tensor>> {
        if let (Some(order), Some(first)) = (&self.order, outputs.first_mut()) {
            let rows = first.dim(1)?;
            let classes = order.dim(0)?;
            if rows < 4 + classes {
                return Err(Error::shape(format!("the teacher's first output has {rows} rows, fewer than 4 + {classes} classes")));
            }
            let part = |from: usize, count: usize| first.narrow(1, from, count);
            let scores = self.in_order(part(4, classes)?)?;
            *first = Tensor::cat(&[part(0, 4)?, scores, part(4 + classes, rows - 4 - classes)?], 1)?;
        }
        Ok(outputs)
    }

    /// What the teacher's logits or outputs say of the student's.
    fn soft(&self, outputs: &Outputs, taught: &Outputs, batch: &Batch) -> Result<Option<Soft>> {
        let Some((logits, loss)) = &self.logits else { return Ok(None) };
        let (entry, numbers) = (loss.entry(), loss.values());
        let unfit = || Error::internal(format!("loss \"{}\" is not for this task", entry.name));
        let soft = match logits {
            Logits::Classes { student, teacher } => {
                let (s, t) = (one(outputs, student)?, self.in_order(one(taught, teacher)?)?);
                let labels: &[usize] = if self.hard.is_some() { &batch.labels } else { &[] };
                if s.dims() != t.dims() {
                    let e = Error::shape(format!("the student's logits are {:?}, the teacher's {:?}", s.dims(), t.dims()));
                    return Err(e.hint("logits of models with the same classes can be compared; else use method \"features\""));
                }
                let temperature = self.lesson.temperature.unwrap_or(entry.temperature[0]);
                entry.classes.ok_or_else(unfit)?(&Classes { student: &s, teacher: &t, labels, temperature }, numbers)?
            }
            Logits::Heads { student, teacher, gains } => {
                let (sb, ss) = (pick(outputs, &student.boxes)?, pick(outputs, &student.scores)?);
                let (tb, ts) = (pick(taught, &teacher.boxes)?, pick(taught, &teacher.scores)?);
                let ts = ts.into_iter().map(|t| self.in_order(t)).collect::<Result<Vec<_>>>()?;
                let level = |i: usize| LevelPair { boxes: [&sb[i], &tb[i]], scores: [&ss[i], &ts[i]] };
                let levels: Vec<LevelPair<'_>> = (0..student.strides.len()).map(level).collect();
                let temperature = self.lesson.temperature.unwrap_or(entry.temperature[1]);
                entry.head.ok_or_else(unfit)?(&Heads { levels: &levels, head: student, gains: *gains, temperature }, numbers)?
            }
            Logits::Instances { student, teacher } => {
                output_difference(student, &pick(outputs, &student.outputs)?, &self.outputs_in_order(pick(taught, teacher)?)?)?
            }
            Logits::Any(names) => difference(&pick(outputs, names)?, &pick(taught, names)?)?,
        };
        Ok(Some(soft))
    }

    /// Detection losses are summed over the images of the batch; those of feature maps beside them then are too.
    fn summed(&self) -> bool {
        match (&self.hard, &self.logits) {
            (Some(hard), _) => hard.detection().is_some(),
            (None, Some((Logits::Classes { .. } | Logits::Any(_), _))) => false,
            (None, _) => true,
        }
    }

    /// The sum over the pairs of feature maps.
    fn of_features(&mut self, outputs: &Outputs, taught: &Outputs, f: Features<'_>) -> Result<Option<Tensor>> {
        self.seen += 1;
        let confidences = pick(taught, &self.scores)?.iter().map(confidence).collect::<Result<Vec<_>>>()?;
        let mut total: Option<Tensor> = None;
        for (i, pair) in self.pairs.iter().enumerate() {
            let (s, t) = (one(outputs, &pair.student)?, one(taught, &pair.teacher)?);
            // The level of the map's size, else the finest, which is resized.
            let same = |c: &&Tensor| t.dims().len() == 4 && c.dims()[2..] == t.dims()[2..];
            let confidence = confidences.iter().find(same).or_else(|| confidences.first());
            let seed = self.seed.wrapping_add(self.seen * 1009 + i as u64);
            let how = Comparing { loss: f.loss, balance: f.balance, seed };
            let loss = pair.loss(&s, &t, confidence, how).at(|| format!("feature '{}'", pair.student))?;
            total = Some(match total {
                Some(total) => (total + loss)?,
                None => loss,
            });
        }
        Ok(total)
    }
}

/// The probability of the likeliest class, `[batch, 1, height, width]`, of class logits.
fn confidence(scores: &Tensor) -> Result<Tensor> {
    let most = scores.detach().max_keepdim(1)?;
    Ok((((most.neg()?.exp()? + 1.0)?).recip())?)
}

fn one(outputs: &Outputs, name: &String) -> Result<Tensor> {
    Ok(pick(outputs, std::slice::from_ref(name))?.remove(0))
}

impl Objective for Imitation<'_> {
    fn wanted(&self) -> Vec<String> {
        let mut wanted = self.hard.as_ref().map(TaskLoss::wanted).unwrap_or_default();
        match self.logits.as_ref().map(|(l, _)| l) {
            None => {}
            Some(Logits::Classes { student, .. }) => wanted.push(student.clone()),
            Some(Logits::Heads { student, .. }) => wanted.extend(student.boxes.iter().chain(&student.scores).cloned()),
            Some(Logits::Instances { student, .. }) => wanted.extend(student.outputs.iter().cloned()),
            Some(Logits::Any(names)) => wanted.extend(names.iter().cloned()),
        }
        wanted.extend(self.pairs.iter().map(|p| p.student.clone()));
        let mut seen = std::collections::HashSet::new();
        wanted.retain(|name| seen.insert(name.clone()));
        wanted
    }

    fn variables(&self) -> Vec<Param> {
        self.pairs.iter().flat_map(FeaturePair::trained).cloned().collect()
    }

    fn reads_labels(&self) -> bool {
        self.hard.is_some()
    }

    fn beside(&self, graph: &Graph) -> Result<Option<Beside>> {
        self.hard.as_ref().map_or(Ok(None), |hard| hard.beside(graph))
    }

    fn advance(&mut self, at: StepCount) {
        if let Some(hard) = &mut self.hard {
            hard.advance(at);
        }
    }

    fn loss(&mut self, outputs: &Outputs, batch: &Batch, ctx: &Context) -> Result<Loss> {
        let hard = self.hard.as_mut().map(|hard| hard.loss(outputs, batch, ctx)).transpose()?;
        let taught = self.teacher.teach(&batch.images, ctx)?;
        let mut parts = Vec::new();
        let mut terms = Vec::new();
        if let Some(soft) = self.soft(outputs, &taught, batch)? {
            parts.push(("soft", self.lesson.soft * soft.value));
            terms.push((soft.total * self.lesson.soft)?);
        }
        if let Some(hard) = hard {
            parts.push(("hard", self.lesson.hard * hard.value()));
            terms.push((hard.total * self.lesson.hard)?);
        }
        if let Some(f) = self.lesson.features
            && let Some(sum) = self.of_features(outputs, &taught, f)?
        {
            parts.push(("feature", f.weight * f64::from(sum.to_scalar::<f32>()?)));
            let images = if self.summed() { batch.images.dim(0)? as f64 } else { 1.0 };
            terms.push((sum * (f.weight * images))?);
        }
        let total = terms.into_iter().map(Ok).reduce(|a: Result<Tensor>, b| Ok((a? + b?)?));
        Ok(Loss { total: total.ok_or_else(|| Error::internal("a student with nothing to learn"))??, parts })
    }
}
