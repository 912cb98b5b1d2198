//! Reports as HTML.

use super::{Align, Show, Table, plot_svg};
use crate::error::Result;
use base64::Engine;
use std::fmt::Write;

const CSS: &str = "\
.compresso{font:14px/1.45 system-ui,sans-serif}
.compresso table{border-collapse:collapse;margin:.4em 0 1.2em}
.compresso caption{text-align:left;font-weight:600;padding:.3em 0}
.compresso th,.compresso td{padding:.25em .8em;border-bottom:1px solid #8884;text-align:left;white-space:pre-wrap}
.compresso thead th{border-bottom:2px solid #888a}
.compresso td{font-variant-numeric:tabular-nums}
.compresso tbody tr:hover{background:#8882}
.compresso .notes{opacity:.75}
.compresso svg,.compresso img{max-width:100%;height:auto}
.compresso figcaption{font-weight:600;padding:.3em 0}
.compresso figure{margin:1em 0}";

/// On a page, a click on the head of a column sorts by it: by the numbers behind the cells, else by their texts; a second click turns the order.
const SORT: &str = "\
document.querySelectorAll('.compresso table').forEach(t=>t.querySelectorAll('thead th').forEach((h,i)=>{\
let up=false;h.style.cursor='pointer';h.title='sort';h.onclick=()=>{up=!up;\
const key=r=>{const c=r.cells[i];return 'v' in c.dataset?+c.dataset.v:c.textContent};\
const order=(a,b)=>typeof a=='number'&&typeof b=='number'?a-b:typeof a=='number'?-1:typeof b=='number'?1:a.localeCompare(b);\
[...t.tBodies[0].rows].sort((a,b)=>(up?1:-1)*order(key(a),key(b))).forEach(r=>t.tBodies[0].append(r))}}))";

/// Content with its style.
fn block(content: &str) -> String {
    format!("<div class=\"compresso\"><style>{CSS}</style>\n{content}</div>\n")
}

/// Tables and notes in one `div`.
pub fn html_fragment(tables: &[Table], notes: &[String]) -> String {
    block(&(tables.iter().map(table_html).collect::<String>() + notes_html(notes).as_str()))
}

/// A report as a fragment of HTML: tables, plots (SVG), pictures (JPEG) and notes in one `div`.
///
/// # Errors
/// Those of [`plot_svg`] and [`Picture::jpeg`](super::Picture::jpeg).
pub fn html(report: &dyn Show) -> Result<String> {
    let mut out: String = report.tables().iter().map(table_html).collect();
    for plot in report.plots() {
        let numbers = super::media::numbers(&plot);
        let numbers = numbers.as_ref().and_then(|m| m.get("text/html")).unwrap_or_default();
        let _ = writeln!(out, "<figure>{}{numbers}</figure>", plot_svg(&plot)?);
    }
    for picture in report.pictures() {
        let data = base64::engine::general_purpose::STANDARD.encode(picture.jpeg()?);
        let title = escape(&picture.title);
        let _ =
            writeln!(out, "<figure><figcaption>{title}</figcaption><img alt=\"{title}\" src=\"data:image/jpeg;base64,{data}\"></figure>");
    }
    out += &notes_html(&report.notes());
    Ok(block(&out))
}

fn notes_html(notes: &[String]) -> String {
    if notes.is_empty() {
        return String::new();
    }
    let items: String = notes.iter().map(|n| format!("<li>{}</li>", escape(n))).collect();
    format!("<ul class=\"notes\">{items}</ul>\n")
}

/// A report as a page that needs no other file.
///
/// # Errors
/// Those of [`plot_svg`].
pub fn html_page(report: &dyn Show, title: &str) -> Result<String> {
    let title = escape(title);
    let body = html(report)?;
    Ok(format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{title}</title></head>\n<body style=\"margin:2em auto;max-width:70em;padding:0 1em;color:#1f2937;background:#fff\">\n{body}<script>{SORT}</script></body></html>\n"
    ))
}

/// A table as HTML.
pub fn table_html(table: &Table) -> String {
    let (table, equal) = table.folded();
    let best = table.best_cells();
    // Front ends that drop the style sheet would align text to the right.
    let style =
        |i: usize| if table.aligns.get(i) == Some(&Align::Right) { " style=\"text-align:right\"" } else { " style=\"text-align:left\"" };
    let mut out = String::from("<table>");
    if !table.title.is_empty() {
        let _ = write!(out, "<caption>{}</caption>", escape(&table.title));
    }
    // A table of names and values has no heads to read out.
    if table.headers.iter().any(|h| !h.is_empty()) {
        out += "<thead><tr>";
        for (i, h) in table.headers.iter().enumerate() {
            let _ = write!(out, "<th{}>{}</th>", style(i), escape(h));
        }
        out += "</tr></thead>";
    }
    out += "<tbody>\n";
    for (r, row) in table.rows.iter().enumerate() {
        out += "<tr>";
        for (i, c) in row.iter().enumerate() {
            let cell = if best.contains(&(r, i)) { format!("<b>{}</b>", escape(c)) } else { escape(c) };
            let number = table.number(r, i).map_or(String::new(), |x| format!(" data-v=\"{x}\""));
            let _ = write!(out, "<td{}{number}>{cell}</td>", style(i));
        }
        out += "</tr>\n";
    }
    out += "</tbody></table>\n";
    out + &notes_html(equal.as_slice())
}

/// Text for HTML: `<`, `>`, `&` and `"` as entities.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Cell;

    #[test]
    fn cells_are_escaped_and_aligned() {
        let mut t = Table::new("T", &["name", ">n"]);
        t.row(["<b>&", "1"]);
        let html = table_html(&t);
        assert!(html.contains("<td style=\"text-align:left\">&lt;b&gt;&amp;</td><td style=\"text-align:right\">1</td>"), "{html}");
        // The page parses as XML once the HTML-only void elements are closed.
        let parsed = roxmltree::Document::parse(&html).unwrap();
        assert_eq!(parsed.descendants().filter(|n| n.has_tag_name("td")).count(), 2);
    }

    #[test]
    fn columns_of_a_page_are_sorted_by_the_numbers_behind_the_cells() {
        let mut t = Table::new("T", &["name", ">size"]);
        t.row([Cell::from("a"), Cell::shown("1.2 MB", 1_200_000.0)]);
        t.row([Cell::from("b"), Cell::none()]);
        let page = html_page(&t, "t").unwrap();
        assert!(page.contains("data-v=\"1200000\">1.2 MB") && page.contains("h.onclick") && page.matches("data-v").count() == 1, "{page}");
    }
}
