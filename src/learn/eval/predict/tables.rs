//! Tables of what is seen in images.

use super::prediction::{Found, Prediction};
use crate::eval::instances::{KeyPoint, Part, TurnedBox, point_name};
use compresso_base::report::{Cell, Table};

/// Rows of the table of many images, and of a table of key points.
pub(super) const ROWS: usize = 40;

/// What is seen in each of many images, a row for each of the first.
pub(super) fn table_of_all(images: &[Prediction]) -> Table {
    let mut t = Table::new(format!("{} images", images.len()), &["image", "size", "seen"]);
    for p in images.iter().take(ROWS) {
        t.row([p.name.clone(), format!("{}×{}", p.width, p.height), p.summary()]);
    }
    t
}

/// Everything that is seen in one image.
pub(super) fn tables_of(p: &Prediction) -> Vec<Table> {
    let title = format!("{} ({}×{})", p.name, p.width, p.height);
    if !p.classes.is_empty() {
        let mut t = Table::new(title, &["class", ">probability"]);
        for c in &p.classes {
            t.row([c.label.clone(), format!("{:.4}", c.score)]);
        }
        return vec![t];
    }
    let objects = match p.detections.first().and_then(|d| d.part.as_ref()) {
        Some(Part::Turned(_)) => turned(title, &p.detections),
        Some(Part::Mask(_)) => upright(title, &p.detections, Some(">mask pixels")),
        Some(Part::KeyPoints(_)) => upright(title, &p.detections, Some(">points seen")),
        None => upright(title, &p.detections, None),
    };
    [objects].into_iter().chain(key_points(p)).collect()
}

fn upright(title: String, found: &[Found], part: Option<&str>) -> Table {
    let columns: Vec<&str> = ["object", ">score", ">left", ">top", ">right", ">bottom"].into_iter().chain(part).collect();
    let mut t = Table::new(title, &columns);
    for d in found {
        let b = d.bbox;
        let sides = [b.x1, b.y1, b.x2, b.y2].map(|v| Cell::from(format!("{v:.1}")));
        let part = d.part.as_ref().and_then(|part| match part {
            Part::Mask(mask) => Some(Cell::from(mask.area().to_string())),
            Part::KeyPoints(points) => {
                let seen = points.iter().filter(|p| p.is_seen()).count();
                Some(Cell::shown(format!("{seen} of {}", points.len()), seen as f64))
            }
            Part::Turned(_) => None,
        });
        let object = [d.label.clone().into(), Cell::from(format!("{:.3}", d.score))];
        t.row(object.into_iter().chain(sides).chain(part));
    }
    t
}

fn turned(title: String, found: &[Found]) -> Table {
    let mut t = Table::new(title, &["object", ">score", ">centre x", ">centre y", ">width", ">height", ">angle"]);
    for d in found {
        let Some(Part::Turned(TurnedBox { cx, cy, width, height, angle })) = d.part else { continue };
        let places = [cx, cy, width, height].map(|v| Cell::from(format!("{v:.1}")));
        let degrees = f64::from(angle).to_degrees();
        let angle = Cell::shown(format!("{degrees:.1}°"), degrees).unit("degrees");
        let object = [d.label.clone().into(), Cell::from(format!("{:.3}", d.score))];
        t.row(object.into_iter().chain(places).chain([angle]));
    }
    t
}

/// The key points of the best objects.
fn key_points(p: &Prediction) -> Option<Table> {
    let points = |d: &Found| -> Vec<KeyPoint> {
        match &d.part {
            Some(Part::KeyPoints(points)) => points.clone(),
            _ => Vec::new(),
        }
    };
    let all: usize = p.detections.iter().map(|d| points(d).len()).sum();
    if all == 0 {
        return None;
    }
    let title = format!("Key points of {}{}", p.name, if all > ROWS { format!(", the first {ROWS} of {all}") } else { String::new() });
    let mut t = Table::new(title, &["object", "point", ">x", ">y", ">visibility"]);
    let rows = p.detections.iter().zip(1..).flat_map(|(d, number): (&Found, usize)| {
        let points = points(d);
        let count = points.len();
        let row = move |(i, k): (usize, KeyPoint)| {
            let seen = k.visibility.map_or_else(Cell::unknown, |v| format!("{v:.3}").into());
            let object = Cell::from(format!("{number} {}", d.label));
            [object, point_name(i, count).into(), format!("{:.1}", k.x).into(), format!("{:.1}", k.y).into(), seen]
        };
        points.into_iter().enumerate().map(row).collect::<Vec<_>>()
    });
    for row in rows.take(ROWS) {
        t.row(row);
    }
    Some(t)
}
