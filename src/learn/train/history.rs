//! What happened during training, epoch by epoch.

use compresso_base::report::{Plot, Series, SeriesKind, Show, Table, counted};
use indexmap::IndexMap;
use serde::Serialize;

/// One pass over the training images.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Epoch {
    /// Counted from 1.
    pub epoch: usize,
    /// Mean loss per step.
    pub loss: f64,
    /// Parts of the loss by name (`box`, `cls`, `dfl`, …).
    #[serde(serialize_with = "as_map")]
    pub parts: IndexMap<String, f64>,
    /// Learning rate of the last step.
    pub learning_rate: f64,
    /// Mean norm of the gradients before clipping.
    pub gradient_norm: f64,
    /// Scores on the validation set, where it was looked at (`map50`, `map`, `top1`, …).
    #[serde(serialize_with = "as_map")]
    pub scores: IndexMap<String, f64>,
    /// Wall time of the training images, without validation.
    pub seconds: f64,
    /// Training images per second, without validation.
    pub images_per_second: f64,
}

impl Epoch {
    /// Its numbers by name: `loss`, parts as `loss/box`, scores as `val/map50`, `learning_rate`, …
    pub fn values(&self) -> Vec<(String, f64)> {
        let own = [
            ("loss", self.loss),
            ("learning_rate", self.learning_rate),
            ("gradient_norm", self.gradient_norm),
            ("images_per_second", self.images_per_second),
        ];
        let parts = self.parts.iter().map(|(name, v)| (format!("loss/{name}"), *v));
        let scores = self.scores.iter().map(|(name, v)| (format!("val/{name}"), *v));
        own.into_iter().map(|(name, v)| (name.to_string(), v)).chain(parts).chain(scores).collect()
    }
    /// The epoch in a line.
    pub fn line(&self, of: usize) -> String {
        let parts: Vec<String> = self.parts.iter().map(|(n, v)| format!("{n} {v:.3}")).collect();
        let scores: Vec<String> = self.scores.iter().map(|(n, v)| format!("{n} {v:.3}")).collect();
        let mut line = format!("epoch {:>3}/{of}  loss {:.3}", self.epoch, self.loss);
        if parts.len() > 1 {
            line += &format!(" ({})", parts.join(", "));
        }
        if !scores.is_empty() {
            line += &format!("  {}", scores.join(", "));
        }
        line += &format!("  rate {:.1e}  {:.1} img/s", self.learning_rate, self.images_per_second);
        line
    }
}

fn as_map<S: serde::Serializer>(map: &IndexMap<String, f64>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(map)
}

/// The history of a training run.
#[derive(Debug, Clone, Default, Serialize)]
pub struct History {
    /// Those that were completed, in order.
    pub epochs: Vec<Epoch>,
    /// Epoch whose weights were kept; 0 when none was complete.
    pub best_epoch: usize,
    /// Optimizer that was used.
    pub optimizer: String,
    /// Trainable parameters.
    pub parameters: usize,
    /// The user stopped it.
    pub cancelled: bool,
    /// It stopped because validation no longer improved.
    pub stopped_early: bool,
    /// Steps that were left out because short numbers overflowed.
    pub skipped_steps: usize,
    /// Where it ran.
    pub device: String,
}

impl History {
    /// The run in a line: epochs, loss from first to last, scores of the weights kept.
    pub fn summary(&self) -> String {
        let (Some(first), Some(last)) = (self.epochs.first(), self.epochs.last()) else {
            return "no epoch was completed".to_string();
        };
        let mut text = format!("{}, loss {:.3} → {:.3}", counted(self.epochs.len(), "epoch"), first.loss, last.loss);
        if let Some(kept) = self.epochs.iter().find(|e| e.epoch == self.best_epoch) {
            if kept.epoch != last.epoch {
                text += &format!("; kept is epoch {} with loss {:.3}", kept.epoch, kept.loss);
            }
            for (name, value) in kept.scores.iter().filter(|(n, _)| matches!(n.as_str(), "map50" | "map" | "top1")) {
                text += &format!(", {name} {value:.4}");
            }
        }
        text += if self.cancelled { ", cancelled" } else { "" };
        text
    }
    /// Names of the loss parts, in order.
    pub(super) fn parts(&self) -> Vec<&str> {
        self.epochs.iter().find(|e| !e.parts.is_empty()).map_or_else(Vec::new, |e| e.parts.keys().map(String::as_str).collect())
    }
    /// Names of the scores, in order.
    pub(super) fn scores(&self) -> Vec<&str> {
        self.epochs.iter().find(|e| !e.scores.is_empty()).map_or_else(Vec::new, |e| e.scores.keys().map(String::as_str).collect())
    }
    fn curve(&self, name: &str, value: impl Fn(&Epoch) -> Option<f64>) -> Series {
        let points = self.epochs.iter().filter_map(|e| Some((e.epoch as f64, value(e)?))).collect();
        Series { name: name.to_string(), kind: SeriesKind::Line, points, labels: Vec::new() }
    }
}

impl Show for History {
    fn tables(&self) -> Vec<Table> {
        let (parts, scores) = (self.parts(), self.scores());
        let headers: Vec<String> = [">epoch", ">loss"]
            .into_iter()
            .map(String::from)
            .chain(parts.iter().map(|p| format!(">{p}")))
            .chain(scores.iter().map(|s| format!(">{s}")))
            .chain([">rate", ">img/s"].map(String::from))
            .collect();
        let minor = ["img/s", "rate"].into_iter().chain(parts.iter().copied());
        let mut table = Table::new("Training", &headers.iter().map(String::as_str).collect::<Vec<_>>()).minor(minor);
        for e in &self.epochs {
            let mark = if e.epoch == self.best_epoch { "*" } else { "" };
            let number = |v: Option<&f64>| v.map_or_else(String::new, |v| format!("{v:.4}"));
            let cells = [format!("{}{mark}", e.epoch), format!("{:.4}", e.loss)]
                .into_iter()
                .chain(parts.iter().map(|p| number(e.parts.get(*p))))
                .chain(scores.iter().map(|s| number(e.scores.get(*s))))
                .chain([format!("{:.2e}", e.learning_rate), format!("{:.1}", e.images_per_second)]);
            table.row(cells.collect::<Vec<_>>());
        }
        vec![table]
    }

    fn plots(&self) -> Vec<Plot> {
        let plot = |title: &str, y_label: &str, series: Vec<Series>| Plot {
            title: title.to_string(),
            x_label: "epoch".to_string(),
            y_label: y_label.to_string(),
            series,
            ..Plot::default()
        };
        let mut losses = vec![self.curve("loss", |e| Some(e.loss))];
        losses.extend(self.parts().into_iter().map(|p| self.curve(p, |e| e.parts.get(p).copied())));
        let mut plots = vec![plot("Loss", "loss", losses)];
        let scores: Vec<Series> = self.scores().into_iter().map(|s| self.curve(s, |e| e.scores.get(s).copied())).collect();
        if !scores.is_empty() {
            plots.push(plot("Validation", "score", scores));
        }
        plots
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = vec![format!("{} parameters, {}", self.parameters, self.optimizer)];
        if !matches!(self.device.as_str(), "" | "cpu") {
            notes.push(format!("on {}", self.device));
        }
        if self.best_epoch > 0 {
            notes.push(format!("weights kept: epoch {}", self.best_epoch));
        }
        if self.cancelled {
            notes.push("cancelled before the last epoch".to_string());
        }
        if self.skipped_steps > 0 {
            notes.push(format!("{} steps left out because float16 overflowed", self.skipped_steps));
        }
        if self.stopped_early {
            notes.push("stopped early: validation no longer improved".to_string());
        }
        notes
    }

    fn data(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_marks_the_kept_epoch_and_leaves_missing_scores_blank() {
        let epoch = |n: usize, map: Option<f64>| Epoch {
            epoch: n,
            loss: 2.0 / n as f64,
            parts: IndexMap::from([("box".to_string(), 1.0)]),
            scores: map.into_iter().map(|m| ("map50".to_string(), m)).collect(),
            ..Epoch::default()
        };
        let h = History { epochs: vec![epoch(1, None), epoch(2, Some(0.5))], best_epoch: 2, ..History::default() };
        let table = &h.tables()[0];
        assert_eq!(table.headers, ["epoch", "loss", "box", "map50", "rate", "img/s"]);
        assert_eq!(&table.rows[0][..4], ["1", "2.0000", "1.0000", ""]);
        assert_eq!(&table.rows[1][..4], ["2*", "1.0000", "1.0000", "0.5000"]);
        let plots = h.plots();
        assert_eq!(plots[1].series[0].points, [(2.0, 0.5)]);
        assert_eq!(h.summary(), "2 epochs, loss 2.000 → 1.000, map50 0.5000");
        let earlier = History { epochs: vec![epoch(1, Some(0.7)), epoch(2, Some(0.5))], best_epoch: 1, ..History::default() };
        assert_eq!(earlier.summary(), "2 epochs, loss 2.000 → 1.000; kept is epoch 1 with loss 2.000, map50 0.7000");
        assert_eq!(plots[0].series.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(), ["loss", "box"]);
    }
}
