//! Weights and tensors in files: safetensors, npy, npz, ONNX pb.
