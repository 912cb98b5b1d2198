use super::*;
use crate::data::{DataKind, DataOptions, GridOptions, Sample, Source, dataset};
use compresso_base::error::{Error, ErrorKind};
use compresso_base::report::Show;
use compresso_model::zoo::{self, ZooOptions};
use compresso_model::{Graph, Task};
use image::RgbImage;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

fn net() -> Model {
    let options = ZooOptions {
        classes: Some(["circle", "square", "triangle"].map(String::from).to_vec()),
        image_size: Some([64, 64]),
        width: Some(0.125),
        ..ZooOptions::default()
    };
    zoo::build("yolov8n", &options).unwrap()
}

fn ctx() -> Context {
    let mut ctx = Context::new();
    ctx.threads = 2;
    ctx
}

/// Low, so that an untrained model finds something.
fn low() -> Predict {
    Predict { confidence: 0.001, max_detections: 5, ..Predict::default() }
}

fn shapes(images: usize) -> Dataset {
    let options = DataOptions { images: Some(images), size: Some(serde_json::json!([48, 64])), ..DataOptions::default() };
    dataset("shapes", &options, &Context::new()).unwrap().split("train").unwrap()
}

#[test]
fn batches_and_one_thread_see_what_workers_see() {
    let (model, data) = (net(), shapes(9));
    let alone = low().run((&model, &data), &ctx()).unwrap();
    let batched = Predict { batch: 4, workers: 2, ..low() }.run((&model, &data), &ctx()).unwrap();
    let mut serial = Vec::new();
    let (throughput, _) = predict_serially(&model, &data, &low(), &ctx(), &mut |p, _| {
        serial.push(p);
        Ok(())
    })
    .unwrap();
    assert_eq!((throughput.count, throughput.workers, throughput.threads_per_worker), (9, 1, 1));
    let boxes = |all: &[Prediction]| -> Vec<(String, Vec<(usize, [i32; 4])>)> {
        let rounded = |f: &Found| (f.class, [f.bbox.x1, f.bbox.y1, f.bbox.x2, f.bbox.y2].map(|v| (v * 10.0).round() as i32));
        all.iter().map(|p| (p.name.clone(), p.detections.iter().map(rounded).collect())).collect()
    };
    assert_eq!(boxes(&batched.images), boxes(&alone.images));
    assert_eq!(boxes(&serial), boxes(&alone.images));
    assert!(boxes(&serial).iter().any(|b| !b.1.is_empty()));
    assert!(Predict { batch: 0, ..low() }.run((&model, &data), &ctx()).is_err());
}

#[test]
fn workers_change_nothing_but_the_time() {
    let (model, data) = (net(), shapes(9));
    let seen = |workers| Predict { workers, ..low() }.run((&model, &data), &ctx()).unwrap();
    let one = seen(1);
    assert_eq!(one.images.len(), 9);
    assert_eq!((one.throughput.workers, one.throughput.threads_per_worker), (1, 2));
    let names: Vec<String> = (0..9).map(|i| data.get(i).unwrap().name).collect();
    for workers in [0, 2, 5] {
        let other = seen(workers);
        assert!(other.images.iter().map(|p| &p.name).eq(&names), "in order");
        for (a, b) in one.images.iter().zip(&other.images) {
            assert_eq!(a.detections.len(), b.detections.len());
            for (a, b) in a.detections.iter().zip(&b.detections) {
                assert!(a.class == b.class && (a.score - b.score).abs() < 1e-5, "{a:?} became {b:?}");
            }
        }
    }
    assert!(one.images.iter().any(|p| !p.detections.is_empty()));
    let data = one.data();
    assert_eq!((&data["count"], data["images"].as_array().unwrap().len(), &data["cancelled"]), (&serde_json::json!(9), 9, &false.into()));
    assert!(data["images_per_second"].as_f64().unwrap() > 0.0 && data["run_ms"].as_f64().unwrap() > 0.0);
    // More images than have a table of their own.
    assert_eq!((one.tables().len(), one.tables()[0].rows.len()), (1, 9));
    assert!(one.notes().last().unwrap().starts_with("9 images in "));
    // The image is read again to be drawn.
    assert_eq!(one.images[3].draw().unwrap().dimensions(), (64, 48));
}

#[test]
fn a_folder_is_drawn_as_it_is_read_and_bad_images_are_skipped() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("in");
    std::fs::create_dir_all(root.join("sub")).unwrap();
    for (i, name) in ["a.png", "b.jpg", "c.png", "sub/a.png"].iter().enumerate() {
        RgbImage::from_pixel(40 + i as u32, 30, image::Rgb([100, 20 * i as u8, 3])).save(root.join(name)).unwrap();
    }
    std::fs::write(root.join("bad.jpg"), b"\xff\xd8\xff\xe0 not a picture").unwrap();
    let images = image_files_dataset(&[root.display().to_string()], &Context::new()).unwrap();
    let out = dir.path().join("out");
    let seen = Predict { save: Some(out.clone()), workers: 2, ..low() }.run((&net(), &images), &ctx()).unwrap();
    assert_eq!((seen.images.len(), seen.skipped.len(), seen.throughput.count), (4, 1, 4));
    assert!(seen.skipped[0].contains("bad.jpg") && seen.notes().iter().any(|n| n.starts_with("1 images skipped")), "{:?}", seen.notes());
    let mut files: Vec<String> = std::fs::read_dir(&out).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    files.sort();
    assert_eq!(files, ["a.jpg", "a_4.jpg", "b.jpg", "c.jpg"]);
    for p in &seen.images {
        let saved = p.saved.as_ref().unwrap();
        assert_eq!(image::image_dimensions(saved).unwrap(), (p.width, p.height), "{}", p.name);
    }
    assert!(seen.throughput.draw_ms > 0.0);
    // Nothing but a bad image is an error that says why.
    let bad = image_files_dataset(&[root.join("bad.jpg").display().to_string()], &Context::new()).unwrap();
    let e = low().run((&net(), &bad), &ctx()).unwrap_err();
    assert!(e.kind() == ErrorKind::Format && e.to_string().contains("none of the 1 images could be read"), "{e}");
    assert!(e.to_string().contains("not a readable image"), "{e}");
}

/// Counts what is read.
struct Counting {
    images: usize,
    read: AtomicUsize,
}

impl Source for Counting {
    fn len(&self) -> usize {
        self.images
    }
    fn get(&self, i: usize) -> compresso_base::error::Result<Sample> {
        self.read.fetch_add(1, Ordering::SeqCst);
        Ok(Sample { name: i.to_string(), image: RgbImage::new(20, 20), targets: Vec::new(), label: None })
    }
}

fn counting(images: usize) -> (Arc<Counting>, Dataset) {
    let source = Arc::new(Counting { images, read: AtomicUsize::new(0) });
    (source.clone(), Dataset::new("counting", DataKind::Unlabelled, Vec::new(), source))
}

#[test]
fn images_are_not_read_far_ahead_of_a_slow_reader() {
    let (source, data) = counting(60);
    let mut visited = 0;
    let mut most = 0;
    let (throughput, skipped) = predict_each(&net(), &data, &Predict { workers: 2, ..low() }, &ctx(), &mut |p, image| {
        assert_eq!((p.name.as_str(), image.dimensions()), (visited.to_string().as_str(), (20, 20)));
        std::thread::sleep(Duration::from_millis(3));
        visited += 1;
        most = most.max(source.read.load(Ordering::SeqCst) - visited);
        Ok(())
    })
    .unwrap();
    assert_eq!((visited, throughput.count, skipped.len()), (60, 60, 0));
    assert!(most <= 2 * 2 + 2, "{most} images in memory");
}

#[test]
fn cancelling_keeps_what_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let (source, data) = counting(5000);
    let ctx = ctx();
    let cancel = ctx.cancel.clone();
    let mut visited = 0;
    let options = Predict { save: Some(dir.path().join("out")), ..low() };
    let (throughput, _) = predict_each(&net(), &data, &options, &ctx, &mut |_, _| {
        visited += 1;
        if visited == 40 {
            cancel.cancel();
        }
        Ok(())
    })
    .unwrap();
    assert!(throughput.cancelled && throughput.count == 40, "{throughput:?}");
    assert!(source.read.load(Ordering::SeqCst) < 60);
    let files: Vec<_> = std::fs::read_dir(dir.path().join("out")).unwrap().map(|f| f.unwrap().path()).collect();
    assert!(files.len() > 20 && files.iter().all(|f| image::open(f).is_ok()), "{}", files.len());
    // A call that starts cancelled sees nothing.
    let seen = low().run((&net(), &data), &ctx).unwrap();
    assert!(seen.cancelled && seen.images.is_empty());
}

#[test]
fn failures_end_the_line() {
    let (_, data) = counting(50);
    let visit_fails = predict_each(&net(), &data, &low(), &ctx(), &mut |p, _| {
        if p.name == "7" { Err(Error::check("enough")) } else { Ok(()) }
    });
    assert_eq!(visit_fails.unwrap_err().message(), "enough");
    let unknown = Model::new(Graph::default(), Task::Unknown);
    let e = low().run((&unknown, &data), &ctx()).unwrap_err();
    assert!(e.to_string().starts_with("the model's task is not known"), "{e}");
    // The model and its task do not fit: the error names the image.
    let model = net();
    let mut task = model.task().detect().unwrap().clone();
    task.classes.pop();
    let e = low().run((&Model::new(model.graph().clone(), Task::Detect(task)), &data), &ctx()).unwrap_err();
    assert!(e.kind() == ErrorKind::Shape && e.to_string().contains("image "), "{e}");
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), b"").unwrap();
    let into_file = Predict { save: Some(dir.path().join("file")), ..low() };
    assert_eq!(into_file.run((&net(), &data), &ctx()).unwrap_err().kind(), ErrorKind::Argument);
}

/// A JPEG file that says by EXIF that it is to be turned a quarter to the right.
fn turned() -> Vec<u8> {
    let mut bytes = Vec::new();
    RgbImage::from_fn(40, 30, |x, _| image::Rgb([x as u8 * 6, 40, 90]))
        .write_to(&mut std::io::Cursor::new(&mut bytes), image::ImageFormat::Jpeg)
        .unwrap();
    let exif = b"\xff\xe1\x00\x22Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
    [&bytes[..2], &exif[..], &bytes[2..]].concat()
}

#[test]
fn images_are_turned_upright_whatever_their_kind_and_what_is_not_read_is_counted() {
    use image::{ImageBuffer, Luma};
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("in");
    std::fs::create_dir(&root).unwrap();
    std::fs::write(root.join("turned.jpg"), turned()).unwrap();
    ImageBuffer::from_pixel(20, 10, Luma([40_000_u16])).save(root.join("deep.tif")).unwrap();
    ImageBuffer::from_pixel(20, 10, Luma([40_000_u16])).save(root.join("deep.png")).unwrap();
    std::fs::write(root.join("film.gif"), b"GIF89a").unwrap();
    let images = image_files_dataset(&[root.display().to_string()], &Context::new()).unwrap();
    assert_eq!(*images.warnings, ["1 × .gif file, which is not read, left out: film.gif".to_string()]);
    let seen = Predict { save: Some(dir.path().join("out")), ..low() }.run((&net(), &images), &ctx()).unwrap();
    let sizes: Vec<(u32, u32)> = seen.images.iter().map(|p| (p.width, p.height)).collect();
    assert_eq!(sizes, [(20, 10), (20, 10), (30, 40)]);
    for p in &seen.images {
        let saved = image::open(p.saved.as_ref().unwrap()).unwrap();
        assert_eq!((saved.width(), saved.height()), (p.width, p.height), "{}", p.name);
    }
    // The left of the file is dark; turned, the top is.
    let drawn = image::open(seen.images[2].saved.as_ref().unwrap()).unwrap().into_rgb8();
    assert!(drawn.get_pixel(1, 38).0[0] > 150 || drawn.get_pixel(28, 38).0[0] > 150);
    // The same pixels in `grid` and in training.
    let data = dataset(&root.display().to_string(), &DataOptions::default(), &ctx()).unwrap();
    let grid = GridOptions { images: 3, ..GridOptions::default() }.run(&data, &ctx()).unwrap();
    let cells = grid.data();
    assert!(cells["images"].as_array().unwrap().iter().any(|c| c["width"] == 30 && c["height"] == 40), "{cells}");
}
