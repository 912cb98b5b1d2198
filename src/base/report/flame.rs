//! Flame graphs: a whole above its parts, each as wide as its share, parts of parts below them (Gregg, "The Flame Graph", CACM 2016, hung
//! from the top).

use super::canvas::{Canvas, Drawn, FRAME, INK, PALETTE, PLOT_SIZE, Pen, TITLE, shortened};
use super::glyphs::Anchor;
use super::hover::Spot;
use super::{Cell, Ink, Plot, Style, Table, printable};
use plotters::prelude::*;
use serde::Serialize;

/// A whole and its parts, in the order in which they are drawn from the left.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Flame {
    /// What it is called among the parts beside it.
    pub name: String,
    /// How much it is, at least what its parts are together.
    pub value: f64,
    /// What it is made of.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Flame>,
}

/// Height of a level in pixels at scale 1, and room around all.
const LEVEL: f64 = 26.0;
const ABOVE: f64 = 18.0;
const BESIDE: f64 = 24.0;
/// Levels drawn at most: below lie the parts of fewer names than anyone reads.
const DEEPEST: usize = 12;
/// As text: the share of the whole that a part needs for a line of its own, and the levels.
const LEAST: f64 = 0.01;
const TEXT_LEVELS: usize = 4;

impl Flame {
    /// One without parts.
    pub fn leaf(name: impl Into<String>, value: f64) -> Self {
        Self { name: name.into(), value, parts: Vec::new() }
    }

    /// A whole of parts that are told by their paths, names from the outermost to the innermost. Parts of one path add up, and stand where
    /// the first of them stood; a part that is all of a whole is one with it (`block/conv`).
    pub fn of_paths<P: AsRef<[String]>>(name: impl Into<String>, paths: impl IntoIterator<Item = (P, f64)>) -> Self {
        let mut whole = Self::leaf(name, 0.0);
        for (path, value) in paths {
            whole.add(path.as_ref(), value.max(0.0));
        }
        whole.parts.iter_mut().for_each(Self::joined);
        whole
    }

    fn add(&mut self, path: &[String], value: f64) {
        self.value += value;
        let Some((first, rest)) = path.split_first() else { return };
        let at = self.parts.iter().position(|p| p.name == *first).unwrap_or_else(|| {
            self.parts.push(Self::leaf(first, 0.0));
            self.parts.len() - 1
        });
        self.parts[at].add(rest, value);
    }

    fn joined(&mut self) {
        while self.parts.len() == 1 && self.parts[0].value >= self.value {
            let only = self.parts.remove(0);
            self.name = format!("{}/{}", self.name, only.name);
            self.parts = only.parts;
        }
        self.parts.iter_mut().for_each(Self::joined);
    }

    /// Levels, its own among them.
    pub fn depth(&self) -> usize {
        1 + self.parts.iter().map(Self::depth).max().unwrap_or(0)
    }

    /// Calls `each` with every part, its path from this one, and the place of its left side as a share of this one.
    fn visit<'a>(&'a self, mut each: impl FnMut(&[&'a Flame], f64)) {
        let whole = if self.value > 0.0 { self.value } else { 1.0 };
        let mut waiting = vec![(vec![self], 0.0)];
        while let Some((path, left)) = waiting.pop() {
            each(&path, left);
            let last = path[path.len() - 1];
            let mut at = left;
            let mut parts = Vec::with_capacity(last.parts.len());
            for part in &last.parts {
                parts.push(([path.as_slice(), &[part]].concat(), at));
                at += part.value / whole;
            }
            waiting.extend(parts.into_iter().rev());
        }
    }

    fn share_of(&self, whole: &Self) -> f64 {
        if whole.value > 0.0 { self.value / whole.value } else { 0.0 }
    }
}

fn percent(share: f64) -> String {
    format!("{} %", super::number((1000.0 * share).round() / 10.0))
}

/// `net / head / conv`
fn written(path: &[&Flame]) -> String {
    path.iter().map(|p| p.name.as_str()).collect::<Vec<_>>().join(" / ")
}

fn said(path: &[&Flame], plot: &Plot) -> String {
    let (last, whole) = (path[path.len() - 1], path[0]);
    let unit = if plot.y_label.is_empty() { String::new() } else { format!(" {}", plot.y_label) };
    format!("{}: {}{unit}, {}", written(path), super::number(last.value), percent(last.share_of(whole)))
}

/// Where the first level begins, below the title.
fn top(plot: &Plot) -> f64 {
    ABOVE + if plot.title.is_empty() { 0.0 } else { 34.0 }
}

/// Width and height in pixels at scale 1.
pub(super) fn size(plot: &Plot, flame: &Flame) -> (u32, u32) {
    (PLOT_SIZE.0, (top(plot) + ABOVE + LEVEL * flame.depth().min(DEEPEST) as f64).ceil() as u32)
}

pub(super) fn draw<DB: DrawingBackend>(on: &Canvas<'_, DB>, plot: &Plot, flame: &Flame) -> Drawn<DB> {
    if !plot.title.is_empty() {
        on.text(&plot.title, (on.px(BESIDE), on.px(14.0)), TITLE, (Anchor::Start, Anchor::Start))?;
    }
    let top = top(plot);
    let room = f64::from(on.area.dim_in_pixel().0) / on.scale - 2.0 * BESIDE;
    let mut all = Vec::new();
    flame.visit(|path, left| {
        if path.len() <= DEEPEST {
            all.push((path.to_vec(), left));
        }
    });
    let color = |path: &[&Flame]| match path.get(1) {
        None => FRAME,
        Some(block) => {
            let place = flame.parts.iter().position(|p| std::ptr::eq(p, *block)).unwrap_or(0);
            let pale = (0.30 + 0.12 * (path.len() - 2) as f64).min(0.78);
            let RGBColor(r, g, b) = PALETTE[place % PALETTE.len()];
            let mixed = |c: u8| (f64::from(c) + (255.0 - f64::from(c)) * pale).round() as u8;
            RGBColor(mixed(r), mixed(g), mixed(b))
        }
    };
    for (path, left) in &all {
        let last = path[path.len() - 1];
        let (x0, x1) = (BESIDE + left * room, BESIDE + (left + last.share_of(flame)) * room);
        let y = top + LEVEL * (path.len() - 1) as f64;
        let corners = [(on.px(x0), on.px(y)), (on.px(x1), on.px(y + LEVEL - 1.0))];
        if corners[1].0 <= corners[0].0 {
            continue;
        }
        // A line of white holds neighbours apart, where there is room for it.
        let right = if x1 - x0 > 3.0 { corners[1].0 - on.px(1.0) } else { corners[1].0 };
        on.area.draw(&Rectangle::new([corners[0], (right, corners[1].1)], color(path).filled()))?;
        on.say(Spot::Box(corners[0], corners[1]), || said(path, plot));
        let pen = Pen { size: 13.0, color: INK };
        let name = shortened(&last.name, right - corners[0].0 - on.px(8.0), |t| on.width(t, pen));
        if name.chars().count() > 5 || name == last.name {
            let at = (corners[0].0 + on.px(4.0), i32::midpoint(corners[0].1, corners[1].1));
            on.text(&name, at, pen, (Anchor::Start, Anchor::Center))?;
        }
    }
    Ok(())
}

/// The parts as a tree, one line each, with bars for their shares.
pub(super) fn text(plot: &Plot, flame: &Flame, style: &Style, width: usize) -> Vec<String> {
    const INDENT: usize = 2;
    let mut rows: Vec<(String, &Flame)> = Vec::new();
    let mut small = 0;
    flame.visit(|path, _| {
        let last = path[path.len() - 1];
        if path.len() > TEXT_LEVELS || last.share_of(flame) < LEAST {
            small += 1;
            return;
        }
        rows.push((format!("{:w$}{}", "", printable(&last.name), w = INDENT * (path.len() - 1)), last));
    });
    let names = rows.iter().map(|r| r.0.chars().count()).max().unwrap_or(0).min(width / 2);
    let values: Vec<String> = rows.iter().map(|r| super::number(r.1.value)).collect();
    let numbers = values.iter().map(|v| v.chars().count()).max().unwrap_or(0);
    let room = width.saturating_sub(names + numbers + 10).max(5);
    let mut lines: Vec<String> = rows
        .iter()
        .zip(&values)
        .map(|((name, part), number)| {
            let share = part.share_of(flame);
            let bar = style.paint(Ink::Blue, &"█".repeat((share * room as f64).round() as usize));
            let name = super::shortened_to(name, names);
            format!("{name:<names$} {number:>numbers$} {:>6} {bar}", format!("{:.0} %", 100.0 * share)).trim_end().to_string()
        })
        .collect();
    if small > 0 {
        let unit = if plot.y_label.is_empty() { String::new() } else { format!("{}; ", printable(&plot.y_label)) };
        let least =
            format!("{unit}{} below {:.0} % or deeper than {TEXT_LEVELS} levels not shown", super::counted(small, "part"), 100.0 * LEAST);
        lines.push(style.paint(Ink::Dim, &least));
    } else if !plot.y_label.is_empty() {
        lines.push(style.paint(Ink::Dim, &printable(&plot.y_label)));
    }
    lines
}

/// All parts with their paths.
pub(super) fn table(plot: &Plot, flame: &Flame) -> Table {
    let unit = if plot.y_label.is_empty() { "value" } else { &plot.y_label };
    let mut table = Table::new(plot.title.clone(), &["part", &format!(">{unit}"), ">share"]);
    flame.visit(|path, _| {
        let last = path[path.len() - 1];
        table.row([Cell::from(written(path)), Cell::number(last.value), Cell::share(last.share_of(flame))]);
    });
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{plot_png, plot_svg, plot_tables, plot_text};

    fn sample() -> Plot {
        let path = |p: &str| p.split('/').map(String::from).collect::<Vec<_>>();
        let parts =
            [("stem/conv", 2.0), ("head/cls/conv", 1.0), ("head/box/conv", 4.0), ("stem/act", 0.5), ("head/box/act", 0.5), ("x", 0.01)];
        let flame = Flame::of_paths("net", parts.map(|(p, v)| (path(p), v)));
        Plot { flame: Some(flame), ..Plot::default() }.titled("Time", "", "ms")
    }

    #[test]
    fn paths_become_a_tree_in_which_parts_add_up() {
        let plot = sample();
        let net = plot.flame.as_ref().unwrap();
        let stem = Flame { name: "stem".into(), value: 2.5, parts: vec![Flame::leaf("conv", 2.0), Flame::leaf("act", 0.5)] };
        assert_eq!((net.parts[0].clone(), net.value, net.depth()), (stem, 8.01, 4));
        // What is all of a whole is one with it.
        assert_eq!(net.parts[1].parts.iter().map(|p| p.name.as_str()).collect::<Vec<_>>(), ["cls/conv", "box"]);
        let sum: f64 = net.parts[1].parts.iter().map(|p| p.value).sum();
        assert_eq!(sum, net.parts[1].value);
        let table = &plot_tables(&plot)[0];
        assert_eq!((table.headers.join(" "), table.rows.len()), ("part ms share".into(), 10));
        assert_eq!(table.rows[7][0], "net / head / box / conv");
    }

    #[test]
    fn a_tree_stands_as_text() {
        let text = plot_text(&sample(), &Style::columns(60));
        insta::assert_snapshot!(text, @r"
        Time
        net          8.01  100 % ██████████████████████████████████
          stem        2.5   31 % ███████████
            conv        2   25 % ████████
            act       0.5    6 % ██
          head        5.5   69 % ███████████████████████
            cls/conv    1   12 % ████
            box       4.5   56 % ███████████████████
              conv      4   50 % █████████████████
              act     0.5    6 % ██
        ms; 1 part below 1 % or deeper than 4 levels not shown
        ");
    }

    #[test]
    fn widths_are_shares_and_odd_trees_do_not_fail() {
        let png = image::load_from_memory(&plot_png(&sample(), 1.0).unwrap()).unwrap().to_rgb8();
        assert_eq!(png.dimensions(), size(&sample(), sample().flame.as_ref().unwrap()));
        // Along the level of the blocks, below their names: the first block's colour takes its share of the width.
        let y = (ABOVE + 34.0 + LEVEL + 2.0) as u32;
        let first = *png.get_pixel(BESIDE as u32 + 1, y);
        let count = (0..png.width()).filter(|&x| *png.get_pixel(x, y) == first).count() as f64;
        assert!((count / (f64::from(png.width()) - 2.0 * BESIDE) - 2.5 / 8.01).abs() < 0.01, "{count}");
        let deep = (0..40).fold(Flame::leaf("end", 1.0), |f, i| Flame { name: format!("{i}"), value: 1.0 + f64::from(i), parts: vec![f] });
        for flame in [Flame::default(), Flame::leaf("nan", f64::NAN), deep.clone(), Flame { value: f64::INFINITY, ..deep }] {
            let plot = Plot { flame: Some(flame), ..Plot::default() };
            assert!(!plot_svg(&plot).unwrap().is_empty() && !plot_png(&plot, 1.0).unwrap().is_empty());
            assert!(!plot_text(&plot, &Style::columns(40)).is_empty() && !plot_tables(&plot).is_empty());
        }
    }
}
