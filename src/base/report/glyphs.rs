//! Text as pixels, for images.

use ab_glyph::{Font, FontRef, GlyphId, ScaleFont, point};
use std::sync::OnceLock;

/// Where a text lies relative to its point, along one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Anchor {
    /// The text begins at the point (left, top).
    Start,
    Center,
    /// The text ends at the point (right, bottom).
    End,
}

impl Anchor {
    /// What to add to the point to get the beginning of something of this length.
    fn shift(self, length: f32) -> f32 {
        match self {
            Self::Start => 0.0,
            Self::Center => -length / 2.0,
            Self::End => -length,
        }
    }
}

fn font() -> Option<&'static FontRef<'static>> {
    static FONT: OnceLock<Option<FontRef<'static>>> = OnceLock::new();
    FONT.get_or_init(|| FontRef::try_from_slice(epaint_default_fonts::UBUNTU_LIGHT).ok()).as_ref()
}

/// Glyphs of a line with the place of each, and the line's width.
fn line(text: &str, size: f32) -> (Vec<(GlyphId, f32)>, f32) {
    let Some(font) = font() else { return (Vec::new(), 0.0) };
    let font = font.as_scaled(size);
    let mut x = 0.0;
    let mut last: Option<GlyphId> = None;
    let mut glyphs = Vec::with_capacity(text.len());
    for c in text.chars() {
        let id = font.glyph_id(c);
        x += last.map_or(0.0, |l| font.kern(l, id));
        glyphs.push((id, x));
        x += font.h_advance(id);
        last = Some(id);
    }
    (glyphs, x)
}

/// Width of a line in pixels.
pub(super) fn width(text: &str, size: f64) -> i32 {
    line(text, size as f32).1.ceil() as i32
}

/// Draws a line by calling `pixel` with positions relative to its point and with coverages from 0 to 1.
pub(super) fn draw<E>(
    text: &str,
    size: f64,
    (across, down): (Anchor, Anchor),
    mut pixel: impl FnMut(i32, i32, f32) -> Result<(), E>,
) -> Result<(), E> {
    let Some(font) = font() else { return Ok(()) };
    let scaled = font.as_scaled(size as f32);
    let (glyphs, width) = line(text, size as f32);
    // The height of a line is that of its capitals, which are what the eye centres.
    let capitals = scaled.ascent() * 0.74;
    let left = across.shift(width).round();
    let baseline = (down.shift(capitals) + capitals).round();
    for (id, x) in glyphs {
        let Some(outline) = font.outline_glyph(id.with_scale_and_position(size as f32, point(left + x, baseline))) else { continue };
        let bounds = outline.px_bounds();
        let mut result = Ok(());
        outline.draw(|dx, dy, coverage| {
            if result.is_ok() && coverage > 0.0 {
                result = pixel(bounds.min.x as i32 + dx as i32, bounds.min.y as i32 + dy as i32, coverage.min(1.0));
            }
        });
        result?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Left, top, right and bottom of the ink.
    fn ink(text: &str, anchor: (Anchor, Anchor)) -> [i32; 4] {
        let mut b = [i32::MAX, i32::MAX, i32::MIN, i32::MIN];
        draw(text, 32.0, anchor, |x, y, c| {
            if c > 0.3 {
                b = [b[0].min(x), b[1].min(y), b[2].max(x), b[3].max(y)];
            }
            Ok::<(), ()>(())
        })
        .unwrap();
        b
    }

    #[test]
    fn anchors_place_the_ink() {
        let [left, top, right, bottom] = ink("HHH", (Anchor::Center, Anchor::Center));
        assert!((left + right).abs() <= 2 && (top + bottom).abs() <= 2, "{left} {top} {right} {bottom}");
        let [left, top, ..] = ink("HHH", (Anchor::Start, Anchor::Start));
        assert!((0..5).contains(&left) && (-1..3).contains(&top), "{left} {top}");
        let [_, _, right, bottom] = ink("HHH", (Anchor::End, Anchor::End));
        assert!((-5..=0).contains(&right) && (-2..=1).contains(&bottom), "{right} {bottom}");
        assert!(width("mm", 20.0) > width("ii", 20.0));
    }
}
