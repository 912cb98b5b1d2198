//! Products and attention against their definitions.

use super::*;
use crate::channels_last::{Job, run_alone};
use crate::level::Level;
use proptest::prelude::*;

fn levels() -> impl Iterator<Item = Level> {
    [Level::Portable, Level::Avx2, Level::Avx512].into_iter().filter(|l| l.available())
}

fn noise(n: usize, seed: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * 7919 + seed * 104_729 + 13) % 1009) as f32 / 504.5 - 1.0).collect()
}

/// A matrix for each leading index: `[leading, rows, columns]`, its axes in any order with a gap at the end of each line.
#[derive(Debug, Clone)]
struct Matrices {
    sizes: [usize; 3],
    strides: [usize; 3],
    values: Vec<f32>,
}

impl Matrices {
    fn new(sizes: [usize; 3], order: [usize; 3], gap: usize, seed: usize) -> Self {
        let (mut strides, mut step) = ([0; 3], 1);
        for (i, &axis) in order.iter().rev().enumerate() {
            strides[axis] = step;
            step *= sizes[axis] + if i == 0 { gap } else { 0 };
        }
        Self { sizes, strides, values: noise(step.max(1), seed) }
    }
    /// Repeated over the axes where it says so.
    fn repeated(mut self, over: [bool; 3]) -> Self {
        (0..3).filter(|&d| over[d]).for_each(|d| self.strides[d] = 0);
        self
    }
    fn place(&self, index: [usize; 3]) -> usize {
        index.iter().zip(&self.strides).map(|(i, s)| i * s).sum()
    }
    fn at(&self, index: [usize; 3]) -> f64 {
        f64::from(self.values[self.place(index)])
    }
}

const ORDERS: [[usize; 3]; 4] = [[0, 1, 2], [1, 0, 2], [0, 2, 1], [2, 0, 1]];

fn order() -> impl Strategy<Value = [usize; 3]> {
    prop::sample::select(ORDERS.to_vec())
}

/// Runs a job from matrices to others of `y`'s layout, whose gaps must stay as they are.
fn run(job: &dyn Job, inputs: &[&Matrices], y: &Matrices) -> Matrices {
    let mut out = Matrices { values: vec![f32::NAN; y.values.len()], ..y.clone() };
    let slices: Vec<&[f32]> = inputs.iter().map(|m| &m.values[..]).collect();
    run_alone(job, &slices, &mut [&mut out.values]).unwrap();
    let written = out.values.iter().filter(|v| !v.is_nan()).count();
    assert_eq!(written, y.sizes.iter().product::<usize>(), "{}", job.name());
    out
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn products_are_sums_of_products(
        sizes in (1usize..4, 1usize..40, 0usize..35, 1usize..40), orders in [order(), order(), order()], gap in 0usize..3, threads in 1usize..5,
    ) {
        let (batch, rows, inner, columns) = sizes;
        let a = Matrices::new([batch, rows, inner], orders[0], gap, 1);
        let b = Matrices::new([batch, inner, columns], orders[1], gap, 2);
        let y = Matrices::new([batch, rows, columns], orders[2], gap, 3);
        for level in levels() {
            let job = matmul_with(level, &[batch], [rows, inner, columns], [&a.strides, &b.strides, &y.strides], threads).unwrap();
            let got = run(&*job, &[&a, &b], &y);
            for n in 0..batch * rows * columns {
                let (i, r, c) = (n / columns / rows, n / columns % rows, n % columns);
                let exact: f64 = (0..inner).map(|k| a.at([i, r, k]) * b.at([i, k, c])).sum();
                prop_assert!((got.at([i, r, c]) - exact).abs() < 1e-4, "{level:?}: {} {exact}", got.at([i, r, c]));
            }
        }
    }

    #[test]
    fn attention_is_a_product_with_parts_of_one(
        sizes in (1usize..4, 1usize..60, 0usize..20, 1usize..40, 1usize..37), orders in [order(), order(), order(), order()],
        masks in prop::collection::vec((any::<bool>(), any::<[bool; 3]>()), 0..4), gap in 0usize..3, scale in -1.5f32..1.5, threads in 1usize..9,
    ) {
        let (batch, rows, depth, keys, columns) = sizes;
        let q = Matrices::new([batch, rows, depth], orders[0], gap, 1);
        let k = Matrices::new([batch, depth, keys], orders[1], gap, 2);
        let v = Matrices::new([batch, keys, columns], orders[2], gap, 3);
        let y = Matrices::new([batch, rows, columns], orders[3], gap, 4);
        let masks: Vec<(Binary, Matrices)> = masks
            .into_iter()
            .enumerate()
            .map(|(i, (add, over))| {
                let mask = Matrices::new([batch, rows, keys], ORDERS[i % 4], gap, 5 + i).repeated(over);
                (if add { Binary::Add } else { Binary::Mul }, mask)
            })
            .collect();
        let changes: Vec<(Binary, Vec<usize>)> = masks.iter().map(|(op, m)| (*op, m.strides.to_vec())).collect();
        let spec = AttentionSpec {
            leading: &[batch], rows, depth, keys, columns, q: &q.strides, k: &k.strides, v: &v.strides, y: &y.strides, scale, changes: &changes,
        };
        let inputs: Vec<&Matrices> = [&q, &k, &v].into_iter().chain(masks.iter().map(|m| &m.1)).collect();
        for level in levels() {
            let got = run(&*attention_with(level, &spec, threads).unwrap(), &inputs, &y);
            for n in 0..batch * rows {
                let (i, r) = (n / rows, n % rows);
                let score = |c: usize| {
                    let sum: f64 = (0..depth).map(|d| q.at([i, r, d]) * k.at([i, d, c])).sum();
                    masks.iter().fold(sum * f64::from(scale), |s, (op, m)| if *op == Binary::Add { s + m.at([i, r, c]) } else { s * m.at([i, r, c]) })
                };
                let parts: Vec<f64> = (0..keys).map(|c| score(c).exp()).collect();
                let whole: f64 = parts.iter().sum();
                for c in 0..columns {
                    let exact: f64 = (0..keys).map(|k| parts[k] / whole * v.at([i, k, c])).sum();
                    prop_assert!((got.at([i, r, c]) - exact).abs() < 2e-5, "{level:?}: {} {exact}", got.at([i, r, c]));
                }
            }
        }
    }
}

#[test]
fn attention_over_many_keys_and_products_beyond_the_cache() {
    let (rows, depth, keys, columns) = (21, 5, 3001, 18);
    let [q, k, v] = [noise(rows * depth, 1), noise(depth * keys, 2), noise(keys * columns, 3)];
    let spec = AttentionSpec {
        leading: &[],
        rows,
        depth,
        keys,
        columns,
        q: &[depth, 1],
        k: &[keys, 1],
        v: &[columns, 1],
        y: &[columns, 1],
        scale: 2.0,
        changes: &[],
    };
    let mut y = vec![f32::NAN; rows * columns];
    run_alone(&*attention(&spec, 2).unwrap(), &[&q, &k, &v], &mut [&mut y]).unwrap();
    let row = 20;
    let score = |c: usize| (0..depth).map(|d| f64::from(q[row * depth + d] * k[d * keys + c])).sum::<f64>() * 2.0;
    let whole: f64 = (0..keys).map(|c| score(c).exp()).sum();
    let exact: f64 = (0..keys).map(|c| score(c).exp() / whole * f64::from(v[c * columns + 17])).sum();
    assert!((f64::from(y[row * columns + 17]) - exact).abs() < 1e-5);
    // A right factor that is not packed as a whole, and a left one of few rows.
    for (rows, inner, columns) in [(70, 600, 500), (3, 20, 30)] {
        let (a, b) = (noise(rows * inner, 1), noise(inner * columns, 2));
        let mut y = vec![f32::NAN; rows * columns];
        let job = matmul(&[], [rows, inner, columns], &[inner, 1], &[columns, 1], &[columns, 1], 2).unwrap();
        run_alone(&*job, &[&a, &b], &mut [&mut y]).unwrap();
        for n in (0..rows * columns).step_by(7) {
            let exact: f64 = (0..inner).map(|k| f64::from(a[n / columns * inner + k] * b[k * columns + n % columns])).sum();
            assert!((f64::from(y[n]) - exact).abs() < 1e-3);
        }
    }
}

#[test]
fn an_attention_that_does_not_fit_is_refused() {
    let changes = vec![(Binary::Add, vec![0, 0]); MOST_CHANGES + 1];
    let with = |changes: &[(Binary, Vec<usize>)], y: &[usize]| {
        let (q, k, v) = ([4, 1], [3, 1], [2, 1]);
        let spec = AttentionSpec { leading: &[], rows: 5, depth: 4, keys: 3, columns: 2, q: &q, k: &k, v: &v, y, scale: 1.0, changes };
        attention(&spec, 2).is_ok()
    };
    assert!(with(&changes[..MOST_CHANGES], &[2, 1]));
    assert!(!with(&changes, &[2, 1]) && !with(&[(Binary::Div, vec![0, 0])], &[2, 1]) && !with(&[], &[1, 1]) && !with(&[], &[2]));
}
