use super::*;

fn value(v: &[f32]) -> Value {
    Value::plain(Tensor::new(v, &Device::Cpu).unwrap()).unwrap()
}

#[test]
fn distances_of_known_vectors() {
    let d = &compare_tensors(&value(&[3.0, 4.0]), &value(&[4.0, 3.0])).unwrap().outputs[0];
    assert_eq!((d.max_abs, d.mean_abs, d.max_rel, d.cosine), (1.0, 1.0, 0.25, 24.0 / 25.0));
    assert!((d.sqnr_db.unwrap() - 10.0 * 12.5f64.log10()).abs() < 1e-12);
    let same = &compare_tensors(&value(&[0.0, f32::INFINITY]), &value(&[0.0, f32::INFINITY])).unwrap().outputs[0];
    assert_eq!((same.max_abs, same.max_rel, same.cosine, same.not_finite, same.sqnr_db), (0.0, 0.0, 1.0, 0, None));
    let nan = &compare_tensors(&value(&[1.0, 1.0]), &value(&[1.0, f32::NAN])).unwrap().outputs[0];
    assert_eq!(nan.not_finite, 1);
    assert!(compare_tensors(&value(&[1.0]), &value(&[1.0, 2.0])).is_err());
}
