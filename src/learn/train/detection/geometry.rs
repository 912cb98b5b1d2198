//! Overlap of boxes, with its gradient.

use std::ops::{Add, Div, Mul, Sub};

/// What the overlap is computed in: plain numbers, or numbers that carry their gradient.
pub trait Number: Copy + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Div<Output = Self> {
    /// A constant.
    fn of(value: f32) -> Self;
    /// Arc tangent, in radians.
    fn atan(self) -> Self;
    /// The smaller of the two.
    fn smaller(self, other: Self) -> Self;
    /// The larger of the two.
    fn larger(self, other: Self) -> Self;
    /// The same value, taken as a constant.
    fn constant(self) -> Self;
}

impl Number for f32 {
    fn of(value: f32) -> Self {
        value
    }
    fn atan(self) -> Self {
        f32::atan(self)
    }
    fn smaller(self, other: Self) -> Self {
        self.min(other)
    }
    fn larger(self, other: Self) -> Self {
        self.max(other)
    }
    fn constant(self) -> Self {
        self
    }
}

/// A number and its derivatives with respect to four variables.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dual {
    /// The number itself.
    pub value: f64,
    /// Its derivative with respect to each of the variables.
    pub slope: [f64; 4],
}

impl Dual {
    /// Variable `i` of the four.
    pub fn variable(value: f32, i: usize) -> Self {
        let mut slope = [0.0; 4];
        slope[i] = 1.0;
        Self { value: f64::from(value), slope }
    }
    fn with(self, value: f64, other: Self, da: f64, db: f64) -> Self {
        Self { value, slope: std::array::from_fn(|i| da * self.slope[i] + db * other.slope[i]) }
    }
}

impl Add for Dual {
    type Output = Self;
    fn add(self, o: Self) -> Self {
        self.with(self.value + o.value, o, 1.0, 1.0)
    }
}
impl Sub for Dual {
    type Output = Self;
    fn sub(self, o: Self) -> Self {
        self.with(self.value - o.value, o, 1.0, -1.0)
    }
}
impl Mul for Dual {
    type Output = Self;
    fn mul(self, o: Self) -> Self {
        self.with(self.value * o.value, o, o.value, self.value)
    }
}
impl Div for Dual {
    type Output = Self;
    fn div(self, o: Self) -> Self {
        self.with(self.value / o.value, o, 1.0 / o.value, -self.value / (o.value * o.value))
    }
}
impl Number for Dual {
    fn of(value: f32) -> Self {
        Self { value: f64::from(value), slope: [0.0; 4] }
    }
    fn atan(self) -> Self {
        self.with(self.value.atan(), self, 1.0 / (1.0 + self.value * self.value), 0.0)
    }
    fn smaller(self, o: Self) -> Self {
        if self.value <= o.value { self } else { o }
    }
    fn larger(self, o: Self) -> Self {
        if self.value >= o.value { self } else { o }
    }
    fn constant(self) -> Self {
        Self { value: self.value, slope: [0.0; 4] }
    }
}

/// Complete IoU of two boxes (left, top, right, bottom): IoU less a penalty for distance of the centres and difference of
/// the aspect ratios (Zheng et al. 2020, "Distance-IoU Loss"). As the paper says, the weight of the aspect term is taken
/// as a constant in the gradient.
pub fn complete_iou<N: Number>(a: [N; 4], b: [N; 4]) -> N {
    let eps = N::of(1e-7);
    let zero = N::of(0.0);
    let (wa, ha) = (a[2] - a[0], a[3] - a[1] + eps);
    let (wb, hb) = (b[2] - b[0], b[3] - b[1] + eps);
    let inter_w = (a[2].smaller(b[2]) - a[0].larger(b[0])).larger(zero);
    let inter_h = (a[3].smaller(b[3]) - a[1].larger(b[1])).larger(zero);
    let inter = inter_w * inter_h;
    let iou = inter / (wa * ha + wb * hb - inter + eps);
    let (hull_w, hull_h) = (a[2].larger(b[2]) - a[0].smaller(b[0]), a[3].larger(b[3]) - a[1].smaller(b[1]));
    let diagonal = hull_w * hull_w + hull_h * hull_h + eps;
    let (dx, dy) = (b[0] + b[2] - a[0] - a[2], b[1] + b[3] - a[1] - a[3]);
    let distance = (dx * dx + dy * dy) / N::of(4.0);
    let angle = (wb / hb).atan() - (wa / ha).atan();
    let v = angle * angle * N::of(4.0 / (std::f32::consts::PI * std::f32::consts::PI));
    let alpha = (v / (v - iou + N::of(1.0 + 1e-7))).constant();
    iou - (distance / diagonal + v * alpha)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identical_boxes_overlap_fully_and_distant_ones_are_penalised() {
        let unit = [0.0f32, 0.0, 1.0, 1.0];
        assert!((complete_iou(unit, unit) - 1.0).abs() < 1e-6);
        // Centres 3 apart, hull 4 × 1: 0 − 9 / 17.
        assert!((complete_iou(unit, [3.0, 0.0, 4.0, 1.0]) + 9.0 / 17.0).abs() < 1e-6);
    }

    #[test]
    fn slopes_equal_finite_differences_where_the_aspect_weight_is_constant() {
        // Equal aspect ratios: v = 0, so that its weight plays no part.
        let target = [1.0f32, 2.0, 5.2, 6.2];
        let at = [2.0f32, 2.5, 5.5, 6.0];
        let duals: [Dual; 4] = std::array::from_fn(|i| Dual::variable(at[i], i));
        let found = complete_iou(duals, target.map(Dual::of));
        for i in 0..4 {
            // Central differences in double precision, with the weight of the aspect term held at its value.
            let value = |h: f64| {
                let mut moved = at.map(Dual::of);
                moved[i].value += h;
                complete_iou(moved, target.map(Dual::of)).value
            };
            let slope = (value(1e-5) - value(-1e-5)) / 2e-5;
            assert!((slope - found.slope[i]).abs() < 1e-6, "{i}: {slope} {}", found.slope[i]);
        }
    }
}
