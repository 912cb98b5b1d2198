//! Whole models.

use super::common;
use super::judge::{Judge, Verdict, feeds};
use compresso::Context;
use compresso::compress::prune::{Granularity, Prune};
use compresso::compress::quantize::Quantize;
use compresso::compress::quantize::calibrate::Images;
use compresso::deploy::{CoremlExport, ExportPrecision};
use compresso::learn::data::{DataOptions, Dataset, dataset};
use compresso::model::zoo::{ZooOptions, build};
use compresso::model::{Constant, Model, Patch};
use compresso::target::coreml::{self, Weights};
use compresso::target::{Artefact, Target};
use std::collections::BTreeMap;

fn zoo(name: &str) -> Model {
    common::lively(&build(name, &ZooOptions { image_size: Some([64, 64]), width: Some(0.25), ..ZooOptions::default() }).unwrap())
}

/// Writes a model as the target's writer alone does, computing in float32 with its weights in this form.
fn written(judge: &Judge, name: &str, model: &Model, weights: Weights) {
    let settings = weights.settings();
    let artefact = Artefact {
        model,
        precision: ExportPrecision::of(model.graph()),
        name: "model",
        batch: [1, 1],
        image_size: Some([64, 64]),
        calibration: None,
        notes: &[],
        settings: &settings,
    };
    (coreml::SPEC.write)(&artefact, &judge.path(name)).unwrap();
}

/// The model with channels of very different sizes, as batch norms leave them.
fn uneven(m: &Model) -> Model {
    let mut patch = Patch::new(m.graph());
    for (name, c) in m.graph().constants().iter().filter(|(n, c)| n.ends_with(".weight") && c.dims().len() == 4) {
        let each = c.count() / c.dims()[0];
        let values: Vec<f32> = c.to_f32s().unwrap().iter().enumerate().map(|(i, v)| v * [1.7, 0.3, 0.05, 0.9][i / each % 4]).collect();
        patch.set_constant(name, Constant::floats(c.dims(), &values).unwrap());
    }
    Model::new(patch.apply().unwrap(), m.task().clone())
}

/// Largest differences and least cosines that are allowed, by package.
type Bounds = BTreeMap<String, (f64, f64)>;

/// Models in each precision, against the float model.
fn floats(judge: &Judge, bounds: &mut Bounds) {
    let ctx = Context::new();
    let mut add = |name: String, model: &Model, how: &CoremlExport, bound: (f64, f64)| {
        how.apply(model, judge.path(&name), None, &ctx).unwrap_or_else(|e| panic!("{name}: {e}"));
        judge.expect(&name, model.graph(), &feeds(model.graph(), 1));
        bounds.insert(name, bound);
    };
    let all = ["yolov5nu", "yolov8n", "yolo11n", "yolo12n", "yolo26n", "yolov10n", "mobile_yolo", "resnet18", "mobilenet_v2"];
    for name in all {
        let model = zoo(name);
        add(format!("{name}_fp32"), &model, &CoremlExport::default(), (1e-3, 0.999));
        if ["yolov8n", "yolo11n", "mobilenet_v2"].contains(&name) {
            let fp16 = CoremlExport { precision: Some(ExportPrecision::Fp16), ..CoremlExport::default() };
            add(format!("{name}_fp16"), &model, &fp16, (2e-2, 0.999));
            let int8 = CoremlExport { precision: Some(ExportPrecision::Int8), ..CoremlExport::default() };
            add(format!("{name}_int8"), &model, &int8, (f64::INFINITY, 0.99));
            for bits in [8, 6] {
                let palette = CoremlExport { palettize: Some(bits), ..CoremlExport::default() };
                add(format!("{name}_palette_{bits}"), &model, &palette, (f64::INFINITY, 0.99));
            }
        }
    }
}

fn shapes(images: usize) -> Dataset {
    dataset("shapes", &DataOptions { images: Some(images), ..DataOptions::default() }, &Context::new()).unwrap()
}

/// Weights in another form, against the weights that they stand for; quantized and pruned models, against themselves.
fn compressed(judge: &Judge, bounds: &mut Bounds) {
    let (data, ctx) = (shapes(4), Context::new());
    let (model, resnet) = (zoo("yolov8n"), zoo("resnet18"));
    let inputs = feeds(model.graph(), 2);
    let forms =
        [("same_int8", Weights::Int8), ("same_2", Weights::Palette(2)), ("same_4", Weights::Palette(4)), ("same_6", Weights::Palette(6))];
    for (name, weights) in forms {
        written(judge, name, &model, weights);
        judge.expect(name, &coreml::computed(model.graph(), weights).unwrap(), &inputs);
        bounds.insert(name.into(), (1e-3, 0.999));
    }
    let uneven = uneven(&resnet);
    for (name, bits, bound) in [("same_4_uneven", 4, (1e-3, 0.999)), ("palette_6_uneven", 6, (f64::INFINITY, 0.99))] {
        written(judge, name, &uneven, Weights::Palette(bits));
        let weights = if bits == 4 { Weights::Palette(bits) } else { Weights::Kept };
        judge.expect(name, &coreml::computed(uneven.graph(), weights).unwrap(), &feeds(uneven.graph(), 3));
        bounds.insert(name.into(), bound);
    }
    let image = |m: &Model| Images::new(m.graph(), m.task(), &data, 1, &ctx).unwrap().next().unwrap().unwrap().1;
    let quantize = Quantize { images: 4, score: false, target: Target(&coreml::SPEC), ..Quantize::default() };
    let pruned = Prune { ratio: 0.3, align: 1, ..Prune::default() }.apply(&zoo("mobile_yolo"), None, &ctx).unwrap();
    for (name, model) in [("quantized", &model), ("quantized_pruned", &pruned), ("quantized_resnet", &resnet)] {
        let q = quantize.apply(model, Some(&data), &ctx).unwrap();
        CoremlExport::default().apply(&q, judge.path(name), None, &ctx).unwrap();
        judge.expect(name, q.graph(), &image(&q));
        // Where a number lies between two integers, the order of a sum decides.
        bounds.insert(name.into(), (5e-2, 0.99));
    }
    let sparse = Prune { ratio: 0.7, method: Granularity::Weights, ..Prune::default() }.apply(&resnet, None, &ctx).unwrap();
    for (name, model) in [("sparse", &sparse), ("dense", &resnet)] {
        written(judge, name, model, Weights::Kept);
        judge.expect(name, model.graph(), &feeds(model.graph(), 3));
        bounds.insert(name.into(), (1e-3, 0.999));
    }
    let size = |name: &str| std::fs::metadata(judge.path(name).join("Data/com.apple.CoreML/weights/weight.bin")).unwrap().len();
    assert!(size("sparse") * 2 < size("dense"), "{} and {}", size("sparse"), size("dense"));
    assert!(size("same_4") * 4 < size("same_6") * 3 && size("same_2") * 4 < size("same_4") * 3);
}

/// What stands in a package is what its name says.
fn check_form(name: &str, verdict: &Verdict) {
    let has = |kind: &str| verdict.operations.contains_key(kind);
    let is = |words: &[&str]| words.iter().any(|w| name.contains(w));
    assert_eq!(has("constexpr_lut_to_dense"), is(&["palette", "same_2", "same_4", "same_6"]), "{name}");
    assert_eq!(has("constexpr_affine_dequantize"), is(&["int8", "quantized"]), "{name}");
    assert_eq!(has("constexpr_sparse_to_dense"), name == "sparse", "{name}");
    assert_eq!(has("quantize") && has("dequantize"), is(&["quantized"]), "{name}");
    assert_eq!(verdict.version, if is(&["quantized"]) { 8 } else { 7 }, "{name}");
    assert_eq!(has("cast") && name.starts_with("yolov8n"), ["yolov8n_fp16", "yolov8n_int8"].contains(&name), "{name}");
    assert!(name != "yolov8n_fp32" || has("silu") && has("upsample_nearest_neighbor"), "{:?}", verdict.operations);
}

#[test]
fn models_give_what_our_executor_gives() {
    let (judge, mut bounds) = (Judge::new(), Bounds::new());
    floats(&judge, &mut bounds);
    compressed(&judge, &mut bounds);
    let verdicts = judge.verdicts();
    assert_eq!(verdicts.len(), bounds.len());
    let mut wrong = Vec::new();
    for (name, verdict) in &verdicts {
        println!("{name}: {:?}", verdict.extremes());
        let (worst, cosine) = bounds[name];
        wrong.extend(verdict.wrong(worst, cosine).into_iter().map(|w| format!("{name}: {w}")));
        check_form(name, verdict);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
