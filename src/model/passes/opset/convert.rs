//! One node in a newer ONNX operator set, from ONNX's [changelog](https://github.com/onnx/onnx/blob/main/docs/Changelog.md).
//!
//! From one set to the next most operators only gain types, and attributes whose defaults say what held before. These change:
//!
//! | set | operators | what becomes of them |
//! |---|---|---|
//! | 9 | BatchNormalization (`spatial`) | dropped; statistics of each pixel are refused |
//! | 10 | Slice, TopK | attributes become inputs |
//! | 10 | Dropout's mask | refused where it is read: it was no bool |
//! | 11 | Clip, Pad | attributes become inputs of the data's type |
//! | 11 | Upsample, Resize | Resize from the corner, rounding down |
//! | 11 | Scatter | ScatterElements |
//! | 12 | Dropout (`ratio`) | dropped: inference does not read it |
//! | 13 | Softmax, LogSoftmax, Hardmax | one axis; over several axes together a Flatten comes before and a Reshape after |
//! | 13 | Squeeze, Unsqueeze, ReduceSum, Split | attributes become inputs |
//! | 14 | BatchNormalization's statistics | refused where they are read |
//! | 16 | RoiAlign | says that positions count from pixel edges |
//! | 18 | all other reductions | axes become an input |
//! | 18 | Split into equal parts | says how many |
//! | 20 | GridSample | names of its modes |
//! | 20 | DFT | refused: its axis becomes an input and its default moves |
//! | 21 | GroupNormalization | refused: its scale was one for each group |
//!
//! If, Loop and Scan are raised with their inner graphs.

use crate::constant::Constant;
use crate::element::Element;
use crate::graph::{Attr, Dim, Node, normalize_axis};
use crate::ops::activation::{CLIP, DROPOUT};
use crate::ops::concat::PAD;
use crate::ops::grid_sample::GRID_SAMPLE;
use crate::ops::norm::{BATCH_NORMALIZATION, GROUP_NORMALIZATION};
use crate::ops::order::TOP_K;
use crate::ops::reduce::{self, REDUCE_SUM};
use crate::ops::region::ROI_ALIGN;
use crate::ops::resize::{RESIZE, UPSAMPLE};
use crate::ops::scatter::{SCATTER, SCATTER_ELEMENTS};
use crate::ops::shape::{FLATTEN, RESHAPE, SHAPE, SQUEEZE, UNSQUEEZE};
use crate::ops::slice::{SLICE, SPLIT};
use crate::ops::softmax::{HARDMAX, LOG_SOFTMAX, SOFTMAX};
use crate::ops::spectrum::DFT;
use candle_core::Device;
use compresso_base::error::{At, Error, Result};

/// From which operator set to which nodes are raised, and what is known of the values they read.
#[derive(Clone, Copy)]
pub(crate) struct Raise<'a> {
    pub from: i64,
    pub to: i64,
    /// Type and shape of a value.
    pub about: &'a dyn Fn(&str) -> Option<(Element, Option<Vec<Dim>>)>,
    pub constant: &'a dyn Fn(&str) -> Option<Constant>,
    pub is_read: &'a dyn Fn(&str) -> bool,
}

/// A node in the newer set.
#[derive(Debug)]
pub(crate) struct Raised {
    /// The node that makes what the old one made.
    pub node: Node,
    /// Nodes that it reads, in running order.
    pub before: Vec<Node>,
    pub constants: Vec<(String, Constant)>,
}

impl Raised {
    /// Sets input `at` to a new constant.
    fn add_input(&mut self, at: usize, value: Constant, fresh: &mut dyn FnMut(&str) -> String) {
        let stem = self.node.outputs.first().map_or("value", String::as_str);
        let name = fresh(&format!("{stem}_input_{at}"));
        if self.node.inputs.len() <= at {
            self.node.inputs.resize(at + 1, String::new());
        }
        self.node.inputs[at].clone_from(&name);
        self.constants.push((name, value));
    }
    /// Turns an attribute of integers into input `at`.
    fn ints_to_input(&mut self, name: &str, at: usize, fresh: &mut dyn FnMut(&str) -> String) -> Result<()> {
        if let Some(values) = self.node.find_ints(name)?.map(Constant::ints) {
            self.add_input(at, values, fresh);
            self.node.attrs.shift_remove(name);
        }
        Ok(())
    }
}

impl Raise<'_> {
    /// The node in the newer set; `None` where it says the same there. `fresh` makes names that nothing has.
    ///
    /// # Errors
    /// `Unsupported` for a meaning that the newer set cannot say; `Format` for wrong attributes.
    pub(crate) fn node(&self, node: &Node, fresh: &mut dyn FnMut(&str) -> String) -> Result<Option<Raised>> {
        let mut out = Raised { node: node.clone(), before: Vec::new(), constants: Vec::new() };
        for g in out.node.inner_mut() {
            *g = g.raised(self, fresh)?;
        }
        // What is changed here reads something. A node that does not is left for the check of the graph, which says what it lacks.
        if matches!(node.domain.as_str(), "" | "ai.onnx") && node.input(0).is_some() {
            self.convert(&mut out, fresh)?;
        }
        Ok((out.node != *node || !out.before.is_empty()).then_some(out))
    }

    /// Nodes in the newer set, and constants that they read there.
    ///
    /// # Errors
    /// As [`Raise::node`], naming the node.
    pub(crate) fn nodes(&self, nodes: &[Node], fresh: &mut dyn FnMut(&str) -> String) -> Result<(Vec<Node>, Vec<(String, Constant)>)> {
        let (mut out, mut constants) = (Vec::with_capacity(nodes.len()), Vec::new());
        for node in nodes {
            match self.node(node, fresh).at(|| node.label())? {
                None => out.push(node.clone()),
                Some(made) => {
                    constants.extend(made.constants);
                    out.extend(made.before);
                    out.push(made.node);
                }
            }
        }
        Ok((out, constants))
    }

    fn crosses(&self, version: i64) -> bool {
        self.from < version && version <= self.to
    }

    fn convert(&self, out: &mut Raised, fresh: &mut dyn FnMut(&str) -> String) -> Result<()> {
        let op = out.node.op.clone();
        let reads = |i: usize| out.node.output(i).is_some_and(self.is_read);
        match op.as_str() {
            SQUEEZE | UNSQUEEZE | REDUCE_SUM if self.crosses(13) => out.ints_to_input("axes", 1, fresh),
            SPLIT if self.crosses(13) || self.crosses(18) => {
                out.ints_to_input("split", 1, fresh)?;
                let parts = i64::try_from(out.node.outputs.len()).unwrap_or(1);
                if self.crosses(18) && out.node.input(1).is_none() {
                    out.node.attrs.insert("num_outputs".into(), Attr::Int(parts));
                }
                Ok(())
            }
            SLICE if self.crosses(10) => {
                out.ints_to_input("starts", 1, fresh)?;
                out.ints_to_input("ends", 2, fresh)?;
                out.ints_to_input("axes", 3, fresh)
            }
            TOP_K if self.crosses(10) => {
                let k = out.node.get_int("k", 1)?;
                out.add_input(1, Constant::ints(&[k]), fresh);
                out.node.attrs.shift_remove("k");
                Ok(())
            }
            CLIP if self.crosses(11) => {
                for (at, name) in [(1, "min"), (2, "max")] {
                    if out.node.attrs.contains_key(name) {
                        let bound = self.number(&out.node, name)?;
                        out.add_input(at, bound, fresh);
                        out.node.attrs.shift_remove(name);
                    }
                }
                Ok(())
            }
            PAD if self.crosses(11) => {
                out.ints_to_input("pads", 1, fresh)?;
                if out.node.get_float("value", 0.0)? != 0.0 {
                    let value = self.number(&out.node, "value")?;
                    out.add_input(2, value, fresh);
                }
                out.node.attrs.shift_remove("value");
                Ok(())
            }
            DROPOUT if self.crosses(10) && reads(1) => Err(Error::unsupported("its mask has another type in newer operator sets")),
            DROPOUT if self.crosses(12) => {
                out.node.attrs.shift_remove("ratio");
                Ok(())
            }
            UPSAMPLE | RESIZE if self.crosses(11) => self.resize(out, fresh),
            BATCH_NORMALIZATION if self.crosses(14) && (1..5).any(reads) => {
                Err(Error::unsupported("its statistics have another meaning in newer operator sets"))
            }
            BATCH_NORMALIZATION if self.crosses(9) => {
                let each_pixel = out.node.get_int("spatial", 1)? != 1
                    && out.node.input(1).and_then(|n| (self.constant)(n)).is_none_or(|c| c.dims().len() != 1);
                if each_pixel {
                    return Err(Error::unsupported("statistics of each pixel (spatial = 0) have no counterpart in newer operator sets"));
                }
                out.node.attrs.shift_remove("spatial");
                Ok(())
            }
            SOFTMAX | LOG_SOFTMAX | HARDMAX if self.crosses(13) => self.softmax(out, fresh),
            SCATTER if self.crosses(11) => {
                out.node.op = SCATTER_ELEMENTS.into();
                Ok(())
            }
            GRID_SAMPLE if self.crosses(20) => {
                for (old, new) in [("bilinear", "linear"), ("bicubic", "cubic")] {
                    if out.node.get_str("mode", "bilinear")? == old {
                        out.node.attrs.insert("mode".into(), Attr::text(new));
                    }
                }
                Ok(())
            }
            ROI_ALIGN if self.crosses(16) => {
                out.node.attrs.insert("coordinate_transformation_mode".into(), Attr::text("output_half_pixel"));
                Ok(())
            }
            DFT if self.crosses(20) => Err(Error::unsupported("its axis is an input since operator set 20")),
            GROUP_NORMALIZATION if self.crosses(21) => {
                Err(Error::unsupported("its scale is one for each group, which operator set 21 cannot say"))
            }
            op if self.crosses(18) && op != REDUCE_SUM && reduce::OPS.iter().any(|o| o.name == op) => out.ints_to_input("axes", 1, fresh),
            _ => Ok(()),
        }
    }

    /// A float attribute as a constant of the type of the node's data.
    fn number(&self, node: &Node, name: &str) -> Result<Constant> {
        let number = Constant::scalar(node.get_float(name, 0.0)?);
        let known = node.input(0).and_then(|x| (self.about)(x));
        let unknown = || Error::unsupported(format!("raising its operator set needs the type of '{}'", node.input(0).unwrap_or_default()));
        match known.ok_or_else(unknown)?.0 {
            Element::F32 => Ok(number),
            element => {
                let storage = element.storage().ok_or_else(|| Error::unsupported(format!("{element} data")))?;
                Constant::from_storage(element, &number.tensor(&Device::Cpu)?.to_dtype(storage)?)
            }
        }
    }

    /// Before set 13, these ran over all axes from `axis` (default 1) on; since then over `axis` (default -1) alone.
    fn softmax(&self, out: &mut Raised, fresh: &mut dyn FnMut(&str) -> String) -> Result<()> {
        let axis = out.node.get_int("axis", 1)?;
        let x = out.node.input(0).ok_or_else(|| Error::format("input 0 is missing"))?.to_string();
        let shape = (self.about)(&x).and_then(|(_, shape)| shape);
        let alone = match &shape {
            Some(shape) => {
                let axis = normalize_axis(axis, shape.len())?;
                shape.iter().skip(axis + 1).all(|d| d.known() == Some(1))
            }
            None => axis == -1,
        };
        if alone {
            out.node.attrs.insert("axis".into(), Attr::Int(axis));
            return Ok(());
        }
        let Some(y) = out.node.output(0).map(str::to_string) else { return Ok(()) };
        let (flat, soft) = (fresh(&format!("{y}_flat")), fresh(&format!("{y}_matrix")));
        let name = |fresh: &mut dyn FnMut(&str) -> String, op: &str| fresh(&format!("{y}_{op}"));
        out.before.push(Node::new(FLATTEN, name(fresh, FLATTEN), [&x], [&flat]).int("axis", axis));
        let mut softmax = out.node.clone();
        softmax.inputs[0].clone_from(&flat);
        softmax.outputs[0].clone_from(&soft);
        softmax.attrs.insert("axis".into(), Attr::Int(1));
        out.before.push(softmax);
        let sizes = fresh(&format!("{y}_sizes"));
        let known =
            shape.as_ref().and_then(|s| s.iter().map(|d| d.known().and_then(|n| i64::try_from(n).ok())).collect::<Option<Vec<_>>>());
        match known {
            Some(known) => out.constants.push((sizes.clone(), Constant::ints(&known))),
            None => out.before.push(Node::new(SHAPE, name(fresh, SHAPE), [&x], [&sizes])),
        }
        out.node = Node::new(RESHAPE, name(fresh, RESHAPE), [soft, sizes], [y]);
        Ok(())
    }

    /// Upsample (7, 9) and Resize (10) scale from the corner and round down.
    fn resize(&self, out: &mut Raised, fresh: &mut dyn FnMut(&str) -> String) -> Result<()> {
        let mode = out.node.get_str("mode", "nearest")?.to_string();
        if let Some(scales) = out.node.find_floats("scales")? {
            let scales = Constant::floats(&[scales.len()], scales)?;
            out.add_input(1, scales, fresh);
        }
        out.node.op = RESIZE.into();
        out.node.attrs.shift_remove("scales");
        out.node.inputs.insert(1, String::new());
        // Nothing reads the region, which may be left out since set 13.
        if self.to < 13 {
            out.add_input(1, Constant::floats(&[0], &[])?, fresh);
        }
        out.node.attrs.insert("mode".into(), Attr::text(mode));
        out.node.attrs.insert("coordinate_transformation_mode".into(), Attr::text("asymmetric"));
        out.node.attrs.insert("nearest_mode".into(), Attr::text("floor"));
        Ok(())
    }
}
