//! Normalizations and reductions against their definitions.

use super::*;
use crate::channels_last::run_alone;
use proptest::prelude::*;

fn strides(sizes: &[usize], order: &[usize]) -> Vec<usize> {
    let (mut strides, mut step) = (vec![0; sizes.len()], 1);
    for &axis in order.iter().rev() {
        strides[axis] = step;
        step *= sizes[axis];
    }
    strides
}

/// Index and place of each element.
fn places(sizes: &[usize], strides: &[usize]) -> Vec<(Vec<usize>, usize)> {
    (0..sizes.iter().product())
        .map(|mut at| {
            let mut index = vec![0; sizes.len()];
            for d in (0..sizes.len()).rev() {
                (index[d], at) = (at % sizes[d], at / sizes[d]);
            }
            let place = index.iter().zip(strides).map(|(i, s)| i * s).sum();
            (index, place)
        })
        .collect()
}

fn values(n: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * 7919 + 13) % 1009) as f32 / 200.0 - 1.5).collect()
}

fn order() -> impl Strategy<Value = Vec<usize>> {
    Just(vec![0, 1, 2]).prop_shuffle()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn lines_are_normalized(
        sizes in [1usize..5, 1usize..9, 1usize..70], from in order(), to in order(), axis in 0usize..3, options in any::<[bool; 3]>(),
    ) {
        let (a, b) = (strides(&sizes, &from), strides(&sizes, &to));
        let (x, n) = (values(sizes.iter().product()), sizes[axis]);
        let (scale, bias) = (values(n), values(n + 1)[1..].to_vec());
        let [centred, scaled, shifted] = options;
        let spec = NormSpec { epsilon: 1e-3, centred, scale: scaled.then_some(&scale), bias: shifted.then_some(&bias) };
        let mut y = vec![f32::NAN; x.len()];
        run_alone(&*norm(&sizes, axis, &a, &b, &spec).unwrap(), &[&x], &mut [&mut y]).unwrap();
        let to: Vec<usize> = places(&sizes, &b).into_iter().map(|p| p.1).collect();
        for ((index, from), to) in places(&sizes, &a).into_iter().zip(to) {
            let line: Vec<f64> = (0..n).map(|k| f64::from(x[from - index[axis] * a[axis] + k * a[axis]])).collect();
            let mean = if centred { line.iter().sum::<f64>() / n as f64 } else { 0.0 };
            let square = line.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n as f64;
            let k = index[axis];
            let exact = (line[k] - mean) / (square + 1e-3).sqrt() * if scaled { f64::from(scale[k]) } else { 1.0 };
            let exact = exact + if shifted { f64::from(bias[k]) } else { 0.0 };
            prop_assert!((f64::from(y[to]) - exact).abs() < 2e-5 * exact.abs().max(1.0), "{} {exact}", y[to]);
        }
    }

    #[test]
    fn axes_are_reduced(sizes in [1usize..5, 1usize..40, 1usize..70], from in order(), to in order(), gone in any::<[bool; 3]>()) {
        let a = strides(&sizes, &from);
        let kept: Vec<usize> = sizes.iter().zip(gone).map(|(&n, g)| if g { 1 } else { n }).collect();
        let b = strides(&kept, &to);
        let x = values(sizes.iter().product());
        for kind in [Reduce::Sum, Reduce::Mean, Reduce::L2, Reduce::Max] {
            let mut y = vec![f32::NAN; kept.iter().product()];
            run_alone(&*reduce(kind, &sizes, &gone, &a, &b).unwrap(), &[&x], &mut [&mut y]).unwrap();
            let mut lists = vec![Vec::new(); y.len()];
            for (index, place) in places(&sizes, &a) {
                let to: usize = index.iter().zip(&b).zip(gone).map(|((i, s), g)| if g { 0 } else { i * s }).sum();
                lists[to].push(f64::from(x[place]));
            }
            for (got, list) in y.iter().zip(lists) {
                let sum: f64 = list.iter().sum();
                let exact = match kind {
                    Reduce::Sum => sum,
                    Reduce::Mean => sum / list.len() as f64,
                    Reduce::L2 => list.iter().map(|v| v * v).sum::<f64>().sqrt(),
                    Reduce::Max => list.iter().copied().fold(f64::NEG_INFINITY, f64::max),
                };
                prop_assert!((f64::from(*got) - exact).abs() < 2e-5 * exact.abs().max(1.0) * (list.len() as f64).sqrt(), "{kind:?}: {got} {exact}");
            }
        }
    }
}

#[test]
fn vectors_of_other_lengths_are_refused() {
    let three = [1.0; 3];
    let spec = NormSpec { epsilon: 0.0, centred: true, scale: Some(&three), bias: None };
    assert!(norm(&[2, 3], 1, &[3, 1], &[3, 1], &spec).is_ok());
    assert!(norm(&[2, 3], 0, &[3, 1], &[3, 1], &spec).is_err() && norm(&[2, 3], 2, &[3, 1], &[3, 1], &spec).is_err());
    assert!(reduce(Reduce::Max, &[2, 3], &[true], &[3, 1], &[3, 1]).is_err());
}
