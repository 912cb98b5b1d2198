//! The scenario `server`: queries arrive by chance, and most of them must be answered in time.
//!
//! Arrivals are a Poisson process, queries are answered one after the other in the order in which they came, and the latency of one counts
//! from its arrival, so that waiting counts. The figure is the greatest rate at which a percentile of the latency keeps a bound (Reddi et al.,
//! MLPerf Inference Benchmark, 2020, section III).

use crate::statistics::runs_for;
use crate::timing::percentile;
use crate::worker::{Carrier, Fault};
use compresso_base::context::Context;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use std::time::{Duration, Instant};

/// Rates that are tried; each halves what the answer is known to.
const TRIALS: usize = 6;

/// The greatest rate that keeps the bound, and what was tried to find it.
#[derive(Debug, Clone, Serialize)]
pub struct Server {
    /// Milliseconds in which `percentile` of the queries must be answered.
    pub bound_ms: f64,
    /// Share of the queries, from 0 to 1.
    pub percentile: f64,
    /// Queries per second; 0 where no rate that was tried keeps the bound.
    pub rate: f64,
    /// Of queries that come one at a time, each after the answer to the last.
    pub capacity: f64,
    /// In the order in which they were tried.
    pub trials: Vec<Trial>,
}

/// Queries at one rate.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Trial {
    /// Queries per second.
    pub rate: f64,
    /// Queries that were answered: fewer than asked where too many were late already.
    pub queries: usize,
    /// Median latency in milliseconds, from a query's arrival.
    pub p50_ms: f64,
    /// The percentile that the bound is for.
    pub tail_ms: f64,
    /// The bound was kept.
    pub held: bool,
}

/// What a trial asks for.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    pub bound_ms: f64,
    pub percentile: f64,
    /// Seconds of a trial, instead of as many queries as tell the percentile.
    pub seconds: Option<f64>,
    pub seed: u64,
}

/// Who answers, and the clock by which that is timed.
pub trait Desk {
    /// Seconds since some moment.
    fn now(&self) -> f64;
    fn wait_until(&mut self, seconds: f64) -> Result<(), Fault>;
    /// Answers one query.
    fn serve(&mut self) -> Result<(), Fault>;
}

/// A carrier, by the clock of this machine.
pub struct Served<'a, 'b> {
    pub carrier: &'a mut (dyn Carrier + 'b),
    pub begin: Instant,
    pub ctx: &'a Context,
}

impl Desk for Served<'_, '_> {
    fn now(&self) -> f64 {
        self.begin.elapsed().as_secs_f64()
    }
    fn wait_until(&mut self, seconds: f64) -> Result<(), Fault> {
        loop {
            self.ctx.check()?;
            let left = seconds - self.now();
            if left <= 0.0 {
                return Ok(());
            }
            std::thread::sleep(Duration::from_secs_f64(left.min(0.05)));
        }
    }
    fn serve(&mut self) -> Result<(), Fault> {
        self.ctx.check()?;
        self.carrier.step(1).map(drop)
    }
}

impl Load {
    fn queries(&self, rate: f64) -> usize {
        match self.seconds {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a bounded count")]
            Some(seconds) => (rate * seconds).clamp(8.0, 1e6) as usize,
            None => runs_for(self.percentile),
        }
    }

    /// Queries at one rate. It ends where more are late than may be.
    ///
    /// # Errors
    /// Those of the desk.
    pub fn trial(&self, desk: &mut dyn Desk, rate: f64, seed: u64) -> Result<Trial, Fault> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let queries = self.queries(rate);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of the queries")]
        let may_be_late = ((1.0 - self.percentile) * queries as f64).floor() as usize;
        let begin = desk.now();
        let (mut arrival, mut late) = (0.0, 0);
        let mut latencies = Vec::with_capacity(queries);
        while latencies.len() < queries && late <= may_be_late {
            // The time between two arrivals of a Poisson process is exponential.
            arrival -= (1.0 - rng.random::<f64>()).ln() / rate;
            desk.wait_until(begin + arrival)?;
            desk.serve()?;
            let ms = 1e3 * (desk.now() - begin - arrival);
            late += usize::from(ms > self.bound_ms);
            latencies.push(ms);
        }
        latencies.sort_by(f64::total_cmp);
        let held = late <= may_be_late;
        let at = |share: f64| percentile(&latencies, 100.0 * share);
        Ok(Trial { rate, queries: latencies.len(), p50_ms: at(0.5), tail_ms: at(self.percentile), held })
    }

    /// The greatest rate that keeps the bound, of a desk that answers `capacity` queries a second when it never waits: by halving, to a 64th of
    /// that.
    ///
    /// # Errors
    /// Those of the desk.
    pub fn search(&self, desk: &mut dyn Desk, capacity: f64) -> Result<Server, Fault> {
        let mut server = Server { bound_ms: self.bound_ms, percentile: self.percentile, rate: 0.0, capacity, trials: Vec::new() };
        let mut above = capacity;
        for i in 0..TRIALS as u64 {
            let rate = f64::midpoint(server.rate, above);
            let trial = self.trial(desk, rate, self.seed.wrapping_add(i))?;
            if trial.held {
                server.rate = rate;
            } else {
                above = rate;
            }
            server.trials.push(trial);
        }
        Ok(server)
    }
}

impl Server {
    /// The trial whose rate was the greatest that kept the bound.
    pub fn best(&self) -> Option<&Trial> {
        self.trials.iter().rfind(|t| t.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A desk on a clock of its own, whose service takes what `time` says.
    struct Simulated<F> {
        clock: f64,
        time: F,
    }

    impl<F: FnMut() -> f64> Desk for Simulated<F> {
        fn now(&self) -> f64 {
            self.clock
        }
        fn wait_until(&mut self, seconds: f64) -> Result<(), Fault> {
            self.clock = self.clock.max(seconds);
            Ok(())
        }
        fn serve(&mut self) -> Result<(), Fault> {
            self.clock += (self.time)();
            Ok(())
        }
    }

    fn load(bound_ms: f64, percentile: f64) -> Load {
        Load { bound_ms, percentile, seconds: Some(100.0), seed: 1 }
    }

    /// The time in a queue with constant service (M/D/1): s + ρ s / (2 (1 − ρ)), Pollaczek and Khinchine. Half of the queries wait less.
    #[test]
    fn waiting_counts_as_in_the_theory_of_queues() {
        let mut desk = Simulated { clock: 0.0, time: || 1e-3 };
        let trial = load(f64::INFINITY, 0.99).trial(&mut desk, 500.0, 7).unwrap();
        assert_eq!(trial.queries, 50_000);
        // Half of them find nobody before them, as ρ is one half.
        assert!((trial.p50_ms - 1.0).abs() < 0.02, "{trial:?}");
        // P(wait > x) of an M/D/1 queue with ρ = 1/2 falls below a hundredth at 3.04 services (its exact sum, by Erlang).
        assert!((trial.tail_ms - 4.1).abs() < 0.35, "{trial:?}");
    }

    /// With exponential service (M/M/1) the latency is exponential with rate μ − λ, so the bound t at 99 % allows λ = μ − ln(100) / t.
    #[test]
    fn the_greatest_rate_is_that_of_the_theory() {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let mut desk = Simulated { clock: 0.0, time: move || -1e-3 * (1.0 - rng.random::<f64>()).ln() };
        let server = load(20.0, 0.99).search(&mut desk, 1000.0).unwrap();
        let expected = 1000.0 - 100f64.ln() / 0.02;
        assert!((server.rate - expected).abs() < 40.0, "{} is not near {expected}: {server:?}", server.rate);
        assert!(server.best().is_some_and(|t| t.rate == server.rate && t.tail_ms <= 20.0));
        assert!(server.trials.iter().all(|t| t.held == (t.rate <= server.rate)));
    }

    #[test]
    fn a_bound_below_the_service_holds_at_no_rate() {
        let mut desk = Simulated { clock: 0.0, time: || 1e-2 };
        let server = load(5.0, 0.9).search(&mut desk, 100.0).unwrap();
        assert!(server.rate == 0.0 && server.best().is_none());
        // One late query more than may be ends a trial.
        assert!(server.trials.iter().all(|t| t.queries <= 600), "{server:?}");
    }
}
