//! How many inputs an operator takes and of which element types, and which attributes, as its specification says: `schema.txt`, which
//! `tests/python/op_schemas.py` writes from the onnx package. Shape rules and forward computations may rely on it.

use super::ranges;
use crate::element::Element;
use crate::graph::{Attr, Infer};
use compresso_base::error::{Error, Result};
use std::collections::HashMap;
use std::sync::OnceLock;

const TEXT: &str = include_str!("schema.txt");

/// What the specification says of one operator.
#[derive(Debug)]
pub struct Schema {
    /// Since which version of the operator set it takes at least and at most so many inputs; in the order of versions.
    pub counts: Vec<(i64, usize, usize)>,
    /// What it says of each input, by position.
    pub inputs: Vec<Input>,
    /// What it says of each attribute.
    pub attributes: Vec<Attribute>,
}

/// What the specification says of one input, over all versions.
#[derive(Debug, Clone, Copy)]
pub struct Input {
    /// Inputs with the same letter have the same element type.
    pub letter: Option<u8>,
    /// The element types that it may have; `None`: any.
    pub types: Option<&'static [Element]>,
    /// Its name may be empty.
    pub optional: bool,
    /// The inputs after it are like it.
    pub rest: bool,
}

/// What the specification says of one attribute, over all versions.
#[derive(Debug, Clone, Copy)]
pub struct Attribute {
    /// Such as `kernel_shape`.
    pub name: &'static str,
    /// A letter for each kind that it may have: f, i, s, t, g and p for a float, int, string, tensor, graph and type, capitals for lists of these.
    pub kinds: &'static str,
    /// No version does without it.
    pub required: bool,
}

fn table() -> &'static HashMap<&'static str, Schema> {
    static TABLE: OnceLock<HashMap<&'static str, Schema>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let lines = TEXT.lines().filter(|l| !l.starts_with("set ") && !l.starts_with("late "));
        lines.filter_map(|l| operator(l, sets())).collect()
    })
}

/// The sets of element types, by their numbers.
fn sets() -> &'static [Vec<Element>] {
    static SETS: OnceLock<Vec<Vec<Element>>> = OnceLock::new();
    SETS.get_or_init(|| TEXT.lines().filter_map(|l| l.strip_prefix("set ")).map(set).collect())
}

/// `N TYPE...`
fn set(line: &str) -> Vec<Element> {
    line.split(' ').skip(1).filter_map(Element::from_name).collect()
}

/// The version of the operator set since which an input of an ONNX operator takes an element type; 0 where it did before version 12, or
/// does not. Of an operator that takes any number of inputs, the last that is specified says it for the rest.
pub fn late(op: &str, input: usize, element: Element) -> i64 {
    static TABLE: OnceLock<HashMap<(&'static str, usize, Element), i64>> = OnceLock::new();
    let table =
        TABLE.get_or_init(|| TEXT.lines().filter_map(|l| l.strip_prefix("late ")).filter_map(|l| late_line(l, sets())).flatten().collect());
    let input = match of("", op).map(|s| s.inputs.as_slice()) {
        Some([before @ .., last]) if last.rest => input.min(before.len()),
        _ => input,
    };
    table.get(&(op, input, element)).copied().unwrap_or(0)
}

/// `V I N : NAME...`
fn late_line(line: &'static str, sets: &[Vec<Element>]) -> Option<Vec<((&'static str, usize, Element), i64)>> {
    let (head, names) = line.split_once(" : ")?;
    let mut head = head.split(' ').map(str::parse::<usize>);
    let (since, input, elements) = (head.next()?.ok()?, head.next()?.ok()?, sets.get(head.next()?.ok()?)?);
    let since = i64::try_from(since).ok()?;
    Some(names.split(' ').flat_map(|name| elements.iter().map(move |e| ((name, input, *e), since))).collect())
}

/// What the specification says of an operator; `None` for one that has none (ours).
pub fn of(domain: &str, name: &str) -> Option<&'static Schema> {
    let domain = if domain == "ai.onnx" { "" } else { domain };
    table().get(format!("{domain}:{name}").as_str())
}

/// `DOMAIN:NAME V:LEAST..MOST ... / INPUT ... / ATTRIBUTE:KINDS ...`
fn operator(line: &'static str, sets: &'static [Vec<Element>]) -> Option<(&'static str, Schema)> {
    let (head, rest) = line.split_once(" /")?;
    let (inputs, attributes) = rest.split_once(" /")?;
    let mut head = head.split(' ');
    let name = head.next()?;
    let counts = head.map(count).collect::<Option<_>>()?;
    let inputs = inputs.split_whitespace().map(|text| input(text, sets)).collect::<Option<_>>()?;
    let attributes = attributes.split_whitespace().map(attribute).collect::<Option<_>>()?;
    Some((name, Schema { counts, inputs, attributes }))
}

/// `NAME:KINDS`, with a `!` where it is required.
fn attribute(text: &'static str) -> Option<Attribute> {
    let (name, kinds) = text.split_once(':')?;
    let (kinds, required) = kinds.strip_suffix('!').map_or((kinds, false), |k| (k, true));
    Some(Attribute { name, kinds, required })
}

/// `V:LEAST..MOST`
fn count(text: &str) -> Option<(i64, usize, usize)> {
    let (version, range) = text.split_once(':')?;
    let (least, most) = range.split_once("..")?;
    Some((version.parse().ok()?, least.parse().ok()?, if most.is_empty() { usize::MAX } else { most.parse().ok()? }))
}

fn input(text: &str, sets: &'static [Vec<Element>]) -> Option<Input> {
    let (text, rest) = text.strip_suffix('*').map_or((text, false), |t| (t, true));
    let (text, optional) = text.strip_suffix('?').map_or((text, false), |t| (t, true));
    let letter = text.bytes().next().filter(u8::is_ascii_lowercase);
    let number = &text[usize::from(letter.is_some())..];
    let types = if number == "-" { None } else { Some(sets.get(number.parse::<usize>().ok()?)?.as_slice()) };
    Some(Input { letter, types, optional, rest })
}

/// Checks number and element types of a node's inputs, and its attributes. Operators without a specification (ours) are let pass.
///
/// # Errors
/// `Format` for inputs that are missing or too many, and for attributes that are missing, of another kind or out of range; `DType` for
/// element types that the operator does not take.
pub fn check(cx: &Infer<'_>) -> Result<()> {
    let node = cx.node;
    let Some(schema) = of(&node.domain, &node.op) else { return Ok(()) };
    for attribute in &schema.attributes {
        match node.attrs.get(attribute.name) {
            Some(value) => attribute.check(value).and_then(|()| ranges::check(attribute.name, value))?,
            None if attribute.required => return Err(Error::format(format!("{} needs the attribute '{}'", node.op, attribute.name))),
            None => {}
        }
    }
    let given = cx.input_count();
    // A file may be written for a version before the operator's first: the first says the most of it.
    let counts = schema.counts.iter().rfind(|(since, ..)| *since <= cx.opset).or_else(|| schema.counts.first());
    if let Some(&(_, least, most)) = counts {
        if given > most {
            return Err(Error::format(format!("{} takes at most {most} inputs, this node has {given}", node.op)));
        }
        let named = |i: usize| node.inputs.get(i).is_some_and(|name| !name.is_empty());
        let required = |i: usize| schema.inputs.get(i).is_some_and(|input| !input.optional && !input.rest);
        if let Some(i) = (0..least).find(|&i| i >= given || required(i) && !named(i)) {
            return Err(Error::format(format!("{} needs {least} inputs; input {i} is missing", node.op)));
        }
    }
    let mut seen: [Option<(usize, Element)>; 26] = [None; 26];
    for i in 0..given {
        let Some(input) = schema.inputs.get(i).or_else(|| schema.inputs.last().filter(|input| input.rest)) else { break };
        let Some(element) = cx.get(i).map(|fact| fact.element) else { continue };
        if let Some(types) = input.types.filter(|types| !types.contains(&element)) {
            let names: Vec<&str> = types.iter().map(|t| t.name()).collect();
            return Err(Error::dtype(format!("input {i} is {element}, {} takes {}", node.op, names.join(", "))));
        }
        let Some(letter) = input.letter.and_then(|l| seen.get_mut(usize::from(l - b'a'))) else { continue };
        match *letter {
            None => *letter = Some((i, element)),
            Some((first, other)) if other != element => {
                return Err(Error::dtype(format!("inputs {first} and {i} of {} have one type, here {other} and {element}", node.op)));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

impl Attribute {
    fn check(&self, value: &Attr) -> Result<()> {
        let kind = match value {
            // Some exporters leave an empty list without a type; what is not read is reported by what would read it.
            Attr::Floats(v) if v.is_empty() => return Ok(()),
            Attr::Opaque(_) => return Ok(()),
            Attr::Float(_) => 'f',
            Attr::Int(_) => 'i',
            Attr::Str(_) => 's',
            Attr::Tensor(_) => 't',
            Attr::Graph(_) => 'g',
            Attr::Floats(_) => 'F',
            Attr::Ints(_) => 'I',
            Attr::Strs(_) => 'S',
            Attr::Tensors(_) => 'T',
            Attr::Graphs(_) => 'G',
        };
        if self.kinds.contains(kind) {
            return Ok(());
        }
        let name = |kind: char| match kind {
            'f' => "a float",
            'i' => "an int",
            's' => "a string",
            't' => "a tensor",
            'g' => "a graph",
            'F' => "floats",
            'I' => "ints",
            'S' => "strings",
            'T' => "tensors",
            'G' => "graphs",
            _ => "a type",
        };
        let expected: Vec<&str> = self.kinds.chars().map(name).collect();
        Err(Error::format(format!("attribute '{}' must be {}, got {}", self.name, expected.join(" or "), name(kind))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Fact, Node};
    use crate::ops;
    use compresso_base::error::ErrorKind;

    #[test]
    fn every_line_is_read_and_every_operator_of_onnx_is_there() {
        let lines = |start: &str| TEXT.lines().filter(|l| l.starts_with(start)).count();
        assert_eq!(table().len(), TEXT.lines().count() - lines("set ") - lines("late "));
        let read = TEXT.lines().filter_map(|l| l.strip_prefix("late ")).filter_map(|l| late_line(l, sets())).count();
        assert!(lines("late ") > 60 && read == lines("late "), "{read}");
        for op in ops::registry::all().filter(|op| op.domain.is_empty()) {
            let schema = table().get(format!(":{}", op.name).as_str());
            let schema = schema.unwrap_or_else(|| panic!("{} has no line", op.name));
            assert!(schema.inputs.iter().all(|i| i.types.is_none_or(|t| !t.is_empty())), "{}", op.name);
        }
    }

    fn of(op: &str, opset: i64, inputs: &[Option<Element>]) -> Result<()> {
        let names: Vec<String> =
            inputs.iter().enumerate().map(|(i, e)| if e.is_some() { format!("x{i}") } else { String::new() }).collect();
        let facts = names.iter().zip(inputs).filter_map(|(n, e)| Some((n.clone(), Fact::known((*e)?, &[2])))).collect();
        let node = Node::new(op, "", names.iter().map(String::as_str), ["y"]);
        check(&Infer::new(&node, opset, &facts))
    }

    #[test]
    fn element_types_came_with_versions() {
        use Element::{BF16, F16, F32, I32, I64, U8};
        for (op, input, element, since) in [
            ("Relu", 0, I32, 14),
            ("Relu", 0, F32, 0),
            ("Pow", 1, I64, 12),
            ("QuantizeLinear", 0, F16, 19),
            ("Conv", 0, BF16, 22),
            ("Min", 7, U8, 12),
        ] {
            assert_eq!(late(op, input, element), since, "{op} {input} {element}");
        }
    }

    #[test]
    fn inputs_are_counted_and_typed() {
        use Element::{Bool, F16, F32, I64, U8};
        of("Add", 14, &[Some(F32), Some(F32)]).unwrap();
        of("Clip", 13, &[Some(F32), None, Some(F32)]).unwrap();
        of("Concat", 13, &[Some(U8); 9]).unwrap();
        of("Resize", 13, &[Some(F32), None, Some(F32)]).unwrap();
        let e = of("Loop", 11, &[None, None, Some(F32), Some(I64)]).unwrap_err();
        assert_eq!(e.message(), "Loop needs the attribute 'body'");
        let kinds = |r: Result<()>| r.unwrap_err().kind();
        assert_eq!(kinds(of("Div", 14, &[Some(F32)])), ErrorKind::Format);
        assert_eq!(kinds(of("Div", 14, &[Some(F32), None])), ErrorKind::Format);
        assert_eq!(kinds(of("Reciprocal", 13, &[Some(F32), Some(F32)])), ErrorKind::Format);
        assert_eq!(kinds(of("Reciprocal", 13, &[Some(U8)])), ErrorKind::DType);
        assert_eq!(kinds(of("LpNormalization", 1, &[Some(Bool)])), ErrorKind::DType);
        assert_eq!(kinds(of("Add", 14, &[Some(F32), Some(F16)])), ErrorKind::DType);
        // Clip took its bounds as attributes once.
        assert_eq!(kinds(of("Clip", 6, &[Some(F32), Some(F32)])), ErrorKind::Format);
    }
}
