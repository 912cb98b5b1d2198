//! Latency: repeated runs, taken in turns so that a machine that slows down slows all alike.

use crate::statistics::{CONFIDENCE, Interval, percentile_interval};
use compresso_base::context::Context;
use compresso_base::error::Result;
use serde::Serialize;

/// Summary of latencies in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Latency {
    /// Measured runs.
    pub runs: usize,
    /// Mean.
    pub mean_ms: f64,
    /// Sample standard deviation; 0 for a single run.
    pub std_ms: f64,
    /// The fastest run.
    pub min_ms: f64,
    /// Median.
    pub p50_ms: f64,
    /// Where the median of the latency lies that these runs are drawn from, with 95 % confidence; `None` below six runs.
    pub p50_interval_ms: Option<Interval>,
    /// 95th percentile.
    pub p95_ms: f64,
    /// 99th percentile.
    pub p99_ms: f64,
    /// The slowest run.
    pub max_ms: f64,
}

impl Latency {
    /// The summary of at least one measured run.
    ///
    /// Percentiles interpolate linearly between the two nearest runs, as numpy's `percentile` does.
    pub fn of(samples: &[f64]) -> Option<Self> {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (&min, &max) = (sorted.first()?, sorted.last()?);
        #[expect(clippy::cast_precision_loss, reason = "run counts are small")]
        let n = sorted.len() as f64;
        let mean = sorted.iter().sum::<f64>() / n;
        let squares: f64 = sorted.iter().map(|s| (s - mean).powi(2)).sum();
        Some(Self {
            runs: sorted.len(),
            mean_ms: mean,
            std_ms: if sorted.len() > 1 { (squares / (n - 1.0)).sqrt() } else { 0.0 },
            min_ms: min,
            p50_ms: percentile(&sorted, 50.0),
            p50_interval_ms: percentile_interval(&sorted, 0.5, CONFIDENCE),
            p95_ms: percentile(&sorted, 95.0),
            p99_ms: percentile(&sorted, 99.0),
            max_ms: max,
        })
    }
}

/// A percentile of sorted values, of which there is at least one, interpolated linearly.
#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positions lie inside the slice")]
pub fn percentile(sorted: &[f64], percent: f64) -> f64 {
    let at = percent / 100.0 * (sorted.len() - 1) as f64;
    let (low, part) = (at.floor() as usize, at.fract());
    let high = (low + 1).min(sorted.len() - 1);
    sorted[low] + (sorted[high] - sorted[low]) * part
}

/// Something to be timed: runs a number of times and gives the milliseconds of each; `None` when it can run no more.
pub type Subject<'a> = Box<dyn FnMut(usize) -> Result<Option<Vec<f64>>> + 'a>;

/// A subject that has nobody to take turns with runs for about this long before the next look at progress.
const TURN_MS: f64 = 100.0;

/// A run that is faster than all before it by so much says that the warm-up is not over.
const WARMER: f64 = 0.03;
/// The warm-up goes on for so many times its length at most.
const LONGEST: usize = 4;

/// Times each subject `runs` times after `planned` runs that do not count, or more of these where a subject still becomes faster.
/// Round by round every subject runs once, in an order that is turned by one each round, so that drift of the machine and effects
/// of the neighbour hit all equally. A subject that can run no more has fewer samples.
///
/// # Errors
/// The first error of a subject; `Cancelled`.
pub fn interleaved(subjects: &mut [Subject<'_>], planned: usize, runs: usize, label: &str, ctx: &Context) -> Result<Vec<Vec<f64>>> {
    let count = subjects.len();
    let mut samples = vec![Vec::with_capacity(runs); count];
    let mut over = vec![false; count];
    let mut progress = ctx.progress(label, ((planned + runs) * count) as u64);
    let (mut turn, mut start) = (0, 0);
    let mut at_once = 1;
    let mut warm = vec![Warming::default(); count];
    let mut warmup = planned;
    while turn < warmup + runs {
        // A turn does not reach over the end of the warm-up.
        let left = if turn < warmup { warmup - turn } else { warmup + runs - turn };
        let now = left.min(at_once);
        for i in (0..count).map(|i| (i + start) % count) {
            if over[i] {
                continue;
            }
            match subjects[i](now)? {
                Some(times) if turn < warmup => {
                    warm[i].add(&times);
                    at_once = if count == 1 { in_turn(&times) } else { 1 };
                }
                Some(times) => samples[i].extend(times),
                None => over[i] = true,
            }
            if turn < planned || turn >= warmup {
                for _ in 0..now {
                    progress.step("")?;
                }
            }
        }
        ctx.check()?;
        turn += now;
        start += 1;
        if turn == warmup && warmup < LONGEST * planned && warm.iter().zip(&over).any(|(w, over)| w.becomes_faster && !over) {
            warmup += 1;
        }
    }
    Ok(samples)
}

/// The runs of a subject that do not count.
#[derive(Clone, Default)]
struct Warming {
    least: Option<f64>,
    /// The last run was faster than all before it.
    becomes_faster: bool,
}

impl Warming {
    fn add(&mut self, times: &[f64]) {
        for &t in times {
            self.becomes_faster = self.least.is_some_and(|least| t < (1.0 - WARMER) * least);
            self.least = Some(self.least.map_or(t, |least| least.min(t)));
        }
    }
}

/// Runs that take [`TURN_MS`] in all.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bounded")]
fn in_turn(times: &[f64]) -> usize {
    let longest = times.iter().fold(0f64, |a, &b| a.max(b));
    (TURN_MS / longest).clamp(1.0, 1000.0) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    /// numpy: `np.percentile([5, 1, 9, 2, 7, 3], [50, 95, 99])`, `np.mean`, `np.std(ddof=1)`.
    #[test]
    fn percentiles_are_numpys() {
        let l = Latency::of(&[5.0, 1.0, 9.0, 2.0, 7.0, 3.0]).unwrap();
        for (got, expected) in [(l.p50_ms, 4.0), (l.p95_ms, 8.5), (l.p99_ms, 8.9), (l.mean_ms, 4.5), (l.std_ms, 3.082_207_001_484_488)] {
            assert!((got - expected).abs() < 1e-12, "{got} is not {expected}");
        }
        assert_eq!((l.min_ms, l.max_ms, l.runs), (1.0, 9.0, 6));
        assert_eq!(Latency::of(&[3.0]).unwrap().std_ms, 0.0);
        assert!(Latency::of(&[]).is_none());
    }

    #[test]
    fn subjects_take_turns_and_warm_up_does_not_count() {
        let order = RefCell::new(Vec::new());
        let mut subjects: Vec<Subject<'_>> = (0..2)
            .map(|i| {
                let order = &order;
                Box::new(move |runs| {
                    order.borrow_mut().push(i);
                    Ok(Some(vec![1.0; runs]))
                }) as Subject<'_>
            })
            .collect();
        let samples = interleaved(&mut subjects, 1, 3, "time", &Context::new()).unwrap();
        drop(subjects);
        assert_eq!(samples.iter().map(Vec::len).collect::<Vec<_>>(), [3, 3]);
        assert_eq!(*order.borrow(), [0, 1, 1, 0, 0, 1, 1, 0]);
    }

    #[test]
    fn cancelling_stops_the_rounds() {
        let ctx = Context::new();
        let cancel = ctx.cancel.clone();
        let mut runs = 0;
        let mut subjects: Vec<Subject<'_>> = vec![Box::new(|n| {
            runs += n;
            cancel.cancel();
            Ok(Some(vec![1.0; n]))
        })];
        let e = interleaved(&mut subjects, 0, 100, "time", &ctx).unwrap_err();
        drop(subjects);
        assert!(e.is_cancelled());
        assert_eq!(runs, 1);
    }

    #[test]
    fn one_that_is_over_leaves_the_others_their_turns() {
        let mut left = 2;
        let mut subjects: Vec<Subject<'_>> = vec![
            Box::new(move |n| {
                left -= 1;
                Ok((left >= 0).then(|| vec![2.0; n]))
            }),
            Box::new(|n| Ok(Some(vec![1.0; n]))),
        ];
        let samples = interleaved(&mut subjects, 1, 4, "time", &Context::new()).unwrap();
        assert_eq!(samples, [vec![2.0], vec![1.0; 4]]);
    }

    #[test]
    fn the_warm_up_goes_on_while_runs_become_faster() {
        for (until, expected) in [(0u32, 3u32), (6, 7), (100, 12)] {
            let mut run = 0;
            let mut subjects: Vec<Subject<'_>> = vec![
                Box::new(|n| {
                    run += 1;
                    Ok(Some(vec![10.0 / f64::from(1 + run.min(until)); n]))
                }),
                Box::new(|n| Ok(Some(vec![1.0; n]))),
            ];
            let samples = interleaved(&mut subjects, 3, 4, "time", &Context::new()).unwrap();
            drop(subjects);
            assert_eq!((samples[0].len(), samples[1].len(), run - 4), (4, 4, expected), "faster until run {until}");
        }
    }

    #[test]
    fn one_alone_runs_in_long_turns() {
        let turns = RefCell::new(Vec::new());
        let mut subjects: Vec<Subject<'_>> = vec![Box::new(|n| {
            turns.borrow_mut().push(n);
            Ok(Some(vec![25.0; n]))
        })];
        let samples = interleaved(&mut subjects, 2, 10, "time", &Context::new()).unwrap();
        drop(subjects);
        assert_eq!((samples[0].len(), turns.into_inner()), (10, vec![1, 1, 4, 4, 2]));
    }
}
