//! Seeing, splitting, checking and caching datasets.

use super::*;
use compresso_base::Context;
use compresso_base::operation::Operation;
use compresso_base::report::{Show, Style, plot_png, text};
use image::RgbImage;
use serde_json::json;
use std::path::PathBuf;

fn shapes(images: usize) -> Dataset {
    let options = DataOptions { images: Some(images), size: Some(json!([60, 90])), seed: Some(5), ..DataOptions::default() };
    dataset("shapes", &options, &Context::new()).unwrap()
}

/// Drawn shapes in files, as YOLO.
fn on_disk(folder: &Path, images: usize) -> PathBuf {
    shapes(images).export(folder.join("data.yaml"), &Context::new()).unwrap().remove(0)
}

fn open(path: &Path, options: DataOptions) -> Result<Dataset> {
    dataset(&path.display().to_string(), &options, &Context::new())
}

#[test]
fn a_cache_changes_no_batch() {
    let dir = tempfile::tempdir().unwrap();
    let path = on_disk(dir.path(), 9);
    let batches = |data: &Dataset| -> Vec<(Vec<f32>, Vec<Vec<GroundTruth>>)> {
        let augment = Augment { mosaic: 0.5, ..Augment::default() };
        let options = LoaderOptions { batch: 4, size: [64, 64], augment: Some(augment), shuffle: true, ..LoaderOptions::default() };
        let all = Loader::new(data, options, &Context::new()).unwrap();
        all.map(|b| b.map(|b| (b.images.flatten_all().unwrap().to_vec1().unwrap(), b.targets)).unwrap()).collect()
    };
    let plain = batches(&open(&path, DataOptions::default()).unwrap());
    let ram = open(&path, DataOptions { cache: Cache::Ram, ..DataOptions::default() }).unwrap();
    for pass in 0..2 {
        assert_eq!(batches(&ram), plain, "pass {pass}");
    }
    // The second pass did not need the files.
    let files: Vec<PathBuf> = (0..9).map(|i| ram.source.file_of(i).unwrap().to_path_buf()).collect();
    for f in files {
        std::fs::remove_file(f).unwrap();
    }
    assert_eq!(batches(&ram), plain);
    let e = dataset("shapes", &DataOptions { cache: Cache::Ram, ..DataOptions::default() }, &Context::new()).unwrap_err();
    assert!(e.to_string().contains("option 'cache' is for image files"), "{e}");
}

#[test]
fn checking_leaves_out_what_cannot_be_decoded_and_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = on_disk(dir.path(), 8);
    let train = dir.path().join("images/train");
    let whole = std::fs::read(train.join("000003.png")).unwrap();
    std::fs::write(train.join("000003.png"), &whole[..whole.len() / 2]).unwrap();
    std::fs::write(train.join("000005.png"), b"no picture").unwrap();
    let before = open(&path, DataOptions::default()).unwrap();
    assert_eq!((before.len(), before.warnings.len()), (8, 0));
    let checked = open(&path, DataOptions { check: true, ..DataOptions::default() }).unwrap();
    assert_eq!((checked.len(), checked.split("train").unwrap().len(), checked.split("val").unwrap().len()), (6, 6, 8));
    let [line] = &*checked.warnings else { panic!("{:?}", checked.warnings) };
    assert!(line.starts_with("2 × image that cannot be used, left out: 000003.png (not a readable image), 000005.png ("), "{line}");
    assert_eq!(checked.split("val").unwrap().warnings, checked.warnings);
    assert!((0..6).all(|i| checked.get(i).is_ok()));
    for i in [0, 1, 2, 4, 6, 7] {
        std::fs::write(train.join(format!("{i:06}.png")), b"").unwrap();
    }
    let e = open(&path, DataOptions { check: true, ..DataOptions::default() }).unwrap_err().to_string();
    assert!(e.contains("none of the 8 images of") && e.contains("the image file is empty"), "{e}");
    let stopped = Context::new();
    stopped.cancel.cancel();
    assert!(check::check(&before, &stopped).unwrap_err().is_cancelled());
}

#[test]
fn splits_are_the_same_for_a_seed_disjoint_and_stratified() {
    let options = DataOptions { images: Some(97), size: Some(json!(32)), task: DataTask::Classify, ..DataOptions::default() };
    let data = dataset("shapes", &DataOptions { split: Some("train".into()), ..options }, &Context::new()).unwrap();
    let split = |seed| SplitOptions { train: 0.7, val: 0.2, test: 0.1, seed: Some(seed) }.run(&data, &Context::new()).unwrap();
    let names = |d: &Dataset| -> Vec<Vec<String>> {
        d.splits.iter().map(|(_, p)| (0..p.len()).map(|i| p.get(i).unwrap().name).collect()).collect()
    };
    let (a, b) = (split(1), split(1));
    assert_eq!(names(&a), names(&b));
    assert_ne!(names(&a), names(&split(2)));
    let mut all = names(&a).concat();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 97, "each image is in one split");
    let counts = data.counts().unwrap();
    for ((name, part), share) in a.splits.iter().zip([0.7, 0.2, 0.1]) {
        assert_eq!(part.split, *name);
        for (own, whole) in part.counts().unwrap().iter().zip(&counts) {
            assert!((*own as f64 - share * *whole as f64).abs() <= 2.0, "{name}: {own} of {whole}");
        }
    }
    let bad = |o: SplitOptions, d: &Dataset, part: &str| {
        let e = o.run(d, &Context::new()).unwrap_err().to_string();
        assert!(e.contains(part), "{e}");
    };
    bad(SplitOptions { train: 0.9, ..SplitOptions::default() }, &data, "add up to 1.1");
    bad(SplitOptions { train: f64::NAN, ..SplitOptions::default() }, &data, "option 'train'");
    bad(SplitOptions::default(), &data.take(3), "split 'val' would get none of the 3 images");
    bad(SplitOptions::default(), &shapes(8), "has the splits train, val already");
}

#[test]
fn a_grid_shows_boxes_in_the_colours_of_their_classes() {
    let data = shapes(12);
    let grid = Grid::of(&data, &GridOptions { images: 6, size: 180, ..GridOptions::default() }, &Context::new()).unwrap();
    let picture = &grid.pictures()[0];
    assert_eq!((picture.title.as_str(), grid.tables()[0].rows.len()), ("shapes train: 6 of 12 images", 6));
    assert_eq!(picture.image.width(), 10 + 3 * 190);
    for class in 0..3 {
        let color = compresso_base::report::class_color(class);
        assert!(picture.image.pixels().filter(|p| p.0 == color).count() > 200, "class {class}");
    }
    let again = Grid::of(&data, &GridOptions { images: 6, size: 180, ..GridOptions::default() }, &Context::new()).unwrap();
    assert_eq!(again.pictures()[0].image, picture.image);
    let other = Grid::of(&data, &GridOptions { images: 6, size: 180, seed: 1, ..GridOptions::default() }, &Context::new()).unwrap();
    assert_ne!(other.pictures()[0].image, picture.image);
    let bad = |o: GridOptions| assert!(Grid::of(&data, &o, &Context::new()).unwrap_err().to_string().contains("grid of") || o.images == 0);
    bad(GridOptions { images: 0, ..GridOptions::default() });
    let one = GridOptions { images: 1000, size: 2048, ..GridOptions::default() };
    assert_eq!(Grid::of(&data, &GridOptions { size: 64, ..one.clone() }, &Context::new()).unwrap().tables()[0].rows.len(), 12);
    let many = dataset("random", &DataOptions { images: Some(1000), ..DataOptions::default() }, &Context::new()).unwrap();
    assert!(Grid::of(&many, &one, &Context::new()).unwrap_err().to_string().contains("larger than 64 megapixels"));
}

#[test]
fn grids_go_around_corrupt_images_and_show_classes() {
    let dir = tempfile::tempdir().unwrap();
    for class in ["cat", "dog"] {
        for i in 0..3 {
            let path = dir.path().join(class).join(format!("{i}.png"));
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            RgbImage::from_pixel(20 + i, 300, image::Rgb([9, 200, 50])).save(path).unwrap();
        }
    }
    std::fs::write(dir.path().join("cat/1.png"), b"no picture").unwrap();
    let data = open(dir.path(), DataOptions::default()).unwrap();
    let grid = Grid::of(&data, &GridOptions { size: 64, ..GridOptions::default() }, &Context::new()).unwrap();
    assert_eq!(grid.tables()[0].rows.len(), 5);
    assert!(grid.notes()[0].starts_with("1 images cannot be read, first") && grid.notes()[0].contains("1.png"), "{:?}", grid.notes());
    let labels: Vec<String> = grid.tables()[0].rows.iter().map(|r| r[3].clone()).collect();
    assert_eq!((labels.iter().filter(|l| *l == "cat").count(), labels.iter().filter(|l| *l == "dog").count()), (2, 3));
    std::fs::write(dir.path().join("one.png"), b"").unwrap();
    let none = open(&dir.path().join("one.png"), DataOptions::default()).unwrap();
    assert!(Grid::of(&none, &GridOptions::default(), &Context::new()).unwrap_err().to_string().contains("the image file is empty"));
    assert!(none.pictures().is_empty(), "showing such a dataset is no error");
}

#[test]
fn plots_count_classes_and_sizes_without_pixels() {
    let dir = tempfile::tempdir().unwrap();
    let data = open(&on_disk(dir.path(), 10), DataOptions::default()).unwrap();
    // Only the head of a file is read.
    let file = data.source.file_of(2).unwrap().to_path_buf();
    let whole = std::fs::read(&file).unwrap();
    std::fs::write(&file, &whole[..60]).unwrap();
    let plots = data.plots();
    let titles: Vec<&str> = plots.iter().map(|p| p.title.split(": ").nth(1).unwrap()).collect();
    assert_eq!(titles, ["objects per class", "sizes of objects", "areas of objects"]);
    let (train, counts) = (&plots[0].series[0], data.split("train").unwrap().counts().unwrap());
    assert_eq!((train.name.as_str(), train.labels.as_slice()), ("train", &*data.classes));
    assert!(train.points.iter().zip(&counts).all(|(p, n)| p.1 == *n as f64));
    let all: usize = data.splits.iter().map(|(_, d)| d.counts().unwrap().iter().sum::<usize>()).sum();
    assert_eq!(plots[1].series.iter().map(|s| s.points.len()).sum::<usize>(), all);
    assert!(plots[1].series.iter().flat_map(|s| &s.points).all(|p| p.0 > 0.0 && p.0 <= 1.0 && p.1 > 0.0 && p.1 <= 1.0));
    assert_eq!(plots[2].series[0].points[0].1, 100.0, "all shapes are small");
    let shown = text(&data, &Style::columns(90));
    assert!(shown.contains("objects per class") && shown.contains("save it as .png"), "{shown}");
    let noise = dataset("random", &DataOptions { images: Some(2), ..DataOptions::default() }, &Context::new()).unwrap();
    assert!(noise.plots().is_empty());
}

#[test]
fn many_long_class_names_fit_under_their_bars() {
    let dir = tempfile::tempdir().unwrap();
    for i in 0..45 {
        for n in 0..=i % 7 {
            let path = dir.path().join(format!("a rather long name of class {i:02}")).join(format!("{n}.png"));
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            RgbImage::new(2, 2).save(path).unwrap();
        }
    }
    let data = open(dir.path(), DataOptions::default()).unwrap();
    let plot = data.plots().remove(0);
    assert!(plot.title.ends_with("images per class (the most frequent 30 of 45)") && plot.series[0].points.len() == 30, "{}", plot.title);
    // The lowest rows are free: no name is clipped.
    let image = image::load_from_memory(&plot_png(&plot, 1.0).unwrap()).unwrap().into_rgb8();
    let inked = |y: u32| (0..image.width()).any(|x| image.get_pixel(x, y).0 != [255; 3]);
    let height = image.height();
    assert!((height - 12..height).all(|y| !inked(y)) && inked(height - 60));
}

#[test]
fn passes_tell_of_unreadable_images_once() {
    let dir = tempfile::tempdir().unwrap();
    let data = open(&on_disk(dir.path(), 8), DataOptions::default()).unwrap();
    let corrupt = |i: usize| std::fs::write(data.source.file_of(i).unwrap(), b"no picture").unwrap();
    let notes = Arc::new(compresso_base::context::Notes::default());
    let ctx = Context::new().with_progress(notes.clone());
    let pass = || {
        let options = LoaderOptions { batch: 3, size: [32, 32], ..LoaderOptions::default() };
        assert!(Loader::new(&data, options, &ctx).unwrap().all(|b| b.is_ok()));
        notes.take()
    };
    assert!(pass().is_empty());
    corrupt(2);
    corrupt(6);
    let [line] = &pass()[..] else { panic!("one note") };
    assert!(line.starts_with("left out 2 of 8 images, which cannot be read: first") && line.contains("000002.png"), "{line}");
    assert!(pass().is_empty(), "the next pass says nothing new");
    corrupt(7);
    assert!(pass()[0].starts_with("left out 3 of 8"));
}
