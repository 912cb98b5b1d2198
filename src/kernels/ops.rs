//! The kernels as differentiable functions on tensors.
//!
//! Each function takes float tensors of any float type. On the CPU the work is done in float32 by this crate's kernels,
//! and gradients flow through; on other devices candle's own operations do it, and what they cannot do is `Unsupported`.

mod activation;
mod add;
mod conv;
mod join;
mod norm;
mod pool;
mod resize;
mod softmax;

pub use activation::activate;
pub use add::add_assign;
pub use conv::{conv, conv_backward, conv_transpose};
pub use join::join;
pub use norm::{batch_norm, batch_norm_backward, channel_affine};
pub use pool::{average_pool, max_pool, max_pool_backward, max_pool_indices};
pub use resize::{resize_axis, resize_axis_backward};
pub use softmax::{log_softmax, softmax};

use candle_core::{CpuStorage, DType, Layout, Shape, Storage, Tensor};
use compresso_base::error::{Error, Result};
use std::ops::Deref;

type Candle<T> = candle_core::Result<T>;

/// Runs `f` on the tensor in float32 and gives the result the tensor's own type.
fn in_f32(x: &Tensor, f: impl FnOnce(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
    match x.dtype() {
        DType::F32 => f(x),
        t if t.is_float() => Ok(f(&x.to_dtype(DType::F32)?)?.to_dtype(t)?),
        t => Err(Error::dtype(format!("expected floating point, got {t:?}"))),
    }
}

/// The elements of a contiguous float32 operand of a custom operation.
fn floats<'a>(storage: &'a CpuStorage, layout: &Layout) -> Candle<&'a [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(v), Some((start, end))) => Ok(&v[start..end]),
        _ => Err(candle_core::Error::Msg("expected a contiguous float32 tensor".into()).bt()),
    }
}

/// A read guard of a tensor's float32 elements.
struct Floats<G> {
    guard: G,
    start: usize,
    end: usize,
}

impl<G: Deref<Target = Storage>> Deref for Floats<G> {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        match &*self.guard {
            Storage::Cpu(CpuStorage::F32(v)) => &v[self.start..self.end],
            _ => unreachable!("read checks the type"),
        }
    }
}

/// Reads the elements of a contiguous float32 tensor on the CPU.
fn read(t: &Tensor) -> Candle<Floats<impl Deref<Target = Storage> + '_>> {
    let (guard, layout) = t.storage_and_layout();
    let (start, end) = match &*guard {
        Storage::Cpu(s) => {
            floats(s, layout)?;
            layout.contiguous_offsets().unwrap_or_default()
        }
        _ => return Err(candle_core::Error::Msg("expected a tensor on the CPU".into()).bt()),
    };
    Ok(Floats { guard, start, end })
}

/// Memory for a result of which the caller writes every element: zeros first would cost another pass over it.
#[expect(clippy::uninit_vec, reason = "the kernels write every element; tests hold them to it with results that start as NaN")]
fn unset(len: usize) -> Vec<f32> {
    if cfg!(debug_assertions) {
        return vec![f32::NAN; len];
    }
    let mut values = Vec::with_capacity(len);
    // SAFETY: the capacity is there, and any bits are a float. No element is read before a kernel has written it.
    unsafe {
        values.set_len(len);
    }
    values
}

fn output(values: Vec<f32>, shape: impl Into<Shape>) -> Candle<(CpuStorage, Shape)> {
    Ok((CpuStorage::F32(values), shape.into()))
}
