use super::*;
use crate::{Constant, Element, Fact, Node, ValueInfo};

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
    let (mut same, mut refused) = (0, 0);
    for path in onnx_files(Path::new(&folder)) {
        let bytes = std::fs::read(&path).unwrap();
        match load(&path) {
            Ok(graph) => {
                assert!(encode(&graph).unwrap() == bytes, "{} changed", path.display());
                same += 1;
            }
            Err(e) => {
                assert_eq!(e.kind(), compresso_base::ErrorKind::Unsupported, "{e}");
                eprintln!("refused: {e}");
                refused += 1;
            }
        }
    }
    eprintln!("{same} files came back byte for byte, {refused} were refused");
    assert!(same > 0);
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

/// Reads hostile bytes; whatever is accepted must also be written, shown and inferred without a panic.
fn poke(bytes: Vec<u8>) -> bool {
    let Ok(graph) = decode(bytes) else { return false };
    let _ = graph.dump(None);
    let _ = crate::infer(&graph);
    let _ = crate::Model::of_graph(graph.clone(), &crate::LoadOptions::default());
    let saved = encode(&graph).unwrap();
    assert_eq!(encode(&decode(saved.clone()).unwrap()).unwrap(), saved);
    true
}

#[test]
fn no_truncation_or_changed_byte_panics() {
    let folder = compresso_test_support::fixture("onnx");
    let (mut tried, mut accepted) = (0, 0);
    for name in ["kinds", "branches", "sparse", "mlp", "old_ir", "unusual"] {
        let bytes = std::fs::read(folder.join(format!("{name}.onnx"))).unwrap();
        for end in 0..bytes.len() {
            accepted += usize::from(poke(bytes[..end].to_vec()));
        }
        for at in 0..bytes.len() {
            for change in [|b: u8| b ^ 1, |b: u8| b ^ 0x80, |_| 0, |_| 0xff, |b: u8| b.wrapping_add(1)] {
                let mut changed = bytes.clone();
                changed[at] = change(changed[at]);
                accepted += usize::from(poke(changed));
            }
        }
        tried += 6 * bytes.len();
    }
    assert!(tried > 10_000 && accepted > 100, "{tried} tried, {accepted} accepted");
}

#[test]
fn deep_nesting_is_refused_without_overflowing_the_stack() {
    fn field(number: u32, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        scan::put_header(number, payload.len(), &mut out);
        out.extend_from_slice(payload);
        out
    }
    let mut graph = field(2, b"leaf");
    for _ in 0..3000 {
        let attribute = [field(1, b"body"), vec![0xa0, 0x01, 5], field(6, &graph)].concat();
        let node = [field(1, b"x"), field(4, b"Loop"), field(5, &attribute)].concat();
        graph = field(1, &node);
    }
    let opset = field(8, &[0x10, 17]);
    let e = decode([field(7, &graph), opset].concat()).unwrap_err();
    assert!(e.to_string().contains("nested deeper"), "{e}");
}

proptest::proptest! {
    #[test]
    fn random_bytes_and_splices_never_panic(
        noise in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200),
        at in 0usize..500,
        length in 0usize..40,
    ) {
        poke(noise.clone());
        let bytes = encode(&small()).unwrap();
        let at = at % bytes.len();
        let end = (at + length).min(bytes.len());
        poke([&bytes[..at], &noise, &bytes[end..]].concat());
    }
}
