//! How people drive it: scripts, the prompt, doctor.

pub mod repl;
pub mod script;
