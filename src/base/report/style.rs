//! What the place that text goes to can show.

use super::Graphics;
use std::io::IsTerminal;

/// What the place that text goes to can show. [`Style::plain`] is for files and pipes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// Columns; `None`: lines may be of any length.
    pub width: Option<usize>,
    /// Box-drawing and braille characters, and plots as text.
    pub unicode: bool,
    /// ANSI colours.
    pub color: bool,
    /// How images can be shown.
    pub graphics: Graphics,
}

impl Style {
    /// No colour, no box drawing, any width.
    pub const fn plain() -> Self {
        Self { width: None, unicode: false, color: false, graphics: Graphics::None }
    }
    /// A terminal of `width` columns with Unicode but without colour and images.
    pub const fn columns(width: usize) -> Self {
        Self { width: Some(width), unicode: true, color: false, graphics: Graphics::None }
    }
    /// What standard output can show. Colour is off without a terminal, with `NO_COLOR` and with `TERM=dumb`.
    pub fn stdout() -> Self {
        if !std::io::stdout().is_terminal() {
            return Self::plain();
        }
        let set = |name: &str| std::env::var_os(name).is_some_and(|v| !v.is_empty());
        let dumb = std::env::var_os("TERM").is_none_or(|t| t == "dumb");
        let mut probe = comfy_table::Table::new();
        probe.set_content_arrangement(comfy_table::ContentArrangement::Dynamic);
        Self {
            // Some terminals say 0 for a width that they do not know.
            width: Some(probe.width().map(usize::from).filter(|w| *w >= 10).unwrap_or(80)),
            unicode: utf8_locale(),
            color: !dumb && !set("NO_COLOR"),
            graphics: if dumb { Graphics::None } else { Graphics::from_env() },
        }
    }
    /// `text` between the ANSI codes of `ink`, or as it is where there is no colour.
    pub fn paint(&self, ink: Ink, text: &str) -> String {
        if self.color { format!("\x1b[{}m{text}\x1b[0m", ink.code()) } else { text.to_string() }
    }
}

/// An ANSI text style.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ink {
    /// Bold.
    Bold,
    /// Faint.
    Dim,
    /// Red.
    Red,
    /// Green.
    Green,
    /// Yellow.
    Yellow,
    /// Blue.
    Blue,
    /// Magenta.
    Magenta,
    /// Cyan.
    Cyan,
    /// Bold and red.
    BoldRed,
    /// Bold and cyan.
    BoldCyan,
}

impl Ink {
    /// Its number in the ANSI code.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Bold => "1",
            Self::Dim => "2",
            Self::Red => "31",
            Self::Green => "32",
            Self::Yellow => "33",
            Self::Blue => "34",
            Self::Magenta => "35",
            Self::Cyan => "36",
            Self::BoldRed => "1;31",
            Self::BoldCyan => "1;36",
        }
    }
}

fn utf8_locale() -> bool {
    let value = ["LC_ALL", "LC_CTYPE", "LANG"].iter().find_map(|n| std::env::var(n).ok().filter(|v| !v.is_empty()));
    // An unset locale says nothing; today's terminals show UTF-8.
    value.is_none_or(|v| {
        let v = v.to_lowercase();
        v.contains("utf-8") || v.contains("utf8") || !(v == "c" || v == "posix")
    })
}
