//! What the choices beyond nearest rounding give: on small nets, by the error at the outputs.

use super::tests::{classifier, conv, detector, feeds, images, run, silu};
use super::*;
use compresso_base::operation::Operation;
use compresso_model::{Constant, Element, Fact, GraphBuilder, Task};
use observers::OBSERVERS;
use weights::sqnr;

fn ctx() -> Context {
    Context::new()
}

/// Decibels of the quantized model's first output on an image that calibration did not see.
fn decibels(m: &Model, options: &Quantize) -> f64 {
    let q = options.apply(m, Some(&images(16)), &ctx()).unwrap();
    let feeds = feeds(m);
    sqnr(&run(m.graph(), &feeds), &run(q.graph(), &feeds))
}

/// Five convolutions with SiLU.
fn chain() -> Model {
    let mut b = GraphBuilder::new("chain", 17);
    let x = b.input("images", Fact::known(Element::F32, &[1, 3, 24, 24]));
    let y = conv(&mut b, "a", &x, 16, 3, 3);
    let y = silu(&mut b, &y);
    let y = conv(&mut b, "b", &y, 24, 16, 3);
    let y = silu(&mut b, &y);
    let y = conv(&mut b, "c", &y, 24, 24, 1);
    let y = silu(&mut b, &y);
    let y = conv(&mut b, "d", &y, 16, 24, 3);
    let y = silu(&mut b, &y);
    let y = conv(&mut b, "e", &y, 8, 16, 1);
    b.output(&y);
    Model::new(b.finish().unwrap(), Task::Unknown)
}

fn base() -> Quantize {
    Quantize { images: 16, reduce_range: false, score: false, ..Quantize::default() }
}

#[test]
fn four_bits_are_four_bits_and_adaptive_rounding_wins_back_what_they_lose() {
    let m = chain();
    for alone in [false, true] {
        let options = Quantize { weight_bits: 4, mode: if alone { QuantizeMode::Dynamic } else { QuantizeMode::Static }, ..base() };
        let options = Quantize { activations: !alone, ..options };
        let q = options.apply(&m, Some(&images(16)), &ctx()).unwrap();
        let (mut weights, element) = (0, if alone { Element::I4 } else { Element::I8 });
        for (name, c) in q.graph().constants().iter().filter(|(n, _)| n.ends_with("weight_quantized")) {
            assert_eq!(c.element(), element);
            assert!(c.to_i64s().unwrap().iter().all(|v| v.abs() <= 7), "{name}");
            weights += 1;
        }
        assert_eq!(weights, 5);
        let nearest = decibels(&m, &options);
        let chosen = decibels(&m, &Quantize { rounding: Rounding::Adaround, ..options.clone() });
        let corrected = decibels(&m, &Quantize { rounding: Rounding::Adaround, bias_correction: true, ..options });

        assert!(chosen > nearest + 3.0, "nearest {nearest:.1} dB, adaround {chosen:.1} dB");
        assert!(corrected > chosen - 0.5, "{corrected:.1} dB");
    }
    let e = Quantize { weight_bits: 9, ..base() }.apply(&m, Some(&images(4)), &ctx()).unwrap_err();
    assert!(e.to_string().contains("must be at least 2 and at most 8"), "{e}");
    let e = Quantize { mode: QuantizeMode::Dynamic, activations: false, rounding: Rounding::Adaround, ..base() };
    assert!(e.apply(&m, None, &ctx()).unwrap_err().to_string().contains("need images"));
}

#[test]
fn chosen_weights_and_biases_work_on_every_kind_of_layer() {
    for m in [detector(), classifier()] {
        for mode in [QuantizeMode::Static, QuantizeMode::Dynamic] {
            let options = Quantize { mode, rounding: Rounding::Adaround, bias_correction: true, equalize: true, ..base() };
            let (plain, chosen) = (decibels(&m, &Quantize { mode, ..base() }), decibels(&m, &options));
            assert!(chosen > plain - 3.0 && chosen > 20.0, "{plain:.1} dB became {chosen:.1} dB");
        }
    }
}

#[test]
fn ranges_chosen_by_measured_error_are_no_worse_than_those_of_one_observer() {
    let m = chain();
    // Four of the sixteen images are left to choose by.
    let base = || Quantize { images: 12, ..base() };
    let auto = Quantize { observer: Observe::named("auto").unwrap(), ..base() };
    let report = auto.run((&m, Some(&images(16))), &ctx()).unwrap().report.unwrap();
    assert_eq!((report.images, report.judged, report.held_out), (12, 4, true));
    assert!(report.layers.iter().any(|l| l.observer.is_some()), "{:?}", report.layers);
    let chosen = decibels(&m, &auto);
    for name in ["minmax", "entropy", "mse", "percentile"] {
        let one = decibels(&m, &Quantize { observer: Observe::named(name).unwrap(), ..base() });
        assert!(chosen > one - 1.0, "auto {chosen:.1} dB, {name} {one:.1} dB");
    }
}

/// A net whose activations have channels a thousandfold apart, which one scale serves badly.
fn uneven() -> Model {
    let mut b = GraphBuilder::new("uneven", 17);
    let x = b.input("images", Fact::known(Element::F32, &[1, 3, 16, 16]));
    let factor = |c: usize| 10f32.powi(c as i32 % 4 - 2);
    let y = conv(&mut b, "one", &x, 16, 3, 3);
    let y = b.op("Relu", &[&y]);
    let y = conv(&mut b, "two", &y, 8, 16, 1);
    b.output(&y);
    let g = b.finish().unwrap();
    let mut patch = compresso_model::Patch::new(&g);
    let mut scaled = |name: &str, channel: &dyn Fn(usize) -> usize, up: bool| {
        let c = g.constant(name).unwrap();
        let one = |(i, v): (usize, f32)| if up { v * factor(channel(i)) } else { v / factor(channel(i)) };
        let values: Vec<f32> = c.to_f32s().unwrap().into_iter().enumerate().map(one).collect();
        patch.set_constant(name, Constant::floats(c.dims(), &values).unwrap());
    };
    scaled("one.weight", &|i| i / 27, true);
    scaled("one.bias", &|i| i, true);
    scaled("two.weight", &|i| i % 16, false);
    Model::new(patch.apply().unwrap(), Task::Unknown)
}

#[test]
fn equalized_layers_keep_channels_that_one_scale_would_lose() {
    let m = uneven();
    let (plain, even) = (decibels(&m, &base()), decibels(&m, &Quantize { equalize: true, ..base() }));
    assert!(even > plain + 6.0 && even > 25.0, "{plain:.1} dB became {even:.1} dB");
}

#[test]
fn the_sensitive_layer_is_found_and_leaving_it_in_float_gains() {
    let m = uneven();
    let layers = Layers { quantize: Quantize { images: 8, ..base() }, images: 4, scored: false };
    let report = layers.measure(&m, &images(16), &ctx()).unwrap();
    assert!(report.held_out && report.images == 4);
    // The worst has the longest bar.
    use compresso_base::report::Show;
    let bars = &report.plots()[0].series[0].points;
    assert!(bars[0].1 > bars[1].1 && bars[1].1 > 0.0, "{bars:?}");
    assert_eq!(report.layers.len(), 2);
    // The second layer reads the uneven channels.
    let worst = &report.layers[0];
    assert_eq!((worst.layer.as_str(), worst.weights), ("two", 128));
    assert!(worst.alone_sqnr_db.unwrap() + 6.0 < report.layers[1].alone_sqnr_db.unwrap(), "{report:?}");
    assert!(worst.float_gain_db.unwrap() > 6.0 && worst.alone_cosine < report.layers[1].alone_cosine);
    // When one layer is rounded alone, nothing else is.
    let exact = Quantize { include: vec!["two".into()], images: 8, ..base() };
    let judge = |options: &Quantize| {
        let g = passes::pipelines::QUANTIZE.run(m.graph()).unwrap().graph;
        let q = options.apply(&m, Some(&images(16)), &ctx()).unwrap();
        Judge::new(&g, m.task(), &images(16), 8, 4, &ctx()).unwrap().error(q.graph()).unwrap().sqnr_db()
    };
    assert!((judge(&exact) - worst.alone_sqnr_db.unwrap()).abs() < 0.1);
}

#[test]
fn ranges_show_what_each_observer_makes_and_name_outlying_channels() {
    let m = uneven();
    let report = ShowRanges { images: 4, ..ShowRanges::default() }.run((&m, &images(4)), &ctx()).unwrap();
    assert_eq!(report.images, 4);
    let value = report.values.iter().find(|v| v.made_by == "Relu").unwrap();
    assert!(value.spread > 10.0 && !value.outliers.is_empty() && value.outliers.iter().all(|(c, _)| c % 4 == 3), "{:?}", value.outliers);
    let names: Vec<&str> = value.observers.iter().map(|o| o.0).collect();
    assert_eq!(names, ["minmax", "mse", "entropy", "percentile"]);
    assert!(value.zeros > 0.1 && (value.histogram.iter().sum::<f64>() - 1.0).abs() < 1e-6);
    assert_eq!(report.values.iter().find(|v| v.made_by == "input").unwrap().observers[0].1.min, 0.0);
}

#[test]
fn what_judges_takes_no_part_in_calibration() {
    let m = chain();
    let shares = |all: usize, count: usize| {
        let s = calibrate::Shares::of(m.graph(), &images(all), count).unwrap();
        (s.calibrated, s.from, s.judges, s.apart())
    };
    assert_eq!(shares(20, 12), (12, 12, 8, true));
    assert_eq!(shares(20, 20), (16, 16, 4, true));
    assert_eq!(shares(20, 100), (16, 16, 4, true));
    assert_eq!(shares(4, 8), (4, 0, 4, false));
    // Two images a run.
    let s = calibrate::Shares::of(classifier().graph(), &images(11), 6).unwrap();
    assert_eq!((s.calibrated, s.from, s.judges), (6, 6, 4));
    let notes = std::sync::Arc::new(compresso_base::context::Notes::default());
    let told = |count: usize, observer: &str| {
        let ctx = Context::new().with_progress(notes.clone());
        let options = Quantize { images: count, observer: Observe::named(observer).unwrap(), ..base() };
        options.apply(&m, Some(&images(4)), &ctx).unwrap();
        notes.take().join("\n")
    };
    let said = told(8, "minmax");
    assert!(said.contains("4 images; ") && said.contains("on 4 images of the calibration, too few to hold some out: "), "{said}");
    let said = told(3, "auto");
    assert!(said.contains("on 1 held-out image: ") && said.contains("takes the ranges of \"mse\""), "{said}");
}

#[test]
fn ranges_that_leave_out_much_are_named() {
    let notes = std::sync::Arc::new(compresso_base::context::Notes::default());
    let ctx = Context::new().with_progress(notes.clone());
    let of = |observer: serde_json::Value| {
        let options: Quantize = compresso_base::operation::decode(serde_json::json!({ "images": 8, "observer": observer })).unwrap();
        options.run((&chain(), Some(&images(16))), &ctx).unwrap().report.unwrap()
    };
    let most = of(serde_json::json!({ "name": "percentile", "percentile": 60 }));
    let worst = &most.clipped[0];
    assert!(worst.sqnr_db < 20.0 && (worst.kept.max < worst.seen.max || worst.kept.min > worst.seen.min), "{worst:?}");
    assert!(most.clipped.is_sorted_by(|a, b| a.sqnr_db <= b.sqnr_db));
    let said = notes.take().join("\n");
    assert!(said.contains(&format!("warning: the observer clips much of what calibration saw: {}", worst.text())), "{said}");
    assert!(of(serde_json::json!("mse")).clipped.is_empty() && of(serde_json::json!("minmax")).clipped.is_empty());
}

#[test]
fn options_that_change_nothing_are_told() {
    let notes = std::sync::Arc::new(compresso_base::context::Notes::default());
    let ctx = Context::new().with_progress(notes.clone());
    let told = |options: serde_json::Value, data: Option<&Dataset>| {
        compresso_base::operation::decode::<Quantize>(options).unwrap().apply(&chain(), data, &ctx).unwrap();
        notes.take().into_iter().filter(|n| n.contains("change")).collect::<Vec<_>>()
    };
    let data = images(8);
    let dynamic = serde_json::json!({ "mode": "dynamic", "observer": "mse", "images": 4 });
    assert_eq!(
        told(dynamic, None),
        ["quantize: 'observer' and 'images' change nothing with mode: \"dynamic\", which calibrates no activations"]
    );
    let alone = serde_json::json!({ "activations": false, "symmetric": true });
    assert_eq!(told(alone, None), ["quantize: 'symmetric' changes nothing with activations: false, which calibrates no activations"]);
    // These look at images.
    assert!(told(serde_json::json!({ "mode": "dynamic", "bias_correction": true, "images": 4 }), Some(&data)).is_empty());
    assert!(told(serde_json::json!({ "observer": "mse", "images": 4 }), Some(&data)).is_empty());
    // SiLU lets no factors through.
    compresso_base::operation::decode::<Quantize>(serde_json::json!({ "equalize": true, "images": 4 }))
        .unwrap()
        .apply(&chain(), Some(&data), &ctx)
        .unwrap();
    assert!(notes.take().iter().any(|n| n.starts_with("quantize: equalize moves nothing: no two convolutions")));
}

/// Inputs and weights that leave nothing to choose from: constant, zero, huge, tiny, one image.
#[test]
fn degenerate_models_have_scales_that_are_numbers_and_outputs_that_are_finite() {
    let scaled = |factor: f32, name: &str| {
        let m = chain();
        let mut patch = compresso_model::Patch::new(m.graph());
        let c = m.graph().constant(name).unwrap();
        let values: Vec<f32> = c.to_f32s().unwrap().iter().map(|v| v * factor).collect();
        patch.set_constant(name, Constant::floats(c.dims(), &values).unwrap());
        Model::new(patch.apply().unwrap(), Task::Unknown)
    };
    let models = [
        ("plain", chain()),
        ("zero weights", scaled(0.0, "b.weight")),
        ("huge weights", scaled(1e30, "d.weight")),
        ("tiny weights", scaled(1e-35, "c.weight")),
        ("huge bias", scaled(1e12, "b.bias")),
    ];
    for (name, m) in &models {
        for observer in OBSERVERS.iter().map(|d| Observe::of(d)) {
            for (bits, rounding) in [(8, Rounding::Nearest), (4, Rounding::Adaround)] {
                let options =
                    Quantize { images: 1, observer: observer.clone(), weight_bits: bits, rounding, bias_correction: true, ..base() };
                let place = format!("{name}, {}, {bits} bits", observer.entry().name);
                let q = options.apply(m, Some(&images(1)), &ctx()).unwrap_or_else(|e| panic!("{place}: {e}"));
                for (constant, c) in q.graph().constants().iter().filter(|(n, _)| n.ends_with("_scale")) {
                    assert!(c.to_f32s().unwrap().iter().all(|s| s.is_normal() && *s > 0.0), "{place}: {constant}");
                }
                let exact = run(m.graph(), &feeds(m));
                let found = run(q.graph(), &feeds(m));
                assert!(exact.iter().any(|v| !v.is_finite()) || found.iter().all(|v| v.is_finite()), "{place}");
            }
        }
    }
    // What is infinite on the images is an error that says where, whatever the observer.
    let infinite = scaled(f32::MAX, "d.bias");
    for observer in OBSERVERS.iter().map(|d| Observe::of(d)) {
        match (Quantize { observer, ..base() }).apply(&infinite, Some(&images(2)), &ctx()) {
            Ok(q) => {
                assert!(q.graph().constants().iter().all(|(n, c)| !n.ends_with("_scale") || c.to_f32s().unwrap().iter().all(|s| *s > 0.0)))
            }
            Err(e) => assert!(e.to_string().contains("infinite or not a number"), "{e}"),
        }
    }
}
