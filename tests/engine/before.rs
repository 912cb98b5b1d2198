//! Batch norms, activations and gates before a convolution of one tap are done as it reads; elsewhere they are steps.

use super::*;

/// The steps that an engine plans for a graph; both executors agree on it, for several batches.
fn steps(what: &str, g: &Graph, dims: &[usize]) -> Vec<String> {
    hold(what, g, dims, true);
    let mut engine = Engine::new(g, &[], 2).unwrap();
    engine.run(&feed(g, dims, 4), None).unwrap();
    engine.latest().unwrap().steps()
}

fn scaled(steps: &[String]) -> usize {
    steps.iter().filter(|s| s.ends_with("after scaling")).count()
}

impl Net {
    fn batch_norm(&mut self, x: &str, channels: usize) -> String {
        let [scale, bias, mean] = [1.0, 0.5, 0.5].map(|s| self.floats(&[channels], s));
        self.1 += 1;
        let spread: Vec<f32> = noise(channels, self.1).iter().map(|v| 0.5 + v.abs()).collect();
        let variance = self.0.constant(&format!("v{}", self.1), Constant::floats(&[channels], &spread).unwrap());
        self.op("BatchNormalization", &[x, &scale, &bias, &mean, &variance], |n| n)
    }
    /// Factors for each channel of an image, by a mean and a layer.
    fn gate(&mut self, x: &str, channels: usize) -> String {
        let mean = self.op("GlobalAveragePool", &[x], |n| n);
        let y = self.conv(&mean, [channels, channels, 1], |n| n);
        let y = self.op("Sigmoid", &[&y], |n| n);
        self.op("Mul", &[x, &y], |n| n)
    }
}

#[test]
fn a_dense_block_has_no_step_for_its_norms() {
    let dims = [1, 16, 9, 7];
    let mut n = Net::new(&dims);
    let mut all = n.conv("x", [16, 16, 3], |n| n.ints("pads", &[1, 1, 1, 1]));
    for i in 0..3 {
        let ins = 16 + 8 * i;
        let y = n.batch_norm(&all, ins);
        let y = n.op("Relu", &[&y], |n| n);
        let y = n.conv(&y, [20, ins, 1], |n| n);
        let y = n.op("Relu", &[&y], |n| n);
        let y = n.conv(&y, [8, 20, 3], |n| n.ints("pads", &[1, 1, 1, 1]));
        all = n.op("Concat", &[&all, &y], |n| n.int("axis", 1));
    }
    let g = n.finish(&[&all]);
    let steps = steps("dense block", &g, &dims);
    assert_eq!(scaled(&steps), 3, "{steps:?}");
    // The input's planes and the output's are the only moves.
    let [first, layers @ .., last] = &steps[..] else { panic!("{steps:?}") };
    assert!(first == "transpose" && last == "transpose" && layers.iter().all(|s| s.starts_with("conv")), "{steps:?}");
}

#[test]
fn a_gate_is_a_factor_of_the_layer_after_it() {
    let dims = [1, 24, 6, 5];
    let mut n = Net::new(&dims);
    let y = n.conv("x", [24, 1, 3], |n| n.int("group", 24).ints("pads", &[1, 1, 1, 1]));
    let y = n.gate(&y, 24);
    let y = n.conv(&y, [12, 24, 1], |n| n.ints("strides", &[2, 2]));
    let g = n.finish(&[&y]);
    let steps = steps("gate", &g, &dims);
    assert_eq!((scaled(&steps), steps.iter().filter(|s| s.starts_with("mul")).count()), (1, 0), "{steps:?}");
}

#[test]
fn what_else_is_read_or_padded_or_shown_stays_a_step() {
    let dims = [1, 16, 6, 5];
    type Case = (&'static str, fn(&mut Net, &str) -> Vec<String>);
    let cases: [Case; 7] = [
        ("read twice", |n, x| {
            let y = n.batch_norm(x, 16);
            vec![n.conv(&y, [8, 16, 1], |n| n), n.conv(&y, [9, 16, 1], |n| n)]
        }),
        ("an output", |n, x| {
            let y = n.batch_norm(x, 16);
            vec![n.conv(&y, [8, 16, 1], |n| n), y]
        }),
        ("padded", |n, x| {
            let y = n.batch_norm(x, 16);
            vec![n.conv(&y, [8, 16, 1], |n| n.ints("pads", &[1, 0, 0, 1]))]
        }),
        ("more taps", |n, x| {
            let y = n.batch_norm(x, 16);
            vec![n.conv(&y, [8, 16, 3], |n| n.ints("pads", &[1, 1, 1, 1]))]
        }),
        ("groups", |n, x| {
            let y = n.batch_norm(x, 16);
            vec![n.conv(&y, [8, 8, 1], |n| n.int("group", 2))]
        }),
        ("a view of it is read", |n, x| {
            let y = n.gate(x, 16);
            let shape = n.ints(&[0, 16, 30]);
            let flat = n.op("Reshape", &[&y, &shape], |n| n);
            vec![n.conv(&y, [8, 16, 1], |n| n), n.op("Relu", &[&flat], |n| n)]
        }),
        ("an activation that is no bound", |n, x| {
            let y = n.batch_norm(x, 16);
            let y = n.silu(&y);
            vec![n.conv(&y, [8, 16, 1], |n| n)]
        }),
    ];
    for (what, make) in cases {
        let mut n = Net::new(&dims);
        let x = n.conv("x", [16, 16, 3], |n| n.ints("pads", &[1, 1, 1, 1]));
        let x = n.op("Sigmoid", &[&x], |n| n);
        let outputs = make(&mut n, &x);
        let g = n.finish(&outputs.iter().map(String::as_str).collect::<Vec<_>>());
        let steps = steps(what, &g, &dims);
        assert_eq!(scaled(&steps), 0, "{what}: {steps:?}");
    }
}

#[test]
fn watched_values_before_a_layer_are_still_seen() {
    let dims = [1, 16, 6, 5];
    let mut n = Net::new(&dims);
    let x = n.conv("x", [16, 16, 3], |n| n.ints("pads", &[1, 1, 1, 1]));
    let norm = n.batch_norm(&x, 16);
    let act = n.op("Relu", &[&norm], |n| n);
    let y = n.conv(&act, [8, 16, 1], |n| n);
    let g = n.finish(&[&y]);
    let feeds = feed(&g, &dims, 1);
    for name in [&norm, &act] {
        let mut engine = Engine::watching(&g, &[], HashSet::from([name.clone()]), 2).unwrap();
        let mut seen = Vec::new();
        let planned = engine.run_watched(&feeds, None, &mut |s| {
            seen.push((s.name.to_string(), s.values.len()));
            Ok(())
        });
        assert!(planned.unwrap());
        assert_eq!(seen.iter().map(|s| &s.0).collect::<Vec<_>>(), [name]);
    }
}
