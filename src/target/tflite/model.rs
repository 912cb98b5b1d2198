//! A .tflite file as plain data, by [its schema](https://github.com/tensorflow/tensorflow/blob/master/tensorflow/lite/schema/schema.fbs), version 3.

use bytes::Bytes;

/// Element types, by their numbers in the schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    F32 = 0,
    F16 = 1,
    I32 = 2,
    U8 = 3,
    I64 = 4,
    Bool = 6,
    I16 = 7,
    I8 = 9,
}

impl Kind {
    /// The smallest and largest integer of a type that stands for real numbers.
    pub fn range(self) -> [i64; 2] {
        match self {
            Self::U8 => [0, 255],
            Self::I16 => [-32768, 32767],
            _ => [-128, 127],
        }
    }
}

/// real = scale · (integer − zero point), one of each or one for each place of an axis.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Grid {
    /// The type of the integers.
    pub kind: Kind,
    pub scales: Vec<f32>,
    pub zero_points: Vec<i64>,
    /// The axis of the tensor that the scales run along.
    pub axis: usize,
}

impl Grid {
    pub fn whole(kind: Kind, scale: f32, zero_point: i64) -> Self {
        Self { kind, scales: vec![scale], zero_points: vec![zero_point], axis: 0 }
    }
    /// Of a weight or a bias: zero points 0.
    pub fn around_zero(kind: Kind, scales: Vec<f32>, axis: usize) -> Self {
        Self { kind, zero_points: vec![0; scales.len()], scales, axis }
    }
    /// The same numbers in uint8, for those in int8.
    #[must_use]
    pub fn unsigned(&self) -> Self {
        Self { kind: Kind::U8, zero_points: self.zero_points.iter().map(|z| z + 128).collect(), ..self.clone() }
    }
}

/// What a tensor is.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Type {
    pub kind: Kind,
    pub shape: Vec<usize>,
    pub grid: Option<Grid>,
}

impl Type {
    pub fn new(kind: Kind, shape: &[usize]) -> Self {
        Self { kind, shape: shape.to_vec(), grid: None }
    }
    /// Integers that stand for real numbers.
    pub fn rounded(shape: &[usize], grid: Grid) -> Self {
        Self { kind: grid.kind, shape: shape.to_vec(), grid: Some(grid) }
    }
    pub fn f32(shape: &[usize]) -> Self {
        Self::new(Kind::F32, shape)
    }
    /// The same with another shape.
    #[must_use]
    pub fn shaped(&self, shape: &[usize]) -> Self {
        Self { shape: shape.to_vec(), ..self.clone() }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Tensor {
    pub name: String,
    pub made: Type,
    /// Place in the list of buffers; 0, which is empty, for what is computed.
    pub buffer: usize,
}

/// A number in the options of an operator.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Scalar {
    Byte(u8),
    Int(i32),
    Float(f32),
}

impl From<bool> for Scalar {
    fn from(v: bool) -> Self {
        Self::Byte(u8::from(v))
    }
}

/// An operator with its options.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Call {
    pub code: i32,
    pub version: i32,
    /// Number of the options' table in the union, 0 for none.
    pub table: u8,
    /// Its fields by slot.
    pub options: Vec<(u16, Scalar)>,
}

impl Call {
    pub fn new(code: i32, table: u8, options: &[(u16, Scalar)]) -> Self {
        Self { code, version: 1, table, options: options.to_vec() }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Operator {
    pub call: Call,
    pub inputs: Vec<usize>,
    pub outputs: Vec<usize>,
}

/// A whole file: one graph, its constants, its metadata.
#[derive(Debug, Clone)]
pub(super) struct File {
    pub name: String,
    pub tensors: Vec<Tensor>,
    pub operators: Vec<Operator>,
    pub buffers: Vec<Bytes>,
    pub inputs: Vec<usize>,
    pub outputs: Vec<usize>,
    /// Texts by name.
    pub metadata: Vec<(String, String)>,
}
