//! Operations as commands of a system's shell: `compresso prune best.pt --ratio 0.4 --data data.yaml -o small.onnx`, from the table of
//! functions. A command becomes the script that says the same, so options, errors and results are those of scripts.

use super::binding::{bindings, find};
use super::literal::{literal, map};
use crate::error::{Error, Result, nearest};
use crate::operation::{Arg, ArgKind, OptionKind, Signature};
use serde_json::{Map, Value as Json};
use std::path::Path;

/// A command of one line.
#[derive(Debug, PartialEq)]
pub struct OneLine {
    /// The script that says the same; its last expression is the command's value.
    pub script: String,
    /// Where the value is written.
    pub output: Option<String>,
    /// The value is shown as JSON.
    pub json: bool,
    /// Threads to use, where it says so.
    pub threads: Option<i64>,
    /// Seed of the session, where it says so.
    pub seed: Option<u64>,
    /// Name of the device, where it says so.
    pub device: Option<String>,
    /// Notes and progress are not shown.
    pub quiet: bool,
}

/// What a command line asks for.
#[derive(Debug)]
pub enum Line {
    /// Run this.
    Run(OneLine),
    /// Help on this function.
    Help(&'static Signature),
}

/// Functions that are commands: those whose first argument is a model, models, or what makes one.
pub fn commands() -> impl Iterator<Item = &'static Signature> {
    let first = |s: &Signature| s.args.first().is_some_and(|a| matches!(a.kind, ArgKind::Model | ArgKind::Models) && !a.optional);
    bindings().map(|b| &b.signature).filter(move |s| first(s) && s.args.iter().all(|a| is_plain(a.kind)))
}

fn is_plain(kind: ArgKind) -> bool {
    !matches!(kind, ArgKind::Tensor | ArgKind::Feeds | ArgKind::Function | ArgKind::Report | ArgKind::Any | ArgKind::List | ArgKind::Map)
}

/// The command that a mistyped one may have meant, also among `others`.
pub fn nearest_command(name: &str, others: &[&'static str]) -> Option<&'static str> {
    nearest(name, commands().map(|s| s.name).chain(others.iter().copied()))
}

/// Reads a command and what follows it; `None` for a name that no function has.
///
/// # Errors
/// `Argument` for options and arguments that the function does not have, or lacks.
pub fn one_line(words: &[String]) -> Option<Result<Line>> {
    let (name, words) = words.split_first()?;
    let name = name.replace('-', "_");
    let sig = if name == "export" { &find("save")?.signature } else { commands().find(|s| s.name == name)? };
    Some(read(sig, words))
}

/// What an option of a command is.
enum Meaning<'a> {
    Argument(usize),
    Option(&'a crate::operation::Field),
    Output,
    Json,
    Threads,
    Seed,
    Device,
    Quiet,
}

fn read(sig: &'static Signature, words: &[String]) -> Result<Line> {
    let mut given: Vec<Vec<String>> = vec![Vec::new(); sig.args.len()];
    let mut options = Map::new();
    let mut positional = Vec::new();
    let mut line = OneLine { script: String::new(), output: None, json: false, threads: None, seed: None, device: None, quiet: false };
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        if matches!(word.as_str(), "-h" | "--help") {
            return Ok(Line::Help(sig));
        }
        let Some(option) =
            word.strip_prefix("--").or_else(|| word.strip_prefix('-').filter(|w| w.len() == 1 && !w.starts_with(char::is_numeric)))
        else {
            positional.push(word.clone());
            continue;
        };
        let (option, mut inline) = option.split_once('=').map_or((option, None), |(o, v)| (o, Some(v.to_string())));
        let option = option.replace('-', "_");
        let meaning = meaning(sig, &option)?;
        let alone = inline.is_none();
        let mut value = |what: &str| {
            let dashes = if option.len() == 1 { "-" } else { "--" };
            let missing = || Error::argument(format!("{dashes}{} needs {what} behind it", option.replace('_', "-")));
            inline.take().or_else(|| rest.next().cloned()).ok_or_else(missing)
        };
        match meaning {
            Meaning::Argument(i) => given[i].push(value(&sig.args[i].kind.to_string())?),
            Meaning::Output => line.output = Some(value("a file")?),
            Meaning::Json => line.json = true,
            Meaning::Quiet => line.quiet = true,
            Meaning::Threads => line.threads = Some(number(&option, &value("a number")?)?),
            Meaning::Seed => line.seed = Some(number(&option, &value("a number")?)?),
            Meaning::Device => line.device = Some(value("a name")?),
            // `--verify` alone is true.
            Meaning::Option(field) if takes(field.kind) == OptionKind::Bool && alone => {
                options.insert(field.name.into(), true.into());
            }
            Meaning::Option(field) => {
                let text = value(&field.kind.to_string())?;
                options.insert(field.name.into(), json(field.kind, &text));
            }
        }
    }
    line.script = script(sig, given, positional, &options)?;
    Ok(Line::Run(line))
}

fn number<T: std::str::FromStr>(option: &str, text: &str) -> Result<T> {
    text.parse().map_err(|_| Error::argument(format!("--{option} needs a whole number, got {text}")))
}

fn meaning(sig: &'static Signature, option: &str) -> Result<Meaning<'static>> {
    if let Some(field) = sig.fields.iter().find(|f| f.name == option) {
        return Ok(Meaning::Option(field));
    }
    let is_data = |a: &Arg| a.kind == ArgKind::Dataset && option == "data";
    if let Some(i) = sig.args.iter().position(|a| a.name == option).or_else(|| sig.args.iter().position(is_data)) {
        return Ok(Meaning::Argument(i));
    }
    Ok(match option {
        "o" | "output" => Meaning::Output,
        "json" => Meaning::Json,
        "threads" => Meaning::Threads,
        "seed" => Meaning::Seed,
        "device" => Meaning::Device,
        "quiet" | "q" => Meaning::Quiet,
        _ => {
            let all = sig.fields.iter().map(|f| f.name).chain(["data", "output", "json", "threads", "seed", "device", "quiet"]);
            let e = Error::argument(format!("{} has no option --{}", command(sig), option.replace('_', "-")));
            return Err(match nearest(option, all) {
                Some(near) => e.hint(format!("did you mean --{near}?")),
                None => e.hint(format!("compresso {} --help lists them", command(sig))),
            });
        }
    })
}

/// The kind that an option takes where it is given.
fn takes(kind: OptionKind) -> OptionKind {
    match kind {
        OptionKind::Optional(inner) => *inner,
        kind => kind,
    }
}

/// An option's text as its value: numbers, lists with commas, else text. What is no number stays text, for the error to show.
fn json(kind: OptionKind, text: &str) -> Json {
    let number = || text.parse::<i64>().ok().map(Json::from).or_else(|| text.parse::<f64>().ok().map(Json::from));
    match takes(kind) {
        OptionKind::Bool => text.parse::<bool>().map_or_else(|_| text.into(), Json::from),
        OptionKind::Int | OptionKind::Float => number().unwrap_or_else(|| text.into()),
        OptionKind::List(inner) => text.split(',').map(|item| json(*inner, item.trim())).collect(),
        OptionKind::Text | OptionKind::Choice(_) | OptionKind::ChoiceOrMap(_) | OptionKind::Map if !text.starts_with('{') => text.into(),
        OptionKind::Any if text.contains(',') => text.split(',').map(|item| json(OptionKind::Any, item.trim())).collect(),
        OptionKind::Any if number().is_some() => number().unwrap_or_default(),
        // Maps as JSON.
        _ => serde_json::from_str(text).unwrap_or_else(|_| text.into()),
    }
}

/// `prune(model("best.pt"), dataset("data.yaml"), #{ ratio: 0.4 })`
fn script(sig: &Signature, mut given: Vec<Vec<String>>, positional: Vec<String>, options: &Map<String, Json>) -> Result<String> {
    let several = |a: &Arg| matches!(a.kind, ArgKind::Models | ArgKind::Images | ArgKind::Texts);
    let mut words = positional.into_iter().peekable();
    for (i, arg) in sig.args.iter().enumerate() {
        // Datasets that may be left out are named: `--data data.yaml`.
        if !given[i].is_empty() || arg.optional && arg.kind == ArgKind::Dataset {
            continue;
        }
        let after = sig.args[i + 1..].iter().filter(|a| !a.optional).count();
        if several(arg) && words.len() > after + 1 {
            let count = words.len() - after;
            given[i].extend(words.by_ref().take(count));
        } else {
            given[i].extend(words.next());
        }
    }
    if let Some(word) = words.next() {
        return Err(Error::argument(format!("{} takes no '{word}'", command(sig))).hint(usage(sig)));
    }
    let mut arguments = Vec::new();
    for (arg, values) in sig.args.iter().zip(&given) {
        if values.is_empty() && !arg.optional {
            return Err(Error::argument(format!("{} needs {} for '{}'", command(sig), arg.kind, arg.name)).hint(usage(sig)));
        }
        arguments.push(argument(arg.kind, values));
    }
    while arguments.last().is_some_and(|a| a == "()") {
        arguments.pop();
    }
    if !options.is_empty() {
        // A map must not stand in the place of an argument.
        arguments.push(map(options));
    }
    Ok(format!("{}({})", sig.name, arguments.join(", ")))
}

/// What the command line gives for an argument, as script text.
fn argument(kind: ArgKind, values: &[String]) -> String {
    let text = |v: &String| literal(&v.as_str().into());
    let model = |v: &String| format!("model({})", text(v));
    match (kind, values) {
        (_, []) => "()".into(),
        (ArgKind::Model, [one, ..]) => model(one),
        (ArgKind::Models, [one]) => model(one),
        (ArgKind::Models, all) => {
            let stem = |v: &String| Path::new(v).file_stem().map_or(v.clone(), |s| s.to_string_lossy().into_owned());
            let pairs: Vec<String> = all.iter().map(|v| format!("[{}, {}]", text(&stem(v)), model(v))).collect();
            format!("[{}]", pairs.join(", "))
        }
        (ArgKind::Dataset, [one, ..]) => format!("dataset({})", text(one)),
        (ArgKind::Int | ArgKind::Number | ArgKind::Bool, [one, ..]) => literal(&json(OptionKind::Any, one)),
        // The first value of what `save` takes is a model here.
        (ArgKind::Any, [one, ..]) => model(one),
        (_, [one]) => text(one),
        (_, all) => format!("[{}]", all.iter().map(text).collect::<Vec<_>>().join(", ")),
    }
}

/// What the command line calls a function.
fn command(sig: &Signature) -> &'static str {
    if sig.name == "save" { "export" } else { sig.name }
}

/// `compresso prune MODEL [--data DATASET] [options] [-o FILE]`
pub fn usage(sig: &Signature) -> String {
    let arguments: String = sig
        .args
        .iter()
        .map(|a| match (a.kind, a.optional) {
            (ArgKind::Dataset, true) => " [--data DATA]".to_string(),
            (kind, optional) => {
                let word = match kind {
                    ArgKind::Model | ArgKind::Any => "MODEL".to_string(),
                    ArgKind::Models => "MODEL …".to_string(),
                    ArgKind::Dataset => "DATA".to_string(),
                    ArgKind::Images => "IMAGES …".to_string(),
                    _ => a.name.to_uppercase(),
                };
                if optional { format!(" [{word}]") } else { format!(" {word}") }
            }
        })
        .collect();
    let options = if sig.fields.is_empty() { "" } else { " [--option VALUE …]" };
    format!("usage: compresso {}{arguments}{options} [-o FILE] [--json]", command(sig))
}

/// Script for the completion of commands and their options in a shell: bash, zsh or fish.
///
/// # Errors
/// `Argument` for another shell.
pub fn completions(shell: &str, others: &[&'static str]) -> Result<String> {
    let names: Vec<&str> = others.iter().copied().chain(commands().map(|s| s.name)).collect();
    let options = |s: &Signature| {
        let own = s.fields.iter().map(|f| format!("--{}", f.name.replace('_', "-")));
        own.chain(["--data", "--output", "--json", "--help"].map(String::from)).collect::<Vec<_>>().join(" ")
    };
    let cases = || commands().map(|s| format!("    {}) words=\"{}\" ;;\n", s.name, options(s))).collect::<String>();
    Ok(match shell {
        "bash" => format!(
            "_compresso() {{\n  local words cur=\"${{COMP_WORDS[COMP_CWORD]}}\"\n  if [ \"$COMP_CWORD\" = 1 ]; then words=\"{}\"; else\n  \
             case \"${{COMP_WORDS[1]}}\" in\n{}  esac\n  fi\n  COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n}}\n\
             complete -o default -F _compresso compresso\n",
            names.join(" "),
            cases()
        ),
        "zsh" => format!(
            "#compdef compresso\n_compresso() {{\n  local command=$words[2] options\n  if (( CURRENT == 2 )); then compadd {}; return; fi\n  \
             case $command in\n{}  esac\n  compadd -- ${{=options}}\n  _files\n}}\ncompdef _compresso compresso\n",
            names.join(" "),
            cases().replace("words=", "options=")
        ),
        "fish" => {
            let first = format!("complete -c compresso -n __fish_use_subcommand -a \"{}\"\n", names.join(" "));
            let rest = commands().flat_map(|s| {
                s.fields.iter().map(move |f| {
                    let about = f.doc.lines().next().unwrap_or_default().replace('\'', "’");
                    format!(
                        "complete -c compresso -n '__fish_seen_subcommand_from {}' -l {} -d '{about}'\n",
                        s.name,
                        f.name.replace('_', "-")
                    )
                })
            });
            std::iter::once(first).chain(rest).collect()
        }
        other => return Err(Error::argument(format!("there are no completions for '{other}'")).hint("bash, zsh or fish")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script_of(line: &str) -> String {
        match one_line(&line.split(' ').map(String::from).collect::<Vec<_>>()).unwrap() {
            Ok(Line::Run(one)) => format!("{}{}", one.script, one.output.map_or(String::new(), |path| format!(" > {path}"))),
            Ok(Line::Help(s)) => format!("help {}", s.name),
            Err(e) => format!("error: {e}"),
        }
    }

    #[test]
    fn commands_become_scripts() {
        for (line, script) in [
            (
                "prune best.pt --ratio 0.4 --data data.yaml -o small.onnx",
                "prune(model(\"best.pt\"), dataset(\"data.yaml\"), #{ ratio: 0.4 }) > small.onnx",
            ),
            ("prune best.pt --ratio=0.4", "prune(model(\"best.pt\"), #{ ratio: 0.4 })"),
            ("evaluate best.pt data.yaml", "evaluate(model(\"best.pt\"), dataset(\"data.yaml\"))"),
            (
                "benchmark a.onnx b.onnx --data d.yaml --runs 5",
                "benchmark([[\"a\", model(\"a.onnx\")], [\"b\", model(\"b.onnx\")]], dataset(\"d.yaml\"), #{ runs: 5 })",
            ),
            ("benchmark a.onnx --runtimes native,eager", "benchmark(model(\"a.onnx\"), #{ runtimes: [\"native\", \"eager\"] })"),
            ("predict m.pt a.jpg b.jpg --confidence 0.5", "predict(model(\"m.pt\"), [\"a.jpg\", \"b.jpg\"], #{ confidence: 0.5 })"),
            ("onnx-export m.pt out.onnx --opset 12", "onnx_export(model(\"m.pt\"), \"out.onnx\", #{ opset: 12 })"),
            ("openvino-export m.pt out.xml --verify", "openvino_export(model(\"m.pt\"), \"out.xml\", #{ verify: true })"),
            ("export best.pt model.tflite", "save(model(\"best.pt\"), \"model.tflite\")"),
            ("lint m.onnx tensorrt", "lint(model(\"m.onnx\"), \"tensorrt\")"),
            ("prune --help", "help prune"),
        ] {
            assert_eq!(script_of(line), script, "{line}");
        }
        for (line, part) in [
            ("prune best.pt --ratoi 0.4", "did you mean --ratio?"),
            ("prune", "prune needs model for 'm'"),
            ("evaluate best.pt", "needs dataset for"),
            ("evaluate a.pt d.yaml e.yaml", "takes no 'e.yaml'"),
            ("prune best.pt --ratio", "--ratio needs number behind it"),
            ("prune best.pt -o", "error: -o needs a file behind it"),
            ("prune best.pt --min-channels", "--min-channels needs "),
        ] {
            assert!(script_of(line).contains(part), "{line}: {}", script_of(line));
        }
        assert!(one_line(&["pruun".into()]).is_none());
        assert_eq!(nearest_command("rn", &["run", "eval"]), Some("run"));
        assert_eq!(nearest_command("benchmrk", &["run"]), Some("benchmark"));
    }

    #[test]
    fn scripts_of_commands_can_be_parsed() {
        let engine = rhai::Engine::new();
        for s in commands() {
            let needed = s.args.iter().filter(|a| !a.optional).map(|_| "x.onnx".to_string());
            let words: Vec<String> = std::iter::once(s.name.to_string()).chain(needed).collect();
            let Some(Ok(Line::Run(one))) = one_line(&words) else { panic!("{}", s.name) };
            assert!(engine.compile(&one.script).is_ok(), "{}", one.script);
        }
        assert!(commands().any(|s| s.name == "train") && commands().all(|s| s.name != "forward"));
    }
}
