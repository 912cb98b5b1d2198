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
/// its number are one. Labels of nodes have their names in quotation marks.
fn path(node: &str) -> Vec<String> {
    let name = match (node.find('\''), node.rfind('\'')) {
        (Some(from), Some(to)) if from < to => &node[from + 1..to],
        _ => node,
    };
    let scopes = name.contains('/');
    let mut path: Vec<String> = Vec::new();
    for part in name.split(if scopes { '/' } else { '.' }).filter(|p| !p.is_empty()) {
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
        let modules = Flame::of_paths(&self.name, self.steps.iter().map(|s| (path(&s.node), 1e3 * s.seconds)));
        self.plot(&modules).into_iter().chain(self.flame(modules)).collect()
    }

    /// The model's time, its modules' below it, and so on; where the names of the steps tell modules.
    fn flame(&self, modules: Flame) -> Option<Plot> {
        let title = format!("Time of the modules of {}", self.name);
        (modules.depth() > 2).then(|| Plot { flame: Some(modules), ..Plot::default() }.titled(title, "", "ms"))
    }

    /// The time of each module that is no part of another, in the order of the model.
    fn plot(&self, modules: &Flame) -> Option<Plot> {
        let name = |p: &Flame| p.name.split('/').next().unwrap_or_default().to_string();
        let labels = modules.parts.iter().map(name).collect();
        let points: Vec<(f64, f64)> = modules.parts.iter().enumerate().map(|(i, p)| (i as f64, p.value)).collect();
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
            ("node '/model.22/cv2.0/cv2.0.0/conv/Conv' (Conv)", "model.22 cv2.0 cv2.0.0 conv Conv"),
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
        // As a plan names its steps.
        let label = |name: &str| compresso_model::Node::new("Conv", name, ["x"], ["y"]).label();
        assert_eq!(path(&label("/model.0/conv/Conv")).join(" "), "model.0 conv Conv");
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
