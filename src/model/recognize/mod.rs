//! What a model from elsewhere is for, told by its metadata and its outputs.

mod described;
mod forms;
mod head;
mod options;
mod ultralytics;

pub use options::{Classes, DecodeAs, DecodeOption, ImageSize, LoadOptions};

use super::box_decode::FASTEST_DET_STRIDE;
use super::graph::infer_at;
use super::{BoxDecode, Classify, Decode, Detect, Element, Fact, Graph, IMAGE_CHANNELS, Instances, Preprocess, Task, image_channels};
use crate::ops::activation::SIGMOID;
use crate::ops::concat::CONCAT;
use compresso_base::error::{Error, Result};
use compresso_base::memory;
use forms::Form;

/// The task of a graph: as the options say, as Ultralytics' metadata says, or by the looks of the outputs.
///
/// # Errors
/// `Argument` when options contradict the graph; `Format` for metadata that cannot be read.
pub(super) fn task(graph: &Graph, options: &LoadOptions) -> Result<Task> {
    preprocessed(asked_for(graph, options)?, graph, options)
}

/// The task as the option `decode` says, or else as it is told.
fn asked_for(graph: &Graph, options: &LoadOptions) -> Result<Task> {
    let word = match &options.decode {
        Some(DecodeOption::Described(d)) => return described::detector(graph, d, options).map(Task::Detect),
        Some(DecodeOption::As(word)) => Some(*word),
        None => None,
    };
    match word {
        Some(DecodeAs::None) => Ok(Task::Unknown),
        Some(DecodeAs::Yolo) => ultralytics::detector(graph, options, true).map(Task::Detect),
        Some(DecodeAs::FastestDet) => fastest_det(graph, options).map(Task::Detect),
        Some(DecodeAs::Yolov5) => described::yolov5(graph, options).map(Task::Detect),
        Some(DecodeAs::EndToEnd) => described::end_to_end(graph, options).map(Task::Detect),
        Some(DecodeAs::Classify) => classifier(graph, options).map(Task::Classify),
        None => found(graph, options),
    }
}

/// The task that metadata and outputs tell.
fn found(graph: &Graph, options: &LoadOptions) -> Result<Task> {
    if let Some(instances) = forms::instances(graph, options) {
        return instances.map(Task::Instances);
    }
    match forms::detector(graph, options) {
        Some(Form::Anchors) => ultralytics::detector(graph, options, false).map(Task::Detect),
        Some(Form::Rows(description)) => described::found(graph, &description, options).map(Task::Detect),
        None if looks_like_fastest_det(graph) => fastest_det(graph, options).map(Task::Detect),
        None if looks_like_classifier(graph) => classifier(graph, options).map(Task::Classify),
        None => Ok(Task::Unknown),
    }
}

/// A task that the file states, with what the options say instead.
pub(super) fn overrule(task: Task, graph: &Graph, options: &LoadOptions) -> Result<Task> {
    let classes = |had: Vec<String>| match &options.classes {
        Some(c) => fitting(c.names()?, Some(had.len())),
        None => Ok(had),
    };
    let size = |had: [usize; 2]| match options.image_size {
        Some(_) => image_size(graph, options, had),
        None => Ok(had),
    };
    let task = match task {
        Task::Unknown => Task::Unknown,
        Task::Classify(c) => Task::Classify(Classify { classes: classes(c.classes)?, image_size: size(c.image_size)?, ..c }),
        Task::Detect(d) => Task::Detect(Detect { classes: classes(d.classes)?, image_size: size(d.image_size)?, ..d }),
        Task::Instances(i) => Task::Instances(Instances { classes: classes(i.classes)?, image_size: size(i.image_size)?, ..i }),
    };
    preprocessed(task, graph, options)
}

/// The task of a model whose images are made as the option `preprocess` says.
fn preprocessed(task: Task, graph: &Graph, options: &LoadOptions) -> Result<Task> {
    let Some(p) = options.preprocess.as_ref().map(|p| &p.0) else { return Ok(task) };
    p.check(image_channels(graph))?;
    let refused = |text: String| Error::argument(text).at("option 'preprocess'");
    match task {
        Task::Classify(c) => match p.side() {
            Some(side) if c.image_size != [side; 2] => {
                let [h, w] = c.image_size;
                Err(refused(format!("'crop' is {side} pixels, the model takes {h}×{w}")))
            }
            _ => Ok(Task::Classify(Classify { preprocess: p.clone(), ..c })),
        },
        Task::Detect(_) if p.crops() => Err(refused("'resize' and 'crop' are for classifiers; a detector sees the whole image".into())),
        Task::Detect(d) => {
            let description = d.decode.into_description();
            let each = |v: &[f64]| match v {
                [one] => vec![*one; image_channels(graph).unwrap_or(3)],
                list => list.to_vec(),
            };
            let (bgr, scale, mean, std) = (p.bgr, p.scale, each(&p.mean), each(&p.std));
            Ok(Task::Detect(Detect { decode: Decode::described(BoxDecode { bgr, scale, mean, std, ..description }), ..d }))
        }
        Task::Instances(_) => Err(refused("images of models for masks, key points and turned boxes are taken as Ultralytics' are".into())),
        Task::Unknown => {
            let e = refused("it is not known what the outputs mean, so nothing reads images for this model".into());
            Err(e.hint("say it too: model(path, #{ decode: \"classify\", preprocess: \"imagenet\" })"))
        }
    }
}

/// The one input, when it takes float images: `[batch, channels, height, width]`.
fn image_input(graph: &Graph) -> Option<&Fact> {
    let mut feeds = graph.feeds();
    let (input, None) = (feeds.next()?, feeds.next()) else { return None };
    let fact = &input.fact;
    (fact.rank() == Some(4) && fact.dim(1).is_none_or(|c| IMAGE_CHANNELS.contains(&c)) && fact.element.is_float()).then_some(fact)
}

/// The input's height and width, the options' where it leaves them open, else `default`.
fn image_size(graph: &Graph, options: &LoadOptions, default: [usize; 2]) -> Result<[usize; 2]> {
    let fact = image_input(graph)
        .ok_or_else(|| Error::argument("the model does not take one image input [batch, 3, height, width] (or 1 or 4 channels)"))?;
    settled([fact.dim(2), fact.dim(3)], options, default)
}

/// Height and width where the input fixes them, else the options', else `default`.
fn settled(fixed: [Option<usize>; 2], options: &LoadOptions, default: [usize; 2]) -> Result<[usize; 2]> {
    let cut = || options.preprocess.as_ref().and_then(|p| p.0.side()).map(|side| [side; 2]);
    let asked = options.image_size.map(ImageSize::height_width).or_else(cut);
    let mut size = [0; 2];
    for i in 0..2 {
        size[i] = match (fixed[i], asked) {
            (Some(n), Some(a)) if a[i] != n => {
                let e = Error::argument(format!("option 'image_size' is {}, but the input of the model is fixed at {n}", a[i]));
                return Err(e.hint("export the model with dynamic sizes, or leave the option out"));
            }
            (Some(n), _) => n,
            (None, Some(a)) => a[i],
            (None, None) => default[i],
        };
        if size[i] == 0 {
            return Err(Error::argument("the image size is 0"));
        }
    }
    Ok(size)
}

/// The options' height and width, for a model whose task has none; all its image-like inputs take it where they leave it open.
///
/// # Errors
/// `Argument` when an input contradicts it.
pub(super) fn stated_size(graph: &Graph, options: &LoadOptions) -> Result<Option<[usize; 2]>> {
    let Some(asked) = options.image_size.map(ImageSize::height_width) else { return Ok(None) };
    let images: Vec<&Fact> = graph.feeds().map(|input| &input.fact).filter(|f| f.rank() == Some(4)).collect();
    if images.is_empty() {
        return Err(Error::argument("option 'image_size' is for models with an input [batch, channels, height, width]"));
    }
    for fact in images {
        settled([fact.dim(2), fact.dim(3)], options, asked)?;
    }
    Ok(Some(asked))
}

/// Given names, which must be as many as the model has classes.
fn fitting(names: Vec<String>, count: Option<usize>) -> Result<Vec<String>> {
    match count {
        Some(n) if n != names.len() => Err(Error::argument(format!("the model has {n} classes, option 'classes' names {}", names.len()))),
        _ => Ok(names),
    }
}

/// The options' class names or, without any, `class0`, `class1`, ….
fn class_names(options: &LoadOptions, count: usize) -> Result<Vec<String>> {
    match &options.classes {
        Some(c) => fitting(c.names()?, Some(count)),
        None => {
            memory::claim((count as u64).saturating_mul(48), || format!("names of {count} classes"))?;
            Ok((0..count).map(|i| format!("class{i}")).collect())
        }
    }
}

/// The declared type of the one output, completed by inference at `image` where its sizes are open.
fn output(graph: &Graph, image: [usize; 2]) -> Result<(String, Fact)> {
    let [output] = graph.outputs() else {
        return Err(Error::argument(format!("the model has {} outputs, expected one", graph.outputs().len())));
    };
    let mut fact = output.fact.clone();
    if fact.dims().is_none()
        && let Ok(facts) = infer_at(graph, 1, Some(image))
        && let Some(found) = facts.get(&output.name)
    {
        fact = found.clone();
    }
    Ok((output.name.clone(), fact))
}

/// One output `[batch, 5 + classes, rows, columns]` at 1/16 of the image size, which ends as FastestDet does: a concat of
/// objectness (a sigmoid), boxes, and class probabilities (a softmax).
fn looks_like_fastest_det(graph: &Graph) -> bool {
    let (Some(input), [output]) = (image_input(graph), graph.outputs()) else { return false };
    let fact = &output.fact;
    let strided = |axis: isize| match (input.dim(axis), fact.dim(axis)) {
        (Some(i), Some(o)) => i == o * FASTEST_DET_STRIDE,
        _ => true,
    };
    let makers = graph.producers();
    let maker = |name: &str| makers.get(name).map(|&i| &graph.nodes()[i]);
    fact.rank() == Some(4)
        && fact.dim(1).is_some_and(|c| c > 5)
        && strided(2)
        && strided(3)
        && maker(&output.name).is_some_and(|concat| {
            concat.is(CONCAT) && concat.inputs.len() == 3 && concat.input(0).and_then(maker).is_some_and(|n| n.is(SIGMOID))
        })
}

/// FastestDet's training size.
const FASTEST_DET_SIZE: usize = 352;

fn fastest_det(graph: &Graph, options: &LoadOptions) -> Result<Detect> {
    let image_size = image_size(graph, options, [FASTEST_DET_SIZE; 2])?;
    let (name, fact) = output(graph, image_size)?;
    let channels = fact.dim(1).filter(|&c| c > 5 && fact.rank() == Some(4));
    let channels =
        channels.ok_or_else(|| Error::argument(format!("expected an output [batch, 5 + classes, rows, columns], got {fact}")))?;
    Ok(Detect {
        classes: class_names(options, channels - 5)?,
        image_size,
        decode: Decode::described(BoxDecode::fastest_det(name)),
        head: None,
        anchors: None,
    })
}

/// One image input and one output `[batch, classes]`.
fn looks_like_classifier(graph: &Graph) -> bool {
    let [output] = graph.outputs() else { return false };
    let fact = &output.fact;
    image_input(graph).is_some() && fact.element == Element::F32 && fact.rank() == Some(2) && fact.dim(1).is_some_and(|n| n > 1)
}

/// The usual size of classifiers.
const CLASSIFIER_SIZE: usize = 224;

fn classifier(graph: &Graph, options: &LoadOptions) -> Result<Classify> {
    let image_size = image_size(graph, options, [CLASSIFIER_SIZE; 2])?;
    let (name, fact) = output(graph, image_size)?;
    let count = fact.dim(1).filter(|_| fact.rank() == Some(2));
    let count = count.ok_or_else(|| Error::argument(format!("expected an output [batch, classes], got {fact}")))?;
    let classes = match ultralytics::names(graph)?.filter(|n| n.len() == count && options.classes.is_none()) {
        Some(names) => names,
        None => class_names(options, count)?,
    };
    Ok(Classify { classes, image_size, output: name, preprocess: Preprocess::default() })
}

#[cfg(test)]
mod tests;
