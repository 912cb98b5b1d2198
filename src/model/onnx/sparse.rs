//! `SparseTensorProto`: constants that list only their non-zero elements.

use super::external::Files;
use super::proto::SparseTensorProto;
use super::scan::decode;
use super::tensor;
use crate::{Constant, Element, Payload};
use bytes::Bytes;
use candle_core::{DType, Device};
use compresso_base::error::{Error, Result};

/// Dense forms larger than this are refused, so that a small file cannot claim all memory.
const LIMIT: usize = 1 << 28;

/// The name and dense form of an encoded sparse tensor.
pub fn import(bytes: &Bytes, files: &Files) -> Result<(String, Constant)> {
    let proto: SparseTensorProto = decode(bytes, "a sparse tensor")?;
    let part = |b: &Option<Bytes>, what: &str| match b {
        Some(b) => tensor::import(b, files),
        None => Err(Error::format(format!("a sparse tensor has no {what}"))),
    };
    let (name, values) = part(&proto.values, "values")?;
    let (_, indices) = part(&proto.indices, "indices")?;
    let dense = densify(&proto, &values, &indices).map_err(|e| e.at(format!("sparse tensor '{name}'")))?;
    Ok((name, dense))
}

fn densify(proto: &SparseTensorProto, values: &Constant, indices: &Constant) -> Result<Constant> {
    let dims = tensor::sizes(&proto.dims)?;
    let element = values.element();
    if values.dims().len() != 1 || indices.element() != Element::I64 {
        return Err(Error::format("needs values of rank 1 and int64 indices"));
    }
    if element.bits() < 8 || !element.bits().is_multiple_of(8) {
        return Err(Error::unsupported(format!("sparse {element} tensors are not supported")));
    }
    let width = element.bits() / 8;
    let count = dims.iter().try_fold(1usize, |a, &d| a.checked_mul(d));
    let size = count.and_then(|n| n.checked_mul(width)).filter(|&n| n <= LIMIT);
    let size =
        size.ok_or_else(|| Error::unsupported(format!("{element} {dims:?} is too large for a sparse tensor, at most {LIMIT} bytes")))?;
    let flat = flat_indices(&dims, values.count(), indices)?;
    let packed = values.to_raw()?;
    let mut dense = vec![0u8; size];
    for (&at, value) in flat.iter().zip(packed.chunks_exact(width)) {
        dense[at * width..(at + 1) * width].copy_from_slice(value);
    }
    Constant::new(element, dims, Payload::Raw(dense.into()))
}

/// Positions in the dense tensor, each in range.
fn flat_indices(dims: &[usize], values: usize, indices: &Constant) -> Result<Vec<usize>> {
    let count: usize = dims.iter().product();
    let list: Vec<i64> = indices.tensor(&Device::Cpu)?.flatten_all()?.to_dtype(DType::I64)?.to_vec1()?;
    let range = |i: i64, n: usize| {
        usize::try_from(i).ok().filter(|&i| i < n).ok_or_else(|| Error::format(format!("the index {i} is out of range for size {n}")))
    };
    match indices.dims() {
        [n] if *n == values => list.iter().map(|&i| range(i, count)).collect(),
        [n, rank] if *n == values && *rank == dims.len() && *rank > 0 => {
            list.chunks_exact(*rank).map(|at| at.iter().zip(dims).try_fold(0usize, |flat, (&i, &d)| Ok(flat * d + range(i, d)?))).collect()
        }
        other => Err(Error::format(format!("{values} values of a tensor {dims:?} have indices of shape {other:?}"))),
    }
}
