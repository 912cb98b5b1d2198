//! What a number of runs can tell: intervals of percentiles, and which of two models is faster.
//!
//! Latencies are no bell curves, so nothing here takes them for such: intervals come from the ranks of the runs alone.

use serde::{Deserialize, Serialize};

/// Confidence of the intervals of percentiles.
pub const CONFIDENCE: f64 = 0.95;
/// Confidence of the interval by which two models are told apart: of a hundred comparisons of a model with itself, about one says more.
const VERDICT_CONFIDENCE: f64 = 0.99;
/// Two processes with the same model differ by so much, for as long as they live, by where their memory happens to lie.
const ALIKE: f64 = 0.01;

/// What is known of a percentile.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Lower end, in the unit of the runs.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// The interval that holds a percentile of whatever the runs are drawn from, with the confidence asked for, and between two of the runs;
/// `None` where there are too few of them to say it. `sorted` is ascending; `share` and `confidence` lie between 0 and 1.
///
/// The number of runs below the true percentile is binomial, so the ranks that leave half of the doubt on each side bound it
/// (Conover, Practical Nonparametric Statistics, 3.2).
pub fn percentile_interval(sorted: &[f64], share: f64, confidence: f64) -> Option<Interval> {
    let doubt = (1.0 - confidence) / 2.0;
    let below = binomial(sorted.len(), share);
    // The run of rank r (from 0) is above the percentile when at most r runs lie below it.
    let mut sum = 0.0;
    let mut low = None;
    for (rank, p) in below.iter().enumerate().take(sorted.len()) {
        sum += p;
        if sum > doubt {
            break;
        }
        low = Some(rank);
    }
    let mut sum = 0.0;
    let mut high = None;
    for rank in (0..sorted.len()).rev() {
        sum += below[rank + 1];
        if sum > doubt {
            break;
        }
        high = Some(rank);
    }
    Some(Interval { low: sorted[low?], high: sorted[high?] })
}

/// The probabilities of 0, 1, … `n` among `n` trials that succeed with probability `p`, which lies between 0 and 1.
#[expect(clippy::cast_precision_loss, reason = "counts of runs")]
fn binomial(n: usize, p: f64) -> Vec<f64> {
    let odds = (p / (1.0 - p)).ln();
    let mut log = n as f64 * (1.0 - p).ln();
    let mut all = Vec::with_capacity(n + 1);
    for k in 0..=n {
        all.push(log.exp());
        log += odds + ((n - k) as f64 / (k + 1) as f64).ln();
    }
    all
}

/// Runs after which the second largest is no smaller than a percentile, with 99 % confidence: 64 for the 90th, 662 for the 99th, as in
/// the early stopping of MLPerf's `LoadGen`. Fewer tell little of it.
#[expect(clippy::cast_precision_loss, reason = "counts of runs")]
pub fn runs_for(share: f64) -> usize {
    let enough = |n: usize| {
        let n = n as f64;
        let none = share.powf(n);
        none + n * (1.0 - share) * share.powf(n - 1.0) <= 0.01
    };
    (1..).find(|&n| enough(n)).unwrap_or(usize::MAX)
}

/// Which of two is faster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The whole interval lies above 1, by more than two processes of one model differ.
    Faster,
    /// The whole interval lies below 1, by as much.
    Slower,
    /// These runs cannot tell.
    CannotTell,
}

/// One model against another that took turns with it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Speedup {
    /// How many times as fast as the other, by the median of the rounds.
    pub times: f64,
    /// The interval of that median, with 99 % confidence.
    pub low: f64,
    /// Upper end of that interval.
    pub high: f64,
    /// What the interval says.
    pub verdict: Verdict,
}

impl Speedup {
    /// Of the milliseconds of each round; what slows the machine down for some rounds hits both and cancels out. `None` where there are too
    /// few rounds to say anything: below eight.
    pub fn of(ours: &[f64], other: &[f64]) -> Option<Self> {
        let mut ratios: Vec<f64> = ours.iter().zip(other).map(|(a, b)| b / a).collect();
        ratios.sort_by(f64::total_cmp);
        let Interval { low, high } = percentile_interval(&ratios, 0.5, VERDICT_CONFIDENCE)?;
        Some(Self::told(median(&ratios), low, high))
    }

    /// Of the milliseconds of runs that did not take turns: the ratio of the medians, and that of the ends of their intervals, each with half of the
    /// doubt. What slowed the machine down in one of the two does not cancel out. `None` where there are too few runs.
    pub fn of_medians(ours: &[f64], other: &[f64]) -> Option<Self> {
        let of = |runs: &[f64]| {
            let mut sorted = runs.to_vec();
            sorted.sort_by(f64::total_cmp);
            let interval = percentile_interval(&sorted, 0.5, f64::midpoint(1.0, VERDICT_CONFIDENCE))?;
            Some((median(&sorted), interval))
        };
        let ((our, ours), (their, other)) = (of(ours)?, of(other)?);
        Some(Self::told(their / our, other.low / ours.high, other.high / ours.low))
    }

    fn told(times: f64, low: f64, high: f64) -> Self {
        let verdict = match () {
            () if low > 1.0 + ALIKE => Verdict::Faster,
            () if high < 1.0 / (1.0 + ALIKE) => Verdict::Slower,
            () => Verdict::CannotTell,
        };
        Self { times, low, high, verdict }
    }
}

/// Of sorted numbers, of which there is at least one.
fn median(sorted: &[f64]) -> f64 {
    let half = sorted.len() / 2;
    if sorted.len().is_multiple_of(2) { f64::midpoint(sorted[half - 1], sorted[half]) } else { sorted[half] }
}

impl std::fmt::Display for Speedup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.verdict {
            Verdict::CannotTell => write!(f, "≈ 1×"),
            _ => write!(f, "{:.2}×", self.times),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};

    /// scipy: `binom.pmf([0, 1, 5, 10], 10, 0.3)`.
    #[test]
    fn probabilities_are_scipys() {
        let p = binomial(10, 0.3);
        for (k, expected) in [(0, 0.028_247_524_9), (1, 0.121_060_821), (5, 0.102_919_345_2), (10, 5.904_9e-6)] {
            assert!((p[k] - expected).abs() < 1e-9, "{k}: {} is not {expected}", p[k]);
        }
        let wide: f64 = binomial(100_000, 0.99).iter().sum();
        assert!((wide - 1.0).abs() < 1e-6, "{wide}");
    }

    /// Ranks from `scipy.stats.binom.ppf`: 50 runs, the median between the 18th and the 33rd; 100 runs, the 90th percentile between the 84th
    /// and the 96th (ranks from 1).
    #[test]
    fn ranks_bound_percentiles() {
        let runs = |n: u32| (1..=n).map(f64::from).collect::<Vec<_>>();
        assert_eq!(percentile_interval(&runs(50), 0.5, 0.95), Some(Interval { low: 18.0, high: 33.0 }));
        assert_eq!(percentile_interval(&runs(100), 0.9, 0.95), Some(Interval { low: 84.0, high: 96.0 }));
        assert_eq!(percentile_interval(&runs(5), 0.5, 0.95), None);
        assert_eq!(percentile_interval(&runs(50), 0.99, 0.95), None);
        assert_eq!(percentile_interval(&[], 0.5, 0.95), None);
    }

    #[test]
    fn intervals_hold_what_they_say() {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(7);
        // Long-tailed, as latencies are; the true percentiles follow from the formula.
        let mut draw = || 1.0 - (1.0 - rng.random::<f64>()).ln();
        let trials = 2000;
        for (share, n) in [(0.5f64, 50), (0.9, 100), (0.5, 9)] {
            let truth = 1.0 - (1.0 - share).ln();
            let held = (0..trials).filter(|_| {
                let mut runs: Vec<f64> = (0..n).map(|_| draw()).collect();
                runs.sort_by(f64::total_cmp);
                percentile_interval(&runs, share, 0.95).is_some_and(|i| i.low <= truth && truth <= i.high)
            });
            let held = held.count() as f64 / f64::from(trials);
            assert!(held > 0.945, "{share} of {n}: {held}");
        }
    }

    #[test]
    fn so_many_runs_tell_a_percentile() {
        assert_eq!((runs_for(0.9), runs_for(0.99)), (64, 662));
    }

    #[test]
    fn a_model_against_itself_cannot_be_told_and_one_of_a_twentieth_can() {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(3);
        let mut wrong = 0;
        let mut found = 0;
        for _ in 0..300 {
            // Runs with a long tail on a machine whose speed drifts by a third.
            let mut time = |round: usize, base: f64| {
                base * (1.0 + 0.3 * (round as f64 / 10.0).sin())
                    * (1.0 + 0.02 * rng.random::<f64>() - 0.03 * (1.0 - rng.random::<f64>()).ln())
            };
            let runs: Vec<[f64; 3]> = (0..50).map(|i| [time(i, 10.0), time(i, 10.0), time(i, 10.5)]).collect();
            let column = |c: usize| runs.iter().map(|r| r[c]).collect::<Vec<_>>();
            wrong += usize::from(Speedup::of(&column(1), &column(0)).unwrap().verdict != Verdict::CannotTell);
            let twin = Speedup::of(&column(2), &column(0)).unwrap();
            found += usize::from(twin.verdict == Verdict::Slower);
            assert!(twin.low <= twin.times && twin.times <= twin.high);
        }
        assert!(wrong <= 6 && found >= 280, "{wrong} wrong, {found} found");
        // Without turns, on a machine whose speed does not drift.
        let steady = |rng: &mut rand_chacha::ChaCha8Rng, base: f64| -> Vec<f64> {
            (0..50).map(|_| base * (1.0 - 0.03 * (1.0 - rng.random::<f64>()).ln())).collect()
        };
        let told = |base: f64, rng: &mut rand_chacha::ChaCha8Rng| {
            let (a, b) = (steady(rng, base), steady(rng, 10.0));
            Speedup::of_medians(&a, &b).unwrap().verdict
        };
        let wrong = (0..300).filter(|_| told(10.0, &mut rng) != Verdict::CannotTell).count();
        let found = (0..300).filter(|_| told(10.6, &mut rng) == Verdict::Slower).count();
        assert!(wrong <= 3 && found >= 280, "{wrong} wrong, {found} found");
        assert!(Speedup::of_medians(&[1.0; 5], &[2.0; 50]).is_none());
        assert!(Speedup::of(&[1.0; 7], &[2.0; 7]).is_none());
        assert_eq!(Speedup::of(&[1.0; 8], &[2.0; 8]).unwrap().verdict, Verdict::Faster);
    }
}
