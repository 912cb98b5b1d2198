//! Images that are no dataset yet.

use crate::data::{DataKind, Dataset, ImageFiles, Sample, Source, image_files, read_opacity, sample};
use compresso_base::context::Context;
use compresso_base::error::Result;
use std::path::PathBuf;
use std::sync::Arc;

struct Files(Vec<PathBuf>);

impl Source for Files {
    fn len(&self) -> usize {
        self.0.len()
    }
    fn get(&self, i: usize) -> Result<Sample> {
        sample(&self.0[i])
    }
    fn opacity_of(&self, i: usize) -> Result<Option<image::GrayImage>> {
        read_opacity(&self.0[i])
    }
}

struct Samples(Vec<Sample>);

impl Source for Samples {
    fn len(&self) -> usize {
        self.0.len()
    }
    fn get(&self, i: usize) -> Result<Sample> {
        Ok(self.0[i].clone())
    }
}

/// The image files that paths, folders (with their subfolders) and patterns name, without labels. Its warnings count the
/// images and films beside them that are not read.
///
/// # Errors
/// As [`image_files`].
pub fn image_files_dataset<T: AsRef<str>>(patterns: &[T], ctx: &Context) -> Result<Dataset> {
    let mut all = ImageFiles::default();
    for pattern in patterns {
        let found = image_files(pattern.as_ref(), ctx)?;
        all.images.extend(found.images);
        all.unread.extend(found.unread);
    }
    let name = patterns.first().map_or("images", AsRef::as_ref);
    let warnings = all.warnings();
    Ok(Dataset::new(name, DataKind::Unlabelled, Vec::new(), Arc::new(Files(all.images))).with_warnings(warnings.into()))
}

/// Images in memory.
pub fn samples_dataset(samples: Vec<Sample>) -> Dataset {
    Dataset::new("images", DataKind::Unlabelled, Vec::new(), Arc::new(Samples(samples)))
}
