use super::storage::Candle;
use candle_core::{CpuStorage, DType, InplaceOp2, Layout, Tensor};
use compresso_base::error::Result;
use rayon::prelude::*;

/// `a + b`, of equal shapes. On the CPU in float32 the sum is made in the memory of `a`, which must be no other tensor's but
/// the caller's, and returned as `a`.
pub fn add_assign(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let fits = |t: &Tensor| t.device().is_cpu() && t.dtype() == DType::F32 && rows(t.layout()).is_some();
    if !fits(a) || !fits(b) || a.dims() != b.dims() {
        return Ok((a + b)?);
    }
    a.inplace_op2(b, &AddAssign)?;
    Ok(a.clone())
}

/// Evenly spaced rows of elements without gaps.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rows {
    pub start: usize,
    pub count: usize,
    pub stride: usize,
    pub len: usize,
}

/// A layout as rows, when it is contiguous but for one axis that is part of a longer one.
pub(super) fn rows(l: &Layout) -> Option<Rows> {
    let (dims, stride) = (l.dims(), l.stride());
    let mut len = 1;
    let mut axis = dims.len();
    while axis > 0 && (stride[axis - 1] == len || dims[axis - 1] == 1) {
        axis -= 1;
        len *= dims[axis];
    }
    let outer: Vec<usize> = (0..axis).filter(|&i| dims[i] != 1).collect();
    let even = outer.windows(2).all(|w| stride[w[0]] == stride[w[1]] * dims[w[1]]);
    let stride = outer.last().map_or(len, |&i| stride[i]);
    (even && stride >= len).then(|| Rows { start: l.start_offset(), count: dims[..axis].iter().product(), stride, len })
}

struct AddAssign;

/// Elements that one task adds.
const CHUNK: usize = 1 << 14;

impl InplaceOp2 for AddAssign {
    fn name(&self) -> &'static str {
        "add-assign"
    }
    fn cpu_fwd(&self, s1: &mut CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Candle<()> {
        let (CpuStorage::F32(to), CpuStorage::F32(from)) = (s1, s2) else {
            return Err(candle_core::Error::Msg("expected float32 tensors".into()).bt());
        };
        let (Some(a), Some(b)) = (rows(l1), rows(l2)) else {
            return Err(candle_core::Error::Msg("expected tensors of rows".into()).bt());
        };
        if l1.shape().elem_count() == 0 {
            return Ok(());
        }
        // A row of the finer of both is the unit.
        let unit = a.len.min(b.len);
        if !a.len.is_multiple_of(unit) || !b.len.is_multiple_of(unit) {
            return Err(candle_core::Error::Msg("expected rows that divide each other".into()).bt());
        }
        let source = |at: usize| b.start + at / b.len * b.stride + at % b.len;
        let add = |first: usize, to: &mut [f32]| {
            for (i, to) in to.chunks_mut(unit).enumerate() {
                let from = &from[source(first + i * unit)..][..to.len()];
                to.iter_mut().zip(from).for_each(|(t, f)| *t += f);
            }
        };
        let end = a.start + (a.count - 1) * a.stride + a.len;
        let to = &mut to[a.start..end];
        if a.count == 1 {
            let chunk = CHUNK.next_multiple_of(unit);
            to.par_chunks_mut(chunk).enumerate().for_each(|(i, to)| add(i * chunk, to));
        } else {
            to.par_chunks_mut(a.stride).enumerate().for_each(|(i, to)| add(i * a.len, &mut to[..a.len]));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn sums_are_made_in_place_also_in_parts_of_tensors() {
        let range = |n: usize| Tensor::arange(0f32, n as f32, &Device::Cpu).unwrap();
        let whole = range(2 * 5 * 3 * 4).reshape((2, 5, 3, 4)).unwrap().force_contiguous().unwrap();
        for (part, other) in [
            (whole.clone(), range(240).reshape((2, 10, 3, 4)).unwrap().narrow(1, 2, 5).unwrap()),
            (whole.narrow(1, 1, 2).unwrap(), range(48).reshape((2, 2, 3, 4)).unwrap()),
            (whole.narrow(1, 1, 2).unwrap(), whole.narrow(1, 2, 2).unwrap().force_contiguous().unwrap()),
            (whole.narrow(2, 1, 2).unwrap(), range(80).reshape((2, 5, 2, 4)).unwrap()),
            (whole.narrow(0, 1, 1).unwrap(), range(60).reshape((1, 5, 3, 4)).unwrap()),
        ] {
            let flat = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let before = flat(&whole);
            let expected: Vec<f32> = flat(&part).iter().zip(flat(&other)).map(|(a, b)| a + b).collect();
            let rise = flat(&other).iter().sum::<f32>();
            assert_eq!(flat(&add_assign(&part, &other).unwrap()), expected);
            assert_eq!(flat(&part), expected, "the memory of the part holds the sum");
            let change: f32 = flat(&whole).iter().zip(before).map(|(a, b)| a - b).sum();
            assert_eq!(change, rise, "nothing else changed");
        }
    }
}
