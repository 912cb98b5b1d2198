//! What the program is built from: licences, sources, second versions, and the places that are unsafe.

use serde_json::Value as Json;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Licences of others' code that may be built in; of "A OR B" one must be here, of "A AND B" both.
const LICENCES: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    // Files under it keep it; what uses them need not.
    "MPL-2.0",
    "MPL-2.0+",
    // Of the fonts in plots.
    "OFL-1.1",
    "Ubuntu-font-1.0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The packages of the default build for this machine, and of Rust cells.
fn packages() -> Vec<Json> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let run = |args: &[&str]| {
        let o = Command::new(&cargo).args(args).current_dir(root()).output().unwrap();
        assert!(o.status.success(), "{}", String::from_utf8_lossy(&o.stderr));
        String::from_utf8(o.stdout).unwrap()
    };
    let version = run(&["-vV"]);
    let host = version.lines().find_map(|l| l.strip_prefix("host: ")).unwrap();
    let text = run(&["metadata", "--locked", "--offline", "--filter-platform", host, "--features", "evcxr", "--format-version", "1"]);
    let all: Json = serde_json::from_str(&text).unwrap();
    let used: BTreeSet<&str> = all["resolve"]["nodes"].as_array().unwrap().iter().map(|n| n["id"].as_str().unwrap()).collect();
    all["packages"].as_array().unwrap().iter().filter(|p| used.contains(p["id"].as_str().unwrap())).cloned().collect()
}

/// Whether a licence expression (SPDX, or the older "A/B") is met by `LICENCES`. Brackets hold one level of alternatives.
fn allowed(expression: &str) -> bool {
    let every = |text: &str| text.split(" AND ").all(|one| LICENCES.contains(&one.trim()));
    let any = |text: &str| text.replace('/', " OR ").split(" OR ").any(every);
    let mut rest = expression;
    while let Some((_, after)) = rest.split_once('(') {
        let (inner, after) = after.split_once(')').unwrap_or((after, ""));
        if !any(inner) {
            return false;
        }
        rest = after;
    }
    // What stands beside brackets is joined to them by AND.
    let beside: String =
        expression.split('(').enumerate().map(|(i, part)| if i == 0 { part } else { part.split_once(')').map_or("", |p| p.1) }).collect();
    if expression.contains('(') {
        assert!(!beside.contains(" OR "), "read this by hand: {expression}");
        beside.split("AND").map(str::trim).filter(|one| !one.is_empty()).all(|one| LICENCES.contains(&one))
    } else {
        any(expression)
    }
}

#[test]
fn licences_are_read_as_written() {
    for good in ["MIT", "MIT OR GPL-3.0", "GPL-3.0/MIT", "MIT AND ISC", "(MIT OR GPL-3.0) AND ISC", "Apache-2.0 WITH LLVM-exception"] {
        assert!(allowed(good), "{good}");
    }
    for bad in ["GPL-3.0", "AGPL-3.0 OR GPL-3.0", "MIT AND GPL-3.0", "(MIT OR ISC) AND AGPL-3.0", "(GPL-3.0 OR AGPL-3.0) AND MIT", ""] {
        assert!(!allowed(bad), "{bad}");
    }
}

#[test]
fn other_code_may_be_used_and_comes_from_the_registry() {
    let packages = packages();
    assert!(packages.len() > 200, "only {} packages", packages.len());
    for p in &packages {
        let licence = p["license"].as_str().unwrap_or("");
        assert!(allowed(licence), "{} {}: licence '{licence}' is not in the list", p["name"], p["version"]);
        let source = p["source"].as_str();
        let own = source.is_none() && p["manifest_path"].as_str().is_some_and(|m| Path::new(m).starts_with(root()));
        assert!(own || source == Some("registry+https://github.com/rust-lang/crates.io-index"), "{} comes from {source:?}", p["name"]);
    }
}

/// Each is code twice: it is known, and a new one is looked at.
#[test]
fn second_versions_are_known() {
    let mut versions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for p in packages() {
        let text = |key: &str| p[key].as_str().unwrap().to_string();
        versions.entry(text("name")).or_default().insert(text("version"));
    }
    let mut now = String::new();
    for (name, all) in versions.iter().filter(|v| v.1.len() > 1) {
        writeln!(now, "{name} {}", all.iter().cloned().collect::<Vec<_>>().join(" ")).unwrap();
    }
    same_as_kept(&root().join("tests/dependencies/twice.txt"), &now);
}

/// Compares with a kept file, which COMPRESSO_KEEP=1 writes anew.
fn same_as_kept(path: &Path, now: &str) {
    if std::env::var_os("COMPRESSO_KEEP").is_some() {
        std::fs::write(path, now).unwrap();
    }
    let kept = std::fs::read_to_string(path).unwrap_or_default();
    assert_eq!(now, kept, "{} is not what there is now; COMPRESSO_KEEP=1 writes it anew, to be looked at", path.display());
}

fn rust_files(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && path.file_name().is_some_and(|n| n != "target") {
            rust_files(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
}

/// The inventory of unsafe code: blocks, functions and implementations by file, without tests.
#[test]
fn the_inventory_of_unsafe_code_is_what_there_is() {
    let src = root().join("src");
    let mut files = Vec::new();
    rust_files(&src, &mut files);
    files.sort();
    let mut now = String::from("blocks functions implementations file\n");
    for path in files {
        let name = path.strip_prefix(&src).unwrap().display().to_string();
        if name.ends_with("tests.rs") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        let code: Vec<&str> = text.lines().filter(|l| !l.trim_start().starts_with("//")).collect();
        let count = |what: &str| code.iter().map(|l| l.matches(what).count()).sum::<usize>();
        let (blocks, functions, implementations) = (count("unsafe {"), count("unsafe fn "), count("unsafe impl"));
        if blocks + functions + implementations > 0 {
            // The program sets variables of its environment before there are threads.
            assert!(name.starts_with("kernels/") || name == "main.rs", "{name} has unsafe code: it belongs into the kernels");
            writeln!(now, "{blocks} {functions} {implementations} {name}").unwrap();
        }
    }
    same_as_kept(&root().join("tests/dependencies/unsafe.txt"), &now);
}
