//! Layers as readers of channels: what is lost when they must do without some, once the others make up for it.
//!
//! A reader is `y = Wᵀ · x`, with the covariance C of its input on images. Least squares on the channels that are left has, without channel
//! i, an error larger by `|w_i|² / [C⁻¹]_ii` (optimal brain surgeon, Hassibi and Stork 1993, with channels in the place of weights). Taking a
//! channel away changes C⁻¹ and W for the next.

use super::Analysis;
use super::algebra::Cholesky;
use super::linear::Linear;
use compresso_base::error::Result;
use compresso_model::ops::channels::Atom;
use compresso_model::{Graph, Node};
use std::collections::{HashMap, HashSet};

/// Added to variances, as a share of their mean, so that every covariance has an inverse.
const RIDGE: f64 = 1e-3;

/// Where a layer reads channels.
#[derive(Debug, Clone)]
pub(super) struct Site {
    /// Index of the layer's node.
    pub node: usize,
    pub value: String,
    pub axis: usize,
    /// `None` for what would read a value that no layer reads, all channels as they are.
    linear: Option<Linear>,
}

/// The places at which layers read channels that may go; where none reads some, the layers that make them.
///
/// # Errors
/// `Unsupported` for operators that the library does not know.
pub(super) fn sites(found: &Analysis) -> Result<Vec<Site>> {
    let (graph, labels) = (&found.graph, &found.labels);
    let free = |value: &str, axis: usize| -> Vec<Atom> {
        let all = labels.axis(value, axis);
        all.iter().flat_map(|l| l.iter()).map(|&a| labels.root(a)).filter(|&a| !labels.is_frozen(a)).collect()
    };
    let rank = |value: &str| found.facts.get(value).and_then(|f| f.shape.as_ref()).map_or(0, Vec::len);
    let mut sites = Vec::new();
    let mut read: HashSet<Atom> = HashSet::new();
    for (i, node) in graph.nodes().iter().enumerate() {
        let (Some(value), Some(linear)) = (node.input(0), Linear::of(graph, node)?) else { continue };
        let axis = linear.axis(rank(value));
        let atoms = free(value, axis);
        // A channel that only makes a channel that goes with it is not missed.
        if atoms.is_empty() || linear.inputs == linear.taps && linear.groups > 1 {
            continue;
        }
        read.extend(atoms);
        sites.push(Site { node: i, value: value.to_string(), axis, linear: Some(linear) });
    }
    for layer in labels.layers() {
        let node: &Node = &graph.nodes()[layer.node];
        let Some(value) = node.output(0) else { continue };
        let Some(axis) = (0..rank(value)).find(|&d| free(value, d).iter().any(|a| !read.contains(a))) else { continue };
        sites.push(Site { node: layer.node, value: value.to_string(), axis, linear: None });
    }
    Ok(sites)
}

/// What one group of a layer reads.
#[derive(Debug)]
pub(super) struct Reader {
    n: usize,
    /// Inverse of the covariance of the channels that are left, `[n, n]`.
    precision: Vec<f64>,
    /// W · Wᵀ, `[n, n]`.
    gram: Vec<f64>,
    left: Vec<bool>,
    /// Representative of each channel's label.
    atoms: Vec<Atom>,
    /// 1 over the variance of y.
    unit: f64,
}

impl Reader {
    /// The readers at a site, one for each group; none where its covariance is not known.
    ///
    /// # Errors
    /// What the tensor library reports.
    pub fn at(site: &Site, found: &Analysis, covariance: &[f64]) -> Result<Vec<Self>> {
        let Some(labels) = found.labels.axis(&site.value, site.axis) else { return Ok(Vec::new()) };
        let all = labels.len();
        let (groups, n) = site.linear.as_ref().map_or((1, all), |l| (l.groups, l.inputs / l.taps));
        if covariance.len() != all * all || groups * n != all {
            return Ok(Vec::new());
        }
        let grams = match &site.linear {
            Some(linear) => grams(&found.graph, linear)?,
            None => vec![unit(n)],
        };
        let mut readers = Vec::new();
        for (g, gram) in grams.into_iter().enumerate() {
            let own = g * n..(g + 1) * n;
            let mut covariance: Vec<f64> = own.clone().flat_map(|i| &covariance[i * all + own.start..i * all + own.end]).copied().collect();
            let energy: f64 = covariance.iter().zip(&gram).map(|(c, m)| c * m).sum();
            let mean = (0..n).map(|i| covariance[i * n + i]).sum::<f64>() / n as f64;
            if mean <= 0.0 || energy <= 0.0 {
                continue;
            }
            (0..n).for_each(|i| covariance[i * n + i] += RIDGE * mean);
            let Some(factor) = Cholesky::new(covariance, n)? else { continue };
            let atoms = labels[own].iter().map(|&a| found.labels.root(a)).collect();
            let share = 1.0 / groups as f64;
            readers.push(Self { n, precision: factor.inverse()?, gram, left: vec![true; n], atoms, unit: share / energy });
        }
        Ok(readers)
    }

    /// The share of y's variance that is lost without channel `i`.
    pub fn loss(&self, i: usize) -> f64 {
        let (p, w) = (self.precision[i * self.n + i], self.gram[i * self.n + i]);
        if self.left[i] && p > 0.0 { self.unit * w / p } else { 0.0 }
    }

    /// Takes channel `i` away; the others make up for it.
    pub fn remove(&mut self, i: usize) {
        let n = self.n;
        if !std::mem::take(&mut self.left[i]) {
            return;
        }
        let own: Vec<f64> = self.precision[i * n..(i + 1) * n].to_vec();
        let weights: Vec<f64> = self.gram[i * n..(i + 1) * n].to_vec();
        let (p, w) = (own[i], weights[i]);
        if p <= 0.0 {
            return;
        }
        for j in (0..n).filter(|&j| self.left[j]) {
            let c = -own[j] / p;
            let (precision, gram) = (&mut self.precision[j * n..(j + 1) * n], &mut self.gram[j * n..(j + 1) * n]);
            precision.iter_mut().zip(&own).for_each(|(v, o)| *v += c * o);
            let to = weights[j] + c * w;
            gram.iter_mut().zip(&weights).zip(&own).for_each(|((v, wk), o)| *v += c * wk - o / p * to);
        }
    }

    /// Only a share of y is wanted any more.
    pub fn want(&mut self, share: f64) {
        self.unit *= share;
    }
}

fn unit(n: usize) -> Vec<f64> {
    (0..n * n).map(|i| f64::from(u8::from(i % (n + 1) == 0))).collect()
}

/// W · Wᵀ between the channels of each group, summed over the positions of the window.
fn grams(graph: &Graph, linear: &Linear) -> Result<Vec<Vec<f64>>> {
    let weight = graph.constant(&linear.weight).map(|c| c.to_f64s()).transpose()?.unwrap_or_default();
    let channels = linear.inputs / linear.taps;
    let gram = |matrix: Vec<f64>| {
        // [channels, taps · outputs] as it lies.
        let width = linear.taps * linear.outputs;
        super::algebra::product(&matrix, &matrix, [channels, width, channels], true)
    };
    linear.matrices(&weight).into_iter().map(gram).collect()
}

/// All readers of a graph, with the channels of each atom in them.
#[derive(Debug, Default)]
pub(super) struct Readers {
    all: Vec<Reader>,
    /// Reader and channel.
    of_atom: HashMap<Atom, Vec<(usize, usize)>>,
    /// The readers that a layer is, by its node.
    of_node: HashMap<usize, Vec<usize>>,
}

impl Readers {
    /// # Errors
    /// As [`sites`] and [`Reader::at`].
    pub fn new(found: &Analysis, covariances: &HashMap<String, Vec<f64>>) -> Result<Self> {
        let mut new = Self::default();
        for site in sites(found)? {
            let Some(covariance) = covariances.get(&site.value) else { continue };
            let first = new.all.len();
            new.all.extend(Reader::at(&site, found, covariance)?);
            if site.linear.is_some() {
                new.of_node.entry(site.node).or_default().extend(first..new.all.len());
            }
        }
        for (r, reader) in new.all.iter().enumerate() {
            for (i, &atom) in reader.atoms.iter().enumerate() {
                new.of_atom.entry(atom).or_default().push((r, i));
            }
        }
        Ok(new)
    }
    /// The share of the variance of what reads it that is lost without an atom, summed over its readers.
    pub fn loss(&self, atom: Atom) -> f64 {
        self.of_atom.get(&atom).into_iter().flatten().map(|&(r, i)| self.all[r].loss(i)).sum()
    }
    /// Takes an atom away.
    pub fn remove(&mut self, atom: Atom) {
        for (r, i) in self.of_atom.get(&atom).cloned().unwrap_or_default() {
            self.all[r].remove(i);
        }
    }
    /// Only a share of what the layer at a node makes is wanted any more.
    pub fn want(&mut self, node: usize, share: f64) {
        for &r in self.of_node.get(&node).into_iter().flatten() {
            self.all[r].want(share);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::algebra::product;
    use super::*;
    use compresso_test_support::Draw;

    /// Least squares on the channels that are left, worked out anew, has the errors that the updates add up to.
    #[test]
    fn losses_add_up_to_the_error_of_least_squares() {
        let (n, outputs) = (6, 3);
        let mut draw = Draw(5);
        let mut random = |count: usize| (0..count).map(|_| f64::from(draw.unit()) - 0.5).collect::<Vec<f64>>();
        let (x, w) = (random(n * 12), random(n * outputs));
        let mut covariance = product(&x, &x, [n, 12, n], true).unwrap();
        (0..n).for_each(|i| covariance[i * n + i] += 0.01);
        let precision = Cholesky::new(covariance.clone(), n).unwrap().unwrap().inverse().unwrap();
        let gram = product(&w, &w, [n, outputs, n], true).unwrap();
        let mut reader = Reader { n, precision, gram, left: vec![true; n], atoms: Vec::new(), unit: 1.0 };
        let made = product(&covariance, &w, [n, n, outputs], false).unwrap();
        let mut lost = 0.0;
        let mut kept: Vec<usize> = (0..n).collect();
        for gone in [4, 1, 5] {
            lost += reader.loss(gone);
            reader.remove(gone);
            kept.retain(|&i| i != gone);
            let m = kept.len();
            let inner: Vec<f64> = kept.iter().flat_map(|&i| kept.iter().map(move |&j| i * n + j)).map(|at| covariance[at]).collect();
            let right: Vec<f64> = kept.iter().flat_map(|&i| &made[i * outputs..(i + 1) * outputs]).copied().collect();
            let best = Cholesky::new(inner, m).unwrap().unwrap().solve(right.clone(), outputs).unwrap();
            let whole: f64 = w.iter().zip(&made).map(|(a, b)| a * b).sum();
            let explained: f64 = best.iter().zip(&right).map(|(a, b)| a * b).sum();
            assert!((lost - (whole - explained)).abs() < 1e-9, "{lost} is not {}", whole - explained);
            assert_eq!(reader.loss(gone), 0.0);
        }
    }
}
