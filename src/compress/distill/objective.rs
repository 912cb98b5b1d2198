//! The loss of a student beside its teacher.

use super::features::{FeaturePair, pairs};
use super::logits::{Gains, LevelPair, class_divergence, head_divergence};
use super::outputs::output_difference;
use super::{Distill, Method};
use candle_core::Tensor;
use compresso_base::context::Context;
use compresso_base::error::{At, Error, Result};
use compresso_exec::{self as exec, Engine, Outputs};
use compresso_learn::data::Batch;
use compresso_learn::eval::model_input;
use compresso_learn::train::parametrize::StepCount;
use compresso_learn::train::{Beside, Loss, Objective, Param, TaskLoss, pick};
use compresso_model::classes::{ClassMap, Side, listing};
use compresso_model::{DetectHead, Graph, InstanceKind, Instances, Model, Task, Value};
use std::collections::HashMap;

/// With logits: `alpha · soft + (1 − alpha) · hard`, where hard is the task's loss from labels, or soft alone where the task has
/// no such loss; the feature maps' difference, where asked for, is added.
pub struct DistillObjective<'a> {
    teacher: &'a Model,
    /// `None` for tasks that learn from the teacher alone.
    hard: Option<TaskLoss>,
    logits: Option<Logits>,
    /// Number in the teacher of each of the student's classes, where the two differ.
    order: Option<Tensor>,
    features: Vec<FeaturePair>,
    alpha: f64,
    temperature: f64,
    feature_weight: f64,
    /// The teacher's input, and its batch size where that is fixed.
    input: (String, Option<usize>),
    teacher_wanted: Vec<String>,
    /// The teacher planned, on the CPU.
    engine: Option<Engine>,
}

/// Names of the logits to compare.
enum Logits {
    Classes {
        student: String,
        teacher: String,
    },
    Heads {
        student: DetectHead,
        teacher: DetectHead,
        gains: Gains,
    },
    /// All outputs, of boxes and what belongs to them.
    Outputs {
        student: Instances,
        teacher: Vec<String>,
    },
}

impl<'a> DistillObjective<'a> {
    /// # Errors
    /// `Unsupported` and `Argument` when the models' tasks do not fit together; as [`pairs`].
    pub fn new(student: &Model, teacher: &'a Model, options: &Distill, ctx: &Context) -> Result<Self> {
        let mut hard = match student.task() {
            Task::Instances(i) => {
                alone(i.kind, options)?;
                None
            }
            _ => Some(TaskLoss::for_training(student, options.train.label_smoothing)?),
        };
        let feeds: Vec<_> = teacher.graph().feeds().collect();
        let [input] = feeds[..] else {
            return Err(Error::unsupported(format!("a teacher needs one input, this one has {}", feeds.len())));
        };
        let batch = input.fact.shape.as_ref().and_then(|s| s.first()?.known());
        let logits = if options.method == Method::Features { None } else { Some(Logits::of(student, teacher, hard.as_ref())?) };
        if logits.is_some() {
            // What the teacher says reaches the student's features through the head that it is said of.
            hard = hard.map(TaskLoss::undivided);
        }
        let order = if logits.is_some() { order(student, teacher, options, ctx)? } else { None };
        let features = if options.method == Method::Logits {
            Vec::new()
        } else {
            pairs(student, teacher, &options.features, &options.teacher_features, ctx.seed, &ctx.device)?
        };
        let mut teacher_wanted: Vec<String> = features.iter().map(|f| f.teacher.clone()).collect();
        match &logits {
            None => {}
            Some(Logits::Classes { teacher, .. }) => teacher_wanted.push(teacher.clone()),
            Some(Logits::Heads { teacher, .. }) => teacher_wanted.extend(teacher.boxes.iter().chain(&teacher.scores).cloned()),
            Some(Logits::Outputs { teacher, .. }) => teacher_wanted.extend(teacher.iter().cloned()),
        }
        let wanted: Vec<&str> = teacher_wanted.iter().map(String::as_str).collect();
        let engine = if ctx.device.is_cpu() { Some(Engine::new(teacher.graph(), &wanted, ctx.threads)?) } else { None };
        Ok(Self {
            teacher,
            hard,
            logits,
            order,
            features,
            alpha: options.alpha,
            temperature: options.temperature,
            feature_weight: options.feature_weight,
            input: (input.name.clone(), batch),
            teacher_wanted,
            engine,
        })
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

    /// What the teacher says of a batch.
    fn teach(&mut self, images: &Tensor, ctx: &Context) -> Result<Outputs> {
        let Self { teacher, input, teacher_wanted, engine, .. } = self;
        let wanted: Vec<&str> = teacher_wanted.iter().map(String::as_str).collect();
        let mut run = |images: Tensor| -> Result<Outputs> {
            let feeds = HashMap::from([(input.0.clone(), Value::plain(images)?)]);
            if let Some(engine) = engine {
                return engine.run(&feeds, Some(&ctx.cancel)).at(|| "teacher".to_string());
            }
            let run = exec::Run { wanted: &wanted, cancel: Some(&ctx.cancel), device: Some(ctx.device.clone()), ..exec::Run::default() };
            exec::run(teacher.graph(), &feeds, run).at(|| "teacher".to_string())
        };
        let images = &model_input(teacher.task(), images)?;
        let n = images.dim(0)?;
        let Some(size) = input.1.filter(|&size| size != n) else {
            return run(images.clone());
        };
        if size == 0 || n % size != 0 {
            return Err(Error::argument(format!("the teacher takes batches of {size} images, which do not make up {n}")));
        }
        let parts = (0..n / size).map(|i| run(images.narrow(0, i * size, size)?.contiguous()?)).collect::<Result<Vec<_>>>()?;
        let join = |name: &String| -> Result<(String, Value)> {
            let tensors: Vec<Tensor> = parts.iter().map(|p| p[name].tensor.clone()).collect();
            Ok((name.clone(), Value::plain(Tensor::cat(&tensors, 0)?)?))
        };
        teacher_wanted.iter().map(join).collect()
    }
}

/// Options that speak of a loss from labels or of logits say nothing of models that have neither.
fn alone(kind: InstanceKind, options: &Distill) -> Result<()> {
    let usual = Distill::default();
    for (name, own, usual) in [("alpha", options.alpha, usual.alpha), ("temperature", options.temperature, usual.temperature)] {
        if own != usual {
            let e = Error::argument(format!("option '{name}' has no effect on models of {}", kind.what()));
            return Err(e.hint("they learn from their teacher's outputs alone, without labels"));
        }
    }
    Ok(())
}

/// Which of the teacher's classes stand for the student's, in the student's order; `None` where the lists are the same.
fn order(student: &Model, teacher: &Model, options: &Distill, ctx: &Context) -> Result<Option<Tensor>> {
    let (own, other) = (student.task().classes(), teacher.task().classes());
    let features = "models of different classes can share features only: use method \"features\"";
    let map = ClassMap::between(Side { who: "the teacher", names: other }, Side { who: "the student", names: own }, options.train.classes)
        .map_err(|e| e.hint(format!("{features}; or, where at least all of the student's are the teacher's, classes: \"shared\"")))?;
    let strange = map.strange(own);
    if !strange.is_empty() {
        let e = Error::argument(format!("the teacher's logits say nothing of the student's {}", listing(&strange)));
        return Err(e.hint(features));
    }
    if let Some(note) = map.note() {
        ctx.note(format!("distill: {note}"));
    }
    if map.is_identity() {
        return Ok(None);
    }
    let rows: Vec<u32> = map.numbers().iter().flatten().map(|&n| n as u32).collect();
    Ok(Some(Tensor::new(rows, &ctx.device)?))
}

impl Logits {
    fn of(student: &Model, teacher: &Model, hard: Option<&TaskLoss>) -> Result<Self> {
        match (student.task(), teacher.task()) {
            (Task::Classify(s), Task::Classify(t)) => Ok(Self::Classes { student: s.output.clone(), teacher: t.output.clone() }),
            (Task::Detect(s), Task::Detect(t)) => {
                let (Some(student), Some(teacher), Some(loss)) = (&s.head, &t.head, hard.and_then(TaskLoss::detection)) else {
                    let e = Error::unsupported("comparing logits needs detectors whose raw head values are known");
                    return Err(e.hint("use method \"features\" and name the values"));
                };
                if student.strides != teacher.strides || student.reg_max != teacher.reg_max {
                    return Err(Error::unsupported("the two heads differ in strides or box distributions")
                        .hint("use method \"features\" and name the values"));
                }
                if s.decode.suppresses() != t.decode.suppresses() {
                    let e = Error::unsupported("one of the two gives one box for each object, the other several of which one is kept");
                    return Err(e.hint("their logits mean different things: use method \"features\""));
                }
                let gains = Gains { class: loss.class_gain, boxes: loss.distance_gain };
                Ok(Self::Heads { student: student.clone(), teacher: teacher.clone(), gains })
            }
            (Task::Instances(s), Task::Instances(t)) => Self::of_outputs(s, t),
            _ => Err(Error::argument("student and teacher are not for the same task")),
        }
    }

    fn of_outputs(student: &Instances, teacher: &Instances) -> Result<Self> {
        if student.kind.word() != teacher.kind.word() {
            let e = Error::argument(format!("the student finds {}, the teacher {}", student.kind.what(), teacher.kind.what()));
            return Err(e.hint("models of different tasks can share features only: use method \"features\""));
        }
        for (who, i) in [("student", student), ("teacher", teacher)] {
            if i.finished {
                let e = Error::unsupported(format!(
                    "the {who} gives finished rows, the best of its anchors in their order, which have no counterpart in another model"
                ));
                return Err(
                    e.hint("use method \"features\" and name the values; of a .pt file with two heads, decode: \"yolo\" opens the other")
                );
            }
        }
        if student.kind != teacher.kind {
            let what = |kind: InstanceKind| match kind {
                InstanceKind::Masks { prototypes } => format!("{prototypes} prototypes"),
                InstanceKind::KeyPoints { points, numbers } => format!("{points} key points of {numbers} numbers"),
                InstanceKind::Turned => kind.what().to_string(),
            };
            let e = Error::shape(format!("the student has {}, the teacher {}", what(student.kind), what(teacher.kind)));
            return Err(e.hint("use method \"features\" and name the values"));
        }
        Ok(Self::Outputs { student: student.clone(), teacher: teacher.outputs.clone() })
    }
}

impl Objective for DistillObjective<'_> {
    fn wanted(&self) -> Vec<String> {
        let mut wanted = self.hard.as_ref().map(TaskLoss::wanted).unwrap_or_default();
        if let Some(Logits::Outputs { student, .. }) = &self.logits {
            wanted.extend(student.outputs.iter().cloned());
        }
        for f in &self.features {
            if !wanted.contains(&f.student) {
                wanted.push(f.student.clone());
            }
        }
        wanted
    }

    fn variables(&self) -> Vec<Param> {
        self.features.iter().filter_map(|f| f.adapter.clone()).collect()
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
        let taught = self.teach(&batch.images, ctx)?;
        let soft = match &self.logits {
            None => None,
            Some(Logits::Classes { student, teacher }) => {
                let one = |outputs: &Outputs, name: &String| -> Result<Tensor> { Ok(pick(outputs, std::slice::from_ref(name))?.remove(0)) };
                Some(class_divergence(&one(outputs, student)?, &self.in_order(one(&taught, teacher)?)?, self.temperature)?)
            }
            Some(Logits::Heads { student, teacher, gains }) => {
                let (sb, ss) = (pick(outputs, &student.boxes)?, pick(outputs, &student.scores)?);
                let (tb, ts) = (pick(&taught, &teacher.boxes)?, pick(&taught, &teacher.scores)?);
                let ts = ts.into_iter().map(|t| self.in_order(t)).collect::<Result<Vec<_>>>()?;
                let level = |i: usize| LevelPair { boxes: [&sb[i], &tb[i]], scores: [&ss[i], &ts[i]] };
                let levels: Vec<LevelPair<'_>> = (0..student.strides.len()).map(level).collect();
                Some(head_divergence(&levels, student, self.temperature, *gains)?)
            }
            Some(Logits::Outputs { student, teacher }) => {
                let taught = self.outputs_in_order(pick(&taught, teacher)?)?;
                Some(output_difference(student, &pick(outputs, &student.outputs)?, &taught)?)
            }
        };
        let mut parts = Vec::new();
        let mut total = match (soft, hard) {
            (Some(soft), Some(hard)) => {
                parts.extend([("soft", self.alpha * soft.value), ("hard", (1.0 - self.alpha) * hard.value())]);
                Some(((soft.total * self.alpha)? + (&hard.total * (1.0 - self.alpha))?)?)
            }
            (Some(soft), None) => {
                parts.push(("soft", soft.value));
                Some(soft.total)
            }
            (None, Some(hard)) => {
                parts.push(("hard", hard.value()));
                Some(hard.total)
            }
            (None, None) => None,
        };
        if !self.features.is_empty() {
            let mut sum = 0.0;
            // Detection losses are summed over the images of the batch; the features' then are too.
            let summed = self.hard.as_ref().is_none_or(|hard| hard.detection().is_some());
            let scale = if summed { batch.images.dim(0)? as f64 } else { 1.0 };
            for f in &self.features {
                let of = |outputs: &Outputs, name: &String| -> Result<Tensor> { Ok(pick(outputs, std::slice::from_ref(name))?.remove(0)) };
                let loss = f.loss(&of(outputs, &f.student)?, &of(&taught, &f.teacher)?).at(|| format!("feature '{}'", f.student))?;
                sum += f64::from(loss.to_scalar::<f32>()?);
                let loss = (loss * (self.feature_weight * scale))?;
                total = Some(match total {
                    Some(total) => (total + loss)?,
                    None => loss,
                });
            }
            parts.push(("feature", self.feature_weight * sum));
        }
        let total = total.ok_or_else(|| Error::internal("a student with nothing to learn"))?;
        Ok(Loss { total, parts })
    }
}
