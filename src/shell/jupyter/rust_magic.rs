//! `%%rust` in the Rhai kernel: Rust cells that start when the first one comes.

use super::rust::{RustCells, RustOptions};
use super::{Cell, CellError, Language};
use crate::report::Media;
use std::sync::{Arc, Mutex, PoisonError};

type Action = Arc<dyn Fn() + Send + Sync>;

/// Rust cells beside those of another language. They share files with it, not variables.
#[derive(Default)]
pub struct RustMagic {
    options: RustOptions,
    cells: Option<RustCells>,
    /// How to interrupt and how to stop them, once they are there.
    actions: Arc<Mutex<Option<(Action, Action)>>>,
}

impl RustMagic {
    pub fn new(options: RustOptions) -> Self {
        Self { options, ..Self::default() }
    }

    /// Runs a cell.
    ///
    /// # Errors
    /// Those of [`RustCells::new`] the first time; what the cell raises.
    pub fn execute(&mut self, code: &str, cell: &Cell) -> Result<Option<Media>, CellError> {
        if self.cells.is_none() {
            let cells = RustCells::new(&self.options)?;
            let actions = (cells.interrupter(), cells.stopper());
            *self.actions.lock().unwrap_or_else(PoisonError::into_inner) = Some(actions);
            self.cells = Some(cells);
        }
        match &mut self.cells {
            Some(cells) => cells.execute(code, cell),
            None => Ok(None),
        }
    }

    /// Interrupts the running cell, if there is one.
    pub fn interrupter(&self) -> Action {
        self.action(|actions| actions.0.clone())
    }
    /// Ends the process of the cells, if there is one.
    pub fn stopper(&self) -> Action {
        self.action(|actions| actions.1.clone())
    }

    fn action(&self, which: fn(&(Action, Action)) -> Action) -> Action {
        let actions = self.actions.clone();
        Arc::new(move || {
            let action = actions.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(which);
            if let Some(action) = action {
                action();
            }
        })
    }
}
