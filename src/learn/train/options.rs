//! Options of training.

use crate::error::{Error, Result};
use crate::learn::data::Augment;
use crate::operation::{Arg, Options as _, Signature, in_range};

crate::choice! {
    /// How weights follow their gradients.
    pub enum OptimizerKind {
        /// AdamW for up to 10 000 steps, SGD beyond; the learning rate, unless given, fits the choice.
        Auto = "auto",
        Sgd = "sgd",
        Adam = "adam",
        AdamW = "adamw",
    }
}

crate::choice! {
    /// How the learning rate falls after the warm-up.
    pub enum ScheduleKind { Cosine = "cosine", Linear = "linear", Constant = "constant" }
}

crate::options! {
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
        /// Epochs over which the learning rate rises (at most a fifth of all).
        pub warmup: f64 = 1.0,
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
        /// Side of the square training images in pixels; left out: the model's image size.
        pub image_size: Option<usize> = None,
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
        /// Epochs at the end without mosaic.
        pub close_mosaic: usize = 5,
        /// Threads that prepare images; left out: those of the session.
        pub workers: Option<usize> = None,
        /// Stop after this many epochs without a better validation; 0: never.
        pub patience: usize = 50,
        /// Epochs between validations (where there is a validation set); 0: only after the last.
        pub validate_every: usize = 1,
    }
}

impl Train {
    /// What `help("train")` says.
    pub const SIGNATURE: Signature = Signature {
        name: "train",
        summary: "Trains a detector or classifier and returns it with the history of its losses and scores.",
        group: "models",
        args: &[Arg::new("model", "model"), Arg::new("data", "dataset"), Arg::optional("val", "dataset")],
        returns: "model, with its history",
        fields: Self::FIELDS,
        examples: &[
            "let m = model(\"yolov8n\", #{ classes: 3, image_size: 64, width: 0.0625, depth: 0.33 });\nlet d = dataset(\"shapes\", #{ images: 8 });\nlet t = train(m, d, #{ epochs: 1, batch: 4 });",
        ],
        keywords: &["fit", "fine-tune", "learn", "epochs", "sgd", "adamw", "loss"],
    };

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
            scale: self.scale,
            translate: self.translate,
        })
    }

    /// Checks every option.
    ///
    /// # Errors
    /// `Argument`, naming the first option that is out of range.
    pub fn validate(&self) -> Result<()> {
        for (name, value) in [("epochs", self.epochs), ("batch", self.batch)] {
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
        match self.image_size {
            Some(0) => Err(Error::argument("option 'image_size' must be at least 1, got 0")),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operation::decode;
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
