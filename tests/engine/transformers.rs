//! Layers of transformers: what follows a product is done with it, attention is one step, and nothing is copied between.

use super::*;
use compresso::model::Payload;

/// The steps that an engine plans for a graph; both executors agree on it.
fn steps(what: &str, g: &Graph, dims: &[usize]) -> Vec<String> {
    hold(what, g, dims, true);
    let mut engine = Engine::new(g, &[], 2).unwrap();
    engine.run(&feed(g, dims, 4), None).unwrap();
    engine.latest().unwrap().steps()
}

fn count(steps: &[String], kind: &str) -> usize {
    steps.iter().filter(|s| s.starts_with(kind)).count()
}

impl Net {
    fn number(&mut self, v: f32) -> String {
        self.1 += 1;
        self.0.constant(&format!("n{}", self.1), Constant::scalar(v))
    }
    /// `x · w + bias`, the bias on the left.
    fn linear(&mut self, x: &str, ins: usize, outs: usize) -> String {
        let (w, b) = (self.floats(&[ins, outs], 0.3), self.floats(&[outs], 0.3));
        let y = self.op("MatMul", &[x, &w], |n| n);
        self.op("Add", &[&b, &y], |n| n)
    }
    fn gelu(&mut self, x: &str) -> String {
        let (root, one, half) = (self.number(std::f32::consts::SQRT_2), self.number(1.0), self.number(0.5));
        let y = self.op("Div", &[x, &root], |n| n);
        let y = self.op("Erf", &[&y], |n| n);
        let y = self.op("Add", &[&y, &one], |n| n);
        let y = self.op("Mul", &[x, &y], |n| n);
        self.op("Mul", &[&y, &half], |n| n)
    }
    fn layer_norm(&mut self, x: &str, size: usize) -> String {
        let (scale, bias) = (self.floats(&[size], 1.0), self.floats(&[size], 0.5));
        self.op("LayerNormalization", &[x, &scale, &bias], |n| n)
    }
    /// `[…, tokens, heads · size]` as `[…, heads, tokens, size]`.
    fn heads(&mut self, x: &str, tokens: i64, heads: i64, size: i64) -> String {
        let shape = self.ints(&[0, tokens, heads, size]);
        let y = self.op("Reshape", &[x, &shape], |n| n);
        self.op("Transpose", &[&y], |n| n.ints("perm", &[0, 2, 1, 3]))
    }
}

#[test]
fn a_transformer_block_is_a_step_for_each_layer() {
    let (tokens, channels) = (13, 24);
    let dims = [1, tokens, channels];
    let mut n = Net::new(&dims);
    let y = n.layer_norm("x", channels);
    let qkv = n.linear(&y, channels, 3 * channels);
    let shape = n.ints(&[0, 13, 3, 3, 8]);
    let qkv = n.op("Reshape", &[&qkv, &shape], |n| n);
    let qkv = n.op("Transpose", &[&qkv], |n| n.ints("perm", &[2, 0, 3, 1, 4]));
    let [q, k, v] = [0, 1, 2].map(|i| {
        let place = Constant::new(Element::I64, vec![], Payload::Raw(i64::to_le_bytes(i).to_vec().into())).unwrap();
        let index = n.0.constant(&format!("index{i}"), place);
        n.op("Gather", &[&qkv, &index], |n| n.int("axis", 0))
    });
    let scale = n.number(0.6);
    let q = n.op("Mul", &[&q, &scale], |n| n);
    let k = n.op("Transpose", &[&k], |n| n.ints("perm", &[0, 1, 3, 2]));
    let k = n.op("Mul", &[&k, &scale], |n| n);
    let scores = n.op("MatMul", &[&q, &k], |n| n);
    let parts = n.op("Softmax", &[&scores], |n| n.int("axis", -1));
    let mixed = n.op("MatMul", &[&parts, &v], |n| n);
    let mixed = n.op("Transpose", &[&mixed], |n| n.ints("perm", &[0, 2, 1, 3]));
    let shape = n.ints(&[0, 13, 24]);
    let mixed = n.op("Reshape", &[&mixed, &shape], |n| n);
    let y = n.linear(&mixed, channels, channels);
    let x = n.op("Add", &["x", &y], |n| n);
    let y = n.layer_norm(&x, channels);
    let y = n.linear(&y, channels, 4 * channels);
    let y = n.gelu(&y);
    let y = n.linear(&y, 4 * channels, channels);
    let scale = n.floats(&[channels], 1.0);
    let y = n.op("Mul", &[&y, &scale], |n| n);
    let x = n.op("Add", &[&y, &x], |n| n);
    let (start, end, axes) = (n.ints(&[0]), n.ints(&[1]), n.ints(&[1]));
    let first = n.op("Slice", &[&x, &start, &end, &axes], |n| n);
    let y = n.linear(&first, channels, 5);
    let g = n.finish(&[&y]);
    let steps = steps("block", &g, &dims);
    assert_eq!([count(&steps, "conv"), count(&steps, "layer norm"), count(&steps, "attention")], [5, 2, 1], "{steps:?}");
    // An output has memory of its own.
    assert!(steps.len() <= 9, "{steps:?}");
}

#[test]
fn a_convolutional_block_with_its_channels_last_copies_nothing() {
    let (channels, size) = (12, 9);
    let dims = [1, channels, size, size];
    let mut n = Net::new(&dims);
    let x = n.conv("x", [channels, channels, 1], |n| n);
    let y = n.conv(&x, [channels, 1, 7], |n| n.int("group", 12).ints("pads", &[3, 3, 3, 3]));
    let y = n.op("Transpose", &[&y], |n| n.ints("perm", &[0, 2, 3, 1]));
    let y = n.layer_norm(&y, channels);
    let y = n.linear(&y, channels, 4 * channels);
    let y = n.gelu(&y);
    let y = n.linear(&y, 4 * channels, channels);
    let y = n.op("Transpose", &[&y], |n| n.ints("perm", &[0, 3, 1, 2]));
    let scale = n.floats(&[channels, 1, 1], 1.0);
    let y = n.op("Mul", &[&scale, &y], |n| n);
    let y = n.op("Add", &[&y, &x], |n| n);
    // Response normalization: norms of channels beside their mean.
    let norms = n.op("ReduceL2", &[&y], |n| n.ints("axes", &[2, 3]));
    let mean = n.op("ReduceMean", &[&norms], |n| n.ints("axes", &[1]));
    let factor = n.op("Div", &[&norms, &mean], |n| n);
    let y = n.op("Mul", &[&y, &factor], |n| n);
    let y = n.conv(&y, [6, channels, 1], |n| n);
    let g = n.finish(&[&y]);
    let steps = steps("convolutional block", &g, &dims);
    // The input comes as planes and the output goes as planes.
    assert_eq!((count(&steps, "conv"), count(&steps, "add"), count(&steps, "map")), (5, 0, 0), "{steps:?}");
    assert!(count(&steps, "transpose") + count(&steps, "copy") <= 2, "{steps:?}");
}

/// Attention over windows: a bias for each head, and a mask for each window, which is added through other sizes.
fn windows(images: usize, seed_mask: bool) -> (Graph, [usize; 3]) {
    let (windows, tokens, heads, size) = (4, 6, 2, 5);
    let dims = [images * windows, tokens, heads * size];
    let mut n = Net::new(&dims);
    let [q, k, v] = [0, 1, 2].map(|_| {
        let y = n.linear("x", heads * size, heads * size);
        n.heads(&y, 6, 2, 5)
    });
    let k = n.op("Transpose", &[&k], |n| n.ints("perm", &[0, 1, 3, 2]));
    let scores = n.op("MatMul", &[&q, &k], |n| n);
    let root = n.number(2.0);
    let scores = n.op("Div", &[&scores, &root], |n| n);
    let bias = n.floats(&[1, heads, tokens, tokens], 1.0);
    let scores = n.op("Add", &[&scores, &bias], |n| n);
    let scores = if seed_mask {
        let (apart, together) = (n.ints(&[-1, 4, 2, 6, 6]), n.ints(&[-1, 2, 6, 6]));
        let mask = n.floats(&[1, windows, 1, tokens, tokens], 3.0);
        let scores = n.op("Reshape", &[&scores, &apart], |n| n);
        let scores = n.op("Add", &[&mask, &scores], |n| n);
        n.op("Reshape", &[&scores, &together], |n| n)
    } else {
        scores
    };
    let parts = n.op("Softmax", &[&scores], |n| n.int("axis", -1));
    let mixed = n.op("MatMul", &[&parts, &v], |n| n);
    let mixed = n.op("Transpose", &[&mixed], |n| n.ints("perm", &[0, 2, 1, 3]));
    let shape = n.ints(&[0, 6, 10]);
    let y = n.op("Reshape", &[&mixed, &shape], |n| n);
    (n.finish(&[&y]), dims)
}

#[test]
fn windows_with_masks_are_one_step() {
    for masked in [false, true] {
        let (g, dims) = windows(1, masked);
        let steps = steps("windows", &g, &dims);
        assert_eq!([count(&steps, "attention"), count(&steps, "softmax"), count(&steps, "conv")], [1, 0, 3], "{steps:?}");
        assert!(steps.len() <= 5, "{steps:?}");
    }
}

#[test]
fn an_attention_that_is_read_inside_keeps_its_steps() {
    let dims = [1, 7, 6];
    // 0: the parts are an output; 1: the scores are; 2: softmax over the other axis; 3: the mask is worked out later than the scores.
    for change in 0..4 {
        let mut n = Net::new(&dims);
        let [q, k, v] = [0, 1, 2].map(|_| n.linear("x", 6, 6));
        let k = n.op("Transpose", &[&k], |n| n.ints("perm", &[0, 2, 1]));
        let scores = n.op("MatMul", &[&q, &k], |n| n);
        let scores = if change == 3 {
            let mask = n.linear("x", 6, 7);
            n.op("Add", &[&scores, &mask], |n| n)
        } else {
            scores
        };
        let parts = n.op("Softmax", &[&scores], |n| n.int("axis", if change == 2 { 1 } else { 2 }));
        let y = n.op("MatMul", &[&parts, &v], |n| n);
        let outputs = match change {
            0 => vec![parts.as_str(), &y],
            1 => vec![scores.as_str(), &y],
            _ => vec![y.as_str()],
        };
        let g = n.finish(&outputs);
        let steps = steps("inside", &g, &dims);
        // The mask takes the scores up as it is made.
        assert_eq!(count(&steps, "attention"), 0, "{change}: {steps:?}");
    }
}

#[test]
fn watched_values_inside_a_block_are_still_seen() {
    let (g, dims) = windows(1, true);
    let feeds = feed(&g, &dims, 9);
    let names: Vec<String> = g.nodes().iter().flat_map(|n| n.outputs.clone()).collect();
    let wanted: Vec<&str> = names.iter().map(String::as_str).collect();
    let eager = exec::run(&g, &feeds, Run { wanted: &wanted, ..Run::default() }).unwrap();
    for some in names.chunks(3) {
        let mut engine = Engine::watching(&g, &[], some.iter().cloned().collect(), 2).unwrap();
        let mut seen = Vec::new();
        let watched = engine.run_watched(&feeds, None, &mut |s| {
            let count: usize = s.dims.iter().product();
            let place = |at: usize| {
                let (mut left, mut place) = (at, 0);
                for (n, stride) in s.dims.iter().zip(s.strides).rev() {
                    (place, left) = (place + left % n * stride, left / n);
                }
                place
            };
            let values: Vec<f32> = (0..count).map(|at| s.values[place(at)]).collect();
            assert!(relative(&values, &eager[s.name].to_f32s().unwrap()) < 1e-4, "{}", s.name);
            seen.push(s.name.to_string());
            Ok(())
        });
        assert!(watched.unwrap());
        assert!(some.iter().all(|n| seen.contains(n)), "{some:?}: {seen:?}");
    }
}

#[test]
fn what_follows_a_product_keeps_to_its_axes() {
    // Vectors along the channels are taken in; those along rows, those that make the value larger, and a second reader are not.
    let dims = [1, 5, 6];
    for case in 0..8 {
        let mut n = Net::new(&dims);
        let w = n.floats(&[6, 5], 0.4);
        let y = n.op("MatMul", &["x", &w], |n| n);
        let vector = match case {
            0 => n.floats(&[5], 1.0),
            1 => n.floats(&[5, 1], 1.0),
            2 => n.floats(&[1, 1, 5], 1.0),
            3 => n.floats(&[1], 1.0),
            4 => n.floats(&[2, 1, 1, 5], 1.0),
            _ => n.floats(&[5], 1.0),
        };
        let z = match case {
            5 => n.op("Sub", &[&vector, &y], |n| n),
            6 => n.op("Div", &[&y, &vector], |n| n),
            7 => n.op("Sub", &[&y, &vector], |n| n),
            _ => n.op("Mul", &[&y, &vector], |n| n),
        };
        let shifted = n.op("Add", &[&vector, &z], |n| n);
        let turned = if case == 4 { shifted.clone() } else { n.op("Transpose", &[&shifted], |n| n.ints("perm", &[0, 2, 1])) };
        let g = n.finish(&[&turned]);
        let steps = steps(&format!("case {case}"), &g, &dims);
        let alone = matches!(case, 0 | 2 | 3 | 6 | 7);
        assert_eq!(
            count(&steps, "mul") + count(&steps, "add") + count(&steps, "sub") + count(&steps, "div") == 0,
            alone,
            "{case}: {steps:?}"
        );
    }
    // A second reader of the product, and a sum with itself.
    let mut n = Net::new(&dims);
    let w = n.floats(&[6, 6], 0.4);
    let y = n.op("MatMul", &["x", &w], |n| n);
    let b = n.floats(&[6], 1.0);
    let z = n.op("Add", &[&y, &b], |n| n);
    let twice = n.op("Add", &[&z, &z], |n| n);
    let q = n.op("Mul", &[&twice, &y], |n| n);
    let g = n.finish(&[&q]);
    hold("readers", &g, &dims, true);
}

#[test]
fn places_repetitions_and_reductions() {
    let dims = [1, 6, 4, 5];
    let mut n = Net::new(&dims);
    let x = n.conv("x", [8, 6, 1], |n| n);
    let mut outputs = Vec::new();
    for (axis, indices) in [(1, vec![-1]), (1, vec![1, 3, 5]), (3, vec![0, 1, 2])] {
        let indices = n.ints(&indices);
        outputs.push(n.op("Gather", &[&x, &indices], |n| n.int("axis", axis)));
    }
    for op in ["ReduceMean", "ReduceMax", "ReduceL2"] {
        for (axes, keep) in [(vec![1], 1), (vec![-1], 0), (vec![1, 3], 0), (vec![2, 3], 1), (vec![1, 2, 3], 0)] {
            outputs.push(n.op(op, &[&x], |n| n.ints("axes", &axes).int("keepdims", keep)));
        }
    }
    let axes = n.ints(&[1]);
    outputs.push(n.op("ReduceSum", &[&x, &axes], |n| n));
    let shape = n.ints(&[1, 8, 4, 5]);
    let one = n.op("ReduceMean", &[&x], |n| n.ints("axes", &[1]));
    outputs.push(n.op("Expand", &[&one, &shape], |n| n));
    let nothing = n.ints(&[0; 8]);
    outputs.push(n.op("Pad", &[&x, &nothing], |n| n));
    let (scale, bias) = (n.floats(&[4, 5], 1.0), n.floats(&[4, 5], 1.0));
    outputs.push(n.op("LayerNormalization", &[&x, &scale, &bias], |n| n.int("axis", 2).float("epsilon", 1e-2)));
    let (scale, bias) = (n.floats(&[8], 1.0), n.floats(&[8], 1.0));
    outputs.push(n.op("InstanceNormalization", &[&x, &scale, &bias], |n| n.float("epsilon", 1e-2)));
    // Two groups.
    let (groups, back) = (n.ints(&[0, 2, -1]), n.ints(&[0, 8, 4, 5]));
    let (ones, zeros) = (
        n.0.constant("ones", Constant::floats(&[2], &[1.0; 2]).unwrap()),
        n.0.constant("zeros", Constant::floats(&[2], &[0.0; 2]).unwrap()),
    );
    let grouped = n.op("Reshape", &[&x, &groups], |n| n);
    let grouped = n.op("InstanceNormalization", &[&grouped, &ones, &zeros], |n| n);
    outputs.push(n.op("Reshape", &[&grouped, &back], |n| n));
    let names: Vec<&str> = outputs.iter().map(String::as_str).collect();
    let g = n.finish(&names);
    hold("places", &g, &dims, true);
}

#[test]
fn places_that_are_no_view_are_picked_by_candle() {
    for indices in [vec![3, 2, 1], vec![0, 1, 3], vec![2, 2]] {
        let dims = [1, 6, 4, 5];
        let mut n = Net::new(&dims);
        let indices = n.ints(&indices);
        let y = n.op("Gather", &["x", &indices], |n| n.int("axis", 2));
        let g = n.finish(&[&y]);
        hold("picked", &g, &dims, false);
    }
}

/// A box's distances, as detectors make them: `[1, 4 · bins, places]` to four numbers a place.
fn distances(bins: usize, change: usize) -> (Graph, [usize; 3]) {
    let dims = [1, 4 * bins, 21];
    let mut n = Net::new(&dims);
    let shape = n.ints(&[0, 4, bins as i64, 21]);
    let y = n.op("Reshape", &["x", &shape], |n| n);
    let y = n.op("Transpose", &[&y], |n| n.ints("perm", &[0, 2, 1, 3]));
    let parts = n.op("Softmax", &[&y], |n| n.int("axis", if change == 1 { 3 } else { 1 }));
    let filters = n.floats(&[if change == 2 { 2 } else { 1 }, bins, 1, 1], 1.0);
    let bias = n.floats(&[1], 1.0);
    let y =
        n.op("Conv", &if change == 3 { vec![parts.as_str(), &filters, &bias] } else { vec![parts.as_str(), &filters] }, |n| match change {
            4 => n.ints("strides", &[2, 2]),
            5 => n.ints("pads", &[0, 1, 0, 1]),
            _ => n,
        });
    let outputs = if change == 6 { vec![parts.as_str(), &y] } else { vec![y.as_str()] };
    (n.finish(&outputs), dims)
}

#[test]
fn what_is_expected_of_a_softmax_is_one_step() {
    for bins in [1, 8, 16, 33] {
        let (g, dims) = distances(bins, 0);
        let steps = steps("distances", &g, &dims);
        assert_eq!([count(&steps, "softmax, expected"), count(&steps, "conv")], [1, 0], "{steps:?}");
    }
    // 1: softmax over another axis; 2: two filters; 3: a bias; 4: strides; 5: padding; 6: the parts are an output.
    for change in 1..=6 {
        let (g, dims) = distances(16, change);
        let steps = steps("distances", &g, &dims);
        assert_eq!(count(&steps, "softmax, expected"), 0, "{change}: {steps:?}");
    }
}
