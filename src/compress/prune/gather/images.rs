//! Images as a graph takes them, with their labels.

use compresso_base::context::Context;
use compresso_base::error::{Error, Result};
use compresso_learn::data::{Batch, Dataset, ImageForm, Loader, LoaderOptions};
use compresso_learn::eval::model_input;
use compresso_model::graph::specialize;
use compresso_model::{Element, Graph, IMAGE_CHANNELS, Task, Value};
use std::collections::HashMap;

/// A sample of the training images in batches, drawn with the context's seed and letterboxed as in evaluation.
pub(super) struct Images<'a> {
    loader: Loader,
    input: String,
    task: &'a Task,
    /// The graph has a batch size of its own.
    fixed: bool,
    /// Images to come.
    left: usize,
}

impl<'a> Images<'a> {
    /// At most `batch` images together, or as many as the graph says.
    ///
    /// # Errors
    /// `Unsupported` for a graph whose input is not one image tensor of a known size; `Argument` when the dataset does not
    /// fill a batch.
    pub fn new(graph: &Graph, task: &'a Task, data: &Dataset, images: usize, batch: usize, ctx: &Context) -> Result<Self> {
        let feeds: Vec<_> = graph.feeds().collect();
        let refused = || {
            let shapes: Vec<String> = feeds.iter().map(|i| format!("{}: {}", i.name, i.fact)).collect();
            let wanted = "one input float32[batch, channels, height, width] of a known size";
            let e = Error::unsupported(format!("images can only be fed to a model with {wanted}; this one has {}", shapes.join(", ")));
            e.hint("load it with image_size: [height, width]")
        };
        let [input] = feeds.as_slice() else { return Err(refused()) };
        let dims = specialize(&input.fact, 1, task.image_size()).dims();
        let is_image = |d: &&[usize]| input.fact.element == Element::F32 && d.get(1).is_some_and(|c| IMAGE_CHANNELS.contains(c));
        let Some(&[_, _, h, w]) = dims.as_deref().filter(is_image) else { return Err(refused()) };
        let fixed = input.fact.dim(0);
        let (batch, data) = (fixed.unwrap_or(batch), data.for_training());
        if data.len() < fixed.unwrap_or(1) {
            let have = data.len();
            return Err(Error::argument(format!("'{}' has {have} images, a batch of the model needs {batch}", data.label())));
        }
        let drop_last = fixed.is_some();
        let form = ImageForm::of(graph, task);
        let options = LoaderOptions { batch, size: [h, w], shuffle: true, seed: ctx.seed, drop_last, form, ..LoaderOptions::default() };
        let loader = Loader::new(&data, options, ctx)?;
        Ok(Self { loader, input: input.name.clone(), task, fixed: drop_last, left: images })
    }

    /// What the graph is fed with.
    ///
    /// # Errors
    /// Whatever the conversion of pixels reports.
    pub fn feeds(&self, batch: &Batch) -> Result<HashMap<String, Value>> {
        let images = model_input(self.task, &batch.images)?.contiguous()?;
        Ok(HashMap::from([(self.input.clone(), Value::plain(images)?)]))
    }
}

impl Iterator for Images<'_> {
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
