//! The command line.

use clap::{Parser, Subcommand};
use compresso::kernels::memory::Recycling;
use compresso::measure::runtimes::onnxruntime;
use compresso::report::{Style, save};
use compresso::shell::jupyter::{self, RhaiCells, install};
use compresso::shell::script::{
    Failure, Limits, Line, Session, command_usage, completions, exit_code, help_text, nearest_command, one_line,
};
use compresso::shell::{Console, Front, Output, cancelled_code, doctor, repl, watch_interrupts};
use compresso::{Context, Error};
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

#[global_allocator]
static MEMORY: Recycling = Recycling;

const OPERATIONS: &str = "Operations on model files are commands too:
  compresso prune best.pt --ratio 0.4 --data data.yaml -o small.onnx
  compresso benchmark best.onnx small.onnx --data data.yaml
train, evaluate, predict, prune, quantize, optimize, export, lint, summary and others; 'compresso prune --help' has the options of one";

/// Makes vision models small and fast: prune, quantize, distill, export, benchmark.
///
/// Without a command, starts the prompt; a script piped in is run.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, after_help = OPERATIONS)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// Threads that operations use [default: all cores]
    #[arg(long, global = true, value_name = "N")]
    threads: Option<i64>,
    /// Device that operations run on: auto, cpu, cuda, cuda:1 [default: cpu]
    #[arg(long, global = true, value_name = "NAME")]
    device: Option<String>,
    /// Seed of everything random [default: 0]
    #[arg(long, global = true, value_name = "N")]
    seed: Option<u64>,
    /// Memory that the program may take, such as 4GB; what would take more is an error [default: what is free]
    #[arg(long, global = true, value_name = "SIZE", value_parser = bytes)]
    max_memory: Option<u64>,
    /// Time that a script, or an input at the prompt, may take, such as 30s or 5m
    #[arg(long, global = true, value_name = "TIME", value_parser = time)]
    timeout: Option<Duration>,
    /// Steps that a script, or an input at the prompt, may take: calls, expressions, rounds of loops
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max_operations: Option<u64>,
    /// Leave out progress and notes
    #[arg(short, long, global = true)]
    quiet: bool,
    /// Let scripts read and write files under this folder alone, start no program and reach no network (Linux)
    #[arg(long, global = true, value_name = "DIR")]
    sandbox: Option<PathBuf>,
}

/// A time such as `30`, `30s`, `500ms`, `5m` or `1h`; seconds without a unit.
fn time(text: &str) -> Result<Duration, String> {
    let unit = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let factor = match &text[unit..] {
        "" | "s" => 1.0,
        "ms" => 1e-3,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        other => return Err(format!("'{other}' is no unit: expected ms, s, m or h")),
    };
    let number: f64 = text[..unit].trim().parse().map_err(|_| format!("expected a time such as 30s, got '{text}'"))?;
    let time = Duration::try_from_secs_f64(number * factor).map_err(|e| e.to_string())?;
    if time.is_zero() { Err("expected a time above zero".into()) } else { Ok(time) }
}

/// A number of bytes such as `4GB`, `512 MB` or `1e9`.
fn bytes(text: &str) -> Result<u64, String> {
    let unit = text.find(|c: char| c.is_ascii_alphabetic() && !matches!(c, 'e' | 'E')).unwrap_or(text.len());
    let factor = match text[unit..].trim() {
        "" | "B" => 1.0,
        "kB" | "KB" => 1e3,
        "MB" => 1e6,
        "GB" => 1e9,
        "TB" => 1e12,
        other => return Err(format!("'{other}' is no unit: expected kB, MB, GB or TB")),
    };
    let number: f64 = text[..unit].trim().parse().map_err(|_| format!("expected a size such as 4GB, got '{text}'"))?;
    let bytes = number * factor;
    if bytes >= 1.0 && bytes < u64::MAX as f64 { Ok(bytes as u64) } else { Err(format!("{text} is no size of memory")) }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a script; it sees ARGS as the list `args`
    Run {
        file: PathBuf,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Run code and show the value of its last expression
    #[command(short_flag = 'c')]
    Eval { code: String },
    /// Print a script for the completion of commands: bash, zsh or fish
    Completions { shell: String },
    /// An operation on model files: train, evaluate, predict, prune, quantize, benchmark, export and others; OPERATION --help says more
    #[command(external_subcommand)]
    Operation(Vec<String>),
    /// Jupyter kernels
    #[command(subcommand)]
    Kernel(Kernel),
    /// Show what this machine has and what is missing
    Doctor {
        /// Also write the findings to a file: .json, .html, .csv
        #[arg(long, value_name = "FILE")]
        save: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
enum Kernel {
    /// Tell Jupyter about the kernels of this program; builds the library for Rust notebooks
    Install {
        #[command(flatten)]
        place: Where,
        /// Folder for the library of Rust notebooks [default: compresso/rust-kernel in the user's data folder]
        #[arg(long, value_name = "DIR")]
        library: Option<PathBuf>,
    },
    /// Take them away again
    Uninstall(#[command(flatten)] Where),
    /// Run the Rhai kernel; front ends do this
    Rhai {
        /// File with addresses and key that the front end has written
        #[arg(short = 'f', long, value_name = "FILE")]
        connection_file: PathBuf,
        /// Folder of the library of Rust notebooks, for %%rust
        #[arg(long, value_name = "DIR")]
        library: Option<PathBuf>,
    },
    /// Run the Rust kernel; front ends do this
    Rust {
        /// File with addresses and key that the front end has written
        #[arg(short = 'f', long, value_name = "FILE")]
        connection_file: PathBuf,
        /// Folder of the library of Rust notebooks
        #[arg(long, value_name = "DIR")]
        library: Option<PathBuf>,
    },
}

#[derive(Debug, clap::Args)]
struct Where {
    /// The Rhai kernel [default: all that this build has]
    #[arg(long)]
    rhai: bool,
    /// The Rust kernel, in builds with the feature evcxr
    #[arg(long)]
    rust: bool,
    /// Into the user's folder [default]
    #[arg(long, conflicts_with = "prefix")]
    user: bool,
    /// Into PREFIX/share/jupyter, such as the folder of a Python environment
    #[arg(long, value_name = "DIR")]
    prefix: Option<PathBuf>,
}

fn main() -> ExitCode {
    // Before the next one: a process for cells has workers too.
    if let Some(code) = compresso::measure::worker::hook() {
        return code;
    }
    #[cfg(feature = "evcxr")]
    jupyter::rust::runtime_hook();
    if std::env::var_os("CANDLE_NUM_THREADS").is_none() {
        // candle's own threads spin while they wait. Beside the threads of the kernels and the loaders that costs more
        // than it gives: a training step took twice as long.
        // SAFETY: no other thread has been started yet.
        unsafe { std::env::set_var("CANDLE_NUM_THREADS", "1") };
    }
    let console = Arc::new(Console::new());
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(e) => return tell(&e, &console),
    };
    match run(arguments, &console) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            console.eprint(&if failure.is_cancelled() { "cancelled".to_string() } else { failure.render(&console.error_style()) });
            let code = if failure.error.message().starts_with(UNKNOWN) { 2 } else { exit_code(&failure) };
            ExitCode::from(if failure.is_cancelled() { cancelled_code() } else { code })
        }
    }
}

/// Commands that are no operations, or have a name of their own.
const COMMANDS: [&str; 7] = ["run", "eval", "export", "kernel", "doctor", "completions", "help"];
const UNKNOWN: &str = "there is no command ";

fn no_command(name: &str) -> Failure {
    let e = Error::argument(format!("{UNKNOWN}'{name}'"));
    let script = || name.ends_with(".rhai").then(|| format!("compresso run {name} runs it"));
    let near = || nearest_command(name, &COMMANDS).map(|near| format!("did you mean '{near}'?"));
    e.hint(script().or_else(near).unwrap_or_else(|| "compresso --help lists the commands".into())).into()
}

/// Prints help and version, which are results, or what is wrong with the arguments.
fn tell(e: &clap::Error, console: &Console) -> ExitCode {
    if let Err(unwritten) = e.print().and_then(|()| std::io::stdout().flush())
        && !e.use_stderr()
    {
        console.unwritten(unwritten);
    }
    ExitCode::from(u8::try_from(e.exit_code()).unwrap_or(2))
}

fn run(arguments: Arguments, console: &Arc<Console>) -> Result<(), Failure> {
    // Before anything starts a thread, such as a device.
    if let Some(folder) = &arguments.sandbox {
        let script = match &arguments.command {
            Some(Command::Run { file, .. }) => Some(file.as_path()),
            Some(Command::Kernel(_)) => {
                return Err(
                    Error::argument("--sandbox is for scripts and the prompt: a kernel talks to its front end over the network").into()
                );
            }
            _ => None,
        };
        let library = onnxruntime::place();
        if let Some(path) = &library {
            // SAFETY: no other thread has been started yet.
            unsafe { std::env::set_var(onnxruntime::VARIABLE, path) };
        }
        compresso::shell::sandbox::enter(folder, script, library.as_deref())?;
    }
    if let Some(Command::Completions { shell }) = &arguments.command {
        console.print(completions(shell, &COMMANDS)?.trim_end());
        return Ok(());
    }
    let line = match &arguments.command {
        Some(Command::Operation(words)) => match one_line(words) {
            Some(Ok(Line::Run(line))) => Some(line),
            Some(Ok(Line::Help(signature))) => {
                console.print(&format!("{}\n\n{}", command_usage(signature), help_text(signature.name, &console.style())?));
                return Ok(());
            }
            Some(Err(e)) => return Err(e.into()),
            None => return Err(no_command(&words[0])),
        },
        _ => None,
    };
    let mut context = Context::new().with_seed(arguments.seed.unwrap_or(0)).with_progress(console.clone());
    compresso::memory::set_limit(arguments.max_memory);
    context.quiet = arguments.quiet || line.as_ref().is_some_and(|l| l.quiet);
    if let Some(seed) = line.as_ref().and_then(|l| l.seed) {
        context.seed = seed;
    }
    if let Some(n) = arguments.threads.or(line.as_ref().and_then(|l| l.threads)) {
        context.threads = compresso::shell::script::check_threads(n)?;
    }
    if let Some(name) = arguments.device.as_ref().or(line.as_ref().and_then(|l| l.device.as_ref())) {
        context.device = compresso::shell::script::parse_device(name)?;
    }
    if let Some(Command::Doctor { save: path }) = &arguments.command {
        return Ok(diagnose(console, path.as_deref())?);
    }
    if let Some(Command::Kernel(kernel)) = arguments.command {
        return Ok(run_kernel(kernel, context, console)?);
    }
    let cancel = context.cancel.clone();
    let at_prompt = arguments.command.is_none() && std::io::stdin().is_terminal();
    watch_interrupts(cancel.clone(), if at_prompt { Front::Prompt } else { Front::Command })
        .map_err(|e| Error::internal("signals cannot be watched").because(e))?;
    let mut session = Session::new(context, console.clone());
    session.set_limits(Limits { time: arguments.timeout, operations: arguments.max_operations, hard: !at_prompt });
    match arguments.command {
        Some(Command::Run { file, args }) => {
            let _ = session.run_file(&file, args)?;
            // The last call may have ended early and well.
            Ok(cancel.check()?)
        }
        Some(Command::Operation(_)) => {
            let Some(line) = line else { return Ok(()) };
            let value = session.run(&line.script, "<command>")?;
            if line.json {
                console.print(&session.json(&value)?);
            } else {
                session.show(&value)?;
            }
            Ok(cancel.check()?)
        }
        Some(Command::Eval { code }) => {
            let value = session.run(&code, "<eval>")?;
            session.show(&value)?;
            Ok(cancel.check()?)
        }
        _ if at_prompt => Ok(repl::run(session, console)?),
        _ => {
            let code = compresso::files::script_text(std::io::stdin().lock(), "<stdin>")?;
            session.run(&code, "<stdin>").map(drop)
        }
    }
}

impl Where {
    fn specs(&self) -> Vec<install::Spec> {
        let all = !self.rhai && !self.rust;
        let wanted = [(self.rhai || all, install::RHAI), (self.rust || all && cfg!(feature = "evcxr"), install::RUST)];
        wanted.into_iter().filter(|w| w.0).map(|w| w.1).collect()
    }
}

fn run_kernel(kernel: Kernel, context: Context, console: &Console) -> compresso::Result<()> {
    match kernel {
        Kernel::Rhai { connection_file, library } => rhai_kernel(&connection_file, library, context),
        Kernel::Rust { connection_file, library } => rust_kernel(&connection_file, library, context),
        Kernel::Install { place, library } => {
            watch_interrupts(context.cancel.clone(), Front::Command)
                .map_err(|e| Error::internal("signals cannot be watched").because(e))?;
            let specs = place.specs();
            let extra = if specs.contains(&install::RUST) { build_library(library, &context)? } else { Vec::new() };
            for spec in specs {
                let folder = install::install(&spec, place.prefix.as_deref(), &extra)?;
                console.print(&format!("{} is in {}", spec.display_name, folder.display()));
            }
            Ok(())
        }
        Kernel::Uninstall(place) => {
            for spec in place.specs() {
                let there = install::uninstall(&spec, place.prefix.as_deref())?;
                console.print(&format!("{} {}", spec.display_name, if there { "is removed" } else { "was not installed" }));
            }
            Ok(())
        }
    }
}

#[cfg(not(feature = "evcxr"))]
fn rhai_kernel(connection_file: &Path, _: Option<PathBuf>, context: Context) -> compresso::Result<()> {
    jupyter::serve(connection_file, jupyter::RHAI, || Ok(Box::new(RhaiCells::new(context))))
}

#[cfg(not(feature = "evcxr"))]
fn rust_kernel(_: &Path, _: Option<PathBuf>, _: Context) -> compresso::Result<()> {
    Err(jupyter::no_rust())
}

#[cfg(not(feature = "evcxr"))]
fn build_library(_: Option<PathBuf>, _: &Context) -> compresso::Result<Vec<String>> {
    Err(jupyter::no_rust())
}

#[cfg(feature = "evcxr")]
fn rhai_kernel(connection_file: &Path, library: Option<PathBuf>, context: Context) -> compresso::Result<()> {
    let options = rust_options(library, &context);
    jupyter::serve(connection_file, jupyter::RHAI, || Ok(Box::new(RhaiCells::new(context).with_rust(options))))
}

#[cfg(feature = "evcxr")]
fn rust_kernel(connection_file: &Path, library: Option<PathBuf>, context: Context) -> compresso::Result<()> {
    use jupyter::rust::{ABOUT, RustCells};
    let options = rust_options(library, &context);
    jupyter::serve(connection_file, ABOUT, move || Ok(Box::new(RustCells::new(&options)?)))
}

#[cfg(feature = "evcxr")]
fn rust_options(library: Option<PathBuf>, context: &Context) -> jupyter::rust::RustOptions {
    jupyter::rust::RustOptions {
        library,
        threads: Some(context.threads),
        device: Some(compresso::context::device_name(&context.device)),
        seed: Some(context.seed),
        ..jupyter::rust::RustOptions::default()
    }
}

/// Arguments of a kernel that uses the built library.
#[cfg(feature = "evcxr")]
fn build_library(folder: Option<PathBuf>, context: &Context) -> compresso::Result<Vec<String>> {
    use jupyter::rust::{BuildOptions, build};
    let library = build(&BuildOptions { folder, ..BuildOptions::default() }, context)?;
    Ok(vec!["--library".into(), library.folder().display().to_string()])
}

fn diagnose(console: &Arc<Console>, path: Option<&Path>) -> compresso::Result<()> {
    let findings = doctor::diagnose();
    let style = console.style();
    // A narrow terminal would break the paths that people want to copy.
    let wide = Style { width: style.width.map(|w| w.max(100)), ..style };
    if wide == style {
        console.show(&findings)?
    } else {
        console.print(&compresso::report::text(&findings, &wide))
    }
    path.map_or(Ok(()), |p| save(&findings, p))
}
