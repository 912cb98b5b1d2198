//! What the file says of the model besides its operations: its features, as Core ML calls inputs and outputs, and what readers look for.
//!
//! <https://github.com/apple/coremltools/blob/main/mlmodel/format/Model.proto>

use super::image::Pixels;
use super::program::{Kind, Program, Ref};
use super::weights::Weights;
use super::wire::Message;
use crate::Artefact;
use crate::reader::{quoted, stride, word};
use compresso_model::Model;

/// Element types of arrays.
fn array_code(kind: Kind) -> u64 {
    match kind {
        Kind::F32 => 65568,
        Kind::F16 => 65552,
        _ => 131_104,
    }
}

/// A feature: an array, or an image of bytes.
fn feature(program: &Program, value: Ref, image: Option<&Pixels>) -> Message {
    let made = program.made(value);
    let kind = match (image, made.dims.as_slice()) {
        (Some(pixels), [_, channels, height, width]) => {
            let colours = match (channels, pixels.bgr) {
                (1, _) => 10,
                (_, false) => 20,
                (_, true) => 30,
            };
            let image = Message::new().number(1, *width as u64).number(2, *height as u64).number(3, colours);
            Message::new().message(4, &image)
        }
        _ => {
            let sizes = made.dims.iter().map(|&d| d as i64);
            Message::new().message(5, &Message::new().numbers(1, sizes).number(2, array_code(made.kind)))
        }
    };
    Message::new().text(1, program.name(value)).message(3, &kind)
}

/// What readers look for, by name: those of Ultralytics read these of a model whose task is known.
fn about(artefact: &Artefact<'_>, model: &Model) -> Vec<(String, String)> {
    let mut about: Vec<(String, String)> = vec![("compresso".into(), env!("CARGO_PKG_VERSION").into())];
    let task = model.task();
    if let Some(word) = word(task) {
        about.push(("task".into(), word.into()));
        about.push(("stride".into(), stride(model).to_string()));
    }
    if let Some([height, width]) = artefact.image_size.or(task.image_size()) {
        about.push(("imgsz".into(), format!("[{height}, {width}]")));
    }
    if let Some(batch) = model.graph().feeds().next().and_then(|f| f.fact.dim(0)) {
        about.push(("batch".into(), batch.to_string()));
    }
    if !task.classes().is_empty() {
        let names: Vec<String> = task.classes().iter().enumerate().map(|(i, name)| format!("{i}: {}", quoted(name))).collect();
        about.push(("names".into(), format!("{{{}}}", names.join(", "))));
    }
    let precision = match Weights::of(artefact.settings) {
        Ok(Weights::Int8) => "int8 weights".to_string(),
        Ok(Weights::Palette(bits)) => format!("{}, palettes of {bits} bits", artefact.precision),
        _ => artefact.precision.to_string(),
    };
    about.push(("precision".into(), precision));
    about
}

/// The message `ModelDescription`. `image`: the only input, where that is an image.
pub(super) fn describe(program: &Program, artefact: &Artefact<'_>, image: Option<&Pixels>) -> Message {
    let mut m = Message::new();
    for &input in &program.inputs {
        m = m.message(1, &feature(program, input, image));
    }
    for &output in &program.outputs {
        m = m.message(10, &feature(program, output, None));
    }
    let name = artefact.model.graph().name();
    let mut metadata = Message::new().text(1, if name.is_empty() { "model" } else { name }).text(2, env!("CARGO_PKG_VERSION"));
    for (key, value) in about(artefact, artefact.model) {
        metadata = metadata.message(100, &Message::new().text(1, &key).text(2, &value));
    }
    m.message(100, &metadata)
}
