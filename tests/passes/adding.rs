//! The example of docs/adding-a-pass.md, which is the file beside this one.

#[path = "double_negation.rs"]
mod double_negation;

use super::{hold, pipelines};
use compresso::model::passes::Pass;
use compresso::model::{Element, Fact, Graph, GraphBuilder};
use double_negation::DoubleNegation;

fn negations(count: usize, output: usize) -> Graph {
    let mut b = GraphBuilder::new("g", 17);
    let mut y = b.input("x", Fact::known(Element::F32, &[2, 3]));
    for i in 0..count {
        y = b.op("Neg", &[&y]);
        if i == output {
            b.output(&y);
        }
    }
    let z = b.op("Relu", &[&y]);
    b.output(&z);
    b.finish().unwrap()
}

#[test]
fn the_example_is_what_the_document_shows() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/adding-a-pass.md")).unwrap();
    let shown: String = text
        .lines()
        .skip_while(|l| l.trim() != "```rust")
        .skip(1)
        .take_while(|l| l.trim() != "```")
        .map(|l| format!("{}\n", l.strip_prefix("   ").unwrap_or(l)))
        .collect();
    assert_eq!(shown, include_str!("double_negation.rs"));
}

#[test]
fn the_example_leaves_outputs_as_they_were() {
    // Negations in a row, with an output in the middle, and no output there.
    for count in 0..6 {
        for output in 0..6 {
            let g = negations(count, output);
            let alone = hold("double_negation", &g, &[&DoubleNegation], 0.0);
            let left = alone.graph.nodes().iter().filter(|n| n.is("Neg")).count();
            if output >= count {
                assert_eq!(left, count % 2, "{count} negations");
            }
            let with_others: Vec<&dyn Pass> = pipelines::INFERENCE.passes().into_iter().chain([&DoubleNegation as &dyn Pass]).collect();
            hold("with the others", &g, &with_others, 0.0);
        }
    }
}
