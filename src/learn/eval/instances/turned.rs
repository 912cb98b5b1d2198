//! Boxes turned about their centre.

use crate::data::BBox;
use serde::Serialize;

/// A box turned about its centre, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct TurnedBox {
    /// Of the centre, from the left of the image.
    pub cx: f32,
    /// Of the centre, from the top of the image.
    pub cy: f32,
    /// Of the sides along the turned x axis.
    pub width: f32,
    /// Of the sides along the turned y axis.
    pub height: f32,
    /// In radians, from the x axis (to the right) towards the y axis (down), as the model gives it.
    pub angle: f32,
}

impl TurnedBox {
    /// The four corners, one after the other around the box.
    pub fn corners(&self) -> [[f32; 2]; 4] {
        let (sin, cos) = self.angle.sin_cos();
        let along = [self.width / 2.0 * cos, self.width / 2.0 * sin];
        let across = [-self.height / 2.0 * sin, self.height / 2.0 * cos];
        let corner = |a: f32, b: f32| [self.cx + a * along[0] + b * across[0], self.cy + a * along[1] + b * across[1]];
        [corner(-1.0, -1.0), corner(1.0, -1.0), corner(1.0, 1.0), corner(-1.0, 1.0)]
    }

    /// The upright box around it.
    pub fn upright(&self) -> BBox {
        let (sin, cos) = self.angle.sin_cos();
        let w = (self.width * cos).abs() + (self.height * sin).abs();
        let h = (self.width * sin).abs() + (self.height * cos).abs();
        BBox::from_centre(self.cx, self.cy, w, h)
    }

    /// Whether all five numbers are finite.
    pub fn is_finite(&self) -> bool {
        [self.cx, self.cy, self.width, self.height, self.angle].iter().all(|v| v.is_finite())
    }
}

/// A turned box as a normal distribution of the same mean and covariance as the points in it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spread {
    centre: [f64; 2],
    /// Of x, of y, of both.
    variance: [f64; 3],
    /// Largest variance in any direction.
    largest: f64,
}

impl Spread {
    pub fn of(b: &TurnedBox) -> Self {
        let (sin, cos) = f64::from(b.angle).sin_cos();
        let [along, across] = [b.width, b.height].map(|side| f64::from(side).powi(2) / 12.0);
        Self {
            centre: [f64::from(b.cx), f64::from(b.cy)],
            variance: [along * cos * cos + across * sin * sin, along * sin * sin + across * cos * cos, (along - across) * cos * sin],
            largest: along.max(across),
        }
    }

    /// Probabilistic intersection over union (Llerena et al. 2021, "Gaussian Bounding Boxes and Probabilistic
    /// Intersection-over-Union"): 1 less the Hellinger distance, from 0 to 1; 0 for a box without area.
    pub fn overlap(&self, other: &Self) -> f64 {
        let [x, y, xy] = std::array::from_fn(|i| self.variance[i] + other.variance[i]);
        let [dx, dy] = std::array::from_fn(|i| other.centre[i] - self.centre[i]);
        let own = |s: &Self| (s.variance[0] * s.variance[1] - s.variance[2].powi(2)).max(0.0);
        let (joint, single) = (x * y - xy * xy, (own(self) * own(other)).sqrt());
        if joint <= 0.0 || single <= 0.0 {
            return 0.0;
        }
        let between = 0.25 * (x * dy * dy + y * dx * dx - 2.0 * xy * dx * dy) / joint;
        let shape = 0.5 * (joint / (4.0 * single)).ln();
        1.0 - (1.0 - (-(between + shape)).exp()).max(0.0).sqrt()
    }

    /// Whether the centres are so far apart that the overlap is below that of the Bhattacharyya distance `far`.
    fn is_beyond(&self, other: &Self, far: f64) -> bool {
        let [dx, dy] = std::array::from_fn(|i| other.centre[i] - self.centre[i]);
        // The distance is at least an eighth of the squared way between the centres over the mean variance along it.
        dx * dx + dy * dy > 4.0 * far * (self.largest + other.largest)
    }
}

/// An overlap that two boxes may have at most.
#[derive(Debug, Clone, Copy)]
pub(super) struct Most {
    overlap: f64,
    /// The Bhattacharyya distance of that overlap.
    distance: f64,
}

impl Most {
    pub fn new(overlap: f64) -> Self {
        Self { overlap, distance: -(1.0 - (1.0 - overlap).powi(2)).ln() }
    }
    /// Whether two boxes have it or more.
    pub fn is_reached(self, a: &Spread, b: &Spread) -> bool {
        !a.is_beyond(b, self.distance) && a.overlap(b) >= self.overlap
    }
}
