//! Reports as text.

use super::{Align, Ink, Show, Style, Table, plot_text};
use comfy_table::{Cell, CellAlignment, ContentArrangement, TableStyle, presets};

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
    let notes: Vec<String> = report.notes().iter().map(|n| style.paint(Ink::Dim, &format!("- {n}"))).collect();
    if !notes.is_empty() {
        parts.push(notes.join("\n"));
    }
    parts.join("\n\n")
}

/// A table as text: box drawing in a terminal, Markdown elsewhere. Ends without a line break.
pub fn table_text(table: &Table, style: &Style) -> String {
    let mut grid = comfy_table::Table::new();
    grid.load_style(if style.unicode { BOX } else { presets::ASCII_MARKDOWN });
    grid.force_no_tty();
    if style.color {
        grid.enforce_styling();
    }
    if let Some(width) = style.width {
        grid.set_content_arrangement(ContentArrangement::Dynamic);
        grid.set_width(u16::try_from(width).unwrap_or(u16::MAX));
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
        grid.add_row(row.iter().enumerate().map(|(i, c)| Cell::new(printable(c)).set_alignment(alignment(i))));
    }
    // Words are broken only where they do not fit side by side without blanks around them either.
    if style.width.is_some_and(|width| natural_width(table) > width) {
        grid.column_iter_mut().for_each(|column| {
            column.set_padding((0, 0));
        });
    }
    let body = grid.trim_fmt();
    if table.title.is_empty() { body } else { format!("{}\n{body}", style.paint(Ink::BoldCyan, &printable(&table.title))) }
}

/// Characters in a line of a table whose cells are not broken, with a blank on each side.
fn natural_width(table: &Table) -> usize {
    let columns = table.rows.iter().map(Vec::len).chain([table.headers.len()]).max().unwrap_or(0);
    let widest = |c: usize| {
        let cells = table.rows.iter().filter_map(|r| r.get(c)).chain(table.headers.get(c));
        cells.flat_map(|text| text.lines()).map(|line| line.chars().count()).max().unwrap_or(0)
    };
    (0..columns).map(|c| widest(c) + 3).sum::<usize>() + 1
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
        assert!(narrow.lines().all(|l| l.chars().count() <= 24), "{narrow}");
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
