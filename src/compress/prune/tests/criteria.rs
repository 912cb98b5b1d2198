//! Criteria that look at weights only, against numbers worked out by plain loops.

use super::*;

/// The order of channels by each criterion, on weights made for it.
#[test]
fn criteria_rank_channels() {
    let mut n = Net::new(17);
    let x = n.image(1, 2);
    // Channel: two weights. L1: 5, 4, 6, 1. L2: 5, 2.83, 4.24, 1.
    let w = n.b.constant("a.weight", Constant::floats(&[4, 1, 1, 2], &[5., 0., 2., -2., 3., -3., 1., 0.]).unwrap());
    let y = n.b.node(Node::new("Conv", "a", [&x, &w], [""]).ints("pads", &[0, 0, 0, 1]));
    let gamma = n.b.constant("gamma", Constant::floats(&[4], &[0.1, -4.0, 0.2, 0.3]).unwrap());
    let (bias, mean) = (n.weight("bias", &[4]), n.weight("mean", &[4]));
    let var = n.b.constant("var", Constant::floats(&[4], &[1.0, 16.0, 0.04, 0.01]).unwrap());
    let y = n.b.node(Node::new("BatchNormalization", "", [&y, &gamma, &bias, &mean, &var], [""]));
    let y = n.op("Relu", &[&y]);
    let m = n.end(&y, 4);
    let found = Analysis::new(m.graph(), &[]).unwrap();
    let order = |importance| {
        let s = scores(&Prune { importance: Some(importance), ..half() }, &found, None).unwrap().remove(0);
        let mut order: Vec<usize> = (0..4).collect();
        order.sort_by(|&a, &b| s[a].total_cmp(&s[b]));
        (order, s)
    };
    // |gamma| / sqrt(var): 0.1, 1, 1, 3.
    assert_eq!(order(Importance::L1).0, [0, 3, 1, 2]);
    assert_eq!(order(Importance::L2).0, [0, 1, 3, 2]);
    let (by_gamma, s) = order(Importance::BATCHNORM);
    assert_eq!(by_gamma, [0, 2, 3, 1]);
    assert!((s.iter().sum::<f64>() - 4.0).abs() < 1e-6, "scores are shares of their mean");
}

#[test]
fn batch_norm_importance_needs_batch_norms() {
    let mut n = Net::new(17);
    let x = n.image(3, 4);
    let y = n.conv("a", &x, 3, 8, 1, 1);
    let m = n.end(&y, 8);
    let e = Prune { importance: Some(Importance::BATCHNORM), ..half() }.apply(&m, None, &Context::new()).unwrap_err();
    assert_eq!(e.suggestion(), Some("use importance: \"l2\""));
}

/// Two convolutions of 6 and 4 channels, joined by an addition of the first with itself once more convolved.
fn residual() -> Model {
    let mut n = Net::new(17);
    let x = n.image(3, 4);
    let a = n.conv("a", &x, 3, 6, 3, 1);
    let a = n.op("Relu", &[&a]);
    let y = n.conv("b", &a, 6, 4, 1, 1);
    let y = n.op("Relu", &[&y]);
    let y = n.conv("c", &y, 4, 6, 1, 1);
    let y = n.op("Add", &[&y, &a]);
    n.end(&y, 6)
}

fn norm(row: &[f64]) -> f64 {
    row.iter().map(|w| w * w).sum::<f64>().sqrt()
}

/// The weights whose slices are the channels of the first group of [`residual`]: (makers, readers), with their axes.
const MAKERS: [(&str, usize); 2] = [("a.weight", 0), ("c.weight", 0)];
const READERS: [(&str, usize); 2] = [("b.weight", 1), ("last.weight", 1)];

#[test]
fn scores_are_reduced_over_the_layers_of_a_group() {
    let m = residual();
    let found = Analysis::new(m.graph(), &[]).unwrap();
    let of =
        |(name, axis): &(&str, usize)| -> Vec<f64> { (0..6).map(|i| norm(&slice(m.graph().constant(name).unwrap(), *axis, i))).collect() };
    let makers: Vec<Vec<f64>> = MAKERS.iter().map(of).collect();
    let all: Vec<Vec<f64>> = MAKERS.iter().chain(&READERS).map(of).collect();
    let reduce = |scores: &[Vec<f64>], f: &dyn Fn(Vec<f64>) -> f64| (0..6).map(|i| f(scores.iter().map(|s| s[i]).collect())).collect();
    let sum = |v: Vec<f64>| v.iter().sum::<f64>();
    let max = |v: Vec<f64>| v.into_iter().fold(0.0, f64::max);
    let expected: [(Reduction, bool, Vec<f64>); 5] = [
        (Reduction::Sum, false, reduce(&makers, &sum)),
        (Reduction::Mean, false, reduce(&makers, &|v| sum(v) / 2.0)),
        (Reduction::First, false, makers[0].clone()),
        (Reduction::Max, true, reduce(&all, &max)),
        (Reduction::Mean, true, reduce(&all, &|v| sum(v) / 4.0)),
    ];
    for (reduction, readers, expected) in expected {
        let options = Prune { reduction: Some(reduction), readers, ..raw(Importance::L2) };
        close(&scores(&options, &found, None).unwrap()[0], &expected);
    }
    // By default each layer's scores are shares of their mean.
    let share = |s: &Vec<f64>| -> Vec<f64> { s.iter().map(|v| v * 6.0 / s.iter().sum::<f64>()).collect() };
    let shares: Vec<Vec<f64>> = makers.iter().map(share).collect();
    close(&scores(&half(), &found, None).unwrap()[0], &reduce(&shares, &|v| sum(v) / 2.0).to_vec());
}

#[test]
fn the_geometric_median_goes_by_distances_to_the_other_filters() {
    let m = residual();
    let found = Analysis::new(m.graph(), &[]).unwrap();
    let weight = m.graph().constant("b.weight").unwrap();
    let rows: Vec<Vec<f64>> = (0..4).map(|i| slice(weight, 0, i)).collect();
    let mut expected = vec![0.0; 4];
    for i in 0..4 {
        for j in 0..4 {
            let square: f64 = rows[i].iter().zip(&rows[j]).map(|(a, b)| (a - b) * (a - b)).sum();
            expected[i] += square.sqrt();
        }
    }
    close(&scores(&raw(Importance::FPGM), &found, None).unwrap()[1], &expected);
}

#[test]
fn lamp_is_a_share_of_what_stays_with_a_channel() {
    let m = residual();
    let found = Analysis::new(m.graph(), &[]).unwrap();
    let weight = m.graph().constant("b.weight").unwrap();
    let norms: Vec<f64> = (0..4).map(|i| norm(&slice(weight, 0, i))).collect();
    let share = |&n: &f64| n * n / norms.iter().filter(|&&o| o >= n).map(|o| o * o).sum::<f64>();
    let expected: Vec<f64> = norms.iter().map(share).collect();
    let got = scores(&Prune { importance: Some(Importance::LAMP), ..half() }, &found, None).unwrap();
    close(&got[1], &expected);
    // The largest of each layer has the score 1, whatever its weights: no layer runs empty.
    assert!(expected.contains(&1.0) && got[1].contains(&1.0));
}

/// Draws go on from group to group.
#[test]
fn random_scores_follow_the_seed() {
    use rand::{RngExt, SeedableRng};
    let found = Analysis::new(residual().graph(), &[]).unwrap();
    let got = scores(&Prune { importance: Some(Importance::RANDOM), ..half() }, &found, None).unwrap();
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(0);
    let expected: Vec<f64> = (0..10).map(|_| rng.random()).collect();
    assert_eq!(got.concat(), expected);
}

/// Layers without a batch norm are ranked by "l2", those with one by its scale.
#[test]
fn batch_norm_importance_falls_back() {
    let mut n = Net::new(17);
    let x = n.image(3, 4);
    let y = n.conv("a", &x, 3, 6, 1, 1);
    let y = n.batch_norm("bn", &y, 6);
    let y = n.conv("b", &y, 6, 5, 1, 1);
    let m = n.end(&y, 5);
    let found = Analysis::new(m.graph(), &[]).unwrap();
    let got = scores(&raw(Importance::BATCHNORM), &found, None).unwrap();
    close(&got[0], &m.graph().constant("bn.weight").unwrap().to_f64s().unwrap());
    close(&got[1], &(0..5).map(|i| norm(&slice(m.graph().constant("b.weight").unwrap(), 0, i))).collect::<Vec<_>>());
}

#[test]
fn each_criterion_by_weights_prunes_what_masking_gives() {
    let m = two_layers();
    for importance in [Importance::L1, Importance::FPGM, Importance::LAMP, Importance::RANDOM, Importance::BATCHNORM] {
        for readers in [false, true] {
            prove_with(&m, &Prune { importance: Some(importance), readers, ..half() });
        }
    }
}
