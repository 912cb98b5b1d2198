use super::*;
use crate::Element;
use candle_core::{DType, Tensor};

fn values() -> IndexMap<String, Value> {
    let t = |e: Element, v: &[f64], dims: &[usize]| {
        let t = Tensor::new(v, &Device::Cpu).unwrap().reshape(dims).unwrap().to_dtype(e.storage().unwrap()).unwrap();
        Value::new(e, t).unwrap()
    };
    IndexMap::from([
        ("f32".to_string(), t(Element::F32, &[1.5, -2.0, 0.0, 4.0, 5.0, 6.25], &[2, 3])),
        ("f16".to_string(), t(Element::F16, &[1.5, -2.0], &[2])),
        ("f64".to_string(), t(Element::F64, &[1e-300], &[])),
        ("i8".to_string(), t(Element::I8, &[-128.0, 127.0], &[1, 2])),
        ("u16".to_string(), t(Element::U16, &[65535.0, 1.0], &[2, 1])),
        ("bool".to_string(), t(Element::Bool, &[0.0, 1.0, 1.0], &[3])),
        ("i64".to_string(), t(Element::I64, &[-5.0], &[1])),
        ("empty".to_string(), t(Element::F32, &[], &[0, 3])),
    ])
}

fn same(a: &Value, b: &Value) -> bool {
    a.element == b.element && a.dims() == b.dims() && a.to_f64s().unwrap() == b.to_f64s().unwrap()
}

#[test]
fn every_format_gives_back_what_it_took() {
    let dir = tempfile::tempdir().unwrap();
    let all = values();
    for extension in ["npz", "safetensors"] {
        let path = dir.path().join(format!("all.{extension}"));
        save_tensors(&all, &path).unwrap();
        let again = load_tensors(&path).unwrap();
        assert_eq!(again.len(), all.len());
        for (name, v) in &all {
            assert!(same(v, &again[name]), "{extension} {name}");
        }
    }
    for (name, v) in &all {
        for extension in ["npy", "pb"] {
            let path = dir.path().join(format!("{name}.{extension}"));
            save_tensors(&IndexMap::from([(name.clone(), v.clone())]), &path).unwrap();
            assert!(same(v, &load_tensors(&path).unwrap()[name]), "{extension} {name}");
        }
    }
}

#[test]
fn wrong_extensions_counts_and_types_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let e = load_tensors(dir.path().join("a.txt")).unwrap_err();
    assert_eq!(e.kind(), compresso_base::ErrorKind::Argument);
    assert_eq!(load_tensors(dir.path().join("a.npy")).unwrap_err().kind(), compresso_base::ErrorKind::Io);
    assert_eq!(save_tensors(&values(), dir.path().join("a.npy")).unwrap_err().kind(), compresso_base::ErrorKind::Argument);
    let bf16 = Value::plain(Tensor::zeros(2, DType::BF16, &Device::Cpu).unwrap()).unwrap();
    let e = save_tensors(&IndexMap::from([("x".into(), bf16)]), dir.path().join("a.npy")).unwrap_err();
    assert_eq!(e.kind(), compresso_base::ErrorKind::Unsupported);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing half-written");
}
