//! Resizing along one axis as a sparse linear map: nearest, linear, cubic and antialiased filters are all tables of
//! weights, and the gradient is the transposed map.

use rayon::prelude::*;

/// Output position `o` of the axis is `Σ weight[t] · x[index[t]]` over `t` in `o * taps .. (o + 1) * taps`.
#[derive(Debug, Clone, PartialEq)]
pub struct AxisMap {
    /// Length of the axis in `x`.
    pub input: usize,
    /// Length of the axis in `y`.
    pub output: usize,
    /// Table entries of each output position.
    pub taps: usize,
    /// Positions in `x`, each below `input`; `output * taps` of them.
    pub index: Vec<u32>,
    /// The weight of each of `index`.
    pub weight: Vec<f32>,
}

impl AxisMap {
    /// True when each output is the input at the same position.
    pub fn is_identity(&self) -> bool {
        let own =
            |o: usize| (o * self.taps..(o + 1) * self.taps).all(|t| self.weight[t] == if self.index[t] as usize == o { 1.0 } else { 0.0 });
        self.input == self.output && self.taps == 1 && (0..self.output).all(own)
    }
    fn check(&self) {
        assert!(self.index.len() == self.output * self.taps && self.weight.len() == self.index.len(), "table of the axis");
        assert!(self.index.iter().all(|&i| (i as usize) < self.input), "indices inside the axis");
    }
}

/// Maps `x: [outer, map.input, inner]` to `y: [outer, map.output, inner]`.
pub fn forward(map: &AxisMap, inner: usize, x: &[f32], y: &mut [f32]) {
    map.check();
    let (from, to) = (map.input * inner, map.output * inner);
    assert!(from > 0 && to > 0 && x.len() / from == y.len() / to, "sizes of the axis");
    y.par_chunks_mut(to).zip(x.par_chunks(from)).with_min_len((1 << 14) / to + 1).for_each(|(y, x)| {
        if inner == 1 && map.taps == 1 {
            y.iter_mut().zip(&map.index).zip(&map.weight).for_each(|((v, &i), w)| *v = w * x[i as usize]);
            return;
        }
        if inner == 1 {
            for (o, v) in y.iter_mut().enumerate() {
                *v = (o * map.taps..(o + 1) * map.taps).map(|t| map.weight[t] * x[map.index[t] as usize]).sum();
            }
            return;
        }
        for (o, row) in y.chunks_exact_mut(inner).enumerate() {
            row.fill(0.0);
            for t in o * map.taps..(o + 1) * map.taps {
                let source = &x[map.index[t] as usize * inner..][..inner];
                let weight = map.weight[t];
                row.iter_mut().zip(source).for_each(|(v, s)| *v += weight * s);
            }
        }
    });
}

/// Gradient of [`forward`]; overwrites `gx`.
pub fn backward(map: &AxisMap, inner: usize, gy: &[f32], gx: &mut [f32]) {
    map.check();
    let (from, to) = (map.input * inner, map.output * inner);
    assert!(from > 0 && to > 0 && gx.len() / from == gy.len() / to, "sizes of the axis");
    gx.par_chunks_mut(from).zip(gy.par_chunks(to)).with_min_len((1 << 14) / to + 1).for_each(|(gx, gy)| {
        gx.fill(0.0);
        if inner == 1 && map.taps == 1 {
            gy.iter().zip(&map.index).zip(&map.weight).for_each(|((g, &i), w)| gx[i as usize] += w * g);
            return;
        }
        for (o, row) in gy.chunks_exact(inner).enumerate() {
            for t in o * map.taps..(o + 1) * map.taps {
                let target = &mut gx[map.index[t] as usize * inner..][..inner];
                let weight = map.weight[t];
                target.iter_mut().zip(row).for_each(|(v, g)| *v += weight * g);
            }
        }
    });
}
