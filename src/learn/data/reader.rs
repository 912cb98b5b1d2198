//! Reading image files, with or without keeping the decoded pixels. What is kept changes no result: the pixels are those
//! that decoding the file gives.

use super::DataOptions;
use super::files::read_image;
use compresso_base::context::Context;
use compresso_base::error::{Error, Result};
use compresso_base::files::{cache_write, make_parent};
use compresso_base::memory;
use compresso_base::report::bytes;
use image::RgbImage;
use std::collections::HashMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, RwLock};

compresso_base::choice! {
    /// Where decoded images are kept.
    pub enum Cache {
        /// Nowhere: files are decoded each time.
        None = "none",
        /// In memory, up to half of what is free.
        Ram = "ram",
        /// In files below the user's cache folder, 3 bytes per pixel.
        Disk = "disk",
    }
}

/// Reads image files for the sources of one dataset. Clones share what is kept.
#[derive(Clone)]
pub(super) enum Reader {
    Plain,
    Ram(Arc<Ram>),
    Disk(Arc<Disk>),
}

impl Reader {
    pub fn new(options: &DataOptions, ctx: &Context) -> Self {
        match options.cache {
            Cache::None => Self::Plain,
            Cache::Ram => Self::Ram(Arc::new(Ram::new(memory::free().unwrap_or(UNKNOWN_FREE) / 2, ctx))),
            Cache::Disk => match cache_folder() {
                Some(folder) => Self::Disk(Arc::new(Disk::new(folder, ctx))),
                None => {
                    ctx.note("there is no folder for caches ($XDG_CACHE_HOME or $HOME/.cache), so images are decoded each time");
                    Self::Plain
                }
            },
        }
    }
    /// An image as [`read_image`] gives it.
    ///
    /// # Errors
    /// Those of [`read_image`]; a cache that cannot be used is none.
    pub fn read(&self, path: &Path) -> Result<RgbImage> {
        match self {
            Self::Plain => read_image(path),
            Self::Ram(ram) => ram.read(path),
            Self::Disk(disk) => disk.read(path),
        }
    }
}

/// Bytes that are taken to be free where the system does not say.
const UNKNOWN_FREE: u64 = 2 << 30;

/// Decoded images in memory, up to a limit.
pub(super) struct Ram {
    images: RwLock<HashMap<PathBuf, Arc<RgbImage>>>,
    limit: u64,
    used: AtomicU64,
    full: AtomicBool,
    ctx: Context,
}

impl Ram {
    pub fn new(limit: u64, ctx: &Context) -> Self {
        Self { images: RwLock::default(), limit, used: AtomicU64::new(0), full: AtomicBool::new(false), ctx: ctx.clone() }
    }

    fn read(&self, path: &Path) -> Result<RgbImage> {
        let kept = self.images.read().ok().and_then(|all| all.get(path).cloned());
        if let Some(image) = kept {
            return Ok((*image).clone());
        }
        let image = read_image(path)?;
        let size = image.as_raw().len() as u64;
        let room = |used: u64| used.checked_add(size).filter(|u| *u <= self.limit);
        if self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).is_err() {
            if !self.full.swap(true, Ordering::Relaxed) {
                let count = self.images.read().map_or(0, |all| all.len());
                let limit = bytes(self.limit);
                self.ctx
                    .note(format!("{count} images are kept in memory, which fill the {limit} for them; the others are decoded each time"));
            }
        } else if let Ok(mut all) = self.images.write()
            && all.insert(path.to_path_buf(), Arc::new(image.clone())).is_some()
        {
            // Another thread read it at the same time.
            self.used.fetch_sub(size, Ordering::Relaxed);
        }
        Ok(image)
    }
}

/// Where decoded images are kept on disk.
fn cache_folder() -> Option<PathBuf> {
    let named = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    let base = named("XDG_CACHE_HOME").or_else(|| named("HOME").map(|h| h.join(".cache")))?;
    Some(base.join("compresso").join("images"))
}

/// Decoded images in files: a head, the key (the image's path, size and time of change), and the pixels.
pub(super) struct Disk {
    folder: PathBuf,
    /// A file could not be written.
    failed: AtomicBool,
    ctx: Context,
}

const MAGIC: &[u8; 8] = b"compimg2";
/// Magic, width, height, length of the key, checksum.
const HEAD: usize = 8 + 4 + 4 + 4 + 8;

impl Disk {
    pub fn new(folder: PathBuf, ctx: &Context) -> Self {
        Self { folder, failed: AtomicBool::new(false), ctx: ctx.clone() }
    }

    fn read(&self, path: &Path) -> Result<RgbImage> {
        let Some(key) = key_of(path) else { return read_image(path) };
        let (a, b) = (checksum(1, &key), checksum(2, &key));
        let file = self.folder.join(format!("{:02x}", a >> 56)).join(format!("{a:016x}{b:016x}"));
        if let Some(image) = load(&file, &key) {
            return Ok(image);
        }
        let image = read_image(path)?;
        if let Err(e) = store(&file, &key, &image)
            && !self.failed.swap(true, Ordering::Relaxed)
        {
            self.ctx.note(format!("decoded images cannot be kept in {}: {e}", self.folder.display()));
        }
        Ok(image)
    }
}

/// What tells one state of an image file from any other.
fn key_of(path: &Path) -> Option<Vec<u8>> {
    let path = path.canonicalize().ok()?;
    let meta = path.metadata().ok()?;
    let time = meta.modified().ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
    let mut key = path.as_os_str().as_encoded_bytes().to_vec();
    key.extend_from_slice(&meta.len().to_le_bytes());
    key.extend_from_slice(&time.as_nanos().to_le_bytes());
    Some(key)
}

/// A 64-bit sum in which every change of one word shows: each step is a bijection of the word and of the sum so far.
fn checksum(seed: u64, data: &[u8]) -> u64 {
    let step = |sum: u64, word: u64| (sum ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    let (words, rest) = data.as_chunks::<8>();
    let sum = words.iter().fold(step(seed, data.len() as u64), |sum, w| step(sum, u64::from_le_bytes(*w)));
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let sum = step(sum, u64::from_le_bytes(last));
    step(sum, sum >> 32)
}

/// The image of a cache file; `None` for one that is not there, damaged or of another key.
fn load(file: &Path, key: &[u8]) -> Option<RgbImage> {
    let mut f = std::fs::File::open(file).ok()?;
    let length = f.metadata().ok()?.len();
    let mut head = [0; HEAD];
    f.read_exact(&mut head).ok()?;
    let number = |at: usize| head[at..at + 4].try_into().ok().map(u32::from_le_bytes);
    let (width, height, key_length) = (number(8)?, number(12)?, number(16)?);
    let pixels = 3 * u64::from(width) * u64::from(height);
    // The file's length bounds what is read.
    if &head[..8] != MAGIC || key_length as usize != key.len() || length != (HEAD + key.len()) as u64 + pixels {
        return None;
    }
    let mut stored = vec![0; key.len()];
    f.read_exact(&mut stored).ok()?;
    let mut data = vec![0; usize::try_from(pixels).ok()?];
    f.read_exact(&mut data).ok()?;
    let sum = u64::from_le_bytes(head[20..28].try_into().ok()?);
    (stored == key && checksum(u64::from(width), &data) == sum).then(|| RgbImage::from_raw(width, height, data))?
}

/// Writes a cache file by way of a temporary one, so that it is whole or not there.
fn store(file: &Path, key: &[u8], image: &RgbImage) -> Result<()> {
    make_parent(file)?;
    let mut head = Vec::with_capacity(HEAD + key.len());
    head.extend_from_slice(MAGIC);
    for n in [image.width(), image.height(), key.len() as u32] {
        head.extend_from_slice(&n.to_le_bytes());
    }
    head.extend_from_slice(&checksum(u64::from(image.width()), image.as_raw()).to_le_bytes());
    head.extend_from_slice(key);
    cache_write(file, |w| w.write_all(&head).and_then(|()| w.write_all(image.as_raw())).map_err(|e| Error::io(file, e)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(folder: &Path) -> Vec<PathBuf> {
        let inner = |p: &Path| std::fs::read_dir(p).unwrap().map(|e| e.unwrap().path()).collect::<Vec<_>>();
        inner(folder).iter().flat_map(|p| inner(p)).collect()
    }

    fn photo(path: &Path, shade: u8) -> RgbImage {
        let image = RgbImage::from_fn(13, 7, |x, y| image::Rgb([x as u8 * 9, y as u8 * 20, shade]));
        image.save(path).unwrap();
        image
    }

    #[test]
    fn memory_holds_images_up_to_its_limit() {
        let dir = tempfile::tempdir().unwrap();
        let paths: Vec<PathBuf> = (0..4).map(|i| dir.path().join(format!("{i}.png"))).collect();
        let images: Vec<RgbImage> = paths.iter().zip(0..).map(|(p, i)| photo(p, i)).collect();
        // Room for two of 13 × 7 × 3 bytes.
        let ram = Ram::new(600, &Context::new());
        for _ in 0..2 {
            assert!(paths.iter().zip(&images).all(|(p, i)| ram.read(p).unwrap() == *i));
        }
        assert_eq!((ram.images.read().unwrap().len(), ram.used.load(Ordering::Relaxed)), (2, 546));
        assert!(ram.full.load(Ordering::Relaxed));
        std::fs::remove_file(&paths[0]).unwrap();
        std::fs::remove_file(&paths[3]).unwrap();
        assert!(ram.read(&paths[0]).is_ok() && ram.read(&paths[3]).is_err(), "the first is kept, the last is not");
    }

    #[test]
    fn files_are_kept_on_disk_and_damaged_ones_written_again() {
        let dir = tempfile::tempdir().unwrap();
        let (path, folder) = (dir.path().join("a.png"), dir.path().join("cache"));
        let image = photo(&path, 7);
        let disk = Disk::new(folder.clone(), &Context::new());
        assert_eq!(disk.read(&path).unwrap(), image);
        let kept = files(&folder);
        assert_eq!(kept.len(), 1);
        let whole = std::fs::read(&kept[0]).unwrap();
        // A sign that the cache is read: another image under the same key.
        let mut other = image.clone();
        other.put_pixel(0, 0, image::Rgb([1, 2, 3]));
        store(&kept[0], &key_of(&path).unwrap(), &other).unwrap();
        assert_eq!(disk.read(&path).unwrap(), other);
        for at in [0, 8, 12, 16, 20, HEAD, whole.len() - 1] {
            let mut bad = whole.clone();
            bad[at] ^= 0x40;
            std::fs::write(&kept[0], &bad).unwrap();
            assert_eq!(disk.read(&path).unwrap(), image, "byte {at}");
            assert_eq!(std::fs::read(&kept[0]).unwrap(), whole, "written again after damage at {at}");
        }
        for length in [0, 5, HEAD, whole.len() - 1] {
            std::fs::write(&kept[0], &whole[..length]).unwrap();
            assert_eq!(disk.read(&path).unwrap(), image, "{length} bytes");
        }
        // A changed image is another key.
        let changed = photo(&path, 200);
        std::fs::File::options().write(true).open(&path).unwrap().set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(disk.read(&path).unwrap(), changed);
    }

    #[test]
    fn a_cache_that_cannot_be_written_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.png");
        let image = photo(&path, 3);
        let file = dir.path().join("file");
        std::fs::write(&file, b"in the way").unwrap();
        let disk = Disk::new(file, &Context::new());
        assert_eq!(disk.read(&path).unwrap(), image);
        assert!(disk.failed.load(Ordering::Relaxed));
    }
}
