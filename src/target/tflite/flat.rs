//! A writer of [FlatBuffers](https://flatbuffers.dev/internals/): tables, vectors and texts as a tree, laid out from the root on.
//!
//! Offsets between objects point forward, so a parent is written with room for them, then its children in order. The same tree
//! gives the same bytes.

use bytes::Bytes;
use compresso_base::error::{Error, Result};

/// A number of a table, or what a table points at.
#[derive(Debug, Clone)]
pub(super) enum Field {
    Byte(u8),
    Int(i32),
    Float(f32),
    Object(Object),
}

/// What offsets point at.
#[derive(Debug, Clone)]
pub(super) enum Object {
    /// Fields by slot; slots that are left out have the schema's default.
    Table(Vec<(u16, Field)>),
    /// A vector of bytes that begins at a multiple of 16.
    Bytes(Bytes),
    Ints(Vec<i32>),
    Longs(Vec<i64>),
    Floats(Vec<f32>),
    Text(String),
    List(Vec<Object>),
}

/// The file of a root table, with the identifier of its schema.
///
/// # Errors
/// `Unsupported` above 2 GiB, which offsets cannot span.
pub(super) fn file(root: &Object, identifier: [u8; 4]) -> Result<Vec<u8>> {
    let mut writer = Writer { out: vec![0; 4] };
    writer.out.extend(identifier);
    let at = writer.write(root)?;
    writer.point(0, at)?;
    Ok(writer.out)
}

struct Writer {
    out: Vec<u8>,
}

impl Writer {
    /// Zeros until `ahead` bytes further on is a multiple of `width`.
    fn align(&mut self, width: usize, ahead: usize) {
        let end = (self.out.len() + ahead).next_multiple_of(width) - ahead;
        self.out.resize(end, 0);
    }

    /// The offset at `from` leads to `to`.
    fn point(&mut self, from: usize, to: usize) -> Result<()> {
        let large = || Error::unsupported("the file would be larger than 2 GiB, which TensorFlow Lite cannot read");
        let offset = i32::try_from(to - from).map_err(|_| large())?;
        self.out[from..from + 4].copy_from_slice(&offset.to_le_bytes());
        Ok(())
    }

    fn length(&mut self, count: usize) -> Result<()> {
        let count = u32::try_from(count)
            .map_err(|_| Error::unsupported(format!("a vector of {count} elements is too long for TensorFlow Lite")))?;
        self.out.extend(count.to_le_bytes());
        Ok(())
    }

    /// Writes an object and what it points at; gives where it begins.
    fn write(&mut self, object: &Object) -> Result<usize> {
        match object {
            Object::Table(fields) => self.table(fields),
            Object::Bytes(bytes) => self.vector(16, bytes.len(), |out| out.extend_from_slice(bytes)),
            Object::Ints(v) => self.vector(4, v.len(), |out| out.extend(v.iter().flat_map(|x| x.to_le_bytes()))),
            Object::Longs(v) => self.vector(8, v.len(), |out| out.extend(v.iter().flat_map(|x| x.to_le_bytes()))),
            Object::Floats(v) => self.vector(4, v.len(), |out| out.extend(v.iter().flat_map(|x| x.to_le_bytes()))),
            Object::Text(text) => self.vector(1, text.len(), |out| {
                out.extend_from_slice(text.as_bytes());
                out.push(0);
            }),
            Object::List(items) => {
                let at = self.vector(4, items.len(), |out| out.resize(out.len() + 4 * items.len(), 0))?;
                for (i, item) in items.iter().enumerate() {
                    let to = self.write(item)?;
                    self.point(at + 4 + 4 * i, to)?;
                }
                Ok(at)
            }
        }
    }

    fn vector(&mut self, width: usize, count: usize, elements: impl FnOnce(&mut Vec<u8>)) -> Result<usize> {
        // The length itself is aligned to 4.
        self.align(width.max(4), 4);
        let at = self.out.len();
        self.length(count)?;
        elements(&mut self.out);
        Ok(at)
    }

    /// Its table of slots, then its fields: those of four bytes first, so that each is aligned.
    fn table(&mut self, fields: &[(u16, Field)]) -> Result<usize> {
        let slots = fields.iter().map(|(slot, _)| usize::from(*slot) + 1).max().unwrap_or(0);
        let (mut places, mut end) = (vec![0u16; slots], 4u16);
        for wide in [true, false] {
            for (slot, field) in fields.iter().filter(|(_, f)| wide != matches!(f, Field::Byte(_))) {
                places[usize::from(*slot)] = end;
                end += if matches!(field, Field::Byte(_)) { 1 } else { 4 };
            }
        }
        let head = 4 + 2 * slots;
        self.align(4, head);
        let directory = self.out.len();
        for word in [head as u16, end].into_iter().chain(places.iter().copied()) {
            self.out.extend(word.to_le_bytes());
        }
        let at = self.out.len();
        self.out.resize(at + usize::from(end), 0);
        self.out[at..at + 4].copy_from_slice(&(head as i32).to_le_bytes());
        debug_assert_eq!(at - directory, head);
        let mut children = Vec::new();
        for (slot, field) in fields {
            let place = at + usize::from(places[usize::from(*slot)]);
            match field {
                Field::Byte(v) => self.out[place] = *v,
                Field::Int(v) => self.out[place..place + 4].copy_from_slice(&v.to_le_bytes()),
                Field::Float(v) => self.out[place..place + 4].copy_from_slice(&v.to_le_bytes()),
                Field::Object(child) => children.push((place, child)),
            }
        }
        for (place, child) in children {
            let to = self.write(child)?;
            self.point(place, to)?;
        }
        Ok(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(bytes: &[u8], at: usize) -> usize {
        i32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
    }

    #[test]
    fn a_reader_finds_fields_by_slot_and_vectors_where_they_are_aligned() {
        let root = Object::Table(vec![
            (0, Field::Byte(7)),
            (3, Field::Object(Object::List(vec![Object::Text("ab".into()), Object::Bytes(Bytes::from_static(&[1, 2, 3]))]))),
            (2, Field::Int(-5)),
        ]);
        let bytes = file(&root, *b"TST0").unwrap();
        assert_eq!(&bytes[4..8], b"TST0");
        let table = number(&bytes, 0);
        let slots = table - number(&bytes, table);
        let slot = |i: usize| usize::from(u16::from_le_bytes(bytes[slots + 4 + 2 * i..][..2].try_into().unwrap()));
        assert_eq!(bytes[table + slot(0)], 7);
        assert_eq!(slot(1), 0);
        assert_eq!(number(&bytes, table + slot(2)) as i32, -5);
        let list = table + slot(3) + number(&bytes, table + slot(3));
        assert_eq!(number(&bytes, list), 2);
        let text = list + 4 + number(&bytes, list + 4);
        assert_eq!(&bytes[text..text + 7], b"\x02\0\0\0ab\0");
        let data = list + 8 + number(&bytes, list + 8);
        assert_eq!((number(&bytes, data), (data + 4) % 16, &bytes[data + 4..data + 7]), (3, 0, &[1u8, 2, 3][..]));
        assert_eq!(bytes, file(&root, *b"TST0").unwrap());
    }
}
