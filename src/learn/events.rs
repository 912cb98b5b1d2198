//! Event files of TensorBoard: scalars over steps.
//!
//! A file is a list of records (TFRecord): the length of the data (u64, little-endian), a checksum of these eight bytes, the data, a checksum of
//! it. A checksum is CRC-32C, turned and shifted. The data is a message `Event` of TensorFlow's `event.proto`, of which scalars need five fields.

use compresso_base::error::{Error, Result};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// A file that scalars are added to; each call writes a whole record.
#[derive(Debug)]
pub struct EventFile {
    file: File,
    path: PathBuf,
}

impl EventFile {
    /// A new file in a folder, which is made: `events.out.tfevents.SECONDS.compresso.N`.
    ///
    /// # Errors
    /// `Io`, naming the folder or the file.
    pub fn create(folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
        let seconds = now() as u64;
        // Another of the same second has the next number; TensorBoard reads them in the order of their names.
        for number in 0u32.. {
            let path = folder.join(format!("events.out.tfevents.{seconds:010}.compresso.{number}"));
            match File::options().write(true).create_new(true).open(&path) {
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(Error::io(&path, e)),
                Ok(file) => {
                    let mut events = Self { file, path };
                    events.write(&event(now(), 0, |e| text(e, 3, "brain.Event:2")))?;
                    return Ok(events);
                }
            }
        }
        Err(Error::internal("there are no more numbers for files"))
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds the values of a step, each under its tag, at this moment.
    ///
    /// # Errors
    /// `Io`, naming the file.
    pub fn scalars<'a>(&mut self, step: u64, values: impl IntoIterator<Item = (&'a str, f64)>) -> Result<()> {
        self.scalars_at(now(), step, values)
    }

    /// As [`EventFile::scalars`], at another moment, in seconds since 1970.
    ///
    /// # Errors
    /// `Io`, naming the file.
    pub fn scalars_at<'a>(&mut self, seconds: f64, step: u64, values: impl IntoIterator<Item = (&'a str, f64)>) -> Result<()> {
        let mut summary = Vec::new();
        for (tag, value) in values {
            let mut one = Vec::new();
            text(&mut one, 1, tag);
            one.push((2 << 3) | FIXED32);
            one.extend((value as f32).to_le_bytes());
            message(&mut summary, 1, &one);
        }
        self.write(&event(seconds, step, |e| message(e, 5, &summary)))
    }

    fn write(&mut self, data: &[u8]) -> Result<()> {
        let length = (data.len() as u64).to_le_bytes();
        let record = [&length[..], &masked(&length), data, &masked(data)].concat();
        self.file.write_all(&record).map_err(|e| Error::io(&self.path, e))
    }
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64())
}

// Wire types of protocol buffers.
const VARINT: u8 = 0;
const FIXED64: u8 = 1;
const LENGTH: u8 = 2;
const FIXED32: u8 = 5;

fn event(seconds: f64, step: u64, what: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut e = vec![(1 << 3) | FIXED64];
    e.extend(seconds.to_le_bytes());
    e.push((2 << 3) | VARINT);
    varint(&mut e, step);
    what(&mut e);
    e
}

fn varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

fn message(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    out.push((field << 3) | LENGTH);
    varint(out, bytes.len() as u64);
    out.extend(bytes);
}

fn text(out: &mut Vec<u8>, field: u8, text: &str) {
    message(out, field, text.as_bytes());
}

/// CRC-32C (Castagnoli), reflected.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, b| (0..8).fold(crc ^ u32::from(*b), step))
}

/// Checksums of data that holds checksums are masked.
fn masked(bytes: &[u8]) -> [u8; 4] {
    crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 3720, B.4, and the check value of the polynomial.
    #[test]
    fn checksums_are_those_of_the_standard() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
    }

    /// The messages byte by byte, by the numbers of the fields in event.proto and summary.proto. A reader that knows nothing of this one is in
    /// tests/experiments.rs.
    #[test]
    fn an_event_has_the_fields_of_tensorflow() {
        let folder = tempfile::tempdir().unwrap();
        let mut events = EventFile::create(folder.path()).unwrap();
        events.scalars_at(1.5, 300, [("loss", 0.25)]).unwrap();
        let other = EventFile::create(folder.path()).unwrap();
        assert_ne!(events.path(), other.path());
        let bytes = std::fs::read(events.path()).unwrap();
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let second = &bytes[12 + length + 4..];
        let data = &second[12..second.len() - 4];
        let mut expected = vec![0x09];
        expected.extend(1.5f64.to_le_bytes());
        expected.extend([0x10, 0xac, 0x02, 0x2a, 13, 0x0a, 11, 0x0a, 4]);
        expected.extend(b"loss\x15");
        expected.extend(0.25f32.to_le_bytes());
        assert_eq!(data, expected);
    }
}
