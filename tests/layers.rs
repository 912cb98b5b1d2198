//! Imports run one way; see docs/architecture.md.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The crates from the lowest to the highest; each may depend on those left of it.
const CRATES: &[&str] = &["base", "kernels", "model", "target", "exec", "learn", "measure", "compress", "deploy", "search", "experiment"];

struct File {
    /// `model::ops::conv`.
    module: String,
    /// Lines that are no comments.
    code: Vec<String>,
}

fn files() -> Vec<File> {
    fn walk(folder: &Path, out: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, out);
            } else if path.extension().is_some_and(|e| e == "rs") {
                out.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    walk(&root, &mut paths);
    let read = |path: PathBuf| {
        let inner = path.strip_prefix(&root).unwrap().with_extension("");
        let module = inner.to_string_lossy().replace(std::path::MAIN_SEPARATOR, "::").trim_end_matches("::mod").to_string();
        let text = std::fs::read_to_string(&path).unwrap();
        // `#[cfg(test)] mod tests { … }` closes a file; tests may import anything.
        let body = text.split("#[cfg(test)]\nmod tests {").next().unwrap().to_string();
        let code = body.lines().filter(|l| !l.trim_start().starts_with("//")).map(str::to_string).collect();
        File { module, code }
    };
    paths.into_iter().map(read).collect()
}

fn is_test(f: &File) -> bool {
    f.module.split("::").any(|part| part == "tests" || part.ends_with("_tests") || part == "testing" || part == "test_support")
}

/// The modules that a line names by `crate::…`, also in `use crate::{a, b}`.
fn imports(code: &[String]) -> Vec<String> {
    let text = code.join("\n");
    let mut found = Vec::new();
    for (at, _) in text.match_indices("crate::") {
        // `$crate::` and `pub(in crate::…)` are no imports.
        if text[..at].ends_with('$') || text[..at].ends_with("pub(in ") {
            continue;
        }
        let rest = &text[at + "crate::".len()..];
        if let Some(list) = rest.strip_prefix('{') {
            let mut depth = 1;
            let mut word = String::new();
            // Only the first part of each entry's path counts.
            let mut inside_path = false;
            for c in list.chars() {
                match c {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    ',' if depth == 1 => {
                        inside_path = false;
                        found.push(std::mem::take(&mut word));
                    }
                    ':' => inside_path = true,
                    c if depth == 1 && !inside_path && (c.is_alphanumeric() || c == '_') => word.push(c),
                    _ => {}
                }
                if depth == 0 {
                    break;
                }
            }
            found.push(word);
        } else {
            let path: String = rest.chars().take_while(|c| c.is_alphanumeric() || matches!(c, '_' | ':')).collect();
            found.push(path);
        }
    }
    found.retain(|f| !f.is_empty());
    found
}

/// The paths from `crate`, `super` and `self` on that a file names, in `use` or in its code. What it shows to others (`pub use`)
/// does not count.
fn paths(code: &[String]) -> Vec<String> {
    /// Takes `a::{b, c::{d, e}}` apart.
    fn expand(path: &str, out: &mut Vec<String>) {
        let Some((before, list)) = path.split_once('{') else { return out.push(path.to_string()) };
        let (mut depth, mut start) = (0, 0);
        for (at, c) in list.char_indices() {
            match c {
                '{' => depth += 1,
                ',' | '}' if depth == 0 => {
                    expand(&format!("{before}{}", list[start..at].trim()), out);
                    start = at + 1;
                }
                '}' => depth -= 1,
                _ => {}
            }
        }
    }
    let in_path = |c: char| c.is_alphanumeric() || matches!(c, '_' | ':');
    let mut found = Vec::new();
    let mut statement = String::new();
    for line in code.iter().map(|l| l.trim()) {
        let is_use = line.starts_with("use ") || line.starts_with("pub") && line.split_whitespace().take(3).any(|word| word == "use");
        if statement.is_empty() && !is_use {
            for (at, _) in ["crate::", "super::", "self::"].iter().flat_map(|root| line.match_indices(root)) {
                // `$crate::` and `pub(in crate::…)` are no imports, and of `super::super::` the whole is one.
                if !line[..at].ends_with(in_path) && !line[..at].ends_with('$') && !line[..at].ends_with("pub(in ") {
                    found.push(line[at..].chars().take_while(|c| in_path(*c)).collect());
                }
            }
            continue;
        }
        statement += line;
        if let Some((whole, _)) = statement.split_once(';') {
            if let Some(path) = whole.strip_prefix("use ") {
                expand(path, &mut found);
            }
            statement.clear();
        }
    }
    found.retain(|path| ["crate::", "super::", "self::"].iter().any(|root| path.starts_with(root)));
    found
}

/// Which files of a crate, by their modules (`""` for its root), each of them imports. What a module shares with those below
/// it is no import of theirs.
fn graph<'a>(files: &[(&'a str, &[String])]) -> BTreeMap<&'a str, BTreeSet<&'a str>> {
    let target = |from: &'a str, path: &str| -> Option<&'a str> {
        let mut at: Vec<&str> = from.split("::").filter(|part| !part.is_empty()).collect();
        for part in path.split("::").filter_map(|part| part.split(' ').next()) {
            match part {
                "crate" => at.clear(),
                "super" => drop(at.pop()),
                "self" | "" => {}
                name => at.push(name),
            }
        }
        // The last parts name what is in the file.
        loop {
            let module = at.join("::");
            if let Some((found, _)) = files.iter().find(|(m, _)| *m == module) {
                return Some(*found);
            }
            at.pop()?;
        }
    };
    let above = |from: &str, to: &str| to.is_empty() || from == to || from.starts_with(&format!("{to}::"));
    let of = |(from, code): &(&'a str, &[String])| {
        let targets = paths(code).iter().filter_map(|p| target(from, p)).filter(|to| !above(from, to)).collect();
        (*from, targets)
    };
    files.iter().map(of).collect()
}

/// The groups of modules that reach each other by their imports.
fn circles(graph: &BTreeMap<&str, BTreeSet<&str>>) -> BTreeSet<Vec<String>> {
    let reached = |from: &str| {
        let mut seen: BTreeSet<&str> = BTreeSet::new();
        let mut next: Vec<&str> = graph[from].iter().copied().collect();
        while let Some(module) = next.pop() {
            if seen.insert(module) {
                next.extend(&graph[module]);
            }
        }
        seen
    };
    let reach: BTreeMap<&str, BTreeSet<&str>> = graph.keys().map(|&m| (m, reached(m))).collect();
    let group = |m: &str| reach[m].iter().filter(|other| reach[**other].contains(m)).map(ToString::to_string).collect::<Vec<_>>();
    graph.keys().map(|m| group(m)).filter(|g| !g.is_empty()).collect()
}

/// The compiler holds that crates import only what they depend on; this holds what they depend on.
#[test]
fn crates_depend_on_lower_ones() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut seen = 0;
    for (at, name) in CRATES.iter().enumerate() {
        let manifest = std::fs::read_to_string(root.join(name).join("Cargo.toml")).unwrap();
        // Tests may depend on anything.
        let body = manifest.split("[dev-dependencies]").next().unwrap();
        for line in body.lines() {
            let Some(other) = line.strip_prefix("compresso-").and_then(|rest| rest.split(['.', ' ']).next()) else { continue };
            let rank = CRATES.iter().position(|c| *c == other).unwrap_or_else(|| panic!("{name} depends on {other}"));
            assert!(rank < at, "{name} depends on {other}, which stands above it");
            seen += 1;
        }
    }
    assert!(seen >= CRATES.len() - 1, "only {seen} dependencies were read");
}

/// Modules of a crate that may import each other in a circle, with the reason.
const CIRCLES: &[(&str, &[&str], &str)] = &[];

/// What two files need from each other stands in a third one, so that each can be read without the other.
#[test]
fn files_of_a_crate_do_not_import_in_circles() {
    let files: Vec<File> = files().into_iter().filter(|f| !is_test(f)).collect();
    let mut crates: BTreeMap<&str, Vec<(&str, &[String])>> = BTreeMap::new();
    for f in &files {
        let (own, module) = match f.module.split_once("::") {
            Some((own, module)) if CRATES.contains(&own) => (own, module),
            _ => ("compresso", f.module.as_str()),
        };
        crates.entry(own).or_default().push((if module == "lib" { "" } else { module }, &f.code));
    }
    assert_eq!(crates.len(), CRATES.len() + 1);
    let mut imports = 0;
    let mut wrong = Vec::new();
    for (name, files) in &crates {
        let graph = graph(files);
        imports += graph.values().map(BTreeSet::len).sum::<usize>();
        let allowed = |circle: &Vec<String>| CIRCLES.iter().any(|(of, modules, _)| of == name && circle == modules);
        wrong.extend(circles(&graph).into_iter().filter(|c| !allowed(c)).map(|c| format!("{name}: {}", c.join(", "))));
    }
    assert!(imports > 500, "only {imports} imports were read");
    assert!(wrong.is_empty(), "files that import each other in a circle:\n{}", wrong.join("\n"));
}

#[test]
fn circles_are_found() {
    let code = |text: &str| text.lines().map(str::to_string).collect::<Vec<_>>();
    let found = |a: &str, b: &str| {
        let (a, b) = (code(a), code(b));
        let shared = code("pub use left::Left;\nuse self::left::inner::Deep;");
        let inner = code("use super::Left;");
        let files = [("", &[][..]), ("room", &shared), ("room::left", &a), ("room::left::inner", &inner), ("room::right", &b)];
        circles(&graph(&files)).into_iter().map(|c| c.join(" ")).collect::<Vec<_>>()
    };
    let pair = ["room::left room::right"];
    assert_eq!(found("use super::right::Right;", "use crate::room::left::Left;"), pair);
    assert_eq!(found("use super::{\n    Shared,\n    right::{self, Right as Other},\n};", "use crate::room::{other, left};"), pair);
    assert_eq!(found("let x = super::right::make();", "fn f(x: crate::room::left::Left) {}"), pair, "whole paths count too");
    assert_eq!(found("use super::right::Right;", "use super::Left;").len(), 0, "the module above shows it");
    assert_eq!(found("pub(super) use super::right::Right;", "use super::left::Left;").len(), 0);
    assert_eq!(found("macro!($crate::room::right::X);", "pub(in crate::room::left) struct X;").len(), 0);
}

#[test]
fn techniques_do_not_import_each_other() {
    let techniques = ["prune", "quantize", "distill"];
    for f in files().iter().filter(|f| !is_test(f)) {
        let Some(own) = f.module.strip_prefix("compress::").and_then(|m| m.split("::").next()).filter(|t| techniques.contains(t)) else {
            continue;
        };
        for import in imports(&f.code) {
            let other = import.split("::").next();
            assert!(other.is_none_or(|o| o == own || !techniques.contains(&o)), "{} imports crate::{import}", f.module);
        }
    }
}

#[test]
fn protobuf_stays_in_onnx() {
    for f in files() {
        let uses = f.code.iter().any(|l| l.contains("prost::") || l.contains("use prost"));
        assert!(!uses || f.module.starts_with("model::onnx") || f.module.starts_with("deploy"), "{} uses prost", f.module);
    }
}

#[test]
fn only_the_shell_prints() {
    for f in files().iter().filter(|f| !is_test(f)) {
        let prints =
            f.code.iter().any(|l| ["println!", "print!", "eprint!", "eprintln!", "dbg!"].iter().any(|p| l.trim_start().starts_with(p)));
        let may = f.module.starts_with("shell") || f.module == "main";
        assert!(!prints || may, "{} prints", f.module);
    }
}

#[test]
fn the_parser_reads_all_forms_of_imports() {
    let code = [
        "use crate::model::{Graph, Node};",
        "use crate::{Context, report::Style, shell::{Buffer, script::Session}};",
        "let x = crate::exec::run(g);",
    ];
    let found = imports(&code.map(str::to_string));
    assert_eq!(found, ["model::", "Context", "report", "shell", "exec::run"]);
}

/// Files outside of `model::ops` in which the name of an operator is a word of another language.
const OTHER_WORDS: &[(&str, &str)] = &[
    ("model::zoo::modules", "the modules of architecture files"),
    ("model::pytorch::object", "torch.Size"),
    ("model::pytorch::settings", "PyTorch's classes"),
    // The rules of a target are that target's facts, and most of the operators that it lacks are none of ours.
    ("target::onnxruntime::integers", "what onnxruntime has int8 kernels for"),
    ("target::tensorrt", "what TensorRT's parser takes"),
    ("target::openvino", "OpenVINO's layers"),
    ("target::tflite", "what becomes of each operator in TensorFlow Lite"),
    ("target::ncnn", "NCNN's layers"),
    ("target::coreml", "Core ML's operations"),
];

/// What writes a node may spell its operator; what looks for one names it by the constant of the operator's file, and what
/// asks for a property reads the operator's table entry.
#[test]
fn operators_are_known_by_their_table_alone() {
    let names: std::collections::HashSet<&str> = compresso::model::ops::all().map(|op| op.name).collect();
    let mut wrong = Vec::new();
    let mut writes = 0;
    let below = |f: &File, m: &str| f.module == m || f.module.starts_with(&format!("{m}::"));
    let elsewhere = |f: &&File| !is_test(f) && !below(f, "model::ops") && OTHER_WORDS.iter().all(|(m, _)| !below(f, m));
    for f in files().iter().filter(elsewhere) {
        let text = f.code.join("\n");
        let mut pieces = text.split('"');
        let mut before = pieces.next().unwrap_or_default();
        // Every second piece stands between quotes, or after an escaped one, which no name contains.
        for piece in pieces {
            if names.contains(piece) {
                let writer = ["Node::new(", ".node(", ".named(", ".op("].iter().any(|w| before.trim_end().ends_with(w));
                if writer {
                    writes += 1;
                } else {
                    wrong.push(format!("{}: \"{piece}\"", f.module));
                }
            }
            before = piece;
        }
    }
    assert!(writes > 20, "the parser found only {writes} nodes that are written");
    assert!(wrong.is_empty(), "operators matched by a spelled name, see docs/adding-an-op.md:\n{}", wrong.join("\n"));
}
