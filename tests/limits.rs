//! What scripts that are not trusted may take: memory, time, steps, files.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Runs the program; its exit code, standard output and standard error.
fn call(args: &[&str]) -> (Option<i32>, String, String) {
    let o = Command::new(env!("CARGO_BIN_EXE_compresso")).args(args).stdin(Stdio::null()).output().unwrap();
    (o.status.code(), String::from_utf8_lossy(&o.stdout).into_owned(), String::from_utf8_lossy(&o.stderr).into_owned())
}

fn error(args: &[&str]) -> String {
    let (code, _, error) = call(args);
    assert_eq!(code, Some(1), "{args:?}:\n{error}");
    error
}

fn output(args: &[&str]) -> String {
    let (code, out, error) = call(args);
    assert_eq!(code, Some(0), "{args:?}:\n{error}");
    out
}

#[test]
fn values_of_scripts_grow_until_memory_ends_and_no_further() {
    for code in [
        "let a = [1]; loop { a += a; }",
        "let a = [1]; loop { a.push(a); }",
        "let s = \"x\"; loop { s += s; }",
        "let m = #{}; loop { m = #{ a: m, b: m }; }",
        "let b = blob(1000); loop { b += b; }",
        "let a = []; loop { a.push(random([300, 1000])); }",
        "fn f(x) { f(x + x) } let x = \"x\"; x.pad(1000000, \"x\"); f(x)",
    ] {
        let e = error(&["--max-memory", "1GB", "--timeout", "100s", "-c", code]);
        let told = e.contains("would soon take more than there is") || e.contains("would take") || e.contains("no memory is left");
        assert!(told && e.contains("<eval>:1:"), "{code}:\n{e}");
    }
}

#[test]
fn sizes_in_scripts_are_asked_for() {
    for code in [
        "blob(1000000000000)",
        "let b = blob(1); b.pad(1000000000000, 7)",
        "let a = []; a.pad(1000000000000, 1)",
        "let a = [[1, 2], \"x\"]; let b = []; b.pad(100000000, a)",
        "let s = \"\"; s.pad(9000000000, \"x\")",
        "model(\"yolov8n\", #{ width: 16.0, image_size: 32 })",
        "zeros([20000000]).to_list()",
        "let s = \"a\"; s.pad(1000000, 'a'); s.replace(\"a\", s)",
    ] {
        let e = error(&["--max-memory", "1GB", "-c", code]);
        assert!(e.contains("would take") && e.contains("are free"), "{code}:\n{e}");
    }
    // What fits is as it was.
    let code = "let a = [1]; a.pad(3, 0); let s = \"ab\"; s.pad(7, \"xyz\"); let t = \"a\"; t.pad(3, '-'); let r = \"a.b.c\"; r.replace(\".\", \"::\"); \
                let q = \"aXa\"; q.replace('a', 'b'); let b = blob(2, 258); b.pad(3, 255); print(`${a} ${s} ${t} ${r} ${q} ${b.len()} ${b[0]} ${b[2]}`)";
    assert_eq!(output(&["-c", code]), "[1, 0, 0] abxyzxy a-- a::b::c bXb 3 2 255\n");
}

#[test]
fn time_and_steps_have_limits() {
    for code in ["loop { }", "sleep(100)", "let m = model(\"yolov8n\"); loop { summary(m); }", "time_s(|| sleep(50.5))"] {
        let start = Instant::now();
        let e = error(&["--timeout", "500ms", "-c", code]);
        assert!(e.contains("longer than the 0.5 s that --timeout allows"), "{code}:\n{e}");
        assert!(start.elapsed() < Duration::from_secs(30), "{code}: {:?}", start.elapsed());
    }
    // Nobody answers.
    let mut child = Command::new(env!("CARGO_BIN_EXE_compresso"))
        .args(["--timeout", "500ms", "-c", "input(\"? \")"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let open = child.stdin.take();
    let o = child.wait_with_output().unwrap();
    drop(open);
    let e = String::from_utf8_lossy(&o.stderr);
    assert!(o.status.code() == Some(1) && e.contains("--timeout allows"), "{:?} {e}", o.status);
    let e = error(&["--max-operations", "1000", "-c", "let n = 0;\nloop { n += 1; }"]);
    assert!(e.contains("1000 steps") && e.contains("--max-operations") && e.contains("<eval>:2:"), "{e}");
    assert_eq!(output(&["--max-operations", "1000", "--timeout", "1h", "-c", "1 + 1"]), "2\n");
    for (option, value, said) in [
        ("--timeout", "soon", "expected ms, s, m or h"),
        ("--timeout", "s", "a time such as 30s"),
        ("--timeout", "3 days", "expected ms, s, m or h"),
        ("--timeout", "0", "above zero"),
    ] {
        let (code, _, e) = call(&[option, value, "-c", "1"]);
        assert!(code == Some(2) && e.contains(said), "{e}");
    }
}

#[cfg(target_os = "linux")]
mod sandbox {
    use super::*;

    fn lists(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// A folder for scripts with a model in it, one beside it, and a link from the first into the second.
    fn folders() -> (tempfile::TempDir, String, String) {
        let dir = tempfile::tempdir().unwrap();
        let (inside, outside) = (dir.path().join("in"), dir.path().join("out"));
        for folder in [&inside, &outside] {
            std::fs::create_dir(folder).unwrap();
            let path = folder.join("m.onnx").display().to_string();
            output(&["-c", &format!("save(model(\"classifier\", #{{ classes: 3, image_size: 32 }}), {path:?})")]);
        }
        std::os::unix::fs::symlink(&outside, inside.join("link")).unwrap();
        std::os::unix::fs::symlink("/proc/self/environ", inside.join("environment")).unwrap();
        (dir, inside.display().to_string(), outside.display().to_string())
    }

    #[test]
    fn scripts_in_a_sandbox_use_its_folder() {
        let (_dir, inside, _) = folders();
        let script = Path::new(&inside).parent().unwrap().join("work.rhai");
        let code = "let m = model(args[0] + \"/m.onnx\"); let p = prune(m, #{ ratio: 0.3 }); save(p, args[0] + \"/p.onnx\");\
                    show(benchmark([[\"m\", m], [\"p\", p]], #{ runs: 2 })); save(dataset(\"shapes\", #{ images: 2, size: 32 }), args[0] + \"/data/data.yaml\");";
        std::fs::write(&script, code).unwrap();
        let out = output(&["--sandbox", &inside, "run", script.to_str().unwrap(), &inside]);
        assert!(out.contains("| p ") && out.contains("native"), "{out}");
        let there = output(&["-c", "benchmark(model(\"classifier\", #{ image_size: 32 }), #{ runs: 1 })"]).contains("onnxruntime |");
        assert_eq!(out.contains("onnxruntime |"), there, "{out}");
        assert_eq!(lists(Path::new(&inside)), ["data", "environment", "link", "m.onnx", "p.onnx"]);
    }

    #[test]
    fn scripts_in_a_sandbox_reach_nothing_else() {
        let (_dir, inside, outside) = folders();
        let script = format!("{outside}/other.rhai");
        std::fs::write(&script, "fn f() { 1 }").unwrap();
        let before = lists(Path::new(&outside));
        let m = format!("model(\"{inside}/m.onnx\")");
        for code in [
            format!("model(\"{outside}/m.onnx\")"),
            format!("model(\"{inside}/../out/m.onnx\")"),
            format!("model(\"{inside}/link/m.onnx\")"),
            format!("save({m}, \"{outside}/n.onnx\")"),
            format!("save({m}, \"{inside}/link/n.onnx\")"),
            format!("dataset(\"{outside}\")"),
            "model(\"yolov8n\", #{ classes: \"/proc/self/environ\" })".to_string(),
            format!("model(\"yolov8n\", #{{ classes: \"{inside}/environment\" }})"),
            format!("save(dataset(\"shapes\", #{{ images: 2 }}), \"{outside}/data/data.yaml\")"),
            format!("import \"{outside}/other\" as o; o::f()"),
            "save(table([#{ a: 1 }]), \"/dev/shm/compresso-sandbox.csv\")".to_string(),
        ] {
            let e = error(&["--sandbox", &inside, "-c", &code]);
            assert!(e.contains("permission denied") || e.contains("Permission denied") || e.contains("not found"), "{code}:\n{e}");
        }
        assert_eq!(lists(Path::new(&outside)), before);
        let e = error(&["--sandbox", &inside, "-c", &format!("model(\"{outside}/m.onnx\")")]);
        assert!(e.contains(&format!("the sandbox lets scripts use {inside} alone")), "{e}");
        assert!(error(&["--sandbox", &format!("{inside}/none"), "-c", "1"]).contains("no such folder"));
        assert!(error(&["--sandbox", &inside, "kernel", "rhai", "-f", "x.json"]).contains("--sandbox is for scripts"));
    }
}
