//! The fields of results, for `help("predictions")`. What a result has beyond these is told by completion, and by the error for a field that
//! it does not have.

/// A kind of result.
pub struct ResultKind {
    /// What `help` calls it.
    pub name: &'static str,
    /// The function that gives it.
    pub of: &'static str,
    /// Names and meanings.
    pub fields: &'static [(&'static str, &'static str)],
}

/// Results whose fields people read.
pub const RESULTS: &[ResultKind] = &[
    ResultKind {
        name: "predictions",
        of: "predict",
        fields: &[
            ("images", "a map for each image: name, width, height and detections, or classes of a classifier"),
            (
                "images[0].detections",
                "a map for each object: class, score and bbox (x1, y1, x2, y2 in pixels); mask, keypoints or turned too",
            ),
            ("count", "number of images"),
            ("skipped", "images that could not be read"),
            ("seconds", "time of all of it"),
            ("images_per_second", "over all of it"),
            ("workers", "models that ran side by side"),
            ("threads_per_worker", "threads of each"),
            ("read_ms", "mean time to read an image"),
            ("run_ms", "mean time of the model on one"),
            ("boxes_ms", "mean time to find the objects in its outputs"),
            ("draw_ms", "mean time to draw them"),
            ("cancelled", "whether Ctrl-C ended it"),
        ],
    },
    ResultKind {
        name: "evaluation",
        of: "evaluate",
        fields: &[
            ("map50", "mean average precision at an overlap of 0.5; () of a classifier"),
            ("map", "the mean of that at 0.5, 0.55, … 0.95"),
            ("map75", "at 0.75; map_small, map_medium and map_large by size of the objects"),
            ("ar100", "average recall with 100 detections; ar1, ar10, ar_small, ar_medium, ar_large"),
            ("precision", "at the confidence at which precision and recall are best together"),
            ("recall", "at that confidence"),
            ("confidence", "that confidence"),
            ("top1", "share of images whose class is right, of a classifier"),
            ("top5", "share whose class is among the five likeliest"),
            ("per_class", "a map for each class: class, objects, map50, map, precision, recall"),
            ("by_confidence", "precision and recall over confidence"),
            ("confusion", "what was found for what"),
            ("conditions", "under which the figures hold: image size, confidence, overlap"),
            ("dataset", "its name"),
            ("images", "number of images"),
            ("seconds", "time of all of it"),
            ("warnings", "what was skipped"),
        ],
    },
    ResultKind {
        name: "history",
        of: "train",
        fields: &[
            ("epochs", "a map for each epoch: epoch, loss, parts, scores, learning_rate, seconds, images_per_second"),
            ("best_epoch", "the epoch whose weights the model has"),
            ("optimizer", "how it was trained"),
            ("parameters", "numbers that were trained"),
            ("cancelled", "whether Ctrl-C ended it"),
            ("stopped_early", "whether it ended since nothing became better"),
            ("skipped_steps", "steps whose gradients were not finite"),
            ("device", "where it ran: cpu, cuda:0"),
        ],
    },
    ResultKind {
        name: "benchmarks",
        of: "benchmark",
        fields: &[
            ("rows", "a map for each model and runtime; the fields below are those of the first too"),
            ("name", "of the model"),
            ("runtime", "what ran it"),
            ("params", "number of parameters"),
            ("macs", "multiply-accumulates of one image"),
            ("size_bytes", "of the file"),
            ("p50_ms", "median time of a run; mean_ms, std_ms, min_ms, p95_ms, p99_ms, max_ms"),
            ("throughput", "images per second"),
            ("peak_memory_bytes", "that loading and running added"),
            ("power_w", "watts, or () with a power_reason; energy_j is joules per image"),
            ("map50", "accuracy where there was a dataset: map50 and map, or top1"),
            ("threads", "threads of each"),
            ("environment", "machine and versions"),
            ("warnings", "what was left out or set otherwise"),
        ],
    },
    ResultKind {
        name: "comparison",
        of: "compare",
        fields: &[
            ("output", "the output that differs most"),
            ("max_abs", "greatest difference; mean_abs is the mean one"),
            ("max_rel", "greatest difference in proportion"),
            ("sqnr_db", "signal to noise in decibels"),
            ("cosine", "of the angle between the outputs: 1 is equal"),
            ("not_finite", "numbers that are none"),
            ("outputs", "a map for each output with the same fields"),
            ("images", "number of inputs"),
            ("layers", "the same for inner values, where asked for"),
            ("first_divergence", "the first layer that differs, where asked for"),
        ],
    },
];

/// The kind of result that a word names: itself, or one less or more of it.
pub fn result_kind(word: &str) -> Option<&'static ResultKind> {
    let single = |w: &str| w.trim_end_matches('s').to_string();
    RESULTS.iter().find(|r| single(r.name) == single(word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Style;
    use crate::shell::Buffer;
    use crate::shell::script::Session;
    use std::sync::Arc;

    #[test]
    fn results_have_the_fields_that_help_names() {
        let output = Arc::new(Buffer::new(Style::plain()));
        let mut session = Session::new(crate::Context::new(), output.clone());
        let code = r#"
            let m = model("yolov8n", #{ classes: 3, image_size: 32, width: 0.0625 });
            let d = dataset("shapes", #{ images: 4, size: 32 });
            let t = train(m, d.split("train"), #{ epochs: 1, batch: 2 });
            let predictions = predict(t, d.split("val"), #{ confidence: 0, max_detections: 1 });
            let evaluation = evaluate(t, d.split("val"));
            let history = t.history;
            let benchmarks = benchmark(t, #{ runs: 1, warmup: 0, isolate: false, runtimes: ["native"], power: false });
            let comparison = compare(m, t, d);
        "#;
        session.run(code, "<test>").unwrap_or_else(|f| panic!("{}", f.render(&Style::plain())));
        for kind in RESULTS {
            for (field, _) in kind.fields {
                session.run(&format!("{}.{field};", kind.name), "<test>").unwrap_or_else(|f| panic!("{}", f.render(&Style::plain())));
            }
            let has: Vec<String> = session.fields(kind.name).into_iter().map(|f| f.0).collect();
            assert!(!has.is_empty() && result_kind(kind.name).is_some(), "{}", kind.name);
        }
    }
}
