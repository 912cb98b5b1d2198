//! An operator is called through here: what the specification asks of its inputs is checked, its result must fit into memory, a panic of a
//! library below is an error.

use super::def::OpDef;
use super::run::Exec;
use super::schema;
use crate::constant::Constant;
use crate::graph::{Fact, Facts, Infer};
use crate::value::Value;
use compresso_base::contain::contain;
use compresso_base::error::Result;
use compresso_base::memory;

/// The result and what is worked out on the way to it.
const COPIES: u64 = 2;
/// Inputs of up to so many integers, or other numbers, may hold sizes, which the result's shape follows from.
const SIZES: usize = 64;
const FACTORS: usize = 8;

impl OpDef {
    /// What is known of the outputs, from what is known of the inputs.
    ///
    /// # Errors
    /// `Format` and `DType` for inputs that the operator's specification does not allow; those of the shape rule.
    pub fn facts(&self, cx: &Infer<'_>) -> Result<Vec<Fact>> {
        schema::check(cx)?;
        contain(|| (self.infer)(cx))
    }

    /// The outputs.
    ///
    /// # Errors
    /// `Memory` when they do not fit; `Internal` for a panic; those of the operator.
    pub fn run(&self, cx: &Exec<'_>) -> Result<Vec<Value>> {
        contain(|| {
            self.claim(cx)?;
            self.compute(cx)
        })
    }

    /// Asks for the memory of the outputs, as far as their shapes follow from the inputs.
    fn claim(&self, cx: &Exec<'_>) -> Result<()> {
        // Inner graphs run node by node, through here.
        if cx.node.inner().next().is_some() || cx.inputs().any(Value::is_sequence) {
            return Ok(());
        }
        let mut facts = Facts::new();
        for (i, name) in cx.node.inputs.iter().enumerate() {
            if let Some(value) = cx.get(i) {
                facts.insert(name.clone(), fact(value)?);
            }
        }
        // What the shape rule objects to, the operator itself reports.
        let Ok(made) = (self.infer)(&Infer::new(cx.node, cx.opset, &facts)) else { return Ok(()) };
        for fact in made.iter().take(cx.node.outputs.len()) {
            if let Some(dims) = fact.dims() {
                let width = fact.element.storage().map_or(8, |dtype| dtype.size_in_bytes());
                memory::claim_tensor(&dims, width, COPIES, || format!("the result {fact} of {}", cx.node.label()))?;
            }
        }
        Ok(())
    }
}

fn fact(value: &Value) -> Result<Fact> {
    let dims = value.dims();
    let most = if value.element.is_int() { SIZES } else { FACTORS };
    // Numbers on another device are not waited for.
    if dims.len() <= 1 && value.tensor.elem_count() <= most && value.tensor.device().is_cpu() {
        return Ok(Fact::of(&Constant::from_storage(value.element, &value.tensor)?));
    }
    Ok(Fact::known(value.element, dims))
}

#[cfg(test)]
mod tests {
    use crate::element::Element;
    use crate::graph::Node;
    use crate::ops::{Exec, RunMode, find};
    use crate::value::Value;
    use candle_core::{Device, Tensor};
    use compresso_base::error::{ErrorKind, Result};

    fn run(node: &Node, inputs: &[Option<Value>]) -> Result<Vec<Value>> {
        find(node)?.run(&Exec::new(node, 19, inputs, &RunMode::default()))
    }

    fn sizes(v: &[i64]) -> Option<Value> {
        Some(Value::new(Element::I64, Tensor::new(v, &Device::Cpu).unwrap()).unwrap())
    }

    #[test]
    fn results_beyond_memory_are_errors_that_name_them() {
        let one = || Some(Value::plain(Tensor::new(&[1f32], &Device::Cpu).unwrap()).unwrap());
        let huge = 1 << 40;
        let cases = [
            (Node::new("Expand", "", ["x", "s"], ["y"]), vec![one(), sizes(&[huge, 4])]),
            (Node::new("Tile", "", ["x", "s"], ["y"]), vec![one(), sizes(&[huge])]),
            (Node::new("Pad", "", ["x", "s"], ["y"]), vec![one(), sizes(&[huge, huge])]),
            (Node::new("ConstantOfShape", "", ["s"], ["y"]), vec![sizes(&[huge, 2])]),
        ];
        for (node, inputs) in cases {
            let e = run(&node, &inputs).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::Memory, "{}: {e}", node.op);
            assert!(e.message().contains(&node.op) && e.message().contains("float32["), "{e}");
        }
        // More elements than can be counted.
        let node = Node::new("Expand", "", ["x", "s"], ["y"]);
        assert_eq!(run(&node, &[one(), sizes(&[1 << 62, 4])]).unwrap_err().kind(), ErrorKind::Shape);
    }
}
