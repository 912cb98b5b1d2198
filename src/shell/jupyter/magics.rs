//! Lines at the top of a cell that begin with `%`: what the language does not have.

use super::{Completions, Match};
use crate::error::{Error, Result, nearest};
use crate::files::write_file;
use std::path::Path;

/// What they do, a line each.
pub const HELP: &str = "\
%time CODE    runs the code and says how long it took
%%time        the same for the whole cell
%load FILE    puts the text of a file into this cell
%save FILE    writes the cells that ran well so far into a script
%%rust        runs the cell as Rust (builds with the feature evcxr)
%stale        which cells show what is no longer so
?NAME         help on a function or variable; NAME? is the same
%magics       this list
";

/// Names with what is shown beside them.
const NAMES: [(&str, &str); 7] = [
    ("%time", "runs the code and says how long it took"),
    ("%%time", "says how long the cell took"),
    ("%load", "puts the text of a file into this cell"),
    ("%save", "writes the cells so far into a script"),
    ("%%rust", "runs the cell as Rust"),
    ("%stale", "which cells show what is no longer so"),
    ("%magics", "lists these"),
];

/// A piece of a cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Magic {
    /// Code, after as many empty lines as stand before it in the cell, so that places in errors are right.
    Code(String),
    Time(String),
    Load(String),
    Save(String),
    Rust(String),
    Stale,
    /// Help on a name.
    About(String),
    Help,
}

/// Splits a cell into its magic lines, which stand at its top, and the code below.
///
/// # Errors
/// For an unknown name, and for one without its argument.
pub fn parse(code: &str) -> Result<Vec<Magic>> {
    let name = code.trim();
    if let Some(name) = name.strip_prefix('?').or_else(|| name.strip_suffix('?')).filter(|n| !n.contains(char::is_whitespace)) {
        return Ok(vec![Magic::About(name.trim_end_matches("()").to_string())]);
    }
    let mut parts = Vec::new();
    let mut above = String::new();
    let mut rest = code;
    while let Some(line) = rest.split_inclusive('\n').next().filter(|l| l.trim().is_empty() || l.trim_start().starts_with('%')) {
        let below = &rest[line.len()..];
        let text = line.trim();
        let (name, argument) = text.split_once(char::is_whitespace).map_or((text, ""), |(n, a)| (n, a.trim()));
        let whole = || format!("{above}\n{below}");
        let file = || match argument {
            "" => Err(Error::argument(format!("{name} needs a file")).hint(format!("write {name} experiment.rhai"))),
            path => Ok(path.trim_matches('"').to_string()),
        };
        match name {
            "" => {}
            "%time" => {
                let indent = line.len() - line.trim_start().len() + line.trim_start().find(argument).unwrap_or(0);
                parts.push(Magic::Time(format!("{above}{:indent$}{argument}", "")));
            }
            "%%time" => {
                parts.push(Magic::Time(whole()));
                return Ok(parts);
            }
            "%%rust" => {
                parts.push(Magic::Rust(whole()));
                return Ok(parts);
            }
            "%load" => parts.push(Magic::Load(file()?)),
            "%save" => parts.push(Magic::Save(file()?)),
            "%stale" => parts.push(Magic::Stale),
            "%magics" | "%lsmagic" => parts.push(Magic::Help),
            _ => {
                let e = Error::argument(format!("there is no magic '{name}'"));
                return Err(match nearest(name, NAMES.iter().map(|n| n.0)) {
                    Some(near) => e.hint(format!("did you mean '{near}'?")),
                    None => e.hint("%magics lists them"),
                });
            }
        }
        above.push('\n');
        rest = below;
        if rest.is_empty() {
            break;
        }
    }
    if !rest.trim().is_empty() {
        parts.push(Magic::Code(format!("{above}{rest}")));
    }
    Ok(parts)
}

/// Suggestions where a magic's name is typed.
pub fn complete(before: &str) -> Option<Completions> {
    let line = before.rsplit('\n').next().unwrap_or(before);
    let typed = line.trim_start();
    let on_top = before.lines().all(|l| l.trim().is_empty() || l.trim_start().starts_with('%'));
    if !on_top || !typed.starts_with('%') || typed.contains(char::is_whitespace) {
        return None;
    }
    let fits = NAMES.iter().filter(|(name, _)| name.starts_with(typed) && *name != typed);
    let matches = fits.map(|(name, about)| Match { text: (*name).into(), kind: "magic".into(), about: (*about).into() }).collect();
    Some(Completions { start: before.len() - typed.len(), end: before.len(), matches })
}

/// Says which cells are stale, by their numbers.
pub fn stale(cells: &[usize]) -> String {
    match cells {
        [] => "no cell is stale\n".into(),
        all => format!("stale: {}\n", all.iter().map(|n| format!("[{n}]")).collect::<Vec<_>>().join(", ")),
    }
}

/// The text of a file for a cell.
///
/// # Errors
/// `Io`; `Format` for a file that is no text.
pub fn load(path: &str) -> Result<String> {
    let bytes = crate::files::read(path)?;
    String::from_utf8(bytes).map_err(|e| Error::format("this is no text").because(e).file(path))
}

/// Writes cells into a script.
///
/// # Errors
/// `Io`.
pub fn save(path: &str, cells: &[String]) -> Result<()> {
    // A value at the end of a cell is an expression without a semicolon; in a script another statement follows it.
    let text: String = cells.iter().map(|c| if c.ends_with([';', '}']) { format!("{c}\n\n") } else { format!("{c};\n\n") }).collect();
    write_file(Path::new(path), format!("{}\n", text.trim_end()).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shell::jupyter::CellError;

    #[test]
    fn lines_at_the_top_are_magic_and_code_keeps_its_place() {
        assert_eq!(parse("1 + 1").unwrap(), [Magic::Code("1 + 1".into())]);
        assert_eq!(parse("7\n% 2").unwrap(), [Magic::Code("7\n% 2".into())]);
        let both = parse("%time f(1)\n\nlet x = 2;\nx").unwrap();
        assert_eq!(both, [Magic::Time("      f(1)".into()), Magic::Code("\n\nlet x = 2;\nx".into())]);
        assert_eq!(parse("%%time\nf(1);\nf(2)").unwrap(), [Magic::Time("\nf(1);\nf(2)".into())]);
        assert_eq!(parse("%%rust\nlet x = 1;").unwrap(), [Magic::Rust("\nlet x = 1;".into())]);
        assert_eq!(parse("%load \"a b.rhai\"").unwrap(), [Magic::Load("a b.rhai".into())]);
        assert_eq!(parse("").unwrap(), []);
        assert_eq!(parse("?prune").unwrap(), parse(" prune? ").unwrap());
        assert_eq!(parse("prune?").unwrap(), [Magic::About("prune".into())]);
    }

    #[test]
    fn wrong_names_say_the_nearest() {
        let error = |code: &str| CellError::from(parse(code).unwrap_err());
        assert!(error("%tiem 1").traceback.concat().contains("did you mean '%time'?"));
        assert!(error("%save").message.contains("needs a file"));
    }

    #[test]
    fn names_complete_on_top_only() {
        let texts = |before: &str| complete(before).map(|c| c.matches.into_iter().map(|m| m.text).collect::<Vec<_>>());
        assert_eq!(texts("%l").unwrap(), ["%load"]);
        assert_eq!(texts("%load a\n%%").unwrap(), ["%%time", "%%rust"]);
        assert_eq!(texts("let x = 7\n%"), None);
        assert_eq!(texts("%load fi"), None);
    }

    #[test]
    fn saved_cells_are_a_script() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.rhai");
        save(path.to_str().unwrap(), &["let a = 2".into(), "a * 3".into(), "fn f() { 1 }".into(), "f();".into()]).unwrap();
        let text = load(path.to_str().unwrap()).unwrap();
        assert_eq!(text, "let a = 2;\n\na * 3;\n\nfn f() { 1 }\n\nf();\n");
        std::fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(load(path.to_str().unwrap()).unwrap_err().to_string().contains("no text"));
    }
}
