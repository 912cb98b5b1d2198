//! What a cancelled command had reached.

use super::Output;
use super::interrupt::write_and_end;
use super::script::{Failure, Session, Shown};
use crate::context::Cancel;

/// Writes it, and says where. Another signal cancels the writing.
///
/// # Errors
/// Those of `save`.
pub fn write_reached(session: &mut Session, value: &Shown, path: &str, cancel: &Cancel, output: &dyn Output) -> Result<(), Failure> {
    write_and_end();
    cancel.reset();
    session.save(value, path)?;
    output.eprint(&format!("what was reached is in {path}"));
    Ok(())
}
