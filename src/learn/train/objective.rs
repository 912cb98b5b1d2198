//! What training minimises.

use super::classification::ClassificationLoss;
use super::detection::{AnchorLoss, DetectionLoss};
use super::dual::DualLoss;
use super::loss::Loss;
use super::parametrize::StepCount;
use super::params::Param;
use super::second_branch::{Beside, SecondBranch};
use crate::data::Batch;
use candle_core::Tensor;
use compresso_base::context::Context;
use compresso_base::error::{Error, Result};
use compresso_exec::Outputs;
use compresso_model::{DetectHead, Graph, Model, Task, Value};

/// What training minimises: it names the values of the model that it reads, and turns them into a loss.
pub trait Objective: Send {
    /// Names of the values that [`Objective::loss`] reads.
    fn wanted(&self) -> Vec<String>;
    /// Tensors beyond the model's own that are trained with it, such as adapters.
    fn variables(&self) -> Vec<Param> {
        Vec::new()
    }
    /// Whether the loss reads labels. Without, data needs none, and nothing is validated.
    fn reads_labels(&self) -> bool {
        true
    }
    /// What is built beside a graph for training alone, among which [`Objective::wanted`] may name values; `None`: nothing.
    ///
    /// # Errors
    /// Whatever makes it impossible to build.
    fn beside(&self, _graph: &Graph) -> Result<Option<Beside>> {
        Ok(None)
    }
    /// Called before the loss of each batch, with the batches before it.
    fn advance(&mut self, _at: StepCount) {}
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
    fn reads_labels(&self) -> bool {
        (**self).reads_labels()
    }
    fn beside(&self, graph: &Graph) -> Result<Option<Beside>> {
        (**self).beside(graph)
    }
    fn advance(&mut self, at: StepCount) {
        (**self).advance(at);
    }
    fn loss(&mut self, outputs: &Outputs, batch: &Batch, ctx: &Context) -> Result<Loss> {
        (**self).loss(outputs, batch, ctx)
    }
}

/// The loss of a task, from labels.
#[derive(Debug, Clone)]
pub enum TaskLoss {
    /// Of detectors without anchors that give several boxes for an object.
    Detect(DetectionLoss),
    /// Of detectors that give one box for each object, with a second head beside theirs.
    EndToEnd(Box<EndToEnd>),
    /// Of anchor-based detectors.
    Anchors(AnchorLoss),
    /// Of classifiers.
    Classify(ClassificationLoss),
}

/// See [`TaskLoss::EndToEnd`].
#[derive(Debug, Clone)]
pub struct EndToEnd {
    loss: DualLoss,
    second: SecondBranch,
    /// The part of the training that is done, from 0 to 1.
    part: f64,
}

impl TaskLoss {
    /// The loss with which a model is trained. What it reads, [`Objective::beside`] builds, where that is not in the graph.
    ///
    /// # Errors
    /// As [`TaskLoss::of`].
    pub fn for_training(model: &Model, label_smoothing: f64) -> Result<Self> {
        match (Self::of(model.task(), label_smoothing)?, model.task().detect()) {
            (Self::Detect(loss), Some(d)) if !d.decode.suppresses() => {
                let second = SecondBranch::new(model.graph(), &loss.head);
                let loss = DualLoss::new(second.head(), loss.head, loss.classes)?;
                Ok(Self::EndToEnd(Box::new(EndToEnd { loss, second, part: 0.0 })))
            }
            (plain, _) => Ok(plain),
        }
    }

    /// The loss of the head that the model's graph has, of a detector without anchors.
    pub fn detection(&self) -> Option<&DetectionLoss> {
        match self {
            Self::Detect(l) => Some(l),
            Self::EndToEnd(e) => Some(&e.loss.one),
            Self::Anchors(_) | Self::Classify(_) => None,
        }
    }

    /// The same, where the head that the graph has shapes the features that it reads too: for losses beside this one that read it.
    #[must_use]
    pub fn undivided(mut self) -> Self {
        if let Self::EndToEnd(e) = &mut self {
            e.second.detached = false;
        }
        self
    }

    /// The loss that fits a model's task, of values that its graph has.
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
                (Some(head), _) => {
                    let loss = DetectionLoss::new(head.clone(), d.classes.len())?;
                    Ok(Self::Detect(if d.decode.suppresses() { loss } else { loss.one_to_one() }))
                }
                (None, Some(head)) => AnchorLoss::new(head.clone(), d.classes.len()).map(Self::Anchors),
                (None, None) if d.decode.is_ragged() => Err(Error::unsupported(
                    "the detector gives finished detections, and the raw values of its head are not known, which training reads",
                )
                .hint("of YOLOv10 and YOLO26 they are, from .pt files and exports without suppression; RT-DETR is not trained here")),
                (None, None) => Err(Error::unsupported("only detectors whose raw head values are known can be trained")
                    .hint("detectors from the zoo, and files saved from them, know their heads")),
            },
        }
    }
}

impl Objective for TaskLoss {
    fn wanted(&self) -> Vec<String> {
        match self {
            Self::Detect(l) => values(&l.head).cloned().collect(),
            Self::EndToEnd(e) => values(&e.loss.many.head).chain(values(&e.loss.one.head)).cloned().collect(),
            Self::Anchors(l) => l.head.outputs.clone(),
            Self::Classify(l) => vec![l.output.clone()],
        }
    }
    fn beside(&self, graph: &Graph) -> Result<Option<Beside>> {
        match self {
            Self::EndToEnd(e) => e.second.build(graph).map(Some),
            _ => Ok(None),
        }
    }
    fn advance(&mut self, at: StepCount) {
        if let Self::EndToEnd(e) = self {
            // A training without a planned end stays at its beginning.
            e.part = if at.total == 0 { 0.0 } else { at.done as f64 / at.total as f64 };
        }
    }
    fn loss(&mut self, outputs: &Outputs, batch: &Batch, _: &Context) -> Result<Loss> {
        match self {
            Self::Detect(l) => {
                let [boxes, scores] = raw(outputs, &l.head)?;
                l.forward(&boxes, &scores, &batch.targets)
            }
            Self::EndToEnd(e) => {
                let ([mb, ms], [ob, os]) = (raw(outputs, &e.loss.many.head)?, raw(outputs, &e.loss.one.head)?);
                e.loss.forward([&mb, &ms], [&ob, &os], &batch.targets, e.part)
            }
            Self::Anchors(l) => l.forward(&pick(outputs, &l.head.outputs)?, &batch.targets),
            Self::Classify(l) => l.forward(&pick(outputs, std::slice::from_ref(&l.output))?[0], &batch.labels),
        }
    }
}

fn values(head: &DetectHead) -> impl Iterator<Item = &String> {
    head.boxes.iter().chain(&head.scores)
}

/// Boxes and scores of a head.
fn raw(outputs: &Outputs, head: &DetectHead) -> Result<[Vec<Tensor>; 2]> {
    Ok([pick(outputs, &head.boxes)?, pick(outputs, &head.scores)?])
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
