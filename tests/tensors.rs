//! Tensor files, against what NumPy, the onnx package and the safetensors package write and read. The files in
//! fixtures/tensors are made by generate.py there.

mod common;

use candle_core::{Device, Tensor};
use compresso::model::weights::{load_tensors, save_tensors};
use compresso::model::{Element, Value};
use indexmap::IndexMap;
use std::path::{Path, PathBuf};
use std::process::Command;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tensors").join(name)
}

fn json(name: &str) -> serde_json::Map<String, serde_json::Value> {
    serde_json::from_str(&std::fs::read_to_string(fixture(name)).unwrap()).unwrap()
}

#[test]
fn files_of_other_tools_are_read() {
    let mut wrong = Vec::new();
    let files = json("expected.json");
    assert!(files.len() >= 12);
    for (file, expected) in &files {
        let got = load_tensors(fixture(file)).unwrap();
        let expected = expected.as_object().unwrap();
        if got.len() != expected.len() {
            wrong.push(format!("{file}: {} tensors, expected {}", got.len(), expected.len()));
        }
        for (name, e) in expected {
            let values: Vec<f64> = serde_json::from_value(e[2].clone()).unwrap();
            let dims: Vec<usize> = serde_json::from_value(e[1].clone()).unwrap();
            match got.get(name) {
                Some(v) if v.element.name() == e[0] && v.dims() == dims && v.to_f64s().unwrap() == values => {}
                other => wrong.push(format!("{file} {name}: {other:?}")),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn broken_files_are_refused_with_kind_and_place() {
    common::assert_refused(&fixture("bad"), 25, load_tensors);
}

#[test]
fn no_truncation_or_changed_byte_panics() {
    let dir = tempfile::tempdir().unwrap();
    let mut tried = 0;
    for name in ["column_major.npy", "packed.npz", "many.safetensors", "raw.pb"] {
        let bytes = std::fs::read(fixture(name)).unwrap();
        let path = dir.path().join(name);
        // Data bytes cannot matter; headers and the archive's ends do.
        let places = (0..bytes.len()).filter(|&i| i < 140 || i + 140 > bytes.len());
        for at in places {
            for changed in [
                bytes[..at].to_vec(),
                {
                    let mut b = bytes.clone();
                    b[at] ^= 0x80;
                    b
                },
                {
                    let mut b = bytes.clone();
                    b[at] = 0xff;
                    b
                },
            ] {
                std::fs::write(&path, changed).unwrap();
                let _ = load_tensors(&path);
                tried += 1;
            }
        }
    }
    assert!(tried > 1500, "{tried}");
}

#[test]
fn other_tools_read_what_we_write() {
    let python = common::python_path();
    let dir = tempfile::tempdir().unwrap();
    let base: Vec<f64> = (0..24).map(f64::from).collect();
    let base = Tensor::new(base, &Device::Cpu).unwrap().reshape((2, 3, 4)).unwrap();
    let odd: Vec<u8> = (0..24).map(|i| i % 2).collect();
    let mut all = IndexMap::new();
    for element in [
        Element::F16,
        Element::F32,
        Element::F64,
        Element::I8,
        Element::U8,
        Element::I16,
        Element::U16,
        Element::I32,
        Element::U32,
        Element::I64,
        Element::U64,
        Element::Bool,
    ] {
        let t = match element {
            Element::Bool => Tensor::new(odd.as_slice(), &Device::Cpu).unwrap().reshape((2, 3, 4)).unwrap(),
            e => base.to_dtype(e.storage().unwrap()).unwrap(),
        };
        let value = Value::new(element, t).unwrap();
        for extension in ["npy", "pb"] {
            let path = dir.path().join(format!("{element}.{extension}"));
            save_tensors(&IndexMap::from([(element.to_string(), value.clone())]), path).unwrap();
        }
        all.insert(element.to_string(), value);
    }
    save_tensors(&all, dir.path().join("all.npz")).unwrap();
    save_tensors(&all, dir.path().join("all.safetensors")).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/check_tensors.py");
    let out = Command::new(python).arg(script).arg(dir.path()).output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{text}{}", String::from_utf8_lossy(&out.stderr));
    assert_eq!(text.trim(), "ok 48");
}
