//! `grid`: some images of a dataset with their labels, side by side.

use super::rng::rng;
use super::{BBox, DataKind, Dataset, Sample, resize};
use compresso_base::context::Context;
use compresso_base::error::{Error, Result};
use compresso_base::operation::{Arg, ArgKind, Operation, Options, Signature, in_range};
use compresso_base::report::{Mark, Pen, Picture, Show, Table, class_color, draw_marks, fill, label_width, write_text};
use image::{Rgb, RgbImage};
use rand::seq::SliceRandom;

compresso_base::options! {
    /// Options of `grid`.
    pub struct GridOptions {
        /// Images to draw, fewer where there are fewer.
        pub images: usize = 16,
        /// Chooses the images.
        pub seed: u64 = 0,
        /// Longest side of each image in pixels.
        pub size: usize = 320,
        /// Images per row; about as many as there are rows when left out.
        pub columns: Option<usize> = None,
    }
}

/// Images with their labels, drawn side by side.
#[derive(Debug, Clone)]
pub struct Grid {
    title: String,
    image: RgbImage,
    /// Names, sizes and labels of the images, in reading order.
    cells: Vec<Cell>,
    notes: Vec<String>,
}

#[derive(Debug, Clone, serde::Serialize)]
struct Cell {
    name: String,
    width: u32,
    height: u32,
    /// Class of the image, or of each object.
    labels: Vec<String>,
}

const PURPOSE: u64 = 0x6772_6964;
/// Largest picture in pixels.
const MAX_PIXELS: usize = 64_000_000;
/// Room around images, height of a line of text, and its font, in pixels.
const GAP: usize = 10;
const LINE: usize = 24;
const FONT: f64 = 15.0;
const INK: [u8; 3] = [0x1f, 0x29, 0x37];
const GROUND: [u8; 3] = [255; 3];
/// Frames and labels of objects.
const PEN: Pen = Pen { line: 2, font: 14.0 };
/// Up to this many objects of an image, all have their label; of more, those that are wide enough for it.
const FEW: usize = 4;

impl Operation for GridOptions {
    const SIGNATURE: Signature = Signature {
        name: "grid",
        summary: "Draws images of a dataset with their labels side by side; shown where the terminal can, saved by save(g, \"grid.png\")",
        group: "data",
        args: &[Arg::new("d", ArgKind::Dataset)],
        returns: "report",
        fields: Self::FIELDS,
        examples: &["save(grid(dataset(\"shapes\", #{ images: 9, size: 96 }), #{ images: 9, size: 160 }), \"grid.png\")"],
        keywords: &["look", "view", "show", "draw", "images", "labels", "boxes", "sample", "mosaic", "preview", "inspect"],
    };
    type Inputs<'a> = &'a Dataset;
    type Output = Grid;

    fn run(&self, data: &Dataset, ctx: &Context) -> Result<Grid> {
        Grid::of(data, self, ctx)
    }
}

impl Grid {
    /// Draws a grid. Images that cannot be read are replaced by others, and counted.
    ///
    /// # Errors
    /// `Argument` for options out of range; the first image's error when none can be read; `Cancelled`.
    pub fn of(data: &Dataset, options: &GridOptions, ctx: &Context) -> Result<Self> {
        in_range("images", options.images as f64, 1.0..=10_000.0)?;
        in_range("size", options.size as f64, 32.0..=2048.0)?;
        let data = data.parts().into_iter().next().unwrap_or(data);
        let count = options.images.min(data.len()).max(1);
        let columns = options.columns.unwrap_or_else(|| (count as f64).sqrt().ceil() as usize).min(count);
        in_range("columns", columns as f64, 1.0..)?;
        let cell = options.size;
        if count * (cell + GAP) * (cell + GAP + LINE) > MAX_PIXELS {
            let e =
                Error::argument(format!("a grid of {count} images of {cell} pixels is larger than {} megapixels", MAX_PIXELS / 1_000_000));
            return Err(e.hint("ask for fewer or smaller images"));
        }
        let mut order: Vec<usize> = (0..data.len()).collect();
        order.shuffle(&mut rng(options.seed, &[PURPOSE]));
        let (mut samples, mut small, mut cells, mut failures) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for i in order {
            ctx.check()?;
            match data.get(i) {
                Ok(mut s) => {
                    small.push(labelled(data, &s, cell));
                    cells.push(Cell::of(data, &s));
                    // Large images do not wait for each other.
                    s.image = RgbImage::default();
                    samples.push(s);
                }
                Err(e) => failures.push(e),
            }
            if samples.len() == count {
                break;
            }
        }
        let notes = match failures.first() {
            Some(e) => vec![format!("{} images cannot be read, first {}", failures.len(), e.to_string().replace('\n', " "))],
            None => Vec::new(),
        };
        if samples.is_empty() {
            let none = || Error::argument(format!("dataset '{}' has no images", data.label()));
            return Err(failures.into_iter().next().unwrap_or_else(none));
        }
        let title = format!("{}: {} of {} images", data.label(), samples.len(), data.len());
        let image = draw(data, &samples, &small, columns.min(samples.len()), cell);
        Ok(Self { title, image, cells, notes })
    }
}

impl Cell {
    fn of(data: &Dataset, s: &Sample) -> Self {
        let classes = s.label.into_iter().chain(s.targets.iter().map(|t| t.class));
        let labels = classes.map(|c| name(data, c)).collect();
        Self { name: s.name.clone(), width: s.image.width(), height: s.image.height(), labels }
    }
    /// `3 cat, 1 dog`
    fn summary(&self) -> String {
        let mut counts: indexmap::IndexMap<&str, usize> = indexmap::IndexMap::new();
        for l in &self.labels {
            *counts.entry(l).or_default() += 1;
        }
        let parts: Vec<String> = counts.into_iter().map(|(l, n)| if n == 1 { l.to_string() } else { format!("{n} {l}") }).collect();
        parts.join(", ")
    }
}

fn name(data: &Dataset, class: usize) -> String {
    data.classes.get(class).cloned().unwrap_or_else(|| class.to_string())
}

/// `samples` without their images, which are `small`.
fn draw(data: &Dataset, samples: &[Sample], small: &[RgbImage], columns: usize, cell: usize) -> RgbImage {
    let width = GAP + columns * (cell + GAP);
    let legend = legend(data, samples, width);
    // A row is as high as its highest image.
    let heights: Vec<usize> = small.chunks(columns).map(|r| r.iter().map(|i| i.height() as usize).max().unwrap_or(0)).collect();
    let mut y = GAP + legend.len() * LINE;
    let height = y + heights.iter().map(|h| h + LINE + GAP).sum::<usize>();
    let mut grid = RgbImage::from_pixel(width as u32, height as u32, Rgb(GROUND));
    for (row, entries) in legend.iter().enumerate() {
        for (x, class) in entries {
            let y = (GAP + row * LINE + LINE / 2) as i64;
            fill(&mut grid, [*x, y - 6, x + 12, y + 6], class_color(*class));
            write_text(&mut grid, &name(data, *class), [x + 18, y], FONT, INK);
        }
    }
    for (n, (s, small)) in samples.iter().zip(small).enumerate() {
        let (x, high) = (GAP + (n % columns) * (cell + GAP), heights[n / columns]);
        let (dx, dy) = ((cell - small.width() as usize) / 2, (high - small.height() as usize) / 2);
        let ground = [x, y, x + cell - 1, y + high - 1].map(|v| v as i64);
        fill(&mut grid, ground, [0xf0, 0xf2, 0xf5]);
        image::imageops::replace(&mut grid, small, (x + dx) as i64, (y + dy) as i64);
        let own = std::path::Path::new(&s.name).file_name().map_or_else(|| s.name.clone(), |f| f.to_string_lossy().into_owned());
        let caption = match s.label {
            Some(class) => format!("{} · {own}", name(data, class)),
            None => own,
        };
        write_text(&mut grid, &shortened(&caption, cell as i64), [x as i64, (y + high + LINE / 2) as i64], FONT, INK);
        if n % columns + 1 == columns {
            y += high + LINE + GAP;
        }
    }
    grid
}

/// One image at the size of its cell, with its boxes.
fn labelled(data: &Dataset, s: &Sample, cell: usize) -> RgbImage {
    let (w, h) = (f64::from(s.image.width()), f64::from(s.image.height()));
    let scale = cell as f64 / w.max(h);
    let side = |v: f64| (v * scale).round().clamp(1.0, cell as f64) as u32;
    // Averaging keeps what is smaller than a pixel of the smaller image.
    let mut small = if scale < 1.0 { image::imageops::thumbnail(&s.image, side(w), side(h)) } else { resize(&s.image, side(w), side(h)) };
    let few = s.targets.len() <= FEW;
    let mark = |t: &super::GroundTruth| {
        let BBox { x1, y1, x2, y2 } = t.bbox;
        let sides = [x1, y1, x2, y2].map(|v| v * scale as f32);
        let text = name(data, t.class);
        let fits = f64::from(sides[2] - sides[0]) >= 0.7 * label_width(&text, PEN.font) as f64;
        Mark { sides, text: if few || fits { text } else { String::new() }, color: class_color(t.class) }
    };
    let marks: Vec<Mark> = s.targets.iter().map(mark).collect();
    draw_marks(&mut small, &marks, &[], PEN);
    small
}

/// Colours and names of the classes that occur, in rows: left edge and class.
fn legend(data: &Dataset, samples: &[Sample], width: usize) -> Vec<Vec<(i64, usize)>> {
    if data.kind != DataKind::Detection {
        return Vec::new();
    }
    let mut classes: Vec<usize> = samples.iter().flat_map(|s| &s.targets).map(|t| t.class).collect();
    classes.sort_unstable();
    classes.dedup();
    let mut rows: Vec<Vec<(i64, usize)>> = Vec::new();
    let mut x = i64::MAX;
    for class in classes {
        let length = 18 + label_width(&name(data, class), FONT) + 16;
        if x.saturating_add(length) > width as i64 {
            rows.push(Vec::new());
            x = GAP as i64;
        }
        if let Some(row) = rows.last_mut() {
            row.push((x, class));
        }
        x += length;
    }
    rows
}

/// `text` with its beginning cut to what fits: the end of a file's name tells more.
fn shortened(text: &str, width: i64) -> String {
    if label_width(text, FONT) <= width {
        return text.to_string();
    }
    let chars: Vec<char> = text.chars().collect();
    let cut = |from: usize| format!("…{}", chars[from..].iter().collect::<String>());
    (1..chars.len()).map(cut).find(|t| label_width(t, FONT) <= width).unwrap_or_default()
}

impl Show for Grid {
    fn tables(&self) -> Vec<Table> {
        let mut table = Table::new(self.title.clone(), &["image", ">width", ">height", "labels"]);
        for c in &self.cells {
            table.row([c.name.clone(), c.width.to_string(), c.height.to_string(), c.summary()]);
        }
        vec![table]
    }
    fn pictures(&self) -> Vec<Picture> {
        vec![Picture { title: self.title.clone(), image: self.image.clone() }]
    }
    fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }
    fn data(&self) -> serde_json::Value {
        serde_json::json!({ "title": self.title, "images": self.cells })
    }
}
