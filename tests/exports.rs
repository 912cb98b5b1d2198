//! The exports to formats of other runtimes as users call them: files, reports, and what the runtimes make of them.

mod common;

use compresso::Context;
use compresso::deploy::{Deployed, ExportPrecision, NcnnExport, OpenvinoExport, TfliteExport};
use compresso::learn::data::{DataOptions, Dataset, dataset};
use compresso::measure::runtimes::named;
use compresso::measure::{Benchmark, benchmark};
use compresso::model::Model;
use compresso::model::zoo::{ZooOptions, build};
use compresso::target::tflite::EndType;
use std::path::Path;

fn zoo(name: &str) -> Model {
    let classes = vec!["circle".into(), "square".into(), "triangle".into()];
    let options = ZooOptions { classes: Some(classes), image_size: Some([64, 64]), width: Some(0.125), ..ZooOptions::default() };
    common::lively(&build(name, &options).unwrap())
}

fn shapes() -> Dataset {
    let options = DataOptions { images: Some(32), size: Some(64.into()), ..DataOptions::default() };
    dataset("shapes", &options, &Context::new()).unwrap()
}

const FORMATS: [&str; 3] = ["openvino", "tflite", "ncnn"];

/// Writes a model in a format, and runs what was written.
fn export(
    format: &str,
    model: &Model,
    data: Option<&Dataset>,
    precision: Option<ExportPrecision>,
    folder: &Path,
) -> compresso::Result<Deployed> {
    let (ctx, images, score, verify) = (Context::new(), 8, false, true);
    match format {
        "openvino" => OpenvinoExport { precision, images, score, verify, ..OpenvinoExport::default() }.apply(
            model,
            folder.join("model.xml"),
            data,
            &ctx,
        ),
        "tflite" => TfliteExport { precision, images, score, verify, ..TfliteExport::default() }.apply(
            model,
            folder.join("model.tflite"),
            data,
            &ctx,
        ),
        _ => NcnnExport { precision, images, score, verify, ..NcnnExport::default() }.apply(
            model,
            folder.join("model_ncnn_model"),
            data,
            &ctx,
        ),
    }
}

/// Formats whose runtime is on this machine; that of the test environment has all.
fn present() -> impl Iterator<Item = &'static str> {
    let tested = std::env::var_os("COMPRESSO_PYTHON").is_some();
    FORMATS.into_iter().filter(move |format| match (named(format).unwrap().find)() {
        Ok(_) => true,
        Err(absent) => {
            assert!(!tested, "COMPRESSO_PYTHON is set, but {}", absent.reason);
            eprintln!("NOT TESTED: {format}: {}", absent.reason);
            false
        }
    })
}

#[test]
fn each_format_is_written_and_run_in_each_precision() {
    let (model, data, dir) = (zoo("yolov8n"), shapes(), tempfile::tempdir().unwrap());
    for format in present() {
        for (precision, bound, least) in
            [(ExportPrecision::Fp32, 1e-3, 0.99999), (ExportPrecision::Fp16, 2e-2, 0.9999), (ExportPrecision::Int8, 1.0, 0.99)]
        {
            let folder = dir.path().join(format!("{format}_{precision}"));
            let made =
                export(format, &model, Some(&data), Some(precision), &folder).unwrap_or_else(|e| panic!("{format} {precision}: {e}"));
            let name = format!("{format} {precision}");
            assert_eq!(made.files.len(), made.bytes.len());
            assert!(made.files.iter().zip(&made.bytes).all(|(f, &b)| std::fs::metadata(f).unwrap().len() == b && b > 0), "{name}");
            let element = match precision {
                ExportPrecision::Fp32 => "float32",
                ExportPrecision::Fp16 => "float16",
                ExportPrecision::Int8 | ExportPrecision::Dynamic | ExportPrecision::Int16 => "int8",
            };
            assert!(made.layers[element] > 50, "{name}: {:?}", made.layers);
            let verified = made.verified.unwrap();
            assert_eq!((verified.runtime.as_str(), verified.outputs.len()), (format, 1), "{name}");
            assert_eq!(verified.outputs[0].count, 4 * 7 * 84, "{name}: all numbers of four images");
            assert!(verified.outputs[0].max_rel < bound && verified.outputs[0].cosine > least, "{name}: {:?}", verified.outputs);
            let score = verified.score.unwrap();
            assert_eq!((score.measure.as_str(), score.images), ("mAP50-95", 8), "{name}");
            assert!((score.ours - score.theirs).abs() < 0.02, "{name}: {score:?}");
        }
        // Half the bytes.
        let size = |p: &str| -> u64 {
            let folder = dir.path().join(format!("{format}_{p}"));
            let files = std::fs::read_dir(&folder).unwrap().flatten().flat_map(|e| {
                if e.path().is_dir() { std::fs::read_dir(e.path()).unwrap().flatten().map(|e| e.path()).collect() } else { vec![e.path()] }
            });
            files.map(|f| std::fs::metadata(f).unwrap().len()).sum()
        };
        assert!(size("fp16") < size("fp32") * 6 / 10 && size("int8") < size("fp16"), "{format}");
    }
}

/// A package that starts a process when it is imported leaves it behind, for the worker ends without asking.
#[test]
fn a_worker_starts_no_process() {
    let head = include_str!("../src/measure/runtimes/python/worker.py").split("# Codes of").next().unwrap();
    for (format, module) in [("openvino", "openvino"), ("tflite", "ai_edge_litert.interpreter"), ("ncnn", "ncnn")] {
        if !present().any(|f| f == format) {
            continue;
        }
        let program = format!("{head}\nimport time\nos.register_at_fork(before=lambda: os._exit(7))\nimport {module}\ntime.sleep(0.5)\n");
        let status = std::process::Command::new(common::python_path()).args(["-B", "-c", &program]).status().unwrap();
        assert!(status.success(), "{module} starts a process: {status}");
    }
}

#[test]
fn files_for_tflite_with_integers_at_their_ends_are_verified_with_floats() {
    if !present().any(|format| format == "tflite") {
        return;
    }
    let (model, data, dir) = (zoo("mobilenet_v2"), shapes(), tempfile::tempdir().unwrap());
    let path = dir.path().join("model.tflite");
    let options = TfliteExport {
        precision: Some(ExportPrecision::Int8),
        images: 8,
        score: false,
        verify: true,
        inputs: EndType::Uint8,
        outputs: EndType::Int8,
        ..TfliteExport::default()
    };
    let made = options.apply(&model, &path, Some(&data), &Context::new()).unwrap();
    let output = &made.verified.unwrap().outputs[0];
    assert!(output.cosine > 0.99 && output.max_rel < 0.1, "{output:?}");
    assert!(
        made.notes.iter().any(|n| n.starts_with("input 'images' is uint8: scale 0.0039") && n.ends_with("zero point 0")),
        "{:?}",
        made.notes
    );
    assert!(made.notes.iter().any(|n| n.starts_with("output '") && n.contains("' is int8: scale ")), "{:?}", made.notes);
    let options = TfliteExport { precision: Some(ExportPrecision::Dynamic), verify: true, ..TfliteExport::default() };
    let made = options.apply(&model, &path, None, &Context::new()).unwrap();
    assert!(made.verified.unwrap().outputs[0].cosine > 0.99 && made.layers["int8"] > 30, "{:?}", made.layers);
}

#[test]
fn a_quantized_model_is_written_as_it_is() {
    let (model, data, dir) = (zoo("classifier"), shapes(), tempfile::tempdir().unwrap());
    for format in present() {
        let target = compresso::target::Target::find(format).unwrap();
        let quantize = compresso::compress::quantize::Quantize { target, images: 8, score: false, ..Default::default() };
        let quantized = quantize.apply(&model, Some(&data), &Context::new()).unwrap();
        let made = export(format, &quantized, None, None, &dir.path().join(format)).unwrap();
        assert_eq!(made.precision, ExportPrecision::Int8, "{format}");
        assert!(made.layers.contains_key("int8"), "{format}: {:?}", made.layers);
        let verified = made.verified.unwrap();
        assert!(verified.dataset.is_none() && verified.outputs[0].cosine > 0.99, "{format}: {:?}", verified.outputs);
        let e = export(format, &quantized, None, Some(ExportPrecision::Fp16), &dir.path().join("no")).unwrap_err().to_string();
        assert!(e.contains("the model is quantized"), "{e}");
        assert!(!dir.path().join("no").exists(), "nothing is half-written");
    }
}

#[test]
fn the_runtimes_are_measured_when_they_are_named() {
    let models = [("net".to_string(), zoo("classifier"))];
    let runtimes: Vec<_> = std::iter::once("native").chain(present()).map(Into::into).collect();
    let options = Benchmark { runs: 3, warmup: 1, power: false, runtimes: Some(runtimes.clone()), batch: 2, ..Benchmark::default() };
    let report = benchmark(&models, None, &options, &Context::new()).unwrap();
    // ncnn has no batch, which is said.
    let measured: Vec<&str> = report.rows.iter().map(|r| r.runtime.as_str()).collect();
    let expected: Vec<&str> = std::iter::once("native").chain(present().filter(|f| *f != "ncnn")).collect();
    assert_eq!(measured, expected, "{:?}", report.warnings);
    assert!(report.rows.iter().all(|r| r.latency.p50_ms > 0.0 && r.batch == 2));
    if present().any(|f| f == "ncnn") {
        assert!(report.warnings.iter().any(|w| w.contains("ncnn")), "{:?}", report.warnings);
    }
    let one = Benchmark { batch: 1, ..options };
    let report = benchmark(&models, None, &one, &Context::new()).unwrap();
    assert_eq!(report.rows.len(), runtimes.len());
    assert!(report.rows.iter().filter(|r| r.runtime != "native").all(|r| r.peak_memory_bytes.is_some_and(|b| b > 0)));
    // Without being named they are not.
    let report = benchmark(&models, None, &Benchmark { runtimes: None, ..one }, &Context::new()).unwrap();
    assert!(report.rows.iter().all(|r| !FORMATS.contains(&r.runtime.as_str())));
}

#[test]
fn wrong_paths_and_models_are_refused_before_anything_is_written() {
    let (model, dir, ctx) = (zoo("classifier"), tempfile::tempdir().unwrap(), Context::new());
    let e = OpenvinoExport::default().apply(&model, dir.path().join("m.onnx"), None, &ctx).unwrap_err().to_string();
    assert!(e.contains("must end in .xml"), "{e}");
    let e = TfliteExport::default().apply(&model, dir.path().join("m"), None, &ctx).unwrap_err().to_string();
    assert!(e.contains("must end in .tflite"), "{e}");
    let e = NcnnExport::default().apply(&model, dir.path().join("m.param"), None, &ctx).unwrap_err().to_string();
    assert!(e.contains("a folder"), "{e}");
    let e = NcnnExport { batch: 2, ..NcnnExport::default() }.apply(&model, dir.path().join("m"), None, &ctx).unwrap_err().to_string();
    assert!(e.contains("batch"), "{e}");
    let e = export("tflite", &model, None, Some(ExportPrecision::Int8), dir.path()).unwrap_err().to_string();
    assert!(e.contains("int8 needs images"), "{e}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}
