//! Datasets on disk, well-formed and not.

use super::*;
use compresso_base::Context;
use compresso_base::ErrorKind;
use std::path::Path;
use tempfile::TempDir;

fn image(dir: &Path, name: &str, w: u32, h: u32) {
    let path = dir.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    image::RgbImage::from_pixel(w, h, image::Rgb([200, 100, 50])).save(path).unwrap();
}

fn file(dir: &Path, name: &str, text: &str) {
    let path = dir.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

fn open(path: &Path) -> Result<Dataset> {
    dataset(&path.display().to_string(), &DataOptions::default(), &Context::new())
}

fn open_with(path: &Path, options: &DataOptions) -> Result<Dataset> {
    dataset(&path.display().to_string(), options, &Context::new())
}

fn fails(path: &Path, kind: ErrorKind, parts: &[&str]) {
    let e = open(path).expect_err("must fail");
    let text = e.to_string();
    assert_eq!(e.kind(), kind, "{text}");
    for part in parts {
        assert!(text.contains(part), "no '{part}' in: {text}");
    }
}

fn warns(data: &Dataset, parts: &[&str]) {
    for part in parts {
        assert!(data.warnings.iter().any(|w| w.contains(part)), "no '{part}' in {:#?}", data.warnings);
    }
    assert_eq!(data.warnings.len(), parts.len(), "{:#?}", data.warnings);
}

const YAML: &str = "path: .\ntrain: images/train\nval: images/val\nnames:\n  0: cat\n  1: dog\n";

fn yolo() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    file(d, "data.yaml", YAML);
    image(d, "images/train/a.png", 100, 50);
    image(d, "images/train/b.png", 20, 20);
    image(d, "images/val/c.png", 40, 40);
    file(d, "labels/train/a.txt", "1 0.4 0.3 0.6 0.3 0.6 0.7 0.4 0.7\n0 0.1 0.2 0.3 0.2 0.3 0.6 0.2 0.9\n");
    file(d, "labels/train/b.txt", "");
    file(d, "labels/val/c.txt", "0 0.5 0.5 1 1\n");
    dir
}

#[test]
fn yolo_boxes_and_polygons_become_pixels() {
    let dir = yolo();
    for path in [dir.path().to_path_buf(), dir.path().join("data.yaml")] {
        let data = open(&path).unwrap();
        assert_eq!((data.kind, &*data.classes), (DataKind::Detection, &["cat".to_string(), "dog".to_string()][..]));
        warns(&data, &[]);
        let train = data.split("train").unwrap();
        assert_eq!((train.len(), data.split("val").unwrap().len()), (2, 1));
        let a = train.get(0).unwrap();
        let expected = [(1, [40.0, 15.0, 60.0, 35.0]), (0, [10.0, 10.0, 30.0, 45.0])];
        assert_eq!(a.targets.len(), 2);
        for (t, (class, sides)) in a.targets.iter().zip(expected) {
            let b = [t.bbox.x1, t.bbox.y1, t.bbox.x2, t.bbox.y2];
            assert!(t.class == class && b.iter().zip(sides).all(|(x, e)| (x - e).abs() < 1e-4), "{t:?}");
        }
        assert!(train.get(1).unwrap().targets.is_empty());
        assert!(train.get(2).unwrap_err().to_string().contains("there is no image 2"));
    }
}

#[test]
fn yolo_lists_list_files_patterns_and_other_spellings_are_read() {
    let dir = yolo();
    let d = dir.path();
    file(d, "lists/train.txt", "../images/train/a.png\n\n../images/train/b.png\n../images/train/lost.png\n");
    file(d, "data.yaml", "train: [lists/train.txt, images/val]\nvalid: ../images/val\ntest: images/test\nnc: 2\nnames: [cat, dog]\n");
    let data = open(d).unwrap();
    assert_eq!(data.split("train").unwrap().len(), 3);
    assert_eq!(data.split("val").unwrap().len(), 1);
    warns(&data, &["1 × listed image that is not there, left out: lost.png", "1 × split that is not there, left out: test"]);
    file(d, "data.yaml", "path: /nowhere/at/all\ntrain: images/*/?.png\nnc: 2\n");
    let data = open(d).unwrap();
    assert_eq!((data.len(), &*data.classes), (3, &["0".to_string(), "1".to_string()][..]));
}

/// What the Ultralytics trainer (8.4) makes of the same files, but for boxes without area, which it drops when it
/// augments.
#[test]
fn yolo_labels_are_taken_repaired_or_left_out_as_the_ultralytics_trainer_does() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    file(d, "data.yaml", "train: images\nnames: [cat, dog]\n");
    let good = "0 .5 .5 .25 .5";
    let cases: &[(&str, &[&str], Option<usize>)] = &[
        // Taken.
        ("box", &[good], Some(1)),
        ("blank", &["", good, "   ", ""], Some(1)),
        ("carriage", &["0\t.5 .5  .25 .5 \r", "\r", "1 .2 .2 .1 .1\r"], Some(2)),
        ("mark", &["\u{feff}0 .5 .5 .25 .5"], Some(1)),
        ("float_class", &["1.0 .5 .5 .1 .1", "1e0 .4 .4 .1 .1"], Some(2)),
        ("empty", &[], Some(0)),
        ("edge", &["0 .5 .5 1.01 .5", "0 -.009 .5 .1 .1", "0 .98 .5 .25 .5"], Some(3)),
        ("polygons", &["0 .1 .1 .3 .1 .3 .3", "0 .1 .1 .3 .1 .3 .3 .2 .2"], Some(2)),
        ("same_box", &["0 .1 .1 .3 .1 .3 .3", "0 .1 .1 .1 .3 .3 .3"], Some(2)),
        ("polygon_out", &["0 -.1 .1 .3 .1 .3 .3"], Some(1)),
        ("two_classes", &[good, "1 .5 .5 .25 .5"], Some(2)),
        // Repaired.
        ("equal", &[good, good, "0 .500 0.50 .25 .5"], Some(1)),
        ("equal_apart", &[good, "0 .2 .2 .1 .1", good], Some(2)),
        ("equal_polygons", &["0 .1 .1 .3 .1 .3 .3", "0 .1 .1 .3 .1 .3 .3"], Some(1)),
        ("no_area", &[good, "0 .2 .5 0 .5"], Some(1)),
        ("only_no_area", &["0 .5 .5 .1 0"], Some(0)),
        ("beyond", &["0 1.005 .5 .005 .1", good], Some(1)),
        // Left out with their images.
        ("one_bad", &[good, "0 .5 .5 .25"], None),
        ("six", &["0 .5 .5 .25 .5 .9"], None),
        ("one", &["0"], None),
        ("commas", &["0,.5,.5,.25,.5"], None),
        ("remark", &["# labels", good], None),
        ("odd", &["0 .1 .1 .3 .1 .3 .3 .2"], None),
        ("class_above", &["2 .5 .5 .1 .1"], None),
        ("class_below", &["-1 .5 .5 .1 .1"], None),
        ("class_half", &["0.5 .5 .5 .1 .1"], None),
        ("class_word", &["cat .5 .5 .1 .1"], None),
        ("nan", &["0 nan .5 .1 .1"], None),
        ("inf", &["0 .5 inf .1 .1"], None),
        ("negative", &["0 .5 .5 -.005 .5"], None),
        ("out", &["0 .5 .5 1.02 .5"], None),
        ("below", &["0 -.011 .5 .1 .1"], None),
        ("pixels", &["0 50 32 20 20"], None),
        ("polygon_wide", &["0 .1 .1 1.3 .1 .3 .3"], None),
        ("mixed", &[good, "1 .1 .1 .3 .1 .3 .4"], None),
    ];
    for (name, lines, _) in cases {
        image(d, &format!("images/{name}.png"), 40, 20);
        file(d, &format!("labels/{name}.txt"), &(lines.join("\n") + "\n"));
    }
    std::fs::write(d.join("labels/utf16.txt"), [0xff, 0xfe, 0x30, 0]).unwrap();
    image(d, "images/utf16.png", 40, 20);
    image(d, "images/none.png", 40, 20);
    file(d, "images/film.gif", "GIF89a");
    file(d, "labels/lost.txt", good);
    file(d, "labels/classes.txt", "cat\ndog\n");
    let data = open(d).unwrap();
    let stem = |i: usize| data.source.file_of(i).unwrap().file_stem().unwrap().to_string_lossy().into_owned();
    let found: std::collections::BTreeMap<String, usize> = (0..data.len()).map(|i| (stem(i), data.get(i).unwrap().targets.len())).collect();
    let right = cases.iter().filter_map(|(name, _, n)| Some((name.to_string(), (*n)?))).chain([("none".to_string(), 0)]).collect();
    assert_eq!(found, right);
    warns(
        &data,
        &[
            "1 × .gif file, which is not read, left out: film.gif",
            "2 × line with a coordinate that is no number, its image left out: inf.txt:1, nan.txt:1",
            "4 × line that repeats another, skipped",
            "1 × box outside its image, skipped: beyond.txt:1",
            "4 × line with a coordinate outside 0 to 1, its image left out: below.txt:1, out.txt:1, pixels.txt:1, polygon_wide.txt:1",
            "1 × line with a class above 1, its image left out: class_above.txt:1",
            "3 × line whose class is no whole number, its image left out: class_below.txt:1, class_half.txt:1, class_word.txt:1",
            "6 × line without 5 columns (or a polygon's 7, 9, …), its image left out: commas.txt:1, odd.txt:1, one.txt:1, one_bad.txt:2, \
             remark.txt:1 and 1 more",
            "1 × label file of both boxes and polygons, its image left out: mixed.txt:2",
            "1 × line with a negative size, its image left out: negative.txt:1",
            "2 × box without area, skipped: no_area.txt:2, only_no_area.txt:1",
            "1 × image of 'train' without label file, taken as empty: none.png",
            "1 × label file that cannot be read, its image left out: utf16.txt (the file is not UTF-8 text)",
            "1 × label file without image, left out: lost.txt",
        ],
    );
    let edge = (0..data.len()).find(|&i| stem(i) == "edge").unwrap();
    let b = data.get(edge).unwrap().targets[2].bbox;
    assert_eq!((b.x2, b.y2), (40.0, 15.0), "cut at the image's edge");
    file(d, "list.txt", "images/pixels.png\nimages/film.gif\n");
    file(d, "data.yaml", "train: list.txt\nnames: [cat, dog]\n");
    fails(&d.join("data.yaml"), ErrorKind::Missing, &["none of the 2 images of 'train' can be used", "outside 0 to 1", "pixels.txt:1"]);
}

/// As the Ultralytics trainer, which takes cut JPEG files and tiny images out.
#[test]
fn cut_off_and_tiny_images_are_left_out_when_met_and_found_by_check() {
    let dir = yolo();
    let d = dir.path();
    let shades = image::RgbImage::from_fn(60, 40, |x, y| image::Rgb([(x * 41 % 256) as u8, (y * 77 % 256) as u8, 9]));
    let jpeg = |quality| {
        let mut bytes = Vec::new();
        shades.write_with_encoder(image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, quality)).unwrap();
        bytes
    };
    let whole = jpeg(95);
    for (name, bytes) in [
        ("third.jpg", &whole[..whole.len() / 3]),
        ("no_end.JPG", &whole[..whole.len() - 2]),
        ("whole.jpeg", &whole[..]),
        ("more.jpg", &[&whole[..], b"\0\0and more"].concat()),
    ] {
        std::fs::write(d.join("images/train").join(name), bytes).unwrap();
    }
    for (name, w, h) in [("low.png", 40, 9), ("thin.png", 9, 40), ("least.png", 10, 10), ("plain.tif", 60, 40)] {
        image(d, &format!("images/train/{name}"), w, h);
    }
    for name in ["third", "no_end", "whole", "more", "low", "thin", "least", "plain"] {
        file(d, &format!("labels/train/{name}.txt"), "0 .5 .5 .5 .5\n");
    }
    let train = open(d).unwrap().split("train").unwrap();
    assert_eq!(train.len(), 10);
    let bad: Vec<String> = (0..train.len()).filter_map(|i| train.get(i).err()).map(|e| e.to_string()).collect();
    assert_eq!(bad.len(), 4, "{bad:#?}");
    for part in
        ["the image is 40×9 pixels, less than 10", "9×40", "third.jpg: not a readable image: the JPEG file is cut off", "no_end.JPG"]
    {
        assert!(bad.iter().any(|e| e.contains(part)), "no '{part}' in {bad:#?}");
    }
    let options = || LoaderOptions { batch: 10, size: [32, 32], ..LoaderOptions::default() };
    let mut loader = Loader::new(&train, options(), &Context::new()).unwrap();
    assert_eq!((loader.next().unwrap().unwrap().indices.len(), loader.skipped()), (6, 4));
    let checked = open_with(d, &DataOptions { check: true, ..DataOptions::default() }).unwrap();
    assert_eq!(checked.split("train").unwrap().len(), 6);
    assert!(checked.warnings.iter().any(|w| w.starts_with("4 × image that cannot be used, left out: low.png (the image is 40×9")));
    // Without labels nothing is asked of the size.
    assert_eq!(open(&d.join("images/train/*.png")).unwrap().len(), 5);
    assert!(open(&d.join("images/train/low.png")).unwrap().get(0).is_ok());
}

#[test]
fn yolo_bad_descriptions_are_errors() {
    let dir = yolo();
    let d = dir.path();
    let yaml = d.join("data.yaml");
    for (text, kind, part) in [
        ("", ErrorKind::Format, "expected a map"),
        ("- 1\n- 2\n", ErrorKind::Format, "expected a map"),
        ("train: [a\nnames", ErrorKind::Format, "not valid YAML"),
        ("train: images/train\n", ErrorKind::Format, "the class names are missing"),
        ("train: images/train\nnames: []\n", ErrorKind::Format, "there are no classes"),
        ("train: images/train\nnames: 3\n", ErrorKind::Format, "expected a list or a map"),
        ("train: images/train\nnames: {0: a, 2: b}\n", ErrorKind::Format, "without gaps"),
        ("train: images/train\nnc: 3\nnames: [a, b]\n", ErrorKind::Format, "'nc' is 3, but there are 2 names"),
        ("train: images/train\nnc: -1\n", ErrorKind::Format, "'nc'"),
        ("names: [a]\n", ErrorKind::Format, "neither 'train' nor 'val'"),
        ("train: images/trian\nnames: [a, b]\n", ErrorKind::Missing, "'train': there is no 'images/trian'"),
        ("train: 7\nnames: [a, b]\n", ErrorKind::Format, "expected a folder"),
        ("train: labels\nnames: [a, b]\n", ErrorKind::Missing, "no images in 'labels'"),
    ] {
        std::fs::write(&yaml, text).unwrap();
        fails(&yaml, kind, &["data.yaml", part]);
    }
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for i in 1..12 {
        bomb += &format!("a{i}: &a{i} [{}]\n", vec![format!("*a{}", i - 1); 9].join(", "));
    }
    std::fs::write(&yaml, bomb).unwrap();
    fails(&yaml, ErrorKind::Unsupported, &["aliases"]);
    std::fs::remove_file(&yaml).unwrap();
    fails(d, ErrorKind::Missing, &["needs a data.yaml"]);
    fails(&d.join("nothing"), ErrorKind::Missing, &["there is no dataset"]);
    fails(Path::new("shaeps"), ErrorKind::Missing, &["did you mean \"shapes\"?"]);
}

fn xml(objects: &str) -> String {
    format!("<annotation>\n<filename>x.png</filename>\n<size><width>60</width><height>40</height></size>\n{objects}\n</annotation>\n")
}

fn object(name: &str, sides: [&str; 4], more: &str) -> String {
    let [a, b, c, d] = sides;
    let corners = format!("<xmin>{a}</xmin><ymin>{b}</ymin><xmax>{c}</xmax><ymax>{d}</ymax>");
    format!("<object><name>{name}</name>{more}<bndbox>{corners}</bndbox></object>")
}

fn voc() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path().join("VOC2007");
    for id in ["a", "b", "c"] {
        image(&d, &format!("JPEGImages/{id}.png"), 60, 40);
        file(&d, &format!("Annotations/{id}.xml"), &xml(&object("dog", ["5", "6", "25", "26"], "")));
    }
    file(&d, "ImageSets/Main/train.txt", "a\nb 1\n");
    file(&d, "ImageSets/Main/test.txt", "c\n");
    dir
}

#[test]
fn voc_folders_load_with_their_splits_also_from_above() {
    let dir = voc();
    for path in [dir.path().to_path_buf(), dir.path().join("VOC2007")] {
        let data = open(&path).unwrap();
        warns(&data, &[]);
        assert_eq!(data.splits.iter().map(|(n, d)| (n.as_str(), d.len())).collect::<Vec<_>>(), [("train", 2), ("test", 1)]);
        let s = data.split("test").unwrap().get(0).unwrap();
        let bbox = BBox { x1: 5.0, y1: 6.0, x2: 25.0, y2: 26.0 };
        assert_eq!(s.targets, [GroundTruth { class: 0, bbox }]);
        assert_eq!(data.for_evaluation().split, "test");
    }
    std::fs::remove_dir_all(dir.path().join("VOC2007/ImageSets")).unwrap();
    let data = open(dir.path()).unwrap();
    assert_eq!((data.len(), data.splits.len()), (3, 0));
    assert!(data.split("val").unwrap_err().to_string().contains("it has no splits"));
}

#[test]
fn voc_bad_annotations_are_skipped_and_named() {
    let dir = voc();
    let d = dir.path().join("VOC2007");
    let objects = [
        object("dog", ["1", "1", "9", "9"], ""),
        object("cat", ["1", "1", "1", "9"], ""),
        object("cat", ["9", "9", "1", "1"], ""),
        object("cat", ["nan", "1", "9", "9"], ""),
        object("cat", ["70", "1", "90", "9"], ""),
        object("cat", ["1", "1", "9", "9"], "<difficult>1</difficult>"),
        "<object><bndbox/></object>".to_string(),
        object("cat", ["50", "30", "90", "90"], ""),
    ];
    file(&d, "Annotations/a.xml", &xml(&objects.join("\n")));
    file(&d, "Annotations/b.xml", "<annotation><object>");
    file(&d, "ImageSets/Main/test.txt", "c\nd\ne\n");
    file(&d, "Annotations/e.xml", &xml(""));
    let data = open(&d).unwrap();
    warns(
        &data,
        &[
            "2 × box without area, skipped: a.xml:5, a.xml:6",
            "1 × box with a coordinate that is no number, skipped: a.xml:7",
            "1 × box outside its image, skipped: a.xml:8",
            "1 × object marked difficult, left out: a.xml:9",
            "1 × object without a class name, skipped: a.xml:10",
            "1 × annotation that cannot be read, its image left out: b.xml",
            "1 × image without annotation file, left out: d",
            "1 × annotation without image file, left out: e.xml",
        ],
    );
    assert_eq!(&*data.classes, ["cat".to_string(), "dog".to_string()]);
    let s = data.split("train").unwrap().get(0).unwrap();
    assert_eq!(s.targets.len(), 2);
    assert_eq!(s.targets[1].bbox, BBox { x1: 50.0, y1: 30.0, x2: 60.0, y2: 40.0 }, "cut at the image's edge");
    let only = DataOptions { classes: Some(serde_json::json!(["dog"])), ..DataOptions::default() };
    let data = open_with(&d, &only).unwrap();
    assert_eq!(data.split("train").unwrap().get(0).unwrap().targets.len(), 1);
    assert!(data.warnings.iter().any(|w| w.contains("class 'cat', which is not asked for")));
    file(&d, "ImageSets/Main/val.txt", "nowhere\n");
    fails(&d, ErrorKind::Missing, &["split 'val' has no usable images"]);
    file(&d, "ImageSets/Main/val.txt", "../../secret\n");
    fails(&d, ErrorKind::Format, &["'../../secret' is not the name of an image", "val.txt"]);
}

#[test]
fn image_folders_are_classes_splits_or_plain_images() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    image(d, "cls/train/dog/1.png", 12, 12);
    image(d, "cls/train/cat/1.png", 12, 12);
    image(d, "cls/train/cat/2.jpg", 12, 12);
    image(d, "cls/valid/dog/1.png", 12, 12);
    std::fs::create_dir_all(d.join("cls/valid/cat")).unwrap();
    file(d, "cls/valid/dog/2.gif", "GIF89a");
    let data = open(&d.join("cls")).unwrap();
    assert_eq!((data.kind, &*data.classes), (DataKind::Classification, &["cat".to_string(), "dog".to_string()][..]));
    warns(&data, &["1 × class folder without images: val/cat", "1 × .gif file, which is not read, left out: 2.gif"]);
    let labels: Vec<_> = (0..3).map(|i| data.split("train").unwrap().get(i).unwrap().label.unwrap()).collect();
    assert_eq!(labels, [0, 0, 1]);
    assert_eq!(data.split("val").unwrap().get(0).unwrap().label, Some(1));
    let data = open(&d.join("cls/train")).unwrap();
    assert_eq!((data.kind, data.len(), data.splits.len()), (DataKind::Classification, 3, 0));
    let data = open(&d.join("cls/train/cat")).unwrap();
    assert_eq!((data.kind, data.len()), (DataKind::Unlabelled, 2));
    let data = open(&d.join("cls/*/dog/*.png")).unwrap();
    assert_eq!((data.kind, data.len()), (DataKind::Unlabelled, 2));
    std::fs::create_dir(d.join("empty")).unwrap();
    fails(&d.join("empty"), ErrorKind::Missing, &["no images found"]);
    file(d, "empty/a.heic", "x");
    fails(&d.join("empty"), ErrorKind::Missing, &["no images found", ".heic file, which is not read"]);
    file(d, "note.txt", "hello");
    fails(&d.join("note.txt"), ErrorKind::Argument, &["expected a data.yaml"]);
}

#[test]
fn corrupt_images_are_left_out_of_batches_and_counted() {
    let dir = yolo();
    std::fs::write(dir.path().join("images/train/b.png"), b"\x89PNG\r\n\x1a\nnonsense").unwrap();
    let data = open(dir.path()).unwrap();
    assert!(data.get(1).unwrap_err().to_string().contains("b.png"));
    let options = || LoaderOptions { batch: 2, size: [32, 32], ..LoaderOptions::default() };
    let mut loader = Loader::new(&data, options(), &Context::new()).unwrap();
    let batch = loader.next().unwrap().unwrap();
    assert_eq!((batch.indices, batch.images.dims()[0]), (vec![0], 1));
    assert!(loader.next().is_none());
    assert_eq!(loader.skipped(), 1);
    std::fs::write(dir.path().join("images/train/a.png"), b"").unwrap();
    let e = Loader::new(&data, options(), &Context::new()).unwrap().next().unwrap().unwrap_err();
    let text = e.to_string();
    assert!(text.contains("none of the 2 images") && text.contains("a.png: the image file is empty"), "{text}");
    std::fs::remove_file(dir.path().join("images/train/a.png")).unwrap();
    assert!(data.get(0).unwrap_err().to_string().contains("no such file"));
}
