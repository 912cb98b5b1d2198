//! Activations that the layer before them does on what it makes.

use super::net::{Layer, Net, Param};
use std::collections::HashSet;

/// Layers that end with an activation, those of any number of axes among them.
const LAYERS: &[&str] = &["Convolution", "Deconvolution", "InnerProduct"];

/// A layer's activation by NCNN's number, with its parameters.
fn activation(layer: &Layer) -> Option<(usize, Vec<f32>)> {
    let float = |id: u32| layer.params.iter().find_map(|(i, p)| if let (true, Param::Float(v)) = (*i == id, p) { Some(*v) } else { None });
    Some(match layer.kind {
        "ReLU" => match float(0) {
            None => (1, Vec::new()),
            Some(slope) => (2, vec![slope]),
        },
        "Clip" => (3, vec![float(0)?, float(1)?]),
        "Sigmoid" => (4, Vec::new()),
        "Mish" => (5, Vec::new()),
        "HardSwish" => (6, vec![float(0)?, float(1)?]),
        _ => return None,
    })
}

/// Joins each activation with the layer before it, where it alone reads that.
pub(super) fn fuse(net: &mut Net) {
    let mut reads = vec![0usize; net.blobs];
    let mut maker = vec![None; net.blobs];
    net.outputs.iter().chain(net.layers.iter().flat_map(|l| &l.inputs)).for_each(|&b| reads[b] += 1);
    for (i, layer) in net.layers.iter().enumerate() {
        layer.outputs.iter().for_each(|&b| maker[b] = Some(i));
    }
    let mut gone = HashSet::new();
    for i in 0..net.layers.len() {
        let Some((kind, params)) = activation(&net.layers[i]) else { continue };
        let [blob] = net.layers[i].inputs[..] else { continue };
        let Some(before) = maker[blob].filter(|_| reads[blob] == 1) else { continue };
        // One that has an activation already makes another blob.
        if LAYERS.iter().any(|l| net.layers[before].kind.starts_with(l)) && net.layers[before].outputs == [blob] {
            let outputs = std::mem::take(&mut net.layers[i].outputs);
            let layer = &mut net.layers[before];
            layer.params.push((9, Param::Int(i64::try_from(kind).unwrap_or_default())));
            if !params.is_empty() {
                layer.params.push((10, Param::Floats(params)));
            }
            layer.outputs = outputs;
            gone.insert(i);
        }
    }
    let mut number = 0..;
    net.layers.retain(|_| number.next().is_none_or(|i: usize| !gone.contains(&i)));
}
