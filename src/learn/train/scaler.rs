//! The scale of the loss under float16.

/// A factor on the loss that keeps small gradients from vanishing in float16; it halves when they overflow, and doubles
/// after many steps without (Micikevicius et al. 2018, "Mixed Precision Training").
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Scaler {
    pub scale: f64,
    /// Good steps since the scale last changed.
    pub good: u32,
    /// Bad steps in a row.
    pub bad: u32,
}

const START: f64 = 65536.0;
const GROWS_AFTER: u32 = 2000;
/// A training whose every step overflows is broken.
const MOST_BAD: u32 = 40;

impl Default for Scaler {
    fn default() -> Self {
        Self { scale: START, good: 0, bad: 0 }
    }
}

impl Scaler {
    /// After a step whose gradients were finite.
    pub fn succeeded(&mut self) {
        self.bad = 0;
        self.good += 1;
        if self.good == GROWS_AFTER {
            self.good = 0;
            self.scale *= 2.0;
        }
    }
    /// After a step that overflowed; false when it is not the scale's fault any more.
    pub fn overflowed(&mut self) -> bool {
        self.good = 0;
        self.bad += 1;
        self.scale /= 2.0;
        self.bad < MOST_BAD
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_halves_at_once_and_doubles_slowly() {
        let mut s = Scaler::default();
        assert!(s.overflowed() && s.overflowed());
        assert_eq!(s.scale, START / 4.0);
        (0..GROWS_AFTER - 1).for_each(|_| s.succeeded());
        assert_eq!(s.scale, START / 4.0);
        s.succeeded();
        assert_eq!(s, Scaler { scale: START / 2.0, good: 0, bad: 0 });
        assert!((1..MOST_BAD).all(|_| s.overflowed()) && !s.overflowed());
    }
}
