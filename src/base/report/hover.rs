//! What browsers show under the pointer over a picture: invisible shapes with titles, the last elements of an SVG.

use std::cell::RefCell;
use std::fmt::Write;

/// More marks than this have no titles: pictures of many thousand dots stay small.
const MOST: usize = 4000;

/// A place in pixels.
#[derive(Clone, Copy)]
pub(super) enum Spot {
    /// Centre and radius.
    Round((i32, i32), i32),
    /// Two corners.
    Box((i32, i32), (i32, i32)),
}

/// Places and what is said there.
#[derive(Default)]
pub(super) struct Hover(RefCell<Vec<(Spot, String)>>);

impl Hover {
    pub(super) fn add(&self, spot: Spot, text: impl FnOnce() -> String) {
        let mut all = self.0.borrow_mut();
        if all.len() < MOST {
            all.push((spot, text()));
        }
    }

    /// The elements. What was added later lies above.
    pub(super) fn svg(&self) -> String {
        let all = self.0.borrow();
        if all.is_empty() {
            return String::new();
        }
        let mut out = String::from("<g fill-opacity=\"0\">\n");
        for (spot, text) in all.iter() {
            let title = super::escape(&super::printable(text));
            let _ = match spot {
                Spot::Round((x, y), r) => writeln!(out, "<circle cx=\"{x}\" cy=\"{y}\" r=\"{r}\"><title>{title}</title></circle>"),
                Spot::Box((x0, y0), (x1, y1)) => {
                    let (width, height) = ((x1 - x0).max(1), (y1 - y0).max(1));
                    writeln!(out, "<rect x=\"{x0}\" y=\"{y0}\" width=\"{width}\" height=\"{height}\"><title>{title}</title></rect>")
                }
            };
        }
        out + "</g>\n"
    }
}

#[cfg(test)]
mod tests {
    use crate::report::{Flame, HeatMap, Plot, Series, SeriesKind, plot_svg};

    /// The titles of all places, and where they are.
    fn titles(plot: &Plot) -> Vec<(String, [i32; 2])> {
        let svg = plot_svg(plot).unwrap();
        let hover = svg.split_once("<g fill-opacity=\"0\">").map_or("", |s| s.1);
        let number =
            |line: &str, key: &str| line.split(&format!(" {key}=\"")).nth(1).map(|s| s.split('"').next().unwrap().parse().unwrap());
        let title = |line: &str| line.split("<title>").nth(1).map(|s| s.split('<').next().unwrap().to_string());
        let at = |line: &str| ["x", "y"].map(|k| number(line, k).or_else(|| number(line, &format!("c{k}"))).unwrap());
        hover.lines().filter_map(|l| Some((title(l)?, at(l)))).collect()
    }

    #[test]
    fn each_mark_says_its_numbers_where_it_is() {
        let labels = vec!["a<b".to_string(), String::new()];
        let points = Series { name: "runs".into(), kind: SeriesKind::Points, points: vec![(1.0, 0.5), (2.0, 0.25)], labels };
        let line = Series { name: "front".into(), points: vec![(1.0, 0.5), (f64::NAN, 1.0)], ..Series::default() };
        let plot = Plot { series: vec![points, line], ..Plot::default() }.titled("T", "ms", "mAP50");
        let all = titles(&plot);
        let said: Vec<&str> = all.iter().map(|t| t.0.as_str()).collect();
        assert_eq!(said, ["front: ms 1, mAP50 0.5", "runs, a&lt;b: ms 1, mAP50 0.5", "runs: ms 2, mAP50 0.25"]);
        assert_eq!(all[0].1, all[1].1);
        assert!(all[2].1[0] > all[1].1[0] + 100 && all[2].1[1] > all[1].1[1] + 100, "{all:?}");
        // The same in the second of two panels lies to the right.
        let both = titles(&Plot::multiples("", vec![plot.clone(), plot]));
        assert_eq!((both.len(), &both[3].0), (6, &all[0].0));
        assert_eq!(both[3].1[0] - both[0].1[0], 420);
    }

    #[test]
    fn cells_bars_and_flames_have_titles_and_clouds_have_an_end() {
        let names = |n: &[&str]| n.iter().map(ToString::to_string).collect::<Vec<_>>();
        let heat = HeatMap { rows: names(&["cat"]), columns: names(&["dog", "cat"]), shades: vec![vec![0.25, 1.0]], ..HeatMap::default() };
        let plot = Plot { heat: Some(heat), ..Plot::default() };
        assert_eq!(titles(&plot).iter().map(|t| t.0.as_str()).collect::<Vec<_>>(), ["cat, dog: 0.25", "cat, cat: 1"]);
        let bars = Series { kind: SeriesKind::Bars, points: vec![(0.0, 3.0)], labels: names(&["first"]), ..Series::default() };
        assert_eq!(titles(&Plot { series: vec![bars], ..Plot::default() })[0].0, "first: y 3");
        let flame = Flame::of_paths("net", [("conv", 3.0), ("pool", 1.0)].map(|(name, v)| (names(&[name]), v)));
        let plot = Plot { flame: Some(flame), y_label: "ms".into(), ..Plot::default() };
        assert_eq!(
            titles(&plot).iter().map(|t| t.0.as_str()).collect::<Vec<_>>(),
            ["net: 4 ms, 100 %", "net / conv: 3 ms, 75 %", "net / pool: 1 ms, 25 %"]
        );
        let cloud = Series { kind: SeriesKind::Dots, points: vec![(0.0, 1.0); 9000], ..Series::default() };
        assert_eq!(titles(&Plot { series: vec![cloud], ..Plot::default() }).len(), super::MOST);
    }
}
