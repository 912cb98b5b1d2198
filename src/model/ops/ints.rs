//! Integer and bool tensors as plain vectors.
//!
//! candle lacks kernels for several integer types and stores narrow ones in wider ones, so integer arithmetic runs here,
//! in `i64` on the CPU, with results wrapped to the range of their element type.

use crate::element::Element;
use crate::value::Value;
use candle_core::{DType, Device, Tensor};
use compresso_base::error::{Error, Result};
use compresso_base::memory;

/// The elements of an integer or bool tensor, in row-major order.
#[derive(Debug, Clone)]
pub struct Ints {
    /// The tensor's shape.
    pub dims: Vec<usize>,
    /// As many as `dims` say.
    pub data: Vec<i64>,
}

impl Ints {
    /// # Errors
    /// `DType` for other than integer and bool values.
    pub fn of(value: &Value) -> Result<Self> {
        Ok(Self { dims: value.dims().to_vec(), data: value.to_i64s()? })
    }
    /// A value of `element`, its elements wrapped to the element's range.
    ///
    /// # Errors
    /// `DType` when `element` is not stored as integers, or a uint64 result does not fit.
    pub fn into_value(mut self, element: Element, device: &Device) -> Result<Value> {
        let storage = element.storage().ok_or_else(|| Error::unsupported(format!("{element} values cannot be computed with")))?;
        if element == Element::Bool {
            self.data.iter_mut().for_each(|v| *v = i64::from(*v != 0));
        } else if let Some((low, high)) = element.int_range() {
            for v in &mut self.data {
                if *v < low || *v > high {
                    // Both ranges are a multiple of the span long, so the wrapped sum is congruent.
                    *v = v.wrapping_sub(low).rem_euclid(high - low + 1) + low;
                }
            }
        } else if element == Element::U64 && self.data.iter().any(|&v| v < 0) {
            return Err(Error::dtype(format!("a uint64 result is too large to compute with (at most {})", i64::MAX)));
        }
        let tensor = Tensor::from_vec(self.data, self.dims, &Device::Cpu)?;
        Value::new(element, to_storage(&tensor, storage)?.to_device(device)?)
    }
}

/// An int64 tensor converted to the type in which its elements are stored.
pub fn to_storage(tensor: &Tensor, storage: DType) -> Result<Tensor> {
    Ok(if tensor.dtype() == storage { tensor.clone() } else { tensor.to_dtype(storage)? })
}

/// The shape that known shapes broadcast to.
///
/// # Errors
/// `Shape` when they do not broadcast.
pub fn broadcast_dims(a: &[usize], b: &[usize]) -> Result<Vec<usize>> {
    let rank = a.len().max(b.len());
    let at = |s: &[usize], i: usize| (i + s.len()).checked_sub(rank).map_or(1, |j| s[j]);
    let dims = (0..rank)
        .map(|i| match (at(a, i), at(b, i)) {
            (x, y) if x == y || y == 1 => Ok(x),
            (1, y) => Ok(y),
            _ => Err(Error::shape(format!("{a:?} and {b:?} do not broadcast"))),
        })
        .collect::<Result<Vec<_>>>()?;
    count(&dims)?;
    Ok(dims)
}

/// Tensors of more elements are refused: such sizes come from damaged or hostile files.
const LARGEST: usize = 1 << 32;
/// Bytes of an element while it is computed: itself, its result and an index, eight each at most.
const WIDEST: usize = 24;

/// The number of elements of a shape that is worked out when a graph runs, for which there is room.
///
/// # Errors
/// `Unsupported` when they are too many; `Memory` when they do not fit.
pub fn count(dims: &[usize]) -> Result<usize> {
    let n = memory::elements(dims.iter().copied()).filter(|&n| n <= LARGEST);
    let n = n.ok_or_else(|| Error::unsupported(format!("a tensor of shape {dims:?} is too large")))?;
    memory::claim((n * WIDEST) as u64, || format!("a tensor of shape {dims:?}"))?;
    Ok(n)
}

/// Row-major strides of a contiguous tensor.
pub fn strides(dims: &[usize]) -> Vec<usize> {
    let mut out = vec![1; dims.len()];
    for i in (1..dims.len()).rev() {
        out[i - 1] = out[i] * dims[i];
    }
    out
}

/// For each element of `dims` in row-major order, the sum of index times stride.
pub fn offsets(dims: &[usize], strides: &[usize]) -> Vec<usize> {
    let count = dims.iter().product();
    let mut out = Vec::with_capacity(count);
    if count == 0 {
        return out;
    }
    let mut index = vec![0usize; dims.len()];
    let mut at = 0usize;
    loop {
        out.push(at);
        let mut axis = dims.len();
        loop {
            let Some(a) = axis.checked_sub(1) else { return out };
            axis = a;
            index[a] += 1;
            at += strides[a];
            if index[a] < dims[a] {
                break;
            }
            at -= strides[a] * dims[a];
            index[a] = 0;
        }
    }
}

/// For each element of the broadcast shape `to`, the row-major position of its source in a tensor of shape `from`.
pub fn broadcast_offsets(from: &[usize], to: &[usize]) -> Vec<usize> {
    let own = strides(from);
    let lead = to.len() - from.len();
    let steps: Vec<usize> = (0..to.len()).map(|i| i.checked_sub(lead).map_or(0, |j| if from[j] == 1 { 0 } else { own[j] })).collect();
    offsets(to, &steps)
}

/// Applies `f` to the broadcast elements of two tensors.
///
/// # Errors
/// `Shape` when they do not broadcast; what `f` reports.
pub fn zip(a: &Ints, b: &Ints, mut f: impl FnMut(i64, i64) -> Result<i64>) -> Result<Ints> {
    let dims = broadcast_dims(&a.dims, &b.dims)?;
    let (ia, ib) = (broadcast_offsets(&a.dims, &dims), broadcast_offsets(&b.dims, &dims));
    let data = ia.iter().zip(&ib).map(|(&i, &j)| f(a.data[i], b.data[j])).collect::<Result<Vec<_>>>()?;
    Ok(Ints { dims, data })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_wrap_to_the_element_type() {
        let ints = |v: &[i64]| Ints { dims: vec![v.len()], data: v.to_vec() };
        for (element, given, expected) in [
            (Element::I8, vec![128, -129, 127], vec![-128, 127, 127]),
            (Element::U8, vec![256, -1, 255], vec![0, 255, 255]),
            (Element::U32, vec![-1, 1 << 32, 7], vec![i64::from(u32::MAX), 0, 7]),
            (Element::I4, vec![8, -9, 3], vec![-8, 7, 3]),
            (Element::Bool, vec![2, 0, -1], vec![1, 0, 1]),
        ] {
            let v = ints(&given).into_value(element, &Device::Cpu).unwrap();
            assert_eq!(v.to_i64s().unwrap(), expected, "{element}");
        }
        assert!(ints(&[-1]).into_value(Element::U64, &Device::Cpu).is_err());
    }

    #[test]
    fn zip_broadcasts_both_sides() {
        let a = Ints { dims: vec![2, 1], data: vec![10, 20] };
        let b = Ints { dims: vec![3], data: vec![1, 2, 3] };
        let c = zip(&a, &b, |x, y| Ok(x + y)).unwrap();
        assert_eq!((c.dims, c.data), (vec![2, 3], vec![11, 12, 13, 21, 22, 23]));
        let empty = Ints { dims: vec![0, 1], data: vec![] };
        assert_eq!(zip(&empty, &b, |x, _| Ok(x)).unwrap().dims, vec![0, 3]);
        assert!(zip(&a, &Ints { dims: vec![3, 3], data: vec![0; 9] }, |x, _| Ok(x)).is_err());
    }
}
