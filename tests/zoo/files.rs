//! Architecture files of users: what they may say, and what is said of their mistakes.

use compresso::ErrorKind;
use compresso::model::Model;
use compresso::model::zoo::{ZooOptions, build};

fn from_text(text: &str) -> compresso::Result<Model> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("mine.yaml");
    std::fs::write(&file, text).unwrap();
    build(file.to_str().unwrap(), &ZooOptions { image_size: Some([64, 64]), ..ZooOptions::default() })
}

fn error(layers: &str) -> String {
    from_text(&format!("nc: 3\nbackbone:\n  - [-1, 1, Conv, [16, 3, 2]]\n{layers}")).unwrap_err().to_string()
}

#[test]
fn mistakes_name_their_line() {
    let e = error("  - [-1, 1, C3k3, [16]]\n");
    assert!(e.contains("line 4: the module C3k3 is not supported") && e.contains("did you mean C3k?"), "{e}");
    let e = error("  - [-1, 1, Conv, [16, 3, 2, null, 3]]\n");
    assert!(e.contains("line 4 (Conv): 3 groups do not divide 16 and 16 channels"), "{e}");
    let e = error("  - [-1, 1, Upsample, [2, nearest, 3, 4]]\n");
    assert!(e.contains("line 4 (Upsample): has 4 arguments, more than 3") && e.contains("takes [size, factor, mode]"), "{e}");
    let e = error("  - [-1, 1, C2PSA, [32]]\n");
    assert!(e.contains("line 4 (C2PSA): keeps the channels: it reads 16 and is to give 32"), "{e}");
    let e = error("  - [-1, 1, DWConv, [16, 31, 31]]\n  - [-1, 1, Conv, [16, 7, 1, 0]]\n");
    assert!(e.contains("line 5 (Conv): a window of 7 does not fit a map of 2"), "{e}");
    let e = error("  - [-1, 1, DepthwiseSeparable, [16, 3]]\n");
    assert!(e.contains("line 4 (DepthwiseSeparable): argument 2 (stride) must be 1 or 2, got 3"), "{e}");
    let e = error("  - [-1, 1, Detect, [nc, round]]\n");
    assert!(e.contains("line 4 (Detect): argument 2 (branches) must be conv, dwconv or separable, got round"), "{e}");
    let e = error("  - [-1, 1, DetectAnchors, [nc]]\n");
    assert!(e.contains("line 4 (DetectAnchors): has 1 levels, but 'anchors' lists 0"), "{e}");
    let e = error("  - [-1, 1, Detect, [nc]]\n  - [-1, 1, Conv, [16]]\n");
    assert!(e.contains("line 5 (Conv): reads a layer that has no feature map"), "{e}");
    let e = from_text("nc: 3\nanchors: 3\nbackbone: []\n").unwrap_err().to_string();
    assert!(e.contains("line 2") && e.contains("anchors must be a list"), "{e}");
    let e = from_text("nc: 3\nanchors:\n  - [10, 13, 16]\nbackbone: []\n").unwrap_err().to_string();
    assert!(e.contains("line 3") && e.contains("pairs of width and height"), "{e}");
    let e = from_text("nc: 3\nstrides: [4]\nbackbone:\n  - [-1, 1, Conv, [16, 3, 2]]\n  - [-1, 1, Detect, [nc]]\n").unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Format);
    assert!(e.to_string().contains("line 5 (Detect): expects a map of 1/4 of the image, [16, 16], got [32, 32]"), "{e}");
}

#[test]
fn strides_are_those_of_the_layers() {
    let layers = ["Conv, [16, 3, 2]", "C3k2, [16]", "Conv, [16, 3, 2]", "DWConv, [16, 3, 2]", "ResNetStem, [16]", "Bottleneck, [16]"];
    let layers: String = layers.iter().map(|l| format!("  - [-1, 1, {l}]\n")).collect();
    let m = from_text(&format!("nc: 3\nbackbone:\n{layers}head:\n  - [[1, 2, 5], 1, Detect, [nc]]\n")).unwrap();
    let head = m.task().detect().unwrap().head.clone().unwrap();
    assert_eq!(head.strides, [2, 4, 32]);
    // As Ultralytics writes YOLOv5.
    let text = "nc: 3\nanchors:\n  - [10, 13, 16, 30]\nbackbone:\n  - [-1, 1, Conv, [16, 3, 2]]\n  - [-1, 1, Detect, [nc, anchors]]\n";
    let m = from_text(text).unwrap();
    assert_eq!(m.task().detect().unwrap().anchors.as_ref().unwrap().anchors, [[[10.0, 13.0], [16.0, 30.0]]]);
}
