//! Quantization: fewer bits per number.
