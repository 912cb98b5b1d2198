//! Augmentation: mosaic, scaling, shifting and warping, blending, flips, colour jitter.
//!
//! What happens to an image depends only on the seed, the epoch and the image's index, never on threads. Mosaic and all
//! changes of place are one resampling from the original pixels.

use super::canvas::{Canvas, View, kept};
use super::letterbox::draw_layer;
use super::rng::rng;
use super::warp::Warp;
use super::{DataKind, Dataset, GroundTruth, Letterbox, PAD, Sample};
use compresso_base::error::{At, Result};
use compresso_base::operation::{OptionKind, OptionValue, in_range};
use image::RgbImage;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

compresso_base::options! {
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
        /// Largest turn, in degrees.
        pub degrees: f64 = 0.0,
        /// Largest shear along each axis, in degrees.
        pub shear: f64 = 0.0,
        /// Largest change of scale from pixel to pixel that a slanted view makes; 0.001 is strong.
        pub perspective: f64 = 0.0,
        /// Chance of blending an image with another (detection only; Zhang et al. 2018, "mixup").
        pub mixup: f64 = 0.0,
    }
}

impl OptionValue for Augment {
    const KIND: OptionKind = OptionKind::Map;
}

/// One image ready for a batch.
pub(super) struct Fitted {
    pub image: RgbImage,
    pub targets: Vec<GroundTruth>,
    pub label: Option<usize>,
    pub letterbox: Letterbox,
}

impl Augment {
    /// # Errors
    /// `Argument` for a chance outside 0 to 1 or an amount out of range.
    pub fn check(&self) -> Result<()> {
        for (name, v) in [("hflip", self.hflip), ("vflip", self.vflip), ("mosaic", self.mosaic), ("mixup", self.mixup)] {
            in_range(name, v, 0.0..=1.0)?;
        }
        for (name, v) in [("saturation", self.saturation), ("value", self.value), ("translate", self.translate)] {
            in_range(name, v, 0.0..=1.0)?;
        }
        in_range("hue", self.hue, 0.0..=0.5)?;
        in_range("degrees", self.degrees, 0.0..=180.0)?;
        in_range("shear", self.shear, 0.0..=60.0)?;
        in_range("perspective", self.perspective, 0.0..=0.001)?;
        in_range("scale", self.scale, 0.0..1.0)
    }

    /// Image `i` of `data` at `[height, width]`, varied by the numbers of `r`.
    pub(super) fn apply(&self, data: &Dataset, i: usize, size: [usize; 2], r: &mut ChaCha8Rng) -> Result<Fitted> {
        let place = || format!("dataset '{}'", data.name);
        let first = data.source.get_at(i, size).at(place)?;
        let label = first.label;
        let letterbox = Letterbox::fit(first.image.dimensions(), size);
        let (mut image, mut targets) = self.scene(data, first, size, r);
        if data.kind == DataKind::Detection && self.mixup > 0.0 && r.random_bool(self.mixup) {
            let other = r.random_range(0..data.len());
            let mut own = rng(r.random(), &[other as u64]);
            // An unreadable partner is left out; it is reported when its own turn comes.
            if let Ok(partner) = data.source.get_at(other, size) {
                let (over, more) = self.scene(data, partner, size, &mut own);
                blend(&mut image, &over, &mut own);
                targets.extend(more);
            }
        }
        self.flip(&mut image, &mut targets, r);
        self.jitter(&mut image, r);
        Ok(Fitted { image, targets, label, letterbox })
    }

    /// An image, alone or in a mosaic, at another place, size and slant.
    fn scene(&self, data: &Dataset, first: Sample, size: [usize; 2], r: &mut ChaCha8Rng) -> (RgbImage, Vec<GroundTruth>) {
        let mosaic = data.kind == DataKind::Detection && r.random_bool(self.mosaic);
        let mut tiles = vec![first];
        while mosaic && tiles.len() < 4 {
            // An unreadable neighbour is replaced; it is reported when its own turn comes.
            let other = r.random_range(0..data.len());
            let tile = data.source.get_at(other, size).unwrap_or_else(|_| tiles[0].clone());
            tiles.push(tile);
        }
        let canvas = if mosaic { Canvas::mosaic(tiles, size, r) } else { Canvas::single(tiles, size) };
        let view = self.view(size, r);
        let mut image = RgbImage::from_pixel(size[1] as u32, size[0] as u32, PAD);
        let mut targets = Vec::new();
        match self.warp(&canvas, &view, r) {
            None => {
                for (sample, layer) in canvas.seen_through(&view, size) {
                    draw_layer(&mut image, &sample.image, &layer);
                    let placed = |t: &GroundTruth| {
                        Some(GroundTruth { class: t.class, bbox: kept(layer.map(t.bbox), layer.clip.map(|v| v as f32))? })
                    };
                    targets.extend(sample.targets.iter().filter_map(placed));
                }
            }
            Some(warp) => {
                warp.draw(&mut image, &canvas.tiles);
                let all = [0.0, 0.0, size[1] as f32, size[0] as f32];
                for tile in &canvas.tiles {
                    let placed = |t: &GroundTruth| Some(GroundTruth { class: t.class, bbox: kept(warp.hull(tile.cut(t.bbox)?), all)? });
                    targets.extend(tile.sample.targets.iter().filter_map(placed));
                }
            }
        }
        (image, targets)
    }

    /// How large, and where, the middle of a canvas is seen.
    fn view(&self, size: [usize; 2], r: &mut ChaCha8Rng) -> View {
        let gain = 1.0 + self.scale * r.random_range(-1.0..=1.0);
        let x = self.translate * size[1] as f64 * r.random_range(-1.0..=1.0);
        let y = self.translate * size[0] as f64 * r.random_range(-1.0..=1.0);
        View { gain, middle: [size[1] as f64 / 2.0 + x, size[0] as f64 / 2.0 + y] }
    }

    /// The slanted view, where one is asked for.
    fn warp(&self, canvas: &Canvas, view: &View, r: &mut ChaCha8Rng) -> Option<Warp> {
        if self.degrees == 0.0 && self.shear == 0.0 && self.perspective == 0.0 {
            return None;
        }
        let mut amount = |most: f64| most * r.random_range(-1.0..=1.0);
        let turn = amount(self.degrees).to_radians();
        let shear = [amount(self.shear), amount(self.shear)].map(|d| d.to_radians().tan());
        let slant = [amount(self.perspective), amount(self.perspective)];
        Warp::new(canvas.middle, slant, turn, view.gain, shear, view.middle)
    }

    fn flip(&self, image: &mut RgbImage, targets: &mut [GroundTruth], r: &mut ChaCha8Rng) {
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

/// Mixes `over` into `image` in shares of a Beta(32, 32) distribution: about half each.
fn blend(image: &mut RgbImage, over: &RgbImage, r: &mut ChaCha8Rng) {
    // The middle of 63 uniform numbers is so distributed.
    let mut numbers: [f32; 63] = std::array::from_fn(|_| r.random());
    numbers.sort_unstable_by(f32::total_cmp);
    let share = numbers[31];
    for (a, b) in image.iter_mut().zip(over.iter()) {
        *a = (f32::from(*a) * share + f32::from(*b) * (1.0 - share) + 0.5) as u8;
    }
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
    fn amounts_out_of_range_are_named() {
        let e = Augment { mosaic: 1.5, ..Augment::default() }.check().unwrap_err();
        assert_eq!(e.to_string(), "option 'mosaic' must be at least 0 and at most 1, got 1.5");
        assert!(Augment { scale: f64::NAN, ..Augment::default() }.check().is_err());
        assert!(Augment::default().check().is_ok());
    }
}
