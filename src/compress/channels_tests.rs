//! Models of one and of four channels: trained, judged, predicted with, pruned, quantized and distilled.

use crate::distill::Distill;
use crate::prune::{Importance, Prune};
use crate::quantize::Quantize;
use compresso_base::context::Context;
use compresso_base::operation::Operation;
use compresso_learn::data::{DataOptions, Dataset, dataset};
use compresso_learn::eval::{Evaluate, Predict, image_files_dataset};
use compresso_learn::train::Train;
use compresso_model::{Model, ModelOptions, image_channels};
use image::{GrayImage, Luma, Rgba, RgbaImage};
use std::path::Path;

fn file(dir: &Path, name: &str, text: &str) -> String {
    let path = dir.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

/// A small network for images of so many channels.
fn model(dir: &Path, channels: usize, end: &str) -> Model {
    let text = format!(
        "nc: 2\nch: {channels}\nbackbone:\n  - [-1, 1, Conv, [8, 3, 2]]\n  - [-1, 1, Conv, [16, 3, 2]]\n  - [-1, 1, Conv, [16, 3, 2]]\n\
         head:\n  - {end}\n"
    );
    let path = file(dir, &format!("c{channels}.yaml"), &text);
    let options =
        ModelOptions { classes: Some(serde_json::json!(["dark", "light"])), image_size: Some(32.into()), ..ModelOptions::default() };
    options.run(&path, &Context::new()).unwrap()
}

/// Images of two classes that differ in a square: in its grey, or in nothing but its opacity. As class folders and as a YOLO
/// dataset, whose boxes are the squares.
fn squares(dir: &Path, channels: usize) {
    let mut state = 7u32;
    for i in 0..24u32 {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let (x0, y0) = (state >> 8 & 15, state >> 16 & 15);
        let class = i as usize % 2;
        let inside = |x: u32, y: u32| x >= x0 && x < x0 + 16 && y >= y0 && y < y0 + 16;
        let shade = |x: u32, y: u32| if !inside(x, y) { 120 } else { [10u8, 250][class] };
        let name = ["dark", "light"][class];
        for path in [format!("classes/{name}/{i}.png"), format!("boxes/images/{i}.png")] {
            let path = dir.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            match channels {
                1 => GrayImage::from_fn(32, 32, |x, y| Luma([shade(x, y)])).save(path).unwrap(),
                _ => RgbaImage::from_fn(32, 32, |x, y| Rgba([90, 90, 90, shade(x, y)])).save(path).unwrap(),
            }
        }
        let (cx, cy) = (f64::from(x0 + 8) / 32.0, f64::from(y0 + 8) / 32.0);
        file(dir, &format!("boxes/labels/{i}.txt"), &format!("{class} {cx} {cy} 0.5 0.5\n"));
    }
    file(dir, "boxes/data.yaml", "train: images\nval: images\nnames: [dark, light]\n");
}

fn open(dir: &Path, name: &str) -> Dataset {
    dataset(&dir.join(name).display().to_string(), &DataOptions::default(), &Context::new()).unwrap()
}

#[test]
fn classifiers_of_grey_and_of_opacity_go_through_all_operations() {
    for channels in [1, 4] {
        let dir = tempfile::tempdir().unwrap();
        squares(dir.path(), channels);
        let (ctx, data) = (Context::new(), open(dir.path(), "classes"));
        let m = model(dir.path(), channels, "[-1, 1, Linear, [nc], model.3.linear]");
        assert_eq!(image_channels(m.graph()), Some(channels));
        let train = || Train { epochs: 12, batch: 8, augment: false, validate_every: 6, learning_rate: Some(0.02), ..Train::default() };
        let trained = train().run((&m, &data, Some(&data)), &ctx).unwrap().model;
        let top1 = |m: &Model| Evaluate::default().run((m, &data), &ctx).unwrap().top1.unwrap();
        assert_eq!(top1(&trained), 1.0, "{channels} channels");
        // With variation too; only opacity differs, which no colour jitter changes.
        Train { augment: true, epochs: 1, ..train() }.run((&trained, &data, None), &ctx).unwrap();
        let files = image_files_dataset(&[dir.path().join("classes").display().to_string()], &Context::new()).unwrap();
        let seen = Predict::default().run((&trained, &files), &ctx).unwrap();
        assert_eq!(seen.images.len(), 24);
        assert!(seen.images.iter().all(|p| p.name.contains(&format!("/{}/", p.classes[0].label))), "{channels} channels");
        let quantized = Quantize { images: 8, ..Quantize::default() }.run((&trained, Some(&data)), &ctx).unwrap().model;
        assert!(top1(&quantized) > 0.9, "{channels} channels");
        let prune =
            Prune { ratio: 0.25, importance: Some(Importance::ACTIVATION), images: 8, align: 1, min_channels: 1, ..Prune::default() };
        let pruned = prune.run((&trained, Some(&data)), &ctx).unwrap().model;
        assert!(pruned.params().unwrap() < trained.params().unwrap());
        Distill { train: Train { epochs: 1, ..train() }, ..Distill::default() }.run((&pruned, &trained, &data, None), &ctx).unwrap();
    }
}

#[test]
fn detectors_of_grey_and_of_opacity_train_and_predict() {
    for channels in [1, 4] {
        let dir = tempfile::tempdir().unwrap();
        squares(dir.path(), channels);
        let (ctx, data) = (Context::new(), open(dir.path(), "boxes"));
        let m = model(dir.path(), channels, "[[2], 1, Detect, [nc]]");
        let train = Train { epochs: 2, batch: 8, ..Train::default() };
        let trained = train.run((&m, &data, Some(&data)), &ctx).unwrap().model;
        let quantized = Quantize { images: 8, ..Quantize::default() }.run((&trained, Some(&data)), &ctx).unwrap().model;
        for m in [&trained, &quantized] {
            let seen = Predict { confidence: 0.0001, ..Predict::default() }.run((m, &data.split("val").unwrap()), &ctx).unwrap();
            assert!(seen.images.iter().any(|p| !p.detections.is_empty()));
            Evaluate::default().run((m, &data), &ctx).unwrap();
        }
        let report = Quantize { images: 8, ..Quantize::default() }.run((&trained, Some(&data)), &ctx).unwrap().report.unwrap();
        let names: Vec<&str> = report.outputs.iter().map(|(n, _)| n.as_str()).collect();
        assert_eq!(names, ["output0 boxes", "output0 scores"]);
        assert!(report.outputs.iter().all(|(_, db)| *db > 0.0), "{:?}", report.outputs);
    }
}
