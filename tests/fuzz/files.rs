//! A folder in memory, or where temporary files are, for what is read from files.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// A folder of this process.
pub fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = of_process(std::process::id());
        std::fs::create_dir_all(&folder).expect("a place for files");
        folder
    })
}

/// The folder of a process.
pub fn of_process(id: u32) -> PathBuf {
    let memory = Path::new("/dev/shm");
    let parent = if memory.is_dir() { memory.to_path_buf() } else { std::env::temp_dir() };
    parent.join(format!("compresso-fuzz-{id}"))
}

/// Removes the folder.
pub fn sweep() {
    // It may never have been made.
    let _ = std::fs::remove_dir_all(folder());
}

/// A file in the folder, with folders on the way to it.
pub fn write(name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder().join(name);
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).expect("a place for files");
    }
    std::fs::write(&path, bytes).expect("a small file");
    path
}
