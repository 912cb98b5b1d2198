//! Loader, augmentation and letterbox on whole datasets.

use super::augment_tests::STILL;
use super::*;
use compresso_base::Context;
use compresso_base::operation::Operation;
use serde_json::json;

fn shapes(images: usize) -> Dataset {
    let options = DataOptions { images: Some(images), size: Some(json!([48, 64])), seed: Some(5), ..DataOptions::default() };
    dataset("shapes", &options, &Context::new()).unwrap()
}

fn all(data: &Dataset, options: LoaderOptions) -> Vec<Batch> {
    Loader::new(data, options, &Context::new()).unwrap().collect::<Result<_>>().unwrap()
}

fn pixels(b: &Batch) -> Vec<f32> {
    b.images.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn batches_do_not_depend_on_the_number_of_workers() {
    let data = shapes(11);
    let options = |workers, epoch| LoaderOptions {
        batch: 3,
        size: [64, 64],
        scale: 0.0,
        augment: Some(Augment::default()),
        shuffle: true,
        seed: 9,
        epoch,
        workers,
        skip: 0,
        drop_last: false,
        form: ImageForm::default(),
    };
    let one = all(&data, options(1, 0));
    for workers in [2, 5] {
        let many = all(&data, options(workers, 0));
        assert_eq!(one.len(), many.len());
        for (a, b) in one.iter().zip(&many) {
            assert_eq!((&a.indices, &a.targets, pixels(a)), (&b.indices, &b.targets, pixels(b)));
        }
    }
    let next = all(&data, options(1, 1));
    assert_ne!(one[0].indices, next[0].indices, "each epoch has its own order");
    let mut seen: Vec<usize> = next.iter().flat_map(|b| b.indices.clone()).collect();
    seen.sort_unstable();
    assert_eq!(seen, (0..11).collect::<Vec<_>>());
    assert_eq!(one.last().unwrap().indices.len(), 2, "the last batch is kept");
    assert_eq!(all(&data, LoaderOptions { drop_last: true, ..options(2, 0) }).len(), 3);
}

#[test]
fn augmented_boxes_stay_inside_and_follow_their_shapes() {
    let data = shapes(40);
    // Colours are left alone: a shape's colour at its box's centre must be what it was.
    let still = Augment { hue: 0.0, saturation: 0.0, value: 0.0, vflip: 0.5, mosaic: 0.5, ..Augment::default() };
    for b in all(&data, LoaderOptions { batch: 4, size: [96, 96], augment: Some(still), ..LoaderOptions::default() }) {
        for t in b.targets.iter().flatten() {
            assert!(t.bbox.x1 >= 0.0 && t.bbox.y1 >= 0.0 && t.bbox.x2 <= 96.0 && t.bbox.y2 <= 96.0, "{t:?}");
            assert!(t.bbox.x2 - t.bbox.x1 >= 2.0 && t.bbox.y2 - t.bbox.y1 >= 2.0);
        }
    }
    // Mirroring alone moves pixels and boxes together.
    let mirror = Augment { hflip: 1.0, ..STILL };
    let size = [48, 64];
    let plain = all(&data, LoaderOptions { batch: 40, size, ..LoaderOptions::default() });
    let mirrored = all(&data, LoaderOptions { batch: 40, size, augment: Some(mirror), ..LoaderOptions::default() });
    let (a, b) = (pixels(&plain[0]), pixels(&mirrored[0]));
    for (row_a, row_b) in a.chunks(64).zip(b.chunks(64)) {
        assert!(row_a.iter().eq(row_b.iter().rev()));
    }
    for (a, b) in plain[0].targets.iter().flatten().zip(mirrored[0].targets.iter().flatten()) {
        assert!((64.0 - a.bbox.x1 - b.bbox.x2).abs() < 1e-3 && (a.bbox.y1 - b.bbox.y1).abs() < 1e-3);
    }
}

#[test]
fn loaders_stop_when_dropped_and_when_cancelled() {
    let data = shapes(4000);
    let ctx = Context::new();
    let options = || LoaderOptions { batch: 8, size: [320, 320], workers: 3, ..LoaderOptions::default() };
    let mut loader = Loader::new(&data, options(), &ctx).unwrap();
    loader.next().unwrap().unwrap();
    drop(loader);
    let mut loader = Loader::new(&data, options(), &ctx).unwrap();
    loader.next().unwrap().unwrap();
    ctx.cancel.cancel();
    let e = loader.find_map(Result::err).unwrap();
    assert!(e.is_cancelled());
    assert!(loader.next().is_none(), "nothing after an error");
}

#[test]
fn noise_has_the_asked_size_and_repeats() {
    let data = dataset("random", &DataOptions { images: Some(3), seed: Some(1), ..DataOptions::default() }, &Context::new()).unwrap();
    let options = || LoaderOptions { batch: 2, size: [24, 40], ..LoaderOptions::default() };
    let (a, b) = (all(&data, options()), all(&data, options()));
    assert_eq!(a[0].images.dims(), [2, 3, 24, 40]);
    assert_eq!(a[1].images.dims(), [1, 3, 24, 40]);
    assert_eq!(pixels(&a[0]), pixels(&b[0]));
    let mean = pixels(&a[0]).iter().sum::<f32>() / (2 * 3 * 24 * 40) as f32;
    assert!((mean - 0.5).abs() < 0.02);
    assert!(a[0].labels.is_empty() && a[0].targets.iter().all(Vec::is_empty));
}

#[test]
fn splits_and_options_are_checked() {
    let data = shapes(16);
    assert_eq!(data.split("val").unwrap().len(), 8);
    assert_eq!(data.take(3).split("train").unwrap().len(), 3);
    assert_eq!(data.for_evaluation().split, "val");
    let e = data.split("tset").unwrap_err().to_string();
    assert!(e.contains("its splits are train, val"), "{e}");
    let bad = |options: DataOptions, text: &str| {
        let e = dataset("shapes", &options, &Context::new()).unwrap_err().to_string();
        assert!(e.contains(text), "{e}");
    };
    bad(DataOptions { classes: Some(json!(["circel"])), ..DataOptions::default() }, "did you mean 'circle'?");
    bad(DataOptions { classes: Some(json!(9)), ..DataOptions::default() }, "must be 1 to 6");
    bad(DataOptions { size: Some(json!(-4)), ..DataOptions::default() }, "option 'size' expects");
    for images in [0, usize::MAX] {
        bad(DataOptions { images: Some(images), ..DataOptions::default() }, "must be 1 to 10000000");
    }
    let one = DataOptions { task: DataTask::Classify, images: Some(5), ..DataOptions::default() };
    let data = dataset("shapes", &one, &Context::new()).unwrap();
    let batch = &all(&data, LoaderOptions { batch: 5, size: [32, 32], ..LoaderOptions::default() })[0];
    assert_eq!(batch.labels.len(), 5);
    let e = Loader::new(&data.take(0), LoaderOptions::default(), &Context::new()).err().unwrap();
    assert!(e.to_string().contains("has no images"));
}

/// Operations of the steps that made a dataset, with their arguments and options.
fn steps(d: &Dataset) -> Vec<serde_json::Value> {
    let rest = |c: &&compresso_base::operation::Call| !c.args.iter().any(|a| matches!(a, compresso_base::operation::Argument::Named(_)));
    let short = |c: &compresso_base::operation::Call| serde_json::json!([c.operation, c.args.last(), c.options, c.seed]);
    d.recipe().steps().into_iter().filter(rest).map(short).collect()
}

#[test]
fn datasets_tell_how_they_were_made() {
    use serde_json::json;
    let d = shapes(12).take(6);
    let options = SplitOptions { train: 0.5, val: 0.5, test: 0.0, seed: Some(3) };
    let half = options.run(&d.split("train").unwrap(), &Context::new()).unwrap().split("val").unwrap();
    let opened = json!(["dataset", { "value": "shapes" }, { "images": 12, "size": [48, 64], "seed": 5 }, null]);
    let taken = json!(["take", { "value": 6 }, {}, null]);
    let choice = |name: &str| json!(["split", { "value": name }, {}, null]);
    let shares = json!({ "train": 0.5, "val": 0.5, "test": 0.0, "seed": 3 });
    let of_half = steps(&half);
    assert_eq!(of_half[..3], [opened.clone(), taken.clone(), choice("train")]);
    assert_eq!((&of_half[3][0], &of_half[3][2]), (&json!("splits"), &shares));
    assert_eq!(of_half[4..], [choice("val")]);
    assert_eq!(steps(&d.for_evaluation()), [opened, taken, choice("val")]);
    // Of one that was made in Rust only the name is known, and it has no hash.
    let own = Dataset::new("own \"x\"", d.kind, d.classes.to_vec(), d.source.clone()).take(2);
    assert_eq!(steps(&own), [json!(["take", { "value": 2 }, {}, null])]);
    assert!(own.recipe().hash().is_none() && d.recipe().hash().is_some());
}

/// OpenCV rounds its weights to 11 bits, so a value may differ by one.
#[test]
fn letterbox_equals_opencv() {
    let dir = compresso_test_support::fixture("letterbox");
    let read = |name: &str| read_image(dir.join(name)).unwrap();
    let source = read("in.png");
    for [h, w] in [[64, 64], [32, 32], [23, 73], [96, 128], [17, 50]] {
        let (ours, fit) = letterbox(&source, [h, w]);
        let theirs = read(&format!("out_{h}x{w}.png"));
        assert_eq!(ours.dimensions(), theirs.dimensions());
        let worst = ours.iter().zip(theirs.iter()).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        assert!(worst <= 1, "{h}×{w}: differs by {worst}");
        let b = BBox { x1: 3.0, y1: 5.0, x2: 60.0, y2: 40.0 };
        let again = fit.inverse(fit.forward(b));
        for (a, e) in [(again.x1, b.x1), (again.y1, b.y1), (again.x2, b.x2), (again.y2, b.y2)] {
            assert!((a - e).abs() < 1e-4);
        }
    }
    let (_, fit) = letterbox(&source, [64, 64]);
    let whole = fit.inverse(BBox { x1: -50.0, y1: -50.0, x2: 500.0, y2: 500.0 });
    assert_eq!(whole, BBox { x1: 0.0, y1: 0.0, x2: 73.0, y2: 46.0 }, "clipped to the image");
    assert_eq!(letterbox(&image::RgbImage::new(1, 5000), [64, 64]).0.dimensions(), (64, 64), "a thin image keeps a pixel");
}
