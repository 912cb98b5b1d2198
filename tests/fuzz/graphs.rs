//! Graphs of all operators, made from bytes: inputs and attributes of the kinds that the specifications allow, mostly of shapes that fit, now and then odd.

use super::source::Source;
use bytes::Bytes;
use compresso::model::graph::{Facts, Infer, NEWEST_OPSET};
use compresso::model::ops::quantize::{DEQUANTIZE_LINEAR, QUANTIZE_LINEAR};
use compresso::model::ops::{self, OpDef, QuantRule, registry, schema};
use compresso::model::{Attr, Constant, Dim, Element, Fact, Graph, GraphBuilder, Node, Payload};
use std::cell::Cell;

/// What strings of attributes may be: words of specifications, and some that are none.
const WORDS: &[&str] = &[
    "",
    "NOTSET",
    "SAME_UPPER",
    "SAME_LOWER",
    "VALID",
    "nearest",
    "linear",
    "cubic",
    "bilinear",
    "bicubic",
    "constant",
    "reflect",
    "edge",
    "wrap",
    "zeros",
    "border",
    "reflection",
    "half_pixel",
    "pytorch_half_pixel",
    "half_pixel_symmetric",
    "asymmetric",
    "align_corners",
    "tf_crop_and_resize",
    "floor",
    "ceil",
    "round_prefer_floor",
    "round_prefer_ceil",
    "stretch",
    "not_larger",
    "not_smaller",
    "avg",
    "max",
    "min",
    "mul",
    "add",
    "none",
    "mean",
    "sum",
    "forward",
    "reverse",
    "bidirectional",
    "DCR",
    "CRD",
    "LEFT",
    "RIGHT",
    "tanh",
    "Tanh",
    "Sigmoid",
    "Relu",
    "Affine",
    "ij,jk->ik",
    "bij,bjk->bik",
    "ii->i",
    "...i,...j->...",
    "i->",
    "ij->ji",
    "->",
    "é",
];
/// Sizes of axes where little goes wrong, and where much does.
const SIZES: [usize; 8] = [1, 2, 3, 4, 5, 7, 8, 0];
const HUGE: [usize; 4] = [1 << 31, (1 << 31) - 1, 1 << 62, 1 << 20];
const INTS: [i64; 8] = [1, 0, 2, -1, 3, -2, 4, 8];
const ODD: [i64; 10] = [1 << 31, (1 << 31) - 1, 1 << 62, i64::MAX, i64::MIN, -(1 << 31), 1 << 20, -3, 255, 1 << 40];
const FLOATS: [f32; 10] = [1.0, 0.5, 0.0, -1.0, 2.0, 1e-5, f32::NAN, f32::INFINITY, 1e30, -4.5];
/// How often a node is drawn anew until its shape rule takes it.
const TRIES: usize = 6;

/// A graph under construction.
struct Maker<'a, 'b> {
    source: &'a mut Source<'b>,
    builder: GraphBuilder,
    facts: Facts,
    /// Values that nodes may read.
    values: Vec<String>,
    opset: i64,
    /// How deep inside other graphs this one is.
    depth: usize,
    quantized: bool,
    /// Counts names: those of inner graphs differ from those around them.
    names: &'a Cell<usize>,
}

/// A graph from bytes. `quantized`: of operators that are quantized, each between QuantizeLinear and DequantizeLinear, with weights behind
/// DequantizeLinear.
pub fn graph(source: &mut Source<'_>, quantized: bool) -> Graph {
    let opset = if source.chance(40) { 7 + source.below(NEWEST_OPSET as usize - 6) as i64 } else { NEWEST_OPSET - source.below(10) as i64 };
    let names = Cell::new(0);
    let mut maker = Maker {
        builder: GraphBuilder::new("g", opset),
        source,
        facts: Facts::new(),
        values: Vec::new(),
        opset,
        depth: 0,
        quantized,
        names: &names,
    };
    for i in 0..=maker.source.below(2) {
        // What is quantized are floats, mostly images.
        let usual = if quantized { 250 } else { 200 };
        let element = if maker.source.chance(usual) { Element::F32 } else { maker.element(None) };
        let image = quantized && maker.source.chance(180);
        let shape = if image { maker.image() } else { maker.shape(None) };
        let mut shape: Vec<Dim> = shape.into_iter().map(Dim::Known).collect();
        if maker.source.chance(24) && !shape.is_empty() {
            let at = maker.source.below(shape.len());
            shape[at] = if maker.source.chance(128) { Dim::symbol("n") } else { Dim::Unknown };
        }
        let fact = if maker.source.chance(6) { Fact::unranked(element) } else { Fact::new(element, shape) };
        let name = maker.builder.input(&format!("x{i}"), fact.clone());
        maker.facts.insert(name.clone(), fact);
        maker.values.push(name);
    }
    maker.nodes();
    maker.outputs(1)
}

impl Maker<'_, '_> {
    fn nodes(&mut self) {
        let kind = |op: &OpDef| !self.quantized || matches!(op.quant, QuantRule::Weighted | QuantRule::SameScale | QuantRule::Elementwise);
        let all: Vec<&'static OpDef> = registry::all().filter(|op| kind(op) && schema::of(op.domain, op.name).is_some()).collect();
        for _ in 0..=self.source.below(if self.depth == 0 { 5 } else { 2 }) {
            let op = self.source.pick(&all);
            self.node(op);
        }
    }

    /// Adds a node that its shape rule takes, now and then one that it does not, or none.
    fn node(&mut self, op: &'static OpDef) {
        for attempt in 0..TRIES {
            let fits = self.source.chance(250);
            let node = self.drawn(op, fits);
            let inferred = ops::find(&node).and_then(|def| def.facts(&Infer::new(&node, self.opset, &self.facts)));
            let kept = match &inferred {
                Ok(_) => true,
                Err(e) => {
                    super::judge::error(e);
                    attempt + 1 == TRIES && self.source.chance(48)
                }
            };
            if kept {
                let facts = inferred.unwrap_or_default();
                for (i, name) in node.outputs.iter().enumerate() {
                    if let Some(fact) = facts.get(i) {
                        self.facts.insert(name.clone(), fact.clone());
                    }
                    self.values.push(name.clone());
                }
                let first = node.outputs[0].clone();
                self.builder.node(node);
                if self.quantized && self.facts.get(&first).is_some_and(|f| f.element == Element::F32) {
                    self.round(&first);
                }
                return;
            }
        }
    }

    fn drawn(&mut self, op: &'static OpDef, fits: bool) -> Node {
        let schema = schema::of(op.domain, op.name).expect("chosen for it");
        let counts = schema.counts.iter().rfind(|c| c.0 <= self.opset).or_else(|| schema.counts.first());
        let (least, most) = counts.map_or((0, 1), |c| (c.1, c.2.min(c.1 + 3)));
        let count = if fits { least + self.source.below(most - least + 1) } else { self.source.below(6) };
        let mut inputs: Vec<String> = Vec::new();
        let mut letters: [Option<Element>; 26] = [None; 26];
        for i in 0..count {
            let Some(input) = schema.inputs.get(i).or_else(|| schema.inputs.last().filter(|last| last.rest)) else { break };
            if input.optional && self.source.chance(90) || !fits && self.source.chance(60) {
                inputs.push(String::new());
                continue;
            }
            let same = input.letter.and_then(|l| letters[usize::from(l - b'a')]);
            let allowed = |e: Element| !fits || same.map_or(input.types.is_none_or(|types| types.contains(&e)), |s| s == e);
            let usable: Vec<String> =
                self.values.iter().filter(|v| self.facts.get(*v).is_none_or(|f| allowed(f.element))).cloned().collect();
            let integers = input.types.is_some_and(|types| types.iter().all(|t| t.is_int()));
            // The first input is data; the others are weights and numbers that say how.
            let name = if !usable.is_empty()
                && self.source.chance(if i == 0 {
                    235
                } else if integers {
                    40
                } else {
                    70
                }) {
                // What was made last is read most.
                usable[usable.len() - 1 - self.source.below(usable.len().min(3))].clone()
            } else {
                let element = same.filter(|_| fits).unwrap_or_else(|| self.element(input.types));
                let weight = if self.quantized && fits && self.source.chance(230) { self.weight(op, &inputs) } else { None };
                self.constant(element, inputs.first().cloned(), weight)
            };
            if let (Some(letter), Some(fact)) = (input.letter, self.facts.get(&name)) {
                letters[usize::from(letter - b'a')].get_or_insert(fact.element);
            }
            inputs.push(name);
        }
        let rank = inputs.first().and_then(|n| self.facts.get(n)).and_then(Fact::rank).unwrap_or(4);
        let outputs: Vec<String> = (0..=self.source.below(3)).map(|_| self.name("v")).collect();
        let mut node = Node::new(op.name, self.name("n"), inputs, outputs);
        node.domain = op.domain.to_string();
        for attribute in &schema.attributes {
            if self.source.chance(if attribute.required { 250 } else { 70 }) {
                let kinds: Vec<char> = attribute.kinds.chars().collect();
                let kind = if fits { self.source.pick(&kinds) } else { self.source.pick(&['f', 'i', 's', 't', 'F', 'I', 'S']) };
                if let Some(value) = self.attribute(kind, rank) {
                    node.attrs.insert(attribute.name.to_string(), value);
                }
            }
        }
        node
    }

    fn attribute(&mut self, kind: char, rank: usize) -> Option<Attr> {
        Some(match kind {
            'i' => Attr::Int(self.int()),
            'f' => Attr::Float(self.source.pick(&FLOATS)),
            's' => Attr::text(self.source.pick(WORDS)),
            't' => {
                let element = self.element(None);
                Attr::Tensor(self.tensor(element, None)?)
            }
            'g' if self.depth < 2 => Attr::Graph(Box::new(self.inner())),
            'I' => {
                let window = rank.saturating_sub(2);
                let length = self.source.pick(&[window, 2 * window, rank, 1, 2 * rank, 0, 2]);
                let (first, same) = (self.int(), self.source.chance(150));
                Attr::Ints(
                    (0..length)
                        .map(|i| {
                            if same {
                                first
                            } else if self.source.chance(60) {
                                i as i64
                            } else {
                                self.int()
                            }
                        })
                        .collect(),
                )
            }
            'F' => Attr::Floats((0..self.source.below(5)).map(|_| self.source.pick(&FLOATS)).collect()),
            'S' => Attr::Strs((0..self.source.below(4)).map(|_| Bytes::from(self.source.pick(WORDS))).collect()),
            _ => return None,
        })
    }

    /// The body of a condition or loop: it may read what stands around it.
    fn inner(&mut self) -> Graph {
        let mut maker = Maker {
            builder: GraphBuilder::new("inner", self.opset),
            facts: self.facts.clone(),
            values: self.values.clone(),
            opset: self.opset,
            depth: self.depth + 1,
            quantized: self.quantized,
            names: self.names,
            source: &mut *self.source,
        };
        for i in 0..maker.source.below(4) {
            let element = match i {
                0 if maker.source.chance(128) => Element::I64,
                1 if maker.source.chance(128) => Element::Bool,
                _ => maker.element(None),
            };
            let fact = if maker.source.chance(128) { Fact::known(element, &[]) } else { Fact::unranked(element) };
            let name = maker.builder.input(&maker.name("in"), fact.clone());
            maker.facts.insert(name.clone(), fact);
            maker.values.push(name);
        }
        maker.nodes();
        let outputs = maker.source.below(3) + 1;
        maker.outputs(outputs)
    }

    /// The graph with the values made last as its outputs.
    fn outputs(mut self, least: usize) -> Graph {
        let count = least + self.source.below(2);
        let made: Vec<String> = self.values.iter().rev().take(count).cloned().collect();
        for name in made {
            self.builder.output(&name);
        }
        self.builder.finish_inner()
    }

    fn name(&self, stem: &str) -> String {
        self.names.set(self.names.get() + 1);
        format!("{stem}{}", self.names.get())
    }

    fn int(&mut self) -> i64 {
        if self.source.chance(20) { self.source.pick(&ODD) } else { self.source.pick(&INTS) }
    }

    fn element(&mut self, types: Option<&[Element]>) -> Element {
        const USUAL: [Element; 10] = [
            Element::F32,
            Element::I64,
            Element::U8,
            Element::I8,
            Element::F16,
            Element::I32,
            Element::Bool,
            Element::F64,
            Element::BF16,
            Element::U64,
        ];
        match types {
            // Most of the numbers of a model are float32.
            Some(types) if types.contains(&Element::F32) && !self.source.chance(60) => Element::F32,
            Some(types) if !types.is_empty() => self.source.pick(types),
            _ => self.source.pick(&USUAL),
        }
    }

    /// A shape like one that goes with data of shape `like`: its own, a channel, a weight.
    fn shape(&mut self, like: Option<&[usize]>) -> Vec<usize> {
        let size = |s: &mut Source<'_>| if s.chance(5) { s.pick(&HUGE) } else { s.pick(&SIZES) };
        let channels = like.and_then(|l| l.get(1).or(l.last())).copied().unwrap_or(2);
        match (self.source.below(8), like) {
            (0, Some(like)) => like.to_vec(),
            (1, _) => vec![channels],
            (2, Some(like)) if like.len() > 2 => {
                let kernel = self.source.pick(&[1, 3, 2]);
                let rest = std::iter::repeat_n(kernel, like.len() - 2);
                [self.source.pick(&[4, 2, 1, 8]), channels].into_iter().chain(rest).collect()
            }
            (3, Some(like)) => vec![like.last().copied().unwrap_or(1), size(self.source)],
            (4, _) => Vec::new(),
            (5, Some(_)) => vec![1],
            (6 | 7, None) => [self.source.pick(&[1, 2]), size(self.source), size(self.source), size(self.source)].to_vec(),
            _ => (0..self.source.below(6)).map(|_| size(self.source)).collect(),
        }
    }

    fn image(&mut self) -> Vec<usize> {
        [self.source.pick(&[1, 1, 2]), self.source.pick(&[1, 3, 4, 8, 5]), self.source.pick(&[1, 2, 5, 8]), self.source.pick(&[1, 3, 5, 7])]
            .to_vec()
    }

    /// The shape of a layer's next input behind those given: its weight, or its bias.
    fn weight(&mut self, op: &OpDef, inputs: &[String]) -> Option<Vec<usize>> {
        let sizes = |name: &String| -> Option<Vec<usize>> {
            Some(self.facts.get(name)?.shape.as_ref()?.iter().map(|d| d.known().unwrap_or(2)).collect())
        };
        let data = sizes(inputs.first()?)?;
        let weight = inputs.get(1).and_then(sizes).unwrap_or_default();
        let made = self.source.pick(&[4, 2, 1, 8]);
        match (op.name, inputs.len()) {
            ("Conv" | "ConvTranspose", 1) if data.len() > 2 => {
                let kernel = self.source.pick(&[1, 3, 2]);
                let channels = if op.name == "Conv" { [made, data[1]] } else { [data[1], made] };
                Some(channels.into_iter().chain(std::iter::repeat_n(kernel, data.len() - 2)).collect())
            }
            ("MatMul" | "Gemm", 1) => Some(vec![*data.last()?, made]),
            ("Conv", 2) => Some(vec![*weight.first()?]),
            ("ConvTranspose", 2) => Some(vec![*weight.get(1)?]),
            ("Gemm", 2) => Some(vec![*weight.last()?]),
            _ => None,
        }
    }

    fn tensor(&mut self, element: Element, like: Option<&[usize]>) -> Option<Constant> {
        // Integers are mostly sizes, axes and indices, a number per axis.
        let dims = match like {
            Some(like) if element.is_int() && self.source.chance(170) => {
                vec![self.source.pick(&[like.len(), 1, 2 * like.len(), like.len().saturating_sub(2)])]
            }
            _ => self.shape(like),
        };
        let count = compresso::memory::elements(dims.iter().copied()).filter(|&n| n <= 4096)?;
        tensor(element, dims, count, self.source)
    }

    /// A scale that is a power of two, and a zero point of the type of the integers.
    fn grid(&mut self, integers: Element) -> [String; 2] {
        let scale = Constant::scalar(self.source.pick(&[0.25, 0.125, 0.5, 1.0, 0.03125]));
        let zero = if integers == Element::U8 { self.source.pick(&[128, 0, 3, 255]) } else { self.source.pick(&[0, 0, 1, 200]) };
        let zero = Constant::new(integers, Vec::new(), Payload::Raw(vec![zero].into())).expect("one byte");
        [scale, zero].map(|c| self.keep(c))
    }

    /// Rounds a value to integers and makes floats of them again.
    fn round(&mut self, value: &str) {
        let integers = if self.source.chance(90) { Element::I8 } else { Element::U8 };
        let [scale, zero] = self.grid(integers);
        let rounded = self.name("q");
        self.builder.node(Node::new(QUANTIZE_LINEAR, self.name("n"), [value, &scale, &zero], [rounded.as_str()]));
        self.dequantize(&rounded, &scale, &zero, self.facts[value].clone());
    }

    fn dequantize(&mut self, integers: &str, scale: &str, zero: &str, fact: Fact) -> String {
        let float = self.name("f");
        self.builder.node(Node::new(DEQUANTIZE_LINEAR, self.name("n"), [integers, scale, zero], [float.as_str()]));
        self.facts.insert(float.clone(), Fact { contents: None, constant: None, element: Element::F32, ..fact });
        self.values.push(float.clone());
        float
    }

    fn keep(&mut self, value: Constant) -> String {
        let fact = Fact::of(&value);
        let name = self.builder.constant(&self.name("c"), value);
        self.facts.insert(name.clone(), fact);
        name
    }

    /// A constant of the shape `exact`, or else of one that goes with the data `like`.
    fn constant(&mut self, element: Element, like: Option<String>, exact: Option<Vec<usize>>) -> String {
        let like = like
            .and_then(|name| self.facts.get(&name))
            .and_then(|f| Some(f.shape.as_ref()?.iter().map(|d| d.known().unwrap_or(2)).collect::<Vec<usize>>()));
        let exact = exact.and_then(|dims| {
            let count = compresso::memory::elements(dims.iter().copied()).filter(|&n| n <= 4096)?;
            tensor(element, dims, count, self.source)
        });
        let value = exact.or_else(|| self.tensor(element, like.as_deref())).or_else(|| tensor(element, vec![1], 1, self.source));
        let value = value.unwrap_or_else(|| Constant::ints(&[1]));
        if self.quantized && element == Element::F32 && !value.dims().is_empty() && self.source.chance(200) {
            let integers = self.source.pick(&[Element::I8, Element::I8, Element::U8]);
            if let Some(weight) = tensor(integers, value.dims().to_vec(), value.count(), self.source) {
                let [scale, zero] = self.grid(integers);
                let (fact, weight) = (Fact::of(&weight), self.keep(weight));
                return self.dequantize(&weight, &scale, &zero, fact);
            }
        }
        self.keep(value)
    }
}

/// A tensor of any element type: small numbers, on a coarse grid, so that sums in any order are the same; now and then an odd one.
pub fn tensor(element: Element, dims: Vec<usize>, count: usize, source: &mut Source<'_>) -> Option<Constant> {
    if element == Element::Str {
        return Constant::new(element, dims, Payload::Strings((0..count).map(|_| Bytes::from(source.pick(WORDS))).collect())).ok();
    }
    let odd = source.chance(16);
    let (start, step) = (source.byte(), source.byte() | 1);
    let mut at = start;
    let mut next = || {
        at = at.wrapping_mul(5).wrapping_add(step);
        i64::from(at >> 4) - 6
    };
    let bytes = element.bytes(count)?;
    if element.is_float() {
        let odd_value = source.pick(&FLOATS);
        let values: Vec<f32> = (0..count).map(|i| if odd && i == 0 { odd_value } else { next() as f32 / 4.0 }).collect();
        let tensor = candle_core::Tensor::from_vec(values, dims, &candle_core::Device::Cpu).ok()?;
        return Constant::from_storage(element, &tensor.to_dtype(element.storage()?).ok()?).ok();
    }
    let width = element.bits() / 8;
    let raw: Vec<u8> = if width == 0 {
        (0..bytes).map(|_| next() as u8).collect()
    } else {
        let odd_value = source.pick(&ODD);
        let small = source.chance(200);
        let value = |i: usize, n: i64| {
            if odd && i == 0 {
                odd_value
            } else if small {
                n.rem_euclid(4)
            } else {
                n
            }
        };
        let one = element == Element::Bool;
        (0..count)
            .flat_map(|i| {
                let n = value(i, next());
                let n = if one { n & 1 } else { n };
                i128::from(n).to_le_bytes().into_iter().take(width).collect::<Vec<u8>>()
            })
            .collect()
    };
    Constant::new(element, dims, Payload::Raw(raw.into())).ok()
}
