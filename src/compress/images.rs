//! Images as a graph takes them, with their labels.

use compresso_base::context::Context;
use compresso_base::error::{Error, Result};
use compresso_learn::data::{Batch, Dataset, ImageForm, Loader, LoaderOptions};
use compresso_learn::eval::InputForm;
use compresso_model::{Graph, Task, Value, ValueInfo};
use std::collections::HashMap;

/// A sample of the training images in batches, drawn with the context's seed and made as for evaluation.
pub struct Images {
    loader: Loader,
    input: ValueInfo,
    form: InputForm,
    task: Task,
    /// The graph has a batch size of its own.
    fixed: bool,
    /// Images to come.
    left: usize,
}

impl Images {
    /// At most `batch` images together, or as many as the graph says.
    ///
    /// # Errors
    /// `Unsupported` for a graph whose input is not one image tensor; `Argument` when its size is not known, or the dataset does not fill
    /// a batch.
    pub fn new(graph: &Graph, task: &Task, data: &Dataset, images: usize, batch: usize, ctx: &Context) -> Result<Self> {
        Self::after(0, graph, task, data, images, batch, ctx)
    }

    /// As [`Images::new`], without the first `skip` images of the sample.
    ///
    /// # Errors
    /// As there.
    pub fn after(skip: usize, graph: &Graph, task: &Task, data: &Dataset, images: usize, batch: usize, ctx: &Context) -> Result<Self> {
        if images == 0 {
            return Err(Error::argument("option 'images' must be at least 1, got 0"));
        }
        let (input, axes) = image_input(graph)?;
        let size = image_size(graph, task)?;
        let fixed = axes.batch(&input.fact);
        let (batch, data) = (fixed.unwrap_or(batch), data.for_training());
        if data.len() < fixed.unwrap_or(1) {
            let have = data.len();
            return Err(Error::argument(format!("'{}' has {have} images, a batch of the model needs {batch}", data.label())));
        }
        let drop_last = fixed.is_some();
        let form = ImageForm::of(graph, task);
        let options = LoaderOptions { batch, size, shuffle: true, seed: ctx.seed, skip, drop_last, form, ..LoaderOptions::default() };
        let loader = Loader::new(&data, options, ctx)?;
        Ok(Self { loader, input: input.clone(), form: axes, task: task.clone(), fixed: drop_last, left: images })
    }

    /// What the graph is fed with.
    ///
    /// # Errors
    /// Whatever the conversion of pixels reports.
    pub fn feeds(&self, batch: &Batch) -> Result<HashMap<String, Value>> {
        let images = self.form.feed(&self.task, &self.input.fact, &batch.images)?;
        Ok(HashMap::from([(self.input.name.clone(), images)]))
    }
}

impl Iterator for Images {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        let mut batch = match self.loader.next()? {
            Ok(b) => b,
            Err(e) => return Some(Err(e)),
        };
        let count = batch.indices.len();
        let take = if self.fixed { count } else { count.min(self.left) };
        self.left = self.left.saturating_sub(take);
        if take < count {
            batch.images = match batch.images.narrow(0, 0, take) {
                Ok(t) => t,
                Err(e) => return Some(Err(e.into())),
            };
            batch.targets.truncate(take);
            batch.labels.truncate(take);
            batch.indices.truncate(take);
            batch.letterboxes.truncate(take);
        }
        Some(Ok(batch))
    }
}

/// The batch size that a graph has of its own.
///
/// # Errors
/// `Unsupported` for a graph whose input is not one image tensor.
pub fn own_batch(graph: &Graph) -> Result<Option<usize>> {
    let (input, axes) = image_input(graph)?;
    Ok(axes.batch(&input.fact))
}

/// The graph's only input, when it is an image tensor.
fn image_input(graph: &Graph) -> Result<(&ValueInfo, InputForm)> {
    let mut feeds = graph.feeds();
    if let (Some(input), None) = (feeds.next(), feeds.next())
        && let Some(form) = InputForm::of_images(&input.fact)
    {
        return Ok((input, form));
    }
    let inputs: Vec<String> = graph.feeds().map(|i| format!("{}: {}", i.name, i.fact)).collect();
    Err(Error::unsupported(format!(
        "images can only be fed to a model with one input [batch, channels, height, width], [batch, height, width, channels] or \
         [channels, height, width] of 1, 3 or 4 channels; this one has {}",
        inputs.join(", ")
    )))
}

/// Height and width to feed: the graph's own, else the task's.
///
/// # Errors
/// `Unsupported` for a graph whose input is not one image tensor; `Argument` when neither says.
pub fn image_size(graph: &Graph, task: &Task) -> Result<[usize; 2]> {
    let (input, form) = image_input(graph)?;
    match (form.size(&input.fact), task.image_size()) {
        ([Some(h), Some(w)], _) => Ok([h, w]),
        (_, Some(size)) => Ok(size),
        _ => Err(Error::argument("the model does not say the size of its input image").hint("open it with image_size: [height, width]")),
    }
}
