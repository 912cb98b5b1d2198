//! Graphs with Ultralytics' metadata and outputs of each form.

use super::*;
use crate::{AnchorLayout, BoxFormat, Constant, Dim, InstanceKind, Node, RowPart, ValueInfo};

/// A graph with one output of these sizes, declared or open, from images of open sizes.
fn export(sizes: [usize; 3], open: bool, metadata: &[(&str, &str)]) -> Graph {
    let mut g = Graph { name: "export".into(), ..Graph::default() };
    g.opsets.insert(String::new(), 17);
    let open_dims = |names: [&str; 3]| names.map(Dim::symbol);
    let [batch, height, width] = open_dims(["batch", "height", "width"]);
    g.inputs.push(ValueInfo::new("images", Fact::new(Element::F32, vec![batch, Dim::Known(3), height, width])));
    let declared = if open { Fact::new(Element::F32, open_dims(["a", "b", "c"]).to_vec()) } else { Fact::known(Element::F32, &sizes) };
    g.outputs.push(ValueInfo::new("output0", declared));
    g.constants.insert("w".into(), Constant::floats(&sizes, &vec![0.5; sizes.iter().product()]).unwrap());
    g.constants.insert("shape".into(), Constant::ints(&[-1, 1, 1]));
    g.nodes.push(Node::new("ReduceMean", "mean", ["images"], ["m"]).ints("axes", &[1, 2, 3]).int("keepdims", 0));
    g.nodes.push(Node::new("Reshape", "reshape", ["m", "shape"], ["r"]));
    g.nodes.push(Node::new("Add", "add", ["r", "w"], ["output0"]));
    for (k, v) in [("task", "detect"), ("stride", "32"), ("imgsz", "[64, 96]")].iter().chain(metadata) {
        g.metadata.insert((*k).into(), (*v).into());
    }
    g
}

const NAMES: (&str, &str) = ("names", "{0: 'a', 1: 'b', 2: 'c', 3: 'd', 4: 'e'}");

fn described(g: &Graph) -> BoxDecode {
    match task(g, &LoadOptions::default()).unwrap() {
        Task::Detect(Detect { decode: Decode::Described(d), .. }) => *d,
        other => panic!("{other:?}"),
    }
}

#[test]
fn finished_rows_are_known_by_what_the_metadata_says() {
    for open in [false, true] {
        for says in [("end2end", "True"), ("args", "{'batch': 1, 'nms': True, 'dynamic': True}")] {
            let d = described(&export([1, 300, 6], open, &[NAMES, says]));
            assert_eq!(d, BoxDecode::end_to_end("output0"), "{says:?}, open: {open}");
        }
        // Older exports say nothing: the sizes do.
        assert_eq!(described(&export([1, 300, 6], open, &[NAMES])), BoxDecode::end_to_end("output0"));
        let plain = task(&export([1, 9, 84], open, &[NAMES, ("end2end", "False")]), &LoadOptions::default()).unwrap();
        assert_eq!(plain.detect().unwrap().decode, Decode::Yolo { output: "output0".into() });
        assert_eq!(plain.classes().len(), 5);
    }
}

#[test]
fn rows_of_rtdetr_are_parts_of_the_image_about_a_centre() {
    let head = ("head", "RTDETRDecoder");
    for open in [false, true] {
        let d = described(&export([1, 300, 6], open, &[NAMES, head]));
        assert_eq!(
            (d.format, d.normalized, d.columns.as_slice()),
            (BoxFormat::Cxcywh, true, [RowPart::Box, RowPart::Score, RowPart::Class].as_slice())
        );
        // A score for each class, as earlier versions export.
        for more in [head, ("description", "Ultralytics rtdetr-l model")] {
            let d = described(&export([1, 300, 9], open, &[NAMES, more]));
            assert_eq!((d.format, d.normalized, d.layout, d.nms), (BoxFormat::Cxcywh, true, Some(AnchorLayout::ChannelsLast), Some(false)));
        }
    }
}

/// With two classes, rows of six numbers have two meanings, which the last concatenation tells apart.
#[test]
fn six_numbers_of_two_classes_are_told_apart() {
    let two = ("names", "{0: 'a', 1: 'b'}");
    let mut g = export([1, 300, 6], false, &[two, ("head", "RTDETRDecoder")]);
    assert_eq!(described(&g), BoxDecode::query_scores("output0"));
    g.nodes[2].outputs[0] = "all".into();
    g.constants.insert("sizes".into(), Constant::ints(&[4, 1, 1]));
    g.nodes.push(Node::new("Split", "split", ["all", "sizes"], ["box", "score", "class"]).int("axis", 2));
    g.nodes.push(Node::new("Concat", "concat", ["box", "score", "class"], ["output0"]).int("axis", 2));
    assert_eq!(described(&g), BoxDecode::query_rows("output0"));
}

#[test]
fn masks_key_points_and_turned_boxes_are_named() {
    let kinds = [
        (("task", "segment"), 9 + 32, InstanceKind::Masks { prototypes: 32 }),
        (("task", "pose"), 9 + 51, InstanceKind::KeyPoints { points: 17, numbers: 3 }),
        (("task", "obb"), 9 + 1, InstanceKind::Turned),
    ];
    let shape = ("kpt_shape", "[17, 3]");
    for (says, channels, kind) in kinds {
        for (sizes, finished) in [([1, channels, 84], false), ([1, 300, channels - 3], true)] {
            for open in [false, true] {
                let mut metadata = vec![NAMES, says, shape];
                if finished {
                    metadata.push(("end2end", "True"));
                }
                let Task::Instances(i) = task(&export(sizes, open, &metadata), &LoadOptions::default()).unwrap() else {
                    panic!("{says:?} {sizes:?}")
                };
                assert_eq!((i.kind, i.finished, i.classes.len(), i.image_size), (kind, finished, 5, [64, 96]), "{says:?} {sizes:?}");
            }
        }
    }
    let e = task(&export([1, 60, 84], false, &[NAMES, ("task", "pose")]), &LoadOptions::default()).unwrap_err();
    assert!(e.to_string().contains("kpt_shape"), "{e}");
}

/// The raw head of exports with finished rows, which only their nodes tell.
#[test]
fn heads_of_finished_rows_are_found() {
    for name in ["yolov10n", "yolo26n"] {
        let classes = Some(["a", "b", "c", "d", "e"].map(String::from).to_vec());
        let zoo = crate::zoo::ZooOptions { classes, image_size: Some([64, 96]), width: Some(0.0625), ..Default::default() };
        let built = crate::zoo::build(name, &zoo).unwrap();
        let head = built.task().detect().unwrap().head.clone().unwrap();
        assert_eq!((head.strides.as_slice(), head.reg_max), ([8, 16, 32].as_slice(), if name == "yolo26n" { 1 } else { 16 }));
        let mut g = built.graph().clone();
        for (k, v) in [("task", "detect"), ("stride", "32"), ("imgsz", "[64, 96]"), NAMES, ("end2end", "True")] {
            g.metadata.insert(k.into(), v.into());
        }
        let Task::Detect(d) = task(&g, &LoadOptions::default()).unwrap() else { panic!("{name}") };
        assert_eq!((d.head, d.decode.suppresses()), (Some(head), false), "{name}");
        // Of other numbers of classes, or chosen in a way that is not known, nothing is said.
        let of = |g: &Graph, classes| head::of_rows(g, "output0", classes, [64, 96]);
        assert!(of(&g, 5).is_some() && of(&g, 4).is_none());
        let last = g.nodes.last_mut().unwrap();
        let boxes = std::mem::replace(&mut last.inputs[0], "changed".into());
        g.nodes.insert(g.nodes.len() - 1, Node::new("Exp", "exp", [boxes], ["changed"]));
        assert!(of(&g, 5).is_none());
    }
}
