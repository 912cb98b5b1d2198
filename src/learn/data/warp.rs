//! Images seen at a slant: turned, sheared, in perspective.

use super::BBox;
use super::canvas::MosaicTile;
use image::{Rgb, RgbImage};

/// A projective map of the plane, row by row, and its inverse.
#[derive(Debug, Clone)]
pub(super) struct Warp {
    forward: Matrix,
    back: Matrix,
}

type Matrix = [[f64; 3]; 3];

impl Warp {
    /// The map that moves `middle` to the origin, slants (x and y divide by 1 + slant · (x, y)), turns, scales and shears
    /// there, and moves the origin to `to`. `None` for a map that folds.
    pub fn new(middle: [f64; 2], slant: [f64; 2], turn: f64, gain: f64, shear: [f64; 2], to: [f64; 2]) -> Option<Self> {
        let (sin, cos) = turn.sin_cos();
        let steps: [Matrix; 4] = [
            [[1.0, 0.0, to[0]], [0.0, 1.0, to[1]], [0.0, 0.0, 1.0]],
            [[1.0, shear[0], 0.0], [shear[1], 1.0, 0.0], [0.0, 0.0, 1.0]],
            [[gain * cos, -gain * sin, 0.0], [gain * sin, gain * cos, 0.0], [0.0, 0.0, 1.0]],
            [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [slant[0], slant[1], 1.0]],
        ];
        let start = [[1.0, 0.0, -middle[0]], [0.0, 1.0, -middle[1]], [0.0, 0.0, 1.0]];
        let forward = steps.iter().rev().fold(start, |m, step| product(step, &m));
        Some(Self { back: inverse(&forward)?, forward })
    }

    /// The smallest upright box around a box (left, top, right, bottom) as it is seen.
    pub fn hull(&self, [x1, y1, x2, y2]: [f64; 4]) -> BBox {
        let corners = [(x1, y1), (x2, y1), (x2, y2), (x1, y2)].map(|(x, y)| apply(&self.forward, x, y));
        let ends = |axis: fn(&(f64, f64)) -> f64| {
            corners.iter().map(axis).fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| (a.min(v), b.max(v)))
        };
        let ((x1, x2), (y1, y2)) = (ends(|p| p.0), ends(|p| p.1));
        BBox { x1: x1 as f32, y1: y1 as f32, x2: x2 as f32, y2: y2 as f32 }
    }

    /// Draws the tiles as they are seen, bilinear between pixel centres; what none covers stays as it is.
    pub fn draw(&self, target: &mut RgbImage, tiles: &[MosaicTile]) {
        for (x, y, pixel) in target.enumerate_pixels_mut() {
            let (x, y) = apply(&self.back, f64::from(x) + 0.5, f64::from(y) + 0.5);
            if let Some((t, (u, v))) = tiles.iter().find_map(|t| Some((t, t.source(x, y)?))) {
                *pixel = sample(&t.sample.image, u, v);
            }
        }
    }
}

/// The colour at a place inside an image, in pixels from its left and top edge.
fn sample(image: &RgbImage, x: f64, y: f64) -> Rgb<u8> {
    let (w, h) = image.dimensions();
    let along = |v: f64, n: u32| {
        let v = (v - 0.5).clamp(0.0, f64::from(n - 1));
        let low = v as u32;
        (low, (low + 1).min(n - 1), (v - f64::from(low)) as f32)
    };
    let ((x1, x2, u), (y1, y2, v)) = (along(x, w), along(y, h));
    let [a, b, c, d] = [(x1, y1), (x2, y1), (x1, y2), (x2, y2)].map(|(x, y)| image.get_pixel(x, y).0.map(f32::from));
    Rgb(std::array::from_fn(|i| {
        let (top, bottom) = (a[i] + (b[i] - a[i]) * u, c[i] + (d[i] - c[i]) * u);
        (top + (bottom - top) * v + 0.5) as u8
    }))
}

fn apply(m: &Matrix, x: f64, y: f64) -> (f64, f64) {
    let [a, b, c] = m.map(|r| r[0] * x + r[1] * y + r[2]);
    (a / c, b / c)
}

fn product(a: &Matrix, b: &Matrix) -> Matrix {
    std::array::from_fn(|i| std::array::from_fn(|j| (0..3).map(|k| a[i][k] * b[k][j]).sum()))
}

fn inverse(m: &Matrix) -> Option<Matrix> {
    let minor = |i: usize, j: usize| {
        let (r, c) = ([(i + 1) % 3, (i + 2) % 3], [(j + 1) % 3, (j + 2) % 3]);
        m[r[0]][c[0]] * m[r[1]][c[1]] - m[r[0]][c[1]] * m[r[1]][c[0]]
    };
    let determinant: f64 = (0..3).map(|j| m[0][j] * minor(0, j)).sum();
    (determinant.abs() > 1e-12).then(|| std::array::from_fn(|i| std::array::from_fn(|j| minor(j, i) / determinant)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forward_and_back_are_inverse_and_the_middle_goes_where_it_should() {
        let w = Warp::new([40.0, 30.0], [4e-4, -7e-4], 0.4, 1.3, [0.1, -0.2], [25.0, 20.0]).unwrap();
        let (x, y) = apply(&w.forward, 40.0, 30.0);
        assert!((x - 25.0).abs() < 1e-9 && (y - 20.0).abs() < 1e-9);
        for (x, y) in [(0.0, 0.0), (80.0, 3.0), (17.5, 60.0)] {
            let (u, v) = apply(&w.forward, x, y);
            let (x2, y2) = apply(&w.back, u, v);
            assert!((x - x2).abs() < 1e-9 && (y - y2).abs() < 1e-9);
        }
    }

    #[test]
    fn a_quarter_turn_turns_boxes() {
        let w = Warp::new([10.0, 10.0], [0.0; 2], std::f64::consts::FRAC_PI_2, 2.0, [0.0; 2], [20.0, 20.0]).unwrap();
        // Six right of the middle and two wide becomes twelve below it and two high, twice as large.
        let b = w.hull([13.0, 9.0, 17.0, 11.0]);
        for (got, expected) in [(b.x1, 18.0), (b.x2, 22.0), (b.y1, 26.0), (b.y2, 34.0)] {
            assert!((got - expected).abs() < 1e-4, "{b:?}");
        }
        assert!(Warp::new([0.0; 2], [0.0; 2], 0.0, 1.0, [1.0, 1.0], [0.0; 2]).is_none(), "it folds");
    }
}
