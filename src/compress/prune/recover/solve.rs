//! The least squares of one layer.

use super::super::algebra::{Cholesky, product};
use super::super::linear::Linear;
use super::super::moments::Moments;
use super::{Bias, Recover, Target};
use compresso_base::context::Context;
use compresso_base::error::Result;
use compresso_base::memory;
use compresso_model::Graph;
use indexmap::IndexMap;

/// Ridges that are tried, as shares of the mean variance of a layer's inputs, strongest first.
const RIDGES: [f64; 7] = [1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6];
/// The one that is tried first.
const FIRST_RIDGE: usize = 2;

/// Constants with new numbers.
#[derive(Debug, Default)]
pub(super) struct Moved {
    /// How many layers they belong to.
    pub layers: usize,
    /// Images that were looked at.
    pub images: usize,
    pub constants: IndexMap<String, Vec<f64>>,
}

/// What images showed of a layer's inputs and of what it is to give, of each group: on the images that weights are fitted to, and on those
/// that are held out.
#[derive(Debug)]
pub(super) struct Observed {
    fitted: Vec<Moments>,
    held: Vec<Moments>,
}

impl Observed {
    /// # Errors
    /// `Memory` where the matrices do not fit.
    pub fn new(linear: &Linear) -> Result<Self> {
        let n = linear.inputs + linear.outputs;
        // Two sums, their covariances, a factor and its copy.
        memory::claim_tensor(&[linear.groups, n, n], 8, 5, || format!("the least squares of '{}'", linear.weight))?;
        Ok(Self { fitted: vec![Moments::new(n); linear.groups], held: vec![Moments::new(n); linear.groups] })
    }
    /// Adds the rows of each group.
    ///
    /// # Errors
    /// `Check` for numbers that are not finite.
    pub fn add(&mut self, rows: &[Vec<f32>], held: bool) -> Result<()> {
        let groups = if held { &mut self.held } else { &mut self.fitted };
        groups.iter_mut().zip(rows).try_for_each(|(m, rows)| m.add(rows))
    }
}

/// Least squares `y = x · w + b` by its moments.
#[derive(Debug)]
struct Problem {
    inputs: usize,
    outputs: usize,
    /// `[inputs, inputs]`
    xx: Vec<f64>,
    /// `[inputs, outputs]`
    xy: Vec<f64>,
    /// Σ over outputs of the variance.
    yy: f64,
    mean_x: Vec<f64>,
    mean_y: Vec<f64>,
}

impl Problem {
    /// With `biased`, moments are taken about the means; without, about zero.
    fn new(moments: &Moments, inputs: usize, biased: bool) -> Self {
        let (n, mut all, mut mean) = (moments.size(), moments.covariance(), moments.mean());
        if !biased {
            for (row, a) in all.chunks_exact_mut(n).zip(&mean) {
                row.iter_mut().zip(&mean).for_each(|(v, b)| *v += a * b);
            }
            mean.fill(0.0);
        }
        let part = |from: usize, to: usize| all.chunks_exact(n).take(inputs).flat_map(|row| row[from..to].to_vec()).collect::<Vec<f64>>();
        let (xx, xy) = (part(0, inputs), part(inputs, n));
        let yy = (inputs..n).map(|i| all[i * n + i]).sum();
        let mean_y = mean.split_off(inputs);
        Self { inputs, outputs: n - inputs, xx, xy, yy, mean_x: mean, mean_y }
    }

    /// Mean of y less that of x · w.
    fn offset(&self, w: &[f64]) -> Result<Vec<f64>> {
        let made = product(&self.mean_x, w, [1, self.inputs, self.outputs], false)?;
        Ok(self.mean_y.iter().zip(&made).map(|(y, m)| y - m).collect())
    }

    /// Mean squared error, summed over the outputs.
    fn error(&self, w: &[f64], b: &[f64]) -> Result<f64> {
        let made = product(&self.xx, w, [self.inputs, self.inputs, self.outputs], false)?;
        let spread: f64 = w.iter().zip(&made).zip(&self.xy).map(|((w, m), xy)| w * (m - 2.0 * xy)).sum();
        let shift: f64 = self.offset(w)?.iter().zip(b).map(|(o, b)| (o - b) * (o - b)).sum();
        Ok((self.yy + spread).max(0.0) + shift)
    }

    /// The weights of the least squared error and ridge · mean variance · |w − start|²; `None` where no system can be solved.
    fn solve(&self, start: &[f64], ridge: f64) -> Result<Option<Vec<f64>>> {
        let n = self.inputs;
        let mut a = self.xx.clone();
        let mean = (0..n).map(|i| a[i * n + i]).sum::<f64>() / n.max(1) as f64;
        if mean <= 0.0 {
            return Ok(None);
        }
        (0..n).for_each(|i| a[i * n + i] += ridge * mean);
        let Some(factor) = Cholesky::new(a, n)? else { return Ok(None) };
        let made = product(&self.xx, start, [n, n, self.outputs], false)?;
        let rest = self.xy.iter().zip(&made).map(|(xy, m)| xy - m).collect();
        let step = factor.solve(rest, self.outputs)?;
        Ok(Some(start.iter().zip(&step).map(|(w, d)| w + d).collect()))
    }
}

/// Weights and biases of all groups.
type Solution = Vec<(Vec<f64>, Vec<f64>)>;

fn error(problems: &[Problem], solution: &Solution) -> Result<f64> {
    problems.iter().zip(solution).map(|(p, (w, b))| p.error(w, b)).sum()
}

/// Walks over numbers below `count` to the lowest of what they give, from `first` on, first up, and down if that leads nowhere. Each is a
/// factorization, and what ridges give falls and then rises: weaker ones only fit the images better that are not held out.
fn lowest(count: usize, first: usize, mut of: impl FnMut(usize) -> Result<Option<f64>>) -> Result<()> {
    let Some(start) = of(first)? else { return Ok(()) };
    let mut fall = |places: &mut dyn Iterator<Item = usize>| -> Result<bool> {
        let (mut last, mut fell) = (start, false);
        for i in places {
            match of(i)? {
                Some(now) if now <= last => (last, fell) = (now, true),
                _ => break,
            }
        }
        Ok(fell)
    };
    if !fall(&mut (first + 1..count))? {
        fall(&mut (0..first).rev())?;
    }
    Ok(())
}

/// Solves each group; biases stay as they are where there is no place for others.
fn solved(problems: &[Problem], start: &Solution, ridge: Option<f64>, biased: bool) -> Result<Option<Solution>> {
    let mut all = Vec::with_capacity(problems.len());
    for (problem, (w, b)) in problems.iter().zip(start) {
        let w = match ridge {
            Some(ridge) => match problem.solve(w, ridge)? {
                Some(w) => w,
                None => return Ok(None),
            },
            None => w.clone(),
        };
        let b = if biased { problem.offset(&w)? } else { b.clone() };
        all.push((w, b));
    }
    Ok(Some(all))
}

/// The constants of a layer that change; `None` where no others serve the held-out images better.
///
/// # Errors
/// `Check` for values that are not finite; `Cancelled`.
pub(super) fn layer(
    graph: &Graph,
    target: &Target,
    observed: &mut Observed,
    how: Recover,
    ctx: &Context,
) -> Result<Option<IndexMap<String, Vec<f64>>>> {
    let linear = &target.linear;
    observed.fitted.iter_mut().chain(&mut observed.held).try_for_each(Moments::finish)?;
    let Some(weight) = graph.constant(&linear.weight).filter(|_| observed.fitted.iter().all(|m| m.count() > 1.0)) else { return Ok(None) };
    let biased = target.bias != Bias::Nowhere;
    let problems = |all: &[Moments]| all.iter().map(|m| Problem::new(m, linear.inputs, biased)).collect::<Vec<_>>();
    let fitted = problems(&observed.fitted);
    let held = if observed.held.iter().all(|m| m.count() > 0.0) { Some(problems(&observed.held)) } else { None };
    let judge = held.as_ref().unwrap_or(&fitted);
    let bias = match &target.bias {
        Bias::Own(name) => graph.constant(name).map(|c| c.to_f64s()).transpose()?,
        _ => None,
    };
    let bias = bias.unwrap_or_else(|| vec![0.0; linear.groups * linear.outputs]);
    let start: Solution = linear.matrices(&weight.to_f64s()?).into_iter().zip(bias.chunks(linear.outputs).map(<[f64]>::to_vec)).collect();
    let least = error(judge, &start)?;
    let mut best = (least, None);
    let with_weights = how == Recover::Weights;
    // The error that a ridge leaves; none where no system can be solved.
    let mut attempt = |ridge: Option<f64>| -> Result<Option<f64>> {
        ctx.check()?;
        let Some(found) = solved(&fitted, &start, ridge, biased)? else { return Ok(None) };
        let now = error(judge, &found)?;
        if now < best.0 {
            best = (now, Some((ridge, found)));
        }
        Ok(Some(now))
    };
    attempt(None)?;
    if with_weights {
        lowest(RIDGES.len(), FIRST_RIDGE, |i| attempt(Some(RIDGES[i])))?;
    }
    let (_, Some((ridge, found))) = best else { return Ok(None) };
    let (matrices, biases): (Vec<_>, Vec<_>) = found.into_iter().unzip();
    let mut constants = IndexMap::new();
    if ridge.is_some() {
        constants.insert(linear.weight.clone(), linear.stored(&matrices));
    }
    let shift = biases.concat();
    let stored = |name: &str, sign: f64| -> Result<Vec<f64>> {
        let old = graph.constant(name).map(|c| c.to_f64s()).transpose()?.unwrap_or_default();
        Ok(old.iter().zip(&shift).map(|(o, s)| o + sign * s).collect())
    };
    match &target.bias {
        Bias::Own(name) => drop(constants.insert(name.clone(), shift)),
        Bias::Mean(name) => drop(constants.insert(name.clone(), stored(name, -1.0)?)),
        Bias::Added(name) => drop(constants.insert(name.clone(), stored(name, 1.0)?)),
        Bias::Nowhere => {}
    }
    Ok(Some(constants))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_is_found_from_either_side_with_few_attempts() {
        for best in 0..7usize {
            let mut tried = Vec::new();
            lowest(7, 2, |i| {
                tried.push(i);
                Ok(Some(i.abs_diff(best) as f64))
            })
            .unwrap();
            assert!(tried.contains(&best), "{best}: {tried:?}");
            assert!(tried.len() <= best.abs_diff(2) + 3, "{best}: {tried:?}");
        }
        let mut tried = 0;
        lowest(7, 2, |_| {
            tried += 1;
            Ok(None)
        })
        .unwrap();
        assert_eq!(tried, 1, "where no system can be solved, weaker ridges do no better");
    }
}
