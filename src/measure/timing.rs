//! Latency: repeated runs, taken in turns so that a machine that slows down slows all alike.

use compresso_base::context::Context;
use compresso_base::error::Result;
use serde::Serialize;
use std::time::Instant;

/// Summary of latencies in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Latency {
    pub runs: usize,
    pub mean_ms: f64,
    /// Sample standard deviation; 0 for a single run.
    pub std_ms: f64,
    pub min_ms: f64,
    pub p50_ms: f64,
    pub p95_ms: f64,
    pub p99_ms: f64,
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
            p95_ms: percentile(&sorted, 95.0),
            p99_ms: percentile(&sorted, 99.0),
            max_ms: max,
        })
    }
}

/// A percentile of sorted values, interpolated linearly.
#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positions lie inside the slice")]
fn percentile(sorted: &[f64], percent: f64) -> f64 {
    let at = percent / 100.0 * (sorted.len() - 1) as f64;
    let (low, part) = (at.floor() as usize, at.fract());
    let high = (low + 1).min(sorted.len() - 1);
    sorted[low] + (sorted[high] - sorted[low]) * part
}

/// Something to be timed.
pub type Subject<'a> = Box<dyn FnMut() -> Result<()> + 'a>;

/// Times each subject `runs` times after `warmup` runs that do not count. Round by round every subject runs once, in an
/// order that is turned by one each round, so that drift of the machine and effects of the neighbour hit all equally.
///
/// # Errors
/// The first error of a subject; `Cancelled`.
pub fn interleaved(subjects: &mut [Subject<'_>], warmup: usize, runs: usize, label: &str, ctx: &Context) -> Result<Vec<Vec<f64>>> {
    let mut samples = vec![Vec::with_capacity(runs); subjects.len()];
    let mut progress = ctx.progress(label, ((warmup + runs) * subjects.len()) as u64);
    for round in 0..warmup + runs {
        for i in 0..subjects.len() {
            let at = (i + round) % subjects.len();
            let start = Instant::now();
            subjects[at]()?;
            let took = start.elapsed().as_secs_f64() * 1e3;
            if round >= warmup {
                samples[at].push(took);
            }
            progress.step("")?;
        }
    }
    Ok(samples)
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
                Box::new(move || {
                    order.borrow_mut().push(i);
                    Ok(())
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
        let mut subjects: Vec<Subject<'_>> = vec![Box::new(|| {
            runs += 1;
            cancel.cancel();
            Ok(())
        })];
        let e = interleaved(&mut subjects, 0, 100, "time", &ctx).unwrap_err();
        drop(subjects);
        assert!(e.is_cancelled());
        assert_eq!(runs, 1);
    }
}
