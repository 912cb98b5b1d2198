//! The fewest layers in float that keep a model's score.
//!
//! Layers are ordered by what rounding each alone costs at the outputs. The shortest beginning of that list which holds the score,
//! when left in float, is searched by halving; then each of its layers, the least first, is rounded again where the score still
//! holds.

use super::calibrated::{Calibrated, JUDGED, Left};
use super::placement::{Plan, label};
use crate::score::{Figure, Score, Scorer};
use compresso_base::context::Context;
use compresso_base::error::{Error, Result};
use compresso_base::report::{Cell, Table, counted};
use compresso_learn::data::Dataset;
use compresso_model::{Model, Task};
use serde::Serialize;

/// Images that graphs are judged on: at least, and at most where one of a classifier's is to be worth less than the drop.
const IMAGES: usize = 128;
const MOST_IMAGES: f64 = 1024.0;

/// A layer that stays in float because of what its rounding costs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Guilty {
    /// Name of its node; of a node without, its first output.
    pub layer: String,
    /// Its operator.
    pub op: String,
    /// Signal over noise at the outputs when it alone is rounded, in decibels.
    pub alone_sqnr_db: Option<f64>,
    /// The score if it were rounded too, beside all that is.
    pub score_rounded: f64,
}

impl Guilty {
    pub(super) fn table(list: &[Self]) -> Table {
        let mut table = Table::new("Kept in float for the score", &["layer", "op", ">SQNR alone (dB)", ">score if rounded"]);
        for g in list {
            let alone = g.alone_sqnr_db.map_or_else(Cell::none, |db| Cell::shown(format!("{db:.1}"), db));
            table.row([Cell::from(&g.layer), Cell::from(&g.op), alone, Cell::shown(format!("{:.4}", g.score_rounded), g.score_rounded)]);
        }
        table
    }
}

/// What rounding each layer of the plan alone costs, in the plan's order.
///
/// # Errors
/// Whatever running the graphs reports; `Cancelled`.
pub(super) fn alone(calibrated: &Calibrated<'_>, images: usize, ctx: &Context) -> Result<Vec<super::OutputError>> {
    let judge = calibrated.judge(images, ctx)?;
    let nodes: Vec<usize> = calibrated.plan.layers.iter().map(|l| l.node).collect();
    let mut progress = ctx.progress("round each layer alone", nodes.len() as u64);
    let mut found = Vec::new();
    for &node in &nodes {
        let others: Vec<Left> = nodes.iter().filter(|&&n| n != node).map(|&n| (n, String::new())).collect();
        found.push(match calibrated.nearest(&others) {
            Ok(rounded) => judge.error(&rounded.graph)?,
            // It has no good scale and stays in float anyway.
            Err(e) if e.kind() == compresso_base::error::ErrorKind::Unsupported => super::OutputError { noise: 0.0, cosine: 1.0 },
            Err(e) => return Err(e),
        });
        progress.step("")?;
    }
    Ok(found)
}

/// The layers to leave in float so that the score of `float`, the calibrated model, falls by at most `most`. What they are guilty of goes
/// into `guilty`, the worst first.
///
/// # Errors
/// `Unsupported` where models cannot be scored on the dataset; `Check` where no mixture holds the score; `Cancelled`.
pub(super) fn left(
    calibrated: &Calibrated<'_>,
    float: &Model,
    data: &Dataset,
    most: f64,
    guilty: &mut Vec<Guilty>,
    ctx: &Context,
) -> Result<Vec<Left>> {
    let wanted = match float.task() {
        Task::Classify(_) => IMAGES.max((1.0 / most).ceil().min(MOST_IMAGES) as usize),
        _ => IMAGES,
    };
    let scorer = Scorer::of(float, data, wanted, Figure::Map, ctx)?.map_err(|why| {
        let e = Error::unsupported(format!("option 'max_drop' needs a score to keep, and the model has none: {why}"));
        e.hint("train it first, or leave layers out by exclude")
    })?;
    let plan = &calibrated.plan;
    let measure = &scorer.measure;
    let judge = |nodes: &[usize]| -> Result<Score> {
        let left: Vec<Left> = nodes.iter().map(|&n| (n, format!("rounding it costs more {measure} than max_drop allows"))).collect();
        let rounded = calibrated.rounded(&left, ctx)?;
        scorer.score(&Model::new(rounded.graph, float.task().clone()), ctx)
    };
    let first = scorer.first.value;
    let least = first - most;
    let whole = judge(&[])?;
    let all = whole.value;
    ctx.note_each(scorer.too_coarse(most, &whole).map(|why| format!("quantize: max_drop: warning: {why}")));
    let score = |nodes: &[usize]| judge(nodes).map(|s| s.value);
    let told = |left: &[usize], now: f64| {
        let (images, of) = (counted(scorer.images(), "image"), plan.layers.len());
        ctx.note(format!("quantize: max_drop: {} of {of} layers stay in float, {measure} {first:.4} → {now:.4} on {images}", left.len()));
    };
    if all >= least {
        told(&[], all);
        return Ok(Vec::new());
    }
    let errors = alone(calibrated, JUDGED, ctx)?;
    let mut order: Vec<usize> = (0..errors.len()).collect();
    order.sort_by(|&a, &b| errors[b].noise.total_cmp(&errors[a].noise));
    let nodes: Vec<usize> = order.iter().map(|&i| plan.layers[i].node).collect();
    let mut kept = beginning(&nodes, |left| Ok(score(left)? >= least))?.ok_or_else(|| {
        let e =
            Error::check(format!("the {measure} falls by more than {most}, from {first:.4} to {all:.4}, whatever layers stay in float"));
        e.hint("allow more by max_drop, or calibrate with more images or another observer")
    })?;
    let mut now = score(&kept)?;
    let mut with = vec![all; kept.len()];
    for i in (0..kept.len()).rev() {
        ctx.check()?;
        let mut fewer = kept.clone();
        fewer.remove(i);
        let found = score(&fewer)?;
        if found >= least {
            (kept, now) = (fewer, found);
            with.remove(i);
        } else {
            with[i] = found;
        }
    }
    told(&kept, now);
    guilty.extend(kept.iter().zip(with).map(|(node, score)| named(calibrated, plan, &errors, *node, score)));
    let reason = |g: &Guilty| {
        let alone = g.alone_sqnr_db.map_or(String::new(), |db| format!(", {db:.1} dB at the outputs when it alone is rounded"));
        format!("with it on integers the {measure} would be {:.4}, of {first:.4} in float{alone}", g.score_rounded)
    };
    Ok(kept.into_iter().zip(guilty.iter().map(reason)).collect())
}

fn named(calibrated: &Calibrated<'_>, plan: &Plan, errors: &[super::OutputError], node: usize, score: f64) -> Guilty {
    let own = &calibrated.graph.nodes()[node];
    let error = plan.layers.iter().zip(errors).find(|(l, _)| l.node == node).map(|(_, e)| e.sqnr_db());
    Guilty { layer: label(own), op: own.op.clone(), alone_sqnr_db: error.filter(|db| db.is_finite()), score_rounded: score }
}

/// The shortest beginning of a list for which `holds`, found by halving; never the whole of it. `None` where there is none.
fn beginning(list: &[usize], mut holds: impl FnMut(&[usize]) -> Result<bool>) -> Result<Option<Vec<usize>>> {
    let mut high = list.len().saturating_sub(1);
    if high == 0 || !holds(&list[..high])? {
        return Ok(None);
    }
    let mut low = 0;
    // It holds at `high` and not at `low`.
    while high - low > 1 {
        let middle = usize::midpoint(low, high);
        if holds(&list[..middle])? {
            high = middle;
        } else {
            low = middle;
        }
    }
    Ok(Some(list[..high].to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_beginning_is_found_with_few_questions() {
        let list: Vec<usize> = (0..64).collect();
        for wanted in 1..64 {
            let mut asked = 0;
            let found = beginning(&list, |left| {
                asked += 1;
                Ok(left.len() >= wanted)
            });
            assert_eq!(found.unwrap().unwrap().len(), wanted);
            assert!(asked <= 7, "{asked}");
        }
        assert_eq!(beginning(&list, |_| Ok(false)).unwrap(), None);
        assert_eq!(beginning(&[3], |_| Ok(true)).unwrap(), None, "one layer that stays in float leaves nothing to quantize");
    }
}
