//! Texts, names of files and the environment.

use super::signature;
use crate::error::{Error, Result};
use crate::files;
use crate::operation::{Arg, ArgKind};
use crate::shell::script::call::{Binding, Call};
use rhai::{Array, Dynamic};
use std::path::Path;

const PATH: Arg = Arg::new("path", ArgKind::Text);

pub(super) const TABLE: &[Binding] = &[
    Binding {
        signature: signature(("files", "read_text"), "The text of a file", &[PATH], "text", &[], &["open", "load", "file", "lines"]),
        call: |c| Ok(files::read_text(c.text(0)?)?.into()),
    },
    Binding {
        signature: signature(
            ("files", "write_text"),
            "Writes a text into a file, which appears whole; missing folders are made",
            &[PATH, Arg::new("text", ArgKind::Text)],
            "nothing",
            &[],
            &["save", "file", "write"],
        ),
        call: |c| {
            let path = c.text(0)?;
            files::make_parent(Path::new(&path))?;
            // A text that begins with `~/` is no path.
            files::write_file(Path::new(&path), c.arg(1).to_string().as_bytes())?;
            Ok(Dynamic::UNIT)
        },
    },
    Binding {
        signature: signature(
            ("files", "glob"),
            "Paths of files and folders that a pattern fits, in order: '*' stands for any text in a name, '?' for one character",
            &[Arg::new("pattern", ArgKind::Text)],
            "list",
            &["glob(\"runs/*/best.onnx\")"],
            &["files", "folder", "ls", "listdir", "pattern", "paths"],
        ),
        call: glob,
    },
    Binding {
        signature: signature(
            ("files", "exists"),
            "Whether there is a file or folder of this name",
            &[PATH],
            "true or false",
            &["exists(\"data.yaml\")"],
            &["isfile", "isdir"],
        ),
        call: |c| Ok(Path::new(&c.text(0)?).exists().into()),
    },
    Binding {
        signature: signature(
            ("files", "env"),
            "A variable of the environment, or () where it is not set; with a second argument, that instead",
            &[Arg::new("name", ArgKind::Text), Arg::optional("otherwise", ArgKind::Any)],
            "text",
            &["env(\"EPOCHS\", \"10\")"],
            &["environment", "getenv", "environ"],
        ),
        call: |c| {
            let name = c.text(0)?;
            if name.is_empty() || name.contains(['=', '\0']) {
                return Err(Error::argument(format!("\"{name}\" is no name of a variable")));
            }
            Ok(std::env::var(name).map_or_else(|_| c.arg(1).clone(), Into::into))
        },
    },
];

fn glob(c: &Call<'_>) -> Result<Dynamic> {
    let pattern = c.text(0)?;
    let (mut found, rest) = match pattern.strip_prefix('/') {
        Some(rest) => (vec!["/".to_string()], rest),
        None => (vec![String::new()], pattern.as_str()),
    };
    for part in rest.split('/').filter(|p| !p.is_empty()) {
        let mut next = Vec::new();
        for folder in &found {
            c.ctx.check()?;
            let joined = |name: &str| match folder.as_str() {
                "" => name.to_string(),
                "/" => format!("/{name}"),
                folder => format!("{folder}/{name}"),
            };
            if !part.contains(['*', '?']) {
                next.extend(Some(joined(part)).filter(|path| Path::new(path).exists()));
                continue;
            }
            // What cannot be listed has nothing that fits.
            let Ok(entries) = std::fs::read_dir(if folder.is_empty() { "." } else { folder.as_str() }) else { continue };
            let names = entries.flatten().filter_map(|e| e.file_name().into_string().ok());
            // As in a shell, hidden files are found by their dot.
            next.extend(
                names.filter(|n| n.starts_with('.') == part.starts_with('.') && crate::model::names::glob(part, n)).map(|n| joined(&n)),
            );
        }
        next.sort();
        found = next;
    }
    Ok(found.into_iter().filter(|f| !f.is_empty()).map(Dynamic::from).collect::<Array>().into())
}
