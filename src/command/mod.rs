//! The parts of the command line.

mod arguments;
mod ended;
mod kernel;
mod pages;

pub use arguments::{Arguments, Command};
pub use ended::{COMMANDS, Ended, WRONG_USAGE, no_command};
pub use kernel::run_kernel;
pub use pages::{convert, help};
