//! What an operator sees when it runs.

use crate::element::Element;
use crate::graph::{Graph, Node};
use crate::value::Value;
use candle_core::{DType, Device, Tensor};
use compresso_base::error::{Error, Result};
use compresso_base::memory;
use std::sync::Mutex;

compresso_base::choice! {
    /// Numbers that convolutions and matrix products read and give; sums inside them, and all other operators, stay
    /// float32 (Micikevicius et al. 2018, "Mixed Precision Training").
    #[derive(Default)]
    pub enum MixedPrecision {
        /// All numbers are float32.
        #[default]
        Float32 = "float32",
        /// float32's range, with 8 bits of mantissa.
        Bfloat16 = "bfloat16",
        /// 11 bits of mantissa; nothing above 65504.
        Float16 = "float16",
    }
}

impl MixedPrecision {
    /// The type of the short numbers; `None` for float32.
    pub fn short(self) -> Option<DType> {
        match self {
            Self::Float32 => None,
            Self::Bfloat16 => Some(DType::BF16),
            Self::Float16 => Some(DType::F16),
        }
    }
}

/// How a graph is being run.
#[derive(Debug, Default)]
pub struct RunMode {
    /// Training: batch norms use batch statistics and report updates of their running ones, dropout drops.
    pub training: bool,
    /// Seed for random operators.
    pub seed: u64,
    /// Where batch norms leave the new running mean and variance: constant name → tensor.
    pub updates: Mutex<Vec<(String, Tensor)>>,
    /// Where nodes without inputs make their values; `None` is the CPU.
    pub device: Option<Device>,
    /// Mixed precision: see [`MixedPrecision`].
    pub precision: MixedPrecision,
}

/// What a forward computation sees.
pub struct Exec<'a> {
    /// The node that runs.
    pub node: &'a Node,
    /// Version of the node's operator set.
    pub opset: i64,
    inputs: &'a [Option<Value>],
    /// How the graph is being run.
    pub mode: &'a RunMode,
    /// Runs an inner graph with the enclosing values; set by the executor.
    pub subgraph: Option<&'a dyn Fn(&Graph, Vec<(String, Value)>) -> Result<Vec<Value>>>,
}

impl<'a> Exec<'a> {
    /// A run of a node that needs no inner graph: `subgraph` is not set.
    pub fn new(node: &'a Node, opset: i64, inputs: &'a [Option<Value>], mode: &'a RunMode) -> Self {
        Self { node, opset, inputs, mode, subgraph: None }
    }
    /// How many inputs the node lists, those left out by an empty name among them.
    pub fn input_count(&self) -> usize {
        self.inputs.len()
    }
    /// Input `i`, when it is given.
    pub fn get(&self, i: usize) -> Option<&'a Value> {
        self.inputs.get(i).and_then(Option::as_ref)
    }
    /// Input `i`.
    ///
    /// # Errors
    /// `Format` when it is left out.
    pub fn input(&self, i: usize) -> Result<&'a Value> {
        self.get(i).ok_or_else(|| Error::format(format!("input {i} is missing")))
    }
    /// The tensor of input `i`.
    pub fn tensor(&self, i: usize) -> Result<&'a Tensor> {
        Ok(&self.input(i)?.tensor)
    }
    /// Integers from input `i`, when it is given.
    pub fn ints(&self, i: usize) -> Result<Option<Vec<i64>>> {
        self.get(i).map(Value::to_i64s).transpose()
    }
    /// The inputs that are given, in order.
    pub fn inputs(&self) -> impl Iterator<Item = &'a Value> {
        self.inputs.iter().flatten()
    }
    /// The device of the first input, else the mode's, else the CPU.
    pub fn device(&self) -> Device {
        self.inputs().next().map(|v| v.tensor.device().clone()).or_else(|| self.mode.device.clone()).unwrap_or(Device::Cpu)
    }
    /// One output of the same element as input 0.
    pub fn one(&self, tensor: Tensor) -> Result<Vec<Value>> {
        Ok(vec![Value::new(self.input(0)?.element, tensor)?])
    }
}

/// The type in which sums over such numbers are computed: float64 as it is, all others in float32.
pub fn wide(dtype: DType) -> DType {
    if dtype == DType::F64 { DType::F64 } else { DType::F32 }
}

/// True for numbers shorter than float32 in the memory of the processor, which computes in float32.
pub(super) fn is_short(v: &Value) -> bool {
    matches!(v.element, Element::F16 | Element::BF16) && v.tensor.device().is_cpu()
}

/// Runs `forward` on the short inputs as float32; float32 outputs become `element`. Differentiable.
///
/// # Errors
/// Whatever `forward` reports.
pub(super) fn in_float32(cx: &Exec<'_>, element: Element, forward: fn(&Exec<'_>) -> Result<Vec<Value>>) -> Result<Vec<Value>> {
    let widened = |v: &Option<Value>| match v {
        Some(v) if is_short(v) => Ok(Some(Value::new(Element::F32, v.tensor.to_dtype(DType::F32)?)?)),
        other => Ok(other.clone()),
    };
    let inputs = cx.inputs.iter().map(widened).collect::<Result<Vec<_>>>()?;
    let storage = element.storage().ok_or_else(|| Error::internal("short numbers have a type in memory"))?;
    let made = forward(&Exec { node: cx.node, opset: cx.opset, inputs: &inputs, mode: cx.mode, subgraph: cx.subgraph })?;
    let rounded = |v: Value| {
        if v.element != Element::F32 {
            return Ok(v);
        }
        memory::claim_tensor(v.dims(), storage.size_in_bytes(), 1, || format!("a result of {element}{:?}", v.dims()))?;
        Value::new(element, v.tensor.to_dtype(storage)?)
    };
    made.into_iter().map(rounded).collect()
}
