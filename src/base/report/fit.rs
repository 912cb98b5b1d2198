//! Tables for a given width: cells wrapped at words, rows and columns exchanged, columns left out. Words and numbers stay whole.

use super::wrap::wrapped;
use super::{Align, Table};

/// A table that fits.
pub(super) struct Fitted {
    pub table: Table,
    /// A blank on each side of a cell.
    pub padded: bool,
    /// Names of the columns that are left out.
    pub left_out: Vec<String>,
}

/// Exchanging rows and columns is no help to the eye with more rows than this.
const MOST_TRANSPOSED: usize = 6;
/// A cell takes no more lines than this where columns can be left out for it.
const MOST_LINES: usize = 3;

/// The table within `width` columns: whole where that goes; else its texts wrapped at words; else, of few rows, with rows and columns
/// exchanged; else without some columns, those first that it names for this. The first column stays. Where two columns alone do not
/// fit, words are broken.
pub(super) fn fit(table: Table, width: usize) -> Fitted {
    let whole = |table: Table, padded| Fitted { table, padded, left_out: Vec::new() };
    if let Some(padded) = [true, false].into_iter().find(|&p| natural(&table, p) <= width) {
        return whole(table, padded);
    }
    let minor = |kept: &[usize]| kept.iter().skip(1).any(|&c| table.headers.get(c).is_some_and(|h| table.layout.minor.contains(h)));
    let tall = |t: &Table| t.rows.iter().flatten().any(|cell| cell.lines().count() > MOST_LINES);
    let mut kept: Vec<usize> = (0..table.width()).collect();
    for padded in [true, false] {
        if let Some(narrow) = squeezed(&table, width, padded).filter(|t| !minor(&kept) || !tall(t)) {
            return whole(narrow, padded);
        }
    }
    if (2..=MOST_TRANSPOSED).contains(&table.rows.len()) && table.width() > table.rows.len() {
        let turned = transposed(&table);
        if let Some(padded) = [true, false].into_iter().find(|&p| natural(&turned, p) <= width) {
            return whole(turned, padded);
        }
    }
    let mut dropped = Vec::new();
    while kept.len() > 2 {
        let place = |name: &str| kept.iter().skip(1).position(|&c| table.headers.get(c).is_some_and(|h| h == name)).map(|i| i + 1);
        let next = table.layout.minor.iter().find_map(|name| place(name)).unwrap_or(kept.len() - 1);
        dropped.push(kept.remove(next));
        if let Some(narrow) = squeezed(&table.columns(&kept), width, false).filter(|t| !minor(&kept) || !tall(t)) {
            dropped.sort_unstable();
            let left_out = dropped.iter().filter_map(|&c| table.headers.get(c).cloned()).collect();
            return Fitted { table: narrow, padded: false, left_out };
        }
    }
    whole(shared_out(&table, &vec![1; table.width()], width, false), false)
}

/// Characters of the longest line of a column.
fn widest(table: &Table, column: usize) -> usize {
    cells(table, column).flat_map(str::lines).map(|line| line.chars().count()).max().unwrap_or(0)
}

fn cells(table: &Table, column: usize) -> impl Iterator<Item = &str> {
    table.rows.iter().filter_map(move |r| r.get(column)).chain(table.headers.get(column)).map(String::as_str)
}

/// Characters between the cells of a line, frame included.
fn frame(columns: usize, padded: bool) -> usize {
    columns + 1 + if padded { 2 * columns } else { 0 }
}

/// Characters of a line of the table when no cell is wrapped.
fn natural(table: &Table, padded: bool) -> usize {
    (0..table.width()).map(|c| widest(table, c)).sum::<usize>() + frame(table.width(), padded)
}

/// The table with its texts wrapped at words to fit, where that goes.
fn squeezed(table: &Table, width: usize, padded: bool) -> Option<Table> {
    let longest = |text: &str| text.split_whitespace().map(|word| word.chars().count()).max().unwrap_or(0);
    let least = |c: usize| match table.aligns.get(c) {
        // A number and its unit stay together.
        Some(Align::Right) => {
            let numbers = table.rows.iter().filter_map(|r| r.get(c)).map(|text| text.chars().count()).max().unwrap_or(0);
            numbers.max(table.headers.get(c).map_or(0, |h| longest(h)))
        }
        _ => cells(table, c).map(longest).max().unwrap_or(0),
    };
    let least: Vec<usize> = (0..table.width()).map(least).collect();
    (least.iter().sum::<usize>() + frame(table.width(), padded) <= width).then(|| shared_out(table, &least, width, padded))
}

/// The table with its cells wrapped: each column as wide as `least` and, of what is left, its share by what it lacks.
fn shared_out(table: &Table, least: &[usize], width: usize, padded: bool) -> Table {
    let room = width.saturating_sub(frame(table.width(), padded) + least.iter().sum::<usize>());
    let lacks: Vec<usize> = (0..table.width()).map(|c| widest(table, c).saturating_sub(least[c])).collect();
    // Short columns get all that they lack before long ones share the rest.
    let mut order: Vec<usize> = (0..lacks.len()).collect();
    order.sort_by_key(|&c| lacks[c]);
    let (mut widths, mut left) = (least.to_vec(), room);
    for (i, &c) in order.iter().enumerate() {
        let share = lacks[c].min(left / (order.len() - i));
        widths[c] += share;
        left -= share;
    }
    let wrap = |text: &String, c: usize| wrapped(text, widths[c].max(1), 0);
    let mut narrow = table.clone();
    narrow.headers = table.headers.iter().enumerate().map(|(c, h)| wrap(h, c)).collect();
    narrow.rows = table.rows.iter().map(|r| r.iter().enumerate().map(|(c, text)| wrap(text, c)).collect()).collect();
    narrow
}

/// A row for each column and a column for each row, under the cells of the first column.
fn transposed(table: &Table) -> Table {
    let mut turned = Table::new(table.title.clone(), &[table.headers.first().map_or("", String::as_str)]);
    turned.headers.extend(table.rows.iter().map(|r| r.first().cloned().unwrap_or_default()));
    turned.aligns.resize(turned.headers.len(), Align::Right);
    turned.rows = (1..table.width())
        .map(|c| {
            let name = table.headers.get(c).cloned().unwrap_or_default();
            std::iter::once(name).chain(table.rows.iter().map(|r| r.get(c).cloned().unwrap_or_default())).collect()
        })
        .collect();
    turned
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Best, Cell, Style, table_text};

    const HEADERS: [&str; 10] = ["model", "runtime", ">params", ">size", ">mean ms", ">std", ">p50 ms", ">images/s", ">mAP50", ">speed-up"];

    /// So many models, all of which share runtime and size.
    fn benchmark(rows: usize) -> Table {
        let mut t = Table::new("Benchmark", &HEADERS).folding().minor(["std", "mean ms"]).best(&[
            ("p50 ms", Best::Least),
            ("mAP50", Best::Greatest),
            ("size", Best::Least),
        ]);
        for r in 0..rows {
            let x = r as f64;
            let mut cells = vec![Cell::from(format!("pruned by {r}")), "onnxruntime".into(), Cell::count(3_000_000 + 10_000 * r as u64)];
            cells.extend([Cell::bytes(12_345_678), Cell::number(100.5 - x), Cell::number(0.123), Cell::number(98.25 - x)]);
            cells.extend([Cell::number(10.5 + x), Cell::number(0.8234 - x / 100.0), Cell::shown(format!("{:.2}×", 1.0 + x), 1.0 + x)]);
            t.row(cells);
        }
        t
    }

    fn shown(t: &Table, width: usize) -> String {
        let text = table_text(t, &Style::columns(width));
        assert!(text.lines().all(|l| l.chars().count() <= width), "{width}:\n{text}");
        text
    }

    #[test]
    fn what_is_equal_is_said_once_and_the_best_is_marked() {
        let text = shown(&benchmark(3), 120);
        assert!(text.contains("- in all rows: runtime onnxruntime, size 12.3 MB, std 0.123") && text.contains("╞"), "{text}");
        assert_eq!(text.matches("onnxruntime").count(), 1);
        let starred: Vec<&str> = text.lines().filter(|l| l.contains(" *")).collect();
        assert!(starred.len() == 2 && starred[0].contains("0.8234 *") && starred[1].contains("96.25 *"), "{text}");
        assert!(!shown(&benchmark(1), 120).contains('*'));
    }

    #[test]
    fn few_rows_become_columns_and_many_lose_some() {
        let text = shown(&benchmark(3), 54);
        assert!(text.contains("│ model") && ["speed-up", "98.25", "pruned by 2"].iter().all(|w| text.contains(w)), "{text}");
        assert_eq!(text.lines().filter(|l| l.contains('│')).count(), 7, "{text}");
        for width in [40, 48, 54] {
            let text = shown(&benchmark(12), width);
            assert!(text.contains("- no room for ") && text.contains("pruned"), "{text}");
            let left_out = text.split("no room for ").nth(1).unwrap();
            assert!(left_out.starts_with("mean ms"), "what says so goes first, and std is folded: {text}");
        }
    }

    #[test]
    fn columns_that_matter_less_make_room_for_texts() {
        let mut t = Table::new("", &["candidate", ">MACs", ">size", ">lost", "why"]).minor(["MACs", "size"]);
        t.row(["-52 % MACs", "1.29 M", "222 kB", "0.0000", "-52 % MACs, int8 is as good or better in all"]);
        t.row(["int8", "2.70 M", "324 kB", "0.0000", "taken"]);
        let text = shown(&t, 46);
        assert!(text.contains("no room for MACs") && text.contains("why") && text.lines().count() < 14, "{text}");
        assert!(!shown(&t, 100).contains("no room"));
    }

    #[test]
    fn texts_are_wrapped_at_words_and_numbers_stay_whole() {
        let mut t = Table::new("", &["option", "meaning", ">default"]);
        t.row(["ratio", "Share to remove, at least 0 and below 1: of all channels that may go", "0.823761"]);
        for width in [30, 40, 60] {
            let text = shown(&t, width);
            let words: Vec<&str> = text.split(|c: char| c.is_whitespace() || "│┆╭╮╰╯─┬┴╞╪╡═".contains(c)).collect();
            for word in ["Share", "remove,", "channels", "0.823761", "default", "option"] {
                assert!(words.contains(&word), "{word} at {width}:\n{text}");
            }
        }
        // Where nothing else helps, words are broken.
        let mut t = Table::new("", &["file"]);
        t.row(["a/very/long/path/that/does/not/fit/anywhere.onnx"]);
        shown(&t, 20);
    }
}
