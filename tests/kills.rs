//! The program is killed at any moment: what it leaves is whole, and the next run clears up and ends as if nothing had been.
//!
//! `COMPRESSO_KILLS=100 cargo test --test kills` kills more often, `COMPRESSO_SEED=7` at other moments.
#![cfg(unix)]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

struct Case {
    name: &'static str,
    /// What is there before.
    setup: &'static str,
    script: &'static str,
}

const fn case(name: &'static str, setup: &'static str, script: &'static str) -> Case {
    Case { name, setup, script }
}

const CASES: &[Case] = &[
    case(
        "train",
        "",
        r#"let d = dataset("shapes", #{ images: 4, size: 32, classes: 2 });
           let m = model("yolov8n", #{ classes: 2, image_size: 32, width: 0.125 });
           let t = train(m, d, #{ epochs: 3, batch: 2, checkpoint: "state/training.safetensors", resume: true });
           save(t, "trained.safetensors")"#,
    ),
    case(
        "model",
        "",
        r#"let m = model("yolov8n", #{ classes: 2, image_size: 32, width: 0.25 });
           save(m, "m.onnx"); save(m, "m.safetensors"); onnx_export(m, "deep/below/e.onnx"); save(m, "m.onnx")"#,
    ),
    case(
        "dataset",
        "",
        r#"let d = dataset("shapes", #{ images: 30, size: 64, classes: 2 });
           save(d, "new/yolo/data.yaml"); save(d, "new/coco/data.json"); save(d, "new/yolo/data.yaml")"#,
    ),
    case(
        "tensorrt",
        "",
        r#"let m = model("classifier", #{ image_size: 32 }); let d = dataset("random", #{ images: 4 });
           tensorrt_export(m, "trt", d, #{ precision: "int8", images: 4, score: false, build: false });
           tensorrt_export(m, "trt", d, #{ precision: "int8", images: 4, score: false, build: false })"#,
    ),
    case(
        "quantize",
        "",
        r#"let m = model("classifier", #{ image_size: 32 });
           save(quantize(m, dataset("random", #{ images: 8 }), #{ images: 8, score: false }), "q.onnx")"#,
    ),
    case(
        "predict",
        "",
        r#"let m = model("yolov8n", #{ classes: 2, image_size: 32, width: 0.125 });
           let p = predict(m, dataset("shapes", #{ images: 16, size: 64, classes: 2 }), #{ save: "drawn", confidence: 0.01 });
           p.save("drawn"); save(p, "again")"#,
    ),
    case(
        "cache",
        r#"save(dataset("shapes", #{ images: 16, size: 96, classes: 2 }), "data/data.yaml")"#,
        r#"let d = dataset("data/data.yaml", #{ cache: "disk" });
           let m = model("yolov8n", #{ classes: 2, image_size: 32, width: 0.125 });
           save(evaluate(m, d, #{ confidence: 0.5 }), "e.csv")"#,
    ),
];

/// Files that hold times, or stand under names that depend on them.
const TIMED: [&str; 3] = ["state/", "cache/", "e.csv"];

fn start(dir: &Path, script: &str) -> Child {
    std::fs::create_dir_all(dir.join("tmp")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_compresso"));
    command.args(["eval", script]).current_dir(dir).env("TMPDIR", dir.join("tmp")).env("XDG_CACHE_HOME", dir.join("cache"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Runs a script to its end, which must be a good one.
fn run(dir: &Path, script: &str, what: &str) {
    let o = start(dir, script).wait_with_output().unwrap();
    assert!(o.status.success(), "{what}: {}", String::from_utf8_lossy(&o.stderr));
}

/// The files below a folder, by their paths in it.
fn tree(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    fn walk(root: &Path, dir: &Path, out: &mut BTreeMap<String, Vec<u8>>) {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = entry.path();
            let name = path.strip_prefix(root).unwrap().display().to_string();
            if path.is_dir() {
                if entry.file_name().to_string_lossy().starts_with(".compresso-") {
                    out.insert(format!("{name}/"), Vec::new());
                }
                walk(root, &path, out);
            } else if let Ok(bytes) = std::fs::read(&path) {
                out.insert(name, bytes);
            }
        }
    }
    let mut all = BTreeMap::new();
    walk(dir, dir, &mut all);
    all
}

fn is_partial(name: &str) -> bool {
    name.split('/').any(|part| part.starts_with(".compresso-"))
}

fn is_timed(name: &str) -> bool {
    TIMED.iter().any(|t| name.starts_with(t))
}

/// A number from 0 to 1 (SplitMix64).
fn random(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) as f64 / u64::MAX as f64
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |n| n.parse().unwrap_or_else(|_| panic!("{name} is no number: {n}")))
}

#[test]
fn a_killed_run_leaves_whole_files_and_the_next_one_clears_up() {
    let kills = number("COMPRESSO_KILLS", 12);
    let mut state = number("COMPRESSO_SEED", 1);
    let whole: Vec<_> = CASES
        .iter()
        .map(|case| {
            let dir = tempfile::tempdir().unwrap();
            run(dir.path(), case.setup, case.name);
            let begin = Instant::now();
            run(dir.path(), case.script, case.name);
            (tree(dir.path()), begin.elapsed())
        })
        .collect();
    let (mut kill, mut writing, mut ended) = (0, 0, 0);
    while kill < kills {
        assert!(ended <= 2 * kills + 10, "{ended} runs ended before they were killed, {kill} were killed");
        let case = &CASES[kill as usize % CASES.len()];
        let (expected, duration) = &whole[kill as usize % CASES.len()];
        let dir = tempfile::tempdir().unwrap();
        run(dir.path(), case.setup, case.name);
        let moment = duration.mul_f64(random(&mut state));
        // Every other kill waits for a file in the making.
        let wait_for_write = random(&mut state) < 0.5;
        let mut child = start(dir.path(), case.script);
        let begin = Instant::now();
        while child.try_wait().unwrap().is_none() {
            if begin.elapsed() >= moment && (!wait_for_write || tree(dir.path()).keys().any(|n| is_partial(n))) {
                break;
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        child.kill().unwrap();
        let status = child.wait().unwrap();
        let what = format!("{} killed after {:?} ({kill})", case.name, begin.elapsed());
        let left = tree(dir.path());
        // One that had ended by itself is looked at as well, but is no kill.
        let killed = status.code().is_none();
        kill += u64::from(killed);
        ended += u64::from(!killed);
        writing += u64::from(left.keys().any(|n| is_partial(n)));
        for (name, bytes) in left.iter().filter(|(n, _)| !is_partial(n) && !is_timed(n)) {
            assert!(expected.get(name) == Some(bytes), "{what}: {name} is not whole");
        }
        run(dir.path(), case.script, &what);
        let mended = tree(dir.path());
        let partial: Vec<_> = mended.keys().filter(|n| is_partial(n)).collect();
        assert!(partial.is_empty(), "{what}: left behind {partial:?}");
        let names = |t: &BTreeMap<String, Vec<u8>>| t.keys().filter(|n| !n.starts_with("cache/")).cloned().collect::<Vec<_>>();
        assert_eq!(names(&mended), names(expected), "{what}");
        for (name, bytes) in mended.iter().filter(|(n, _)| !is_timed(n)) {
            assert!(expected.get(name) == Some(bytes), "{what}: {name} differs from that of a run that was not killed");
        }
    }
    eprintln!("{kills} kills, {writing} of them while something was written; {ended} runs ended before");
}
