//! Reads the members of sequences where they are made, as tensors: SequenceAt becomes its member, ConcatFromSequence a
//! [Concat](https://onnx.ai/onnx/operators/onnx__Concat.html), SplitToSequence a [Split](https://onnx.ai/onnx/operators/onnx__Split.html).

use super::{Pass, PassContext, Rewrite};
use crate::constant::Constant;
use crate::element::Element;
use crate::graph::{Node, normalize_axis};
use crate::ops::concat::CONCAT;
use crate::ops::sequence::{
    CONCAT_FROM_SEQUENCE, SEQUENCE_AT, SEQUENCE_CONSTRUCT, SEQUENCE_EMPTY, SEQUENCE_ERASE, SEQUENCE_INSERT, SEQUENCE_LENGTH,
    SPLIT_TO_SEQUENCE, parts, position,
};
use crate::ops::shape::{SQUEEZE, UNSQUEEZE};
use crate::ops::slice::SPLIT;
use crate::ops::transpose::IDENTITY;
use candle_core::{Device, Tensor};
use compresso_base::error::Result;
use std::collections::HashMap;

/// Replaces what reads a sequence of known members by what reads these.
#[derive(Debug, Clone, Copy)]
pub struct ResolveSequences;

/// What a sequence holds.
#[derive(Debug, Clone)]
enum Members {
    Values(Vec<String>),
    /// Parts of the input of a SplitToSequence: sizes, axis, whether the axis goes.
    Parts {
        node: usize,
        sizes: Vec<usize>,
        axis: i64,
        squeezed: bool,
    },
}

impl Members {
    fn len(&self) -> usize {
        match self {
            Self::Values(v) => v.len(),
            Self::Parts { sizes, .. } => sizes.len(),
        }
    }
}

impl Pass for ResolveSequences {
    fn name(&self) -> &'static str {
        "resolve_sequences"
    }
    fn summary(&self) -> &'static str {
        "Reads members of sequences where they are made"
    }
    fn rewrite<'g>(&self, cx: &PassContext<'g>) -> Result<Rewrite<'g>> {
        let nodes = cx.graph().nodes();
        if !nodes.iter().any(|n| n.is(SEQUENCE_AT) || n.is(CONCAT_FROM_SEQUENCE) || n.is(SEQUENCE_LENGTH)) {
            return Ok(cx.rewrite());
        }
        let mut sweep = Sweep { cx, out: cx.rewrite(), known: HashMap::new(), made: HashMap::new(), read: HashMap::new() };
        for (i, node) in nodes.iter().enumerate() {
            if let Some(members) = sweep.members(i, node)? {
                sweep.known.insert(node.outputs[0].clone(), members);
            } else {
                sweep.read(i, node)?;
            }
        }
        Ok(sweep.out)
    }
}

struct Sweep<'a, 'g> {
    cx: &'a PassContext<'g>,
    out: Rewrite<'g>,
    known: HashMap<String, Members>,
    /// The outputs of the Split that stands for a SplitToSequence, by that node's number.
    made: HashMap<usize, Vec<String>>,
    /// What a SequenceAt that is replaced gave: the member by its own name.
    read: HashMap<String, String>,
}

impl Sweep<'_, '_> {
    /// The name of a value once this sweep's edits are made.
    fn named(&self, value: &str) -> String {
        self.read.get(value).map_or(value, String::as_str).to_string()
    }
    fn ints(&self, node: &Node, input: usize) -> Result<Option<Vec<i64>>> {
        let Some(name) = node.input(input) else { return Ok(None) };
        self.cx.facts()?.get(name).and_then(|f| f.constant.as_ref()).map(Constant::to_i64s).transpose()
    }
    /// The position that an input names: `None` where it is not known; left out, it is `otherwise`.
    fn place(&self, node: &Node, input: usize, n: usize, otherwise: usize) -> Result<Option<usize>> {
        if node.input(input).is_none() {
            return Ok(Some(otherwise));
        }
        let given = self.ints(node, input)?;
        // A position out of range is an error when the graph runs.
        Ok(given.and_then(|p| p.first().and_then(|&p| if usize::try_from(p) == Ok(n) { Some(n) } else { position(p, n).ok() })))
    }

    /// What a node that makes a sequence puts into it, where that is known.
    fn members(&self, i: usize, node: &Node) -> Result<Option<Members>> {
        let before = |s: &Self| node.input(0).and_then(|n| s.known.get(n)).cloned();
        if node.is(SEQUENCE_EMPTY) {
            return Ok(Some(Members::Values(Vec::new())));
        }
        if node.is(SEQUENCE_CONSTRUCT) {
            return Ok(Some(Members::Values(node.inputs.iter().map(|i| self.named(i)).collect())));
        }
        if node.is(IDENTITY) {
            return Ok(before(self));
        }
        if node.is(SPLIT_TO_SEQUENCE) {
            let facts = self.cx.facts()?;
            let axis = node.get_int("axis", 0)?;
            let Some(shape) = node.input(0).and_then(|x| facts.get(x)).and_then(|f| f.shape.as_ref()) else { return Ok(None) };
            let Some(n) = shape.get(normalize_axis(axis, shape.len())?).and_then(crate::Dim::known) else { return Ok(None) };
            let split = self.ints(node, 1)?;
            if node.input(1).is_some() && split.is_none() {
                return Ok(None);
            }
            let scalar = node.input(1).and_then(|s| facts.get(s)).is_some_and(|f| f.rank() == Some(0));
            let (sizes, squeezed) = parts(node, split.as_deref().map(|s| (s, scalar)), n)?;
            return Ok(Some(Members::Parts { node: i, sizes, axis, squeezed }));
        }
        if !node.is(SEQUENCE_INSERT) && !node.is(SEQUENCE_ERASE) {
            return Ok(None);
        }
        let Some(old) = before(self) else { return Ok(None) };
        let n = old.len();
        let insert = node.is(SEQUENCE_INSERT);
        let place = self.place(node, if insert { 2 } else { 1 }, n, if insert { n } else { n.saturating_sub(1) })?;
        let Some(place) = place.filter(|&p| insert || p < n) else { return Ok(None) };
        // Members of a part of a split are named only when something reads them.
        let Members::Values(mut values) = old else { return Ok(None) };
        if insert {
            values.insert(place, self.named(&node.inputs[1]));
        } else {
            values.remove(place);
        }
        Ok(Some(Members::Values(values)))
    }

    /// The names of members; a Split is added for parts.
    fn names(&mut self, members: &Members) -> Vec<String> {
        let Members::Parts { node, sizes, axis, squeezed } = members else {
            return if let Members::Values(v) = members { v.clone() } else { Vec::new() };
        };
        if let Some(made) = self.made.get(node) {
            return made.clone();
        }
        let source = &self.cx.graph().nodes()[*node];
        let sizes: Vec<i64> = sizes.iter().map(|&n| n as i64).collect();
        let names: Vec<String> = sizes.iter().map(|_| self.out.patch.fresh(&format!("{}_part", source.outputs[0]))).collect();
        let name = self.out.patch.fresh(&format!("{}_split", source.name));
        let split = Node::new(SPLIT, name, [self.named(&source.inputs[0])], names.clone());
        let split = split.int("axis", *axis);
        let split = self.with_ints(split, "split", &sizes);
        self.out.patch.add(split);
        let names = if *squeezed { names.iter().map(|n| self.reshaped(SQUEEZE, n, *axis)).collect() } else { names };
        self.made.insert(*node, names.clone());
        names
    }
    /// A list that is an attribute before operator set 13 and the second input since.
    fn with_ints(&mut self, mut node: Node, name: &str, values: &[i64]) -> Node {
        if self.cx.graph().opset() < 13 {
            return node.ints(name, values);
        }
        let list = self.out.patch.fresh(name);
        self.out.patch.set_constant(&list, Constant::ints(values));
        node.inputs.push(list);
        node
    }
    /// A value with an axis more or less.
    fn reshaped(&mut self, op: &str, value: &str, axis: i64) -> String {
        let out = self.out.patch.fresh(&format!("{value}_{}", op.to_lowercase()));
        let node = self.with_ints(Node::new(op, out.clone(), [value], [out.clone()]), "axes", &[axis]);
        self.out.patch.add(node);
        out
    }

    /// Replaces a node that reads a known sequence.
    fn read(&mut self, i: usize, node: &Node) -> Result<()> {
        let Some(members) = node.input(0).and_then(|n| self.known.get(n)).cloned() else { return Ok(()) };
        let n = members.len();
        if node.is(SEQUENCE_LENGTH) {
            if self.cx.stays(&node.outputs[0]) {
                self.out.refused.push(format!("{} stays: '{}' is an output", node.label(), node.outputs[0]));
                return Ok(());
            }
            self.out.patch.remove(i);
            self.out.patch.set_constant(&node.outputs[0], Constant::from_storage(Element::I64, &Tensor::new(n as i64, &Device::Cpu)?)?);
            self.out.done.push(format!("{} is {n}", node.label()));
        } else if node.is(SEQUENCE_AT) {
            let Some(place) = self.place(node, 1, n, n)?.filter(|&p| p < n) else { return Ok(()) };
            let member = self.names(&members)[place].clone();
            self.out.patch.remove(i);
            self.out.patch.redirect(&node.outputs[0], &member);
            self.read.insert(node.outputs[0].clone(), member.clone());
            self.out.done.push(format!("{} is '{member}'", node.label()));
        } else if node.is(CONCAT_FROM_SEQUENCE) && n > 0 {
            let Some(axis) = node.find_int("axis")? else { return Ok(()) };
            let mut names = self.names(&members);
            if node.get_int("new_axis", 0)? != 0 {
                names = names.iter().map(|n| self.reshaped(UNSQUEEZE, n, axis)).collect();
            }
            self.out.patch.remove(i);
            self.out.patch.add(Node::new(CONCAT, node.name.clone(), names, [node.outputs[0].clone()]).int("axis", axis));
            self.out.done.push(format!("{} joins {n} tensors", node.label()));
        }
        Ok(())
    }
}
