//! The times of a model's steps.

use compresso_base::report::{Cell, Flame, Plot, Series, SeriesKind, Table};
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

/// The modules that a step's name tells, from the outermost: of `/model.22/cv2.0/conv/Conv` and of `model.22.cv2.0.conv` alike a module and
/// its number are one.
fn path(node: &str) -> Vec<String> {
    let scopes = node.contains('/');
    let mut path: Vec<String> = Vec::new();
    for part in node.split(if scopes { '/' } else { '.' }).filter(|p| !p.is_empty()) {
        let is_number = part.bytes().all(|b| b.is_ascii_digit());
        match path.last_mut() {
            Some(last) if is_number => *last = format!("{last}.{part}"),
            // An exporter repeats the module in the names of what it holds.
            Some(last) if last == part => {}
            _ => path.push(part.to_string()),
        }
    }
    path
}

impl Layers {
    pub(super) fn plots(&self) -> Vec<Plot> {
        self.plot().into_iter().chain(self.flame()).collect()
    }

    /// The model's time, its modules' below it, and so on; where the names of the steps tell modules.
    fn flame(&self) -> Option<Plot> {
        let flame = Flame::of_paths(&self.name, self.steps.iter().map(|s| (path(&s.node), 1e3 * s.seconds)));
        let title = format!("Time of the modules of {}", self.name);
        (flame.depth() > 2).then(|| Plot { flame: Some(flame), ..Plot::default() }.titled(title, "", "ms"))
    }

    /// The time of each block, the part of a step's name before the second dot, in the order of the model.
    fn plot(&self) -> Option<Plot> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_steps_tell_their_modules() {
        let wanted = [
            ("/model.22/cv2.0/cv2.0.0/conv/Conv", "model.22 cv2.0 cv2.0.0 conv Conv"),
            ("model.22.cv2.0.0.conv", "model.22 cv2.0.0 conv"),
            ("/layer1/layer1.0/layer1.0/Relu", "layer1 layer1.0 Relu"),
            ("Conv_12", "Conv_12"),
            ("7", "7"),
            ("", ""),
        ];
        for (node, modules) in wanted {
            assert_eq!(path(node).join(" "), modules);
        }
    }

    #[test]
    fn modules_hang_below_the_model() {
        let step = |node: &str, ms: f64| StepTime { node: node.into(), kernel: "conv".into(), seconds: 1e-3 * ms, macs: 0, bytes: 0 };
        let flat = Layers { name: "net".into(), steps: vec![step("Conv_1", 1.0), step("Conv_2", 2.0)] };
        assert_eq!(flat.plots().len(), 1);
        let steps = vec![step("model.0.conv", 1.0), step("model.1.conv", 2.0), step("model.1.pool", 1.0)];
        let plots = Layers { steps, ..flat }.plots();
        let flame = plots[1].flame.as_ref().unwrap();
        assert_eq!(
            flame.parts.iter().map(|p| (p.name.as_str(), p.value.round())).collect::<Vec<_>>(),
            [("model.0/conv", 1.0), ("model.1", 3.0)]
        );
    }
}
