//! How people drive it: scripts, the prompt, doctor.
//!
//! `script` is the language: one table of functions over the library. `repl` and the command line are thin front ends
//! over a [`script::Session`]; what they print goes through an [`Output`].

mod console;
pub mod doctor;
mod interrupt;
pub mod jupyter;
pub mod notebook;
mod output;
pub mod project;
mod reached;
mod recording;
pub mod repl;
pub mod sandbox;
pub mod script;

pub use console::Console;
pub use interrupt::{Front, cancelled_code, leave, tether, watch_interrupts};
pub use output::{Buffer, Output};
pub use reached::write_reached;
pub use recording::{ScriptRun, given};

/// What this program keeps for its user: `compresso` in `XDG_DATA_HOME` or `~/.local/share`. `None` without a home folder.
fn data_folder() -> Option<std::path::PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(std::path::PathBuf::from);
    let data = set("XDG_DATA_HOME").or_else(|| Some(set("HOME")?.join(".local/share")))?;
    Some(data.join("compresso"))
}
