//! Whole models.

use super::common;
use super::judge::{Judge, feeds};
use compresso::Context;
use compresso::compress::prune::{Granularity, Prune};
use compresso::compress::quantize::Quantize;
use compresso::compress::quantize::calibrate::Images;
use compresso::deploy::{CoremlExport, ExportPrecision};
use compresso::learn::data::{DataOptions, Dataset, dataset};
use compresso::model::Model;
use compresso::model::zoo::{ZooOptions, build};
use compresso::target::coreml::{self, Weights};
use compresso::target::{Artefact, Target};

fn zoo(name: &str, width: f64) -> Model {
    common::lively(&build(name, &ZooOptions { image_size: Some([64, 64]), width: Some(width), ..ZooOptions::default() }).unwrap())
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

#[test]
fn models_give_what_our_executor_gives() {
    let judge = Judge::new();
    let ctx = Context::new();
    let mut bounds = std::collections::BTreeMap::new();
    let mut add = |name: String, model: &Model, how: &CoremlExport, bound: (f64, f64)| {
        how.apply(model, judge.path(&name), None, &ctx).unwrap_or_else(|e| panic!("{name}: {e}"));
        judge.expect(&name, model.graph(), &feeds(model.graph(), 1));
        bounds.insert(name, bound);
    };
    let all = ["yolov5nu", "yolov8n", "yolo11n", "yolo12n", "yolo26n", "yolov10n", "mobile_yolo", "resnet18", "mobilenet_v2"];
    for name in all {
        let model = zoo(name, 0.25);
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
    let mut wrong = Vec::new();
    for (name, verdict) in judge.verdicts() {
        println!("{name}: {:?}", verdict.extremes());
        let (worst, cosine) = bounds[&name];
        wrong.extend(verdict.wrong(worst, cosine).into_iter().map(|w| format!("{name}: {w}")));
        let has = |kind: &str| verdict.operations.contains_key(kind);
        assert_eq!(has("constexpr_lut_to_dense"), name.contains("palette"), "{name}");
        assert_eq!(has("constexpr_affine_dequantize"), name.contains("int8"), "{name}");
        assert_eq!(has("cast") && name.starts_with("yolov8n"), ["yolov8n_fp16", "yolov8n_int8"].contains(&&*name), "{name}");
        if name == "yolov8n_fp32" {
            assert!(has("silu") && has("upsample_nearest_neighbor"), "{:?}", verdict.operations);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn shapes(images: usize) -> Dataset {
    dataset("shapes", &DataOptions { images: Some(images), ..DataOptions::default() }, &Context::new()).unwrap()
}

/// Weights in another form make what our executor makes of the weights that they stand for; so do quantized and pruned models.
#[test]
fn compressed_models_give_what_our_executor_gives_of_the_same_numbers() {
    let (judge, data, ctx) = (Judge::new(), shapes(4), Context::new());
    let model = zoo("yolov8n", 0.25);
    let inputs = feeds(model.graph(), 2);
    for (name, weights) in [
        ("int8", Weights::Int8),
        ("palette_2", Weights::Palette(2)),
        ("palette_4", Weights::Palette(4)),
        ("palette_6", Weights::Palette(6)),
    ] {
        written(&judge, name, &model, weights);
        judge.expect(name, &coreml::computed(model.graph(), weights).unwrap(), &inputs);
    }
    let image = |m: &Model| Images::new(m.graph(), m.task(), &data, 1, &ctx).unwrap().next().unwrap().unwrap().1;
    let quantize = Quantize { images: 4, score: false, target: Target(&coreml::SPEC), ..Quantize::default() };
    let pruned = Prune { ratio: 0.3, align: 1, ..Prune::default() }.apply(&zoo("mobile_yolo", 0.25), None, &ctx).unwrap();
    for (name, model) in [("quantized", &model), ("quantized_pruned", &pruned), ("quantized_resnet", &zoo("resnet18", 0.25))] {
        let q = quantize.apply(model, Some(&data), &ctx).unwrap();
        CoremlExport::default().apply(&q, judge.path(name), None, &ctx).unwrap();
        judge.expect(name, q.graph(), &image(&q));
    }
    // Half of the weights are zeros.
    let sparse = Prune { ratio: 0.7, method: Granularity::Weights, ..Prune::default() }.apply(&zoo("resnet18", 0.25), None, &ctx).unwrap();
    written(&judge, "sparse", &sparse, Weights::Kept);
    written(&judge, "dense", &zoo("resnet18", 0.25), Weights::Kept);
    judge.expect("sparse", sparse.graph(), &feeds(sparse.graph(), 3));
    judge.expect("dense", zoo("resnet18", 0.25).graph(), &feeds(sparse.graph(), 3));
    let size = |name: &str| std::fs::metadata(judge.path(name).join("Data/com.apple.CoreML/weights/weight.bin")).unwrap().len();
    assert!(size("sparse") * 2 < size("dense"), "{} and {}", size("sparse"), size("dense"));
    assert!(size("palette_4") * 4 < size("palette_6") * 3 && size("palette_2") * 4 < size("palette_4") * 3);
    let mut wrong = Vec::new();
    for (name, verdict) in judge.verdicts() {
        println!(
            "{name}: {:?}, {:?}",
            verdict.extremes(),
            verdict.operations.keys().filter(|k| k.contains("constexpr")).collect::<Vec<_>>()
        );
        let quantized = name.starts_with("quantized");
        // Where a number lies between two integers, the order of a sum decides.
        wrong.extend(verdict.wrong(if quantized { 5e-2 } else { 1e-3 }, 0.99).into_iter().map(|w| format!("{name}: {w}")));
        assert_eq!(verdict.version, if quantized { 8 } else { 7 }, "{name}");
        assert_eq!(verdict.operations.contains_key("quantize"), quantized, "{name}");
        assert_eq!(verdict.operations.contains_key("constexpr_sparse_to_dense"), name == "sparse", "{name}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
