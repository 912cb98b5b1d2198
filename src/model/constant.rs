//! A constant tensor of a graph (ONNX initializer or tensor attribute), kept exactly as its file had it.

use super::element::Element;
use super::wire::Wire;
use bytes::Bytes;
use candle_core::{DType, Device, Tensor};
use compresso_base::error::{Error, Result};
use compresso_base::memory;
use half::{bf16, f16};
use std::fmt;
use std::sync::{Arc, OnceLock};

/// How the elements are kept: the fields of an ONNX `TensorProto`, so that saving gives back the same bytes.
#[derive(Debug, Clone, PartialEq)]
pub enum Payload {
    /// Little-endian packed elements.
    Raw(Bytes),
    /// float32; also pairs of complex64.
    Floats(Vec<f32>),
    /// int32 and all narrower types (float16 and bfloat16 as bit patterns).
    Int32s(Vec<i32>),
    /// int64.
    Int64s(Vec<i64>),
    /// float64; also pairs of complex128.
    Doubles(Vec<f64>),
    /// uint32 and uint64.
    Uint64s(Vec<u64>),
    /// Texts, each as its bytes.
    Strings(Vec<Bytes>),
}

/// An immutable constant; clones share the data.
#[derive(Clone)]
pub struct Constant(Arc<Inner>);

struct Inner {
    element: Element,
    dims: Vec<usize>,
    payload: Payload,
    /// How the file had it.
    wire: Wire,
    /// CPU tensor, made on first use.
    tensor: OnceLock<Tensor>,
}

impl fmt::Debug for Constant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:?}", self.0.element, self.0.dims)
    }
}

impl Constant {
    /// A constant from its stored form.
    ///
    /// # Errors
    /// `Format` when the number of stored elements does not fit the dimensions, or cannot be counted.
    pub fn new(element: Element, dims: Vec<usize>, payload: Payload) -> Result<Self> {
        let count = memory::elements(dims.iter().copied());
        let count = count.ok_or_else(|| Error::format(format!("the dimensions {dims:?} overflow")))?;
        let (expected, got, unit) = match &payload {
            Payload::Raw(b) => {
                let bytes = element.bytes(count).ok_or_else(|| Error::format(format!("the dimensions {dims:?} overflow")))?;
                (bytes, b.len(), "bytes")
            }
            Payload::Floats(v) => (if element == Element::Complex64 { count * 2 } else { count }, v.len(), "floats"),
            // Narrow types are one entry per byte (4-bit types: two per entry) in this field.
            Payload::Int32s(v) => (if element.bits() < 8 { count.div_ceil(8 / element.bits().max(1)) } else { count }, v.len(), "int32s"),
            Payload::Int64s(v) => (count, v.len(), "int64s"),
            Payload::Doubles(v) => (if element == Element::Complex128 { count * 2 } else { count }, v.len(), "doubles"),
            Payload::Uint64s(v) => (count, v.len(), "uint64s"),
            Payload::Strings(v) => (count, v.len(), "strings"),
        };
        if expected != got {
            return Err(Error::format(format!("{element} {dims:?} needs {expected} {unit}, got {got}")));
        }
        Ok(Self(Arc::new(Inner { element, dims, payload, wire: Wire::default(), tensor: OnceLock::new() })))
    }
    /// The constant with the encoding that its file had.
    #[must_use]
    pub(crate) fn with_wire(mut self, bytes: Bytes) -> Self {
        let wire = Wire(Some(bytes));
        match Arc::get_mut(&mut self.0) {
            Some(inner) => {
                inner.wire = wire;
                self
            }
            None => {
                let i = &self.0;
                let tensor = i.tensor.clone();
                Self(Arc::new(Inner { element: i.element, dims: i.dims.clone(), payload: i.payload.clone(), wire, tensor }))
            }
        }
    }
    /// A constant of a tensor's values, stored as raw data of the tensor's own type.
    pub fn from_tensor(tensor: &Tensor) -> Result<Self> {
        let element = Element::of(tensor.dtype()).ok_or_else(|| Error::dtype(format!("a {:?} tensor has no ONNX type", tensor.dtype())))?;
        Self::from_storage(element, tensor)
    }
    /// A constant of type `element` from the candle tensor that stores such values (see [`Element::storage`]).
    pub fn from_storage(element: Element, tensor: &Tensor) -> Result<Self> {
        let cpu = tensor.detach().to_device(&Device::Cpu)?.contiguous()?;
        let flat = cpu.flatten_all()?;
        if element.storage() != Some(cpu.dtype()) {
            return Err(Error::dtype(format!("a {:?} tensor does not store {element}", cpu.dtype())));
        }
        let raw = match element {
            Element::F32 => to_bytes(&flat.to_vec1::<f32>()?, |v| v.to_le_bytes()),
            Element::F64 => to_bytes(&flat.to_vec1::<f64>()?, |v| v.to_le_bytes()),
            Element::F16 => to_bytes(&flat.to_vec1::<f16>()?, |v| v.to_le_bytes()),
            Element::BF16 => to_bytes(&flat.to_vec1::<bf16>()?, |v| v.to_le_bytes()),
            Element::U8 | Element::Bool => Bytes::from(flat.to_vec1::<u8>()?),
            Element::I16 => to_bytes(&flat.to_vec1::<i16>()?, |v| v.to_le_bytes()),
            Element::I32 => to_bytes(&flat.to_vec1::<i32>()?, |v| v.to_le_bytes()),
            Element::U32 => to_bytes(&flat.to_vec1::<u32>()?, |v| v.to_le_bytes()),
            Element::I64 | Element::U64 => to_bytes(&flat.to_vec1::<i64>()?, |v| v.to_le_bytes()),
            Element::I8 => to_bytes(&flat.to_vec1::<i16>()?, |v| [v as u8]),
            Element::U16 => to_bytes(&flat.to_vec1::<i32>()?, |v| (v as u16).to_le_bytes()),
            Element::U4 => pack(&flat.to_vec1::<u8>()?, 4),
            Element::U2 => pack(&flat.to_vec1::<u8>()?, 2),
            Element::I4 => pack(&flat.to_vec1::<i16>()?.iter().map(|&v| v as u8).collect::<Vec<_>>(), 4),
            Element::I2 => pack(&flat.to_vec1::<i16>()?.iter().map(|&v| v as u8).collect::<Vec<_>>(), 2),
            _ => return Err(Error::unsupported(format!("{element} constants cannot be computed with"))),
        };
        let inner =
            Inner { element, dims: cpu.dims().to_vec(), payload: Payload::Raw(raw), wire: Wire::default(), tensor: OnceLock::new() };
        let _ = inner.tensor.set(cpu);
        Ok(Self(Arc::new(inner)))
    }
    /// A one-dimensional int64 constant, as shapes and axes are.
    pub fn ints(values: &[i64]) -> Self {
        Self(Arc::new(Inner {
            element: Element::I64,
            dims: vec![values.len()],
            payload: Payload::Raw(to_bytes(values, |v| v.to_le_bytes())),
            wire: Wire::default(),
            tensor: OnceLock::new(),
        }))
    }
    /// A float32 constant.
    ///
    /// # Errors
    /// `Format` when `values` do not fill `dims`.
    pub fn floats(dims: &[usize], values: &[f32]) -> Result<Self> {
        Self::new(Element::F32, dims.to_vec(), Payload::Raw(to_bytes(values, |v| v.to_le_bytes())))
    }
    /// Numbers, rounded once to a float type.
    ///
    /// # Errors
    /// `Unsupported` for element types that cannot be computed with; `Shape` when the numbers do not fill `dims`.
    pub fn rounded(element: Element, dims: &[usize], values: Vec<f64>) -> Result<Self> {
        let dtype = element.storage().ok_or_else(|| Error::unsupported(format!("{element} numbers")))?;
        Self::from_storage(element, &Tensor::from_vec(values, dims, &Device::Cpu)?.to_dtype(dtype)?)
    }
    /// A float32 scalar (rank 0).
    pub fn scalar(value: f32) -> Self {
        Self(Arc::new(Inner {
            element: Element::F32,
            dims: vec![],
            payload: Payload::Raw(Bytes::copy_from_slice(&value.to_le_bytes())),
            wire: Wire::default(),
            tensor: OnceLock::new(),
        }))
    }

    /// Type of its elements.
    pub fn element(&self) -> Element {
        self.0.element
    }
    /// Its shape, without entries for a scalar.
    pub fn dims(&self) -> &[usize] {
        &self.0.dims
    }
    /// Number of its elements, 1 for a scalar.
    pub fn count(&self) -> usize {
        self.0.dims.iter().product()
    }
    /// Its elements as they are kept.
    pub fn payload(&self) -> &Payload {
        &self.0.payload
    }
    /// The encoding that its file had.
    pub(crate) fn wire(&self) -> Option<&Bytes> {
        self.0.wire.0.as_ref()
    }
    /// The elements as ONNX raw data: packed, little-endian.
    ///
    /// # Errors
    /// `Unsupported` for strings.
    pub fn to_raw(&self) -> Result<Bytes> {
        let element = self.element();
        Ok(match self.payload() {
            Payload::Raw(raw) => raw.clone(),
            Payload::Floats(v) => to_bytes(v, |x| x.to_le_bytes()),
            Payload::Doubles(v) => to_bytes(v, |x| x.to_le_bytes()),
            Payload::Int64s(v) => to_bytes(v, |x| x.to_le_bytes()),
            Payload::Uint64s(v) if element == Element::U32 => to_bytes(v, |x| (x as u32).to_le_bytes()),
            Payload::Uint64s(v) => to_bytes(v, |x| x.to_le_bytes()),
            Payload::Int32s(v) => match element.bits() {
                32 => to_bytes(v, |x| x.to_le_bytes()),
                16 => to_bytes(v, |x| (x as u16).to_le_bytes()),
                // Values narrower than a byte are packed in this field as they are in raw data.
                2 | 4 | 8 => to_bytes(v, |x| [x as u8]),
                _ => return Err(Error::unsupported(format!("{element} has no packed form here"))),
            },
            Payload::Strings(_) => return Err(Error::unsupported("strings have no packed form")),
        })
    }
    /// Bytes of the packed elements.
    pub fn byte_size(&self) -> usize {
        match &self.0.payload {
            Payload::Strings(s) => s.iter().map(Bytes::len).sum(),
            _ => self.0.element.bytes(self.count()).unwrap_or(0),
        }
    }

    /// The values as a tensor on `device`, of the element's storage type. Made once on the CPU and shared.
    ///
    /// # Errors
    /// `Unsupported` for strings, complex and 8-bit floats; `DType` for uint64 above `i64::MAX`.
    pub fn tensor(&self, device: &Device) -> Result<Tensor> {
        let cpu = match self.0.tensor.get() {
            Some(t) => t.clone(),
            None => {
                let t = self.decode()?;
                self.0.tensor.get_or_init(|| t).clone()
            }
        };
        Ok(if device.is_cpu() { cpu } else { cpu.to_device(device)? })
    }

    /// The elements widened to f64, in row-major order.
    pub fn to_f64s(&self) -> Result<Vec<f64>> {
        let t = self.tensor(&Device::Cpu)?.flatten_all()?;
        Ok(t.to_dtype(DType::F64)?.to_vec1()?)
    }
    /// The elements of an integer or bool constant.
    ///
    /// # Errors
    /// `DType` when it is not of an integer type.
    pub fn to_i64s(&self) -> Result<Vec<i64>> {
        if !self.element().is_int() && self.element() != Element::Bool {
            return Err(Error::dtype(format!("expected integers, got {}", self.element())));
        }
        let t = self.tensor(&Device::Cpu)?.flatten_all()?;
        Ok(t.to_dtype(DType::I64)?.to_vec1()?)
    }
    /// The elements of a float32 constant (or of another float type, converted).
    pub fn to_f32s(&self) -> Result<Vec<f32>> {
        let t = self.tensor(&Device::Cpu)?.flatten_all()?;
        Ok(t.to_dtype(DType::F32)?.to_vec1()?)
    }

    fn decode(&self) -> Result<Tensor> {
        let Inner { element, dims, payload, .. } = &*self.0;
        let element = *element;
        let storage = element.storage().ok_or_else(|| Error::unsupported(format!("{element} constants cannot be computed with")))?;
        let cpu = &Device::Cpu;
        let shape = dims.as_slice();
        let count = self.count();
        let tensor = match payload {
            Payload::Raw(b) => match element {
                Element::F32 => Tensor::from_vec(from_bytes(b, f32::from_le_bytes), shape, cpu)?,
                Element::F64 => Tensor::from_vec(from_bytes(b, f64::from_le_bytes), shape, cpu)?,
                Element::F16 => Tensor::from_vec(from_bytes(b, f16::from_le_bytes), shape, cpu)?,
                Element::BF16 => Tensor::from_vec(from_bytes(b, bf16::from_le_bytes), shape, cpu)?,
                Element::U8 | Element::Bool => Tensor::from_vec(b.to_vec(), shape, cpu)?,
                Element::I8 => Tensor::from_vec(b.iter().map(|&v| i16::from(v as i8)).collect::<Vec<_>>(), shape, cpu)?,
                Element::I16 => Tensor::from_vec(from_bytes(b, i16::from_le_bytes), shape, cpu)?,
                Element::U16 => {
                    Tensor::from_vec(from_bytes(b, u16::from_le_bytes).into_iter().map(i32::from).collect::<Vec<_>>(), shape, cpu)?
                }
                Element::I32 => Tensor::from_vec(from_bytes(b, i32::from_le_bytes), shape, cpu)?,
                Element::U32 => Tensor::from_vec(from_bytes(b, u32::from_le_bytes), shape, cpu)?,
                Element::I64 => Tensor::from_vec(from_bytes(b, i64::from_le_bytes), shape, cpu)?,
                Element::U64 => Tensor::from_vec(narrow(&from_bytes(b, u64::from_le_bytes))?, shape, cpu)?,
                Element::U4 => Tensor::from_vec(unpack(b, 4, count), shape, cpu)?,
                Element::U2 => Tensor::from_vec(unpack(b, 2, count), shape, cpu)?,
                Element::I4 => Tensor::from_vec(sign_extend(&unpack(b, 4, count), 4), shape, cpu)?,
                Element::I2 => Tensor::from_vec(sign_extend(&unpack(b, 2, count), 2), shape, cpu)?,
                _ => return Err(Error::unsupported(format!("{element} constants cannot be computed with"))),
            },
            Payload::Floats(v) => Tensor::from_vec(v.clone(), shape, cpu)?,
            Payload::Doubles(v) => Tensor::from_vec(v.clone(), shape, cpu)?,
            Payload::Int64s(v) => Tensor::from_vec(v.clone(), shape, cpu)?,
            Payload::Uint64s(v) => Tensor::from_vec(narrow(v)?, shape, cpu)?.to_dtype(storage)?,
            Payload::Int32s(v) => match element {
                Element::F16 => Tensor::from_vec(v.iter().map(|&b| f16::from_bits(b as u16)).collect::<Vec<_>>(), shape, cpu)?,
                Element::BF16 => Tensor::from_vec(v.iter().map(|&b| bf16::from_bits(b as u16)).collect::<Vec<_>>(), shape, cpu)?,
                Element::U4 | Element::I4 | Element::U2 | Element::I2 => {
                    let bytes = Bytes::from(v.iter().map(|&b| b as u8).collect::<Vec<_>>());
                    return Self::new(element, dims.clone(), Payload::Raw(bytes))?.decode();
                }
                _ => Tensor::from_vec(v.clone(), shape, cpu)?.to_dtype(storage)?,
            },
            Payload::Strings(_) => return Err(Error::unsupported("string constants cannot be computed with")),
        };
        if tensor.dtype() != storage {
            return Err(Error::format(format!("{element} is stored in a field of another type")));
        }
        Ok(tensor)
    }
}

impl PartialEq for Constant {
    /// Same type, shape, stored form and data.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
            || (self.0.element == other.0.element && self.0.dims == other.0.dims && self.0.payload == other.0.payload)
    }
}

fn to_bytes<T: Copy, const N: usize>(values: &[T], f: impl Fn(T) -> [u8; N]) -> Bytes {
    let mut out = Vec::with_capacity(values.len() * N);
    for &v in values {
        out.extend_from_slice(&f(v));
    }
    Bytes::from(out)
}

fn from_bytes<T, const N: usize>(bytes: &[u8], f: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks::<N>().0.iter().map(|c| f(*c)).collect()
}

/// Packs `bits`-wide values, lowest bits first, as ONNX does.
fn pack(values: &[u8], bits: usize) -> Bytes {
    let per = 8 / bits;
    let mask = (1u8 << bits) - 1;
    let byte = |c: &[u8]| c.iter().enumerate().fold(0u8, |b, (i, &v)| b | ((v & mask) << (i * bits)));
    Bytes::from(values.chunks(per).map(byte).collect::<Vec<_>>())
}

fn unpack(bytes: &[u8], bits: usize, count: usize) -> Vec<u8> {
    let per = 8 / bits;
    let mask = (1u8 << bits) - 1;
    (0..count).map(|i| (bytes[i / per] >> ((i % per) * bits)) & mask).collect()
}

fn sign_extend(values: &[u8], bits: usize) -> Vec<i16> {
    let (sign, span) = (1i16 << (bits - 1), 1i16 << bits);
    values.iter().map(|&v| if i16::from(v) >= sign { i16::from(v) - span } else { i16::from(v) }).collect()
}

fn narrow(values: &[u64]) -> Result<Vec<i64>> {
    values
        .iter()
        .map(|&v| {
            i64::try_from(v).map_err(|_| Error::dtype(format!("uint64 value {v} is too large to compute with (at most {})", i64::MAX)))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_storable_element_survives_a_round_trip() {
        for (element, values) in [
            (Element::I8, vec![-128i64, -1, 0, 127, 5]),
            (Element::U16, vec![0, 65535, 7, 8, 9]),
            (Element::I4, vec![-8, 7, -1, 0, 3]),
            (Element::U4, vec![15, 0, 1, 2, 3]),
            (Element::I2, vec![-2, 1, -1, 0, 1]),
            (Element::I64, vec![i64::MIN, -1, 0, 1, i64::MAX]),
            (Element::Bool, vec![0, 1, 1, 0, 1]),
        ] {
            let t = Tensor::new(values.as_slice(), &Device::Cpu).unwrap().to_dtype(element.storage().unwrap()).unwrap();
            let c = Constant::from_storage(element, &t).unwrap();
            let Payload::Raw(raw) = c.payload() else { panic!("raw expected") };
            assert_eq!(raw.len(), element.bytes(5).unwrap(), "{element}");
            let again = Constant::new(element, vec![5], c.payload().clone()).unwrap();
            assert_eq!(again.to_i64s().unwrap(), values, "{element}");
        }
    }

    #[test]
    fn wrong_sizes_and_overflow_are_errors() {
        let e = Constant::new(Element::F32, vec![2, 2], Payload::Raw(Bytes::from_static(&[0; 15]))).unwrap_err();
        assert_eq!(e.to_string(), "float32 [2, 2] needs 16 bytes, got 15");
        assert!(Constant::new(Element::F32, vec![usize::MAX, 2], Payload::Floats(vec![])).is_err());
        let huge = Constant::new(Element::U64, vec![1], Payload::Uint64s(vec![u64::MAX])).unwrap();
        assert!(huge.tensor(&Device::Cpu).is_err());
    }
}
