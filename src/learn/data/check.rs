//! Verifying a dataset: every image is decoded once.

use super::dataset::subset;
use super::warnings::Warnings;
use super::{Dataset, Source};
use compresso_base::context::Context;
use compresso_base::error::{Error, Result};
use rayon::prelude::*;
use std::path::Path;
use std::sync::Arc;

/// Images that are decoded between two looks at the user's wish to stop.
const CHUNK: usize = 32;

/// The dataset without the images that cannot be decoded or are too small, which its warnings count and name.
///
/// # Errors
/// `Format` when a split has no other images; `Cancelled`.
pub(super) fn check(data: &Dataset, ctx: &Context) -> Result<Dataset> {
    let total: usize = data.parts().iter().map(|d| d.len()).sum();
    let mut progress = ctx.progress("check images", total.div_ceil(CHUNK) as u64);
    let mut warnings = Warnings::default();
    let mut sources: Vec<Arc<dyn Source>> = Vec::new();
    for part in data.parts() {
        let mut good = Vec::with_capacity(part.len());
        let mut first = None;
        for start in (0..part.len()).step_by(CHUNK) {
            let chunk: Vec<usize> = (start..(start + CHUNK).min(part.len())).collect();
            let failures: Vec<Option<Error>> = chunk.par_iter().map(|&i| failure(part, i)).collect();
            for (i, failure) in chunk.into_iter().zip(failures) {
                let Some(e) = failure else {
                    good.push(i);
                    continue;
                };
                let file = part.source.file_of(i).and_then(Path::file_name).map(|n| n.to_string_lossy().into_owned());
                let place = format!("{} ({})", file.unwrap_or_else(|| i.to_string()), e.message());
                warnings.add("image that cannot be used, left out", place);
                first.get_or_insert(e);
            }
            progress.step("")?;
        }
        if let Some(e) = first.filter(|_| good.is_empty()) {
            return Err(Error::format(format!("none of the {} images of '{}' can be used", part.len(), part.label())).because(e));
        }
        sources.push(if good.len() == part.len() { part.source.clone() } else { subset(&part.source, good) });
    }
    let mut sources = sources.into_iter();
    let lines: Vec<String> = data.warnings.iter().cloned().chain(warnings.lines()).collect();
    let checked = data.with_sources(|d| sources.next().unwrap_or_else(|| d.source.clone()));
    Ok(checked.with_warnings(lines.into()))
}

/// Why image `i` cannot be read.
fn failure(data: &Dataset, i: usize) -> Option<Error> {
    // Decoders of other crates read what users bring; a panic there is a bad image, not the end of the process.
    let read = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| data.source.get(i).map(|_| ())));
    read.unwrap_or_else(|_| Err(Error::internal("reading the image panicked"))).err()
}
