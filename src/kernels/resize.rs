//! Resizing along one axis as a sparse linear map: nearest, linear, cubic and antialiased filters are all tables of
//! weights, and the gradient is the transposed map.

use rayon::prelude::*;

/// Output position `o` of the axis is `Σ weight[t] · x[index[t]]` over `t` in `o * taps .. (o + 1) * taps`.
#[derive(Debug, Clone, PartialEq)]
pub struct AxisMap {
    pub input: usize,
    pub output: usize,
    /// Table entries of each output position.
    pub taps: usize,
    pub index: Vec<u32>,
    pub weight: Vec<f32>,
}

impl AxisMap {
    /// True when each output is the input at the same position.
    pub fn is_identity(&self) -> bool {
        self.input == self.output
            && (0..self.output).all(|o| {
                (o * self.taps..(o + 1) * self.taps).all(|t| {
                    let expected = if self.index[t] as usize == o { 1.0 } else { 0.0 };
                    self.weight[t] == expected || (self.taps == 1 && self.weight[t] == 1.0 && expected == 1.0)
                })
            })
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
    y.par_chunks_mut(to).zip(x.par_chunks(from)).for_each(|(y, x)| {
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
    gx.par_chunks_mut(from).zip(gy.par_chunks(to)).for_each(|(gx, gy)| {
        gx.fill(0.0);
        for (o, row) in gy.chunks_exact(inner).enumerate() {
            for t in o * map.taps..(o + 1) * map.taps {
                let target = &mut gx[map.index[t] as usize * inner..][..inner];
                let weight = map.weight[t];
                target.iter_mut().zip(row).for_each(|(v, g)| *v += weight * g);
            }
        }
    });
}
