//! Plots as text: braille dots for lines and points, blocks for bars.

use super::axis::Axis;
use super::{Ink, Plot, Series, SeriesKind, Style, printable};

const INKS: [Ink; 6] = [Ink::Blue, Ink::Yellow, Ink::Green, Ink::Red, Ink::Cyan, Ink::Magenta];
const ROWS: usize = 14;
/// Those of a panel among others.
const PANEL_ROWS: usize = 10;
/// Marks of the points of each series.
const MARKS: [char; 6] = ['●', '■', '▲', '◆', '○', '□'];
/// Dots drawn and left out in turn along the lines of each series, where there are no colours.
const DASHES: [(usize, usize); 4] = [(1, 0), (2, 2), (5, 2), (1, 3)];

/// A plot as text, as wide as the style allows (at most 100 columns, small multiples 160). Ends without a line break.
pub fn plot_text(plot: &Plot, style: &Style) -> String {
    let width = style.width.unwrap_or(80).clamp(30, if plot.panels.is_empty() { 100 } else { 160 });
    let mut lines = Vec::new();
    if !plot.title.is_empty() {
        lines.push(style.paint(Ink::BoldCyan, &printable(&plot.title)));
    }
    if plot.panels.is_empty() {
        lines.extend(body(plot, style, width, ROWS));
    } else {
        lines.extend(super::multiples::text(plot, style, width, panel_text, legend_text));
    }
    lines.join("\n")
}

/// A panel of small multiples.
fn panel_text(plot: &Plot, style: &Style, width: usize) -> Vec<String> {
    let title = (!plot.title.is_empty()).then(|| style.paint(Ink::BoldCyan, &super::shortened_to(&printable(&plot.title), width)));
    title.into_iter().chain(body(plot, style, width, PANEL_ROWS)).collect()
}

/// What stands below the title.
fn body(plot: &Plot, style: &Style, width: usize, rows: usize) -> Vec<String> {
    if let Some(heat) = &plot.heat {
        return super::heat_text::heat_text(plot, heat, style, width);
    }
    if let Some(flame) = &plot.flame {
        return super::flame::text(plot, flame, style, width);
    }
    if plot.series.iter().all(|s| s.points.is_empty()) {
        return vec!["(no data)".to_string()];
    }
    if plot.series.iter().all(|s| s.kind == SeriesKind::Bars) { bars(plot, style, width) } else { canvas(plot, style, width, rows) }
}

/// Horizontal bars, one line each.
fn bars(plot: &Plot, style: &Style, width: usize) -> Vec<String> {
    let many = plot.series.len() > 1;
    let label = |s: &Series, i: usize| {
        let own = s.labels.get(i).cloned().unwrap_or_else(|| super::number(s.points[i].0));
        printable(&if many { format!("{own} {}", s.name) } else { own })
    };
    let all = || plot.series.iter().enumerate().flat_map(|(k, s)| (0..s.points.len()).map(move |i| (k, s, i)));
    let label_width = all().map(|(_, s, i)| label(s, i).chars().count()).max().unwrap_or(0).min(width / 3);
    let largest = all().map(|(_, s, i)| s.points[i].1.abs()).filter(|v| v.is_finite()).fold(0.0, f64::max);
    let axis = plot.log_y.then(|| Axis::y(plot, 5));
    // The part of the longest bar that a value fills.
    let filled = |value: f64| match &axis {
        Some(axis) => axis.position(value).map_or(0.0, |p| axis.share(p)),
        None if largest > 0.0 && value.is_finite() => value.abs() / largest,
        None => 0.0,
    };
    let room = width.saturating_sub(label_width + 14).max(5);
    let mut lines: Vec<String> = all()
        .map(|(k, s, i)| {
            let value = s.points[i].1;
            let eighths = (filled(value) * (room * 8) as f64).round() as usize;
            let mut bar = "█".repeat(eighths / 8);
            if !eighths.is_multiple_of(8) {
                bar.extend(char::from_u32(0x2590 - (eighths % 8) as u32));
            }
            let text: String = label(s, i).chars().take(label_width).collect();
            format!("{text:<label_width$} {} {}", style.paint(INKS[k % INKS.len()], &bar), super::number(value))
        })
        .collect();
    if !plot.y_label.is_empty() {
        lines.push(style.paint(Ink::Dim, &printable(&plot.y_label)));
    }
    lines
}

/// A grid of character cells, each 2 × 4 braille dots.
struct Canvas {
    columns: usize,
    rows: usize,
    dots: Vec<u8>,
    owner: Vec<usize>,
}

impl Canvas {
    fn new(columns: usize, rows: usize) -> Self {
        Self { columns, rows, dots: vec![0; columns * rows], owner: vec![0; columns * rows] }
    }
    /// Sets the dot at `x` (0 ..= 2 * columns - 1, from the left) and `y` (from the top).
    fn set(&mut self, x: usize, y: usize, series: usize) {
        const BITS: [[u8; 4]; 2] = [[0x01, 0x02, 0x04, 0x40], [0x08, 0x10, 0x20, 0x80]];
        if x / 2 < self.columns && y / 4 < self.rows {
            let cell = (y / 4) * self.columns + x / 2;
            self.dots[cell] |= BITS[x % 2][y % 4];
            self.owner[cell] = series;
        }
    }
    /// A line of dots with gaps as `dashes` says; `from` dots of it are drawn already. Returns how many are then.
    fn line(&mut self, a: (f64, f64), b: (f64, f64), series: usize, dashes: (usize, usize), from: usize) -> usize {
        let steps = (b.0 - a.0).abs().max((b.1 - a.1).abs()).ceil().max(1.0) as usize;
        for i in 0..=steps {
            if (from + i) % (dashes.0 + dashes.1) >= dashes.0 {
                continue;
            }
            let t = i as f64 / steps as f64;
            self.set((a.0 + (b.0 - a.0) * t).round() as usize, (a.1 + (b.1 - a.1) * t).round() as usize, series);
        }
        from + steps
    }
}

fn canvas(plot: &Plot, style: &Style, width: usize, height: usize) -> Vec<String> {
    let y = Axis::y(plot, 5);
    let margin = y.ticks.iter().map(|t| t.1.chars().count()).max().unwrap_or(0);
    let columns = width.saturating_sub(margin + 3).max(10);
    let x = Axis::x(plot, columns / 12);
    let mut grid = Canvas::new(columns, height);
    let mut marks: Vec<(usize, usize, usize)> = Vec::new();
    let mut names: Vec<(usize, usize, String)> = Vec::new();
    for (k, s) in plot.series.iter().enumerate() {
        let place = |p: &(f64, f64)| {
            let (px, py) = (x.position(p.0)?, y.position(p.1)?);
            Some((x.share(px) * (2 * columns - 1) as f64, (1.0 - y.share(py)) * (4 * height - 1) as f64))
        };
        let spots: Vec<Option<(f64, f64)>> = s.points.iter().map(place).collect();
        let dashes = if style.color { DASHES[0] } else { DASHES[k % DASHES.len()] };
        let mut drawn = 0;
        for (i, spot) in spots.iter().enumerate() {
            let Some(at) = *spot else { continue };
            match s.kind {
                SeriesKind::Line => {
                    drawn = grid.line(spots.get(i.wrapping_sub(1)).copied().flatten().unwrap_or(at), at, k, dashes, drawn);
                }
                SeriesKind::Dots => grid.set(at.0.round() as usize, at.1.round() as usize, k),
                SeriesKind::Bars => {
                    grid.line((at.0, (4 * height - 1) as f64), at, k, DASHES[0], 0);
                }
                SeriesKind::Points => {
                    let (cx, cy) = (at.0.round() as usize, at.1.round() as usize);
                    marks.push((cx / 2, cy / 4, k));
                    if let Some(name) = s.labels.get(i).filter(|n| !n.is_empty()) {
                        names.push((cx / 2, cy / 4, printable(name)));
                    }
                }
            }
        }
    }
    let mut rows: Vec<Vec<(char, Option<usize>)>> = (0..height)
        .map(|r| {
            let cells = r * columns..(r + 1) * columns;
            let cell = |c: usize| match grid.dots[c] {
                0 => (' ', None),
                d => (char::from_u32(0x2800 + u32::from(d)).unwrap_or(' '), Some(grid.owner[c])),
            };
            cells.map(cell).collect()
        })
        .collect();
    for (cx, cy, k) in marks {
        if let Some(cell) = rows.get_mut(cy).and_then(|row| row.get_mut(cx)) {
            *cell = (MARKS[k % MARKS.len()], Some(k));
        }
    }
    // Names for which there is no room stand below, each with its place.
    let crowded: Vec<String> = names.into_iter().filter(|(cx, cy, name)| !write_label(&mut rows, *cx, *cy, name)).map(|n| n.2).collect();
    let mut lines = frame(plot, style, &x, &y, margin, columns, &rows);
    for (s, i) in plot.series.iter().flat_map(|s| (0..s.labels.len()).map(move |i| (s, i))) {
        let name = printable(&s.labels[i]);
        if s.kind == SeriesKind::Points && crowded.contains(&name) {
            let (px, py) = s.points[i];
            lines.push(style.paint(Ink::Dim, &format!("{:>margin$}  {name}: {}, {}", "", super::number(px), super::number(py))));
        }
    }
    lines
}

/// Writes a label beside its mark where the cells are free: right, left, then a row or two above or below. False where none are.
fn write_label(rows: &mut [Vec<(char, Option<usize>)>], cx: usize, cy: usize, name: &str) -> bool {
    let length = name.chars().count();
    let columns = rows.first().map_or(0, Vec::len);
    let starts = [(cx as i64 + 2, cy as i64), (cx as i64 - length as i64 - 1, cy as i64)];
    let nearby = [-1, 1, -2, 2].into_iter().flat_map(|d| [(cx as i64 + 1, cy as i64 + d), (cx as i64 - length as i64, cy as i64 + d)]);
    for (start, row) in starts.into_iter().chain(nearby) {
        let (Ok(start), Ok(row)) = (usize::try_from(start), usize::try_from(row)) else { continue };
        if row >= rows.len() || start + length > columns {
            continue;
        }
        let around = start.saturating_sub(1)..(start + length + 1).min(columns);
        let inside = start..start + length;
        let others =
            |(i, c): (usize, &(char, Option<usize>))| c.0.is_alphanumeric() || MARKS.contains(&c.0) && start.saturating_sub(1) + i != cx;
        if rows[row][inside.clone()].iter().all(|c| c.0 == ' ') && !rows[row][around].iter().enumerate().any(others) {
            for (cell, c) in rows[row][inside].iter_mut().zip(name.chars()) {
                *cell = (c, None);
            }
            return true;
        }
    }
    false
}

fn frame(
    plot: &Plot,
    style: &Style,
    x: &Axis,
    y: &Axis,
    margin: usize,
    columns: usize,
    rows: &[Vec<(char, Option<usize>)>],
) -> Vec<String> {
    let mut tick_rows = vec![String::new(); rows.len()];
    for (p, text) in &y.ticks {
        // The row of the dot at this height.
        let row = ((1.0 - y.share(*p)) * (4 * rows.len() - 1) as f64).round() as usize / 4;
        if let Some(slot) = tick_rows.get_mut(row) {
            slot.clone_from(text);
        }
    }
    let mut lines = Vec::new();
    if !plot.y_label.is_empty() {
        lines.push(style.paint(Ink::Dim, &printable(&plot.y_label)));
    }
    for (row, tick) in rows.iter().zip(&tick_rows) {
        let mut line = format!("{tick:>margin$} {}", if tick.is_empty() { '│' } else { '┤' });
        let mut run = String::new();
        let mut owner = None;
        for (c, of) in row.iter().copied() {
            if of != owner {
                line += &ink(style, owner, &run);
                run.clear();
                owner = of;
            }
            run.push(c);
        }
        line += &ink(style, owner, &run);
        lines.push(line.trim_end().to_string());
    }
    let mut rule: Vec<char> = vec!['─'; columns];
    let mut texts: Vec<char> = vec![' '; columns + margin + 3];
    let mut free_from = 0;
    for (p, text) in &x.ticks {
        let at = (x.share(*p) * (columns - 1) as f64).round() as usize;
        let length = text.chars().count();
        let start = (margin + 2 + at).saturating_sub(length / 2);
        if at >= columns || start < free_from || start + length > texts.len() {
            continue;
        }
        rule[at] = '┬';
        for (slot, c) in texts[start..start + length].iter_mut().zip(text.chars()) {
            *slot = c;
        }
        free_from = start + length + 1;
    }
    lines.push(format!("{:>margin$} ╰{}", "", rule.into_iter().collect::<String>()));
    lines.push(texts.into_iter().collect::<String>().trim_end().to_string());
    let mut legend = legend_text(plot, style);
    if !plot.x_label.is_empty() {
        legend.insert(0, style.paint(Ink::Dim, &printable(&plot.x_label)));
    }
    if !legend.is_empty() {
        lines.push(format!("{:>margin$}  {}", "", legend.join("   ")));
    }
    lines
}

/// Marks and names of the series, where there are several.
fn legend_text(plot: &Plot, style: &Style) -> Vec<String> {
    let named = plot.series.iter().enumerate().filter(|(_, s)| !s.name.is_empty() && plot.series.len() > 1);
    let entry = |(k, s): (usize, &Series)| {
        let dashes = ["──", "╌╌", "─╴", "··"][if style.color { 0 } else { k % DASHES.len() }];
        let mark = match s.kind {
            SeriesKind::Points => MARKS[k % MARKS.len()].to_string(),
            SeriesKind::Line => dashes.to_string(),
            SeriesKind::Dots | SeriesKind::Bars => "⣿".to_string(),
        };
        format!("{} {}", ink(style, Some(k), &mark), printable(&s.name))
    };
    named.map(entry).collect()
}

fn ink(style: &Style, series: Option<usize>, text: &str) -> String {
    match series {
        Some(k) if !text.is_empty() => style.paint(INKS[k % INKS.len()], text),
        _ => text.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(kind: SeriesKind, points: &[(f64, f64)], labels: &[&str]) -> Series {
        Series { name: "s".into(), kind, points: points.to_vec(), labels: labels.iter().map(ToString::to_string).collect() }
    }

    #[test]
    fn a_line_rises_from_the_lower_left_to_the_upper_right() {
        let plot = Plot {
            title: "t".into(),
            x_label: "epoch".into(),
            series: vec![series(SeriesKind::Line, &[(0.0, 0.0), (10.0, 5.0)], &[])],
            ..Plot::default()
        };
        let text = plot_text(&plot, &Style::columns(60));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "t");
        let dots = |l: &str| l.chars().position(|c| ('\u{2801}'..='\u{28ff}').contains(&c));
        let columns: Vec<usize> = lines.iter().filter_map(|l| dots(l)).collect();
        assert!(columns.len() > 10 && columns.is_sorted_by(|a, b| a >= b), "{text}");
        assert!(lines.iter().all(|l| l.chars().count() <= 60), "{text}");
        assert!(lines.last().unwrap().contains("epoch"));
    }

    #[test]
    fn bars_are_as_long_as_their_values() {
        let plot = Plot { series: vec![series(SeriesKind::Bars, &[(0.0, 1.0), (1.0, 2.0)], &["base", "int8"])], ..Plot::default() };
        let text = plot_text(&plot, &Style::columns(50));
        let blocks: Vec<usize> = text.lines().map(|l| l.matches('█').count()).collect();
        assert_eq!(blocks[1], blocks[0] * 2, "{text}");
        assert!(text.starts_with("base "));
        // Of noise over signal on a logarithmic scale, more noise is a longer bar.
        let points = [(0.0, 1e-2), (1.0, 1e-4), (2.0, 1e-6)];
        let plot = Plot { series: vec![series(SeriesKind::Bars, &points, &["a", "b", "c"])], log_y: true, ..Plot::default() };
        let text = plot_text(&plot, &Style::columns(50));
        let blocks: Vec<usize> = text.lines().map(|l| l.matches('█').count()).collect();
        assert!(blocks[0] > blocks[1] + 5 && blocks[1] > blocks[2] + 5, "{text}");
    }

    #[test]
    fn labels_of_close_points_do_not_overwrite_each_other() {
        let points = [(1.0, 1.0), (1.02, 1.01), (5.0, 5.0)];
        let plot = Plot { series: vec![series(SeriesKind::Points, &points, &["alpha", "beta", "gamma"])], ..Plot::default() };
        let text = plot_text(&plot, &Style::columns(70));
        for name in ["alpha", "beta", "gamma"] {
            assert!(text.contains(name), "{name}\n{text}");
        }
    }

    #[test]
    fn every_point_is_named_and_no_name_lies_on_a_mark() {
        let points: Vec<(f64, f64)> = (0..12).map(|i| (f64::from(i % 4) * 0.01, f64::from(i / 4) * 0.01)).chain([(9.0, 9.0)]).collect();
        let names: Vec<String> = (0..13).map(|i| format!("model{i}")).collect();
        let labels: Vec<&str> = names.iter().map(String::as_str).collect();
        let front = Series::pareto_front(points.iter().copied());
        let plot = Plot { series: vec![series(SeriesKind::Points, &points, &labels), front], ..Plot::default() };
        let text = plot_text(&plot, &Style::columns(80));
        assert!(names.iter().all(|n| text.contains(n.as_str())), "{text}");
        assert!(text.lines().all(|l| l.chars().count() <= 80) && text.contains('●') && text.contains("╌╌ Pareto front"), "{text}");
    }

    #[test]
    fn without_colours_lines_differ_by_their_dashes() {
        let rising = [(0.0, 0.0), (10.0, 5.0)];
        let dots = |k: usize, color: bool| {
            let mut all = vec![series(SeriesKind::Line, &[(0.0, 0.0)], &[]); k];
            all.push(series(SeriesKind::Line, &rising, &[]));
            let text = plot_text(&Plot { series: all, ..Plot::default() }, &Style { color, ..Style::columns(60) });
            text.chars().filter(|c| ('\u{2801}'..='\u{28ff}').contains(c)).map(|c| (c as u32 - 0x2800).count_ones()).sum::<u32>()
        };
        assert!(dots(1, false) < dots(0, false) * 3 / 4, "{} and {}", dots(1, false), dots(0, false));
        assert!(dots(1, true).abs_diff(dots(0, true)) <= 1);
    }
}
