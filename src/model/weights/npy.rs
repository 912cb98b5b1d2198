//! NumPy's .npy files (format 1.0 to 3.0, numpy/lib/format.py).

use crate::literal::Literal;
use crate::{Constant, Element, Payload};
use bytes::Bytes;
use compresso_base::error::{Error, Result};

const MAGIC: &[u8] = b"\x93NUMPY";

/// What a file's header says of the array after it.
pub(super) struct Header {
    element: Element,
    dims: Vec<usize>,
    big_endian: bool,
    fortran_order: bool,
    /// Bytes before the data.
    pub(super) length: usize,
    /// Bytes of the data.
    pub(super) size: usize,
}

/// The array of a whole file.
pub(super) fn decode(bytes: &Bytes) -> Result<Constant> {
    let header = header(bytes)?;
    let have = bytes.len() - header.length;
    if have < header.size {
        return Err(Error::format(format!("{} {:?} needs {} bytes, got {have}", header.element, header.dims, header.size)));
    }
    let mut raw = bytes.slice(header.length..header.length + header.size);
    let width = header.element.bits() / 8;
    if header.big_endian && width > 1 {
        raw = raw.chunks_exact(width).flat_map(|c| c.iter().rev().copied()).collect::<Vec<u8>>().into();
    }
    if header.fortran_order && header.dims.len() > 1 {
        raw = row_major(&raw, &header.dims, width).into();
    }
    Constant::new(header.element, header.dims, Payload::Raw(raw))
}

/// Reads the header, given the beginning of the file.
pub(super) fn header(bytes: &[u8]) -> Result<Header> {
    let short = || Error::format("the file is too short for a .npy file");
    if !bytes.starts_with(MAGIC) {
        return Err(Error::format("not a .npy file"));
    }
    let version = *bytes.get(6).ok_or_else(short)?;
    let (start, text_length) = match version {
        1 => (10, u16::from_le_bytes([*bytes.get(8).ok_or_else(short)?, *bytes.get(9).ok_or_else(short)?]) as usize),
        2 | 3 => {
            let length: [u8; 4] = bytes.get(8..12).and_then(|b| b.try_into().ok()).ok_or_else(short)?;
            (12, u32::from_le_bytes(length) as usize)
        }
        v => return Err(Error::unsupported(format!("version {v} of the .npy format is not known"))),
    };
    let length = start + text_length;
    let text = bytes.get(start..length).ok_or_else(short)?;
    let text = std::str::from_utf8(text).map_err(|e| Error::format("the header is not text").because(e))?;
    let header = Literal::parse(text)?;
    let missing = |key: &str| Error::format(format!("the header has no usable '{key}'"));
    let (element, big_endian) = element(header.get("descr").ok_or_else(|| missing("descr"))?)?;
    let Some(Literal::Bool(fortran_order)) = header.get("fortran_order") else { return Err(missing("fortran_order")) };
    let Some(Literal::List(shape)) = header.get("shape") else { return Err(missing("shape")) };
    let dims = shape.iter().map(|d| d.int().and_then(|d| usize::try_from(d).ok())).collect::<Option<Vec<_>>>();
    let dims = dims.ok_or_else(|| missing("shape"))?;
    let count = dims.iter().try_fold(1usize, |a, &d| a.checked_mul(d)).and_then(|n| element.bytes(n));
    let size = count.ok_or_else(|| Error::format(format!("the shape {dims:?} overflows")))?;
    Ok(Header { element, dims, big_endian, fortran_order: *fortran_order, length, size })
}

/// NumPy's type codes: byte order, kind, width.
const TYPES: [(&str, Element); 12] = [
    ("f4", Element::F32),
    ("f8", Element::F64),
    ("f2", Element::F16),
    ("i1", Element::I8),
    ("i2", Element::I16),
    ("i4", Element::I32),
    ("i8", Element::I64),
    ("u1", Element::U8),
    ("u2", Element::U16),
    ("u4", Element::U32),
    ("u8", Element::U64),
    ("b1", Element::Bool),
];

fn element(descr: &Literal) -> Result<(Element, bool)> {
    let text = descr.text().unwrap_or("a record");
    let unsupported = || {
        let e = Error::unsupported(format!("arrays of type '{text}' are not supported"));
        if text.contains('O') { e.hint("object arrays are pickles, which can run code; save a plain numeric array") } else { e }
    };
    let code = text.trim_start_matches(['<', '>', '|', '=']);
    let (_, element) = TYPES.iter().find(|(c, _)| *c == code).ok_or_else(unsupported)?;
    Ok((*element, text.starts_with('>')))
}

/// The elements of a column-major array in row-major order.
fn row_major(raw: &[u8], dims: &[usize], width: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(raw.len());
    let strides: Vec<usize> = dims.iter().scan(1, |s, &d| Some(std::mem::replace(s, *s * d))).collect();
    let mut at = vec![0usize; dims.len()];
    for _ in 0..raw.len() / width.max(1) {
        let from: usize = at.iter().zip(&strides).map(|(i, s)| i * s).sum();
        out.extend_from_slice(&raw[from * width..(from + 1) * width]);
        for axis in (0..dims.len()).rev() {
            at[axis] += 1;
            if at[axis] < dims[axis] {
                break;
            }
            at[axis] = 0;
        }
    }
    out
}

/// The file of a constant.
///
/// # Errors
/// `Unsupported` for element types that NumPy lacks.
pub(super) fn encode(c: &Constant) -> Result<Vec<u8>> {
    let Some((code, _)) = TYPES.iter().find(|(_, e)| *e == c.element()) else {
        let e = Error::unsupported(format!("NumPy files cannot hold {}", c.element()));
        return Err(e.hint("save it as .pb, or convert it to float32"));
    };
    let Payload::Raw(raw) = c.payload() else { return Err(Error::internal("a tensor to be saved is not raw")) };
    let order = if c.element().bits() == 8 { '|' } else { '<' };
    let mut shape: Vec<String> = c.dims().iter().map(ToString::to_string).collect();
    if shape.len() == 1 {
        shape.push(String::new());
    }
    let text = format!("{{'descr': '{order}{code}', 'fortran_order': False, 'shape': ({}), }}", shape.join(", ").replace(", )", ",)"));
    let text = text.replace(", )", ",)");
    // The data starts at a multiple of 64; a line break ends the header.
    let padded = (10 + text.len() + 1).next_multiple_of(64) - 10;
    let length = u16::try_from(padded).map_err(|_| Error::unsupported("the shape is too long for a .npy file"))?;
    let mut out = Vec::with_capacity(10 + padded + raw.len());
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&[1, 0]);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(text.as_bytes());
    out.resize(10 + padded - 1, b' ');
    out.push(b'\n');
    out.extend_from_slice(raw);
    Ok(out)
}
