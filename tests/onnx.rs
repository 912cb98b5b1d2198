//! ONNX files: what is read is written back, what is broken is refused with its place, and the onnx package accepts what
//! we write. The files in fixtures/onnx are made by generate.py there.

mod common;

use compresso::model::{Constant, Element, Graph, LoadOptions, Model, Patch, onnx};
use compresso::{ErrorKind, Result};
use std::path::{Path, PathBuf};
use std::process::Command;

const VALID: [&str; 7] = ["kinds", "old_ir", "branches", "sparse", "mlp", "external", "unusual"];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/onnx").join(name)
}

fn load(name: &str) -> Graph {
    onnx::load(fixture(&format!("{name}.onnx"))).unwrap()
}

/// Runs onnx.checker and shape inference on files.
fn check(files: &[PathBuf]) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/check_onnx.py");
    let out = Command::new(common::python_path()).arg(script).args(files).output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{text}{}", String::from_utf8_lossy(&out.stderr));
    assert_eq!(text.lines().filter(|l| l.starts_with("ok ")).count(), files.len());
}

#[test]
fn untouched_files_are_saved_byte_for_byte() {
    let dir = tempfile::tempdir().unwrap();
    // Calls of functions are inlined when a file is opened.
    for name in VALID.into_iter().filter(|n| *n != "kinds") {
        let copy = dir.path().join(format!("{name}.onnx"));
        onnx::save(&load(name), &copy).unwrap();
        assert!(std::fs::read(fixture(&format!("{name}.onnx"))).unwrap() == std::fs::read(&copy).unwrap(), "{name} changed");
    }
    // The external tensors went along.
    assert_eq!(std::fs::read(dir.path().join("external.bin")).unwrap(), std::fs::read(fixture("external.bin")).unwrap());
}

#[test]
fn models_survive_other_formats() {
    let dir = tempfile::tempdir().unwrap();
    for name in VALID {
        let options = LoadOptions::default();
        let model = Model::load(fixture(&format!("{name}.onnx")), &options).unwrap();
        let path = dir.path().join(format!("{name}.safetensors"));
        model.save(&path).unwrap();
        let again = Model::load(&path, &options).unwrap();
        assert_eq!(again.graph().dump(None), model.graph().dump(None), "{name}");
        assert_eq!(again.task(), model.task(), "{name}");
    }
}

#[test]
fn broken_files_are_refused_with_kind_and_place() {
    common::assert_refused(&fixture("bad"), 40, onnx::load);
}

#[cfg(unix)]
#[test]
fn links_that_leave_the_folder_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let inside = dir.path().join("model");
    std::fs::create_dir(&inside).unwrap();
    std::fs::copy(fixture("external.onnx"), inside.join("m.onnx")).unwrap();
    std::fs::copy(fixture("external.bin"), dir.path().join("secret.bin")).unwrap();
    std::os::unix::fs::symlink("../secret.bin", inside.join("external.bin")).unwrap();
    let e = onnx::load(inside.join("m.onnx")).unwrap_err();
    assert!(e.to_string().contains("outside the model's folder"), "{e}");
    // A link within the folder is fine.
    std::fs::remove_file(inside.join("external.bin")).unwrap();
    std::fs::copy(fixture("external.bin"), inside.join("real.bin")).unwrap();
    std::os::unix::fs::symlink("real.bin", inside.join("external.bin")).unwrap();
    assert_eq!(onnx::load(inside.join("m.onnx")).unwrap().constants().len(), 3);
}

#[test]
fn bytes_alone_do_not_open_files() {
    let e = onnx::decode(std::fs::read(fixture("external.onnx")).unwrap()).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unsupported);
}

#[test]
fn nodes_out_of_order_are_sorted() {
    let g = load("unordered");
    let names: Vec<&str> = g.nodes().iter().map(|n| n.name.as_str()).collect();
    assert_eq!(names, ["first", "second"]);
}

#[test]
fn element_types_and_values_are_read() {
    let g = load("kinds");
    for (name, element, values) in [
        ("typed_UINT8", Element::U8, [0i64, 255]),
        ("typed_INT8", Element::I8, [-128, 127]),
        ("typed_INT64", Element::I64, [-5, 1 << 40]),
        ("typed_UINT32", Element::U32, [0, 1 << 31]),
        ("typed_UINT4", Element::U4, [1, 15]),
        ("typed_INT4", Element::I4, [-8, 7]),
        ("typed_UINT2", Element::U2, [0, 3]),
        ("typed_INT2", Element::I2, [-2, 1]),
    ] {
        let c = g.constant(name).unwrap();
        assert_eq!((c.element(), c.to_i64s().unwrap().as_slice()), (element, values.as_slice()), "{name}");
    }
    assert_eq!(g.constant("typed_FLOAT16").unwrap().to_f32s().unwrap(), [1.5, -2.0]);
    assert_eq!(g.constant("typed_BFLOAT16").unwrap().to_f32s().unwrap(), [1.5, -2.0]);
    assert_eq!(g.constant("raw_INT4").unwrap().to_i64s().unwrap(), [1, 2, 3]);
    assert_eq!(g.constant("strings").unwrap().element(), Element::Str);
    let g = load("sparse");
    assert_eq!(g.constant("flat").unwrap().to_f32s().unwrap(), [0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, -2.0]);
    assert_eq!(g.constant("pairs").unwrap().to_f32s().unwrap(), [0.0, 0.0, 0.0, 3.0, 4.0, 0.0, 0.0, 0.0]);
    assert_eq!(load("old_ir").feeds().map(|f| f.name.as_str()).collect::<Vec<_>>(), ["x"]);
}

/// Two hidden units fewer, as pruning would do.
fn narrowed() -> Result<Graph> {
    let g = load("mlp");
    let mut patch = Patch::new(&g);
    let take = |name: &str, dims: &[usize], keep: &dyn Fn(usize) -> bool| {
        let all = g.constant(name).unwrap().to_f32s().unwrap();
        let kept: Vec<f32> = all.iter().enumerate().filter(|(i, _)| keep(*i)).map(|(_, v)| *v).collect();
        Constant::floats(dims, &kept)
    };
    patch.set_constant("fc0.weight", take("fc0.weight", &[4, 4], &|i| i < 16)?);
    patch.set_constant("fc1.weight", take("fc1.weight", &[3, 4], &|i| i % 6 < 4)?);
    patch.apply()
}

#[test]
fn a_changed_graph_says_true_shapes_and_keeps_the_rest() {
    let text = String::from_utf8_lossy(&onnx::encode(&narrowed().unwrap()).unwrap()).into_owned();
    for kept in ["first", "kept", "compresso-fixtures"] {
        assert!(text.contains(kept), "'{kept}' was lost");
    }
    let again = onnx::decode(onnx::encode(&narrowed().unwrap()).unwrap()).unwrap();
    let declared = again.declared("h1").unwrap();
    assert_eq!(declared.to_string(), "float32[batch, 4]");
}

#[test]
fn the_onnx_package_accepts_what_we_write() {
    let dir = tempfile::tempdir().unwrap();
    let mut files = Vec::new();
    let mut add = |name: &str, g: &Graph, external: bool| {
        let path = dir.path().join(name);
        if external {
            onnx::save_external(g, &path).unwrap()
        } else {
            onnx::save(g, &path).unwrap()
        }
        files.push(path);
    };
    for name in VALID {
        add(&format!("{name}.onnx"), &load(name), false);
        // A changed model: an entry of the metadata, and through .safetensors, where tensors are encoded anew.
        add(&format!("{name}_meta.onnx"), &load(name).with_metadata("note", "changed"), false);
        let weights = dir.path().join(format!("{name}.safetensors"));
        Model::new(load(name), compresso::model::Task::Unknown).save(&weights).unwrap();
        add(&format!("{name}_again.onnx"), Model::load(&weights, &LoadOptions::default()).unwrap().graph(), false);
    }
    add("unordered.onnx", &load("unordered"), false);
    add("narrowed.onnx", &narrowed().unwrap(), false);
    add("mlp_external.onnx", &load("mlp"), true);
    // A constant that the inputs do not list, in a file of IR version 3.
    let g = load("old_ir");
    let mut patch = Patch::new(&g);
    patch.set_constant("more", Constant::floats(&[3], &[1.0, 2.0, 3.0]).unwrap());
    patch.edit(0).inputs[2] = "more".into();
    add("old_ir_more.onnx", &patch.apply().unwrap(), false);
    check(&files);
}

#[test]
fn external_data_is_written_on_request_and_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.onnx");
    let w = Constant::floats(&[64, 64], &(0..4096).map(|i| i as f32).collect::<Vec<_>>()).unwrap();
    let g = load("mlp");
    let mut patch = Patch::new(&g);
    patch.set_constant("fc0.weight", Constant::floats(&[6, 4], &[0.5; 24]).unwrap());
    patch.set_constant("unread", w);
    let mut reading = compresso::model::Node::new("Identity", "id", ["unread"], ["z"]);
    reading.name = "id".into();
    patch.add(reading);
    let mut outputs = g.outputs().to_vec();
    outputs.push(compresso::model::ValueInfo::new("z", compresso::model::Fact::known(Element::F32, &[64, 64])));
    patch.set_outputs(outputs);
    let g = patch.apply().unwrap();
    onnx::save_external(&g, &path).unwrap();
    assert!(std::fs::metadata(&path).unwrap().len() < 2000);
    assert!(std::fs::metadata(dir.path().join("m.onnx.data")).unwrap().len() >= 4 * 4096);
    assert_eq!(onnx::load(&path).unwrap(), g);
    // A model with external data, changed and saved again beside the first, leaves the first alone.
    let changed = onnx::load(&path).unwrap().with_metadata("k", "v");
    onnx::save(&changed, dir.path().join("n.onnx")).unwrap();
    assert_eq!(onnx::load(&path).unwrap(), g);
    assert_eq!(onnx::load(dir.path().join("n.onnx")).unwrap(), changed);
}

#[test]
#[ignore = "needs 7 GB of memory and 2 GB of disk"]
fn models_above_two_gigabytes_are_saved_as_external_data() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("large.onnx");
    let g = load("mlp");
    let mut patch = Patch::new(&g);
    let large = Constant::new(Element::U8, vec![2_200_000_000], compresso::model::Payload::Raw(vec![7; 2_200_000_000].into())).unwrap();
    patch.set_constant("large", large);
    patch.add(compresso::model::Node::new("Identity", "id", ["large"], ["z"]));
    let mut outputs = g.outputs().to_vec();
    outputs.push(compresso::model::ValueInfo::new("z", compresso::model::Fact::known(Element::U8, &[2_200_000_000])));
    patch.set_outputs(outputs);
    let g = patch.apply().unwrap();
    assert_eq!(onnx::encode(&g).unwrap_err().kind(), ErrorKind::Unsupported);
    onnx::save(&g, &path).unwrap();
    assert!(std::fs::metadata(&path).unwrap().len() < 10_000);
    assert!(onnx::load(&path).unwrap() == g);
}

#[test]
fn a_trainable_detector_survives_both_formats() {
    use compresso::model::zoo::{ZooOptions, build};
    let dir = tempfile::tempdir().unwrap();
    let options = ZooOptions { image_size: Some([64, 64]), width: Some(0.0625), seed: 3, ..ZooOptions::default() };
    let model = build("yolov8n", &options).unwrap();
    let mut files = Vec::new();
    for name in ["m.onnx", "m.safetensors"] {
        let path = dir.path().join(name);
        model.save(&path).unwrap();
        let again = Model::load(&path, &LoadOptions::default()).unwrap();
        assert_eq!(again.graph().dump(None), model.graph().dump(None), "{name}");
        assert!(again.graph().constants() == model.graph().constants(), "{name}: the constants changed");
        assert_eq!((again.task(), again.steps()), (model.task(), model.steps()), "{name}");
        assert!(again.task().detect().unwrap().head.is_some());
        assert!(again.graph().nodes().iter().any(|n| n.is("BatchNormalization")), "{name}");
        let copy = dir.path().join(format!("copy.{name}"));
        again.save(&copy).unwrap();
        assert!(std::fs::read(&path).unwrap() == std::fs::read(&copy).unwrap(), "{name} changed");
        files.push(path);
    }
    check(&files[..1]);
    // Other tools see the weights by name.
    let tensors = compresso::model::weights::load_tensors(&files[1]).unwrap();
    assert!(tensors.contains_key("model.0.conv.weight") && tensors.contains_key("model.0.bn.running_var"));
    // And they can be put into another model of the same architecture.
    let other = build("yolov8n", &ZooOptions { seed: 4, ..options }).unwrap();
    let (graph, report) = compresso::model::weights::apply_weights(other.graph(), &tensors).unwrap();
    assert_eq!((report.unexpected.len(), report.mismatched.len(), report.missing.len()), (0, 0, 0));
    assert_eq!(graph.constant("model.0.conv.weight"), model.graph().constant("model.0.conv.weight"));
    let few = tensors.into_iter().filter(|(n, _)| n.contains("conv")).map(|(n, v)| (format!("x.{n}"), v)).collect();
    let e = compresso::model::weights::apply_weights(other.graph(), &few).unwrap_err();
    assert!(e.to_string().contains("belongs to the model"), "{e}");
}
