//! PyTorch's files. Those in fixtures/pytorch are made by generate.py there, with PyTorch and the ultralytics package.

mod common;
#[path = "pytorch/families.rs"]
mod families;

use candle_core::{DType, Device, Tensor};
use compresso::exec::{Run, run};
use compresso::model::weights::{apply_state_dict, load_tensors};
use compresso::model::zoo::{ZooOptions, build};
use compresso::model::{ImageSize, LoadOptions, Model, Task, Value};
use compresso::{Error, ErrorKind};
use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pytorch").join(name)
}

fn expected() -> indexmap::IndexMap<String, Value> {
    load_tensors(fixture("expected.npz")).unwrap()
}

/// The images of generate.py.
fn images(height: usize, width: usize) -> HashMap<String, Value> {
    let values: Vec<f32> = (0..3 * height * width).map(|i| (i * 7919 % 251) as f32 / 250.0).collect();
    let x = Tensor::from_vec(values, (1, 3, height, width), &Device::Cpu).unwrap();
    HashMap::from([("images".to_string(), Value::plain(x).unwrap())])
}

fn load(name: &str, size: Option<[usize; 2]>) -> Model {
    let options = LoadOptions { image_size: size.map(ImageSize::HeightWidth), ..LoadOptions::default() };
    Model::load(fixture(name), &options).unwrap()
}

fn output(m: &Model, height: usize, width: usize) -> Value {
    let out = run(m.graph(), &images(height, width), Run::default()).unwrap();
    let name = match m.task() {
        Task::Classify(c) => &c.output,
        Task::Detect(_) | Task::Instances(_) => "output0",
        Task::Unknown => panic!("a checkpoint of an unknown task"),
    };
    out[name].clone()
}

fn agrees(name: &str) {
    let m = load(&format!("{name}.pt"), Some([32, 48]));
    let (got, expected) = (output(&m, 32, 48), &expected()[name]);
    assert_eq!(got.dims(), expected.dims());
    let differences = got.to_f64s().unwrap().into_iter().zip(expected.to_f64s().unwrap()).map(|(a, b)| (a - b).abs());
    let worst = differences.fold(0f64, |m, d| if d.is_nan() { f64::NAN } else { m.max(d) });
    assert!(worst <= 1e-4, "{name}: {worst}");
}

fn error(path: impl AsRef<Path>) -> Error {
    Model::load(path, &LoadOptions::default()).unwrap_err()
}

#[test]
fn yolov8_equals_pytorch_and_can_be_trained() {
    agrees("yolov8");
    let m = load("yolov8.pt", None);
    let d = m.task().detect().unwrap();
    assert_eq!(d.classes, ["red", "green", "blue"]);
    assert_eq!(d.image_size, [64, 64], "the size of the training");
    let head = d.head.as_ref().unwrap();
    assert_eq!((head.strides.as_slice(), head.reg_max), ([8, 16].as_slice(), 4));
    assert_eq!(output(&m, 64, 64).dims(), [1, 7, 80]);
}

#[test]
fn yolo11_equals_pytorch() {
    agrees("yolo11");
    assert_eq!(load("yolo11.pt", None).task().image_size(), Some([32, 48]));
}

#[test]
fn yolov5u_equals_pytorch() {
    agrees("yolov5u");
    let m = load("yolov5u.pt", None);
    assert_eq!(m.task().image_size(), Some([64, 64]), "50 does not fit the strides");
}

#[test]
fn classifiers_equal_pytorch() {
    agrees("yolov8_cls");
    let m = load("yolov8_cls.pt", None);
    let c = m.task().classify().unwrap();
    assert_eq!((c.classes.len(), c.image_size), (3, [32, 32]));
}

#[test]
fn folded_batch_norms_come_back_and_change_nothing() {
    agrees("folded");
    let m = load("folded.pt", None);
    assert!(m.graph().nodes().iter().any(|n| n.is("BatchNormalization")));
}

#[test]
fn a_loaded_checkpoint_saves_and_comes_back() {
    let m = load("yolov8.pt", None);
    let dir = tempfile::tempdir().unwrap();
    for name in ["m.onnx", "m.safetensors"] {
        let path = dir.path().join(name);
        m.save(&path).unwrap();
        let again = Model::load(&path, &LoadOptions::default()).unwrap();
        assert_eq!(again.task(), m.task(), "{name}");
        common::assert_close(&output(&again, 64, 64), &output(&m, 64, 64), 0.0);
    }
    let e = m.save(dir.path().join("m.pt")).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unsupported);
    assert!(e.to_string().contains("save it as .safetensors"), "{e}");
}

#[test]
fn options_overrule_the_checkpoint() {
    let path = fixture("yolov8.pt");
    let options = |json| compresso::operation::decode::<LoadOptions>(json).unwrap();
    let m = Model::load(&path, &options(serde_json::json!({ "classes": ["a", "b", "c"], "image_size": 96 }))).unwrap();
    assert_eq!(m.task().classes(), ["a", "b", "c"]);
    assert_eq!(m.task().image_size(), Some([96, 96]));
    // Other classes than it has: a new head.
    let one = Model::load(&path, &options(serde_json::json!({ "classes": ["a"] }))).unwrap();
    assert_eq!((one.task().classes(), output(&one, 64, 64).dims()[1]), (&["a".to_string()][..], 5));
    let e = Model::load(&path, &options(serde_json::json!({ "image_size": 50 }))).unwrap_err();
    assert!(e.to_string().contains("multiple of 16"), "{e}");
    let e = Model::load(&path, &options(serde_json::json!({ "decode": "yolo" }))).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Argument);
}

#[test]
fn tensors_of_all_kinds_are_read() {
    let expected = expected();
    for (file, count) in [("tensors.pth", 17), ("legacy.pth", 16)] {
        let got = load_tensors(fixture(file)).unwrap();
        assert_eq!(got.len(), count, "{file}");
        for (name, v) in &got {
            let e = &expected[&format!("tensors.{name}")];
            assert_eq!((v.dims(), v.to_f64s().unwrap()), (e.dims(), e.to_f64s().unwrap()), "{file} {name}");
        }
        for name in ["float32", "float16", "bfloat16", "int64", "int8", "uint8", "bool"] {
            assert_eq!(got[name].element.name(), name);
        }
    }
    // Of a network, the state dict.
    let got = load_tensors(fixture("yolov8.pt")).unwrap();
    assert_eq!(got["model.0.conv.weight"].dims(), [8, 3, 3, 3]);
    assert!(got.contains_key("model.13.cv3.1.2.bias"));
    assert_eq!(got["model.0.bn.running_var"].element.name(), "float16");
}

#[test]
fn other_checkpoints_are_errors_that_say_what_they_are() {
    for (file, kind, said) in [
        ("tensors.pth", ErrorKind::Unsupported, "the file holds weights without a model"),
        ("sequential.pt", ErrorKind::Unsupported, "networks of the class torch.nn.modules.container.Sequential are not supported"),
        ("pruned_unevenly.pt", ErrorKind::Shape, "has shape"),
    ] {
        let e = error(fixture(file));
        assert_eq!(e.kind(), kind, "{e}");
        assert!(e.to_string().contains(said) && e.to_string().contains(file), "{e}");
    }
    let e = load_tensors(fixture("sparse.pth")).unwrap_err();
    assert!(e.to_string().contains("tensor 'weight'") && e.to_string().contains("sparse"), "{e}");
}

#[test]
fn state_dicts_load_onto_zoo_models_by_name() {
    let options = |classes: usize| ZooOptions {
        classes: Some((0..classes).map(|i| i.to_string()).collect()),
        image_size: Some([32, 32]),
        width: Some(0.0625),
        ..ZooOptions::default()
    };
    let [a, b] = [1, 2].map(|seed| build("yolov8n", &ZooOptions { seed, ..options(3) }).unwrap());
    let learnt = |n: &str| [".weight", ".bias", ".running_mean", ".running_var"].iter().any(|e| n.ends_with(e)) && !n.contains(".dfl.");
    let state: indexmap::IndexMap<String, Value> = a
        .graph()
        .constants()
        .iter()
        .filter(|(n, _)| learnt(n))
        .map(|(n, c)| (n.clone(), Value::of_constant(c, &Device::Cpu).unwrap()))
        .collect();
    let count = state.len();
    let rename = |f: &dyn Fn(&str) -> String| state.iter().map(|(n, v)| (f(n), v.clone())).collect::<indexmap::IndexMap<_, _>>();
    for renamed in [
        rename(&|n| n.to_string()),
        rename(&|n| format!("module.{n}")),
        rename(&|n| format!("model.{n}")),
        rename(&|n| format!("module.model.{n}")),
        rename(&|n| n.trim_start_matches("model.").to_string()),
    ] {
        let first = renamed.keys().next().unwrap().clone();
        let (graph, report) = apply_state_dict(b.graph(), renamed).unwrap();
        assert_eq!(report.matched, count, "{first}");
        assert!(report.missing.is_empty() && report.unexpected.is_empty() && report.mismatched.is_empty(), "{first}: {report:?}");
        assert_eq!(graph.constant("model.0.conv.weight"), a.graph().constant("model.0.conv.weight"));
    }
    // Half precision, counts of batches, one too many and one too few, for another number of classes.
    let mut odd = rename(&|n| n.to_string());
    for v in odd.values_mut() {
        *v = Value::plain(v.tensor.to_dtype(DType::F16).unwrap()).unwrap();
    }
    odd.insert("model.0.bn.num_batches_tracked".into(), Value::ints(&[3], &Device::Cpu).unwrap());
    odd.insert("optimizer.step".into(), Value::ints(&[3], &Device::Cpu).unwrap());
    odd.shift_remove("model.0.conv.weight");
    let other = build("yolov8n", &options(5)).unwrap();
    let (graph, report) = apply_state_dict(other.graph(), odd).unwrap();
    assert_eq!(graph.constant("model.1.conv.weight").unwrap().element().name(), "float32");
    assert_eq!(
        (report.missing.as_slice(), report.unexpected.as_slice()),
        (["model.0.conv.weight".to_string()].as_slice(), ["optimizer.step".to_string()].as_slice())
    );
    assert_eq!(report.mismatched.len(), 6, "weights and biases of three levels: {:?}", report.mismatched);
    let text = report.summary();
    assert!(text.contains("1 missing: model.0.conv.weight") && text.contains("1 unexpected: optimizer.step"), "{text}");
    assert!(text.contains("6 of another shape: model.22.cv3.0.2.weight [3,"), "{text}");
    let stranger = indexmap::IndexMap::from([("conv1.weight".to_string(), Value::ints(&[1], &Device::Cpu).unwrap())]);
    assert_eq!(apply_state_dict(b.graph(), stranger).unwrap_err().kind(), ErrorKind::Argument);
}

/// Pickles that run `touch MARKER` when Python opens them, with what they call.
fn hostile(marker: &str) -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let text = |t: &str| t.replace("CMD", &format!("touch {marker}")).replace("MARKER", marker).into_bytes();
    let command = format!("touch {marker}");
    let mut by_stack = b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c".to_vec();
    by_stack.push(u8::try_from(command.len()).unwrap());
    by_stack.extend_from_slice(command.as_bytes());
    by_stack.extend_from_slice(b"\x85R.");
    vec![
        ("REDUCE", "os.system", text("cos\nsystem\n(S'CMD'\ntR.")),
        ("INST", "os.system", text("(S'CMD'\nios\nsystem\n.")),
        ("OBJ", "subprocess.Popen", text("(csubprocess\nPopen\n(lS'touch'\naS'MARKER'\nao.")),
        ("STACK_GLOBAL", "os.system", by_stack),
        ("eval", "builtins.eval", text("cbuiltins\neval\n(S'__import__(\"os\").system(\"CMD\")'\ntR.")),
        // OrderedDict([("a", os.system(…))])
        ("list", "os.system", text("ccollections\nOrderedDict\n((l(S'a'\ncos\nsystem\n(S'CMD'\ntRtatR.")),
        // What BUILD gives to an object is the result of a call.
        ("BUILD", "os.system", text("ccollections\nOrderedDict\n(tR(dS'a'\ncos\nsystem\n(S'CMD'\ntRsb.")),
    ]
}

fn zipped(pickle: &[u8]) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    archive.start_file("best/data.pkl", options).unwrap();
    archive.write_all(pickle).unwrap();
    archive.finish().unwrap().into_inner()
}

/// The file of a PyTorch before 1.6: magic number, version, facts of the machine, the object.
fn legacy(pickle: &[u8]) -> Vec<u8> {
    [b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}.".as_slice(), pickle].concat()
}

#[test]
fn files_that_run_code_are_refused_and_nothing_runs() {
    let dir = tempfile::tempdir().unwrap();
    let marker = dir.path().join("marker");
    let file = dir.path().join("best.pt");
    for (way, function, pickle) in hostile(marker.to_str().unwrap()) {
        // Python does run it: the file is a real attack.
        std::fs::write(&file, &pickle).unwrap();
        common::python(&["tests/python/open_pickle.py", file.to_str().unwrap()]);
        let start = std::time::Instant::now();
        while !marker.exists() && start.elapsed().as_secs() < 10 {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        assert!(marker.exists(), "{way} attacks nobody");
        std::fs::remove_file(&marker).unwrap();
        for (container, bytes) in [("pickle", pickle.clone()), ("zip", zipped(&pickle)), ("legacy", legacy(&pickle))] {
            std::fs::write(&file, bytes).unwrap();
            for e in [error(&file), load_tensors(&file).unwrap_err()] {
                assert_eq!(e.kind(), ErrorKind::Unsupported, "{way} in {container}: {e}");
                let said = e.to_string();
                assert!(said.contains(function) && said.contains("tries to run code") && said.contains("nothing was run"), "{said}");
                assert!(said.contains("best.pt"), "{said}");
            }
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
        assert!(!marker.exists(), "{way} ran");
    }
}

#[test]
fn what_is_no_checkpoint_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x.pt");
    let mut tar = vec![0; 1024];
    tar[257..262].copy_from_slice(b"ustar");
    for (bytes, kind, said) in [
        (b"".to_vec(), ErrorKind::Format, "neither a zip archive nor pickles"),
        (b"hello".to_vec(), ErrorKind::Format, "neither a zip archive nor pickles"),
        (b"\x80\x04]\x94.".to_vec(), ErrorKind::Unsupported, "not one of torch.save"),
        (tar, ErrorKind::Unsupported, "before version 0.1.10"),
        (zipped(b"\x80\x02}."), ErrorKind::Format, "neither a network nor a dict of tensors"),
        (zipped(b"\x80\x02X\xff\xff\xff\xff."), ErrorKind::Format, "byte 2 of the pickle: the pickle ends too early"),
        (zipped(b"\x80\x02")[..40].to_vec(), ErrorKind::Format, "not a readable zip archive"),
    ] {
        std::fs::write(&file, bytes).unwrap();
        let e = error(&file);
        assert_eq!(e.kind(), kind, "{e}");
        assert!(e.to_string().contains(said) && e.to_string().contains("x.pt"), "{e}");
    }
}
