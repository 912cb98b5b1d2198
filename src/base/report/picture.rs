//! Images of a report.

use crate::error::{Error, Result};
use image::{ImageFormat, RgbImage};
use std::io::Cursor;

/// An image with a title.
#[derive(Debug, Clone)]
pub struct Picture {
    /// Its caption.
    pub title: String,
    /// The pixels.
    pub image: RgbImage,
}

/// Quality of JPEG files, 1 to 100.
const JPEG_QUALITY: u8 = 92;

impl Picture {
    /// The image as a PNG file.
    ///
    /// # Errors
    /// `Argument` for an image without pixels.
    pub fn png(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.image.write_to(&mut Cursor::new(&mut bytes), ImageFormat::Png).map_err(|e| failed(&self.image, e))?;
        Ok(bytes)
    }
    /// The image as a JPEG file.
    ///
    /// # Errors
    /// `Argument` for an image without pixels or of a side above 65535.
    pub fn jpeg(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY);
        self.image.write_with_encoder(encoder).map_err(|e| failed(&self.image, e))?;
        Ok(bytes)
    }
}

fn failed(image: &RgbImage, e: image::ImageError) -> Error {
    Error::argument(format!("an image of {}×{} pixels cannot be encoded", image.width(), image.height())).because(e)
}
