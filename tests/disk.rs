//! Full disks, read-only folders, devices, pipes and closed outputs: an error, the session goes on, nothing is half there.
#![cfg(target_os = "linux")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const BIN: &str = env!("CARGO_BIN_EXE_compresso");

/// Each write of the program into the folder that `F` names.
const WRITES: &[(&str, &str)] = &[
    ("text", r#"save(text, F + "/x.txt")"#),
    ("json", r#"save(list, F + "/x.json")"#),
    ("csv", r#"save(table(rows), F + "/x.csv")"#),
    ("html", r#"save(summary(m, #{ layers: true }), F + "/x.html")"#),
    ("plot", r#"plot(list, F + "/x.png")"#),
    ("onnx", r#"save(m, F + "/m.onnx")"#),
    ("safetensors", r#"save(m, F + "/m.safetensors")"#),
    ("npy", r#"save(random([100, 100]), F + "/x.npy")"#),
    ("npz", r#"save(#{ a: random([100, 100]) }, F + "/x.npz")"#),
    ("export", r#"onnx_export(m, F + "/e.onnx")"#),
    ("deploy", r#"deploy(m, F + "/d.onnx", #{ target: "onnxruntime" })"#),
    ("tensorrt", r#"tensorrt_export(m, F + "/trt", #{ precision: "fp16", build: false })"#),
    ("yolo here", r#"save(d, F + "/data.yaml")"#),
    ("yolo", r#"save(d, F + "/yolo/deep/data.yaml")"#),
    ("coco", r#"save(d, F + "/coco/data.json")"#),
    ("predict", r#"predict(m, d, #{ save: F + "/drawn" })"#),
    ("predictions", r#"save(p, F + "/again")"#),
    ("predictions in coco's form", r#"save(p, F + "/p.coco.json")"#),
    ("checkpoint", r#"train(m, d, #{ epochs: 1, batch: 30, checkpoint: F + "/training.safetensors" })"#),
];

/// A script that tries all writes and then one of five bytes.
fn script(folder: &Path) -> String {
    let mut code = format!(
        r#"let F = {:?};
        let text = ""; text.pad(200000, "x");
        let list = []; for i in 0..30000 {{ list.push(i * 7 % 1000); }}
        let rows = list.map(|n| #{{ n: n, square: n * n }});
        let m = model("yolov8n", #{{ classes: 2, image_size: 32, width: 0.125 }});
        let d = dataset("shapes", #{{ images: 40, size: 160, classes: 2 }});
        let p = predict(m, d, #{{ confidence: 0.0 }});
        "#,
        folder.display().to_string()
    );
    for (name, write) in WRITES {
        code += &format!("try {{ {write}; print(\"WRITTEN {name}\"); }} catch (e) {{ print(`refused {name}: ${{e}}`); }}\n");
    }
    code + "try { save(\"small\", F + \"/small.txt\"); print(\"small\"); } catch (e) { print(\"not even small\"); }\nprint(\"on\")"
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        all.push(entry.path());
        all.extend(files(&entry.path()));
    }
    all
}

/// All writes were refused, the session went on, and the folder holds nothing but what was small enough.
fn check(o: &Output, folder: &Path, small: bool) {
    let text = String::from_utf8_lossy(&o.stdout);
    assert_eq!(o.status.code(), Some(0), "{text}{}", String::from_utf8_lossy(&o.stderr));
    for (name, _) in WRITES {
        let line =
            text.lines().find(|l| l.starts_with(&format!("refused {name}: "))).unwrap_or_else(|| panic!("{name} was written:\n{text}"));
        assert!(line.contains("file "), "the file is named: {line}");
    }
    assert!(text.ends_with(if small { "small\non\n" } else { "not even small\non\n" }), "{text}");
    let expected: Vec<PathBuf> = if small { vec![folder.join("small.txt")] } else { Vec::new() };
    assert_eq!(files(folder), expected);
}

/// A small file system in memory, unmounted in the end; none, saying why, where that is not allowed.
struct Small(PathBuf);

impl Small {
    fn new(folder: &Path) -> Option<Self> {
        let o = Command::new("mount").args(["-t", "tmpfs", "-o", "size=20k", "none"]).arg(folder).output();
        match o {
            Ok(o) if o.status.success() => Some(Self(folder.to_path_buf())),
            Ok(o) => {
                eprintln!("not tried on a small disk: mount says {}", String::from_utf8_lossy(&o.stderr).trim());
                None
            }
            Err(e) => {
                eprintln!("not tried on a small disk: mount does not start: {e}");
                None
            }
        }
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_is_an_error_of_each_write() {
    let dir = tempfile::tempdir().unwrap();
    if let Some(small) = Small::new(dir.path()) {
        let o = Command::new(BIN).args(["eval", &script(&small.0)]).output().unwrap();
        check(&o, &small.0, true);
        assert!(String::from_utf8_lossy(&o.stdout).contains("No space left"));
        // The same disk, read-only.
        std::fs::remove_file(small.0.join("small.txt")).unwrap();
        assert!(Command::new("mount").args(["-o", "remount,ro"]).arg(&small.0).status().unwrap().success());
        let o = Command::new(BIN).args(["eval", &script(&small.0)]).output().unwrap();
        check(&o, &small.0, false);
        assert!(String::from_utf8_lossy(&o.stdout).contains("Read-only file system"));
    }
}

#[test]
fn a_limit_of_file_sizes_is_an_error_of_each_write() {
    let dir = tempfile::tempdir().unwrap();
    // The system ends a process that writes more and has not said that it will see to it; who runs the tests may have said so for all.
    let code = script(dir.path());
    let o = Command::new("sh").args(["-c", "ulimit -f 1; exec env --default-signal=XFSZ \"$0\" eval \"$1\"", BIN, &code]).output().unwrap();
    check(&o, dir.path(), true);
}

#[test]
fn a_file_in_a_folders_place_is_an_error_of_each_write() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), b"x").unwrap();
    let o = Command::new(BIN).args(["eval", &script(&dir.path().join("file/below"))]).output().unwrap();
    check(&o, &dir.path().join("file/below"), false);
    assert_eq!(std::fs::read(dir.path().join("file")).unwrap(), b"x");
}

fn shell(line: &str) -> Output {
    Command::new("bash").args(["-c", line]).env("BIN", BIN).stdin(Stdio::null()).output().unwrap()
}

#[test]
fn results_that_cannot_be_written_are_an_error_of_the_command() {
    for call in ["eval 'print(1)'", "eval 'show(table([#{ a: 1 }]))'", "eval 1", "--help", "--version", "doctor", "<<< 'print(1)'"] {
        let o = shell(&format!("$BIN {call} > /dev/full"));
        let error = String::from_utf8_lossy(&o.stderr);
        assert_eq!(o.status.code(), Some(1), "{call}: {error}");
        assert!(error.contains("error: file <stdout>: No space left on device"), "{call}: {error}");
    }
    // A reader that wants no more is none.
    for call in ["eval 'for i in 0..200000 { print(i); }'", "--help", "doctor"] {
        let o = shell(&format!("set -o pipefail; $BIN {call} | head -1"));
        assert_eq!((o.status.code(), String::from_utf8_lossy(&o.stderr).as_ref()), (Some(0), ""), "{call}");
    }
    // Nor is a standard error that nobody can read a panic.
    let o = shell("$BIN eval 'eprint(1); throw 2' 2> /dev/full");
    assert_eq!(o.status.code(), Some(1));
}

#[test]
fn devices_stay_and_pipes_are_written_straight() {
    use std::os::unix::fs::FileTypeExt;
    let o = shell("$BIN eval 'save(\"x\", \"/dev/full\")'");
    assert_eq!(o.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&o.stderr).contains("/dev/full: No space left"), "{}", String::from_utf8_lossy(&o.stderr));
    assert!(std::fs::metadata("/dev/full").unwrap().file_type().is_char_device());
    let code = "print(\"a\"); save(\"b\", \"/dev/stdout\"); print(\"c\")";
    assert_eq!(String::from_utf8_lossy(&shell(&format!("$BIN eval '{code}' | cat")).stdout), "a\nbc\n");
    // Standard output is a file: what was printed stays in it.
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    assert!(shell(&format!("$BIN eval '{code}' > {}", out.display())).status.success());
    assert_eq!(std::fs::read_to_string(&out).unwrap(), "a\nbc\n");
    // A script may come through a pipe.
    assert_eq!(String::from_utf8_lossy(&shell("$BIN run <(echo 'print(7)')").stdout), "7\n");
}

#[test]
fn only_files_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("p.onnx");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let link = |name: &str, to: &str| {
        std::os::unix::fs::symlink(to, dir.path().join(name)).unwrap();
        dir.path().join(name).display().to_string()
    };
    let calls: Vec<String> = [
        ("z.onnx", "model"),
        ("z.pt", "model"),
        ("z.yaml", "model"),
        ("z.safetensors", "model"),
        ("z.npy", "load"),
        ("z.npz", "load"),
        ("z.json", "load"),
    ]
    .into_iter()
    .map(|(name, call)| format!("{call}({:?})", link(name, "/dev/zero")))
    .chain([format!("model({:?})", pipe.display().to_string())])
    .collect();
    for call in calls {
        let o = Command::new("timeout").args(["20", BIN, "eval", &call]).output().unwrap();
        let error = String::from_utf8_lossy(&o.stderr);
        assert_eq!(o.status.code(), Some(1), "{call}: {error}");
        assert!(error.contains("expected a file, got a device or a pipe"), "{call}: {error}");
    }
    std::fs::create_dir_all(dir.path().join("loop")).unwrap();
    std::os::unix::fs::symlink("..", dir.path().join("loop/up")).unwrap();
    // What a whole disk holds is another question; it is not walked without an end.
    for (source, message) in
        [("/dev/zero", Some("expected a file, got a device or a pipe")), ("loop", Some("no images")), ("/", None), ("/proc", None)]
    {
        let yaml = dir.path().join("data.yaml");
        std::fs::write(&yaml, format!("train: {source}\nnames: [a]\n")).unwrap();
        let o = Command::new("timeout").args(["20", BIN, "eval", &format!("dataset({:?})", yaml.display().to_string())]).output().unwrap();
        let error = String::from_utf8_lossy(&o.stderr);
        assert!(matches!(o.status.code(), Some(0 | 1)), "{source}: {:?} {error}", o.status);
        assert!(message.is_none_or(|m| o.status.code() == Some(1) && error.contains(m)), "{source}: {error}");
    }
}
