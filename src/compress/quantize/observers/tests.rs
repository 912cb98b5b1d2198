//! Every observer against what plain loops over the values give.

use super::entropy::{Sums, threshold};
use super::percentile::clipped;
use super::*;
use crate::quantize::affine::Affine;
use crate::quantize::calibrate;
use compresso_base::context::Context;
use compresso_learn::data::{DataOptions, dataset};
use compresso_model::zoo::{ZooOptions, build};
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

const GRIDS: [Grid; 3] = [Grid::UINT8, Grid::INT8, Grid { element: compresso_model::Element::U8, low: 0, high: 127, symmetric: false }];

/// Heavy-tailed values such as a SiLU makes, some of them zero, and a few outliers.
fn values(seed: u64, n: usize) -> Vec<f32> {
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    let one = |_| {
        let x: f32 = (0..4).map(|_| rng.random_range(-2.0f32..2.0)).sum();
        match rng.random_range(0..100) {
            0..10 => 0.0,
            10..12 => x * 4.0,
            _ => x / (1.0 + (-x).exp()),
        }
    };
    (0..n).map(one).collect()
}

fn sample(values: &[f32]) -> Sample<'_> {
    Sample { values, range: Range::of(values) }
}

fn observed(observe: &Observe, batches: &[&[f32]]) -> Box<dyn Observer> {
    let mut observer = observe.observer();
    batches.iter().for_each(|b| observer.observe(sample(b)));
    observer
}

fn all() -> Vec<Observe> {
    OBSERVERS.iter().map(|d| Observe::of(d)).collect()
}

#[test]
fn everyone_keeps_the_promises() {
    let v = values(1, 20_000);
    for observe in all() {
        let name = observe.entry().name;
        for grid in GRIDS {
            let whole = observed(&observe, &[&v]).range(grid);
            assert!(whole.min >= Range::of(&v).min && whole.max <= Range::of(&v).max && whole.max > 0.5, "{name}: {whole:?}");
            // Merging with nothing, and being merged into nothing, changes nothing.
            let mut merged = observe.observer();
            merged.merge(observed(&observe, &[&v]).as_ref());
            merged.merge(observe.observer().as_ref());
            assert_eq!(merged.range(grid), whole, "{name}");
            // Another kind of observer is left alone.
            let other = all().into_iter().find(|o| o != &observe).unwrap();
            merged.merge(observed(&other, &[&[1e6]]).as_ref());
            assert_eq!(merged.range(grid), whole, "{name}");
            let zeros = observed(&observe, &[&[0.0; 5], &[-0.0; 5]]).range(grid);
            assert_eq!((zeros.min, zeros.max), (0.0, 0.0), "{name}");
            assert_eq!(Affine::fit(observe.observer().range(grid), grid), Affine { scale: 1.0, zero_point: 0 }, "{name}");
            for tiny in [&[f32::MIN_POSITIVE, 1e-45][..], &[f32::MAX, f32::MIN], &[-3.0], &[1e-45, 1e38]] {
                let range = observed(&observe, &[tiny]).range(grid);
                assert!(range.min.is_finite() && range.max.is_finite() && range.min <= range.max, "{name} of {tiny:?}: {range:?}");
            }
        }
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(24))]
    /// Batches in any order, cut anywhere, in one observer or merged from several; on one thread or many.
    #[test]
    fn batches_and_their_order_do_not_matter(seed in 0u64..1000, cut in 1usize..3000, scale in -30i32..30) {
        let v: Vec<f32> = values(seed, 3000).into_iter().enumerate().map(|(i, v)| v * 2f32.powi(if i > 1500 { scale } else { 0 })).collect();
        let mut turned = v.clone();
        turned.reverse();
        for name in ["minmax", "percentile", "entropy", "mse"] {
            let observe = Observe::named(name).unwrap();
            let whole = observed(&observe, &[&v]).range(Grid::UINT8);
            let batches: Vec<&[f32]> = turned.chunks(cut).collect();
            proptest::prop_assert_eq!(observed(&observe, &batches).range(Grid::UINT8), whole);
            let mut merged = observed(&observe, &[&v[cut..]]);
            merged.merge(observed(&observe, &[&v[..cut]]).as_ref());
            proptest::prop_assert_eq!(merged.range(Grid::UINT8), whole);
        }
    }
}

#[test]
fn counting_on_many_threads_equals_counting_on_one() {
    let v = values(3, 400_000);
    let (mut many, mut one) = (Histogram::default(), Histogram::default());
    many.add(&v, Range::of(&v));
    v.chunks(1000).for_each(|c| one.add(c, Range::of(c)));
    assert_eq!((many.magnitudes(), many.total(), many.width()), (one.magnitudes(), one.total(), one.width()));
    assert_eq!(many.total(), 400_000);
    // Against a plain count.
    let mut counts = vec![0u64; many.magnitudes().len()];
    for &v in v.iter().filter(|v| **v != 0.0) {
        let place = f64::from(v) / many.width();
        counts[if v > 0.0 { place.floor() } else { -place.floor() - 1.0 } as usize] += 1;
    }
    assert_eq!(many.magnitudes(), counts);
}

#[test]
fn minmax_is_the_extremes_and_averages_follow_their_formula() {
    let batches: [&[f32]; 3] = [&[-1.0, 2.0], &[-3.0, 1.0], &[0.5, 4.0]];
    assert_eq!(observed(&Observe::default(), &batches).range(Grid::UINT8), Range { min: -3.0, max: 4.0 });
    let half = Observe::named("moving_average").unwrap().with("share", 0.5).unwrap();
    assert_eq!(observed(&half, &batches).range(Grid::UINT8), Range { min: -0.75, max: 2.75 });
}

#[test]
fn percentiles_are_order_statistics_within_a_bin() {
    for (seed, n) in [(1, 999), (2, 20_000), (3, 12)] {
        let v = values(seed, n);
        let mut sorted = v.clone();
        sorted.sort_by(f32::total_cmp);
        let mut histogram = Histogram::default();
        histogram.add(&v, Range::of(&v));
        for inside in [50.0, 90.0, 99.0, 99.9, 100.0] {
            let range = observed(&Observe::named("percentile").unwrap().with("percentile", inside).unwrap(), &[&v]).range(Grid::UINT8);
            let out = clipped(n as u64, inside) as usize;
            let (low, high) = (sorted[out], sorted[n - 1 - out]);
            let bin = histogram.width() as f32;
            assert!(range.min <= low && low - range.min <= bin, "{inside}: {} for {low}", range.min);
            assert!(range.max >= high && range.max - high <= bin, "{inside}: {} for {high}", range.max);
        }
        let whole = observed(&Observe::named("percentile").unwrap().with("percentile", 100.0).unwrap(), &[&v]).range(Grid::UINT8);
        assert_eq!(whole, Range::of(&v));
    }
}

/// Mean squared error of the values themselves.
fn error(values: &[f32], range: Range, grid: Grid) -> f64 {
    let affine = Affine::fit(range, grid);
    let one = |&v: &f32| (f64::from(v) - f64::from(affine.dequantize(affine.quantize(v, grid)))).powi(2);
    values.iter().map(one).sum::<f64>() / values.len() as f64
}

#[test]
fn no_candidate_has_a_much_smaller_squared_error() {
    let four = |low, high, symmetric| Grid { element: compresso_model::Element::U8, low, high, symmetric };
    for seed in 0..2 {
        let mut v = values(seed, 2000);
        v.push(60.0);
        let seen = Range::of(&v);
        for grid in [Grid::UINT8, Grid::INT8, four(0, 15, false), four(-7, 7, true)] {
            let found = observed(&Observe::named("mse").unwrap(), &[&v]).range(grid);
            let at = |i: i32| f64::from(i) / 40.0;
            let ends: Vec<(f64, f64)> = (1..=40).flat_map(|i| (1..=40).map(move |j| (at(i), at(j)))).collect();
            let range = |&(a, b): &(f64, f64)| Range { min: (f64::from(seen.min) * a) as f32, max: (f64::from(seen.max) * b) as f32 };
            let best = ends.iter().map(|e| error(&v, range(e), grid)).fold(f64::INFINITY, f64::min);
            let ours = error(&v, found, grid);
            assert!(ours <= 1.1 * best, "{grid:?}, seed {seed}: {ours} at {found:?}, the best candidate has {best}");
            // One outlier among two thousand values is worth its clipping on a coarse grid, not on a fine one.
            assert_eq!(found.max < 50.0, grid.high <= 15, "{grid:?}: {found:?}");
        }
    }
}

/// Kullback-Leibler divergence by the definition, bin by bin.
fn textbook(counts: &[u64], bins: usize, steps: usize) -> f64 {
    let beyond: u64 = counts[bins..].iter().sum();
    let mut p: Vec<f64> = counts[..bins].iter().map(|&n| n as f64).collect();
    p[bins - 1] += beyond as f64;
    let mut q = vec![0.0; bins];
    for step in 0..steps {
        let own: Vec<usize> = (0..bins).filter(|j| j * steps / bins == step && counts[*j] > 0).collect();
        let sum: u64 = own.iter().map(|&j| counts[j]).sum();
        own.iter().for_each(|&j| q[j] = sum as f64 / own.len() as f64);
    }
    let (p_sum, q_sum): (f64, f64) = (p.iter().sum(), q.iter().sum());
    let term = |(p, q): (&f64, &f64)| if *p == 0.0 { 0.0 } else { p / p_sum * ((p / p_sum) / (q / q_sum)).ln() };
    p.iter().zip(&q).map(term).sum()
}

#[test]
fn the_entropy_threshold_is_the_textbooks() {
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(7);
    let mut inner = 0;
    for case in 0..40 {
        let n = rng.random_range(9..60);
        let counts: Vec<u64> =
            (0..n).map(|i| if rng.random_range(0..4) == 0 { 0 } else { rng.random_range(1..5000) / (1 + i * i) as u64 }).collect();
        let counts: Vec<u64> = counts.into_iter().chain([1]).collect();
        let steps = |bins: usize| 4 + bins % 3;
        let sums = Sums::new(&counts);
        let candidates: Vec<usize> = (1..=counts.len()).filter(|&i| i >= steps(i)).collect();
        for &i in &candidates {
            let (ours, theirs) = (sums.divergence(i, steps(i)), textbook(&counts, i, steps(i)));
            assert!(
                ours == theirs || (ours - theirs).abs() < 1e-9 || ours.is_infinite() && !theirs.is_finite(),
                "{case}, {i}: {ours} {theirs}"
            );
        }
        let found = threshold(&counts, |_| true, steps).unwrap();
        let least = candidates.iter().map(|&i| textbook(&counts, i, steps(i))).filter(|d| d.is_finite()).fold(f64::INFINITY, f64::min);
        assert!((textbook(&counts, found, steps(found)) - least).abs() < 1e-9);
        inner += usize::from(found < counts.len());
    }
    assert!(inner > 10, "{inner} thresholds clip");
    assert_eq!(threshold(&[5, 5], |_| true, |_| 4), None);
}

#[test]
fn entropy_clips_a_long_thin_tail() {
    let mut v = values(5, 20_000);
    v.extend([80.0, -90.0, 100.0]);
    for grid in GRIDS {
        let range = observed(&Observe::named("entropy").unwrap(), &[&v]).range(grid);
        assert!(range.max < 60.0 && range.max > 4.0 && range.min > -60.0, "{grid:?}: {range:?}");
    }
}

/// What the border of a letterboxed image does to a first layer: many equal values in the middle of a wide spread.
#[test]
fn entropy_is_not_drawn_to_a_spike() {
    for grid in GRIDS {
        for spike in [0.9, -0.3, 0.1] {
            let mut v: Vec<f32> = values(5, 40_000);
            let top = Range::of(&v).magnitude();
            v.extend([spike; 12_000]);
            let range = observed(&Observe::named("entropy").unwrap(), &[&v]).range(grid);
            let outside = v.iter().filter(|x| **x < range.min || **x > range.max).count();
            assert!(outside * 1000 <= v.len(), "{grid:?}, {spike}: {outside} of {} beyond {range:?}, the top is {top}", v.len());
        }
    }
}

#[test]
fn one_pass_serves_all_observers() {
    let ctx = Context::new();
    let zoo = ZooOptions { image_size: Some([64, 64]), width: Some(0.125), ..Default::default() };
    let m = build("yolov8n", &zoo).unwrap();
    let data = dataset("random", &DataOptions { images: Some(4), ..DataOptions::default() }, &ctx).unwrap();
    let (graph, _) = compresso_model::passes::simplify(m.graph()).unwrap();
    let of = |observers: &[Observe]| calibrate::observe(&graph, m.task(), &data, |_| true, observers, 4, &ctx).unwrap();
    let together = of(&all());
    let names: Vec<String> = together.iter().map(|(n, _)| n.to_string()).collect();
    assert!(names.len() > 100);
    for observe in all() {
        let alone = of(std::slice::from_ref(&observe));
        for (name, seen) in alone.iter() {
            let range = alone.range(&observe, &[name], Grid::UINT8).unwrap();
            assert_eq!(range, together.range(&observe, &[name], Grid::UINT8).unwrap(), "{name}");
            assert!(range.min <= 0.0 && range.max >= 0.0, "{name}: {range:?}");
            if observe == Observe::default() {
                assert_eq!(range, seen.join(Range { min: 0.0, max: 0.0 }));
            }
        }
    }
    // Values that share a scale are looked at together.
    let (a, b) = (names[3].as_str(), names[40].as_str());
    let [one, two] = [a, b].map(|n| together.range(&Observe::default(), &[n], Grid::UINT8).unwrap());
    assert_eq!(together.range(&Observe::default(), &[a, b], Grid::UINT8).unwrap(), one.join(two));
    let text = |o: &Observe, n| together.range(o, &[n], Grid::UINT8).unwrap_err().to_string();
    assert!(text(&Observe::default(), "nothing").contains("calibration saw no values of 'nothing'"));
    assert!(text(&Observe::of(&three_sigma::THREE_SIGMA), a).contains("'three_sigma', with these options, did not take part"));
}

#[test]
fn words_and_maps_choose_an_observer_and_mistakes_are_named() {
    use crate::quantize::Quantize;
    use compresso_base::operation::{changed, decode};
    let observer = |v: Value| decode::<Quantize>(json!({ "observer": v })).map(|q| changed(&q).remove("observer"));
    assert_eq!(observer(json!("minmax")).unwrap(), None);
    assert_eq!(observer(json!("mse")).unwrap(), Some(json!("mse")));
    assert_eq!(observer(json!({ "name": "percentile", "percentile": 99.99 })).unwrap(), Some(json!("percentile")));
    let map = json!({ "name": "percentile", "percentile": 99.5 });
    assert_eq!(observer(map.clone()).unwrap(), Some(map));
    let text = |v| observer(v).unwrap_err().to_string();
    assert!(text(json!("kl")).contains("\"entropy\""), "{}", text(json!("kl")));
    assert!(text(json!({ "name": "percentile", "percentile": 20 })).contains("must be at least 50 and at most 100, got 20"));
    assert!(text(json!({ "name": "mse", "bins": 20 })).contains("the observer 'mse' has no option 'bins'"));
    assert!(text(json!({ "percentile": 20 })).contains("under 'name'"));
    let mut names: Vec<&str> = OBSERVERS.iter().map(|d| d.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), OBSERVERS.len());
    for d in OBSERVERS {
        assert!(!d.summary.is_empty() && d.numbers.iter().all(|n| n.bounds.0 <= n.default && n.default <= n.bounds.1), "{}", d.name);
    }
}

/// docs/adding-an-observer.md prints the file `three_sigma.rs`, which is compiled and tested with the others.
#[test]
fn the_recipes_example_is_the_tested_one() {
    let doc = include_str!("../../../../docs/adding-an-observer.md");
    let example = include_str!("three_sigma.rs");
    let printed: String = doc
        .lines()
        .skip_while(|l| !l.contains("```rust"))
        .skip(1)
        .take_while(|l| l.trim() != "```")
        .fold(String::new(), |text, line| text + line.strip_prefix("   ").unwrap_or(line) + "\n");
    assert_eq!(printed, example);
}
