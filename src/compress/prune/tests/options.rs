//! What options refuse, what no-ops and results say.

use super::*;
use compresso_learn::data::{DataOptions, dataset};
use compresso_model::ModelOptions;

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

/// Without images nothing makes up for what is gone: of a model that may have been trained that is said.
#[test]
fn pruning_a_trained_model_without_images_is_warned_of() {
    let notes = Arc::new(Notes::default());
    let ctx = Context::new().with_progress(notes.clone());
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.onnx").display().to_string();
    let fresh = ModelOptions { image_size: Some(32.into()), ..ModelOptions::default() }.run("classifier", &ctx).unwrap();
    // A file that does not say how it was made.
    Model::new(fresh.graph().clone(), fresh.task().clone()).save(&path).unwrap();
    let brought = ModelOptions::default().run(&path, &ctx).unwrap();
    let warned = |m: &Model, options: Prune, data: Option<&Dataset>| {
        options.apply(m, data, &ctx).unwrap();
        notes.take().iter().any(|n| n.contains("warning: without images nothing makes up"))
    };
    let few = || Prune { score: false, images: 4, ..half() };
    assert!(warned(&brought, few(), None));
    assert!(!warned(&fresh, few(), None), "it has learnt nothing");
    assert!(!warned(&brought, Prune { method: Granularity::Weights, ..few() }, None));
    let options = DataOptions { images: Some(4), size: Some(32.into()), ..DataOptions::default() };
    assert!(!warned(&brought, few(), Some(&dataset("random", &options, &ctx).unwrap())));
}

#[test]
fn a_budget_out_of_reach_is_told() {
    let notes = Arc::new(Notes::default());
    let ctx = Context::new().with_progress(notes.clone());
    let told = |options: Prune| {
        options.apply(&two_layers(), None, &ctx).unwrap();
        notes.take().into_iter().find(|n| n.contains("asked for"))
    };
    let macs = Prune { ratio: 0.9, budget: Budget::Macs, min_channels: 8, ..half() };
    let said = told(macs.clone()).unwrap();
    assert!(said.contains("of the multiply-accumulates went, not the 90.0 % asked for: min_channels: 8, align: 1 keep the rest"), "{said}");
    assert!(told(Prune { dry_run: true, ..macs.clone() }).is_some());
    assert!(told(Prune { steps: 3, ..macs.clone() }).unwrap().contains("not the 90.0 % asked for"));
    assert_eq!(told(Prune { ratio: 0.3, min_channels: 1, ..macs }), None);
    assert_eq!(told(half()), None);
    let said = told(Prune { ratio: 0.75, min_channels: 8, exclude: vec!["b".into()], ..half() }).unwrap();
    assert!(said.contains("50.0 % of the channels went, not the 75.0 % asked for") && said.contains("exclude and include keep"), "{said}");
}

/// How near a time is met is not for a test of seconds; that it is measured, and told, is.
#[test]
fn a_time_is_a_budget_and_the_recipe_says_what_went_for_it() {
    let notes = Arc::new(Notes::default());
    let ctx = Context::new().with_progress(notes.clone());
    // Large enough for a cut to be faster whatever else the machine does.
    let mut n = Net::new(17);
    let x = n.image(3, 64);
    let y = n.conv("a", &x, 3, 64, 1, 1);
    let y = n.op("Relu", &[&y]);
    let y = n.conv("b", &y, 64, 64, 3, 1);
    let y = n.op("Relu", &[&y]);
    let m = n.end(&y, 64);
    let options = Prune { ratio: 0.4, budget: Budget::Latency, min_channels: 1, ..half() };
    let made = options.run((&m, None), &ctx).unwrap();
    let timed = made.report.unwrap().latency.unwrap();
    assert!(timed.runtime == "native" && timed.before_ms > 0.0 && timed.after_ms > 0.0 && (1..=7).contains(&timed.tried), "{timed:?}");
    assert!(notes.take().iter().any(|n| n.contains("of the time) by") && n.contains("measured")));
    let steps = made.model.steps();
    let step = &steps.last().unwrap().options;
    assert_eq!((step["budget"].as_str(), step["ratio"].as_f64()), (Some("macs"), Some(timed.ratio)), "{step:?}");
    // Replayed, it gives the same weights.
    let again = Prune { ratio: timed.ratio, budget: Budget::Macs, ..options.clone() }.apply(&m, None, &ctx).unwrap();
    assert_eq!(again.graph().constants(), made.model.graph().constants());
    let e = Prune { steps: 2, ..options }.apply(&m, None, &ctx).unwrap_err().to_string();
    assert!(e.contains("\"latency\" is reached in one round"), "{e}");
}

#[test]
fn options_that_cannot_act_are_refused_or_told() {
    let notes = Arc::new(Notes::default());
    let ctx = Context::new().with_progress(notes.clone());
    let m = two_layers();
    let refused = |options: Prune| options.apply(&m, None, &ctx).unwrap_err().to_string();
    let weights = || Prune { method: Granularity::Weights, ..Prune::default() };
    let ratios = || serde_json::json!({ "a": 0.5 }).as_object().unwrap().clone();
    for (options, said) in [
        (Prune { recover: Some(Recover::Weights), ..half() }, "'recover' solves layers on images, and no dataset was given"),
        (Prune { recover: Some(Recover::Bias), ..weights() }, "'recover' solves layers that lost channels"),
        (Prune { budget: Budget::Macs, ..weights() }, "'budget' is about channels"),
        (Prune { ratios: ratios(), ..weights() }, "'ratios' is about groups of channels"),
        (Prune { importance: Some(Importance::FPGM), ..weights() }, "\"fpgm\" ranks channels, not single weights"),
        (Prune { ratios: ratios(), budget: Budget::Params, ..half() }, "both say how much goes"),
        (Prune { ratios: ratios(), steps: 2, ..half() }, "'ratios' is reached in one round"),
    ] {
        let e = refused(options);
        assert!(e.contains(said), "{e}");
    }
    let told = |options: Prune| {
        options.apply(&m, None, &ctx).unwrap();
        notes.take().into_iter().filter(|n| n.contains("nothing")).collect::<Vec<_>>()
    };
    assert_eq!(told(Prune { recover: Some(Recover::None), ..half() }), [""; 0]);
    assert_eq!(told(Prune { images: 8, ..half() }), ["prune: 'images' changes nothing without a dataset"]);
    assert_eq!(told(Prune { schedule: Ramp::Cubic, ..half() }), ["prune: 'schedule' changes nothing in a single round (steps)"]);
    assert_eq!(told(Prune { ratios: ratios(), ratio: 0.3, ..half() }), ["prune: 'ratio' and 'scope' change nothing beside 'ratios'"]);
    let odd = Prune { align: 4, readers: true, ..weights() };
    assert_eq!(told(odd), ["prune: 'readers' and 'align' change nothing with method: \"weights\""]);
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
