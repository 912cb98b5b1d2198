//! Puts the layers of an architecture together.

use super::blocks::{BatchNorm, Blocks, Feature};
use super::plan::{Plan, is_detector};
use super::site::{Made, Site};
use super::yaml::{Architecture, ArchitectureLayer};
use super::{ZooOptions, modules};
use crate::{Constant, Dim, Element, Fact, GraphBuilder, Model};
use compresso_base::error::{Error, Result};
use indexmap::IndexMap;
use std::ops::Range;

/// Operator set of built graphs.
const OPSET: i64 = 17;
/// Most channels of a layer.
const MOST_CHANNELS: usize = 1 << 16;
/// Largest height and width of a layer.
const MOST_PIXELS: usize = 1 << 16;

/// The batch norms of YOLO detectors; classifiers have PyTorch's defaults.
fn batch_norm(arch: &Architecture) -> BatchNorm {
    if is_detector(arch) { BatchNorm { epsilon: 1e-3, momentum: 0.97 } } else { BatchNorm { epsilon: 1e-5, momentum: 0.9 } }
}

/// Builds an architecture at a scale, with the weights of `given`, all of which must have their place, or with random ones.
///
/// # Errors
/// `Format` and `Unsupported`, naming the line of the architecture; `Missing`, `Shape` and `Unsupported` for given weights
/// that do not fit it; `Argument` for a bad option.
pub(crate) fn assemble(
    arch: &Architecture,
    scale: Option<(String, f64, f64, usize)>,
    name: &str,
    options: &ZooOptions,
    given: Option<IndexMap<String, Constant>>,
) -> Result<Model> {
    let plan = Plan::new(arch, scale, options)?;
    let mut graph = GraphBuilder::new(name, OPSET);
    let image = plan.image;
    let shape = vec![Dim::symbol("batch"), Dim::Known(arch.channels), Dim::Known(image[0]), Dim::Known(image[1])];
    let input = Feature { value: graph.input("images", Fact::new(Element::F32, shape)), channels: arch.channels, size: image };
    let mut b = match given {
        Some(given) => Blocks::with_weights(graph, batch_norm(arch), given),
        None => Blocks::new(graph, batch_norm(arch), options.seed),
    };
    // What each layer made; nothing after the end of the model.
    let mut made: Vec<Vec<Feature>> = Vec::with_capacity(arch.layers.len());
    let mut task = None;
    for (i, layer) in arch.layers.iter().enumerate() {
        let (mut inputs, mut groups) = (Vec::new(), Vec::new());
        for from in &layer.from {
            let start = inputs.len();
            match from {
                None => inputs.push(input.clone()),
                Some(j) => inputs.extend(made.get(*j).into_iter().flatten().cloned()),
            }
            if inputs.len() == start {
                return Err(layer.error("reads a layer that has no feature map"));
            }
            groups.push(start..inputs.len());
        }
        match emit(&mut b, &plan, i, layer, &inputs, &groups)? {
            Made::Feature(f) if options.attention.contains(&i) => {
                made.push(vec![b.squeeze_excite(&format!("attention.{i}"), &f, modules::REDUCTION)?]);
            }
            Made::Feature(f) => made.push(vec![f]),
            Made::Parts(parts) => made.push(parts),
            Made::End(t) => {
                task = Some(*t);
                made.push(Vec::new());
            }
        }
    }
    if let Some(stray) = options.attention.iter().find(|i| made.get(**i).is_none_or(|m| m.len() != 1)) {
        let e = Error::argument(format!("option 'attention' names layer {stray}, after which no feature map follows"));
        return Err(e.hint(format!("the architecture has layers 0 to {}", made.len().saturating_sub(1))));
    }
    let task = task.ok_or_else(|| Error::format("the architecture ends without a head, such as Detect or Classify"))?;
    let left: Vec<&str> = b.left_over().collect();
    if let Some(first) = left.first() {
        let e = Error::unsupported(format!("{} weights have no place in the architecture, such as '{first}'", left.len()));
        return Err(e.hint("the network differs from the architecture that it names"));
    }
    Ok(Model::new(b.graph.finish()?, task))
}

fn emit(b: &mut Blocks, plan: &Plan<'_>, i: usize, layer: &ArchitectureLayer, inputs: &[Feature], groups: &[Range<usize>]) -> Result<Made> {
    let module = modules::find(&layer.module).map_err(|e| e.at(format!("line {}", layer.line)))?;
    if inputs.is_empty() {
        return Err(layer.error("needs an input"));
    }
    // Only `CBFuse` chooses among the parts of a layer.
    if groups.iter().any(|g| g.len() > 1) && module.name != "CBFuse" {
        return Err(layer.error("reads a layer that makes several maps, of which it cannot choose"));
    }
    if inputs.len() > 1 && !module.joins {
        return Err(layer.error("takes one input"));
    }
    if layer.args.len() > module.args.len() {
        let e = layer.error(format!("has {} arguments, more than {}", layer.args.len(), module.args.len()));
        return Err(e.hint(format!("{} takes [{}]", module.name, module.args.join(", "))));
    }
    let scope = layer.name.clone().unwrap_or_else(|| format!("model.{i}"));
    let mut site = Site { b, layer, plan, inputs, groups, scope, repeats: plan.repeats(layer) };
    let made = (module.emit)(&mut site).map_err(|e| e.at(layer.place()))?;
    let maps = match &made {
        Made::Feature(f) => std::slice::from_ref(f),
        Made::Parts(parts) => parts,
        Made::End(_) => &[],
    };
    for f in maps {
        if f.channels > MOST_CHANNELS {
            return Err(layer.error(format!("has {} channels, more than {MOST_CHANNELS}", f.channels)));
        }
        if f.size.iter().any(|&n| n > MOST_PIXELS) {
            return Err(layer.error(format!("has {:?} pixels, more than {MOST_PIXELS} a side", f.size)));
        }
    }
    Ok(made)
}
