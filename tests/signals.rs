//! SIGINT and SIGTERM end any call within a second.
#![cfg(unix)]

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// From the signal to the end: a second, and what a busy machine takes besides.
const SOON: Duration = Duration::from_millis(1500);

/// Scripts that are at something that takes long when they have printed a line.
const LONG: &[(&str, &str)] = &[
    ("loop", "loop { }"),
    ("sort with a function", "let a = []; for i in 0..300000 { a.push(i * 7919 % 300007); } print(1); a.sort(|x, y| x - y)"),
    ("texts", "let s = \"ab\"; s.pad(8000000, \"ab\"); print(1); loop { s.replace(\"b\", \"c\"); s.replace(\"c\", \"b\"); }"),
    ("copies", "let s = \"\"; s.pad(8000000, \"x\"); print(1); loop { let t = s.to_upper(); let n = s.split(\"y\"); }"),
    ("display", "let a = []; for i in 0..100000 { a.push(#{ a: i, b: [i, i] }); } print(1); loop { let s = \"\" + a; }"),
    (
        "training",
        "let d = dataset(\"shapes\", #{ images: 64, size: 64 }); let m = model(\"yolov8n\", #{ classes: 3, image_size: 64 }); print(1); \
      train(m, d, #{ epochs: 1000 })",
    ),
    ("benchmark", "let m = model(\"classifier\"); print(1); benchmark(m, #{ runs: 100000 })"),
    ("prediction", "let m = model(\"yolov8n\"); print(1); predict(m, dataset(\"shapes\", #{ images: 5000, size: 640 }))"),
];

fn start(args: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_compresso"));
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Waits for the first line that is printed.
fn first_line(child: &mut Child) {
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert!(!line.is_empty(), "the script ended before it began");
}

fn signal(name: &str, child: &Child) {
    assert!(Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status().unwrap().success());
}

/// The exit code, and how long it took.
fn end(child: &mut Child) -> (Option<i32>, Duration) {
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(20) {
        if let Some(status) = child.try_wait().unwrap() {
            return (status.code(), begin.elapsed());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let _ = child.kill();
    panic!("still there after 20 seconds");
}

#[test]
fn one_signal_ends_any_call_of_a_command() {
    for (i, (name, script)) in LONG.iter().enumerate() {
        let (which, code) = if i % 2 == 0 { ("INT", 130) } else { ("TERM", 143) };
        let script = if script.contains("print(1)") { (*script).to_string() } else { format!("print(1); {script}") };
        let mut child = start(&["eval", &script]);
        first_line(&mut child);
        std::thread::sleep(Duration::from_millis(100));
        signal(which, &child);
        let (status, took) = end(&mut child);
        assert_eq!(status, Some(code), "{name}");
        assert!(took < SOON, "{name} took {took:?}");
    }
}

#[test]
fn a_second_signal_ends_at_once_and_clears_up() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data/data.yaml").display().to_string();
    let script = format!("let d = dataset(\"shapes\", #{{ images: 20000, size: 320 }}); print(1); save(d, {path:?})");
    for signals in [1, 2] {
        let mut child = start(&["eval", &script]);
        first_line(&mut child);
        let partial = || std::fs::read_dir(dir.path()).unwrap().count();
        let begin = Instant::now();
        while partial() == 0 {
            assert!(begin.elapsed() < Duration::from_secs(20), "nothing is written");
            std::thread::sleep(Duration::from_millis(5));
        }
        for _ in 0..signals {
            signal("INT", &child);
        }
        let (status, took) = end(&mut child);
        assert_eq!((status, partial()), (Some(130), 0), "{signals} signals leave nothing behind");
        assert!(took < SOON, "{took:?}");
    }
}

/// What a training has reached is written where the command was to write its result, and beside the work of a script.
#[test]
fn what_was_reached_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let at = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_compresso"));
        command.args(args).current_dir(dir.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let made = "save(dataset(\"shapes\", #{ images: 8, size: 32 }), \"data.yaml\"); \
                save(model(\"yolov8n\", #{ classes: dataset(\"data.yaml\").classes, image_size: 32, width: 0.0625 }), \"m.onnx\");";
    assert!(at(&["eval", made]).wait().unwrap().success());
    let script = "train(model(\"m.onnx\"), dataset(\"data.yaml\"), #{ epochs: 100000, batch: 4 });";
    std::fs::write(dir.path().join("long.rhai"), script).unwrap();
    let one_line = ["train", "m.onnx", "data.yaml", "--epochs", "100000", "--batch", "4", "-o", "reached.onnx"];
    for (args, file) in [(&one_line[..], "reached.onnx"), (&["run", "long.rhai"], "long-partial.onnx")] {
        let mut child = at(args);
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        // A whole epoch is there.
        assert!(lines.by_ref().any(|line| line.unwrap().contains(" 2/100000")), "{args:?}");
        signal("INT", &child);
        let rest: Vec<String> = lines.map(Result::unwrap).collect();
        assert_eq!(end(&mut child).0, Some(130), "{rest:?}");
        assert!(rest.iter().any(|l| l == &format!("what was reached is in {file}")), "{rest:?}");
        assert!(dir.path().join(file).is_file());
    }
}

#[test]
fn walks_of_folders_and_waiting_for_input_end_too() {
    let mut child =
        Command::new(env!("CARGO_BIN_EXE_compresso")).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"print(1);").unwrap();
    std::thread::sleep(Duration::from_millis(700));
    signal("TERM", &child);
    let (status, took) = end(&mut child);
    assert!(status == Some(143) && took < SOON, "{status:?} after {took:?}");
    drop(input);
    // Links make sixteen levels of three folders each: more than anybody waits for.
    let dir = tempfile::tempdir().unwrap();
    for name in ["a", "b", "c", "d"] {
        let folder = dir.path().join(name);
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("x.png"), b"x").unwrap();
        for other in ["a", "b", "c", "d"].into_iter().filter(|o| *o != name) {
            std::os::unix::fs::symlink(format!("../{other}"), folder.join(other)).unwrap();
        }
    }
    let mut child = start(&["eval", &format!("print(1); dataset({:?})", dir.path().display().to_string())]);
    first_line(&mut child);
    std::thread::sleep(Duration::from_millis(300));
    signal("INT", &child);
    let (status, took) = end(&mut child);
    assert!(status == Some(130) && took < SOON, "{status:?} after {took:?}");
}
