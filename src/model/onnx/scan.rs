//! Reading protobuf fields without a schema.

use bytes::{Buf, Bytes, BytesMut};
use compresso_base::error::{Error, Result};
use prost::DecodeError;
use prost::encoding::{DecodeContext, WireType, decode_key, skip_field};

/// The encoded fields of a message whose numbers are not in `known`, one after the other.
///
/// # Errors
/// When the message is malformed.
pub fn unknown_fields(message: &Bytes, known: &[u32]) -> std::result::Result<Bytes, DecodeError> {
    let mut rest = message.clone();
    let mut out = BytesMut::new();
    while rest.has_remaining() {
        let start = message.len() - rest.remaining();
        let (tag, wire_type) = decode_key(&mut rest)?;
        skip_field(wire_type, tag, &mut rest, DecodeContext::default())?;
        if !known.contains(&tag) {
            out.extend_from_slice(&message[start..message.len() - rest.remaining()]);
        }
    }
    Ok(out.freeze())
}

/// Field numbers of `ModelProto`.
pub const MODEL_FIELDS: &[u32] = &[1, 2, 3, 4, 5, 6, 7, 8, 14, 20, 25, 26];
/// Field numbers of `GraphProto`.
pub const GRAPH_FIELDS: &[u32] = &[1, 2, 5, 10, 11, 12, 13, 14, 15, 16];

/// Appends a length-delimited field's key and length.
pub fn put_header(tag: u32, len: usize, out: &mut Vec<u8>) {
    prost::encoding::encode_key(tag, WireType::LengthDelimited, out);
    prost::encoding::encode_varint(len as u64, out);
}

/// The error for bytes that are not a message of the schema.
pub fn malformed(what: &str, e: DecodeError) -> Error {
    Error::format(format!("{what} is malformed: the file is damaged, truncated or not an ONNX model")).because(e)
}

/// Decodes a message.
pub fn decode<M: prost::Message + Default>(bytes: &Bytes, what: &str) -> Result<M> {
    M::decode(bytes.clone()).map_err(|e| malformed(what, e))
}

/// Bytes to keep for long: small pieces are copied, so that they do not hold on to the whole file; large ones, which are
/// most of the file anyway, are shared.
pub fn keep(bytes: &Bytes) -> Bytes {
    if bytes.len() <= 4096 { Bytes::copy_from_slice(bytes) } else { bytes.clone() }
}
