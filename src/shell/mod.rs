//! How people drive it: scripts, the prompt, doctor.
//!
//! `script` is the language: one table of functions over the library. `repl` and the command line are thin front ends
//! over a [`script::Session`]; what they print goes through an [`Output`].

mod console;
pub mod doctor;
mod interrupt;
pub mod jupyter;
mod output;
pub mod repl;
pub mod script;

pub use console::Console;
pub use interrupt::watch_interrupts;
pub use output::{Buffer, Output};
