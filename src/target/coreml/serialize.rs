//! The program as protobuf messages, its large constants in a file beside it.
//!
//! <https://github.com/apple/coremltools/blob/main/mlmodel/format/MIL.proto>

use super::blob::Blob;
use super::program::{Kind, Literal, Operation, Program, Ref, Type};
use super::wire::Message;

/// Where the program finds the file, from the model's folder on.
const WEIGHTS: &str = "@model_path/weights/weight.bin";

/// The operator set, and the version of the file that has it.
pub(super) fn version(program: &Program) -> (&'static str, u64) {
    if program.rounds { ("CoreML7", 8) } else { ("CoreML6", 7) }
}

fn code(kind: Kind) -> u64 {
    match kind {
        Kind::Bool => 1,
        Kind::Text => 2,
        Kind::F16 => 10,
        Kind::F32 => 11,
        Kind::I8 => 21,
        Kind::I32 => 23,
        Kind::U8 => 31,
        Kind::U32 => 33,
    }
}

fn value_type(made: &Type) -> Message {
    let size = |n: &usize| Message::new().message(1, &Message::new().number(1, *n as u64));
    let tensor = Message::new().number(1, code(made.kind)).number(2, made.dims.len() as u64);
    Message::new().message(1, &made.dims.iter().fold(tensor, |m, n| m.message(3, &size(n))))
}

fn named_type(program: &Program, value: Ref) -> Message {
    Message::new().text(1, program.name(value)).message(2, &value_type(program.made(value)))
}

/// Numbers that stand in the program.
fn tensor(literal: &Literal) -> Message {
    let data = &literal.data;
    let words = || data.as_chunks::<4>().0.iter().map(|b| i64::from(i32::from_le_bytes(*b)));
    match literal.made.kind {
        Kind::F32 => Message::new().message(1, &Message::new().bytes(1, data)),
        Kind::I32 => Message::new().message(2, &Message::new().numbers(1, words())),
        Kind::Bool => Message::new().message(3, &Message::new().numbers(1, data.iter().map(|&b| i64::from(b)))),
        Kind::Text => Message::new().message(4, &Message::new().bytes(1, data)),
        Kind::F16 | Kind::I8 | Kind::U8 | Kind::U32 => Message::new().message(7, &Message::new().bytes(1, data)),
    }
}

fn value(literal: &Literal, blob: &mut Blob) -> Message {
    let made = Message::new().message(2, &value_type(&literal.made));
    match blob.place(literal) {
        Some(at) => made.message(5, &Message::new().text(1, WEIGHTS).number(2, at)),
        None => made.message(3, &Message::new().message(1, &tensor(literal))),
    }
}

fn operation(program: &Program, operation: &Operation, blob: &mut Blob) -> Message {
    let mut m = Message::new().text(1, operation.kind);
    for (name, values) in &operation.inputs {
        let bound = |m: Message, v: &Ref| m.message(1, &Message::new().text(1, program.name(*v)));
        m = m.entry(2, name, &values.iter().fold(Message::new(), bound));
    }
    for output in &operation.outputs {
        m = m.message(3, &named_type(program, *output));
    }
    let name = operation.outputs.first().map_or("", |v| program.name(*v));
    m = m.entry(5, "name", &value(&Literal::text(name), blob));
    for (name, literal) in &operation.attributes {
        m = m.entry(5, name, &value(literal, blob));
    }
    m
}

/// The message `Program` and the content of `weight.bin`.
pub(super) fn serialize(program: &Program) -> (Message, Vec<u8>) {
    let (opset, _) = version(program);
    let mut blob = Blob::default();
    let mut block = program.outputs.iter().fold(Message::new(), |m, v| m.text(2, program.name(*v)));
    for op in &program.operations {
        block = block.message(3, &operation(program, op, &mut blob));
    }
    let function = program.inputs.iter().fold(Message::new(), |m, v| m.message(1, &named_type(program, *v)));
    let function = function.text(2, opset).entry(3, opset, &block);
    (Message::new().number(1, 1).entry(2, "main", &function), blob.finish())
}
