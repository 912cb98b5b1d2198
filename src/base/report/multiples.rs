//! Small multiples: plots side by side, in a picture and as text.

use super::canvas::{Canvas, Drawn, TITLE};
use super::glyphs::Anchor;
use super::{Plot, Style};
use plotters::prelude::*;

/// Width and height of a panel in pixels at scale 1.
const PANEL: (u32, u32) = (420, 330);
/// Height of the title and of the legend.
const HEAD: u32 = 38;
/// Columns of text that a panel needs at least, and those between two.
const TEXT: (usize, usize) = (38, 2);

/// Panels in a row.
fn across(plot: &Plot) -> usize {
    match plot.panels.len() {
        2 | 4 => 2,
        n => n.min(3),
    }
}

fn has_legend(plot: &Plot) -> bool {
    plot.shared_names().is_some_and(|names| names.len() > 1 && names.iter().any(|n| !n.is_empty()))
}

/// Height of what stands above the panels, in pixels at scale 1.
fn head(plot: &Plot) -> u32 {
    HEAD * (u32::from(!plot.title.is_empty()) + u32::from(has_legend(plot)))
}

/// Width and height in pixels at scale 1.
pub(super) fn size(plot: &Plot) -> (u32, u32) {
    let columns = across(plot);
    let rows = plot.panels.len().div_ceil(columns);
    (PANEL.0 * columns as u32, PANEL.1 * rows as u32 + head(plot))
}

/// `one` draws a panel, `legend` the names of its series at a place, up to a column.
pub(super) fn draw<DB: DrawingBackend>(
    canvas: &Canvas<'_, DB>,
    plot: &Plot,
    one: impl Fn(&Canvas<'_, DB>, &Plot) -> Drawn<DB>,
    legend: impl Fn(&Canvas<'_, DB>, &Plot, (i32, i32), i32) -> Drawn<DB>,
) -> Drawn<DB> {
    let px = |v: f64| canvas.px(v);
    let (above, below) = canvas.area.split_vertically(px(f64::from(head(plot))));
    if !plot.title.is_empty() {
        canvas.text(&plot.title, (px(24.0), px(14.0)), TITLE, (Anchor::Start, Anchor::Start))?;
    }
    if has_legend(plot) {
        let y = px(f64::from(head(plot)) - 14.0);
        legend(canvas, &plot.panels[0], (px(30.0), y), above.dim_in_pixel().0 as i32)?;
    }
    let columns = across(plot);
    let cells = below.split_evenly((plot.panels.len().div_ceil(columns), columns));
    let legend = plot.shared_names().is_none();
    for (panel, cell) in plot.panels.iter().zip(&cells) {
        one(&canvas.on(cell, legend), panel)?;
    }
    Ok(())
}

/// The panels as text, as many side by side as `width` columns have room for. `panel` writes one, so many columns wide, `legend` the
/// names of its series.
pub(super) fn text(
    plot: &Plot,
    style: &Style,
    width: usize,
    panel: impl Fn(&Plot, &Style, usize) -> Vec<String>,
    legend: impl Fn(&Plot, &Style) -> Vec<String>,
) -> Vec<String> {
    let columns = (width / TEXT.0).clamp(1, plot.panels.len());
    let each = (width - TEXT.1 * (columns - 1)) / columns;
    let panels: Vec<Vec<String>> = plot.written_panels().iter().map(|p| panel(p, style, each)).collect();
    let mut lines = Vec::new();
    for row in panels.chunks(columns) {
        if !lines.is_empty() {
            lines.push(String::new());
        }
        for i in 0..row.iter().map(Vec::len).max().unwrap_or(0) {
            let cell = |panel: &Vec<String>| {
                let line = panel.get(i).map_or("", String::as_str);
                format!("{line}{}", " ".repeat((each + TEXT.1).saturating_sub(shown(line))))
            };
            lines.push(row.iter().map(cell).collect::<String>().trim_end().to_string());
        }
    }
    if has_legend(plot) {
        lines.extend(["".to_string(), format!("  {}", legend(&plot.panels[0], style).join("   "))]);
    }
    lines
}

/// Columns that a line takes on a terminal: its characters without the codes of colours.
fn shown(line: &str) -> usize {
    let mut codes = line.split('\x1b');
    let first = codes.next().unwrap_or_default().chars().count();
    first + codes.map(|rest| rest.split_once('m').map_or(0, |(_, text)| text.chars().count())).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Ink, Series, SeriesKind, plot_png, plot_size, plot_svg, plot_text};

    /// Three models by two measures of cost.
    fn sample() -> Plot {
        let panel = |cost: &str, points: [(f64, f64); 3]| {
            let labels = ["base", "pruned", "int8"].map(String::from).to_vec();
            let models = Series { name: "native".into(), kind: SeriesKind::Points, points: points.to_vec(), labels };
            Plot { series: vec![models, Series::pareto_front(points)], ..Plot::default() }.titled("", cost, "mAP50")
        };
        let times = [(9.1, 0.82), (6.2, 0.81), (2.9, 0.80)];
        let sizes = [(12.1, 0.82), (7.4, 0.81), (1.9, 0.80)];
        Plot::multiples("Trade-off", vec![panel("median latency (ms)", times), panel("size (MB)", sizes)])
    }

    #[test]
    fn panels_stand_side_by_side_where_there_is_room() {
        let plot = sample();
        for (columns, rows) in [(80, 1), (60, 2)] {
            let text = plot_text(&plot, &Style::columns(columns));
            assert!(text.lines().all(|l| l.chars().count() <= columns), "{text}");
            for word in ["Trade-off", "median latency (ms)", "size (MB)", "╌╌ Pareto front"] {
                assert_eq!(text.matches(word).count(), 1, "{word}\n{text}");
            }
            for word in ["base", "pruned", "int8"] {
                assert_eq!(text.matches(word).count(), 2, "{word}\n{text}");
            }
            assert_eq!(text.lines().filter(|l| l.contains('╰')).count(), rows, "{text}");
        }
        insta::assert_snapshot!(plot_text(&plot, &Style::columns(80)));
    }

    /// Colours take no columns: the second panel begins where it does without them.
    #[test]
    fn colours_do_not_move_panels() {
        let begins = |color: bool| {
            let text = plot_text(&sample(), &Style { color, ..Style::columns(80) });
            let line = text.lines().find(|l| l.contains('╰')).unwrap().to_string();
            shown(line.rsplit_once('╰').unwrap().0)
        };
        assert_eq!(begins(true), begins(false));
        assert_eq!(shown(&Style { color: true, ..Style::plain() }.paint(Ink::Red, "four")), 4);
    }

    #[test]
    fn pictures_are_as_large_as_their_panels_and_say_names_once() {
        let plot = sample();
        assert_eq!(plot_size(&plot), (840, 330 + 76));
        let svg = plot_svg(&plot).unwrap();
        let words: Vec<&str> = svg.split(['>', '<']).map(str::trim).collect();
        for (word, times) in [("Trade-off", 1), ("size (MB)", 1), ("Pareto front", 1), ("pruned", 2), ("mAP50", 2)] {
            assert_eq!(words.iter().filter(|w| **w == word).count(), times, "{word}");
        }
        let image = image::load_from_memory(&plot_png(&plot, 0.5).unwrap()).unwrap().to_rgb8();
        let blue = |from: u32| (from..from + 210).any(|x| (0..image.height()).any(|y| image.get_pixel(x, y).0 == [0x3b, 0x6f, 0xb6]));
        assert!(blue(0) && blue(210), "each panel has its points");
    }

    #[test]
    fn one_panel_is_a_plot() {
        let only = Plot::multiples("Trade-off", vec![sample().panels.remove(0)]);
        assert!(only.panels.is_empty() && only.title == "Trade-off" && only.series.len() == 2);
    }
}
