//! The onnx package's own test cases, for every operator that the library claims.
//!
//! A case is claimed when all operators of its model are registered and its values are tensors. A claimed case must give
//! the expected outputs, and its inferred types and shapes must be those of the outputs. Cases with elements that cannot be
//! computed with, and the few listed below, must fail with `Unsupported`. docs/operators.md has the count and lists what is not claimed.

mod common;

use compresso::error::ErrorKind;
use compresso::exec::{self, Engine, Run};
use compresso::model::{Attr, Constant, Element, Graph, Node, Value, infer, onnx, ops};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// Cases that must fail with `Unsupported`: name and reason.
const UNSUPPORTED: &[(&str, &str)] = &[];

#[derive(Deserialize)]
struct Index {
    cases: Vec<Case>,
    /// All operators of the ONNX set.
    operators: Vec<String>,
}

#[derive(Deserialize)]
struct Case {
    kind: String,
    name: String,
    sets: usize,
    rtol: f64,
    atol: f64,
}

#[test]
fn every_claimed_case_passes() {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("onnx-nodes");
    common::python(&["tests/python/onnx_nodes.py", dir.to_str().unwrap()]);
    let index: Index = serde_json::from_str(&std::fs::read_to_string(dir.join("cases.json")).unwrap()).unwrap();
    let only = std::env::var("ONNX_CASES").ok();
    std::panic::set_hook(Box::new(|_| {}));
    let (mut claimed, mut passed, mut refused, mut other_values) = (0, 0, 0, 0);
    let mut unclaimed: BTreeSet<String> =
        index.operators.iter().filter(|o| ops::find(&Node::new(*o, "", ["x"], ["y"])).is_err()).cloned().collect();
    let mut failures: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for case in index.cases.iter().filter(|c| only.as_ref().is_none_or(|o| c.name.contains(o.as_str()))) {
        if case.sets == 0 {
            other_values += 1;
            continue;
        }
        let path = dir.join(&case.name);
        let graph = match onnx::load(path.join("model.onnx")) {
            Ok(g) => g,
            Err(e) => {
                failures.entry("(load)".into()).or_default().push(format!("{}: {e}", case.name));
                continue;
            }
        };
        if !all_claimed(&graph) {
            unclaimed.extend(graph.nodes().iter().filter(|n| ops::find(n).is_err()).map(label));
            continue;
        }
        claimed += 1;
        let result = catch_unwind(AssertUnwindSafe(|| check(case, &path, &graph)));
        let outcome = result.unwrap_or_else(|p| {
            let text = p.downcast_ref::<String>().cloned().or_else(|| p.downcast_ref::<&str>().map(|s| s.to_string()));
            Err(Failure::Wrong(format!("panic: {}", text.unwrap_or_default())))
        });
        let listed = UNSUPPORTED.iter().find(|(name, _)| *name == case.name);
        let must_refuse = listed.is_some() || beyond_storage(&path, &graph, case.sets);
        match outcome {
            Ok(()) if !must_refuse => passed += 1,
            Err(Failure::Unsupported(_)) if must_refuse => {
                passed += 1;
                refused += 1;
            }
            Ok(()) => failures.entry("(passes)".into()).or_default().push(format!("{} is listed as unsupported", case.name)),
            Err(Failure::Unsupported(e) | Failure::Wrong(e)) => {
                let op = graph.nodes().first().map_or_else(String::new, |n| n.op.clone());
                failures.entry(op).or_default().push(format!("{}: {e}", case.name));
            }
        }
    }
    let _ = std::panic::take_hook();
    println!(
        "onnx node tests: {passed} of {claimed} claimed pass, of {} in all ({other_values} have other values than tensors)",
        index.cases.len()
    );
    println!("  unclaimed: {}", unclaimed.iter().cloned().collect::<Vec<_>>().join(" "));
    println!("  {refused} of the passed ones are refused as they must: elements without storage, or listed");
    let count: usize = failures.values().map(Vec::len).sum();
    let text: Vec<String> = failures.iter().map(|(op, all)| format!("{op} ({}):\n    {}", all.len(), all.join("\n    "))).collect();
    assert!(failures.is_empty(), "{count} cases fail\n{}", text.join("\n"));
    if only.is_none() {
        documented(passed, index.cases.len(), other_values, &unclaimed);
    }
}

/// An operator as docs/operators.md names it.
fn label(node: &Node) -> String {
    if node.domain.is_empty() { node.op.clone() } else { format!("{}.{}", node.domain, node.op) }
}

/// docs/operators.md says how many cases pass, and lists every operator that is not claimed, with a reason.
fn documented(passed: usize, cases: usize, other_values: usize, unclaimed: &BTreeSet<String>) {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operators.md")).unwrap();
    let said = format!("**{passed} of {cases} cases** pass, {other_values} have values other than tensors");
    assert!(text.contains(&said), "docs/operators.md does not say \"{said}\"");
    let row = |line: &str| -> Option<(Vec<String>, String)> {
        let cells: Vec<&str> = line.strip_prefix('|')?.strip_suffix('|')?.split('|').map(str::trim).collect();
        let names = cells[0].split_whitespace().filter_map(|n| Some(n.strip_prefix('`')?.strip_suffix('`')?.to_string())).collect();
        Some((names, cells.last()?.to_string()))
    };
    let (mut listed, mut reasons) = (BTreeSet::new(), Vec::new());
    for (names, reason) in text.lines().filter_map(row) {
        listed.extend(names);
        reasons.push(reason);
    }
    assert!(reasons.iter().all(|r| !r.is_empty()));
    let missing: Vec<_> = unclaimed.difference(&listed).collect();
    let claimed: Vec<_> = listed.difference(unclaimed).collect();
    assert!(missing.is_empty() && claimed.is_empty(), "docs/operators.md lacks {missing:?} and lists {claimed:?}, which are claimed");
}

enum Failure {
    Unsupported(String),
    Wrong(String),
}

impl From<compresso::Error> for Failure {
    fn from(e: compresso::Error) -> Self {
        if e.kind() == ErrorKind::Unsupported { Self::Unsupported(e.to_string()) } else { Self::Wrong(e.to_string()) }
    }
}

fn all_claimed(graph: &Graph) -> bool {
    graph.nodes().iter().all(|n| {
        ops::find(n).is_ok()
            && n.attrs.values().all(|a| match a {
                Attr::Graph(g) => all_claimed(g),
                Attr::Graphs(gs) => gs.iter().all(all_claimed),
                _ => true,
            })
    })
}

/// True when some input, output or constant has an element that no tensor stores, or a number beyond what it stores.
fn beyond_storage(dir: &Path, graph: &Graph, sets: usize) -> bool {
    let constants = |g: &Graph| g.constants().values().any(|c| c.tensor(&candle_core::Device::Cpu).is_err());
    let attrs =
        graph.nodes().iter().flat_map(|n| n.attrs.values()).any(|a| matches!(a, Attr::Tensor(c) if c.element().storage().is_none()));
    let values = graph.inputs().iter().chain(graph.outputs()).any(|v| v.fact.element.storage().is_none());
    let casts = graph
        .nodes()
        .iter()
        .filter_map(|n| n.get_int("to", 1).ok())
        .any(|to| Element::from_code(to as i32).is_none_or(|e| e.storage().is_none()));
    let data = (0..sets).any(|i| onnx::load(dir.join(format!("data_{i}.onnx"))).is_ok_and(|g| constants(&g)));
    values || casts || attrs || constants(graph) || data
}

fn check(case: &Case, dir: &Path, graph: &Graph) -> Result<(), Failure> {
    let facts = infer(graph)?;
    for i in 0..case.sets {
        let data = onnx::load(dir.join(format!("data_{i}.onnx")))?;
        let mut feeds = HashMap::new();
        for (j, input) in graph.inputs().iter().enumerate() {
            if let Some(c) = data.constant(&format!("input_{j}")) {
                feeds.insert(input.name.clone(), value(c)?);
            }
        }
        for planned in [false, true] {
            let outputs = if planned { Engine::new(graph, &[], 2)?.run(&feeds, None)? } else { exec::run(graph, &feeds, Run::default())? };
            for (j, (name, got)) in outputs.iter().enumerate() {
                let Some(expected) = data.constant(&format!("output_{j}")) else { continue };
                let expected = value(expected)?;
                let fail = |what: String| Failure::Wrong(format!("output {j}{}: {what}", if planned { " (planned)" } else { "" }));
                if got.element != expected.element || got.dims() != expected.dims() {
                    let (a, b) = (format!("{}{:?}", expected.element, expected.dims()), format!("{}{:?}", got.element, got.dims()));
                    return Err(fail(format!("expected {a}, got {b}")));
                }
                let fact = &facts[name];
                let fits = fact.element == got.element
                    && fact.shape.as_ref().is_none_or(|s| {
                        s.len() == got.dims().len() && s.iter().zip(got.dims()).all(|(d, &n)| d.known().is_none_or(|k| k == n))
                    });
                if !fits {
                    return Err(fail(format!("inferred {fact}, got {}{:?}", got.element, got.dims())));
                }
                if !random(case, graph) {
                    compare(got, &expected, case, graph.nodes().len()).map_err(fail)?;
                }
            }
        }
    }
    Ok(())
}

fn value(c: &Constant) -> Result<Value, Failure> {
    Ok(Value::of_constant(c, &candle_core::Device::Cpu)?)
}

/// Random numbers are compared by type and shape.
fn random(case: &Case, graph: &Graph) -> bool {
    let drops = case.name.starts_with("test_training_dropout") && !case.name.contains("zero_ratio");
    drops || graph.nodes().iter().any(|n| n.op.starts_with("Random") || n.op == "Bernoulli" || n.op == "Multinomial")
}

fn compare(got: &Value, expected: &Value, case: &Case, nodes: usize) -> Result<(), String> {
    if !got.element.is_float() {
        let (a, b) = (got.to_i64s().unwrap(), expected.to_i64s().unwrap());
        return match a.iter().zip(&b).position(|(a, b)| a != b) {
            None => Ok(()),
            Some(i) => Err(format!("element {i} is {}, expected {}", a[i], b[i])),
        };
    }
    let (a, b) = (got.to_f64s().unwrap(), expected.to_f64s().unwrap());
    // Two units in the last place of a float16, four where rounding adds up over several nodes.
    let half = if nodes > 1 { 4.0 / 1024.0 } else { 2.0 / 1024.0 };
    let rtol = match got.element {
        Element::F16 => case.rtol.max(half),
        // As many units of a bfloat16, which has eight times fewer steps.
        Element::BF16 => case.rtol.max(8.0 * half),
        _ => case.rtol,
    };
    // What is zero but for rounding in a spectrum is as far from zero as the largest number is inexact.
    let largest = b.iter().fold(0f64, |m, v| m.max(v.abs()));
    let atol = if case.name.starts_with("test_dft") { case.atol.max(1e-7 * largest) } else { case.atol };
    let near = |a: f64, b: f64| a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= atol + rtol * b.abs();
    match a.iter().zip(&b).position(|(&a, &b)| !near(a, b)) {
        None => Ok(()),
        Some(i) => Err(format!("element {i} of {:?} is {}, expected {} ({})", got.dims(), a[i], b[i], case.kind)),
    }
}

/// Which inputs operators take is copied from the packages.
#[test]
fn specifications_are_those_of_the_packages() {
    let written = common::python(&["tests/python/op_schemas.py"]);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/model/ops/schema.txt");
    assert!(written == std::fs::read_to_string(path).unwrap(), "write schema.txt anew");
}
