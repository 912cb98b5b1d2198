//! Searches on a classifier of shapes, which trains in seconds.

use crate::{Compress, CompressReport, Means, Plan, Technique};
use compresso_base::context::{Context, ProgressSink};
use compresso_base::error::ErrorKind;
use compresso_base::operation::Operation;
use compresso_base::report::{Show, Style, table_text};
use compresso_learn::data::{DataOptions, DataTask, Dataset, dataset};
use compresso_learn::train::Train;
use compresso_model::{Made, Model, ModelOptions};
use std::sync::{Arc, OnceLock};

fn shapes() -> Dataset {
    let options = DataOptions {
        images: Some(96),
        size: Some(32.into()),
        classes: Some(2.into()),
        task: DataTask::Classify,
        ..DataOptions::default()
    };
    dataset("shapes", &options, &Context::new()).unwrap()
}

fn untrained() -> Model {
    let classes = Some(serde_json::json!(&*shapes().classes));
    let options = ModelOptions { classes, image_size: Some(32.into()), width: Some(0.25), ..ModelOptions::default() };
    options.run("classifier", &Context::new()).unwrap()
}

fn trained() -> &'static Model {
    static MODEL: OnceLock<Model> = OnceLock::new();
    MODEL.get_or_init(|| {
        let train =
            Train { epochs: 8, batch: 8, augment: false, validate_every: 0, learning_rate: Some(0.01), ema: false, ..Train::default() };
        train.run((&untrained(), &shapes(), None), &Context::new()).unwrap().model
    })
}

fn options() -> Compress {
    Compress { max_drop: 0.1, images: 8, runs: 8, techniques: vec![Technique::Prune, Technique::Quantize], ..Compress::default() }
}

fn search(options: &Compress, ctx: &Context) -> Made<CompressReport> {
    options.run((trained(), &shapes()), ctx).unwrap()
}

fn report(found: &Made<CompressReport>) -> &CompressReport {
    found.report.as_ref().unwrap()
}

#[test]
fn what_is_taken_keeps_the_score_and_nothing_faster_does() {
    let found = search(&options(), &Context::new());
    let report = report(&found);
    let plans: Vec<Plan> = report.candidates.iter().map(|c| c.plan).collect();
    let half = Plan::default().pruned(50);
    assert_eq!(plans[..2], [Plan::default(), Plan::default().quantized()]);
    assert!(plans.contains(&half), "{plans:?}");
    let speed = |c: &crate::Candidate| c.known.time.as_ref().map_or(0.0, crate::store::Timed::times);
    let taken = report.candidates.iter().find(|c| c.plan == report.winner).unwrap();
    assert!(taken.lost <= 0.1 && taken.why == "taken");
    for c in &report.candidates {
        assert!((c.lost - (report.candidates[0].known.score - c.known.score)).abs() < 1e-12);
        assert!(c.lost > 0.1 || speed(c) <= speed(taken), "{} is faster than {} and keeps the score", c.plan, taken.plan);
        assert!(c.lost <= 0.1 || c.why.starts_with("loses "), "{}: {}", c.plan, c.why);
    }
    // It ends with the deepest cut that holds next to one that does not, or at the deepest of all.
    let held: Vec<u8> = report.candidates.iter().filter(|c| c.lost <= 0.1).map(|c| c.plan.cut).collect();
    let failed: Vec<u8> = report.candidates.iter().filter(|c| c.lost > 0.1 && c.plan.cut > 0).map(|c| c.plan.cut).collect();
    let deepest = held.iter().copied().max().unwrap();
    assert!(deepest >= 90 || failed.iter().any(|&f| f > deepest && f <= deepest + 5), "{held:?} {failed:?}");
    // What is taken is what its recipe says, and the file has no more bytes than said.
    let operations: Vec<&str> = found.model.recipe().unwrap().calls().iter().map(|c| c.operation.as_str()).collect();
    assert_eq!(operations.contains(&"prune"), report.winner.cut > 0, "{operations:?}");
    assert_eq!(operations.contains(&"quantize"), report.winner.int8, "{operations:?}");
    assert_eq!(found.model.encoded().unwrap().len() as u64, taken.known.size_bytes);
    assert_eq!(report.tables()[0].rows.len(), report.candidates.len());
    // A narrow terminal still tells which was taken, and why others were not.
    let text = table_text(&report.tables()[0], &Style::columns(80));
    for part in ["taken", "lost", "speed-up", "no room for"] {
        assert!(text.contains(part), "{part}:\n{text}");
    }
    // Candidates are called by what they reached.
    let given = report.candidates[0].known.macs.unwrap() as f64;
    for (c, row) in report.candidates.iter().zip(&report.tables()[0].rows).filter(|(c, _)| c.plan.cut > 0) {
        let gone = 100.0 * (1.0 - c.known.macs.unwrap() as f64 / given);
        assert!(row[0].starts_with(&format!("-{gone:.0} % MACs")) && c.name == row[0], "{}: {gone}", row[0]);
    }
    let plots = report.plots();
    assert_eq!(plots[0].series.iter().filter(|s| s.name == "taken").map(|s| s.points.len()).sum::<usize>(), 1);
    // One definition of the front in a plot.
    for plot in &plots {
        let points = plot.series.iter().filter(|s| s.name != "Pareto front").flat_map(|s| s.points.clone()).collect::<Vec<_>>();
        let front = plot.series.iter().find(|s| s.name == "Pareto front").unwrap();
        assert_eq!(front.points, compresso_base::report::Series::pareto_front(points).points);
    }
}

/// Cancels when this candidate has been told.
struct StopAt(&'static str, Context);

impl ProgressSink for StopAt {
    fn start(&self, _: u64, _: &str, _: u64) {}
    fn update(&self, _: u64, _: u64, _: &str) {}
    fn finish(&self, _: u64) {}
    fn note(&self, line: &str) {
        if line.contains(self.0) {
            self.1.cancel.cancel();
        }
    }
}

#[test]
fn a_search_that_was_stopped_goes_on_from_what_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let kept = Compress { cache: Some(folder.path().join("search").display().to_string()), ..options() };
    let ctx = Context::new();
    let stopping = ctx.clone().with_progress(Arc::new(StopAt("% MACs", ctx.clone())));
    let first = search(&kept, &stopping);
    assert!(report(&first).cancelled && report(&first).notes().iter().any(|n| n.contains("stopped by the user")));
    ctx.cancel.reset();
    let second = search(&kept, &ctx);
    let known = |found: &Made<CompressReport>| -> Vec<_> { report(found).candidates.iter().map(|c| (c.plan, c.known.clone())).collect() };
    let (before, after) = (known(&first), known(&second));
    assert!(before.len() > 1 && after.len() > before.len());
    assert!(before.iter().all(|k| after.contains(k)), "what was measured before is measured again");
    // A third one finds all of it, and takes the same bytes.
    let third = search(&kept, &ctx);
    assert_eq!(known(&third), after);
    let bytes = |found: &Made<CompressReport>| {
        let path = folder.path().join("taken.onnx");
        found.model.save(&path).unwrap();
        std::fs::read(path).unwrap()
    };
    assert!(bytes(&third) == bytes(&second), "another model is taken");
    // Another model, seed or number of images is another search.
    let other = Compress { images: 6, ..kept.clone() };
    assert_ne!(known(&search(&other, &ctx))[1..], after[1..]);
    // Files that are spoilt are made anew.
    for entry in std::fs::read_dir(folder.path().join("search")).unwrap() {
        std::fs::write(entry.unwrap().path(), "{").unwrap();
    }
    assert_eq!(known(&search(&kept, &ctx)).len(), after.len());
}

#[test]
fn targets_and_budgets_end_the_search() {
    let none = search(&Compress { budget_minutes: 0.0, ..options() }, &Context::new());
    assert_eq!(report(&none).candidates.len(), 1);
    assert!(report(&none).headline().contains("nothing was tried"));
    assert!(report(&none).notes().iter().any(|n| n.contains("budget_minutes")));
    let impossible = search(&Compress { size_mb: Some(1e-4), techniques: vec![Technique::Quantize], ..options() }, &Context::new());
    assert!(report(&impossible).target_missed && report(&impossible).headline().contains("asked for"));
    let given = report(&impossible).candidates[0].known.size_bytes as f64 / 1e6;
    let met = search(&Compress { size_mb: Some(0.9 * given), ..options() }, &Context::new());
    let taken = report(&met).candidates.iter().find(|c| c.plan == report(&met).winner).unwrap();
    assert!(taken.known.size_bytes as f64 <= 0.9e6 * given && !report(&met).target_missed);
    // Of those that meet it, the one with the best score.
    let better = report(&met).candidates.iter().filter(|c| c.known.size_bytes as f64 <= 0.9e6 * given && c.known.score > taken.known.score);
    assert_eq!(better.count(), 0);
}

/// What is tried of smaller images, cuts by sensitivity, INT8 in part and teachers, and that recipes say it.
#[test]
fn each_technique_is_tried_where_it_is_allowed() {
    let all = |techniques: &[Technique]| Compress { techniques: techniques.to_vec(), max_drop: 0.3, epochs: 1, ..options() };
    let tried = |techniques: &[Technique]| search(&all(techniques), &Context::new());
    let smaller = tried(&[Technique::Resize, Technique::Quantize]);
    let candidates = &report(&smaller).candidates;
    let sizes: Vec<_> = candidates.iter().filter(|c| !c.plan.int8).filter_map(|c| c.plan.size).collect();
    assert!(sizes.starts_with(&[[24, 24]]), "{sizes:?}");
    let macs: Vec<u64> = candidates.iter().filter(|c| !c.plan.int8).filter_map(|c| c.known.macs).collect();
    assert!(macs.windows(2).all(|w| w[1] < w[0]), "smaller images take less: {macs:?}");
    let smaller = candidates.iter().find(|c| c.name == "24×24 px").unwrap();
    assert_eq!(candidates.iter().any(|c| c.name == "24×24 px, int8"), smaller.lost <= 0.3, "{candidates:?}");

    // A cut that no ranking keeps under a drop of nothing, then shared by what groups bear, and with a teacher.
    let strict = |techniques: &[Technique]| Compress { max_drop: 0.0, ..all(techniques) };
    let found = search(&strict(&[Technique::Prune, Technique::Sensitivity, Technique::Distill]), &Context::new());
    let candidates = &report(&found).candidates;
    let failed = candidates
        .iter()
        .filter(|c| c.plan.cut > 0 && !c.plan.by_sensitivity && c.plan.epochs == 0 && c.lost > 0.0)
        .map(|c| c.plan.cut)
        .min();
    if let Some(failed) = failed {
        let shared = candidates.iter().find(|c| c.plan.by_sensitivity).expect("the cut that failed is tried by sensitivity");
        assert!(shared.plan.cut <= failed);
        let whole = candidates[0].known.macs.unwrap() as f64;
        let gone = 1.0 - shared.known.macs.unwrap() as f64 / whole;
        // Of so narrow a model channels go by eights.
        assert!((gone - f64::from(shared.plan.cut) / 100.0).abs() < 0.25, "{gone} of {}", shared.plan.cut);
        assert!(candidates.iter().any(|c| c.plan.distilled && c.name.contains("1 epoch with its teacher")), "{candidates:?}");
    }
}

/// INT8 of all layers, which loses too much, is followed by INT8 in part, for what is left of the drop.
#[test]
fn mixed_precision_follows_where_int8_loses_too_much() {
    let plan = Plan { mixed: Some(150), ..Plan::default().quantized() };
    assert_eq!((plan.before(), plan.to_string().as_str()), (Some(Plan::default()), "int8 in part"));
    let data = shapes();
    let means = Means { data: &data, labelled: true, options: &options(), given: trained(), sensitivity: None };
    let model = plan.step(trained(), &means, &Context::new()).unwrap();
    let call = model.recipe().unwrap().calls().iter().find(|c| c.operation == "quantize").cloned().unwrap();
    assert!(serde_json::to_string(&call).unwrap().contains("\"max_drop\":0.015"), "{call:?}");
}

#[test]
fn energy_is_a_goal_where_a_sensor_reports_alone() {
    let asked = Compress { energy_j: Some(1.0), techniques: vec![Technique::Quantize], ..options() };
    match compresso_measure::sensor(&asked.runtime, &Context::new()) {
        Err(_) => {
            let e = asked.run((trained(), &shapes()), &Context::new()).unwrap_err();
            assert!(e.kind() == ErrorKind::Unavailable && ["powercap: ", "perf: "].iter().all(|s| e.to_string().contains(s)), "{e}");
        }
        Ok(_) => {
            let found = search(&asked, &Context::new());
            assert!(report(&found).candidates.iter().all(|c| c.known.time.as_ref().is_none_or(|t| t.energy_j.is_some_and(|j| j > 0.0))));
        }
    }
}

#[test]
fn what_cannot_be_searched_is_said_before_anything_is_made() {
    let fails = |options: Compress, model: &Model| options.run((model, &shapes()), &Context::new()).unwrap_err();
    assert!(fails(Compress { runs: 5, ..options() }, trained()).to_string().contains("option 'runs'"));
    assert!(fails(Compress { max_drop: 1.0, ..options() }, trained()).to_string().contains("option 'max_drop'"));
    assert!(fails(Compress { techniques: Vec::new(), ..options() }, trained()).to_string().contains("option 'techniques'"));
    assert!(fails(Compress { runtime: "nativ".into(), ..options() }, trained()).to_string().contains("did you mean 'native'?"));
    assert!(fails(Compress { techniques: vec![Technique::Train], ..options() }, trained()).to_string().contains("'prune' is not among"));
    let data = shapes();
    let means = Means { data: &data, labelled: true, options: &options(), given: trained(), sensitivity: None };
    let int8 = Plan::default().quantized().step(trained(), &means, &Context::new()).unwrap();
    let e = fails(options(), &int8);
    assert!(e.kind() == ErrorKind::Unsupported && e.to_string().contains("quantized already"), "{e}");
}
