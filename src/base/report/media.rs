//! Results as outputs of a notebook.

use super::{
    Plot, Show, Style, Table, counted, escape, html_fragment, plot_svg, plot_tables, plot_text, printable, table_html, table_text,
};
use crate::error::Result;
use base64::Engine;

/// Columns of the plain-text form, which consoles show.
const TEXT_WIDTH: usize = 100;
/// Points of a plot that are listed at most.
const LISTED: usize = 500;

/// One output in several forms: pairs of a MIME type and text (base64 for JPEG and PNG), as `display_data` of the Jupyter
/// protocol has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Media(pub Vec<(String, String)>);

impl Media {
    /// Plain text alone.
    pub fn text(text: impl Into<String>) -> Self {
        Self::default().with("text/plain", text)
    }
    /// The same with one more form.
    #[must_use]
    pub fn with(mut self, mime: &str, data: impl Into<String>) -> Self {
        self.0.push((mime.to_string(), data.into()));
        self
    }
    /// Whether there is no form at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    /// The form of a MIME type.
    pub fn get(&self, mime: &str) -> Option<&str> {
        self.0.iter().find(|(m, _)| m == mime).map(|(_, data)| data.as_str())
    }
}

/// A report as outputs: its tables and notes (HTML and text), then each plot (SVG and text) after its caption, which folds out its
/// numbers, then each picture (JPEG) after its caption.
/// Images are outputs of their own because front ends strip them from the HTML of a notebook that they do not trust.
///
/// # Errors
/// Those of [`plot_svg`] and [`Picture::jpeg`](super::Picture::jpeg).
pub fn media(report: &dyn Show) -> Result<Vec<Media>> {
    let style = Style::columns(TEXT_WIDTH);
    let (tables, notes) = (report.tables(), report.notes());
    let mut outputs = Vec::new();
    if !tables.is_empty() || !notes.is_empty() {
        let mut text: Vec<String> = tables.iter().map(|t: &Table| table_text(t, &style)).collect();
        if !notes.is_empty() {
            text.push(notes.iter().map(|n| format!("- {n}")).collect::<Vec<_>>().join("\n"));
        }
        outputs.push(Media::text(text.join("\n\n")).with("text/html", html_fragment(&tables, &notes)));
    }
    for plot in report.plots() {
        outputs.extend(numbers(&plot));
        outputs.push(Media::text(plot_text(&plot, &style)).with("image/svg+xml", plot_svg(&plot)?));
    }
    for picture in report.pictures() {
        let data = base64::engine::general_purpose::STANDARD.encode(picture.jpeg()?);
        let words = format!("{} ({} × {} pixels)", printable(&picture.title), picture.image.width(), picture.image.height());
        // Front ends show images without a text that stands for them: it stands above.
        outputs.push(Media::text(words.clone()).with("text/html", format!("<figcaption>{}</figcaption>\n", escape(&words))));
        outputs.push(Media::text(words).with("image/jpeg", data));
    }
    Ok(outputs)
}

/// What a plot shows in words, and its numbers to fold out; of an empty one nothing. Front ends have no switch between the forms of an
/// output, and HTML has.
pub(super) fn numbers(plot: &Plot) -> Option<Media> {
    let mut tables = plot_tables(plot);
    let points: usize = tables.iter().map(|t| t.rows.len()).sum();
    if points == 0 {
        return None;
    }
    let mut room = LISTED;
    for t in &mut tables {
        t.rows.truncate(room);
        room -= t.rows.len();
    }
    let words = format!("{}, {}", printable(&plot.in_words()), counted(points, "row"));
    let more = if points > LISTED { format!("<p>the first {LISTED} of {points}: save it as .csv for all</p>") } else { String::new() };
    let all: String = tables.iter().map(table_html).collect();
    let html = format!("<details><summary>{}</summary>\n{all}{more}</details>\n", escape(&words));
    Some(Media::text(words).with("text/html", html))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Picture, Plot, Series, SeriesKind};

    struct All;
    impl Show for All {
        fn tables(&self) -> Vec<Table> {
            let mut t = Table::new("T", &["name"]);
            t.row(["<b>"]);
            vec![t]
        }
        fn plots(&self) -> Vec<Plot> {
            let series = Series { name: "loss".into(), kind: SeriesKind::Line, points: vec![(0.0, 4.0), (1.0, 2.0)], labels: vec![] };
            vec![Plot { title: "Loss".into(), series: vec![series], ..Plot::default() }]
        }
        fn pictures(&self) -> Vec<Picture> {
            vec![Picture { title: "Cat".into(), image: image::RgbImage::new(3, 2) }]
        }
        fn notes(&self) -> Vec<String> {
            vec!["2 threads".into()]
        }
        fn data(&self) -> serde_json::Value {
            serde_json::Value::Null
        }
    }

    #[test]
    fn tables_plots_and_pictures_are_outputs_of_their_own() {
        let outputs = media(&All).unwrap();
        let [tables, numbers, plot, caption, picture] = outputs.as_slice() else { panic!("{outputs:?}") };
        assert!(tables.get("text/plain").unwrap().contains("│ <b>"), "{tables:?}");
        let html = tables.get("text/html").unwrap();
        assert!(html.contains(">&lt;b&gt;</td>") && html.contains("<li>2 threads</li>"), "{html}");
        assert!(plot.get("image/svg+xml").unwrap().starts_with("<svg") && plot.get("text/plain").unwrap().contains("Loss"));
        let html = numbers.get("text/html").unwrap();
        assert!(html.starts_with("<details><summary>Loss (loss), 2 rows</summary>") && html.contains(">4</td>"), "{html}");
        assert!(picture.get("image/jpeg").unwrap().starts_with("/9j/"));
        assert_eq!(picture.get("text/plain"), Some("Cat (3 × 2 pixels)"));
        assert_eq!(caption.get("text/html"), Some("<figcaption>Cat (3 × 2 pixels)</figcaption>\n"));
    }

    #[test]
    fn long_plots_list_their_first_numbers() {
        let points = (0..600).map(|i| (f64::from(i), 0.5)).collect();
        let plot = Plot { series: vec![Series { points, ..Series::default() }], ..Plot::default() };
        let html = numbers(&plot).unwrap().get("text/html").unwrap().to_string();
        assert_eq!(html.matches("<tr>").count(), 501);
        assert!(html.contains("the first 500 of 600"), "{html}");
        assert_eq!(numbers(&Plot::default()), None);
    }
}
