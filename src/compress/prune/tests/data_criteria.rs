//! Criteria that look at images, against numbers worked out by plain loops and differences.

use super::*;
use compresso_learn::data::{DataKind, DataOptions, Loader, LoaderOptions, dataset};
use compresso_model::Patch;

fn shapes(task: &str, images: usize) -> Dataset {
    let options = serde_json::json!({ "images": images, "size": 32, "classes": 3, "task": task });
    dataset("shapes", &compresso_base::operation::decode::<DataOptions>(options).unwrap(), &Context::new()).unwrap()
}

/// Two convolutions with ReLUs between, on images of 16 by 16.
fn net() -> Model {
    let mut n = Net::new(17);
    let x = n.image(3, 16);
    let y = n.conv("a", &x, 3, 6, 3, 1);
    let y = n.b.node(Node::new("Relu", "relu", [&y], ["read"]));
    n.end(&y, 6)
}

const IMAGES: usize = 3;

fn options(importance: Importance) -> Prune {
    Prune { images: IMAGES, ..raw(importance) }
}

/// What the net is fed with while it is looked at.
fn images(data: &Dataset) -> Vec<HashMap<String, Value>> {
    let options = LoaderOptions { batch: 1, size: [16, 16], shuffle: true, ..LoaderOptions::default() };
    let batches = Loader::new(&data.for_training(), options, &Context::new()).unwrap().take(IMAGES);
    batches.map(|b| HashMap::from([("x".to_string(), Value::plain(b.unwrap().images).unwrap())])).collect()
}

#[test]
fn activations_are_means_over_images_and_places() {
    let (m, data) = (net(), shapes("detect", 8));
    let found = Analysis::new(m.graph(), &[]).unwrap();
    let (mut magnitude, mut alive) = (vec![0.0; 6], vec![0.0; 6]);
    for feeds in images(&data) {
        let made = run(m.graph(), &feeds, Run { wanted: &["read"], ..Run::default() }).unwrap();
        let values = made["read"].to_f64s().unwrap();
        for (at, v) in values.into_iter().enumerate() {
            magnitude[at / 256] += v.abs() / (256 * IMAGES) as f64;
            alive[at / 256] += f64::from(u8::from(v != 0.0)) / (256 * IMAGES) as f64;
        }
    }
    assert!(alive.iter().any(|&a| a < 1.0), "a ReLU sets some to zero");
    close(&scores(&options(Importance::ACTIVATION), &found, Some(&data)).unwrap()[0], &magnitude);
    close(&scores(&options(Importance::APOZ), &found, Some(&data)).unwrap()[0], &alive);
}

/// Channels that only a product of two computed matrices reads are judged where they are made.
#[test]
fn activations_of_channels_that_no_weight_reads() {
    let mut n = Net::new(17);
    let x = n.image(3, 16);
    let (q, k) = (n.conv("q", &x, 3, 4, 1, 1), n.conv("k", &x, 3, 4, 1, 1));
    let flat = n.ints(&[1, 4, 256]);
    let (q, k) = (n.op("Reshape", &[&q, &flat]), n.op("Reshape", &[&k, &flat]));
    let q = n.b.node(Node::new("Transpose", "", [&q], [""]).ints("perm", &[0, 2, 1]));
    let y = n.op("MatMul", &[&q, &k]);
    n.b.output(&y);
    let (m, data) = (n.model(), shapes("detect", 8));
    let found = Analysis::new(m.graph(), &[]).unwrap();
    let mut expected = vec![0.0; 4];
    for feeds in images(&data) {
        let made = run(m.graph(), &feeds, Run { wanted: &["q_output_0", "k_output_0"], ..Run::default() }).unwrap();
        for value in made.values() {
            for (at, v) in value.to_f64s().unwrap().into_iter().enumerate() {
                expected[at / 256] += v.abs() / (2 * 256 * IMAGES) as f64;
            }
        }
    }
    close(&scores(&options(Importance::ACTIVATION), &found, Some(&data)).unwrap()[0], &expected);
}

/// Without labels, the loss is half the square of the outputs' norm. Scaling one slice by 1 + t changes it by t times the
/// sum of its weights times their gradients.
#[test]
fn taylor_is_the_change_of_the_loss() {
    let (m, data) = (net(), shapes("detect", 8));
    let found = Analysis::new(m.graph(), &[]).unwrap();
    let feeds = images(&data);
    let loss = |graph: &Graph| -> f64 {
        let one = |f: &HashMap<String, Value>| -> f64 {
            let made = run(graph, f, Run::default()).unwrap();
            made.values().flat_map(|v| v.to_f64s().unwrap()).map(|y| 0.5 * y * y).sum()
        };
        feeds.iter().map(one).sum::<f64>() / IMAGES as f64
    };
    let scaled = |name: &str, channel: usize, factor: f32| -> f64 {
        let constant = m.graph().constant(name).unwrap();
        let inner = constant.count() / 6;
        let mut values = constant.to_f32s().unwrap();
        values[channel * inner..(channel + 1) * inner].iter_mut().for_each(|w| *w *= factor);
        let mut patch = Patch::new(m.graph());
        patch.set_constant(name, Constant::floats(constant.dims(), &values).unwrap());
        loss(&patch.apply().unwrap())
    };
    let step = 1.0 / 512.0;
    let slope = |name: &str, i: usize| ((scaled(name, i, 1.0 + step) - scaled(name, i, 1.0 - step)) / f64::from(2.0 * step)).abs();
    let expected: Vec<f64> = (0..6).map(|i| slope("a.weight", i) + slope("a.bias", i)).collect();
    let got = scores(&Prune { images: IMAGES, importance: Some(Importance::TAYLOR), ..half() }, &found, Some(&data)).unwrap().remove(0);
    let scale = expected.iter().copied().fold(0.0, f64::max);
    assert!(got.iter().zip(&expected).all(|(g, e)| (g - e).abs() <= 5e-3 * scale), "{got:?} is not {expected:?}");
}

#[test]
fn data_is_asked_for_where_it_is_needed() {
    let m = net();
    for importance in CRITERIA.iter().map(|c| Importance::of(c)).filter(|i| !matches!(i.criterion().needs, [] | [Need::Weights])) {
        let e = Prune { importance: Some(importance), ..half() }.apply(&m, None, &Context::new()).unwrap_err();
        assert_eq!(e.kind(), compresso_base::ErrorKind::Argument);
        assert_eq!(e.suggestion().unwrap(), format!("pass one: prune(m, d, #{{ importance: \"{importance}\" }})"));
        let e =
            Prune { importance: Some(importance), method: Granularity::Weights, ..half() }.apply(&m, None, &Context::new()).unwrap_err();
        assert!(e.to_string().contains("ranks channels, not single weights"), "{e}");
    }
    // A net that is not fed with one image.
    let mut n = Net::new(17);
    let x = n.b.input("x", Fact::known(Element::F32, &[2, 5]));
    let w = n.weight("fc.weight", &[5, 8]);
    let y = n.b.node(Node::new("MatMul", "fc", [&x, &w], [""]));
    let y = n.op("Relu", &[&y]);
    let w = n.weight("out.weight", &[8, 3]);
    let y = n.b.node(Node::new("MatMul", "out", [&y, &w], [""]));
    n.b.output(&y);
    let e = Prune { importance: Some(Importance::ACTIVATION), ..half() }.apply(&n.model(), Some(&shapes("detect", 4)), &Context::new());
    assert!(e.unwrap_err().to_string().contains("images can only be fed to a model with one input"));
}

/// SiLU is hardly ever zero, so there is nothing to count.
#[test]
fn zeros_are_counted_where_there_are_any() {
    let mut n = Net::new(17);
    let x = n.image(3, 16);
    let y = n.conv("a", &x, 3, 6, 3, 1);
    let y = n.silu(&y);
    let m = n.end(&y, 6);
    let e = Prune { importance: Some(Importance::APOZ), ..half() }.apply(&m, Some(&shapes("detect", 4)), &Context::new()).unwrap_err();
    assert!(e.suggestion().unwrap().contains("use importance: \"activation\""), "{e}");
}

/// The zoo's detector and classifier, by labels where the dataset has those of the task.
#[test]
fn zoo_models_prune_by_images() {
    use compresso_model::zoo::{ZooOptions, build};
    let classes = Some((0..3).map(|i| format!("class{i}")).collect::<Vec<_>>());
    let small = ZooOptions { classes, image_size: Some([32, 32]), ..ZooOptions::default() };
    let (detect, classify) = (shapes("detect", 8), shapes("classify", 8));
    assert_eq!((detect.kind, classify.kind), (DataKind::Detection, DataKind::Classification));
    let detector = build("yolov8n", &ZooOptions { width: Some(0.125), ..small.clone() }).unwrap();
    let classifier = build("classifier", &small).unwrap();
    let prune = |m: &Model, data: &Dataset, importance: Importance| {
        let options = Prune { importance: Some(importance), images: 8, align: 1, min_channels: 2, ..Prune::default() };
        let pruned = options.apply(m, Some(data), &Context::new()).unwrap();
        assert!(pruned.stats().unwrap().macs < m.stats().unwrap().macs, "{importance}");
        pruned
    };
    for importance in [Importance::TAYLOR, Importance::ACTIVATION] {
        prune(&detector, &detect, importance);
        prune(&classifier, &classify, importance);
    }
    // Labels of another task do not serve, so the outputs do.
    let (by_labels, by_outputs) = (prune(&classifier, &classify, Importance::TAYLOR), prune(&classifier, &detect, Importance::TAYLOR));
    let sizes = |m: &Model| m.graph().constants().iter().map(|(_, c)| c.dims().to_vec()).collect::<Vec<_>>();
    assert_ne!(sizes(&by_labels), sizes(&by_outputs));
}
