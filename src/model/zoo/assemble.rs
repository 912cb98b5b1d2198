//! Puts the layers of an architecture together.

use super::blocks::{BatchNorm, Blocks, Feature};
use super::yaml::{Architecture, ArchitectureLayer};
use super::{ZooOptions, modules};
use crate::{Classify, Constant, Dim, Element, Fact, GraphBuilder, Model, Task};
use compresso_base::error::{Error, Result};
use indexmap::IndexMap;

/// Operator set of built graphs.
const OPSET: i64 = 17;
/// Most channels of a layer.
const MOST_CHANNELS: usize = 1 << 16;
/// Largest height and width of a layer.
const MOST_PIXELS: usize = 1 << 16;

/// What is the same for all layers of a model.
#[derive(Debug)]
pub struct Plan<'a> {
    pub arch: &'a Architecture,
    /// Name of the scale, such as `n`; may be empty.
    pub scale: String,
    depth: f64,
    width: f64,
    /// Largest channel count before scaling.
    most: usize,
    pub classes: Vec<String>,
    /// Height and width in pixels.
    pub image: [usize; 2],
}

/// One layer and its surroundings, as its module sees them.
pub struct Site<'a> {
    pub b: &'a mut Blocks,
    pub layer: &'a ArchitectureLayer,
    pub plan: &'a Plan<'a>,
    /// What it reads; at least one.
    pub inputs: &'a [Feature],
    /// What the names of its weights start with.
    pub scope: String,
    /// Scaled by depth.
    pub repeats: usize,
}

/// What a module made.
pub enum Made {
    Feature(Feature),
    /// The end of the model, whose outputs are declared.
    End(Box<Task>),
}

impl Site<'_> {
    /// Argument `i` as a channel count, scaled by width.
    pub fn channels(&self, i: usize) -> Result<usize> {
        Ok(round_up(self.layer.size(i, "channels", None)?.min(self.plan.most) as f64 * self.plan.width))
    }
    /// A block, repeated as a chain.
    pub fn chain(&mut self, mut step: impl FnMut(&mut Blocks, &str, &Feature) -> Result<Feature>) -> Result<Made> {
        if self.repeats == 1 {
            return step(self.b, &self.scope, &self.inputs[0]).map(Made::Feature);
        }
        let mut y = self.inputs[0].clone();
        for i in 0..self.repeats {
            y = step(self.b, &under(&self.scope, &i.to_string()), &y)?;
        }
        Ok(Made::Feature(y))
    }
    /// The end of a classifier.
    pub fn logits(&mut self, output: String) -> Made {
        self.b.graph.output(&output);
        Made::End(Box::new(Task::Classify(Classify { classes: self.plan.classes.clone(), image_size: self.plan.image, output })))
    }
}

/// `name` under `scope`, which may be empty.
pub fn under(scope: &str, name: &str) -> String {
    if scope.is_empty() { name.to_string() } else { format!("{scope}.{name}") }
}

/// Rounds a channel count up to a multiple of 8.
fn round_up(channels: f64) -> usize {
    ((channels / 8.0).ceil() as usize).max(1) * 8
}

impl<'a> Plan<'a> {
    fn new(arch: &'a Architecture, scale: Option<(String, f64, f64, usize)>, options: &ZooOptions) -> Result<Self> {
        let (scale, depth, width, most) = scale.unwrap_or((String::new(), 1.0, 1.0, 1 << 20));
        let (depth, width) = (options.depth.unwrap_or(depth), options.width.unwrap_or(width));
        for (option, value) in [("depth", depth), ("width", width)] {
            if !(value > 0.0 && value <= 16.0) {
                return Err(Error::argument(format!("option '{option}' must be above 0 and at most 16, got {value}")));
            }
        }
        let detector = is_detector(arch);
        let image = options.image_size.unwrap_or(if detector { [640, 640] } else { [224, 224] });
        let classes = match &options.classes {
            Some(names) if names.is_empty() => return Err(Error::argument("option 'classes' must name at least one class")),
            Some(names) => names.clone(),
            None => (0..arch.classes).map(|i| format!("class{i}")).collect(),
        };
        let multiple = if detector { arch.strides.iter().copied().max().unwrap_or(32) } else { 1 };
        if image.iter().any(|&n| n == 0 || n % multiple != 0 || n > 8192) {
            return Err(Error::argument(format!(
                "option 'image_size' must be a multiple of {multiple} from {multiple} to 8192, got {}x{}",
                image[0], image[1]
            )));
        }
        Ok(Self { arch, scale, depth, width, most, classes, image })
    }
    fn repeats(&self, layer: &ArchitectureLayer) -> usize {
        if layer.repeats > 1 { ((layer.repeats as f64 * self.depth).round_ties_even() as usize).max(1) } else { 1 }
    }
}

fn is_detector(arch: &Architecture) -> bool {
    arch.layers.iter().any(|l| l.module.starts_with("Detect"))
}

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
    let shape = vec![Dim::symbol("batch"), Dim::Known(3), Dim::Known(image[0]), Dim::Known(image[1])];
    let input = Feature { value: graph.input("images", Fact::new(Element::F32, shape)), channels: 3, size: image };
    let mut b = match given {
        Some(given) => Blocks::with_weights(graph, batch_norm(arch), given),
        None => Blocks::new(graph, batch_norm(arch), options.seed),
    };
    // What each layer made; `None` after the end of the model.
    let mut made: Vec<Option<Feature>> = Vec::with_capacity(arch.layers.len());
    let mut task = None;
    for (i, layer) in arch.layers.iter().enumerate() {
        let read = |f: &Option<usize>| match f {
            None => Some(input.clone()),
            Some(j) => made.get(*j).cloned().flatten(),
        };
        let inputs: Vec<Feature> =
            layer.from.iter().map(read).collect::<Option<_>>().ok_or_else(|| layer.error("reads a layer that has no feature map"))?;
        match emit(&mut b, &plan, i, layer, &inputs)? {
            Made::Feature(f) if options.attention.contains(&i) => {
                made.push(Some(b.squeeze_excite(&format!("attention.{i}"), &f, modules::REDUCTION)?));
            }
            Made::Feature(f) => made.push(Some(f)),
            Made::End(t) => {
                task = Some(*t);
                made.push(None);
            }
        }
    }
    if let Some(stray) = options.attention.iter().find(|i| made.get(**i).is_none_or(Option::is_none)) {
        let e = Error::argument(format!("option 'attention' names layer {stray}, after which no feature map follows"));
        return Err(e.hint(format!("the architecture has layers 0 to {}", made.len().saturating_sub(1))));
    }
    let task = task.ok_or_else(|| Error::format("the architecture ends without Detect or Classify"))?;
    let left: Vec<&str> = b.left_over().collect();
    if let Some(first) = left.first() {
        let e = Error::unsupported(format!("{} weights have no place in the architecture, such as '{first}'", left.len()));
        return Err(e.hint("the network differs from the architecture that it names"));
    }
    Ok(Model::new(b.graph.finish()?, task))
}

fn emit(b: &mut Blocks, plan: &Plan<'_>, i: usize, layer: &ArchitectureLayer, inputs: &[Feature]) -> Result<Made> {
    let module = modules::find(&layer.module).map_err(|e| e.at(format!("line {}", layer.line)))?;
    if inputs.is_empty() {
        return Err(layer.error("needs an input"));
    }
    if inputs.len() > 1 && !module.joins {
        return Err(layer.error("takes one input"));
    }
    if layer.args.len() > module.args.len() {
        let e = layer.error(format!("has {} arguments, more than {}", layer.args.len(), module.args.len()));
        return Err(e.hint(format!("{} takes [{}]", module.name, module.args.join(", "))));
    }
    let scope = layer.name.clone().unwrap_or_else(|| format!("model.{i}"));
    let mut site = Site { b, layer, plan, inputs, scope, repeats: plan.repeats(layer) };
    let made = (module.emit)(&mut site).map_err(|e| e.at(layer.place()))?;
    if let Made::Feature(f) = &made {
        if f.channels > MOST_CHANNELS {
            return Err(layer.error(format!("has {} channels, more than {MOST_CHANNELS}", f.channels)));
        }
        if f.size.iter().any(|&n| n > MOST_PIXELS) {
            return Err(layer.error(format!("has {:?} pixels, more than {MOST_PIXELS} a side", f.size)));
        }
    }
    Ok(made)
}
