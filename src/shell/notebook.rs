//! Scripts as notebooks, and back.
//!
//! A notebook as a script has a line `// %%` before each cell, `// %% [markdown]` before texts, whose lines are comments then, and
//! `// %% [notebook]` before cells that only a notebook understands, such as those that begin with `%%time`. Outputs stay behind. The markers
//! are those that Jupytext and editors know.
//!
//! A script without markers is split at comments that follow an empty line. One with empty lines on both sides, or at the beginning, becomes a
//! text; one right above code begins a cell of code.

use super::jupyter::install::RHAI;
use super::repl::lexer::{TokenKind, tokens};
use crate::error::{Error, Result};
use serde_json::{Value as Json, json};

const MARKER: &str = "// %%";

/// What a cell holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Code,
    Text,
    /// Code that is no script, but means something to a kernel.
    Notebook,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Cell {
    kind: Kind,
    text: String,
}

/// The notebook that a script makes.
pub fn to_notebook(script: &str) -> Json {
    let cells = if script.lines().any(is_marker) { marked(script) } else { split(script) };
    let cell = |(i, c): (usize, Cell)| {
        let source: Vec<&str> = c.text.split_inclusive('\n').collect();
        let id = format!("cell-{}", i + 1);
        match c.kind {
            Kind::Text => json!({ "cell_type": "markdown", "id": id, "metadata": {}, "source": source }),
            Kind::Code | Kind::Notebook => {
                json!({ "cell_type": "code", "execution_count": null, "id": id, "metadata": {}, "outputs": [], "source": source })
            }
        }
    };
    json!({
        "cells": cells.into_iter().filter(|c| !c.text.is_empty()).enumerate().map(cell).collect::<Vec<_>>(),
        "metadata": {
            "kernelspec": { "display_name": RHAI.display_name, "language": RHAI.language, "name": RHAI.name },
            "language_info": { "name": RHAI.language, "file_extension": ".rhai", "mimetype": "text/x-rustsrc" },
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    })
}

/// The script that a notebook makes.
///
/// # Errors
/// `Format` for what is no notebook of format 4; `Unsupported` for one of another language.
pub fn to_script(notebook: &Json) -> Result<String> {
    let broken = |what: &str| Error::format(format!("this is no notebook: {what}"));
    if notebook["nbformat"].as_u64() != Some(4) {
        return Err(broken("it is not of format 4"));
    }
    if let Some(language) = notebook["metadata"]["kernelspec"]["language"].as_str().filter(|l| *l != RHAI.language) {
        return Err(Error::unsupported(format!("the notebook's language is {language}; scripts are in {}", RHAI.language)));
    }
    let mut out = String::new();
    for cell in notebook["cells"].as_array().ok_or_else(|| broken("it has no cells"))? {
        let text = match &cell["source"] {
            Json::String(text) => text.clone(),
            Json::Array(lines) => lines.iter().filter_map(Json::as_str).collect(),
            _ => return Err(broken("a cell has no source")),
        };
        let text = text.trim_end();
        let commented = || text.lines().map(|l| format!("// {l}").trim_end().to_string() + "\n").collect::<String>();
        let (label, body) = match cell["cell_type"].as_str() {
            _ if text.is_empty() => continue,
            Some("code") if is_script(text) => ("", format!("{text}\n")),
            Some("code") => (" [notebook]", commented()),
            Some("markdown" | "raw") => (" [markdown]", commented()),
            _ => return Err(broken("a cell is neither code nor text")),
        };
        if !out.is_empty() {
            out.push('\n');
        }
        out += &format!("{MARKER}{label}\n{body}");
    }
    Ok(out)
}

/// Whether a cell can stand in a script as it is.
fn is_script(text: &str) -> bool {
    !text.lines().any(is_marker) && rhai::Engine::new().compile(text).is_ok()
}

fn is_marker(line: &str) -> bool {
    line.strip_prefix(MARKER).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
}

/// The lines of a comment without their slashes.
fn uncommented(text: &str) -> String {
    let bare = |l: &str| l.strip_prefix("// ").or_else(|| l.strip_prefix("//")).unwrap_or(l).to_string();
    text.lines().map(bare).collect::<Vec<_>>().join("\n")
}

/// Cells that begin with markers. What is behind a marker that has no meaning here is the title of a cell.
fn marked(script: &str) -> Vec<Cell> {
    let mut cells = vec![Cell { kind: Kind::Code, text: String::new() }];
    for line in script.lines().filter(|l| !l.starts_with("#!")) {
        if is_marker(line) {
            let (kind, title) = match line[MARKER.len()..].trim() {
                "[markdown]" => (Kind::Text, ""),
                "[notebook]" => (Kind::Notebook, ""),
                title => (Kind::Code, title),
            };
            if !title.is_empty() {
                cells.push(Cell { kind: Kind::Text, text: format!("// ## {title}") });
            }
            cells.push(Cell { kind, text: String::new() });
        } else if let Some(cell) = cells.last_mut() {
            cell.text += line;
            cell.text.push('\n');
        }
    }
    cells.into_iter().map(finished).collect()
}

fn finished(cell: Cell) -> Cell {
    let text = cell.text.trim_matches('\n');
    Cell { text: if cell.kind == Kind::Code { text.to_string() } else { uncommented(text) }, kind: cell.kind }
}

/// Cells of a script without markers.
fn split(script: &str) -> Vec<Cell> {
    let inside = inside(script);
    let lines: Vec<&str> = script.lines().collect();
    let blank = |i: usize| lines.get(i).is_none_or(|l| l.trim().is_empty());
    let comment = |i: usize| !inside[i] && lines[i].starts_with("//");
    let mut cells: Vec<Cell> = Vec::new();
    let mut at = usize::from(script.starts_with("#!"));
    let mut fresh = true;
    while at < lines.len() {
        let begins = comment(at) && (at == 0 || blank(at - 1) || cells.is_empty());
        let end = (at..lines.len()).find(|&i| !comment(i)).unwrap_or(lines.len());
        if begins && blank(end) {
            cells.push(Cell { kind: Kind::Text, text: lines[at..end].join("\n") });
            (at, fresh) = (end, true);
            continue;
        }
        if begins || fresh && !blank(at) {
            cells.push(Cell { kind: Kind::Code, text: String::new() });
            fresh = false;
        }
        if let Some(cell) = cells.last_mut().filter(|c| c.kind == Kind::Code) {
            cell.text += lines[at];
            cell.text.push('\n');
        }
        at += 1;
    }
    cells.into_iter().map(finished).collect()
}

/// For each line whether it begins inside of brackets, a text or a comment.
fn inside(script: &str) -> Vec<bool> {
    let mut all = vec![false];
    let mut depth = 0_usize;
    for t in tokens(script) {
        let breaks = t.text.matches('\n').count();
        all.extend(std::iter::repeat_n(depth > 0 || matches!(t.kind, TokenKind::Text | TokenKind::Comment), breaks));
        match t.kind {
            TokenKind::Open => depth += 1,
            TokenKind::Close => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRIPT: &str = "#!/usr/bin/env -S compresso run\n// # A title\n// and more\n\n// The data\nlet d = 1;\nlet f = |x| {\n\n// inside\n    x\n};\n\n\
                          let e = 2;\n\n// The model\nprint(f.call(d));\n";

    fn cells(notebook: &Json) -> Vec<(String, String)> {
        let source = |c: &Json| c["source"].as_array().unwrap().iter().map(|l| l.as_str().unwrap()).collect::<String>();
        notebook["cells"].as_array().unwrap().iter().map(|c| (c["cell_type"].as_str().unwrap().to_string(), source(c))).collect()
    }

    #[test]
    fn scripts_are_split_at_comments_behind_empty_lines() {
        let found = cells(&to_notebook(SCRIPT));
        let expected = [
            ("markdown", "# A title\nand more"),
            ("code", "// The data\nlet d = 1;\nlet f = |x| {\n\n// inside\n    x\n};\n\nlet e = 2;"),
            ("code", "// The model\nprint(f.call(d));"),
        ];
        assert_eq!(found, expected.map(|(k, s)| (k.to_string(), s.to_string())));
    }

    #[test]
    fn notebooks_become_scripts_and_the_same_notebooks_again() {
        let mut notebook = to_notebook(SCRIPT);
        let magic = json!({ "cell_type": "code", "execution_count": 3, "id": "x", "metadata": {}, "source": ["%%time\n", "\n", "prune(m)"],
            "outputs": [{ "output_type": "stream", "name": "stdout", "text": "kept out" }] });
        notebook["cells"].as_array_mut().unwrap().push(magic);
        let script = to_script(&notebook).unwrap();
        assert!(rhai::Engine::new().compile(&script).is_ok() && !script.contains("kept out"), "{script}");
        assert!(script.starts_with("// %% [markdown]\n// # A title\n// and more\n\n// %%\n// The data\n"), "{script}");
        assert!(script.ends_with("// %% [notebook]\n// %%time\n//\n// prune(m)\n"), "{script}");
        let again = to_notebook(&script);
        assert_eq!(cells(&again), cells(&notebook));
        assert_eq!(to_script(&again).unwrap(), script);
    }

    #[test]
    fn markers_have_titles_and_other_files_are_refused() {
        assert_eq!(
            cells(&to_notebook("// %% Data\nlet a = 1;\n")),
            [("markdown".into(), "## Data".into()), ("code".into(), "let a = 1;".into())]
        );
        assert!(to_script(&json!({ "nbformat": 3 })).unwrap_err().to_string().contains("format 4"));
        let python = json!({ "nbformat": 4, "cells": [], "metadata": { "kernelspec": { "language": "python" } } });
        assert!(to_script(&python).unwrap_err().to_string().contains("python"));
    }
}
