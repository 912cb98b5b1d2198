//! Kernels for NVIDIA GPUs: what candle lacks there or does in many passes.
//!
//! The kernels are CUDA C in this folder, compiled at run time. A [`Plan`] says which of them run on which buffers with which
//! geometry; [`plans`] has one function per operation, which needs no device. Plans are run on a GPU (`run`, feature `cuda`), and in tests
//! on the CPU, where the same sources are compiled as C++. So one test body judges kernels and plans on both.
//!
//! All tensors are contiguous. Floats are float32; operators in half precision are candle's.

#[cfg(feature = "cuda")]
mod compile;
mod module;
mod plan;
pub mod plans;
#[cfg(feature = "cuda")]
mod run;
#[cfg(test)]
mod tests;

pub use module::{ARCHITECTURES, Module, OPTIONS, cache_name, module_of};
pub use plan::{Arg, Buffer, Constant, Element, Launch, MAX_ELEMENTS, Plan, THREADS};
#[cfg(feature = "cuda")]
pub use run::{run, storages};

/// Text that stands before each source.
pub const COMMON: &str = include_str!("common.cuh");

/// The sources, each a module of its own.
pub const MODULES: &[Module] = &[
    Module { name: "activation", text: include_str!("activation.cu") },
    Module { name: "depthwise", text: include_str!("depthwise.cu") },
    Module { name: "int8", text: include_str!("int8.cu") },
    Module { name: "layer_norm", text: include_str!("layer_norm.cu") },
    Module { name: "nms", text: include_str!("nms.cu") },
    Module { name: "norm", text: include_str!("norm.cu") },
    Module { name: "pool", text: include_str!("pool.cu") },
    Module { name: "quantize", text: include_str!("quantize.cu") },
    Module { name: "resize", text: include_str!("resize.cu") },
    Module { name: "softmax", text: include_str!("softmax.cu") },
    Module { name: "statistics", text: include_str!("statistics.cu") },
];
