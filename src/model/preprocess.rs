//! How an image becomes the input of a model that was trained elsewhere.

use compresso_base::error::{Error, Result};
use compresso_base::operation::{OptionKind, OptionValue, changed, decode};
use serde::{Deserialize, Serialize};

compresso_base::options! {
    /// How an image becomes the input of a model that was trained elsewhere, where that is not pixels from 0 to 1 of the
    /// whole image, padded.
    #[derive(PartialEq)]
    pub struct Preprocess {
        /// The model takes blue, green, red, not red, green, blue.
        pub bgr: bool = false,
        /// Factor on pixel values, which are 0 to 1: 255 for a model that takes bytes.
        pub scale: f64 = 1.0,
        /// What is then taken off each channel, or all of them: one number for each channel, or one.
        pub mean: Vec<f64> = Vec::new(),
        /// What each channel, or all of them, is then divided by.
        pub std: Vec<f64> = Vec::new(),
        /// Of a classifier: pixels of the shorter side after scaling. The middle of the image is then cut out.
        pub resize: Option<usize> = None,
        /// Of a classifier: pixels of the cut-out square, which are those of the model's input; or, up to 1, its part of the
        /// shorter side (timm's `crop_pct`), in place of 'resize'.
        pub crop: Option<f64> = None,
    }
}

impl Preprocess {
    /// What classifiers that were trained on ImageNet by torchvision and timm mostly take: scaled to 256 pixels for an input of 224
    /// (in that proportion for others), the middle cut out, means and deviations of ImageNet's channels taken off.
    pub fn imagenet() -> Self {
        Self { mean: vec![0.485, 0.456, 0.406], std: vec![0.229, 0.224, 0.225], crop: Some(224.0 / 256.0), ..Self::default() }
    }
    /// Nothing is to be done.
    pub fn is_plain(&self) -> bool {
        *self == Self::default()
    }
    /// Whether the middle of the image is taken, not all of it with padding.
    pub fn crops(&self) -> bool {
        self.resize.is_some() || self.crop.is_some()
    }
    /// The side of the input in pixels, where 'crop' says it.
    pub fn side(&self) -> Option<usize> {
        self.crop.filter(|c| *c > 1.0).map(|c| c as usize)
    }
    /// Pixels of the shorter side after scaling, for an input of this height and width; `None` for the whole image, padded.
    pub fn shorter(&self, [height, width]: [usize; 2]) -> Option<usize> {
        let side = height.max(width);
        match (self.resize, self.crop) {
            (Some(n), _) => Some(n),
            // As timm does.
            (None, Some(part)) if part <= 1.0 => Some((side as f64 / part + 1e-6).floor() as usize),
            (None, Some(_)) => Some(side),
            (None, None) => None,
        }
    }

    /// Checks that the parts fit together, and the model's number of channels where it is known.
    ///
    /// # Errors
    /// `Argument`, naming the part.
    pub fn check(&self, channels: Option<usize>) -> Result<()> {
        let wrong = |text: String| Err(Error::argument(text).at("option 'preprocess'"));
        for (name, list) in [("mean", &self.mean), ("std", &self.std)] {
            let many = list.len() > 1 && channels.is_some_and(|c| c != list.len());
            if many || list.len() > 4 || list.iter().any(|v| !v.is_finite()) {
                let each = channels.map_or("each".to_string(), |c| format!("each of {c}"));
                return wrong(format!("'{name}' must be one number, or one for {each} channels, got {list:?}"));
            }
        }
        if self.std.iter().any(|s| *s <= 0.0) || !self.scale.is_finite() || self.scale <= 0.0 {
            return wrong("'std' and 'scale' must be above 0".into());
        }
        // Means of bytes with pixels of 0 to 1 would make all images alike.
        if self.mean.iter().any(|m| m.abs() > self.scale) {
            let e = Error::argument(format!("'mean' is {:?}, but pixel values are 0 to {}", self.mean, self.scale));
            return Err(e.hint("add scale: 255 where mean and std are those of bytes").at("option 'preprocess'"));
        }
        if self.crop.is_some_and(|c| !c.is_finite() || c < 0.05 || c > 1.0 && (c.fract() != 0.0 || !(8.0..=8192.0).contains(&c))) {
            return wrong(format!("'crop' must be a part of the shorter side, 0.05 to 1, or whole pixels, 8 to 8192, got {:?}", self.crop));
        }
        if self.resize.is_some_and(|n| !(8..=8192).contains(&n)) {
            return wrong(format!("'resize' must be 8 to 8192 pixels, got {:?}", self.resize));
        }
        if self.resize.is_some() && self.crop.is_some_and(|c| c <= 1.0) {
            return wrong("'resize' says the shorter side, so 'crop' cannot be a part of it".into());
        }
        Ok(())
    }
}

/// A [`Preprocess`] as an option: a name, or a map.
#[derive(Debug, Clone, PartialEq)]
pub struct PreprocessOption(pub Preprocess);

/// The names that stand for one.
const NAMES: &[&str] = &["imagenet"];

impl OptionValue for PreprocessOption {
    const KIND: OptionKind = OptionKind::ChoiceOrMap(NAMES);
}

impl Serialize for PreprocessOption {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        if self.0 == Preprocess::imagenet() { serializer.serialize_str("imagenet") } else { changed(&self.0).serialize(serializer) }
    }
}

impl<'de> Deserialize<'de> for PreprocessOption {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        use serde::de::Error as _;
        let value = serde_json::Value::deserialize(deserializer)?;
        match value.as_str() {
            Some("imagenet") => Ok(Self(Preprocess::imagenet())),
            Some(other) => Err(D::Error::custom(format!("expected a map or one of {}, got '{other}'", NAMES.join(", ")))),
            None => decode::<Preprocess>(value).map(Self).map_err(D::Error::custom),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(value: serde_json::Value) -> Preprocess {
        serde_json::from_value::<PreprocessOption>(value).unwrap().0
    }

    #[test]
    fn sizes_follow_torchvision_and_timm() {
        let imagenet = of(json!("imagenet"));
        assert_eq!((imagenet.shorter([224, 224]), imagenet.shorter([288, 288]), imagenet.side()), (Some(256), Some(329), None));
        assert_eq!(of(json!({ "crop": 0.95 })).shorter([224, 224]), Some(235));
        assert_eq!(of(json!({ "resize": 232, "crop": 224 })).shorter([224, 224]), Some(232));
        assert_eq!(of(json!({ "crop": 200 })).shorter([200, 200]), Some(200));
        assert_eq!(of(json!({ "mean": [0.5] })).shorter([200, 200]), None);
        assert!(of(json!({})).is_plain() && !imagenet.is_plain());
        for value in [json!("imagenet"), json!({ "mean": [0.5], "crop": 0.9 }), json!({})] {
            assert_eq!(json!(PreprocessOption(of(value.clone()))), value);
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for (value, part) in [
            (json!({ "mean": [0.5, 0.5] }), "one for each of 3 channels"),
            (json!({ "mean": [123.675, 116.28, 103.53] }), "add scale: 255"),
            (json!({ "std": [0.0] }), "above 0"),
            (json!({ "scale": -1.0 }), "above 0"),
            (json!({ "crop": 0.0 }), "'crop'"),
            (json!({ "crop": 224.5 }), "'crop'"),
            (json!({ "resize": 1 }), "'resize'"),
            (json!({ "resize": 256, "crop": 0.875 }), "part of it"),
        ] {
            let text = of(value.clone()).check(Some(3)).unwrap_err().to_string();
            assert!(text.contains(part), "{value}: {text}");
        }
        of(json!({ "mean": [123.675, 116.28, 103.53], "scale": 255 })).check(Some(3)).unwrap();
        let unknown = serde_json::from_value::<PreprocessOption>(json!("imagnet")).unwrap_err().to_string();
        assert!(unknown.contains("imagenet"), "{unknown}");
    }
}
