//! `ValueInfoProto` and [`ValueInfo`].

use super::proto::{Dimension, TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto};
use super::scan::{decode, keep};
use super::text::set;
use crate::wire::Wire;
use crate::{Dim, Element, Fact, ValueInfo};
use bytes::Bytes;
use compresso_base::error::Result;
use indexmap::IndexMap;
use prost::Message;

/// What is declared of a value, and whether that is a tensor type. A value without one (a sequence, an optional, or
/// nothing said) gets the fact that says least.
pub fn import(bytes: &Bytes) -> Result<(ValueInfo, bool)> {
    let bytes = keep(bytes);
    let proto: ValueInfoProto = decode(&bytes, "a value's description")?;
    let fact = proto.r#type.as_ref().and_then(fact);
    let typed = fact.is_some();
    let mut info = ValueInfo::new(proto.name.unwrap_or_default(), fact.unwrap_or_else(|| Fact::unranked(Element::F32)));
    info.wire = Wire(Some(bytes));
    Ok((info, typed))
}

/// What a list declares of inner values; of several declarations of a value, the first counts.
pub fn value_infos(list: &[Bytes]) -> Result<IndexMap<String, ValueInfo>> {
    let mut map = IndexMap::with_capacity(list.len());
    for b in list {
        let (info, _) = import(b)?;
        map.entry(info.name.clone()).or_insert(info);
    }
    Ok(map)
}

fn fact(p: &TypeProto) -> Option<Fact> {
    let tensor = p.tensor_type.as_ref()?;
    let element = Element::from_code(tensor.elem_type.unwrap_or(0))?;
    Some(match &tensor.shape {
        None => Fact::unranked(element),
        Some(shape) => Fact::new(element, shape.dim.iter().map(dim).collect()),
    })
}

/// A negative size, which some exporters write, and an empty symbol mean "unknown".
fn dim(d: &Dimension) -> Dim {
    match (d.dim_value, d.dim_param.as_deref()) {
        (Some(n), _) => usize::try_from(n).map_or(Dim::Unknown, Dim::Known),
        (None, Some(s)) if !s.is_empty() => Dim::symbol(s),
        _ => Dim::Unknown,
    }
}

/// The encoded `ValueInfoProto`, as the file had it where name, type and shape are still the same.
pub fn export(info: &ValueInfo) -> Result<Bytes> {
    let mut proto = ValueInfoProto::default();
    if let Some(wire) = &info.wire.0 {
        let (had, _) = import(wire)?;
        if had.name == info.name && had.fact.element == info.fact.element && had.fact.shape == info.fact.shape {
            return Ok(wire.clone());
        }
        proto = decode(wire, "a value's description")?;
    }
    set(&mut proto.name, &info.name);
    let shape = info.fact.shape.as_ref().map(|shape| TensorShapeProto { dim: shape.iter().map(dimension).collect() });
    let tensor = TensorTypeProto { elem_type: Some(info.fact.element.code()), shape };
    let denotation = proto.r#type.take().and_then(|t| t.denotation);
    proto.r#type = Some(TypeProto { tensor_type: Some(tensor), denotation, ..TypeProto::default() });
    Ok(proto.encode_to_vec().into())
}

fn dimension(d: &Dim) -> Dimension {
    let mut out = Dimension::default();
    match d {
        Dim::Known(n) => out.dim_value = i64::try_from(*n).ok(),
        Dim::Symbol(s) => out.dim_param = Some(s.to_string()),
        Dim::Unknown => {}
    }
    out
}
