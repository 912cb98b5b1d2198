//! What operators cost: helpers for the `cost` field of an [`OpDef`](super::OpDef).

use crate::graph::{Cost, Fact, Node};

/// What a cost rule sees.
#[derive(Debug)]
pub struct CostInput<'a> {
    /// The node that is counted.
    pub node: &'a Node,
    /// What is known of each input; `None` for one that is left out or of which nothing is known.
    pub inputs: &'a [Option<&'a Fact>],
    /// What is known of the outputs that are not left out.
    pub outputs: &'a [&'a Fact],
}

/// Elements of a value; an unknown first size (the batch) counts as 1, other unknown sizes give `None`.
pub fn elements(fact: &Fact) -> Option<u64> {
    let shape = fact.shape.as_ref()?;
    shape.iter().enumerate().try_fold(1u64, |n, (i, d)| match d.known() {
        Some(k) => n.checked_mul(k as u64),
        None if i == 0 => Some(n),
        None => None,
    })
}

/// A product of two numbers of elements or operations. Those of hostile shapes end at a number of which a sum of many can be counted.
pub fn times(a: u64, b: u64) -> u64 {
    a.saturating_mul(b).min(1 << 48)
}

/// Bytes of a value, with the same convention.
pub fn bytes(fact: &Fact) -> Option<u64> {
    Some(times(elements(fact)?, fact.element.bits() as u64) / 8)
}

/// Costs nothing (data movement, shape computations).
pub fn none(_: &CostInput<'_>) -> Cost {
    Cost::default()
}

/// One elementary operation per output element.
pub fn per_output(cx: &CostInput<'_>) -> Cost {
    Cost { macs: 0, other: cx.outputs.iter().filter_map(|f| elements(f)).fold(0, |n, m| times(n + m, 1)) }
}

/// One elementary operation per input element (reductions).
pub fn per_input(cx: &CostInput<'_>) -> Cost {
    Cost { macs: 0, other: cx.inputs.first().copied().flatten().and_then(elements).unwrap_or(0) }
}
