//! Every kernel against the CPU's functions. One body serves both runners: the emulator always and, in a build with the feature `cuda` on
//! a machine with a GPU, the device.

mod compile;
mod emulator;
mod integers;
mod maps;
mod planes;
mod rows;
mod stubs;

use super::Plan;
use crate::tests::values;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The bytes of numbers.
pub(super) trait Bytes {
    fn bytes(&self) -> Vec<u8>;
}

impl Bytes for [f32] {
    fn bytes(&self) -> Vec<u8> {
        self.iter().flat_map(|v| v.to_ne_bytes()).collect()
    }
}

impl Bytes for [i32] {
    fn bytes(&self) -> Vec<u8> {
        self.iter().flat_map(|v| v.to_ne_bytes()).collect()
    }
}

impl Bytes for [i8] {
    fn bytes(&self) -> Vec<u8> {
        self.iter().map(|&v| v.cast_unsigned()).collect()
    }
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|b| f32::from_ne_bytes(*b)).collect()
}

fn ints(bytes: &[u8]) -> Vec<i32> {
    bytes.as_chunks::<4>().0.iter().map(|b| i32::from_ne_bytes(*b)).collect()
}

/// Runs a plan on each runner that there is, and hands its results to `judge`.
fn each(plan: &Plan, inputs: &[Vec<u8>], judge: impl Fn(&str, &[Vec<u8>])) {
    if let Some(results) = emulator::run(plan, inputs) {
        judge("emulated", &results);
    }
    #[cfg(feature = "cuda")]
    if let Some(results) = device::run(plan, inputs) {
        judge("on the device", &results);
    }
}

/// [`each`] for floats that come out as expected, within `tolerance` of the largest.
fn expect(what: &str, plan: &Plan, inputs: &[&[f32]], expected: &[&[f32]], tolerance: f32) {
    let inputs: Vec<Vec<u8>> = inputs.iter().map(|x| x.bytes()).collect();
    each(plan, &inputs, |runner, results| {
        assert_eq!(results.len(), expected.len());
        for (i, (got, wanted)) in results.iter().zip(expected).enumerate() {
            close(&format!("{what}, result {i}, {runner}"), &floats(got), wanted, tolerance);
        }
    });
}

fn close(what: &str, got: &[f32], wanted: &[f32], tolerance: f32) {
    assert_eq!(got.len(), wanted.len(), "{what}");
    let largest = wanted.iter().filter(|v| v.is_finite()).fold(1.0f32, |m, v| m.max(v.abs()));
    for (i, (g, w)) in got.iter().zip(wanted).enumerate() {
        let same = g.to_bits() == w.to_bits() || g.is_nan() && w.is_nan() || (g - w).abs() <= tolerance * largest;
        assert!(same, "{what}[{i}]: got {g}, expected {w}");
    }
}

/// A plan whose buffers are too small, whose kernel gets other arguments, or whose threads do not all write, is found out. Without this the
/// other tests would say nothing about addresses.
#[test]
fn the_emulator_sees_what_is_wrong_with_a_plan() {
    let good = super::plans::softmax(crate::softmax::Kind::Softmax, 3, 5, 1).unwrap();
    let input = [values(15, 1).bytes()];
    if emulator::run(&good, &input).is_none() {
        return;
    }
    let fault = |change: &dyn Fn(&mut Plan)| {
        let mut plan = good.clone();
        change(&mut plan);
        let panic = catch_unwind(AssertUnwindSafe(|| emulator::run(&plan, &input))).unwrap_err();
        panic.downcast_ref::<String>().cloned().unwrap()
    };
    let text = fault(&|p| p.made[0].len -= 1);
    assert!(text.contains("heap-buffer-overflow") && text.contains("softmax.cu"), "{text}");
    let text = fault(&|p| p.launches[0].args.swap(0, 2));
    assert!(text.contains("softmax_rows takes bbiii, got ibbii"), "{text}");
    let text = fault(&|p| p.launches[0].args[2] = super::Arg::Int(2));
    assert!(text.contains("not all written"), "{text}");
    let text = fault(&|p| p.launches[0].args[1] = super::Arg::Buffer(0));
    assert!(text.contains("writes its input"), "{text}");
}

#[cfg(feature = "cuda")]
mod device {
    use super::super::{Element, Plan, run as on_device};
    use candle_core::{DType, Device, Tensor};
    use std::sync::OnceLock;

    /// The bytes of the results; `None` where there is no GPU.
    pub fn run(plan: &Plan, inputs: &[Vec<u8>]) -> Option<Vec<Vec<u8>>> {
        static DEVICE: OnceLock<Option<Device>> = OnceLock::new();
        let device = DEVICE.get_or_init(|| {
            let device = Device::new_cuda(0).map_err(|e| eprintln!("no GPU, kernels are only emulated: {e}"));
            assert!(device.is_ok() || std::env::var_os("COMPRESSO_NEEDS_CUDA").is_none(), "COMPRESSO_NEEDS_CUDA is set");
            device.ok()
        });
        let device = device.as_ref()?;
        let tensors: Vec<Tensor> = plan
            .inputs
            .iter()
            .zip(inputs)
            .map(|(buffer, bytes)| {
                let dtype = match buffer.element {
                    Element::F32 => DType::F32,
                    Element::I32 => DType::I32,
                    Element::U32 => DType::U32,
                    Element::U8 => DType::U8,
                };
                Tensor::from_raw_buffer(bytes, dtype, &[buffer.len], device).unwrap()
            })
            .collect();
        let results = on_device(plan, &tensors.iter().collect::<Vec<_>>()).unwrap();
        let bytes = |t: &Tensor| match t.dtype() {
            DType::F32 => super::Bytes::bytes(t.to_vec1::<f32>().unwrap().as_slice()),
            DType::I32 => super::Bytes::bytes(t.to_vec1::<i32>().unwrap().as_slice()),
            DType::U8 => t.to_vec1::<u8>().unwrap(),
            other => panic!("results of {other:?}"),
        };
        Some(results.iter().map(bytes).collect())
    }
}
