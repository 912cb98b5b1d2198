//! The reference of all functions as Markdown, from the table that `help` reads.

use super::binding::bindings;
use super::help::{GROUPS, kind, one_paragraph};
use super::literal::literal;
use super::properties::{DATASET, ERROR, MODEL, Property, TENSOR};
use super::results::RESULTS;
use crate::operation::Signature;
use std::fmt::Write;

/// The page `docs/reference.md`.
pub fn reference() -> String {
    let mut out = String::from(
        "# Reference\n\nAll functions of scripts, made by `compresso reference` from the table that `help` reads. `m.prune(d)` reads the same as \
         `prune(m, d)`; options stand in a map behind the arguments. What is in square brackets may be left out.\n",
    );
    let mut groups: Vec<&str> = GROUPS.to_vec();
    groups.extend(bindings().map(|b| b.signature.group));
    let mut seen = Vec::new();
    for group in groups {
        if seen.contains(&group) {
            continue;
        }
        seen.push(group);
        let mut members = bindings().filter(|b| b.signature.group == group).peekable();
        if members.peek().is_some() {
            let _ = write!(out, "\n## {}\n", capital(group));
        }
        members.for_each(|b| function(&mut out, &b.signature));
    }
    out += "\n## Fields\n";
    fields(&mut out, "a model", MODEL);
    fields(&mut out, "a dataset", DATASET);
    fields(&mut out, "a tensor", TENSOR);
    fields(&mut out, "an error, as `catch (e)` has it", ERROR);
    for kind in RESULTS {
        rows(&mut out, &format!("what `{}` gives", kind.of), kind.fields.iter().map(|f| (f.0, f.1)));
    }
    out
}

fn function(out: &mut String, s: &Signature) {
    let _ = write!(out, "\n### {}\n\n`{}`\n\n{}.\n", s.name, s.usage(), cell(s.summary.trim_end_matches('.')));
    if !s.fields.is_empty() {
        *out += "\n| option | value | default | meaning |\n|---|---|---|---|\n";
        for f in s.fields {
            let _ =
                writeln!(out, "| `{}` | {} | `{}` | {} |", f.name, cell(&kind(f.kind)), literal(&f.default()), cell(&one_paragraph(f.doc)));
        }
    }
    if !s.examples.is_empty() {
        // Examples run elsewhere (tests/examples.rs), each in a session of its own.
        let _ = write!(out, "\n```rust\n{}\n```\n", s.examples.join("\n"));
    }
}

fn fields<T>(out: &mut String, of: &str, properties: &[Property<T>]) {
    rows(out, of, properties.iter().map(|p| (p.name, p.doc)));
}

fn rows<'a>(out: &mut String, of: &str, fields: impl Iterator<Item = (&'a str, &'a str)>) {
    let _ = write!(out, "\n### Fields of {of}\n\n| field | meaning |\n|---|---|\n");
    for (name, about) in fields {
        let _ = writeln!(out, "| `{name}` | {} |", cell(about));
    }
}

/// Text that can stand in a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;")
}

fn capital(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().map_or_else(String::new, |c| c.to_uppercase().chain(chars).collect())
}
