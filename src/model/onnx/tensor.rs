//! `TensorProto` and [`Constant`].

use super::external::{ExternalData, Files};
use super::proto::{EXTERNAL, TensorHead, TensorProto};
use super::scan::{decode, keep};
use crate::{Constant, Element, Payload};
use bytes::Bytes;
use compresso_base::error::{Error, Result};
use prost::Message;

/// The constant that an encoded `TensorProto` holds, and its name.
pub fn import(bytes: &Bytes, files: &Files) -> Result<(String, Constant)> {
    let bytes = keep(bytes);
    let proto: TensorProto = decode(&bytes, "a tensor")?;
    let name = proto.name.clone().unwrap_or_default();
    match values(proto, files) {
        Ok(c) => Ok((name, c.with_wire(bytes))),
        Err(e) => Err(e.at(format!("tensor '{name}'"))),
    }
}

/// Sizes from `dims`, none of them negative.
pub fn sizes(dims: &[i64]) -> Result<Vec<usize>> {
    dims.iter().map(|&d| usize::try_from(d).map_err(|_| Error::format(format!("the dimensions {dims:?} are negative")))).collect()
}

pub fn element(code: Option<i32>) -> Result<Element> {
    match code.unwrap_or(0) {
        0 => Err(Error::format("has no element type")),
        code => Element::from_code(code).ok_or_else(|| Error::unsupported(format!("the element type {code} is not known"))),
    }
}

fn values(p: TensorProto, files: &Files) -> Result<Constant> {
    let element = element(p.data_type)?;
    let dims = sizes(&p.dims)?;
    if p.segment.is_some() {
        return Err(Error::unsupported("tensors in segments are not supported"));
    }
    let mut found: Vec<(&str, Payload)> = Vec::new();
    if !p.float_data.is_empty() {
        found.push(("float_data", Payload::Floats(p.float_data)));
    }
    if !p.int32_data.is_empty() {
        found.push(("int32_data", Payload::Int32s(p.int32_data)));
    }
    if !p.int64_data.is_empty() {
        found.push(("int64_data", Payload::Int64s(p.int64_data)));
    }
    if !p.double_data.is_empty() {
        found.push(("double_data", Payload::Doubles(p.double_data)));
    }
    if !p.uint64_data.is_empty() {
        found.push(("uint64_data", Payload::Uint64s(p.uint64_data)));
    }
    if !p.string_data.is_empty() {
        found.push(("string_data", Payload::Strings(p.string_data)));
    }
    let raw = p.raw_data.filter(|raw| !raw.is_empty());
    if p.data_location == Some(EXTERNAL) {
        if raw.is_some() || !found.is_empty() {
            return Err(Error::format("has values in the file although it says that they are external"));
        }
        if element == Element::Str {
            return Err(Error::format("strings cannot be external data"));
        }
        let count = dims.iter().try_fold(1usize, |a, &d| a.checked_mul(d));
        let size = count.and_then(|n| element.bytes(n)).ok_or_else(|| Error::format(format!("the dimensions {dims:?} overflow")))?;
        return Constant::new(element, dims, Payload::Raw(files.read(&p.external_data, size)?));
    }
    if let Some(raw) = raw {
        found.push(("raw_data", Payload::Raw(raw)));
    }
    if found.len() > 1 {
        let names: Vec<&str> = found.iter().map(|(n, _)| *n).collect();
        return Err(Error::format(format!("has values in several fields: {}", names.join(", "))));
    }
    let (field, payload) = match found.pop() {
        Some(one) => one,
        None if element == Element::Str => ("string_data", Payload::Strings(Vec::new())),
        None => ("raw_data", Payload::Raw(Bytes::new())),
    };
    if !fits(element, &payload) {
        return Err(Error::format(format!("{element} values cannot stand in {field}")));
    }
    Constant::new(element, dims, payload)
}

/// Whether the ONNX schema lets values of a type stand in this field.
fn fits(element: Element, payload: &Payload) -> bool {
    match payload {
        Payload::Raw(_) => element != Element::Str,
        Payload::Floats(_) => matches!(element, Element::F32 | Element::Complex64),
        Payload::Doubles(_) => matches!(element, Element::F64 | Element::Complex128),
        Payload::Int64s(_) => element == Element::I64,
        Payload::Uint64s(_) => matches!(element, Element::U32 | Element::U64),
        Payload::Strings(_) => element == Element::Str,
        Payload::Int32s(_) => !matches!(
            element,
            Element::F32
                | Element::F64
                | Element::I64
                | Element::U32
                | Element::U64
                | Element::Complex64
                | Element::Complex128
                | Element::Str
        ),
    }
}

/// The encoded `TensorProto` of a constant. An initializer has a name; a tensor attribute keeps its own. With an external
/// place the values stay out of the message.
pub fn export(constant: &Constant, name: Option<&str>, external: Option<&ExternalData>) -> Result<Bytes> {
    let wire = constant.wire();
    let mut proto = match wire {
        Some(wire) => {
            let head: TensorHead = decode(wire, "a tensor")?;
            let named = name.is_none_or(|n| n == head.name.as_deref().unwrap_or(""));
            let stays = if head.data_location == Some(EXTERNAL) {
                external.is_some_and(|place| ExternalData::parse(&head.external_data).is_ok_and(|had| had == *place))
            } else {
                external.is_none()
            };
            if named && stays {
                return Ok(wire.clone());
            }
            decode(wire, "a tensor")?
        }
        None => TensorProto::default(),
    };
    proto.dims = constant.dims().iter().map(|&d| i64::try_from(d)).collect::<Result<_, _>>().map_err(|_| Error::internal("a size"))?;
    proto.data_type = Some(constant.element().code());
    if let Some(name) = name {
        super::text::set(&mut proto.name, name);
    }
    proto.data_location = None;
    proto.external_data = Vec::new();
    clear_values(&mut proto);
    match external {
        Some(place) => {
            proto.external_data = place.entries();
            proto.data_location = Some(EXTERNAL);
        }
        None => match constant.payload() {
            Payload::Raw(raw) => proto.raw_data = Some(raw.clone()),
            Payload::Floats(v) => proto.float_data.clone_from(v),
            Payload::Int32s(v) => proto.int32_data.clone_from(v),
            Payload::Int64s(v) => proto.int64_data.clone_from(v),
            Payload::Doubles(v) => proto.double_data.clone_from(v),
            Payload::Uint64s(v) => proto.uint64_data.clone_from(v),
            Payload::Strings(v) => proto.string_data.clone_from(v),
        },
    }
    Ok(proto.encode_to_vec().into())
}

fn clear_values(p: &mut TensorProto) {
    p.raw_data = None;
    p.float_data = Vec::new();
    p.int32_data = Vec::new();
    p.int64_data = Vec::new();
    p.double_data = Vec::new();
    p.uint64_data = Vec::new();
    p.string_data = Vec::new();
}
