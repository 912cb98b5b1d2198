//! Measured in this process; tests/benchmark.rs has what processes of their own need.

use super::report::slower_integers;
use super::{Benchmark, BenchmarkReport, Scenario, benchmark};
use crate::runtimes::NAMES;
use compresso_base::context::Context;
use compresso_base::report::Show;
use compresso_model::{Constant, Element, Fact, GraphBuilder, Model, Task};
use std::time::Instant;

/// A convolution of one by one from 3 to `width` channels, on an image of `size` by `size`.
fn sized(width: usize, size: usize) -> Model {
    let mut b = GraphBuilder::new("net", 17);
    let x = b.input("x", Fact::known(Element::F32, &[1, 3, size, size]));
    let w = b.constant("w", Constant::floats(&[width, 3, 1, 1], &vec![0.5; width * 3]).unwrap());
    let y = b.op("Conv", &[&x, &w]);
    b.output(&y);
    Model::new(b.finish().unwrap(), Task::Unknown)
}

fn model(width: usize) -> Model {
    sized(width, 8)
}

fn here() -> Benchmark {
    Benchmark { isolate: false, power: false, runtimes: Some(vec!["native".into()]), ..Benchmark::default() }
}

fn run(models: &[(String, Model)], options: &Benchmark) -> BenchmarkReport {
    benchmark(models, None, options, &Context::new()).unwrap()
}

#[test]
fn rows_carry_cost_and_latency_and_scripts_read_the_first() {
    let models = [("small".to_string(), model(4)), ("large".to_string(), sized(64, 512))];
    let start = Instant::now();
    let report = run(&models, &Benchmark { runs: 5, warmup: 1, threads: Some(1), power: true, ..here() });
    let took = start.elapsed().as_secs_f64() * 1e3;
    assert_eq!(report.rows.len(), 2);
    let [small, large] = [&report.rows[0], &report.rows[1]];
    assert_eq!((small.params, small.macs), (12, Some(4 * 3 * 64)));
    assert_eq!((large.params, large.macs), (192, Some(64 * 3 * 512 * 512)));
    // 65 thousand times the work; the times are those of the models, and all of them are within the call's.
    assert!(large.latency.min_ms > 10.0 * small.latency.p50_ms, "{large:?} {small:?}");
    let sum: f64 = report.rows.iter().map(|r| r.latency.mean_ms * 5.0).sum();
    assert!(sum < took && report.rows.iter().all(|r| r.latency.runs == 5), "{sum} of {took} ms");
    assert!(report.rows.iter().all(|r| (r.throughput * r.latency.mean_ms - 1e3).abs() < 1e-6));
    let data = report.data();
    assert_eq!(data["p50_ms"], data["rows"][0]["p50_ms"]);
    assert_eq!(data["rows"][1]["name"], "large");
    // Power is a figure or null with a reason; memory is not known in a process that does all this.
    assert!(data["power_w"].is_number() != data["power_reason"].is_string());
    assert!(data["peak_memory_bytes"].is_null() && data["process_memory_bytes"].is_null() && data["isolated"] == false);
    assert_eq!(report.tables()[0].rows.len(), 2);
    assert_eq!(report.plots()[0].series[0].labels, ["small", "large"]);
}

#[test]
fn scenarios_count_queries_as_loadgen_does() {
    let models = [("net".to_string(), sized(16, 64))];
    let of = |options: Benchmark| run(&models, &Benchmark { warmup: 1, threads: Some(1), ..options });
    let single = of(Benchmark { runs: 20, ..here() });
    let multi = of(Benchmark { runs: 20, scenario: Scenario::MultiStream, samples: 8, ..here() });
    let queries = [Scenario::SingleStream, Scenario::MultiStream, Scenario::Offline].map(|scenario| {
        let options = Benchmark { runs: 40, scenario, samples: 9, ..here() };
        (options.query(2), options.queries())
    });
    // Steps of a query on two images each, whether its figure is their mean, and how many there are.
    assert_eq!(queries, [((1, false), 40), ((5, false), 40), ((4, true), 10)]);
    // As many as take two seconds of each model, within bounds; or as the seconds for all say.
    let usual = here();
    let queries = [(30.0, 3), (1.0, 1), (1e4, 1)].map(|(round, models)| usual.queries_in(round, models));
    assert_eq!(queries, [200, 500, 50]);
    assert_eq!(Benchmark { seconds: Some(1.0), ..here() }.queries_in(100.0, 3), 10);
    let [one, eight] = [&single, &multi].map(|r| &r.rows[0]);
    assert_eq!((one.latency.runs, eight.latency.runs), (20, 20));
    // A query of eight images is eight steps.
    assert!((one.throughput * one.latency.mean_ms / 1e3 - 1.0).abs() < 1e-9);
    assert!((eight.throughput * eight.latency.mean_ms / 8e3 - 1.0).abs() < 1e-9);
    let offline = of(Benchmark { runs: 40, scenario: Scenario::Offline, ..here() });
    assert_eq!((offline.rows[0].latency.runs, offline.scenario), (10, Scenario::Offline));
    assert!((offline.rows[0].throughput * offline.rows[0].latency.mean_ms / 1e3 - 1.0).abs() < 1e-9);
    let timed = of(Benchmark { seconds: Some(0.3), ..here() });
    let took: f64 = timed.rows[0].samples_ms.iter().sum();
    // The rounds that the time is shared by are guessed from two, which a busy machine may slow down.
    assert!((15.0..6000.0).contains(&took), "{took} ms in {:?}", timed.rows[0].latency);
    let server =
        of(Benchmark { runs: 8, scenario: Scenario::Server, latency_ms: Some(1e4), percentile: 0.9, seconds: Some(0.05), ..here() });
    let found = server.rows[0].server.as_ref().unwrap();
    // A bound that no query comes near holds at all rates that are tried.
    assert!(found.trials.len() == 6 && found.trials.iter().all(|t| t.held) && found.rate > 0.9 * found.capacity, "{found:?}");
    assert!(server.tables()[0].title.starts_with("Server: 90") && server.plots()[0].title == "Latency under load");
    let wrong = |options: Benchmark| benchmark(&models, None, &options, &Context::new()).unwrap_err().to_string();
    assert!(wrong(Benchmark { scenario: Scenario::Server, ..here() }).contains("needs the option 'latency_ms'"));
    assert!(wrong(Benchmark { latency_ms: Some(5.0), ..here() }).contains("is for the scenario 'server'"));
    assert!(wrong(Benchmark { scenario: Scenario::Offline, training: true, ..here() }).contains("training has no scenario"));
}

#[test]
fn integers_that_take_longer_than_floats_are_told() {
    let models = ["float", "integers", "other"].map(|name| (name.to_string(), model(if name == "other" { 5 } else { 4 })));
    let rows = run(&models, &Benchmark { runs: 1, warmup: 0, ..here() }).rows;
    let said = |medians: [f64; 3]| {
        let mut rows = rows.clone();
        rows.iter_mut().zip(medians).for_each(|(r, ms)| r.latency.p50_ms = ms);
        slower_integers(&rows, |name| name == "integers")
    };
    assert!(said([1.0, 0.5, 0.1]).is_empty());
    let slower = said([0.5, 1.0, 2.0]);
    assert!(slower.len() == 1 && slower[0].contains("'integers' takes longer on integers than 'float' on floats in native"), "{slower:?}");
}

#[test]
fn the_usual_runtimes_that_are_found_are_used_and_the_others_told_once() {
    let spec = |name: &str| crate::runtimes::named(name).unwrap();
    let found = |name: &str| (spec(name).find)().is_ok();
    let usual: Vec<&str> = NAMES.into_iter().filter(|n| spec(n).usual).collect();
    assert_eq!(usual, ["native", "onnxruntime", "eager"]);
    let report = run(&[("net".into(), model(4))], &Benchmark { runtimes: None, runs: 1, ..here() });
    let rows: Vec<&str> = report.rows.iter().map(|r| r.runtime.as_str()).collect();
    assert_eq!(rows, usual.iter().copied().filter(|n| found(n)).collect::<Vec<_>>());
    let told: Vec<&String> = report.warnings.iter().filter(|w| w.starts_with("left out: ")).collect();
    for name in usual {
        assert_eq!(told.iter().filter(|w| w.contains(name)).count(), usize::from(!found(name)), "{name}: {told:?}");
    }
}

#[test]
fn cores_are_for_processes_of_their_own_and_must_be_there() {
    let wrong = |o: Benchmark| benchmark(&[("net".to_string(), model(4))], None, &o, &Context::new()).unwrap_err().message().to_string();
    assert!(wrong(Benchmark { cores: Some(vec![]), ..here() }).contains("empty"));
    if cfg!(target_os = "linux") {
        assert!(wrong(Benchmark { cores: Some(vec![0, 100_000]), ..here() }).contains("core 100000"));
        assert!(wrong(Benchmark { cores: Some(vec![0]), ..here() }).contains("isolate is false"));
    }
}

#[test]
fn steps_of_the_plan_are_timed() {
    let report = run(&[("net".into(), model(4))], &Benchmark { layers: true, runs: 3, ..here() });
    let steps = &report.layers[0].steps;
    assert!(steps[0].kernel.starts_with("conv 1x1 3→4") && steps[0].macs == 4 * 3 * 64 && steps[0].seconds > 0.0, "{steps:?}");
    assert_eq!(steps[0].bytes, 4 * (3 * 64 + 4 * 64 + 12));
    assert!(report.tables()[1].title.contains("Steps of net"));
}

#[test]
fn training_steps_are_timed_on_the_model_alone() {
    let models = [("net".to_string(), model(4))];
    let options = Benchmark { training: true, runs: 3, warmup: 1, threads: Some(1), runtimes: None, ..here() };
    let report = run(&models, &options);
    let row = &report.rows[0];
    assert_eq!((report.rows.len(), row.runtime.as_str(), row.latency.runs), (1, "native", 3));
    assert!((row.throughput - 1e3 / row.latency.mean_ms).abs() < 1e-6 * row.throughput);
    assert!(report.notes().iter().any(|n| n.contains("training steps")), "{:?}", report.notes());
    let e = benchmark(&models, None, &Benchmark { runtimes: Some(vec!["onnxruntime".into()]), ..options }, &Context::new());
    let e = e.unwrap_err();
    assert!(e.to_string().contains("option 'training'"), "{e}");
    assert_eq!(e.suggestion(), Some("runtimes that train: native"));
}

#[test]
fn bad_requests_name_the_option() {
    let models = [("m".to_string(), model(4))];
    let run = |options: Benchmark| benchmark(&models, None, &options, &Context::new()).unwrap_err().to_string();
    assert!(run(Benchmark { runs: 2_000_000, ..Benchmark::default() }).contains("option 'runs'"));
    let e = run(Benchmark { runtimes: Some(vec!["onnxruntim".into()]), ..Benchmark::default() });
    assert!(e.contains("there is no runtime 'onnxruntim'") && e.contains("did you mean 'onnxruntime'?"), "{e}");
    assert!(benchmark(&[], None, &Benchmark::default(), &Context::new()).is_err());
}
