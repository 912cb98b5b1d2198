use super::*;
use crate::{Classes, Decode, DecodeAs, Element, Fact, ImageSize, Node, Task, ValueInfo};

/// A detector by its looks: `[1, 4 + classes, 8]` from a 64x64 image, with Ultralytics' metadata.
fn foreign(names: &str) -> Graph {
    let mut g = Graph { name: "yolo".into(), ..Graph::default() };
    g.opsets.insert(String::new(), 17);
    g.inputs.push(ValueInfo::new("images", Fact::known(Element::F32, &[1, 3, 64, 64])));
    g.outputs.push(ValueInfo::new("output0", Fact::known(Element::F32, &[1, 7, 8])));
    g.constants.insert("w".into(), Constant::floats(&[1, 7, 8], &[0.5; 56]).unwrap());
    g.constants.insert("shape".into(), Constant::ints(&[1, 1, 1]));
    g.nodes.push(Node::new("ReduceMean", "mean", ["images"], ["m"]).ints("axes", &[1, 2, 3]).int("keepdims", 0));
    g.nodes.push(Node::new("Reshape", "reshape", ["m", "shape"], ["r"]));
    g.nodes.push(Node::new("Add", "add", ["r", "w"], ["output0"]));
    for (k, v) in [("task", "detect"), ("names", names), ("stride", "32"), ("imgsz", "[64, 64]")] {
        g.metadata.insert(k.into(), v.into());
    }
    g
}

const NAMES: &str = "{0: 'RBC', 1: 'WBC', 2: 'Platelets'}";

#[test]
fn a_foreign_detector_is_recognised_and_saved_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("foreign.onnx");
    onnx::save(&foreign(NAMES), &path).unwrap();
    let model = Model::load(&path, &LoadOptions::default()).unwrap();
    let d = model.task().detect().unwrap();
    assert_eq!(d.classes, ["RBC", "WBC", "Platelets"]);
    assert_eq!(d.image_size, [64, 64]);
    assert_eq!(d.decode, Decode::Yolo { output: "output0".into() });
    assert_eq!(d.head, None);
    let copy = dir.path().join("copy.onnx");
    model.save(&copy).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), std::fs::read(&copy).unwrap());
}

#[test]
fn task_and_steps_survive_in_both_formats() {
    let dir = tempfile::tempdir().unwrap();
    let options: serde_json::Map<_, _> = [("ratio".to_string(), serde_json::json!(0.5))].into_iter().collect();
    let model = Model::of_graph(foreign(NAMES), &LoadOptions::default()).unwrap();
    let call = Call::new("prune", [(&model).into(), Argument::Script("dataset(\"bccd\")".into())], options);
    let model = model.derive(model.graph().clone(), call.seeded(3));
    for name in ["m.onnx", "m.safetensors"] {
        let path = dir.path().join(name);
        model.save(&path).unwrap();
        let again = Model::load(&path, &LoadOptions::default()).unwrap();
        assert_eq!(again.task(), model.task(), "{name}");
        assert_eq!(again.recipe(), model.recipe(), "{name}");
        assert_eq!(again.graph().nodes(), model.graph().nodes(), "{name}");
        assert_eq!(again.graph().constants(), model.graph().constants(), "{name}");
    }
    assert_eq!(model.recipe().unwrap().calls()[0].args, [Argument::Named("yolo".into())], "of the beginning only the name is known");
    assert_eq!(model.steps().iter().map(|s| s.operation.as_str()).collect::<Vec<_>>(), ["prune"]);
    // Both hold the same model.
    let a = Model::load(dir.path().join("m.safetensors"), &LoadOptions::default()).unwrap();
    a.save(dir.path().join("again.onnx")).unwrap();
    assert_eq!(std::fs::read(dir.path().join("again.onnx")).unwrap(), std::fs::read(dir.path().join("m.onnx")).unwrap());
}

#[test]
fn options_overrule_and_must_fit() {
    let load = |o: LoadOptions| Model::of_graph(foreign(NAMES), &o);
    let classes = |n: &[&str]| Some(Classes::Names(n.iter().map(|s| (*s).to_string()).collect()));
    let m = load(LoadOptions { classes: classes(&["a", "b", "c"]), ..LoadOptions::default() }).unwrap();
    assert_eq!(m.task().classes(), ["a", "b", "c"]);
    // Other tools read the metadata.
    assert_eq!(m.graph().metadata()["names"], r#"{0: "a", 1: "b", 2: "c"}"#);
    let e = load(LoadOptions { classes: classes(&["WBC", "RBC", "Platelets"]), ..LoadOptions::default() }).unwrap_err();
    assert!(e.to_string().contains("their order differs") && e.to_string().contains("raw head"), "{e}");
    let e = load(LoadOptions { classes: classes(&["a"]), ..LoadOptions::default() }).unwrap_err();
    assert!(e.to_string().starts_with("the model has 3 classes, option 'classes' names 1"), "{e}");
    let e = load(LoadOptions { image_size: Some(ImageSize::Square(32)), ..LoadOptions::default() }).unwrap_err();
    assert!(e.to_string().contains("fixed at 64"), "{e}");
    let m = load(LoadOptions { decode: Some(DecodeAs::None.into()), ..LoadOptions::default() }).unwrap();
    assert_eq!(m.task(), &Task::Unknown);
    let e = load(LoadOptions { decode: Some(DecodeAs::FastestDet.into()), ..LoadOptions::default() }).unwrap_err();
    assert!(e.to_string().contains("got float32[1, 7, 8]"), "{e}");
}

#[test]
fn damaged_metadata_is_an_error_that_names_it() {
    let e = Model::of_graph(foreign("{0: 'RBC', 1: __import__}"), &LoadOptions::default()).unwrap_err();
    assert!(e.to_string().starts_with("metadata 'names': "), "{e}");
    let e = Model::of_graph(foreign(NAMES).with_metadata(KEY, "{\"task\": 3}"), &LoadOptions::default()).unwrap_err();
    assert!(e.to_string().contains("the metadata 'compresso' cannot be read"), "{e}");
}

#[test]
fn other_extensions_say_what_is_supported() {
    for (name, text) in [("m.pt2", "'.pt2' models"), ("m.tflite", "'.tflite' models"), ("m", "no extension")] {
        let e = Model::load(name, &LoadOptions::default()).unwrap_err();
        assert!(e.to_string().contains(text), "{e}");
        assert!(e.suggestion().is_some());
    }
}

#[test]
fn weights_without_a_model_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("w.safetensors");
    safetensors::save(foreign(NAMES).constants(), &IndexMap::new(), &path).unwrap();
    let e = Model::load(&path, &LoadOptions::default()).unwrap_err();
    assert!(e.to_string().contains("holds weights without a model"), "{e}");
}

#[test]
fn real_detectors_are_recognised() {
    // Real models are not part of the project; COMPRESSO_DATA names a folder that holds them, as its README lists them.
    let Some(folder) = std::env::var_os("COMPRESSO_DATA").map(std::path::PathBuf::from) else { return };
    let yolo = folder.join("bccd_yolov8n/best.onnx");
    if yolo.exists() {
        let m = Model::load(yolo, &LoadOptions::default()).unwrap();
        let d = m.task().detect().unwrap();
        assert_eq!((d.classes.join(" ").as_str(), d.image_size), ("RBC WBC Platelets", [320, 320]));
        let head = d.head.as_ref().unwrap();
        assert_eq!((head.strides.as_slice(), head.reg_max), ([8, 16, 32].as_slice(), 16));
        assert_eq!(head.boxes[2], "/model.22/cv2.2/cv2.2.2/Conv_output_0");
        assert_eq!(head.scores[0], "/model.22/cv3.0/cv3.0.2/Conv_output_0");
    }
    let fastest = folder.join("fastestdet/FastestDet.onnx");
    if fastest.exists() {
        let names = Some(Classes::File(folder.join("fastestdet/coco.names")));
        let named = Model::load(&fastest, &LoadOptions { classes: names, ..LoadOptions::default() }).unwrap();
        let d = named.task().detect().unwrap();
        assert_eq!((d.classes.len(), d.classes[0].as_str(), d.image_size), (80, "person", [352, 352]));
        assert_eq!(d.decode, Decode::described(crate::BoxDecode::fastest_det("758")));
        let generic = Model::load(&fastest, &LoadOptions::default()).unwrap();
        assert_eq!((generic.task().classes().len(), generic.task().classes()[79].as_str()), (80, "class79"));
    }
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "onnx") {
            let m = Model::load(&path, &LoadOptions::default()).unwrap();
            let head = m.task().detect().and_then(|d| d.head.as_ref());
            eprintln!("{}: {} classes at {:?}, head {head:?}", path.display(), m.task().classes().len(), m.task().image_size());
        }
    }
}
