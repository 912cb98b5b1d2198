//! The search as a process: killed at any moment and called again it ends as one that was left alone, and the script that it prints makes the
//! same bytes.
//!
//! `COMPRESSO_KILLS=20 cargo test --test search` kills more often, `COMPRESSO_SEED=7` at other moments.
#![cfg(unix)]

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const SETUP: &str = r#"
    let d = dataset("shapes", #{ images: 48, size: 32, classes: 2, task: "classify" });
    let m = model("classifier", #{ classes: d.classes, image_size: 32, width: 0.25 });
    save(train(m, d, #{ epochs: 4, batch: 8, augment: false, ema: false, learning_rate: 0.01 }), "m.onnx")
"#;

const SEARCH: &str = r#"
    let d = dataset("shapes", #{ images: 48, size: 32, classes: 2, task: "classify" });
    let s = compress(model("m.onnx"), d, #{ max_drop: 0.2, size_mb: 0.15, images: 8, runs: 8, budget_minutes: 60, cache: "cache",
        techniques: ["prune", "quantize", "sensitivity", "mixed_precision", "resize"] });
    save(s, "taken.onnx");
    save(s.report, "report.json");
    save(s.script + "\nsave(m, \"again.onnx\");\n", "again.rhai");
"#;

/// The script of a candidate that was resized, cut by sensitivity and quantized.
const LONGEST: &str = r#"
    for f in glob("cache/*.onnx") {
        let s = model(f).script;
        if s.contains("resize") && s.contains("ratios") && s.contains("quantize") {
            write_text("longest.rhai", s + "\nsave(m, \"longest.onnx\");\n");
            write_text("longest.txt", f);
            break;
        }
    }
"#;

fn program(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_compresso"));
    command.args(["-q", "--threads", "1"]).args(args).current_dir(folder).stdin(Stdio::null());
    command
}

fn run(folder: &Path, args: &[&str]) {
    let o = program(folder, args).output().unwrap();
    assert!(o.status.success(), "{}", String::from_utf8_lossy(&o.stderr));
}

/// The whole files of the cache, by name.
fn cache(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = std::fs::read_dir(folder.join("cache")).into_iter().flatten().map(|e| e.unwrap().path());
    let kept = files.filter(|p| p.extension().is_some_and(|e| e == "onnx" || e == "json"));
    kept.map(|p| (p.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(p).unwrap())).collect()
}

fn report(folder: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(folder.join("report.json")).unwrap()).unwrap()
}

/// What a search decides by that no clock says.
fn decided(report: &Value) -> Vec<Value> {
    let of = |c: &Value| json!([c["plan"], c["score"], c["size_bytes"], c["macs"]]);
    report["candidates"].as_array().unwrap().iter().map(of).collect()
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
fn a_killed_search_ends_as_one_that_was_left_alone_and_its_script_makes_the_same_bytes() {
    let [alone, killed] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    run(alone.path(), &["eval", SETUP]);
    std::fs::copy(alone.path().join("m.onnx"), killed.path().join("m.onnx")).unwrap();
    let begin = Instant::now();
    run(alone.path(), &["eval", SEARCH]);
    let duration = begin.elapsed();

    let (kills, mut state) = (number("COMPRESSO_KILLS", 3), number("COMPRESSO_SEED", 1));
    let mut kept = BTreeMap::new();
    for _ in 0..kills {
        let mut child = program(killed.path(), &["eval", SEARCH]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(duration.mul_f64(random(&mut state)).max(Duration::from_millis(50)));
        child.kill().unwrap();
        child.wait().unwrap();
        let now = cache(killed.path());
        // What a measurement says stays; a model whose measurement is missing may be made again.
        for (name, bytes) in kept.iter().filter(|(name, _): &(&String, &Vec<u8>)| name.ends_with(".json")) {
            assert!(now.get(name) == Some(bytes), "{name} was measured again");
        }
        kept = now;
    }
    run(killed.path(), &["eval", SEARCH]);
    let (left, resumed) = (report(alone.path()), report(killed.path()));
    assert_eq!(decided(&left), decided(&resumed));
    // All candidates are the same to the byte; names are hashes of what they follow from.
    let models = |folder: &Path| cache(folder).into_iter().filter(|(name, _)| name.ends_with(".onnx")).collect::<BTreeMap<_, _>>();
    let (ours, theirs) = (models(alone.path()), models(killed.path()));
    assert!(ours.len() > 5 && ours.keys().eq(theirs.keys()), "{:?} {:?}", ours.keys(), theirs.keys());
    for (name, bytes) in &ours {
        assert!(theirs[name] == *bytes, "{name} differs");
    }
    // Once more from all that is kept: the same is taken, by the same times.
    let taken = std::fs::read(killed.path().join("taken.onnx")).unwrap();
    run(killed.path(), &["eval", SEARCH]);
    assert_eq!(report(killed.path())["candidates"], resumed["candidates"]);
    assert!(std::fs::read(killed.path().join("taken.onnx")).unwrap() == taken);

    // The script begins with nothing but the data.
    run(killed.path(), &["run", "again.rhai"]);
    let again = std::fs::read(killed.path().join("again.onnx")).unwrap();
    assert!(again == taken, "the script makes other bytes:\n{}", std::fs::read_to_string(killed.path().join("again.rhai")).unwrap());
    assert_ne!(resumed["winner"], json!(null));
    assert!(resumed["target_missed"] == false, "{resumed}");

    // Which is taken depends on the machine. So does one of those with the longest recipe.
    run(killed.path(), &["eval", LONGEST]);
    run(killed.path(), &["run", "longest.rhai"]);
    let file = std::fs::read_to_string(killed.path().join("longest.txt")).unwrap();
    let (made, kept) = (std::fs::read(killed.path().join("longest.onnx")).unwrap(), std::fs::read(killed.path().join(&file)).unwrap());
    assert!(made == kept, "the script of {file} makes other bytes");
}
