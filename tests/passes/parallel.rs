//! Sums of convolutions of one value: what becomes one layer, and what stays.

use super::*;

const DIMS: [usize; 4] = [1, 4, 9, 8];

fn floats(b: &mut GraphBuilder, name: &str, dims: &[usize]) -> String {
    let seed = name.bytes().fold(7u64, |s, c| s.wrapping_mul(31).wrapping_add(u64::from(c)));
    let mut draw = Draw(seed | 1);
    let values: Vec<f32> = (0..dims.iter().product()).map(|_| draw.unit() + 0.125).collect();
    b.constant(name, Constant::floats(dims, &values).unwrap())
}

fn conv(b: &mut GraphBuilder, x: &str, w: [usize; 4], attrs: impl FnOnce(Node) -> Node) -> String {
    let (weight, bias) = (floats(b, &format!("weight{w:?}"), &w), floats(b, "bias", &w[..1]));
    b.node(attrs(Node::new("Conv", "", [x, &weight, &bias], [""])))
}

fn norm(b: &mut GraphBuilder, x: &str, channels: usize) -> String {
    let stats: Vec<String> = ["scale", "shift", "mean", "variance"].iter().map(|s| floats(b, s, &[channels])).collect();
    b.op("BatchNormalization", &[x, &stats[0], &stats[1], &stats[2], &stats[3]])
}

/// A graph over a ReLU of the input, after the pass, which must not change what it gives; the number of its layers and what was refused.
fn merged(build: impl FnOnce(&mut GraphBuilder, &str) -> Vec<String>) -> (Graph, usize, Vec<String>) {
    let mut b = GraphBuilder::new("branches", 17);
    let x = b.input("x", Fact::known(Element::F32, &DIMS));
    let x = b.op("Relu", &[&x]);
    build(&mut b, &x).iter().for_each(|o| b.output(o));
    let g = b.finish().unwrap();
    let out = hold("merge_parallel_convs", &g, &[pipelines::pass("merge_parallel_convs").unwrap()], 1e-5);
    let layers = out.graph.nodes().iter().filter(|n| n.is("Conv") || n.is("BatchNormalization")).count();
    let refused = out.reports.iter().flat_map(|r| r.refused.clone()).collect();
    (out.graph, layers, refused)
}

#[test]
fn branches_become_one_layer() {
    type Attrs = fn(Node) -> Node;
    let same: Attrs = |n| n.ints("pads", &[1, 1, 1, 1]);
    let cases: [(usize, Attrs, [usize; 4], Attrs, [usize; 4]); 6] = [
        (1, same, [4, 4, 3, 3], |n| n, [4, 4, 1, 1]),
        (1, |n| n.ints("pads", &[1, 1, 1, 1]).ints("strides", &[2, 2]), [6, 4, 3, 3], |n| n.ints("strides", &[2, 2]), [6, 4, 1, 1]),
        (1, |n| n.ints("pads", &[2, 2, 2, 2]), [4, 4, 5, 5], same, [4, 4, 3, 3]),
        (1, |n| n.ints("pads", &[0, 1, 2, 1]), [4, 4, 3, 3], |n| n, [4, 4, 1, 1]),
        (1, |n| n.ints("pads", &[2, 2, 2, 2]).ints("dilations", &[2, 2]), [4, 4, 3, 3], |n| n, [4, 4, 1, 1]),
        (1, |n| n.ints("pads", &[1, 1, 1, 1]).int("group", 2), [4, 2, 3, 3], |n| n.int("group", 2), [4, 2, 1, 1]),
    ];
    for (i, (layers, wide, w, narrow, v)) in cases.into_iter().enumerate() {
        for turned in [false, true] {
            let (_, found, refused) = merged(|b, x| {
                let (p, q) = (conv(b, x, w, wide), conv(b, x, v, narrow));
                let sum = b.op("Add", &if turned { [&q, &p] } else { [&p, &q] }.map(String::as_str));
                vec![b.op("Relu", &[&sum])]
            });
            assert_eq!(found, layers, "{i}: {refused:?}");
        }
    }
}

#[test]
fn a_norm_of_the_value_is_a_branch() {
    for group in [1, 2, 4] {
        let (g, layers, refused) = merged(|b, x| {
            let wide = conv(b, x, [4, 4 / group, 3, 3], |n| n.ints("pads", &[1, 1, 1, 1]).int("group", group as i64));
            let narrow = conv(b, x, [4, 4 / group, 1, 1], |n| n.int("group", group as i64));
            let norm = norm(b, x, 4);
            let sum = b.op("Add", &[&norm, &narrow]);
            vec![b.op("Add", &[&sum, &wide])]
        });
        assert_eq!((layers, g.nodes().len()), (1, 2), "{refused:?}");
    }
}

#[test]
fn branches_stay_where_a_sum_of_weights_would_be_another() {
    let same = |n: Node| n.ints("pads", &[1, 1, 1, 1]);
    type Build = fn(&mut GraphBuilder, &str) -> Vec<String>;
    let cases: [(&str, Build); 8] = [
        ("no window lies in the other", |b, x| {
            let (p, q) =
                (conv(b, x, [4, 4, 1, 3], |n| n.ints("pads", &[0, 1, 0, 1])), conv(b, x, [4, 4, 3, 1], |n| n.ints("pads", &[1, 0, 1, 0])));
            vec![b.op("Add", &[&p, &q])]
        }),
        ("no window lies in the other", |b, x| {
            let (p, q) = (
                conv(b, x, [4, 4, 3, 3], |n| n.ints("pads", &[2, 2, 2, 2]).ints("dilations", &[2, 2])),
                conv(b, x, [4, 4, 3, 3], |n| n.ints("pads", &[1, 1, 1, 1])),
            );
            vec![b.op("Add", &[&p, &q])]
        }),
        ("different sizes", |b, x| {
            // One image of a single pixel is added to all of the other.
            let (p, q) = (conv(b, x, [4, 4, 9, 8], |n| n), conv(b, x, [4, 4, 1, 1], |n| n));
            vec![b.op("Add", &[&p, &q])]
        }),
        ("channels, groups or axes differ", |b, x| {
            let (p, q) = (conv(b, x, [1, 4, 1, 1], |n| n), conv(b, x, [4, 4, 1, 1], |n| n));
            vec![b.op("Add", &[&p, &q])]
        }),
        ("channels, groups or axes differ", |b, x| {
            let (p, q) = (conv(b, x, [4, 1, 1, 1], |n| n.int("group", 4)), conv(b, x, [4, 4, 1, 1], |n| n));
            vec![b.op("Add", &[&p, &q])]
        }),
        ("has other readers", |b, x| {
            let (p, q) = (conv(b, x, [4, 4, 1, 1], |n| n), conv(b, x, [4, 4, 1, 1], |n| n));
            let sum = b.op("Add", &[&p, &q]);
            vec![b.op("Mul", &[&sum, &p])]
        }),
        ("has other readers", |b, x| {
            let (p, q) = (conv(b, x, [4, 4, 1, 1], |n| n), conv(b, x, [4, 4, 1, 1], |n| n));
            vec![b.op("Add", &[&p, &q]), q]
        }),
        ("works its pads out", |b, x| {
            let (p, q) = (
                conv(b, x, [4, 4, 3, 3], |n| n.attr("auto_pad", compresso::model::Attr::text("SAME_UPPER"))),
                conv(b, x, [4, 4, 1, 1], |n| n),
            );
            vec![b.op("Add", &[&p, &q])]
        }),
    ];
    for (i, (reason, build)) in cases.into_iter().enumerate() {
        let (_, layers, refused) = merged(build);
        assert!(layers == 2 && refused.iter().any(|r| r.contains(reason)), "{i}: {layers} layers, {refused:?}");
    }
    // Of different values, of one twice, and a norm beside a layer that halves the image.
    let (_, layers, _) = merged(|b, x| {
        let other = b.op("Sigmoid", &[x]);
        let (p, q) = (conv(b, x, [4, 4, 3, 3], same), conv(b, &other, [4, 4, 3, 3], same));
        let r = conv(b, x, [4, 4, 1, 1], |n| n);
        vec![b.op("Add", &[&p, &q]), b.op("Add", &[&r, &r])]
    });
    assert_eq!(layers, 3);
}
