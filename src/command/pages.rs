//! Commands that turn one text into another: notebooks, help.

use super::arguments::Arguments;
use super::ended::Ended;
use clap::CommandFactory;
use compresso::Error;
use compresso::report::Style;
use compresso::shell::script::{command_usage, commands, help_text};
use compresso::shell::{Console, Output, notebook};
use std::path::Path;

/// A script as a notebook, or a notebook as a script.
pub fn convert(file: &Path, output: Option<&Path>, console: &Console) -> Result<(), Ended> {
    let is_notebook = file.extension().is_some_and(|e| e == "ipynb");
    let to = output.map_or_else(|| file.with_extension(if is_notebook { "rhai" } else { "ipynb" }), Path::to_path_buf);
    if output.is_none() && to.exists() {
        let e = Error::argument(format!("{} is there already", to.display()));
        return Err(Ended::usage(e.hint("-o FILE writes another, or this one again")));
    }
    let text = compresso::files::read_text(file)?;
    let converted = if is_notebook {
        let json = serde_json::from_str(&text).map_err(|e| Error::format("this is no JSON").because(e).file(file))?;
        notebook::to_script(&json).map_err(|e| e.file(file))?
    } else {
        format!("{:#}\n", notebook::to_notebook(&text))
    };
    compresso::files::write_file(&to, converted.as_bytes())?;
    console.print(&to.display().to_string());
    Ok(())
}

/// Says what a command, or a function of scripts, does.
pub fn help(name: Option<&str>, console: &Console) -> Result<(), Ended> {
    let style = console.style();
    // Pipes and files have no width; lines of a hundred columns are read well.
    let style = Style { width: style.width.or(Some(100)), ..style };
    let Some(name) = name else {
        console.print(Arguments::command().render_help().to_string().trim_end());
        return Ok(());
    };
    if let Some(own) = Arguments::command().find_subcommand_mut(name) {
        console.print(own.clone().bin_name(format!("compresso {name}")).render_help().to_string().trim_end());
        return Ok(());
    }
    let function = name.replace('-', "_");
    let command = commands().find(|s| s.name == function);
    let usage = command.map_or(String::new(), |s| format!("{}\n\n", command_usage(s)));
    console.print(&format!("{usage}{}", help_text(&function, &style).map_err(Ended::usage)?));
    Ok(())
}
