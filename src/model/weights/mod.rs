//! Tensors in files: .npy, .npz, ONNX .pb and .safetensors.

mod atomic;

pub use atomic::atomic_write;
