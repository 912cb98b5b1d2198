//! Operators that onnx's node tests hardly cover, against onnxruntime and torchvision (tests/python/op_cases.py): both executors,
//! sequences, conditions and loops that passes resolve, and pruning of what stands before recurrent layers.

mod common;

use candle_core::{Device, Tensor};
use compresso::compress::prune::{Prune, Ranking, groups};
use compresso::exec::{self, Engine, Outputs, Run};
use compresso::measure::runtimes::onnxruntime::Session;
use compresso::model::graph::{infer_at, stats};
use compresso::model::{Attr, Graph, LoadOptions, Model, Value, infer, onnx, passes, weights};
use compresso::{Context, ErrorKind};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Once;

/// The folder of the cases, made once, and their names.
fn cases() -> (PathBuf, Vec<String>) {
    static MADE: Once = Once::new();
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("op-cases");
    MADE.call_once(|| drop(common::python(&["tests/python/op_cases.py", dir.to_str().unwrap()])));
    let index: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(dir.join("cases.json")).unwrap()).unwrap();
    let names = index["cases"].as_array().unwrap().iter().map(|n| n.as_str().unwrap().to_string()).collect();
    (dir, names)
}

/// A case: its graph, inputs by name, expected outputs in order.
fn case(name: &str) -> (Graph, HashMap<String, Value>, Vec<Value>) {
    let (dir, _) = cases();
    let graph = onnx::load(dir.join(format!("{name}.onnx"))).unwrap();
    let stored = weights::load_tensors(dir.join(format!("{name}.npz"))).unwrap();
    let feeds = graph.feeds().enumerate().map(|(i, f)| (f.name.clone(), stored[&format!("input_{i}")].clone())).collect();
    let expected = (0..graph.outputs().len()).map(|i| stored[&format!("output_{i}")].clone()).collect();
    (graph, feeds, expected)
}

/// What is wrong with outputs, if anything.
fn wrong(got: &Outputs, expected: &[Value]) -> Option<String> {
    for ((name, got), expected) in got.iter().zip(expected) {
        if got.element != expected.element || got.dims() != expected.dims() {
            return Some(format!("'{name}' is {}{:?}, expected {}{:?}", got.element, got.dims(), expected.element, expected.dims()));
        }
        let (got, expected) = (got.to_f64s().unwrap(), expected.to_f64s().unwrap());
        let scale = expected.iter().fold(1e-3f64, |m, v| m.max(v.abs()));
        if let Some(i) = got.iter().zip(&expected).position(|(a, b)| (a - b).abs() > 2e-5 * scale || a.is_nan()) {
            return Some(format!("'{name}' has {} at {i}, expected {}", got[i], expected[i]));
        }
    }
    (got.len() != expected.len()).then(|| format!("{} outputs, expected {}", got.len(), expected.len()))
}

#[test]
fn both_executors_give_what_the_references_give() {
    let (_, names) = cases();
    assert!(names.len() > 70);
    let mut failures = Vec::new();
    for name in &names {
        let (graph, feeds, expected) = case(name);
        let facts = infer(&graph).unwrap_or_else(|e| panic!("{name}: {e}"));
        for (info, value) in graph.outputs().iter().zip(&expected) {
            let fact = &facts[&info.name];
            let fits = fact.shape.as_ref().is_none_or(|s| {
                s.len() == value.dims().len() && s.iter().zip(value.dims()).all(|(d, &n)| d.known().is_none_or(|k| k == n))
            });
            if fact.element != value.element || !fits {
                failures.push(format!("{name}: inferred {fact} for {}{:?}", value.element, value.dims()));
            }
        }
        let eager = exec::run(&graph, &feeds, Run::default());
        let planned = Engine::new(&graph, &[], 2).unwrap().run(&feeds, None);
        for (how, got) in [("eager", eager), ("planned", planned)] {
            match got {
                Ok(got) => failures.extend(wrong(&got, &expected).map(|w| format!("{name}, {how}: {w}"))),
                Err(e) => failures.push(format!("{name}, {how}: {e}")),
            }
        }
    }
    assert!(failures.is_empty(), "{} of {} cases:\n{}", failures.len(), names.len(), failures.join("\n"));
}

#[test]
fn recurrent_networks_are_planned_and_counted() {
    let (graph, feeds, _) = case("reader");
    let mut engine = Engine::new(&graph, &[], 2).unwrap();
    engine.run(&feeds, None).unwrap();
    assert_eq!(engine.refused(), None);
    assert!(engine.latest().unwrap().steps().iter().any(|s| s.contains("LSTM")));
    let facts = infer_at(&graph, 1, None).unwrap();
    let all = stats(&graph, &facts).unwrap();
    let macs = |op: &str| all.layers.iter().filter(|l| l.op == op).map(|l| l.cost.macs).sum::<u64>();
    // Ten steps; two directions of four gates of eight units; then sixteen inputs and six units of three gates.
    assert_eq!(macs("LSTM"), 10 * (2 * 4 * 8 * (10 + 8) + 2 * 4 * 8 * (16 + 8)));
    assert_eq!(macs("GRU"), 10 * 3 * 6 * (16 + 6));
}

/// The largest difference of a saved model in onnxruntime to the same here.
fn against_onnxruntime(model: &Model, feeds: &HashMap<String, Value>) -> f64 {
    let file = tempfile::Builder::new().suffix(".onnx").tempfile().unwrap();
    model.save(file.path()).unwrap();
    let expected = Session::from_bytes(&std::fs::read(file.path()).unwrap(), 1).unwrap().run(feeds).unwrap();
    let got = exec::run(model.graph(), feeds, Run::default()).unwrap();
    let pairs = expected.iter().flat_map(|(n, e)| e.to_f64s().unwrap().into_iter().zip(got[n].to_f64s().unwrap()));
    pairs.fold(0f64, |m, (a, b)| if (a - b).abs() <= m { m } else { (a - b).abs() })
}

#[test]
fn convolutions_before_recurrent_layers_and_their_units_are_pruned() {
    for name in ["reader", "reader_wide"] {
        let (graph, feeds, _) = case(name);
        let model = Model::of_graph(graph, &LoadOptions::default()).unwrap();
        let groups = groups(model.graph(), &[]).unwrap();
        let layers: Vec<&String> = groups.0.iter().flat_map(|g| &g.layers).collect();
        assert!(layers.iter().filter(|l| l.contains("Conv")).count() == 3, "{name}: {layers:?}");
        // Initial states of zero do not hold units back, made from the shape of the data or shared as they are.
        assert_eq!(layers.iter().filter(|l| l.contains("LSTM") || l.contains("GRU")).count(), 3, "{name}: {layers:?}");
        let pruned = Prune { ratio: 0.5, align: 1, min_channels: 1, scope: Ranking::Layer, ..Prune::default() }
            .apply(&model, None, &Context::new())
            .unwrap();
        let (before, after) = (model.params().unwrap(), pruned.params().unwrap());
        assert!(after * 10 < before * 7, "{name}: {before} to {after} parameters");
        let apart = against_onnxruntime(&pruned, &feeds);
        assert!(apart < 1e-4, "{name}: {apart}");
    }
}

#[test]
fn gradients_flow_through_recurrent_layers() {
    use candle_core::Var;
    let (graph, feeds, _) = case("reader");
    let name = graph.constants().iter().find(|(_, c)| c.dims().len() == 4).unwrap().0.clone();
    let weight = graph.constant(&name).unwrap().tensor(&Device::Cpu).unwrap();
    let loss = |w: &Tensor| -> Tensor {
        let params = exec::Params::from_iter([(name.clone(), w.clone())]);
        let out = exec::run(&graph, &feeds, Run { params: Some(&params), ..Run::default() }).unwrap();
        out[0].tensor.narrow(2, 0, 1).unwrap().sum_all().unwrap()
    };
    let var = Var::from_tensor(&weight).unwrap();
    let gradient = loss(var.as_tensor()).backward().unwrap().get(&var).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    assert!(gradient.iter().any(|g| g.abs() > 1e-3));
    let flat = weight.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let at = |i: usize, by: f32| {
        let mut moved = flat.clone();
        moved[i] += by;
        loss(&Tensor::from_vec(moved, weight.shape(), &Device::Cpu).unwrap()).to_scalar::<f32>().unwrap()
    };
    for i in (0..flat.len()).step_by(11) {
        let slope = (at(i, 5e-3) - at(i, -5e-3)) / 1e-2;
        assert!((slope - gradient[i]).abs() < 0.05 * gradient[i].abs().max(0.5), "{i}: {slope} and {}", gradient[i]);
    }
}

#[test]
fn sequences_conditions_and_loops_that_are_known_become_plain_nodes() {
    let (_, names) = cases();
    let plain = |g: &Graph| g.nodes().iter().all(|n| !n.op.contains("Sequence") && n.inner().next().is_none());
    let known = ["sequence_", "if_", "loop_"];
    for name in names.iter().filter(|n| known.iter().any(|k| n.starts_with(k))) {
        let (graph, feeds, expected) = case(name);
        assert!(!plain(&graph));
        let (simple, reports) = passes::simplify(&graph).unwrap();
        assert_eq!(plain(&simple), name != "loop_open", "{name}: {reports:?}");
        let got = exec::run(&simple, &feeds, Run::default()).unwrap();
        assert_eq!(wrong(&got, &expected), None, "{name}");
        assert_eq!(passes::simplify(&simple).unwrap().0, simple, "{name}");
        let model = Model::of_graph(simple, &LoadOptions::default()).unwrap();
        assert!(against_onnxruntime(&model, &feeds) < 1e-5, "{name}");
    }
}

/// A node of each new operator with inputs of wrong ranks, sizes and attributes gives an error, not a panic.
#[test]
fn wrong_shapes_and_attributes_are_errors() {
    let (_, names) = cases();
    let ones = |dims: &[usize]| Value::plain(Tensor::ones(dims, candle_core::DType::F32, &Device::Cpu).unwrap()).unwrap();
    let mut panics = Vec::new();
    for name in
        names.iter().filter(|n| !n.starts_with("reader") && !n.starts_with("sequence_") && !n.starts_with("if_") && !n.starts_with("loop_"))
    {
        let (graph, feeds, _) = case(name);
        for (input, value) in &feeds {
            for dims in [&[][..], &[0], &[1], &[2, 3], &[1, 1, 1], &[3, 2, 1, 5], &[0, 3, 4, 4], &[1, 1, 1, 1, 1]] {
                let mut feeds = feeds.clone();
                let other = if value.element.is_float() { ones(dims) } else { Value::ints(&[i64::MAX, -1], &Device::Cpu).unwrap() };
                feeds.insert(input.clone(), other);
                let wide = unshaped(&graph);
                let run = std::panic::AssertUnwindSafe(|| drop(exec::run(&wide, &feeds, Run::default())));
                if std::panic::catch_unwind(run).is_err() {
                    panics.push(format!("{name}: {input} of {dims:?}"));
                }
            }
        }
        for (i, node) in graph.nodes().iter().enumerate() {
            for (key, attr) in &node.attrs {
                for value in [-1, 0, 1 << 40, i64::MAX, i64::MIN] {
                    let changed = match attr {
                        Attr::Int(_) => Attr::Int(value),
                        Attr::Ints(v) => Attr::Ints(vec![value; v.len()]),
                        _ => continue,
                    };
                    let mut patch = compresso::model::Patch::new(&graph);
                    patch.edit(i).attrs.insert(key.clone(), changed);
                    let changed = patch.apply().unwrap();
                    let run = std::panic::AssertUnwindSafe(|| drop((infer(&changed), exec::run(&changed, &feeds, Run::default()))));
                    if std::panic::catch_unwind(run).is_err() {
                        panics.push(format!("{name}: {key} = {value}"));
                    }
                }
            }
        }
    }
    assert!(panics.is_empty(), "{} panics:\n{}", panics.len(), panics.join("\n"));
}

/// The graph with inputs of any shape.
fn unshaped(graph: &Graph) -> Graph {
    let mut patch = compresso::model::Patch::new(graph);
    let inputs = graph.inputs().iter().map(|i| compresso::model::ValueInfo::new(&i.name, compresso::model::Fact::unranked(i.fact.element)));
    patch.set_inputs(inputs.collect());
    patch.apply().unwrap()
}

#[test]
fn an_operator_that_takes_no_sequence_says_so() {
    use compresso::model::{Element, Fact, GraphBuilder, Node};
    let mut b = GraphBuilder::new("g", 17);
    let x = b.input("x", Fact::known(Element::F32, &[2]));
    let s = b.op("SequenceConstruct", &[&x, &x]);
    let y = b.node(Node::new("Relu", "act", [s.as_str()], [""]));
    b.output(&y);
    let g = b.finish().unwrap();
    let feeds = HashMap::from([("x".to_string(), Value::plain(Tensor::zeros(2, candle_core::DType::F32, &Device::Cpu).unwrap()).unwrap())]);
    let e = exec::run(&g, &feeds, Run::default()).unwrap_err();
    assert!(e.kind() == ErrorKind::DType && e.to_string().contains("'act'") && e.to_string().contains("a sequence"), "{e}");
}

/// Pruned equals masked (`apply` checks it) through deformable convolutions, regions and sampled images.
#[test]
fn channels_go_through_operators_that_read_images_at_places() {
    use compresso::model::{Constant, Element, Fact, GraphBuilder, Node};
    let mut b = GraphBuilder::new("g", 19);
    let x = b.input("x", Fact::known(Element::F32, &[2, 3, 12, 12]));
    let noise = |n: usize, seed: u64| -> Vec<f32> {
        let mut draw = compresso_test_support::Draw(seed);
        (0..n).map(|_| draw.signed()).collect()
    };
    let constant = |b: &mut GraphBuilder, name: &str, dims: &[usize]| {
        let values = noise(dims.iter().product(), name.len() as u64 * 77 + dims.len() as u64);
        b.constant(name, Constant::floats(dims, &values).unwrap())
    };
    let w = constant(&mut b, "w0", &[8, 3, 3, 3]);
    let y = b.node(Node::new("Conv", "first", [x.as_str(), &w], [""]).ints("pads", &[1, 1, 1, 1]));
    let y = b.op("Relu", &[&y]);
    let (w, offsets, bias) =
        (constant(&mut b, "w_deformed", &[6, 8, 3, 3]), constant(&mut b, "offsets", &[2, 18, 10, 10]), constant(&mut b, "b", &[6]));
    let y = b.node(Node::new("DeformConv", "deformed", [y.as_str(), &w, &offsets, &bias], [""]));
    let grid = constant(&mut b, "grid", &[2, 5, 7, 2]);
    let seen = b.node(Node::new("GridSample", "seen", [y.as_str(), &grid], [""]));
    let rois = b.constant("rois", Constant::floats(&[2, 4], &[1.0, 1.0, 8.0, 6.0, 0.0, 2.0, 5.0, 9.0]).unwrap());
    let of = b.constant("of", Constant::ints(&[0, 1]));
    let regions =
        b.node(Node::new("RoiAlign", "regions", [seen.as_str(), &rois, &of], [""]).int("output_height", 2).int("output_width", 3));
    let w = constant(&mut b, "w_last", &[4, 6, 1, 1]);
    let out = b.node(Node::new("Conv", "last", [regions.as_str(), &w], [""]));
    b.output(&out);
    let model = Model::of_graph(b.finish().unwrap(), &LoadOptions::default()).unwrap();
    let found = groups(model.graph(), &[]).unwrap();
    let layers: Vec<&str> = found.0.iter().flat_map(|g| g.layers.iter().map(String::as_str)).collect();
    assert_eq!(layers, ["first", "deformed"]);
    let pruned = Prune { ratio: 0.5, align: 1, min_channels: 1, scope: Ranking::Layer, ..Prune::default() }
        .apply(&model, None, &Context::new())
        .unwrap();
    assert_eq!(pruned.graph().constant("w_deformed").unwrap().dims(), [3, 4, 3, 3]);
    assert_eq!(pruned.graph().constant("w_last").unwrap().dims(), [4, 3, 1, 1]);
}
