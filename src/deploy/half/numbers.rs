//! What float16 makes of numbers.

use ::half::f16;
use compresso_base::error::Result;
use compresso_model::Constant;
use std::fmt;

/// Largest finite float16.
pub(super) const LARGEST: f32 = 65504.0;
/// Smallest float16 with all its digits.
const SMALLEST: f32 = 1.0 / 16384.0;
/// Rounding that does not matter, as a part of a number: eight times that of float16 at its best.
const ROUNDING: f32 = 1.0 / 256.0;

/// How the numbers of a constant count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// In sums with one another, as those of weights and biases do: a small one beside large ones may become zero.
    Summed,
    /// Each for itself: it is divided by, compared with, multiplied with.
    Each,
}

/// A number that float16 cannot stand for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Lost {
    /// It becomes this, zero or of few digits.
    Small(f32, f32),
    /// It becomes infinite.
    Large(f32),
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Small(number, 0.0) => write!(f, "{number:e} would become 0 in float16"),
            Self::Small(number, becomes) => write!(f, "{number:e} would become {becomes:e} in float16"),
            Self::Large(number) => write!(f, "{number:e} would become infinite in float16"),
        }
    }
}

/// The number of a float32 constant that suffers most from float16, if one suffers. Infinite numbers and NaN are kept by it.
///
/// # Errors
/// Those of reading the constant.
pub(super) fn lost(constant: &Constant, role: Role) -> Result<Option<Lost>> {
    let values = constant.to_f32s()?;
    let largest = values.iter().filter(|v| v.is_finite()).fold(0f32, |m, v| if v.abs() > m.abs() { *v } else { m });
    if f16::from_f32(largest).is_infinite() {
        return Ok(Some(Lost::Large(largest)));
    }
    if role == Role::Summed && largest.abs() >= SMALLEST {
        return Ok(None);
    }
    let error = |v: f32| (f16::from_f32(v).to_f32() - v).abs() / v.abs();
    let finite = values.into_iter().filter(|v| v.is_finite() && *v != 0.0);
    let worst = finite.map(|v| (v, error(v))).filter(|&(_, e)| e > ROUNDING).max_by(|a, b| a.1.total_cmp(&b.1));
    Ok(worst.map(|(v, _)| Lost::Small(v, f16::from_f32(v).to_f32())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[f32], role: Role) -> Option<Lost> {
        lost(&Constant::floats(&[values.len()], values).unwrap(), role).unwrap()
    }

    #[test]
    fn small_numbers_count_where_each_counts() {
        for role in [Role::Summed, Role::Each] {
            assert_eq!(of(&[], role), None);
            assert_eq!(of(&[0.0, 1.0, -3.5, f32::INFINITY, f32::NEG_INFINITY], role), None);
            assert_eq!(of(&[1e-12], role), Some(Lost::Small(1e-12, 0.0)));
            assert_eq!(of(&[0.0, 1e-5], role), None, "eight bits of it are left");
            assert!(matches!(of(&[1e-7], role), Some(Lost::Small(..))));
            assert_eq!(of(&[1.0, -1e6], role), Some(Lost::Large(-1e6)));
            assert_eq!(of(&[65504.0], role), None);
        }
        assert_eq!(of(&[0.5, 1e-12], Role::Summed), None);
        assert_eq!(of(&[0.5, 1e-12], Role::Each), Some(Lost::Small(1e-12, 0.0)));
    }
}
