//! `dataset`: opening and drawing datasets.

use super::files::{image_files, is_image};
use super::options::{DataOptions, DataTask, class_names};
use super::random::Noise;
use super::reader::{Cache, Reader};
use super::shapes::{SHAPES, Shapes};
use super::{DataKind, Dataset, Source, check, coco, folder, voc, yolo};
use compresso_base::context::Context;
use compresso_base::error::{Error, Result, nearest};
use compresso_base::operation::{Arg, ArgKind, Argument, Digest, Operation, Options, Recipe, Signature};
use compresso_model::size_of;
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;

/// Opens or draws a dataset. `source` is the path of a `data.yaml`, of a COCO annotation file or a folder of these, of a
/// Pascal VOC folder, of an image folder (a subfolder per class, or plain images), a pattern such as `photos/*.jpg`, or one
/// of the words `shapes` and `random`.
///
/// # Errors
/// `Missing` for a source that does not exist, `Format` for a malformed one, `Argument` for options out of range.
impl Operation for DataOptions {
    const SIGNATURE: Signature = Signature {
        name: "dataset",
        summary: "Opens a dataset: data.yaml (YOLO), COCO annotations (.json or their folder), a Pascal VOC folder, an image folder or pattern, \"shapes\" or \"random\".",
        group: "data",
        args: &[Arg::new("source", ArgKind::Text)],
        returns: "dataset",
        fields: Self::FIELDS,
        examples: &[
            "dataset(\"shapes\", #{ images: 64, size: 96 })",
            "dataset(\"shapes\", #{ task: \"classify\", classes: [\"circle\", \"star\"] }).split(\"val\").len",
            "dataset(\"random\", #{ images: 8 })",
        ],
        keywords: &["data", "images", "labels", "yolo", "voc", "coco", "imagenet", "folder", "synthetic", "noise", "calibration"],
    };
    type Inputs<'a> = &'a str;
    type Output = Dataset;

    fn run(&self, source: &str, ctx: &Context) -> Result<Dataset> {
        let seed = self.seed.unwrap_or(ctx.seed);
        let size = self.size.as_ref().map(|v| size_of("size", v)).transpose()?;
        if matches!(source, "shapes" | "random") && self.cache != Cache::None {
            return Err(Error::argument(format!("option 'cache' is for image files; \"{source}\" has none")));
        }
        let mut data = match source {
            "shapes" => shapes(self, size.unwrap_or([160, 160]), seed)?,
            "random" => random(self, size, seed)?,
            path => open(path, self, ctx)?,
        };
        if self.check {
            data = check::check(&data, ctx)?;
        }
        for line in data.warnings.iter() {
            ctx.note(format!("{}: {line}", data.name));
        }
        // Taking a split is a call of its own.
        let whole = Self { split: None, ..self.clone() };
        let mut call = whole.call([argument(source, &data)?]);
        if matches!(source, "shapes" | "random") && self.seed.is_none() {
            call = call.seeded(ctx.seed);
        }
        let data = data.with_recipe(Recipe::of(call));
        match &self.split {
            Some(name) => data.split(name),
            None => Ok(data),
        }
    }
}

/// As [`DataOptions::run`].
///
/// # Errors
/// As there.
pub fn dataset(source: &str, options: &DataOptions, ctx: &Context) -> Result<Dataset> {
    options.run(source, ctx)
}

/// The source as an argument: a word, or files with a hash. It covers the content of an opened file, and names and sizes of the
/// images; not their pixels, nor labels in files of their own, for there may be millions.
fn argument(source: &str, data: &Dataset) -> Result<Argument<Recipe>> {
    if matches!(source, "shapes" | "random") {
        return Ok(Argument::Value(source.into()));
    }
    let path = Path::new(source);
    let mut content = if path.is_file() { Digest::of_file(path)?.to_string() } else { String::new() };
    for part in data.parts() {
        content += &format!("\n{} {}", part.split, part.classes.join(","));
        for file in (0..part.len()).filter_map(|i| part.source.file_of(i)) {
            let size = std::fs::metadata(file).map_or(0, |m| m.len());
            content += &format!("\n{size} {}", file.file_name().unwrap_or_default().to_string_lossy());
        }
    }
    Ok(Argument::File { path: source.into(), sha256: Some(Digest::of(content)) })
}

/// Opens files: by what is at the path.
fn open(source: &str, options: &DataOptions, ctx: &Context) -> Result<Dataset> {
    let path = Path::new(source);
    let pixels = &Reader::new(options, ctx);
    let is_yaml = |p: &Path| p.extension().is_some_and(|e| e == "yaml" || e == "yml");
    if path.is_file() && is_yaml(path) {
        return yolo::open(source, path, options, pixels, ctx);
    }
    if path.is_file() && coco::is_json(path) {
        return coco::open(source, path, options, pixels, ctx);
    }
    if path.is_dir() {
        if let Some(root) = voc::find(path) {
            return voc::open(source, &root, options, pixels, ctx);
        }
        if let Some(yaml) = ["data.yaml", "dataset.yaml", "data.yml"].iter().map(|f| path.join(f)).find(|p| p.is_file()) {
            return yolo::open(source, &yaml, options, pixels, ctx);
        }
        let files = coco::find(path)?;
        if !files.is_empty() {
            return coco::open_splits(source, &files, &[path.to_path_buf()], None, options, pixels, ctx);
        }
        if path.join("images").is_dir() && path.join("labels").is_dir() {
            return Err(Error::missing("a YOLO dataset needs a data.yaml with its class names").file(path));
        }
        return folder::open(source, path, options, pixels, ctx);
    }
    if path.is_file() || source.contains(['*', '?']) {
        let files = image_files(source, ctx)?;
        if files.images.iter().any(|f| !is_image(f)) {
            let e = Error::argument("expected a data.yaml, COCO's .json, a folder or images").file(path);
            return Err(e.hint("dataset(\"folder\") takes a folder of Pascal VOC or COCO, an image folder or a folder with a data.yaml"));
        }
        return Ok(folder::of_files(source, files, pixels));
    }
    let e = Error::missing(format!("there is no dataset '{source}'"));
    Err(match nearest(source, ["shapes", "random"]) {
        Some(near) => e.hint(format!("did you mean \"{near}\"?")),
        None => e.hint("give the path of a data.yaml or a folder, or \"shapes\" or \"random\""),
    })
}

/// Most images of a drawn dataset: each has its place in lists that are shuffled and split.
const MOST_DRAWN: usize = 10_000_000;

/// How many images are drawn.
fn drawn(asked: Option<usize>, usual: usize) -> Result<usize> {
    let images = asked.unwrap_or(usual);
    if (1..=MOST_DRAWN).contains(&images) {
        return Ok(images);
    }
    Err(Error::argument(format!("option 'images' must be 1 to {MOST_DRAWN}, got {images}")))
}

fn shapes(options: &DataOptions, size: [usize; 2], seed: u64) -> Result<Dataset> {
    let kinds: Vec<usize> = match &options.classes {
        None => vec![0, 1, 2],
        Some(Value::Number(n)) => {
            let n = n.as_u64().filter(|n| (1..=SHAPES.len() as u64).contains(n));
            let n = n.ok_or_else(|| Error::argument(format!("option 'classes' of \"shapes\" must be 1 to {}", SHAPES.len())))?;
            (0..n as usize).collect()
        }
        Some(_) => {
            let names = class_names(options)?.unwrap_or_default();
            let kind = |n: &String| {
                SHAPES.iter().position(|s| s == n).ok_or_else(|| {
                    let e = Error::argument(format!("there is no shape '{n}'"));
                    match nearest(n, SHAPES) {
                        Some(near) => e.hint(format!("did you mean '{near}'?")),
                        None => e.hint(format!("the shapes are {}", SHAPES.join(", "))),
                    }
                })
            };
            names.iter().map(kind).collect::<Result<_>>()?
        }
    };
    let images = drawn(options.images, 512)?;
    let single = options.task == DataTask::Classify;
    let classes: Vec<String> = kinds.iter().map(|&k| SHAPES[k].to_string()).collect();
    let split = |name: &str, number: u64, images: usize| {
        let source = Shapes { images, size, kinds: kinds.clone(), seed, split: number, single };
        (name.to_string(), Arc::new(source) as Arc<dyn Source>)
    };
    let splits = vec![split("train", 0, images), split("val", 1, (images / 4).max(8))];
    let kind = if single { DataKind::Classification } else { DataKind::Detection };
    Ok(Dataset::of_splits("shapes", kind, classes, splits, Vec::new()))
}

fn random(options: &DataOptions, size: Option<[usize; 2]>, seed: u64) -> Result<Dataset> {
    let images = drawn(options.images, 32)?;
    Ok(Dataset::new("random", DataKind::Unlabelled, Vec::new(), Arc::new(Noise { images, size, seed })))
}
