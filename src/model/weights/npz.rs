//! NumPy's .npz files: a zip archive of .npy files.

use super::npy;
use crate::Constant;
use bytes::Bytes;
use compresso_base::error::{Error, Result};
use compresso_base::files::{atomic_write, open};
use compresso_base::memory;
use indexmap::IndexMap;
use std::io::{BufReader, Read, Write};
use std::path::Path;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

/// A small archive may unpack to this much; a large one to [`RATIO`] times its size.
const FLOOR: u64 = 1 << 30;
const RATIO: u64 = 64;
/// No header of an array is longer.
const MAX_HEADER: u64 = 1 << 16;

pub(super) fn load(path: &Path) -> Result<IndexMap<String, Constant>> {
    let file = open(path)?;
    let length = file.metadata().map_err(|e| Error::io(path, e))?.len();
    let mut budget = FLOOR.max(length.saturating_mul(RATIO));
    let bad = |e: zip::result::ZipError| Error::format("not a readable .npz file").because(e);
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(bad)?;
    let mut tensors = IndexMap::with_capacity(archive.len().min(1024));
    for i in 0..archive.len() {
        let mut entry = archive.by_index(i).map_err(bad)?;
        let name = entry.name().map_err(bad)?.to_string();
        let Some(stem) = name.strip_suffix(".npy") else { continue };
        let stem = stem.to_string();
        let declared = entry.size();
        let c = read(&mut entry, declared, &mut budget).map_err(|e| e.at(format!("entry '{name}'")))?;
        tensors.insert(stem, c);
    }
    Ok(tensors)
}

/// Reads an array whose header, declared size and data agree; nothing is reserved before the data is there.
fn read(entry: &mut impl Read, declared: u64, budget: &mut u64) -> Result<Constant> {
    let damaged = |e: std::io::Error| Error::format("the data is damaged").because(e);
    let mut start = Vec::new();
    entry.by_ref().take(MAX_HEADER).read_to_end(&mut start).map_err(damaged)?;
    let header = npy::header(&start)?;
    let total = (header.length as u64).saturating_add(header.size as u64);
    if total != declared {
        return Err(Error::format(format!("its array needs {total} bytes, the archive declares {declared}")));
    }
    *budget = budget.checked_sub(total).ok_or_else(|| {
        Error::format("unpacks to far more than its size").hint("this may be a zip bomb; save it again without compression if it is not")
    })?;
    memory::claim(total, || format!("an array of {} bytes", header.size))?;
    let rest = total.saturating_sub(start.len() as u64);
    entry.by_ref().take(rest + 1).read_to_end(&mut start).map_err(damaged)?;
    if start.len() as u64 != total {
        return Err(Error::format(format!("declares {total} bytes, but holds {}", start.len())));
    }
    npy::decode(&Bytes::from(start))
}

pub(super) fn save(tensors: &IndexMap<String, Constant>, path: &Path) -> Result<()> {
    atomic_write(path, |w| {
        let bad = |e: zip::result::ZipError| Error::new(compresso_base::ErrorKind::Io, "cannot write the archive").because(e);
        // Fixed dates make equal tensors equal files.
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored).large_file(true);
        let mut archive = ZipWriter::new_stream(w);
        for (name, c) in tensors {
            let bytes = npy::encode(c).map_err(|e| e.at(format!("tensor '{name}'")))?;
            archive.start_file(format!("{name}.npy"), options).map_err(bad)?;
            archive.write_all(&bytes).map_err(|e| Error::io(path, e))?;
        }
        archive.finish().map_err(bad)?;
        Ok(())
    })
}
