//! Device, threads, seed, time, help.

use super::signature;
use crate::context::{Verbosity, device_name};
use crate::error::{Error, Result};
use crate::operation::{Arg, ArgKind};
use crate::report::Style;
use crate::shell::script::call::{Binding, Call};
use crate::shell::script::display::value_text;
use crate::shell::script::explore::variables;
use crate::shell::script::help;
use crate::shell::script::value::int;
use candle_core::Device;
use rhai::{Dynamic, Engine};
use std::sync::OnceLock;
use std::time::Instant;

pub(super) const TABLE: &[Binding] = &[
    Binding {
        signature: signature(
            ("session", "device"),
            "The device that operations run on; with a name, changes it (\"auto\": a GPU where one can be used)",
            &[Arg::optional("name", ArgKind::Text)],
            "text",
            &["device()", "device(\"cpu\")", "device(\"auto\")"],
            &["gpu", "cuda", "cpu"],
        ),
        call: device,
    },
    Binding {
        signature: signature(
            ("session", "threads"),
            "Number of threads that operations use; with a number, changes it",
            &[Arg::optional("n", ArgKind::Int)],
            "whole number",
            &["threads()", "threads(2)"],
            &["cores", "parallel"],
        ),
        call: threads,
    },
    Binding {
        signature: signature(
            ("session", "seed"),
            "Seed of everything random; with a number, changes it",
            &[Arg::optional("n", ArgKind::Int)],
            "whole number",
            &["seed()", "seed(7)"],
            &["reproducible"],
        ),
        call: seed,
    },
    Binding {
        signature: signature(
            ("session", "quiet"),
            "Leaves out progress and notes from here on; with false, shows them again. Results and errors stay",
            &[Arg::optional("on", ArgKind::Bool)],
            "nothing",
            &["quiet()", "quiet(false)"],
            &["silent", "verbose", "progress", "notes"],
        ),
        call: |c| {
            let on = !c.has(0) || c.arg(0).as_bool().unwrap_or(true);
            c.shared.change(|ctx| ctx.verbosity = if on { Verbosity::Silent } else { Verbosity::Notes });
            Ok(Dynamic::UNIT)
        },
    },
    Binding {
        signature: signature(
            ("session", "now"),
            "Seconds on the session's clock, for timing: subtract two of them",
            &[],
            "number",
            &["let t = now(); let took = now() - t;"],
            &["time", "clock", "elapsed"],
        ),
        call: now,
    },
    Binding {
        signature: signature(
            ("session", "time_s"),
            "Seconds that a function takes",
            &[Arg::new("f", ArgKind::Function)],
            "number",
            &["time_s(|| random([8, 8]).sum())"],
            &["time", "clock", "duration", "measure"],
        ),
        call: time_s,
    },
    Binding {
        signature: signature(
            ("session", "vars"),
            "The variables: kind, value or shape, and the memory of tensors and weights",
            &[],
            "table",
            &["let x = 1; vars()"],
            &["variables", "names", "who", "scope"],
        ),
        // Scripts reach the syntax that `register_vars` adds; only a function pointer comes here.
        call: |_| Err(Error::argument("vars() sees the variables of the place where it is written, so it cannot be passed on")),
    },
    Binding {
        signature: signature(
            ("session", "eprint"),
            "Prints a line that is no result: to standard error",
            &[Arg::new("x", ArgKind::Any)],
            "nothing",
            &["eprint(\"the second half may take a while\")"],
            &["warn", "stderr", "note", "log"],
        ),
        call: |c| {
            c.shared.output().eprint(&value_text(c.arg(0), &Style::plain()));
            Ok(Dynamic::UNIT)
        },
    },
    Binding {
        signature: signature(
            ("session", "input"),
            "Asks the user for a line of text",
            &[Arg::optional("prompt", ArgKind::Text)],
            "text",
            &[],
            &["ask", "read", "prompt", "question"],
        ),
        call: |c| {
            let prompt = if c.has(0) { c.text(0)? } else { String::new() };
            Ok(c.shared.output().input(&prompt)?.into())
        },
    },
    Binding {
        signature: signature(
            ("session", "clear_output"),
            "Drops what the cell has shown, or clears the terminal; with true, only once there is something new",
            &[Arg::optional("wait", ArgKind::Bool)],
            "nothing",
            &["clear_output()"],
            &["erase", "clean", "animation"],
        ),
        call: |c| {
            c.shared.output().clear(c.has(0) && c.arg(0).as_bool().unwrap_or(false));
            Ok(Dynamic::UNIT)
        },
    },
    Binding {
        signature: signature(
            ("session", "help"),
            "This overview; with a name, that function's options, defaults and examples",
            &[Arg::optional("name", ArgKind::OneOf(&[ArgKind::Text, ArgKind::Function]))],
            "nothing",
            &["help()", "help(\"seed\")"],
            &["usage", "documentation", "man"],
        ),
        call: help,
    },
];

fn device(c: &Call<'_>) -> Result<Dynamic> {
    if c.has(0) {
        let device = parse_device(&c.text(0)?)?;
        c.shared.change(|ctx| ctx.device = device);
    }
    Ok(device_name(&c.shared.context().device).into())
}

/// A device by name: `cpu`, `cuda`, `cuda:1`, or `auto`: the first GPU where this build and machine have one, else the CPU.
///
/// # Errors
/// `Argument` for an unknown name; `Unavailable` for a GPU that this build or machine lacks.
pub fn parse_device(name: &str) -> Result<Device> {
    let lower = name.trim().to_lowercase();
    if lower == "cpu" {
        return Ok(Device::Cpu);
    }
    if lower == "auto" {
        return Ok(if cfg!(feature = "cuda") { Device::new_cuda(0).unwrap_or(Device::Cpu) } else { Device::Cpu });
    }
    let number = match lower.strip_prefix("cuda") {
        Some("") => Some(0),
        Some(rest) => rest.strip_prefix(':').and_then(|n| n.parse::<usize>().ok()),
        None => None,
    };
    let Some(number) = number else {
        return Err(Error::argument(format!("there is no device '{name}'")).hint("use \"cpu\", \"cuda\", \"cuda:0\" or \"auto\""));
    };
    if !cfg!(feature = "cuda") {
        let e = Error::unavailable("this build of compresso has no CUDA");
        return Err(e.hint("scripts/cuda-build.sh builds one on any machine; 'compresso doctor' says more"));
    }
    Device::new_cuda(number).map_err(|e| {
        let text = e.to_string();
        let line = text.lines().next().unwrap_or_default();
        // The driver's own words stand in quotes behind the number of the error.
        let why = line.split('"').nth(1).unwrap_or(line);
        Error::unavailable(format!("device cuda:{number} cannot be used: {why}"))
            .hint("'compresso doctor' shows what is found; CUDA's libraries are looked for along LD_LIBRARY_PATH")
    })
}

fn threads(c: &Call<'_>) -> Result<Dynamic> {
    if c.has(0) {
        let n = check_threads(c.int(0)?)?;
        c.shared.change(|ctx| ctx.threads = n);
    }
    Ok(int(c.shared.context().threads))
}

/// # Errors
/// `Argument` outside 1 to 1024.
pub fn check_threads(n: i64) -> Result<usize> {
    let valid = usize::try_from(n).ok().filter(|n| (1..=1024).contains(n));
    valid.ok_or_else(|| Error::argument(format!("the number of threads must be 1 to 1024, got {n}")))
}

fn seed(c: &Call<'_>) -> Result<Dynamic> {
    if c.has(0) {
        let n = c.int(0)?;
        let n = u64::try_from(n).map_err(|_| Error::argument(format!("a seed must not be negative, got {n}")))?;
        c.shared.change(|ctx| ctx.seed = n);
    }
    Ok(int(c.shared.context().seed))
}

/// `vars()` needs the scope, which functions do not see: it is a syntax of its own.
pub(in crate::shell::script) fn register_vars(engine: &mut Engine) {
    let registered = engine.register_custom_syntax(["vars", "()"], false, |cx, _| Ok(Dynamic::from(variables(cx.scope()))));
    debug_assert!(registered.is_ok(), "the syntax is fixed");
}

fn now(_: &Call<'_>) -> Result<Dynamic> {
    static START: OnceLock<Instant> = OnceLock::new();
    Ok(START.get_or_init(Instant::now).elapsed().as_secs_f64().into())
}

fn time_s(c: &Call<'_>) -> Result<Dynamic> {
    let start = Instant::now();
    let _ = c.run_function(0)?;
    Ok(start.elapsed().as_secs_f64().into())
}

fn help(c: &Call<'_>) -> Result<Dynamic> {
    let output = c.shared.output();
    let name = match c.arg(0).read_lock::<rhai::FnPtr>() {
        Some(f) => f.fn_name().to_string(),
        None if c.has(0) => c.text(0)?,
        None => String::new(),
    };
    match help::help_media(&name, true).filter(|_| output.is_notebook()) {
        Some(media) => output.display(media),
        None => output.print(&help::help_text(&name, &output.style())?),
    }
    Ok(Dynamic::UNIT)
}
