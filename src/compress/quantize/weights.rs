//! Weights as int8 constants with a scale per output channel.

use super::affine::{Affine, Grid, Range};
use compresso_base::error::{Error, Result};
use compresso_model::{Constant, Element, Payload};

/// A weight in int8: zero point 0, one scale per index of `axis`, or one for all.
#[derive(Debug, Clone)]
pub struct Weight {
    /// In the weight's own order.
    pub values: Vec<i8>,
    /// Shape of the weight.
    pub dims: Vec<usize>,
    /// That of the output channels, along which scales differ.
    pub axis: usize,
    /// As many as the axis is long, or one.
    pub scales: Vec<f32>,
}

impl Weight {
    /// Quantizes a float32 constant onto a grid around zero, with the finest scales that hold its channels, or the whole of it.
    ///
    /// # Errors
    /// `Check` for weights that are infinite or not a number.
    pub fn quantize(weight: &Constant, axis: usize, per_channel: bool, grid: Grid) -> Result<Self> {
        let values = finite(weight)?;
        let scales = best(&values, weight.dims(), per_channel.then_some(axis), grid);
        let scales = scales.into_iter().map(|s| s.unwrap_or(1.0)).collect();
        Ok(Self::rounded(&values, weight.dims(), axis, grid, scales))
    }
    /// Quantizes finite numbers of this shape onto a grid around zero, with given scales: one per index of `axis`, or one.
    pub fn rounded(values: &[f32], dims: &[usize], axis: usize, grid: Grid, scales: Vec<f32>) -> Self {
        let (low, high) = (f32::from(i8::try_from(grid.low).unwrap_or(i8::MIN)), f32::from(i8::try_from(grid.high).unwrap_or(i8::MAX)));
        let run = if scales.len() == 1 { values.len() } else { dims[axis + 1..].iter().product() };
        let mut integers = Vec::with_capacity(values.len());
        for (i, run) in values.chunks(run.max(1)).enumerate() {
            let scale = scales[i % scales.len()];
            integers.extend(run.iter().map(|&v| nearest((v / scale).clamp(low, high))));
        }
        Self { values: integers, dims: dims.to_vec(), axis, scales }
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
    /// The int4 constant, of integers of 4 bits.
    pub fn packed(&self) -> Result<Constant> {
        let wide: Vec<i16> = self.values.iter().map(|&v| i16::from(v)).collect();
        let tensor = candle_core::Tensor::from_vec(wide, self.dims.as_slice(), &candle_core::Device::Cpu)?;
        Constant::from_storage(Element::I4, &tensor)
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

/// The numbers of a weight.
///
/// # Errors
/// `Check` for numbers that are infinite or not a number.
pub fn finite(weight: &Constant) -> Result<Vec<f32>> {
    let values = weight.to_f32s()?;
    if values.iter().any(|v| !v.is_finite()) {
        return Err(Error::check("the weight holds values that are infinite or not a number"));
    }
    Ok(values)
}

/// The finest scale around zero for each index of `axis`, or for all values; `None` where these are all zero.
pub fn finest(values: &[f32], dims: &[usize], axis: Option<usize>, grid: Grid) -> Vec<Option<f32>> {
    // Runs of values of one channel, the channels in turn.
    let (channels, run) = axis.map_or((1, values.len()), |axis| (dims[axis], dims[axis + 1..].iter().product()));
    let mut ranges = vec![Range::EMPTY; channels];
    for (i, run) in values.chunks(run.max(1)).enumerate() {
        let r = &mut ranges[i % channels];
        *r = r.join(Range::of(run));
    }
    ranges.into_iter().map(|r| Affine::finest(r, grid).map(|a| a.scale)).collect()
}

/// Grids of fewer integers on either side of zero are worth clipping for.
const COARSE: i32 = 31;

/// The best scale around zero for each index of `axis`, or for all values: the finest, on grids of few integers the one with the
/// least squared error, which clips (Nagel et al. 2021, 3.1); `None` where the values are all zero.
pub fn best(values: &[f32], dims: &[usize], axis: Option<usize>, grid: Grid) -> Vec<Option<f32>> {
    let mut scales = finest(values, dims, axis, grid);
    if grid.high > COARSE {
        return scales;
    }
    let run = axis.map_or(values.len(), |axis| dims[axis + 1..].iter().product()).max(1);
    let channels = scales.len();
    for (c, scale) in scales.iter_mut().enumerate() {
        let Some(finest) = *scale else { continue };
        let own = || values.chunks(run).skip(c).step_by(channels).flatten();
        let error = |s: f32| {
            let (low, high) = (grid.low as f32, grid.high as f32);
            own().map(|&v| f64::from(v - (v / s).round_ties_even().clamp(low, high) * s).powi(2)).sum::<f64>()
        };
        let candidates = (0..40u8).map(|k| finest * (1.0 - f32::from(k) / 60.0)).filter(|s| s.is_normal());
        *scale = candidates.map(|s| (error(s), s)).min_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, s)| s).or(*scale);
    }
    scales
}

/// The integer nearest to a number of at most 8 bits, halves to even: float32 has no room for fractions beside 3 · 2²².
fn nearest(v: f32) -> i8 {
    const ROUND: f32 = 12_582_912.0;
    #[expect(clippy::cast_possible_truncation, reason = "a whole number of at most 8 bits")]
    let q = ((v + ROUND) - ROUND) as i8;
    q
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
        let rows = Weight::quantize(&w, 0, true, Grid::INT8).unwrap();
        assert_eq!(rows.values, [127, -50, 127, 64]);
        assert_eq!(rows.scales, [0.01, 1.0]);
        let columns = Weight::quantize(&w, 1, true, Grid::INT8).unwrap();
        assert_eq!(columns.values, [1, -1, 127, 127]);
        assert_eq!(columns.scales[0], 1.0);
        let whole = Weight::quantize(&w, 0, false, Grid::INT8).unwrap();
        // 0.5 rounds to even.
        assert_eq!((whole.values, whole.scales), (vec![1, 0, 127, 64], vec![1.0]));
    }

    #[test]
    fn four_bits_clip_what_is_rare() {
        let four = Grid { low: -7, high: 7, ..Grid::INT8 };
        let mut values: Vec<f32> = (0..63i16).map(|i| f32::from(i % 15 - 7)).collect();
        values.push(14.0);
        let error = |s: f32| values.iter().map(|v| (v - (v / s).round_ties_even().clamp(-7.0, 7.0) * s).powi(2)).sum::<f32>();
        let found = best(&values, &[1, 64], Some(0), four)[0].unwrap();
        assert!(found < 2.0 && error(found) < 0.6 * error(2.0), "{found}: {} of {}", error(found), error(2.0));
        assert_eq!(best(&values, &[1, 64], Some(0), Grid::INT8), finest(&values, &[1, 64], Some(0), Grid::INT8));
        assert_eq!(best(&[0.0; 4], &[2, 2], Some(0), four), [None, None]);
    }

    #[test]
    fn seven_bits_never_overflow_a_pair_of_products() {
        let w = Constant::floats(&[1, 3], &[-2.0, 0.5, 2.0]).unwrap();
        let q = Weight::quantize(&w, 0, true, Grid::INT8.reduced()).unwrap();
        assert_eq!((q.values.as_slice(), q.scales[0]), (&[-64, 16, 64][..], 2.0 / 64.0));
        assert!(2 * 255 * 64 <= i32::from(i16::MAX));
    }

    #[test]
    fn the_unsigned_form_is_the_signed_one_plus_128() {
        let w = Constant::floats(&[1, 3], &[-127.0, 0.0, 127.0]).unwrap();
        let q = Weight::quantize(&w, 0, true, Grid::INT8).unwrap();
        assert_eq!(q.signed().unwrap().to_i64s().unwrap(), [-127, 0, 127]);
        assert_eq!(q.unsigned().unwrap().to_i64s().unwrap(), [1, 128, 255]);
    }

    #[test]
    fn sqnr_is_in_decibels() {
        assert!((sqnr(&[10.0, 0.0], &[9.0, 0.0]) - 20.0).abs() < 1e-9);
        assert_eq!(sqnr(&[1.0], &[1.0]), f64::INFINITY);
    }
}
