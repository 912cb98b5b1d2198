//! Reading and comparing fixtures, for the tests of losses and training.

use crate::learn::data::{BBox, Target};
use candle_core::{Device, Tensor};
use std::collections::HashMap;
use std::io::Read;
use std::path::PathBuf;

/// The arrays of a fixture, as float32.
pub(crate) fn fixture(name: &str) -> HashMap<String, Tensor> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/train").join(name);
    let mut zip = zip::ZipArchive::new(std::fs::File::open(path).unwrap()).unwrap();
    let names: Vec<String> = (0..zip.len()).map(|i| zip.by_index(i).unwrap().name().unwrap().to_string()).collect();
    let mut read = |file: &str| {
        let mut bytes = Vec::new();
        zip.by_name(file).unwrap().read_to_end(&mut bytes).unwrap();
        let npy = npyz::NpyFile::new(&bytes[..]).unwrap();
        let shape: Vec<usize> = npy.shape().iter().map(|&d| d as usize).collect();
        let kind = npy.dtype().descr();
        let values: Vec<f32> = match kind.trim_matches('\'') {
            "<f4" => npy.into_vec::<f32>().unwrap(),
            // Bits of float16.
            "<u2" => npy.into_vec::<u16>().unwrap().into_iter().map(|b| half::f16::from_bits(b).to_f32()).collect(),
            "<i8" => npy.into_vec::<i64>().unwrap().into_iter().map(|v| v as f32).collect(),
            "|u1" => npy.into_vec::<u8>().unwrap().into_iter().map(f32::from).collect(),
            other => panic!("{other}"),
        };
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    };
    names.iter().map(|n| (n.trim_end_matches(".npy").to_string(), read(n))).collect()
}

pub(crate) fn values(t: &Tensor) -> Vec<f32> {
    t.flatten_all().unwrap().to_vec1().unwrap()
}

/// Largest difference relative to the largest expected magnitude.
pub(crate) fn relative(got: &Tensor, expected: &Tensor) -> f32 {
    assert_eq!(got.elem_count(), expected.elem_count());
    let (got, expected) = (values(got), values(expected));
    let size = expected.iter().fold(1e-12f32, |m, v| m.max(v.abs()));
    got.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) / size
}

/// Targets per image from rows of image, class, x1, y1, x2, y2.
pub(crate) fn targets(rows: &Tensor, images: usize) -> Vec<Vec<Target>> {
    let mut targets = vec![Vec::new(); images];
    for r in rows.to_vec2::<f32>().unwrap() {
        targets[r[0] as usize].push(Target { class: r[1] as usize, bbox: BBox { x1: r[2], y1: r[3], x2: r[4], y2: r[5] } });
    }
    targets
}
