//! Detectors whose outputs the user describes, and exports of finished detections.

use super::{LoadOptions, class_names, head, settled, ultralytics};
use crate::graph::infer_at;
use crate::{BoxDecode, Decode, Detect, Fact, Graph, IMAGE_CHANNELS};
use compresso_base::error::{Error, Result};

/// The image size where neither the model nor the user says it.
const DEFAULT_SIZE: [usize; 2] = [640, 640];

/// A detector with one output of rows `[left, top, right, bottom, score, class]`.
pub fn end_to_end(graph: &Graph, options: &LoadOptions) -> Result<Detect> {
    let [out] = graph.outputs() else {
        return Err(Error::argument(format!("the model has {} outputs, expected one", graph.outputs().len())));
    };
    detector(graph, &BoxDecode::end_to_end(&out.name), options)
}

/// A detector with one output of boxes, objectness and class probabilities.
pub fn yolov5(graph: &Graph, options: &LoadOptions) -> Result<Detect> {
    let [out] = graph.outputs() else {
        return Err(Error::argument(format!("the model has {} outputs, expected one", graph.outputs().len())));
    };
    detector(graph, &BoxDecode::yolov5(&out.name), options)
}

/// The detector of a description.
///
/// # Errors
/// `Argument` for parts that do not fit together, `Missing` for outputs that do not exist, `Shape` for outputs that the
/// description does not fit.
pub fn detector(graph: &Graph, description: &BoxDecode, options: &LoadOptions) -> Result<Detect> {
    read(graph, description, options, |e| e.at("option 'decode'"))
}

/// The detector of a description that nobody gave, but that the graph's form suggests.
pub fn found(graph: &Graph, description: &BoxDecode, options: &LoadOptions) -> Result<Detect> {
    read(graph, description, options, |e| e)
}

fn read(graph: &Graph, description: &BoxDecode, options: &LoadOptions, place: fn(Error) -> Error) -> Result<Detect> {
    let mut d = description.clone();
    d.check()?;
    let names: Vec<&str> = graph.outputs().iter().map(|o| o.name.as_str()).collect();
    if d.boxes.is_none() {
        let [only] = names.as_slice() else {
            let e = Error::argument("'boxes' must name the output of the boxes").hint(format!("the outputs are {}", names.join(", ")));
            return Err(place(e));
        };
        d.boxes = Some((*only).to_string());
    }
    if d.scores == d.boxes {
        d.scores = None;
    }
    for name in d.outputs() {
        if !names.contains(&name) {
            let e = Error::missing(format!("there is no output '{name}'")).hint(format!("the outputs are {}", names.join(", ")));
            return Err(place(e));
        }
    }
    let batch = graph.feeds().next().filter(|i| i.fact.rank() == Some(4)).and_then(|i| i.fact.dim(0)).unwrap_or(1);
    let shared = d.boxes.as_ref().is_some_and(|n| graph.outputs().iter().any(|o| o.name == *n && o.fact.rank() == Some(2)));
    if batch > 1 && d.is_finished() && (shared || d.columns.contains(&crate::RowPart::Batch)) {
        let e = Error::unsupported(format!("the detections of batches of {batch} images come in one list"));
        return Err(place(e.hint("export the model with batches of one image")));
    }
    let image_size = settled(input_size(graph)?, options, ultralytics::image_size_of(graph)?.unwrap_or(DEFAULT_SIZE))?;
    let facts = Facts::new(graph, image_size);
    facts.check(&d).map_err(place)?;
    let named = if options.classes.is_none() { ultralytics::names(graph)? } else { None };
    let classes = match (named, facts.classes(&d)) {
        (Some(names), count) if count.is_none_or(|n| n == names.len()) => names,
        (_, Some(count)) => class_names(options, count)?,
        // Rows and labels say no number of classes; without names, detections have the class's number.
        (_, None) => options.classes.as_ref().map(super::Classes::names).transpose()?.unwrap_or_default(),
    };
    // Of all other forms it is not known how they are made of a head.
    let head = (d == BoxDecode::end_to_end(d.boxes.clone().unwrap_or_default()))
        .then(|| head::of_rows(graph, d.boxes.as_deref()?, classes.len(), image_size))
        .flatten();
    Ok(Detect { classes, image_size, decode: Decode::described(d), head, anchors: None })
}

/// Height and width of the one image input, where they are fixed: `[batch, 3, height, width]`, `[batch, height, width, 3]`
/// or `[3, height, width]`.
fn input_size(graph: &Graph) -> Result<[Option<usize>; 2]> {
    let mut feeds = graph.feeds();
    let (Some(input), None) = (feeds.next(), feeds.next()) else {
        return Err(Error::argument(format!("expected a model with one image input, this one has {} inputs", graph.feeds().count())));
    };
    let fact = &input.fact;
    let colours = |axis| fact.dim(axis).is_none_or(|c| IMAGE_CHANNELS.contains(&c));
    match fact.rank() {
        Some(4) if colours(1) => Ok([fact.dim(2), fact.dim(3)]),
        Some(4) if colours(3) => Ok([fact.dim(1), fact.dim(2)]),
        Some(3) if colours(0) => Ok([fact.dim(1), fact.dim(2)]),
        None => Ok([None; 2]),
        _ => Err(Error::argument(format!("the input '{}' takes no colour images: {fact}", input.name))),
    }
}

/// What is known of the outputs' shapes.
struct Facts<'g> {
    graph: &'g Graph,
    image: [usize; 2],
    inferred: Option<std::sync::Arc<crate::Facts>>,
}

impl<'g> Facts<'g> {
    fn new(graph: &'g Graph, image: [usize; 2]) -> Self {
        let open = graph.outputs().iter().any(|o| o.fact.dims().is_none());
        Self { graph, image, inferred: if open { infer_at(graph, 1, Some(image)).ok() } else { None } }
    }
    fn of(&self, name: &str) -> Option<&Fact> {
        let declared = self.graph.outputs().iter().find(|o| o.name == name).map(|o| &o.fact);
        self.inferred.as_ref().and_then(|f| f.get(name)).or(declared)
    }

    /// Refuses descriptions that cannot fit what is known.
    fn check(&self, d: &BoxDecode) -> Result<()> {
        let Some((name, fact)) = d.boxes.as_ref().and_then(|n| Some((n, self.of(n)?))) else { return Ok(()) };
        let Some(rank) = fact.rank() else { return Ok(()) };
        let known = |axis: usize| fact.dim(axis as isize);
        let fits = if !d.columns.is_empty() {
            rank >= 2 && known(rank - 1).is_none_or(|w| w == d.row_width())
        } else if d.scores.is_some() {
            let width = d.box_width();
            (rank == 2 && known(1).is_none_or(|n| n == width)) || (rank > 2 && (1..rank).any(|a| known(a).is_none_or(|n| n == width)))
        } else {
            rank == 3
        };
        if fits {
            return Ok(());
        }
        Err(Error::shape(format!("output '{name}' does not fit: expected {}, got {fact}", expected(d))))
    }

    /// The number of classes, where the outputs have a score for each and their sizes are known.
    fn classes(&self, d: &BoxDecode) -> Option<usize> {
        if d.is_finished() {
            return None;
        }
        let name = d.scores.as_ref().or(d.boxes.as_ref())?;
        let fact = self.of(name)?;
        let joint = d.scores.is_none();
        let dims: Vec<usize> = (1..fact.rank()?).map(|a| fact.dim(a as isize)).collect::<Option<_>>()?;
        let [a, b] = *dims.as_slice() else { return None };
        let anchors = d.scores.as_ref().and_then(|_| self.anchors(d)).or_else(|| d.cell_boxes(self.image));
        let channels = match (d.layout, anchors) {
            (Some(crate::AnchorLayout::ChannelsLast), _) => b,
            (Some(crate::AnchorLayout::AnchorsLast), _) => a,
            (None, Some(n)) if a == n && b != n => b,
            (None, Some(n)) if b == n && a != n => a,
            _ => a.min(b),
        };
        channels
            .checked_sub(if joint { d.box_width() } else { 0 } + usize::from(d.objectness) + usize::from(d.background.is_some()))
            .filter(|&n| n > 0)
    }

    /// Number of boxes of the output of boxes.
    fn anchors(&self, d: &BoxDecode) -> Option<usize> {
        let fact = self.of(d.boxes.as_ref()?)?;
        let width = d.box_width();
        match (fact.dim(1), fact.dim(2)) {
            (n, Some(w)) if w == width => n,
            (Some(w), n) if w == width => n,
            _ => None,
        }
    }
}

/// The shape that the output of boxes must have.
fn expected(d: &BoxDecode) -> String {
    if !d.columns.is_empty() {
        let width = d.row_width();
        format!("[batch, detections, {width}]")
    } else if d.scores.is_some() {
        format!("[batch, boxes, {}]", d.box_width())
    } else {
        let width = d.box_width();
        format!("[batch, boxes, {width} + classes] or [batch, {width} + classes, boxes]")
    }
}
