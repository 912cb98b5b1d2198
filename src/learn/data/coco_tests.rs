//! COCO annotations, well-formed and not; one dataset in three formats.

use super::*;
use crate::eval::{Evaluate, Evaluation, evaluate_with};
use compresso_base::Context;
use compresso_base::ErrorKind;
use compresso_exec::Outputs;
use compresso_model::{Decode, Detect, Task};
use rand::RngExt;
use serde_json::{Value, json};
use std::path::Path;
use tempfile::TempDir;

fn image(dir: &Path, name: &str, w: u32, h: u32) {
    let path = dir.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    image::RgbImage::from_pixel(w, h, image::Rgb([200, 100, 50])).save(path).unwrap();
}

fn file(dir: &Path, name: &str, text: impl AsRef<[u8]>) {
    let path = dir.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

fn open(path: &Path) -> Result<Dataset> {
    open_with(path, DataOptions::default())
}

fn open_with(path: &Path, options: DataOptions) -> Result<Dataset> {
    dataset(&path.display().to_string(), &options, &Context::new())
}

fn images() -> Value {
    json!([{ "id": 9, "file_name": "a.png", "width": 60, "height": 40 }, { "id": 3, "file_name": "b.png", "width": 20, "height": 20 }])
}

fn categories() -> Value {
    json!([{ "id": 18, "name": "dog" }, { "id": 2, "name": "cat", "supercategory": "animal" }])
}

fn annotations() -> Value {
    json!([
        { "id": 1, "image_id": 9, "category_id": 2, "bbox": [5.5, 6, 20, 10.25], "area": 205.0, "iscrowd": 0,
          "segmentation": [[5, 6, 25, 6, 25, 16]] },
        { "id": 2, "image_id": 9, "category_id": 18, "bbox": [30, 20, 40, 40], "segmentation": { "counts": "abc", "size": [40, 60] } },
    ])
}

fn coco(images: Value, annotations: Value, categories: Value) -> String {
    json!({ "info": { "year": 2026 }, "images": images, "licenses": [], "annotations": annotations, "categories": categories }).to_string()
}

/// A folder in COCO's own arrangement, with two splits.
fn folder() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    for name in ["train2017/a.png", "val2017/a.png"] {
        image(d, name, 60, 40);
    }
    for name in ["train2017/b.png", "val2017/b.png"] {
        image(d, name, 20, 20);
    }
    let text = coco(images(), annotations(), categories());
    file(d, "annotations/instances_train2017.json", &text);
    file(d, "annotations/instances_val2017.json", &text);
    file(d, "annotations/captions_val2017.json", "{\"images\": [], \"annotations\": [{\"caption\": \"a dog\"}]}");
    dir
}

#[test]
fn coco_opens_as_a_file_a_folder_and_by_a_yaml() {
    let dir = folder();
    let d = dir.path();
    file(d, "coco.yaml", "path: .\ntrain: annotations/instances_train2017.json\nval: annotations/instances_val2017.json\n");
    let one = open(&d.join("annotations/instances_val2017.json")).unwrap();
    assert_eq!((one.len(), one.splits.len(), one.kind), (2, 0, DataKind::Detection));
    for path in [d.to_path_buf(), d.join("coco.yaml")] {
        let data = open(&path).unwrap();
        assert_eq!(data.splits.iter().map(|(n, d)| (n.as_str(), d.len())).collect::<Vec<_>>(), [("train", 2), ("val", 2)]);
        assert_eq!(&*data.classes, ["cat".to_string(), "dog".to_string()], "by the ids of the categories");
        assert!(data.warnings.is_empty(), "{:?}", data.warnings);
        let s = data.split("val").unwrap().get(0).unwrap();
        assert!(s.name.ends_with("val2017/a.png"), "{}", s.name);
        let expected = [(0, [5.5, 6.0, 25.5, 16.25]), (1, [30.0, 20.0, 60.0, 40.0])];
        let found: Vec<_> = s.targets.iter().map(|t| (t.class, [t.bbox.x1, t.bbox.y1, t.bbox.x2, t.bbox.y2])).collect();
        assert_eq!(found, expected, "the second is cut at the edge");
        assert!(data.get(1).unwrap().targets.is_empty(), "an image without annotations is kept");
    }
    // The order of a description counts.
    file(d, "coco.yaml", "train: annotations/instances_train2017.json\nnames: [dog, cat]\n");
    let data = open(&d.join("coco.yaml")).unwrap();
    assert_eq!(data.get(0).unwrap().targets[0].class, 1);
    file(d, "coco.yaml", "train: annotations/instances_train2017.json\nval: val2017\nnames: [dog, cat]\n");
    assert!(open(&d.join("coco.yaml")).unwrap_err().to_string().contains("some splits are JSON files and some are not"));
    let only = DataOptions { classes: Some(json!(["dog"])), ..DataOptions::default() };
    let data = open_with(d, only).unwrap();
    assert_eq!(data.get(0).unwrap().targets.len(), 1);
    assert!(data.warnings[0].contains("2 × object of class 'cat', which is not asked for, left out"), "{:?}", data.warnings);
    file(d, "annotations/instances_val2014.json", coco(images(), annotations(), categories()));
    let e = open(d).unwrap_err().to_string();
    assert!(e.contains("both instances_val2014.json and instances_val2017.json are for split 'val'"), "{e}");
}

#[test]
fn coco_images_are_found_in_the_usual_places_or_where_one_says() {
    let text = coco(images(), annotations(), categories());
    for (json, images) in [
        ("data.json", ""),
        ("data.json", "images"),
        ("labels/val.json", "images"),
        ("labels/val.json", "images/val"),
        ("labels/instances_val2017.json", "val2017"),
        ("valid/_annotations.coco.json", "valid"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        file(dir.path(), json, &text);
        image(&dir.path().join(images), "a.png", 60, 40);
        image(&dir.path().join(images), "b.png", 20, 20);
        let data = open(&dir.path().join(json)).unwrap();
        assert_eq!((data.len(), data.warnings.len()), (2, 0), "{json} {images}");
    }
    let dir = tempfile::tempdir().unwrap();
    file(dir.path(), "labels/val.json", &text);
    image(dir.path(), "far/away/a.png", 60, 40);
    let e = open(&dir.path().join("labels/val.json")).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Missing);
    assert!(e.to_string().contains("none of the images is there") && e.to_string().contains("image_folder"), "{e}");
    let far = DataOptions { image_folder: Some(dir.path().join("far/away").display().to_string()), ..DataOptions::default() };
    let data = open_with(&dir.path().join("labels/val.json"), far).unwrap();
    assert_eq!((data.len(), &*data.warnings), (1, &["1 × listed image that is not there, left out: b.png".to_string()][..]));
}

#[test]
fn coco_bad_entries_are_skipped_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    image(d, "a.png", 60, 40);
    image(d, "b.png", 20, 20);
    let images = json!([
        { "id": 9, "file_name": "a.png", "width": 60, "height": 40 },
        { "id": 9, "file_name": "b.png" },
        { "id": "x", "file_name": "b.png", "width": "20", "height": null },
        { "id": 5, "file_name": "../secret.png" },
        { "id": 6, "file_name": "/etc/secret.png" },
        { "id": 7, "file_name": "note.txt" },
        { "id": 8, "file_name": "lost.png" },
    ]);
    let box_of = |id: Value, bbox: Value| json!({ "id": id, "image_id": 9, "category_id": 2, "bbox": bbox });
    let annotations = json!([
        box_of(json!(1), json!([1, 1, 8, 8])),
        box_of(json!(1), json!([1, 1, 8, 8])),
        box_of(json!(1), json!([2, 2, 8, 8])),
        box_of(json!(2), json!([1, 1, 0, 8])),
        box_of(json!(3), json!([1, 1, 8, -2])),
        box_of(json!(4), json!([1, "x", 8, 8])),
        box_of(json!(5), json!([1, null, 8, 8])),
        box_of(json!(6), json!([60, 1, 8, 8])),
        box_of(json!(7), json!([-20, 1, 8, 8])),
        box_of(json!(8), json!([1, 1, 8])),
        box_of(json!(9), json!([1, 1, 8, 8, 8])),
        box_of(json!(10), json!([])),
        box_of(json!(11), json!(null)),
        { "image_id": 77, "category_id": 2, "bbox": [1, 1, 8, 8] },
        { "image_id": 9, "category_id": 99, "bbox": [1, 1, 8, 8] },
        { "image_id": 9, "category_id": 2, "bbox": [1, 1, 8, 8], "iscrowd": 1 },
        { "image_id": "x", "category_id": 2.0, "bbox": ["3", 3, 4.5, 4] },
    ]);
    let categories = json!([
        { "id": 0, "name": "animals", "supercategory": "none" },
        { "id": 2, "name": "cat", "supercategory": "animals" },
        { "id": 2, "name": "dog", "supercategory": "animals" },
    ]);
    file(d, "data.json", coco(images, annotations, categories));
    let data = open(&d.join("data.json")).unwrap();
    let expected = [
        "1 × category that only names a group, left out: categories[0] (animals)",
        "1 × category that repeats an id, skipped: categories[2] (dog)",
        "1 × image that repeats an id, skipped: images[1] (b.png)",
        "1 × annotation that repeats another, skipped: data.json: annotations[1]",
        "1 × annotation with the id of another, kept: data.json: annotations[2]",
        "2 × box without area, skipped: data.json: annotations[3], data.json: annotations[4]",
        "2 × box with a coordinate that is no number, skipped: data.json: annotations[5], data.json: annotations[6]",
        "2 × box outside its image, skipped: data.json: annotations[7], data.json: annotations[8]",
        "4 × annotation without a box of four numbers, skipped: data.json: annotations[9], data.json: annotations[10], \
         data.json: annotations[11], data.json: annotations[12]",
        "1 × annotation of an image that is not listed, skipped: data.json: annotations[13]",
        "1 × annotation of a category that is not listed, skipped: data.json: annotations[14]",
        "2 × image whose name leads out of its folder, left out: ../secret.png, /etc/secret.png",
        "1 × image of an unknown kind, left out: note.txt",
        "1 × listed image that is not there, left out: lost.png",
    ];
    assert_eq!(data.warnings.to_vec(), expected);
    assert_eq!((&*data.classes, data.len()), (&["cat".to_string()][..], 2));
    assert_eq!((data.get(0).unwrap().targets.len(), data.get(1).unwrap().targets.len()), (2, 1));
}

#[test]
fn coco_files_that_are_none_name_line_and_key() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data.json");
    image(dir.path(), "a.png", 60, 40);
    let deep = format!("{{\"info\": {}{}, \"images\": []}}", "[".repeat(200_000), "]".repeat(200_000));
    let nested = format!("{{\"annotations\": [{{\"bbox\": {}", "[".repeat(5000));
    for (text, parts) in [
        ("", &["EOF while parsing a value at line 1 column 0"][..]),
        ("[{\"image_id\": 1, \"bbox\": [1, 2, 3, 4], \"score\": 0.5}]", &["expected a map with images, annotations and categories"]),
        ("{\"images\": [\n {\"id\": 1,\n \"file_name\": 7}]}", &["images[0].file_name", "invalid type: integer `7`", "line 3 column"]),
        ("{\"images\": [\n {\"id\": 1}\n]}", &["images[0]", "the field 'file_name' is missing", "line 3"]),
        ("{\"images\": {\"id\": 1}}", &["images", "expected a list"]),
        ("{\"annotations\": [3]}", &["annotations[0]", "expected a map"]),
        ("{\"annotations\": [{\"image_id\": 1.5}]}", &["annotations[0].image_id", "1.5 is no whole number"]),
        ("{\"annotations\": [{\"image_id\": 1, \"category_id\": 1, \"bbox\": 5}]}", &["annotations[0].bbox", "a list of four numbers"]),
        ("{\"annotations\": [{\"image_id\": 99999999999999999999}]}", &["annotations[0].image_id", "line 1"]),
        ("{\"annotations\": [{\"image_id\": 1, \"bbox\": [NaN", &["annotations[0].bbox", "expected value at line 1"]),
        ("{\"annotations\": [{\"image_id\": 1, \"category_id\": 1}], \"categories\": [{\"id\": 1}]}", &["categories[0]", "'name'"]),
        ("{\"images\": [], \"annotations\": [], \"categories\": [{\"id\": 1, \"name\": \"a\"}]} x", &["trailing characters at line 1"]),
        ("{\"images\": [], \"annotations\": [], \"categories\": [{\"id\": 1, \"name\": \"a\"}]}", &["there are no images"]),
        ("{\"images\": [{\"id\": 1, \"file_name\": \"a.png\"}], \"annotations\": []}", &["there are no categories"]),
        (&deep, &["there are no images"]),
        (&nested, &["annotations[0].bbox", "line 1 column"]),
    ] {
        std::fs::write(&path, text).unwrap();
        let e = open(&path).expect_err("must fail");
        let shown = e.to_string();
        let start: String = text.chars().take(80).collect();
        assert_eq!(e.kind(), ErrorKind::Format, "{start}: {shown}");
        for part in parts.iter().chain(&["data.json"]) {
            assert!(shown.contains(part), "no '{part}' for {start}: {shown}");
        }
    }
    std::fs::write(&path, b"{\"images\": [{\"id\": 1, \"file_name\": \"\xff\xfe\"}]}").unwrap();
    assert!(open(&path).unwrap_err().to_string().contains("images[0].file_name"));
    // As of a test set: images without annotations are a dataset without labels.
    std::fs::write(&path, "{\"images\": [{\"id\": 1, \"file_name\": \"a.png\"}], \"categories\": []}").unwrap();
    assert_eq!(open(&path).unwrap().kind, DataKind::Unlabelled);
    let two = |name: &str, cat: &str| {
        let images = json!([{ "id": 1, "file_name": "a.png" }]);
        file(dir.path(), name, coco(images, json!([]), json!([{ "id": 1, "name": cat }])));
    };
    two("annotations/train.json", "cat");
    two("annotations/val.json", "dog");
    std::fs::remove_file(&path).unwrap();
    let e = open(dir.path()).unwrap_err().to_string();
    assert!(e.contains("category 1 is 'cat' in one file and 'dog' in another") && e.contains("val.json"), "{e}");
}

#[test]
fn cut_and_changed_coco_files_are_errors_or_warnings() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data.json");
    image(dir.path(), "a.png", 60, 40);
    image(dir.path(), "b.png", 20, 20);
    let text = coco(images(), annotations(), categories()).into_bytes();
    for cut in 0..text.len() {
        std::fs::write(&path, &text[..cut]).unwrap();
        let e = open(&path).expect_err("cut");
        assert_eq!(e.kind(), ErrorKind::Format, "{e}");
    }
    let mut r = rng::rng(1, &[2]);
    for _ in 0..500 {
        let mut bad = text.clone();
        for _ in 0..r.random_range(1..4) {
            let at = r.random_range(0..bad.len());
            bad[at] = *b"0{}[]\",:x\xff-e.".get(r.random_range(0..13usize)).unwrap();
        }
        std::fs::write(&path, &bad).unwrap();
        if let Err(e) = open(&path) {
            assert!(matches!(e.kind(), ErrorKind::Format | ErrorKind::Missing), "{e}");
        }
    }
}

/// Drawn shapes as PNG files, with their boxes in the form of Pascal VOC.
fn write_voc(data: &Dataset, root: &Path) {
    for (split, part) in data.splits.iter() {
        let mut names = String::new();
        for i in 0..part.len() {
            let s = part.get(i).unwrap();
            let name = format!("{split}{i}");
            file(root, &format!("JPEGImages/{name}.png"), "");
            s.image.save(root.join(format!("JPEGImages/{name}.png"))).unwrap();
            let object = |t: &GroundTruth| {
                let b = t.bbox;
                let sides = [("xmin", b.x1), ("ymin", b.y1), ("xmax", b.x2), ("ymax", b.y2)].map(|(n, v)| format!("<{n}>{v}</{n}>"));
                format!("<object><name>{}</name><bndbox>{}</bndbox></object>", data.classes[t.class], sides.concat())
            };
            let objects: String = s.targets.iter().map(object).collect();
            let size = format!("<size><width>{}</width><height>{}</height></size>", s.image.width(), s.image.height());
            file(root, &format!("Annotations/{name}.xml"), format!("<annotation>{size}{objects}</annotation>"));
            names += &format!("{name}\n");
        }
        file(root, &format!("ImageSets/Main/{split}.txt"), names);
    }
}

fn detector(classes: Vec<String>) -> Detect {
    Detect { classes, image_size: [96, 96], decode: Decode::Yolo { output: "o".into() }, head: None, anchors: None }
}

/// Judges a detector that is near the truth of `truth`: boxes are moved by up to a fifth, some classes are wrong, some boxes
/// are missing, some are made up.
fn judge(truth: &Dataset, data: &Dataset) -> Evaluation {
    let truth = truth.for_evaluation();
    let (classes, anchors) = (truth.classes.len(), 12);
    let mut from = 0;
    let mut run = |images: &Tensor| {
        let n = images.dim(0)?;
        let mut values = vec![0f32; n * (4 + classes) * anchors];
        for i in 0..n {
            let s = truth.get(from + i)?;
            let fit = Letterbox::fit(s.image.dimensions(), [96, 96]);
            let mut r = rng::rng(5, &[(from + i) as u64]);
            let mut found: Vec<(usize, BBox)> = s.targets.iter().map(|t| (t.class, t.bbox)).collect();
            found.push((0, BBox { x1: 10.0, y1: 10.0, x2: 40.0, y2: 30.0 }));
            for (a, (class, b)) in found.into_iter().enumerate().filter(|_| r.random_bool(0.9)).take(anchors).collect::<Vec<_>>() {
                let mut moved = |v: f32, side: f32| v + side * r.random_range(-0.12..0.12f32);
                let (w, h) = (b.width(), b.height());
                let b = BBox { x1: moved(b.x1, w), y1: moved(b.y1, h), x2: moved(b.x2, w), y2: moved(b.y2, h) };
                let class = if r.random_bool(0.1) { (class + 1) % classes } else { class };
                let at = |row: usize| (i * (4 + classes) + row) * anchors + a;
                for (row, v) in fit.forward(b).to_centre().into_iter().enumerate() {
                    values[at(row)] = v;
                }
                values[at(4 + class)] = r.random_range(0.2..0.9);
            }
        }
        from += n;
        let tensor = Tensor::from_vec(values, (n, 4 + classes, anchors), &candle_core::Device::Cpu)?;
        Ok(Outputs::from([("o".to_string(), compresso_model::Value::plain(tensor)?)]))
    };
    let task = Task::Detect(detector(truth.classes.to_vec()));
    evaluate_with(&mut run, &task, data, &Evaluate { batch: 5, ..Evaluate::default() }, &Context::new()).unwrap()
}

#[test]
fn three_formats_of_one_dataset_are_judged_alike() {
    let ctx = Context::new();
    // Sides that make scales and relative coordinates odd numbers.
    let options = DataOptions { images: Some(4), size: Some(json!([117, 163])), seed: Some(3), ..DataOptions::default() };
    let drawn = dataset("shapes", &options, &ctx).unwrap();
    let dir = tempfile::tempdir().unwrap();
    write_voc(&drawn, &dir.path().join("voc"));
    let yaml = drawn.export(dir.path().join("yolo/data.yaml"), &ctx).unwrap();
    let json = drawn.export(dir.path().join("coco/annotations.json"), &ctx).unwrap();
    assert_eq!((yaml.len(), json.len()), (1, 2));
    let reference = judge(&drawn, &drawn);
    let map = reference.map.unwrap();
    assert!(map > 0.2 && map < 0.9 && reference.per_class.len() == 3, "a figure that differences would move: {map}");
    // A conversion of each by the writer of the other.
    open(&yaml[0]).unwrap().export(dir.path().join("coco2/annotations.json"), &ctx).unwrap();
    open(&dir.path().join("coco")).unwrap().export(dir.path().join("yolo2/data.yaml"), &ctx).unwrap();
    open(&dir.path().join("voc")).unwrap().export(dir.path().join("yolo3/data.yaml"), &ctx).unwrap();
    let numbers = |e: &Evaluation| {
        let mut v: Vec<f64> = [e.map50, e.map, e.precision, e.recall, e.confidence].map(Option::unwrap).to_vec();
        for c in &e.per_class {
            v.extend([c.objects as f64, c.map50.unwrap(), c.map.unwrap(), c.precision, c.recall]);
            v.extend(&c.curve);
        }
        v
    };
    for name in ["voc", "yolo", "coco", "coco2", "yolo2", "yolo3"] {
        let data = open(&dir.path().join(name)).unwrap();
        assert!(data.warnings.is_empty(), "{name}: {:?}", data.warnings);
        assert_eq!((&data.classes, data.split("val").unwrap().len()), (&drawn.classes, 8), "{name}");
        for (a, b) in numbers(&judge(&drawn, &data)).iter().zip(numbers(&reference)) {
            assert!((a - b).abs() < 1e-12, "{name}: {a} instead of {b}");
        }
        for i in 0..8 {
            let (a, b) = (data.split("val").unwrap().get(i).unwrap(), drawn.split("val").unwrap().get(i).unwrap());
            assert_eq!(a.image, b.image, "{name}");
            for (t, e) in a.targets.iter().zip(&b.targets) {
                let apart = [t.bbox.x1 - e.bbox.x1, t.bbox.y1 - e.bbox.y1, t.bbox.x2 - e.bbox.x2, t.bbox.y2 - e.bbox.y2];
                assert!(t.class == e.class && apart.iter().all(|d| d.abs() < 2e-5), "{name}: {t:?} {e:?}");
            }
        }
    }
}

#[test]
fn crowds_and_areas_of_coco_count_as_in_its_own_evaluation() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    image(d, "a.png", 96, 96);
    let write = |crowd: i32| {
        let annotations = json!([
            { "id": 1, "image_id": 1, "category_id": 1, "bbox": [4, 4, 40, 40], "area": 900, "iscrowd": 0 },
            { "id": 2, "image_id": 1, "category_id": 1, "bbox": [50, 50, 46, 46], "area": 2000, "iscrowd": crowd },
        ]);
        let images = json!([{ "id": 1, "file_name": "a.png", "width": 96, "height": 96 }]);
        file(d, "data.json", coco(images, annotations, json!([{ "id": 1, "name": "cat" }])));
        open(&d.join("data.json")).unwrap()
    };
    // One detection is the object, a surer one lies in the crowd.
    let judge = |data: &Dataset| {
        let mut run = |_: &Tensor| {
            let rows = [[24f32, 60.0], [24.0, 60.0], [40.0, 12.0], [40.0, 12.0], [0.5, 0.9]];
            let tensor = Tensor::new(&[rows], &candle_core::Device::Cpu)?;
            Ok(Outputs::from([("o".to_string(), compresso_model::Value::plain(tensor)?)]))
        };
        let task = Task::Detect(detector(vec!["cat".into()]));
        evaluate_with(&mut run, &task, data, &Evaluate { batch: 1, ..Evaluate::default() }, &Context::new()).unwrap()
    };
    let data = write(1);
    let s = data.get(0).unwrap();
    assert_eq!((s.targets.len(), data.warnings.len(), data.counts()), (1, 0, Some(vec![1])), "a crowd is no object");
    let e = judge(&data);
    assert!((e.map50.unwrap() - 1.0).abs() < 1e-12, "{:?}", e.map50);
    let figures = e.coco.unwrap();
    assert!(figures.map_small.is_some_and(|m| m > 0.999) && figures.map_medium.is_none(), "by the stated area: {figures:?}");
    let without = judge(&write(0));
    assert!(without.map50.unwrap() < 0.9, "{:?}", without.map50);
    // Both survive being written.
    let again = write(1).export(d.join("out/data.json"), &Context::new()).unwrap().remove(0);
    let size = (96, 96);
    assert_eq!(open(&again).unwrap().source.regions_of(0, size), data.source.regions_of(0, size));
    assert_eq!(data.take(1).source.regions_of(0, size).unwrap().len(), 2);
}

#[test]
fn only_boxes_are_exported_and_names_do_not_collide() {
    let ctx = Context::new();
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    let options = DataOptions { task: DataTask::Classify, images: Some(2), ..DataOptions::default() };
    let e = dataset("shapes", &options, &ctx).unwrap().export(d.join("x.yaml"), &ctx).unwrap_err();
    assert!(e.kind() == ErrorKind::Unsupported && e.to_string().contains("only datasets with boxes"), "{e}");
    let data = dataset("shapes", &DataOptions { images: Some(2), ..DataOptions::default() }, &ctx).unwrap();
    assert_eq!(data.export(d.join("x.xml"), &ctx).unwrap_err().kind(), ErrorKind::Argument);
    for name in ["one/a.png", "two/a.png"] {
        image(d, name, 30, 20);
    }
    file(d, "one/a.txt", "0 0.5 0.5 0.2 0.2");
    file(d, "two/a.txt", "1 0.5 0.5 0.4 0.4");
    file(d, "data.yaml", "train: [one, two]\nnames: [\"a: #b\", 'it''s']\n");
    open(d).unwrap().export(d.join("out/data.yaml"), &ctx).unwrap();
    let again = open(&d.join("out")).unwrap();
    assert_eq!(&*again.classes, ["a: #b".to_string(), "it's".to_string()]);
    let classes: Vec<usize> = (0..2).map(|i| again.get(i).unwrap().targets[0].class).collect();
    assert_eq!((again.len(), classes), (2, vec![0, 1]));
    let stopped = Context::new();
    stopped.cancel.cancel();
    assert!(again.export(d.join("no/data.yaml"), &stopped).unwrap_err().is_cancelled());
    assert!(!d.join("no/data.yaml").exists());
}
