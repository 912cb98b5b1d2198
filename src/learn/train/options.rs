//! Options of training.

use crate::data::Augment;
use compresso_base::error::{Error, Result};
use compresso_base::operation::{OptionKind, OptionValue, in_range};
use compresso_model::classes::ClassMatch;
use compresso_model::ops::MixedPrecision;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

compresso_base::choice! {
    /// How weights follow their gradients.
    pub enum OptimizerKind {
        /// AdamW for up to 10 000 steps, SGD beyond; the learning rate, unless given, fits the choice.
        Auto = "auto",
        /// SGD with Nesterov's momentum.
        Sgd = "sgd",
        /// Adam (Kingma & Ba 2015).
        Adam = "adam",
        /// Adam with weight decay of its own (Loshchilov & Hutter 2019).
        AdamW = "adamw",
    }
}

compresso_base::choice! {
    /// How the learning rate falls after the warm-up.
    pub enum ScheduleKind {
        /// Along half a cosine, to the last rate.
        Cosine = "cosine",
        /// In a straight line, to the last rate.
        Linear = "linear",
        /// Not at all.
        Constant = "constant",
    }
}

compresso_base::choice! {
    /// What becomes of the scales of a quantized model in training.
    pub enum ScaleKind {
        /// They stay as they are.
        Fixed = "fixed",
        /// They are trained too (LSQ, Esser et al. 2020).
        Learned = "learned",
    }
}

/// What stays as it is: the first layers (`model.0`, `model.1`, … of the YOLO family), or the parameters whose names begin
/// with one of these.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Freeze {
    /// The layers `model.0`, `model.1`, … below this number.
    Layers(usize),
    /// Parameters with one of these names, or whose names begin with one of them and a dot.
    Names(Vec<String>),
}

impl OptionValue for Freeze {
    const KIND: OptionKind = OptionKind::Any;
}

impl Freeze {
    /// Whether a parameter stays as it is.
    ///
    /// ```
    /// use compresso_learn::train::Freeze;
    /// assert!(Freeze::Layers(2).holds("model.1.conv.weight") && !Freeze::Layers(2).holds("model.12.conv.weight"));
    /// assert!(Freeze::Names(vec!["model.4".into()]).holds("model.4.cv1.conv.weight"));
    /// assert!(!Freeze::Names(vec!["model.4".into()]).holds("model.40.conv.weight"));
    /// ```
    pub fn holds(&self, name: &str) -> bool {
        let below = |scope: &str| name.strip_prefix(scope).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        match self {
            Self::Layers(n) => {
                name.strip_prefix("model.").and_then(|rest| rest.split('.').next()?.parse::<usize>().ok()).is_some_and(|layer| layer < *n)
            }
            Self::Names(names) => names.iter().any(|n| below(n.trim_end_matches('.'))),
        }
    }
}

compresso_base::options! {
    /// Options of [`train`](super::train).
    pub struct Train {
        /// Passes over the training images.
        pub epochs: usize = 20,
        /// Images per step.
        pub batch: usize = 16,
        /// Highest learning rate; left out: 0.01 for SGD, 0.001 for Adam, 0.002 for AdamW.
        pub learning_rate: Option<f64> = None,
        /// Update rule.
        pub optimizer: OptimizerKind = OptimizerKind::Auto,
        /// Momentum of SGD, first decay rate of Adam and AdamW; left out: 0.937 for SGD, 0.9 for the others.
        pub momentum: Option<f64> = None,
        /// Decay of weights; biases and norms do not decay.
        pub weight_decay: f64 = 5e-4,
        /// Batches whose gradients are added up for one step.
        pub accumulate: usize = 1,
        /// Epochs over which the learning rate rises (at most a fifth of all).
        pub warmup: f64 = 1.0,
        /// Momentum at the start of the warm-up; left out: as after it.
        pub warmup_momentum: Option<f64> = None,
        /// Learning rate of biases at the start of the warm-up, from which it falls or rises to that of all.
        pub warmup_bias: f64 = 0.0,
        /// Fall of the learning rate.
        pub schedule: ScheduleKind = ScheduleKind::Cosine,
        /// Last learning rate as a share of the highest.
        pub final_rate: f64 = 0.01,
        /// Judge and keep a moving average of the weights.
        pub ema: bool = true,
        /// Decay of the moving average once it has settled.
        pub ema_decay: f64 = 0.9999,
        /// Steps over which the average's decay rises: decay · (1 − exp(−step / this)).
        pub ema_ramp: f64 = 2000.0,
        /// Largest norm of all gradients together; 0: no limit.
        pub clip: f64 = 10.0,
        /// Share of the target that is spread over all classes (classification).
        pub label_smoothing: f64 = 0.0,
        /// "same": model and data must have the same classes, by name, in any order. "shared": at least one; objects (or images) of
        /// classes that the model lacks are left out, and it learns that there are none of the classes that the data lacks.
        pub classes: ClassMatch = ClassMatch::Same,
        /// What stays as it is: the number of first layers (of the YOLO family), or a list of names such as "model.4".
        /// Norms there still follow their batches.
        pub freeze: Option<Freeze> = None,
        /// Keep every zero of the weights, for models that were made sparse elsewhere. Where `prune` with method "weights" made
        /// the zeros, the model says so and they are kept anyway.
        pub keep_zeros: bool = false,
        /// Of a quantized model: "fixed" leaves the scales of weights and activations as they are, "learned" trains them too (LSQ, Esser et al.
        /// 2020).
        pub scales: ScaleKind = ScaleKind::Fixed,
        /// Numbers of convolutions and matrix products: "float32", "bfloat16", or "float16" with a scaled loss, whose
        /// overflowing steps are left out. On the CPU the short numbers are imitated, for study, not for speed.
        pub precision: MixedPrecision = MixedPrecision::Float32,
        /// Side of the square training images in pixels; left out: the model's image size.
        pub image_size: Option<usize> = None,
        /// Largest relative change of the image size from batch to batch; 0.5 trains at half to one and a half of it. Not
        /// for models with a layer for one image size, such as YOLO11's attention.
        pub multi_scale: f64 = 0.0,
        /// Vary images at random, in the ways that follow.
        pub augment: bool = true,
        /// Chance of putting four images together (detection).
        pub mosaic: f64 = Augment::default().mosaic,
        /// Chance of mirroring left and right.
        pub hflip: f64 = Augment::default().hflip,
        /// Chance of mirroring top and bottom.
        pub vflip: f64 = Augment::default().vflip,
        /// Largest turn of the hue, as a part of the colour circle.
        pub hue: f64 = Augment::default().hue,
        /// Largest relative change of saturation.
        pub saturation: f64 = Augment::default().saturation,
        /// Largest relative change of brightness.
        pub value: f64 = Augment::default().value,
        /// Largest relative change of size.
        pub scale: f64 = Augment::default().scale,
        /// Largest shift, as a part of the image's side.
        pub translate: f64 = Augment::default().translate,
        /// Largest turn, in degrees.
        pub degrees: f64 = Augment::default().degrees,
        /// Largest shear along each axis, in degrees.
        pub shear: f64 = Augment::default().shear,
        /// Largest change of scale from pixel to pixel that a slanted view makes; 0.001 is strong.
        pub perspective: f64 = Augment::default().perspective,
        /// Chance of blending an image with another (detection).
        pub mixup: f64 = Augment::default().mixup,
        /// Epochs at the end without mosaic and mixup.
        pub close_mosaic: usize = 5,
        /// Threads that prepare images; left out: those of the session.
        #[replayed = null]
        pub workers: Option<usize> = None,
        /// Stop after this many epochs without a better validation; 0: never.
        pub patience: usize = 50,
        /// Epochs between validations (where there is a validation set); 0: only after the last.
        pub validate_every: usize = 1,
        /// File (.safetensors) that holds the whole state of the training, written after each epoch.
        #[replayed = null]
        pub checkpoint: Option<PathBuf> = None,
        /// Folder for an event file of TensorBoard, which gets the losses and scores of each epoch.
        #[replayed = null]
        pub tensorboard: Option<PathBuf> = None,
        /// Go on from the checkpoint where there is one, to the same result as without the interruption.
        #[replayed = false]
        pub resume: bool = false,
    }
}

impl Train {
    /// How images are varied in an epoch, counted from 0.
    pub fn augmentation(&self, epoch: usize) -> Option<Augment> {
        let closed = epoch + self.close_mosaic >= self.epochs;
        self.augment.then_some(Augment {
            hflip: self.hflip,
            vflip: self.vflip,
            hue: self.hue,
            saturation: self.saturation,
            value: self.value,
            mosaic: if closed { 0.0 } else { self.mosaic },
            mixup: if closed { 0.0 } else { self.mixup },
            scale: self.scale,
            translate: self.translate,
            degrees: self.degrees,
            shear: self.shear,
            perspective: self.perspective,
        })
    }

    /// Checks every option.
    ///
    /// # Errors
    /// `Argument`, naming the first option that is out of range.
    pub fn validate(&self) -> Result<()> {
        for (name, value) in [("epochs", self.epochs), ("batch", self.batch), ("accumulate", self.accumulate)] {
            if value == 0 {
                return Err(Error::argument(format!("option '{name}' must be at least 1, got 0")));
            }
        }
        if let Some(rate) = self.learning_rate {
            in_range("learning_rate", rate, (std::ops::Bound::Excluded(0.0), std::ops::Bound::Excluded(f64::INFINITY)))?;
        }
        if let Some(momentum) = self.momentum {
            in_range("momentum", momentum, 0.0..1.0)?;
        }
        if let Some(momentum) = self.warmup_momentum {
            in_range("warmup_momentum", momentum, 0.0..1.0)?;
        }
        in_range("warmup_bias", self.warmup_bias, 0.0..=1.0)?;
        in_range("multi_scale", self.multi_scale, 0.0..=0.75)?;
        in_range("weight_decay", self.weight_decay, 0.0..1.0)?;
        in_range("warmup", self.warmup, 0.0..f64::INFINITY)?;
        in_range("final_rate", self.final_rate, 0.0..=1.0)?;
        in_range("ema_decay", self.ema_decay, 0.0..1.0)?;
        in_range("ema_ramp", self.ema_ramp, (std::ops::Bound::Excluded(0.0), std::ops::Bound::Excluded(f64::INFINITY)))?;
        in_range("clip", self.clip, 0.0..f64::INFINITY)?;
        in_range("label_smoothing", self.label_smoothing, 0.0..1.0)?;
        if let Some(augment) = (Self { close_mosaic: 0, ..self.clone() }).augmentation(0) {
            augment.check()?;
        }
        match &self.checkpoint {
            Some(path) if path.extension().is_none_or(|e| e != "safetensors") => {
                return Err(Error::argument(format!("option 'checkpoint' must end in .safetensors, got \"{}\"", path.display())));
            }
            None if self.resume => {
                return Err(Error::argument("option 'resume' needs the file of option 'checkpoint'"));
            }
            _ => {}
        }
        match self.image_size {
            Some(0) => Err(Error::argument("option 'image_size' must be at least 1, got 0")),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use compresso_base::operation::decode;
    use serde_json::json;

    #[test]
    fn options_out_of_range_are_named() {
        let text = |v| decode::<Train>(v).unwrap().validate().unwrap_err().to_string();
        assert_eq!(text(json!({ "epochs": 0 })), "option 'epochs' must be at least 1, got 0");
        assert_eq!(text(json!({ "learning_rate": -1.0 })), "option 'learning_rate' must be above 0 and below inf, got -1");
        assert_eq!(text(json!({ "mosaic": 1.5 })), "option 'mosaic' must be at least 0 and at most 1, got 1.5");
        assert!(decode::<Train>(json!({})).unwrap().validate().is_ok());
    }
}
