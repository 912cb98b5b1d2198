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
    for name in ["b.png", "a.JPG", "note.txt", "sub/c.png", "sub/d.GIF", "e.heic", ".hidden.png"] {
        std::fs::write(dir.path().join(name), b"x").unwrap();
    }
    let names = |pattern: &str| -> Vec<String> {
        let files = image_files(&dir.path().join(pattern).display().to_string(), &Context::new()).unwrap();
        files.images.iter().map(|f| f.strip_prefix(dir.path()).unwrap().display().to_string()).collect()
    };
    assert_eq!(names(""), ["a.JPG", "b.png", "sub/c.png"]);
    assert_eq!(names("*.png"), ["b.png"]);
    assert_eq!(names("s*/?.png"), ["sub/c.png"]);
    let all = image_files(&dir.path().display().to_string(), &Context::new()).unwrap();
    assert_eq!(
        all.warnings(),
        ["1 × .heic file, which is not read, left out: e.heic", "1 × .gif file, which is not read, left out: d.GIF"]
    );
    let none = |pattern: &str| image_files(&dir.path().join(pattern).display().to_string(), &Context::new()).unwrap_err().to_string();
    assert!(none("*.webp").contains("no image files"));
    assert!(none("*.heic").contains("1 × .heic file"), "{}", none("*.heic"));
}

/// The values are OpenCV's.
#[test]
fn every_depth_and_form_becomes_eight_bits_of_red_green_blue() {
    use image::{ImageBuffer, Luma, LumaA, Rgb, Rgba};
    let dir = tempfile::tempdir().unwrap();
    let path = |n: &str| dir.path().join(n);
    for name in ["grey16.png", "grey16.tif"] {
        ImageBuffer::from_fn(3, 2, |x, _| Luma([[37_694_u16, 15_420, 4095][x as usize]])).save(path(name)).unwrap();
    }
    for name in ["rgb16.png", "rgb16.tiff"] {
        ImageBuffer::from_pixel(3, 2, Rgb([220 * 257_u16, 180 * 257, 40 * 257])).save(path(name)).unwrap();
    }
    ImageBuffer::from_pixel(3, 2, Luma([60_u8])).save(path("grey.jpg")).unwrap();
    ImageBuffer::from_pixel(3, 2, LumaA([60_u8, 0])).save(path("clear_grey.png")).unwrap();
    for name in ["clear.png", "clear.tif", "clear.webp"] {
        ImageBuffer::from_pixel(3, 2, Rgba([220_u8, 180, 40, 0])).save(path(name)).unwrap();
    }
    let first = |name: &str| read_image(path(name)).unwrap().get_pixel(0, 0).0;
    for name in ["grey16.png", "grey16.tif"] {
        let image = read_image(path(name)).unwrap();
        assert_eq!([0, 1, 2].map(|x| image.get_pixel(x, 1).0), [[147; 3], [60; 3], [16; 3]], "{name}");
    }
    for name in ["rgb16.png", "rgb16.tiff", "clear.png", "clear.tif", "clear.webp"] {
        assert_eq!(first(name), [220, 180, 40], "{name}");
    }
    assert_eq!((first("grey.jpg"), first("clear_grey.png")), ([60; 3], [60; 3]));
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
    !bytes.iter().fold(!0u32, |crc, &b| (0..8).fold(crc ^ u32::from(b), |c, _| if c & 1 == 1 { (c >> 1) ^ 0xedb8_8320 } else { c >> 1 }))
}
