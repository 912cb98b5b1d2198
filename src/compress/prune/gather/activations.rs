//! What images make of the values of a graph.

use super::super::Analysis;
use super::super::slices::{Activations, Occurrence, Role};
use crate::images::Images;
use crate::probe::Probe;
use compresso_base::context::Context;
use compresso_base::error::{Error, Result};
use compresso_exec::compiled::Seen;
use compresso_learn::data::Dataset;
use compresso_model::Task;
use std::collections::{HashMap, HashSet};

/// Running sums over one axis of a value.
#[derive(Debug, Clone)]
struct Sums {
    magnitude: Vec<f64>,
    zeros: Vec<f64>,
    /// Numbers seen per index.
    count: f64,
}

impl Sums {
    fn new(indices: usize) -> Self {
        Self { magnitude: vec![0.0; indices], zeros: vec![0.0; indices], count: 0.0 }
    }

    /// Adds a value whose element `index` is `values[Σ index[i] · strides[i]]`.
    ///
    /// # Errors
    /// `Internal` when the axis has another size than its labels say; `Check` for numbers that are not finite.
    fn see(&mut self, seen: &Seen<'_>, axis: usize) -> Result<()> {
        let n = self.magnitude.len();
        if seen.dims.get(axis) != Some(&n) {
            return Err(Error::internal(format!("'{}' has the shape {:?}, its axis {axis} was to have {n}", seen.name, seen.dims)));
        }
        let mut others: Vec<(usize, usize)> = seen.dims.iter().copied().zip(seen.strides.iter().copied()).collect();
        let (_, step) = others.remove(axis);
        let positions: usize = others.iter().map(|o| o.0).product();
        for position in 0..positions {
            let mut rest = position;
            let mut start = 0;
            for &(size, stride) in others.iter().rev() {
                start += rest % size * stride;
                rest /= size;
            }
            for i in 0..n {
                let v = f64::from(seen.values[start + i * step]);
                self.magnitude[i] += v.abs();
                self.zeros[i] += f64::from(u8::from(v == 0.0));
            }
        }
        self.count += positions as f64;
        if self.magnitude.iter().any(|m| !m.is_finite()) {
            let e = Error::check(format!("'{}' is infinite or not a number on an image", seen.name));
            return Err(e.hint("the model itself is broken: evaluate it first"));
        }
        Ok(())
    }

    fn means(self) -> Activations {
        let mean = |sums: Vec<f64>| sums.into_iter().map(|s| s / self.count.max(1.0)).collect();
        Activations { magnitude: mean(self.magnitude), zeros: mean(self.zeros) }
    }
}

/// Runs images through the graph; gives what they showed of the values among `occurrences`, by value and axis.
///
/// # Errors
/// As [`Images::new`]; `Check` for values that are not finite; `Cancelled`.
pub(super) fn gather(
    found: &Analysis,
    occurrences: &[Occurrence],
    task: &Task,
    data: &Dataset,
    images: usize,
    ctx: &Context,
) -> Result<HashMap<(String, usize), Activations>> {
    let mut sums: HashMap<String, Vec<(usize, Sums)>> = HashMap::new();
    for occurrence in occurrences.iter().filter(|p| matches!(p.role, Role::Input | Role::Output)) {
        let axes = sums.entry(occurrence.name.clone()).or_default();
        if !axes.iter().any(|(axis, _)| *axis == occurrence.axis) {
            axes.push((occurrence.axis, Sums::new(occurrence.roots.len())));
        }
    }
    let names: HashSet<String> = sums.keys().cloned().collect();
    // One image at a time stays in the caches.
    let mut batches = Images::new(&found.graph, task, data, images, 1, ctx)?;
    let mut probe = Probe::new(&found.graph, names, ctx)?;
    let mut progress = ctx.progress("gathering activations", images.min(data.for_training().len()) as u64);
    let mut see = |seen: &Seen<'_>| -> Result<()> {
        let axes = sums.get_mut(seen.name).map_or(&mut [][..], Vec::as_mut_slice);
        axes.iter_mut().try_for_each(|(axis, sums)| sums.see(seen, *axis))
    };
    while let Some(batch) = batches.next() {
        let batch = batch?;
        let feeds = batches.feeds(&batch)?;
        probe.run(&feeds, &mut see)?;
        for _ in &batch.indices {
            progress.step("")?;
        }
    }
    let seen = sums.into_iter().flat_map(|(name, axes)| axes.into_iter().map(move |(axis, s)| ((name.clone(), axis), s)));
    Ok(seen.filter(|(_, s)| s.count > 0.0).map(|(key, s)| (key, s.means())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_axis_and_layout_gives_the_same_means() {
        // [2, 3, 2]: element (a, b, c) is 10a + b − c.
        let dims = [2usize, 3, 2];
        let of = |a: usize, b: usize, c: usize| (10 * a + b) as f32 - c as f32;
        let mut plain = Vec::new();
        let mut last = vec![0.0; 12];
        for (a, b, c) in (0..12).map(|i| (i / 6, i / 2 % 3, i % 2)) {
            plain.push(of(a, b, c));
            last[a * 6 + c * 3 + b] = of(a, b, c);
        }
        for (values, strides) in [(&plain, [6, 2, 1]), (&last, [6, 1, 3])] {
            let mut sums = Sums::new(3);
            sums.see(&Seen { name: "x", dims: &dims, strides: &strides, values }, 1).unwrap();
            let means = sums.means();
            // b = 0: 0, −1, 10, 9. b = 1: 1, 0, 11, 10. b = 2: 2, 1, 12, 11.
            assert_eq!(means.magnitude, [5.0, 5.5, 6.5]);
            assert_eq!(means.zeros, [0.25, 0.25, 0.0]);
        }
        let mut sums = Sums::new(2);
        let seen = Seen { name: "x", dims: &[1, 2], strides: &[2, 1], values: &[1.0, f32::NAN] };
        assert_eq!(sums.see(&seen, 1).unwrap_err().kind(), compresso_base::ErrorKind::Check);
    }
}
