//! ONNX files: import and export that lose nothing.
