//! What the table entries say is what the operators do.

use super::{Data, Exec, Float16Rule, OpDef, QuantRule, RunMode, all, find};
use crate::graph::{Fact, Facts, Infer, Node};
use crate::{Element, Value};
use candle_core::{Device, Tensor};

/// Shapes of a node's outputs on inputs with these elements and shapes.
fn shapes(op: &OpDef, node: &Node, opset: i64, inputs: &[(Element, &[usize])]) -> Option<Vec<Vec<usize>>> {
    let facts: Facts = node.inputs.iter().zip(inputs).map(|(name, (e, dims))| (name.clone(), Fact::known(*e, dims))).collect();
    let found = (op.infer)(&Infer::new(node, opset, &facts)).ok()?;
    found.iter().map(Fact::dims).collect()
}

fn run(node: &Node, opset: i64, inputs: &[Tensor]) -> Vec<Tensor> {
    let inputs: Vec<Option<Value>> = inputs.iter().map(|t| Some(Value::plain(t.clone()).unwrap())).collect();
    let mode = RunMode::default();
    find(node).unwrap().run(&Exec::new(node, opset, &inputs, &mode)).unwrap().into_iter().map(|v| v.tensor).collect()
}

/// A layer with its data and weight, and the axis of its output's channels.
fn layers() -> Vec<(Node, Vec<usize>, Vec<usize>, usize)> {
    let node = |op: &str| Node::new(op, "", ["x", "w"], ["y"]);
    vec![
        (node("Conv"), vec![1, 6, 8, 8], vec![10, 6, 3, 3], 1),
        (node("Conv").int("group", 2), vec![1, 6, 8, 8], vec![10, 3, 3, 3], 1),
        (node("ConvTranspose"), vec![1, 6, 8, 8], vec![6, 10, 3, 3], 1),
        (node("ConvTranspose").int("group", 2), vec![1, 6, 8, 8], vec![6, 5, 3, 3], 1),
        (node("Gemm"), vec![4, 6], vec![6, 10], 1),
        (node("Gemm").int("transB", 1), vec![4, 6], vec![10, 6], 1),
        (node("MatMul"), vec![2, 4, 6], vec![6, 10], 2),
        (node("MatMul"), vec![2, 4, 6], vec![2, 6, 10], 2),
    ]
}

#[test]
fn the_recipe_of_an_operator_is_the_compiled_file() {
    let document = include_str!("../../../docs/adding-an-op.md");
    let file = include_str!("shrink.rs");
    assert!(document.contains(&format!("```rust,ignore\n{file}```")), "docs/adding-an-op.md shows another file than shrink.rs");
    let line = "    super::shrink::OPS,\n";
    assert!(document.contains(&format!("```rust,ignore\n{line}```")) && include_str!("registry.rs").contains(line));
}

#[test]
fn shrink_has_the_gradient_of_a_selection() {
    let node = Node::new("Shrink", "shrink", ["x"], ["y"]).float("bias", 0.25).float("lambd", 0.5);
    let x = candle_core::Var::new(&[-2.0f32, -0.5, 0.0, 0.4, 0.75, f32::INFINITY], &Device::Cpu).unwrap();
    let y = run(&node, 9, &[x.as_tensor().clone()]).remove(0);
    assert_eq!(y.to_vec1::<f32>().unwrap(), [-1.75, 0.0, 0.0, 0.0, 0.5, f32::INFINITY]);
    let gradient = y.sum_all().unwrap().backward().unwrap().remove(x.as_tensor()).unwrap();
    assert_eq!(gradient.to_vec1::<f32>().unwrap(), [1.0, 0.0, 0.0, 0.0, 1.0, 1.0]);
}

#[test]
fn the_channels_of_weights_are_those_of_what_is_read_and_made() {
    let all_layers: Vec<&OpDef> = all().filter(|op| op.quant == QuantRule::Weighted).collect();
    for op in &all_layers {
        assert!(op.weight.is_some(), "{} is a layer without a weight", op.name);
        assert!(layers().iter().any(|(n, ..)| n.is(op.name)), "{} is not tried", op.name);
    }
    for (node, x, w, axis) in layers() {
        let op = find(&node).unwrap();
        let axes = (op.weight.unwrap().axes)(&node, w.len()).unwrap().unwrap();
        let made = shapes(op, &node, 17, &[(Element::F32, &x), (Element::F32, &w)]).unwrap();
        assert_eq!(axes.output.count(&w), 10, "{node:?}");
        assert_eq!(made[0][axis], 10, "{node:?}");
        assert_eq!(axes.input.count(&w), 6, "{node:?}");
        let channels = if x.len() == 4 { x[1] } else { x[x.len() - 1] };
        assert_eq!(axes.input.count(&w), channels, "{node:?}");
    }
    let vector = Node::new("MatMul", "", ["x", "w"], ["y"]);
    assert_eq!((find(&vector).unwrap().weight.unwrap().axes)(&vector, 1).unwrap(), None);
}

#[test]
fn integer_forms_exist_and_take_the_same_weights() {
    for op in all() {
        let Some(name) = op.weight.and_then(|w| w.integer) else { continue };
        let integer = find(&Node::new(name, "", [""; 0], ["y"])).unwrap();
        assert_eq!(integer.quant, QuantRule::Quantized, "{name}");
        assert_eq!(integer.weight.unwrap().input, op.weight.unwrap().input, "{name}");
    }
}

#[test]
fn operators_that_broadcast_do() {
    let mut tried = 0;
    for op in all().filter(|op| op.data == Data::Broadcast) {
        let ternary = op.name == "Where";
        let names = if ternary { vec!["c", "a", "b"] } else { vec!["a", "b"] };
        let mut node = Node::new(op.name, "", names, ["y"]);
        if op.name == "BitShift" {
            node = node.attr("direction", crate::Attr::text("LEFT"));
        }
        let fits = [Element::F32, Element::Bool, Element::I64, Element::U8].into_iter().any(|e| {
            let mut inputs: Vec<(Element, &[usize])> = vec![(e, &[2, 1]), (e, &[3])];
            if ternary {
                inputs.insert(0, (Element::Bool, &[4, 1, 1]));
            }
            let expected: &[usize] = if ternary { &[4, 2, 3] } else { &[2, 3] };
            shapes(op, &node, 18, &inputs).is_some_and(|made| made == [expected])
        });
        assert!(fits, "{} does not broadcast", op.name);
        tried += 1;
    }
    assert!(tried > 20, "{tried}");
}

/// A node of each operator that moves data, and the inputs beside the data, `[1, 4, 2, 4]`.
fn movers() -> Vec<(Node, Vec<Tensor>)> {
    let ints = |v: &[i64]| Tensor::new(v, &Device::Cpu).unwrap();
    let node = |op: &str, inputs: usize| Node::new(op, "", (0..inputs).map(|i| format!("i{i}")), ["y"]);
    vec![
        (node("Concat", 1).int("axis", 1), vec![]),
        (node("Tile", 2), vec![ints(&[1, 2, 1, 1])]),
        (node("Transpose", 1).ints("perm", &[0, 2, 3, 1]), vec![]),
        (node("Expand", 2), vec![ints(&[3, 4, 2, 4])]),
        (node("Identity", 1), vec![]),
        (node("Reshape", 2), vec![ints(&[8, 4])]),
        (node("Flatten", 1), vec![]),
        (node("Squeeze", 2), vec![ints(&[0])]),
        (node("Unsqueeze", 2), vec![ints(&[0])]),
        (node("Slice", 5), vec![ints(&[1]), ints(&[3]), ints(&[1]), ints(&[1])]),
        (Node::new("Split", "", ["x", "sizes"], ["a", "b"]).int("axis", 1), vec![ints(&[1, 3])]),
        (node("Gather", 2).int("axis", 1), vec![ints(&[2, 0])]),
        (node("GatherElements", 2).int("axis", 3), vec![ints(&[1, 0]).reshape((1, 1, 1, 2)).unwrap()]),
        (node("GatherND", 2), vec![ints(&[0, 3]).reshape((1, 2)).unwrap()]),
        (node("DepthToSpace", 1).int("blocksize", 2), vec![]),
        (node("SpaceToDepth", 1).int("blocksize", 2), vec![]),
    ]
}

#[test]
fn operators_that_move_data_choose_by_place_alone() {
    for op in all().filter(|op| op.moves) {
        assert!(movers().iter().any(|(n, _)| n.is(op.name)), "{} is not tried", op.name);
        assert_eq!(op.quant, QuantRule::SameScale, "{}", op.name);
    }
    let numbers: Vec<f32> = (0..32).map(|i| ((i * 7) % 32) as f32).collect();
    let x = Tensor::from_vec(numbers, (1, 4, 2, 4), &Device::Cpu).unwrap();
    // A falling function of the values: what chooses by value (a maximum) does not commute with it.
    let fall = |t: &Tensor| t.affine(-1.0, 100.0).unwrap();
    let flat = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    for (node, rest) in movers() {
        let of = |x: &Tensor| run(&node, 17, &[vec![x.clone()], rest.clone()].concat());
        let (plain, fallen) = (of(&x), of(&fall(&x)));
        assert_eq!(plain.len(), node.outputs.len(), "{}", node.op);
        for (a, b) in plain.iter().zip(&fallen) {
            assert_eq!(flat(&fall(a)), flat(b), "{}", node.op);
            assert!(flat(a).iter().all(|v| flat(&x).contains(v)), "{}", node.op);
        }
    }
}

#[test]
fn positions_lie_within_what_operators_read() {
    // As many inputs as any operator here takes; positions beyond would never be asked for.
    const MOST: usize = 9;
    for op in all() {
        if let Data::At(inputs) = op.data {
            assert!(inputs.iter().all(|&i| i < MOST) && inputs.windows(2).all(|w| w[0] < w[1]), "{}", op.name);
        }
        if let Float16Rule::Except(inputs) = op.float16 {
            assert!(!inputs.is_empty() && inputs.iter().all(|&i| i < MOST && !op.data.has(i)), "{}", op.name);
        }
    }
}
