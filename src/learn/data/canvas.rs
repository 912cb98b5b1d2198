//! Samples beside each other on a canvas, and what of their boxes is left when a part of it is seen.

use super::{BBox, PlacedImage, Sample};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// A box cut by the image's edge is kept when this part of its area is left, …
const LEAST_AREA: f32 = 0.1;
/// … it is at least this wide and high in pixels …
const LEAST_SIDE: f32 = 2.0;
/// … and not thinner than this.
const MOST_ASPECT: f32 = 100.0;

/// How a canvas is seen without a slant: scaled by `gain`, its middle at `middle`.
pub(super) struct View {
    pub gain: f64,
    pub middle: [f64; 2],
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
    pub fn cut(&self, b: BBox) -> Option<[f64; 4]> {
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
pub(super) struct Canvas {
    pub tiles: Vec<MosaicTile>,
    pub middle: [f64; 2],
}

impl Canvas {
    /// One image in the middle.
    pub fn single(tiles: Vec<Sample>, [height, width]: [usize; 2]) -> Self {
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
    pub fn mosaic(tiles: Vec<Sample>, [height, width]: [usize; 2], r: &mut ChaCha8Rng) -> Self {
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
    pub fn seen_through<'a>(&'a self, view: &'a View, [height, width]: [usize; 2]) -> impl Iterator<Item = (&'a Sample, PlacedImage)> {
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

/// The box inside what is seen (left, top, right, bottom), when enough of it is left.
pub(super) fn kept(b: BBox, [x1, y1, x2, y2]: [f32; 4]) -> Option<BBox> {
    let c = BBox { x1: b.x1.max(x1), y1: b.y1.max(y1), x2: b.x2.min(x2), y2: b.y2.min(y2) };
    let (w, h) = (c.x2 - c.x1, c.y2 - c.y1);
    let full = (b.x2 - b.x1) * (b.y2 - b.y1);
    let enough = w >= LEAST_SIDE && h >= LEAST_SIDE && w * h >= LEAST_AREA * full && (w / h).max(h / w) <= MOST_ASPECT;
    enough.then_some(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cut_boxes_are_clipped_or_dropped() {
        let layer = [10.0, 0.0, 100.0, 50.0];
        let bbox = |x1, y1, x2, y2| BBox { x1, y1, x2, y2 };
        assert_eq!(kept(bbox(0.0, 10.0, 30.0, 20.0), layer), Some(bbox(10.0, 10.0, 30.0, 20.0)));
        assert_eq!(kept(bbox(0.0, 10.0, 10.5, 20.0), layer), None, "too little is left");
        assert_eq!(kept(bbox(20.0, 10.0, 21.0, 20.0), layer), None, "too thin");
        assert_eq!(kept(bbox(200.0, 10.0, 210.0, 20.0), layer), None, "outside");
    }
}
