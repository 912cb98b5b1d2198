//! The raw head of an exported YOLOv8-family detector: the convolutions whose outputs the decoding part reads.

use crate::graph::infer_at;
use crate::ops;
use crate::ops::activation::SIGMOID;
use crate::ops::concat::CONCAT;
use crate::ops::conv::CONV;
use crate::ops::softmax::SOFTMAX;
use crate::{DetectHead, Graph, Node};
use std::collections::{HashMap, HashSet};

/// The raw head behind an output `[batch, 4 + classes, anchors]`, or `None` when the graph does not end the way
/// Ultralytics exports do: concat(boxes from a softmax over distributions, sigmoid of class logits).
pub fn find(graph: &Graph, output: &str, classes: usize, image: [usize; 2]) -> Option<DetectHead> {
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
    let channels = |value: &str| {
        let conv = walk.maker(value)?;
        graph.constant(conv.input(1)?)?.dims().first().copied()
    };
    let width = channels(boxes.first()?)?;
    let consistent = boxes.len() == scores.len()
        && width.is_multiple_of(4)
        && width > 4
        && boxes.iter().all(|b| channels(b) == Some(width))
        && scores.iter().all(|s| channels(s) == Some(classes));
    if !consistent {
        return None;
    }
    let heights = heights(graph, &boxes, image)?;
    let strides = heights.iter().map(|&h| (h > 0 && image[0].is_multiple_of(h)).then(|| image[0] / h)).collect::<Option<Vec<_>>>()?;
    let own = |values: Vec<&str>| values.into_iter().map(String::from).collect();
    Some(DetectHead { boxes: own(boxes), scores: own(scores), strides, reg_max: width / 4 })
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
