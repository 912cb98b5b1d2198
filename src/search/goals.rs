//! What is asked for beside the score.

use crate::options::Compress;
use crate::store::Known;

impl Compress {
    pub(crate) fn has_target(&self) -> bool {
        self.latency_ms.is_some() || self.size_mb.is_some() || self.energy_j.is_some()
    }
    /// Which targets a candidate misses, as in "too slow and too large"; `None` where it misses none.
    pub(crate) fn missed(&self, known: &Known) -> Option<String> {
        let time = known.time.as_ref();
        let above = |most: Option<f64>, of: Option<f64>| most.is_some_and(|most| of.is_none_or(|v| v > most));
        let misses = [
            (above(self.latency_ms, time.map(|t| t.p50_ms)), "too slow"),
            (above(self.energy_j, time.and_then(|t| t.energy_j)), "takes too much energy"),
            (above(self.size_mb, Some(known.size_bytes as f64 / 1e6)), "too large"),
        ];
        let names: Vec<&str> = misses.into_iter().filter(|(misses, _)| *misses).map(|(_, name)| name).collect();
        (!names.is_empty()).then(|| names.join(" and "))
    }
}
