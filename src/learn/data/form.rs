//! The form in which a model takes images: how many channels, and how an image fits into its input.

use super::{Letterbox, letterbox, to_chw};
use compresso_base::error::{Error, Result};
use compresso_model::{Graph, Preprocess, Task, image_channels};
use image::{RgbImage, imageops};

/// How images are read for a model.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageForm {
    /// 1: grey, 3: red, green, blue, 4: these and opacity.
    pub channels: usize,
    /// How the middle of an image is cut out; `None`: the whole image, padded.
    pub middle: Option<Preprocess>,
}

impl Default for ImageForm {
    fn default() -> Self {
        Self { channels: 3, middle: None }
    }
}

impl ImageForm {
    /// What a graph takes for this task; three channels where it does not say.
    pub fn of(graph: &Graph, task: &Task) -> Self {
        Self { channels: image_channels(graph).unwrap_or(3), ..Self::of_task(task) }
    }
    /// What a model of this task takes, of three channels.
    pub fn of_task(task: &Task) -> Self {
        let middle = task.classify().map(|c| &c.preprocess).filter(|p| p.crops()).cloned();
        Self { middle, ..Self::default() }
    }
    /// Whether images are read with their opacity.
    pub fn is_opacity_read(&self) -> bool {
        self.channels == 4
    }

    /// An image at `[height, width]`.
    ///
    /// # Errors
    /// `Format` for an image so long that it would not fit into memory once it is scaled.
    pub fn fit(&self, image: &RgbImage, size: [usize; 2]) -> Result<(RgbImage, Letterbox)> {
        match self.middle.as_ref().and_then(|p| p.shorter(size)) {
            Some(shorter) => Ok((middle(image, shorter, size)?, Letterbox::fit(image.dimensions(), size))),
            None => Ok(letterbox(image, size)),
        }
    }

    /// Appends an image to `out` as `[channels, height, width]`, 0 to 1. `opacity` is a grey image of the same size; opaque
    /// when left out.
    pub fn append(&self, image: &RgbImage, opacity: Option<&RgbImage>, out: &mut Vec<f32>) {
        match self.channels {
            1 => out.extend(image.pixels().map(|p| f32::from(grey(p.0)) / 255.0)),
            4 => {
                to_chw(image, out);
                match opacity {
                    Some(opacity) => out.extend(opacity.pixels().map(|p| f32::from(p.0[0]) / 255.0)),
                    None => out.extend(std::iter::repeat_n(1.0, image.pixels().len())),
                }
            }
            _ => to_chw(image, out),
        }
    }
}

/// The brightness of a colour (ITU-R BT.601), as OpenCV has it.
fn grey([r, g, b]: [u8; 3]) -> u8 {
    (0.299 * f32::from(r) + 0.587 * f32::from(g) + 0.114 * f32::from(b)).round() as u8
}

/// The middle of an image whose shorter side is scaled to `shorter` pixels, smoothed where it shrinks, as torchvision's
/// `Resize` and `CenterCrop` give it; black where the image ends.
fn middle(image: &RgbImage, shorter: usize, [height, width]: [usize; 2]) -> Result<RgbImage> {
    let (w, h) = (u64::from(image.width()), u64::from(image.height()));
    let (short, n) = (w.min(h).max(1), shorter as u64);
    let (w, h) = (n * w / short, n * h / short);
    if w.saturating_mul(h) > super::MAX_PIXELS {
        let (own_w, own_h) = image.dimensions();
        return Err(Error::format(format!("the image is {own_w}×{own_h} pixels, {w}×{h} once its shorter side has {n}")));
    }
    let scaled = imageops::resize(image, w as u32, h as u32, imageops::FilterType::Triangle);
    let mut out = RgbImage::new(width as u32, height as u32);
    // Where the cut begins; below 0 where black is put around.
    let start = |has: u64, wanted: usize| {
        let room = has as f64 - wanted as f64;
        if room >= 0.0 { (room / 2.0).round_ties_even() as i64 } else { -((-room / 2.0).floor() as i64) }
    };
    imageops::replace(&mut out, &scaled, -start(w, width), -start(h, height));
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::Rgb;

    /// Values of torchvision's `Resize(s)`, `CenterCrop((h, w))` of a PIL image: see `tests/fixtures/letterbox/middle.py`.
    #[test]
    fn the_middle_is_torchvisions() {
        let text = include_str!("../../../tests/fixtures/letterbox/middle.json");
        let cases: Vec<serde_json::Value> = serde_json::from_str(text).unwrap();
        assert!(cases.len() >= 6);
        for case in cases {
            let n = |key: &str, i: usize| case[key][i].as_u64().unwrap() as usize;
            let image = RgbImage::from_fn(n("image", 1) as u32, n("image", 0) as u32, |x, y| {
                Rgb([(x * 37 % 256) as u8, (y * 53 % 256) as u8, (x * y * 7 % 256) as u8])
            });
            let got = middle(&image, case["resize"].as_u64().unwrap() as usize, [n("crop", 0), n("crop", 1)]).unwrap();
            let wanted: Vec<u8> = case["values"].as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as u8).collect();
            assert_eq!(got.as_raw().len(), wanted.len(), "{case}");
            let far = got.as_raw().iter().zip(&wanted).filter(|(a, b)| a.abs_diff(**b) > 1).count();
            assert_eq!(far, 0, "{} → {} → {}", case["image"], case["resize"], case["crop"]);
        }
        assert!(middle(&RgbImage::new(1, 60_000), 256, [224, 224]).unwrap_err().to_string().contains("1×60000"));
    }

    #[test]
    fn channels_follow_the_form() {
        let image = RgbImage::from_fn(2, 1, |x, _| Rgb([[255, 0, 0], [90, 90, 90]][x as usize]));
        let opacity = RgbImage::from_fn(2, 1, |x, _| Rgb([[0; 3], [51; 3]][x as usize]));
        let of = |channels, opacity| {
            let mut out = Vec::new();
            ImageForm { channels, middle: None }.append(&image, opacity, &mut out);
            out.iter().map(|v| (v * 255.0).round() as u8).collect::<Vec<u8>>()
        };
        assert_eq!(of(1, None), [76, 90]);
        assert_eq!(of(3, None), [255, 90, 0, 90, 0, 90]);
        assert_eq!(of(4, Some(&opacity)), [255, 90, 0, 90, 0, 90, 0, 51]);
        assert_eq!(of(4, None), [255, 90, 0, 90, 0, 90, 255, 255]);
    }
}
