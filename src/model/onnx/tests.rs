use super::*;
use crate::model::{Constant, Element, Fact, Node, ValueInfo};

fn small() -> Graph {
    let mut g = Graph { name: "small".into(), ..Graph::default() };
    g.opsets.insert(String::new(), 17);
    g.inputs.push(ValueInfo::new("x", Fact::known(Element::F32, &[1, 2])));
    g.outputs.push(ValueInfo::new("y", Fact::known(Element::F32, &[1, 2])));
    g.constants.insert("w".into(), Constant::floats(&[1, 2], &[1.0, -2.0]).unwrap());
    g.nodes.push(Node::new("Add", "add", ["x", "w"], ["y"]));
    g.metadata.insert("key".into(), "value".into());
    g
}

#[test]
fn a_built_graph_comes_back() {
    let g = small();
    let bytes = encode(&g).unwrap();
    let again = decode(bytes.clone()).unwrap();
    assert_eq!(again, g);
    assert_eq!(encode(&again).unwrap(), bytes);
}

#[test]
fn real_files_come_back_byte_for_byte() {
    // Real models are not part of the project; COMPRESSO_DATA names a folder that holds some.
    let Some(folder) = std::env::var_os("COMPRESSO_DATA") else { return };
    for path in onnx_files(Path::new(&folder)) {
        let bytes = std::fs::read(&path).unwrap();
        let graph = load(&path).unwrap();
        assert!(encode(&graph).unwrap() == bytes, "{} changed", path.display());
    }
}

fn onnx_files(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(onnx_files(&path));
        } else if path.extension().is_some_and(|e| e == "onnx") {
            found.push(path);
        }
    }
    found
}
