//! A file's bytes.

use super::flat::{self, Field, Object};
use super::model::{Call, File, Grid, Operator, Scalar, Tensor};
use bytes::Bytes;
use compresso_base::error::{Error, Result};

/// The bytes of a file. The same file gives the same bytes.
///
/// # Errors
/// `Unsupported` above 2 GiB.
pub(super) fn serialize(file: &File) -> Result<Vec<u8>> {
    let mut codes: Vec<(i32, i32)> = Vec::new();
    for op in &file.operators {
        let code = (op.call.code, op.call.version);
        if !codes.contains(&code) {
            codes.push(code);
        }
    }
    let operators = file.operators.iter().map(|op| operator(op, &codes)).collect::<Result<_>>()?;
    let graph = Object::Table(vec![
        (0, Field::Object(Object::List(file.tensors.iter().map(tensor).collect::<Result<_>>()?))),
        (1, Field::Object(numbers(&file.inputs)?)),
        (2, Field::Object(numbers(&file.outputs)?)),
        (3, Field::Object(Object::List(operators))),
        (4, Field::Object(Object::Text(file.name.clone()))),
    ]);
    let mut buffers = file.buffers.clone();
    let mut metadata = Vec::new();
    for (name, text) in &file.metadata {
        let fields = vec![(0, Field::Object(Object::Text(name.clone()))), (1, Field::Int(small(buffers.len())?))];
        metadata.push(Object::Table(fields));
        buffers.push(Bytes::copy_from_slice(text.as_bytes()));
    }
    let root = Object::Table(vec![
        (0, Field::Int(3)),
        (1, Field::Object(Object::List(codes.iter().map(|&c| operator_code(c)).collect()))),
        (2, Field::Object(Object::List(vec![graph]))),
        (3, Field::Object(Object::Text(format!("compresso {}", env!("CARGO_PKG_VERSION"))))),
        (4, Field::Object(Object::List(buffers.into_iter().map(buffer).collect()))),
        (6, Field::Object(Object::List(metadata))),
    ]);
    flat::file(&root, *b"TFL3")
}

fn small(n: usize) -> Result<i32> {
    i32::try_from(n).map_err(|_| Error::unsupported(format!("{n} is too large for TensorFlow Lite, whose sizes have 31 bits")))
}

fn numbers(v: &[usize]) -> Result<Object> {
    Ok(Object::Ints(v.iter().map(|&n| small(n)).collect::<Result<_>>()?))
}

/// Operators beyond 127 do not fit the field that they had first, which then says 127.
fn operator_code((code, version): (i32, i32)) -> Object {
    Object::Table(vec![(0, Field::Byte(u8::try_from(code.min(127)).unwrap_or(127))), (2, Field::Int(version)), (3, Field::Int(code))])
}

fn operator(op: &Operator, codes: &[(i32, i32)]) -> Result<Object> {
    let Call { code, version, table, ref options } = op.call;
    let index = codes.iter().position(|&c| c == (code, version)).unwrap_or_default();
    let mut fields =
        vec![(0, Field::Int(small(index)?)), (1, Field::Object(numbers(&op.inputs)?)), (2, Field::Object(numbers(&op.outputs)?))];
    if table != 0 {
        let options = options.iter().map(|&(slot, value)| (slot, scalar(value))).collect();
        fields.extend([(3, Field::Byte(table)), (4, Field::Object(Object::Table(options)))]);
    }
    Ok(Object::Table(fields))
}

fn scalar(value: Scalar) -> Field {
    match value {
        Scalar::Byte(v) => Field::Byte(v),
        Scalar::Int(v) => Field::Int(v),
        Scalar::Float(v) => Field::Float(v),
    }
}

fn tensor(t: &Tensor) -> Result<Object> {
    let mut fields = vec![
        (0, Field::Object(numbers(&t.made.shape)?)),
        (1, Field::Byte(t.made.kind as u8)),
        (2, Field::Int(small(t.buffer)?)),
        (3, Field::Object(Object::Text(t.name.clone()))),
    ];
    if let Some(Grid { scales, zero_points, axis, .. }) = &t.made.grid {
        let grid = vec![
            (2, Field::Object(Object::Floats(scales.clone()))),
            (3, Field::Object(Object::Longs(zero_points.clone()))),
            (6, Field::Int(small(*axis)?)),
        ];
        fields.push((4, Field::Object(Object::Table(grid))));
    }
    // A scalar is told from a tensor of unknown rank.
    fields.push((8, Field::Byte(1)));
    Ok(Object::Table(fields))
}

fn buffer(data: Bytes) -> Object {
    Object::Table(if data.is_empty() { vec![] } else { vec![(0, Field::Object(Object::Bytes(data)))] })
}
