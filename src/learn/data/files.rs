//! Image files.

use super::warnings::{Warnings, file_name};
use super::{Sample, whole};
use compresso_base::context::Context;
use compresso_base::error::{At, Error, Result};
use image::{DynamicImage, GrayImage, ImageDecoder, ImageReader, Limits, RgbImage};
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

/// Largest image that is decoded: width × height. Anything above is refused before memory is taken.
pub const MAX_PIXELS: u64 = 100_000_000;

/// Extensions of the image files that are read.
pub(super) const EXTENSIONS: [&str; 8] = ["jpg", "jpeg", "png", "bmp", "webp", "tif", "tiff", "mpo"];

/// Extensions of images and films that are not read, so that they are counted where they are met.
const OTHERS: [&str; 30] = [
    "avif", "avi", "dng", "exr", "gif", "hdr", "heic", "heif", "ico", "j2k", "jfif", "jp2", "jpe", "jxl", "mkv", "mov", "mp4", "nef",
    "npy", "pbm", "pcx", "pfm", "pgm", "pnm", "ppm", "psd", "svg", "tga", "webm", "xcf",
];

/// Reads an image as RGB, turned upright by its EXIF orientation.
///
/// # Errors
/// `Io` for a missing file; `Format` for one that is corrupt, cut off, empty, of an unknown format or larger than
/// [`MAX_PIXELS`].
pub fn read_image(path: impl AsRef<Path>) -> Result<RgbImage> {
    let path = path.as_ref();
    decode(path).in_file(path)
}

/// The opacity of an image, turned upright; `None` for one without.
///
/// # Errors
/// As [`read_image`].
pub fn read_opacity(path: impl AsRef<Path>) -> Result<Option<GrayImage>> {
    let path = path.as_ref();
    // Only what has some is decoded for it.
    if !open(path).in_file(path)?.0.color_type().has_alpha() {
        return Ok(None);
    }
    let rgba = decode_any(path).in_file(path)?.into_rgba8();
    Ok(Some(GrayImage::from_fn(rgba.width(), rgba.height(), |x, y| image::Luma([rgba.get_pixel(x, y).0[3]]))))
}

/// One unlabelled sample from an image file, named by its path.
pub fn sample(path: impl AsRef<Path>) -> Result<Sample> {
    let path = path.as_ref();
    Ok(Sample { name: path.display().to_string(), image: read_image(path)?, targets: Vec::new(), label: None })
}

/// Width and height of an image as [`read_image`] gives it, without decoding pixels.
///
/// # Errors
/// As [`read_image`], as far as the file's head shows.
pub fn image_size(path: impl AsRef<Path>) -> Result<(u32, u32)> {
    let path = path.as_ref();
    let (decoder, orientation) = open(path).in_file(path)?;
    let (w, h) = decoder.dimensions();
    use image::metadata::Orientation::{Rotate90, Rotate90FlipH, Rotate270, Rotate270FlipH};
    let turned = matches!(orientation, Rotate90 | Rotate270 | Rotate90FlipH | Rotate270FlipH);
    Ok(if turned { (h, w) } else { (w, h) })
}

fn decode(path: &Path) -> Result<RgbImage> {
    Ok(decode_any(path)?.into_rgb8())
}

/// The image as its file has it, turned upright.
fn decode_any(path: &Path) -> Result<DynamicImage> {
    let (decoder, orientation) = open(path)?;
    let whole = File::open(path).and_then(|f| whole::reaches_its_end(&mut BufReader::new(f)));
    if !whole.map_err(|e| Error::io(path, e))? {
        return Err(Error::format("not a readable image: the JPEG file is cut off"));
    }
    let mut image = DynamicImage::from_decoder(decoder).map_err(|e| Error::format("not a readable image").because(e))?;
    image.apply_orientation(orientation);
    Ok(image)
}

/// A decoder that has read the file's head, and how the image is to be turned.
fn open(path: &Path) -> Result<(impl ImageDecoder, image::metadata::Orientation)> {
    let strip = |e: Error| Error::new(e.kind(), e.message().to_string());
    let meta = std::fs::metadata(path).map_err(|e| strip(Error::io(path, e)))?;
    if !meta.is_file() {
        return Err(Error::argument(format!(
            "expected an image file, got {}",
            if meta.is_dir() { "a folder" } else { "a device or a pipe" }
        )));
    }
    if meta.len() == 0 {
        return Err(Error::format("the image file is empty"));
    }
    let bad = |e: image::ImageError| Error::format("not a readable image").because(e);
    let reader = ImageReader::open(path).and_then(ImageReader::with_guessed_format).map_err(|e| strip(Error::io(path, e)))?;
    let mut reader = reader;
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_PIXELS * 8);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(bad)?;
    let (w, h) = decoder.dimensions();
    if w == 0 || h == 0 {
        return Err(Error::format(format!("the image is {w}×{h} pixels")));
    }
    if u64::from(w) * u64::from(h) > MAX_PIXELS {
        return Err(Error::format(format!("the image is {w}×{h} pixels, more than {} megapixels", MAX_PIXELS / 1_000_000)));
    }
    let orientation = decoder.orientation().map_err(bad)?;
    Ok((decoder, orientation))
}

/// True for a path with the extension of an image file that is read.
pub(super) fn is_image(path: &Path) -> bool {
    ending(path).is_some_and(|e| EXTENSIONS.contains(&e.as_str()))
}

/// How an image or film that is not read is counted in warnings; `None` for any other file.
pub(super) fn unread(path: &Path) -> Option<String> {
    let ending = ending(path).filter(|e| OTHERS.contains(&e.as_str()))?;
    Some(format!(".{ending} file, which is not read, left out"))
}

fn ending(path: &Path) -> Option<String> {
    Some(path.extension()?.to_str()?.to_ascii_lowercase())
}

/// Image files, and images and films beside them that are not read.
#[derive(Debug, Default)]
pub struct ImageFiles {
    /// Files whose names say that they can be read, and one that was asked for by itself.
    pub images: Vec<PathBuf>,
    /// Images of other formats, and films.
    pub unread: Vec<PathBuf>,
}

impl ImageFiles {
    /// Adds a file where it belongs.
    fn add(&mut self, path: PathBuf) {
        if is_image(&path) {
            self.images.push(path);
        } else if unread(&path).is_some() {
            self.unread.push(path);
        }
    }
    /// Counts the files that are not read.
    pub(super) fn warn(&self, warnings: &mut Warnings) {
        for path in &self.unread {
            warnings.add(unread(path).unwrap_or_default(), file_name(path));
        }
    }
    /// A line for each kind of file that is not read.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Warnings::default();
        self.warn(&mut warnings);
        warnings.lines()
    }
    /// As they are, unless no image is among them.
    fn some(self, path: &Path) -> Result<Self> {
        if !self.images.is_empty() {
            return Ok(self);
        }
        let e = Error::missing("no image files found").file(path).hint(format!("images end in {}", EXTENSIONS.join(", ")));
        let unread = self.warnings();
        Err(if unread.is_empty() { e } else { e.because(Error::unsupported(unread.join("; "))) })
    }
}

/// Entries of a folder, sorted by name, without hidden ones.
pub(super) fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    entries_while(dir, || Ok(()))
}

/// As [`entries`], as long as `check` agrees.
fn entries_while(dir: &Path, check: impl Fn() -> Result<()>) -> Result<Vec<PathBuf>> {
    let io = |e| Error::io(dir, e);
    let mut all = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(io)? {
        check()?;
        let entry = entry.map_err(io)?;
        if !entry.file_name().to_string_lossy().starts_with('.') {
            all.push(entry.path());
        }
    }
    all.sort();
    Ok(all)
}

/// Image files that `pattern` names: a file, a folder (searched with its subfolders), or a pattern whose last parts
/// hold `*` or `?`. Sorted.
///
/// # Errors
/// `Missing` when nothing matches; `Argument` for a folder with far too much in it; `Cancelled`.
pub fn image_files(pattern: &str, ctx: &Context) -> Result<ImageFiles> {
    let path = Path::new(pattern);
    let mut found = ImageFiles::default();
    if path.is_file() {
        // Whatever its name: what it holds decides whether it can be read.
        found.images.push(path.to_path_buf());
        return Ok(found);
    }
    if path.is_dir() {
        walk(path, &mut found, ctx)?;
    } else if pattern.contains(['*', '?']) {
        let mut folders = vec![if path.is_absolute() { PathBuf::from("/") } else { PathBuf::from(".") }];
        let parts: Vec<String> = path.iter().map(|p| p.to_string_lossy().into_owned()).filter(|p| p != "/").collect();
        for (i, part) in parts.iter().enumerate() {
            let last = i + 1 == parts.len();
            let mut next = Vec::new();
            for folder in &folders {
                ctx.check()?;
                if !part.contains(['*', '?']) {
                    next.push(folder.join(part));
                    continue;
                }
                for entry in entries(folder).unwrap_or_default() {
                    let name = entry.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
                    if matches(part, &name) && (last || entry.is_dir()) {
                        next.push(entry);
                    }
                }
            }
            folders = next;
        }
        folders.into_iter().filter(|p| p.is_file()).for_each(|p| found.add(p));
        found.images.sort();
    } else {
        return Err(Error::missing("no such file or folder").file(path));
    }
    found.some(path)
}

/// Depth to which folders are searched; deeper ones are likely a loop of links.
const MAX_DEPTH: usize = 16;

/// Files and folders that are looked at below one.
const MAX_ENTRIES: usize = 10_000_000;
/// After this many, one in [`SPARSE`] must be an image: a whole disk is no dataset.
const LOOK: usize = 100_000;
const SPARSE: usize = 20;

/// Collects the image files below `dir`, sorted within each folder.
///
/// # Errors
/// `Argument` where there is far too much, or hardly an image in it; `Cancelled`; `Io`.
pub(super) fn walk(dir: &Path, found: &mut ImageFiles, ctx: &Context) -> Result<()> {
    let before = found.images.len();
    let mut looked = 0;
    let mut below = vec![(dir.to_path_buf(), 0)];
    // Folders are read in their order, one after the other: the next one stands at the end.
    while let Some((path, depth)) = below.pop() {
        if depth > 0 && !path.is_dir() {
            found.add(path);
            continue;
        }
        if depth > MAX_DEPTH || depth > 0 && leads_back(&path) {
            continue;
        }
        let inside = entries_while(&path, || ctx.check())?;
        looked += inside.len();
        let images = found.images.len() - before;
        if looked > MAX_ENTRIES || looked > LOOK && images < looked / SPARSE {
            let e = Error::argument(format!("after {looked} files and folders only {images} images are found")).file(dir);
            return Err(e.hint("name the folder of the images"));
        }
        below.extend(inside.into_iter().rev().map(|p| (p, depth + 1)));
    }
    Ok(())
}

/// Whether a link names a folder that it stands in.
fn leads_back(link: &Path) -> bool {
    let real = |p: &Path| p.canonicalize().ok();
    link.is_symlink() && link.parent().and_then(real).zip(real(link)).is_some_and(|(stands, named)| stands.starts_with(named))
}

/// Matches a name against a pattern of literal characters, `*` (any run) and `?` (any one).
fn matches(pattern: &str, name: &str) -> bool {
    let (p, n): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    // `reach[j]`: the pattern so far matches the first j characters.
    let mut reach = vec![false; n.len() + 1];
    reach[0] = true;
    for &c in &p {
        let mut next = vec![false; n.len() + 1];
        for j in 0..=n.len() {
            next[j] = match c {
                '*' => reach[j] || (j > 0 && next[j - 1]),
                '?' => j > 0 && reach[j - 1],
                c => j > 0 && reach[j - 1] && n[j - 1] == c,
            };
        }
        reach = next;
    }
    reach[n.len()]
}

#[cfg(test)]
mod tests;
