//! Augmentation: mosaic, scaling, shifting and warping, blending, flips, colour jitter.
//!
//! What happens to an image depends only on the seed, the epoch and the image's index, never on threads. Mosaic and all
//! changes of place are one resampling from the original pixels.

use super::letterbox::draw_layer;
use super::rng::rng;
use super::warp::Warp;
use super::{BBox, DataKind, Dataset, GroundTruth, Letterbox, PAD, PlacedImage, Sample};
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

/// A box cut by the image's edge is kept when this part of its area is left, …
const LEAST_AREA: f32 = 0.1;
/// … it is at least this wide and high in pixels …
const LEAST_SIDE: f32 = 2.0;
/// … and not thinner than this.
const MOST_ASPECT: f32 = 100.0;

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

/// How a canvas is seen without a slant: scaled by `gain`, its middle at `middle`.
struct View {
    gain: f64,
    middle: [f64; 2],
}

/// A sample on a canvas: there x = x0 + scale · source x, likewise y.
pub(super) struct MosaicTile {
    pub sample: Sample,
    pub x0: f64,
    pub y0: f64,
    pub scale: f64,
    /// The part of the canvas that may show it: left, top, right, bottom.
    pub clip: [f64; 4],
}

const EVERYWHERE: [f64; 4] = [f64::NEG_INFINITY, f64::NEG_INFINITY, f64::INFINITY, f64::INFINITY];

impl MosaicTile {
    /// The place in the sample that a place of the canvas shows, in pixels from its left and top edge.
    pub fn source(&self, x: f64, y: f64) -> Option<(f64, f64)> {
        let (w, h) = self.sample.image.dimensions();
        let (u, v) = ((x - self.x0) / self.scale, (y - self.y0) / self.scale);
        let [left, top, right, bottom] = self.clip;
        let shown = x >= left && x < right && y >= top && y < bottom;
        (shown && u >= 0.0 && u < f64::from(w) && v >= 0.0 && v < f64::from(h)).then_some((u, v))
    }

    /// A box of the sample on the canvas, cut by what is shown, when enough of it is left.
    fn cut(&self, b: BBox) -> Option<[f64; 4]> {
        let x = |v: f32| self.x0 + self.scale * f64::from(v);
        let y = |v: f32| self.y0 + self.scale * f64::from(v);
        let [left, top, right, bottom] = self.clip;
        let (full, c) =
            ([x(b.x1), y(b.y1), x(b.x2), y(b.y2)], [x(b.x1).max(left), y(b.y1).max(top), x(b.x2).min(right), y(b.y2).min(bottom)]);
        let area = |b: [f64; 4]| (b[2] - b[0]).max(0.0) * (b[3] - b[1]).max(0.0);
        (area(c) >= f64::from(LEAST_AREA) * area(full) && area(c) > 0.0).then_some(c)
    }
}

/// Samples beside each other, before they are seen.
struct Canvas {
    tiles: Vec<MosaicTile>,
    middle: [f64; 2],
}

impl Canvas {
    /// One image in the middle.
    fn single(tiles: Vec<Sample>, [height, width]: [usize; 2]) -> Self {
        let (wide, high) = (width as f64, height as f64);
        let place = |sample: Sample| {
            let (w, h) = (f64::from(sample.image.width()), f64::from(sample.image.height()));
            let scale = (wide / w).min(high / h);
            let (x0, y0) = ((wide - w * scale) / 2.0, (high - h * scale) / 2.0);
            MosaicTile { sample, x0, y0, scale, clip: EVERYWHERE }
        };
        Self { tiles: tiles.into_iter().map(place).collect(), middle: [wide / 2.0, high / 2.0] }
    }

    /// Four images around a random corner point of a canvas twice as large as the view.
    fn mosaic(tiles: Vec<Sample>, [height, width]: [usize; 2], r: &mut ChaCha8Rng) -> Self {
        let (wide, high) = (width as f64, height as f64);
        let corner = [wide * r.random_range(0.5..1.5), high * r.random_range(0.5..1.5)];
        let place = |(k, sample): (usize, Sample)| {
            let (w, h) = (f64::from(sample.image.width()), f64::from(sample.image.height()));
            let scale = (wide / w).min(high / h);
            let (on_left, on_top) = (k % 2 == 0, k < 2);
            let x0 = if on_left { corner[0] - w * scale } else { corner[0] };
            let y0 = if on_top { corner[1] - h * scale } else { corner[1] };
            let (x1, x2) = if on_left { (0.0, corner[0]) } else { (corner[0], 2.0 * wide) };
            let (y1, y2) = if on_top { (0.0, corner[1]) } else { (corner[1], 2.0 * high) };
            MosaicTile { sample, x0, y0, scale, clip: [x1, y1, x2, y2] }
        };
        Self { tiles: tiles.into_iter().enumerate().map(place).collect(), middle: [wide, high] }
    }

    /// The samples as layers of an image of `[height, width]`.
    fn seen_through<'a>(&'a self, view: &'a View, [height, width]: [usize; 2]) -> impl Iterator<Item = (&'a Sample, PlacedImage)> {
        let x = |v: f64| (v - self.middle[0]) * view.gain + view.middle[0];
        let y = |v: f64| (v - self.middle[1]) * view.gain + view.middle[1];
        let pixel = |v: f64, n: usize| v.round().clamp(0.0, n as f64) as u32;
        self.tiles.iter().map(move |t| {
            let [left, top, right, bottom] = t.clip;
            let clip = [pixel(x(left), width), pixel(y(top), height), pixel(x(right), width), pixel(y(bottom), height)];
            let scale = t.scale * view.gain;
            (&t.sample, PlacedImage { x0: x(t.x0), y0: y(t.y0), sx: scale, sy: scale, clip })
        })
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

/// The box inside what is seen (left, top, right, bottom), when enough of it is left.
fn kept(b: BBox, [x1, y1, x2, y2]: [f32; 4]) -> Option<BBox> {
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
        let layer = [10.0, 0.0, 100.0, 50.0];
        let bbox = |x1, y1, x2, y2| BBox { x1, y1, x2, y2 };
        assert_eq!(kept(bbox(0.0, 10.0, 30.0, 20.0), layer), Some(bbox(10.0, 10.0, 30.0, 20.0)));
        assert_eq!(kept(bbox(0.0, 10.0, 10.5, 20.0), layer), None, "too little is left");
        assert_eq!(kept(bbox(20.0, 10.0, 21.0, 20.0), layer), None, "too thin");
        assert_eq!(kept(bbox(200.0, 10.0, 210.0, 20.0), layer), None, "outside");
    }

    #[test]
    fn amounts_out_of_range_are_named() {
        let e = Augment { mosaic: 1.5, ..Augment::default() }.check().unwrap_err();
        assert_eq!(e.to_string(), "option 'mosaic' must be at least 0 and at most 1, got 1.5");
        assert!(Augment { scale: f64::NAN, ..Augment::default() }.check().is_err());
        assert!(Augment::default().check().is_ok());
    }
}
