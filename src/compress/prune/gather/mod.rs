//! What a criterion needs to know, gathered once for all layers of a graph.

mod activations;
mod covariances;
mod gradients;

use super::criteria::{Criterion, Need};
use super::readers::sites;
use super::slices::{Activations, Norm, Occurrence, Role, Slice, occurrences};
use super::{Analysis, Prune};
use compresso_base::context::Context;
use compresso_base::error::{Error, Result};
use compresso_learn::data::Dataset;
use compresso_model::Task;
use compresso_model::classes::ClassMatch;
use gradients::Curvature;
use std::collections::HashMap;

/// The occurrences of a graph's channels, and the numbers there.
#[derive(Debug)]
pub(super) struct Gathered<'a> {
    pub found: &'a Analysis,
    pub task: &'a Task,
    occurrences: Vec<Occurrence>,
    weights: HashMap<String, Vec<f32>>,
    /// By the node that makes the channels.
    norms: HashMap<usize, Norm>,
    gradients: HashMap<String, Vec<f32>>,
    curvatures: HashMap<String, Curvature>,
    /// By value and axis.
    activations: HashMap<(String, usize), Activations>,
    /// By value.
    pub covariances: HashMap<String, Vec<f64>>,
}

/// The training images for a criterion, in the model's classes where it reads labels.
///
/// # Errors
/// As [`Dataset::in_classes`].
pub(super) fn in_the_models_classes(
    criterion: &Criterion,
    task: &Task,
    data: &Dataset,
    wanted: ClassMatch,
    ctx: &Context,
) -> Result<Dataset> {
    let reads_labels = criterion.needs(Need::Gradients) || criterion.needs(Need::Curvature);
    if !reads_labels || gradients::loss(task, data).is_none() {
        return Ok(data.clone());
    }
    let matched = data.for_training().in_classes(task.classes(), wanted)?;
    for line in &matched.notes {
        ctx.note(format!("prune: {line}"));
    }
    Ok(matched.data)
}

/// On what activations and gradients are gathered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Evidence<'a> {
    pub task: &'a Task,
    pub data: Option<&'a Dataset>,
    /// How many images of it.
    pub images: usize,
}

impl<'a> Evidence<'a> {
    /// What `options` say.
    pub fn new(options: &Prune, task: &'a Task, data: Option<&'a Dataset>) -> Self {
        Self { task, data, images: options.images }
    }
    /// # Errors
    /// `Argument` without a dataset.
    fn data(&self, criterion: &Criterion, what: &str) -> Result<&'a Dataset> {
        let name = criterion.name;
        let without = || Error::argument(format!("importance \"{name}\" needs images, for the {what}, and no dataset was given"));
        self.data.ok_or_else(|| without().hint(format!("pass one: prune(m, d, #{{ importance: \"{name}\" }})")))
    }
}

impl<'a> Gathered<'a> {
    /// Everything that `criterion` needs.
    ///
    /// # Errors
    /// `Argument` when it needs images and there is no dataset; `Unsupported` for models that cannot be fed with images;
    /// `Check` for numbers that are not finite; `Cancelled`.
    pub fn new(criterion: &Criterion, found: &'a Analysis, evidence: Evidence<'a>, ctx: &Context) -> Result<Self> {
        let mut new = Self {
            found,
            task: evidence.task,
            covariances: HashMap::new(),
            occurrences: occurrences(found)?,
            weights: HashMap::new(),
            norms: HashMap::new(),
            gradients: HashMap::new(),
            curvatures: HashMap::new(),
            activations: HashMap::new(),
        };
        if criterion.needs(Need::Weights) {
            for occurrence in &new.occurrences {
                let Some(constant) = found.graph.constant(&occurrence.name) else { continue };
                if !new.weights.contains_key(&occurrence.name) {
                    new.weights.insert(occurrence.name.clone(), constant.to_f32s()?);
                }
            }
            new.norms = Norm::all(found)?;
        }
        if criterion.needs(Need::Activations) {
            let data = evidence.data(criterion, "activations")?;
            new.activations = activations::gather(found, &new.occurrences, evidence.task, data, evidence.images, ctx)?;
        }
        if criterion.needs(Need::Covariances) {
            let data = evidence.data(criterion, "covariances")?;
            let values = sites(found)?.into_iter().map(|s| (s.value, s.axis)).collect();
            new.covariances = covariances::gather(&found.graph, &values, evidence.task, data, evidence.images, ctx)?;
        }
        if criterion.needs(Need::Gradients) {
            let data = evidence.data(criterion, "gradients")?;
            new.gradients = gradients::gather(&found.graph, evidence.task, data, evidence.images, ctx)?;
        }
        if criterion.needs(Need::Curvature) {
            let data = evidence.data(criterion, "gradients")?;
            let from = (evidence.task, data, evidence.images);
            new.curvatures = gradients::curvatures(&found.graph, &new.occurrences, from, ctx)?;
        }
        Ok(new)
    }

    /// The slices: the weights that make channels first, in the order of the graph.
    pub fn slices(&self) -> Vec<Slice<'_>> {
        self.occurrences.iter().map(|occurrence| self.slice(occurrence)).collect()
    }

    fn slice<'s>(&'s self, occurrence: &'s Occurrence) -> Slice<'s> {
        let makes = occurrence.role == Role::Weight;
        Slice {
            weights: self.weights.get(&occurrence.name).map(Vec::as_slice),
            gradients: self.gradients.get(&occurrence.name).map(Vec::as_slice),
            curvature: self.curvatures.get(&occurrence.name).map(|c| c.squares.as_slice()),
            effects: self.curvatures.get(&occurrence.name).and_then(|c| c.effects.get(&occurrence.axis)).map(Vec::as_slice),
            activations: self.activations.get(&(occurrence.name.clone(), occurrence.axis)),
            norm: self.norms.get(&occurrence.node).filter(|_| makes),
            ..Slice::bare(occurrence, &self.found.graph)
        }
    }
}
