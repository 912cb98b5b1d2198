//! Parameters as PyTorch counts them, whatever an exporter made of the graph; pruning of networks that compute on tokens and in norms.

use compresso::Context;
use compresso::compress::prune::Prune;
use compresso::model::{LoadOptions, Model};
use std::collections::BTreeMap;
use std::path::PathBuf;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/count")
}

fn counts() -> BTreeMap<String, u64> {
    serde_json::from_slice(&std::fs::read(folder().join("counts.json")).unwrap()).unwrap()
}

fn open(name: &str) -> Model {
    Model::load(folder().join(name), &LoadOptions::default()).unwrap()
}

#[test]
fn parameters_are_those_of_pytorch() {
    for (name, params) in counts() {
        assert_eq!(open(&name).params().unwrap(), params, "{name}");
    }
}

/// Exported with and without constant folding, a network is pruned alike, and to less of all that its layers allow.
#[test]
fn exports_of_one_network_are_pruned_alike() {
    let options = Prune { ratio: 0.5, align: 1, min_channels: 1, ..Prune::default() };
    let prune = |m: &Model| options.apply(m, None, &Context::new()).unwrap();
    // The share of multiply-accumulates that is left at most.
    for (name, left) in [("convnext", 0.8), ("vit", 0.95), ("resnet_gn", 0.5), ("head", 0.7)] {
        let (folded, plain) = (open(&format!("{name}_folded.onnx")), open(&format!("{name}_plain.onnx")));
        assert_eq!(folded.macs().unwrap(), plain.macs().unwrap(), "{name}");
        let (a, b) = (prune(&folded), prune(&plain));
        assert_eq!(a.macs().unwrap(), b.macs().unwrap(), "{name}");
        assert_eq!(a.params().unwrap(), b.params().unwrap(), "{name}");
        let share = a.macs().unwrap().unwrap() as f64 / folded.macs().unwrap().unwrap() as f64;
        assert!(share < left, "{name}: {share} of the MACs are left");
    }
    for name in ["swin_plain", "swin_v2_plain", "mobilenet_plain", "resnet_bn_folded"] {
        let m = open(&format!("{name}.onnx"));
        let p = prune(&m);
        assert!(p.params().unwrap() < m.params().unwrap() && p.macs().unwrap() < m.macs().unwrap(), "{name}");
    }
}
