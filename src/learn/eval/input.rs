//! Images as the input of a model.

use candle_core::{Device, Tensor};
use compresso_base::error::{Error, Result};
use compresso_model::{Classify, Decode, Detect, Element, Fact, IMAGE_CHANNELS, Task, Value, has_channels_last};

/// The axes of an image input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputForm {
    /// `[batch, channels, height, width]`.
    ChannelsFirst,
    /// `[batch, height, width, channels]`.
    ChannelsLast,
    /// `[channels, height, width]`, an image at a time.
    One,
}

impl InputForm {
    /// The form of an input; batches of channels, rows and columns where it does not say.
    pub fn of(fact: &Fact) -> Self {
        let size = |axis: usize| fact.shape.as_ref()?.get(axis)?.known();
        match fact.rank() {
            Some(3) => Self::One,
            Some(4) if has_channels_last(size) => Self::ChannelsLast,
            _ => Self::ChannelsFirst,
        }
    }

    /// The form of an input that images can be fed to; `None` for others.
    pub fn of_images(fact: &Fact) -> Option<Self> {
        let form = Self::of(fact);
        let (rank, channels) = match form {
            Self::ChannelsFirst => (4, 1),
            Self::ChannelsLast => (4, 3),
            Self::One => (3, 0),
        };
        let fits =
            fact.rank() == Some(rank) && fact.dim(channels).is_none_or(|c| IMAGE_CHANNELS.contains(&c)) && fact.element.storage().is_some();
        fits.then_some(form)
    }

    /// Height and width, where the input says them.
    pub fn size(self, fact: &Fact) -> [Option<usize>; 2] {
        let first = if self == Self::ChannelsFirst { 2 } else { 1 };
        [fact.dim(first), fact.dim(first + 1)]
    }

    /// How many images the input takes at a time, where it says that.
    pub fn batch(self, fact: &Fact) -> Option<usize> {
        if self == Self::One { Some(1) } else { fact.dim(0).filter(|&d| d > 0) }
    }

    /// What is fed for images `[n, channels, height, width]`, 0 to 1: as the task says (see [`model_input`]), with the input's axes and
    /// numbers.
    ///
    /// # Errors
    /// `Shape` for several images where the input takes one; those of [`model_input`].
    pub fn feed(self, task: &Task, fact: &Fact, images: &Tensor) -> Result<Value> {
        let storage = fact.element.storage().ok_or_else(|| Error::dtype(format!("a {} input cannot be fed", fact.element)))?;
        let images = model_input(task, images)?;
        // Bytes are 0 to 255, also where nothing says so.
        let plain = steps(task).is_none_or(|(_, scale, mean, std)| scale == 1.0 && mean.is_empty() && std.is_empty());
        let images = if fact.element == Element::U8 && plain { (images * 255.0)? } else { images };
        // A byte that was divided by 255 is a whole number again only when it is rounded.
        let images = if fact.element.is_int() { images.round()? } else { images }.to_dtype(storage)?;
        let images = match self {
            Self::ChannelsFirst => images.contiguous()?,
            Self::ChannelsLast => images.permute((0, 2, 3, 1))?.contiguous()?,
            Self::One if images.dim(0)? == 1 => images.squeeze(0)?.contiguous()?,
            Self::One => return Err(Error::shape(format!("the model takes one image at a time, got {}", images.dim(0)?))),
        };
        Value::new(fact.element, images)
    }
}

/// What a task does to images of 0 to 1, where it can say that: blue before red, factor, means, deviations.
fn steps(task: &Task) -> Option<(bool, f64, &[f64], &[f64])> {
    match task {
        Task::Classify(Classify { preprocess: p, .. }) => Some((p.bgr, p.scale, &p.mean, &p.std)),
        Task::Detect(Detect { decode: Decode::Described(d), .. }) => Some((d.bgr, d.scale, &d.mean, &d.std)),
        _ => None,
    }
}

/// Images `[n, channels, height, width]`, 0 to 1, as the model was trained on: its task says order, range and
/// normalization.
///
/// # Errors
/// `Shape` when the task has numbers for another number of channels.
pub fn model_input(task: &Task, images: &Tensor) -> Result<Tensor> {
    let Some((bgr, scale, mean, std)) = steps(task) else { return Ok(images.clone()) };
    let channels = images.dim(1)?;
    let mut images = images.clone();
    if bgr && channels >= 3 {
        let order: Vec<Tensor> = [2, 1, 0].into_iter().chain(3..channels).map(|c| images.narrow(1, c, 1)).collect::<Result<_, _>>()?;
        images = Tensor::cat(&order, 1)?;
    }
    if scale != 1.0 {
        images = (images * scale)?;
    }
    let each = |name: &str, v: &[f64]| -> Result<Option<Tensor>> {
        match v.len() {
            0 => return Ok(None),
            n if n == 1 || n == channels => {}
            n => return Err(Error::shape(format!("'{name}' has {n} numbers, the images have {channels} channels"))),
        }
        let tensor = Tensor::new(v, &Device::Cpu)?.to_dtype(images.dtype())?.to_device(images.device())?;
        Ok(Some(tensor.reshape((1, v.len(), 1, 1))?))
    };
    let (mean, std) = (each("mean", mean)?, each("std", std)?);
    if let Some(mean) = mean {
        images = images.broadcast_sub(&mean)?;
    }
    if let Some(std) = std {
        images = images.broadcast_div(&std)?;
    }
    Ok(images)
}
