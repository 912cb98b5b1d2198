//! Detections drawn on the image.

use super::Found;
use compresso_base::error::Result;
use compresso_base::report::{Mark, Pen, draw_marks};
use image::RgbImage;

pub use compresso_base::report::class_color;

/// A copy of `image` with a labelled frame per detection, the best on top, and `captions` in the upper left corner.
///
/// # Errors
/// None so far.
pub fn draw_detections(image: &RgbImage, detections: &[Found], captions: &[String]) -> Result<RgbImage> {
    let mark = |d: &Found| Mark {
        sides: [d.bbox.x1, d.bbox.y1, d.bbox.x2, d.bbox.y2],
        text: format!("{} {:.2}", d.label, d.score),
        color: class_color(d.class),
    };
    let marks: Vec<Mark> = detections.iter().map(mark).collect();
    let mut drawn = image.clone();
    draw_marks(&mut drawn, &marks, captions, Pen::for_image(image));
    Ok(drawn)
}
