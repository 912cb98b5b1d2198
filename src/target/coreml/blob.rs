//! `weight.bin`: numbers that the program refers to by their place.
//!
//! A head of 64 bytes (how many records, version 2), then records, each at a multiple of 64 bytes: 64 bytes that say type, size and place, and
//! the numbers. The layout is that of coremltools' MILBlob (`mlmodel/src/MILBlob/Blob/StorageFormat.hpp`).

use super::program::{Kind, Literal};
use bytes::Bytes;
use std::collections::HashMap;

const ALIGNMENT: usize = 64;
const SENTINEL: u32 = 0xDEAD_BEEF;

/// The type's number in a record; `None` of types that are not stored there.
fn code(kind: Kind) -> Option<u32> {
    match kind {
        Kind::F16 => Some(1),
        Kind::F32 => Some(2),
        Kind::U8 => Some(3),
        Kind::I8 => Some(4),
        Kind::I32 | Kind::Bool | Kind::U32 | Kind::Text => None,
    }
}

/// Lists of at least so many elements are stored here; shorter ones stand in the program.
const LEAST: usize = 10;

#[derive(Debug, Default)]
pub(super) struct Blob {
    bytes: Vec<u8>,
    records: u32,
    /// Where equal numbers were put.
    places: HashMap<(u32, Bytes), u64>,
}

impl Blob {
    /// The place of a literal's record, where it is one to be stored here.
    pub fn place(&mut self, literal: &Literal) -> Option<u64> {
        let code = code(literal.made.kind).filter(|_| literal.made.count() >= LEAST)?;
        if let Some(&at) = self.places.get(&(code, literal.data.clone())) {
            return Some(at);
        }
        let at = self.bytes.len().max(ALIGNMENT).next_multiple_of(ALIGNMENT);
        self.bytes.resize(at, 0);
        self.bytes.extend_from_slice(&SENTINEL.to_le_bytes());
        self.bytes.extend_from_slice(&code.to_le_bytes());
        self.bytes.extend_from_slice(&(literal.data.len() as u64).to_le_bytes());
        self.bytes.extend_from_slice(&((at + ALIGNMENT) as u64).to_le_bytes());
        self.bytes.resize(at + ALIGNMENT, 0);
        self.bytes.extend_from_slice(&literal.data);
        self.records += 1;
        self.places.insert((code, literal.data.clone()), at as u64);
        Some(at as u64)
    }
    pub fn finish(mut self) -> Vec<u8> {
        self.bytes.resize(self.bytes.len().max(ALIGNMENT), 0);
        self.bytes[..4].copy_from_slice(&self.records.to_le_bytes());
        self.bytes[4..8].copy_from_slice(&2u32.to_le_bytes());
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes that coremltools 9 writes for the same numbers.
    #[test]
    fn records_lie_as_coremltools_puts_them() {
        let mut blob = Blob::default();
        let q = Literal::new(Kind::I8, &[108], vec![7u8; 108]);
        let f = Literal::floats(Kind::F32, &[16], &[0.5; 16]);
        assert_eq!([blob.place(&q), blob.place(&f), blob.place(&q)], [Some(64), Some(256), Some(64)]);
        assert_eq!(blob.place(&Literal::floats(Kind::F32, &[9], &[0.5; 9])), None);
        assert_eq!(blob.place(&Literal::i32s(&[16], &[1; 16])), None);
        let bytes = blob.finish();
        assert_eq!(bytes.len(), 256 + 64 + 64);
        assert_eq!(bytes[..8], [2, 0, 0, 0, 2, 0, 0, 0]);
        assert_eq!(bytes[64..88], [0xef, 0xbe, 0xad, 0xde, 4, 0, 0, 0, 108, 0, 0, 0, 0, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[256..280], [0xef, 0xbe, 0xad, 0xde, 2, 0, 0, 0, 64, 0, 0, 0, 0, 0, 0, 0, 0x40, 1, 0, 0, 0, 0, 0, 0]);
    }
}
