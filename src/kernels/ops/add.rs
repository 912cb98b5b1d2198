use super::storage::Candle;
use super::storage::read;
use crate::norm::channel_sums;
use crate::out::fresh;
use candle_core::{CpuStorage, DType, Device, InplaceOp2, Layout, Storage, Tensor};
use compresso_base::error::{Error, Result};
use rayon::prelude::*;
use std::mem::MaybeUninit;

/// True for float32 tensors on the CPU that gradients of candle's do not flow through.
fn plain(t: &Tensor) -> bool {
    t.device().is_cpu() && t.dtype() == DType::F32 && !t.track_op()
}

/// `a + b`, of equal shapes. Plain float32 tensors on the CPU, without gaps, are added by several threads.
pub fn add(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    if !(plain(a) && plain(b) && a.dims() == b.dims() && a.is_contiguous() && b.is_contiguous()) {
        return Ok((a + b)?);
    }
    zipped(a, b, |a, b| a + b)
}

/// `a · b` of equal shapes, or where [`plane`] finds each element of `b` beside a plane of `a`: both plain float32 tensors on the
/// CPU, without gaps. Several threads multiply them.
///
/// # Errors
/// Those of candle's product, for other tensors.
pub fn multiply(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    if a.dims() == b.dims() && plain(a) && plain(b) && a.is_contiguous() && b.is_contiguous() {
        return zipped(a, b, |a, b| a * b);
    }
    let Some(plane) = plane(a, b) else { return Ok(a.broadcast_mul(b)?) };
    let y = {
        let (a, b) = (read(a)?, read(b)?);
        fresh(a.len(), |mut y| {
            let planes = y.cells().par_chunks_mut(plane).zip(a.par_chunks(plane)).zip(&*b).with_min_len(CHUNK / plane + 1);
            planes.for_each(|((y, a), b)| {
                y.iter_mut().zip(a).for_each(|(y, a)| {
                    y.write(a * b);
                });
            });
            // SAFETY: `b` has an element for each plane, so every one was written.
            unsafe { y.written() }
        })
    };
    Ok(Tensor::from_vec(y, a.dims(), &Device::Cpu)?)
}

/// Sums of `a · b`, of equal shapes, over each plane that belongs to one element of a tensor of the shape `dims`. All are plain
/// float32 tensors on the CPU, and [`plane`] finds the planes.
pub fn plane_products(a: &Tensor, b: &Tensor, dims: &[usize]) -> Result<Tensor> {
    let (a, b) = (contiguous(a)?, contiguous(b)?);
    let count: usize = dims.iter().product();
    let sums = {
        let (a, b) = (read(&a)?, read(&b)?);
        channel_sums(count, a.len() / count.max(1), &a, &b).1
    };
    Ok(Tensor::from_vec(sums, dims, &Device::Cpu)?)
}

/// A tensor of the shape `dims` with each element of `t`, in order, on a plane of its own. `t` is float32 on the CPU.
///
/// # Errors
/// `Shape` when the elements of `t` do not divide those of `dims`.
pub fn spread(t: &Tensor, dims: &[usize]) -> Result<Tensor> {
    let (t, len) = (contiguous(t)?, dims.iter().product::<usize>());
    if len == 0 {
        return Ok(Tensor::zeros(dims, DType::F32, &Device::Cpu)?);
    }
    if t.elem_count() == 0 || !len.is_multiple_of(t.elem_count()) {
        return Err(Error::shape(format!("{} elements on planes of {dims:?}", t.elem_count())));
    }
    let plane = len / t.elem_count();
    let y = {
        let t = read(&t)?;
        fresh(len, |mut y| {
            let planes = y.cells().par_chunks_mut(plane).zip(&*t).with_min_len(CHUNK / plane + 1);
            planes.for_each(|(y, &t)| y.fill(MaybeUninit::new(t)));
            // SAFETY: there is an element for each plane, so every one was written.
            unsafe { y.written() }
        })
    };
    Ok(Tensor::from_vec(y, dims, &Device::Cpu)?)
}

/// Elements of `a` for each one of `b`, when the sizes of `b` are those of `a` up to some axis and 1 from there on, and both are
/// plain float32 tensors on the CPU without gaps.
pub fn plane(a: &Tensor, b: &Tensor) -> Option<usize> {
    if !(plain(a) && plain(b) && a.is_contiguous() && b.is_contiguous()) {
        return None;
    }
    let (from, to) = (a.dims(), b.dims());
    if from.len() != to.len() {
        return None;
    }
    let outer = from.iter().zip(to).take_while(|(m, n)| m == n).count();
    let whole = to[outer..].iter().all(|&n| n == 1) && a.elem_count() > 0;
    whole.then(|| from[outer..].iter().product())
}

/// Both are plain and contiguous, of one shape.
fn zipped(a: &Tensor, b: &Tensor, f: impl Fn(f32, f32) -> f32 + Sync) -> Result<Tensor> {
    let y = {
        let (a, b) = (read(a)?, read(b)?);
        fresh(a.len(), |mut y| {
            let run = |((y, a), b): ((&mut [MaybeUninit<f32>], &[f32]), &[f32])| {
                y.iter_mut().zip(a).zip(b).for_each(|((y, &a), &b)| {
                    y.write(f(a, b));
                });
            };
            y.cells().par_chunks_mut(CHUNK).zip(a.par_chunks(CHUNK)).zip(b.par_chunks(CHUNK)).for_each(run);
            // SAFETY: `a` and `b` have as many elements, so every one was written.
            unsafe { y.written() }
        })
    };
    Ok(Tensor::from_vec(y, a.dims(), &Device::Cpu)?)
}

/// The tensor without gaps. Plain float32 tensors on the CPU, of rows without gaps, are copied by several threads.
pub fn contiguous(t: &Tensor) -> Result<Tensor> {
    if t.is_contiguous() { Ok(t.clone()) } else { copied(t) }
}

/// The tensor without gaps, in memory of its own, copied as by [`contiguous`].
pub fn copied(t: &Tensor) -> Result<Tensor> {
    let Some(r) = rows(t.layout()).filter(|r| plain(t) && r.len > 0) else { return Ok(t.force_contiguous()?) };
    let (storage, _) = t.storage_and_layout();
    let Storage::Cpu(CpuStorage::F32(from)) = &*storage else { return Ok(t.force_contiguous()?) };
    // Long rows are copied in parts that end with the rows.
    let parts = r.len.div_ceil(CHUNK);
    let unit = if r.len.is_multiple_of(parts) { r.len / parts } else { r.len };
    let values = fresh(t.elem_count(), |mut to| {
        to.cells().par_chunks_mut(unit).enumerate().with_min_len(CHUNK / unit + 1).for_each(|(i, to)| {
            let at = i * unit;
            to.write_copy_of_slice(&from[r.start + at / r.len * r.stride + at % r.len..][..unit]);
        });
        // SAFETY: rows of this length make the tensor, and each was written.
        unsafe { to.written() }
    });
    Ok(Tensor::from_vec(values, t.dims(), &Device::Cpu)?)
}

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

    fn range(dims: &[usize]) -> Tensor {
        let n: usize = dims.iter().product();
        Tensor::arange(0f32, n as f32, &Device::Cpu).unwrap().reshape(dims).unwrap().force_contiguous().unwrap()
    }

    #[test]
    fn sums_products_and_copies_are_those_of_candle() {
        let flat = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let (a, b) = (range(&[2, 5, 3, 4]), range(&[2, 10, 3, 4]).narrow(1, 3, 5).unwrap());
        for b in [&b, &b.force_contiguous().unwrap(), &a] {
            assert_eq!(flat(&add(&a, b).unwrap()), flat(&(&a + b).unwrap()));
            assert_eq!(flat(&multiply(&a, b).unwrap()), flat(&(&a * b).unwrap()));
            assert_eq!(flat(&contiguous(b).unwrap()), flat(&b.contiguous().unwrap()));
        }
        for dims in [[2, 5, 1, 1], [2, 1, 1, 1], [1, 1, 1, 1], [2, 1, 3, 1], [1, 5, 1, 1], [2, 5, 3, 1]] {
            let by = range(&dims);
            assert_eq!(flat(&multiply(&a, &by).unwrap()), flat(&a.broadcast_mul(&by).unwrap()), "{dims:?}");
            if plane(&a, &by).is_some() {
                let axes: Vec<usize> = (0..4).filter(|&d| dims[d] != a.dims()[d]).collect();
                let sums = a.sqr().unwrap().sum_keepdim(axes).unwrap();
                assert_eq!(flat(&plane_products(&a, &a, &dims).unwrap()), flat(&sums), "{dims:?}");
            }
        }
        let by = range(&[2, 5]);
        let wide = by.reshape((2, 5, 1, 1)).unwrap().broadcast_as((2, 5, 3, 4)).unwrap();
        assert_eq!(flat(&spread(&by, &[2, 5, 3, 4]).unwrap()), flat(&wide));
        assert!(spread(&by, &[2, 5, 0]).unwrap().elem_count() == 0 && spread(&by, &[3, 7]).is_err());
        let turned = a.transpose(1, 2).unwrap();
        assert_eq!(flat(&contiguous(&turned).unwrap()), flat(&turned.contiguous().unwrap()));
    }

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
