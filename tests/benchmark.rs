//! Benchmarks with a process for each model and runtime: memory, crashes, cancellation, programs for workers.

use compresso::context::ProgressSink;
use compresso::learn::data::{DataOptions, dataset};
use compresso::measure::worker::program::VARIABLE;
use compresso::measure::{Benchmark, BenchmarkReport, benchmark};
use compresso::model::zoo::{ZooOptions, build};
use compresso::model::{Constant, Element, Fact, GraphBuilder, Model, Task};
use compresso::report::Show;
use compresso::{Context, Result};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// One test at a time: each looks at the workers of this process, and some set its environment.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    let guard = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    use_program(env!("CARGO_BIN_EXE_compresso"));
    guard
}

fn use_program(path: &str) {
    // SAFETY: the tests of this file run one at a time, and no other thread of theirs reads the environment meanwhile.
    unsafe { std::env::set_var(VARIABLE, path) };
}

/// Process ids of the workers of a process.
fn workers_of(parent: u32) -> Vec<u32> {
    let ids = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok());
    ids.filter(|id| {
        let read = |file: &str| std::fs::read_to_string(format!("/proc/{id}/{file}")).unwrap_or_default();
        let is_child = read("status").lines().any(|l| l.strip_prefix("PPid:").is_some_and(|p| p.trim() == parent.to_string()));
        is_child && read("cmdline").contains("measure-worker")
    })
    .collect()
}

fn workers() -> Vec<u32> {
    workers_of(std::process::id())
}

fn is_running(id: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    status.lines().any(|l| l.starts_with("State:") && !l.contains('Z'))
}

fn signal(name: &str, id: u32) {
    assert!(Command::new("kill").args([format!("-{name}"), id.to_string()]).status().unwrap().success());
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(60), "a minute without {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A detector of this width on images of 128 by 128.
fn detector(width: f64) -> Model {
    let classes = Some(["circle", "square", "triangle"].map(String::from).to_vec());
    build("yolov8n", &ZooOptions { image_size: Some([128, 128]), classes, width: Some(width), ..ZooOptions::default() }).unwrap()
}

/// A model whose run takes a minute on one core: a hundred convolutions of 128 channels on 512 by 512 pixels.
fn endless() -> Model {
    const CHANNELS: usize = 128;
    let mut b = GraphBuilder::new("endless", 17);
    let x = b.input("x", Fact::known(Element::F32, &[1, CHANNELS, 512, 512]));
    let w = b.constant("w", Constant::floats(&[CHANNELS, CHANNELS, 3, 3], &vec![1e-3; CHANNELS * CHANNELS * 9]).unwrap());
    let mut y = x;
    for _ in 0..100 {
        y = b.op("Conv", &[&y, &w]);
    }
    b.output(&y);
    Model::new(b.finish().unwrap(), Task::Unknown)
}

fn named<const N: usize>(models: [(&str, &Model); N]) -> Vec<(String, Model)> {
    models.into_iter().map(|(n, m)| (n.to_string(), m.clone())).collect()
}

fn quick() -> Benchmark {
    Benchmark { runs: 4, warmup: 1, power: false, threads: Some(1), runtimes: Some(vec!["native".into()]), ..Benchmark::default() }
}

fn run(models: &[(String, Model)], options: &Benchmark) -> BenchmarkReport {
    benchmark(models, None, options, &Context::new()).unwrap()
}

fn with_onnxruntime() -> Benchmark {
    Benchmark { runtimes: Some(vec!["native".into(), "onnxruntime".into()]), ..quick() }
}

#[test]
fn memory_is_that_of_the_model_whatever_was_measured_before() {
    let _guard = alone();
    let (small, large) = (detector(0.125), detector(0.5));
    let first = run(&named([("small", &small), ("large", &large)]), &with_onnxruntime());
    let second = run(&named([("large", &large), ("small", &small)]), &with_onnxruntime());
    let peak = |r: &BenchmarkReport, name: &str, runtime: &str| {
        let row = r.rows.iter().find(|r| r.name == name && r.runtime == runtime).unwrap();
        let (added, all) = (row.peak_memory_bytes.unwrap() as f64, row.process_memory_bytes.unwrap() as f64);
        assert!(all > added, "{row:?}");
        added
    };
    for runtime in ["native", "onnxruntime"] {
        for name in ["small", "large"] {
            let (a, b) = (peak(&first, name, runtime), peak(&second, name, runtime));
            println!("{name} in {runtime}: {:.2} and {:.2} MB", a / 1e6, b / 1e6);
            assert!((a / b - 1.0).abs() < 0.2, "{name} in {runtime}: {a} and {b} bytes");
        }
        let [s, l] = ["small", "large"].map(|name| peak(&first, name, runtime));
        // The weights alone differ by 4 (α² − β²) of YOLOv8n's.
        let weights = (large.params().unwrap() - small.params().unwrap()) as f64 * 4.0;
        assert!(l > s + 0.9 * weights, "{runtime}: {l} and {s} bytes, the weights differ by {weights}");
    }
    assert!(first.isolated && workers().is_empty());
}

#[test]
fn figures_and_accuracy_are_those_of_one_process() {
    let _guard = alone();
    let models = named([("m", &detector(0.125))]);
    let images = DataOptions { images: Some(6), size: Some(128.into()), classes: Some(3.into()), ..DataOptions::default() };
    let data = dataset("shapes", &images, &Context::new()).unwrap();
    let apart = Benchmark { layers: true, images: Some(4), ..with_onnxruntime() };
    let here = Benchmark { isolate: false, ..apart.clone() };
    let [apart, here] = [apart, here].map(|o| benchmark(&models, Some(&data), &o, &Context::new()).unwrap());
    assert_eq!((apart.isolated, here.isolated), (true, false));
    assert_eq!(apart.environment.runtimes, here.environment.runtimes);
    for (a, b) in apart.rows.iter().zip(&here.rows) {
        assert_eq!((&a.runtime, a.macs, a.batch, a.latency.runs), (&b.runtime, b.macs, b.batch, b.latency.runs));
        assert_eq!((a.map50, a.map), (b.map50, b.map));
        assert!(a.map50.is_some() && b.peak_memory_bytes.is_none());
    }
    let steps = |r: &BenchmarkReport| r.layers[0].steps.iter().map(|s| (s.node.clone(), s.kernel.clone(), s.bytes)).collect::<Vec<_>>();
    assert_eq!(steps(&apart), steps(&here));
    assert!(apart.notes().iter().any(|n| n.contains("each in its own process")), "{:?}", apart.notes());
    let [few, many] = [2, 16].map(|batch| run(&models, &Benchmark { training: true, batch, ..quick() }).rows.remove(0));
    assert_eq!([few.batch, many.batch, few.latency.runs], [2, 16, 4]);
    // What the backward pass needs of each image.
    assert!(2 * many.peak_memory_bytes.unwrap() > 3 * few.peak_memory_bytes.unwrap(), "{few:?} {many:?}");
}

#[cfg(target_os = "linux")]
#[test]
fn processes_are_kept_on_the_cores_that_are_named() {
    let _guard = alone();
    let cores = || {
        let status = |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let list = |text: String| text.lines().find_map(|l| l.strip_prefix("Cpus_allowed_list:")).map(|l| l.trim().to_string());
        workers().into_iter().filter_map(|pid| list(status(pid))).collect::<Vec<_>>()
    };
    let seen = Arc::new(Mutex::new(Vec::new()));
    let models = named([("m", &detector(0.125))]);
    let done = Arc::new(AtomicBool::new(false));
    let watch = {
        let (seen, done) = (seen.clone(), done.clone());
        std::thread::spawn(move || {
            while !done.load(Ordering::Relaxed) {
                seen.lock().unwrap().extend(cores());
                std::thread::sleep(Duration::from_millis(2));
            }
        })
    };
    let report = run(&models, &Benchmark { cores: Some(vec![0]), runs: 30, ..quick() });
    done.store(true, Ordering::Relaxed);
    watch.join().unwrap();
    let seen = seen.lock().unwrap();
    // The program is asked who it is before, on all cores.
    assert!(seen.iter().filter(|c| *c == "0").count() > 3, "{seen:?}");
    assert!(report.notes().iter().any(|n| n.starts_with("1 thread on cores 0, batch 1")), "{:?}", report.notes());
}

/// Calls `act` once, when this many steps are done.
struct At<F>(u64, AtomicBool, F);

impl<F: Fn() + Send + Sync> ProgressSink for At<F> {
    fn start(&self, _: u64, _: &str, _: u64) {}
    fn update(&self, _: u64, done: u64, _: &str) {
        if done == self.0 && !self.1.swap(true, Ordering::Relaxed) {
            (self.2)();
        }
    }
    fn finish(&self, _: u64) {}
    fn note(&self, _: &str) {}
}

#[test]
fn a_process_that_ends_is_a_warning_and_not_the_end() {
    let _guard = alone();
    let models = named([("a", &detector(0.125)), ("b", &detector(0.25)), ("c", &detector(0.125))]);
    // The workers are started in the order of the models, so ids rise.
    let kill = |which: &'static [usize]| {
        At(5, AtomicBool::new(false), move || {
            let mut ids = workers();
            ids.sort_unstable();
            assert_eq!(ids.len(), 3);
            which.iter().for_each(|&i| signal("ABRT", ids[i]));
        })
    };
    let report = |which| -> Result<BenchmarkReport> {
        benchmark(&models, None, &Benchmark { runs: 20, ..quick() }, &Context::new().with_progress(Arc::new(kill(which))))
    };
    let r = report(&[1]).unwrap();
    assert_eq!(r.rows.iter().map(|r| (r.name.as_str(), r.latency.runs)).collect::<Vec<_>>(), [("a", 20), ("c", 20)]);
    let told: Vec<&String> = r.warnings.iter().filter(|w| w.contains("'b'")).collect();
    assert_eq!(told, ["'b' in native is left out: the process was ended by signal 6 (SIGABRT)"]);
    let e = report(&[0, 1, 2]).unwrap_err();
    assert!(e.to_string().contains("signal 6"), "{e}");
    assert!(workers().is_empty());
}

#[test]
fn cancelling_ends_a_long_run_and_its_process() {
    let _guard = alone();
    let ctx = Context::new();
    let cancel = ctx.cancel.clone();
    let canceller = std::thread::spawn(move || {
        until("a worker", || !workers().is_empty());
        std::thread::sleep(Duration::from_secs(3));
        let ids = workers();
        assert_eq!(ids.len(), 1, "the model is still in its first run");
        let start = Instant::now();
        cancel.cancel();
        (start, ids[0])
    });
    let e = benchmark(&named([("endless", &endless())]), None, &quick(), &ctx).unwrap_err();
    let (start, id) = canceller.join().unwrap();
    assert!(e.is_cancelled(), "{e}");
    assert!(start.elapsed() < Duration::from_secs(5), "it took {:?}", start.elapsed());
    assert!(!is_running(id));
}

#[test]
fn workers_end_with_their_parent_even_amid_a_run() {
    let _guard = alone();
    let dir = tempfile::tempdir().unwrap();
    endless().save(dir.path().join("endless.onnx")).unwrap();
    let code = r#"benchmark("endless.onnx", #{ runtimes: ["native"], power: false })"#;
    let mut command = Command::new(env!("CARGO_BIN_EXE_compresso"));
    command.args(["eval", code]).current_dir(dir.path()).env_remove(VARIABLE).env("TMPDIR", dir.path());
    let mut parent = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    until("a worker", || !workers_of(parent.id()).is_empty());
    std::thread::sleep(Duration::from_secs(3));
    let ids = workers_of(parent.id());
    assert_eq!(ids.len(), 1, "the worker of {} runs", parent.id());
    parent.kill().unwrap();
    parent.wait().unwrap();
    let start = Instant::now();
    until("the worker's end", || !is_running(ids[0]));
    assert!(start.elapsed() < Duration::from_secs(10), "the run was let go on for {:?}", start.elapsed());
}

#[test]
fn without_a_program_all_is_measured_here_and_said() {
    let _guard = alone();
    for (program, why) in [("/no/such/program", "it does not start"), ("/bin/echo", "'measure-' begins no message")] {
        use_program(program);
        let r = run(&named([("m", &detector(0.125))]), &quick());
        assert!(!r.isolated && r.rows.len() == 1 && r.rows[0].peak_memory_bytes.is_none());
        let told: Vec<&String> = r.warnings.iter().filter(|w| w.contains("without memory")).collect();
        assert!(matches!(told[..], [w] if w.contains(program) && w.contains(why) && w.contains(VARIABLE)), "{:?}", r.warnings);
    }
    // Not asked for, not missed.
    let r = run(&named([("m", &detector(0.125))]), &Benchmark { isolate: false, ..quick() });
    assert!(!r.isolated && !r.warnings.iter().any(|w| w.contains("without memory")), "{:?}", r.warnings);
}

/// Tests' programs lie a folder below the program itself.
#[test]
fn the_program_beside_this_one_is_found() {
    let _guard = alone();
    use_program("");
    let r = run(&named([("m", &detector(0.125))]), &quick());
    assert!(r.isolated, "{:?}", r.warnings);
}

/// Two models of which onnxruntime refuses one: its words, and the other's row.
#[test]
fn a_refused_model_is_told_in_the_runtimes_words() {
    let _guard = alone();
    let mut b = GraphBuilder::new("twice", 17);
    // No kernel of onnxruntime takes bfloat16 here.
    let x = b.input("x", Fact::known(Element::BF16, &[1, 3, 8, 8]));
    let y = b.op("HardSwish", &[&x]);
    b.output(&y);
    let odd = Model::new(b.finish().unwrap(), Task::Unknown);
    let r = run(&named([("odd", &odd), ("fine", &detector(0.125))]), &with_onnxruntime());
    let rows: Vec<(&str, &str)> = r.rows.iter().map(|r| (r.name.as_str(), r.runtime.as_str())).collect();
    assert_eq!(rows, [("odd", "native"), ("fine", "native"), ("fine", "onnxruntime")], "{:?}", r.warnings);
    let told = r.warnings.iter().find(|w| w.starts_with("'odd' does not run in onnxruntime: onnxruntime refuses the model"));
    assert!(told.is_some(), "{:?}", r.warnings);
}
