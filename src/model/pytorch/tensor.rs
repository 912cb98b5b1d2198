//! The tensors of a checkpoint.

use super::archive::Checkpoint;
use super::object::{Id, Object};
use crate::{Constant, Element, Payload};
use bytes::Bytes;
use compresso_base::error::{Error, Result};

/// A parameter of a tensor of a parameter … is a mistake.
const MOST_WRAPPINGS: usize = 8;
/// More axes than PyTorch allows.
const MOST_AXES: usize = 64;

impl Checkpoint {
    /// The call that makes a tensor, inside of what wraps it, as a parameter does: the function's name and its arguments.
    fn tensor_call(&self, id: Id) -> Option<(&str, &[Id])> {
        let heap = &self.heap;
        let mut id = id;
        for _ in 0..MOST_WRAPPINGS {
            let r = heap.record(id)?;
            let (class, args) = (heap.global(r.class)?, heap.sequence(r.args)?);
            match (&*class.module, &*class.name) {
                ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => id = *args.first()?,
                // A tensor that has attributes: (function, class, arguments, attributes).
                ("torch._tensor", "_rebuild_from_type_v2") => {
                    return Some((&heap.global(*args.first()?)?.name, heap.sequence(*args.get(2)?)?));
                }
                ("torch._utils", name) if name.starts_with("_rebuild_") => return Some((name, args)),
                _ => return None,
            }
        }
        None
    }

    pub fn is_tensor(&self, id: Id) -> bool {
        self.tensor_call(id).is_some()
    }

    /// The values of a tensor, in row-major order.
    ///
    /// # Errors
    /// `Format` when it is none or reaches outside of its storage; `Unsupported` for kinds of tensors that are not known,
    /// such as sparse ones.
    pub fn tensor(&self, id: Id) -> Result<Constant> {
        let heap = &self.heap;
        let (function, args) = self.tensor_call(id).ok_or_else(|| Error::format("expected a tensor"))?;
        if !matches!(function, "_rebuild_tensor" | "_rebuild_tensor_v2" | "_rebuild_tensor_v3") {
            return Err(Error::unsupported(format!("tensors of the kind {} are not supported", function.trim_start_matches("_rebuild_"))));
        }
        let bad = || Error::format("a tensor is not described as PyTorch does");
        let (&[storage, offset, size, stride], rest) = args.split_first_chunk::<4>().ok_or_else(bad)?;
        let (stored, bytes) = self.storage(storage)?;
        let element = if function == "_rebuild_tensor_v3" { self.number_type(*rest.get(2).ok_or_else(bad)?)? } else { stored };
        let offset = heap.size(offset).ok_or_else(bad)?;
        let whole = |id| heap.sequence(id)?.iter().map(|&i| heap.size(i)).collect::<Option<Vec<usize>>>();
        let (dims, strides) = (whole(size).ok_or_else(bad)?, whole(stride).ok_or_else(bad)?);
        if dims.len() != strides.len() || dims.len() > MOST_AXES {
            return Err(bad());
        }
        let raw = self.view(&bytes, element, offset, &dims, &strides)?;
        Constant::new(element, dims, Payload::Raw(raw))
    }

    /// The packed elements of a view of a storage.
    fn view(&self, bytes: &Bytes, element: Element, offset: usize, dims: &[usize], strides: &[usize]) -> Result<Bytes> {
        let outside = || Error::format(format!("a tensor of shape {dims:?} and strides {strides:?} reaches outside of its storage"));
        let width = element.bits() / 8;
        let count = dims.iter().try_fold(1usize, |a, &d| a.checked_mul(d)).ok_or_else(outside)?;
        if count == 0 {
            return Ok(Bytes::new());
        }
        let last = dims.iter().zip(strides).try_fold(offset, |a, (&d, &s)| a.checked_add((d - 1).checked_mul(s)?)).ok_or_else(outside)?;
        let end = last.checked_add(1).and_then(|n| n.checked_mul(width)).filter(|&e| e <= bytes.len()).ok_or_else(outside)?;
        if is_contiguous(dims, strides) {
            return Ok(bytes.slice(offset * width..end));
        }
        self.spend(count.checked_mul(width).ok_or_else(outside)?)?;
        let mut out = Vec::with_capacity(count * width);
        let mut at = vec![0usize; dims.len()];
        for _ in 0..count {
            let from = (offset + at.iter().zip(strides).map(|(i, s)| i * s).sum::<usize>()) * width;
            out.extend_from_slice(&bytes[from..from + width]);
            for axis in (0..dims.len()).rev() {
                at[axis] += 1;
                if at[axis] < dims[axis] {
                    break;
                }
                at[axis] = 0;
            }
        }
        Ok(out.into())
    }

    /// The element type that `torch.uint16` and the like name.
    fn number_type(&self, id: Id) -> Result<Element> {
        let name = self.heap.global(id).filter(|g| g.module == "torch").map_or("", |g| &g.name);
        Ok(match name {
            "uint16" => Element::U16,
            "uint32" => Element::U32,
            "uint64" => Element::U64,
            "float8_e4m3fn" => Element::F8E4M3FN,
            "float8_e4m3fnuz" => Element::F8E4M3FNUZ,
            "float8_e5m2" => Element::F8E5M2,
            "float8_e5m2fnuz" => Element::F8E5M2FNUZ,
            "float32" => Element::F32,
            "float16" => Element::F16,
            "bfloat16" => Element::BF16,
            _ => return Err(Error::unsupported("a tensor is of an element type that is not supported")),
        })
    }

    /// The numbers of a small tensor, list or number.
    pub fn numbers(&self, id: Id) -> Option<Vec<f64>> {
        match self.heap.get(id) {
            Object::Record(_) if self.is_tensor(id) => self.tensor(id).ok().filter(|c| c.count() <= 4096)?.to_f64s().ok(),
            _ => match self.heap.sequence(id) {
                Some(items) => items.iter().take(4096).map(|&i| self.heap.number(i)).collect(),
                None => self.heap.number(id).map(|n| vec![n]),
            },
        }
    }
}

/// Whether the elements lie one after the other. Strides of axes of size 1 mean nothing.
fn is_contiguous(dims: &[usize], strides: &[usize]) -> bool {
    let mut expected = 1;
    for (&d, &s) in dims.iter().zip(strides).rev() {
        if d != 1 && s != expected {
            return false;
        }
        expected *= d;
    }
    true
}
