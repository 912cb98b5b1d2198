//! What the tests of several crates share: fixtures, comparisons, seeded numbers. It knows no crate of the project.

use candle_core::{Device, Tensor};
use std::collections::HashMap;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Numbers that follow from a seed: Knuth's linear congruential generator.
#[derive(Debug, Clone)]
pub struct Draw(pub u64);

impl Draw {
    /// The next number, of whose bits the higher ones are the better.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0
    }
    /// Of [0, 1).
    pub fn unit(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1u64 << 24) as f32
    }
    /// Of [-1, 1).
    pub fn signed(&mut self) -> f32 {
        2.0 * self.unit() - 1.0
    }
}

/// Numbers of [-1, 1) that follow from a seed.
pub fn noise(n: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
    (0..n)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

/// A file or folder of `tests/fixtures` in the checkout whose tests run: cargo names the folder of the tested crate, and a path from when
/// this crate was built would point into another checkout that shares the folder of build outputs.
///
/// # Panics
/// When it is not run by cargo, or outside a checkout.
pub fn fixture(path: impl AsRef<Path>) -> PathBuf {
    let krate = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo runs the tests"));
    let fixtures = krate.ancestors().map(|folder| folder.join("tests/fixtures")).find(|folder| folder.is_dir());
    fixtures.expect("a checkout").join(path)
}

/// The arrays of a fixture (.npz), as float32.
///
/// # Panics
/// When the file is not there or holds another type of numbers.
pub fn arrays(path: impl AsRef<Path>) -> HashMap<String, Tensor> {
    let mut zip = zip::ZipArchive::new(std::fs::File::open(fixture(path)).unwrap()).unwrap();
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

/// All elements, in order.
pub fn values(t: &Tensor) -> Vec<f32> {
    t.flatten_all().unwrap().to_vec1().unwrap()
}

/// Largest difference relative to the largest expected magnitude.
pub fn relative(got: &Tensor, expected: &Tensor) -> f32 {
    assert_eq!(got.elem_count(), expected.elem_count());
    let (got, expected) = (values(got), values(expected));
    let size = expected.iter().fold(1e-12f32, |m, v| m.max(v.abs()));
    got.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) / size
}
