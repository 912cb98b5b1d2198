//! Weights as int8 constants with a scale per output channel.

use super::affine::{Affine, Grid, Range};
use compresso_base::error::{Error, Result};
use compresso_model::{Constant, Element, Payload};

/// A weight in int8: zero point 0, one scale per index of `axis`, or one for all.
#[derive(Debug, Clone)]
pub struct Weight {
    /// In the weight's own order.
    pub values: Vec<i8>,
    pub dims: Vec<usize>,
    pub axis: usize,
    /// As many as the axis is long, or one.
    pub scales: Vec<f32>,
}

impl Weight {
    /// Quantizes a float32 constant onto a grid around zero.
    ///
    /// `bias` (one value per output channel) and `input_scale` raise a channel's scale where its bias would not fit into
    /// an int32 of scale `input_scale * scale`.
    ///
    /// # Errors
    /// `Check` for weights that are infinite or not a number.
    pub fn quantize(weight: &Constant, axis: usize, per_channel: bool, grid: Grid, bias: Option<(&[f32], f32)>) -> Result<Self> {
        let values = weight.to_f32s()?;
        if values.iter().any(|v| !v.is_finite()) {
            return Err(Error::check("the weight holds values that are infinite or not a number"));
        }
        let dims = weight.dims().to_vec();
        let channels = if per_channel { dims[axis] } else { 1 };
        // Runs of values of one channel, the channels in turn.
        let run = if per_channel { dims[axis + 1..].iter().product() } else { values.len() }.max(1);
        let mut ranges = vec![Range::EMPTY; channels];
        for (i, run) in values.chunks(run).enumerate() {
            let r = &mut ranges[i % channels];
            *r = r.join(Range::of(run));
        }
        let mut scales: Vec<f32> = ranges.iter().map(|&r| Affine::fit(r, grid).scale).collect();
        if let Some((bias, input_scale)) = bias {
            // Half of the int32 range is left to the sum of products.
            let limit = 2f32.powi(30);
            for (c, &b) in bias.iter().enumerate() {
                let c = if per_channel { c.min(channels - 1) } else { 0 };
                scales[c] = scales[c].max(b.abs() / (limit * input_scale));
            }
        }
        let (low, high) = (f32::from(i8::try_from(grid.low).unwrap_or(i8::MIN)), f32::from(i8::try_from(grid.high).unwrap_or(i8::MAX)));
        let mut integers = Vec::with_capacity(values.len());
        for (i, run) in values.chunks(run).enumerate() {
            let scale = scales[i % channels];
            integers.extend(run.iter().map(|&v| nearest((v / scale).clamp(low, high))));
        }
        Ok(Self { values: integers, dims, axis, scales })
    }
    /// The weight that the integers stand for.
    pub fn dequantize(&self) -> Vec<f32> {
        let run = if self.scales.len() == 1 { self.values.len() } else { self.dims[self.axis + 1..].iter().product() };
        let runs = self.values.chunks(run.max(1)).enumerate();
        runs.flat_map(|(i, run)| run.iter().map(move |&q| f32::from(q) * self.scales[i % self.scales.len()])).collect()
    }
    /// The int8 constant.
    pub fn signed(&self) -> Result<Constant> {
        Constant::new(Element::I8, self.dims.clone(), raw(self.values.iter().map(|&v| v.to_le_bytes())))
    }
    /// The uint8 constant of the same numbers with zero point 128.
    pub fn unsigned(&self) -> Result<Constant> {
        Constant::new(Element::U8, self.dims.clone(), raw(self.values.iter().map(|&v| [v.cast_unsigned() ^ 0x80])))
    }
    /// The scales: a scalar, or one per channel.
    pub fn scale(&self) -> Result<Constant> {
        if self.scales.len() == 1 { Ok(Constant::scalar(self.scales[0])) } else { Constant::floats(&[self.scales.len()], &self.scales) }
    }
    /// The zero points, all 0, shaped as the scales.
    pub fn zero_point(&self) -> Result<Constant> {
        let dims = if self.scales.len() == 1 { vec![] } else { vec![self.scales.len()] };
        Constant::new(Element::I8, dims, Payload::Raw(vec![0; self.scales.len()].into()))
    }
}

/// The integer nearest to a number of at most 8 bits, halves to even: float32 has no room for fractions beside 3 · 2²².
fn nearest(v: f32) -> i8 {
    const ROUND: f32 = 12_582_912.0;
    #[expect(clippy::cast_possible_truncation, reason = "a whole number of at most 8 bits")]
    let q = ((v + ROUND) - ROUND) as i8;
    q
}

/// A bias in int32, whose scale per channel is the product of the input's and the weight's.
pub fn int32_bias(bias: &[f32], scales: &[f32]) -> Result<Constant> {
    let quantize = |(i, &b): (usize, &f32)| {
        let scale = scales[if scales.len() == 1 { 0 } else { i }];
        #[expect(clippy::cast_possible_truncation, reason = "float to int conversion saturates")]
        let q = (f64::from(b) / f64::from(scale)).round_ties_even() as i32;
        q.to_le_bytes()
    };
    Constant::new(Element::I32, vec![bias.len()], raw(bias.iter().enumerate().map(quantize)))
}

/// Signal over noise in decibels: how much of `exact` is left in `approximate`. Infinite when they are equal.
pub fn sqnr(exact: &[f32], approximate: &[f32]) -> f64 {
    let signal: f64 = exact.iter().map(|&v| f64::from(v).powi(2)).sum();
    let noise: f64 = exact.iter().zip(approximate).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2)).sum();
    10.0 * (signal / noise).log10()
}

fn raw<const N: usize>(bytes: impl Iterator<Item = [u8; N]>) -> Payload {
    Payload::Raw(bytes.flatten().collect::<Vec<u8>>().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_channel_has_its_own_scale_along_either_axis() {
        let w = Constant::floats(&[2, 2], &[1.27, -0.5, 127.0, 64.0]).unwrap();
        let rows = Weight::quantize(&w, 0, true, Grid::INT8, None).unwrap();
        assert_eq!(rows.values, [127, -50, 127, 64]);
        assert_eq!(rows.scales, [0.01, 1.0]);
        let columns = Weight::quantize(&w, 1, true, Grid::INT8, None).unwrap();
        assert_eq!(columns.values, [1, -1, 127, 127]);
        assert_eq!(columns.scales[0], 1.0);
        let whole = Weight::quantize(&w, 0, false, Grid::INT8, None).unwrap();
        // 0.5 rounds to even.
        assert_eq!((whole.values, whole.scales), (vec![1, 0, 127, 64], vec![1.0]));
    }

    #[test]
    fn seven_bits_never_overflow_a_pair_of_products() {
        let w = Constant::floats(&[1, 3], &[-2.0, 0.5, 2.0]).unwrap();
        let q = Weight::quantize(&w, 0, true, Grid::INT8.reduced(), None).unwrap();
        assert_eq!((q.values.as_slice(), q.scales[0]), (&[-64, 16, 64][..], 2.0 / 64.0));
        assert!(2 * 255 * 64 <= i32::from(i16::MAX));
    }

    #[test]
    fn the_unsigned_form_is_the_signed_one_plus_128() {
        let w = Constant::floats(&[1, 3], &[-127.0, 0.0, 127.0]).unwrap();
        let q = Weight::quantize(&w, 0, true, Grid::INT8, None).unwrap();
        assert_eq!(q.signed().unwrap().to_i64s().unwrap(), [-127, 0, 127]);
        assert_eq!(q.unsigned().unwrap().to_i64s().unwrap(), [1, 128, 255]);
    }

    #[test]
    fn a_large_bias_of_a_tiny_channel_still_fits() {
        let w = Constant::floats(&[2, 1], &[1e-12, 1.0]).unwrap();
        let bias = [5.0, 0.1];
        let q = Weight::quantize(&w, 0, true, Grid::INT8, Some((&bias, 0.02))).unwrap();
        let scales: Vec<f32> = q.scales.iter().map(|s| s * 0.02).collect();
        let b = int32_bias(&bias, &scales).unwrap().to_i64s().unwrap();
        assert_eq!(b[0], 1 << 30);
        assert!((f64::from(scales[0]) * b[0] as f64 - 5.0).abs() < 1e-3);
        assert_eq!(q.scales[1], 1.0 / 127.0);
    }

    #[test]
    fn sqnr_is_in_decibels() {
        assert!((sqnr(&[10.0, 0.0], &[9.0, 0.0]) - 20.0).abs() < 1e-9);
        assert_eq!(sqnr(&[1.0], &[1.0]), f64::INFINITY);
    }
}
