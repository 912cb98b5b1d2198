//! Tensor operators: gradients against finite differences, symbolic shapes, empty tensors, errors.

use candle_core::{DType, Device, Tensor, Var};
use compresso::error::ErrorKind;
use compresso::exec::{self, Run};
use compresso::model::ops::{Exec, RunMode, find};
use compresso::model::{Constant, Dim, Element, Fact, Graph, GraphBuilder, Node, Value, infer};
use std::collections::HashMap;

/// Fixed pseudo-random numbers in (0.2, 1.8), no two alike.
fn numbers(dims: &[usize], seed: u64) -> Tensor {
    let n: usize = dims.iter().product();
    let data: Vec<f64> = (0..n as u64).map(|i| 0.2 + 1.6 * ((i * 7919 + seed * 104_729 + 13) % 10_007) as f64 / 10_007.0).collect();
    Tensor::from_vec(data, dims, &Device::Cpu).unwrap()
}

fn run(node: &Node, opset: i64, inputs: &[Option<Value>]) -> compresso::Result<Vec<Value>> {
    (find(node)?.forward)(&Exec::new(node, opset, inputs, &RunMode::default()))
}

fn node(op: &str, inputs: usize, outputs: usize) -> Node {
    let name = |kind: &str, i: usize| format!("{kind}{i}");
    Node::new(op, "n", (0..inputs).map(|i| name("in", i)), (0..outputs).map(|i| name("out", i)))
}

fn ints(v: &[i64]) -> Value {
    Value::ints(v, &Device::Cpu).unwrap()
}

/// One operator call whose float inputs are differentiated: dimensions of those, then the other inputs.
struct Case {
    node: Node,
    opset: i64,
    floats: Vec<Vec<usize>>,
    rest: Vec<Value>,
}

fn case(node: Node, floats: &[&[usize]], rest: Vec<Value>) -> Case {
    Case { node, opset: 18, floats: floats.iter().map(|d| d.to_vec()).collect(), rest }
}

/// A weighted sum of all float outputs, so that every output element has a gradient of its own.
fn objective(outputs: &[Value]) -> Tensor {
    let mut total = Tensor::zeros((), DType::F64, &Device::Cpu).unwrap();
    for (k, v) in outputs.iter().filter(|v| v.element == Element::F64).enumerate() {
        let w = numbers(v.dims(), 50 + k as u64);
        total = (total + (&v.tensor * w).unwrap().sum_all().unwrap()).unwrap();
    }
    total
}

fn value(t: &Tensor) -> Option<Value> {
    Some(Value::plain(t.clone()).unwrap())
}

/// Where the float inputs of a call stand: in front, except for the condition of Where.
fn arrange(case: &Case, floats: &[Tensor]) -> Vec<Option<Value>> {
    let mut rest = case.rest.iter().cloned().map(Some);
    let mut floats = floats.iter().map(value);
    match case.node.op.as_str() {
        "Where" => rest.by_ref().take(1).chain(floats).collect(),
        // Data, indices, updates.
        "ScatterElements" | "ScatterND" => vec![floats.next().unwrap(), rest.next().unwrap(), floats.next().unwrap()],
        _ => floats.chain(rest).collect(),
    }
}

fn check_gradient(case: &Case) {
    let inputs: Vec<Tensor> = case.floats.iter().enumerate().map(|(i, d)| numbers(d, i as u64 + 1)).collect();
    let vars: Vec<Var> = inputs.iter().map(|t| Var::from_tensor(t).unwrap()).collect();
    let tracked: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
    let grads = objective(&run(&case.node, case.opset, &arrange(case, &tracked)).unwrap()).backward().unwrap();
    let at = |inputs: &[Tensor]| -> f64 { objective(&run(&case.node, case.opset, &arrange(case, inputs)).unwrap()).to_scalar().unwrap() };
    for (k, x) in inputs.iter().enumerate() {
        let grad = grads.get(&vars[k]).unwrap_or_else(|| panic!("{}: input {k} has no gradient", case.node.op));
        assert_eq!(grad.dims(), x.dims(), "{}", case.node.op);
        let grad: Vec<f64> = grad.flatten_all().unwrap().to_vec1().unwrap();
        let data: Vec<f64> = x.flatten_all().unwrap().to_vec1().unwrap();
        for i in 0..data.len() {
            let moved = |by: f64| {
                let mut data = data.clone();
                data[i] += by;
                let mut inputs = inputs.clone();
                inputs[k] = Tensor::from_vec(data, x.dims(), &Device::Cpu).unwrap();
                at(&inputs)
            };
            let step = 1e-5;
            let slope = (moved(step) - moved(-step)) / (2.0 * step);
            let near = (slope - grad[i]).abs() <= 1e-6 * (1.0 + slope.abs());
            assert!(near, "{} input {k} element {i}: gradient {}, finite difference {slope}", case.node.op, grad[i]);
        }
    }
}

fn bools(dims: &[usize]) -> Value {
    let n: usize = dims.iter().product();
    Value::bool(Tensor::from_vec((0..n).map(|i| (i % 3 == 0) as u8).collect::<Vec<_>>(), dims, &Device::Cpu).unwrap()).unwrap()
}

#[test]
fn gradients_are_finite_differences() {
    let wide: &[&[usize]] = &[&[2, 3, 4], &[3, 1]];
    let mut cases = Vec::new();
    for op in ["Add", "Sub", "Mul", "Div", "Pow", "Min", "Max", "Mod"] {
        cases.push(case(node(op, 2, 1), wide, vec![]));
        cases.push(case(node(op, 2, 1), &[&[4], &[2, 3, 4]], vec![]));
        cases.push(case(node(op, 2, 1), &[&[2, 3], &[2, 3]], vec![]));
    }
    cases.push(case(node("Mod", 2, 1).int("fmod", 1), wide, vec![]));
    cases.push(case(node("Sum", 3, 1), &[&[2, 3], &[1], &[2, 1]], vec![]));
    cases.push(case(node("Mean", 3, 1), &[&[2, 3], &[3], &[2, 1]], vec![]));
    for op in ["Neg", "Abs", "Sqrt", "Exp", "Log", "Reciprocal", "Sin", "Cos", "Tan", "Atan", "Sinh", "Cosh", "Asinh"] {
        cases.push(case(node(op, 1, 1), &[&[2, 5]], vec![]));
    }
    for op in ["ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSum"]
    {
        for axes in [&[1][..], &[0, 2], &[-1, -2], &[0, 1, 2]] {
            cases.push(case(node(op, 2, 1), &[&[2, 3, 4]], vec![ints(axes)]));
            cases.push(case(node(op, 2, 1).int("keepdims", 0), &[&[2, 3, 4]], vec![ints(axes)]));
        }
    }
    cases.push(case(node("ReduceLogSumExp", 2, 1), &[&[2, 3, 4]], vec![ints(&[0, 2])]));
    for (a, b) in [
        (&[2, 3][..], &[3, 4][..]),
        (&[3], &[3]),
        (&[2, 2, 3], &[3, 4]),
        (&[2, 2, 3], &[2, 3, 4]),
        (&[2, 1, 2, 3], &[3, 3, 2]),
        (&[3], &[2, 3, 2]),
    ] {
        cases.push(case(node("MatMul", 2, 1), &[a, b], vec![]));
    }
    cases.push(case(node("Gemm", 3, 1).float("alpha", 0.5).float("beta", 2.0).int("transA", 1), &[&[3, 2], &[3, 4], &[4]], vec![]));
    cases.push(case(node("Gemm", 3, 1).int("transB", 1), &[&[2, 3], &[4, 3], &[2, 1]], vec![]));
    cases.push(case(node("Reshape", 2, 1), &[&[2, 6]], vec![ints(&[3, -1])]));
    cases.push(case(node("Transpose", 1, 1).ints("perm", &[2, 0, 1]), &[&[2, 3, 4]], vec![]));
    cases.push(case(node("Expand", 2, 1), &[&[3, 1]], vec![ints(&[2, 1, 4])]));
    cases.push(case(node("Slice", 5, 1), &[&[5, 6]], vec![ints(&[1, -1]), ints(&[4, -6]), ints(&[0, 1]), ints(&[1, -2])]));
    cases.push(case(node("Split", 2, 3).int("axis", 1), &[&[2, 6]], vec![ints(&[1, 2, 3])]));
    cases.push(case(node("Concat", 3, 1).int("axis", 1), &[&[2, 1, 2], &[2, 3, 2], &[2, 2, 2]], vec![]));
    for mode in ["constant", "reflect", "edge", "wrap"] {
        let pad = node("Pad", 2, 1).attr("mode", compresso::model::Attr::text(mode));
        cases.push(case(pad, &[&[3, 4]], vec![ints(&[1, 2, 0, 1])]));
    }
    cases.push(case(node("Pad", 2, 1), &[&[3, 4]], vec![ints(&[-1, 2, 1, -1])]));
    cases.push(case(node("Tile", 2, 1), &[&[2, 3]], vec![ints(&[2, 3])]));
    let table = Value::plain(Tensor::new(&[[2i64, 0], [-1, 2]], &Device::Cpu).unwrap()).unwrap();
    cases.push(case(node("Gather", 2, 1).int("axis", 1), &[&[2, 3, 2]], vec![table.clone()]));
    cases.push(case(node("GatherElements", 2, 1).int("axis", 1), &[&[2, 3]], vec![table.clone()]));
    cases.push(case(node("GatherND", 2, 1), &[&[3, 3, 2]], vec![table.clone()]));
    cases.push(case(node("ScatterElements", 3, 1).int("axis", 1), &[&[2, 3], &[2, 2]], vec![table.clone()]));
    let add = node("ScatterND", 3, 1).attr("reduction", compresso::model::Attr::text("add"));
    cases.push(case(add, &[&[3, 3, 2], &[2, 2]], vec![table]));
    cases.push(case(node("Where", 3, 1), &[&[2, 3], &[2, 1]], vec![bools(&[2, 3])]));
    cases.push(case(node("CumSum", 2, 1).int("reverse", 1).int("exclusive", 1), &[&[3, 4]], vec![ints(&[1])]));
    cases.push(case(node("TopK", 2, 2), &[&[2, 5]], vec![ints(&[3])]));
    cases.push(case(node("DepthToSpace", 1, 1).int("blocksize", 2), &[&[1, 8, 1, 2]], vec![]));
    cases.push(case(node("SpaceToDepth", 1, 1).int("blocksize", 2), &[&[1, 2, 2, 4]], vec![]));
    cases.push(case(node("Trilu", 1, 1), &[&[3, 4]], vec![]));
    for (equation, floats) in [
        ("bij,bjk->bik", &[&[2, 2, 3][..], &[2, 3, 2]][..]),
        ("ij,kj->i", &[&[2, 3], &[4, 3]]),
        ("...ii->...i", &[&[2, 3, 3]]),
        ("ab,bc,cd->da", &[&[2, 3], &[3, 2], &[2, 2]]),
        ("i,j->ij", &[&[2], &[3]]),
    ] {
        let einsum = node("Einsum", floats.len(), 1).attr("equation", compresso::model::Attr::text(equation));
        cases.push(case(einsum, floats, vec![]));
    }
    for mode in ["linear", "cubic"] {
        for align in [0, 1] {
            let sample = node("GridSample", 2, 1).attr("mode", compresso::model::Attr::text(mode)).int("align_corners", align);
            cases.push(Case { opset: 20, ..case(sample, &[&[1, 2, 3, 4], &[1, 2, 2, 2]], vec![]) });
        }
    }
    assert!(cases.len() > 100);
    cases.iter().for_each(check_gradient);
}

/// Arcs and inverse hyperbolics live on domains of their own.
#[test]
fn gradients_on_bounded_domains() {
    for (op, scale, shift) in [("Asin", 0.5, 0.0), ("Acos", 0.5, 0.0), ("Atanh", 0.5, 0.0), ("Acosh", 1.0, 1.0)] {
        let x = numbers(&[4], 3).affine(scale, shift).unwrap();
        let var = Var::from_tensor(&x).unwrap();
        let f = |t: &Tensor| run(&node(op, 1, 1), 18, &[value(t)]).unwrap()[0].tensor.sum_all().unwrap();
        let grad: Vec<f64> = f(var.as_tensor()).backward().unwrap().get(&var).unwrap().to_vec1().unwrap();
        let at = |by: f64| -> f64 { f(&(&x + by).unwrap()).to_scalar().unwrap() };
        let slope = (at(1e-6) - at(-1e-6)) / 2e-6;
        assert!((grad.iter().sum::<f64>() - slope).abs() < 1e-6, "{op}");
    }
}

/// The gradient of a rounding is zero, and its input may still have one by another way.
#[test]
fn rounding_passes_no_gradient() {
    for op in ["Floor", "Ceil", "Round", "Sign"] {
        let var = Var::from_tensor(&numbers(&[3], 1)).unwrap();
        let y = &run(&node(op, 1, 1), 18, &[value(var.as_tensor())]).unwrap()[0].tensor;
        let total = (y.sum_all().unwrap() + var.as_tensor().sum_all().unwrap()).unwrap();
        assert_eq!(total.backward().unwrap().get(&var).unwrap().to_vec1::<f64>().unwrap(), [1.0; 3], "{op}");
    }
}

fn symbolic(build: impl FnOnce(&mut GraphBuilder, String) -> String) -> (Graph, Fact) {
    let mut b = GraphBuilder::new("g", 17);
    let shape = vec![Dim::symbol("batch"), Dim::Known(6), Dim::Known(4), Dim::symbol("width")];
    let x = b.input("x", Fact::new(Element::F32, shape));
    let y = build(&mut b, x);
    b.output(&y);
    let graph = b.finish().unwrap();
    let fact = infer(&graph).unwrap()[&y].clone();
    (graph, fact)
}

#[test]
fn a_reshape_computed_from_symbols_has_a_known_shape() {
    let (graph, fact) = symbolic(|b, x| {
        let shape = b.op("Shape", &[&x]);
        let zero = b.constant("zero", Constant::ints(&[0]));
        let batch = b.node(Node::new("Gather", "", [&shape, &zero], [""]).int("axis", 0));
        let rest = b.constant("rest", Constant::ints(&[2, -1]));
        let target = b.node(Node::new("Concat", "", [&batch, &rest], [""]).int("axis", 0));
        b.op("Reshape", &[&x, &target])
    });
    assert_eq!(fact.to_string(), "float32[batch, 2, 12*width]");
    let x = numbers(&[3, 6, 4, 5], 1).to_dtype(DType::F32).unwrap();
    let out = exec::run(&graph, &HashMap::from([("x".into(), Value::plain(x).unwrap())]), Run::default()).unwrap();
    assert_eq!(out[0].dims(), [3, 2, 60]);
}

#[test]
fn arithmetic_on_sizes_is_followed() {
    // Half of the channels, from a size computed in the graph, as exporters of channel shuffles write it.
    let (_, fact) = symbolic(|b, x| {
        let shape = b.op("Shape", &[&x]);
        let one = b.constant("one", Constant::ints(&[1]));
        let channels = b.node(Node::new("Gather", "", [&shape, &one], [""]));
        let two = b.constant("two", Constant::ints(&[2]));
        let half = b.op("Div", &[&channels, &two]);
        let zero = b.constant("zero", Constant::ints(&[0]));
        b.op("Slice", &[&x, &zero, &half, &one])
    });
    assert_eq!(fact.to_string(), "float32[batch, 3, 4, width]");
    // Expand's target with -1 replaced by 1, as PyTorch exports `expand(-1, …)`.
    let (_, fact) = symbolic(|b, x| {
        let shape = b.op("Shape", &[&x]);
        let minus = b.constant("minus", Constant::ints(&[-1]));
        let open = b.op("Equal", &[&shape, &minus]);
        let ones = b.constant("ones", Constant::ints(&[1, 1, 1, 1]));
        let target = b.op("Where", &[&open, &ones, &shape]);
        let one = b.constant("one", Constant::scalar(1.0));
        b.op("Expand", &[&one, &target])
    });
    assert_eq!(fact.to_string(), "float32[batch, 6, 4, width]");
    let (_, fact) = symbolic(|b, x| {
        let x = b.node(Node::new("Concat", "", [&x, &x], [""]).int("axis", 0));
        b.node(Node::new("Flatten", "", [&x], [""]))
    });
    assert_eq!(fact.to_string(), "float32[(batch+batch), 24*width]");
}

#[test]
fn empty_tensors_and_scalars_run() {
    let empty = value(&Tensor::zeros((0, 3), DType::F32, &Device::Cpu).unwrap());
    let row = value(&Tensor::ones((1, 3), DType::F32, &Device::Cpu).unwrap());
    for op in ["Add", "Mul", "Greater", "Equal"] {
        assert_eq!(run(&node(op, 2, 1), 13, &[empty.clone(), row.clone()]).unwrap()[0].dims(), [0, 3], "{op}");
    }
    let joined = run(&node("Concat", 2, 1).int("axis", 0), 13, &[empty.clone(), row.clone()]).unwrap();
    assert_eq!(joined[0].to_f32s().unwrap(), [1.0; 3]);
    let product =
        run(&node("MatMul", 2, 1), 13, &[empty.clone(), value(&Tensor::ones((3, 2), DType::F32, &Device::Cpu).unwrap())]).unwrap();
    assert_eq!(product[0].dims(), [0, 2]);
    let sums = run(&node("ReduceSum", 2, 1).int("keepdims", 0), 13, &[empty.clone(), Some(ints(&[0]))]).unwrap();
    assert_eq!(sums[0].to_f32s().unwrap(), [0.0; 3]);
    assert_eq!(run(&node("NonZero", 1, 1), 13, std::slice::from_ref(&empty)).unwrap()[0].dims(), [2, 0]);
    assert_eq!(run(&node("Gather", 2, 1), 13, &[row, Some(ints(&[]))]).unwrap()[0].dims(), [0, 3]);
    let scalar = value(&Tensor::new(3f32, &Device::Cpu).unwrap());
    assert_eq!(run(&node("Unsqueeze", 2, 1), 13, &[scalar.clone(), Some(ints(&[0, -1]))]).unwrap()[0].dims(), [1, 1]);
    assert!(run(&node("Add", 2, 1), 13, &[scalar.clone(), scalar]).unwrap()[0].dims().is_empty());
}

/// Integer arithmetic wraps to the element type; division truncates and refuses zero.
#[test]
fn integers_wrap_and_divide_as_onnx_says() {
    let small = |v: &[i16], e: Element| Some(Value::new(e, Tensor::new(v, &Device::Cpu).unwrap()).unwrap());
    let sum = run(&node("Add", 2, 1), 14, &[small(&[100, -100], Element::I8), small(&[100, -100], Element::I8)]).unwrap();
    assert_eq!((sum[0].element, sum[0].to_i64s().unwrap()), (Element::I8, vec![-56, 56]));
    let big = |v: i64| Some(ints(&[v]));
    assert_eq!(run(&node("Mul", 2, 1), 14, &[big(i64::MAX), big(2)]).unwrap()[0].to_i64s().unwrap(), [-2]);
    assert_eq!(run(&node("Div", 2, 1), 14, &[big(-7), big(2)]).unwrap()[0].to_i64s().unwrap(), [-3]);
    assert_eq!(run(&node("Mod", 2, 1), 13, &[big(-7), big(2)]).unwrap()[0].to_i64s().unwrap(), [1]);
    assert_eq!(run(&node("Div", 2, 1), 14, &[big(1), big(0)]).unwrap_err().kind(), ErrorKind::Argument);
}

#[test]
fn errors_say_what_was_expected() {
    let f = |dims: &[usize]| value(&numbers(dims, 1));
    let text = |n: Node, inputs: &[Option<Value>]| run(&n, 18, inputs).unwrap_err().to_string();
    assert_eq!(text(node("Add", 2, 1), &[f(&[2, 3]), f(&[2])]), "[2, 3] and [2] do not broadcast");
    assert_eq!(text(node("Add", 2, 1), &[f(&[2]), Some(ints(&[1, 2]))]), "expected operands of one type, got float64 and int64");
    assert_eq!(text(node("Reshape", 2, 1), &[f(&[2, 3]), Some(ints(&[4, -1]))]), "cannot reshape [2, 3] to [4, -1]");
    assert_eq!(
        text(node("Concat", 2, 1).int("axis", 1), &[f(&[2, 3]), f(&[3, 3])]),
        "input 1 [3, 3] does not fit input 0 [2, 3] on axis 1"
    );
    assert_eq!(text(node("Gather", 2, 1), &[f(&[2]), Some(ints(&[2]))]), "index 2 is out of range for an axis of size 2");
    assert_eq!(text(node("Squeeze", 2, 1), &[f(&[2, 1]), Some(ints(&[0]))]), "cannot squeeze axis 0 of [2, 1]: its size is not 1");
    let pad = node("Pad", 2, 1).attr("mode", compresso::model::Attr::text("mirror"));
    let e = run(&pad, 18, &[f(&[2]), Some(ints(&[1, 1]))]).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unsupported);
    let e = run(&node("Cast", 1, 1).int("to", 17), 19, &[f(&[2])]).unwrap_err();
    assert_eq!((e.kind(), e.message()), (ErrorKind::Unsupported, "a cast to float8e4m3fn is not supported"));
}

/// What a damaged or hostile file may say is an error, not a panic and not an allocation.
#[test]
fn hostile_sizes_are_errors() {
    let f = |dims: &[usize]| value(&numbers(dims, 1));
    let big = i64::MAX;
    let scalar = || value(&Tensor::new(1f64, &Device::Cpu).unwrap());
    let one = |v: i64| Some(Value::plain(Tensor::new(v, &Device::Cpu).unwrap()).unwrap());
    for (n, inputs) in [
        (node("ConstantOfShape", 1, 1), vec![Some(ints(&[big, big]))]),
        (node("Expand", 2, 1), vec![f(&[1]), Some(ints(&[1 << 40]))]),
        (node("Reshape", 2, 1), vec![f(&[2]), Some(ints(&[1 << 40, 1 << 40]))]),
        (node("Range", 3, 1), vec![one(0), one(big), one(1)]),
        (node("Tile", 2, 1), vec![f(&[2]), Some(ints(&[big]))]),
        (node("Pad", 2, 1), vec![f(&[2]), Some(ints(&[big, big]))]),
        (node("Pad", 2, 1), vec![f(&[2]), Some(ints(&[-big, 0]))]),
        (node("Concat", 2, 1).int("axis", 0), vec![scalar(), scalar()]),
        (node("Split", 1, 2), vec![scalar()]),
        (node("TopK", 2, 2), vec![scalar(), Some(ints(&[1]))]),
        (node("Gather", 2, 1), vec![scalar(), Some(ints(&[0]))]),
        (node("GatherElements", 2, 1), vec![scalar(), one(0)]),
        (node("Compress", 2, 1).int("axis", 0), vec![scalar(), Some(bools(&[1]))]),
        (node("CumSum", 2, 1), vec![scalar(), one(0)]),
        (node("Slice", 5, 1), vec![f(&[3]), Some(ints(&[0])), Some(ints(&[big])), Some(ints(&[0])), Some(ints(&[0]))]),
        (node("Transpose", 1, 1).ints("perm", &[0, 0]), vec![f(&[2, 2])]),
        (node("GatherND", 2, 1).int("batch_dims", big), vec![f(&[2]), Some(ints(&[0]))]),
        (node("DepthToSpace", 1, 1).int("blocksize", 1 << 40), vec![f(&[1, 4, 1, 1])]),
    ] {
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(&n, 18, &inputs)));
        assert!(matches!(&result, Ok(Err(_))), "{}: {result:?}", n.op);
    }
    // Extreme steps and numbers without order still give results.
    let ends = [f(&[3]), Some(ints(&[i64::MIN])), Some(ints(&[i64::MAX])), Some(ints(&[0])), Some(ints(&[i64::MAX]))];
    assert_eq!(run(&node("Slice", 5, 1), 13, &ends).unwrap()[0].dims(), [1]);
    let odd = value(&Tensor::new(&[f64::NAN, 1.0, f64::NAN, 2.0, -1.0], &Device::Cpu).unwrap());
    let top = run(&node("TopK", 2, 2), 11, &[odd, Some(ints(&[4]))]).unwrap();
    assert_eq!(top[1].to_i64s().unwrap(), [0, 2, 3, 1]);
}
