//! A run-time value: a candle tensor and the ONNX element type it stands for.

use super::constant::Constant;
use super::element::Element;
use candle_core::{DType, Device, Tensor};
use compresso_base::error::{Error, Result};
use compresso_base::memory;
use rand::{RngExt, SeedableRng};
use std::sync::Arc;

/// A tensor whose values are of an ONNX element type. Types that candle lacks (int8, uint16, bool, …) are stored in a
/// wider or equal one: see [`Element::storage`].
///
/// Between nodes a value may also be a sequence of tensors of one element; only operators whose table entry says so are
/// given one.
#[derive(Debug, Clone)]
pub struct Value {
    /// What the tensor's numbers stand for; in a sequence, those of its members.
    pub element: Element,
    /// Empty where the value is a sequence.
    pub tensor: Tensor,
    members: Option<Arc<Vec<Value>>>,
}

/// The tensor with a layout that all of candle's operations take.
///
/// Of a tensor without elements, it may remember a place behind the end of its memory. And what is repeated along an axis has a stride of 0
/// there, also where the axis has one element, by which reductions divide.
fn settled(tensor: Tensor) -> Result<Tensor> {
    if tensor.elem_count() == 0 && tensor.layout().start_offset() > 0 {
        return Ok(Tensor::zeros(tensor.shape(), tensor.dtype(), tensor.device())?);
    }
    if tensor.is_contiguous() && tensor.stride().contains(&0) && tensor.elem_count() > 0 {
        // The same memory, with the strides that its shape says.
        return Ok(tensor.reshape(tensor.shape())?);
    }
    Ok(tensor)
}

impl Value {
    /// # Errors
    /// `DType` when the tensor is not of the element's storage type.
    pub fn new(element: Element, tensor: Tensor) -> Result<Self> {
        if element.storage() == Some(tensor.dtype()) {
            Ok(Self { element, tensor: settled(tensor)?, members: None })
        } else {
            Err(Error::dtype(format!("{element} values are not stored as {:?}", tensor.dtype())))
        }
    }
    /// A value of the element that the tensor's own type stands for.
    pub fn plain(tensor: Tensor) -> Result<Self> {
        let element = Element::of(tensor.dtype()).ok_or_else(|| Error::dtype(format!("{:?} tensors are not supported", tensor.dtype())))?;
        Ok(Self { element, tensor: settled(tensor)?, members: None })
    }
    /// A bool value from a 0/1 tensor of type u8.
    pub fn bool(tensor: Tensor) -> Result<Self> {
        Self::new(Element::Bool, tensor)
    }
    /// The elements of a constant, on a device.
    pub fn of_constant(c: &Constant, device: &Device) -> Result<Self> {
        Ok(Self { element: c.element(), tensor: c.tensor(device)?, members: None })
    }
    /// A one-dimensional int64 value.
    pub fn ints(values: &[i64], device: &Device) -> Result<Self> {
        Ok(Self { element: Element::I64, tensor: Tensor::new(values, device)?, members: None })
    }
    /// The same tensor as this value's, with a new tensor of the same element.
    pub fn with(&self, tensor: Tensor) -> Result<Self> {
        Self::new(self.element, tensor)
    }
    /// A sequence of tensors of one element.
    ///
    /// # Errors
    /// `DType` for a member of another element, or that is a sequence.
    pub fn sequence(element: Element, members: Vec<Self>) -> Result<Self> {
        let storage = element.storage().ok_or_else(|| Error::unsupported(format!("{element} values cannot be computed with")))?;
        if let Some(other) = members.iter().find(|m| m.element != element || m.is_sequence()) {
            let what = if other.is_sequence() { "a sequence".to_string() } else { format!("a tensor of {}", other.element) };
            return Err(Error::dtype(format!("expected tensors of {element} in a sequence, got {what}")));
        }
        Ok(Self { element, tensor: Tensor::zeros(0, storage, &Device::Cpu)?, members: Some(Arc::new(members)) })
    }
    /// True for a sequence of tensors, false for a tensor.
    pub fn is_sequence(&self) -> bool {
        self.members.is_some()
    }
    /// The tensors of a sequence.
    ///
    /// # Errors
    /// `DType` for a tensor.
    pub fn members(&self) -> Result<&[Self]> {
        let members =
            self.members.as_ref().ok_or_else(|| Error::dtype(format!("expected a sequence, got {}{:?}", self.element, self.dims())))?;
        Ok(members)
    }
    /// The same value, through which no gradient flows.
    pub fn detach(&self) -> Self {
        let members = self.members.as_ref().map(|all| Arc::new(all.iter().map(Self::detach).collect()));
        Self { element: self.element, tensor: self.tensor.detach(), members }
    }
    /// Shape of the tensor; `[0]` for a sequence.
    pub fn dims(&self) -> &[usize] {
        self.tensor.dims()
    }
    /// The elements of an integer or bool value.
    pub fn to_i64s(&self) -> Result<Vec<i64>> {
        if !self.element.is_int() && self.element != Element::Bool {
            return Err(Error::dtype(format!("expected integers, got {}", self.element)));
        }
        self.claim_copies::<i64>()?;
        Ok(self.tensor.flatten_all()?.to_dtype(DType::I64)?.to_vec1()?)
    }
    /// The elements as float32.
    pub fn to_f32s(&self) -> Result<Vec<f32>> {
        self.claim_copies::<f32>()?;
        Ok(self.tensor.flatten_all()?.to_dtype(DType::F32)?.to_vec1()?)
    }
    /// The elements as float64.
    pub fn to_f64s(&self) -> Result<Vec<f64>> {
        self.claim_copies::<f64>()?;
        Ok(self.tensor.flatten_all()?.to_dtype(DType::F64)?.to_vec1()?)
    }
    /// Asks for what a view takes in one piece, converted, and as a list.
    fn claim_copies<T>(&self) -> Result<()> {
        let each = self.tensor.dtype().size_in_bytes() + 2 * size_of::<T>();
        memory::claim_tensor(self.dims(), each, 1, || format!("the elements of {}{:?}", self.element, self.dims()))
    }
}

/// Elements of a shape.
///
/// # Errors
/// `Argument` for more than 2³¹.
pub fn count_of(shape: &[usize]) -> Result<usize> {
    let count = memory::elements(shape.iter().copied()).filter(|n| *n <= 1 << 31);
    count.ok_or_else(|| Error::argument(format!("a tensor of shape {shape:?} is too large")))
}

/// A float32 tensor of seeded uniform numbers from 0 to 1, on the CPU.
///
/// # Errors
/// `Argument` for a shape that is too large.
pub fn uniform(shape: &[usize], seed: u64) -> Result<Value> {
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    memory::claim_tensor(shape, 4, 2, || format!("a tensor of shape {shape:?}"))?;
    let values: Vec<f32> = (0..count_of(shape)?).map(|_| rng.random()).collect();
    Value::plain(Tensor::from_vec(values, shape, &Device::Cpu)?)
}
