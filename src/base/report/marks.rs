//! Labelled frames on images.

use super::glyphs::{self, Anchor};
use image::{Rgb, RgbImage};

/// A rectangle with a name.
#[derive(Debug, Clone, PartialEq)]
pub struct Mark {
    /// Left, top, right, bottom in pixels; what lies outside the image is cut.
    pub sides: [f32; 4],
    /// Empty for a frame without a label.
    pub text: String,
    /// Red, green and blue.
    pub color: [u8; 3],
}

/// How thick frames and how large texts are, in pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pen {
    /// Width of lines in pixels.
    pub line: u32,
    /// Height of letters in pixels.
    pub font: f64,
}

impl Pen {
    /// What is well seen on an image of this size.
    pub fn for_image(image: &RgbImage) -> Self {
        let side = f64::from(image.width() + image.height()) / 2.0;
        Self { line: (side * 0.004).round().max(1.0) as u32, font: (side * 0.026).clamp(11.0, 48.0) }
    }
}

/// The colour of a class: hues spread by the golden ratio, so that near numbers look different.
pub fn class_color(class: usize) -> [u8; 3] {
    let hue = (0.02 + class as f64 * 0.618_033_988_749_895).fract();
    let lightness = if class.is_multiple_of(2) { 0.45 } else { 0.55 };
    let chroma = (1.0 - (2.0 * lightness - 1.0_f64).abs()) * 0.85;
    // Each channel falls off with its distance on the colour circle.
    [0.0, 8.0, 4.0].map(|n| {
        let k = (n + hue * 12.0) % 12.0;
        let v = lightness - chroma / 2.0 * (k - 3.0).min(9.0 - k).clamp(-1.0, 1.0);
        (v * 255.0).round() as u8
    })
}

/// Draws frames, then their labels over all of them, the first mark on top; then `captions`, one below the other in the
/// upper left corner.
pub fn draw_marks(image: &mut RgbImage, marks: &[Mark], captions: &[String], pen: Pen) {
    for m in marks.iter().rev() {
        draw_frame(image, m.sides, m.color, pen.line);
    }
    for m in marks.iter().rev().filter(|m| !m.text.is_empty()) {
        draw_label(image, [m.sides[0], m.sides[1]], &m.text, m.color, pen);
    }
    draw_captions(image, captions, pen);
}

/// Writes captions, one below the other, in the upper left corner.
pub fn draw_captions(image: &mut RgbImage, captions: &[String], pen: Pen) {
    for (i, text) in captions.iter().enumerate() {
        draw_label(image, [0.0, (pen.font * 1.25) as f32 * (i + 1) as f32], text, [30, 30, 30], pen);
    }
}

/// A filled rectangle of whole pixels, both corners included, cut at the image's edges.
pub fn fill(image: &mut RgbImage, [x1, y1, x2, y2]: [i64; 4], color: [u8; 3]) {
    let (w, h) = (i64::from(image.width()), i64::from(image.height()));
    for y in y1.max(0)..=y2.min(h - 1) {
        for x in x1.max(0)..=x2.min(w - 1) {
            image.put_pixel(x as u32, y as u32, Rgb(color));
        }
    }
}

/// A rectangle of lines inside of its sides: left, top, right, bottom.
pub fn draw_frame(image: &mut RgbImage, sides: [f32; 4], color: [u8; 3], line: u32) {
    let [x1, y1, x2, y2] = sides.map(|v| v.round() as i64);
    let t = i64::from(line) - 1;
    fill(image, [x1, y1, x2, y1 + t], color);
    fill(image, [x1, y2 - t, x2, y2], color);
    fill(image, [x1, y1, x1 + t, y2], color);
    fill(image, [x2 - t, y1, x2, y2], color);
}

/// Width in pixels of a label with this text.
pub fn label_width(text: &str, font: f64) -> i64 {
    i64::from(glyphs::width(text, font)) + 6
}

/// Text on a filled ground that stands on the point, or below it where there is no room above.
pub fn draw_label(image: &mut RgbImage, [x, y]: [f32; 2], text: &str, color: [u8; 3], pen: Pen) {
    let (w, h) = (label_width(text, pen.font), (pen.font * 1.2) as i64);
    let (width, height) = (i64::from(image.width()), i64::from(image.height()));
    let x = (x.round() as i64).min(width - w).max(0);
    let y = y.round() as i64;
    let top = if y >= h { y - h } else { y + i64::from(pen.line) }.min(height - h).max(0);
    fill(image, [x, top, x + w, top + h], color);
    let luma = 0.299 * f32::from(color[0]) + 0.587 * f32::from(color[1]) + 0.114 * f32::from(color[2]);
    let ink = if luma > 140.0 { [0; 3] } else { [255; 3] };
    write_text(image, text, [x + 3, top + h / 2], pen.font, ink);
}

/// Writes a line that begins at a point, which is half way up its capitals. What lies outside the image is cut.
pub fn write_text(image: &mut RgbImage, text: &str, [x, y]: [i64; 2], font: f64, ink: [u8; 3]) {
    let (width, height) = (i64::from(image.width()), i64::from(image.height()));
    let pixel = |dx: i32, dy: i32, coverage: f32| {
        let (px, py) = (x + i64::from(dx), y + i64::from(dy));
        if (0..width).contains(&px) && (0..height).contains(&py) {
            let p = image.get_pixel_mut(px as u32, py as u32);
            for (under, over) in p.0.iter_mut().zip(ink) {
                let (a, b) = (f32::from(*under), f32::from(over));
                *under = (a + (b - a) * coverage + 0.5) as u8;
            }
        }
        Ok::<(), std::convert::Infallible>(())
    };
    let Ok(()) = glyphs::draw(text, font, (Anchor::Start, Anchor::Center), pixel);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_cut_and_labels_stay_inside() {
        let mut image = RgbImage::from_pixel(80, 60, Rgb([128; 3]));
        let mark = |sides, class: usize| Mark { sides, text: "WWW".into(), color: class_color(class) };
        draw_marks(&mut image, &[mark([-5.0, -5.0, 40.0, 1e9], 0), mark([70.0, 55.0, 79.0, 59.0], 1)], &[], Pen { line: 1, font: 12.0 });
        assert_eq!(image.get_pixel(40, 50).0, class_color(0));
        assert_eq!(image.get_pixel(20, 50).0, [128; 3], "the inside is not painted");
        let ground = image.enumerate_pixels().filter(|(_, _, p)| p.0 == class_color(1));
        let (left, top) = ground.fold((80, 60), |(l, t), (x, y, _)| (l.min(x), t.min(y)));
        assert!(left < 60 && top < 55, "the label moved left and above its frame: {left} {top}");
        assert!(image.pixels().any(|p| p.0.iter().all(|&v| v > 240)), "white text on the dark ground");
    }

    #[test]
    fn degenerate_images_and_marks_are_drawn() {
        for (w, h) in [(0, 0), (1, 1), (3, 200)] {
            let mut image = RgbImage::new(w, h);
            let odd = Mark { sides: [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0], text: "long name".into(), color: [1, 2, 3] };
            let pen = Pen::for_image(&image);
            draw_marks(&mut image, &[odd], &["caption".into()], pen);
            assert_eq!(image.dimensions(), (w, h));
        }
    }

    #[test]
    fn near_classes_differ_in_colour() {
        assert_eq!(class_color(0), [212, 41, 17], "a dark red");
        for a in 0..8 {
            for b in 0..a {
                let (p, q) = (class_color(a), class_color(b));
                let apart: u32 = p.iter().zip(q).map(|(x, y)| u32::from(x.abs_diff(y))).sum();
                assert!(apart > 60, "{a} and {b}: {p:?} {q:?}");
            }
        }
    }
}
