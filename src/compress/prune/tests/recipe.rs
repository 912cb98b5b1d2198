//! docs/adding-a-criterion.md: its example is a criterion that is compiled and run.

use super::*;

#[test]
fn the_example_is_the_compiled_file() {
    let text = include_str!("../../../../docs/adding-a-criterion.md");
    let file = include_str!("../criteria/recipe/deviation.rs");
    assert!(text.contains(&format!("```rust,ignore\n{file}```")), "the recipe shows another file than criteria/recipe/deviation.rs");
    let list = include_str!("../criteria/mod.rs");
    let line = "deviation::DEVIATION,";
    assert!(text.contains(&format!("```rust,ignore\n{line}\n```")) && list.contains(line), "the recipe shows another line than the list");
}

#[test]
fn the_example_ranks_by_what_it_says() {
    use crate::prune::criteria::recipe::CRITERIA;
    assert_eq!(CRITERIA.iter().map(|c| c.name).collect::<Vec<_>>(), ["deviation"]);
    let m = two_layers();
    let found = Analysis::new(m.graph(), &[]).unwrap();
    let got = scores(&raw(Importance::DEVIATION), &found, None).unwrap().remove(1);
    let deviation = |i: usize| {
        let row = slice(m.graph().constant("b.weight").unwrap(), 0, i);
        let mean = row.iter().sum::<f64>() / row.len() as f64;
        (row.iter().map(|w| (w - mean) * (w - mean)).sum::<f64>() / row.len() as f64).sqrt()
    };
    close(&got, &(0..16).map(deviation).collect::<Vec<_>>());
    prove_with(&m, &Prune { importance: Some(Importance::DEVIATION), ..half() });
}
