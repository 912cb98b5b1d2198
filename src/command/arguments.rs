//! What can be said on the command line.

use clap::{Parser, Subcommand};
use compresso::shell::jupyter::install;
use std::path::PathBuf;
use std::time::Duration;

const OPERATIONS: &str = "Operations on model files are commands too:
  compresso prune best.pt --ratio 0.4 --data data.yaml -o small.onnx
  compresso benchmark best.onnx small.onnx --data data.yaml
train, evaluate, predict, prune, quantize, optimize, export, lint, summary and others; 'compresso prune --help' has the options of one";

/// Makes vision models small and fast: prune, quantize, distill, export, benchmark.
///
/// Without a command, starts the prompt; a script piped in is run.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, disable_help_subcommand = true, after_help = OPERATIONS)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Threads that operations use [default: all cores]
    #[arg(long, global = true, value_name = "N")]
    pub threads: Option<i64>,
    /// Device that operations run on: auto, cpu, cuda, cuda:1 [default: cpu]
    #[arg(long, global = true, value_name = "NAME")]
    pub device: Option<String>,
    /// Seed of everything random [default: 0]
    #[arg(long, global = true, value_name = "N")]
    pub seed: Option<u64>,
    /// Memory that the program may take, such as 4GB; what would take more is an error [default: what is free]
    #[arg(long, global = true, value_name = "SIZE", value_parser = bytes)]
    pub max_memory: Option<u64>,
    /// Time that a script, or an input at the prompt, may take, such as 30s or 5m
    #[arg(long, global = true, value_name = "TIME", value_parser = time)]
    pub timeout: Option<Duration>,
    /// Steps that a script, or an input at the prompt, may take: calls, expressions, rounds of loops
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub max_operations: Option<u64>,
    /// Leave out progress and notes
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Let scripts read and write files under this folder alone, start no program and reach no network (Linux)
    #[arg(long, global = true, value_name = "DIR")]
    pub sandbox: Option<PathBuf>,
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
pub enum Command {
    /// Run a script; it sees ARGS as the list `args`
    Run {
        file: PathBuf,
        /// Value of a parameter of the script, which reads it by param("NAME", default)
        #[arg(long, value_name = "NAME=VALUE")]
        set: Vec<String>,
        /// The same from a file: a map in JSON
        #[arg(long, value_name = "FILE")]
        parameters: Option<PathBuf>,
        /// Record the run in a new folder under `runs`: script, parameters, metrics, output, reports, plots
        #[arg(long)]
        record: bool,
        /// Record it in this folder
        #[arg(long, value_name = "DIR")]
        folder: Option<PathBuf>,
        /// Write the recorded numbers as an event file of TensorBoard too
        #[arg(long)]
        tensorboard: bool,
        /// Replace what is recorded there
        #[arg(long, requires = "folder")]
        replace: bool,
        /// End when standard input does
        #[arg(long, hide = true)]
        tethered: bool,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Run code and show the value of its last expression
    #[command(short_flag = 'c')]
    Eval { code: String },
    /// Make a folder with a script, a notebook and a small dataset, which run as they are
    New { folder: PathBuf },
    /// Turn a script (.rhai) into a notebook (.ipynb), or a notebook into a script
    Notebook {
        file: PathBuf,
        /// File to write [default: beside FILE]
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Print the reference of all functions of scripts as Markdown
    Reference,
    /// Say what a command or a function of scripts does
    Help { name: Option<String> },
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
pub enum Kernel {
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
pub struct Where {
    /// The Rhai kernel [default: all that this build has]
    #[arg(long)]
    pub rhai: bool,
    /// The Rust kernel, in builds with the feature evcxr
    #[arg(long)]
    pub rust: bool,
    /// Into the user's folder [default]
    #[arg(long, conflicts_with = "prefix")]
    pub user: bool,
    /// Into PREFIX/share/jupyter, such as the folder of a Python environment
    #[arg(long, value_name = "DIR")]
    pub prefix: Option<PathBuf>,
}

impl Where {
    pub fn specs(&self) -> Vec<install::Spec> {
        let all = !self.rhai && !self.rust;
        let wanted = [(self.rhai || all, install::RHAI), (self.rust || all && cfg!(feature = "evcxr"), install::RUST)];
        wanted.into_iter().filter(|w| w.0).map(|w| w.1).collect()
    }
}
