//! Pickles of PyTorch, in archives that are right.

use super::judge::{self, checked};
use super::{files, source::Source};
use compresso::model::weights::load_tensors;
use compresso::model::{LoadOptions, Model};
use std::io::{Cursor, Read, Write};

const ARCHIVES: [&[u8]; 4] = [
    include_bytes!("../fixtures/pytorch/tensors.pth"),
    include_bytes!("../fixtures/pytorch/sparse.pth"),
    include_bytes!("../fixtures/pytorch/pruned.pt"),
    include_bytes!("../fixtures/pytorch/sequential.pt"),
];

/// Changes the pickle inside an archive, as the bytes say.
pub fn run(bytes: &[u8]) {
    let mut source = Source(bytes);
    let archive = source.pick(&ARCHIVES);
    let Some(changed) = changed(archive, &mut source) else { return };
    let path = files::write("pickle.pt", &changed);
    if checked(load_tensors(&path)).is_some() {
        judge::through();
    }
    checked(Model::load(&path, &LoadOptions::default()));
}

fn changed(archive: &[u8], source: &mut Source<'_>) -> Option<Vec<u8>> {
    let mut read = zip::ZipArchive::new(Cursor::new(archive)).ok()?;
    let mut write = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let plain = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for i in 0..read.len().min(1000) {
        let mut file = read.by_index(i).ok()?;
        let name = file.name().ok()?.to_string();
        let mut content = Vec::new();
        file.by_ref().take(1 << 20).read_to_end(&mut content).ok()?;
        if name.ends_with("data.pkl") && !content.is_empty() {
            for _ in 0..=source.below(4) {
                let at = source.below(content.len().min(1 << 16));
                match source.below(4) {
                    0 => content[at] ^= 1 << source.below(8),
                    1 => content[at] = source.byte(),
                    2 => content.truncate(at + 1),
                    _ => content.splice(at..at, std::iter::repeat_n(source.byte(), source.below(256))).for_each(drop),
                }
            }
        }
        write.start_file(name, plain).ok()?;
        write.write_all(&content).ok()?;
    }
    Some(write.finish().ok()?.into_inner())
}
