//! Detections drawn on the image.

use super::Found;
use super::instances::{KeyPoint, Part, bones};
use compresso_base::error::Result;
use compresso_base::report::{Pen, draw_captions, draw_dot, draw_frame, draw_label, draw_line, tint};
use image::RgbImage;

pub use compresso_base::report::class_color;

/// How much of a mask's colour covers the image.
const TINT: f32 = 0.45;

/// A copy of `image` with a labelled frame per detection, the best on top, and `captions` in the upper left corner. Masks are
/// translucent, turned boxes are drawn in place of a frame, and of key points those that are seen, joined to a skeleton where
/// they are a person's.
///
/// # Errors
/// None so far.
pub fn draw_detections(image: &RgbImage, detections: &[Found], captions: &[String]) -> Result<RgbImage> {
    let pen = Pen::for_image(image);
    let mut drawn = image.clone();
    for d in detections.iter().rev() {
        if let Some(Part::Mask(mask)) = &d.part {
            mask.columns().for_each(|(x, rows)| tint(&mut drawn, x, rows, class_color(d.class), TINT));
        }
    }
    for d in detections.iter().rev() {
        let color = class_color(d.class);
        if let Some(Part::Turned(turned)) = &d.part {
            let corners = turned.corners();
            (0..4).for_each(|i| draw_line(&mut drawn, corners[i], corners[(i + 1) % 4], pen.line, color));
        } else {
            draw_frame(&mut drawn, [d.bbox.x1, d.bbox.y1, d.bbox.x2, d.bbox.y2], color, pen.line);
        }
    }
    for d in detections.iter().rev() {
        if let Some(Part::KeyPoints(points)) = &d.part {
            skeleton(&mut drawn, points, pen);
        }
    }
    for d in detections.iter().rev() {
        draw_label(&mut drawn, label_place(d), &format!("{} {:.2}", d.label, d.score), class_color(d.class), pen);
    }
    draw_captions(&mut drawn, captions, pen);
    Ok(drawn)
}

/// Where the label of a detection begins: at the upper left of its box, at the highest corner of a turned one.
fn label_place(d: &Found) -> [f32; 2] {
    match &d.part {
        Some(Part::Turned(turned)) => turned.corners().into_iter().fold([0.0, f32::INFINITY], |top, c| if c[1] < top[1] { c } else { top }),
        _ => [d.bbox.x1, d.bbox.y1],
    }
}

fn skeleton(image: &mut RgbImage, points: &[KeyPoint], pen: Pen) {
    for [a, b] in bones(points.len()) {
        let (a, b) = (points[*a], points[*b]);
        if a.is_seen() && b.is_seen() {
            draw_line(image, [a.x, a.y], [b.x, b.y], pen.line, [235; 3]);
        }
    }
    let radius = 1.5 + pen.line as f32;
    for (i, p) in points.iter().enumerate().filter(|(_, p)| p.is_seen()) {
        draw_dot(image, [p.x, p.y], radius + 1.0, [20; 3]);
        draw_dot(image, [p.x, p.y], radius, class_color(i));
    }
}
