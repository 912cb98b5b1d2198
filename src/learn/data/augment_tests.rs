//! Each way of varying images, by its numbers and by pictures.

use super::augment::Fitted;
use super::rng::rng;
use super::*;
use compresso_base::Context;
use image::{Rgb, RgbImage};
use serde_json::json;

/// Nothing varies.
pub(super) const STILL: Augment = Augment {
    hflip: 0.0,
    vflip: 0.0,
    hue: 0.0,
    saturation: 0.0,
    value: 0.0,
    mosaic: 0.0,
    scale: 0.0,
    translate: 0.0,
    degrees: 0.0,
    shear: 0.0,
    perspective: 0.0,
    mixup: 0.0,
};

fn shapes() -> Dataset {
    let options = DataOptions { images: Some(12), size: Some(json!([72, 96])), seed: Some(3), ..DataOptions::default() };
    dataset("shapes", &options, &Context::new()).unwrap().for_training()
}

fn varied(augment: &Augment, data: &Dataset, i: usize, seed: u64) -> Fitted {
    augment.apply(data, i, [96, 96], &mut rng(seed, &[i as u64])).unwrap()
}

/// Images in memory.
struct Pictures(Vec<(RgbImage, Vec<GroundTruth>)>);

impl Source for Pictures {
    fn len(&self) -> usize {
        self.0.len()
    }
    fn get(&self, i: usize) -> Result<Sample> {
        let (image, targets) = self.0[i].clone();
        Ok(Sample { name: i.to_string(), image, targets, label: None })
    }
}

fn pictures(images: Vec<(RgbImage, Vec<GroundTruth>)>) -> Dataset {
    Dataset::new("pictures", DataKind::Detection, vec!["a".into()], Arc::new(Pictures(images)))
}

fn target(x1: f32, y1: f32, x2: f32, y2: f32) -> GroundTruth {
    GroundTruth { class: 0, bbox: BBox { x1, y1, x2, y2 } }
}

#[test]
fn a_slant_of_nothing_draws_what_no_slant_draws() {
    let data = shapes();
    for mosaic in [0.0, 1.0] {
        let straight = Augment { scale: 0.3, translate: 0.2, mosaic, ..STILL };
        let slanted = Augment { degrees: 1e-10, ..straight.clone() };
        for i in 0..4 {
            let (a, b) = (varied(&straight, &data, i, 1), varied(&slanted, &data, i, 1));
            let far = a.image.iter().zip(b.image.iter()).filter(|(a, b)| a.abs_diff(**b) > 1).count();
            // Along seams a rounded edge may differ.
            assert!(far < a.image.len() / 50, "{far} of {}", a.image.len());
            assert_eq!(a.targets.len(), b.targets.len());
            for (a, b) in a.targets.iter().zip(&b.targets) {
                for (u, v) in [(a.bbox.x1, b.bbox.x1), (a.bbox.y1, b.bbox.y1), (a.bbox.x2, b.bbox.x2), (a.bbox.y2, b.bbox.y2)] {
                    assert!((u - v).abs() <= 1.0, "{a:?} {b:?}");
                }
            }
        }
    }
}

#[test]
fn slanted_boxes_hold_their_shapes() {
    // A white bar on black: whatever the slant, all white lies in the box, and the box is not larger than it must be.
    let mut image = RgbImage::new(96, 96);
    for y in 40..56 {
        for x in 30..70 {
            image.put_pixel(x, y, Rgb([255; 3]));
        }
    }
    let data = pictures(vec![(image, vec![target(30.0, 40.0, 70.0, 56.0)])]);
    for (seed, augment) in [
        Augment { degrees: 40.0, ..STILL },
        Augment { shear: 20.0, ..STILL },
        Augment { perspective: 0.001, ..STILL },
        Augment { degrees: 20.0, shear: 10.0, perspective: 5e-4, scale: 0.2, translate: 0.1, ..STILL },
    ]
    .into_iter()
    .enumerate()
    {
        for round in 0..6 {
            let f = varied(&augment, &data, 0, 10 * seed as u64 + round);
            let b = f.targets[0].bbox;
            let white: Vec<(f32, f32)> =
                f.image.enumerate_pixels().filter(|(_, _, p)| p.0[0] > 200).map(|(x, y, _)| (x as f32 + 0.5, y as f32 + 0.5)).collect();
            let (left, right) = white.iter().fold((f32::MAX, f32::MIN), |(a, b), p| (a.min(p.0), b.max(p.0)));
            let (top, bottom) = white.iter().fold((f32::MAX, f32::MIN), |(a, b), p| (a.min(p.1), b.max(p.1)));
            for (edge, found) in [(b.x1, left), (b.y1, top), (right, b.x2), (bottom, b.y2)] {
                assert!((-0.5..3.0).contains(&(found - edge)), "{augment:?} {b:?} {left} {top} {right} {bottom}");
            }
        }
    }
}

#[test]
fn blending_takes_about_half_of_each_and_the_boxes_of_both() {
    let flat = |v: u8, x: f32| (RgbImage::from_pixel(96, 96, Rgb([v; 3])), vec![target(x, 10.0, x + 20.0, 30.0)]);
    let data = pictures(vec![flat(0, 5.0), flat(200, 60.0)]);
    let mut shares = Vec::new();
    for seed in 0..40 {
        let f = varied(&Augment { mixup: 1.0, ..STILL }, &data, 0, seed);
        assert_eq!(f.targets.len(), 2);
        assert!(f.image.iter().all(|v| *v == f.image.as_raw()[0]));
        if f.targets[1].bbox.x1 > 50.0 {
            shares.push(f32::from(f.image.as_raw()[0]) / 200.0);
        }
    }
    // Beta(32, 32) has a deviation of 0.062.
    let mean = shares.iter().sum::<f32>() / shares.len() as f32;
    assert!(shares.len() > 10 && (mean - 0.5).abs() < 0.06, "{shares:?}");
    assert!(shares.iter().all(|s| (0.2..0.8).contains(s)) && shares.iter().any(|s| (s - mean).abs() > 0.02));
}

/// Each way of varying as a picture: four images with their boxes, held against `tests/fixtures/augment`. With
/// `COMPRESSO_PICTURES` naming a folder the pictures are written there.
#[test]
fn each_way_of_varying_looks_as_it_did() {
    let data = shapes();
    for (name, augment) in [
        ("still", STILL),
        ("mosaic", Augment { mosaic: 1.0, ..STILL }),
        ("mixup", Augment { mixup: 1.0, ..STILL }),
        ("hsv", Augment { hue: 0.3, saturation: 0.7, value: 0.5, ..STILL }),
        ("scale_translate", Augment { scale: 0.5, translate: 0.3, ..STILL }),
        ("degrees", Augment { degrees: 45.0, ..STILL }),
        ("shear", Augment { shear: 25.0, ..STILL }),
        ("perspective", Augment { perspective: 0.001, ..STILL }),
        ("flips", Augment { hflip: 0.5, vflip: 0.5, ..STILL }),
        ("mosaic_slanted", Augment { mosaic: 1.0, degrees: 15.0, shear: 5.0, perspective: 5e-4, scale: 0.3, hflip: 0.5, ..STILL }),
    ] {
        let mut sheet = RgbImage::new(192, 192);
        for i in 0..4u32 {
            let mut f = varied(&augment, &data, i as usize, 5);
            f.targets.iter().for_each(|t| frame(&mut f.image, t.bbox));
            image::imageops::replace(&mut sheet, &f.image, i64::from(i % 2 * 96), i64::from(i / 2 * 96));
        }
        if let Some(folder) = std::env::var_os("COMPRESSO_PICTURES") {
            std::fs::create_dir_all(&folder).unwrap();
            sheet.save(std::path::PathBuf::from(folder).join(format!("{name}.png"))).unwrap();
            continue;
        }
        let path = compresso_test_support::fixture("augment").join(format!("{name}.png"));
        let expected = read_image(path).unwrap();
        let far = sheet.iter().zip(expected.iter()).filter(|(a, b)| a.abs_diff(**b) > 3).count();
        assert!(far < 100, "{name}: {far} numbers differ");
    }
}

fn frame(image: &mut RgbImage, b: BBox) {
    let [x1, x2] = [b.x1, b.x2].map(|v| (v as u32).min(image.width() - 1));
    let [y1, y2] = [b.y1, b.y2].map(|v| (v as u32).min(image.height() - 1));
    let red = Rgb([255, 0, 0]);
    for x in x1..=x2 {
        image.put_pixel(x, y1, red);
        image.put_pixel(x, y2, red);
    }
    for y in y1..=y2 {
        image.put_pixel(x1, y, red);
        image.put_pixel(x2, y, red);
    }
}
