//! What is fuzzed: functions over bytes, which may end in an error and in nothing worse.

#[path = "data.rs"]
mod data;
#[path = "files.rs"]
pub mod files;
#[path = "graphs.rs"]
mod graphs;
#[path = "judge.rs"]
pub mod judge;
#[path = "model.rs"]
pub mod model;
#[path = "pickle.rs"]
mod pickle;
#[path = "script.rs"]
mod script;
#[path = "source.rs"]
mod source;
#[path = "watch.rs"]
mod watch;

use compresso::model::weights::load_tensors;
use compresso::model::{LoadOptions, Model, onnx, zoo};
use judge::checked;
use source::Source;

/// A function over bytes, and where its cases come from.
pub struct Target {
    pub name: &'static str,
    run: fn(&[u8]),
    /// Endings of the fixtures that are its seeds; none: it starts from any bytes.
    pub seeds: &'static [&'static str],
    /// Seeds beside the fixtures.
    pub texts: &'static [&'static str],
    /// Cases in the short run of the suite.
    pub short: u64,
}

impl Target {
    const fn new(name: &'static str, run: fn(&[u8]), seeds: &'static [&'static str], short: u64) -> Self {
        Self { name, run, seeds, texts: &[], short }
    }
    const fn texts(mut self, texts: &'static [&'static str]) -> Self {
        self.texts = texts;
        self
    }
    /// Runs one case.
    ///
    /// # Panics
    /// When the case shows a fault.
    pub fn run(&self, bytes: &[u8]) {
        watch::begin();
        (self.run)(bytes);
    }
}

/// All targets. docs/reliability.md describes them.
pub const TARGETS: &[Target] = &[
    Target::new("graph", graph, &[], 1500),
    Target::new("quantized", quantized, &[], 800),
    Target::new("onnx", onnx_file, &["onnx"], 500),
    Target::new("pickle", pickle::run, &[], 1500),
    Target::new("pt", |b| weights(b, "pt"), &["pt", "pth"], 1000),
    Target::new("safetensors", |b| weights(b, "safetensors"), &["safetensors"], 5000),
    Target::new("npy", |b| weights(b, "npy"), &["npy"], 10000),
    Target::new("npz", |b| weights(b, "npz"), &["npz"], 2000),
    Target::new("pb", |b| weights(b, "pb"), &["pb"], 5000),
    Target::new("architecture", architecture, &[], 1500).texts(data::ARCHITECTURES),
    Target::new("yolo", data::yolo, &[], 2000).texts(data::YOLO),
    Target::new("coco", data::coco, &[], 2000).texts(data::COCO),
    Target::new("voc", data::voc, &[], 2000).texts(data::VOC),
    Target::new("image", data::image, &["png", "jpg", "bmp", "webp", "tiff"], 2000),
    Target::new("script", script::run, &["rhai"], 1000).texts(script::SCRIPTS),
    Target::new("message", message, &[], 5000).texts(MESSAGES),
];

/// Seeds that are made: pictures of all formats.
pub fn made_seeds(name: &str) -> Vec<Vec<u8>> {
    if name == "image" { data::images() } else { Vec::new() }
}

/// The target of a name.
pub fn named(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|t| t.name == name)
}

fn graph(bytes: &[u8]) {
    made(bytes, false);
}

fn quantized(bytes: &[u8]) {
    made(bytes, true);
}

/// A graph that is made from bytes, as a file has it.
fn made(bytes: &[u8], quantized: bool) {
    let mut source = Source(bytes);
    let graph = graphs::graph(&mut source, quantized);
    let Some(file) = checked(onnx::encode(&graph)) else { return };
    if let Some(read) = checked(onnx::decode(file)) {
        model::exercise(read, &mut source);
    }
}

/// The ONNX file of a case of a target that makes graphs, for a look at it with other tools.
pub fn file_of(name: &str, bytes: &[u8]) -> Option<Vec<u8>> {
    match name {
        "graph" | "quantized" => onnx::encode(&graphs::graph(&mut Source(bytes), name == "quantized")).ok(),
        "onnx" => Some(bytes.to_vec()),
        _ => None,
    }
}

fn onnx_file(bytes: &[u8]) {
    let Some(graph) = checked(onnx::decode(bytes.to_vec())) else { return };
    checked(onnx::encode(&graph));
    judge::text(&graph.dump(None));
    // Choices follow from the file itself.
    let choices: Vec<u8> = bytes.iter().rev().copied().collect();
    model::exercise(graph, &mut Source(&choices));
}

fn weights(bytes: &[u8], ending: &str) {
    let path = files::write(&format!("weights.{ending}"), bytes);
    if let Some(tensors) = checked(load_tensors(&path)) {
        judge::through();
        for value in tensors.values().take(16) {
            checked(value.to_f64s());
        }
    }
    if matches!(ending, "pt" | "safetensors") {
        checked(Model::load(&path, &LoadOptions::default()));
    }
}

fn architecture(bytes: &[u8]) {
    let path = files::write("architecture.yaml", bytes);
    let options = zoo::ZooOptions::default();
    if let Some(model) = checked(zoo::build(&path.to_string_lossy(), &options)) {
        judge::through();
        checked(model.summary());
    }
}

const MESSAGES: &[&str] = &[
    "id\n<IDS|MSG>\n\n{\"msg_id\":\"1\",\"session\":\"s\",\"username\":\"u\",\"date\":\"2026-01-01T00:00:00Z\",\"msg_type\":\"execute_request\",\
     \"version\":\"5.3\"}\n{}\n{}\n{\"code\":\"1\",\"silent\":false}",
    "<IDS|MSG>\nabc\n{\"msg_id\":\"1\",\"session\":\"s\",\"username\":\"u\",\"date\":\"\",\"msg_type\":\"complete_request\",\"version\":\"5\"}\n{}\n{}\n\
     {\"code\":\"é\",\"cursor_pos\":1}\nbuffer",
];

/// Frames of a message, one in each line.
fn message(bytes: &[u8]) {
    let frames = bytes.split(|&b| b == b'\n').map(bytes::Bytes::copy_from_slice).collect();
    if let Ok(request) = compresso::shell::jupyter::read(frames) {
        judge::through();
        judge::text(&format!("{} {:?} {}", request.kind(), request.reply_kind(), request.text("code")));
    }
}
