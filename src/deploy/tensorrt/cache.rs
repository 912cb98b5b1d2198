//! Calibration caches, which TensorRT up to 10 reads in place of calibrating.

use compresso_compress::quantize::calibrate::Ranges;
use std::fmt::Write;

/// The text of a cache: a scale for each value, the largest magnitude over 127, as the bits of a float32 in hexadecimal.
///
/// Written as TensorRT 8.5's entropy calibrator does; newer ones up to 10 read it.
pub fn calibration_cache(ranges: &Ranges) -> String {
    let mut text = String::from("TRT-8501-EntropyCalibration2\n");
    for (name, range) in ranges.iter() {
        let scale = range.magnitude() / 127.0;
        // A value that is always zero still needs a scale that can be divided by.
        let scale = if scale > 0.0 { scale } else { 1.0 };
        let _ = writeln!(text, "{name}: {:08x}", scale.to_bits());
    }
    text
}
