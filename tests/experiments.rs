//! Recorded runs and sweeps, by the program.
#![cfg(unix)]

#[path = "slurm/cluster.rs"]
mod cluster;

use cluster::Cluster;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A script whose runs take no time, and fail where they are told to.
const QUICK: &str = r#"
    let x = param("x", 1.0);
    let fail = param("fail", false);
    if fail { throw "told to"; }
    record(#{ square: x * x, noise: random([1]).sum() });
    print(`x is ${x}`);
"#;

/// A script whose runs go on until a file is there.
const WAITING: &str = r#"
    let x = param("x", 0);
    while !exists("go") { sleep(0.05); }
    record(#{ x: x });
"#;

fn folder(script: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("x.rhai"), script).unwrap();
    dir
}

fn command(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_compresso"));
    command.args(args).current_dir(folder).stdin(Stdio::null());
    command
}

fn compresso(folder: &Path, args: &[&str]) -> Output {
    command(folder, args).output().unwrap()
}

fn said(o: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&o.stdout), String::from_utf8_lossy(&o.stderr))
}

/// The data of the report that a call of `sweep` gives.
fn sweep(folder: &Path, call: &str) -> Value {
    let o = compresso(folder, &["-q", "eval", &format!("save({call}, \"sweep.json\")")]);
    assert!(o.status.success(), "{}", said(&o));
    serde_json::from_str(&std::fs::read_to_string(folder.join("sweep.json")).unwrap()).unwrap()
}

fn rows(report: &Value) -> &Vec<Value> {
    report["rows"].as_array().unwrap()
}

fn statuses(report: &Value) -> Vec<&str> {
    rows(report).iter().map(|r| r["status"].as_str().unwrap()).collect()
}

/// The folders of runs in a sweep whose record begins to be written.
fn begun(folder: &Path) -> Vec<PathBuf> {
    let all = std::fs::read_dir(folder.join("sweeps/x")).into_iter().flatten();
    all.map(|e| e.unwrap().path()).filter(|p| p.join("run.json").exists()).collect()
}

fn until(what: &str, seconds: u64, done: impl Fn() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < Duration::from_secs(seconds), "{what}: not after {seconds} seconds");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Processes whose command line names a folder.
fn processes(folder: &Path) -> Vec<u32> {
    let name = folder.display().to_string();
    let pids = std::fs::read_dir("/proc").unwrap().filter_map(|e| e.unwrap().file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|c| String::from_utf8_lossy(&c).contains(&name))).collect()
}

fn signal(name: &str, pid: u32) {
    assert!(Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status().unwrap().success());
}

fn wait(child: &mut Child) -> Option<i32> {
    let begin = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        assert!(begin.elapsed() < Duration::from_secs(20), "still there");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_recorded_run_leaves_its_folder() {
    let script = r#"
        let m = model("classifier", #{ classes: 3, image_size: 32 });
        let t = prune(m, #{ ratio: param("ratio", 0.3) });
        record(#{ macs: t.macs });
        print("pruned");
        show(t.report);
        save(t, "small.onnx");
    "#;
    let dir = folder(script);
    let o = compresso(dir.path(), &["run", "x.rhai", "--record", "--set", "ratio=0.5"]);
    assert!(o.status.success() && said(&o).contains("recorded in runs/"), "{}", said(&o));
    let run = std::fs::read_dir(dir.path().join("runs")).unwrap().next().unwrap().unwrap().path();
    let text = std::fs::read_to_string(run.join("run.json")).unwrap();
    let record: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&record["status"], &record["parameters"]), (&json!("done"), &json!({ "ratio": 0.5 })), "{text}");
    assert!(record["metrics"]["macs"].as_u64().unwrap() > 1000 && record["seconds"].as_f64().unwrap() > 0.0, "{text}");
    let hash = compresso::operation::Digest::of_file(dir.path().join("small.onnx")).unwrap().to_string();
    assert_eq!(record["saved"][0], json!({ "path": "small.onnx", "sha256": hash, "bytes": record["saved"][0]["bytes"] }));
    assert_eq!(std::fs::read_to_string(run.join("script.rhai")).unwrap(), script);
    assert!(std::fs::read_to_string(run.join("output.txt")).unwrap().contains("pruned"));
    assert!(run.join(record["reports"][0].as_str().unwrap()).is_file(), "{text}");
    // The list compares it with another.
    let o = compresso(dir.path(), &["run", "--record", "x.rhai", "--set", "ratio=0.2"]);
    assert!(o.status.success(), "{}", said(&o));
    let listed = said(&compresso(dir.path(), &["eval", "runs(\"runs\", #{ sort: \"-macs\" })"]));
    let lines: Vec<&str> = listed.lines().filter(|l| l.contains("-x")).collect();
    assert!(lines.len() == 2 && lines[0].contains("0.2") && lines[1].contains("0.5") && listed.contains("2 runs"), "{listed}");
}

/// CRC-32C by a table of bytes, as published by Intel's slicing reference, with TensorFlow's mask.
fn masked_crc(bytes: &[u8]) -> u32 {
    let table: Vec<u32> = (0..256u32).map(|i| (0..8).fold(i, |c, _| if c & 1 == 1 { (c >> 1) ^ 0x82f6_3b78 } else { c >> 1 })).collect();
    let crc = !bytes.iter().fold(!0u32, |c, b| table[((c ^ u32::from(*b)) & 0xff) as usize] ^ (c >> 8));
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// The fields of a message of protocol buffers: number, and the value as bytes.
fn fields(mut bytes: &[u8]) -> Vec<(u64, Vec<u8>)> {
    fn varint(bytes: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = bytes[0];
            *bytes = &bytes[1..];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        value
    }
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let length = match key & 7 {
            0 => {
                all.push((key >> 3, varint(&mut bytes).to_le_bytes().to_vec()));
                continue;
            }
            1 => 8,
            2 => varint(&mut bytes) as usize,
            5 => 4,
            other => panic!("wire type {other}"),
        };
        all.push((key >> 3, bytes[..length].to_vec()));
        bytes = &bytes[length..];
    }
    all
}

/// Tag, step and value of each scalar in the event file of a folder, by a reader of the framing and the messages of its own.
fn scalars(folder: &Path) -> Vec<(String, u64, f32)> {
    let mut files = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    let path = files.find(|p| p.display().to_string().contains("tfevents")).expect("there is an event file");
    let bytes = std::fs::read(path).unwrap();
    let mut rest = bytes.as_slice();
    let mut found = Vec::new();
    let u32_of = |b: &[u8]| u32::from_le_bytes(b.try_into().unwrap());
    while !rest.is_empty() {
        assert_eq!(u32_of(&rest[8..12]), masked_crc(&rest[..8]));
        let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
        let data = &rest[12..12 + length];
        assert_eq!(u32_of(&rest[12 + length..16 + length]), masked_crc(data));
        rest = &rest[16 + length..];
        let event = fields(data);
        let one = |number: u64| event.iter().find(|f| f.0 == number).map(|f| f.1.clone());
        assert!(f64::from_le_bytes(one(1).unwrap().try_into().unwrap()) > 1.7e9, "wall time");
        let Some(summary) = one(5) else {
            assert_eq!(one(3).unwrap(), b"brain.Event:2");
            continue;
        };
        let step = u64::from_le_bytes(one(2).unwrap().try_into().unwrap());
        for (_, value) in fields(&summary) {
            let value = fields(&value);
            let tag = String::from_utf8(value.iter().find(|f| f.0 == 1).unwrap().1.clone()).unwrap();
            let number = value.iter().find(|f| f.0 == 2).unwrap();
            found.push((tag, step, f32::from_le_bytes(number.1.clone().try_into().unwrap())));
        }
    }
    found
}

#[test]
fn numbers_and_epochs_go_to_tensorboard_where_that_is_asked_for() {
    let script = r#"
        let d = dataset("shapes", #{ images: 8, size: 32, classes: 2, task: "classify" });
        let m = train(model("classifier", #{ classes: 2, image_size: 32, width: 0.125 }), d, #{ epochs: 2, batch: 4, tensorboard: "training" });
        for i in 0..3 { record("count", i * 10); }
        record("train", m.history);
        record(#{ loss: m.history.epochs[1].loss });
    "#;
    let dir = folder(script);
    let o = compresso(dir.path(), &["run", "x.rhai", "--folder", "it", "--tensorboard"]);
    assert!(o.status.success(), "{}", said(&o));
    let text = std::fs::read_to_string(dir.path().join("it/run.json")).unwrap();
    let metrics = serde_json::from_str::<Value>(&text).unwrap()["metrics"].clone();
    let all = scalars(&dir.path().join("it"));
    let of = |tag: &str| all.iter().filter(|s| s.0 == tag).map(|s| (s.1, s.2)).collect::<Vec<_>>();
    assert_eq!(of("count"), [(0, 0.0), (1, 10.0), (2, 20.0)]);
    let loss = metrics["loss"].as_f64().unwrap() as f32;
    assert_eq!((of("loss"), of("train.loss")[1]), (vec![(0, loss)], (1, loss)));
    let training = scalars(&dir.path().join("training"));
    let losses: Vec<_> = training.iter().filter(|s| s.0 == "loss").map(|s| (s.1, s.2)).collect();
    assert_eq!((losses.len(), losses[1]), (2, (2, loss)));
    assert!(training.iter().any(|s| s.0 == "val/top1") && training.iter().any(|s| s.0 == "learning_rate"), "{training:?}");
    // No file where it was not asked for.
    let o = compresso(dir.path(), &["run", "x.rhai", "--folder", "other"]);
    assert!(o.status.success(), "{}", said(&o));
    assert!(std::fs::read_dir(dir.path().join("other")).unwrap().all(|e| !e.unwrap().path().display().to_string().contains("tfevents")));
}

#[test]
fn wrong_parameters_and_failures_are_told() {
    let dir = folder(QUICK);
    let run = |args: &[&str]| compresso(dir.path(), &[&["run", "x.rhai"], args].concat());
    let o = run(&["--set", "x=yes"]);
    assert!(
        !o.status.success() && said(&o).contains("parameter 'x' is a number in this script (1.0), and was given as \"yes\""),
        "{}",
        said(&o)
    );
    assert!(said(&run(&["--set", "xs=2"])).contains("warning: the script has no parameter 'xs': did you mean 'x'?"));
    assert!(said(&run(&["--set", "x"])).contains("expected a parameter as NAME=VALUE"));
    let o = run(&["--folder", "here", "--set", "fail=true"]);
    assert_eq!(o.status.code(), run(&["--set", "fail=true"]).status.code());
    let record: Value = serde_json::from_str(&std::fs::read_to_string(dir.path().join("here/run.json")).unwrap()).unwrap();
    assert_eq!((&record["status"], &record["error"]), (&json!("failed"), &json!("line 4: told to")));
    assert!(said(&run(&["--folder", "here"])).contains("a run is recorded here already"));
    assert!(run(&["--folder", "here", "--replace"]).status.success());
    // A seed that is set is the session's.
    let noise = |seed: &str| {
        assert!(run(&["--folder", "here", "--replace", "--set", seed]).status.success());
        let text = std::fs::read_to_string(dir.path().join("here/run.json")).unwrap();
        serde_json::from_str::<Value>(&text).unwrap()["metrics"]["noise"].as_f64().unwrap()
    };
    assert_ne!(noise("seed=1"), noise("seed=2"));
    assert_eq!(noise("seed=2"), noise("seed=2"));
}

#[test]
fn a_sweep_runs_each_point_once() {
    let dir = folder(QUICK);
    let call = "sweep(\"x.rhai\", #{ x: [1.0, 2.0, 3.0], seed: [0, 1] }, #{ workers: 2 })";
    let first = sweep(dir.path(), call);
    assert_eq!(statuses(&first), ["done"; 6]);
    let squares: Vec<f64> = rows(&first).iter().map(|r| r["metrics"]["square"].as_f64().unwrap()).collect();
    assert_eq!(squares, [1.0, 4.0, 9.0, 1.0, 4.0, 9.0]);
    // Seeds change what is random.
    assert_ne!(rows(&first)[0]["metrics"]["noise"], rows(&first)[3]["metrics"]["noise"]);
    let o = compresso(dir.path(), &["eval", &format!("save({}, \"sweep.html\")", call.replace("3.0]", "4.0]"))]);
    assert!(said(&o).contains("sweep: 6 runs of x.rhai, 4 from before, in"), "{}", said(&o));
    let page = std::fs::read_to_string(dir.path().join("sweep.html")).unwrap();
    assert!(page.contains("square over x") && !page.contains("noise over seed"), "{page}");
    let again = sweep(dir.path(), call);
    assert!(rows(&again).iter().all(|r| r["kept"] == true && r["attempts"] == 0));
    assert_eq!(rows(&again)[2]["metrics"], rows(&first)[2]["metrics"]);
    // Another text is another script.
    std::fs::write(dir.path().join("x.rhai"), QUICK.replace("x * x", "x + x")).unwrap();
    assert_eq!(rows(&sweep(dir.path(), call))[2]["metrics"]["square"], 6.0);
}

#[test]
fn failures_are_listed_and_run_again_when_asked() {
    let dir = folder(QUICK);
    let call = "sweep(\"x.rhai\", #{ x: 1.0, fail: [false, true] }, #{ workers: 2 })";
    let o = compresso(dir.path(), &["eval", call]);
    let text = said(&o);
    assert!(o.status.success() && text.contains("1 failed") && text.contains("line 4: told to") && text.contains("log.txt"), "{text}");
    let again = sweep(dir.path(), call);
    let kept: Vec<(bool, u64)> = rows(&again).iter().map(|r| (r["kept"] == true, r["attempts"].as_u64().unwrap())).collect();
    assert_eq!((statuses(&again), kept), (vec!["done", "failed"], vec![(true, 0), (false, 1)]));
    for (call, reason) in [
        ("sweep(\"x.rhai\", #{ y: [1] })", "the script has no parameter 'y'"),
        ("sweep(\"x.rhai\", #{ x: [] })", "has no values"),
        ("sweep(\"none.rhai\", #{ x: [1] })", "no such file"),
        ("sweep(\"x.rhai\", #{ x: [1] }, #{ on: \"clouds\" })", "\"local\" or \"slurm\""),
    ] {
        let text = said(&compresso(dir.path(), &["eval", call]));
        assert!(text.contains(reason), "{call}: {text}");
    }
}

#[test]
fn an_interrupted_sweep_ends_its_runs_and_goes_on() {
    let dir = folder(WAITING);
    let call = "sweep(\"x.rhai\", #{ x: [1, 2, 3] }, #{ workers: 2 })";
    for (name, code) in [("INT", Some(130)), ("KILL", None)] {
        let mut child = command(dir.path(), &["eval", call]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        until("two runs begin", 30, || begun(dir.path()).len() == 2 && processes(dir.path()).len() == 2);
        signal(name, child.id());
        assert_eq!(wait(&mut child), code, "{name}");
        until("runs end", 10, || processes(dir.path()).is_empty());
    }
    std::fs::write(dir.path().join("go"), "").unwrap();
    let report = sweep(dir.path(), call);
    assert_eq!(statuses(&report), ["done"; 3]);
    assert_eq!(rows(&report)[2]["metrics"], json!({ "x": 3 }));
}

#[test]
fn a_killed_run_is_begun_again() {
    let dir = folder(WAITING);
    let mut child =
        command(dir.path(), &["-q", "eval", "save(sweep(\"x.rhai\", #{ x: [1, 2] }, #{ workers: 2 }), \"sweep.json\")"]).spawn().unwrap();
    until("two runs begin", 30, || begun(dir.path()).len() == 2 && processes(dir.path()).len() == 2);
    signal("KILL", processes(dir.path())[0]);
    until("one is left", 10, || processes(dir.path()).len() == 1);
    std::fs::write(dir.path().join("go"), "").unwrap();
    assert_eq!(wait(&mut child), Some(0));
    let report: Value = serde_json::from_str(&std::fs::read_to_string(dir.path().join("sweep.json")).unwrap()).unwrap();
    let mut attempts: Vec<u64> = rows(&report).iter().map(|r| r["attempts"].as_u64().unwrap()).collect();
    attempts.sort_unstable();
    assert_eq!((statuses(&report), attempts), (vec!["done"; 2], vec![1, 2]));
}

/// Twelve jobs on a Slurm of this host; one is killed, and the controller too, while they run.
#[test]
fn a_sweep_on_slurm_survives_a_killed_job_and_a_killed_controller() {
    let Some(mut cluster) = Cluster::start() else { return };
    let dir = folder(WAITING);
    let points = (1..=12).map(|x| x.to_string()).collect::<Vec<_>>().join(", ");
    let call = format!("save(sweep(\"x.rhai\", #{{ x: [{points}] }}, #{{ on: \"slurm\" }}), \"sweep.json\")");
    let mut sweep = command(dir.path(), &["eval", &call]);
    cluster.environment(&mut sweep);
    let mut child = sweep.stderr(Stdio::piped()).spawn().unwrap();
    until("jobs begin", 60, || begun(dir.path()).len() >= 2 && processes(dir.path()).len() >= 2);
    signal("KILL", processes(dir.path())[0]);
    cluster.kill_controller();
    std::fs::write(dir.path().join("go"), "").unwrap();
    // Long enough for the sweep to see that nobody answers.
    std::thread::sleep(Duration::from_secs(3));
    cluster.start_controller();
    let begin = Instant::now();
    while child.try_wait().unwrap().is_none() {
        assert!(begin.elapsed() < Duration::from_secs(100), "the sweep goes on\n{}", cluster.state());
        std::thread::sleep(Duration::from_millis(50));
    }
    let o = child.wait_with_output().unwrap();
    assert!(o.status.success(), "{}", said(&o));
    let report: Value = serde_json::from_str(&std::fs::read_to_string(dir.path().join("sweep.json")).unwrap()).unwrap();
    assert_eq!(statuses(&report), ["done"; 12]);
    let found: Vec<i64> = rows(&report).iter().map(|r| r["metrics"]["x"].as_i64().unwrap()).collect();
    assert_eq!(found, (1..=12).collect::<Vec<_>>());
    // The killed one is begun again by the sweep, or by the controller that comes back and finds it gone.
    let attempts: Vec<u64> = rows(&report).iter().map(|r| r["attempts"].as_u64().unwrap()).collect();
    assert!((12..=13).contains(&attempts.iter().sum::<u64>()), "{attempts:?}");
}
