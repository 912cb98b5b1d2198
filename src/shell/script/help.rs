//! `help()` and `help("prune")`, made from the table of functions.

use super::binding::{bindings, find};
use super::call::Binding;
use super::literal::literal;
use super::properties::{DATASET, MODEL, Property, TENSOR};
use super::results::{ResultKind, result_kind};
use crate::error::{Error, Result, nearest};
use crate::model::{BoxDecode, Preprocess};
use crate::operation::{Field, OptionKind, OptionValue, Options, Signature};
use crate::report::{Ink, Media, Style, Table, escape, html_fragment, table_text, wrapped};

/// Headings in the order of the overview; groups that are not named here follow.
pub(super) const GROUPS: [&str; 12] =
    ["models", "data", "compress", "deploy", "measure", "experiments", "results", "lists", "tensors", "numbers", "files", "session"];

/// All functions by group, a line each.
pub fn overview(style: &Style) -> String {
    let mut groups: Vec<&str> = GROUPS.to_vec();
    for b in bindings() {
        if !groups.contains(&b.signature.group) {
            groups.push(b.signature.group);
        }
    }
    let width = bindings().map(|b| b.signature.name.len()).max().unwrap_or(0);
    let mut out = String::new();
    for group in groups {
        let members: Vec<&Binding> = bindings().filter(|b| b.signature.group == group).collect();
        if members.is_empty() {
            continue;
        }
        out += &format!("{}\n", style.paint(Ink::BoldCyan, group));
        for b in members {
            let name = format!("{:<width$}", b.signature.name);
            out += &format!("  {}  {}\n", style.paint(Ink::Blue, &name), indented(b.signature.summary, width + 4, style));
        }
    }
    let end = "\nhelp(\"prune\") shows options, defaults and examples; m.prune() reads the same as prune(m).\n\
           Fields: help(\"model\"), help(\"dataset\"), help(\"tensor\"), and of results help(\"predictions\"), help(\"evaluation\"), \
           help(\"history\"), help(\"benchmarks\"), help(\"comparison\"). The language is Rhai: https://rhai.rs/book";
    out.push_str(&style.width.map_or(end.to_string(), |w| wrapped(end, w, 0)));
    out
}

/// Usage, options with defaults, fields of the type of that name, examples.
///
/// # Errors
/// `Missing` for a word that no function knows.
pub fn help_text(word: &str, style: &Style) -> Result<String> {
    let word = word.trim().trim_end_matches("()");
    if word.is_empty() {
        return Ok(overview(style));
    }
    if let Some(b) = find(word) {
        return Ok(describe(&b.signature, style));
    }
    if let Some(kind) = result_kind(word) {
        return Ok(result_text(kind, style));
    }
    if word == "decode" {
        let words = crate::model::DecodeOption::KIND;
        let head = format!("option decode of model(): {words}\nA map describes the outputs of a detector of any other form:");
        return Ok(format!(
            "{head}\n\n{}\n\n{}\n  {DECODE_EXAMPLES}",
            options(BoxDecode::FIELDS, style),
            style.paint(Ink::BoldCyan, "Examples")
        ));
    }
    if word == "preprocess" {
        let words = crate::model::PreprocessOption::KIND;
        let head = format!("option preprocess of model(): {words}\nA map says how images become the input of a model from elsewhere:");
        let examples = "let m = model(\"resnet.onnx\", #{ preprocess: \"imagenet\" });\n  \
                        let m = model(\"net.onnx\", #{ preprocess: #{ mean: [0.5], std: [0.5], resize: 256, crop: 224 } });";
        let title = style.paint(Ink::BoldCyan, "Examples");
        return Ok(format!("{head}\n\n{}\n\n{title}\n  {examples}", options(Preprocess::FIELDS, style)));
    }
    if word == "tensors" || word == "models" || bindings().any(|b| b.signature.group == word) {
        let names: Vec<String> = bindings().filter(|b| b.signature.group == word).map(|b| one_line(&b.signature, style)).collect();
        return Ok(names.join("\n"));
    }
    // A word that describes a function: "kd", "speed", "calibration".
    let lower = word.to_lowercase();
    let related: Vec<&Binding> = bindings()
        .filter(|b| {
            let s = &b.signature;
            s.name.contains(&lower)
                || s.keywords.iter().any(|k| k.to_lowercase().contains(&lower))
                || s.fields.iter().any(|f| f.name == lower)
                || s.summary.to_lowercase().contains(&lower)
        })
        .collect();
    if !related.is_empty() {
        let lines: Vec<String> = related.iter().map(|b| one_line(&b.signature, style)).collect();
        return Ok(format!("Functions about \"{word}\":\n{}", lines.join("\n")));
    }
    let e = Error::missing(format!("there is no help on '{word}'"));
    Err(match nearest(word, bindings().map(|b| b.signature.name)) {
        Some(near) => e.hint(format!("did you mean help(\"{near}\")?")),
        None => e.hint("help() lists the functions"),
    })
}

/// The help of a function as an output of a notebook; examples on demand. `None` for a name that is none.
pub fn help_media(name: &str, examples: bool) -> Option<Media> {
    let s = &find(name)?.signature;
    let mut html = format!("<code><b>{}</b></code><p>{}</p>", escape(&s.usage()), with_code(s.summary));
    if !s.fields.is_empty() {
        html += &with_code_marked(&html_fragment(&[option_table(s.fields)], &[]));
    }
    if examples && !s.examples.is_empty() {
        html += &format!("<p><b>Examples</b></p><pre>{}</pre>", escape(&s.examples.join("\n")));
    }
    let shown = if examples { *s } else { Signature { examples: &[], ..*s } };
    Some(Media::text(describe(&shown, &Style::columns(HELP_WIDTH))).with("text/html", html))
}

/// Text as HTML, with what stands between back quotes as code.
fn with_code(text: &str) -> String {
    with_code_marked(&escape(text))
}

fn with_code_marked(html: &str) -> String {
    let pieces: Vec<&str> = html.split('`').collect();
    // A single one left over is a character.
    let closed = pieces.len() - usize::from(pieces.len().is_multiple_of(2));
    let mut out = String::new();
    for (i, piece) in pieces.iter().enumerate() {
        match i {
            0 => {}
            _ if i >= closed => out.push('`'),
            _ => out += if i % 2 == 1 { "<code>" } else { "</code>" },
        }
        out += piece;
    }
    out
}

fn result_text(kind: &ResultKind, style: &Style) -> String {
    let mut table = Table::new(format!("Fields of what {} gives", kind.of), &["field", "meaning"]);
    for (name, meaning) in kind.fields {
        table.row([*name, *meaning]);
    }
    let note = format!(
        "help(\"{}\") has the function's options. Of a result r, table(r) is its table, plots(r) are its plots, and save(r, \"r.json\") \
         keeps all of it.",
        kind.of
    );
    format!("{}\n\n{}", table_text(&table, style), style.width.map_or(note.clone(), |w| wrapped(&note, w, 0)))
}

fn one_line(s: &Signature, style: &Style) -> String {
    format!("  {}  {}", style.paint(Ink::Blue, s.name), indented(s.summary, s.name.len() + 4, style))
}

/// Text that begins at a column, wrapped so that its other lines begin there too.
fn indented(text: &str, column: usize, style: &Style) -> String {
    let Some(width) = style.width.filter(|w| *w > column + 20) else { return text.to_string() };
    wrapped(text, width - column, 0).replace('\n', &format!("\n{:column$}", ""))
}

fn describe(s: &Signature, style: &Style) -> String {
    let mut out = format!("{}\n{}", style.paint(Ink::Bold, &s.usage()), indented(s.summary, 0, style));
    if !s.fields.is_empty() {
        out += &format!("\n\n{}", options(s.fields, style));
    }
    for (name, fields) in [("model", fields(MODEL)), ("dataset", fields(DATASET)), ("tensor", fields(TENSOR))] {
        if s.name == name {
            let mut t = Table::new(&*format!("Fields of a {name}"), &["field", "meaning"]);
            t.rows = fields;
            out += &format!("\n\n{}", table_text(&t, style));
        }
    }
    if !s.examples.is_empty() {
        out += &format!("\n\n{}", style.paint(Ink::BoldCyan, "Examples"));
        for e in s.examples {
            out += &format!("\n  {}", e.replace('\n', "\n  "));
        }
    }
    out
}

/// Descriptions of well-known forms.
const DECODE_EXAMPLES: &str = r#"#{ boxes: "boxes", scores: "scores", normalized: true, background: 0 }  // SSD
  #{ format: "cxcywh", objectness: true }                                 // one output of YOLOv5
  #{ boxes: "pred_boxes", scores: "logits", format: "cxcywh", normalized: true, activation: "softmax", background: 91, nms: false }  // DETR
  #{ boxes: "boxes", labels: "labels", scores: "scores", background: 0 }  // torchvision
  #{ columns: ["batch", "class", "score", "box"], normalized: true }      // rows of finished detections"#;

/// Columns of help beside a cell.
const HELP_WIDTH: usize = 100;
/// Columns that the table of options needs to be readable.
const TABLE_WIDTH: usize = 72;

/// A table where there is room, else a paragraph for each option.
fn options(fields: &[Field], style: &Style) -> String {
    if style.width.is_some_and(|w| w < TABLE_WIDTH) {
        let entry = |f: &Field| {
            let head = format!("{}: {} [{}]", style.paint(Ink::Blue, f.name), kind(f.kind), literal(&f.default()));
            format!("{head}\n    {}", one_paragraph(f.doc))
        };
        return fields.iter().map(entry).collect::<Vec<_>>().join("\n");
    }
    table_text(&option_table(fields), style)
}

fn option_table(fields: &[Field]) -> Table {
    let mut t = Table::new("Options", &["option", "value", "default", "meaning"]);
    for f in fields {
        t.row([f.name.to_string(), kind(f.kind), literal(&f.default()), one_paragraph(f.doc)]);
    }
    t
}

fn fields<T>(properties: &[Property<T>]) -> Vec<Vec<String>> {
    properties.iter().map(|p| vec![p.name.to_string(), p.doc.to_string()]).collect()
}

pub(super) fn kind(kind: OptionKind) -> String {
    match kind {
        OptionKind::Optional(inner) => format!("{inner}, or ()"),
        other => other.to_string(),
    }
}

/// A doc comment's lines joined, paragraphs kept.
pub(super) fn one_paragraph(doc: &str) -> String {
    doc.lines().map(str::trim).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_between_back_quotes_are_code() {
        assert_eq!(with_code("set `a<b` or `c`"), "set <code>a&lt;b</code> or <code>c</code>");
        assert_eq!(with_code("one ` alone"), "one ` alone");
        assert_eq!(with_code("`x` and `"), "<code>x</code> and `");
    }
}
