//! What the modules of a checkpoint say of themselves, beyond the architecture: a built model must agree, or is adjusted.

use super::archive::Checkpoint;
use super::object::{Id, Object};
use super::state::Module;
use crate::ops;
use crate::ops::activation::SIGMOID;
use crate::ops::arithmetic::MUL;
use crate::ops::conv::CONV;
use crate::ops::norm::BATCH_NORMALIZATION;
use crate::{Attr, Graph, Model, Node, Patch};
use compresso_base::error::{Error, Result};
use compresso_kernels::activation::Activation;
use std::collections::HashMap;

/// What batch norms add to the variance that stand in for folded ones.
pub const FOLDED_EPSILON: f32 = 1e-3;

/// PyTorch's class for no activation.
const NO_ACTIVATION: &str = "Identity";

/// Checks the convolutions and activations of a built model against the checkpoint's modules, and gives its batch norms
/// their epsilon and momentum.
///
/// # Errors
/// `Unsupported`, naming the module, for one that does something else than the model.
pub fn apply(checkpoint: &Checkpoint, network: Id, model: Model) -> Result<Model> {
    let modules = checkpoint.modules(network)?;
    let graph = model.graph();
    let view = View::of(graph);
    let mut patch = Patch::new(graph);
    for module in &modules {
        let Some(class) = checkpoint.heap.class(module.id) else { continue };
        let place = |e: Error| e.at(format!("module '{}' ({})", module.path, class));
        match &*class.name {
            "Conv2d" => convolution(checkpoint, module, &view).map_err(place)?,
            "BatchNorm2d" => batch_norm(checkpoint, module, &view, &mut patch),
            "ConvTranspose2d" => doubling(checkpoint, module).map_err(place)?,
            "SPPF" => pooling(checkpoint, module, &view).map_err(place)?,
            "Attention" | "AAttn" => heads(checkpoint, module, &view).map_err(place)?,
            // Convolution, batch norm and activation.
            _ => activation(checkpoint, module, &view, &mut patch).map_err(place)?,
        }
    }
    if patch.is_empty() {
        return Ok(model);
    }
    Ok(Model::new(patch.apply()?, model.task().clone()))
}

/// Nodes by the constants and values that they read.
struct View<'g> {
    graph: &'g Graph,
    by_constant: HashMap<&'g str, usize>,
    readers: HashMap<&'g str, Vec<usize>>,
}

impl<'g> View<'g> {
    fn of(graph: &'g Graph) -> Self {
        let (mut by_constant, mut readers) = (HashMap::new(), HashMap::<&str, Vec<usize>>::new());
        for (i, node) in graph.nodes().iter().enumerate() {
            if let Some(weight) = node.input(1).filter(|w| graph.constant(w).is_some()) {
                by_constant.insert(weight, i);
            }
            for input in &node.inputs {
                readers.entry(input).or_default().push(i);
            }
        }
        Self { graph, by_constant, readers }
    }
    /// The node whose weight has this name, with its number.
    fn of_weight(&self, name: &str, op: &str) -> Option<(usize, &'g Node)> {
        let i = *self.by_constant.get(name)?;
        Some((i, &self.graph.nodes()[i])).filter(|(_, n)| n.is(op))
    }
    fn readers(&self, value: &str) -> impl Iterator<Item = &'g Node> {
        self.readers.get(value).into_iter().flatten().map(|&i| &self.graph.nodes()[i])
    }
}

/// Strides, padding, dilation and groups of a convolution.
fn convolution(checkpoint: &Checkpoint, module: &Module, view: &View<'_>) -> Result<()> {
    let Some((_, node)) = view.of_weight(&format!("{}.weight", module.path), CONV) else { return Ok(()) };
    let pair = |sizes: Vec<i64>| if let &[n] = sizes.as_slice() { vec![n, n] } else { sizes };
    let stated = |name: &str| {
        let sizes = checkpoint.heap.attribute(module.id, name).and_then(|v| checkpoint.heap.sizes(v))?;
        sizes.into_iter().map(|n| i64::try_from(n).ok()).collect::<Option<Vec<_>>>().map(pair)
    };
    let built = |name: &str, default: &[i64]| node.find_ints(name).map(|v| v.unwrap_or(default).to_vec());
    let padding = stated("padding").map(|p| [p.clone(), p].concat());
    for (what, wants, has) in [
        ("stride", stated("stride"), built("strides", &[1, 1])?),
        ("padding", padding, built("pads", &[0; 4])?),
        ("dilation", stated("dilation"), built("dilations", &[1, 1])?),
        ("groups", stated("groups").map(|g| g[..1].to_vec()), vec![node.get_int("group", 1)?]),
    ] {
        if wants.as_ref() != Some(&has) {
            let wants = wants.map_or_else(|| "unknown".to_string(), |w| format!("{w:?}"));
            return Err(Error::unsupported(format!("its {what} is {wants}, that of the architecture's layer is {has:?}")));
        }
    }
    match checkpoint.heap.attribute(module.id, "padding_mode").and_then(|m| checkpoint.heap.text(m)) {
        None | Some("zeros") => Ok(()),
        Some(other) => Err(Error::unsupported(format!("padding by '{}' is not supported", other.escape_debug()))),
    }
}

fn batch_norm(checkpoint: &Checkpoint, module: &Module, view: &View<'_>, patch: &mut Patch<'_>) {
    let Some((i, node)) = view.of_weight(&format!("{}.weight", module.path), BATCH_NORMALIZATION) else { return };
    let number = |name: &str| checkpoint.heap.attribute(module.id, name).and_then(|v| checkpoint.heap.number(v)).map(|v| v as f32);
    // ONNX momentum weighs the old value.
    for (name, value) in [("epsilon", number("eps")), ("momentum", number("momentum").map(|m| 1.0 - m))] {
        let usable = value.filter(|v| v.is_finite() && *v > 0.0 && *v <= 1.0);
        if let Some(v) = usable.filter(|v| node.get_float(name, 0.0).ok() != Some(*v)) {
            patch.edit(i).attrs.insert(name.into(), Attr::Float(v));
        }
    }
}

/// Newer versions pool any number of times, and may add the input.
fn pooling(checkpoint: &Checkpoint, module: &Module, view: &View<'_>) -> Result<()> {
    let stated = |name: &str| checkpoint.heap.attribute(module.id, name).and_then(|v| checkpoint.heap.int(v));
    let Some((_, last)) = view.of_weight(&format!("{}.cv2.conv.weight", module.path), CONV) else { return Ok(()) };
    let joined = view.graph.nodes().iter().find(|n| n.outputs.first().is_some_and(|o| last.input(0) == Some(o)));
    let pools = joined.map_or(0, |n| n.inputs.len() as i64 - 1);
    if stated("n").unwrap_or(3) != pools {
        return Err(Error::unsupported(format!("it pools {} times, the architecture's layer {pools} times", stated("n").unwrap_or(3))));
    }
    let adds = view.graph.nodes().iter().any(|n| n.name == format!("{}.Add", module.path));
    if (stated("add").unwrap_or(0) != 0) != adds {
        return Err(Error::unsupported("it and the architecture's layer differ in whether the input is added"));
    }
    Ok(())
}

/// Zoo models have transposed convolutions that double height and width.
fn doubling(checkpoint: &Checkpoint, module: &Module) -> Result<()> {
    let all = |name: &str, value: usize| {
        let sizes = checkpoint.heap.attribute(module.id, name).and_then(|v| checkpoint.heap.sizes(v));
        sizes.is_some_and(|s| s.iter().all(|&n| n == value))
    };
    let fits = all("stride", 2) && all("padding", 0) && all("output_padding", 0) && all("dilation", 1) && all("groups", 1);
    if fits { Ok(()) } else { Err(Error::unsupported("only transposed convolutions of 2 x 2 at a stride of 2 are supported")) }
}

/// The heads of an attention follow from its width in zoo models: those of 64 channels, in area attention of 32.
fn heads(checkpoint: &Checkpoint, module: &Module, view: &View<'_>) -> Result<()> {
    let name = format!("{}.qkv.conv.weight", module.path);
    let Some((_, node)) = view.of_weight(&name, CONV) else { return Ok(()) };
    let width = node.input(1).and_then(|w| view.graph.constant(w)).and_then(|w| w.dims().get(1).copied()).unwrap_or(0);
    let stated = |name: &str| checkpoint.heap.attribute(module.id, name).and_then(|v| checkpoint.heap.size(v));
    let area = stated("area").is_some();
    let (count, key) = crate::zoo::attention_heads(width, area);
    let has = (stated("num_heads"), stated(if area { "head_dim" } else { "key_dim" }));
    if has.0.is_none_or(|n| n == count) && has.1.is_none_or(|k| k == key) {
        return Ok(());
    }
    let e = Error::unsupported(format!(
        "its {} heads have keys of {} channels, expected {count} of {key}",
        has.0.unwrap_or(0),
        has.1.unwrap_or(0)
    ));
    Err(e.hint("export the network where it runs, model.export(format=\"onnx\"), and open the .onnx"))
}

/// The activation `act` after a module's batch norm, and the epsilon of a batch norm that the checkpoint lacks because it
/// was folded.
fn activation(checkpoint: &Checkpoint, module: &Module, view: &View<'_>, patch: &mut Patch<'_>) -> Result<()> {
    let heap = &checkpoint.heap;
    let Some(parts) = heap.attribute(module.id, "_modules") else { return Ok(()) };
    let Some(act) = heap.entry(parts, "act") else { return Ok(()) };
    let class = match heap.class(act) {
        Some(c) => &*c.name,
        None if *heap.get(act) == Object::None => NO_ACTIVATION,
        None => "unknown",
    };
    let Some((i, bn)) = view.of_weight(&format!("{}.bn.weight", module.path), BATCH_NORMALIZATION) else { return Ok(()) };
    if heap.entry(parts, "bn").is_none() {
        patch.edit(i).attrs.insert("epsilon".into(), Attr::Float(FOLDED_EPSILON));
    }
    let Some(value) = bn.outputs.first() else { return Ok(()) };
    let graph = view.graph;
    let gated = view.readers(value).filter(|n| n.is(SIGMOID)).any(|s| {
        let gate = s.outputs.first().map_or("", String::as_str);
        view.readers(value).any(|n| n.is(MUL) && n.inputs.iter().any(|i| i == gate))
    });
    let mut built = gated.then_some("SiLU");
    for node in view.readers(value).filter(|_| !gated) {
        let function = ops::activation::of_node(node, graph.opset_of(node), &|n| graph.constant(n))?;
        built = built.or(function.and_then(class_of));
    }
    let built = built.unwrap_or(NO_ACTIVATION);
    if built == class { Ok(()) } else { Err(Error::unsupported(format!("its activation {} is not supported here", class.escape_debug()))) }
}

/// PyTorch's class of a function that zoo models are built with.
fn class_of(function: Activation) -> Option<&'static str> {
    Some(match function {
        Activation::Relu => "ReLU",
        Activation::LeakyRelu { .. } => "LeakyReLU",
        Activation::HardSwish => "Hardswish",
        Activation::Clip { .. } => "ReLU6",
        Activation::Elu { .. } => "ELU",
        Activation::Gelu | Activation::GeluTanh => "GELU",
        Activation::Mish => "Mish",
        _ => return None,
    })
}
