//! `predict`: what a model sees in images.

use super::draw::draw_detections;
use super::{ImageRunner, decode, nms};
use crate::context::Context;
use crate::error::{At, Error, Result};
use crate::learn::data::{BBox, Sample, letterbox, size_of, to_chw};
use crate::model::{Detect, Model, Task};
use crate::operation::{Arg, Options, Signature, in_range};
use crate::report::{Show, Table};
use candle_core::{Device, Tensor};
use image::{ImageFormat, RgbImage};
use serde::Serialize;
use std::io::Cursor;
use std::path::Path;

crate::options! {
    /// Options of `predict`.
    pub struct Predict {
        /// Boxes of lower confidence are dropped.
        pub confidence: f64 = 0.25,
        /// Non-maximum suppression drops a box that overlaps a better one by more than this (intersection over union).
        pub iou: f64 = 0.7,
        /// Most boxes per image.
        pub max_detections: usize = 300,
        /// Boxes of different classes suppress each other.
        pub agnostic: bool = false,
        /// Classes to list for a classifier.
        pub top: usize = 5,
        /// Input size in pixels, one number or [height, width]; the model's own when left out.
        pub size: Option<serde_json::Value> = None,
    }
}

/// The script function `predict`.
pub const SIGNATURE: Signature = Signature {
    name: "predict",
    summary: "Runs a model on images and lists what it sees; the result draws itself on the image: .save(path).",
    group: "models",
    args: &[Arg::new("m", "model"), Arg::new("images", "image path, pattern, list of paths, or dataset")],
    returns: "predictions",
    fields: Predict::FIELDS,
    examples: &["let m = model(\"yolov8n\", #{ classes: 3, width: 0.125, image_size: 64 }); \
         predict(m, dataset(\"shapes\", #{ images: 2, size: 64 }), #{ confidence: 0.5 })"],
    keywords: &["detect", "detections", "inference", "classify", "run", "draw", "boxes", "image", "photo"],
};

/// A detected object of an image.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Found {
    /// Class name.
    pub label: String,
    pub class: usize,
    /// Confidence, 0 to 1.
    pub score: f32,
    /// In pixels of the image.
    pub bbox: BBox,
}

/// A class with its probability.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ranked {
    /// Class name.
    pub label: String,
    pub class: usize,
    /// Probability, 0 to 1.
    pub score: f32,
}

/// What a model sees in one image.
#[derive(Debug, Clone, Serialize)]
pub struct Prediction {
    /// The image's name: its path.
    pub name: String,
    pub width: u32,
    pub height: u32,
    /// Objects, best first, from a detector.
    pub detections: Vec<Found>,
    /// The likeliest classes, best first, from a classifier.
    pub classes: Vec<Ranked>,
    #[serde(skip)]
    pub image: RgbImage,
}

/// What a model sees in several images.
#[derive(Debug, Clone, Serialize)]
#[serde(transparent)]
pub struct Predictions(pub Vec<Prediction>);

/// Runs a model on images, one at a time.
///
/// # Errors
/// `Unsupported` for a model whose task is not known; `Argument` for options out of range.
pub fn predict(model: &Model, images: &[Sample], options: &Predict, ctx: &Context) -> Result<Vec<Prediction>> {
    in_range("confidence", options.confidence, 0.0..=1.0)?;
    in_range("iou", options.iou, 0.0..=1.0)?;
    in_range("max_detections", options.max_detections as f64, 1.0..)?;
    let size = match (&options.size, model.task().image_size()) {
        (Some(v), _) => size_of("size", v)?,
        (None, Some(size)) => size,
        (None, None) => [640, 640],
    };
    let mut progress = ctx.progress("predict", images.len() as u64);
    let mut all = Vec::with_capacity(images.len());
    let mut runner = ImageRunner::new(model, ctx);
    for sample in images {
        let prediction = one(model, &mut runner, sample, size, options, ctx).at(|| format!("image {}", sample.name))?;
        all.push(prediction);
        progress.step(&sample.name)?;
    }
    Ok(all)
}

fn one(
    model: &Model,
    runner: &mut ImageRunner<'_>,
    sample: &Sample,
    size: [usize; 2],
    options: &Predict,
    ctx: &Context,
) -> Result<Prediction> {
    let (fitted, fit) = letterbox(&sample.image, size);
    let mut pixels = Vec::with_capacity(3 * size[0] * size[1]);
    to_chw(&fitted, &mut pixels);
    let images = Tensor::from_vec(pixels, (1, 3, size[0], size[1]), &Device::Cpu)?.to_device(&ctx.device)?;
    let (width, height) = sample.image.dimensions();
    let mut prediction =
        Prediction { name: sample.name.clone(), width, height, detections: Vec::new(), classes: Vec::new(), image: sample.image.clone() };
    match model.task() {
        Task::Unknown => {
            return Err(Error::unsupported("the model's task is not known, so its outputs cannot be read")
                .hint("forward(m, x) gives the raw outputs; or load it with model(path, #{ decode: \"yolo\", classes: [...] })"));
        }
        Task::Detect(task) => {
            // With the size that the boxes are relative to.
            let task = Detect { image_size: size, ..task.clone() };
            let outputs = runner.run(&images)?;
            let found = decode(&task, &outputs, options.confidence as f32, false)?.into_iter().next().unwrap_or_default();
            for d in nms(found, options.iou as f32, options.agnostic, options.max_detections) {
                let bbox = fit.inverse(d.bbox);
                prediction.detections.push(Found { label: name(&task.classes, d.class), class: d.class, score: d.score, bbox });
            }
        }
        Task::Classify(task) => {
            let outputs = runner.run(&images)?;
            let value = outputs.get(&task.output).ok_or_else(|| Error::missing(format!("the model gave no output '{}'", task.output)))?;
            let logits = value.to_f32s()?;
            if logits.iter().any(|v| v.is_nan()) {
                return Err(Error::check("the classifier's output holds NaN").at(format!("output '{}'", task.output)));
            }
            let high = logits.iter().copied().fold(f32::MIN, f32::max);
            let powers: Vec<f32> = logits.iter().map(|v| (v - high).exp()).collect();
            let sum: f32 = powers.iter().sum();
            let mut order: Vec<usize> = (0..logits.len()).collect();
            order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
            let ranked = |c: usize| Ranked { label: name(&task.classes, c), class: c, score: powers[c] / sum };
            prediction.classes = order.into_iter().take(options.top).map(ranked).collect();
        }
    }
    Ok(prediction)
}

fn name(classes: &[String], class: usize) -> String {
    classes.get(class).cloned().unwrap_or_else(|| class.to_string())
}

impl Prediction {
    /// The image with the detections (or the best class) drawn on it.
    pub fn draw(&self) -> Result<RgbImage> {
        let captions: Vec<String> = self.classes.iter().map(|c| format!("{} {:.2}", c.label, c.score)).collect();
        draw_detections(&self.image, &self.detections, &captions)
    }
    /// Saves the drawn image, by extension .jpg or .png. The file is complete or not there at all.
    ///
    /// # Errors
    /// `Argument` for another extension; `Io`.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        crate::report::write_file(path, &self.encoded(path)?)
    }
    fn encoded(&self, path: &Path) -> Result<Vec<u8>> {
        let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_lowercase();
        let image = self.draw()?;
        let mut bytes = Vec::new();
        let failed = |e: image::ImageError| Error::internal("the image could not be encoded").because(e);
        match extension.as_str() {
            "png" => image.write_to(&mut Cursor::new(&mut bytes), ImageFormat::Png).map_err(failed)?,
            "jpg" | "jpeg" => {
                let encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY);
                image.write_with_encoder(encoder).map_err(failed)?;
            }
            other => {
                return Err(Error::argument(format!("images are saved as .jpg or .png, got '.{other}'")).file(path));
            }
        }
        Ok(bytes)
    }
}

const JPEG_QUALITY: u8 = 92;

impl Predictions {
    /// Saves one drawn image to a file, or several into a folder under their own names.
    ///
    /// # Errors
    /// As [`Prediction::save`].
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        if let ([only], Some(_)) = (self.0.as_slice(), path.extension()) {
            return only.save(path);
        }
        std::fs::create_dir_all(path).map_err(|e| Error::io(path, e))?;
        for (i, p) in self.0.iter().enumerate() {
            let stem = Path::new(&p.name).file_stem().map_or_else(|| i.to_string(), |s| s.to_string_lossy().into_owned());
            // Images of one name from different folders must not replace each other.
            let twin = self.0[..i].iter().any(|q| Path::new(&q.name).file_stem() == Path::new(&p.name).file_stem());
            let file = if twin { format!("{stem}_{i}.jpg") } else { format!("{stem}.jpg") };
            p.save(path.join(file))?;
        }
        Ok(())
    }
}

impl Show for Predictions {
    fn tables(&self) -> Vec<Table> {
        let mut tables = Vec::new();
        for p in &self.0 {
            let title = format!("{} ({}×{})", p.name, p.width, p.height);
            if p.classes.is_empty() {
                let mut t = Table::new(title, &["object", ">score", ">left", ">top", ">right", ">bottom"]);
                for d in &p.detections {
                    let b = d.bbox;
                    let sides = [b.x1, b.y1, b.x2, b.y2].map(|v| format!("{v:.1}"));
                    t.row([d.label.clone(), format!("{:.3}", d.score)].into_iter().chain(sides));
                }
                tables.push(t);
            } else {
                let mut t = Table::new(title, &["class", ">probability"]);
                for c in &p.classes {
                    t.row([c.label.clone(), format!("{:.4}", c.score)]);
                }
                tables.push(t);
            }
        }
        tables
    }
    fn notes(&self) -> Vec<String> {
        let empty = self.0.iter().filter(|p| p.detections.is_empty() && p.classes.is_empty()).count();
        if empty == 0 { Vec::new() } else { vec![format!("{empty} of {} images without a detection", self.0.len())] }
    }
    fn data(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}
