//! Every kind of zoo model goes through the whole library: planned execution, training, pruning, quantization.

use super::feed;
use candle_core::{Device, Tensor};
use compresso::compress::prune::Prune;
use compresso::compress::quantize::Quantize;
use compresso::exec::{self, Engine, Run};
use compresso::learn::data::{DataOptions, DataTask, Dataset, dataset};
use compresso::learn::train::Train;
use compresso::model::zoo::{ZooOptions, build};
use compresso::model::{Model, Value};
use compresso::operation::Operation;
use compresso::{Context, ErrorKind};

const SIZE: usize = 64;

fn shapes(task: DataTask) -> Dataset {
    let options = DataOptions { images: Some(4), size: Some(SIZE.into()), classes: Some(3.into()), task, ..DataOptions::default() };
    dataset("shapes", &options, &Context::new()).unwrap()
}

fn small(name: &str, classes: &[String], attention: &[usize]) -> Model {
    let options = ZooOptions {
        classes: Some(classes.to_vec()),
        image_size: Some([SIZE, SIZE]),
        width: Some(0.125),
        depth: Some(0.34),
        attention: attention.to_vec(),
        seed: 1,
    };
    build(name, &options).unwrap()
}

fn noise(batch: usize) -> Value {
    let n = batch * 3 * SIZE * SIZE;
    let values: Vec<f32> = (0..n).map(|i| ((i * 7919) % 1009) as f32 / 1009.0).collect();
    Value::plain(Tensor::from_vec(values, (batch, 3, SIZE, SIZE), &Device::Cpu).unwrap()).unwrap()
}

fn goes_through(name: &str, attention: &[usize]) {
    let classifier = ["cls", "classifier", "resnet", "mobilenet"].iter().any(|c| name.contains(c));
    let data = shapes(if classifier { DataTask::Classify } else { DataTask::Detect });
    let model = small(name, &data.classes, attention);
    // Planned and eager execution, with weights as large as trained ones.
    let lively = super::common::lively(&model);
    let x = noise(2);
    let eager = exec::run(lively.graph(), &feed(&x), Run::default()).unwrap();
    let mut engine = Engine::new(lively.graph(), &[], 2).unwrap();
    let planned = engine.run(&feed(&x), None).unwrap();
    assert_eq!(engine.refused(), None, "{name}");
    super::common::assert_close(&planned[0], &eager[0], 1e-4);
    let declared = &model.graph().outputs()[0].fact;
    let dims = eager[0].dims();
    assert!((1..dims.len()).all(|a| declared.dim(a as isize) == Some(dims[a])), "{name}: {declared} {dims:?}");

    let options = Train { epochs: 1, batch: 2, ema: false, augment: false, ..Train::default() };
    let trained = options.run((&model, &data, None), &Context::new()).unwrap();
    assert!(trained.history.epochs[0].loss.is_finite(), "{name}");
    let changed = |n: &str| trained.model.graph().constant(n).unwrap() != model.graph().constant(n).unwrap();
    let kinds = |n: &str| n.ends_with(".weight") || n.ends_with(".running_mean");
    let still: Vec<&String> =
        model.graph().constants().keys().filter(|n| kinds(n) && !n.contains(".dfl.")).filter(|n| !changed(n)).collect();
    assert!(still.is_empty(), "{name}: training leaves {still:?} as they are");

    // The outputs of pruned models equal the masked ones', which `apply` checks.
    let prune = Prune { ratio: 0.3, align: 1, min_channels: 2, ..Prune::default() };
    let pruned = prune.apply(&lively, None, &Context::new()).unwrap_or_else(|e| panic!("{name}: {e}"));
    let macs = |m: &Model| m.stats().unwrap().macs.unwrap() as f64;
    assert!(macs(&pruned) < 0.9 * macs(&lively), "{name}: {} of {}", macs(&pruned), macs(&lively));
    let again = exec::run(pruned.graph(), &feed(&x), Run::default()).unwrap();
    assert_eq!(again[0].dims(), dims, "{name}");

    let quantized = Quantize { images: 4, ..Quantize::default() }.apply(&lively, Some(&data), &Context::new()).unwrap();
    let got = exec::run(quantized.graph(), &feed(&x), Run::default()).unwrap();
    let (got, expected) = (got[0].to_f32s().unwrap(), eager[0].to_f32s().unwrap());
    let (signal, error) =
        got.iter().zip(&expected).fold((0f64, 0f64), |(s, e), (g, x)| (s + f64::from(x * x), e + f64::from((g - x) * (g - x))));
    assert!(error < 0.1 * signal, "{name}: error {error}, signal {signal}");
}

#[test]
fn detectors_go_through() {
    for name in ["yolov8n", "yolo11n", "yolo11m", "yolov5nu", "yolov5n", "mobile_yolo", "mobile_yolo-s"] {
        goes_through(name, &[]);
    }
    goes_through("yolov8n", &[15, 18, 21]);
}

#[test]
fn classifiers_go_through() {
    for name in ["classifier", "yolov8n-cls", "yolo11n-cls", "resnet18", "resnet34", "resnet50", "mobilenet_v2"] {
        goes_through(name, &[]);
    }
}

#[test]
fn attention_goes_in_after_any_layer_and_leaves_names_alone() {
    let classes = ["a".to_string()];
    let (plain, with) = (small("yolov8n", &classes, &[]), small("yolov8n", &classes, &[15, 21]));
    let names = |m: &Model| super::parameters(m).into_iter().collect::<std::collections::BTreeSet<_>>();
    let added: Vec<String> = names(&with).difference(&names(&plain)).cloned().collect();
    let expected: Vec<String> = ["attention.15", "attention.21"]
        .iter()
        .flat_map(|a| ["fc.0.bias", "fc.0.weight", "fc.2.bias", "fc.2.weight"].map(|n| format!("{a}.{n}")))
        .collect();
    assert_eq!(added, expected);
    assert!(names(&plain).is_subset(&names(&with)));
    let e = build("yolov8n", &ZooOptions { attention: vec![22], ..ZooOptions::default() }).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Argument);
    assert!(e.to_string().contains("layer 22") && e.to_string().contains("layers 0 to 22"), "{e}");
}
