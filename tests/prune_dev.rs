use candle_core::{Device, Tensor};
use compresso::Context;
use compresso::compress::prune::{Prune, Scope, groups, prune_report};
use compresso::exec::{Run, run};
use compresso::measure::runtimes::{Runtime, onnxruntime::Session};
use compresso::model::{Element, Fact, Graph, Model, Task, Value, graph::specialize, onnx};
use std::collections::HashMap;

fn feeds(graph: &Graph) -> HashMap<String, Value> {
    let mut state = 7u64;
    let mut out = HashMap::new();
    for input in graph.feeds() {
        let fact: Fact = specialize(&input.fact, 1, Some([320, 320]));
        let dims = fact.dims().unwrap();
        let v: Vec<f32> = (0..dims.iter().product())
            .map(|_| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (state >> 40) as f32 / (1u64 << 24) as f32
            })
            .collect();
        assert_eq!(fact.element, Element::F32);
        out.insert(input.name.clone(), Value::plain(Tensor::from_vec(v, dims, &Device::Cpu).unwrap()).unwrap());
    }
    out
}

struct Say;
impl compresso::context::ProgressSink for Say {
    fn start(&self, _: u64, _: &str, _: u64) {}
    fn update(&self, _: u64, _: u64, _: &str) {}
    fn finish(&self, _: u64) {}
    fn note(&self, l: &str) {
        println!("      {l}");
    }
}

#[test]
fn dev() {
    let want = std::env::var("PM").unwrap_or_default();
    let verbose = std::env::var("PV").is_ok();
    let mut files: Vec<_> =
        std::fs::read_dir("/tmp/pm").unwrap().map(|e| e.unwrap().path()).filter(|p| p.extension().is_some_and(|e| e == "onnx")).collect();
    files.sort();
    for f in files {
        let name = f.file_stem().unwrap().to_str().unwrap().to_string();
        if !want.is_empty() && !want.split(',').any(|w| w == name) {
            continue;
        }
        let graph = match onnx::load(&f) {
            Ok(g) => g,
            Err(e) => {
                println!("{name}: LOAD {e}");
                continue;
            }
        };
        let size = if name.starts_with("yolo") { 320 } else { 64 };
        let task = if name.ends_with("_dyn") {
            Task::Classify(compresso::model::Classify { classes: vec![], image_size: [size, size], output: "x".into() })
        } else {
            Task::Unknown
        };
        let model = Model::new(graph, task);
        let t = std::time::Instant::now();
        match groups(model.graph(), &[]) {
            Ok(g) => {
                println!("{name}: {} groups {} channels, {:?}", g.0.len(), g.0.iter().map(|g| g.channels).sum::<usize>(), t.elapsed());
                if verbose {
                    for g in &g.0 {
                        println!("     {} {:?}", g.channels, g.layers);
                    }
                }
            }
            Err(e) => {
                println!("{name}: GROUPS {e}");
                continue;
            }
        }
        let ratios: &[f64] = if std::env::var("PQ").is_ok() { &[0.5] } else { &[0.25, 0.5, 0.75] };
        for &ratio in ratios {
            for scope in [Scope::Global, Scope::Layer] {
                let ctx = Context::new().with_progress(std::sync::Arc::new(Say));
                let t = std::time::Instant::now();
                let p = match (Prune { ratio, scope, ..Prune::default() }).apply(&model, None, &ctx) {
                    Ok(p) => p,
                    Err(e) => {
                        println!("   {ratio} {scope}: {e}");
                        continue;
                    }
                };
                let took = t.elapsed();
                let r = prune_report(&model, &p).unwrap();
                let (b, a) = r.layers.iter().fold((0, 0), |s, l| (s.0 + l.channels_before, s.1 + l.channels_after));
                let bytes = onnx::encode(p.graph()).unwrap();
                let mut s = match Session::from_bytes(&bytes, 2) {
                    Ok(s) => s,
                    Err(e) => {
                        println!("   ORT: {e}");
                        continue;
                    }
                };
                let mut fs = feeds(p.graph());
                if name.ends_with("_dyn") {
                    for v in fs.values_mut() {
                        let d = v.tensor.narrow(2, 0, size).unwrap().narrow(3, 0, size).unwrap().contiguous().unwrap();
                        *v = Value::plain(Tensor::cat(&[&d, &d], 0).unwrap()).unwrap();
                    }
                }
                let want = s.run(&fs).unwrap();
                let got = run(p.graph(), &fs, Run::default()).unwrap();
                let mut worst = 0f32;
                for (k, w) in &want {
                    let (w, g) = (w.to_f32s().unwrap(), got[k].to_f32s().unwrap());
                    assert_eq!(w.len(), g.len());
                    let scale = w.iter().fold(0f32, |m, v| m.max(v.abs()));
                    worst = worst.max(w.iter().zip(&g).fold(0f32, |m, (a, b)| m.max((a - b).abs())) / scale);
                }
                println!("   {ratio} {scope}: channels {b} -> {a}; ort rel diff {worst:.1e}; {took:?}");
            }
        }
    }
}
