//! The command line.

mod command;

use clap::Parser;
use command::{Arguments, COMMANDS, Command, Ended, WRONG_USAGE, convert, help, no_command, run_kernel};
use compresso::context::Verbosity;
use compresso::kernels::memory::Recycling;
use compresso::measure::runtimes::onnxruntime;
use compresso::report::{Style, save};
use compresso::shell::script::{Limits, Line, Session, completions, exit_code, one_line, reference};
use compresso::shell::{
    Console, Front, Output, ScriptRun, cancelled_code, doctor, given, project, repl, tether, watch_interrupts, write_reached,
};
use compresso::{Context, Error, ErrorKind};
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

#[global_allocator]
static MEMORY: Recycling = Recycling;

fn main() -> ExitCode {
    // Before the next one: a process for cells has workers too.
    if let Some(code) = compresso::measure::worker::hook() {
        return code;
    }
    #[cfg(feature = "evcxr")]
    compresso::shell::jupyter::rust::runtime_hook();
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
        Err(Ended { failure, usage }) => {
            console.eprint(&if failure.is_cancelled() { "cancelled".to_string() } else { failure.render(&console.error_style()) });
            let code = if usage { WRONG_USAGE } else { exit_code(&failure) };
            ExitCode::from(if failure.is_cancelled() { cancelled_code() } else { code })
        }
    }
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

fn run(arguments: Arguments, console: &Arc<Console>) -> Result<(), Ended> {
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
    if matches!(arguments.command, Some(Command::Reference)) {
        console.print(reference().trim_end());
        return Ok(());
    }
    if let Some(Command::Help { name }) = &arguments.command {
        return help(name.as_deref(), console);
    }
    let line = match &arguments.command {
        Some(Command::Operation(words)) => match one_line(words) {
            Some(Ok(Line::Run(line))) => Some(line),
            Some(Ok(Line::Help(signature))) => return help(Some(signature.name), console),
            Some(Err(e)) => return Err(Ended::usage(e)),
            None => return Err(Ended::usage(no_command(&words[0]))),
        },
        _ => None,
    };
    let mut context = Context::new().with_seed(arguments.seed.unwrap_or(0)).with_progress(console.clone());
    compresso::memory::set_limit(arguments.max_memory);
    if arguments.quiet || line.as_ref().is_some_and(|l| l.quiet) {
        context.verbosity = Verbosity::Silent;
    }
    if let Some(seed) = line.as_ref().and_then(|l| l.seed) {
        context.seed = seed;
    }
    if let Some(n) = arguments.threads.or(line.as_ref().and_then(|l| l.threads)) {
        context.threads = compresso::shell::script::check_threads(n).map_err(Ended::usage)?;
    }
    if let Some(name) = arguments.device.as_ref().or(line.as_ref().and_then(|l| l.device.as_ref())) {
        context.device = compresso::shell::script::parse_device(name).map_err(|e| match e.kind() {
            ErrorKind::Argument => Ended::usage(e),
            // It may be there in another build, or on another machine.
            _ => e.into(),
        })?;
    }
    if let Some(Command::Doctor { save: path }) = &arguments.command {
        return Ok(diagnose(console, path.as_deref())?);
    }
    if let Some(Command::Notebook { file, output }) = &arguments.command {
        return convert(file, output.as_deref(), console);
    }
    if let Some(Command::New { folder }) = &arguments.command {
        for path in project::create(folder, &context)? {
            console.print(&path.display().to_string());
        }
        return Ok(());
    }
    if let Some(Command::Kernel(kernel)) = arguments.command {
        return Ok(run_kernel(kernel, context, console)?);
    }
    let cancel = context.cancel.clone();
    let at_prompt = arguments.command.is_none() && std::io::stdin().is_terminal();
    watch_interrupts(cancel.clone(), if at_prompt { Front::Prompt } else { Front::Command })
        .map_err(|e| Error::internal("signals cannot be watched").because(e))?;
    let limits = Limits { time: arguments.timeout, operations: arguments.max_operations, hard: !at_prompt };
    if let Some(Command::Run { file, args, set, parameters, record, folder, tensorboard, replace, tethered }) = arguments.command {
        if tethered {
            tether(cancel).map_err(|e| Error::internal("standard input cannot be watched").because(e))?;
        }
        let given = given(&set, parameters.as_deref())?;
        let record = (record || tensorboard || folder.is_some()).then_some(folder);
        return Ok(ScriptRun { file, args, given, record, tensorboard, replace, limits }.run(context, console.clone())?);
    }
    let mut session = Session::new(context, console.clone());
    session.set_limits(limits);
    match arguments.command {
        Some(Command::Operation(_)) => {
            let Some(line) = line else { return Ok(()) };
            let result = session.run(&line.script, "<command>");
            let value = match (result, &line.output) {
                (result, Some(path)) if cancel.is_cancelled() => {
                    let reached = session.partial().or_else(|| result.ok().filter(|value| !value.is_nothing()));
                    if let Some(reached) = reached {
                        write_reached(&mut session, &reached, path, &cancel, console.as_ref())?;
                    }
                    return Err(Error::cancelled().into());
                }
                (result, Some(path)) => {
                    let value = result?;
                    session.save(&value, path)?;
                    value
                }
                (result, None) => result?,
            };
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
            Ok(session.run(&code, "<stdin>").map(drop)?)
        }
    }
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
