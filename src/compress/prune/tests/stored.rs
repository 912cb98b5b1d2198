//! Weights wherever they are stored: behind Transpose, Cast, Identity, in nodes of their own.

use super::*;
use compresso_model::Attr;

/// How a weight stands in the graph.
type Place = fn(&mut Net, Constant) -> String;

fn held(n: &mut Net, c: Constant) -> String {
    n.b.node(Node::new("Constant", "held", Vec::<String>::new(), [""]).attr("value", Attr::Tensor(c)))
}

fn cast(n: &mut Net, c: Constant) -> String {
    let half = c.tensor(&Device::Cpu).unwrap().to_dtype(candle_core::DType::F16).unwrap();
    let half = n.b.constant("half", Constant::from_storage(Element::F16, &half).unwrap());
    n.b.node(Node::new("Cast", "", [half.as_str()], [""]).int("to", 1))
}

fn identity(n: &mut Net, c: Constant) -> String {
    let w = n.b.constant("plain", c);
    n.op("Identity", &[&w])
}

const PLACES: [Place; 3] = [held, cast, identity];

/// Linear as PyTorch exports it without constant folding: the stored `[out, in]` behind a Transpose, the bias first in its Add.
fn linear(n: &mut Net, name: &str, x: &str, from: usize, to: usize, place: Place) -> String {
    let values: Vec<f32> = (0..to * from).map(|_| (n.random() * 2.0 - 1.0) / (from as f32).sqrt()).collect();
    let w = place(n, Constant::floats(&[to, from], &values).unwrap());
    let w = n.b.node(Node::new("Transpose", "", [w.as_str()], [""]).ints("perm", &[1, 0]));
    let y = n.b.node(Node::new("MatMul", name, [x, &w], [""]));
    let b = n.weight(&format!("{name}.bias"), &[to]);
    n.op("Add", &[&b, &y])
}

fn scalar(n: &mut Net, v: f32) -> String {
    n.b.constant("scalar", Constant::scalar(v))
}

/// A block of ConvNeXt on `c` channels, `4 c` hidden: depthwise convolution, norm over tokens, two linear layers with GELU by its error
/// function, layer scale behind a Reshape, residual addition.
fn block(n: &mut Net, x: &str, c: usize, place: Place) -> String {
    let y = n.conv("dw", x, c, c, 3, c);
    let y = n.b.node(Node::new("Transpose", "", [y.as_str()], [""]).ints("perm", &[0, 2, 3, 1]));
    let (s, b) = (n.positive("ln.weight", c), n.weight("ln.bias", &[c]));
    let y = n.b.node(Node::new("LayerNormalization", "ln", [y.as_str(), &s, &b], [""]));
    let y = linear(n, "fc1", &y, c, 4 * c, place);
    let (root, one, half) = (scalar(n, std::f32::consts::SQRT_2), scalar(n, 1.0), scalar(n, 0.5));
    let e = n.op("Div", &[&y, &root]);
    let e = n.op("Erf", &[&e]);
    let e = n.op("Add", &[&e, &one]);
    let y = n.op("Mul", &[&y, &e]);
    let y = n.op("Mul", &[&y, &half]);
    let y = linear(n, "fc2", &y, 4 * c, c, place);
    let y = n.b.node(Node::new("Transpose", "", [y.as_str()], [""]).ints("perm", &[0, 3, 1, 2]));
    let (gamma, to) = (n.positive("gamma", c), n.ints(&[1, -1, 1, 1]));
    let gamma = n.op("Reshape", &[&gamma, &to]);
    let y = n.op("Mul", &[&y, &gamma]);
    n.op("Add", &[&y, x])
}

/// As PyTorch counts: patches, depthwise, norm, two linear layers, layer scale, the last convolution.
fn count(c: usize, hidden: usize) -> u64 {
    let patches = c * 3 + c;
    (patches + c * 9 + c + 2 * c + 2 * c * hidden + hidden + c + c + 3 * c + 3) as u64
}

#[test]
fn hidden_widths_of_linear_layers_go_wherever_their_weights_are_stored() {
    for (i, place) in PLACES.into_iter().enumerate() {
        let mut n = Net::new(17);
        let x = n.image(3, 4);
        let y = n.conv("patches", &x, 3, 8, 1, 1);
        let y = block(&mut n, &y, 8, place);
        let m = n.end(&y, 8);
        assert_eq!(m.params().unwrap(), count(8, 32), "place {i}");
        assert_eq!(group_sizes(&m), [("fc1".into(), 32)], "place {i}");
        let p = prove(&m);
        assert_eq!(p.params().unwrap(), count(8, 16), "place {i}");
        let report = prune_report(&m, &p).unwrap();
        assert_eq!((report.params_before, report.params_after), (count(8, 32), count(8, 16)));
        let fc1 = report.layers.iter().find(|l| l.layer == "fc1").unwrap();
        assert_eq!((fc1.channels_before, fc1.channels_after, fc1.params_before, fc1.params_after), (32, 16, 256, 128));
        assert_eq!((fc1.macs_before, fc1.macs_after), (Some(16 * 256), Some(16 * 128)));
        // What `prune` says of its two graphs is what is found out of the two models anew.
        let made = half().run((&m, None), &Context::new()).unwrap();
        let layers = |report: &PruneReport| serde_json::to_value(&report.layers).unwrap();
        assert_eq!(layers(made.report.as_ref().unwrap()), layers(&prune_report(&m, &made.model).unwrap()), "place {i}");
        let said = report::widened(m.graph(), p.graph()).unwrap();
        assert_eq!(said.is_some(), i == 1, "{said:?}");
    }
}

/// Shape inference computes small tensors only; a weight of more elements is pruned as well.
#[test]
fn large_weights_behind_a_transpose_are_pruned() {
    let mut n = Net::new(17);
    let x = n.b.input("x", Fact::known(Element::F32, &[1, 130]));
    let y = linear(&mut n, "a", &x, 130, 520, identity);
    let y = n.op("Relu", &[&y]);
    let y = linear(&mut n, "b", &y, 520, 2, held);
    n.b.output(&y);
    let m = n.model();
    assert_eq!(m.params().unwrap(), 130 * 520 + 520 + 520 * 2 + 2);
    let p = prove(&m);
    assert_eq!(p.params().unwrap(), 130 * 260 + 260 + 260 * 2 + 2);
}

#[test]
fn single_weights_become_zero_where_they_are_stored() {
    for place in PLACES {
        let mut n = Net::new(17);
        let x = n.b.input("x", Fact::known(Element::F32, &[1, 6]));
        let y = linear(&mut n, "a", &x, 6, 10, place);
        n.b.output(&y);
        let m = n.model();
        let options = Prune { method: Granularity::Weights, ratio: 0.5, ..Prune::default() };
        let p = options.apply(&m, None, &Context::new()).unwrap();
        assert_eq!(p.graph().nodes().len(), m.graph().nodes().len(), "the weight stays where it was");
        assert_eq!(p.stats().unwrap().weight_bytes, m.stats().unwrap().weight_bytes);
        let report = prune_report(&m, &p).unwrap();
        assert_eq!((report.layers[0].sparsity_before, report.layers[0].sparsity_after), (0.0, 0.5));
        assert_ne!(outputs(m.graph(), 3), outputs(p.graph(), 3));
    }
}

#[test]
fn macs_of_open_sizes_are_unknown_in_the_report_and_known_at_a_stated_size() {
    let mut n = Net::new(17);
    let open = |s: &str| Dim::symbol(s);
    let x = n.b.input("x", Fact::new(Element::F32, vec![open("n"), Dim::Known(3), open("h"), open("w")]));
    let y = n.conv("a", &x, 3, 8, 1, 1);
    let y = n.op("Relu", &[&y]);
    let m = n.end(&y, 8);
    let p = half().apply(&m, None, &Context::new()).unwrap();
    let report = prune_report(&m, &p).unwrap();
    assert_eq!((report.macs_before, report.macs_after), (None, None));
    assert!(report.headline().contains("MACs unknown"), "{}", report.headline());
    let m = m.with_image_size([5, 2]);
    let p = half().apply(&m, None, &Context::new()).unwrap();
    let report = prune_report(&m, &p).unwrap();
    assert_eq!((report.macs_before, report.macs_after), (Some(10 * 48), Some(10 * 24)), "the pruned model is counted at the same size");
}
