//! What plots are drawn on: lines and texts in pixels or shapes.

use super::glyphs::{self, Anchor};
use super::hover::{Hover, Spot};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::sync::Once;

pub(super) const INK: RGBColor = RGBColor(0x1f, 0x29, 0x37);
pub(super) const FAINT_INK: RGBColor = RGBColor(0x5b, 0x64, 0x72);
pub(super) const GRID: RGBColor = RGBColor(0xe6, 0xe8, 0xec);
pub(super) const FRAME: RGBColor = RGBColor(0xb5, 0xbb, 0xc4);
/// Of Pareto fronts.
pub(super) const FRONT: RGBColor = RGBColor(0x8a, 0x92, 0x9e);
/// Of series and parts, in their order.
pub(super) const PALETTE: [RGBColor; 8] = [
    RGBColor(0x3b, 0x6f, 0xb6),
    RGBColor(0xe8, 0x7d, 0x1e),
    RGBColor(0x3f, 0x9b, 0x57),
    RGBColor(0xd0, 0x45, 0x4c),
    RGBColor(0x8a, 0x63, 0xb0),
    RGBColor(0x2a, 0x9d, 0xa8),
    RGBColor(0x9a, 0x6b, 0x4f),
    RGBColor(0x6b, 0x72, 0x80),
];
/// Width and height in pixels of a plot of series at scale 1.
pub const PLOT_SIZE: (u32, u32) = (840, 520);
/// The family that SVG viewers look up; measured here with the font that images use.
pub(super) const FAMILY: &str = "sans-serif";

/// Puts the font in plotters' table, so that no font of the machine is needed.
fn register_font() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // An unreadable font shows as an error of the first text that is drawn.
        let _ = plotters::style::register_font(FAMILY, FontStyle::Normal, epaint_default_fonts::UBUNTU_LIGHT);
    });
}

pub(super) type Drawn<DB> = std::result::Result<(), DrawingAreaErrorKind<<DB as DrawingBackend>::ErrorType>>;

/// Size (at scale 1) and colour of a text.
#[derive(Clone, Copy)]
pub(super) struct Pen {
    pub size: f64,
    pub color: RGBColor,
}

pub(super) const SMALL: Pen = Pen { size: 14.0, color: FAINT_INK };
pub(super) const LABEL: Pen = Pen { size: 14.0, color: INK };
pub(super) const LEGEND: Pen = Pen { size: 15.0, color: INK };
pub(super) const AXIS: Pen = Pen { size: 16.0, color: INK };
pub(super) const TITLE: Pen = Pen { size: 21.0, color: INK };

/// An area with its scale.
pub(super) struct Canvas<'a, DB: DrawingBackend> {
    pub area: &'a DrawingArea<DB, Shift>,
    pub scale: f64,
    /// Pixels, not shapes: texts are drawn here, not by a viewer.
    raster: bool,
    /// Takes what is said under a pointer, where there can be one.
    hover: Option<&'a Hover>,
    /// The names of series are written: those of panels with the same series stand once above all.
    pub legend: bool,
}

impl<'a, DB: DrawingBackend> Canvas<'a, DB> {
    /// On pixels; with a place for what is said under a pointer, on shapes.
    pub(super) fn new(area: &'a DrawingArea<DB, Shift>, scale: f64, hover: Option<&'a Hover>) -> Self {
        register_font();
        Self { area, scale, raster: hover.is_none(), hover, legend: true }
    }
    /// The same on a part of the area.
    pub(super) fn on<'b>(&'b self, area: &'b DrawingArea<DB, Shift>, legend: bool) -> Canvas<'b, DB> {
        Canvas { area, legend, ..*self }
    }
    /// What is said under a pointer at a place of this area.
    pub(super) fn say(&self, spot: Spot, text: impl FnOnce() -> String) {
        let (left, top) = self.area.get_base_pixel();
        let moved = |(x, y): (i32, i32)| (left + x, top + y);
        if let Some(hover) = self.hover {
            let spot = match spot {
                Spot::Round(at, r) => Spot::Round(moved(at), r),
                Spot::Box(from, to) => Spot::Box(moved(from), moved(to)),
            };
            hover.add(spot, text);
        }
    }
    pub(super) fn px(&self, v: f64) -> i32 {
        (v * self.scale).round() as i32
    }
    pub(super) fn line(&self, from: (i32, i32), to: (i32, i32), color: RGBColor, width: f64) -> Drawn<DB> {
        self.area.draw(&PathElement::new(vec![from, to], color.stroke_width(self.px(width).max(1) as u32)))
    }
    pub(super) fn width(&self, text: &str, pen: Pen) -> i32 {
        glyphs::width(text, pen.size * self.scale)
    }
    pub(super) fn text(&self, text: &str, at: (i32, i32), pen: Pen, anchor: (Anchor, Anchor)) -> Drawn<DB> {
        if self.raster {
            let pixel = |x, y, coverage| self.area.draw_pixel((at.0 + x, at.1 + y), &pen.color.mix(f64::from(coverage)));
            return glyphs::draw(text, pen.size * self.scale, anchor, pixel);
        }
        self.shape(text, at, pen, anchor, FontTransform::None)
    }
    /// A text that reads upwards; anchored along its direction and across it.
    pub(super) fn text_upwards(&self, text: &str, at: (i32, i32), pen: Pen, anchor: (Anchor, Anchor)) -> Drawn<DB> {
        if self.raster {
            let pixel = |x: i32, y: i32, coverage| self.area.draw_pixel((at.0 + y, at.1 - x), &pen.color.mix(f64::from(coverage)));
            return glyphs::draw(text, pen.size * self.scale, anchor, pixel);
        }
        self.shape(text, at, pen, anchor, FontTransform::Rotate270)
    }
    /// A text that a viewer draws.
    fn shape(&self, text: &str, at: (i32, i32), pen: Pen, (across, down): (Anchor, Anchor), transform: FontTransform) -> Drawn<DB> {
        let h = match across {
            Anchor::Start => HPos::Left,
            Anchor::Center => HPos::Center,
            Anchor::End => HPos::Right,
        };
        let v = match down {
            Anchor::Start => VPos::Top,
            Anchor::Center => VPos::Center,
            Anchor::End => VPos::Bottom,
        };
        let mut style = TextStyle::from((FAMILY, pen.size * self.scale).into_font().transform(transform)).pos(Pos::new(h, v));
        style.color = pen.color.to_backend_color();
        self.area.draw(&Text::new(text.to_string(), at, style))
    }
}

/// A text without its middle, of at most so many characters.
pub fn shortened_to(text: &str, room: usize) -> String {
    shortened(text, room as i32, |t| t.chars().count() as i32)
}

/// A name without its middle, so that it fits: beginnings and ends tell names apart.
pub(super) fn shortened(text: &str, room: i32, width: impl Fn(&str) -> i32) -> String {
    if width(text) <= room {
        return text.to_string();
    }
    let chars: Vec<char> = text.chars().collect();
    let text = |c: &[char]| c.iter().collect::<String>();
    let cut = |n: usize| format!("{}…{}", text(&chars[..n.div_ceil(2)]), text(&chars[chars.len() - n / 2..]));
    (0..chars.len()).rev().map(cut).find(|t| width(t) <= room).unwrap_or_default()
}
