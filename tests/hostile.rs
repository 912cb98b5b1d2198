//! Files and scripts that ask for more than there is: an error with a reason, never the end of the process.

use compresso::model::graph::GraphBuilder;
use compresso::model::{Attr, Constant, Element, Fact, Model, Node, Task};
use std::path::Path;
use std::process::{Command, Stdio};

/// Runs the program with little memory; the error text of a call that fails, `None` for one that does not.
fn call(args: &[&str]) -> Option<String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_compresso"));
    let o = command.args(["--max-memory", "1GB"]).args(args).stdin(Stdio::null()).output().unwrap();
    let error = String::from_utf8_lossy(&o.stderr).into_owned();
    match o.status.code() {
        Some(0) => None,
        Some(1) => Some(error),
        other => panic!("{args:?} ended with {other:?}:\n{error}"),
    }
}

fn saved(b: GraphBuilder, folder: &Path) -> String {
    let path = folder.join("model.onnx").display().to_string();
    Model::new(b.finish().unwrap(), Task::Unknown).save(&path).unwrap();
    path
}

fn images(b: &mut GraphBuilder) -> String {
    b.input("x", Fact::known(Element::F32, &[1, 3, 8, 8]))
}

/// An image that is eight times as high with each node.
fn doubling(b: &mut GraphBuilder) -> String {
    let mut x = images(b);
    for _ in 0..12 {
        x = b.node(Node::new("Concat", "", vec![x; 8], [""]).attr("axis", Attr::Int(2)));
    }
    x
}

fn expanded(b: &mut GraphBuilder) -> String {
    let x = images(b);
    let shape = b.constant("shape", Constant::ints(&[1 << 36, 3, 8, 8]));
    b.op("Expand", &[&x, &shape])
}

fn tiled(b: &mut GraphBuilder) -> String {
    let x = images(b);
    let times = b.constant("times", Constant::ints(&[1, 1, 1 << 16, 1 << 16]));
    b.op("Tile", &[&x, &times])
}

fn padded(b: &mut GraphBuilder) -> String {
    let x = images(b);
    let pads = b.constant("pads", Constant::ints(&[0, 0, 20_000_000, 0, 0, 0, 20_000_000, 0]));
    b.op("Pad", &[&x, &pads])
}

#[test]
fn sizes_in_files_are_no_requests_for_memory() {
    for (name, make) in [("Concat", doubling as fn(&mut GraphBuilder) -> String), ("Expand", expanded), ("Tile", tiled), ("Pad", padded)] {
        let dir = tempfile::tempdir().unwrap();
        let mut b = GraphBuilder::new("hostile", 19);
        let out = make(&mut b);
        b.output(&out);
        let path = saved(b, dir.path());
        let open = format!("let m = model({path:?}); ");
        let e = call(&["eval", &format!("{open} forward(m, random([1, 3, 8, 8]))")]).unwrap_or_else(|| panic!("{name} ran"));
        assert!(e.contains("would take") || e.contains("sizes whose product is too large"), "{name}: {e}");
        for more in ["summary(m)", "prune(m)"] {
            call(&["eval", &format!("{open} {more};")]);
        }
    }
}

#[test]
fn scripts_without_an_end_are_errors() {
    let e = call(&["eval", "let s = \"eval(s)\"; eval(s)"]).unwrap();
    assert!(e.contains("too deeply"), "{e}");
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("again.rhai"), "import \"again\" as x;").unwrap();
    let e = call(&["run", &dir.path().join("again.rhai").display().to_string()]).unwrap();
    assert!(e.contains("too deeply"), "{e}");
    let e = call(&["eval", "zeros([4611686018427387904, 4])"]).unwrap();
    assert!(e.contains("too large"), "{e}");
    let e = call(&["eval", "random([20000, 20000])"]).unwrap();
    assert!(e.contains("would take"), "{e}");
    let nested = "let a = []; for i in 0..5000 { a = [a]; }";
    for show in ["print(a)", "show(a)", "print((\"\" + a).len)"] {
        assert_eq!(call(&["eval", &format!("{nested} {show};")]), None, "{show}");
    }
}
