//! Images in terminals: the kitty, iTerm2 and sixel protocols.

use crate::error::{Error, Result};
use base64::Engine;
use std::fmt::Write;

/// A way to show images in a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Graphics {
    /// Images are saved, not shown.
    #[default]
    None,
    /// <https://sw.kovidgoyal.net/kitty/graphics-protocol>
    Kitty,
    /// <https://iterm2.com/documentation-images.html>
    Iterm2,
    /// DEC sixel graphics, 256 colours.
    Sixel,
}

impl Graphics {
    /// What the environment says of the terminal. `COMPRESSO_GRAPHICS` (kitty, iterm2, sixel, none) overrides it.
    pub fn from_env() -> Self {
        Self::detect(&|name| std::env::var(name).ok())
    }

    /// False when `COMPRESSO_GRAPHICS=none` rules images out.
    pub fn is_open() -> bool {
        std::env::var("COMPRESSO_GRAPHICS").map_or(true, |v| !v.eq_ignore_ascii_case("none"))
    }

    fn detect(var: &dyn Fn(&str) -> Option<String>) -> Self {
        let get = |name: &str| var(name).unwrap_or_default();
        match get("COMPRESSO_GRAPHICS").to_lowercase().as_str() {
            "kitty" => return Self::Kitty,
            "iterm2" => return Self::Iterm2,
            "sixel" => return Self::Sixel,
            "none" => return Self::None,
            _ => {}
        }
        // A multiplexer inherits the variables of the terminal it was started in, but swallows its images.
        if var("TMUX").is_some() || var("STY").is_some() {
            return Self::None;
        }
        let (term, program) = (get("TERM"), get("TERM_PROGRAM"));
        if term.contains("kitty") || term.contains("ghostty") || var("KITTY_WINDOW_ID").is_some() || program == "ghostty" {
            Self::Kitty
        } else if matches!(program.as_str(), "iTerm.app" | "WezTerm" | "mintty") || get("LC_TERMINAL") == "iTerm2" {
            Self::Iterm2
        } else if term.contains("sixel") || term.starts_with("foot") || term == "mlterm" {
            Self::Sixel
        } else {
            Self::None
        }
    }

    /// Whether a terminal's answer to the device attributes query (`ESC [ c`) lists sixel graphics (attribute 4).
    pub fn answer_has_sixel(answer: &str) -> bool {
        let Some(list) = answer.rsplit("\x1b[?").next().and_then(|a| a.split('c').next()) else { return false };
        list.split(';').skip(1).any(|a| a == "4")
    }

    /// The text that shows a PNG image in such a terminal; empty for [`Graphics::None`].
    ///
    /// # Errors
    /// `Format` when sixel is asked for and `png` cannot be decoded.
    pub fn encode(self, png: &[u8]) -> Result<String> {
        Ok(match self {
            Self::None => String::new(),
            Self::Kitty => kitty(png),
            Self::Iterm2 => iterm2(png),
            Self::Sixel => {
                let image = image::load_from_memory_with_format(png, image::ImageFormat::Png)
                    .map_err(|e| Error::format("not a PNG image").because(e))?;
                sixel(&image.to_rgb8())
            }
        })
    }
}

/// PNG data in chunks of at most 4096 base64 characters.
fn kitty(png: &[u8]) -> String {
    let data = base64::engine::general_purpose::STANDARD.encode(png);
    let chunks: Vec<&[u8]> = data.as_bytes().chunks(4096).collect();
    let mut out = String::with_capacity(data.len() + chunks.len() * 16);
    for (i, chunk) in chunks.iter().enumerate() {
        let more = u8::from(i + 1 < chunks.len());
        let keys = if i == 0 { format!("a=T,f=100,q=2,m={more}") } else { format!("m={more}") };
        // base64 text is ASCII.
        let _ = write!(out, "\x1b_G{keys};{}\x1b\\", String::from_utf8_lossy(chunk));
    }
    out
}

fn iterm2(png: &[u8]) -> String {
    let data = base64::engine::general_purpose::STANDARD.encode(png);
    format!("\x1b]1337;File=inline=1;size={};preserveAspectRatio=1:{data}\x07", png.len())
}

/// A sixel image in a fixed palette of 6 × 6 × 6 colours and 24 grays, which flat plots lose nothing visible in.
fn sixel(image: &image::RgbImage) -> String {
    let (width, height) = image.dimensions();
    let mut out = format!("\x1bPq\"1;1;{width};{height}");
    let mut palette_used = [false; 256];
    let indexed: Vec<u8> = image.pixels().map(|p| palette_index(p.0)).collect();
    for &i in &indexed {
        palette_used[usize::from(i)] = true;
    }
    for i in (0..=255u8).filter(|&i| palette_used[usize::from(i)]) {
        let [r, g, b] = palette_percent(i);
        let _ = write!(out, "#{i};2;{r};{g};{b}");
    }
    let at = |x: u32, y: u32| indexed[(y * width + x) as usize];
    for top in (0..height).step_by(6) {
        let band = top..(top + 6).min(height);
        let mut present = [false; 256];
        for y in band.clone() {
            for x in 0..width {
                present[usize::from(at(x, y))] = true;
            }
        }
        for color in (0..=255u8).filter(|&c| present[usize::from(c)]) {
            let _ = write!(out, "#{color}");
            let mut run: (char, u32) = ('?', 0);
            for x in 0..width {
                let bits = band.clone().enumerate().fold(0u8, |b, (i, y)| b | (u8::from(at(x, y) == color) << i));
                let c = char::from(63 + bits);
                if c == run.0 {
                    run.1 += 1;
                } else {
                    push_run(&mut out, run);
                    run = (c, 1);
                }
            }
            // Empty cells at the end of a line need not be sent.
            if run.0 != '?' {
                push_run(&mut out, run);
            }
            out.push('$');
        }
        out.push('-');
    }
    out += "\x1b\\";
    out
}

fn push_run(out: &mut String, (c, n): (char, u32)) {
    if n > 3 {
        let _ = write!(out, "!{n}{c}");
    } else {
        out.extend(std::iter::repeat_n(c, n as usize));
    }
}

/// 0–215: the colour cube; 216–239: grays.
fn palette_index([r, g, b]: [u8; 3]) -> u8 {
    let spread = r.max(g).max(b) - r.min(g).min(b);
    if spread < 10 {
        let mean = (u16::from(r) + u16::from(g) + u16::from(b)) / 3;
        return 216 + ((mean * 23 + 127) / 255) as u8;
    }
    let level = |v: u8| ((u16::from(v) * 5 + 127) / 255) as u8;
    level(r) * 36 + level(g) * 6 + level(b)
}

fn palette_percent(i: u8) -> [u8; 3] {
    if i >= 216 { [((u16::from(i - 216) * 100) / 23) as u8; 3] } else { [i / 36 * 20, i / 6 % 6 * 20, i % 6 * 20] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_tells_the_protocol() {
        let of =
            |pairs: &'static [(&str, &str)]| Graphics::detect(&move |n| pairs.iter().find(|(k, _)| *k == n).map(|(_, v)| (*v).to_string()));
        assert_eq!(of(&[("TERM", "xterm-kitty")]), Graphics::Kitty);
        assert_eq!(of(&[("TERM_PROGRAM", "iTerm.app")]), Graphics::Iterm2);
        assert_eq!(of(&[("TERM", "foot")]), Graphics::Sixel);
        assert_eq!(of(&[("TERM", "xterm-256color")]), Graphics::None);
        assert_eq!(of(&[("TERM", "xterm-kitty"), ("TMUX", "x")]), Graphics::None);
        assert_eq!(of(&[("TERM", "xterm-kitty"), ("COMPRESSO_GRAPHICS", "sixel")]), Graphics::Sixel);
        assert!(Graphics::answer_has_sixel("\x1b[?62;4;22c"));
        assert!(!Graphics::answer_has_sixel("\x1b[?62;22c"));
    }

    #[test]
    fn a_sixel_image_decodes_to_its_pixels() {
        // Two colours over 8 rows: one full band and one of two rows.
        let image = image::RgbImage::from_fn(5, 8, |x, y| if x == y % 5 { image::Rgb([255, 0, 0]) } else { image::Rgb([0, 0, 255]) });
        let text = sixel(&image);
        let body = text.strip_prefix("\x1bPq\"1;1;5;8").unwrap().strip_suffix("\x1b\\").unwrap();
        let mut seen = vec![vec![0u8; 5]; 12];
        let (mut x, mut top, mut color) = (0usize, 0usize, 0u8);
        let mut chars = body.chars().peekable();
        let number = |chars: &mut std::iter::Peekable<std::str::Chars<'_>>| {
            let mut n = 0u32;
            while let Some(d) = chars.peek().and_then(|c| c.to_digit(10)) {
                n = n * 10 + d;
                chars.next();
            }
            n
        };
        while let Some(c) = chars.next() {
            match c {
                '#' => {
                    color = u8::try_from(number(&mut chars)).unwrap();
                    while chars.peek() == Some(&';') {
                        chars.next();
                        number(&mut chars);
                    }
                }
                '$' => x = 0,
                '-' => (x, top) = (0, top + 6),
                '!' | '?'..='~' => {
                    let n = if c == '!' { number(&mut chars) as usize } else { 1 };
                    let bits = (if c == '!' { chars.next().unwrap() } else { c }) as u8 - 63;
                    for bit in (0..6).filter(|b| bits >> b & 1 == 1) {
                        seen[top + bit][x..x + n].fill(color);
                    }
                    x += n;
                }
                _ => panic!("unexpected {c:?}"),
            }
        }
        for (x, y, p) in image.enumerate_pixels() {
            assert_eq!(seen[y as usize][x as usize], palette_index(p.0), "({x}, {y})");
        }
    }

    #[test]
    fn kitty_sends_chunks_and_marks_the_last() {
        let text = kitty(&vec![7u8; 7000]);
        let parts: Vec<&str> = text.split("\x1b\\").filter(|p| !p.is_empty()).collect();
        assert_eq!(parts.len(), 3);
        assert!(parts[0].starts_with("\x1b_Ga=T,f=100,q=2,m=1;") && parts[2].starts_with("\x1b_Gm=0;"));
    }
}
