//! Whether a JPEG file is whole. Its decoders fill what is missing with grey and say nothing; those of the other formats
//! refuse a file that is cut off.

use std::io::{self, BufRead};

/// Whether the bytes of a JPEG file reach the marker of its end. What follows it does not count: cameras and tools put
/// previews and text there. True for what is no JPEG file.
///
/// # Errors
/// Those of reading.
pub(super) fn reaches_its_end(file: &mut impl BufRead) -> io::Result<bool> {
    if next(file)? != Some(0xff) || next(file)? != Some(START) {
        return Ok(true);
    }
    loop {
        // Between segments, and in coded pixels, what is no marker is passed over.
        if file.skip_until(0xff)? == 0 {
            return Ok(false);
        }
        let mut marker = next(file)?;
        while marker == Some(0xff) {
            marker = next(file)?;
        }
        match marker {
            None => return Ok(false),
            Some(END) => return Ok(true),
            // A byte 0xff of the pixels, markers that stand alone.
            Some(0 | 1 | START | FIRST_RESTART..=LAST_RESTART) => {}
            Some(_) => {
                let (Some(high), Some(low)) = (next(file)?, next(file)?) else { return Ok(false) };
                // The length counts its own two bytes.
                let rest = u64::from(u16::from_be_bytes([high, low])).saturating_sub(2);
                if io::copy(&mut io::Read::take(&mut *file, rest), &mut io::sink())? < rest {
                    return Ok(false);
                }
            }
        }
    }
}

const START: u8 = 0xd8;
const END: u8 = 0xd9;
const FIRST_RESTART: u8 = 0xd0;
const LAST_RESTART: u8 = 0xd7;

fn next(file: &mut impl BufRead) -> io::Result<Option<u8>> {
    let byte = file.fill_buf()?.first().copied();
    file.consume(usize::from(byte.is_some()));
    Ok(byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jpeg() -> Vec<u8> {
        let mut bytes = Vec::new();
        let image = image::RgbImage::from_fn(40, 30, |x, y| image::Rgb([(x * 37 % 256) as u8, (y * 91 % 256) as u8, (x * y % 256) as u8]));
        image.write_with_encoder(image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, 95)).unwrap();
        bytes
    }

    #[test]
    fn every_cut_of_a_jpeg_file_shows() {
        let bytes = jpeg();
        let whole = |bytes: &[u8]| reaches_its_end(&mut &bytes[..]).unwrap();
        assert!(whole(&bytes));
        for length in 2..bytes.len() {
            assert!(!whole(&bytes[..length]), "{length} of {} bytes", bytes.len());
        }
        assert!(whole(&[&bytes, &b"\0 more"[..]].concat()), "what follows the end does not count");
        // A preview inside a segment has an end of its own.
        let preview = [&[0xff, 0xd8, 0xff, 0xe1, 0, 6, 0xff, 0xd9, 0, 0][..], &bytes[2..bytes.len() - 2]].concat();
        assert!(!whole(&preview));
        assert!(whole(b"\x89PNG\r\n") && whole(b""));
    }
}
