//! How much goes where a time is asked for: found by measuring pruned candidates beside the model, on this machine.

use super::costs::{Budget, Costs};
use super::select::{Axis, Selected, select};
use super::{Analysis, Group, Prune, Removal};
use compresso_base::context::Context;
use compresso_base::error::{Error, Result};
use compresso_measure::Benchmark;
use compresso_measure::runtimes::RuntimeName;
use compresso_model::{Model, Task};
use serde::Serialize;

/// What was measured.
#[derive(Debug, Clone, Serialize)]
pub struct Timed {
    /// Name of the runtime that ran the model.
    pub runtime: String,
    /// Milliseconds of a run of the model before, the median of runs in turns with the pruned one.
    pub before_ms: f64,
    /// As [`Timed::before_ms`], of the pruned model.
    pub after_ms: f64,
    /// The time after as a share of that before, by the median of the turns.
    pub left: f64,
    /// The share of the multiply-accumulates that was asked to go for it.
    pub ratio: f64,
    /// The share of the multiply-accumulates that goes.
    pub macs: f64,
    /// Candidates that were measured.
    pub tried: usize,
}

impl Timed {
    /// `prune: native 43.10 → 26.02 ms (0.60 of the time) by 43.1 % of the multiply-accumulates, 4 candidates measured`
    pub fn headline(&self) -> String {
        let Self { runtime, before_ms, after_ms, left, macs, tried, .. } = self;
        let (went, s) = (100.0 * macs, if *tried == 1 { "" } else { "s" });
        format!(
            "prune: {runtime} {before_ms:.2} → {after_ms:.2} ms ({left:.2} of the time) by {went:.1} % of the multiply-accumulates, {tried} \
             candidate{s} measured"
        )
    }
}

/// Runs of each side in turns, and those before them.
const RUNS: usize = 24;
const WARMUP: usize = 4;
/// Candidates at most.
const TRIES: usize = 7;
/// So near to the time that is asked for, as a share of it, is near enough.
const NEAR: f64 = 0.02;
/// The largest share of multiply-accumulates that is tried.
const MOST: f64 = 0.98;

/// The share to remove by which `measure` comes nearest to `goal`. What is measured falls, roughly, from 1 at a share of 0.
fn solve(goal: f64, measure: &mut dyn FnMut(f64) -> Result<f64>) -> Result<f64> {
    let (mut above, mut below) = ((0.0, 1.0), None::<(f64, f64)>);
    let mut best = (0.0, 1.0);
    let mut next = (1.0 - goal).clamp(0.0, MOST);
    for _ in 0..TRIES {
        let found = measure(next)?;
        if (found - goal).abs() < f64::abs(best.1 - goal) {
            best = (next, found);
        }
        if (found - goal).abs() <= NEAR * goal || found > goal && next >= MOST {
            break;
        }
        if found > goal {
            above = (next, found);
        } else {
            below = Some((next, found));
        }
        next = match below {
            // Where the line between the two meets the goal, not so near to either that noise decides.
            Some((r, time)) => {
                let (from, way) = (above.0, r - above.0);
                let share = if above.1 > time { (above.1 - goal) / (above.1 - time) } else { 0.5 };
                from + way * share.clamp(0.1, 0.9)
            }
            // On along the line from the start, at most half of what is left.
            None => {
                let along = if found < 1.0 { next * (1.0 - goal) / (1.0 - found) } else { 1.0 };
                along.min(f64::midpoint(next, 1.0)).max(next + 0.02).min(MOST)
            }
        };
    }
    Ok(best.0)
}

/// As [`select`], such that a run takes, of the time it takes now, what the options' ratio leaves.
///
/// # Errors
/// As [`select`]; `Unavailable` for a runtime that is not on this machine; what surgery and running report.
pub(super) fn timed_select(
    options: &Prune,
    (found, task): (&Analysis, &Task),
    groups: &[&Group],
    scores: &[Vec<f64>],
    (all, weights): (&[Axis], &[Axis]),
    costs: Option<&Costs>,
    ctx: &Context,
) -> Result<(Selected, Timed)> {
    let runtime = options.runtime.clone().unwrap_or_else(|| RuntimeName::from("native"));
    let name = runtime.spec()?.name.to_string();
    let benchmark =
        Benchmark { runs: RUNS, warmup: WARMUP, runtimes: Some(vec![runtime]), accuracy: false, power: false, ..Benchmark::default() };
    let quiet = ctx.without_notes();
    let model = |graph| Model::new(graph, task.clone());
    let whole = model(found.graph.clone());
    let mut tries: Vec<(Selected, Timed)> = Vec::new();
    let ratio = solve(1.0 - options.ratio, &mut |ratio| {
        ctx.check()?;
        let own = Prune { ratio, budget: Budget::Macs, ..options.clone() };
        let selected = select(&own, groups, scores, all, weights, costs)?;
        if let Some((_, same)) = tries.iter().find(|(s, _)| s.atoms == selected.atoms) {
            return Ok(same.left);
        }
        let pruned = model(Removal::new(found, selected.atoms.clone()).pruned()?);
        let pair = [("before".to_string(), whole.clone()), ("after".to_string(), pruned)];
        let report = compresso_measure::benchmark(&pair, None, &benchmark, &quiet)?;
        let [before, after] = &report.rows[..] else { return Err(Error::unavailable(format!("{name} does not run the model"))) };
        let left = after.speedup.map_or(after.latency.p50_ms / before.latency.p50_ms, |s| 1.0 / s.times);
        let timed = Timed {
            runtime: name.clone(),
            before_ms: before.latency.p50_ms,
            after_ms: after.latency.p50_ms,
            left,
            ratio,
            macs: selected.went,
            tried: 0,
        };
        tries.push((selected, timed));
        Ok(left)
    })?;
    let ratio = faster(&tries.iter().map(|t| &t.1).collect::<Vec<_>>(), ratio, 1.0 - options.ratio)?;
    let tried = tries.len();
    let nearest = tries.into_iter().min_by(|a, b| (a.1.ratio - ratio).abs().total_cmp(&(b.1.ratio - ratio).abs()));
    let (mut selected, timed) = nearest.ok_or_else(|| Error::internal("nothing was timed"))?;
    (selected.went, selected.asked) = (1.0 - timed.left, options.ratio);
    Ok((selected, Timed { tried, ..timed }))
}

/// The share that was found; where that is 0, as the model as it is comes nearest to the goal, that of the faster candidate that comes nearest.
///
/// # Errors
/// `Unsupported` when none was faster: cuts would take channels and no time.
fn faster(tries: &[&Timed], ratio: f64, goal: f64) -> Result<f64> {
    if ratio > 0.0 {
        return Ok(ratio);
    }
    let away = |t: &Timed| (t.left - goal).abs();
    if let Some(t) = tries.iter().filter(|t| t.left < 1.0).min_by(|a, b| away(a).total_cmp(&away(b))) {
        return Ok(t.ratio);
    }
    let one = |t: &&Timed| format!("{:.2} of the time without {:.0} % of the multiply-accumulates", t.left, 100.0 * t.macs);
    let name = tries.first().map_or("", |t| t.runtime.as_str());
    let all = tries.iter().map(one).collect::<Vec<_>>().join(", ");
    let e = Error::unsupported(format!("no pruned model was faster than this one in {name}: {all}"));
    Err(e.hint("a share of the multiply-accumulates goes all the same with budget: \"macs\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever share of the time the multiply-accumulates make, and with some noise: the time that is asked for is met, or the most that can
        /// go goes.
        #[test]
        fn the_time_asked_for_is_met(goal in 0.1f64..0.95, fixed in 0.0f64..0.6, bend in 0.5f64..2.0, seed in 0u32..1000) {
            let mut state = seed;
            let mut tries = 0;
            let time = |r: f64| fixed + (1.0 - fixed) * (1.0 - r).powf(bend);
            let r = solve(goal, &mut |r| {
                tries += 1;
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                Ok(time(r) * (1.0 + 0.004 * ((state >> 8) as f64 / f64::from(1 << 24) - 0.5)))
            })
            .unwrap();
            prop_assert!(tries <= TRIES);
            if time(MOST) < 0.97 * goal {
                prop_assert!((time(r) - goal).abs() <= 0.05 * goal, "{} instead of {goal}, after {tries}", time(r));
            } else if time(MOST) > 1.05 * goal {
                prop_assert!(time(r) <= time(MOST) * 1.1, "{} of at best {}", time(r), time(MOST));
            }
        }
    }

    #[test]
    fn what_does_not_get_faster_is_refused() {
        let ratio = solve(0.5, &mut |r| Ok(1.0 + r)).unwrap();
        assert_eq!(ratio, 0.0);
        let timed =
            |left: f64, macs: f64| Timed { runtime: "native".into(), before_ms: 1.0, after_ms: left, left, ratio: macs, macs, tried: 0 };
        let (slow, fast) = (timed(1.5, 0.52), timed(0.2, 0.9));
        let e = faster(&[&slow], ratio, 0.8).unwrap_err();
        let why = "no pruned model was faster than this one in native: 1.50 of the time without 52 % of the multiply-accumulates";
        assert_eq!(e.message(), why);
        assert_eq!(faster(&[&slow, &fast], ratio, 0.8).unwrap(), 0.9);
        assert_eq!(faster(&[&slow], 0.2, 0.8).unwrap(), 0.2);
    }
}
