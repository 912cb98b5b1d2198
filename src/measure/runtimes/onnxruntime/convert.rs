//! Values to and from onnxruntime's tensors, exactly.

use candle_core::Device;
use compresso_base::error::{Error, Result};
use compresso_model::{Constant, Element, Payload, Value};
use half::{bf16, f16};
use ort::value::{DynTensor, DynValue, PrimitiveTensorElementType, Tensor, TensorElementType};

/// An error of onnxruntime, with its own message kept in one line.
pub(super) fn failed(e: impl std::fmt::Display) -> Error {
    Error::internal(format!("onnxruntime: {}", e.to_string().lines().next().unwrap_or_default()))
}

/// A tensor of onnxruntime with a value's elements.
///
/// # Errors
/// `Unsupported` for element types that onnxruntime takes no input of.
pub(super) fn to_ort(value: &Value) -> Result<DynTensor> {
    if value.element == Element::F32 {
        return make(value.dims(), value.tensor.flatten_all()?.to_vec1::<f32>()?);
    }
    let constant = Constant::from_storage(value.element, &value.tensor)?;
    let Payload::Raw(raw) = constant.payload() else { return Err(Error::internal("a computed constant is raw")) };
    let dims = value.dims();
    match value.element {
        Element::F64 => make(dims, items(raw, f64::from_le_bytes)),
        Element::F16 => make(dims, items(raw, f16::from_le_bytes)),
        Element::BF16 => make(dims, items(raw, bf16::from_le_bytes)),
        Element::U8 => make(dims, raw.to_vec()),
        Element::I8 => make(dims, items(raw, i8::from_le_bytes)),
        Element::U16 => make(dims, items(raw, u16::from_le_bytes)),
        Element::I16 => make(dims, items(raw, i16::from_le_bytes)),
        Element::U32 => make(dims, items(raw, u32::from_le_bytes)),
        Element::I32 => make(dims, items(raw, i32::from_le_bytes)),
        Element::U64 => make(dims, items(raw, u64::from_le_bytes)),
        Element::I64 => make(dims, items(raw, i64::from_le_bytes)),
        Element::Bool => make(dims, raw.iter().map(|&b| b != 0).collect::<Vec<bool>>()),
        other => Err(Error::unsupported(format!("{other} values cannot be passed to onnxruntime"))),
    }
}

/// A value with the elements of a tensor of onnxruntime.
///
/// # Errors
/// `Unsupported` for sequences, maps and element types that cannot be computed with.
pub(super) fn from_ort(value: &DynValue) -> Result<Value> {
    let element = value.dtype().tensor_type().ok_or_else(|| Error::unsupported("onnxruntime returned a value that is not a tensor"))?;
    match element {
        TensorElementType::Float32 => read::<f32, 4>(value, Element::F32, f32::to_le_bytes),
        TensorElementType::Float64 => read::<f64, 8>(value, Element::F64, f64::to_le_bytes),
        TensorElementType::Float16 => read::<f16, 2>(value, Element::F16, f16::to_le_bytes),
        TensorElementType::Bfloat16 => read::<bf16, 2>(value, Element::BF16, bf16::to_le_bytes),
        TensorElementType::Uint8 => read::<u8, 1>(value, Element::U8, u8::to_le_bytes),
        TensorElementType::Int8 => read::<i8, 1>(value, Element::I8, i8::to_le_bytes),
        TensorElementType::Uint16 => read::<u16, 2>(value, Element::U16, u16::to_le_bytes),
        TensorElementType::Int16 => read::<i16, 2>(value, Element::I16, i16::to_le_bytes),
        TensorElementType::Uint32 => read::<u32, 4>(value, Element::U32, u32::to_le_bytes),
        TensorElementType::Int32 => read::<i32, 4>(value, Element::I32, i32::to_le_bytes),
        TensorElementType::Uint64 => read::<u64, 8>(value, Element::U64, u64::to_le_bytes),
        TensorElementType::Int64 => read::<i64, 8>(value, Element::I64, i64::to_le_bytes),
        TensorElementType::Bool => read::<bool, 1>(value, Element::Bool, |b| [u8::from(b)]),
        other => Err(Error::unsupported(format!("outputs of type {other} of onnxruntime"))),
    }
}

fn make<T: PrimitiveTensorElementType + std::fmt::Debug + Clone + 'static>(dims: &[usize], data: Vec<T>) -> Result<DynTensor> {
    Ok(Tensor::from_array((dims.to_vec(), data)).map_err(failed)?.upcast())
}

fn items<T, const N: usize>(raw: &[u8], f: impl Fn([u8; N]) -> T) -> Vec<T> {
    raw.as_chunks::<N>().0.iter().map(|c| f(*c)).collect()
}

fn read<T: PrimitiveTensorElementType + Copy, const N: usize>(
    value: &DynValue,
    element: Element,
    bytes: fn(T) -> [u8; N],
) -> Result<Value> {
    let (shape, data) = value.try_extract_tensor::<T>().map_err(failed)?;
    let dims = shape.iter().map(|&d| usize::try_from(d)).collect::<Result<Vec<_>, _>>().map_err(|_| Error::internal("negative size"))?;
    let raw: Vec<u8> = data.iter().flat_map(|&v| bytes(v)).collect();
    let constant = Constant::new(element, dims, Payload::Raw(raw.into()))?;
    Value::of_constant(&constant, &Device::Cpu)
}
