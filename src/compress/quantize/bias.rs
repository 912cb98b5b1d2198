//! Biases in int32, and scales of weights that leave room for them.
//!
//! An integer kernel adds a bias to its sums of products before it scales them, so that the bias's scale is the product of the
//! input's and the weight's: `bias = q · scale_x · scale_w`. Three things follow for `scale_w`.
//!
//! - A channel with small weights under a large bias gets a coarser scale than its weights ask for, or `q` leaves int32. Its
//!   weights lose less by it than float32 loses in adding the two.
//! - A channel without weights takes any scale; it gets the one under which its bias is exact to 30 bits.
//! - A scale that serves several output channels (one per weight, grouped ConvTranspose) is not made coarser for one of them,
//!   which would take the others' weights: such a layer stays in float.
//!
//! The same is done where a file keeps its biases in float: onnxruntime makes int32 of them by itself (its
//! WeightBiasQuantization).

use compresso_base::error::{Error, Result};
use compresso_model::ops::matmul::GEMM;
use compresso_model::{Constant, Element, Graph, Node, Payload, ops};

/// Largest magnitude of a bias's integers: half of what int32 holds is left to the sum of products.
pub const LIMIT: f64 = (1 << 30) as f64;

/// What a layer adds, a number for each of its output channels, and at which input: where it is a float32 constant, the same
/// for all rows. Gemm's `beta` is in the numbers.
///
/// # Errors
/// `Check` for numbers that are infinite or not a number.
pub(super) fn of_layer(graph: &Graph, node: &Node, channels: usize) -> Result<Option<(usize, Vec<f32>)>> {
    let Some((input, constant)) = ops::find(node)?.bias().and_then(|i| Some((i, graph.constant(node.input(i)?)?))) else {
        return Ok(None);
    };
    let one_each = constant.count() == channels && constant.dims().last() == Some(&channels);
    if constant.element() != Element::F32 || !one_each && constant.count() != 1 {
        return Ok(None);
    }
    let beta = if node.is(GEMM) { node.get_float("beta", 1.0)? } else { 1.0 };
    let values = constant.to_f32s()?;
    let values: Vec<f32> = (0..channels).map(|c| values[if one_each { c } else { 0 }] * beta).collect();
    if values.iter().any(|v| !v.is_finite()) {
        return Err(Error::check("the bias holds values that are infinite or not a number"));
    }
    Ok(Some((input, values)))
}

/// Scales of a weight under which a bias fits into int32. `finest` has what the weights alone ask for, `None` where they are
/// zero; scale `i` serves the output channels `i`, `i + finest.len()`, …
///
/// `None`: no scales do, as a scale that serves several channels would have to be coarser than their weights bear, or larger
/// than float32 holds.
pub(super) fn scales(finest: &[Option<f32>], bias: &[f32], input_scale: f32) -> Option<Vec<f32>> {
    if bias.is_empty() {
        return Some(finest.iter().map(|s| s.unwrap_or(1.0)).collect());
    }
    let input_scale = f64::from(input_scale);
    // The product of the two scales is a float32 number in full accuracy.
    let smallest = f64::from(f32::MIN_POSITIVE) / input_scale.min(1.0);
    let (count, alone) = (finest.len(), finest.len() == bias.len());
    let choose = |(i, finest): (usize, &Option<f32>)| {
        let served = bias.iter().skip(i).step_by(count);
        let largest = served.fold(0f64, |m, &b| m.max(f64::from(b).abs()));
        let least = (largest / LIMIT / input_scale).max(smallest);
        let scale = match finest.map(f64::from) {
            None if largest == 0.0 => 1.0,
            None => least,
            Some(finest) if finest >= least => finest,
            Some(_) if alone => least,
            Some(_) => return None,
        };
        #[expect(clippy::cast_possible_truncation, reason = "a scale is stored as float32")]
        let scale = scale as f32;
        scale.is_finite().then_some(scale)
    };
    finest.iter().enumerate().map(choose).collect()
}

/// A bias's integers, and their scales, as the products of an input's scale and a weight's: one for all, or one for each number.
///
/// # Errors
/// `Internal` for a number that does not fit, under scales that [`scales`] did not choose.
pub(super) fn int32(bias: &[f32], weight_scales: &[f32], input_scale: f32) -> Result<(Constant, Vec<f32>)> {
    let scale = |c: usize| weight_scales[c % weight_scales.len()] * input_scale;
    let integers: Vec<f64> = bias.iter().enumerate().map(|(c, &b)| (f64::from(b) / f64::from(scale(c))).round_ties_even()).collect();
    if let Some((c, q)) = integers.iter().enumerate().find(|(_, q)| q.abs() > f64::from(i32::MAX) || q.is_nan()) {
        return Err(Error::internal(format!("the bias of channel {c} is {q} times its scale, which int32 does not hold")));
    }
    #[expect(clippy::cast_possible_truncation, reason = "whole numbers inside int32")]
    let bytes: Vec<u8> = integers.iter().flat_map(|&q| (q as i32).to_le_bytes()).collect();
    let constant = Constant::new(Element::I32, vec![bias.len()], Payload::Raw(bytes.into()))?;
    let scales = (0..if weight_scales.len() == 1 { 1 } else { bias.len() }).map(scale).collect();
    Ok((constant, scales))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the integers stand for.
    fn kept(finest: &[Option<f32>], bias: &[f32], input_scale: f32) -> Vec<f64> {
        let chosen = scales(finest, bias, input_scale).unwrap();
        let (q, scales) = int32(bias, &chosen, input_scale).unwrap();
        q.to_i64s().unwrap().iter().enumerate().map(|(c, &q)| q as f64 * f64::from(scales[c % scales.len()])).collect()
    }

    #[test]
    fn channels_without_weights_keep_their_bias() {
        // Inputs up to 450, as a layer without normalization makes them.
        let bias = [0.7, -0.2, 0.0];
        let scales = scales(&[None, Some(1e-3), None], &bias, 450.0 / 255.0).unwrap();
        assert_eq!((scales[1], scales[2]), (1e-3, 1.0));
        let kept = kept(&[None, Some(1e-3), None], &bias, 450.0 / 255.0);
        assert!((kept[0] - 0.7).abs() < 1e-7 && kept[2] == 0.0, "{kept:?}");
        assert!((kept[1] + 0.2).abs() <= 0.5 * 450.0 / 255.0 * 1e-3);
    }

    #[test]
    fn a_large_bias_of_a_tiny_channel_fits_and_leaves_other_channels_alone() {
        let chosen = scales(&[Some(1e-14), Some(1.0 / 127.0)], &[5.0, 0.1], 0.02).unwrap();
        assert_eq!(chosen[1], 1.0 / 127.0);
        let (q, _) = int32(&[5.0, 0.1], &chosen, 0.02).unwrap();
        assert!((q.to_i64s().unwrap()[0] - (1 << 30)).abs() <= 128);
        assert!((kept(&[Some(1e-14), Some(1.0)], &[5.0, 0.1], 0.02)[0] - 5.0).abs() < 1e-6);
    }

    #[test]
    fn a_scale_of_several_channels_is_not_coarsened_for_one() {
        // One scale for a weight of two channels; one for two groups of a ConvTranspose of two channels each.
        assert_eq!(scales(&[Some(1e-12)], &[5.0, 0.0], 0.02), None);
        assert_eq!(scales(&[Some(1e-12), Some(1.0)], &[0.0, 1.0, 5.0, 1.0], 0.02), None);
        // Nothing is lost where there are no weights.
        let kept = kept(&[None], &[5.0, 1e-3], 0.02);
        assert!((kept[0] - 5.0).abs() < 1e-6 && (kept[1] - 1e-3).abs() < 1e-8, "{kept:?}");
    }

    #[test]
    fn scales_of_extreme_inputs_are_numbers() {
        for input_scale in [f32::MIN_POSITIVE, 1e-30, 1.0, 1e30] {
            for b in [1e-38, 1e-20, 1.0, 1e20f32] {
                for finest in [None, Some(1e-36), Some(1.0)] {
                    let Some(chosen) = scales(&[finest], &[b], input_scale) else { continue };
                    let (q, scales) = int32(&[b], &chosen, input_scale).unwrap();
                    assert!(scales[0].is_normal() && q.to_i64s().unwrap()[0] <= 1 << 31, "{input_scale:e} {b:e} {finest:?}");
                }
            }
        }
        assert_eq!(scales(&[Some(1.0)], &[1e20], f32::MIN_POSITIVE), None);
    }
}
