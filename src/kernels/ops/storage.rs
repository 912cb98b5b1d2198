//! Elements of tensors in memory.

use candle_core::{CpuStorage, DType, Layout, Shape, Storage, Tensor};
use compresso_base::error::{Error, Result};
use compresso_base::memory;
use std::ops::Deref;

pub type Candle<T> = candle_core::Result<T>;

/// Runs `f` on the tensor in float32 and gives the result the tensor's own type.
pub fn in_f32(x: &Tensor, f: impl FnOnce(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
    let room = |t: &Tensor, width: usize| memory::claim_tensor(t.dims(), width, 1, || format!("a copy of numbers of shape {:?}", t.dims()));
    match x.dtype() {
        DType::F32 => f(x),
        t if t.is_float() => {
            room(x, size_of::<f32>())?;
            let y = f(&x.to_dtype(DType::F32)?)?;
            room(&y, t.size_in_bytes())?;
            Ok(y.to_dtype(t)?)
        }
        t => Err(Error::dtype(format!("expected floating point, got {t:?}"))),
    }
}

/// Where the elements of a contiguous tensor lie. A part without elements may begin behind the end of the memory that it is a part of.
pub fn place(layout: &Layout) -> Option<(usize, usize)> {
    let place = layout.contiguous_offsets()?;
    Some(if place.0 == place.1 { (0, 0) } else { place })
}

/// The elements of a contiguous float32 operand of a custom operation.
pub fn floats<'a>(storage: &'a CpuStorage, layout: &Layout) -> Candle<&'a [f32]> {
    match (storage, place(layout)) {
        (CpuStorage::F32(v), Some((start, end))) => Ok(&v[start..end]),
        _ => Err(candle_core::Error::Msg("expected a contiguous float32 tensor".into()).bt()),
    }
}

/// A read guard of a tensor's float32 elements.
pub struct Floats<G> {
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
pub fn read(t: &Tensor) -> Candle<Floats<impl Deref<Target = Storage> + '_>> {
    let (guard, layout) = t.storage_and_layout();
    let (start, end) = match &*guard {
        Storage::Cpu(s) => {
            floats(s, layout)?;
            place(layout).unwrap_or_default()
        }
        _ => return Err(candle_core::Error::Msg("expected a tensor on the CPU".into()).bt()),
    };
    Ok(Floats { guard, start, end })
}

pub fn output(values: Vec<f32>, shape: impl Into<Shape>) -> Candle<(CpuStorage, Shape)> {
    Ok((CpuStorage::F32(values), shape.into()))
}
