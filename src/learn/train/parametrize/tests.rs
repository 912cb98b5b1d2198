//! Parametrizations alone, in training, over an interruption, and at the end.

use super::*;
use crate::data::Dataset;
use crate::train::test_support::{cancelled_at, sparse};
use crate::train::tests::{constants, quick, shapes, small};
use crate::train::{ParamSet, TaskLoss, Train, Trained, fit};
use candle_core::{DType, Device, Var};
use compresso_base::context::Context;
use compresso_base::operation::Call;
use compresso_exec::{self as exec, Run};
use compresso_model::ops::ParamKind;
use compresso_model::passes::pipelines;
use compresso_model::{Element, Fact, GraphBuilder, Model, Node, Payload};
use rand::{RngExt, SeedableRng};
use std::collections::HashMap;

fn tensor(values: &[f32], dims: &[usize]) -> Tensor {
    Tensor::from_slice(values, dims, &Device::Cpu).unwrap()
}

fn values(t: &Tensor) -> Vec<f32> {
    t.flatten_all().unwrap().to_vec1().unwrap()
}

fn close(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1e-5 * b.abs().max(1.0))
}

/// QuantizeLinear and DequantizeLinear of `w`, whose scales stand on axis 0.
fn pair(element: Element, zeros: &[u8], scales: usize) -> Graph {
    let mut b = GraphBuilder::new("pair", 17);
    let w = b.input("w", Fact::known(Element::F32, &[2, 6]));
    let dims = if scales == 1 { vec![] } else { vec![scales] };
    let scale = b.constant("scale", Constant::floats(&dims, &vec![1.0; scales]).unwrap());
    let zero = b.constant("zero", Constant::new(element, dims, Payload::Raw(zeros.to_vec().into())).unwrap());
    let q = b.node(Node::new("QuantizeLinear", "q", [w.as_str(), &scale, &zero], [""]).int("axis", 0));
    let y = b.node(Node::new("DequantizeLinear", "dq", [q.as_str(), &scale, &zero], ["y"]).int("axis", 0));
    b.output(&y);
    b.finish().unwrap()
}

/// What the graph makes of `w`, and the gradients of `Σ weights · y` with respect to `w` and the scale.
fn through_graph(g: &Graph, w: &Tensor, scale: &Tensor, weights: &Tensor) -> (Tensor, Tensor, Tensor) {
    let variable = |t: &Tensor| Var::from_tensor(t).unwrap().into_inner();
    let params = IndexMap::from([("w".to_string(), variable(w)), ("scale".to_string(), variable(scale))]);
    // The input is a parameter here, so that it has a gradient.
    let feeds = HashMap::new();
    let mut patch = Patch::new(g);
    patch.set_inputs(Vec::new());
    patch.set_constant("w", Constant::from_tensor(w).unwrap());
    let g = patch.apply().unwrap();
    let gradients = |g: &Graph| {
        let (outputs, tape) = exec::run_with_tape(g, &feeds, Run { params: Some(&params), ..Run::default() }).unwrap();
        let y = outputs["y"].tensor.clone();
        let mut store = (&y * weights).unwrap().sum_all().unwrap().backward().unwrap();
        let mut found = tape.backward(&mut store, None).unwrap();
        (y.detach(), found.remove("w").unwrap(), found.remove("scale").unwrap())
    };
    let (y, by_w, by_scale) = gradients(&g);
    // As one node, which training makes of the two.
    let joined = pipelines::TRAINING.run(&g).unwrap().graph;
    assert_eq!(joined.nodes().iter().map(|n| n.op.as_str()).collect::<Vec<_>>(), ["FakeQuantize"]);
    let one = gradients(&joined);
    assert_eq!(values(&one.0), values(&y));
    assert!(close(&values(&one.1), &values(&by_w)), "{} and {by_w}", one.1);
    let near = |(a, b): (f32, f32)| (a - b).abs() <= 1e-4 * b.abs().max(1.0);
    assert!(values(&one.2).into_iter().zip(values(&by_scale)).all(near), "{} and {by_scale}", one.2);
    (y, by_w, by_scale)
}

/// By hand, with a step of 0.5 and the zero point 2: -3 and 200 lie outside of 0 to 255.
#[test]
fn gradients_pass_inside_and_the_step_gets_that_of_lsq() {
    let x = [-3.0, -0.26, 0.1, 0.74, 1.4, 200.0];
    let w = tensor(&[x, x].concat(), &[2, 6]);
    let weights = tensor(&[[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [0.0; 6]].concat(), &[2, 6]);
    let (y, by_w, by_scale) = through_graph(&pair(Element::U8, &[2], 1), &w, &tensor(&[0.5], &[]), &weights);
    assert_eq!(values(&y)[..6], [-1.0, -0.5, 0.0, 0.5, 1.5, 126.5]);
    assert!(close(&values(&by_w)[..6], &[0.0, 2.0, 3.0, 4.0, 5.0, 0.0]), "{by_w}");
    // -2·1 - 0.48·2 - 0.2·3 - 0.48·4 + 0.2·5 + 253·6
    assert!(close(&values(&by_scale), &[1513.52]), "{by_scale}");
}

#[test]
fn fake_quantization_is_that_of_the_graph() {
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
    for (element, zeros, limits) in
        [(Element::I8, vec![0u8], (-128.0, 127.0)), (Element::U8, vec![3, 250], (0.0, 255.0)), (Element::I8, vec![0, 0], (-128.0, 127.0))]
    {
        for _ in 0..20 {
            let mut w: Vec<f32> = (0..12).map(|_| rng.random_range(-30.0..30.0)).collect();
            let scales: Vec<f32> = zeros.iter().map(|_| rng.random_range(0.05..0.3)).collect();
            // Halves go to even, also where the grid ends.
            (w[0], w[1], w[6], w[7]) = (scales[0] * 2.5, scales[0] * -127.5, 1e30, -1e30);
            let weights: Vec<f32> = (0..12).map(|_| rng.random_range(-1.0..1.0)).collect();
            let (w, weights) = (tensor(&w, &[2, 6]), tensor(&weights, &[2, 6]));
            let dims = if scales.len() == 1 { vec![] } else { vec![2] };
            let (y, by_w, by_scale) = through_graph(&pair(element, &zeros, scales.len()), &w, &tensor(&scales, &dims), &weights);
            let (x, step) = (Var::from_tensor(&w).unwrap(), Var::from_tensor(&tensor(&scales, &[scales.len(), 1])).unwrap());
            let zero: Vec<f32> =
                zeros.iter().map(|&z| if element == Element::I8 { f32::from(z.cast_signed()) } else { f32::from(z) }).collect();
            let own = fake_quantize(&x, &step, Some(&tensor(&zero, &[zero.len(), 1])), limits).unwrap();
            assert_eq!(values(&own), values(&y));
            let store = (&own * &weights).unwrap().sum_all().unwrap().backward().unwrap();
            assert!(close(&values(store.get(&x).unwrap()), &values(&by_w)));
            // Terms of up to 255 cancel in the sum.
            let apart = values(store.get(&step).unwrap()).iter().zip(values(&by_scale)).fold(0f32, |m, (a, b)| m.max((a - b).abs()));
            assert!(apart <= 255.0 * 1e-5, "{apart}");
            // Without a zero point and with a step that is not trained.
            if zeros == [0] {
                let plain = fake_quantize(&x, &step.as_tensor().detach(), None, limits).unwrap();
                assert_eq!(values(&plain), values(&y));
            }
        }
    }
}

/// The gradient of a step is that of `x + scale · c`, where c is what rounding adds: checked by differences.
#[test]
fn the_steps_gradient_is_that_of_the_surrogate() {
    let (x, scale) = ([-0.7f64, 0.33, 0.9, 5.0], 0.13f64);
    let surrogate = |s: f64| -> f64 {
        x.iter().map(|x| if (x / scale).round() > 20.0 { s * 20.0 } else { x + s * ((x / scale).round() - x / scale) }).sum()
    };
    let difference = (surrogate(scale + 1e-4) - surrogate(scale - 1e-4)) / 2e-4;
    let step = Var::from_tensor(&tensor(&[scale as f32], &[1])).unwrap();
    let y = fake_quantize(&tensor(&x.map(|v| v as f32), &[4]), &step, None, (-20.0, 20.0)).unwrap();
    let store = y.sum_all().unwrap().backward().unwrap();
    assert!(close(&values(store.get(&step).unwrap()), &[difference as f32]));
}

fn weights_of(model: &Model) -> Vec<(String, usize)> {
    let g = model.graph();
    let convs = g.nodes().iter().filter(|n| n.is("Conv")).map(|n| n.inputs[1].clone());
    convs.filter(|n| g.constant(n).is_some() && !n.contains("dfl")).map(|n| (n, 0)).collect()
}

fn fitted(
    model: &Model,
    data: &Dataset,
    list: Vec<Box<dyn Parametrization>>,
    options: &Train,
    ctx: &Context,
) -> compresso_base::error::Result<Trained> {
    let mut objective = TaskLoss::of(model.task(), 0.0)?;
    fit(model, data, None, options, &mut objective, list, Call::new("train", [model.into()], serde_json::Map::new()), ctx)
}

/// The number of steps from zero that the largest magnitude has, if all elements of each output channel lie on such a grid.
fn levels(model: &Model, name: &str) -> f32 {
    let c = model.graph().constant(name).unwrap();
    let v = c.to_f32s().unwrap();
    let per = v.len() / c.dims()[0];
    let level = |channel: &[f32]| {
        let top = channel.iter().fold(0f32, |m, v| m.max(v.abs()));
        (1u8..=127)
            .map(f32::from)
            .find(|n| channel.iter().all(|v| (v / (top / n) - (v / (top / n)).round()).abs() < 1e-2))
            .unwrap_or_else(|| panic!("'{name}' lies on no grid"))
    };
    v.chunks(per).map(level).fold(0.0, f32::max)
}

#[test]
fn weights_under_fake_quantization_learn_and_end_on_their_grid() {
    let data = shapes(8);
    let model = small(&data);
    for learned in [false, true] {
        let fake = FakeQuantWeights::new(weights_of(&model)).up_to(7);
        let fake: Box<dyn Parametrization> = Box::new(if learned { fake.learned() } else { fake });
        let options = Train { learning_rate: Some(0.005), ema: false, ..quick(20) };
        let trained = fitted(&model, &data, vec![fake], &options, &Context::new()).unwrap();
        let epochs = &trained.history.epochs;
        assert!(epochs[19].loss < 0.8 * epochs[0].loss, "{} {}", epochs[0].loss, epochs[19].loss);
        let name = "model.2.cv1.conv.weight";
        assert!(levels(&trained.model, name) <= 7.0);
        // Fixed steps are those of the start; learned ones have moved.
        let step = |m: &Model| {
            m.graph()
                .constant(name)
                .unwrap()
                .to_f32s()
                .unwrap()
                .into_iter()
                .filter(|v| *v != 0.0)
                .map(f32::abs)
                .fold(f32::INFINITY, f32::min)
        };
        let first = model.graph().constant(name).unwrap().tensor(&Device::Cpu).unwrap();
        let fitted_step = FakeQuantWeights::new([]).up_to(7).fit(&first, 0).unwrap();
        let own: Vec<f32> = values(&fitted_step);
        let near = own.iter().any(|s| (step(&trained.model) / s - (step(&trained.model) / s).round()).abs() < 1e-4);
        assert_eq!(near, !learned);
        assert!(trained.model.graph().constants().keys().eq(model.graph().constants().keys()), "no constant comes or goes");
    }
}

#[test]
fn every_zero_stays_when_asked() {
    let data = shapes(8);
    let model = small(&data);
    let name = "model.2.cv1.conv.weight";
    let (sparse, pruned) = sparse(&model, name, false);
    for (keep_zeros, fake) in [(true, false), (true, true), (false, false)] {
        let list: Vec<Box<dyn Parametrization>> = if fake { vec![Box::new(FakeQuantWeights::new(weights_of(&model)))] } else { Vec::new() };
        let trained = fitted(&sparse, &data, list, &Train { keep_zeros, ..quick(2) }, &Context::new()).unwrap().model;
        let after = trained.graph().constant(name).unwrap().to_f32s().unwrap();
        assert_eq!(after.iter().step_by(3).all(|&v| v == 0.0), keep_zeros, "{fake}");
        assert!(after.iter().zip(&pruned).any(|(a, b)| a != b));
        // Biases that begin at zero are no weights.
        let bias = "model.2.cv1.bn.bias";
        assert!(sparse.graph().constant(bias).unwrap().to_f32s().unwrap().iter().all(|v| *v == 0.0));
        assert!(trained.graph().constant(bias).unwrap().to_f32s().unwrap().iter().any(|v| *v != 0.0));
    }
}

/// Adaptive rounding (Nagel et al. 2020, "Up or Down?"): weights stay, and whether each is rounded up or down is learned.
#[derive(Default)]
struct AdaptiveRounding {
    weights: Vec<String>,
    steps: Tensors,
    /// Sharpness of the penalty; falls from step to step.
    sharpness: Option<Tensor>,
}

impl AdaptiveRounding {
    fn share(v: &Tensor) -> Result<Tensor> {
        let sigmoid = (v.neg()?.exp()? + 1.0)?.recip()?;
        Ok(sigmoid.affine(1.2, -0.1)?.clamp(0f32, 1f32)?)
    }
    fn rounded(&self, tensors: &mut Tensors, share: impl Fn(&Tensor) -> Result<Tensor>) -> Result<()> {
        for (name, step) in &self.steps {
            let share = share(&tensors[&format!("adaptive.{name}")])?;
            let w = tensors.get_mut(name).unwrap();
            *w = (w.detach().broadcast_div(step)?.floor()? + share)?.clamp(-7f32, 7f32)?.broadcast_mul(step)?;
        }
        Ok(())
    }
}

impl Parametrization for AdaptiveRounding {
    fn name(&self) -> &'static str {
        "adaptive"
    }
    fn start(&mut self, params: &[Param]) -> Result<Vec<Param>> {
        let mut own = Vec::new();
        for p in params.iter().filter(|p| self.weights.contains(&p.name)) {
            let w = p.var.as_tensor().detach();
            let step = FakeQuantWeights::new([]).up_to(7).fit(&w, 0)?;
            let ratio = w.broadcast_div(&step)?;
            // Where the share is what rounding down leaves, nothing is rounded at first.
            let rest = (&ratio - ratio.floor()?)?.affine(1.0 / 1.2, 0.1 / 1.2)?;
            let v = (&rest / rest.affine(-1.0, 1.0)?)?.log()?;
            self.steps.insert(p.name.clone(), step);
            own.push(Param::new(format!("adaptive.{}", p.name), &v, ParamKind::Scale)?);
        }
        self.sharpness = Some(Tensor::new(20f32, &Device::Cpu)?);
        Ok(own)
    }
    fn forward(&self, tensors: &mut Tensors) -> Result<()> {
        self.rounded(tensors, Self::share)
    }
    fn penalty(&self, tensors: &Tensors) -> Result<Option<Tensor>> {
        let sharpness = f64::from(self.sharpness.as_ref().unwrap().to_scalar::<f32>()?);
        let mut sum = Tensor::new(0f32, &Device::Cpu)?;
        for name in self.steps.keys() {
            let h = Self::share(&tensors[&format!("adaptive.{name}")])?;
            sum = (sum + h.affine(2.0, -1.0)?.abs()?.powf(sharpness)?.affine(-1.0, 1.0)?.mean_all()?)?;
        }
        Ok(Some((sum * 0.5)?))
    }
    fn stepped(&mut self, at: StepCount, stored: &Tensors) -> Result<()> {
        assert!(at.done <= at.total && stored.contains_key(&format!("adaptive.{}", self.weights[0])));
        self.sharpness = Some((self.sharpness.take().unwrap() * 0.9)?);
        Ok(())
    }
    fn state(&self) -> Tensors {
        self.sharpness.iter().map(|t| ("sharpness".to_string(), t.clone())).collect()
    }
    fn restore(&mut self, mut state: Tensors) -> Result<()> {
        self.sharpness = state.swap_remove("sharpness");
        Ok(())
    }
    fn finish(&self, tensors: &mut Tensors, _: &mut IndexMap<String, Constant>) -> Result<()> {
        self.rounded(tensors, |v| Ok(Self::share(v)?.ge(0.5f32)?.to_dtype(DType::F32)?))
    }
}

fn adaptive() -> Box<dyn Parametrization> {
    Box::new(AdaptiveRounding { weights: vec!["model.2.cv1.conv.weight".into()], ..AdaptiveRounding::default() })
}

#[test]
fn a_parametrization_can_learn_how_to_round() {
    let data = shapes(8);
    let model = small(&data);
    let name = "model.2.cv1.conv.weight";
    let trained =
        fitted(&model, &data, vec![adaptive()], &Train { ema: false, learning_rate: Some(0.05), ..quick(10) }, &Context::new()).unwrap();
    let epochs = &trained.history.epochs;
    assert!(epochs[0].parts["adaptive"] > 0.0 && epochs[9].parts["adaptive"] != epochs[0].parts["adaptive"]);
    assert!(epochs.iter().all(|e| (e.loss - e.parts.values().sum::<f64>()).abs() < 1e-6));
    let before = model.graph().constant(name).unwrap();
    let step = values(&FakeQuantWeights::new([]).up_to(7).fit(&before.tensor(&Device::Cpu).unwrap(), 0).unwrap());
    let per = before.count() / step.len();
    let (before, after) = (before.to_f32s().unwrap(), trained.model.graph().constant(name).unwrap().to_f32s().unwrap());
    let ratio = |v: f32, i: usize| v / step[i / per];
    assert!((0..before.len()).all(|i| (ratio(after[i], i) - ratio(after[i], i).round()).abs() < 1e-4));
    assert!((0..before.len()).all(|i| (ratio(after[i], i) - ratio(before[i], i)).abs() < 1.001));
    let farther = (0..before.len()).filter(|&i| (ratio(after[i], i) - ratio(before[i], i)).abs() > 0.51).count();
    assert!(farther > 0, "some weight is not rounded to the nearest");
}

#[test]
fn what_parametrizations_train_and_remember_goes_on_to_the_same_bits() {
    let data = shapes(8);
    let model = small(&data);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.safetensors");
    let list = || -> Vec<Box<dyn Parametrization>> {
        let others = weights_of(&model).into_iter().filter(|(n, _)| n != "model.2.cv1.conv.weight");
        vec![adaptive(), Box::new(FakeQuantWeights::new(others).learned())]
    };
    for ema in [true, false] {
        let options = Train { ema, batch: 4, ..quick(4) };
        let whole = fitted(&model, &data, list(), &options, &Context::new()).unwrap();
        let options = Train { checkpoint: Some(path.clone()), resume: true, ..options };
        let first = fitted(&model, &data, list(), &options, &cancelled_at("epoch 3/4", 0)).unwrap();
        assert!(first.history.cancelled && first.history.epochs.len() == 2);
        let rest = fitted(&model, &data, list(), &options, &Context::new()).unwrap();
        assert!(constants(&whole.model) == constants(&rest.model), "the weights differ");
        assert!(constants(&first.model) != constants(&rest.model));
        let e = fitted(&model, &data, vec![adaptive()], &options, &Context::new()).unwrap_err().to_string();
        assert!(e.contains("its parametrizations were adaptive, fake_quant, not adaptive"), "{e}");
        std::fs::remove_file(&path).unwrap();
    }
}

/// A convolution with weights as integers behind DequantizeLinear, and an int32 bias.
fn stored_as_integers(weights: &[i8], block: bool) -> Graph {
    let mut b = GraphBuilder::new("stored", 21);
    let x = b.input("x", Fact::known(Element::F32, &[1, 2, 4, 4]));
    let raw = |v: &[i8]| Payload::Raw(v.iter().map(|v| v.cast_unsigned()).collect::<Vec<u8>>().into());
    let q = b.constant("c.weight_quantized", Constant::new(Element::I8, vec![2, 2, 1, 1], raw(weights)).unwrap());
    let scale = b.constant(
        "s",
        if block { Constant::floats(&[2, 1, 1, 1], &[0.5, 0.25]).unwrap() } else { Constant::floats(&[2], &[0.5, 0.25]).unwrap() },
    );
    let node = Node::new("DequantizeLinear", "d", [q.as_str(), &scale], [""]);
    let w = b.node(if block { node.int("axis", 1).int("block_size", 2) } else { node.int("axis", 0) });
    let bias: Vec<u8> = [1_000_001i32, -5].iter().flat_map(|v| v.to_le_bytes()).collect();
    let bq = b.constant("bias8", Constant::new(Element::I32, vec![2], Payload::Raw(bias.into())).unwrap());
    let bs = b.constant("bs", Constant::floats(&[2], &[1e-6, 1e-6]).unwrap());
    let bias = b.node(Node::new("DequantizeLinear", "db", [bq.as_str(), &bs], ["bias"]).int("axis", 0));
    let y = b.node(Node::new("Conv", "c", [x.as_str(), &w, &bias], ["y"]));
    b.output(&y);
    b.finish().unwrap()
}

#[test]
fn integers_become_parameters_and_integers_again() {
    let graph = stored_as_integers(&[64, -3, 0, 7], false);
    let mut q = QuantizedWeights::default();
    let floats = q.rewrite(&graph).unwrap().unwrap();
    assert_eq!(floats.nodes().len(), 1);
    assert_eq!(floats.nodes()[0].inputs, ["x", "c.weight", "bias"]);
    assert_eq!(floats.constant("c.weight").unwrap().to_f32s().unwrap(), [32.0, -1.5, 0.0, 1.75]);
    let params = ParamSet::of(&floats, &["y".to_string()], &Device::Cpu).unwrap();
    assert_eq!(
        params.params.iter().map(|p| (p.name.as_str(), p.kind)).collect::<Vec<_>>(),
        [("c.weight", ParamKind::Weight), ("bias", ParamKind::Bias)]
    );
    q.start(&params.params).unwrap();
    // Untouched, they come back as they were.
    let chain = |q: QuantizedWeights| Chain::new(vec![Box::new(q)]);
    let chain = chain(q);
    let same = chain.finish(&graph, params.tensors()).unwrap();
    for (name, c) in graph.constants() {
        assert_eq!(same.constant(name).unwrap(), c, "{name}");
    }
    // Moved, they are clipped to seven bits, as none of them had eight, and rounded; the graph sees what will be stored.
    params.params[0].var.set(&tensor(&[40.0, -1.3, 0.2, -17.0], &[2, 2, 1, 1])).unwrap();
    params.params[1].var.set(&tensor(&[0.5, 3e-6], &[2])).unwrap();
    let (seen, _) = chain.forward(params.bind()).unwrap();
    assert_eq!(values(&seen["c.weight"]), [32.0, -1.5, 0.25, -16.0]);
    assert_eq!(values(&seen["bias"]), [0.5, 3e-6]);
    let moved = chain.finish(&graph, params.tensors()).unwrap();
    assert_eq!(moved.constant("c.weight_quantized").unwrap().to_i64s().unwrap(), [64, -3, 1, -64]);
    assert_eq!(moved.constant("bias8").unwrap().to_i64s().unwrap(), [500_000, 3]);
    assert_eq!(moved.nodes(), graph.nodes());
    let eight = stored_as_integers(&[65, 0, 0, 0], false);
    let mut q = QuantizedWeights::default();
    q.rewrite(&eight).unwrap().unwrap();
    assert_eq!(q.stored["c.weight"].limits, (-127.0, 127.0));
}

/// A convolution that reads rounded values and gives rounded values, on one scale both, with a weight of 4 bits and a bias.
fn rounded_layer() -> Graph {
    let mut b = GraphBuilder::new("layer", 17);
    let x = b.input("x", Fact::known(Element::F32, &[1, 2, 4, 4]));
    let raw = |v: &[i8]| Payload::Raw(v.iter().map(|v| v.cast_unsigned()).collect::<Vec<u8>>().into());
    let pair = |b: &mut GraphBuilder, x: &str, name: &str| {
        let scale = b.constant(&format!("{name}_scale"), Constant::scalar(0.05));
        let zero = b.constant(&format!("{name}_zero"), Constant::new(Element::U8, vec![], Payload::Raw(vec![120].into())).unwrap());
        let q = b.node(Node::new("QuantizeLinear", format!("{name}_q"), [x, &scale, &zero], [""]));
        b.node(Node::new("DequantizeLinear", format!("{name}_dq"), [q.as_str(), &scale, &zero], [""]))
    };
    let read = pair(&mut b, &x, "x");
    let q = b.constant("w_quantized", Constant::new(Element::I8, vec![2, 2, 1, 1], raw(&[7, -3, 2, -5])).unwrap());
    let scale = b.constant("w_scale", Constant::floats(&[2], &[0.25, 0.125]).unwrap());
    let w = b.node(Node::new("DequantizeLinear", "w_dq", [q.as_str(), &scale], [""]).int("axis", 0));
    let bias: Vec<u8> = [80i32, -40].iter().flat_map(|v| v.to_le_bytes()).collect();
    let q = b.constant("b_quantized", Constant::new(Element::I32, vec![2], Payload::Raw(bias.into())).unwrap());
    let scale = b.constant("b_scale", Constant::floats(&[2], &[0.05 * 0.25, 0.05 * 0.125]).unwrap());
    let bias = b.node(Node::new("DequantizeLinear", "b_dq", [q.as_str(), &scale], [""]).int("axis", 0));
    let conv = b.node(Node::new("Conv", "conv", [read.as_str(), &w, &bias], [""]));
    let y = pair(&mut b, &conv, "y");
    b.output(&y);
    b.finish().unwrap()
}

#[test]
fn scales_are_learned_and_stored() {
    let graph = rounded_layer();
    let mut q = QuantizedWeights::default().learned();
    let floats = q.rewrite(&graph).unwrap().unwrap();
    let wanted = [graph.outputs()[0].name.clone()];
    let mut params = ParamSet::of(&floats, &wanted, &Device::Cpu).unwrap();
    assert_eq!(q.stored["w"].limits, (-7.0, 7.0));
    params.variables = q.start(&params.params).unwrap();
    // One number moves both scales of activations, as they are the same; one moves each scale of the weight.
    assert_eq!(
        params.variables.iter().map(|p| (p.name.as_str(), p.var.dims())).collect::<Vec<_>>(),
        [("log2_scale.x_scale", &[][..]), ("log2_scale.w", &[2, 1, 1, 1])]
    );
    let chain = Chain { variables: params.variables.iter().map(|p| p.name.clone()).collect(), list: vec![Box::new(q)] };
    let same = chain.finish(&graph, params.tensors()).unwrap();
    for (name, c) in graph.constants() {
        assert_eq!(same.constant(name).unwrap(), c, "{name}");
    }
    // Each receives a gradient, once weights lie between the steps; 1 more doubles a scale, and the bias keeps its value under that of both.
    let w = params.params.iter().find(|p| p.name == "w").unwrap();
    w.var.set(&tensor(&[1.72, -0.76, 0.24, -0.64], &[2, 2, 1, 1])).unwrap();
    let x = tensor(&(0..32).map(|i| (i as f32 - 16.0) * 0.41).collect::<Vec<_>>(), &[1, 2, 4, 4]);
    let feeds = HashMap::from([("x".to_string(), compresso_model::Value::plain(x).unwrap())]);
    let (bound, _) = chain.forward(params.bind()).unwrap();
    let (outputs, tape) = exec::run_with_tape(&floats, &feeds, Run { params: Some(&bound), ..Run::default() }).unwrap();
    let mut store = outputs[0].tensor.sqr().unwrap().sum_all().unwrap().backward().unwrap();
    let mut found = tape.backward(&mut store, None).unwrap();
    let made = bound.iter().filter(|(_, t)| t.track_op() && !t.is_variable());
    let made: Vec<_> = made.filter_map(|(n, t)| Some((t.clone(), found.remove(n)?))).collect();
    let behind = exec::through_candle(made).unwrap().unwrap();
    for p in &params.variables {
        assert!(behind.get(p.var.as_tensor()).unwrap().abs().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap() > 0.0, "{}", p.name);
    }
    params.variables[0].var.set(&tensor(&[1.0], &[])).unwrap();
    params.variables[1].var.set(&tensor(&[-1.0, 2.0], &[2, 1, 1, 1])).unwrap();
    let (seen, _) = chain.forward(params.bind()).unwrap();
    let of = |g: &Graph, name: &str| g.constant(name).unwrap().to_f32s().unwrap();
    let moved = chain.finish(&graph, params.tensors()).unwrap();
    assert_eq!((of(&moved, "x_scale"), of(&moved, "y_scale")), (vec![0.1], vec![0.1]));
    assert_eq!(of(&moved, "w_scale"), [0.125, 0.5]);
    assert!(close(&of(&moved, "b_scale"), &[0.1 * 0.125, 0.1 * 0.5]));
    assert_eq!(moved.constant("w_quantized").unwrap().to_i64s().unwrap(), [7, -6, 0, -1]);
    assert_eq!(moved.constant("b_quantized").unwrap().to_i64s().unwrap(), [80, -5]);
    // What is stored computes what training saw.
    let trained = exec::run(&floats, &feeds, Run { params: Some(&seen), ..Run::default() }).unwrap();
    let stored = exec::run(&moved, &feeds, Run::default()).unwrap();
    assert_eq!(values(&trained[0].tensor), values(&stored[0].tensor));
}

#[test]
fn scales_that_a_frozen_bias_follows_stay() {
    let mut q = QuantizedWeights::default().learned();
    let floats = q.rewrite(&rounded_layer()).unwrap().unwrap();
    let params = ParamSet::of(&floats, &[floats.outputs()[0].name.clone()], &Device::Cpu).unwrap();
    let but = |name: &str| params.params.iter().filter(|p| p.name != name).cloned().collect::<Vec<_>>();
    assert!(q.start(&but("b")).unwrap().is_empty());
    let mut q = QuantizedWeights::default().learned();
    q.rewrite(&rounded_layer()).unwrap().unwrap();
    assert_eq!(q.start(&but("w")).unwrap().len(), 1);
}

#[test]
fn integers_that_training_does_not_reach_are_an_error() {
    let e = ParamSet::of(&stored_as_integers(&[1, 2, 3, 4], true), &["y".to_string()], &Device::Cpu).unwrap_err();
    assert_eq!(e.kind(), compresso_base::error::ErrorKind::Unsupported);
    assert!(e.to_string().contains("its weights 'c.weight_quantized' are stored as int8"), "{e}");
}
