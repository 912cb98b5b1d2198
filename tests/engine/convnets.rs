//! Layers of convolutional networks: batch norms that no layer takes up, arithmetic per channel, concatenations of concatenations, sums of
//! branches.

use super::*;

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

#[test]
fn dense_blocks_are_neither_copied_nor_transposed() {
    let dims = [1, 6, 9, 7];
    let mut n = Net::new(&dims);
    let first = n.conv("x", [10, 6, 3], |n| n.ints("pads", &[1, 1, 1, 1]));
    let mut parts = vec![n.op("MaxPool", &[&first], |n| n.ints("kernel_shape", &[3, 3]).ints("pads", &[1, 1, 1, 1]))];
    for layer in 0..4 {
        let names: Vec<&str> = parts.iter().map(String::as_str).collect();
        let all = n.op("Concat", &names, |n| n.int("axis", 1));
        let channels = 10 + 5 * layer;
        let y = n.norm(&all, channels);
        let y = n.op("Relu", &[&y], |n| n);
        let y = n.conv(&y, [12, channels, 1], |n| n);
        let y = n.op("Relu", &[&y], |n| n);
        parts.push(n.conv(&y, [5, 12, 3], |n| n.ints("pads", &[1, 1, 1, 1])));
    }
    let names: Vec<&str> = parts.iter().map(String::as_str).collect();
    let all = n.op("Concat", &names, |n| n.int("axis", 1));
    let y = n.norm(&all, 30);
    let y = n.op("GlobalAveragePool", &[&y], |n| n);
    let g = n.finish(&[&y]);
    let steps = steps("dense block", &g, &dims);
    // The last one has no layer after it.
    assert_eq!((count(&steps, "affine"), count(&steps, "map")), (1, 0), "{steps:?}");
    // The input's planes become pixels, and the output rows.
    assert!(count(&steps, "transpose") <= 1 && count(&steps, "copy") <= 1, "{steps:?}");
}

#[test]
fn concatenations_that_do_not_hold_each_other_agree() {
    let dims = [1, 4, 5, 6];
    let mut n = Net::new(&dims);
    let p: Vec<String> = (0..4).map(|_| n.conv("x", [3, 4, 1], |n| n)).collect();
    let a = n.op("Concat", &[&p[0], &p[1]], |n| n.int("axis", 1));
    // The first again in the middle, in another order, twice, and along another axis.
    let b = n.op("Concat", &[&p[2], &p[0], &p[1], &p[3]], |n| n.int("axis", 1));
    let c = n.op("Concat", &[&p[1], &p[0], &p[2]], |n| n.int("axis", 1));
    let d = n.op("Concat", &[&p[0], &p[1], &p[0], &p[1]], |n| n.int("axis", 1));
    let e = n.op("Concat", &[&p[0], &p[1]], |n| n.int("axis", 2));
    let outs: Vec<String> = [&a, &b, &c, &d, &e].into_iter().map(|v| n.op("Relu", &[v], |n| n)).collect();
    let g = n.finish(&outs.iter().chain([&a, &p[0]]).map(String::as_str).collect::<Vec<_>>());
    hold("concatenations", &g, &dims, true);
}

#[test]
fn arithmetic_per_channel_is_one_step() {
    let dims = [1, 6, 5, 7];
    let mut n = Net::new(&dims);
    let x = n.conv("x", [6, 6, 1], |n| n);
    let (s, t) = (n.floats(&[6, 1, 1], 1.0), n.floats(&[1, 6, 1, 1], 1.0));
    let one = n.floats(&[1], 2.0);
    let y = n.op("Mul", &[&s, &x], |n| n);
    let y = n.op("Sub", &[&t, &y], |n| n);
    let y = n.op("Add", &[&y, &one], |n| n);
    let y = n.norm(&y, 6);
    let y = n.op("Relu", &[&y], |n| n);
    let g = n.finish(&[&y]);
    let planned = steps("arithmetic", &g, &dims);
    assert_eq!(count(&planned, "affine Relu"), 1, "{planned:?}");
    assert_eq!((count(&planned, "mul"), count(&planned, "sub"), count(&planned, "add")), (0, 0, 0), "{planned:?}");
}

#[test]
fn values_between_are_there_where_others_read_them() {
    let dims = [1, 6, 5, 7];
    let mut n = Net::new(&dims);
    let x = n.conv("x", [6, 6, 1], |n| n);
    let (s, row) = (n.floats(&[6, 1, 1], 1.0), n.floats(&[7], 1.0));
    let a = n.op("Mul", &[&x, &s], |n| n);
    let b = n.norm(&a, 6);
    let c = n.op("Relu", &[&b], |n| n);
    // Read twice, given out, and by a constant along another axis.
    let d = n.op("Add", &[&b, &c], |n| n);
    let e = n.op("Mul", &[&d, &row], |n| n);
    let g = n.finish(&[&a, &e]);
    hold("between", &g, &dims, true);
    let keep = HashSet::from([b.clone(), c.clone()]);
    let mut engine = Engine::watching(&g, &[], keep.clone(), 2).unwrap();
    let mut seen = Vec::new();
    let planned = engine.run_watched(&feed(&g, &dims, 5), None, &mut |s| {
        seen.push(s.name.to_string());
        Ok(())
    });
    assert!(planned.unwrap());
    assert!(keep.iter().all(|k| seen.contains(k)), "{seen:?}");
}

#[test]
fn norms_of_rows_and_of_one_axis() {
    for dims in [vec![3, 6], vec![1, 6, 9]] {
        let mut n = Net::new(&dims);
        let y = n.norm("x", 6);
        let y = n.op("Relu", &[&y], |n| n);
        let g = n.finish(&[&y]);
        hold("norm", &g, &dims, true);
    }
}

#[test]
fn branches_that_are_summed_are_one_layer() {
    let dims = [1, 8, 9, 9];
    let mut n = Net::new(&dims);
    let x = n.conv("x", [8, 8, 1], |n| n);
    let x = n.op("Relu", &[&x], |n| n);
    let (wide, narrow, norm) = (n.conv(&x, [8, 8, 3], |n| n.ints("pads", &[1, 1, 1, 1])), n.conv(&x, [8, 8, 1], |n| n), n.norm(&x, 8));
    let y = n.op("Add", &[&narrow, &wide], |n| n);
    let y = n.op("Add", &[&y, &norm], |n| n);
    let y = n.op("Relu", &[&y], |n| n);
    let g = n.finish(&[&y]);
    let planned = steps("branches", &g, &dims);
    assert_eq!((count(&planned, "conv"), count(&planned, "add"), count(&planned, "affine")), (2, 0, 0), "{planned:?}");
}

#[test]
fn shuffled_channels_are_one_copy() {
    let dims = [1, 6, 5, 7];
    let mut n = Net::new(&dims);
    let x = n.conv("x", [12, 6, 1], |n| n);
    let (apart, whole) = (n.ints(&[0, 3, 4, 5, 7]), n.ints(&[0, 12, 5, 7]));
    let y = n.op("Reshape", &[&x, &apart], |n| n);
    let y = n.op("Transpose", &[&y], |n| n.ints("perm", &[0, 2, 1, 3, 4]));
    let y = n.op("Reshape", &[&y, &whole], |n| n);
    let y = n.conv(&y, [12, 4, 3], |n| n.int("group", 3).ints("pads", &[1, 1, 1, 1]));
    let y = n.op("GlobalAveragePool", &[&y], |n| n);
    let g = n.finish(&[&y]);
    let planned = steps("shuffle", &g, &dims);
    // The input, the shuffle, and the output's rows.
    assert!(count(&planned, "copy") + count(&planned, "transpose") <= 3, "{planned:?}");
}

#[test]
fn pads_are_those_of_the_convolution_after_them() {
    let dims = [1, 3, 9, 10];
    let mut n = Net::new(&dims);
    let pads = n.ints(&[0, 0, 0, 1, 0, 0, 1, 2]);
    let y = n.op("Pad", &["x", &pads], |n| n);
    let y = n.conv(&y, [8, 3, 3], |n| n.ints("strides", &[2, 2]));
    let g = n.finish(&[&y]);
    let planned = steps("pad", &g, &dims);
    assert_eq!(count(&planned, "conv"), 1, "{planned:?}");
}
