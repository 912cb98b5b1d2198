//! Tensors of a file: those that are fed and given away, and constants.

use super::builder::{Builder, kind_of};
use super::codes;
use super::layout::permuted;
use super::model::{Call, Kind, Tensor, Type};
use bytes::Bytes;
use compresso_base::error::{Error, Result};
use compresso_model::Constant;
use half::f16;

impl Builder<'_> {
    pub fn tensor(&mut self, name: String, made: Type, buffer: usize) -> usize {
        self.file.tensors.push(Tensor { name, made, buffer });
        self.file.tensors.len() - 1
    }
    pub fn of(&self, tensor: usize) -> &Type {
        &self.file.tensors[tensor].made
    }
    /// A tensor that is fed.
    pub fn input(&mut self, name: &str, made: Type) -> usize {
        let t = self.tensor(name.into(), made, 0);
        self.file.inputs.push(t);
        t
    }
    /// Names the tensor that the graph gives away. A tensor has one name, so that what has one already is copied.
    pub fn output(&mut self, name: &str, tensor: usize) -> Result<()> {
        let taken = self.file.inputs.contains(&tensor) || self.file.outputs.contains(&tensor) || self.file.tensors[tensor].buffer != 0;
        let tensor = if taken {
            let shape = self.of(tensor).shape.clone();
            self.reshape(tensor, &shape)?
        } else {
            tensor
        };
        self.file.tensors[tensor].name = name.into();
        self.file.outputs.push(tensor);
        Ok(())
    }

    /// A constant tensor of these bytes.
    pub fn store(&mut self, name: &str, made: Type, data: Vec<u8>) -> usize {
        // Small ones are often the same: axes, shapes, numbers that are added.
        let key = (data.len() <= 64 && made.grid.is_none()).then(|| (made.kind, made.shape.clone(), data.clone()));
        if let Some(&t) = key.as_ref().and_then(|k| self.stored.get(k)) {
            return t;
        }
        self.file.buffers.push(Bytes::from(data));
        let t = self.tensor(name.into(), made, self.file.buffers.len() - 1);
        if let Some(key) = key {
            self.stored.insert(key, t);
        }
        t
    }
    pub fn ints_tensor(&mut self, values: &[usize]) -> Result<usize> {
        let values: Vec<i32> = values.iter().map(|&v| i32::try_from(v).map_err(|_| large(v))).collect::<Result<_>>()?;
        Ok(self.i32s(&[values.len()], &values))
    }
    pub fn i32s(&mut self, shape: &[usize], values: &[i32]) -> usize {
        let data = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.store("ints", Type::new(Kind::I32, shape), data)
    }
    pub fn f32s(&mut self, name: &str, shape: &[usize], values: &[f32]) -> usize {
        let data = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.store(name, Type::f32(shape), data)
    }
    pub fn number(&mut self, value: f32) -> usize {
        self.f32s("number", &[], &[value])
    }
    /// The weight of a layer: in float16 where weights are stored so, which the runtime widens once. Biases stay as they are: they are
    /// few, and what they lose is not averaged out.
    pub fn weight(&mut self, name: &str, shape: &[usize], values: &[f32]) -> Result<usize> {
        let fits = |v: &f32| v.is_nan() || f16::from_f32(*v).is_finite() || v.is_infinite();
        if !self.half || !values.iter().all(fits) {
            return Ok(self.f32s(name, shape, values));
        }
        let data = values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect();
        let t = self.store(name, Type::new(Kind::F16, shape), data);
        let call = Call { version: 3, ..codes::dequantize() };
        Ok(self.op(call, &[t], Type::f32(shape)))
    }

    /// A tensor of a constant with its axes in this order.
    pub fn constant_tensor(&mut self, name: &str, c: &Constant, perm: &[usize]) -> Result<usize> {
        let kind = kind_of(c.element())?;
        let shape = permuted(c.dims(), perm);
        let data: Vec<u8> = match kind {
            Kind::F32 => permute(&c.to_f32s()?, c.dims(), perm).iter().flat_map(|v| v.to_le_bytes()).collect(),
            Kind::I32 => {
                let narrow = |v: &i64| i32::try_from(*v).unwrap_or(if *v < 0 { i32::MIN } else { i32::MAX }).to_le_bytes();
                permute(&c.to_i64s()?, c.dims(), perm).iter().flat_map(narrow).collect()
            }
            _ => permute(&c.to_i64s()?, c.dims(), perm).iter().map(|&v| v as u8).collect(),
        };
        Ok(self.store(name, Type::new(kind, &shape), data))
    }
}

fn large(v: usize) -> Error {
    Error::unsupported(format!("{v} is too large for TensorFlow Lite, whose sizes have 31 bits"))
}

/// Elements in the order of a tensor whose axis i is the axis `perm[i]`.
pub(super) fn permute<T: Copy>(values: &[T], dims: &[usize], perm: &[usize]) -> Vec<T> {
    if perm.iter().enumerate().all(|(i, &a)| i == a) {
        return values.to_vec();
    }
    let mut strides = vec![1; dims.len()];
    for i in (1..dims.len()).rev() {
        strides[i - 1] = strides[i] * dims[i];
    }
    let (shape, steps) = (permuted(dims, perm), permuted(&strides, perm));
    let mut at = vec![0; shape.len()];
    let mut from = 0;
    let mut out = Vec::with_capacity(values.len());
    for _ in 0..values.len() {
        out.push(values[from]);
        for axis in (0..shape.len()).rev() {
            at[axis] += 1;
            from += steps[axis];
            if at[axis] < shape[axis] {
                break;
            }
            from -= steps[axis] * shape[axis];
            at[axis] = 0;
        }
    }
    out
}
