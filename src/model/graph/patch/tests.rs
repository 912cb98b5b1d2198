//! Edits that contradict each other are named; random edits of random graphs mean what a slow reference says they mean.

use super::Patch;
use crate::graph::{Attr, Fact, Graph, Node, ValueInfo};
use crate::{Constant, Element};
use compresso_base::error::ErrorKind;
use proptest::prelude::*;
use std::collections::{BTreeMap, HashSet};

fn info(name: &str) -> ValueInfo {
    ValueInfo::new(name, Fact::known(Element::F32, &[]))
}

/// x → a → b → y, and a constant k that b reads too.
fn chain() -> Graph {
    Graph {
        inputs: vec![info("x")],
        outputs: vec![info("y")],
        constants: [("k".to_string(), Constant::scalar(1.0))].into(),
        nodes: vec![
            Node::new("A", "first", ["x"], ["a"]),
            Node::new("B", "second", ["a", "k"], ["b"]),
            Node::new("C", "third", ["b"], ["y"]),
        ],
        ..Graph::default()
    }
}

#[test]
fn contradictions_name_both_edits() {
    type Edit = fn(&mut Patch<'_>);
    let cases: &[(Edit, &str)] = &[
        (|p| (p.redirect("a", "x"), p.redirect("a", "k")).0, "'a' is redirected to 'x' and to 'k'"),
        (|p| (p.redirect("a", "b"), p.redirect("b", "a")).0, "'b' is redirected to 'a', and 'a' to 'b', in a circle"),
        (|p| p.redirect("b", "b"), "'b' is redirected to 'b', and 'b' to 'b', in a circle"),
        (|p| p.redirect("none", "a"), "'none' is redirected to 'a', but the graph has no such value"),
        (|p| (p.redirect("b", "a"), p.remove(0)).0, "'b' is redirected to 'a', and node 'first' (A), which makes it, is removed"),
        (
            |p| {
                p.edit(1).op = "D".into();
                p.remove(1);
            },
            "node 'second' (B) is edited and removed",
        ),
        (
            |p| {
                p.remove(1);
                p.edit(1).op = "D".into();
            },
            "node 'second' (B) is removed and edited",
        ),
        (|p| p.edit(3).op = "D".into(), "node number 3 is edited, but the graph has 3 nodes"),
        (|p| p.remove(7), "node number 7 is removed, but the graph has 3 nodes"),
        (
            |p| (p.set_constant("k", Constant::scalar(2.0)), p.set_constant("k", Constant::scalar(3.0))).0,
            "constant 'k' is set to two values",
        ),
        (|p| (p.set_constant("k", Constant::scalar(2.0)), p.remove_constant("k")).0, "constant 'k' is set and removed"),
        (|p| (p.remove_constant("k"), p.set_constant("k", Constant::scalar(2.0))).0, "constant 'k' is removed and set"),
        (|p| p.remove_constant("none"), "constant 'none' is removed, but there is none"),
        (|p| (p.set_outputs(vec![info("a")]), p.set_outputs(vec![info("b")])).0, "the graph's outputs are set twice"),
        (|p| (p.set_opset("", 11), p.set_opset("", 13)).0, "operator set '' is set to 11 and to 13"),
        (|p| (p.set_metadata("m", "1"), p.set_metadata("m", "2")).0, "metadata 'm' is set to two values"),
        (|p| p.add(Node::new("D", "fourth", ["x"], ["y"])), "node 'third' (C) makes it"),
    ];
    let g = chain();
    for (edit, says) in cases {
        let mut patch = Patch::new(&g);
        edit(&mut patch);
        assert!(!patch.is_empty(), "{says}");
        let e = patch.apply().unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Check, "{e}");
        assert!(e.to_string().contains(says), "{e} should say {says}");
    }
}

#[test]
fn equal_edits_are_one() {
    let g = chain();
    let mut patch = Patch::new(&g);
    for _ in 0..2 {
        patch.redirect("b", "a");
        patch.set_constant("k", Constant::scalar(2.0));
        patch.remove(1);
        patch.set_opset("", 13);
    }
    let g = patch.apply().unwrap();
    assert_eq!((g.nodes().len(), g.opset()), (2, 13));
}

#[test]
fn what_made_a_redirected_output_gets_another_name_where_it_is_still_read() {
    let g = chain();
    let mut patch = Patch::new(&g);
    let round = patch.fresh("round");
    patch.add(Node::new("Round", "", ["y"], [&round]));
    patch.redirect("y", &round);
    let g = patch.apply().unwrap();
    let last = &g.nodes()[3];
    assert_eq!((last.op.as_str(), last.outputs[0].as_str()), ("Round", "y"));
    assert_eq!(last.inputs, g.nodes()[2].outputs);
}

#[test]
fn a_redirection_into_an_inner_graph_that_has_the_name_is_refused() {
    let mut g = chain();
    let inner = Graph {
        nodes: vec![Node::new("I", "", ["a"], ["b"]), Node::new("I", "", ["b"], ["inner"])],
        outputs: vec![info("inner")],
        ..Graph::default()
    };
    g.nodes.push(Node::new("If", "choice", ["x"], ["z"]).attr("then_branch", Attr::Graph(Box::new(inner))));
    g.outputs.push(info("z"));
    let mut patch = Patch::new(&g);
    let c = patch.fresh("c");
    patch.add(Node::new("D", "", ["a"], [&c]));
    patch.redirect("a", &c);
    assert_eq!(patch.apply().unwrap().nodes().last().unwrap().captured(), [c.as_str()]);
    let mut patch = Patch::new(&g);
    patch.redirect("a", "b");
    let e = patch.apply().unwrap_err().to_string();
    assert!(e.contains("node 'choice' (If)") && e.contains("'a' cannot become 'b' in an inner graph"), "{e}");
}

#[test]
fn kept_values_stay_where_nothing_reads_them() {
    let g = chain();
    for keep in [false, true] {
        let patch = || {
            let mut patch = Patch::new(&g);
            if keep {
                patch.keep(&["b".to_string()]);
            }
            patch
        };
        let maker = |g: &Graph| g.producers().get("b").map(|&i| g.nodes()[i].op.clone());
        let mut unread = patch();
        unread.edit(2).inputs[0] = "a".into();
        assert_eq!(maker(&unread.apply().unwrap()).as_deref(), keep.then_some("B"));
        // The name goes over to what stands for the value.
        let mut redirected = patch();
        redirected.redirect("b", "a");
        assert_eq!(maker(&redirected.apply().unwrap()).as_deref(), keep.then_some("A"));
    }
}

/// A random graph: each node reads earlier values, has one or two outputs, and may have an inner graph that reads one from outside.
fn graphs() -> impl Strategy<Value = Graph> {
    let node = (proptest::collection::vec(any::<u8>(), 1..4), 1..3usize, proptest::option::weighted(0.2, any::<u8>()));
    (proptest::collection::vec(node, 1..8), proptest::collection::vec(any::<u8>(), 1..4)).prop_map(|(nodes, outputs)| {
        let mut values: Vec<String> = ["x", "k0", "k1"].map(String::from).into();
        let mut g = Graph { inputs: vec![info("x")], ..Graph::default() };
        for k in ["k0", "k1"] {
            g.constants.insert(k.into(), Constant::scalar(1.0));
        }
        for (i, (inputs, made, inner)) in nodes.into_iter().enumerate() {
            let pick = |n: u8| values[usize::from(n) % values.len()].clone();
            let outputs: Vec<String> = (0..made).map(|o| format!("v{i}_{o}")).collect();
            let mut node = Node::new(format!("Op{i}"), format!("n{i}"), inputs.into_iter().map(pick), &outputs);
            if let Some(n) = inner {
                let own = format!("i{i}");
                let read = Node::new("Inner", "", [pick(n)], [own.as_str()]);
                node = node.attr("body", Attr::Graph(Box::new(Graph { nodes: vec![read], outputs: vec![info(&own)], ..Graph::default() })));
            }
            g.nodes.push(node);
            values.extend(outputs);
        }
        for n in outputs {
            let name = &values[3 + usize::from(n) % (values.len() - 3)];
            if !g.is_output(name) {
                g.outputs.push(info(name));
            }
        }
        g
    })
}

#[derive(Debug, Clone)]
enum Edit {
    Remove(usize),
    Redirect(String, String),
    /// Input of a node.
    Change(usize, usize, String),
    SetConstant(String, f32),
    RemoveConstant(String),
    /// A node that reads a value; with `true`, all its readers read the node instead.
    Insert(String, bool),
}

fn edit_of(g: &Graph, (kind, a, b, c): (u8, u8, u8, u8)) -> Edit {
    let made = g.nodes.iter().flat_map(|n| n.outputs.clone());
    let values: Vec<String> = ["x", "k0", "k1"].map(String::from).into_iter().chain(made).collect();
    let value = |n: u8| values[usize::from(n) % values.len()].clone();
    let produced = |n: u8| values[3 + usize::from(n) % (values.len() - 3)].clone();
    // One in twenty names a node that does not exist.
    let node = if c.is_multiple_of(20) { g.nodes.len() } else { usize::from(a) % g.nodes.len() };
    match kind % 8 {
        0 => Edit::Remove(node),
        1 | 2 => Edit::Redirect(produced(a), value(b)),
        3 => Edit::Change(node, usize::from(b), value(c)),
        4 => Edit::SetConstant(["k0", "k1", "k2"][usize::from(a) % 3].into(), f32::from(b % 2)),
        5 => Edit::RemoveConstant(["k0", "k1", "k2"][usize::from(a) % 3].into()),
        _ => Edit::Insert(produced(a), !b.is_multiple_of(3)),
    }
}

/// The values of a graph as terms over its inputs and constants; `None` for one that nothing makes or that needs itself.
struct Terms<'a> {
    nodes: Vec<Node>,
    constants: BTreeMap<String, f32>,
    redirects: &'a BTreeMap<String, String>,
    /// Nodes that read the redirected values, which are the first so many.
    redirected: usize,
}

impl Terms<'_> {
    fn follow<'n>(&'n self, mut name: &'n str) -> &'n str {
        while let Some(to) = self.redirects.get(name) {
            name = to;
        }
        name
    }
    fn of(&self, name: &str, path: &mut Vec<usize>) -> Option<String> {
        if let Some(c) = self.constants.get(name) {
            return Some(format!("{c}"));
        }
        if name == "x" {
            return Some("x".into());
        }
        let i = self.nodes.iter().position(|n| n.outputs.iter().any(|o| o == name))?;
        if path.contains(&i) {
            return None;
        }
        path.push(i);
        let node = &self.nodes[i];
        let read = |n: &str, path: &mut Vec<usize>| if i < self.redirected { self.of(self.follow(n), path) } else { self.of(n, path) };
        let inputs: Option<Vec<String>> = node.reads().map(|n| read(n, path)).collect();
        path.pop();
        // An Identity that gives an output its name means what it reads.
        match (node.op.as_str(), inputs?.as_slice()) {
            ("Identity", [one]) => Some(one.clone()),
            (op, inputs) => {
                let output = node.outputs.iter().position(|o| o == name)?;
                Some(format!("{op}.{output}({})", inputs.join(",")))
            }
        }
    }
}

fn constants(g: &Graph) -> BTreeMap<String, f32> {
    g.constants.iter().map(|(n, c)| (n.clone(), c.to_f32s().unwrap()[0])).collect()
}

/// What edits of `g` should give: a term for each output, or the reason why there is none.
fn expected(g: &Graph, edits: &[Edit], inserted: &[Node]) -> Result<Vec<String>, &'static str> {
    let mut nodes: Vec<Option<Node>> = g.nodes.iter().cloned().map(Some).collect();
    let mut touched: Vec<Option<bool>> = vec![None; nodes.len()];
    let mut redirects: BTreeMap<String, String> = BTreeMap::new();
    let mut set: BTreeMap<String, Option<f32>> = BTreeMap::new();
    let mut redirect = |from: &String, to: &String| match redirects.insert(from.clone(), to.clone()) {
        Some(other) if other != *to => Err("redirected twice"),
        _ => Ok(()),
    };
    let mut added = inserted.iter();
    for edit in edits {
        match edit {
            Edit::Remove(i) | Edit::Change(i, ..) if *i >= g.nodes.len() => return Err("no such node"),
            Edit::Remove(i) => {
                if touched[*i].replace(false) == Some(true) {
                    return Err("edited and removed");
                }
                nodes[*i] = None;
            }
            Edit::Change(i, at, value) => {
                if touched[*i].replace(true) == Some(false) {
                    return Err("removed and edited");
                }
                let inputs = &mut nodes[*i].as_mut().unwrap().inputs;
                let at = at % inputs.len();
                inputs[at].clone_from(value);
            }
            Edit::Redirect(from, to) => redirect(from, to)?,
            Edit::Insert(value, readers) => {
                let node = added.next().unwrap();
                if *readers {
                    redirect(value, &node.outputs[0])?;
                }
            }
            Edit::SetConstant(name, v) => match set.insert(name.clone(), Some(*v)) {
                Some(other) if other != Some(*v) => return Err("set twice"),
                _ => {}
            },
            Edit::RemoveConstant(name) => {
                if !g.constants.contains_key(name) || matches!(set.insert(name.clone(), None), Some(Some(_))) {
                    return Err("set and removed, or not there");
                }
            }
        }
    }
    for from in redirects.keys() {
        let (mut at, mut seen) = (from, HashSet::from([from]));
        while let Some(to) = redirects.get(at) {
            at = to;
            if !seen.insert(at) {
                return Err("circle");
            }
        }
        let gone = |n: &&Node| n.outputs.contains(at);
        if g.nodes.iter().zip(&nodes).any(|(old, new)| new.is_none() && gone(&old)) {
            return Err("redirected to what is removed");
        }
    }
    let mut constants = constants(g);
    for (name, value) in set {
        match value {
            Some(v) => constants.insert(name, v),
            None => constants.remove(&name),
        };
    }
    let was_read: HashSet<&str> = g.nodes.iter().flat_map(Node::reads).chain(g.outputs.iter().map(|o| o.name.as_str())).collect();
    let unread =
        g.nodes.iter().zip(&nodes).filter(|(old, new)| new.is_some() && old.outputs.iter().all(|o| !was_read.contains(o.as_str())));
    let unread: Vec<String> = unread.map(|(old, _)| old.outputs[0].clone()).collect();
    let old: Vec<Node> = nodes.into_iter().flatten().collect();
    let terms = Terms { redirected: old.len(), nodes: [old, inserted.to_vec()].concat(), constants, redirects: &redirects };
    for node in &terms.nodes {
        // A circle that no output reaches is an error too; one that reads what nothing makes is dropped where nothing reads it.
        if terms.of(&node.outputs[0], &mut Vec::new()).is_none() && circular(&terms, &node.outputs[0], &mut Vec::new()) {
            return Err("cycle");
        }
    }
    for name in &unread {
        terms.of(name, &mut Vec::new()).ok_or("an unread node reads what nothing makes")?;
    }
    let outputs = g.outputs.iter().map(|o| terms.of(terms.follow(&o.name), &mut Vec::new()).ok_or("an output is not made"));
    outputs.collect()
}

fn circular(terms: &Terms<'_>, name: &str, path: &mut Vec<usize>) -> bool {
    let Some(i) = terms.nodes.iter().position(|n| n.outputs.iter().any(|o| o == name)) else { return false };
    if path.contains(&i) {
        return true;
    }
    path.push(i);
    let found = terms.nodes[i].reads().any(|n| circular(terms, if i < terms.redirected { terms.follow(n) } else { n }, path));
    path.pop();
    found
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_edits_mean_what_the_reference_says(
        (g, picks) in (graphs(), proptest::collection::vec(any::<(u8, u8, u8, u8)>(), 1..6)),
    ) {
        g.check().unwrap();
        let edits: Vec<Edit> = picks.into_iter().map(|p| edit_of(&g, p)).collect();
        let mut patch = Patch::new(&g);
        let mut inserted: Vec<Node> = Vec::new();
        for edit in &edits {
            match edit {
                Edit::Remove(i) => patch.remove(*i),
                Edit::Redirect(from, to) => patch.redirect(from, to),
                Edit::Change(i, at, value) => {
                    let inputs = &mut patch.edit(*i).inputs;
                    if !inputs.is_empty() {
                        let at = at % inputs.len();
                        inputs[at].clone_from(value);
                    }
                }
                Edit::SetConstant(name, v) => patch.set_constant(name, Constant::scalar(*v)),
                Edit::RemoveConstant(name) => patch.remove_constant(name),
                Edit::Insert(value, readers) => {
                    // A stem that is taken, by a value or by an inner graph's.
                    let out = patch.fresh(if *readers { value } else { "i0" });
                    let node = Node::new(format!("New{}", inserted.len()), "", [value], [&out]);
                    patch.add(node.clone());
                    if *readers {
                        patch.redirect(value, &out);
                    }
                    inserted.push(node);
                }
            }
        }
        let want = expected(&g, &edits, &inserted);
        match (patch.apply(), want) {
            (Ok(new), Ok(want)) => {
                new.check().unwrap();
                let none = BTreeMap::new();
                let terms = Terms { nodes: new.nodes.clone(), constants: constants(&new), redirects: &none, redirected: 0 };
                let got: Vec<Option<String>> = new.outputs.iter().map(|o| terms.of(&o.name, &mut Vec::new())).collect();
                prop_assert_eq!(got, want.into_iter().map(Some).collect::<Vec<_>>());
                prop_assert_eq!(new.outputs.iter().map(|o| &o.name).collect::<Vec<_>>(), g.outputs.iter().map(|o| &o.name).collect::<Vec<_>>());
            }
            (Err(e), Ok(want)) => prop_assert!(false, "{e}, where {want:?} was expected of {edits:?}"),
            (Ok(_), Err(why)) => prop_assert!(false, "an error was expected ({why}) of {edits:?}"),
            (Err(e), Err(_)) => prop_assert_eq!(e.kind(), ErrorKind::Check),
        }
    }
}
