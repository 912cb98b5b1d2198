//! A dataset whose labels are the numbers that a model gives its classes.

use super::dataset::subset;
use super::options::class_names;
use super::{DataKind, DataOptions, Dataset, GroundTruth, Region, Sample, Source};
use compresso_base::error::{Error, Result};
use compresso_model::Model;
use compresso_model::classes::{ClassMap, ClassMatch, Side, are_generated, listing, names_anew, pairs};
use std::path::Path;
use std::sync::Arc;

/// A dataset in a model's classes.
#[derive(Debug)]
pub struct Matched {
    /// The dataset, whose labels are the model's class numbers.
    pub data: Dataset,
    /// How its own classes became those of the model.
    pub map: ClassMap,
    /// What a user must know, a line each: see [`ClassMap::note`]; what was left out.
    pub notes: Vec<String>,
}

impl Dataset {
    /// The dataset (one split of it) in the classes `names` of a model: labels are the model's numbers. Objects of classes that the
    /// model lacks are left out; so are images, where each has one class.
    ///
    /// # Errors
    /// `Argument` for classes that do not match (see [`ClassMap::between`]), and when no image is left.
    pub fn in_classes(&self, names: &[String], wanted: ClassMatch) -> Result<Matched> {
        let who = format!("dataset '{}'", self.name);
        let map = ClassMap::between(Side { who: "the model", names }, Side { who: &who, names: &self.classes }, wanted)?;
        let mut notes: Vec<String> = map.note().map(String::from).into_iter().collect();
        let same = map.numbers().iter().enumerate().all(|(i, n)| *n == Some(i));
        let mut data = self.clone();
        if !names.is_empty() {
            data.classes = names.into();
        }
        if same {
            return Ok(Matched { data, map, notes });
        }
        let numbers: Arc<[Option<usize>]> = map.numbers().into();
        let strange = map.strange(&self.classes);
        if !strange.is_empty() {
            let known = |class: &usize| numbers.get(*class).copied().flatten().is_some();
            let objects = |i: usize| self.source.classes_of(i).unwrap_or_default();
            if self.kind == DataKind::Classification {
                // An image whose class cannot be told is met, and told of, when it is read.
                let kept: Vec<usize> = (0..self.len()).filter(|&i| objects(i).iter().all(known)).collect();
                if kept.is_empty() {
                    let e = Error::argument(format!("no image of {who} is of a class of the model"));
                    return Err(e.hint(format!("the model's classes are {}", listing(names))));
                }
                notes.push(format!(
                    "{} of {} images are left out, as the model lacks {}",
                    self.len() - kept.len(),
                    self.len(),
                    listing(&strange)
                ));
                data.source = subset(&self.source, kept);
            } else {
                let left: usize = (0..self.len()).map(|i| objects(i).iter().filter(|c| !known(c)).count()).sum();
                notes.push(format!("{left} objects are left out, as the model lacks {}", listing(&strange)));
            }
        }
        data.source = Arc::new(Renumbered { source: data.source, numbers });
        Ok(Matched { data, map, notes })
    }
}

/// The model with the names of the dataset's classes, where it has none of its own and equally many, and learns from its labels, so
/// that what is learnt under a number keeps its name; and what to say of it.
pub fn named_after(model: &Model, data: &Dataset) -> (Model, Option<String>) {
    let own = model.task().classes();
    let labelled = DataKind::of_task(model.task()).is_some();
    let takes = labelled && !own.is_empty() && own.len() == data.classes.len() && are_generated(own) && !are_generated(&data.classes);
    if !takes {
        return (model.clone(), None);
    }
    let note = format!("the model's classes had no names; they are called as those of dataset '{}': {}", data.name, listing(&data.classes));
    (model.clone().renamed(&data.classes), Some(note))
}

/// Names that were asked for, as a format that names each object's class spells them.
///
/// # Errors
/// `Argument`, with both lists, when the files have none of them.
pub(super) fn some_of(asked: Vec<String>, own: &[String]) -> Result<Vec<String>> {
    let pairs = pairs(Side { who: "option 'classes'", names: &asked }, Side { who: "the data", names: own })?;
    if !own.is_empty() && pairs.iter().all(Option::is_none) {
        return Err(none_of(&asked, own));
    }
    let mut names = asked;
    for (own, number) in own.iter().zip(pairs) {
        if let Some(i) = number {
            names[i].clone_from(own);
        }
    }
    Ok(names)
}

/// A dataset of numbered classes in those that the option `classes` asks for: by name, or, where none of the names is the data's, as
/// other names for as many classes. Objects of classes that are not asked for are left out.
///
/// # Errors
/// `Argument`, with both lists, when neither is possible.
pub(super) fn asked_for(data: Dataset, options: &DataOptions) -> Result<Dataset> {
    let Some(asked) = class_names(options)? else { return Ok(data) };
    let own = data.classes.clone();
    let (asked_side, own_side) = (Side { who: "option 'classes'", names: &asked }, Side { who: "the data", names: &own });
    let mut lines = data.warnings.to_vec();
    if names_anew(own_side, asked_side) {
        if !are_generated(&own) && *own != *asked {
            lines.push(format!("classes renamed by number: {} are {}", listing(&own), listing(&asked)));
        }
        return Ok(data.with_classes(&asked).with_warnings(lines.into()));
    }
    let numbers = pairs(asked_side, own_side)?;
    if numbers.iter().all(Option::is_none) {
        return Err(none_of(&asked, &own));
    }
    let parts = if numbers.contains(&None) { data.parts() } else { Vec::new() };
    let counts: Vec<Vec<usize>> = parts.into_iter().filter_map(Dataset::counts).collect();
    for (class, _) in numbers.iter().enumerate().filter(|(_, n)| n.is_none()) {
        let count: usize = counts.iter().filter_map(|c| c.get(class)).sum();
        if count > 0 {
            lines.push(format!("{count} × object of class '{}', which is not asked for, left out", own[class]));
        }
    }
    let numbers: Arc<[Option<usize>]> = numbers.into();
    let chosen = data.with_sources(|d| Arc::new(Renumbered { source: d.source.clone(), numbers: numbers.clone() }));
    Ok(chosen.with_classes(&asked).with_warnings(lines.into()))
}

fn none_of(asked: &[String], own: &[String]) -> Error {
    let e = Error::argument(format!("option 'classes' names {}, the data has {}", listing(asked), listing(own)));
    e.hint("name classes of the data, in the order that their numbers shall have")
}

/// A source whose classes have other numbers, or none.
struct Renumbered {
    source: Arc<dyn Source>,
    numbers: Arc<[Option<usize>]>,
}

impl Renumbered {
    fn number(&self, class: usize) -> Option<usize> {
        self.numbers.get(class).copied().flatten()
    }
    fn targets(&self, targets: Vec<GroundTruth>) -> Vec<GroundTruth> {
        targets.into_iter().filter_map(|t| Some(GroundTruth { class: self.number(t.class)?, ..t })).collect()
    }
    fn sample(&self, s: Sample) -> Sample {
        Sample { targets: self.targets(s.targets), label: s.label.and_then(|l| self.number(l)), ..s }
    }
}

impl Source for Renumbered {
    fn len(&self) -> usize {
        self.source.len()
    }
    fn get(&self, i: usize) -> Result<Sample> {
        Ok(self.sample(self.source.get(i)?))
    }
    fn get_at(&self, i: usize, size: [usize; 2]) -> Result<Sample> {
        Ok(self.sample(self.source.get_at(i, size)?))
    }
    fn classes_of(&self, i: usize) -> Result<Vec<usize>> {
        Ok(self.source.classes_of(i)?.into_iter().filter_map(|c| self.number(c)).collect())
    }
    fn boxes_of(&self, i: usize) -> Result<(Vec<GroundTruth>, (u32, u32))> {
        let (targets, size) = self.source.boxes_of(i)?;
        Ok((self.targets(targets), size))
    }
    fn regions_of(&self, i: usize, size: (u32, u32)) -> Option<Vec<Region>> {
        let regions = self.source.regions_of(i, size)?;
        Some(regions.into_iter().filter_map(|r| Some(Region { class: self.number(r.class)?, ..r })).collect())
    }
    fn opacity_of(&self, i: usize) -> Result<Option<image::GrayImage>> {
        self.source.opacity_of(i)
    }
    fn file_of(&self, i: usize) -> Option<&Path> {
        self.source.file_of(i)
    }
}
