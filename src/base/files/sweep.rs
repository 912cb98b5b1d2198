//! What processes left that ended too early.

use super::moves::move_all;
use super::partial::{MOVE, PART, PREFIX};
use std::collections::HashMap;
use std::fs::{DirEntry, File};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A folder is searched at most this often.
const PAUSE: Duration = Duration::from_secs(1);

/// Removes what processes that have ended left in a folder, and ends what they were moving into it.
pub(super) fn sweep(folder: &Path) {
    static SWEPT: Mutex<Option<HashMap<PathBuf, Instant>>> = Mutex::new(None);
    {
        let mut swept = SWEPT.lock().unwrap_or_else(PoisonError::into_inner);
        let swept = swept.get_or_insert_default();
        swept.retain(|_, at| at.elapsed() < PAUSE);
        let key = std::path::absolute(folder).unwrap_or_else(|_| folder.to_path_buf());
        if swept.insert(key, Instant::now()).is_some() {
            return;
        }
    }
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(PREFIX) && (name.ends_with(PART) || name.ends_with(MOVE)) {
            remove_dead(&entry, folder, name.ends_with(MOVE));
        }
    }
}

/// Removes one leftover, if its process has ended. What fails is tried again by the next that writes here.
fn remove_dead(entry: &DirEntry, folder: &Path, moving: bool) {
    let path = entry.path();
    // Neither a link, nor what may wait for a reader.
    let Ok(kind) = entry.file_type() else { return };
    if !kind.is_file() && !kind.is_dir() {
        return;
    }
    let Ok(handle) = File::open(&path) else { return };
    if handle.try_lock().is_err() {
        return;
    }
    if kind.is_file() {
        let _ = std::fs::remove_file(&path);
    } else if !moving || move_all(&path, folder).is_ok() {
        let _ = std::fs::remove_dir_all(&path);
    }
}
