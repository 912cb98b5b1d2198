//! Augmentation: mosaic, scaling and shifting, flips, colour jitter.
//!
//! What happens to an image depends only on the seed, the epoch and the image's index, never on threads. Scaling,
//! shifting and mosaic are one resampling from the original pixels.

use super::letterbox::draw_layer;
use super::{BBox, DataKind, Dataset, Layer, Letterbox, PAD, Sample, Target};
use crate::error::{At, Result};
use crate::operation::{OptionKind, OptionValue, in_range};
use image::RgbImage;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

crate::options! {
    /// How training images are varied.
    pub struct Augment {
        /// Chance of mirroring left and right.
        pub hflip: f64 = 0.5,
        /// Chance of mirroring top and bottom.
        pub vflip: f64 = 0.0,
        /// Largest turn of the hue, as a part of the colour circle.
        pub hue: f64 = 0.015,
        /// Largest relative change of saturation.
        pub saturation: f64 = 0.7,
        /// Largest relative change of brightness.
        pub value: f64 = 0.4,
        /// Chance of putting four images together (detection only).
        pub mosaic: f64 = 1.0,
        /// Largest relative change of size.
        pub scale: f64 = 0.5,
        /// Largest shift, as a part of the image's side.
        pub translate: f64 = 0.1,
    }
}

impl OptionValue for Augment {
    const KIND: OptionKind = OptionKind::Map;
}

/// A box cut by the image's edge is kept when this part of its area is left, …
const LEAST_AREA: f32 = 0.1;
/// … it is at least this wide and high in pixels …
const LEAST_SIDE: f32 = 2.0;
/// … and not thinner than this.
const MOST_ASPECT: f32 = 100.0;

/// One image ready for a batch.
pub(super) struct Fitted {
    pub image: RgbImage,
    pub targets: Vec<Target>,
    pub label: Option<usize>,
    pub letterbox: Letterbox,
}

impl Augment {
    /// # Errors
    /// `Argument` for a chance outside 0 to 1 or an amount out of range.
    pub fn check(&self) -> Result<()> {
        for (name, v) in [("hflip", self.hflip), ("vflip", self.vflip), ("mosaic", self.mosaic)] {
            in_range(name, v, 0.0..=1.0)?;
        }
        for (name, v) in [("saturation", self.saturation), ("value", self.value), ("translate", self.translate)] {
            in_range(name, v, 0.0..=1.0)?;
        }
        in_range("hue", self.hue, 0.0..=0.5)?;
        in_range("scale", self.scale, 0.0..1.0)
    }

    /// Image `i` of `data` at `[height, width]`, varied by the numbers of `r`.
    pub(super) fn apply(&self, data: &Dataset, i: usize, size: [usize; 2], r: &mut ChaCha8Rng) -> Result<Fitted> {
        let place = || format!("dataset '{}'", data.name);
        let first = data.source.get_at(i, size).at(place)?;
        let label = first.label;
        let letterbox = Letterbox::fit(first.image.dimensions(), size);
        let layers = if data.kind == DataKind::Detection && r.random_bool(self.mosaic) {
            let mut tiles = vec![first];
            while tiles.len() < 4 {
                // An unreadable neighbour is replaced; it is reported when its own turn comes.
                let other = r.random_range(0..data.len());
                let tile = data.source.get_at(other, size).unwrap_or_else(|_| tiles[0].clone());
                tiles.push(tile);
            }
            self.mosaic(tiles, size, r)
        } else {
            self.single(first, size, r)
        };
        let mut image = RgbImage::from_pixel(size[1] as u32, size[0] as u32, PAD);
        let mut targets = Vec::new();
        for (sample, layer) in &layers {
            draw_layer(&mut image, &sample.image, layer);
            targets.extend(sample.targets.iter().filter_map(|t| Some(Target { class: t.class, bbox: kept(layer.map(t.bbox), layer)? })));
        }
        self.flip(&mut image, &mut targets, r);
        self.jitter(&mut image, r);
        Ok(Fitted { image, targets, label, letterbox })
    }

    fn gain_and_shift(&self, size: [usize; 2], r: &mut ChaCha8Rng) -> (f64, f64, f64) {
        let gain = 1.0 + self.scale * r.random_range(-1.0..=1.0);
        let tx = self.translate * size[1] as f64 * r.random_range(-1.0..=1.0);
        let ty = self.translate * size[0] as f64 * r.random_range(-1.0..=1.0);
        (gain, tx, ty)
    }

    fn single(&self, sample: Sample, size: [usize; 2], r: &mut ChaCha8Rng) -> Vec<(Sample, Layer)> {
        let (gain, tx, ty) = self.gain_and_shift(size, r);
        let (w, h) = (f64::from(sample.image.width()), f64::from(sample.image.height()));
        let scale = (size[1] as f64 / w).min(size[0] as f64 / h) * gain;
        let x0 = size[1] as f64 / 2.0 + tx - w * scale / 2.0;
        let y0 = size[0] as f64 / 2.0 + ty - h * scale / 2.0;
        vec![(sample, Layer { x0, y0, sx: scale, sy: scale, clip: [0, 0, size[1] as u32, size[0] as u32] })]
    }

    /// Four images around a random corner point of a canvas twice as large, of which the middle is seen.
    fn mosaic(&self, tiles: Vec<Sample>, [height, width]: [usize; 2], r: &mut ChaCha8Rng) -> Vec<(Sample, Layer)> {
        let (wide, high) = (width as f64, height as f64);
        let corner = [wide * r.random_range(0.5..1.5), high * r.random_range(0.5..1.5)];
        let (gain, tx, ty) = self.gain_and_shift([height, width], r);
        let to_x = |x: f64| (x - wide) * gain + wide / 2.0 + tx;
        let to_y = |y: f64| (y - high) * gain + high / 2.0 + ty;
        let pixel = |v: f64, n: usize| v.round().clamp(0.0, n as f64) as u32;
        let (cut_x, cut_y) = (pixel(to_x(corner[0]), width), pixel(to_y(corner[1]), height));
        let (left, right) = (pixel(to_x(0.0), width), pixel(to_x(2.0 * wide), width));
        let (top, bottom) = (pixel(to_y(0.0), height), pixel(to_y(2.0 * high), height));
        let place = |(k, sample): (usize, Sample)| {
            let (w, h) = (f64::from(sample.image.width()), f64::from(sample.image.height()));
            let scale = (wide / w).min(high / h);
            let (on_left, on_top) = (k % 2 == 0, k < 2);
            let x = if on_left { corner[0] - w * scale } else { corner[0] };
            let y = if on_top { corner[1] - h * scale } else { corner[1] };
            let (x1, x2) = if on_left { (left, cut_x) } else { (cut_x, right) };
            let (y1, y2) = if on_top { (top, cut_y) } else { (cut_y, bottom) };
            let layer = Layer { x0: to_x(x), y0: to_y(y), sx: scale * gain, sy: scale * gain, clip: [x1, y1, x2, y2] };
            (sample, layer)
        };
        tiles.into_iter().enumerate().map(place).collect()
    }

    fn flip(&self, image: &mut RgbImage, targets: &mut [Target], r: &mut ChaCha8Rng) {
        let (w, h) = (image.width() as f32, image.height() as f32);
        // Both numbers are drawn in any case, so that one chance does not change what follows the other.
        let (across, over) = (r.random_bool(self.hflip), r.random_bool(self.vflip));
        if across {
            image::imageops::flip_horizontal_in_place(image);
            for b in targets.iter_mut().map(|t| &mut t.bbox) {
                (b.x1, b.x2) = (w - b.x2, w - b.x1);
            }
        }
        if over {
            image::imageops::flip_vertical_in_place(image);
            for b in targets.iter_mut().map(|t| &mut t.bbox) {
                (b.y1, b.y2) = (h - b.y2, h - b.y1);
            }
        }
    }

    fn jitter(&self, image: &mut RgbImage, r: &mut ChaCha8Rng) {
        let mut amount = |gain: f64| (gain * r.random_range(-1.0..=1.0)) as f32;
        let (turn, saturation, value) = (amount(self.hue), 1.0 + amount(self.saturation), 1.0 + amount(self.value));
        if turn == 0.0 && saturation == 1.0 && value == 1.0 {
            return;
        }
        for p in image.pixels_mut() {
            let [h, s, v] = to_hsv(p.0);
            p.0 = to_rgb([(h + turn).rem_euclid(1.0), (s * saturation).min(1.0), (v * value).min(1.0)]);
        }
    }
}

/// The box inside the layer's visible part, when enough of it is left.
fn kept(b: BBox, layer: &Layer) -> Option<BBox> {
    let [x1, y1, x2, y2] = layer.clip.map(|v| v as f32);
    let c = BBox { x1: b.x1.max(x1), y1: b.y1.max(y1), x2: b.x2.min(x2), y2: b.y2.min(y2) };
    let (w, h) = (c.x2 - c.x1, c.y2 - c.y1);
    let full = (b.x2 - b.x1) * (b.y2 - b.y1);
    let enough = w >= LEAST_SIDE && h >= LEAST_SIDE && w * h >= LEAST_AREA * full && (w / h).max(h / w) <= MOST_ASPECT;
    enough.then_some(c)
}

/// Hue, saturation and value, each 0 to 1.
fn to_hsv(rgb: [u8; 3]) -> [f32; 3] {
    let [r, g, b] = rgb.map(|v| f32::from(v) / 255.0);
    let (high, low) = (r.max(g).max(b), r.min(g).min(b));
    let span = high - low;
    if span == 0.0 {
        return [0.0, 0.0, high];
    }
    let sixth = if high == r {
        (g - b) / span
    } else if high == g {
        (b - r) / span + 2.0
    } else {
        (r - g) / span + 4.0
    };
    [(sixth / 6.0).rem_euclid(1.0), span / high, high]
}

fn to_rgb([h, s, v]: [f32; 3]) -> [u8; 3] {
    // Each channel falls off with its distance on the colour circle.
    [5.0, 3.0, 1.0].map(|n| {
        let k = (n + h * 6.0).rem_euclid(6.0);
        ((v - v * s * k.min(4.0 - k).clamp(0.0, 1.0)) * 255.0 + 0.5) as u8
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_survive_a_round_trip() {
        for rgb in [[0, 0, 0], [255, 255, 255], [255, 0, 0], [10, 200, 30], [1, 2, 250], [120, 119, 118], [90, 0, 91]] {
            let again = to_rgb(to_hsv(rgb));
            assert!(rgb.iter().zip(&again).all(|(a, b)| a.abs_diff(*b) <= 1), "{rgb:?} {again:?}");
        }
        assert_eq!(to_hsv([0, 255, 0]), [1.0 / 3.0, 1.0, 1.0]);
    }

    #[test]
    fn cut_boxes_are_clipped_or_dropped() {
        let layer = Layer { x0: 0.0, y0: 0.0, sx: 1.0, sy: 1.0, clip: [10, 0, 100, 50] };
        let bbox = |x1, y1, x2, y2| BBox { x1, y1, x2, y2 };
        assert_eq!(kept(bbox(0.0, 10.0, 30.0, 20.0), &layer), Some(bbox(10.0, 10.0, 30.0, 20.0)));
        assert_eq!(kept(bbox(0.0, 10.0, 10.5, 20.0), &layer), None, "too little is left");
        assert_eq!(kept(bbox(20.0, 10.0, 21.0, 20.0), &layer), None, "too thin");
        assert_eq!(kept(bbox(200.0, 10.0, 210.0, 20.0), &layer), None, "outside");
    }

    #[test]
    fn amounts_out_of_range_are_named() {
        let e = Augment { mosaic: 1.5, ..Augment::default() }.check().unwrap_err();
        assert_eq!(e.to_string(), "option 'mosaic' must be at least 0 and at most 1, got 1.5");
        assert!(Augment { scale: f64::NAN, ..Augment::default() }.check().is_err());
        assert!(Augment::default().check().is_ok());
    }
}
