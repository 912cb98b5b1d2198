//! From a graph with known shapes to steps on tensors.
//!
//! Nodes are lowered in order. Each value of the graph becomes a [`Val`]: a tensor of floats, bytes that stand for floats,
//! or something that is not worked out until it is known how it is used. A node that follows another and can be done in
//! the same step (an activation after a convolution) is taken up when that one is lowered.

mod affine;
mod attention;
mod before;
mod channels;
mod codes;
mod conv;
mod fuse;
mod integers;
mod moves;
mod nodes;
mod norm;

pub use affine::PerChannel;
pub use before::Before;

use super::tensor::{Home, How, Id, Kind, Source, Tensor, Tensors};
pub use channels::line;
use codes::Coded;
use compresso_base::error::{At, Error, Result};
use compresso_kernels::Window;
use compresso_kernels::activation::Activation;
use compresso_kernels::channels_last::Epilogue;
use compresso_kernels::channels_last::int8::{MAX_DEPTH, MAX_WIDE_DEPTH};
use compresso_kernels::channels_last::strided::{Binary, Reduce};
use compresso_model::graph::{Facts, Graph, Node};
use compresso_model::ops::quantize::DEQUANTIZE_LINEAR;
use compresso_model::{Constant, Element, ops};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

pub use norm::Norm;

/// What a value of the graph is in the plan.
#[derive(Debug, Clone)]
pub enum Val {
    Float(Id),
    /// A function of stored bytes.
    Coded(Coded),
    /// The sum of functions of stored bytes, and of floats after them, added from the left, and what an activation makes of it.
    Sum(Vec<Coded>, Option<Id>, Option<Activation>),
    /// A concatenation along an axis that has not been carried out.
    Parts(usize, Vec<Val>),
    /// Quantized numbers as the graph has them: stored bytes, +128 when signed.
    Quantized {
        id: Id,
        signed: bool,
    },
    /// The n-th value that is kept as a tensor of candle (integers, booleans, float16).
    Held(usize),
}

/// real = (q − zero) · scale, for stored bytes q.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Affine {
    pub scale: f32,
    pub zero: u8,
}

/// Where an input of a node that runs by candle comes from.
#[derive(Debug, Clone)]
pub enum From {
    Tensor(Id),
    Bytes { id: Id, signed: bool },
    Constant(Constant),
    Held(usize),
    None,
}

/// Where a result goes.
#[derive(Debug, Clone, Copy)]
pub enum To {
    Tensor(Id),
    Held(usize),
    None,
}

/// One bytes output of a step: `table` of channels `first..` of the quantized result.
#[derive(Debug, Clone)]
pub struct Out {
    pub id: Id,
    pub first: usize,
    pub table: Option<Arc<[u8; 256]>>,
}

/// Weights of a convolution, `[out, in / groups, kernel…]`.
#[derive(Debug, Clone)]
pub enum Weights {
    Float(Vec<f32>),
    /// With the scale of each output channel.
    Int8(Vec<i8>, Vec<f32>),
    /// The same for bytes less a zero point, beyond 8 bits.
    Wide(Vec<i16>, Vec<f32>),
}

impl Weights {
    /// Integers of at most 255 either way.
    fn integers(weights: Vec<i16>, scales: Vec<f32>) -> Self {
        match weights.iter().map(|&w| i8::try_from(w)).collect() {
            Ok(bytes) => Self::Int8(bytes, scales),
            Err(_) => Self::Wide(weights, scales),
        }
    }
    /// Most products that a sum with such weights has room for.
    fn most_products(weights: &[i16]) -> usize {
        if weights.iter().all(|&w| i8::try_from(w).is_ok()) { MAX_DEPTH } else { MAX_WIDE_DEPTH }
    }
}

#[derive(Debug, Clone)]
pub struct Conv {
    pub window: Window,
    pub groups: usize,
    pub weights: Weights,
    pub bias: Option<Vec<f32>>,
    pub epilogue: Epilogue,
    /// What happens to the image first.
    pub before: Option<Before>,
    /// Of the input's bytes, for int8.
    pub affine: Affine,
    /// Scale and zero point of the input's bytes are measured while the plan runs: the step reads them after the image.
    pub measured: bool,
    /// The result is quantized.
    pub quantized: Option<Affine>,
    pub outs: Vec<Out>,
}

impl Conv {
    /// Multiply-accumulates and bytes of weights, from the sizes of input and output.
    pub fn work(&self, x: &[usize], y: &[usize]) -> (usize, usize) {
        let per_output = x[1] / self.groups * self.window.kernel_len();
        let (channels, bytes) = match &self.weights {
            Weights::Float(w) => (w.len() / per_output.max(1), 4 * w.len()),
            Weights::Int8(w, _) => (w.len() / per_output.max(1), w.len()),
            Weights::Wide(w, _) => (w.len() / per_output.max(1), 2 * w.len()),
        };
        (y[0] * channels * self.window.output_len() * per_output, bytes)
    }
}

/// The numbers that bytes stand for.
pub type Table = Arc<[f32; 256]>;

/// A function of images channel by channel, whose channels follow one another.
#[derive(Debug, Clone)]
pub struct ChannelMap {
    /// For each image that is read, what its bytes stand for; `None`: it has floats.
    pub tables: Vec<Option<Table>>,
    /// Scale and shift of each channel; without them one more input is what each is multiplied with.
    pub constants: Option<[Vec<f32>; 2]>,
    pub act: Option<Activation>,
    /// The result is quantized.
    pub quantized: Option<Affine>,
}

#[derive(Debug, Clone)]
pub enum Op {
    /// Reads the image, the residual and the factors before; writes one float image, and the ranges of its channels where they are
    /// measured, or `outs`.
    Conv(Box<Conv>),
    MaxPool(Window),
    AveragePool(Window, bool),
    Nearest([usize; 2]),
    Unary(Activation),
    /// A product and a sum per channel, and a function.
    PerChannel(Box<PerChannel>),
    Binary(Binary),
    Softmax(usize),
    /// What is expected of these numbers along the axis, by the softmax.
    Expectation(usize, Vec<f32>),
    MatMul,
    /// Reads the two factors of a product, which is multiplied by this, the factor of its softmax, and the tensors that come into the
    /// product before.
    Attention(f32, Vec<Binary>),
    Norm(Box<Norm>),
    /// Over the axes where it says so, which stay with size 1.
    Reduce(Reduce, Vec<bool>),
    /// The input again and again along axes where it has size 1.
    Repeat,
    /// Reads the parts; where they could not be put into the result they are copied.
    Concat(usize),
    Copy,
    /// Floats to bytes.
    Quantize(Affine),
    /// The least and the largest of floats, in room for those of parts.
    Range,
    /// Floats to bytes, their scale and their zero point, which follow from the least and the largest value: those of the channels
    /// that each of these says, of the ranges that are read after the floats.
    Measure(Vec<std::ops::Range<usize>>),
    /// Bytes to floats.
    Dequantize(Arc<[f32; 256]>),
    /// Bytes to bytes.
    Table(Arc<[u8; 256]>),
    /// The sum of two dequantized images and an activation, quantized.
    Add([Affine; 2], Option<Activation>, Affine),
    /// The sum of two functions of bytes, as bytes.
    SumTable(Arc<[u8; 65536]>),
    /// The sum of functions of bytes, and of floats where there is one more tensor than tables, added from the left, and an activation, as
    /// bytes or as floats.
    Sum(Vec<Table>, Option<Activation>, Option<Affine>),
    ChannelMap(Box<ChannelMap>),
    /// The average of what bytes stand for; on a line, where `affine` is given.
    AverageBytes {
        window: Window,
        count_padding: bool,
        affine: Option<Affine>,
        table: Table,
        quantized: Option<Affine>,
    },
    /// The node, by candle.
    Candle {
        node: usize,
        from: Vec<From>,
        to: Vec<To>,
    },
}

#[derive(Debug, Clone)]
pub struct LoweredStep {
    pub op: Op,
    pub reads: Vec<Id>,
    pub writes: Vec<Id>,
    /// The node that it began with.
    pub node: usize,
}

/// The result of lowering.
#[derive(Debug)]
pub struct Lowered {
    pub tensors: Tensors,
    pub steps: Vec<LoweredStep>,
    /// The graph's outputs: name, element, where.
    pub outputs: Vec<(String, Output)>,
    /// Values to look at while running: name, tensor, number of steps after which it is complete.
    pub observed: Vec<(String, Id, usize)>,
    pub constants: Vec<u8>,
    pub held: usize,
}

#[derive(Debug, Clone)]
pub enum Output {
    Tensor(Id),
    Bytes { id: Id, signed: bool },
    Held(usize),
    Constant(Constant),
}

pub struct Lower<'g> {
    graph: &'g Graph,
    facts: &'g Facts,
    consumers: HashMap<&'g str, Vec<usize>>,
    makers: HashMap<&'g str, usize>,
    keep: &'g HashSet<String>,
    pub tensors: Tensors,
    steps: Vec<LoweredStep>,
    values: HashMap<String, Val>,
    done: Vec<bool>,
    constants: Vec<u8>,
    held: usize,
    observed: Vec<(String, Id, usize)>,
    /// The ranges of what has been measured by itself.
    ranges: HashMap<Id, Id>,
    node: usize,
}

/// Lowers a graph whose shapes `facts` knows. Values named in `keep` stay apart and can be observed.
///
/// # Errors
/// `Unsupported` where a shape depends on values; whatever a node's attributes get wrong.
pub fn lower(graph: &Graph, facts: &Facts, keep: &HashSet<String>) -> Result<Lowered> {
    let mut l = Lower {
        graph,
        facts,
        consumers: graph.consumers(),
        makers: graph.producers(),
        keep,
        tensors: Tensors::default(),
        steps: Vec::new(),
        values: HashMap::new(),
        done: vec![false; graph.nodes().len()],
        constants: Vec::new(),
        held: 0,
        observed: Vec::new(),
        ranges: HashMap::new(),
        node: 0,
    };
    for (i, input) in graph.feeds().enumerate() {
        let fact = facts.get(&input.name).ok_or_else(|| Error::internal("an input without a fact"))?;
        let dims = fact.dims().ok_or_else(|| unknown_shape(&input.name))?;
        let val = if fact.element == Element::F32 {
            let source = Source::Root { order: (0..dims.len()).collect(), pitch: 1, home: Home::Input(i) };
            Val::Float(l.tensors.add(Tensor { kind: Kind::F32, dims, source, fixed: true }))
        } else {
            // Held values begin with the inputs that are not floats, in order.
            l.held += 1;
            Val::Held(l.held - 1)
        };
        l.set(&input.name, val)?;
    }
    let needed = l.needed();
    for (i, node) in graph.nodes().iter().enumerate() {
        if !l.done[i] && needed[i] {
            l.node = i;
            l.lower_node(node).at(|| node.label())?;
        }
    }
    l.finish()
}

fn unknown_shape(name: &str) -> Error {
    Error::unsupported(format!("the shape of '{name}' depends on values that are known only when the model runs"))
}

impl<'g> Lower<'g> {
    /// Nodes that an output or an observed value needs.
    fn needed(&self) -> Vec<bool> {
        let mut needed = vec![false; self.graph.nodes().len()];
        let mut stack: Vec<&str> =
            self.graph.outputs().iter().map(|o| o.name.as_str()).chain(self.keep.iter().map(String::as_str)).collect();
        while let Some(name) = stack.pop() {
            if let Some(&i) = self.makers.get(name)
                && !needed[i]
            {
                needed[i] = true;
                let node = &self.graph.nodes()[i];
                stack.extend(node.inputs.iter().map(String::as_str).chain(node.captured()));
            }
        }
        needed
    }

    fn finish(mut self) -> Result<Lowered> {
        let mut outputs = Vec::new();
        for output in self.graph.outputs() {
            let name = &output.name;
            let found = match self.values.get(name).cloned() {
                None => {
                    Output::Constant(self.constant(name).ok_or_else(|| Error::missing(format!("the graph has no value '{name}'")))?.clone())
                }
                Some(Val::Held(n)) => Output::Held(n),
                Some(Val::Quantized { id, signed, .. }) => Output::Bytes { id: self.plain(id)?, signed },
                Some(_) => {
                    let id = self.float(name)?;
                    Output::Tensor(self.plain(id)?)
                }
            };
            outputs.push((name.clone(), found));
        }
        self.join_tables();
        self.drop_unread(&outputs);
        let Self { tensors, steps, observed, constants, held, .. } = self;
        Ok(Lowered { tensors, steps, outputs, observed, constants, held })
    }

    /// Takes a step out; what is observed after it is observed one step earlier.
    fn remove_step(&mut self, at: usize) -> LoweredStep {
        self.observed.iter_mut().filter(|o| o.2 > at).for_each(|o| o.2 -= 1);
        self.steps.remove(at)
    }

    /// Removes steps that nothing needs.
    fn drop_unread(&mut self, outputs: &[(String, Output)]) {
        let mut needed: HashSet<Id> = self.observed.iter().map(|o| self.tensors.own_root(o.1)).collect();
        needed.extend(outputs.iter().filter_map(|(_, o)| match o {
            Output::Tensor(id) | Output::Bytes { id, .. } => Some(self.tensors.own_root(*id)),
            Output::Held(_) | Output::Constant(_) => None,
        }));
        for at in (0..self.steps.len()).rev() {
            let step = &self.steps[at];
            let wanted = step.writes.iter().any(|&w| needed.contains(&self.tensors.own_root(w))) || matches!(step.op, Op::Candle { .. });
            if wanted {
                needed.extend(step.reads.iter().map(|&r| self.tensors.own_root(r)));
            } else {
                self.remove_step(at);
            }
        }
    }

    /// The tensor or a copy of it, in row-major order and with memory that does not move.
    fn plain(&mut self, id: Id) -> Result<Id> {
        let root = self.tensors.own_root(id);
        if root == id && self.tensors.is_plain(id) && matches!(self.tensors[id].source, Source::Root { home: Home::Arena, .. }) {
            self.tensors.0[id].fixed = true;
            return Ok(id);
        }
        let (kind, dims) = (self.tensors[id].kind, self.tensors[id].dims.clone());
        let order: Vec<usize> = (0..dims.len()).collect();
        let to = self.tensors.root(kind, &dims, &order);
        self.tensors.0[to].fixed = true;
        self.step(Op::Copy, &[id], &[to]);
        Ok(to)
    }

    /// The tensor, or a copy of it, in row-major order and in memory that does not move into another tensor, which would
    /// put gaps between its parts.
    fn settled(&mut self, id: Id) -> Result<Id> {
        if !self.tensors.is_plain(id) {
            return self.plain(id);
        }
        let root = self.tensors.own_root(id);
        self.tensors.0[root].fixed = true;
        Ok(id)
    }

    fn step(&mut self, op: Op, reads: &[Id], writes: &[Id]) {
        self.steps.push(LoweredStep { op, reads: reads.to_vec(), writes: writes.to_vec(), node: self.node });
    }

    /// Records a value; one that is to be observed becomes a tensor of floats.
    fn set(&mut self, name: &str, val: Val) -> Result<()> {
        if name.is_empty() {
            return Ok(());
        }
        let is_float = !matches!(val, Val::Held(_) | Val::Quantized { .. });
        self.values.insert(name.to_string(), val);
        if is_float && self.keep.contains(name) {
            let mut id = self.float(name)?;
            if !matches!(self.tensors[self.tensors.outermost(id)].source, Source::Root { home: Home::Arena, .. }) {
                id = self.plain(id)?;
            }
            self.observed.push((name.to_string(), id, self.steps.len()));
        }
        Ok(())
    }

    fn dims(&self, name: &str) -> Result<Vec<usize>> {
        self.facts.get(name).and_then(compresso_model::graph::Fact::dims).ok_or_else(|| unknown_shape(name))
    }
    fn out_dims(&self, node: &Node) -> Result<Vec<usize>> {
        self.dims(&node.outputs[0])
    }
    fn element(&self, name: &str) -> Option<Element> {
        self.facts.get(name).map(|f| f.element)
    }
    fn constant(&self, name: &str) -> Option<&'g Constant> {
        self.graph.constant(name).or_else(|| self.facts.get(name)?.constant.as_ref())
    }
    /// The only node that reads a value that nothing else needs.
    fn sole_reader(&self, name: &str) -> Option<usize> {
        match self.consumers.get(name).map(Vec::as_slice) {
            Some(&[i]) if !self.is_wanted(name) => Some(i),
            _ => None,
        }
    }
    /// True for values that must exist by themselves.
    fn is_wanted(&self, name: &str) -> bool {
        self.graph.is_output(name) || self.keep.contains(name)
    }

    /// Floats of a constant, or of a DequantizeLinear of constants.
    fn constant_floats(&self, name: &str) -> Result<Option<(Vec<usize>, Vec<f32>)>> {
        if let Some(c) = self.constant(name) {
            return Ok(if c.element() == Element::F32 { Some((c.dims().to_vec(), c.to_f32s()?)) } else { None });
        }
        let Some(&i) = self.makers.get(name) else { return Ok(None) };
        let node = &self.graph.nodes()[i];
        if !node.is(DEQUANTIZE_LINEAR) {
            return Ok(None);
        }
        let inputs: Option<Vec<&Constant>> = node.inputs.iter().filter(|n| !n.is_empty()).map(|n| self.constant(n)).collect();
        let Some(inputs) = inputs else { return Ok(None) };
        let values = inputs.into_iter().map(|c| compresso_model::Value::of_constant(c, &candle_core::Device::Cpu).map(Some));
        let values = values.collect::<Result<Vec<_>>>()?;
        let mode = ops::RunMode::default();
        let made = ops::find(node)?.run(&ops::Exec::new(node, self.graph.opset_of(node), &values, &mode))?;
        let Some(v) = made.into_iter().next().filter(|v| v.element == Element::F32) else { return Ok(None) };
        Ok(Some((v.dims().to_vec(), v.to_f32s()?)))
    }

    /// A constant's floats as a tensor.
    fn constant_tensor(&mut self, dims: &[usize], floats: &[f32]) -> Id {
        let bytes: Vec<u8> = floats.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.constant_memory(Kind::F32, dims, &bytes)
    }
    fn constant_memory(&mut self, kind: Kind, dims: &[usize], bytes: &[u8]) -> Id {
        self.constants.resize(self.constants.len().next_multiple_of(64), 0);
        let at = self.constants.len();
        self.constants.extend(bytes);
        let source = Source::Root { order: (0..dims.len()).collect(), pitch: 1, home: Home::Constants(at) };
        self.tensors.add(Tensor { kind, dims: dims.to_vec(), source, fixed: true })
    }

    /// A value as floats, worked out if it is not yet.
    fn float(&mut self, name: &str) -> Result<Id> {
        let Some(val) = self.values.get(name).cloned() else {
            let Some((dims, floats)) = self.constant_floats(name)? else {
                return Err(Error::internal(format!("'{name}' is not a value of floats")));
            };
            let id = self.constant_tensor(&dims, &floats);
            self.values.insert(name.to_string(), Val::Float(id));
            return Ok(id);
        };
        let id = self.floats_of(&val)?;
        self.values.insert(name.to_string(), Val::Float(id));
        Ok(id)
    }

    fn floats_of(&mut self, val: &Val) -> Result<Id> {
        match val {
            Val::Float(id) => Ok(*id),
            Val::Coded(c) => {
                let (dims, order) = self.like(c.id)?;
                let to = self.tensors.root(Kind::F32, &dims, &order);
                self.step(Op::Dequantize(c.table.clone()), &[c.id], &[to]);
                Ok(to)
            }
            Val::Sum(terms, floats, act) => self.sum(terms, *floats, *act, None),
            Val::Parts(axis, parts) => {
                let ids = parts.iter().map(|p| self.floats_of(p)).collect::<Result<Vec<_>>>()?;
                self.concat(*axis, &ids)
            }
            Val::Quantized { .. } | Val::Held(_) => Err(Error::internal("quantized or held values are not floats")),
        }
    }

    fn like(&self, id: Id) -> Result<(Vec<usize>, Vec<usize>)> {
        let order = self.tensors.order(id).ok_or_else(|| Error::internal("a tensor without a layout"))?;
        Ok((self.tensors[id].dims.clone(), order))
    }

    /// Joins tensors of one kind along an axis.
    fn concat(&mut self, axis: usize, ids: &[Id]) -> Result<Id> {
        let mut dims = self.tensors[ids[0]].dims.clone();
        dims[axis] = ids.iter().map(|&i| self.tensors[i].dims[axis]).sum();
        let leader = ids.iter().copied().max_by_key(|&i| self.tensors[i].dims.iter().product::<usize>()).unwrap_or(ids[0]);
        let order = self.like(leader)?.1;
        let to = self.tensors.root(self.tensors[ids[0]].kind, &dims, &order);
        self.step(Op::Concat(axis), ids, &[to]);
        Ok(to)
    }

    /// An image `[n, c, h, w]` with its channels last (or planes, where they are allowed and few).
    fn image(&mut self, id: Id, planes: bool) -> Result<Id> {
        let layout = self.tensors.layout(id).ok_or_else(|| Error::internal("a tensor without a layout"))?;
        let dims = self.tensors[id].dims.clone();
        if dims[1] == 1 || layout.strides[1] == 1 || planes && dims[1] <= 4 && layout.strides[3] == 1 {
            return Ok(id);
        }
        let to = self.tensors.root(self.tensors[id].kind, &dims, &[0, 2, 3, 1]);
        self.step(Op::Copy, &[id], &[to]);
        Ok(to)
    }

    /// A view with one spatial axis made two.
    fn as_4d(&mut self, id: Id) -> Result<Id> {
        match *self.tensors[id].dims.clone() {
            [_, _, _, _] => Ok(id),
            [n, c, w] => self.shaped(id, &[n, c, 1, w]),
            _ => Err(Error::unsupported("only one or two spatial axes are planned")),
        }
    }

    /// A reshaped view, of a copy where the layout allows none: row-major, unless an image can stay one with its channels last.
    fn shaped(&mut self, id: Id, dims: &[usize]) -> Result<Id> {
        if let Some(view) = self.tensors.reshaped(id, dims) {
            return Ok(view);
        }
        let (kind, from) = (self.tensors[id].kind, self.tensors[id].dims.clone());
        // An image whose channels are shuffled keeps them last.
        let last = self.tensors.order(id).is_some_and(|order| order.last() != Some(&(from.len() - 1)));
        if dims.len() == 4 && last {
            let image = self.tensors.root(kind, dims, &[0, 2, 3, 1]);
            if let Some(view) = self.tensors.reshaped(image, &from) {
                self.step(Op::Copy, &[id], &[view]);
                return Ok(image);
            }
        }
        let order: Vec<usize> = (0..from.len()).collect();
        let copy = self.tensors.root(kind, &from, &order);
        self.step(Op::Copy, &[id], &[copy]);
        self.tensors.reshaped(copy, dims).ok_or_else(|| Error::shape(format!("{from:?} does not reshape to {dims:?}")))
    }

    fn slice(&mut self, id: Id, axis: usize, start: usize, step: usize, len: usize) -> Id {
        let mut dims = self.tensors[id].dims.clone();
        dims[axis] = len;
        self.tensors.view(id, How::Slice { axis, start, step }, &dims)
    }
}
