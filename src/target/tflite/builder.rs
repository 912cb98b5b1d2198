//! What the file is built with: the values of the graph, each held by tensors in the orders of axes that were asked for.
//!
//! A value that is wanted in another order than it is held in gets a TRANSPOSE, once for all that want it so. Operators that only
//! move axes (Transpose, and Reshape where it can) relabel what is there, so that transposes meet and cancel.
//!
//! A quantized value is held in integers, and as real numbers too once an operator asks for these.

use super::codes;
use super::layout::{permuted, places, plain, same_elements};
use super::model::{Call, File, Grid, Kind, Operator, Tensor, Type};
use bytes::Bytes;
use compresso_base::error::{Error, Result};
use compresso_model::graph::Facts;
use compresso_model::{Constant, Element, Graph, Node};
use half::f16;
use std::collections::{HashMap, HashSet};

/// In which numbers a value is read or made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// As its type says.
    Real,
    /// As int8 with a scale.
    Rounded,
}

/// The tensors that hold a value, each in an order of axes.
#[derive(Debug, Clone, Default)]
struct Held {
    real: Vec<(Vec<usize>, usize)>,
    rounded: Vec<(Vec<usize>, usize)>,
}

impl Held {
    fn list(&mut self, form: Form) -> &mut Vec<(Vec<usize>, usize)> {
        match form {
            Form::Real => &mut self.real,
            Form::Rounded => &mut self.rounded,
        }
    }
}

pub(super) struct Builder<'a> {
    pub graph: &'a Graph,
    facts: &'a Facts,
    pub file: File,
    held: HashMap<String, Held>,
    readers: HashMap<&'a str, Vec<usize>>,
    makers: HashMap<&'a str, usize>,
    /// Constants that are computed from others while writing, such as dequantized weights.
    computed: HashMap<String, Constant>,
    /// Weights are stored in float16.
    half: bool,
    /// Nodes that others have done.
    pub done: HashSet<usize>,
    /// Constant tensors by their bytes' place and type, so that each is stored once.
    stored: HashMap<(Kind, Vec<usize>, Vec<u8>), usize>,
}

impl<'a> Builder<'a> {
    pub fn new(graph: &'a Graph, facts: &'a Facts, half: bool) -> Self {
        let file = File {
            name: graph.name().to_string(),
            tensors: Vec::new(),
            operators: Vec::new(),
            // The first buffer is the empty one by convention.
            buffers: vec![Bytes::new()],
            inputs: Vec::new(),
            outputs: Vec::new(),
            metadata: Vec::new(),
        };
        let (readers, makers) = (graph.consumers(), graph.producers());
        let (held, computed, done, stored) = (HashMap::new(), HashMap::new(), HashSet::new(), HashMap::new());
        Self { graph, facts, file, held, readers, makers, computed, half, done, stored }
    }

    /// The sizes of a value.
    ///
    /// # Errors
    /// `Unsupported` where some are open.
    pub fn dims(&self, name: &str) -> Result<Vec<usize>> {
        if let Some(c) = self.constant(name) {
            return Ok(c.dims().to_vec());
        }
        let fact = self.facts.get(name).ok_or_else(|| Error::internal(format!("nothing is known of '{name}'")))?;
        fact.dims().ok_or_else(|| {
            Error::unsupported(format!("TensorFlow Lite needs sizes that are known, and '{name}' is {fact}"))
                .hint("open the model with fixed sizes: image_size: [height, width], batch: 1")
        })
    }

    pub fn kind(&self, name: &str) -> Result<Kind> {
        let fact = self.facts.get(name).ok_or_else(|| Error::internal(format!("nothing is known of '{name}'")))?;
        kind_of(fact.element)
    }

    /// A constant of the graph, or one computed from such.
    pub fn constant(&self, name: &str) -> Option<&Constant> {
        self.computed.get(name).or_else(|| self.graph.constant(name)).or_else(|| self.facts.get(name)?.constant.as_ref())
    }
    pub fn set_constant(&mut self, name: &str, value: Constant) {
        self.computed.insert(name.into(), value);
    }

    /// The integers of an input that is a setting, such as axes; `None` where it is left out.
    pub fn ints(&self, node: &Node, input: usize) -> Result<Option<Vec<i64>>> {
        let Some(name) = node.input(input) else { return Ok(None) };
        if let Some(c) = self.constant(name) {
            return c.to_i64s().map(Some);
        }
        let known =
            self.facts.get(name).and_then(|f| f.contents.as_ref()).and_then(|c| c.iter().map(|d| d.known()).collect::<Option<Vec<_>>>());
        match known {
            Some(v) => Ok(Some(v.into_iter().map(|x| x as i64).collect())),
            None => {
                Err(Error::unsupported(format!("'{name}' must be known before the model runs")).hint("open the model with fixed sizes"))
            }
        }
    }

    /// The numbers of a constant input.
    pub fn floats(&self, name: &str) -> Result<Vec<f32>> {
        self.constant(name).ok_or_else(|| Error::unsupported(format!("'{name}' must be a constant")))?.to_f32s()
    }

    pub fn readers(&self, name: &str) -> &[usize] {
        self.readers.get(name).map_or(&[], Vec::as_slice)
    }
    /// The one node that reads a value which is no output of the graph.
    pub fn sole_reader(&self, name: &str) -> Option<(usize, &'a Node)> {
        match self.readers(name) {
            &[i] if !self.graph.is_output(name) => Some((i, &self.graph.nodes()[i])),
            _ => None,
        }
    }
    pub fn maker(&self, name: &str) -> Option<&'a Node> {
        self.makers.get(name).map(|&i| &self.graph.nodes()[i])
    }

    // Tensors.

    fn tensor(&mut self, name: String, made: Type, buffer: usize) -> usize {
        self.file.tensors.push(Tensor { name, made, buffer });
        self.file.tensors.len() - 1
    }
    pub fn of(&self, tensor: usize) -> &Type {
        &self.file.tensors[tensor].made
    }
    /// A tensor that is fed.
    pub fn input(&mut self, name: &str, made: Type, perm: Vec<usize>, form: Form) {
        let t = self.tensor(name.into(), made, 0);
        self.file.inputs.push(t);
        self.hold(name, perm, t, form);
    }
    /// Names the tensor that the graph gives away. A tensor has one name, so that what has one already is copied.
    pub fn output(&mut self, name: &str, tensor: usize) -> Result<()> {
        let taken = self.file.inputs.contains(&tensor) || self.file.outputs.contains(&tensor) || self.file.tensors[tensor].buffer != 0;
        let tensor = if taken {
            let shape = self.of(tensor).shape.clone();
            self.reshape(tensor, &shape)?
        } else {
            tensor
        };
        self.file.tensors[tensor].name = name.into();
        self.file.outputs.push(tensor);
        Ok(())
    }

    /// A constant tensor of these bytes.
    pub fn store(&mut self, name: &str, made: Type, data: Vec<u8>) -> usize {
        // Small ones are often the same: axes, shapes, numbers that are added.
        let key = (data.len() <= 64 && made.grid.is_none()).then(|| (made.kind, made.shape.clone(), data.clone()));
        if let Some(&t) = key.as_ref().and_then(|k| self.stored.get(k)) {
            return t;
        }
        self.file.buffers.push(Bytes::from(data));
        let t = self.tensor(name.into(), made, self.file.buffers.len() - 1);
        if let Some(key) = key {
            self.stored.insert(key, t);
        }
        t
    }
    pub fn ints_tensor(&mut self, values: &[usize]) -> Result<usize> {
        let values: Vec<i32> = values.iter().map(|&v| i32::try_from(v).map_err(|_| large(v))).collect::<Result<_>>()?;
        Ok(self.i32s(&[values.len()], &values))
    }
    pub fn i32s(&mut self, shape: &[usize], values: &[i32]) -> usize {
        let data = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.store("ints", Type::new(Kind::I32, shape), data)
    }
    pub fn f32s(&mut self, name: &str, shape: &[usize], values: &[f32]) -> usize {
        let data = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.store(name, Type::f32(shape), data)
    }
    pub fn number(&mut self, value: f32) -> usize {
        self.f32s("number", &[], &[value])
    }
    /// The weight of a layer: in float16 where weights are stored so, which the runtime widens once. Biases stay as they are: they are
    /// few, and what they lose is not averaged out.
    pub fn weight(&mut self, name: &str, shape: &[usize], values: &[f32]) -> Result<usize> {
        let fits = |v: &f32| v.is_nan() || f16::from_f32(*v).is_finite() || v.is_infinite();
        if !self.half || !values.iter().all(fits) {
            return Ok(self.f32s(name, shape, values));
        }
        let data = values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect();
        let t = self.store(name, Type::new(Kind::F16, shape), data);
        let call = Call { version: 3, ..codes::dequantize() };
        Ok(self.op(call, &[t], Type::f32(shape)))
    }

    // Operators.

    /// An operator with one result.
    pub fn op(&mut self, call: Call, inputs: &[usize], made: Type) -> usize {
        self.ops(call, inputs, vec![made])[0]
    }
    pub fn ops(&mut self, mut call: Call, inputs: &[usize], made: Vec<Type>) -> Vec<usize> {
        let outputs: Vec<usize> = made.into_iter().map(|m| self.tensor(String::new(), m, 0)).collect();
        if outputs.iter().chain(inputs.first()).any(|&t| self.of(t).kind == Kind::I8) {
            call.version = call.version.max(codes::int8_version(call.code));
        }
        for &t in &outputs {
            self.file.tensors[t].name = format!("t{t}");
        }
        self.file.operators.push(Operator { call, inputs: inputs.to_vec(), outputs: outputs.clone() });
        outputs
    }
    pub fn reshape(&mut self, tensor: usize, shape: &[usize]) -> Result<usize> {
        let made = self.of(tensor).shaped(shape);
        let to = self.ints_tensor(shape)?;
        Ok(self.op(codes::reshape(), &[tensor, to], made))
    }
    /// The tensor with its axes in another order.
    pub fn transpose(&mut self, tensor: usize, order: &[usize]) -> Result<usize> {
        let old = self.of(tensor).shape.clone();
        let shape = permuted(&old, order);
        if order == plain(old.len()) {
            return Ok(tensor);
        }
        if same_elements(&old, order, &plain(old.len())) {
            return self.reshape(tensor, &shape);
        }
        if order.len() > 6 {
            return Err(Error::unsupported(format!("a transpose of {} axes: TensorFlow Lite has up to 6", order.len())));
        }
        let made = self.of(tensor).shaped(&shape);
        let to = self.ints_tensor(order)?;
        Ok(self.op(codes::transpose(), &[tensor, to], made))
    }

    // Values.

    pub fn hold(&mut self, name: &str, perm: Vec<usize>, tensor: usize, form: Form) {
        self.held.entry(name.into()).or_default().list(form).push((perm, tensor));
    }
    /// The tensors that hold a value.
    pub fn views(&mut self, name: &str, form: Form) -> Vec<(Vec<usize>, usize)> {
        self.held.get_mut(name).map(|h| h.list(form).clone()).unwrap_or_default()
    }
    /// True when the value is there in integers.
    pub fn is_rounded(&self, name: &str) -> bool {
        self.held.get(name).is_some_and(|h| !h.rounded.is_empty())
    }
    /// The scale of a value that is there in integers.
    pub fn grid(&mut self, name: &str) -> Option<Grid> {
        let &(_, t) = self.held.get(name)?.rounded.first()?;
        self.of(t).grid.clone()
    }
    /// One value is another one, with other axes: `new_axes` gives for each axis of `from` the one it is in `to`.
    pub fn relabel(&mut self, from: &str, to: &str, new_axes: &[usize]) {
        for form in [Form::Real, Form::Rounded] {
            for (perm, t) in self.views(from, form) {
                self.hold(to, permuted(new_axes, &perm), t, form);
            }
        }
    }
    /// The order in which a value is held; its own for a constant.
    pub fn order(&self, name: &str) -> Result<Vec<usize>> {
        let held = self.held.get(name).and_then(|h| h.real.first().or(h.rounded.first()));
        match held {
            Some((perm, _)) => Ok(perm.clone()),
            None => Ok(plain(self.dims(name)?.len())),
        }
    }

    /// The tensor that holds a value in this order.
    pub fn read(&mut self, name: &str, perm: &[usize], form: Form) -> Result<usize> {
        let views = self.views(name, form);
        if let Some((_, t)) = views.iter().find(|(p, _)| p == perm) {
            return Ok(*t);
        }
        if views.is_empty() && form == Form::Real && self.is_rounded(name) {
            // All orders in which it is there in integers are looked at first.
            let at = self.order(name)?;
            let at = if self.views(name, Form::Rounded).iter().any(|(p, _)| p == perm) { perm.to_vec() } else { at };
            let t = self.read(name, &at, Form::Rounded)?;
            let made = Type { kind: Kind::F32, grid: None, ..self.of(t).clone() };
            let real = self.op(codes::dequantize(), &[t], made);
            self.hold(name, at, real, Form::Real);
            return self.read(name, perm, form);
        }
        if let Some(c) = self.constant(name).cloned() {
            let t = self.constant_tensor(name, &c, perm)?;
            self.hold(name, perm.to_vec(), t, form);
            return Ok(t);
        }
        let dims = self.dims(name)?;
        // One whose elements lie in the same order costs least.
        let view = views.iter().find(|(p, _)| same_elements(&dims, p, perm)).or(views.first());
        let (from, t) = view.cloned().ok_or_else(|| Error::internal(format!("'{name}' is read before it is made")))?;
        let place = places(&from);
        let t = self.transpose(t, &permuted(&place, perm))?;
        self.hold(name, perm.to_vec(), t, form);
        Ok(t)
    }

    /// A tensor of a constant with its axes in this order.
    fn constant_tensor(&mut self, name: &str, c: &Constant, perm: &[usize]) -> Result<usize> {
        let kind = kind_of(c.element())?;
        let shape = permuted(c.dims(), perm);
        let data: Vec<u8> = match kind {
            Kind::F32 => permute(&c.to_f32s()?, c.dims(), perm).iter().flat_map(|v| v.to_le_bytes()).collect(),
            Kind::I32 => {
                let narrow = |v: &i64| i32::try_from(*v).unwrap_or(if *v < 0 { i32::MIN } else { i32::MAX }).to_le_bytes();
                permute(&c.to_i64s()?, c.dims(), perm).iter().flat_map(narrow).collect()
            }
            Kind::U8 | Kind::Bool | Kind::I8 | Kind::F16 => permute(&c.to_i64s()?, c.dims(), perm).iter().map(|&v| v as u8).collect(),
        };
        Ok(self.store(name, Type::new(kind, &shape), data))
    }

    /// The tensor of a value with axes of size one put before its own until it has `perm.len()` axes, in this order.
    pub fn read_ranked(&mut self, name: &str, perm: &[usize], form: Form) -> Result<usize> {
        let dims = self.dims(name)?;
        let (rank, own) = (perm.len(), dims.len());
        if own == rank {
            return self.read(name, perm, form);
        }
        let lead = rank - own;
        // The order of its own axes that is wanted.
        let wanted: Vec<usize> = perm.iter().filter(|&&a| a >= lead).map(|a| a - lead).collect();
        let t = self.read(name, &wanted, form)?;
        // A number needs no axes, and neither do ones that stand before all others.
        let ones = perm.iter().take_while(|&&a| a < lead).count();
        if own == 0 || ones == lead {
            return Ok(t);
        }
        let shape: Vec<usize> = perm.iter().map(|&a| if a < lead { 1 } else { dims[a - lead] }).collect();
        self.reshape(t, &shape)
    }
}

fn large(v: usize) -> Error {
    Error::unsupported(format!("{v} is too large for TensorFlow Lite, whose sizes have 31 bits"))
}

/// The type that holds elements. Integers have 32 bits: operators of the runtime take no others throughout.
pub(super) fn kind_of(element: Element) -> Result<Kind> {
    match element {
        Element::F32 | Element::F16 | Element::BF16 | Element::F64 => Ok(Kind::F32),
        Element::I64 | Element::I32 => Ok(Kind::I32),
        Element::Bool => Ok(Kind::Bool),
        Element::U8 => Ok(Kind::U8),
        Element::I8 => Ok(Kind::I8),
        other => Err(Error::unsupported(format!("TensorFlow Lite's kernels take no {other} tensors"))),
    }
}

/// Elements in the order of a tensor whose axis i is the axis `perm[i]`.
pub(super) fn permute<T: Copy>(values: &[T], dims: &[usize], perm: &[usize]) -> Vec<T> {
    if perm.iter().enumerate().all(|(i, &a)| i == a) {
        return values.to_vec();
    }
    let mut strides = vec![1; dims.len()];
    for i in (1..dims.len()).rev() {
        strides[i - 1] = strides[i] * dims[i];
    }
    let (shape, steps) = (permuted(dims, perm), permuted(&strides, perm));
    let mut at = vec![0; shape.len()];
    let mut from = 0;
    let mut out = Vec::with_capacity(values.len());
    for _ in 0..values.len() {
        out.push(values[from]);
        for axis in (0..shape.len()).rev() {
            at[axis] += 1;
            from += steps[axis];
            if at[axis] < shape[axis] {
                break;
            }
            from -= steps[axis] * shape[axis];
            at[axis] = 0;
        }
    }
    out
}
