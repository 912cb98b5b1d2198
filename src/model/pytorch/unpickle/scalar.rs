//! Opcodes that hold a number, a text or bytes.

use super::{Machine, short};
use crate::pytorch::object::Object;
use compresso_base::error::{Error, Result};

impl<'d> Machine<'d> {
    /// Opcodes that name an object with all its content.
    pub(super) fn scalar(&mut self, code: u8) -> Result<()> {
        let object = match code {
            b'J' => Object::Int(i64::from(i32::from_le_bytes(self.take_array()?))),
            b'K' => Object::Int(i64::from(u8::from_le_bytes(self.take_array()?))),
            b'M' => Object::Int(i64::from(u16::from_le_bytes(self.take_array()?))),
            0x8a => {
                let length = usize::from(u8::from_le_bytes(self.take_array()?));
                long(self.take(length)?)
            }
            0x8b => {
                let length = i32::from_le_bytes(self.take_array()?);
                let length = usize::try_from(length).map_err(|_| Error::format("the length of an integer is negative"))?;
                long(self.take(length)?)
            }
            b'I' | b'L' => {
                let text = self.line()?;
                return match (code, &*text) {
                    (b'I', "00") => self.push(Object::Bool(false)),
                    (b'I', "01") => self.push(Object::Bool(true)),
                    _ => {
                        let digits = text.trim_end_matches('L');
                        let value = digits.parse().map_err(|_| Error::format("a number is not a whole number of at most 64 bits"))?;
                        self.push(Object::Int(value))
                    }
                };
            }
            b'F' => Object::Float(self.line()?.parse().map_err(|_| Error::format("a number is no number"))?),
            b'G' => Object::Float(f64::from_be_bytes(self.take_array()?)),
            0x8c | b'X' | 0x8d => {
                let bytes = self.counted(code)?;
                let text = std::str::from_utf8(bytes).map_err(|e| Error::format("a text is not UTF-8").because(e))?;
                Object::Text(text.into())
            }
            // Bytes in Python 3, texts in Python 2.
            b'U' | b'T' => text_or_bytes(self.counted(code)?),
            b'C' | b'B' | 0x8e | 0x96 => Object::Bytes(self.counted(code)?.into()),
            b'S' => {
                let line = self.line()?;
                let quoted = line.strip_prefix(['\'', '"']).and_then(|l| l.strip_suffix(['\'', '"']));
                Object::Text(unescape(quoted.ok_or_else(|| Error::format("a text is not in quotes"))?, false).into())
            }
            // In Latin-1, all else as \u and \U.
            b'V' => {
                let text: String = self.line_bytes()?.iter().map(|&b| char::from(b)).collect();
                Object::Text(unescape(&text, true).into())
            }
            0x97 | 0x98 => return Err(Error::unsupported("buffers outside of the pickle are not supported")),
            other => return Err(Error::format(format!("0x{other:02x} is no opcode of a pickle"))),
        };
        self.push(object)
    }

    /// The bytes after the length that this opcode has.
    fn counted(&mut self, code: u8) -> Result<&'d [u8]> {
        let length = match code {
            0x8c | b'U' | b'C' => u64::from(u8::from_le_bytes(self.take_array()?)),
            b'X' | b'T' | b'B' => u64::from(u32::from_le_bytes(self.take_array()?)),
            _ => u64::from_le_bytes(self.take_array()?),
        };
        self.take(usize::try_from(length).map_err(|_| short())?)
    }
}

/// An integer in two's complement, little-endian.
fn long(bytes: &[u8]) -> Object {
    if bytes.len() > 8 {
        return Object::Long(bytes.into());
    }
    let negative = bytes.last().is_some_and(|b| b & 0x80 != 0);
    let mut all = [if negative { 0xff } else { 0 }; 8];
    all[..bytes.len()].copy_from_slice(bytes);
    Object::Int(i64::from_le_bytes(all))
}

fn text_or_bytes(bytes: &[u8]) -> Object {
    match std::str::from_utf8(bytes) {
        Ok(text) => Object::Text(text.into()),
        Err(_) => Object::Bytes(bytes.into()),
    }
}

/// Text with `\uHHHH` and `\UHHHHHHHH` and, unless it is `raw`, `\n`, `\xHH` and the like.
fn unescape(text: &str, raw: bool) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let tail = &rest[at + 1..];
        let digits = match tail.as_bytes().first() {
            Some(b'x') if !raw => 2,
            Some(b'u') => 4,
            Some(b'U') => 8,
            _ => 0,
        };
        let coded = tail.get(1..1 + digits).filter(|_| digits > 0).and_then(|d| u32::from_str_radix(d, 16).ok()).and_then(char::from_u32);
        let simple = match tail.as_bytes().first() {
            _ if raw => None,
            Some(b'n') => Some('\n'),
            Some(b'r') => Some('\r'),
            Some(b't') => Some('\t'),
            Some(&b @ (b'\\' | b'\'' | b'"')) => Some(char::from(b)),
            _ => None,
        };
        match (coded, simple) {
            (Some(c), _) => {
                out.push(c);
                rest = &tail[1 + digits..];
            }
            (None, Some(c)) => {
                out.push(c);
                rest = &tail[1..];
            }
            (None, None) => {
                out.push('\\');
                rest = tail;
            }
        }
    }
    out.push_str(rest);
    out
}
