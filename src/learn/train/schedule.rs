//! The learning rate from step to step.

use super::options::ScheduleKind;

/// Linear warm-up, then a fall to a share of the highest rate.
#[derive(Debug, Clone, Copy)]
pub struct Schedule {
    /// How the rate falls after the warm-up.
    pub kind: ScheduleKind,
    /// Highest rate.
    pub rate: f64,
    /// Last rate as a share of the highest.
    pub final_share: f64,
    /// Steps over which the rate rises to the highest; 0: none.
    pub warmup_steps: usize,
    /// Steps of the whole training, warm-up included; later ones have the last rate.
    pub total_steps: usize,
}

impl Schedule {
    /// The rate of a step, counted from 0.
    ///
    /// ```
    /// use compresso_learn::train::{Schedule, ScheduleKind};
    /// let s = Schedule { kind: ScheduleKind::Linear, rate: 1.0, final_share: 0.0, warmup_steps: 2, total_steps: 12 };
    /// assert_eq!((s.at(0), s.at(1), s.at(2), s.at(7)), (0.5, 1.0, 1.0, 0.5));
    /// ```
    pub fn at(&self, step: usize) -> f64 {
        if step < self.warmup_steps {
            return self.rate * (step + 1) as f64 / self.warmup_steps as f64;
        }
        let falling = self.total_steps.saturating_sub(self.warmup_steps).max(1);
        let progress = ((step - self.warmup_steps) as f64 / falling as f64).min(1.0);
        let share = match self.kind {
            ScheduleKind::Cosine => (1.0 + (std::f64::consts::PI * progress).cos()) / 2.0,
            ScheduleKind::Linear => 1.0 - progress,
            ScheduleKind::Constant => return self.rate,
        };
        self.rate * (self.final_share + (1.0 - self.final_share) * share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cosine_starts_at_the_rate_halves_in_the_middle_and_ends_at_the_share() {
        let s = Schedule { kind: ScheduleKind::Cosine, rate: 2.0, final_share: 0.1, warmup_steps: 0, total_steps: 10 };
        assert!((s.at(0) - 2.0).abs() < 1e-12);
        assert!((s.at(5) - 2.0 * 0.55).abs() < 1e-12);
        assert!((s.at(10) - 0.2).abs() < 1e-12);
        assert!((s.at(99) - 0.2).abs() < 1e-12);
    }

    #[test]
    fn a_run_that_is_all_warmup_does_not_divide_by_zero() {
        let s = Schedule { kind: ScheduleKind::Linear, rate: 1.0, final_share: 0.0, warmup_steps: 4, total_steps: 4 };
        assert_eq!(s.at(3), 1.0);
        assert!(s.at(4).is_finite());
    }
}
