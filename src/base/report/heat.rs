//! Heat maps as SVG and PNG.

use super::canvas::{AXIS, Canvas, Drawn, FAINT_INK, FRAME, INK, Pen, SMALL, TITLE, shortened};
use super::glyphs::{self, Anchor};
use super::hover::Spot;
use super::{HeatMap, Plot};
use plotters::prelude::*;

/// Shades from 0 to 1.
const PALE: [f64; 3] = [247.0, 249.0, 252.0];
const DEEP: [f64; 3] = [22.0, 74.0, 140.0];

/// Where the parts lie, in pixels at scale 1.
struct Places {
    cell: f64,
    left: f64,
    top: f64,
    /// Room for the columns' names.
    names: f64,
    pen: Pen,
    /// Column names read upwards.
    upwards: bool,
}

impl Places {
    /// A name, cut to the room for it.
    fn name(&self, name: &str) -> String {
        shortened(name, LONGEST, |t| glyphs::width(t, self.pen.size))
    }
}

/// Longest name drawn, in pixels at scale 1.
const LONGEST: i32 = 170;
/// Room at the right, for the scale.
const SCALE: f64 = 118.0;

fn places(plot: &Plot, heat: &HeatMap) -> Places {
    let n = heat.rows.len().max(heat.columns.len()).max(1);
    let cell = (560.0 / n as f64).clamp(15.0, 84.0);
    let pen = Pen { size: (cell * 0.8).clamp(11.0, SMALL.size), color: FAINT_INK };
    let widest = |names: &[String]| names.iter().map(|n| glyphs::width(n, pen.size)).max().unwrap_or(0).min(LONGEST);
    let upwards = f64::from(widest(&heat.columns)) > cell - 6.0;
    let left = 22.0 + f64::from(widest(&heat.rows)) + if plot.y_label.is_empty() { 0.0 } else { 28.0 };
    let top = 18.0 + if plot.title.is_empty() { 0.0 } else { 34.0 };
    let names = if upwards { f64::from(widest(&heat.columns)) } else { pen.size + 2.0 };
    Places { cell, left, top, names, pen, upwards }
}

/// Width and height in pixels at scale 1.
pub(super) fn size(plot: &Plot, heat: &HeatMap) -> (u32, u32) {
    let p = places(plot, heat);
    let title = if plot.title.is_empty() { 0 } else { glyphs::width(&plot.title, TITLE.size) + 48 };
    let width = p.left + p.cell * heat.columns.len() as f64 + SCALE;
    let height = p.top + p.cell * heat.rows.len() as f64 + p.names + 24.0 + if plot.x_label.is_empty() { 0.0 } else { 28.0 };
    ((width.ceil() as u32).max(title.unsigned_abs()), (height.ceil() as u32).max(190))
}

pub(super) fn draw<DB: DrawingBackend>(on: &Canvas<'_, DB>, plot: &Plot, heat: &HeatMap) -> Drawn<DB> {
    let p = places(plot, heat);
    let x = |column: usize| on.px(p.left + p.cell * column as f64);
    let y = |row: usize| on.px(p.top + p.cell * row as f64);
    let (rows, columns) = (heat.rows.len(), heat.columns.len());
    for row in 0..rows {
        for column in 0..columns {
            let (value, text) = heat.cell(row, column);
            let shade = heat.scale.depth(value);
            let corners = [(x(column), y(row)), (x(column + 1), y(row + 1))];
            on.area.draw(&Rectangle::new(corners, color(shade).filled()))?;
            on.say(Spot::Box(corners[0], corners[1]), || {
                let said = if text.is_empty() { super::number(value * heat.scale.most) } else { text.to_string() };
                format!("{}, {}: {said}", heat.rows[row], heat.columns[column])
            });
            let pen = Pen { size: (p.cell * 0.34).min(16.0), color: if shade > 0.5 { WHITE } else { INK } };
            if pen.size >= 8.0 && f64::from(glyphs::width(text, pen.size)) <= p.cell - 4.0 {
                let middle = ((corners[0].0 + corners[1].0) / 2, (corners[0].1 + corners[1].1) / 2);
                on.text(text, middle, pen, (Anchor::Center, Anchor::Center))?;
            }
        }
    }
    // Lines between the cells where these are wide enough to show them.
    let (right, bottom) = (x(columns), y(rows));
    let step = if p.cell >= 24.0 { 1 } else { usize::MAX };
    for column in (0..=columns).filter(|c| c % columns.max(1) == 0 || step == 1) {
        on.line((x(column), y(0)), (x(column), bottom), FRAME, 1.0)?;
    }
    for row in (0..=rows).filter(|r| r % rows.max(1) == 0 || step == 1) {
        on.line((x(0), y(row)), (right, y(row)), FRAME, 1.0)?;
    }
    for (row, name) in heat.rows.iter().enumerate() {
        let at = (x(0) - on.px(8.0), (y(row) + y(row + 1)) / 2);
        on.text(&p.name(name), at, p.pen, (Anchor::End, Anchor::Center))?;
    }
    for (column, name) in heat.columns.iter().enumerate() {
        let at = ((x(column) + x(column + 1)) / 2, bottom + on.px(8.0));
        let name = p.name(name);
        if p.upwards {
            on.text_upwards(&name, at, p.pen, (Anchor::End, Anchor::Center))?;
        } else {
            on.text(&name, at, p.pen, (Anchor::Center, Anchor::Start))?;
        }
    }
    if !plot.x_label.is_empty() {
        let at = ((x(0) + right) / 2, bottom + on.px(p.names + 16.0));
        on.text(&plot.x_label, at, AXIS, (Anchor::Center, Anchor::Start))?;
    }
    if !plot.y_label.is_empty() {
        on.text_upwards(&plot.y_label, (on.px(12.0), (y(0) + bottom) / 2), AXIS, (Anchor::Center, Anchor::Start))?;
    }
    if !plot.title.is_empty() {
        on.text(&plot.title, (on.px(24.0), on.px(14.0)), TITLE, (Anchor::Start, Anchor::Start))?;
    }
    scale(on, heat, right + on.px(22.0), y(0), bottom)
}

/// The bar of shades, with what they stand for beside it.
fn scale<DB: DrawingBackend>(on: &Canvas<'_, DB>, heat: &HeatMap, left: i32, top: i32, bottom: i32) -> Drawn<DB> {
    const STEPS: i32 = 64;
    let bottom = bottom.min(top + on.px(260.0));
    let right = left + on.px(16.0);
    for i in 0..STEPS {
        let at = |k: i32| bottom - (bottom - top) * k / STEPS;
        let shade = heat.scale.depth(f64::from(i) / f64::from(STEPS - 1));
        on.area.draw(&Rectangle::new([(left, at(i + 1)), (right, at(i))], color(shade).filled()))?;
    }
    // Values stand in proportion along the bar, whatever its colours follow.
    for share in 0..3 {
        let text = &super::number(heat.scale.most * f64::from(share) / 2.0);
        let y = bottom - (bottom - top) * share / 2;
        on.line((right, y), (right + on.px(5.0), y), FRAME, 1.0)?;
        on.text(text, (right + on.px(9.0), y), SMALL, (Anchor::Start, Anchor::Center))?;
    }
    let name = &heat.scale.name;
    if name.is_empty() || glyphs::width(name, SMALL.size * on.scale) > bottom - top {
        return Ok(());
    }
    on.text_upwards(name, (right + on.px(60.0), (top + bottom) / 2), SMALL, (Anchor::Center, Anchor::Start))
}

fn color(shade: f64) -> RGBColor {
    // Small shares are told apart better than large ones.
    let t = shade.powf(0.7);
    let [r, g, b] = std::array::from_fn(|i| (PALE[i] + (DEEP[i] - PALE[i]) * t).round() as u8);
    RGBColor(r, g, b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Scale, Style, plot_png, plot_svg, plot_text};

    fn sample(n: usize, name: &str) -> Plot {
        let names: Vec<String> = (0..n).map(|i| format!("{name}{i}")).collect();
        let shade = |i: usize, j: usize| if i == j { 0.9 } else { 0.1 / n as f64 };
        let heat = HeatMap {
            rows: names.clone(),
            columns: names,
            shades: (0..n).map(|i| (0..n).map(|j| shade(i, j)).collect()).collect(),
            texts: (0..n).map(|i| (0..n).map(|j| format!("{}", i * n + j)).collect()).collect(),
            scale: Scale::shares("share of the true class"),
        };
        Plot { title: "Confusion".into(), x_label: "predicted".into(), y_label: "true".into(), heat: Some(heat), ..Plot::default() }
    }

    #[test]
    fn cells_are_shaded_and_hold_their_texts() {
        let plot = sample(4, "class ");
        let (width, height) = super::super::plot_size(&plot);
        let image = image::load_from_memory(&plot_png(&plot, 1.0).unwrap()).unwrap().to_rgb8();
        assert_eq!(image.dimensions(), (width, height));
        let p = places(&plot, plot.heat.as_ref().unwrap());
        // A point inside a cell, beside its text.
        let at =
            |row: f64, column: f64| image.get_pixel((p.left + p.cell * (column + 0.15)) as u32, (p.top + p.cell * (row + 0.15)) as u32).0;
        let expected = |shade: f64| color(shade);
        for (row, column, shade) in [(0.0, 0.0, 0.9), (3.0, 3.0, 0.9), (0.0, 3.0, 0.025)] {
            let e = expected(shade);
            assert_eq!(at(row, column), [e.0, e.1, e.2], "{row} {column}");
        }
        let svg = plot_svg(&plot).unwrap();
        for word in ["Confusion", "class 3", "predicted", "true", "share of the true class"] {
            assert!(svg.contains(word), "{word}");
        }
    }

    /// The bar's colour half way up is that of half the largest value, and its marks are in that proportion.
    #[test]
    fn the_bar_is_in_proportion_to_the_values() {
        let mut plot = sample(4, "c");
        let heat = plot.heat.as_mut().unwrap();
        (heat.scale, heat.shades[1][2]) = (Scale { name: "loss".into(), most: 0.3, bend: 0.5 }, 0.5);
        let svg = plot_svg(&plot).unwrap();
        for mark in ["0.15", "0.3", "loss"] {
            assert!(svg.contains(mark), "{mark}");
        }
        let image = image::load_from_memory(&plot_png(&plot, 1.0).unwrap()).unwrap().to_rgb8();
        let p = places(&plot, plot.heat.as_ref().unwrap());
        let cell = image.get_pixel((p.left + p.cell * 2.15) as u32, (p.top + p.cell * 1.15) as u32).0;
        let (left, top) = (p.left + p.cell * 4.0 + 24.0, p.top);
        let bottom = (p.top + p.cell * 4.0).min(top + 260.0);
        let half = image.get_pixel((left + 6.0) as u32, f64::midpoint(top, bottom) as u32).0;
        assert!(cell.iter().zip(half).all(|(a, b)| a.abs_diff(b) <= 3), "{cell:?} {half:?}");
        assert!(cell[0] < color(0.5).0, "a colour that follows the root is deeper");
    }

    #[test]
    fn many_classes_and_odd_cells_are_drawn() {
        for n in [0, 1, 81] {
            plot_svg(&sample(n, "a very long class name that does not fit anywhere ")).unwrap();
            plot_text(&sample(n, "name"), &Style::columns(80));
        }
        let mut odd = sample(2, "x");
        odd.heat.as_mut().unwrap().shades = vec![vec![f64::NAN, 7.0]];
        plot_svg(&odd).unwrap();
    }
}
