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

#[test]
fn two_models_are_followed_to_where_they_part() {
    use compresso_model::zoo::{ZooOptions, build};
    use compresso_model::{Constant, Patch};
    let m = build("classifier", &ZooOptions { image_size: Some([32, 32]), width: Some(0.25), ..ZooOptions::default() }).unwrap();
    // The third layer, scaled.
    let layer = m.graph().nodes().iter().filter(|n| n.is("Conv")).nth(2).unwrap();
    let weight = layer.input(1).unwrap();
    let constant = m.graph().constant(weight).unwrap();
    let doubled: Vec<f32> = constant.to_f32s().unwrap().iter().map(|v| 2.0 * v).collect();
    let mut patch = Patch::new(m.graph());
    patch.set_constant(weight, Constant::floats(constant.dims(), &doubled).unwrap());
    let other = Model::new(patch.apply().unwrap(), m.task().clone());
    let options = Compare { layers: true, images: 2, ..Compare::default() };
    let ctx = Context::new();
    let same = options.run((&m, &m, None), &ctx).unwrap();
    assert_eq!(same.first_divergence, None);
    assert!(same.layers.len() > 10 && same.layers.iter().all(|v| v.distance.max_abs == 0.0 && v.distance.count > 0));
    let apart = options.run((&m, &other, None), &ctx).unwrap();
    let first = apart.layers.iter().position(|v| Some(&v.distance.output) == apart.first_divergence.as_ref()).unwrap();
    let convs = apart.layers[..=first].iter().filter(|v| v.op == "Conv").count();
    assert_eq!(convs, 3, "{:?} {:?}", apart.first_divergence, apart.layers.iter().map(|v| &v.distance.output).collect::<Vec<_>>());
    assert!(apart.layers[..first].iter().all(|v| v.distance.max_abs == 0.0));
    assert_eq!(apart.plots().len(), 1);
}
