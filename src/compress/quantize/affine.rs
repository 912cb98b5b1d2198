//! Scales and zero points: `real = (q - zero_point) * scale`.
//!
//! `q = saturate(round(x / scale) + zero_point)`, rounding halves to even, as ONNX's
//! [QuantizeLinear](https://onnx.ai/onnx/operators/onnx__QuantizeLinear.html) does. Ranges always contain zero, so zero
//! is exact. The choice of scale and zero point is onnxruntime's (`compute_scale_zp` of its quantization tools).

pub use compresso_target::Grid;

/// Smallest and largest value seen.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Range {
    /// The smallest; infinite where nothing was seen.
    pub min: f32,
    /// The largest; minus infinity where nothing was seen.
    pub max: f32,
}

impl Range {
    /// Contains nothing; joining it with a range gives that range.
    pub const EMPTY: Self = Self { min: f32::INFINITY, max: f32::NEG_INFINITY };

    /// The range that contains both.
    #[must_use]
    pub fn join(self, other: Self) -> Self {
        Self { min: self.min.min(other.min), max: self.max.max(other.max) }
    }
    /// The range of some values; [`Range::EMPTY`] for none. NaN does not count.
    pub fn of(values: &[f32]) -> Self {
        values.iter().fold(Self::EMPTY, |r, &v| Self { min: r.min.min(v), max: r.max.max(v) })
    }
    /// Whether it contains nothing.
    pub fn is_empty(self) -> bool {
        self.min > self.max
    }
    /// Widened to contain zero.
    #[must_use]
    pub fn with_zero(self) -> Self {
        self.join(Self { min: 0.0, max: 0.0 })
    }
    /// Largest magnitude; 0 for an empty range.
    pub fn magnitude(self) -> f32 {
        if self.is_empty() { 0.0 } else { self.min.abs().max(self.max.abs()) }
    }
}

/// A scale and a zero point.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Affine {
    /// What one step of the integers stands for.
    pub scale: f32,
    /// The integer that stands for 0.
    pub zero_point: i32,
}

impl Affine {
    /// As [`Affine::finest`]; a range of nothing but zero gives scale 1, zero point 0.
    pub fn fit(range: Range, grid: Grid) -> Self {
        Self::finest(range, grid).unwrap_or(Self { scale: 1.0, zero_point: 0 })
    }
    /// The finest mapping of `range`, widened to contain zero, onto `grid`. `None` for a range of nothing but zero, or of
    /// numbers too small for a scale in float32: any scale would do.
    pub fn finest(range: Range, grid: Grid) -> Option<Self> {
        let (mut low, mut high) = (f64::from(range.min.min(0.0)), f64::from(range.max.max(0.0)));
        if grid.symmetric {
            high = high.max(-low);
            low = -high;
        }
        let scale = (high - low) / f64::from(grid.high - grid.low);
        if scale < f64::from(f32::MIN_POSITIVE) || !scale.is_finite() {
            return None;
        }
        let zero = if grid.symmetric { f64::from(grid.low + grid.high) / 2.0 } else { f64::from(grid.low) - low / scale };
        #[expect(clippy::cast_possible_truncation, reason = "a scale is stored as float32; the zero point lies in the grid")]
        let affine = Self { scale: scale as f32, zero_point: zero.round_ties_even() as i32 };
        Some(affine)
    }
    /// The integer nearest to `x`, halves to even, inside the grid.
    pub fn quantize(self, x: f32, grid: Grid) -> i32 {
        #[expect(clippy::cast_possible_truncation, reason = "float to int conversion saturates, then the grid clamps")]
        let q = (x / self.scale).round_ties_even() as i32;
        q.saturating_add(self.zero_point).clamp(grid.low, grid.high)
    }
    /// The number that an integer stands for.
    pub fn dequantize(self, q: i32) -> f32 {
        #[expect(clippy::cast_precision_loss, reason = "differences of 8-bit integers are exact in float32")]
        let steps = (q - self.zero_point) as f32;
        steps * self.scale
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use compresso_model::Element;

    fn grid(element: Element, low: i32, high: i32, symmetric: bool) -> Grid {
        Grid { element, low, high, symmetric }
    }
    fn fit(min: f32, max: f32, low: i32, high: i32, symmetric: bool) -> (i32, f32) {
        let a = Affine::fit(Range { min, max }, grid(Element::I8, low, high, symmetric));
        (a.zero_point, a.scale)
    }

    /// The vectors of onnxruntime's own test of `compute_scale_zp` (test_qdq / test_symmetric_flag).
    #[test]
    fn scales_and_zero_points_are_onnxruntimes() {
        assert_eq!(fit(0.0, 0.0, -127, 127, true), (0, 1.0));
        assert_eq!(fit(1.0, -1.0, -127, 127, true), (0, 1.0));
        assert_eq!(fit(0.0, 0.0, 0, 255, false), (0, 1.0));
        assert_eq!(fit(-1.0, 2.0, -127, 127, true), (0, 2.0 / 127.0));
        assert_eq!(fit(-1.0, 2.0, -127, 127, false), (-42, 3.0 / 254.0));
        assert_eq!(fit(-1.0, 2.0, 0, 255, false), (85, 3.0 / 255.0));
        // Ranges are widened to contain zero.
        assert_eq!(fit(1.0, 2.0, 0, 255, false), (0, 2.0 / 255.0));
        assert_eq!(fit(-2.0, -1.0, 0, 255, false), (255, 2.0 / 255.0));
    }

    #[test]
    fn a_degenerate_range_is_the_identity() {
        assert_eq!(Affine::fit(Range::EMPTY, Grid::UINT8), Affine { scale: 1.0, zero_point: 0 });
        assert_eq!(Affine::fit(Range { min: 0.0, max: 1e-42 }, Grid::INT8).scale, 1.0);
    }

    #[test]
    fn reduced_grids_are_onnxruntimes() {
        assert_eq!((Grid::INT8.reduced().low, Grid::INT8.reduced().high), (-64, 64));
        assert_eq!((Grid::UINT8.reduced().low, Grid::UINT8.reduced().high), (0, 127));
    }

    /// ONNX's QuantizeLinear test: x = [0, 2, 3, 1000, -254, -1000], scale 2, zero point 128.
    #[test]
    fn rounding_and_saturation_are_onnxs() {
        let a = Affine { scale: 2.0, zero_point: 128 };
        let q: Vec<i32> = [0.0, 2.0, 3.0, 1000.0, -254.0, -1000.0, 1.0, 5.0].iter().map(|&x| a.quantize(x, Grid::UINT8)).collect();
        assert_eq!(q, [128, 129, 130, 255, 1, 0, 128, 130]);
        assert_eq!(a.dequantize(130), 4.0);
    }

    proptest::proptest! {
        #[test]
        fn a_value_inside_the_range_moves_by_half_a_step_at_most(min in -100f32..0.0, max in 0.001f32..100.0, t in 0f32..1.0) {
            for g in [Grid::UINT8, Grid::INT8] {
                let a = Affine::fit(Range { min, max }, g);
                let x = min + t * (max - min);
                let back = a.dequantize(a.quantize(x, g));
                // A zero point that was rounded moves the ends of the range by up to half a step.
                proptest::prop_assert!((back - x).abs() <= a.scale * 1.001, "{x} became {back}");
            }
        }
    }
}
