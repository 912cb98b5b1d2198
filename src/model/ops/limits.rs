//! An operator is called through here: what the specification asks of its inputs is checked, its result must fit into memory, a panic of a
//! library below is an error.

use super::def::OpDef;
use super::run::Exec;
use super::schema;
use crate::constant::Constant;
use crate::element::Element;
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
    /// `Format` and `DType` for inputs and attributes that the operator's specification does not allow; `Shape` for more elements than can be
    /// counted; those of the shape rule.
    pub fn facts(&self, cx: &Infer<'_>) -> Result<Vec<Fact>> {
        schema::check(cx)?;
        let facts = contain(|| (self.infer)(cx))?;
        facts.iter().try_for_each(Fact::countable)?;
        Ok(facts)
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

    /// Asks for the memory of the outputs, as far as their shapes follow from the inputs, which must be as the specification has them.
    fn claim(&self, cx: &Exec<'_>) -> Result<()> {
        // Inner graphs run node by node, through here.
        if cx.node.inner().next().is_some() || cx.inputs().any(Value::is_sequence) {
            return Ok(());
        }
        let mut facts = Facts::new();
        // Operators read views in one piece, and with positions for their elements: what Expand made from nothing is as large then as it looks.
        let mut read = 0u64;
        for (i, name) in cx.node.inputs.iter().enumerate() {
            if let Some(value) = cx.get(i) {
                facts.insert(name.clone(), fact(value)?);
                let position = if value.tensor.is_contiguous() { 0 } else { size_of::<usize>() as u64 };
                read = read.saturating_add(value.tensor.elem_count() as u64 * (worked_out(value.element) + position));
            }
        }
        memory::claim(read, || format!("what {} reads", cx.node.label()))?;
        let known = Infer::new(cx.node, cx.opset, &facts);
        schema::check(&known)?;
        // What the shape rule objects to, the operator itself reports.
        let Ok(made) = (self.infer)(&known) else { return Ok(()) };
        for fact in made.iter().take(cx.node.outputs.len()) {
            if let Some(dims) = fact.dims() {
                let result = || format!("the result {fact} of {}", cx.node.label());
                // Of sizes that cannot be counted, with what is read beside it.
                memory::claim_tensor(&dims, 1, 1, result)?;
                let count = memory::elements(dims).unwrap_or(0) as u64;
                memory::claim((count * worked_out(fact.element)).saturating_mul(COPIES).saturating_add(read), result)?;
            }
        }
        Ok(())
    }
}

/// Bytes of an element as it is computed with: small ones become float32.
fn worked_out(element: Element) -> u64 {
    element.storage().map_or(8, |dtype| dtype.size_in_bytes().max(4)) as u64
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
        // A size in a form that the shape rule does not read.
        let size = Value::new(Element::I64, Tensor::new(&[[1i64 << 40]], &Device::Cpu).unwrap()).unwrap();
        let e = run(&Node::new("HannWindow", "", ["n"], ["y"]), &[Some(size)]).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Unsupported, "{e}");
        // More elements than can be counted.
        let node = Node::new("Expand", "", ["x", "s"], ["y"]);
        assert_eq!(run(&node, &[one(), sizes(&[1 << 62, 4])]).unwrap_err().kind(), ErrorKind::Shape);
    }

    fn floats(dims: &[usize]) -> Option<Value> {
        Some(Value::plain(Tensor::ones(dims, candle_core::DType::F32, &Device::Cpu).unwrap()).unwrap())
    }

    fn bytes(dims: &[usize]) -> Option<Value> {
        Some(Value::new(Element::U8, Tensor::ones(dims, candle_core::DType::U8, &Device::Cpu).unwrap()).unwrap())
    }

    /// Nodes that no shape rule has seen, as where types follow only when a graph runs.
    #[test]
    fn what_an_operator_does_not_take_is_an_error_of_its_own() {
        let node = |op: &str, inputs: usize| Node::new(op, "", (0..inputs).map(|i| format!("x{i}")), ["y"]);
        let cases = [
            (node("Reciprocal", 1), vec![bytes(&[2])], ErrorKind::DType),
            (node("Softmax", 1).int("axis", 0), vec![floats(&[])], ErrorKind::Shape),
            (node("Softmax", 1).attr("axis", crate::graph::Attr::Float(1.0)), vec![floats(&[2])], ErrorKind::Format),
            (node("LRN", 1), vec![floats(&[1, 2, 3])], ErrorKind::Format),
            (node("MaxPool", 1).ints("kernel_shape", &[0, 1]), vec![floats(&[1, 1, 3, 3])], ErrorKind::Format),
            (node("MaxPool", 1).ints("kernel_shape", &[1 << 62, 1]), vec![floats(&[1, 1, 3, 3])], ErrorKind::Format),
            (node("ConvInteger", 4), vec![bytes(&[3]), bytes(&[2]), bytes(&[1]), bytes(&[2])], ErrorKind::Shape),
            (node("ConvInteger", 3), vec![bytes(&[1, 3, 4, 4]), bytes(&[2, 3]), bytes(&[3])], ErrorKind::Shape),
        ];
        for (node, inputs, kind) in cases {
            let e = run(&node, &inputs).unwrap_err();
            assert_eq!(e.kind(), kind, "{}: {e}", node.op);
        }
    }

    #[test]
    fn a_window_beyond_all_channels_sees_all_of_them() {
        let lrn = |size: i64| {
            let node = Node::new("LRN", "", ["x"], ["y"]).int("size", size);
            run(&node, &[floats(&[1, 3, 2])]).unwrap()[0].to_f32s().unwrap()[0]
        };
        // Sums over all three channels: 1 + 1e-4 · 3 / size.
        assert!((lrn(7) - (1.0 + 3e-4f32 / 7.0).powf(-0.75)).abs() < 1e-6);
        assert_eq!(lrn((1 << 31) - 1), 1.0);
    }
}
