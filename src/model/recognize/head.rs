//! The raw head of an exported YOLOv8-family detector: the convolutions whose outputs the decoding part reads.
//!
//! Class logits are what a sigmoid comes after; the other convolutions before the output give boxes, as distributions that a softmax
//! comes after or as plain distances.

use crate::graph::infer_at;
use crate::ops;
use crate::ops::activation::SIGMOID;
use crate::ops::arithmetic::{ADD, DIV, MOD, MUL, SUB};
use crate::ops::cast::CAST;
use crate::ops::concat::CONCAT;
use crate::ops::conv::CONV;
use crate::ops::order::TOP_K;
use crate::ops::reduce::REDUCE_MAX;
use crate::ops::shape::SHAPE;
use crate::ops::softmax::SOFTMAX;
use crate::{DetectHead, Graph, Node};
use std::collections::{HashMap, HashSet};

/// Values of a decoding part, beyond which the search for its beginning is given up.
const MOST_VALUES: usize = 512;

/// The raw head behind an output `[batch, 4 + classes, anchors]`, or `None` when the graph does not end the way
/// Ultralytics exports do: concat(boxes, sigmoid of class logits).
pub fn find(graph: &Graph, output: &str, classes: usize, image: [usize; 2]) -> Option<DetectHead> {
    before_suppression(graph, output, classes, image).or_else(|| of_rows(graph, output, classes, image))
}

/// As [`find`], with boxes from a softmax over distributions. The only form that tells apart convolutions which give both.
fn before_suppression(graph: &Graph, output: &str, classes: usize, image: [usize; 2]) -> Option<DetectHead> {
    let walk = Walk { graph, makers: graph.producers() };
    let concat = walk.maker(output).filter(|n| n.is(CONCAT) && n.inputs.len() == 2)?;
    let sigmoid = walk.maker(concat.input(1)?).filter(|n| n.is(SIGMOID))?;
    let softmax = walk.nearest(concat.input(0)?, SOFTMAX)?;
    let logits = walk.convolutions(sigmoid.input(0)?)?;
    let distributions = walk.convolutions(softmax.input(0)?)?;
    // Older exports concatenate boxes and logits per level, so that both walks find both, boxes first.
    let (boxes, scores) = if logits == distributions {
        let pairs = logits.chunks_exact(2);
        if !pairs.remainder().is_empty() {
            return None;
        }
        pairs.map(|p| (p[0], p[1])).unzip()
    } else {
        (distributions, logits)
    };
    let width = walk.channels(boxes.first()?)?;
    if width <= 4 {
        return None;
    }
    let heights = heights(graph, &boxes, image)?;
    let levels = boxes.into_iter().zip(scores).zip(heights).map(|((b, s), h)| (h, b, s)).collect();
    walk.head(levels, classes, image)
}

/// The raw head behind any output that is made of boxes and a sigmoid of class logits, such as rows of finished detections
/// (YOLOv10, YOLO26); `None` when other convolutions are among those before it.
pub fn of_rows(graph: &Graph, output: &str, classes: usize, image: [usize; 2]) -> Option<DetectHead> {
    let walk = Walk { graph, makers: graph.producers() };
    let [boxes, scores] = walk.ends(output)?;
    let of = |values: &[&'_ str]| -> Option<Vec<(usize, String)>> {
        let mut found: Vec<(usize, String)> =
            heights(graph, values, image)?.into_iter().zip(values.iter().map(ToString::to_string)).collect();
        // Finest level first.
        found.sort_by_key(|v| std::cmp::Reverse(v.0));
        found.windows(2).all(|w| w[0].0 != w[1].0).then_some(found)
    };
    let (boxes, scores) = (of(&boxes)?, of(&scores)?);
    if boxes.len() != scores.len() {
        return None;
    }
    let level = |(b, s): (&'_ (usize, String), &'_ (usize, String))| (b.0 == s.0).then_some(b.0);
    let same = boxes.iter().zip(&scores).map(level).collect::<Option<Vec<_>>>()?;
    let levels = same.into_iter().zip(&boxes).zip(&scores).map(|((h, b), s)| (h, b.1.as_str(), s.1.as_str())).collect();
    walk.head(levels, classes, image)
}

/// The height of each value: as declared, else as inferred.
fn heights(graph: &Graph, values: &[&str], image: [usize; 2]) -> Option<Vec<usize>> {
    let declared = |v: &&str| graph.value_info.get(*v).and_then(|i| i.fact.dim(2));
    if let Some(all) = values.iter().map(declared).collect() {
        return Some(all);
    }
    let facts = infer_at(graph, 1, Some(image)).ok()?;
    values.iter().map(|v| facts.get(*v)?.dim(2)).collect()
}

/// What lies between an output and a value on the way back from it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Way {
    /// Sums, products and moves.
    Boxes,
    /// A choice of the largest, before a sigmoid.
    Chosen,
    /// A sigmoid.
    Scores,
}

/// Whether a node may stand between distances, or numbers of rows, and what becomes of them.
fn decodes(node: &Node) -> bool {
    ops::moves(node) || [ADD, SUB, MUL, DIV, MOD, CAST, SOFTMAX, CONV].iter().any(|op| node.is(op))
}

struct Walk<'g> {
    graph: &'g Graph,
    makers: HashMap<&'g str, usize>,
}

impl<'g> Walk<'g> {
    fn maker(&self, value: &str) -> Option<&'g Node> {
        self.makers.get(value).map(|&i| &self.graph.nodes()[i])
    }

    /// The first node of an operator on the way back from a value, breadth first, within a few dozen nodes.
    fn nearest(&self, value: &'g str, op: &str) -> Option<&'g Node> {
        let mut queue = std::collections::VecDeque::from([value]);
        let mut seen = HashSet::new();
        while let Some(value) = queue.pop_front() {
            let Some(node) = self.maker(value) else { continue };
            if node.is(op) {
                return Some(node);
            }
            if seen.len() > 64 {
                return None;
            }
            if seen.insert(node.outputs.first()) {
                queue.extend(node.inputs.iter().map(String::as_str));
            }
        }
        None
    }

    /// Output channels of the convolution that makes a value.
    fn channels(&self, value: &str) -> Option<usize> {
        self.graph.constant(self.maker(value)?.input(1)?)?.dims().first().copied()
    }

    /// A head of these levels (height, boxes, class logits), where they fit together.
    fn head(&self, levels: Vec<(usize, &str, &str)>, classes: usize, image: [usize; 2]) -> Option<DetectHead> {
        let width = self.channels(levels.first()?.1)?;
        let fits = |l: &(usize, &str, &str)| self.channels(l.1) == Some(width) && self.channels(l.2) == Some(classes);
        if width == 0 || !width.is_multiple_of(4) || !levels.iter().all(fits) {
            return None;
        }
        let stride = |h: usize| (h > 0 && image[0].is_multiple_of(h)).then(|| image[0] / h);
        let strides = levels.iter().map(|l| stride(l.0)).collect::<Option<Vec<_>>>()?;
        let (boxes, scores) = levels.iter().map(|l| (l.1.to_string(), l.2.to_string())).unzip();
        Some(DetectHead { boxes, scores, strides, reg_max: width / 4 })
    }

    /// Outputs of the last convolutions before a value: those that lead to it without a sigmoid between, and those with. A mean over
    /// a softmax, though it may be written as a convolution, is none of them. `None` when boxes are made in other ways than from
    /// distances, when rows are chosen in ways other than the largest, or when it is not clear which numbers a convolution gives.
    fn ends(&self, value: &'g str) -> Option<[Vec<&'g str>; 2]> {
        let sizes = self.of_sizes();
        let (mut found, mut seen) = ([Vec::new(), Vec::new()], HashSet::new());
        let mut stack = vec![(value, Way::Boxes)];
        while let Some((value, way)) = stack.pop() {
            if sizes.contains(value) || !seen.insert((value, way)) {
                continue;
            }
            let Some(node) = self.maker(value) else { continue };
            if seen.len() > MOST_VALUES || !node.captured().is_empty() {
                return None;
            }
            if node.is(CONV) && !self.averages(node) {
                match way {
                    Way::Boxes => found[0].push(value),
                    Way::Scores => found[1].push(value),
                    // By what else rows are chosen does not matter.
                    Way::Chosen => {}
                }
                continue;
            }
            let on = match way {
                _ if node.is(SIGMOID) => Way::Scores,
                Way::Boxes | Way::Chosen if node.is(TOP_K) => Way::Chosen,
                Way::Chosen if node.is(REDUCE_MAX) => Way::Chosen,
                _ if !decodes(node) => return None,
                same => same,
            };
            // What is picked, and the numbers by which.
            let data = ops::find(node).ok().filter(|op| op.moves).and_then(|op| ops::carried(op, node));
            let picks = |slot: usize| data.as_ref().is_some_and(|d| !d.contains(&slot));
            let mode = |slot: usize| if picks(slot) && on == Way::Boxes { Way::Chosen } else { on };
            stack.extend(node.inputs.iter().enumerate().map(|(slot, n)| (n.as_str(), mode(slot))));
        }
        let clear = !found[0].is_empty() && found[0].iter().all(|v| !found[1].contains(v));
        clear.then_some(found)
    }

    /// Values that depend on constants and sizes alone, such as the centres of cells.
    fn of_sizes(&self) -> HashSet<&'g str> {
        let mut fixed: HashSet<&str> = HashSet::new();
        for node in self.graph.nodes() {
            let known = |n: &String| n.is_empty() || fixed.contains(n.as_str()) || self.graph.constant(n).is_some();
            if node.is(SHAPE) || (node.captured().is_empty() && node.inputs.iter().all(known)) {
                fixed.extend(node.outputs.iter().map(String::as_str));
            }
        }
        fixed
    }

    /// Whether a convolution reads what a softmax made.
    fn averages(&self, conv: &Node) -> bool {
        let mut node = conv.input(0).and_then(|n| self.maker(n));
        while let Some(n) = node.filter(|n| ops::moves(n)) {
            node = n.input(0).and_then(|n| self.maker(n));
        }
        node.is_some_and(|n| n.is(SOFTMAX))
    }

    /// Outputs of the convolutions that a value is put together from, in the order of the concats. `None` when it is also
    /// made from anything else.
    fn convolutions(&self, value: &'g str) -> Option<Vec<&'g str>> {
        let mut found = Vec::new();
        let mut stack = vec![value];
        let mut steps = 0;
        while let Some(value) = stack.pop() {
            steps += 1;
            let node = self.maker(value).filter(|_| steps < 256)?;
            if node.is(CONV) {
                if !found.contains(&value) {
                    found.push(value);
                }
            } else if node.is(CONCAT) {
                stack.extend(node.inputs.iter().rev().map(String::as_str));
            } else if ops::moves(node) {
                stack.push(node.input(0)?);
            } else {
                return None;
            }
        }
        Some(found)
    }
}
