//! Calibration caches, which TensorRT up to 10 reads in place of calibrating.

use std::fmt::Write;

/// The text of a cache: a scale for each value, its largest magnitude over 127, as the bits of a float32 in hexadecimal.
///
/// Written as TensorRT 8.5's entropy calibrator does; newer ones up to 10 read it. `ranges` has the smallest and the largest
/// number of each value.
pub(super) fn calibration_cache(ranges: &[(String, [f32; 2])]) -> String {
    let mut text = String::from("TRT-8501-EntropyCalibration2\n");
    for (name, [low, high]) in ranges {
        let scale = low.abs().max(high.abs()) / 127.0;
        // A value that is always zero still needs a scale that can be divided by.
        let scale = if scale > 0.0 { scale } else { 1.0 };
        let _ = writeln!(text, "{name}: {:08x}", scale.to_bits());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 1.0 / 127 as TensorRT writes it.
    #[test]
    fn a_scale_is_the_largest_magnitude_over_127() {
        let ranges = [("a".to_string(), [-1.0, 0.5]), ("b".to_string(), [0.0, 0.0])];
        assert_eq!(calibration_cache(&ranges), "TRT-8501-EntropyCalibration2\na: 3c010204\nb: 3f800000\n");
    }
}
