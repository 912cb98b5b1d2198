//! Reports as text.

use super::fit::{Fitted, fit};
use super::wrap::wrapped;
use super::{Align, Ink, Show, Style, Table, plot_text};
use comfy_table::{Cell, CellAlignment, TableStyle, presets};

/// A whole report as text: tables, then plots (where the style has Unicode), the names of pictures, then notes. Ends without
/// a line break.
pub fn text(report: &dyn Show, style: &Style) -> String {
    let mut parts: Vec<String> = report.tables().iter().map(|t| table_text(t, style)).collect();
    if style.unicode {
        parts.extend(report.plots().iter().map(|p| plot_text(p, style)));
    }
    let pictures = report.pictures();
    parts.extend(pictures.iter().map(|p| style.paint(Ink::BoldCyan, &printable(&p.title))));
    if let Some(p) = pictures.first() {
        let (width, height) = p.image.dimensions();
        parts.push(style.paint(Ink::Dim, &format!("(an image of {width} × {height} pixels: save it as .png, .jpg or .html to see it)")));
    }
    let notes: Vec<String> = report.notes().iter().map(|n| style.paint(Ink::Dim, &note_text(n, style))).collect();
    if !notes.is_empty() {
        parts.push(notes.join("\n"));
    }
    parts.join("\n\n")
}

/// A table as text: box drawing in a terminal, Markdown elsewhere. Ends without a line break.
///
/// In a terminal it keeps to the width: texts are wrapped at words, rows and columns exchanged, or columns left out, which a line says.
pub fn table_text(table: &Table, style: &Style) -> String {
    let (folded, mut below) = table.folded();
    let marked = marked(folded, style);
    let Fitted { table, padded, left_out } = match style.width {
        Some(width) => fit(marked, width),
        None => Fitted { table: marked, padded: true, left_out: Vec::new() },
    };
    let mut grid = comfy_table::Table::new();
    grid.load_style(if style.unicode { BOX } else { presets::ASCII_MARKDOWN });
    grid.force_no_tty();
    if style.color {
        grid.enforce_styling();
    }
    let alignment = |column: usize| match table.aligns.get(column) {
        Some(Align::Right) => CellAlignment::Right,
        _ => CellAlignment::Left,
    };
    if table.headers.iter().any(|h| !h.is_empty()) {
        let header = table.headers.iter().enumerate().map(|(i, h)| {
            let cell = Cell::new(printable(h)).set_alignment(alignment(i));
            if style.color { cell.add_attribute(comfy_table::Attribute::Bold) } else { cell }
        });
        grid.set_header(header);
    }
    for row in &table.rows {
        let cell = |(i, text): (usize, &String)| {
            let cell = Cell::new(printable(text)).set_alignment(alignment(i));
            if style.color && text.ends_with(BEST) { cell.add_attribute(comfy_table::Attribute::Bold) } else { cell }
        };
        grid.add_row(row.iter().enumerate().map(cell));
    }
    if !padded {
        grid.column_iter_mut().for_each(|column| {
            column.set_padding((0, 0));
        });
    }
    let mut out = grid.trim_fmt();
    if !table.title.is_empty() {
        out = format!("{}\n{out}", style.paint(Ink::BoldCyan, &printable(&table.title)));
    }
    if !left_out.is_empty() {
        let line = format!("no room for {}: a wider terminal and files (.html, .csv) have them", left_out.join(", "));
        below = Some(below.map_or_else(|| line.clone(), |equal| format!("{equal}\n{line}")));
    }
    for line in below.iter().flat_map(|b| b.lines()) {
        out += &format!("\n{}", style.paint(Ink::Dim, &note_text(line, style)));
    }
    out
}

/// Stands behind the best of a column.
const BEST: &str = " *";

/// The table with a star behind the best of each column that has one, and room for it behind the others.
fn marked(mut table: Table, style: &Style) -> Table {
    let best = table.best_cells();
    for &(_, column) in &best {
        for (r, row) in table.rows.iter_mut().enumerate() {
            let Some(cell) = row.get_mut(column).filter(|cell| !cell.ends_with(BEST) && !cell.ends_with('\u{a0}')) else { continue };
            if best.contains(&(r, column)) {
                cell.push_str(BEST);
            } else if style.unicode {
                // Blanks at the end would be cut off.
                cell.push_str("\u{a0}\u{a0}");
            }
        }
    }
    table
}

/// A note under a table, with a dash before it.
pub fn note_text(text: &str, style: &Style) -> String {
    let line = format!("- {}", printable(text));
    style.width.map_or(line.clone(), |width| wrapped(&line, width, 2))
}

/// A rounded box with one rule, under the header.
const BOX: TableStyle = presets::UTF8_FULL_CONDENSED.with_rounded_corners();

/// `text` without control characters, so that a file's names cannot drive the terminal.
pub fn printable(text: &str) -> String {
    if text.chars().any(|c| c.is_control() && c != '\n') {
        text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
    } else {
        text.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Plot;
    use crate::report::{Series, SeriesKind};
    use insta::assert_snapshot;

    struct Sample;
    impl Show for Sample {
        fn tables(&self) -> Vec<Table> {
            let mut t = Table::new("Models", &["model", ">params", ">p50"]);
            t.row(["base", "3.16 M", "44.5 ms"]).row(["pruned", "1.48 M", "25.1 ms"]);
            vec![t]
        }
        fn plots(&self) -> Vec<Plot> {
            let series = Series { name: "loss".into(), kind: SeriesKind::Line, points: vec![(0.0, 4.0), (1.0, 2.0)], labels: vec![] };
            vec![Plot { title: "Loss".into(), series: vec![series], ..Plot::default() }]
        }
        fn notes(&self) -> Vec<String> {
            vec!["2 threads".into()]
        }
        fn data(&self) -> serde_json::Value {
            serde_json::json!({ "p50_ms": 44.5 })
        }
    }

    #[test]
    fn without_a_terminal_a_report_is_markdown() {
        assert_snapshot!(text(&Sample, &Style::plain()), @r"
        Models
        | model  | params |     p50 |
        |--------|--------|---------|
        | base   | 3.16 M | 44.5 ms |
        | pruned | 1.48 M | 25.1 ms |

        - 2 threads
        ");
    }

    #[test]
    fn a_terminal_gets_boxes() {
        assert_snapshot!(table_text(&Sample.tables()[0], &Style::columns(60)), @r"
        Models
        ╭────────┬────────┬─────────╮
        │ model  ┆ params ┆     p50 │
        ╞════════╪════════╪═════════╡
        │ base   ┆ 3.16 M ┆ 44.5 ms │
        │ pruned ┆ 1.48 M ┆ 25.1 ms │
        ╰────────┴────────┴─────────╯
        ");
        let close = table_text(&Sample.tables()[0], &Style::columns(26));
        assert!(close.contains("│base  ┆3.16 M┆44.5 ms│"), "{close}");
        let narrow = table_text(&Sample.tables()[0], &Style::columns(24));
        assert!(narrow.lines().all(|l| l.chars().count() <= 24) && narrow.contains("44.5 ms"), "{narrow}");
    }

    #[test]
    fn colour_and_control_characters_stay_out_of_plain_text() {
        let mut t = Table::new("a\x1b[31m", &["n"]);
        t.row(["x\x07y"]);
        assert!(!table_text(&t, &Style::plain()).contains(['\x1b', '\x07']));
        let colored = Style { color: true, ..Style::columns(40) };
        assert!(table_text(&Sample.tables()[0], &colored).contains("\x1b[1m"));
    }
}
