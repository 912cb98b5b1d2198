//! What a module of an architecture sees and makes.

use super::blocks::{Blocks, Feature};
use super::plan::Plan;
use super::yaml::ArchitectureLayer;
use crate::{Classify, Preprocess, Task};
use compresso_base::error::Result;
use std::ops::Range;

/// Largest kernel, stride and dilation.
pub const LARGEST_WINDOW: usize = 31;

/// One layer and its surroundings, as its module sees them.
pub struct Site<'a> {
    pub b: &'a mut Blocks,
    pub layer: &'a ArchitectureLayer,
    pub plan: &'a Plan<'a>,
    /// What it reads; at least one.
    pub inputs: &'a [Feature],
    /// Which of `inputs` each layer gives that it reads: one, or all parts of a layer that makes several.
    pub groups: &'a [Range<usize>],
    /// What the names of its weights start with.
    pub scope: String,
    /// Scaled by depth.
    pub repeats: usize,
}

/// What a module made.
pub enum Made {
    Feature(Feature),
    /// Several maps, of which readers choose.
    Parts(Vec<Feature>),
    /// The end of the model, whose outputs are declared.
    End(Box<Task>),
}

impl Site<'_> {
    /// Argument `i` as a channel count, scaled by width.
    pub fn channels(&self, i: usize) -> Result<usize> {
        Ok(self.plan.channels(self.layer.size(i, "channels", None)?))
    }
    /// Argument `i` as an odd kernel.
    pub fn odd(&self, i: usize, default: usize) -> Result<usize> {
        match self.layer.size(i, "kernel", Some(default))? {
            k if k % 2 == 1 && k <= LARGEST_WINDOW => Ok(k),
            k => Err(self.layer.error(format!("the kernel must be odd and at most {LARGEST_WINDOW}, got {k}"))),
        }
    }
    /// A block, repeated as a chain.
    pub fn chain(&mut self, mut step: impl FnMut(&mut Blocks, &str, &Feature) -> Result<Feature>) -> Result<Made> {
        if self.repeats == 1 {
            return step(self.b, &self.scope, &self.inputs[0]).map(Made::Feature);
        }
        let mut y = self.inputs[0].clone();
        for i in 0..self.repeats {
            y = step(self.b, &under(&self.scope, &i.to_string()), &y)?;
        }
        Ok(Made::Feature(y))
    }
    /// The end of a classifier.
    pub fn logits(&mut self, output: String) -> Made {
        self.b.graph.output(&output);
        let (classes, image_size) = (self.plan.classes.clone(), self.plan.image);
        Made::End(Box::new(Task::Classify(Classify { classes, image_size, output, preprocess: Preprocess::default() })))
    }
    /// Input pixels per cell of each level: as the file says, which must be true, or as the layers made them.
    pub fn strides(&self) -> Result<Vec<usize>> {
        let (stated, image) = (&self.plan.arch.strides, self.plan.image);
        if !stated.is_empty() && stated.len() != self.inputs.len() {
            return Err(self.layer.error(format!("has {} levels, but 'strides' lists {}", self.inputs.len(), stated.len())));
        }
        let one = |(i, f): (usize, &Feature)| {
            let found = image[0] / f.size[0].max(1);
            let stride = stated.get(i).copied().unwrap_or(found.max(1));
            if f.size == image.map(|n| n / stride) && image.iter().all(|n| n % stride == 0) {
                return Ok(stride);
            }
            let expected = image.map(|n| n / stride);
            Err(self.layer.error(format!("expects a map of 1/{stride} of the image, {expected:?}, got {:?}", f.size)))
        };
        self.inputs.iter().enumerate().map(one).collect()
    }
}

/// `name` under `scope`, which may be empty.
pub fn under(scope: &str, name: &str) -> String {
    if scope.is_empty() { name.to_string() } else { format!("{scope}.{name}") }
}
