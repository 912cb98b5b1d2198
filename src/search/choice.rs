//! Which candidate is taken, and why others are not.

use crate::course::Course;
use crate::front::{Point, front, hypervolume};
use crate::options::By;
use crate::report::{Candidate, CompressReport, Unseen};
use crate::store::{Known, Timed};
use compresso_base::error::Result;
use compresso_base::operation::Operation;
use compresso_learn::eval::Evaluate;
use compresso_measure::statistics::Verdict;
use compresso_model::{Made, Model};

impl Course<'_> {
    pub(crate) fn choose(self, cancelled: bool) -> Result<Made<CompressReport>> {
        let speed = |k: &Known| k.time.as_ref().map_or(0.0, Timed::times);
        let given = &self.seen[0].2;
        let points: Vec<Point> = self
            .seen
            .iter()
            .map(|(.., k)| Point { score: k.score, speed: speed(k), small: given.size_bytes as f64 / k.size_bytes.max(1) as f64 })
            .collect();
        let front = front(&points);
        let able: Vec<usize> = (0..self.seen.len()).filter(|&i| self.holds(self.seen[i].0)).collect();
        let meeting: Vec<usize> = able.iter().copied().filter(|&i| self.missed(&self.seen[i].2).is_none()).collect();
        let reached = !meeting.is_empty();
        let best = |of: &[usize], by: &dyn Fn(usize) -> [f64; 2]| -> usize {
            let better = |&a: &usize, &b: &usize| by(a)[0].total_cmp(&by(b)[0]).then(by(a)[1].total_cmp(&by(b)[1])).then(b.cmp(&a));
            of.iter().copied().max_by(better).unwrap_or(0)
        };
        let has_target = self.options.has_target();
        let winner = if has_target && reached {
            best(&meeting, &|i| [points[i].score, points[i].speed])
        } else {
            best(&able, &|i| [points[i].speed, points[i].small])
        };
        let name = |i: usize| self.name(self.seen[i].0, &self.seen[i].2);
        let candidates = self.seen.iter().enumerate().map(|(i, (plan, _, k))| {
            let beaten = (0..points.len()).find(|&j| points[j].beats(points[i]));
            let (lost, missed) = (self.lost(k), self.missed(k));
            let why = match () {
                () if i == winner && !reached => format!("taken, though {}", missed.unwrap_or_default()),
                () if i == winner => "taken".to_string(),
                () if !self.holds(*plan) => format!("loses {lost:.4}, more than {}", self.options.max_drop),
                () if missed.is_some() => missed.unwrap_or_default(),
                () if k.time.as_ref().is_some_and(|t| t.speedup.is_some_and(|s| s.verdict == Verdict::Slower)) => {
                    "slower than as given".into()
                }
                () => match beaten {
                    Some(j) => format!("{} is as good or better in all", name(j)),
                    None if has_target && reached => format!("a lower score than {}", name(winner)),
                    None => format!("slower than {}", name(winner)),
                },
            };
            Candidate { name: name(i), plan: *plan, known: k.clone(), lost, front: front[i], why }
        });
        let candidates: Vec<Candidate> = candidates.collect();
        let (plan, model, _) = &self.seen[winner];
        let held: Vec<Point> = (0..points.len()).filter(|&i| points[i].speed > 0.0).map(|i| points[i]).collect();
        let seconds: f64 = self.seen.iter().map(|(.., k)| k.seconds).sum();
        let mut report = CompressReport {
            winner: *plan,
            measure: self.judge.measure.clone(),
            images: self.judge.images(),
            dataset: self.data.for_evaluation().label(),
            runtime: self.options.runtime.clone(),
            runs: self.options.runs,
            threads: self.ctx.threads,
            hypervolume: hypervolume(&held, self.judge.first.value),
            minutes: seconds / 60.0,
            unseen: None,
            refused: self.refused.clone(),
            coarse: self.coarse.clone(),
            cancelled,
            out_of_time: !self.has_time(),
            budget_minutes: self.options.budget_minutes,
            target_missed: has_target && !reached,
            candidates,
        };
        if !cancelled && winner > 0 {
            report.unseen = self.unseen(model)?;
        }
        self.ctx.note(report.headline());
        Ok(Made::new(model.clone(), report))
    }

    /// The scores of the model as given and of the one taken on a split that the search has not seen.
    fn unseen(&self, taken: &Model) -> Result<Option<Unseen>> {
        let judged = self.data.for_evaluation();
        let Ok(test) = self.data.split("test") else { return Ok(None) };
        if test.label() == judged.label() || !self.judge.by_labels() {
            return Ok(None);
        }
        let score = |model: &Model| -> Result<f64> {
            let found = Evaluate::default().run((model, &test), &self.quiet)?;
            Ok(if self.options.by == By::Map50 { found.map50.or(found.top1).unwrap_or(0.0) } else { found.fitness() })
        };
        let [given, taken] = [score(&self.seen[0].1)?, score(taken)?];
        Ok(Some(Unseen { split: test.label(), images: test.len(), given, taken }))
    }
}
