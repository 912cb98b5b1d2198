//! Plots as SVG and PNG.

use super::axis::Axis;
use super::canvas::{AXIS, Canvas, Drawn, FRAME, FRONT, GRID, LABEL, LEGEND, PALETTE, PLOT_SIZE, SMALL, TITLE, shortened};
use super::glyphs::{self, Anchor};
use super::hover::{Hover, Spot};
use super::labels::{Rect, along_leader, leader, place_label};
use super::multiples;
use super::{Plot, Series, SeriesKind};
use crate::error::{Error, Result};
use plotters::coord::Shift;
use plotters::prelude::*;

/// Width and height in pixels of this plot at scale 1: a heat map is as large as its cells need, a flame graph as its levels, small multiples as
/// their panels.
pub fn plot_size(plot: &Plot) -> (u32, u32) {
    if !plot.panels.is_empty() {
        return multiples::size(plot);
    }
    match (&plot.heat, &plot.flame) {
        (Some(heat), _) => super::heat::size(plot, heat),
        (_, Some(flame)) => super::flame::size(plot, flame),
        _ => PLOT_SIZE,
    }
}

/// A plot as an SVG document.
///
/// # Errors
/// `Internal` when the drawing library fails.
pub fn plot_svg(plot: &Plot) -> Result<String> {
    let (mut out, hover) = (String::new(), Hover::default());
    {
        let area = SVGBackend::with_string(&mut out, plot_size(plot)).into_drawing_area();
        draw(&area, plot, 1.0, Some(&hover))?;
    }
    // What the drawing library has no elements for: screen readers say it, browsers show it under the pointer.
    let end = out.rfind("</svg>").unwrap_or(out.len());
    out.insert_str(end, &hover.svg());
    let body = out.find('>').map_or(0, |at| at + 1);
    out.insert_str(body, &format!("\n<title>{}</title>", super::escape(&super::printable(&plot.in_words()))));
    Ok(out)
}

/// A plot as a PNG image, `scale` times as large as [`plot_size`] says.
///
/// # Errors
/// `Internal` when the drawing library fails.
pub fn plot_png(plot: &Plot, scale: f64) -> Result<Vec<u8>> {
    let (width, height) = plot_size(plot);
    let (width, height) = ((f64::from(width) * scale) as u32, (f64::from(height) * scale) as u32);
    let mut pixels = vec![0u8; width as usize * height as usize * 3];
    {
        let area = BitMapBackend::with_buffer(&mut pixels, (width, height)).into_drawing_area();
        draw(&area, plot, scale, None)?;
    }
    let image = image::RgbImage::from_raw(width, height, pixels).ok_or_else(|| Error::internal("the pixels do not fill the plot"))?;
    let mut png = std::io::Cursor::new(Vec::new());
    image.write_to(&mut png, image::ImageFormat::Png).map_err(|e| Error::internal("a plot cannot be written as PNG").because(e))?;
    Ok(png.into_inner())
}

/// Where the parts of a plot lie, in pixels.
struct Layout<'a, DB: DrawingBackend> {
    canvas: &'a Canvas<'a, DB>,
    x: Axis,
    y: Axis,
    /// The data rectangle.
    inner: Rect,
    /// Names of bars read upwards; the room for them at scale 1, more than that of a line.
    upright: Option<f64>,
}

/// Longest name of a bar that reads upwards, at scale 1.
const LONGEST_NAME: f64 = 150.0;

/// The height at scale 1 that names of bars need beyond that of a line, where they do not fit side by side.
fn upright_labels(plot: &Plot, x: &Axis, width: f64) -> Option<f64> {
    let bars = plot.series.iter().find(|s| s.kind == SeriesKind::Bars && !s.labels.is_empty())?;
    let longest = bars.labels.iter().map(|l| f64::from(glyphs::width(l, SMALL.size))).fold(0.0, f64::max);
    let room = width / (x.high - x.low).max(1.0);
    (longest + 6.0 > room).then(|| (longest.min(LONGEST_NAME) - SMALL.size).max(0.0))
}

fn draw<DB: DrawingBackend>(area: &DrawingArea<DB, Shift>, plot: &Plot, scale: f64, hover: Option<&Hover>) -> Result<()> {
    let failed = |e: DrawingAreaErrorKind<DB::ErrorType>| Error::internal(format!("a plot cannot be drawn: {e}"));
    area.fill(&WHITE).map_err(failed)?;
    let canvas = Canvas::new(area, scale, hover);
    let drawn = if plot.panels.is_empty() { draw_one(&canvas, plot) } else { multiples::draw(&canvas, plot, draw_one, legend) };
    drawn.map_err(failed)?;
    area.present().map_err(failed)
}

/// Draws a plot on all of a canvas.
fn draw_one<DB: DrawingBackend>(canvas: &Canvas<'_, DB>, plot: &Plot) -> Drawn<DB> {
    if let Some(heat) = &plot.heat {
        return super::heat::draw(canvas, plot, heat);
    }
    if let Some(flame) = &plot.flame {
        return super::flame::draw(canvas, plot, flame);
    }
    let Canvas { area, scale, .. } = *canvas;
    let (width, height) = area.dim_in_pixel();
    let y = Axis::y(plot, 6);
    let x = Axis::x(plot, (f64::from(width) / scale / 105.0) as usize);
    let tick_width = y.ticks.iter().map(|t| glyphs::width(&t.1, SMALL.size * scale)).max().unwrap_or(0);
    let px = |v: f64| (v * scale).round() as i32;
    let with_legend = canvas.legend && legend_entries(plot).next().is_some();
    let top = px(18.0) + if plot.title.is_empty() { 0 } else { px(30.0) } + if with_legend { px(28.0) } else { 0 };
    let left = px(24.0) + tick_width + if plot.y_label.is_empty() { 0 } else { px(26.0) };
    let right = width as i32 - px(28.0);
    let upright = upright_labels(plot, &x, f64::from(right - left) / scale);
    let below = upright.unwrap_or(0.0);
    let bottom = height as i32 - px(42.0 + below) - if plot.x_label.is_empty() { 0 } else { px(24.0) };
    let inner = Rect { left, top, right, bottom };
    let layout = Layout { canvas, x, y, inner, upright };
    layout.axes(plot)?;
    if with_legend {
        legend(canvas, plot, (inner.left, inner.top - px(20.0)), inner.right)?;
    }
    layout.data(plot)
}

/// Of the `k`-th series: fronts are grey, so that what goes by colours has the same ones beside them.
fn color(plot: &Plot, k: usize) -> RGBColor {
    let colored = plot.series.iter().take(k).filter(|s| !s.is_front()).count();
    if plot.series[k].is_front() { FRONT } else { PALETTE[colored % PALETTE.len()] }
}

/// One row of the names of series from a place on, up to `right`.
fn legend<DB: DrawingBackend>(canvas: &Canvas<'_, DB>, plot: &Plot, (left, y): (i32, i32), right: i32) -> Drawn<DB> {
    let px = |v: f64| canvas.px(v);
    let mut x = left;
    for (k, s) in legend_entries(plot) {
        let width = canvas.width(&s.name, LEGEND);
        if x > left && x + width + px(30.0) > right {
            return canvas.text("…", (x, y), LEGEND, (Anchor::Start, Anchor::Center));
        }
        let color = color(plot, k);
        match s.kind {
            SeriesKind::Line => canvas.line((x, y), (x + px(20.0), y), color, 3.0)?,
            SeriesKind::Points | SeriesKind::Dots => {
                canvas.area.draw(&Circle::new((x + px(10.0), y), px(5.0), color.filled()))?;
            }
            SeriesKind::Bars => {
                let corners = [(x + px(4.0), y - px(6.0)), (x + px(16.0), y + px(6.0))];
                canvas.area.draw(&Rectangle::new(corners, color.filled()))?;
            }
        }
        canvas.text(&s.name, (x + px(27.0), y), LEGEND, (Anchor::Start, Anchor::Center))?;
        x += width + px(50.0);
    }
    Ok(())
}

fn legend_entries(plot: &Plot) -> impl Iterator<Item = (usize, &Series)> {
    let many = plot.series.len() > 1;
    plot.series.iter().enumerate().filter(move |(_, s)| many && !s.name.is_empty())
}

impl<'a, DB: DrawingBackend> std::ops::Deref for Layout<'a, DB> {
    type Target = Canvas<'a, DB>;
    fn deref(&self) -> &Self::Target {
        self.canvas
    }
}

impl<DB: DrawingBackend> Layout<'_, DB> {
    fn at_x(&self, position: f64) -> i32 {
        self.inner.left + (self.x.share(position) * f64::from(self.inner.right - self.inner.left)).round() as i32
    }
    fn at_y(&self, position: f64) -> i32 {
        self.inner.bottom - (self.y.share(position) * f64::from(self.inner.bottom - self.inner.top)).round() as i32
    }
    fn point(&self, p: (f64, f64)) -> Option<(i32, i32)> {
        Some((self.at_x(self.x.position(p.0)?), self.at_y(self.y.position(p.1)?)))
    }
    fn axes(&self, plot: &Plot) -> Drawn<DB> {
        let r = self.inner;
        for (p, text) in &self.y.ticks {
            let y = self.at_y(*p);
            self.line((r.left, y), (r.right, y), GRID, 1.0)?;
            self.text(text, (r.left - self.px(8.0), y), SMALL, (Anchor::End, Anchor::Center))?;
        }
        let bars = plot.series.iter().any(|s| s.kind == SeriesKind::Bars);
        let mut free_from = i32::MIN;
        for (p, text) in &self.x.ticks {
            let x = self.at_x(*p);
            if !bars {
                self.line((x, r.top), (x, r.bottom), GRID, 1.0)?;
            }
            let half = if self.upright.is_some() { self.px(SMALL.size) / 2 } else { self.width(text, SMALL) / 2 };
            // A tick text that would touch the one before it is left out.
            if x - half < free_from {
                continue;
            }
            free_from = x + half + if self.upright.is_some() { 0 } else { self.px(8.0) };
            self.line((x, r.bottom), (x, r.bottom + self.px(5.0)), FRAME, 1.0)?;
            if self.upright.is_some() {
                let name = shortened(text, self.px(LONGEST_NAME), |t| self.width(t, SMALL));
                self.text_upwards(&name, (x, r.bottom + self.px(9.0)), SMALL, (Anchor::End, Anchor::Center))?;
                continue;
            }
            self.text(text, (x, r.bottom + self.px(11.0)), SMALL, (Anchor::Center, Anchor::Start))?;
        }
        self.line((r.left, r.bottom), (r.right, r.bottom), FRAME, 1.0)?;
        self.line((r.left, r.top), (r.left, r.bottom), FRAME, 1.0)?;
        let middle_x = (r.left + r.right) / 2;
        if !plot.x_label.is_empty() {
            let at = (middle_x, r.bottom + self.px(32.0 + self.upright.unwrap_or(0.0)));
            self.text(&plot.x_label, at, AXIS, (Anchor::Center, Anchor::Start))?;
        }
        if !plot.y_label.is_empty() {
            self.text_upwards(&plot.y_label, (self.px(12.0), (r.top + r.bottom) / 2), AXIS, (Anchor::Center, Anchor::Start))?;
        }
        if !plot.title.is_empty() {
            let at = (self.px(24.0), self.px(14.0));
            self.text(&plot.title, at, TITLE, (Anchor::Start, Anchor::Start))?;
        }
        Ok(())
    }

    fn data(&self, plot: &Plot) -> Drawn<DB> {
        let groups = plot.series.iter().filter(|s| s.kind == SeriesKind::Bars).count();
        let mut group = 0;
        let labelled = plot.series.iter().any(|s| s.kind == SeriesKind::Points && !s.labels.is_empty());
        let mut marks: Vec<Rect> = Vec::new();
        // Points lie on lines, whatever their order.
        let (lines, others): (Vec<_>, Vec<_>) = plot.series.iter().enumerate().partition(|(_, s)| s.kind == SeriesKind::Line);
        for (k, s) in lines.into_iter().chain(others) {
            let color = color(plot, k);
            if s.kind != SeriesKind::Bars {
                self.say_points(plot, s);
            }
            match s.kind {
                SeriesKind::Line => {
                    self.polyline(s, color)?;
                    if labelled {
                        let spots: Vec<Option<(i32, i32)>> = s.points.iter().map(|p| self.point(*p)).collect();
                        let pieces = spots.windows(2).filter_map(|p| Some((p[0]?, p[1]?)));
                        marks.extend(pieces.flat_map(|(from, to)| Rect::along(from, to, self.px(4.0))));
                    }
                }
                SeriesKind::Bars => {
                    self.bars(plot, s, color, group, groups)?;
                    group += 1;
                }
                SeriesKind::Dots => {
                    for at in s.points.iter().filter_map(|p| self.point(*p)) {
                        self.area.draw(&Circle::new(at, self.px(2.5).max(1), color.mix(0.55).filled()))?;
                    }
                }
                SeriesKind::Points => {
                    for at in s.points.iter().filter_map(|p| self.point(*p)) {
                        self.area.draw(&Circle::new(at, self.px(7.0), WHITE.filled()))?;
                        self.area.draw(&Circle::new(at, self.px(5.5), color.filled()))?;
                        marks.push(Rect::around(at, self.px(7.0)));
                    }
                }
            }
        }
        self.point_labels(plot, &mut marks)
    }

    /// Breaks the line where a value cannot be shown.
    fn polyline(&self, s: &Series, color: RGBColor) -> Drawn<DB> {
        let spots: Vec<Option<(i32, i32)>> = s.points.iter().map(|p| self.point(*p)).collect();
        for run in spots.split(Option::is_none) {
            let run: Vec<(i32, i32)> = run.iter().copied().flatten().collect();
            match run.as_slice() {
                [] => {}
                [only] => self.area.draw(&Circle::new(*only, self.px(3.0), color.filled()))?,
                _ => self.area.draw(&PathElement::new(run, color.stroke_width(self.px(2.4).max(1) as u32)))?,
            }
        }
        Ok(())
    }

    /// Numbers under a pointer.
    fn say_points(&self, plot: &Plot, s: &Series) {
        for (i, p) in s.points.iter().enumerate() {
            if let Some(at) = self.point(*p) {
                self.say(Spot::Round(at, self.px(8.0)), || plot.point_in_words(s, i));
            }
        }
    }

    fn bars(&self, plot: &Plot, s: &Series, color: RGBColor, group: usize, groups: usize) -> Drawn<DB> {
        let width = 0.72 / groups.max(1) as f64;
        for (i, p) in s.points.iter().enumerate() {
            let (Some(x), Some(y)) = (self.x.position(p.0), self.y.position(p.1)) else { continue };
            let left = x - 0.36 + width * group as f64;
            let base = self.at_y(self.y.bar_base());
            let (x0, x1, top) = (self.at_x(left), self.at_x(left + width) - self.px(1.0), self.at_y(y));
            let corners = [(x0, top.min(base)), (x1, top.max(base))];
            self.area.draw(&Rectangle::new(corners, color.filled()))?;
            self.say(Spot::Box(corners[0], corners[1]), || plot.point_in_words(s, i));
            let text = super::number(p.1);
            if self.width(&text, SMALL) <= x1 - x0 + self.px(12.0) {
                self.text(&text, ((x0 + x1) / 2, top.min(base) - self.px(6.0)), SMALL, (Anchor::Center, Anchor::End))?;
            }
        }
        Ok(())
    }

    fn point_labels(&self, plot: &Plot, taken: &mut Vec<Rect>) -> Drawn<DB> {
        for s in plot.series.iter().filter(|s| s.kind == SeriesKind::Points) {
            for (p, label) in s.points.iter().zip(&s.labels) {
                let Some(at) = self.point(*p) else { continue };
                let (width, height) = (self.width(label, LABEL), self.px(LABEL.size + 2.0));
                let near = self.px(16.0);
                let spot = place_label(at, (width, height), self.px(10.0), near, self.inner, taken);
                if let Some(edge) = leader(at, spot, near) {
                    self.line(at, edge, FRAME, 1.0)?;
                    taken.extend(along_leader(at, edge, near));
                }
                self.text(label, (spot.left, (spot.top + spot.bottom) / 2), LABEL, (Anchor::Start, Anchor::Center))?;
                taken.push(spot);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Plot {
        let line = |name: &str, f: fn(f64) -> f64| Series {
            name: name.into(),
            kind: SeriesKind::Line,
            points: (0..20).map(|i| (f64::from(i), f(f64::from(i)))).collect(),
            labels: vec![],
        };
        Plot {
            title: "Loss".into(),
            x_label: "epoch".into(),
            y_label: "loss".into(),
            series: vec![line("train", |x| (-x / 5.0).exp()), line("val", |x| (-x / 6.0).exp() + 0.1)],
            ..Plot::default()
        }
    }

    #[test]
    fn svg_holds_the_texts_and_a_line_per_series() {
        let svg = plot_svg(&sample()).unwrap();
        let text: String = svg.split('>').collect::<Vec<_>>().join(">\n");
        for word in ["Loss", "epoch", "train", "val"] {
            assert!(text.contains(word), "{word}");
        }
        assert!(svg.contains("#3B6FB6") && svg.contains("#E87D1E"), "one colour per series");
    }

    #[test]
    fn png_has_the_asked_size_and_ink() {
        let png = plot_png(&sample(), 0.5).unwrap();
        let image = image::load_from_memory(&png).unwrap().to_rgb8();
        assert_eq!(image.dimensions(), (420, 260));
        assert!(image.pixels().any(|p| p.0 == [0x3b, 0x6f, 0xb6]), "the first series is drawn");
    }

    /// On a logarithmic axis too: a bar grows with its value.
    #[test]
    fn larger_values_have_taller_bars_whatever_the_axis() {
        for (log, values) in [(false, [1.0, 3.0]), (true, [1e-6, 1e-2])] {
            let points = vec![(0.0, values[0]), (1.0, values[1])];
            let series = vec![Series { name: "s".into(), kind: SeriesKind::Bars, points, labels: vec![] }];
            let png = plot_png(&Plot { series, log_y: log, ..Plot::default() }, 1.0).unwrap();
            let image = image::load_from_memory(&png).unwrap().to_rgb8();
            let ink =
                |from: u32, to: u32| (from..to).map(|x| (0..520).filter(|&y| image.get_pixel(x, y).0 == [0x3b, 0x6f, 0xb6]).count()).max();
            let (first, second) = (ink(0, 420).unwrap(), ink(420, 840).unwrap());
            assert!(second > 2 * first && first > 0, "{log}: {first} {second}");
        }
    }

    #[test]
    fn odd_data_does_not_fail() {
        let odd = |points: Vec<(f64, f64)>, log: bool| {
            let s = |kind| Series { name: "s".into(), kind, points: points.clone(), labels: vec!["a".into(); points.len()] };
            let series = vec![s(SeriesKind::Line), s(SeriesKind::Points), s(SeriesKind::Bars)];
            plot_svg(&Plot { series, log_x: log, log_y: log, ..Plot::default() }).unwrap()
        };
        for log in [false, true] {
            odd(vec![], log);
            odd(vec![(1.0, 1.0)], log);
            odd(vec![(0.0, f64::NAN), (f64::INFINITY, -1.0), (1e300, 1e-300)], log);
        }
    }
}
