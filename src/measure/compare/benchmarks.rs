//! Two reports of `benchmark`: what became faster, smaller or worse.

use crate::statistics::{Speedup, Verdict};
use compresso_base::error::{Error, Result};
use compresso_base::report::{Cell, Show, Table};
use serde::Serialize;
use serde_json::Value;

/// A model in a runtime, before and after.
#[derive(Debug, Clone, Serialize)]
pub struct Change {
    /// The model, as the second report calls it.
    pub name: String,
    /// As [`RuntimeSpec::name`](crate::runtimes::RuntimeSpec::name).
    pub runtime: String,
    /// Median latency in milliseconds, by the first report.
    pub before_ms: f64,
    /// As [`Change::before_ms`], by the second report.
    pub after_ms: f64,
    /// How many times as fast as before; `None` where a report has too few runs.
    pub speedup: Option<Speedup>,
    /// Bytes of the ONNX file; `None` where the first report does not say.
    pub before_bytes: Option<f64>,
    /// As [`Change::before_bytes`], by the second report.
    pub after_bytes: Option<f64>,
    /// Bytes that loading and running added at their highest; `None` where the first report does not say.
    pub before_memory: Option<f64>,
    /// As [`Change::before_memory`], by the second report.
    pub after_memory: Option<f64>,
    /// mAP50, or top-1.
    pub before_accuracy: Option<f64>,
    /// As [`Change::before_accuracy`], by the second report.
    pub after_accuracy: Option<f64>,
}

/// What changed between two reports.
#[derive(Debug, Clone, Serialize)]
pub struct BenchmarkComparison {
    /// Rows that the two have in common, in the second report's order.
    pub changes: Vec<Change>,
    /// Rows of one report alone.
    pub unmatched: Vec<String>,
    /// In what the two were measured otherwise.
    pub differs: Vec<String>,
}

/// Holds two reports against each other, as `benchmark` gives them or as they are read from files. Rows of the same model and runtime belong
/// together; where each report has a single row, these two.
///
/// # Errors
/// `Argument` for what is no report of `benchmark`, and reports that share no row.
pub fn compare_benchmarks(before: &Value, after: &Value) -> Result<BenchmarkComparison> {
    let [old, new] = [before, after].map(rows);
    let (old, new) = (old?, new?);
    let key = |r: &Value| (text(r, "name"), text(r, "runtime"));
    let single = old.len() == 1 && new.len() == 1;
    let mut changes = Vec::new();
    let mut unmatched = Vec::new();
    for row in new {
        match old.iter().find(|o| single || key(o) == key(row)) {
            Some(was) => changes.push(change(was, row)?),
            None => unmatched.push(format!("{} in {} is new", text(row, "name"), text(row, "runtime"))),
        }
    }
    let gone = old.iter().filter(|o| !single && !new.iter().any(|r| key(r) == key(o)));
    unmatched.extend(gone.map(|o| format!("{} in {} is gone", text(o, "name"), text(o, "runtime"))));
    if changes.is_empty() {
        let e = Error::argument("the two reports have no model in the same runtime in common");
        return Err(e.hint(unmatched.join("; ")));
    }
    let differs = ["threads", "scenario", "training"].into_iter().map(|n| (n, &before[n], &after[n]));
    let of = |v: &'static str| (v, &before["environment"][v], &after["environment"][v]);
    let differs = differs.chain(["cpu", "version", "runtimes", "governor", "system"].map(of)).filter(|(_, a, b)| a != b);
    let differs = differs.map(|(name, a, b)| format!("{name}: {} and {}", shown(a), shown(b))).collect();
    Ok(BenchmarkComparison { changes, unmatched, differs })
}

fn shown(v: &Value) -> String {
    v.as_str().map_or_else(|| v.to_string(), str::to_string)
}

fn rows(report: &Value) -> Result<&Vec<Value>> {
    let is_row = |r: &Value| r["samples_ms"].is_array() && r["name"].is_string();
    report["rows"].as_array().filter(|rows| !rows.is_empty() && rows.iter().all(is_row)).ok_or_else(|| {
        Error::argument("compare takes reports of benchmark, two models or two tensors")
            .hint("load(\"report.json\") reads a report that was saved")
    })
}

fn text(row: &Value, name: &str) -> String {
    row[name].as_str().unwrap_or_default().to_string()
}

fn change(was: &Value, row: &Value) -> Result<Change> {
    let samples = |r: &Value| -> Vec<f64> { r["samples_ms"].as_array().into_iter().flatten().filter_map(Value::as_f64).collect() };
    let ms = |r: &Value| r["p50_ms"].as_f64().ok_or_else(|| Error::argument("a row of the report has no 'p50_ms'"));
    let accuracy = |r: &Value| r["map50"].as_f64().or_else(|| r["top1"].as_f64());
    Ok(Change {
        name: text(row, "name"),
        runtime: text(row, "runtime"),
        before_ms: ms(was)?,
        after_ms: ms(row)?,
        speedup: Speedup::of_medians(&samples(row), &samples(was)),
        before_bytes: was["size_bytes"].as_f64(),
        after_bytes: row["size_bytes"].as_f64(),
        before_memory: was["peak_memory_bytes"].as_f64(),
        after_memory: row["peak_memory_bytes"].as_f64(),
        before_accuracy: accuracy(was),
        after_accuracy: accuracy(row),
    })
}

impl Show for BenchmarkComparison {
    fn tables(&self) -> Vec<Table> {
        let headers = ["model", "runtime", ">p50 ms before", ">p50 ms after", ">speed-up", ">size", ">peak memory", ">Δ accuracy"];
        let mut table = Table::new("Two benchmarks", &headers).folding().minor(["size", "peak memory", "p50 ms before"]);
        let ratio = |before: Option<f64>, after: Option<f64>| match before.zip(after).filter(|(b, _)| *b > 0.0) {
            Some((b, a)) => Cell::shown(format!("{:.2}×", a / b), a / b),
            None => Cell::none(),
        };
        for c in &self.changes {
            let ms = |v: f64| Cell::shown(format!("{v:.2}"), v);
            let accuracy = c.before_accuracy.zip(c.after_accuracy).map(|(b, a)| a - b);
            table.row([
                Cell::from(&c.name),
                Cell::from(&c.runtime),
                ms(c.before_ms),
                ms(c.after_ms),
                c.speedup.map_or_else(Cell::none, |s| Cell::shown(s.to_string(), s.times)),
                ratio(c.before_bytes, c.after_bytes),
                ratio(c.before_memory, c.after_memory),
                accuracy.map_or_else(Cell::none, |d| Cell::shown(format!("{d:+.4}"), d)),
            ]);
        }
        vec![table]
    }
    fn notes(&self) -> Vec<String> {
        let mut notes = vec![
            "size and memory: after as a share of before; the two did not take turns, so that what slowed the machine down in one counts"
                .into(),
        ];
        if self.changes.iter().any(|c| c.speedup.is_some_and(|s| s.verdict == Verdict::CannotTell)) {
            notes.push("≈ 1×: these runs cannot tell the two apart".into());
        }
        if self.changes.iter().any(|c| c.speedup.is_none()) {
            notes.push("no speed-up is told from fewer than 9 runs".into());
        }
        notes.extend(self.differs.iter().map(|d| format!("measured otherwise: {d}")));
        notes.extend(self.unmatched.iter().cloned());
        notes
    }
    fn data(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn report(rows: &[(&str, f64, usize)], threads: usize) -> Value {
        let row = |(name, ms, runs): &(&str, f64, usize)| {
            let samples: Vec<f64> = (0..*runs).map(|i| ms * (1.0 + 0.001 * i as f64)).collect();
            json!({ "name": name, "runtime": "native", "p50_ms": ms, "samples_ms": samples, "size_bytes": 100.0 * ms, "map50": 0.1 * ms })
        };
        json!({ "rows": rows.iter().map(row).collect::<Vec<_>>(), "threads": threads, "environment": { "cpu": "x" } })
    }

    #[test]
    fn rows_of_one_name_and_runtime_are_held_against_each_other() {
        let before = report(&[("a", 4.0, 20), ("b", 2.0, 20), ("gone", 1.0, 20)], 1);
        let after = report(&[("b", 2.0, 20), ("a", 2.0, 20), ("new", 1.0, 20)], 2);
        let found = compare_benchmarks(&before, &after).unwrap();
        let told: Vec<_> = found.changes.iter().map(|c| (c.name.as_str(), c.speedup.unwrap().verdict)).collect();
        assert_eq!(told, [("b", Verdict::CannotTell), ("a", Verdict::Faster)]);
        let a = &found.changes[1];
        assert!((a.speedup.unwrap().times - 2.0).abs() < 1e-9 && a.before_bytes == Some(400.0) && a.after_accuracy == Some(0.2));
        assert_eq!(found.unmatched, ["new in native is new", "gone in native is gone"]);
        assert_eq!(found.differs, ["threads: 1 and 2"]);
        // Single rows belong together, whatever they are called; few runs tell nothing; other data is refused.
        let single = compare_benchmarks(&report(&[("x", 1.0, 5)], 1), &report(&[("y", 1.0, 5)], 1)).unwrap();
        assert!(single.changes[0].speedup.is_none() && single.notes().iter().any(|n| n.contains("fewer than 9 runs")));
        assert!(compare_benchmarks(&json!({ "rows": [] }), &before).is_err());
        assert!(compare_benchmarks(&report(&[("x", 1.0, 9), ("z", 1.0, 9)], 1), &before).is_err());
    }
}
