//! Every command and script in the README, the guide and the page on performance runs.

use std::path::Path;
use std::process::{Command, Stdio};

/// The fenced blocks of a Markdown text in one language.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut block: Option<String> = None;
    for line in text.lines() {
        match &mut block {
            None if line.trim() == format!("```{language}") => block = Some(String::new()),
            None => {}
            Some(_) if line.trim() == "```" => found.extend(block.take()),
            Some(b) => {
                b.push_str(line);
                b.push('\n');
            }
        }
    }
    found
}

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

fn compresso(args: &[&str], folder: &Path) -> String {
    let o = Command::new(env!("CARGO_BIN_EXE_compresso"))
        .args(args)
        .current_dir(folder)
        .env("JUPYTER_DATA_DIR", folder.join("jupyter"))
        .env("XDG_DATA_HOME", folder.join("data"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8_lossy(&o.stdout), String::from_utf8_lossy(&o.stderr));
    assert!(o.status.success(), "{args:?} failed:\n{out}\n{err}");
    out.into_owned()
}

/// The scripts in the texts, one session per document, as a reader would type them.
#[test]
fn scripts_in_the_docs_run() {
    for document in [
        "README.md",
        "docs/guide.md",
        "docs/pruning.md",
        "docs/quantization.md",
        "docs/distillation.md",
        "docs/search.md",
        "docs/experiments.md",
        "docs/benchmarks.md",
    ] {
        let script = blocks(&read(document), "rhai").concat();
        assert!(!script.is_empty(), "{document} shows no script");
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("session.rhai"), script).unwrap();
        compresso(&["run", "session.rhai"], dir.path());
    }
}

/// The grid of the guide prints its table and its plot, and nothing else.
#[test]
fn the_grid_in_the_guide_prints_its_table_and_its_plot() {
    let grid = blocks(&read("docs/guide.md"), "rhai").into_iter().find(|b| b.starts_with("quiet();")).unwrap();
    assert!(grid.lines().count() <= 10, "{grid}");
    let before = "let d = dataset(\"shapes\", #{ images: 8, size: 64 });\n\
                  let t = model(\"yolov8n\", #{ classes: d.classes, image_size: 64, width: 0.125 });\n";
    let o = Command::new(env!("CARGO_BIN_EXE_compresso")).args(["eval", &format!("{before}{grid}")]).stdin(Stdio::null()).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&o.stdout), String::from_utf8_lossy(&o.stderr));
    assert!(o.status.success() && err.is_empty(), "{out}\n{err}");
    let (table, plot) = out.split_once("Six ratios\n").unwrap_or_else(|| panic!("{out}"));
    assert_eq!(table.lines().filter(|l| l.starts_with("| ")).count(), 7, "{out}");
    assert!(table.lines().all(|l| l.starts_with('|')) && plot.contains("map50") && plot.contains("ms"), "{out}");
    assert!(plot.lines().all(|l| l.chars().count() <= 80) && ["0.1", "0.6"].iter().all(|r| plot.contains(r)), "{out}");
}

/// Shell commands: those of `compresso` are run; the others are known and run elsewhere.
#[test]
fn commands_in_the_docs_run() {
    let elsewhere = [
        // tests/scripts.rs
        "cargo run --release -- run scripts/quickstart.rhai",
        // This very run.
        "scripts/test.sh",
        "cargo install --path .",
        // The tests are built so, and install that kernel; see tests/jupyter.rs.
        "cargo install --path . --features evcxr",
        "compresso kernel install --rust",
        "jupyter lab",
        // tests/scripts.rs
        "python3 scripts/compare.py infer yolov8n.onnx --threads 2",
        "python3 scripts/compare.py int8 yolov8n.onnx --threads 2",
        "python3 scripts/compare.py ptq yolov8n.onnx --threads 2",
    ];
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("experiment.rhai"), "print(args);").unwrap();
    let mut seen = Vec::new();
    for document in [
        "README.md",
        "docs/guide.md",
        "docs/notebooks.md",
        "docs/performance.md",
        "docs/pruning.md",
        "docs/distillation.md",
        "docs/search.md",
        "docs/experiments.md",
    ] {
        for line in blocks(&read(document), "sh").iter().flat_map(|b| b.lines()) {
            let command = line.split("  #").next().unwrap_or_default().trim();
            if elsewhere.contains(&command) {
                // Run there.
            } else if let Some(rest) = command.strip_prefix("compresso ") {
                let args: Vec<&str> = match rest.split_once(' ') {
                    Some(("eval", code)) => vec!["eval", code.trim_matches('\'')],
                    _ => rest.split(' ').collect(),
                };
                compresso(&args, dir.path());
            } else {
                assert_eq!(command, "compresso", "{document}: nothing tests this");
            }
            seen.push(command.to_string());
        }
    }
    for command in &elsewhere[..2] {
        assert!(seen.iter().any(|s| s == command), "the README must say '{command}'");
    }
}
