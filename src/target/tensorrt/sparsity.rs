//! Weights that sparse tensor cores take: [two non-zeros in four](https://developer.nvidia.com/blog/accelerating-inference-with-sparsity-using-ampere-and-tensorrt/).

use compresso_base::error::Result;
use compresso_model::graph::stored;
use compresso_model::ops::ParamKind;
use compresso_model::{Constant, Graph};

/// True when weights of a layer have at most two non-zeros in every four consecutive input channels.
///
/// # Errors
/// Those of reading constants.
pub(super) fn has_two_in_four(graph: &Graph) -> Result<bool> {
    for s in stored(graph)?.iter().filter(|s| s.kind == Some(ParamKind::Weight)) {
        if is_two_in_four(&s.constant)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Of a weight `[output channels, input channels, …]`.
fn is_two_in_four(weight: &Constant) -> Result<bool> {
    let (&[_, inputs, ..], true) = (weight.dims(), weight.count() > 0) else { return Ok(false) };
    if inputs == 0 || inputs % 4 != 0 {
        return Ok(false);
    }
    let values = weight.to_f32s()?;
    let places: usize = weight.dims()[2..].iter().product();
    let fits = |filter: &[f32]| {
        (0..inputs / 4).all(|group| (0..places).all(|at| (0..4).filter(|c| filter[(group * 4 + c) * places + at] != 0.0).count() <= 2))
    };
    Ok(values.chunks_exact(inputs * places).all(fits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_consecutive_input_channels_have_two_numbers() {
        let of = |dims: &[usize], v: &[f32]| is_two_in_four(&Constant::floats(dims, v).unwrap()).unwrap();
        assert!(of(&[1, 4, 1, 1], &[1.0, 0.0, 2.0, 0.0]));
        assert!(!of(&[1, 4, 1, 1], &[1.0, 0.0, 2.0, 3.0]));
        // Channels lie two numbers apart: of each place of the kernel two are left.
        assert!(of(&[1, 4, 1, 2], &[1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 0.0, 0.0]));
        assert!(!of(&[1, 4, 1, 2], &[1.0, 0.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0]));
        assert!(!of(&[1, 3], &[0.0, 0.0, 1.0]), "three channels are no four");
        assert!(of(&[2, 8], &[0.0, 0.0, 1.0, 1.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0]));
    }
}
