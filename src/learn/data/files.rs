//! Image files.

use super::Sample;
use compresso_base::error::{At, Error, Result};
use image::{DynamicImage, ImageDecoder, ImageReader, Limits, RgbImage};
use std::path::{Path, PathBuf};

/// Largest image that is decoded: width × height. Anything above is refused before memory is taken.
pub const MAX_PIXELS: u64 = 100_000_000;

/// Extensions of the image files that are read.
const EXTENSIONS: [&str; 5] = ["jpg", "jpeg", "png", "bmp", "webp"];

/// Reads an image as RGB, turned upright by its EXIF orientation.
///
/// # Errors
/// `Io` for a missing file; `Format` for one that is corrupt, empty, of an unknown format or larger than
/// [`MAX_PIXELS`].
pub fn read_image(path: impl AsRef<Path>) -> Result<RgbImage> {
    let path = path.as_ref();
    decode(path).in_file(path)
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
    let (decoder, orientation) = open(path)?;
    let mut image = DynamicImage::from_decoder(decoder).map_err(|e| Error::format("not a readable image").because(e))?;
    image.apply_orientation(orientation);
    Ok(image.into_rgb8())
}

/// A decoder that has read the file's head, and how the image is to be turned.
fn open(path: &Path) -> Result<(impl ImageDecoder, image::metadata::Orientation)> {
    let strip = |e: Error| Error::new(e.kind(), e.message().to_string());
    let meta = std::fs::metadata(path).map_err(|e| strip(Error::io(path, e)))?;
    if meta.is_dir() {
        return Err(Error::argument("expected an image file, got a folder"));
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

/// True for a path with the extension of an image file.
pub(super) fn is_image(path: &Path) -> bool {
    path.extension().and_then(|e| e.to_str()).is_some_and(|e| EXTENSIONS.contains(&e.to_ascii_lowercase().as_str()))
}

/// Entries of a folder, sorted by name, without hidden ones.
pub(super) fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    let io = |e| Error::io(dir, e);
    let mut all = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(io)? {
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
/// `Missing` when nothing matches.
pub fn image_files(pattern: &str) -> Result<Vec<PathBuf>> {
    let path = Path::new(pattern);
    if path.is_file() {
        return Ok(vec![path.to_path_buf()]);
    }
    let mut found = Vec::new();
    if path.is_dir() {
        walk(path, 0, &mut found)?;
    } else if pattern.contains(['*', '?']) {
        let mut folders = vec![if path.is_absolute() { PathBuf::from("/") } else { PathBuf::from(".") }];
        let parts: Vec<String> = path.iter().map(|p| p.to_string_lossy().into_owned()).filter(|p| p != "/").collect();
        for (i, part) in parts.iter().enumerate() {
            let last = i + 1 == parts.len();
            let mut next = Vec::new();
            for folder in &folders {
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
        found = folders.into_iter().filter(|p| p.is_file() && is_image(p)).collect();
        found.sort();
    } else {
        return Err(Error::missing("no such file or folder").file(path));
    }
    if found.is_empty() {
        return Err(Error::missing("no image files found").file(path).hint(format!("images end in {}", EXTENSIONS.join(", "))));
    }
    Ok(found)
}

/// Depth to which folders are searched; deeper ones are likely a loop of links.
const MAX_DEPTH: usize = 16;

/// Collects the image files below `dir`, sorted within each folder.
pub(super) fn walk(dir: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<()> {
    for path in entries(dir)? {
        if path.is_dir() {
            if depth < MAX_DEPTH {
                walk(&path, depth + 1, found)?;
            }
        } else if is_image(&path) {
            found.push(path);
        }
    }
    Ok(())
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
mod tests {
    use super::*;

    #[test]
    fn patterns_match_like_a_shell() {
        for (pattern, name, expected) in
            [("*.jpg", "a.jpg", true), ("*.jpg", "a.png", false), ("a?c*", "abcd", true), ("a?c", "ac", false), ("*", "", true)]
        {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn folders_files_and_patterns_are_found() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        for name in ["b.png", "a.JPG", "note.txt", "sub/c.png", ".hidden.png"] {
            std::fs::write(dir.path().join(name), b"x").unwrap();
        }
        let names = |pattern: &str| -> Vec<String> {
            let files = image_files(&dir.path().join(pattern).display().to_string()).unwrap();
            files.iter().map(|f| f.strip_prefix(dir.path()).unwrap().display().to_string()).collect()
        };
        assert_eq!(names(""), ["a.JPG", "b.png", "sub/c.png"]);
        assert_eq!(names("*.png"), ["b.png"]);
        assert_eq!(names("s*/?.png"), ["sub/c.png"]);
        assert!(image_files(&dir.path().join("*.webp").display().to_string()).unwrap_err().to_string().contains("no image files"));
    }

    #[test]
    fn corrupt_empty_and_huge_images_are_errors_that_name_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = |n: &str| dir.path().join(n);
        std::fs::write(path("empty.png"), b"").unwrap();
        std::fs::write(path("bad.jpg"), b"\xff\xd8\xff\xe0 not a picture").unwrap();
        let mut bomb = Vec::new();
        // A well-formed PNG header of 60000 × 60000 pixels.
        bomb.extend_from_slice(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR");
        bomb.extend_from_slice(&60_000u32.to_be_bytes());
        bomb.extend_from_slice(&60_000u32.to_be_bytes());
        bomb.extend_from_slice(&[8, 2, 0, 0, 0]);
        let crc = crc32(&bomb[12..]);
        bomb.extend_from_slice(&crc.to_be_bytes());
        bomb.extend_from_slice(b"\0\0\0\0IDAT\x35\xaf\x06\x1e");
        std::fs::write(path("bomb.png"), &bomb).unwrap();
        for (name, text) in [
            ("empty.png", "the image file is empty"),
            ("bad.jpg", "not a readable image"),
            ("bomb.png", "60000×60000 pixels, more than 100 megapixels"),
            ("none.png", "no such file"),
        ] {
            let e = read_image(path(name)).unwrap_err().to_string();
            assert!(e.contains(text) && e.contains(name), "{e}");
        }
    }

    fn crc32(bytes: &[u8]) -> u32 {
        !bytes
            .iter()
            .fold(!0u32, |crc, &b| (0..8).fold(crc ^ u32::from(b), |c, _| if c & 1 == 1 { (c >> 1) ^ 0xedb8_8320 } else { c >> 1 }))
    }
}
