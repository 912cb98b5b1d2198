//! Which plan is tried next.
//!
//! The model as given is judged and timed first, then the same in INT8. The largest cut that keeps the score is found by halving: a cut that
//! keeps it, in INT8 where INT8 alone kept it, is followed by a deeper one, another by a shallower one; and the same above that, of cuts that are
//! trained. Where that is allowed, some layers stay in float, cuts are shared by sensitivity, and all is done on smaller images.

use crate::course::Course;
use crate::options::Technique;
use crate::plan::Plan;
use compresso_base::context::Progress;
use compresso_base::error::Result;
use compresso_model::{Model, Task};

/// Cuts are sought among these, in percent of the multiply-accumulates.
const DEEPEST: u8 = 90;
/// The search ends when the cut is known so well.
const CLOSE: u8 = 5;

/// The deepest cut of those that hold, between one that does and one that does not.
struct Halving {
    holds: u8,
    fails: u8,
}

impl Default for Halving {
    fn default() -> Self {
        Self { holds: 0, fails: DEEPEST + CLOSE }
    }
}

impl Halving {
    /// The cut to try; `None` when both are close.
    fn next(&self) -> Option<u8> {
        let middle = u8::midpoint(self.holds, self.fails);
        // Half is what people ask for.
        (self.fails - self.holds > CLOSE).then_some(if self.holds == 0 && self.fails > DEEPEST { 50 } else { middle })
    }
    fn tell(&mut self, cut: u8, holds: bool) {
        *(if holds { &mut self.holds } else { &mut self.fails }) = cut;
    }
}

/// What of a model keeps its score as integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Precision {
    Float,
    /// All but some layers.
    Mixed,
    Int8,
}

/// Parts of the sides that images become, one after the other.
const SIDES: [f64; 4] = [0.8, 0.65, 0.5, 0.4];
/// What most detectors need sides to be a multiple of.
const STEP: usize = 32;

/// Smaller sizes of a model's images, the largest first.
fn sizes(model: &Model) -> Vec<[usize; 2]> {
    let Some(own) = model.image_size() else { return Vec::new() };
    let step = if matches!(model.task(), Task::Classify(_)) { STEP / 4 } else { STEP };
    let side = |part: f64, side: usize| ((part * side as f64 / step as f64).round() as usize).max(1) * step;
    let mut all: Vec<[usize; 2]> = SIDES.iter().map(|part| own.map(|s| side(*part, s))).filter(|s| s != &own).collect();
    all.retain(|s| s[0] <= own[0] && s[1] <= own[1]);
    all.dedup();
    all
}

impl Course<'_> {
    pub(crate) fn search(&mut self) -> Result<()> {
        let mut progress = self.ctx.progress("compress", 0);
        self.at_size(None, &mut progress)?;
        if !self.allows(Technique::Resize) {
            return Ok(());
        }
        for size in sizes(&self.seen[0].1) {
            let plan = Plan { size: Some(size), ..Plan::default() };
            // Where smaller images alone lose too much, still smaller ones do too.
            if !self.has_time() || !self.try_plan(plan)? || !self.holds(plan) {
                break;
            }
            self.at_size(Some(size), &mut progress)?;
        }
        Ok(())
    }

    /// What keeps its score of images of this size: integers, the deepest cut, the same shared otherwise, and training.
    fn at_size(&mut self, size: Option<[usize; 2]>, progress: &mut Progress) -> Result<()> {
        let whole = Plan { size, ..Plan::default() };
        let precision = self.precision(whole)?;
        progress.step("")?;
        let mut halving = Halving::default();
        if self.allows(Technique::Prune) {
            while let Some(cut) = halving.next().filter(|_| self.has_time()) {
                let last = self.finish(whole.pruned(cut), precision)?;
                halving.tell(cut, last.is_some_and(|p| self.holds(p)) && !self.is_enough(last));
                progress.step("")?;
            }
        }
        if self.allows(Technique::Sensitivity) {
            let mut deeper = halving.fails;
            while deeper <= DEEPEST && self.has_time() {
                let last = self.finish(Plan { by_sensitivity: true, ..whole.pruned(deeper) }, precision)?;
                progress.step("")?;
                if !last.is_some_and(|p| self.holds(p)) || self.is_enough(last) {
                    break;
                }
                deeper += CLOSE;
            }
        }
        for (technique, distilled) in [(Technique::Train, false), (Technique::Distill, true)] {
            // A target that is met without takes no training.
            if self.allows(technique) && !self.seen.iter().any(|(p, ..)| self.holds(*p) && self.is_enough(Some(*p))) {
                self.train(whole, distilled, precision, halving.holds, progress)?;
            }
        }
        Ok(())
    }

    /// The deepest cut that keeps its score when it is trained, by halving above the deepest that does without.
    fn train(&mut self, whole: Plan, distilled: bool, precision: Precision, untrained: u8, progress: &mut Progress) -> Result<()> {
        let mut halving = Halving { holds: untrained, ..Halving::default() };
        while let Some(cut) = halving.next().filter(|_| self.has_time()) {
            let last = self.finish(Plan { epochs: self.options.epochs, distilled, ..whole.pruned(cut) }, precision)?;
            progress.step("")?;
            halving.tell(cut, last.is_some_and(|p| self.holds(p)) && !self.is_enough(last));
        }
        Ok(())
    }

    /// What of the model keeps its score as integers.
    fn precision(&mut self, whole: Plan) -> Result<Precision> {
        let int8 = whole.quantized();
        if self.allows(Technique::Quantize) && self.has_time() && self.try_plan(int8)? && self.holds(int8) {
            return Ok(Precision::Int8);
        }
        let mixed = self.mixed(whole)?;
        Ok(if mixed.is_some_and(|p| self.holds(p)) { Precision::Mixed } else { Precision::Float })
    }

    /// The plan with as many layers in INT8 as leave it what of the drop it has not lost yet, tried; `None` where nothing of that is left.
    fn mixed(&mut self, plan: Plan) -> Result<Option<Plan>> {
        if !self.allows(Technique::MixedPrecision) || !self.has_time() {
            return Ok(None);
        }
        let left = self.at(plan).map_or(0.0, |(.., k)| self.options.max_drop - self.lost(k));
        let left = (1e4 * left).floor();
        if left < 1.0 {
            return Ok(None);
        }
        let plan = Plan { mixed: Some(left as u32), ..plan.quantized() };
        Ok(self.try_plan(plan)?.then_some(plan))
    }

    /// Makes a plan in the precision that the whole model bears; where INT8 of all layers loses too much, in part. The plan that was tried
    /// last; `None` where a step refuses the model.
    fn finish(&mut self, float: Plan, precision: Precision) -> Result<Option<Plan>> {
        if precision == Precision::Int8 {
            let int8 = float.quantized();
            if !self.try_plan(int8)? {
                return Ok(None);
            }
            return Ok(if self.holds(int8) { Some(int8) } else { self.mixed(float)?.or(Some(int8)) });
        }
        if !self.try_plan(float)? {
            return Ok(None);
        }
        Ok(if precision == Precision::Mixed { self.mixed(float)?.or(Some(float)) } else { Some(float) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halving_finds_the_deepest_cut_that_holds_in_few_steps() {
        for deepest in 0..=95 {
            let (mut halving, mut asked) = (Halving::default(), Vec::new());
            while let Some(cut) = halving.next() {
                asked.push(cut);
                halving.tell(cut, cut <= deepest);
            }
            assert!(halving.holds <= deepest && (halving.fails > deepest || halving.fails > DEEPEST), "{deepest}: {asked:?}");
            assert!(halving.fails - halving.holds <= CLOSE && asked.len() <= 6 && asked[0] == 50, "{deepest}: {asked:?}");
        }
    }
}
