//! Runs a graph for inference on the CPU, planned once for fixed shapes.
//!
//! A [`Compiled`] is made in four steps: the graph is simplified (constants computed, batch norms folded) and lowered to
//! steps on tensors, with activations, residual additions and quantization taken into the layers before them; parts of
//! concatenations are placed into their results, and tensors into an arena that is reused as values die; `build`
//! makes a job of each step, which packs its weights. Running then allocates nothing but the outputs.
//!
//! Images lie channels last. Graphs with QuantizeLinear and DequantizeLinear run on bytes: see `lower::Val`. Operators
//! without a kernel run by candle, one by one, as [`super::eager`] does.

mod build;
mod engine;
mod lower;
mod place;
mod tensor;
#[cfg(test)]
mod tests;

pub use engine::Engine;

use super::eager::{self, Outputs};
use build::Build;
use candle_core::{DType, Device, Tensor};
use compresso_base::context::Cancel;
use compresso_base::error::{At, Error, Result};
use compresso_base::memory;
use compresso_kernels::channels_last::program::{Program, Slot};
use compresso_model::graph::{Facts, Graph, Node, infer_with};
use compresso_model::{Element, Fact, Value, ops};
use lower::{From, Lowered, Op, Output, To};
use std::collections::{HashMap, HashSet};

/// Values of one tensor while a plan runs: `values[offset(index)]` with the strides of its axes.
#[derive(Debug)]
pub struct Seen<'a> {
    /// What the graph calls it.
    pub name: &'a str,
    /// Its shape.
    pub dims: &'a [usize],
    /// Elements between neighbours along each axis.
    pub strides: &'a [usize],
    /// What they count in.
    pub values: &'a [f32],
}

/// Sees values as they are made.
pub type Watch<'a> = &'a mut dyn FnMut(&Seen<'_>) -> Result<()>;

/// What one step took.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct StepTime {
    /// The node that it began with.
    pub node: String,
    /// The kernel that ran.
    pub kernel: String,
    /// Wall time.
    pub seconds: f64,
    /// Multiply-accumulates.
    pub macs: usize,
    /// Of the values and weights that it reads and writes, each once.
    pub bytes: usize,
}

/// What happens in one step of a run.
#[derive(Debug)]
enum Action {
    Job(usize),
    Candle { node: usize, from: Vec<From>, to: Vec<To> },
    Watch(usize),
}

/// Each output of a node must fit into memory by itself: sizes below may be multiplied without looking.
fn claim_outputs(node: &Node, facts: &Facts) -> Result<()> {
    for fact in node.outputs.iter().filter_map(|name| facts.get(name)) {
        if let Some(dims) = fact.dims() {
            memory::claim_tensor(&dims, WIDEST, 1, || format!("the result {fact}"))?;
        }
    }
    Ok(())
}

/// Bytes of an element, at most, as plans hold it.
const WIDEST: usize = 4;

/// A graph planned for the shapes of its inputs.
#[derive(Debug)]
pub struct Compiled {
    graph: Graph,
    plan: Lowered,
    program: Program,
    actions: Vec<Action>,
    /// The step of the plan that each action belongs to.
    origin: Vec<usize>,
    slots: HashMap<usize, Slot>,
    /// Bytes of activations without reuse.
    unshared: usize,
}

impl Compiled {
    /// Plans `graph`, which must be as the pipeline [`NATIVE`](compresso_model::passes::pipelines::NATIVE) leaves it, for inputs of the given shapes.
    /// Values named in `keep` are worked out as floats of their own, so that [`Compiled::run_watched`] can show them.
    ///
    /// # Errors
    /// `Unsupported` for graphs whose shapes depend on values, with control flow, or more than two spatial axes.
    pub fn new(graph: &Graph, shapes: &HashMap<String, Vec<usize>>, keep: &HashSet<String>, threads: usize) -> Result<Self> {
        let mut given = Facts::new();
        for input in graph.feeds() {
            if let Some(dims) = shapes.get(&input.name) {
                given.insert(input.name.clone(), Fact::known(input.fact.element, dims));
            }
        }
        let facts = infer_with(graph, &given)?;
        for node in graph.nodes() {
            claim_outputs(node, &facts).at(|| node.label())?;
        }
        let mut plan = lower::lower(graph, &facts, keep)?;
        place::place_parts(&mut plan.tensors, &plan.steps);
        let arena = place::lay_out(&plan);
        memory::claim(arena.bytes as u64, || "the memory of all values".into())?;
        let inputs = build::input_bytes(&plan);
        let mut program = Program::new(arena.bytes, &plan.constants, inputs, threads)?;
        let mut build = Build { tensors: &plan.tensors, arena: &arena, program: &mut program, parts: HashMap::new() };
        let (mut actions, mut origin, mut slots) = (Vec::new(), Vec::new(), HashMap::new());
        for (i, step) in plan.steps.iter().enumerate() {
            let jobs = build.step(step, threads).at(|| graph.nodes()[step.node].label())?;
            actions.extend(jobs.into_iter().map(Action::Job));
            if let Op::Candle { node, from, to } = &step.op {
                for &id in step.reads.iter().chain(&step.writes) {
                    slots.insert(id, build.whole(id)?);
                }
                actions.push(Action::Candle { node: *node, from: from.clone(), to: to.clone() });
            }
            actions.extend(plan.observed.iter().enumerate().filter(|(_, o)| o.2 == i + 1).map(|(n, _)| Action::Watch(n)));
            origin.resize(actions.len(), i);
        }
        for (_, id, _) in &plan.observed {
            slots.insert(*id, build.whole(*id)?);
        }
        for (_, output) in &plan.outputs {
            if let Output::Tensor(id) | Output::Bytes { id, .. } = output {
                slots.insert(*id, build.whole(*id)?);
            }
        }
        plan.constants = Vec::new();
        Ok(Self { graph: graph.clone(), plan, program, actions, origin, slots, unshared: arena.total })
    }

    /// Runs on `feeds` (tensors by input name) of the planned shapes.
    ///
    /// # Errors
    /// `Argument` for inputs that are missing or of other shapes; `Cancelled`; whatever candle reports.
    pub fn run(&mut self, feeds: &HashMap<String, Value>, cancel: Option<&Cancel>) -> Result<Outputs> {
        self.run_watched(feeds, cancel, &mut |_| Ok(()))
    }

    /// As [`Compiled::run`]; `watch` sees the values that are kept, each as soon as it is complete.
    ///
    /// # Errors
    /// As [`Compiled::run`], and whatever `watch` reports.
    pub fn run_watched(&mut self, feeds: &HashMap<String, Value>, cancel: Option<&Cancel>, watch: Watch<'_>) -> Result<Outputs> {
        self.run_timed(feeds, cancel, watch, &mut |_| ())
    }

    fn run_timed(
        &mut self,
        feeds: &HashMap<String, Value>,
        cancel: Option<&Cancel>,
        watch: Watch<'_>,
        timed: &mut dyn FnMut(f64),
    ) -> Result<Outputs> {
        let mut fed = Vec::new();
        let mut held: Vec<Option<Value>> = vec![None; self.plan.held];
        let mut next = 0;
        for input in self.graph.feeds() {
            let value = feeds.get(&input.name).ok_or_else(|| Error::argument(format!("no value given for input '{}'", input.name)))?;
            if input.fact.element == Element::F32 {
                fed.push(value.tensor.to_device(&Device::Cpu)?.contiguous()?);
            } else {
                held[next] = Some(value.clone());
                next += 1;
                fed.push(Tensor::zeros(0, DType::F32, &Device::Cpu)?);
            }
        }
        let stores: Vec<_> = fed.iter().map(|t| t.storage_and_layout()).collect();
        let inputs = stores
            .iter()
            .map(|(storage, layout)| match &**storage {
                candle_core::Storage::Cpu(s) => Ok(bytes_of(&s.as_slice::<f32>()?[layout.start_offset()..])),
                _ => Err(Error::internal("a tensor on the CPU is elsewhere")),
            })
            .collect::<Result<Vec<&[u8]>>>()?;
        let mut start = std::time::Instant::now();
        for action in &self.actions {
            if let Some(c) = cancel {
                c.check()?;
            }
            match action {
                Action::Job(step) => self.program.run(*step, &inputs[..self.program.input_count()])?,
                Action::Candle { node, from, to } => {
                    let made = candle(&self.graph, *node, from, &self.plan, &|id| self.program.read(&self.slots[&id], 1, &inputs), &held)
                        .at(|| self.graph.nodes()[*node].label())?;
                    for (to, value) in to.iter().zip(made) {
                        match to {
                            To::Tensor(id) => {
                                let floats = value.to_f32s()?;
                                let target = self.program.write(&self.slots[id], 1)?;
                                let bytes = bytes_of(&floats);
                                if bytes.len() != target.len() {
                                    return Err(Error::internal(format!("{} made {:?}", self.graph.nodes()[*node].label(), value.dims())));
                                }
                                target.copy_from_slice(bytes);
                            }
                            To::Held(n) => held[*n] = Some(value),
                            To::None => {}
                        }
                    }
                }
                Action::Watch(n) => {
                    let (name, id, _) = &self.plan.observed[*n];
                    let layout = self.plan.tensors.layout(*id).ok_or_else(|| Error::internal("a tensor without a layout"))?;
                    let values = floats_of(self.program.read(&self.slots[id], 1, &inputs)?)?;
                    watch(&Seen { name, dims: &self.plan.tensors[*id].dims, strides: &layout.strides, values })?;
                }
            }
            let now = std::time::Instant::now();
            timed((now - start).as_secs_f64());
            start = now;
        }
        self.outputs(held)
    }

    fn outputs(&self, mut held: Vec<Option<Value>>) -> Result<Outputs> {
        let mut outputs = Outputs::new();
        for (name, output) in &self.plan.outputs {
            let value = match output {
                Output::Tensor(id) => {
                    let floats = floats_of(self.program.read(&self.slots[id], 1, &[])?)?.to_vec();
                    Value::plain(Tensor::from_vec(floats, self.plan.tensors[*id].dims.as_slice(), &Device::Cpu)?)?
                }
                Output::Bytes { id, signed } => stored(self.program.read(&self.slots[id], 1, &[])?, &self.plan.tensors[*id].dims, *signed)?,
                Output::Held(n) => held[*n].take().ok_or_else(|| Error::format(format!("the node of output '{name}' does not make it")))?,
                Output::Constant(c) => Value::of_constant(c, &Device::Cpu)?,
            };
            outputs.insert(name.clone(), value);
        }
        Ok(outputs)
    }

    /// Times each step: the least of `runs` runs.
    ///
    /// # Errors
    /// As [`Compiled::run`].
    pub fn profile(&mut self, feeds: &HashMap<String, Value>, runs: usize, cancel: Option<&Cancel>) -> Result<Vec<StepTime>> {
        let mut least = vec![f64::INFINITY; self.actions.len()];
        for _ in 0..runs.max(1) {
            let mut times = Vec::with_capacity(least.len());
            self.run_timed(feeds, cancel, &mut |_| Ok(()), &mut |seconds| times.push(seconds))?;
            least.iter_mut().zip(times).for_each(|(l, t)| *l = l.min(t));
        }
        let names = self.steps();
        Ok(self
            .origin
            .iter()
            .zip(names)
            .zip(least)
            .map(|((&step, kernel), seconds)| {
                let s = &self.plan.steps[step];
                let bytes = s.reads.iter().chain(&s.writes).map(|&id| {
                    let t = &self.plan.tensors[id];
                    t.dims.iter().product::<usize>() * t.kind.bytes()
                });
                let (macs, weights) = match &s.op {
                    Op::Conv(c) => c.work(&self.plan.tensors[s.reads[0]].dims, &self.plan.tensors[s.writes[0]].dims),
                    _ => (0, 0),
                };
                StepTime { node: self.graph.nodes()[s.node].label(), kernel, seconds, macs, bytes: bytes.sum::<usize>() + weights }
            })
            .collect())
    }

    /// Bytes of memory for activations, and what they would take without reuse.
    pub fn memory(&self) -> (usize, usize) {
        (self.program.arena_bytes(), self.unshared)
    }
    /// What runs, in order.
    pub fn steps(&self) -> Vec<String> {
        self.actions
            .iter()
            .map(|a| match a {
                Action::Job(i) => self.program.steps()[*i].job.name(),
                Action::Candle { node, .. } => format!("candle {}", self.graph.nodes()[*node].op),
                Action::Watch(n) => format!("watch {}", self.plan.observed[*n].0),
            })
            .collect()
    }
}

/// Runs a node as the eager executor does.
fn candle<'a>(
    graph: &Graph,
    node: usize,
    from: &[From],
    plan: &Lowered,
    read: &dyn Fn(usize) -> Result<&'a [u8]>,
    held: &[Option<Value>],
) -> Result<Vec<Value>> {
    let inputs = from
        .iter()
        .map(|f| {
            Ok(match f {
                From::None => None,
                From::Constant(c) => Some(Value::of_constant(c, &Device::Cpu)?),
                From::Held(n) => held[*n].clone(),
                From::Tensor(id) => {
                    let floats = floats_of(read(*id)?)?.to_vec();
                    Some(Value::plain(Tensor::from_vec(floats, plan.tensors[*id].dims.as_slice(), &Device::Cpu)?)?)
                }
                From::Bytes { id, signed } => Some(stored(read(*id)?, &plan.tensors[*id].dims, *signed)?),
            })
        })
        .collect::<Result<Vec<_>>>()?;
    let node = &graph.nodes()[node];
    let mode = ops::RunMode::default();
    ops::find(node)?.run(&ops::Exec::new(node, graph.opset_of(node), &inputs, &mode))
}

/// Quantized numbers as the graph has them.
fn stored(bytes: &[u8], dims: &[usize], signed: bool) -> Result<Value> {
    let (element, shift) = if signed { (Element::I8, 128) } else { (Element::U8, 0) };
    let storage = element.storage().ok_or_else(|| Error::internal("8-bit integers have a storage type"))?;
    let numbers: Vec<i64> = bytes.iter().map(|&b| i64::from(b) - shift).collect();
    Value::new(element, Tensor::from_vec(numbers, dims, &Device::Cpu)?.to_dtype(storage)?)
}

fn bytes_of(floats: &[f32]) -> &[u8] {
    compresso_kernels::channels_last::program::as_bytes(floats)
}

fn floats_of(bytes: &[u8]) -> Result<&[f32]> {
    compresso_kernels::channels_last::program::as_floats(bytes)
}

/// Runs by the eager executor, for what cannot be planned.
fn eagerly(graph: &Graph, feeds: &HashMap<String, Value>, wanted: &[&str], cancel: Option<&Cancel>) -> Result<Outputs> {
    eager::run(graph, feeds, eager::Run { wanted, cancel, ..eager::Run::default() })
}
