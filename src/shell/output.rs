//! Where results and printed lines go.

use crate::error::{Error, Result};
use crate::report::{self, Graphics, Media, Show, Style};
use std::sync::{Mutex, PoisonError};

/// Receives what a script prints and shows.
pub trait Output: Send + Sync {
    /// What the receiver can show.
    fn style(&self) -> Style;
    /// How images can be shown. Asked only when there is an image, so that it may take a while to find out.
    fn graphics(&self) -> Graphics {
        self.style().graphics
    }
    /// Prints text and a line break.
    fn print(&self, text: &str);
    /// Prints text and a line break where it is no result, such as standard error.
    fn eprint(&self, text: &str) {
        self.print(text);
    }
    /// Shows a report: tables, plots (as images where the receiver can, else as text where it has Unicode), pictures (where
    /// it can show images), notes.
    ///
    /// # Errors
    /// Those of drawing a plot.
    fn show(&self, report: &dyn Show) -> Result<()> {
        print_report(self, report)
    }
    /// Whether it takes outputs in several forms, as notebooks do.
    fn is_notebook(&self) -> bool {
        false
    }
    /// Shows one output in the best of its forms.
    fn display(&self, media: Media) {
        self.print(media.get("text/plain").unwrap_or_default());
    }
    /// Asks the user for a line of text.
    ///
    /// # Errors
    /// `Unsupported` where nobody can be asked; `Cancelled` when the user interrupts.
    fn input(&self, prompt: &str) -> Result<String> {
        let _ = prompt;
        Err(Error::unsupported("there is nobody to ask here"))
    }
    /// Drops what has been shown: a cell's outputs, the screen of a terminal; with `wait` only once there is something new.
    fn clear(&self, wait: bool) {
        let _ = wait;
    }
}

fn print_report<O: Output + ?Sized>(output: &O, report: &dyn Show) -> Result<()> {
    let style = output.style();
    let plots = report.plots();
    let pictures = report.pictures();
    let graphics = if plots.is_empty() && pictures.is_empty() { Graphics::None } else { output.graphics() };
    if graphics == Graphics::None {
        output.print(&report::text(report, &style));
        return Ok(());
    }
    let tables: Vec<String> = report.tables().iter().map(|t| report::table_text(t, &style)).collect();
    if !tables.is_empty() {
        output.print(&tables.join("\n\n"));
    }
    for plot in plots {
        output.print(&graphics.encode(&report::plot_png(&plot, 1.0)?)?);
    }
    for picture in pictures {
        output.print(&style.paint(report::Ink::BoldCyan, &report::printable(&picture.title)));
        output.print(&graphics.encode(&picture.png()?)?);
    }
    for note in report.notes() {
        output.print(&style.paint(report::Ink::Dim, &report::note_text(&note, &style)));
    }
    Ok(())
}

/// Keeps what is printed, for tests and for front ends that send it elsewhere.
#[derive(Debug)]
pub struct Buffer {
    style: Style,
    text: Mutex<String>,
}

impl Buffer {
    /// Empty; `style` is what reports are laid out for.
    pub fn new(style: Style) -> Self {
        Self { style, text: Mutex::default() }
    }
    /// What has been printed since the last call.
    pub fn take(&self) -> String {
        std::mem::take(&mut *self.text.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Output for Buffer {
    fn style(&self) -> Style {
        self.style
    }
    fn print(&self, text: &str) {
        let mut kept = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push_str(text);
        kept.push('\n');
    }
}
