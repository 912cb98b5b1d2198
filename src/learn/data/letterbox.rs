//! Fitting an image into a network's input: scaled to fit, centred, padded with gray.

use super::{BBox, Letterbox};
use image::{Rgb, RgbImage};

/// Gray of the padding, as Ultralytics uses.
pub const PAD: Rgb<u8> = Rgb([114; 3]);

/// Where an image is drawn in another: `x = x0 + sx * source x`, likewise y, in pixel-edge coordinates; only pixels
/// inside `clip` (left, top, right, bottom) are touched.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PlacedImage {
    /// Where the left edge of the source lies in the target, in pixels; may be outside.
    pub x0: f64,
    /// Where the upper edge of the source lies in the target.
    pub y0: f64,
    /// Pixels of the target per pixel of the source, along x.
    pub sx: f64,
    /// As [`PlacedImage::sx`], along y.
    pub sy: f64,
    /// Left, top, right and bottom of the part of the target that may be drawn on, in whole pixels.
    pub clip: [u32; 4],
}

impl PlacedImage {
    /// A box of the source in the target's pixels, not clipped.
    pub fn map(&self, b: BBox) -> BBox {
        let x = |v: f32| (self.x0 + self.sx * f64::from(v)) as f32;
        let y = |v: f32| (self.y0 + self.sy * f64::from(v)) as f32;
        BBox { x1: x(b.x1), y1: y(b.y1), x2: x(b.x2), y2: y(b.y2) }
    }
}

/// For one axis: the touched target pixels and, for each, its two source pixels and the weight of the second.
fn taps(origin: f64, scale: f64, source: u32, clip: (u32, u32)) -> (u32, Vec<(u32, u32, f32)>) {
    // A pixel is touched when its centre lies on the source.
    let first = (origin - 0.5).ceil().max(f64::from(clip.0)) as u32;
    let end = (origin + scale * f64::from(source) - 0.5).ceil().clamp(0.0, f64::from(clip.1)) as u32;
    let last = source - 1;
    let taps = (first..end.max(first)).map(|i| {
        let s = ((f64::from(i) + 0.5 - origin) / scale - 0.5).clamp(0.0, f64::from(last));
        let a = s.floor();
        (a as u32, (a as u32 + 1).min(last), (s - a) as f32)
    });
    (first, taps.collect())
}

/// Draws `source` into `target`, bilinear between pixel centres, without smoothing when it shrinks (like OpenCV's
/// `INTER_LINEAR`).
pub fn draw_layer(target: &mut RgbImage, source: &RgbImage, layer: &PlacedImage) {
    let [left, top, right, bottom] = layer.clip;
    let (right, bottom) = (right.min(target.width()), bottom.min(target.height()));
    if source.width() == 0 || source.height() == 0 || layer.sx <= 0.0 || layer.sy <= 0.0 {
        return;
    }
    let (x_first, xs) = taps(layer.x0, layer.sx, source.width(), (left, right));
    let (y_first, ys) = taps(layer.y0, layer.sy, source.height(), (top, bottom));
    if xs.is_empty() || ys.is_empty() {
        return;
    }
    let (sw, tw) = (source.width() as usize * 3, target.width() as usize * 3);
    let pixels = source.as_raw();
    // Rows of the source, interpolated along x, kept while the next target row needs them.
    let mut rows: [(u32, Vec<f32>); 2] = [(u32::MAX, vec![0.0; xs.len() * 3]), (u32::MAX, vec![0.0; xs.len() * 3])];
    let fill = |row: &mut (u32, Vec<f32>), y: u32| {
        row.0 = y;
        let line = &pixels[y as usize * sw..][..sw];
        for (out, &(a, b, w)) in row.1.as_chunks_mut::<3>().0.iter_mut().zip(&xs) {
            let (pa, pb) = (&line[a as usize * 3..][..3], &line[b as usize * 3..][..3]);
            for c in 0..3 {
                let (va, vb) = (f32::from(pa[c]), f32::from(pb[c]));
                out[c] = va + (vb - va) * w;
            }
        }
    };
    let out: &mut [u8] = target;
    for (j, &(a, b, w)) in ys.iter().enumerate() {
        if rows[1].0 == a {
            rows.swap(0, 1);
        }
        if rows[0].0 != a {
            fill(&mut rows[0], a);
        }
        if rows[1].0 != b {
            fill(&mut rows[1], b);
        }
        let line = &mut out[(y_first as usize + j) * tw + x_first as usize * 3..][..xs.len() * 3];
        for (o, (va, vb)) in line.iter_mut().zip(rows[0].1.iter().zip(&rows[1].1)) {
            *o = (va + (vb - va) * w + 0.5) as u8;
        }
    }
}

/// An image of another size, bilinear without smoothing.
pub fn resize(image: &RgbImage, width: u32, height: u32) -> RgbImage {
    if image.dimensions() == (width, height) {
        return image.clone();
    }
    let mut out = RgbImage::new(width, height);
    let (sx, sy) = (f64::from(width) / f64::from(image.width()), f64::from(height) / f64::from(image.height()));
    draw_layer(&mut out, image, &PlacedImage { x0: 0.0, y0: 0.0, sx, sy, clip: [0, 0, width, height] });
    out
}

impl Letterbox {
    /// The fit of an image of `original` width and height into `[height, width]`: one scale for both axes, the scaled
    /// size rounded to whole pixels, the padding centred (an odd pixel goes right and below).
    pub fn fit(original: (u32, u32), size: [usize; 2]) -> Self {
        let (scale, w, h) = scaled(original, size);
        let pad = |room: usize, used: u32| ((room as f64 - f64::from(used)) / 2.0 - 0.1).round() as f32;
        Self { scale: scale as f32, pad_x: pad(size[1], w), pad_y: pad(size[0], h), original }
    }
    /// A box of the original image in input pixels.
    pub fn forward(&self, b: BBox) -> BBox {
        let (x, y) = (|v: f32| v * self.scale + self.pad_x, |v: f32| v * self.scale + self.pad_y);
        BBox { x1: x(b.x1), y1: y(b.y1), x2: x(b.x2), y2: y(b.y2) }
    }
    /// A box in input pixels in pixels of the original image, clipped to it.
    pub fn inverse(&self, b: BBox) -> BBox {
        let (w, h) = (self.original.0 as f32, self.original.1 as f32);
        let x = |v: f32| ((v - self.pad_x) / self.scale).clamp(0.0, w);
        let y = |v: f32| ((v - self.pad_y) / self.scale).clamp(0.0, h);
        BBox { x1: x(b.x1), y1: y(b.y1), x2: x(b.x2), y2: y(b.y2) }
    }
}

/// Scale, and scaled width and height in whole pixels.
fn scaled((w, h): (u32, u32), size: [usize; 2]) -> (f64, u32, u32) {
    let scale = (size[0] as f64 / f64::from(h)).min(size[1] as f64 / f64::from(w));
    let side = |v: u32| (f64::from(v) * scale).round_ties_even().max(1.0) as u32;
    (scale, side(w), side(h))
}

/// Fits an image into `[height, width]`; see [`Letterbox::fit`].
pub fn letterbox(image: &RgbImage, size: [usize; 2]) -> (RgbImage, Letterbox) {
    let fit = Letterbox::fit(image.dimensions(), size);
    let (width, height) = (size[1] as u32, size[0] as u32);
    if image.dimensions() == (width, height) {
        return (image.clone(), fit);
    }
    let (_, w, h) = scaled(image.dimensions(), size);
    let mut out = RgbImage::from_pixel(width, height, PAD);
    let layer = PlacedImage {
        x0: f64::from(fit.pad_x),
        y0: f64::from(fit.pad_y),
        sx: f64::from(w) / f64::from(image.width()),
        sy: f64::from(h) / f64::from(image.height()),
        clip: [0, 0, width, height],
    };
    draw_layer(&mut out, image, &layer);
    (out, fit)
}

/// Appends an image to `out` as `[3, height, width]`, RGB, 0 to 1.
pub fn to_chw(image: &RgbImage, out: &mut Vec<f32>) {
    let shades: [f32; 256] = std::array::from_fn(|v| v as f32 / 255.0);
    let (pixels, _) = image.as_raw().as_chunks::<3>();
    let start = out.len();
    out.resize(start + 3 * pixels.len(), 0.0);
    let (red, rest) = out[start..].split_at_mut(pixels.len());
    let (green, blue) = rest.split_at_mut(pixels.len());
    for (((p, r), g), b) in pixels.iter().zip(red).zip(green).zip(blue) {
        [*r, *g, *b] = p.map(|v| shades[usize::from(v)]);
    }
}
