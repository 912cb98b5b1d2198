//! Detections drawn on the image.

use super::Found;
use crate::error::{Error, Result};
use crate::learn::data::BBox;
use image::RgbImage;
use plotters::backend::BitMapBackend;
use plotters::prelude::*;
use std::sync::Once;

/// The font's name among plotters' fonts.
const FONT: &str = "compresso-labels";

/// The colour of a class: hues spread by the golden ratio, so that near numbers look different.
pub fn class_color(class: usize) -> [u8; 3] {
    let hue = (0.02 + class as f64 * 0.618_033_988_749_895).fract();
    let (r, g, b) = HSLColor(hue, 0.85, if class.is_multiple_of(2) { 0.45 } else { 0.55 }).rgb();
    [r, g, b]
}

/// A copy of `image` with a labelled frame per detection and `captions` in the upper left corner.
///
/// # Errors
/// `Internal` when drawing fails.
pub fn draw_detections(image: &RgbImage, detections: &[Found], captions: &[String]) -> Result<RgbImage> {
    static FONT_IS_KNOWN: Once = Once::new();
    FONT_IS_KNOWN.call_once(|| {
        // Only fails on bytes that are no font.
        let _ = plotters::style::register_font(FONT, FontStyle::Normal, epaint_default_fonts::UBUNTU_LIGHT);
    });
    let (width, height) = image.dimensions();
    let mut pixels = image.as_raw().clone();
    {
        let area = BitMapBackend::with_buffer(&mut pixels, (width, height)).into_drawing_area();
        let side = f64::from(width + height) / 2.0;
        let brush = Brush { area: &area, line: (side * 0.004).round().max(1.0) as i32, font: (side * 0.026).clamp(11.0, 48.0) };
        // The best detection is drawn last, on top.
        for d in detections.iter().rev() {
            brush.frame(d.bbox, class_color(d.class))?;
        }
        for d in detections.iter().rev() {
            brush.label(d.bbox.x1, d.bbox.y1, &format!("{} {:.2}", d.label, d.score), class_color(d.class))?;
        }
        for (i, text) in captions.iter().enumerate() {
            brush.label(0.0, (brush.font * 1.25) as f32 * (i + 1) as f32, text, [30, 30, 30])?;
        }
        area.present().map_err(failed)?;
    }
    RgbImage::from_raw(width, height, pixels).ok_or_else(|| Error::internal("drawing changed the image's size"))
}

fn failed(e: impl std::fmt::Display) -> Error {
    Error::internal(format!("drawing failed: {e}"))
}

struct Brush<'a, 'b> {
    area: &'a DrawingArea<BitMapBackend<'b>, plotters::coord::Shift>,
    /// Width of a frame in pixels.
    line: i32,
    font: f64,
}

impl Brush<'_, '_> {
    fn size(&self) -> (i32, i32) {
        let (w, h) = self.area.dim_in_pixel();
        (w as i32, h as i32)
    }

    /// A filled rectangle, both corners included, clipped to the image.
    fn fill(&self, x1: i32, y1: i32, x2: i32, y2: i32, [r, g, b]: [u8; 3]) -> Result<()> {
        let (w, h) = self.size();
        let (x1, y1, x2, y2) = (x1.max(0), y1.max(0), x2.min(w - 1), y2.min(h - 1));
        for y in y1..=y2 {
            for x in x1..=x2 {
                self.area.draw_pixel((x, y), &RGBColor(r, g, b)).map_err(failed)?;
            }
        }
        Ok(())
    }

    fn frame(&self, b: BBox, color: [u8; 3]) -> Result<()> {
        let [x1, y1, x2, y2] = [b.x1, b.y1, b.x2, b.y2].map(|v| v.round() as i32);
        let t = self.line - 1;
        self.fill(x1, y1, x2, y1 + t, color)?;
        self.fill(x1, y2 - t, x2, y2, color)?;
        self.fill(x1, y1, x1 + t, y2, color)?;
        self.fill(x2 - t, y1, x2, y2, color)
    }

    /// Text on a filled ground that stands on the point, or below it where there is no room above.
    fn label(&self, x: f32, y: f32, text: &str, color: [u8; 3]) -> Result<()> {
        let luma = 0.299 * f32::from(color[0]) + 0.587 * f32::from(color[1]) + 0.114 * f32::from(color[2]);
        let ink = if luma > 140.0 { BLACK } else { WHITE };
        let style = (FONT, self.font).into_font().color(&ink);
        let (w, _) = self.area.estimate_text_size(text, &style).map_err(failed)?;
        let (w, h) = (w as i32 + 6, (self.font * 1.2) as i32);
        let (width, height) = self.size();
        let x = (x.round() as i32).min(width - w).max(0);
        let y = y.round() as i32;
        let top = if y >= h { y - h } else { y + self.line }.min(height - h).max(0);
        self.fill(x, top, x + w, top + h, color)?;
        self.area.draw(&Text::new(text, (x + 3, top + (self.font * 0.1) as i32), style)).map_err(failed)
    }
}
