//! `shapes`: seeded images of plain shapes, drawn in memory, to detect or to classify.
//!
//! Each image has a background (a colour gradient, waves, noise) and shapes of random colour, size and rotation that
//! hardly cover each other. Images are made on demand from the seed, the split and the index; nothing is stored.

use super::rng::rng;
use super::{BBox, GroundTruth, Sample, Source};
use compresso_base::error::Result;
use image::RgbImage;
use rand::{Rng, RngExt};
use std::f32::consts::{PI, TAU};

/// The shapes that can be drawn, in class order.
pub const SHAPES: [&str; 6] = ["circle", "square", "triangle", "cross", "ring", "star"];

/// Shape images of one split.
pub(super) struct Shapes {
    pub images: usize,
    /// Height and width in pixels.
    pub size: [usize; 2],
    /// Index into [`SHAPES`] of each class.
    pub kinds: Vec<usize>,
    pub seed: u64,
    /// Number of the split; splits share no image.
    pub split: u64,
    /// One shape per image, to classify.
    pub single: bool,
}

const PURPOSE: u64 = 0x0073_6861_7065;
/// Largest number of shapes in an image.
const MOST: usize = 6;
/// Width of a bar of a cross, thickness of a ring and inner radius of a star, relative to the radius.
const BAR: f32 = 0.32;
const RING: f32 = 0.36;
const STAR: f32 = 0.45;

/// One shape: where, how large, which way, which colours.
#[derive(Debug, Clone, PartialEq)]
struct Shape {
    class: usize,
    kind: usize,
    centre: [f32; 2],
    /// From the centre to the farthest corner, in pixels.
    radius: f32,
    angle: f32,
    color: [f32; 3],
    /// Change of brightness from one side to the other.
    shade: f32,
}

#[derive(Debug, Clone, PartialEq)]
struct Background {
    from: [f32; 3],
    to: [f32; 3],
    direction: f32,
    /// Amplitude, length in pixels and direction of the waves.
    waves: [f32; 3],
    noise: f32,
}

impl Shape {
    /// Signed distance of a point to the edge in pixels, negative inside (exact near edges, which is where it counts).
    fn distance(&self, x: f32, y: f32) -> f32 {
        let (dx, dy) = (x - self.centre[0], y - self.centre[1]);
        let (s, c) = self.angle.sin_cos();
        let (u, v) = (c * dx + s * dy, c * dy - s * dx);
        let r = self.radius;
        let from_centre = u.hypot(v);
        match self.kind {
            0 => from_centre - r,
            1 => polygon(u, v, r, 4),
            2 => polygon(u, v, r, 3),
            3 => {
                let (long, half) = (r * (1.0 - BAR * BAR).sqrt(), r * BAR);
                let bar = |a: f32, b: f32| (a.abs() - long).max(b.abs() - half);
                bar(u, v).min(bar(v, u))
            }
            4 => (from_centre - r * (1.0 - RING / 2.0)).abs() - r * RING / 2.0,
            _ => {
                // Fold the plane onto half a ray of the star; its edge runs from the tip to the inner corner.
                let (tip, step) = ([r, 0.0], PI / 5.0);
                let inner = [r * STAR * step.cos(), r * STAR * step.sin()];
                let folded = (v.atan2(u).rem_euclid(2.0 * step) - step).abs();
                let a = step - folded;
                let (p, q) = (from_centre * a.cos(), from_centre * a.sin());
                let edge = [inner[0] - tip[0], inner[1] - tip[1]];
                let cross = edge[1] * (p - tip[0]) - edge[0] * (q - tip[1]);
                cross / edge[0].hypot(edge[1])
            }
        }
    }

    /// The tight box.
    fn bbox(&self) -> BBox {
        let corners: Vec<(f32, f32)> = match self.kind {
            1 => (0..4).map(|i| (1.0, TAU * i as f32 / 4.0)).collect(),
            2 => (0..3).map(|i| (1.0, TAU * i as f32 / 3.0)).collect(),
            3 => {
                let half = BAR.asin();
                (0..4).flat_map(|i| [-half, half].map(|h| (1.0, TAU * i as f32 / 4.0 + h))).collect()
            }
            5 => (0..5).map(|i| (1.0, TAU * i as f32 / 5.0)).collect(),
            _ => (0..4).map(|i| (1.0, TAU * i as f32 / 4.0 - self.angle)).collect(),
        };
        let (mut low, mut high) = ([f32::MAX; 2], [f32::MIN; 2]);
        for (length, at) in corners {
            let (s, c) = (at + self.angle).sin_cos();
            for (axis, d) in [c, s].into_iter().enumerate() {
                let v = self.centre[axis] + self.radius * length * d;
                low[axis] = low[axis].min(v);
                high[axis] = high[axis].max(v);
            }
        }
        BBox { x1: low[0], y1: low[1], x2: high[0], y2: high[1] }
    }
}

/// Signed distance to a regular polygon of circumradius `r` with a corner on the u axis.
fn polygon(u: f32, v: f32, r: f32, corners: usize) -> f32 {
    let step = TAU / corners as f32;
    let apothem = r * (step / 2.0).cos();
    (0..corners)
        .map(|i| {
            let (s, c) = (step * (i as f32 + 0.5)).sin_cos();
            u * c + v * s - apothem
        })
        .fold(f32::MIN, f32::max)
}

fn color(r: &mut impl Rng) -> [f32; 3] {
    std::array::from_fn(|_| r.random_range(10.0..245.0f32))
}

fn contrast(a: [f32; 3], b: [f32; 3]) -> f32 {
    // Luma counts more than hue, as it does for a network that sees colour jitter.
    let luma = |c: [f32; 3]| 0.299 * c[0] + 0.587 * c[1] + 0.114 * c[2];
    let d: f32 = a.iter().zip(&b).map(|(x, y)| (x - y).abs()).sum::<f32>() / 3.0;
    d + (luma(a) - luma(b)).abs()
}

impl Shapes {
    fn scene(&self, i: usize) -> (Background, Vec<Shape>) {
        let r = &mut rng(self.seed, &[PURPOSE, self.split, i as u64]);
        let (h, w) = (self.size[0] as f32, self.size[1] as f32);
        let side = h.min(w);
        let from = color(r);
        let to = std::array::from_fn(|c| (from[c] + r.random_range(-50.0..50.0f32)).clamp(0.0, 255.0));
        let back = Background {
            from,
            to,
            direction: r.random_range(0.0..TAU),
            waves: [r.random_range(0.0..14.0), side * r.random_range(0.08..0.4f32), r.random_range(0.0..TAU)],
            noise: r.random_range(2.0..12.0),
        };
        let count = if self.single { 1 } else { r.random_range(1..=MOST) };
        let radii = if self.single { 0.22..0.42 } else { 0.07..0.2 };
        let mut shapes: Vec<Shape> = Vec::with_capacity(count);
        for _ in 0..count {
            let class = r.random_range(0..self.kinds.len());
            // A few tries to find a free place; a crowded image gets fewer shapes.
            for _ in 0..12 {
                let radius = side * r.random_range(radii.clone());
                let place = |r: &mut rand_chacha::ChaCha8Rng, length: f32| {
                    let room = length - 2.0 * radius - 2.0;
                    radius + 1.0 + room.max(0.0) * r.random_range(0.0..1.0f32)
                };
                let centre = [place(r, w), place(r, h)];
                let angle = r.random_range(0.0..TAU);
                let mut shade = color(r);
                for _ in 0..30 {
                    if contrast(shade, from).min(contrast(shade, to)) > 70.0 {
                        break;
                    }
                    shade = color(r);
                }
                let kind = self.kinds[class];
                let s = Shape { class, kind, centre, radius, angle, color: shade, shade: r.random_range(-20.0..20.0) };
                let apart = |o: &Shape| {
                    let d = (o.centre[0] - s.centre[0]).hypot(o.centre[1] - s.centre[1]);
                    d > 0.85 * (o.radius + s.radius)
                };
                if shapes.iter().all(apart) {
                    shapes.push(s);
                    break;
                }
            }
        }
        (back, shapes)
    }

    fn draw(&self, i: usize, back: &Background, shapes: &[Shape]) -> RgbImage {
        let (h, w) = (self.size[0], self.size[1]);
        let mut canvas = vec![0f32; h * w * 3];
        let (ds, dc) = back.direction.sin_cos();
        let (ws, wc) = back.waves[2].sin_cos();
        for y in 0..h {
            for x in 0..w {
                let (fx, fy) = (x as f32, y as f32);
                // Runs from 0 to 1 across the image, whatever the direction.
                let t = 0.5 + 0.5 * ((fx / w as f32 * 2.0 - 1.0) * dc + (fy / h as f32 * 2.0 - 1.0) * ds) / (dc.abs() + ds.abs());
                let wave = back.waves[0] * ((fx * wc + fy * ws) * TAU / back.waves[1]).sin();
                for c in 0..3 {
                    canvas[(y * w + x) * 3 + c] = back.from[c] + (back.to[c] - back.from[c]) * t + wave;
                }
            }
        }
        for s in shapes {
            let b = s.bbox();
            let range = |a: f32, b: f32, n: usize| ((a - 1.0).max(0.0) as usize)..((b + 2.0).clamp(0.0, n as f32) as usize);
            for y in range(b.y1, b.y2, h) {
                for x in range(b.x1, b.x2, w) {
                    let (px, py) = (x as f32 + 0.5, y as f32 + 0.5);
                    let cover = (0.5 - s.distance(px, py)).clamp(0.0, 1.0);
                    if cover > 0.0 {
                        let shade = s.shade * (px - s.centre[0] + py - s.centre[1]) / (2.0 * s.radius);
                        for c in 0..3 {
                            let v = &mut canvas[(y * w + x) * 3 + c];
                            *v += (s.color[c] + shade - *v) * cover;
                        }
                    }
                }
            }
        }
        let mut bytes = vec![0u8; canvas.len()];
        rng(self.seed, &[PURPOSE, self.split, i as u64, 1]).fill_bytes(&mut bytes);
        let pixels = canvas.iter().zip(&bytes).map(|(&v, &b)| {
            let noise = (f32::from(b) / 127.5 - 1.0) * back.noise;
            (v + noise + 0.5).clamp(0.0, 255.0) as u8
        });
        RgbImage::from_raw(w as u32, h as u32, pixels.collect()).expect("one byte per channel of each pixel")
    }
}

impl Source for Shapes {
    fn len(&self) -> usize {
        self.images
    }
    fn get(&self, i: usize) -> Result<Sample> {
        let (back, shapes) = self.scene(i);
        let (w, h) = (self.size[1] as f32, self.size[0] as f32);
        let clip = |b: BBox| BBox { x1: b.x1.max(0.0), y1: b.y1.max(0.0), x2: b.x2.min(w), y2: b.y2.min(h) };
        let (targets, label) = if self.single {
            (Vec::new(), shapes.first().map(|s| s.class))
        } else {
            (shapes.iter().map(|s| GroundTruth { class: s.class, bbox: clip(s.bbox()) }).collect(), None)
        };
        Ok(Sample { name: format!("shapes/{}/{i}", self.split), image: self.draw(i, &back, &shapes), targets, label })
    }
    fn classes_of(&self, i: usize) -> Result<Vec<usize>> {
        Ok(self.scene(i).1.iter().map(|s| s.class).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(kind: usize, angle: f32) -> Shape {
        Shape { class: 0, kind, centre: [50.0, 40.0], radius: 30.0, angle, color: [0.0; 3], shade: 0.0 }
    }

    #[test]
    fn boxes_are_tight() {
        for (kind, name) in SHAPES.iter().enumerate() {
            for angle in [0.0, 0.3, 1.1, 2.9, 5.0] {
                let s = shape(kind, angle);
                let (mut low, mut high) = ([f32::MAX; 2], [f32::MIN; 2]);
                for y in 0..800 {
                    for x in 0..1000 {
                        let p = [x as f32 / 10.0, y as f32 / 10.0];
                        if s.distance(p[0], p[1]) <= 0.0 {
                            for axis in 0..2 {
                                low[axis] = low[axis].min(p[axis]);
                                high[axis] = high[axis].max(p[axis]);
                            }
                        }
                    }
                }
                let b = s.bbox();
                for (a, e) in [(b.x1, low[0]), (b.y1, low[1]), (b.x2, high[0]), (b.y2, high[1])] {
                    assert!((a - e).abs() < 0.5, "{name} at {angle}: {b:?} {low:?} {high:?}");
                }
            }
        }
    }

    #[test]
    fn images_repeat_by_seed_and_splits_differ() {
        let source = |seed, split| Shapes { images: 8, size: [64, 96], kinds: vec![0, 1, 2], seed, split, single: false };
        let (a, b) = (source(3, 0).get(5).unwrap(), source(3, 0).get(5).unwrap());
        assert_eq!((&a.image, &a.targets), (&b.image, &b.targets));
        assert_ne!(a.image, source(3, 1).get(5).unwrap().image);
        assert_ne!(a.image, source(4, 0).get(5).unwrap().image);
        assert_ne!(a.image, source(3, 0).get(4).unwrap().image);
        assert_eq!(a.image.dimensions(), (96, 64));
        for i in 0..8 {
            let s = source(3, 0).get(i).unwrap();
            assert_eq!(s.targets.iter().map(|t| t.class).collect::<Vec<_>>(), source(3, 0).classes_of(i).unwrap());
            assert!(!s.targets.is_empty());
            assert!(s.targets.iter().all(|t| t.bbox.x1 >= 0.0 && t.bbox.x2 <= 96.0 && t.bbox.y2 <= 64.0 && t.bbox.x2 - t.bbox.x1 > 5.0));
        }
    }
}
