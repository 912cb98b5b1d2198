//! What options refuse, what no-ops and results say.

use super::*;

#[test]
fn bad_options_say_what_is_wrong() {
    let m = two_layers();
    let ctx = Context::new();
    for ratio in [1.0, -0.1, f64::NAN, f64::INFINITY] {
        let e = Prune { ratio, ..half() }.apply(&m, None, &ctx).unwrap_err();
        assert!(e.to_string().starts_with("option 'ratio' must be at least 0 and below 1"), "{e}");
    }
    let e = Prune { align: 0, ..half() }.apply(&m, None, &ctx).unwrap_err();
    assert!(e.to_string().contains("'align'"), "{e}");
    let e = Prune { exclude: vec!["bb".into()], ..half() }.apply(&m, None, &ctx).unwrap_err();
    assert!(e.to_string().contains("option 'exclude': 'bb' matches no layer"), "{e}");
    let e = Prune { ratio: 0.99, min_channels: 0, ..half() }.apply(&m, None, &ctx).unwrap_err();
    assert!(e.to_string().contains("would leave layer 'a' without channels"), "{e}");
}

#[test]
fn no_ops_say_why_and_results_say_what() {
    let notes = Arc::new(Notes::default());
    let ctx = Context::new().with_progress(notes.clone());
    let m = two_layers();
    let same = Prune { ratio: 0.0, ..half() }.apply(&m, None, &ctx).unwrap();
    assert_eq!(same.steps().len(), 0);
    Prune { ratio: 0.3, min_channels: 16, ..half() }.apply(&m, None, &ctx).unwrap();
    let p = Prune { exclude: vec!["b".into()], ..half() }.apply(&m, None, &ctx).unwrap();
    assert_eq!(dims(&p, "b.weight"), [16, 8, 1, 1]);
    assert_eq!(p.steps()[0].operation, "prune");
    assert_eq!(p.steps()[0].options["exclude"], serde_json::json!(["b"]));
    assert!(!p.steps()[0].options.contains_key("ratio"), "0.5 is the default");
    let lines = notes.take();
    assert!(lines[0].contains("ratio is 0"), "{lines:?}");
    assert!(lines[1].contains("nothing removed"), "{lines:?}");
    assert!(lines[2].starts_with("prune: ") && lines[2].contains("params"), "{lines:?}");
    let report = prune_report(&m, &p).unwrap();
    let a = &report.layers[0];
    assert_eq!((a.layer.as_str(), a.channels_before, a.channels_after), ("a", 16, 8));
    assert!(report.macs_after < report.macs_before);
}

#[test]
fn quantized_models_are_refused() {
    let mut n = Net::new(17);
    let x = n.image(3, 4);
    let scale = n.b.constant("scale", Constant::scalar(0.1));
    let zero = n.b.constant("zero", Constant::new(Element::I8, vec![], compresso_model::Payload::Int32s(vec![0])).unwrap());
    let q = n.op("QuantizeLinear", &[&x, &scale, &zero]);
    let y = n.op("DequantizeLinear", &[&q, &scale, &zero]);
    let m = n.end(&y, 3);
    let e = half().apply(&m, None, &Context::new()).unwrap_err();
    assert!(e.to_string().contains("quantized already"), "{e}");
    assert_eq!(e.suggestion(), Some("prune first, then quantize"));
}
