//! Constants with rows for other classes.

use candle_core::{DType, Device, Tensor};
use compresso_base::error::{Error, Result};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// What stands at an index of a rewritten axis: an old index, or a class of a run that began at an old index.
#[derive(Clone, Copy)]
pub enum Entry {
    Old(usize),
    Class { start: usize, row: Option<usize> },
}

/// A constant with other entries along an axis, on which the old `classes` stand at these indices. New rows have the spread of theirs,
/// new biases (of rank 1) their mean.
pub fn redrawn(full: &Tensor, axis: usize, entries: &[Entry], classes: &[u32], name: &str) -> Result<Tensor> {
    let mut rng = ChaCha8Rng::seed_from_u64(name.bytes().fold(0, |h: u64, b| h.wrapping_mul(0x0100_0000_01b3) ^ u64::from(b)));
    let mut spread: Option<Spread> = None;
    let mut parts = Vec::with_capacity(entries.len());
    for entry in entries {
        parts.push(match *entry {
            Entry::Old(i) => full.narrow(axis, i, 1)?,
            Entry::Class { start, row: Some(row) } => full.narrow(axis, start + row, 1)?,
            Entry::Class { row: None, .. } => {
                let of = match spread.take() {
                    Some(known) => known,
                    None => Spread::of(&full.index_select(&Tensor::new(classes, &Device::Cpu)?, axis)?)?,
                };
                spread.insert(of).draw(full, axis, &mut rng)?
            }
        });
    }
    if parts.is_empty() {
        return Err(Error::argument("option 'classes' has no names"));
    }
    Ok(Tensor::cat(&parts, axis)?.contiguous()?)
}

/// Mean and standard deviation of a constant's numbers.
struct Spread {
    mean: f64,
    deviation: f64,
}

impl Spread {
    /// # Errors
    /// `Unsupported` for integers, of which no row can be drawn.
    fn of(t: &Tensor) -> Result<Self> {
        if !t.dtype().is_float() {
            return Err(Error::unsupported("a row of integers cannot be drawn for a new class"));
        }
        let values = t.flatten_all()?.to_dtype(DType::F64)?.to_vec1::<f64>()?;
        let n = values.len().max(1) as f64;
        let mean = values.iter().sum::<f64>() / n;
        let deviation = (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt();
        Ok(Self { mean, deviation })
    }
    /// One entry along `axis`: uniform numbers around 0 of this deviation; of a vector, the mean.
    fn draw(&self, like: &Tensor, axis: usize, rng: &mut ChaCha8Rng) -> Result<Tensor> {
        let mut dims = like.dims().to_vec();
        dims[axis] = 1;
        let count: usize = dims.iter().product();
        let bound = 3f64.sqrt() * self.deviation;
        let values: Vec<f64> =
            if dims.len() == 1 { vec![self.mean; count] } else { (0..count).map(|_| bound * rng.random_range(-1.0..=1.0)).collect() };
        Ok(Tensor::from_vec(values, dims, &Device::Cpu)?.to_dtype(like.dtype())?)
    }
}
