//! Plots of a dataset: how often each class occurs, and how large objects are.

use super::{DataKind, Dataset};
use compresso_base::report::{Plot, Series, SeriesKind};

/// Classes whose bars are drawn, and those with a colour of their own among the sizes.
const MAX_BARS: usize = 30;
const MAX_COLORS: usize = 7;
/// Images whose sizes are looked at, and objects that are drawn.
const MAX_IMAGES: usize = 1000;
const MAX_DOTS: usize = 2000;
/// Areas in pixels below which COCO calls an object small, and medium.
const SMALL: f64 = 32.0 * 32.0;
const MEDIUM: f64 = 96.0 * 96.0;

/// The plots; none without labels.
pub(super) fn plots(data: &Dataset) -> Vec<Plot> {
    let parts = parts(data);
    let counts: Vec<(&Dataset, Vec<usize>)> = parts.iter().filter_map(|d| Some((*d, d.counts()?))).collect();
    if counts.iter().all(|(_, c)| c.iter().all(|n| *n == 0)) {
        return Vec::new();
    }
    let totals: Vec<usize> = (0..data.classes.len()).map(|c| counts.iter().map(|(_, n)| n[c]).sum()).collect();
    let mut order: Vec<usize> = (0..totals.len()).collect();
    order.sort_by_key(|&c| std::cmp::Reverse(totals[c]));
    let mut plots = vec![balance(data, &counts, &order)];
    if data.kind == DataKind::Detection {
        plots.extend(sizes(data, &parts, &order));
    }
    plots
}

/// The splits that share no images: Pascal VOC's `trainval` only repeats others.
fn parts(data: &Dataset) -> Vec<&Dataset> {
    let mut parts = data.parts();
    if parts.len() > 1 {
        parts.retain(|p| p.split != "trainval");
    }
    parts
}

fn balance(data: &Dataset, counts: &[(&Dataset, Vec<usize>)], order: &[usize]) -> Plot {
    let what = if data.kind == DataKind::Detection { "objects" } else { "images" };
    // In the order of the classes unless some are left out.
    let mut shown = order[..order.len().min(MAX_BARS)].to_vec();
    let all = shown.len() == order.len();
    if all {
        shown.sort_unstable();
    }
    let bars = |(part, n): &(&Dataset, Vec<usize>)| Series {
        name: part.split.clone(),
        kind: SeriesKind::Bars,
        points: shown.iter().enumerate().map(|(x, &c)| (x as f64, n[c] as f64)).collect(),
        labels: shown.iter().map(|&c| data.classes[c].clone()).collect(),
    };
    let rest = if all { String::new() } else { format!(" (the most frequent {MAX_BARS} of {})", order.len()) };
    Plot {
        title: format!("{}: {what} per class{rest}", data.label()),
        y_label: what.into(),
        series: counts.iter().map(bars).collect(),
        ..Plot::default()
    }
}

/// Width and height of objects relative to their images, and how many are small, medium and large.
fn sizes(data: &Dataset, parts: &[&Dataset], order: &[usize]) -> Vec<Plot> {
    let images: usize = parts.iter().map(|p| p.len()).sum();
    let step = images.div_ceil(MAX_IMAGES).max(1);
    let mut objects: Vec<(usize, [f64; 2], f64)> = Vec::new();
    let mut looked_at = 0;
    for part in parts {
        for i in (0..part.len()).step_by(step) {
            let Ok((targets, (w, h))) = part.source.boxes_of(i) else { continue };
            looked_at += 1;
            objects.extend(targets.iter().map(|t| {
                let (bw, bh) = (f64::from(t.bbox.x2 - t.bbox.x1), f64::from(t.bbox.y2 - t.bbox.y1));
                (t.class, [bw / f64::from(w), bh / f64::from(h)], bw * bh)
            }));
        }
    }
    if objects.is_empty() {
        return Vec::new();
    }
    let of = if looked_at < images { format!(" ({looked_at} of {images} images)") } else { String::new() };
    let own = &order[..order.len().min(MAX_COLORS)];
    let every = objects.len().div_ceil(MAX_DOTS);
    let dots = |name: String, belongs: &dyn Fn(usize) -> bool| Series {
        name,
        kind: SeriesKind::Dots,
        points: objects.iter().step_by(every).filter(|o| belongs(o.0)).map(|o| (o.1[0], o.1[1])).collect(),
        labels: Vec::new(),
    };
    let mut series: Vec<Series> = own.iter().map(|&class| dots(data.classes[class].clone(), &|c| c == class)).collect();
    series.push(dots("others".into(), &|c| !own.contains(&c)));
    series.retain(|s| !s.points.is_empty());
    let scatter = Plot {
        title: format!("{}: sizes of objects{of}", data.label()),
        x_label: "width, as a part of the image's".into(),
        y_label: "height, as a part of the image's".into(),
        series,
        ..Plot::default()
    };
    let share = |low: f64, high: f64| {
        let n = objects.iter().filter(|o| (low..high).contains(&o.2)).count();
        (n as f64 / objects.len() as f64 * 1000.0).round() / 10.0
    };
    let points = vec![(0.0, share(0.0, SMALL)), (1.0, share(SMALL, MEDIUM)), (2.0, share(MEDIUM, f64::INFINITY))];
    let labels = ["small: below 32² pixels", "medium: below 96²", "large"].map(String::from).to_vec();
    let areas = Plot {
        title: format!("{}: areas of objects{of}", data.label()),
        y_label: "objects in %".into(),
        series: vec![Series { name: String::new(), kind: SeriesKind::Bars, points, labels }],
        ..Plot::default()
    };
    vec![scatter, areas]
}
