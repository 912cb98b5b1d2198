//! How a command goes wrong.

use compresso::Error;
use compresso::shell::script::{Failure, nearest_command};

/// Commands that are no operations, or have a name of their own.
pub const COMMANDS: [&str; 10] = ["run", "eval", "new", "notebook", "export", "kernel", "doctor", "completions", "reference", "help"];
/// Exit code for a command line that makes no sense.
pub const WRONG_USAGE: u8 = 2;

/// How a command went wrong.
pub struct Ended {
    pub failure: Failure,
    /// Nothing was tried: the command line is wrong.
    pub usage: bool,
}

impl Ended {
    pub fn usage(error: impl Into<Failure>) -> Self {
        Self { failure: error.into(), usage: true }
    }
}

impl From<Failure> for Ended {
    fn from(failure: Failure) -> Self {
        Self { failure, usage: false }
    }
}

impl From<Error> for Ended {
    fn from(error: Error) -> Self {
        Failure::new(error).into()
    }
}

pub fn no_command(name: &str) -> Failure {
    let e = Error::argument(format!("there is no command '{name}'"));
    let script = || name.ends_with(".rhai").then(|| format!("compresso run {name} runs it"));
    let near = || nearest_command(name, &COMMANDS).map(|near| format!("did you mean '{near}'?"));
    e.hint(script().or_else(near).unwrap_or_else(|| "compresso --help lists the commands".into())).into()
}
