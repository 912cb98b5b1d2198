//! Models as other makers bring them (the cheap ones of tests/python/forty_models.py): opened, run, counted, decoded, pruned, quantized.
//! `forty_table.py` does so with all of them; its table is in docs/models.md.

mod common;

use common::assert_close;
use compresso::Context;
use compresso::compress::prune::Prune;
use compresso::compress::quantize::{Quantize, QuantizeMode};
use compresso::exec::{self, Engine, Outputs, Run};
use compresso::learn::data::{DataOptions, Dataset, dataset};
use compresso::learn::eval::decode;
use compresso::measure::runtimes::onnxruntime::Session;
use compresso::model::{LoadOptions, Model, Value, weights};
use compresso::operation;
use indexmap::IndexMap;
use serde_json::Value as Json;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

const CHEAP: [&str; 7] = [
    "yolox_style_op11",
    "nanodet_style_op12",
    "ssd_priors_op14",
    "paddle_lcnet_op11",
    "paddle_text_regions_op11",
    "paddle_text_reader_op14",
    "paddle_picodet_op16",
];

struct Brought {
    model: Model,
    params: u64,
    feeds: HashMap<String, Value>,
    expected: IndexMap<String, Value>,
}

/// Written once: tests run side by side.
fn folder() -> &'static Path {
    static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("brought");
        let made = dir.to_str().unwrap();
        common::python(&[&["tests/python/forty_models.py", made], CHEAP.as_slice()].concat());
        dir
    });
    &FOLDER
}

fn open(dir: &Path, name: &str) -> Brought {
    let said: Json = serde_json::from_slice(&std::fs::read(dir.join(format!("{name}.json"))).unwrap()).unwrap();
    let options: LoadOptions = operation::decode(said["options"].clone()).unwrap();
    let tensors = |kind: &str| weights::load_tensors(dir.join(format!("{name}.{kind}.npz"))).unwrap();
    Brought {
        model: Model::load(dir.join(said["file"].as_str().unwrap()), &options).unwrap(),
        params: said["params"].as_u64().unwrap(),
        feeds: tensors("in").into_iter().collect(),
        expected: tensors("out"),
    }
}

fn assert_outputs(got: &Outputs, expected: &IndexMap<String, Value>) {
    assert_eq!(got.len(), expected.len());
    got.iter().for_each(|(name, v)| assert_close(v, &expected[name], 1e-4));
}

fn images(size: [usize; 2]) -> Dataset {
    let options = DataOptions { images: Some(2), size: Some(serde_json::json!(size)), ..DataOptions::default() };
    dataset("random", &options, &Context::new()).unwrap()
}

#[test]
fn models_of_other_makers_are_run_counted_pruned_and_quantized() {
    let dir = folder();
    for name in CHEAP {
        println!("{name}");
        let b = open(dir, name);
        assert_eq!(b.model.params().unwrap(), b.params, "{name}");
        assert_outputs(&exec::run(b.model.graph(), &b.feeds, Run::default()).unwrap(), &b.expected);
        let mut engine = Engine::new(b.model.graph(), &[], 2).unwrap();
        assert_outputs(&engine.run(&b.feeds, None).unwrap(), &b.expected);
        assert_eq!(engine.refused(), None, "{name}");
        let pruned = Prune { ratio: 0.5, ..Prune::default() }.apply(&b.model, None, &Context::new()).unwrap();
        assert!(pruned.params().unwrap() < b.params * 3 / 4, "{name}: {} of {} parameters are left", pruned.params().unwrap(), b.params);
        let found = Engine::new(pruned.graph(), &[], 2).unwrap().run(&b.feeds, None).unwrap();
        assert_outputs(&found, &Session::from_graph(pruned.graph(), 1).unwrap().run(&b.feeds).unwrap());
        let dims = b.feeds.values().next().unwrap().dims().to_vec();
        for mode in [QuantizeMode::Static, QuantizeMode::Dynamic] {
            let options = Quantize { mode, images: 2, score: false, ..Quantize::default() };
            let q = options.apply(&b.model, Some(&images([dims[2], dims[3]])), &Context::new()).unwrap();
            for session in [Session::from_graph(q.graph(), 1), Session::plain(q.graph(), 1)] {
                let got = session.unwrap().run(&b.feeds).unwrap();
                for (output, e) in &b.expected {
                    let (got, e) = (got[output].to_f64s().unwrap(), e.to_f64s().unwrap());
                    let size = e.iter().fold(0f64, |m, v| m.max(v.abs()));
                    let apart = got.iter().zip(&e).fold(0f64, |m, (a, b)| m.max((a - b).abs())) / size;
                    assert!(apart < 0.25, "{name}, {mode:?}, '{output}': {apart} of the largest value");
                }
            }
        }
    }
}

/// The description that each raw detector comes with finds as many boxes as there are cells, of the classes that it names.
#[test]
fn raw_detectors_are_read_by_their_descriptions() {
    let dir = folder();
    for (name, boxes) in [("yolox_style_op11", 189), ("nanodet_style_op12", 189), ("ssd_priors_op14", 567)] {
        let b = open(dir, name);
        let detect = b.model.task().detect().unwrap();
        let outputs: Outputs = b.expected.clone();
        let found = decode(detect, &outputs, 0.0, false).unwrap();
        assert_eq!(found[0].len(), boxes, "{name}");
        assert!(found[0].iter().all(|d| d.class < detect.classes.len() && d.bbox.is_finite()), "{name}");
    }
}
