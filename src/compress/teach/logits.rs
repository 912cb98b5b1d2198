//! Which values of two models mean the same.

use super::losses::{Gains, LogitLoss};
use crate::choice::{Chosen, Entry};
use candle_core::Tensor;
use compresso_base::context::Context;
use compresso_base::error::{Error, Result};
use compresso_learn::train::detection::DetectionLoss;
use compresso_model::classes::{ClassMap, ClassMatch, Side, listing};
use compresso_model::{DetectHead, InstanceKind, Instances, Model, Task};

/// Names of the values to compare.
pub(super) enum Logits {
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
    Instances {
        student: Instances,
        teacher: Vec<String>,
    },
    /// Values of any meaning, of the same names in both.
    Any(Vec<String>),
}

impl Logits {
    /// # Errors
    /// `Unsupported` and `Argument` when the models, or the loss, do not fit together.
    pub fn of(student: &Model, teacher: &Model, loss: &Chosen<LogitLoss>, labels: bool) -> Result<Self> {
        let entry = loss.entry();
        let only = |fits: bool, others: &dyn Fn(&&&LogitLoss) -> bool, what: &str| -> Result<()> {
            if fits {
                return Ok(());
            }
            let names: Vec<String> = LogitLoss::ALL.iter().filter(others).map(|l| format!("\"{}\"", l.name)).collect();
            Err(Error::argument(format!("loss \"{}\" is not for {what}", entry.name)).hint(format!("there are {}", names.join(", "))))
        };
        match (student.task(), teacher.task()) {
            (Task::Classify(s), Task::Classify(t)) => {
                only(entry.classes.is_some(), &|l| l.classes.is_some(), "classifiers")?;
                Ok(Self::Classes { student: s.output.clone(), teacher: t.output.clone() })
            }
            (Task::Detect(s), Task::Detect(t)) if s.head.is_some() && t.head.is_some() => {
                only(entry.head.is_some(), &|l| l.head.is_some(), "detectors")?;
                Self::of_heads(student, teacher)
            }
            (Task::Instances(s), Task::Instances(t)) => Self::of_outputs(s, t),
            _ if !labels => Self::of_any(student, teacher),
            (Task::Detect(_), Task::Detect(_)) => {
                let e = Error::unsupported("comparing logits needs detectors whose raw head values are known");
                Err(e.hint("use method \"features\" and name the values"))
            }
            _ => Err(Error::argument("student and teacher are not for the same task")),
        }
    }

    fn of_heads(student: &Model, teacher: &Model) -> Result<Self> {
        let (Some(s), Some(t)) = (student.task().detect(), teacher.task().detect()) else {
            return Err(Error::internal("two detectors"));
        };
        let (Some(own), Some(other)) = (&s.head, &t.head) else { return Err(Error::internal("two heads")) };
        if own.strides != other.strides || own.reg_max != other.reg_max {
            return Err(Error::unsupported("the two heads differ in strides or box distributions")
                .hint("use method \"features\" and name the values"));
        }
        if s.decode.suppresses() != t.decode.suppresses() {
            let e = Error::unsupported("one of the two gives one box for each object, the other several of which one is kept");
            return Err(e.hint("their logits mean different things: use method \"features\""));
        }
        let loss = DetectionLoss::new(own.clone(), s.classes.len())?;
        let gains = Gains { class: loss.class_gain, boxes: loss.distance_gain };
        Ok(Self::Heads { student: own.clone(), teacher: other.clone(), gains })
    }

    /// Raw values of an anchor-based head, else the outputs that are floats.
    fn of_any(student: &Model, teacher: &Model) -> Result<Self> {
        let raw = student.task().detect().and_then(|d| d.anchors.as_ref()).map(|a| a.outputs.clone());
        let names = raw.unwrap_or_else(|| student.graph().outputs().iter().map(|o| o.name.clone()).collect());
        let facts = student.graph().facts()?;
        let names: Vec<String> = names.into_iter().filter(|n| facts.get(n).is_some_and(|f| f.element.is_float())).collect();
        if names.is_empty() {
            return Err(Error::unsupported("the model has no outputs of numbers to compare"));
        }
        let makers = teacher.graph().producers();
        match names.iter().find(|n| !makers.contains_key(n.as_str())) {
            None => Ok(Self::Any(names)),
            Some(lacks) => {
                let e = Error::argument(format!("the teacher has no value '{lacks}', which the model gives"));
                Err(e.hint("the teacher of a recovery is the model that it was made from"))
            }
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
        Ok(Self::Instances { student: student.clone(), teacher: teacher.outputs.clone() })
    }
}

/// Which of the teacher's classes stand for the student's, in the student's order; `None` where the lists are the same.
pub(super) fn order(student: &Model, teacher: &Model, classes: ClassMatch, ctx: &Context) -> Result<Option<Tensor>> {
    let (own, other) = (student.task().classes(), teacher.task().classes());
    let features = "models of different classes can share features only: use method \"features\"";
    let map = ClassMap::between(Side { who: "the teacher", names: other }, Side { who: "the student", names: own }, classes)
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
