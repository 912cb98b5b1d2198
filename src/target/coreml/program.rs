//! An ML program in the making: operations in the order in which they run, on values that are named, typed and made once.

use super::names::{identifier, unique};
use bytes::Bytes;
use compresso_base::error::{Error, Result};
use compresso_model::Element;
use std::collections::{HashMap, HashSet};

/// Types of elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    F32,
    F16,
    I32,
    Bool,
    I8,
    U8,
    U32,
    Text,
}

impl Kind {
    /// What holds elements of ONNX. Operations compute with integers of 32 bits alone.
    ///
    /// # Errors
    /// `Unsupported` for types that Core ML lacks.
    pub fn of(element: Element) -> Result<Self> {
        Ok(match element {
            Element::F32 => Self::F32,
            Element::F16 => Self::F16,
            Element::I64 | Element::I32 | Element::I16 | Element::U16 | Element::I8 | Element::U8 => Self::I32,
            Element::Bool => Self::Bool,
            other => return Err(Error::unsupported(format!("Core ML's ML programs have no {other} tensors"))),
        })
    }
    pub fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F16)
    }
    /// As operations that are told a type name it.
    pub fn word(self) -> &'static str {
        match self {
            Self::F32 => "fp32",
            Self::F16 => "fp16",
            Self::I32 => "int32",
            Self::Bool => "bool",
            Self::I8 => "int8",
            Self::U8 => "uint8",
            Self::U32 => "uint32",
            Self::Text => "string",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Type {
    pub kind: Kind,
    /// Empty for a scalar.
    pub dims: Vec<usize>,
}

impl Type {
    pub fn new(kind: Kind, dims: &[usize]) -> Self {
        Self { kind, dims: dims.to_vec() }
    }
    pub fn count(&self) -> usize {
        self.dims.iter().product()
    }
}

/// Numbers that are stored, packed and little-endian; texts as they are.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Literal {
    pub made: Type,
    pub data: Bytes,
}

impl Literal {
    pub fn new(kind: Kind, dims: &[usize], data: impl Into<Bytes>) -> Self {
        Self { made: Type::new(kind, dims), data: data.into() }
    }
    pub fn text(text: &str) -> Self {
        Self::new(Kind::Text, &[], text.as_bytes().to_vec())
    }
    pub fn i32s(dims: &[usize], values: &[i64]) -> Self {
        let narrow = |v: &i64| i32::try_from(*v).unwrap_or(if *v < 0 { i32::MIN } else { i32::MAX });
        Self::new(Kind::I32, dims, values.iter().flat_map(|v| narrow(v).to_le_bytes()).collect::<Vec<u8>>())
    }
    pub fn u32s(values: &[usize]) -> Self {
        let narrow = |v: &usize| u32::try_from(*v).unwrap_or(u32::MAX);
        Self::new(Kind::U32, &[values.len()], values.iter().flat_map(|v| narrow(v).to_le_bytes()).collect::<Vec<u8>>())
    }
    /// Floats in either precision; what float16 cannot hold becomes its largest.
    pub fn floats(kind: Kind, dims: &[usize], values: &[f32]) -> Self {
        let data: Vec<u8> = match kind {
            Kind::F16 => values.iter().flat_map(|v| to_half(*v).to_le_bytes()).collect(),
            _ => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        };
        Self::new(if kind == Kind::F16 { kind } else { Kind::F32 }, dims, data)
    }
}

/// A finite number stays finite.
pub(super) fn to_half(value: f32) -> half::f16 {
    let largest = half::f16::MAX.to_f32();
    half::f16::from_f32(if value.is_finite() { value.clamp(-largest, largest) } else { value })
}

/// A value of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Ref(usize);

/// Names of an operation's inputs, with the values that are read; more than one where the operation takes a list.
pub(super) type Inputs = Vec<(&'static str, Vec<Ref>)>;

#[derive(Debug)]
pub(super) struct Operation {
    pub kind: &'static str,
    pub inputs: Inputs,
    /// What the operation itself holds.
    pub attributes: Vec<(&'static str, Literal)>,
    pub outputs: Vec<Ref>,
}

#[derive(Debug, Default)]
pub(super) struct Program {
    values: Vec<(String, Type)>,
    pub operations: Vec<Operation>,
    pub inputs: Vec<Ref>,
    pub outputs: Vec<Ref>,
    names: HashSet<String>,
    /// Values of the graph.
    known: HashMap<String, Ref>,
    /// Constants of few bytes, each made once.
    small: HashMap<Literal, Ref>,
    /// Whether operations stand in it that came with iOS 17.
    pub rounds: bool,
}

/// Constants of at most so many bytes are made once.
const SMALL: usize = 64;

impl Program {
    /// A program in which these names are kept for its inputs and outputs.
    pub fn new(reserved: impl Iterator<Item = String>) -> Self {
        Self { names: reserved.collect(), ..Self::default() }
    }
    pub fn name(&self, value: Ref) -> &str {
        &self.values[value.0].0
    }
    pub fn made(&self, value: Ref) -> &Type {
        &self.values[value.0].1
    }
    /// The value of the graph with this name, when it has been made.
    pub fn value(&self, name: &str) -> Option<Ref> {
        self.known.get(name).copied()
    }
    pub fn know(&mut self, name: &str, value: Ref) {
        self.known.insert(name.into(), value);
    }
    fn add(&mut self, name: String, made: Type) -> Ref {
        self.values.push((name, made));
        Ref(self.values.len() - 1)
    }
    pub fn input(&mut self, name: &str, made: Type) -> Ref {
        let value = self.add(name.into(), made);
        self.inputs.push(value);
        value
    }
    /// Adds an operation, whose outputs are named after `name`.
    pub fn operation(
        &mut self,
        name: &str,
        kind: &'static str,
        inputs: Inputs,
        attributes: Vec<(&'static str, Literal)>,
        made: Vec<Type>,
    ) -> Vec<Ref> {
        let outputs: Vec<Ref> = made
            .into_iter()
            .map(|made| {
                let name = unique(identifier(name), &mut self.names);
                self.add(name, made)
            })
            .collect();
        self.operations.push(Operation { kind, inputs, attributes, outputs: outputs.clone() });
        outputs
    }
    pub fn constant(&mut self, name: &str, literal: Literal) -> Ref {
        let small = literal.data.len() <= SMALL;
        if let Some(&known) = self.small.get(&literal).filter(|_| small) {
            return known;
        }
        let made = literal.made.clone();
        let value = self.operation(name, "const", Vec::new(), vec![("val", literal.clone())], vec![made])[0];
        if small {
            self.small.insert(literal, value);
        }
        value
    }
    pub fn is_constant(&self, value: Ref) -> bool {
        self.operations.iter().any(|op| op.outputs.contains(&value) && (op.kind == "const" || op.kind.starts_with("constexpr_")))
    }
    /// Gives a value a name that was kept for it, or one that is free.
    pub fn rename(&mut self, value: Ref, name: &str, reserved: bool) {
        let name = identifier(name);
        if reserved || self.names.insert(name.clone()) {
            let old = std::mem::replace(&mut self.values[value.0].0, name);
            self.names.remove(&old);
        }
    }
    /// Drops the operations on which no output depends.
    pub fn sweep(&mut self) {
        let mut live = vec![false; self.values.len()];
        self.outputs.iter().for_each(|v| live[v.0] = true);
        let mut kept: Vec<Operation> = Vec::new();
        for operation in std::mem::take(&mut self.operations).into_iter().rev() {
            if operation.outputs.iter().any(|v| live[v.0]) {
                operation.inputs.iter().flat_map(|(_, values)| values).for_each(|v| live[v.0] = true);
                kept.push(operation);
            }
        }
        kept.reverse();
        self.operations = kept;
    }
}
