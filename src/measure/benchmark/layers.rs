//! The times of a model's steps.

use compresso_base::report::{Cell, Plot, Series, SeriesKind, Table};
use compresso_exec::StepTime;
use serde::Serialize;

/// The steps of one model.
#[derive(Debug, Clone, Serialize)]
pub struct Layers {
    /// The model, as the report calls it.
    pub name: String,
    /// In running order, each with its least time.
    pub steps: Vec<StepTime>,
}

impl Layers {
    /// The time of each block, the part of a step's name before the second dot, in the order of the model.
    pub(super) fn plot(&self) -> Option<Plot> {
        let mut blocks: Vec<(String, f64)> = Vec::new();
        for s in &self.steps {
            let ends: Vec<usize> = s.node.match_indices(['.', '/']).map(|(i, _)| i).filter(|i| *i > 0).collect();
            let block = ends.get(1).map_or(s.node.as_str(), |&end| &s.node[..end]);
            match blocks.last_mut().filter(|(name, _)| name == block) {
                Some((_, ms)) => *ms += 1e3 * s.seconds,
                None => blocks.push((block.to_string(), 1e3 * s.seconds)),
            }
        }
        let (labels, times): (Vec<String>, Vec<f64>) = blocks.into_iter().unzip();
        let points = times.into_iter().enumerate().map(|(i, ms)| (i as f64, ms)).collect();
        let series = Series { name: "ms".into(), kind: SeriesKind::Bars, points, labels };
        let title = format!("Time of the blocks of {}", self.name);
        (!series.points.is_empty()).then(|| Plot { series: vec![series], ..Plot::default() }.titled(title, "block", "ms"))
    }

    pub(super) fn table(&self) -> Table {
        let title = format!("Steps of {}", self.name);
        let mut table = Table::new(title, &["step", "kernel", ">ms", ">share", ">MACs", ">GOP/s", ">bytes"]);
        let total: f64 = self.steps.iter().map(|s| s.seconds).sum();
        for s in &self.steps {
            let known = |cell: Cell| if s.macs == 0 { Cell::none() } else { cell };
            let speed = known(Cell::number(2e-9 * s.macs as f64 / s.seconds));
            let macs = known(Cell::count(s.macs as u64));
            let time = Cell::shown(format!("{:.3}", 1e3 * s.seconds), 1e3 * s.seconds);
            let share = Cell::share(s.seconds / total);
            table.row([Cell::from(&s.node), Cell::from(&s.kernel), time, share, macs, speed, Cell::bytes(s.bytes as u64)]);
        }
        table
    }
}
