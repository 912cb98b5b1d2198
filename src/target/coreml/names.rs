//! Names as ML programs allow them: letters, digits and `_`, not beginning with a digit, and no word of the language.

use crate::Names;
use compresso_model::Graph;
use std::collections::{BTreeMap, HashSet};

/// Words of the language that programs are written in.
const WORDS: &[&str] = &[
    "any", "bf16", "bool", "dict", "false", "fp16", "fp32", "fp64", "func", "int16", "int32", "int64", "int8", "list", "main", "program",
    "state", "string", "tensor", "true", "tuple", "uint16", "uint32", "uint64", "uint8",
];

/// The name with `_` for what may not stand in it.
pub(super) fn identifier(name: &str) -> String {
    let mut made: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if made.starts_with(|c: char| c.is_ascii_digit()) || made.is_empty() {
        made.insert(0, '_');
    }
    if WORDS.contains(&made.as_str()) {
        made.push('_');
    }
    made
}

/// The name, with a number where it is taken; it is taken afterwards.
pub(super) fn unique(name: String, taken: &mut HashSet<String>) -> String {
    if taken.insert(name.clone()) {
        return name;
    }
    (1u64..).map(|n| format!("{name}_{n}")).find(|name| taken.insert(name.clone())).unwrap_or(name)
}

/// What the file calls inputs and outputs, each by its name in the graph.
#[derive(Debug, Clone)]
pub(super) struct Features {
    pub inputs: BTreeMap<String, String>,
    pub outputs: BTreeMap<String, String>,
}

impl Features {
    pub fn of(graph: &Graph) -> Self {
        let mut taken = HashSet::new();
        let mut named = |name: &str| (name.to_string(), unique(identifier(name), &mut taken));
        let inputs = graph.feeds().map(|i| named(&i.name)).collect();
        // An input that is an output as well is copied under another name.
        let outputs = graph.outputs().iter().map(|o| named(&o.name)).collect();
        Self { inputs, outputs }
    }
    /// Names that had to be changed: what they name, and those of the graph and of the file.
    pub fn changed(&self) -> impl Iterator<Item = (&'static str, &String, &String)> {
        let inputs = self.inputs.iter().map(|(own, made)| ("input", own, made));
        let outputs = self.outputs.iter().map(|(own, made)| ("output", own, made));
        inputs.chain(outputs).filter(|(_, own, made)| own != made)
    }
}

/// Inputs and outputs whose names an ML program may not have are called otherwise.
pub(super) fn names(graph: &Graph) -> Names {
    let Features { inputs, outputs } = Features::of(graph);
    let changed = |map: BTreeMap<String, String>| map.into_iter().filter(|(a, b)| a != b).collect();
    Names { inputs: changed(inputs), outputs: changed(outputs), ..Names::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_identifiers_that_differ() {
        for (name, made) in [
            ("images", "images"),
            ("/model.0/Conv", "_model_0_Conv"),
            ("1x", "_1x"),
            ("a@b", "a_b"),
            ("tensor", "tensor_"),
            ("", "_"),
            ("ä b", "__b"),
        ] {
            assert_eq!(identifier(name), made);
        }
        let mut taken = HashSet::new();
        let made: Vec<String> = ["a.b", "a_b", "a b"].iter().map(|n| unique(identifier(n), &mut taken)).collect();
        assert_eq!(made, ["a_b", "a_b_1", "a_b_2"]);
    }
}
