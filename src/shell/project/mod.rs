//! `compresso new`: a folder with a script, the same as a notebook, a small network and drawn pictures, which run as they are.

use super::notebook::to_notebook;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::files;
use crate::learn::data::{DataOptions, DataTask, dataset};
use std::path::{Path, PathBuf};

const SCRIPT: &str = include_str!("experiment.rhai");
const NETWORK: &str = include_str!("detector.yaml");

/// Makes a project; gives its files. The folder must be empty or not there.
///
/// # Errors
/// `Argument` for a folder that holds something; `Io`.
pub fn create(folder: &Path, ctx: &Context) -> Result<Vec<PathBuf>> {
    if folder.read_dir().is_ok_and(|mut entries| entries.next().is_some()) || folder.is_file() {
        return Err(Error::argument(format!("{} is there and not empty", folder.display())).hint("give the name of a new folder"));
    }
    let options =
        DataOptions { images: Some(320), size: Some(96.into()), classes: Some(3.into()), task: DataTask::Detect, ..DataOptions::default() };
    let mut written = vec![folder.join("data.yaml")];
    dataset("shapes", &options, ctx)?.export(&written[0], ctx)?;
    let notebook = format!("{:#}\n", to_notebook(SCRIPT));
    for (name, text) in [("experiment.rhai", SCRIPT), ("experiment.ipynb", notebook.as_str()), ("detector.yaml", NETWORK)] {
        let path = folder.join(name);
        files::write_file(&path, text.as_bytes())?;
        written.push(path);
    }
    Ok(written)
}
