//! Operators as the data of a target names them.

use compresso_model::names::glob;
use compresso_model::{Graph, Node};

/// An operator, perhaps only in some operator sets or under a condition.
///
/// ```
/// use compresso_target::Op;
/// const RESIZE: Op = Op::any("Resize").opsets(13, i64::MAX);
/// const CAFFE: Op = Op::any("*").when(|_, node| node.domain == "org.caffe");
/// # let _ = (RESIZE, CAFFE);
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Op {
    name: &'static str,
    first: i64,
    last: i64,
    when: fn(&Graph, &Node) -> bool,
}

impl Op {
    /// An operator by its name, in which `*` stands for any text.
    pub const fn any(name: &'static str) -> Self {
        Self { name, first: 0, last: i64::MAX, when: |_, _| true }
    }
    /// Only in operator sets from `first` to `last`.
    pub const fn opsets(self, first: i64, last: i64) -> Self {
        Self { first, last, ..self }
    }
    /// Only the nodes of which this is true.
    pub const fn when(self, when: fn(&Graph, &Node) -> bool) -> Self {
        Self { when, ..self }
    }
    /// True when a node of the graph is such an operator.
    pub fn is(&self, graph: &Graph, node: &Node) -> bool {
        glob(self.name, &node.op) && (self.first..=self.last).contains(&graph.opset_of(node)) && (self.when)(graph, node)
    }
}

/// What is to be said of an operator.
#[derive(Debug, Clone, Copy)]
pub struct Remark {
    /// The nodes that it is about.
    pub op: Op,
    /// A clause, as an error's message.
    pub text: &'static str,
}

impl Remark {
    /// A remark on all nodes that are such an operator.
    pub const fn new(op: Op, text: &'static str) -> Self {
        Self { op, text }
    }
    /// Of all nodes with the operator of this name.
    pub const fn any(name: &'static str, text: &'static str) -> Self {
        Self::new(Op::any(name), text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use compresso_model::{Element, Fact, GraphBuilder};

    #[test]
    fn an_operator_is_known_by_name_operator_set_and_condition() {
        let mut b = GraphBuilder::new("g", 17);
        let x = b.input("x", Fact::known(Element::F32, &[1, 3]));
        let y = b.node(Node::new("Softmax", "s", [x.as_str()], [""]).int("axis", 1));
        b.output(&y);
        let g = b.finish().unwrap();
        let node = &g.nodes()[0];
        for (op, hit) in [
            (Op::any("Softmax"), true),
            (Op::any("Soft*"), true),
            (Op::any("Soft"), false),
            (Op::any("Softmax").opsets(13, 17), true),
            (Op::any("Softmax").opsets(18, i64::MAX), false),
            (Op::any("Softmax").when(|_, n| n.get_int("axis", 0).is_ok_and(|a| a == 1)), true),
            (Op::any("Softmax").when(|g, _| g.nodes().len() > 1), false),
        ] {
            assert_eq!(op.is(&g, node), hit, "{op:?}");
        }
    }
}
