//! The package itself: what stands in it, how it is replaced, and what is refused.

use super::common;
use super::judge::{Judge, feeds};
use compresso::Context;
use compresso::deploy::{CoremlExport, ExportPrecision, Lint};
use compresso::model::zoo::{ZooOptions, build};
use compresso::model::{Attr, Constant, Element, Fact, GraphBuilder, LoadOptions, Model, Node};
use compresso::operation::Operation;
use std::collections::HashMap;
use std::path::Path;

fn zoo(name: &str) -> Model {
    common::lively(&build(name, &ZooOptions { image_size: Some([64, 64]), width: Some(0.25), ..ZooOptions::default() }).unwrap())
}

fn export() -> CoremlExport {
    CoremlExport::default()
}

/// All files of a folder, by their paths in it.
fn content(folder: &Path) -> HashMap<String, Vec<u8>> {
    let mut found = HashMap::new();
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        if entry.path().is_dir() {
            found.extend(content(&entry.path()).into_iter().map(|(inner, bytes)| (format!("{name}/{inner}"), bytes)));
        } else {
            found.insert(name, std::fs::read(entry.path()).unwrap());
        }
    }
    found
}

#[test]
fn the_same_model_gives_the_same_bytes_and_a_package_is_replaced_as_a_whole() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (dir.path().join("a.mlpackage"), dir.path().join("new/folder/b.mlpackage"));
    let ctx = Context::new();
    let palette = CoremlExport { palettize: Some(4), precision: Some(ExportPrecision::Fp16), ..export() };
    let made = palette.apply(&zoo("yolov8n"), &a, None, &ctx).unwrap();
    palette.apply(&zoo("yolov8n"), &b, None, &ctx).unwrap();
    let files = content(&a);
    assert_eq!(files, content(&b));
    let mut names: Vec<&str> = files.keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["Data/com.apple.CoreML/model.mlmodel", "Data/com.apple.CoreML/weights/weight.bin", "Manifest.json"]);
    assert_eq!(made.files[0], a.join("Data/com.apple.CoreML/model.mlmodel"));
    assert!(made.layers.contains_key("palettes of 16 numbers"), "{:?}", made.layers);
    // Every entry of the manifest names what is there.
    let manifest: serde_json::Value = serde_json::from_slice(&files["Manifest.json"]).unwrap();
    let entries = manifest["itemInfoEntries"].as_object().unwrap();
    assert_eq!(entries.len(), 2);
    assert!(entries.contains_key(manifest["rootModelIdentifier"].as_str().unwrap()));
    assert!(entries.values().all(|e| a.join("Data").join(e["path"].as_str().unwrap()).exists()), "{entries:?}");
    // What else was in an older package goes.
    std::fs::write(a.join("Data/old.txt"), "old").unwrap();
    export().apply(&zoo("resnet18"), &a, None, &ctx).unwrap();
    let replaced = content(&a);
    assert_eq!(replaced.len(), 3, "{:?}", replaced.keys());
    assert_ne!(replaced["Manifest.json"], files["Manifest.json"]);
    let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    assert!(left.iter().all(|n| n == "a.mlpackage" || n == "new"), "{left:?}");
    // A folder that is no package stays.
    let other = dir.path().join("other.mlpackage");
    std::fs::create_dir(&other).unwrap();
    std::fs::write(other.join("thesis.txt"), "mine").unwrap();
    let e = export().apply(&zoo("resnet18"), &other, None, &ctx).unwrap_err().to_string();
    assert!(e.contains("without 'Manifest.json'"), "{e}");
    assert_eq!(content(&other).len(), 1);
}

/// Images of bytes, classes, and names that had to be changed.
#[test]
fn images_classes_and_names_stand_in_the_package() {
    let (judge, ctx) = (Judge::new(), Context::new());
    let model = zoo("yolov8n");
    CoremlExport { image: true, ..export() }.apply(&model, judge.path("image"), None, &ctx).unwrap();
    // The program scales what is fed: bytes from 0 to 255.
    let bytes: HashMap<_, _> = feeds(model.graph(), 4)
        .into_iter()
        .map(|(name, v)| {
            let scaled = (v.tensor.clone() * 255.0).unwrap().round().unwrap();
            (name, v.with(scaled).unwrap())
        })
        .collect();
    let pixels: HashMap<_, _> =
        bytes.iter().map(|(name, v)| (name.clone(), v.with((v.tensor.clone() / 255.0).unwrap()).unwrap())).collect();
    judge.expect("image", model.graph(), &pixels);
    let stored = judge.folder.path().join("image.npz");
    let mut tensors = compresso::model::weights::load_tensors(&stored).unwrap();
    tensors.insert("input_0".into(), bytes.into_values().next().unwrap());
    compresso::model::weights::save_tensors(&tensors, &stored).unwrap();

    let mut b = GraphBuilder::new("named", 17);
    let x = b.input("1 x.y", Fact::known(Element::F32, &[2, 3]));
    let i = b.input("numbers", Fact::known(Element::I64, &[2]));
    let y = b.node(Node::new("Relu", "relu/1", [x.as_str()], ["z:0"]));
    let n = b.node(Node::new("Greater", "g", [i.as_str(), &i], ["z_0"]));
    [&y, &n, &x, &i].iter().for_each(|o| b.output(o));
    let named = Model::of_graph(b.finish().unwrap(), &LoadOptions::default()).unwrap();
    let made = export().apply(&named, judge.path("named"), None, &ctx).unwrap();
    judge.expect("named", named.graph(), &feeds(named.graph(), 5));
    let told = made.notes.join("\n");
    assert!(told.contains("input '1 x.y': it is called '_1_x_y'") && told.contains("output 'z:0': it is called 'z_0'"), "{told}");
    let verdicts = judge.verdicts();
    for (name, verdict) in &verdicts {
        assert!(verdict.wrong(1e-3, 0.999).is_empty(), "{name}: {:?}", verdict.wrong(1e-3, 0.999));
    }
    let image = &verdicts["image"];
    assert_eq!(image.inputs, ["imageType { width: 64 height: 64 colorSpace: RGB }"]);
    for (key, value) in [("task", "detect"), ("stride", "32"), ("imgsz", "[64, 64]"), ("batch", "1"), ("precision", "fp32")] {
        assert_eq!(image.about[key], value, "{key}");
    }
    assert!(image.about["names"].starts_with(r#"{0: "class0", 1: "#), "{}", image.about["names"]);
    assert_eq!(verdicts["named"].outputs.keys().map(String::as_str).collect::<Vec<_>>(), ["_1_x_y_1", "numbers_1", "z_0", "z_0_1"]);
}

/// All that cannot be written is told at once, at its node, before anything is written.
#[test]
fn what_cannot_be_written_is_refused_with_its_node() {
    let mut b = GraphBuilder::new("g", 18);
    let x = b.input("x", Fact::known(Element::F32, &[1, 3, 8, 8]));
    let mask = b.input("mask", Fact::known(Element::Bool, &[2]));
    let (scales, axes) =
        (b.constant("scales", Constant::floats(&[4], &[1.0, 1.0, 0.5, 0.5]).unwrap()), b.constant("axes", Constant::ints(&[0, 1])));
    let small = Node::new("Resize", "small", [x.as_str(), "", &scales], [""]).attr("mode", Attr::text("linear")).int("antialias", 1);
    let deep = b.node(Node::new("Unsqueeze", "deep", [x.as_str(), &axes], [""]));
    let outputs = [
        b.node(small),
        b.node(Node::new("Hardmax", "hard", [x.as_str()], [""])),
        b.node(Node::new("ArgMax", "last", [x.as_str()], [""]).int("select_last_index", 1)),
        b.node(Node::new("MaxPool", "wide", [x.as_str()], [""]).ints("kernel_shape", &[2, 2]).ints("dilations", &[2, 2])),
        b.node(Node::new("NonZero", "found", [mask.as_str()], [""])),
        b.node(Node::new("Relu", "high", [deep.as_str()], [""])),
        b.node(Node::new("ReduceSum", "one", [x.as_str()], [""]).int("keepdims", 0)),
        b.node(Node::new("Relu", "fine", [x.as_str()], [""])),
    ];
    outputs.iter().for_each(|o| b.output(o));
    let model = Model::of_graph(b.finish().unwrap(), &LoadOptions::default()).unwrap();
    let found = Lint {}.run((&model, "coreml"), &Context::new()).unwrap().findings;
    let told: Vec<String> = found.iter().map(|f| format!("{}: {}", f.place, f.message)).collect();
    for expected in [
        "input 'mask': Core ML has no inputs of booleans",
        "node 'small' (Resize): Core ML has no resize with antialias",
        "node 'hard' (Hardmax): Core ML's writer has no operations for the operator Hardmax",
        "node 'last' (ArgMax): Core ML has no choice of the last of equal elements",
        "node 'wide' (MaxPool): Core ML has no dilated pool",
        "node 'high' (Relu): Core ML has no tensors of 6 axes; it has up to 5",
    ] {
        assert!(told.iter().any(|t| t == expected), "{expected} in\n{}", told.join("\n"));
    }
    assert!(told.iter().any(|t| t.starts_with("node 'found' (NonZero): ")), "{told:?}");
    assert!(told.iter().any(|t| t.contains("outputs of 0 axes; they have 1 to 5")), "{told:?}");
    assert!(told.iter().all(|t| !t.contains("'fine'")), "{told:?}");
    let dir = tempfile::tempdir().unwrap();
    let e = export().apply(&model, dir.path().join("m.mlpackage"), None, &Context::new()).unwrap_err().to_string();
    assert!(e.contains("Core ML refuses ") && e.contains("lint(m, \"coreml\") lists them all"), "{e}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn options_that_do_not_go_together_are_refused() {
    let (model, dir, ctx) = (zoo("resnet18"), tempfile::tempdir().unwrap(), Context::new());
    let int8 = Some(ExportPrecision::Int8);
    for (options, name, expected) in [
        (CoremlExport { palettize: Some(3), ..export() }, "m.mlpackage", "must be 1, 2, 4, 6 or 8 bits, got 3"),
        (CoremlExport { palettize: Some(4), precision: int8, ..export() }, "m.mlpackage", "a weight is stored in one way"),
        (CoremlExport { exclude: vec!["fc".into()], precision: int8, ..export() }, "m.mlpackage", "for which a dataset is needed"),
        (export(), "m.mlmodel", "the file name must end in .mlpackage"),
    ] {
        let e = options.apply(&model, dir.path().join(name), None, &ctx).unwrap_err().to_string();
        assert!(e.contains(expected), "{e}");
    }
    let mut b = GraphBuilder::new("g", 17);
    let x = b.input("x", Fact::known(Element::F32, &[1, 5, 8, 8]));
    let y = b.node(Node::new("Relu", "relu", [x.as_str()], [""]));
    b.output(&y);
    let odd = Model::of_graph(b.finish().unwrap(), &LoadOptions::default()).unwrap();
    let e = CoremlExport { image: true, ..export() }.apply(&odd, dir.path().join("m.mlpackage"), None, &ctx).unwrap_err().to_string();
    assert!(e.contains("an image is float32 [1, 3, height, width]") && e.contains("leave out image: true"), "{e}");
    let mut b = GraphBuilder::new("g", 17);
    let x = b.input("x", Fact::new(Element::F32, vec![1.into(), 3.into(), compresso::model::Dim::symbol("h"), 8.into()]));
    let y = b.node(Node::new("Relu", "relu", [x.as_str()], [""]));
    b.output(&y);
    let open = Model::of_graph(b.finish().unwrap(), &LoadOptions::default()).unwrap();
    let e = export().apply(&open, dir.path().join("m.mlpackage"), None, &ctx).unwrap_err().to_string();
    assert!(e.contains("input 'x'") && e.contains("image_size"), "{e}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}
