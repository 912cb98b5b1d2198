//! What training minimises.

use super::classification::ClassificationLoss;
use super::detection::{AnchorLoss, DetectionLoss};
use super::loss::Loss;
use super::params::Param;
use crate::data::Batch;
use candle_core::Tensor;
use compresso_base::context::Context;
use compresso_base::error::{Error, Result};
use compresso_exec::Outputs;
use compresso_model::{Task, Value};

/// What training minimises: it names the values of the model that it reads, and turns them into a loss.
pub trait Objective: Send {
    /// Names of the values that [`Objective::loss`] reads.
    fn wanted(&self) -> Vec<String>;
    /// Tensors beyond the model's own that are trained with it, such as adapters.
    fn variables(&self) -> Vec<Param> {
        Vec::new()
    }
    /// The loss of a batch.
    ///
    /// # Errors
    /// Whatever makes the loss impossible to compute; `Cancelled`.
    fn loss(&mut self, outputs: &Outputs, batch: &Batch, ctx: &Context) -> Result<Loss>;
}

impl<T: Objective + ?Sized> Objective for &mut T {
    fn wanted(&self) -> Vec<String> {
        (**self).wanted()
    }
    fn variables(&self) -> Vec<Param> {
        (**self).variables()
    }
    fn loss(&mut self, outputs: &Outputs, batch: &Batch, ctx: &Context) -> Result<Loss> {
        (**self).loss(outputs, batch, ctx)
    }
}

/// The loss of a task, from labels.
#[derive(Debug, Clone)]
pub enum TaskLoss {
    Detect(DetectionLoss),
    /// Of anchor-based detectors.
    Anchors(AnchorLoss),
    Classify(ClassificationLoss),
}

impl TaskLoss {
    /// The loss that fits a model's task.
    ///
    /// # Errors
    /// `Unsupported` for tasks that cannot be trained.
    pub fn of(task: &Task, label_smoothing: f64) -> Result<Self> {
        match task {
            Task::Unknown => Err(Error::unsupported("the model's task is not known, so there is no loss to train it with")
                .hint("load it with a task, or build it from the zoo")),
            Task::Instances(i) => Err(Error::unsupported(format!("models of {} are not trained here: they have no loss", i.kind.what()))
                .hint("train it with the package that it comes from; distil() without labels and compression work on it")),
            Task::Classify(c) => {
                Ok(Self::Classify(ClassificationLoss { output: c.output.clone(), classes: c.classes.len(), label_smoothing }))
            }
            Task::Detect(d) => match (&d.head, &d.anchors) {
                (Some(head), _) => DetectionLoss::new(head.clone(), d.classes.len()).map(Self::Detect),
                (None, Some(head)) => AnchorLoss::new(head.clone(), d.classes.len()).map(Self::Anchors),
                (None, None) if d.decode.is_ragged() => Err(Error::unsupported(
                    "detectors that give finished detections cannot be trained: the raw values of their heads are not kept",
                )
                .hint("YOLOv10 has a second head that can be trained: open its .pt with #{ decode: \"yolo\" }")),
                (None, None) => Err(Error::unsupported("only detectors whose raw head values are known can be trained")
                    .hint("detectors from the zoo, and files saved from them, know their heads")),
            },
        }
    }
}

impl Objective for TaskLoss {
    fn wanted(&self) -> Vec<String> {
        match self {
            Self::Detect(l) => l.head.boxes.iter().chain(&l.head.scores).cloned().collect(),
            Self::Anchors(l) => l.head.outputs.clone(),
            Self::Classify(l) => vec![l.output.clone()],
        }
    }
    fn loss(&mut self, outputs: &Outputs, batch: &Batch, _: &Context) -> Result<Loss> {
        match self {
            Self::Detect(l) => {
                let boxes = pick(outputs, &l.head.boxes)?;
                let scores = pick(outputs, &l.head.scores)?;
                l.forward(&boxes, &scores, &batch.targets)
            }
            Self::Anchors(l) => l.forward(&pick(outputs, &l.head.outputs)?, &batch.targets),
            Self::Classify(l) => l.forward(&pick(outputs, std::slice::from_ref(&l.output))?[0], &batch.labels),
        }
    }
}

/// The tensors of these names.
///
/// # Errors
/// `Missing` for a name that is not among the outputs.
pub fn pick(outputs: &Outputs, names: &[String]) -> Result<Vec<Tensor>> {
    let one = |name: &String| -> Result<Tensor> {
        let value: &Value = outputs.get(name).ok_or_else(|| Error::missing(format!("the model gave no value '{name}'")))?;
        Ok(value.tensor.clone())
    };
    names.iter().map(one).collect()
}
