//! Tensors joined along an axis.

use candle_core::Tensor;
use compresso_base::error::Result;
use compresso_kernels::ops::join;

/// Joins tensors along an axis. Parts that candle cannot copy in rows are made contiguous first, so that the result is.
pub fn cat(parts: &[&Tensor], axis: usize) -> Result<Tensor> {
    let parts = parts
        .iter()
        .map(|t| if copies_in_rows(t, axis) { Ok((*t).clone()) } else { t.contiguous() })
        .collect::<candle_core::Result<Vec<_>>>()?;
    join(&parts.iter().collect::<Vec<_>>(), axis)
}

/// True when the axes from `axis` on are without gaps and those before it are evenly spaced: candle's condition.
fn copies_in_rows(t: &Tensor, axis: usize) -> bool {
    let (dims, stride) = (t.dims(), t.stride());
    let mut next = 1;
    for i in (axis..dims.len()).rev() {
        if stride[i] != next {
            return false;
        }
        next *= dims[i];
    }
    (1..axis).all(|i| stride[i - 1] == stride[i] * dims[i])
}
