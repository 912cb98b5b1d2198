//! Every runtime of the table.

use super::*;
use candle_core::{Device, Tensor};
use compresso_base::error::ErrorKind;
use compresso_model::{Constant, Element, Fact, GraphBuilder, Task};

/// Whether a runtime is on this machine.
///
/// # Panics
/// When it is not, though the variable by which the tests name onnxruntime is set.
pub(super) fn present(spec: &RuntimeSpec) -> bool {
    match (spec.find)() {
        Ok(_) => true,
        Err(absent) => {
            let named = spec.name == onnxruntime::SPEC.name && std::env::var_os("ORT_DYLIB_PATH").is_some_and(|v| !v.is_empty());
            assert!(!named, "ORT_DYLIB_PATH names a library, but {}", absent.reason);
            eprintln!("NOT TESTED: {}: {}", spec.name, absent.reason);
            false
        }
    }
}

/// A convolution, a batch norm's worth of scale, a Relu and a pool, on `[batch, 3, 16, 16]`.
fn model(batch: usize) -> Model {
    let mut b = GraphBuilder::new("net", 17);
    let x = b.input("x", Fact::known(Element::F32, &[batch, 3, 16, 16]));
    let weights: Vec<f32> = (0..8 * 27).map(|i| ((i * 37 % 101) as f32 - 50.0) / 60.0).collect();
    let w = b.constant("w", Constant::floats(&[8, 3, 3, 3], &weights).unwrap());
    let scale = b.constant("scale", Constant::floats(&[1, 8, 1, 1], &[0.5, 1.0, 2.0, -1.0, 0.1, 3.0, -2.0, 1.5]).unwrap());
    let y = b.op("Conv", &[&x, &w]);
    let y = b.op("Mul", &[&y, &scale]);
    let y = b.op("Relu", &[&y]);
    let y = b.op("GlobalAveragePool", &[&y]);
    b.output(&y);
    Model::new(b.finish().unwrap(), Task::Unknown)
}

#[test]
fn open_sizes_are_filled_in_unless_they_may_stay() {
    let mut b = GraphBuilder::new("net", 17);
    let open = |name: &str| compresso_model::graph::Dim::Symbol(name.into());
    let x = b.input("x", Fact { shape: Some(vec![open("n"), 3.into(), open("h"), open("w")]), ..Fact::known(Element::F32, &[]) });
    let y = b.op("Relu", &[&x]);
    b.output(&y);
    let model = Model::new(b.finish().unwrap(), Task::Unknown);
    let dims = |image: Option<[usize; 2]>, open: bool| {
        let files = Files::new(&model).unwrap();
        let (path, made) = files.of(&artefact::ONNX, 2, image, open).unwrap();
        let read = Model::load(path, &compresso_model::LoadOptions::default()).unwrap();
        assert_eq!(read.graph().inputs()[0].fact.shape, made.graph().inputs()[0].fact.shape);
        made.graph().inputs()[0].fact.dims()
    };
    assert_eq!(dims(Some([8, 16]), false), Some(vec![2, 3, 8, 16]));
    assert_eq!((dims(Some([8, 16]), true), dims(None, false)), (None, None));
}

fn feeds(batch: usize) -> HashMap<String, Value> {
    let x: Vec<f32> = (0..batch * 3 * 256).map(|i| ((i * 13 % 31) as f32 - 15.0) / 10.0).collect();
    HashMap::from([("x".to_string(), Value::plain(Tensor::from_vec(x, (batch, 3, 16, 16), &Device::Cpu).unwrap()).unwrap())])
}

#[test]
fn each_runtime_gives_the_outputs_of_the_native_one() {
    let ctx = Context::new();
    for spec in RUNTIMES.iter().filter(|s| present(s)) {
        // Blobs of ncnn have no batch.
        let batch = if spec.name == python::NCNN.name { 1 } else { 2 };
        let (model, feeds) = (model(batch), feeds(batch));
        let expected = native::SPEC.open_model(&model, 2, &ctx).unwrap().run(&feeds).unwrap();
        let expected = expected.values().next().unwrap().to_f64s().unwrap();
        assert!(expected.iter().filter(|v| v.abs() > 0.1).count() >= 4, "the outputs tell models apart: {expected:?}");
        let mut runtime = spec.open_model(&model, 2, &ctx).unwrap();
        let outputs = runtime.run(&feeds).unwrap();
        assert_eq!(outputs.keys().collect::<Vec<_>>(), [&model.graph().outputs()[0].name], "{}", spec.name);
        let got = outputs.values().next().unwrap();
        assert_eq!(got.dims(), [batch, 8, 1, 1], "{}", spec.name);
        for (a, b) in expected.iter().zip(got.to_f64s().unwrap()) {
            assert!((a - b).abs() < 1e-5 * a.abs().max(1.0), "{}: {b} is not {a}", spec.name);
        }
        runtime.feed(&feeds).unwrap();
        runtime.step().unwrap();
        assert_eq!(runtime.profile(1).is_ok(), spec.profiles, "{}", spec.name);
    }
}

#[test]
fn the_table_says_what_users_need() {
    for (i, spec) in RUNTIMES.iter().enumerate() {
        assert!(!spec.summary.is_empty() && !spec.summary.ends_with('.'), "{}: {}", spec.name, spec.summary);
        assert!(NAMES[i] == spec.name && NAMES[..i].iter().all(|n| *n != spec.name), "{} is there once", spec.name);
        let built_in = (spec.find)().is_ok_and(|f| f.place.is_none());
        assert!(built_in || !spec.get.is_empty(), "{} says how to get it", spec.name);
        let trained = spec.train.is_some();
        assert_eq!(trained, spec.name == native::SPEC.name, "{} trains: {trained}", spec.name);
    }
    let e = named("onnxruntim").unwrap_err();
    assert_eq!(e.to_string(), "there is no runtime 'onnxruntim'\n  help: did you mean 'onnxruntime'?");
    assert_eq!(named("tvm").unwrap_err().suggestion(), Some(format!("the runtimes are {}", NAMES.join(", ")).as_str()));
}

#[test]
fn an_absent_runtime_says_where_it_was_looked_for_and_how_to_get_it() {
    const ABSENT: RuntimeSpec = RuntimeSpec {
        name: "tvm",
        get: "pip install tvm",
        find: || Err(Absent { reason: "no libtvm on this machine".into(), searched: vec!["/a".into(), "/b".into()] }),
        ..eager::SPEC
    };
    let e = ABSENT.require().unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unavailable);
    assert_eq!(e.to_string(), "tvm cannot be used: no libtvm on this machine; looked in /a, /b\n  help: pip install tvm");
    let e = ABSENT.open_model(&model(1), 1, &Context::new()).err().unwrap();
    assert_eq!(e.kind(), ErrorKind::Unavailable);
}

/// The recipe in the docs is the file that these tests compile and run.
#[test]
fn the_recipe_is_the_code() {
    let recipe = include_str!("../../../docs/adding-a-runtime.md");
    let block = recipe.split("   ```rust\n").nth(1).unwrap().split("   ```").next().unwrap();
    let code: String = block.lines().map(|l| format!("{}\n", l.strip_prefix("   ").unwrap_or(l))).collect();
    assert_eq!(code, include_str!("eager.rs"));
}
