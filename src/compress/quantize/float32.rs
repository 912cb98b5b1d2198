//! A float16 graph in float32, before it is quantized: integers stand for float32 numbers in all runtimes.

use compresso_base::error::{Error, Result};
use compresso_model::ops::cast::CAST;
use compresso_model::passes::{Pass, PassContext, Pipeline, Rewrite};
use compresso_model::{Attr, Constant, Element, Graph, Patch, ValueInfo};

/// For graphs with values in float16 or bfloat16.
const PIPELINE: Pipeline = Pipeline { name: "float32", summary: "Shorter floats as float32", lists: &[&[&Float32]] };

/// Attributes that name an element type.
const TYPES: [&str; 3] = ["to", "dtype", "output_dtype"];

/// Makes float32 of all that is float16 or bfloat16, inputs and outputs too.
#[derive(Debug, Clone, Copy)]
pub struct Float32;

impl Pass for Float32 {
    fn name(&self) -> &'static str {
        "float32"
    }
    fn summary(&self) -> &'static str {
        "Makes float32 of all that is float16 or bfloat16, inputs and outputs too"
    }
    /// # Errors
    /// `Unsupported` for inner graphs (If, Loop, Scan) with such values.
    fn rewrite<'g>(&self, cx: &PassContext<'g>) -> Result<Rewrite<'g>> {
        let (graph, facts) = (cx.graph(), cx.facts()?);
        let mut out = cx.rewrite();
        if !facts.values().any(|f| is_short(f.element)) {
            return Ok(out);
        }
        for (name, constant) in graph.constants().iter().filter(|(_, c)| is_short(c.element())) {
            out.patch.set_constant(name, widened(constant)?);
        }
        for (i, node) in graph.nodes().iter().enumerate() {
            let short = |n: &str| facts.get(n).is_some_and(|f| is_short(f.element));
            let inside = node.inner().flat_map(|g| g.constants().values()).any(|c| is_short(c.element()));
            let made = node.inner().next().is_some() && node.outputs.iter().any(|n| short(n));
            if inside || made || node.captured().into_iter().any(short) {
                let e = Error::unsupported("float16 values in an inner graph are not converted to float32").at(node.label());
                return Err(e.hint("quantize the float32 model that this one was made from"));
            }
            // Between floats that are all float32 now, a cast does nothing.
            let float = |n: Option<&str>| n.and_then(|n| facts.get(n)).is_some_and(|f| is_short(f.element) || f.element == Element::F32);
            match (node.input(0), node.output(0)) {
                (Some(from), Some(to)) if node.is(CAST) && float(Some(from)) && float(Some(to)) && !cx.stays(to) => {
                    out.patch.remove(i);
                    out.patch.redirect(to, from);
                }
                _ => attributes(&mut out.patch, i)?,
            }
        }
        let wide = |list: &[ValueInfo]| -> Vec<ValueInfo> {
            let one = |info: &ValueInfo| {
                let mut info = info.clone();
                if is_short(info.fact.element) {
                    info.fact.element = Element::F32;
                }
                info
            };
            list.iter().map(one).collect()
        };
        if graph.inputs().iter().any(|i| is_short(i.fact.element)) {
            out.patch.set_inputs(wide(graph.inputs()));
        }
        if graph.outputs().iter().any(|o| is_short(o.fact.element)) {
            out.patch.set_outputs(wide(graph.outputs()));
        }
        out.done.push("float16 values are float32".into());
        Ok(out)
    }
}

/// The graph in float32; `None` where nothing in it is shorter.
///
/// # Errors
/// As the pass [`Float32`].
pub(super) fn to_float32(graph: &Graph) -> Result<Option<Graph>> {
    let made = PIPELINE.run(graph)?;
    Ok((made.changes > 0).then_some(made.graph))
}

fn is_short(element: Element) -> bool {
    matches!(element, Element::F16 | Element::BF16)
}

/// The same numbers in float32: each is one.
fn widened(constant: &Constant) -> Result<Constant> {
    Constant::floats(constant.dims(), &constant.to_f32s()?)
}

/// What a node says of types and numbers.
fn attributes(patch: &mut Patch<'_>, i: usize) -> Result<()> {
    let node = &patch.graph().nodes()[i];
    for (name, attr) in &node.attrs {
        let new = match attr {
            Attr::Int(code) if TYPES.contains(&name.as_str()) => {
                let short = i32::try_from(*code).ok().and_then(Element::from_code).is_some_and(is_short);
                short.then(|| Attr::Int(i64::from(Element::F32.code())))
            }
            Attr::Tensor(value) if is_short(value.element()) => Some(Attr::Tensor(widened(value)?)),
            _ => None,
        };
        if let Some(new) = new {
            patch.edit(i).attrs.insert(name.clone(), new);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device, Tensor};
    use compresso_exec::{Run, run};
    use compresso_model::{Fact, GraphBuilder, Node, Value};
    use std::collections::HashMap;

    /// Weights and input in float16, a constant node, casts there and back.
    fn net() -> Graph {
        let mut b = GraphBuilder::new("g", 17);
        let x = b.input("x", Fact::known(Element::F16, &[1, 2, 4, 4]));
        let half = |dims: &[usize], n: usize| {
            let values: Vec<f32> = (0..n).map(|i| i as f32 / 7.0 - 0.5).collect();
            let t = Tensor::from_vec(values, dims, &Device::Cpu).unwrap().to_dtype(DType::F16).unwrap();
            Constant::from_storage(Element::F16, &t).unwrap()
        };
        let w = b.constant("w", half(&[3, 2, 1, 1], 6));
        let y = b.node(Node::new("Conv", "conv", [x.as_str(), &w], ["c"]));
        let k = b.node(Node::new("Constant", "k", Vec::<String>::new(), ["kv"]).attr("value", Attr::Tensor(half(&[1], 1))));
        let y = b.node(Node::new("Mul", "mul", [y.as_str(), &k], ["m"]));
        let y = b.node(Node::new("Cast", "up", [y.as_str()], ["u"]).int("to", 1));
        let y = b.node(Node::new("Cast", "down", [y.as_str()], ["y"]).int("to", 10));
        b.output(&y);
        b.finish().unwrap()
    }

    #[test]
    fn all_becomes_float32_with_the_same_numbers() {
        let g = net();
        let wide = to_float32(&g).unwrap().unwrap();
        assert!(wide.facts().unwrap().values().all(|f| f.element == Element::F32));
        assert_eq!(wide.inputs()[0].fact.element, Element::F32);
        assert!(wide.find("up").is_err(), "a cast that does nothing is gone");
        assert_eq!(wide.constant("w").unwrap().to_f32s().unwrap(), g.constant("w").unwrap().to_f32s().unwrap());
        let x: Vec<f32> = (0..32u8).map(|i| f32::from(i) / 32.0).collect();
        let x = Tensor::from_vec(x, (1, 2, 4, 4), &Device::Cpu).unwrap();
        let of = |g: &Graph, v: Value| {
            let made = run(g, &HashMap::from([("x".to_string(), v)]), Run::default()).unwrap();
            made["y"].to_f32s().unwrap()
        };
        let short = Value::new(Element::F16, x.to_dtype(DType::F16).unwrap()).unwrap();
        let (a, b) = (of(&g, short), of(&wide, Value::plain(x).unwrap()));
        assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 2e-3), "{a:?} {b:?}");
        assert!(to_float32(&wide).unwrap().is_none(), "nothing is left to do");
    }
}
