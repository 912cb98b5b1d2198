//! Every operator that the writer knows, in the forms that exporters write and at the edges of its rules.

use super::Cases;
use compresso::deploy::ExportPrecision;
use compresso::model::{Constant, Element, Fact, GraphBuilder, Model, Node, Task};
use compresso_test_support::noise;

/// A graph in the making, whose inputs are drawn from [0, 1).
struct Net {
    b: GraphBuilder,
    constants: usize,
}

impl Net {
    fn new(opset: i64) -> Self {
        Self { b: GraphBuilder::new("g", opset), constants: 0 }
    }
    fn input(&mut self, dims: &[usize]) -> String {
        let name = format!("x{}", self.constants);
        self.constants += 1;
        // Four axes are images, which come one at a time; others are made of a vector.
        let is_batch = dims.len() > 3 && dims[0] != 1;
        let flat = [1, dims.iter().product()];
        let mut x = self.b.input(&name, Fact::known(Element::F32, if is_batch { &flat } else { dims }));
        if is_batch {
            let to: Vec<i64> = dims.iter().map(|&d| d as i64).collect();
            let to = self.ints(&to);
            x = self.node("Reshape", &[&x, &to], |n| n);
        }
        // Of both signs, so that functions show both their sides.
        let (half, two) = (self.floats(&[], &[0.5]), self.floats(&[], &[4.0]));
        let moved = self.node("Sub", &[&x, &half], |n| n);
        self.node("Mul", &[&moved, &two], |n| n)
    }
    fn floats(&mut self, dims: &[usize], values: &[f32]) -> String {
        self.constants += 1;
        self.b.constant(&format!("c{}", self.constants), Constant::floats(dims, values).unwrap())
    }
    fn weight(&mut self, dims: &[usize]) -> String {
        let values = noise(dims.iter().product(), self.constants as u32 + 3);
        self.floats(dims, &values)
    }
    fn ints(&mut self, values: &[i64]) -> String {
        self.constants += 1;
        self.b.constant(&format!("c{}", self.constants), Constant::ints(values))
    }
    fn node(&mut self, op: &str, inputs: &[&str], attrs: impl Fn(Node) -> Node) -> String {
        self.b.node(attrs(Node::new(op, "", inputs.iter().copied(), [""])))
    }
    fn end(mut self, outputs: &[&str]) -> Model {
        outputs.iter().for_each(|o| self.b.output(o));
        Model::new(self.b.finish().unwrap(), Task::Unknown)
    }
}

fn one(cases: &mut Cases, what: &str, opset: i64, make: impl Fn(&mut Net) -> String) {
    let mut net = Net::new(opset);
    let y = make(&mut net);
    cases.add(what, &net.end(&[&y]), ExportPrecision::Fp32);
}

fn text(node: Node, name: &str, value: &str) -> Node {
    node.attr(name, compresso::model::Attr::text(value))
}

#[test]
fn functions_of_one_value() {
    let mut cases = Cases::new();
    for op in [
        "Relu",
        "LeakyRelu",
        "Sigmoid",
        "Tanh",
        "Erf",
        "Mish",
        "Softplus",
        "Elu",
        "Celu",
        "Selu",
        "HardSigmoid",
        "HardSwish",
        "Abs",
        "Neg",
        "Floor",
        "Ceil",
        "Exp",
        "Sin",
        "Cos",
        "Tan",
        "Atan",
        "Round",
        "Identity",
    ] {
        for dims in [&[1usize, 5, 3, 7][..], &[1, 8, 4, 4], &[1, 6], &[2, 3, 4], &[1, 16, 2, 3, 4]] {
            one(&mut cases, &format!("{op} {dims:?}"), 22, |n| {
                let x = n.input(dims);
                n.node(op, &[&x], |n| n)
            });
        }
    }
    for (op, scale, offset) in [("Sqrt", 0.4, 1.0), ("Log", 0.4, 1.0), ("Reciprocal", 0.4, 1.0), ("Asin", 0.4, 0.0), ("Acos", 0.4, 0.0)] {
        one(&mut cases, op, 17, |n| {
            let x = n.input(&[1, 5, 3, 7]);
            let (scale, offset) = (n.floats(&[], &[scale]), n.floats(&[], &[offset]));
            let x = n.node("Mul", &[&x, &scale], |n| n);
            let x = n.node("Add", &[&x, &offset], |n| n);
            n.node(op, &[&x], |n| n)
        });
    }
    for mode in ["none", "tanh"] {
        one(&mut cases, &format!("Gelu {mode}"), 20, |n| {
            let x = n.input(&[1, 5, 3, 7]);
            n.node("Gelu", &[&x], |n| text(n, "approximate", mode))
        });
    }
    for (low, high) in [(Some(-0.5), Some(0.7)), (None, Some(0.3)), (Some(0.0), None), (None, None)] {
        one(&mut cases, &format!("Clip {low:?} {high:?}"), 17, |n| {
            let x = n.input(&[1, 5, 3, 7]);
            let low = low.map_or(String::new(), |v| n.floats(&[], &[v]));
            let high = high.map_or(String::new(), |v| n.floats(&[], &[v]));
            n.node("Clip", &[&x, &low, &high], |n| n)
        });
    }
    one(&mut cases, "Clip of operator set 6", 6, |n| {
        let x = n.b.input("x", Fact::known(Element::F32, &[1, 5, 3, 7]));
        n.node("Clip", &[&x], |n| n.float("min", 0.2).float("max", 0.6))
    });
    for slope in [&[1usize][..], &[8, 1, 1]] {
        one(&mut cases, &format!("PRelu {slope:?}"), 17, |n| {
            let x = n.input(&[1, 8, 3, 7]);
            let slope = n.weight(slope);
            n.node("PRelu", &[&x, &slope], |n| n)
        });
    }
    one(&mut cases, "x sigmoid(x)", 17, |n| {
        let x = n.input(&[1, 8, 3, 7]);
        let gate = n.node("Sigmoid", &[&x], |n| n);
        n.node("Mul", &[&x, &gate], |n| n)
    });
    cases.assert_errors(1e-3);
}

#[test]
fn pairs_of_operands_are_broadcast() {
    let mut cases = Cases::new();
    let shapes: &[[&[usize]; 2]] = &[
        [&[1, 8, 3, 5], &[1, 8, 3, 5]],
        [&[1, 8, 3, 5], &[1, 8, 1, 1]],
        [&[1, 8, 1, 1], &[1, 8, 3, 5]],
        [&[1, 8, 3, 5], &[8, 1, 1]],
        [&[1, 8, 3, 5], &[5]],
        [&[1, 8, 3, 5], &[3, 1]],
        [&[1, 8, 3, 5], &[1, 1, 3, 5]],
        [&[1, 1, 3, 5], &[1, 8, 1, 1]],
        [&[1, 8, 1, 5], &[1, 1, 3, 1]],
        [&[8], &[1, 8, 3, 8]],
        [&[1, 8], &[1, 8]],
        [&[1, 8, 5], &[8, 1]],
        [&[1, 8, 5], &[5]],
        [&[1, 8, 8], &[8]],
        [&[4, 3], &[3]],
        [&[4, 1], &[1, 3]],
        [&[1, 3, 8, 2, 5], &[8, 1, 1]],
        [&[1, 3, 8, 2, 5], &[1, 3, 1, 2, 5]],
        [&[2, 3, 4, 2, 5], &[4, 2, 5]],
        [&[1, 8, 3, 5], &[]],
        [&[], &[1, 8, 3, 5]],
        [&[1], &[1, 8]],
    ];
    for op in ["Add", "Sub", "Mul", "Div", "Max", "Min"] {
        for [a, b] in shapes {
            for stored in [0, 1, 2] {
                // Quotients of small numbers are not comparable.
                let make = |n: &mut Net, dims: &[usize], is_stored: bool| {
                    let x = if is_stored { n.weight(dims) } else { n.input(dims) };
                    if op != "Div" {
                        return x;
                    }
                    let x = n.node("Abs", &[&x], |n| n);
                    let one = n.floats(&[], &[1.0]);
                    n.node("Add", &[&x, &one], |n| n)
                };
                // Scalars are no inputs of a network.
                if a.is_empty() && stored != 1 || b.is_empty() && stored != 2 {
                    continue;
                }
                one(&mut cases, &format!("{op} {a:?} {b:?} {stored}"), 17, |n| {
                    let (x, y) = (make(n, a, stored == 1), make(n, b, stored == 2));
                    n.node(op, &[&x, &y], |n| n)
                });
            }
        }
    }
    for (power, of) in [(1.0, false), (2.0, false), (3.0, false), (6.0, false), (-2.0, true), (0.5, true), (-1.5, true)] {
        one(&mut cases, &format!("Pow {power}"), 17, |n| {
            let mut x = n.input(&[1, 5, 3, 7]);
            if of {
                let one = n.floats(&[], &[1.0]);
                x = n.node("Abs", &[&x], |n| n);
                x = n.node("Add", &[&x, &one], |n| n);
            }
            let power = n.floats(&[], &[power]);
            n.node("Pow", &[&x, &power], |n| n)
        });
    }
    one(&mut cases, "a number to a power", 17, |n| {
        let x = n.input(&[1, 5, 3, 7]);
        let base = n.floats(&[], &[1.5]);
        n.node("Pow", &[&base, &x], |n| n)
    });
    for op in ["Sum", "Mean", "Max", "Min"] {
        one(&mut cases, &format!("{op} of three"), 17, |n| {
            let (x, y, z) = (n.input(&[1, 8, 3, 5]), n.input(&[1, 8, 1, 1]), n.weight(&[3, 5]));
            n.node(op, &[&x, &y, &z], |n| n)
        });
    }
    cases.assert_errors(1e-3);
}

#[test]
fn windows_slide() {
    /// Channels, outputs, group, kernel, stride, dilation, pads.
    type Form<'a> = (usize, usize, usize, &'a [i64], &'a [i64], &'a [i64], &'a [i64]);
    let mut cases = Cases::new();
    let forms: &[Form<'_>] = &[
        (3, 8, 1, &[3, 3], &[1, 1], &[1, 1], &[1, 1, 1, 1]),
        (3, 5, 1, &[3, 3], &[2, 2], &[1, 1], &[0, 1, 1, 0]),
        (8, 16, 1, &[1, 1], &[1, 1], &[1, 1], &[0, 0, 0, 0]),
        (8, 8, 8, &[3, 3], &[1, 1], &[1, 1], &[1, 1, 1, 1]),
        (8, 16, 8, &[3, 3], &[1, 1], &[2, 2], &[2, 2, 2, 2]),
        (8, 12, 4, &[3, 5], &[2, 1], &[1, 1], &[1, 2, 1, 2]),
        (4, 6, 1, &[3, 1], &[1, 2], &[2, 1], &[1, 0, 2, 0]),
        (4, 6, 1, &[5], &[2], &[1], &[2, 1]),
        (4, 4, 4, &[3], &[1], &[2], &[2, 2]),
        (4, 6, 1, &[3, 3, 3], &[1, 2, 1], &[1, 1, 1], &[1, 1, 1, 1, 1, 1]),
        (4, 4, 4, &[1, 3, 3], &[1, 1, 1], &[1, 1, 1], &[0, 1, 1, 0, 1, 1]),
    ];
    for &(channels, outputs, group, kernel, stride, dilation, pads) in forms {
        let sizes = &[9usize, 11, 10][..kernel.len()];
        let taps: Vec<usize> = kernel.iter().map(|&k| k as usize).collect();
        let dims: Vec<usize> = [1, channels].iter().chain(sizes).copied().collect();
        let attrs = |n: Node| n.ints("strides", stride).ints("dilations", dilation).ints("pads", pads).int("group", group as i64);
        for bias in [false, true] {
            one(&mut cases, &format!("Conv {channels} {outputs} {group} {kernel:?} {bias}"), 17, |n| {
                let x = n.input(&dims);
                let w: Vec<usize> = [outputs, channels / group].iter().chain(&taps).copied().collect();
                let (w, b) = (n.weight(&w), if bias { n.weight(&[outputs]) } else { String::new() });
                n.node("Conv", &[&x, &w, &b], attrs)
            });
            let extra: Vec<i64> = stride.iter().map(|&s| i64::from(s > 1)).collect();
            one(&mut cases, &format!("ConvTranspose {channels} {outputs} {group} {kernel:?} {bias}"), 17, |n| {
                let x = n.input(&dims);
                let w: Vec<usize> = [channels, outputs / group].iter().chain(&taps).copied().collect();
                let (w, b) = (n.weight(&w), if bias { n.weight(&[outputs]) } else { String::new() });
                n.node("ConvTranspose", &[&x, &w, &b], |n| attrs(n).ints("output_padding", &extra))
            });
        }
    }
    // The layer does the activation after it, if nothing else reads what it makes.
    for op in ["Relu", "LeakyRelu", "Sigmoid", "Mish", "HardSwish", "Clip"] {
        for shared in [false, true] {
            one(&mut cases, &format!("Conv and {op} {shared}"), 18, |n| {
                let (x, w) = (n.input(&[1, 4, 6, 5]), n.weight(&[8, 4, 3, 3]));
                let y = n.node("Conv", &[&x, &w], |n| n);
                let (low, high) = (n.floats(&[], &[-0.5]), n.floats(&[], &[0.75]));
                let inputs: Vec<&str> = if op == "Clip" { vec![&y, &low, &high] } else { vec![&y] };
                let z = n.node(op, &inputs, |n| n);
                if shared { n.node("Add", &[&y, &z], |n| n) } else { z }
            });
        }
    }
    for same in ["SAME_UPPER", "SAME_LOWER", "VALID"] {
        one(&mut cases, &format!("Conv {same}"), 17, |n| {
            let (x, w) = (n.input(&[1, 3, 9, 8]), n.weight(&[5, 3, 3, 4]));
            n.node("Conv", &[&x, &w], |n| text(n, "auto_pad", same).ints("strides", &[2, 2]))
        });
    }
    for op in ["MaxPool", "AveragePool"] {
        for (dims, kernel, stride, pads) in [
            (&[1usize, 5, 9, 11][..], &[3i64, 3][..], &[2i64, 2][..], &[1i64, 1, 1, 1][..]),
            (&[1, 8, 9, 11], &[2, 2], &[2, 2], &[0, 0, 0, 0]),
            (&[1, 8, 9, 12], &[5, 5], &[1, 1], &[2, 2, 2, 2]),
            (&[1, 8, 10, 12], &[3, 3], &[2, 2], &[0, 0, 0, 0]),
            (&[1, 8, 9, 12], &[2, 3], &[2, 3], &[0, 1, 1, 0]),
            (&[1, 8, 11], &[3], &[2], &[1, 0]),
            (&[1, 4, 5, 6, 7], &[2, 3, 2], &[1, 2, 2], &[0, 1, 0, 1, 1, 0]),
        ] {
            for ceil in [0, 1] {
                for counts in [0, 1] {
                    if counts == 1 && (op == "MaxPool" || ceil == 1) {
                        continue;
                    }
                    one(&mut cases, &format!("{op} {dims:?} {kernel:?} ceil {ceil} counts {counts}"), 19, |n| {
                        let x = n.input(dims);
                        n.node(op, &[&x], |n| {
                            let n = n.ints("kernel_shape", kernel).ints("strides", stride).ints("pads", pads).int("ceil_mode", ceil);
                            if op == "AveragePool" { n.int("count_include_pad", counts) } else { n }
                        })
                    });
                }
            }
        }
        for dims in [&[1usize, 5, 4, 3][..], &[1, 8, 7], &[1, 4, 2, 3, 2]] {
            one(&mut cases, &format!("Global{op} {dims:?}"), 17, |n| {
                let x = n.input(dims);
                n.node(&format!("Global{op}"), &[&x], |n| n)
            });
        }
    }
    cases.assert_errors(1e-3);
}

#[test]
fn elements_are_moved() {
    let mut cases = Cases::new();
    for (dims, perm) in [
        (&[1usize, 3, 4, 5][..], &[0i64, 2, 3, 1][..]),
        (&[1, 3, 4, 5], &[0, 3, 1, 2]),
        (&[1, 3, 4, 5], &[0, 1, 3, 2]),
        (&[1, 3, 4, 5], &[3, 2, 1, 0]),
        (&[1, 3, 4], &[0, 2, 1]),
        (&[3, 4], &[1, 0]),
        (&[2, 3, 4, 5], &[2, 0, 3, 1]),
        (&[2, 3, 4, 5], &[3, 1, 0, 2]),
        (&[2, 3, 4, 5], &[1, 3, 2, 0]),
        (&[1, 2, 4, 3, 3], &[0, 2, 1, 3, 4]),
        (&[1, 7, 3, 4, 8], &[2, 0, 3, 1, 4]),
        (&[2, 3, 4, 5], &[0, 2, 3, 1]),
        (&[4, 6, 3, 2, 5], &[2, 0, 3, 1, 4]),
        (&[2, 3, 4, 5, 6], &[4, 2, 0, 3, 1]),
    ] {
        one(&mut cases, &format!("Transpose {dims:?} {perm:?}"), 17, |n| {
            let x = n.input(dims);
            n.node("Transpose", &[&x], |n| n.ints("perm", perm))
        });
    }
    for (dims, starts, ends, axes, steps) in [
        (&[1usize, 8, 6, 5][..], &[2i64][..], &[7i64][..], &[1i64][..], &[1i64][..]),
        (&[1, 8, 6, 5], &[1, -3], &[4, i64::MAX], &[3, 2], &[1, 1]),
        (&[1, 8, 6, 5], &[0, 1], &[i64::MAX, i64::MAX], &[2, 3], &[2, 2]),
        (&[1, 8, 6, 5], &[1], &[7], &[-3], &[3]),
        (&[1, 16, 9], &[8], &[16], &[1], &[1]),
        (&[4, 6], &[1], &[3], &[0], &[1]),
        (&[1, 7], &[0], &[7], &[1], &[2]),
        (&[2, 3, 4, 5, 6], &[1, 0], &[2, 4], &[3, 4], &[1, 3]),
    ] {
        one(&mut cases, &format!("Slice {dims:?} {starts:?} {ends:?} {axes:?} {steps:?}"), 17, |n| {
            let x = n.input(dims);
            let [starts, ends, axes, steps] = [starts, ends, axes, steps].map(|v| n.ints(v));
            n.node("Slice", &[&x, &starts, &ends, &axes, &steps], |n| n)
        });
    }
    for (a, b, axis) in [
        (&[1usize, 3, 4, 5][..], &[1usize, 6, 4, 5][..], 1),
        (&[1, 8, 4, 5], &[1, 16, 4, 5], 1),
        (&[1, 3, 4, 5], &[1, 3, 2, 5], -2),
        (&[1, 3, 4, 5], &[1, 3, 4, 5], 0),
        (&[1, 3, 4], &[1, 3, 6], 2),
        (&[1, 3], &[1, 6], 1),
        (&[2, 3, 4, 5, 6], &[2, 3, 1, 5, 6], 2),
    ] {
        one(&mut cases, &format!("Concat {a:?} {b:?} {axis}"), 17, |n| {
            let (x, y) = (n.input(a), n.input(b));
            n.node("Concat", &[&x, &y, &x], |n| n.int("axis", axis))
        });
    }
    one(&mut cases, "Concat with a constant", 17, |n| {
        let (x, y) = (n.input(&[1, 6, 8]), n.weight(&[1, 1, 8]));
        n.node("Concat", &[&y, &x], |n| n.int("axis", 1))
    });
    for (dims, axis) in [(&[1usize, 9, 4, 5][..], 1), (&[1, 8, 9, 5], 2), (&[1, 9, 6], 1), (&[1, 9], 1), (&[2, 9, 4, 3, 2], 1)] {
        for used in [[true; 3], [true, false, true], [false, false, true]] {
            let mut net = Net::new(13);
            let x = net.input(dims);
            let sizes = net.ints(&[2, 3, 4]);
            let split = Node::new("Split", "split", [x.as_str(), sizes.as_str()], ["s0", "s1", "s2"]).int("axis", axis);
            net.b.node(split);
            let made: Vec<String> = (0..3).filter(|&i| used[i]).map(|i| net.node("Relu", &[&format!("s{i}")], |n| n)).collect();
            cases.add(
                &format!("Split {dims:?} {used:?}"),
                &net.end(&made.iter().map(String::as_str).collect::<Vec<_>>()),
                ExportPrecision::Fp32,
            );
        }
    }
    for (dims, indices, axis) in [
        (&[3usize, 1, 4, 5, 6][..], &[1i64][..], 0),
        (&[1, 7, 5], &[0, 1, 2, 5, 3], 1),
        (&[1, 7, 5], &[-1, 0], 2),
        (&[1, 8, 3, 5], &[7, 6, 5, 4, 3, 2, 1, 0], 1),
    ] {
        one(&mut cases, &format!("Gather {dims:?} {indices:?} {axis}"), 17, |n| {
            let (x, i) = (n.input(dims), n.ints(indices));
            n.node("Gather", &[&x, &i], |n| n.int("axis", axis))
        });
    }
    for (dims, to) in [
        (&[1usize, 3, 1, 5][..], &[1i64, 3, 4, 5][..]),
        (&[1, 3, 1, 1], &[1, 3, 4, 5]),
        (&[1, 1, 8], &[1, 6, 8]),
        (&[8], &[3, 8]),
        (&[1, 8, 1, 2, 3], &[1, 8, 4, 2, 3]),
    ] {
        one(&mut cases, &format!("Expand {dims:?} {to:?}"), 17, |n| {
            let (x, to) = (n.input(dims), n.ints(to));
            n.node("Expand", &[&x, &to], |n| n)
        });
    }
    one(&mut cases, "Tile", 17, |n| {
        let (x, times) = (n.input(&[1, 3, 4, 5]), n.ints(&[1, 2, 1, 3]));
        n.node("Tile", &[&x, &times], |n| n)
    });
    for mode in ["constant", "edge", "reflect"] {
        for (dims, pads) in [
            (&[1usize, 3, 6, 5][..], &[0i64, 0, 1, 2, 0, 0, 3, 1][..]),
            (&[1, 8, 6, 5], &[0, 0, 0, 2, 0, 0, 0, 2]),
            (&[1, 8, 6, 5], &[0, 2, 0, 0, 0, 1, 0, 0]),
            (&[1, 3, 6, 5], &[0, 1, 1, 2, 0, 2, 0, 1]),
            (&[1, 8, 7], &[0, 0, 2, 0, 0, 3]),
            (&[1, 7], &[0, 3, 0, 2]),
            (&[1, 3, 6, 5], &[0, 0, -1, 2, 0, 0, 0, -2]),
            (&[1, 4, 3, 6, 5], &[0, 0, 1, 0, 2, 0, 0, 1, 1, 0]),
        ] {
            one(&mut cases, &format!("Pad {mode} {dims:?} {pads:?}"), 17, |n| {
                let (x, pads, value) = (n.input(dims), n.ints(pads), n.floats(&[], &[0.25]));
                n.node("Pad", &[&x, &pads, &value], |n| text(n, "mode", mode))
            });
        }
    }
    for mode in ["DCR", "CRD"] {
        one(&mut cases, &format!("DepthToSpace {mode}"), 17, |n| {
            let x = n.input(&[1, 12, 3, 5]);
            n.node("DepthToSpace", &[&x], |n| text(n.int("blocksize", 2), "mode", mode))
        });
    }
    one(&mut cases, "SpaceToDepth", 17, |n| {
        let x = n.input(&[1, 3, 6, 4]);
        n.node("SpaceToDepth", &[&x], |n| n.int("blocksize", 2))
    });
    one(&mut cases, "channels are shuffled", 17, |n| {
        let x = n.input(&[1, 8, 5, 4]);
        let (apart, whole) = (n.ints(&[1, 2, 4, 5, 4]), n.ints(&[1, 8, 5, 4]));
        let x = n.node("Reshape", &[&x, &apart], |n| n);
        let x = n.node("Transpose", &[&x], |n| n.ints("perm", &[0, 2, 1, 3, 4]));
        n.node("Reshape", &[&x, &whole], |n| n)
    });
    // Four axes before, one after, then layers that want certain ones.
    one(&mut cases, "shapes between layers", 17, |n| {
        let (x, w) = (n.input(&[1, 8, 5, 4]), n.weight(&[6, 8, 1, 1]));
        let y = n.node("Conv", &[&x, &w], |n| n);
        let flat = n.ints(&[1, 6, 20]);
        let y = n.node("Reshape", &[&y, &flat], |n| n);
        let y = n.node("Softmax", &[&y], |n| n.int("axis", 2));
        let back = n.ints(&[1, 6, 4, 5]);
        let y = n.node("Reshape", &[&y, &back], |n| n);
        n.node("GlobalAveragePool", &[&y], |n| n)
    });
    cases.assert_errors(1e-3);
}

#[test]
fn axes_are_reduced_and_normalized() {
    let mut cases = Cases::new();
    for op in [
        "ReduceSum",
        "ReduceMean",
        "ReduceMax",
        "ReduceMin",
        "ReduceProd",
        "ReduceL1",
        "ReduceL2",
        "ReduceSumSquare",
        "ReduceLogSumExp",
        "ReduceLogSum",
    ] {
        for (dims, axes) in [
            (&[1usize, 3, 4, 5][..], &[2i64, 3][..]),
            (&[1, 8, 4, 5], &[1]),
            (&[1, 8, 4, 5], &[-1]),
            (&[1, 8, 4, 5], &[1, 3]),
            (&[1, 8, 4, 5], &[1, 2, 3]),
            (&[1, 8, 6], &[1]),
            (&[1, 8, 6], &[2]),
            (&[1, 8], &[1]),
            (&[2, 3, 4, 5, 6], &[2, 3]),
            (&[1, 3, 2, 4, 5], &[2]),
        ] {
            for keep in [0, 1] {
                let operand = |n: &mut Net| {
                    let x = n.input(dims);
                    if op != "ReduceLogSum" {
                        return x;
                    }
                    n.node("Exp", &[&x], |n| n)
                };
                one(&mut cases, &format!("{op} {dims:?} {axes:?} {keep}"), 18, |n| {
                    let (x, axes) = (operand(n), n.ints(axes));
                    n.node(op, &[&x, &axes], |n| n.int("keepdims", keep))
                });
            }
        }
    }
    for op in ["Softmax", "LogSoftmax"] {
        for (dims, axis) in
            [(&[1usize, 8, 4, 5][..], 1), (&[1, 8, 4, 5], 3), (&[1, 8, 4, 5], 2), (&[1, 7], 1), (&[1, 4, 6, 6], -1), (&[2, 3, 4, 5, 6], 2)]
        {
            for opset in [11, 17] {
                one(&mut cases, &format!("{op} {dims:?} {axis} {opset}"), opset, |n| {
                    let x = n.input(dims);
                    n.node(op, &[&x], |n| n.int("axis", axis))
                });
            }
        }
    }
    for (dims, axis, scale) in [
        (&[1usize, 6, 8][..], -1, &[8usize][..]),
        (&[1, 4, 5, 8], -1, &[8]),
        (&[1, 4, 5, 8], 2, &[5, 8]),
        (&[1, 4, 5, 8], 1, &[4, 5, 8]),
        (&[1, 8], -1, &[8]),
    ] {
        for bias in [false, true] {
            one(&mut cases, &format!("LayerNormalization {dims:?} {axis} {bias}"), 17, |n| {
                let (x, s) = (n.input(dims), n.weight(scale));
                let b = if bias { n.weight(scale) } else { String::new() };
                n.node("LayerNormalization", &[&x, &s, &b], |n| n.int("axis", axis).float("epsilon", 1e-3))
            });
        }
    }
    for dims in [&[1usize, 6, 4, 5][..], &[1, 6, 9], &[1, 6, 2, 3, 4]] {
        one(&mut cases, &format!("InstanceNormalization {dims:?}"), 17, |n| {
            let (x, s, b) = (n.input(dims), n.weight(&[6]), n.weight(&[6]));
            n.node("InstanceNormalization", &[&x, &s, &b], |n| n)
        });
        one(&mut cases, &format!("GroupNormalization {dims:?}"), 21, |n| {
            let (x, s, b) = (n.input(dims), n.weight(&[6]), n.weight(&[6]));
            n.node("GroupNormalization", &[&x, &s, &b], |n| n.int("num_groups", 3))
        });
        one(&mut cases, &format!("BatchNormalization {dims:?}"), 17, |n| {
            let (x, s, b, m) = (n.input(dims), n.weight(&[6]), n.weight(&[6]), n.weight(&[6]));
            let v = n.floats(&[6], &[0.5, 1.0, 1.5, 0.7, 2.0, 0.9]);
            n.node("BatchNormalization", &[&x, &s, &b, &m, &v], |n| n)
        });
        one(&mut cases, &format!("BatchNormalization of rows {dims:?}"), 17, |n| {
            let (x, rows) = (n.input(dims), n.ints(&[-1, 6]));
            let x = n.node("Reshape", &[&x, &rows], |n| n);
            let (s, b, m, v) = (n.weight(&[6]), n.weight(&[6]), n.weight(&[6]), n.floats(&[6], &[0.5, 1.0, 1.5, 0.7, 2.0, 0.9]));
            n.node("BatchNormalization", &[&x, &s, &b, &m, &v], |n| n)
        });
        one(&mut cases, &format!("LpNormalization {dims:?}"), 17, |n| {
            let x = n.input(dims);
            n.node("LpNormalization", &[&x], |n| n.int("axis", 1))
        });
        one(&mut cases, &format!("CumSum {dims:?}"), 17, |n| {
            let (x, axis) = (n.input(dims), n.ints(&[2]));
            n.node("CumSum", &[&x, &axis], |n| n)
        });
    }
    one(&mut cases, "LRN", 17, |n| {
        let x = n.input(&[1, 8, 4, 5]);
        n.node("LRN", &[&x], |n| n.int("size", 5).float("alpha", 0.1).float("bias", 2.0))
    });
    cases.assert_errors(1e-3);
}

#[test]
fn matrices_are_multiplied() {
    let mut cases = Cases::new();
    for (a, b) in [
        (&[1usize, 6, 8][..], &[8usize, 5][..]),
        (&[1, 8], &[8, 5]),
        (&[1, 2, 6, 8], &[8, 5]),
        (&[1, 2, 6, 8], &[1, 2, 8, 5]),
        (&[1, 6, 8], &[1, 8, 5]),
        (&[6, 8], &[8, 5]),
        (&[4, 6, 8], &[4, 8, 5]),
        (&[1, 1, 6, 8], &[1, 3, 8, 5]),
        (&[1, 3, 6, 8], &[1, 1, 8, 5]),
        (&[2, 1, 6, 8], &[2, 3, 8, 5]),
        (&[2, 3, 6, 8], &[3, 8, 5]),
        (&[1, 6, 8], &[8]),
        (&[8], &[1, 8, 5]),
        (&[1, 2, 3, 4, 5], &[1, 2, 3, 5, 6]),
    ] {
        for stored in [false, true] {
            one(&mut cases, &format!("MatMul {a:?} {b:?} {stored}"), 17, |n| {
                let (x, y) = (n.input(a), if stored { n.weight(b) } else { n.input(b) });
                n.node("MatMul", &[&x, &y], |n| n)
            });
        }
    }
    for (turn_a, turn_b) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        for stored in [false, true] {
            for c in [&[][..], &[5usize][..], &[1, 5], &[6, 1], &[6, 5]] {
                one(&mut cases, &format!("Gemm {turn_a} {turn_b} {stored} {c:?}"), 17, |n| {
                    let a = if turn_a == 1 { [8, 6] } else { [6, 8] };
                    let b = if turn_b == 1 { [5, 8] } else { [8, 5] };
                    let (x, y, c) = (n.input(&a), if stored { n.weight(&b) } else { n.input(&b) }, n.weight(c));
                    n.node("Gemm", &[&x, &y, &c], |n| n.int("transA", turn_a).int("transB", turn_b).float("alpha", 0.5).float("beta", 2.0))
                });
            }
        }
    }
    cases.assert_errors(1e-3);
}

#[test]
fn images_are_resized() {
    /// Mode, coordinates, rounding, from, to.
    type Form<'a> = (&'a str, &'a str, &'a str, &'a [usize], &'a [i64]);
    let mut cases = Cases::new();
    let forms: &[Form<'_>] = &[
        ("nearest", "asymmetric", "floor", &[1, 3, 4, 5], &[1, 3, 8, 10]),
        ("nearest", "half_pixel", "round_prefer_floor", &[1, 8, 4, 5], &[1, 8, 8, 15]),
        ("nearest", "asymmetric", "floor", &[1, 8, 9, 6], &[1, 8, 3, 3]),
        ("nearest", "asymmetric", "floor", &[1, 8, 7], &[1, 8, 14]),
        ("linear", "half_pixel", "floor", &[1, 8, 4, 5], &[1, 8, 8, 10]),
        ("linear", "pytorch_half_pixel", "floor", &[1, 3, 4, 5], &[1, 3, 7, 11]),
        ("linear", "align_corners", "floor", &[1, 8, 4, 5], &[1, 8, 9, 13]),
        ("linear", "half_pixel", "floor", &[1, 8, 8, 10], &[1, 8, 5, 6]),
        ("linear", "half_pixel", "floor", &[1, 8, 7], &[1, 8, 11]),
        ("linear", "half_pixel", "floor", &[1, 8, 1, 1], &[1, 8, 5, 6]),
        ("cubic", "half_pixel", "floor", &[1, 8, 5, 6], &[1, 8, 9, 11]),
        ("cubic", "align_corners", "floor", &[1, 8, 5, 6], &[1, 8, 9, 11]),
    ];
    for &(mode, coordinates, rounding, from, to) in forms {
        one(&mut cases, &format!("Resize {mode} {coordinates} {from:?} {to:?}"), 17, |n| {
            let (x, sizes) = (n.input(from), n.ints(to));
            n.node("Resize", &[&x, "", "", &sizes], |n| {
                text(text(text(n, "mode", mode), "coordinate_transformation_mode", coordinates), "nearest_mode", rounding)
            })
        });
    }
    one(&mut cases, "Upsample", 9, |n| {
        let (x, scales) = (n.b.input("x", Fact::known(Element::F32, &[1, 8, 4, 5])), n.floats(&[4], &[1.0, 1.0, 2.0, 2.0]));
        n.node("Upsample", &[&x, &scales], |n| n)
    });
    for (mode, padding, align) in
        [("linear", "zeros", 0), ("linear", "border", 1), ("nearest", "zeros", 0), ("cubic", "border", 0), ("linear", "reflection", 0)]
    {
        one(&mut cases, &format!("GridSample {mode} {padding} {align}"), 20, |n| {
            let (x, grid) = (n.input(&[1, 3, 6, 5]), n.input(&[1, 4, 7, 2]));
            let half = n.floats(&[], &[0.55]);
            let grid = n.node("Mul", &[&grid, &half], |n| n);
            n.node("GridSample", &[&x, &grid], |n| text(text(n, "mode", mode), "padding_mode", padding).int("align_corners", align))
        });
    }
    cases.assert_errors(1e-3);
}
