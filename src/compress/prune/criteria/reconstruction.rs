//! What the layers that read a channel lose without it, once least squares has made the others do its work, for each multiply-accumulate
//! saved: ThiNet's measure (Luo et al., 2017) in the closed form of the optimal brain surgeon, all layers ranked together.
//!
//! Channels are taken away one by one, always the one of the least loss per saving in what is left, so that of two channels that can stand
//! in for each other only one is cheap. A channel's score is the highest loss per saving up to its turn.

use super::{Atom, Criterion, HashMap, Need, Normalization, Reduction, Result, Score, Whole};

pub const RECONSTRUCTION: Criterion = Criterion::new(
    "reconstruction",
    "share of what its readers give that is lost without the channel when the others make up for it, per work saved",
    &[Need::Weights, Need::Covariances],
    Score::Model(score),
)
.reduction(Reduction::Sum)
.normalization(Normalization::None);

/// Beyond the share that is to go, so much more is ranked by what has been worked out so far.
const MARGIN: f64 = 0.15;

fn score(whole: &Whole<'_>) -> Result<HashMap<Atom, f64>> {
    let (mut readers, mut costs) = (whole.readers()?, whole.costs()?);
    let atoms: Vec<Atom> = whole.groups.iter().flat_map(|g| g.atoms.iter().copied()).collect();
    let full = costs.total();
    let mut beside: Vec<Vec<usize>> = vec![Vec::new(); costs.layer_count()];
    for (i, &atom) in atoms.iter().enumerate() {
        costs.layers_of(atom).iter().for_each(|p| beside[p.0].push(i));
    }
    let mut gains: Vec<f64> = atoms.iter().map(|&a| readers.loss(a) / costs.saving(a).max(1.0)).collect();
    let mut waiting = vec![true; atoms.len()];
    let mut scores = HashMap::new();
    let mut highest = 0f64;
    let share = (whole.ratio + MARGIN).min(1.0);
    for done in 0..atoms.len() {
        if done % 64 == 0 {
            whole.ctx.check()?;
        }
        let enough = done as f64 >= share * atoms.len() as f64 && costs.total() <= (1.0 - share) * full;
        let open = (0..atoms.len()).filter(|&i| waiting[i]);
        let Some(next) = open.min_by(|&a, &b| gains[a].total_cmp(&gains[b])).filter(|&i| !enough && gains[i].is_finite()) else { break };
        let atom = atoms[next];
        waiting[next] = false;
        if costs.narrowest(atom).is_some_and(|(left, size)| left < whole.least.min(size)) {
            // It stays, as its layer would be too narrow.
            scores.insert(atom, f64::INFINITY);
            continue;
        }
        highest = highest.max(gains[next]);
        scores.insert(atom, highest);
        for (node, kept) in costs.makers(atom).collect::<Vec<_>>() {
            readers.want(node, kept);
        }
        readers.remove(atom);
        costs.remove(atom, 1);
        for &(layer, ..) in costs.layers_of(atom) {
            for &i in beside[layer].iter().filter(|&&i| waiting[i]) {
                gains[i] = readers.loss(atoms[i]) / costs.saving(atoms[i]).max(1.0);
            }
        }
    }
    // What has not had its turn comes after all that has, in the order of what it would cost now.
    let rest = atoms.iter().zip(&gains).filter(|(a, _)| !scores.get(*a).is_some_and(|s| s.is_finite()));
    let rest: Vec<(Atom, f64)> = rest.map(|(&a, &g)| (a, highest + g.max(0.0))).collect();
    scores.extend(rest);
    Ok(scores)
}
