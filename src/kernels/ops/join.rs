use super::add::rows;
use super::storage::Candle;
use crate::out::fresh;
use candle_core::{CpuStorage, DType, Device, Storage, Tensor};
use compresso_base::error::Result;
use rayon::prelude::*;

/// Tensors of equal sizes but for `axis`, joined along it. Plain float32 tensors on the CPU, of rows without gaps, are
/// copied by several threads.
pub fn join(parts: &[&Tensor], axis: usize) -> Result<Tensor> {
    let fits = |t: &Tensor| {
        t.device().is_cpu()
            && t.dtype() == DType::F32
            && !t.track_op()
            && rows(t.layout()).is_some_and(|r| r.len.is_multiple_of(t.dims()[axis..].iter().product::<usize>().max(1)))
    };
    if parts.len() < 2 || !parts.iter().all(|t| fits(t)) {
        return Ok(Tensor::cat(parts, axis)?);
    }
    let mut dims = parts[0].dims().to_vec();
    dims[axis] = parts.iter().map(|t| t.dims()[axis]).sum();
    Ok(copied(parts, axis, &dims)?)
}

fn copied(parts: &[&Tensor], axis: usize, dims: &[usize]) -> Candle<Tensor> {
    let width: usize = dims[axis..].iter().product();
    let held: Vec<_> = parts.iter().map(|p| p.storage_and_layout()).collect();
    let mut sources = Vec::with_capacity(parts.len());
    for (part, (guard, layout)) in parts.iter().zip(&held) {
        let (Storage::Cpu(CpuStorage::F32(from)), Some(r)) = (&**guard, rows(layout)) else {
            return Err(candle_core::Error::Msg("expected float32 tensors of rows on the CPU".into()).bt());
        };
        sources.push((from, r, part.dims()[axis..].iter().product::<usize>()));
    }
    let lengths: usize = sources.iter().map(|(_, _, len)| len).sum();
    if lengths != width {
        return Err(candle_core::Error::Msg(format!("rows of {lengths} values do not make rows of {width}")).bt());
    }
    let values = fresh(dims.iter().product(), |mut values| {
        let mut start = 0;
        for (from, r, len) in sources.iter().filter(|(_, _, len)| *len > 0) {
            values.cells().par_chunks_mut(width).enumerate().for_each(|(i, row)| {
                let at = i * len;
                let from = &from[r.start + at / r.len * r.stride + at % r.len..][..*len];
                row[start..start + len].write_copy_of_slice(from);
            });
            start += len;
        }
        // SAFETY: the parts of a row are as long as the row, and each was written.
        unsafe { values.written() }
    });
    Tensor::from_vec(values, dims, &Device::Cpu)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joined_as_candle_joins() {
        let range = |dims: &[usize]| {
            let n: usize = dims.iter().product();
            Tensor::arange(0f32, n as f32, &Device::Cpu).unwrap().reshape(dims).unwrap().force_contiguous().unwrap()
        };
        let (a, b) = (range(&[3, 5, 2, 4]), range(&[3, 5, 6, 4]));
        for (parts, axis) in [
            (vec![a.clone(), b.narrow(2, 1, 2).unwrap(), a.narrow(1, 1, 5 - 1).unwrap().narrow(1, 0, 3).unwrap()], 1),
            (vec![a.clone(), b.clone(), a.clone()], 2),
            (vec![b.narrow(1, 2, 3).unwrap(), b.narrow(1, 0, 1).unwrap()], 1),
            (vec![a.clone(), a.narrow(0, 1, 1).unwrap()], 0),
            (vec![a.transpose(2, 3).unwrap(), a.transpose(2, 3).unwrap()], 1),
        ] {
            let parts: Vec<&Tensor> = parts.iter().filter(|p| (0..4).all(|d| d == axis || p.dims()[d] == parts[0].dims()[d])).collect();
            let flat = |t: Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let exact: Vec<Tensor> = parts.iter().map(|p| p.contiguous().unwrap()).collect();
            assert_eq!(flat(join(&parts, axis).unwrap()), flat(Tensor::cat(&exact, axis).unwrap()), "axis {axis}");
        }
    }
}
