//! Cells whose outputs are of values that have changed since.
//!
//! A cell is stale when a cell that made what it read has run again and made something else, or is stale itself. A variable that another
//! cell makes anew (`let m = train(m, d)`, two cells below) makes none stale: in a notebook from top to bottom nobody reads backwards.

use super::{Cell, Outputs};
use crate::report::{Media, escape};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// A cell that has run.
struct Ran {
    number: usize,
    outputs: Arc<dyn Outputs>,
    /// What it read, with the cells that had made it.
    reads: HashMap<String, BTreeSet<String>>,
    /// What it made, with what tells it from other values.
    makes: HashMap<String, Option<String>>,
    stale: bool,
}

/// The cells of a notebook, by what the front end calls them.
#[derive(Default)]
pub struct Cells {
    ran: HashMap<String, Ran>,
    /// The cell that made each variable or function.
    makers: HashMap<String, String>,
}

impl Cells {
    /// A cell has run: what it read, and what it made or changed with what tells it from other values, if anything does. Marks the cells
    /// that are stale now, below their outputs.
    pub fn ran(&mut self, cell: &Cell, read: impl IntoIterator<Item = String>, made: HashMap<String, Option<String>>) {
        for gone in &cell.removed {
            self.ran.remove(gone);
        }
        let Some(id) = &cell.id else { return };
        let before = self.ran.remove(id);
        let earlier = |name: &str| before.as_ref().and_then(|b| b.reads.get(name)).cloned().unwrap_or_default();
        let from = |name: String| {
            let maker = self.makers.get(&name)?.clone();
            // What it made of what it had read came from elsewhere at first.
            let makers = if maker == *id { earlier(&name) } else { BTreeSet::from([maker]) };
            Some((name, makers))
        };
        let reads = read.into_iter().filter_map(from).collect();
        let was = |name: &String| before.as_ref().and_then(|b| b.makes.get(name)).cloned();
        // What nothing tells from other values counts as changed.
        let changed = made.iter().filter(|(name, now)| was(name).is_some_and(|old| old.is_none() || old != **now));
        let changed: Vec<(String, String)> = changed.map(|(name, _)| (name.clone(), id.clone())).collect();
        let mut makes = before.map(|b| b.makes).unwrap_or_default();
        makes.extend(made.clone());
        self.makers.extend(made.into_keys().map(|name| (name, id.clone())));
        self.ran.insert(id.clone(), Ran { number: cell.number, outputs: cell.outputs.clone(), reads, makes, stale: false });
        self.mark(changed, id, cell.number);
    }

    /// Numbers of the stale cells, in order.
    pub fn stale(&self) -> Vec<usize> {
        let mut all: Vec<usize> = self.ran.values().filter(|c| c.stale).map(|c| c.number).collect();
        all.sort_unstable();
        all
    }

    /// Marks who read these names as these cells made them, and who read what those made.
    fn mark(&mut self, mut changed: Vec<(String, String)>, runs: &str, number: usize) {
        while let Some((name, maker)) = changed.pop() {
            let first = maker == runs;
            let from = self.ran.get(&maker).map_or(number, |c| c.number);
            let readers =
                self.ran.iter_mut().filter(|(id, c)| *id != runs && !c.stale && c.reads.get(&name).is_some_and(|m| m.contains(&maker)));
            for (id, reader) in readers {
                reader.stale = true;
                reader.outputs.display(note(&name, from, first));
                changed.extend(reader.makes.keys().map(|made| (made.clone(), id.clone())));
            }
        }
    }
}

/// What stands below the outputs of a stale cell, until it runs again.
fn note(name: &str, cell: usize, changed: bool) -> Media {
    let why = if changed { format!("has changed since, in cell [{cell}]") } else { format!("is of cell [{cell}], which is stale") };
    let html = format!(
        "<div class=\"compresso-stale\" style=\"border-left:4px solid #d97706;padding:.2em .7em\"><b>stale</b>: <code>{}</code> {why}</div>\n",
        escape(name)
    );
    Media::text(format!("stale: {name} {why}")).with("text/html", html)
}
