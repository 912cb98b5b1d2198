//! Reports in files.

use super::csv::csv;
use super::{Plot, Show, Style, Table, html_page, plot_png, plot_svg, plot_tables, text};
use crate::error::{Error, Result};
use crate::files::write_file;
use std::path::{Path, PathBuf};

/// The endings that [`save`] knows.
pub const FORMATS: &[&str] = &["html", "json", "csv", "txt", "png", "svg"];

/// Writes a report in the format that the path's ending names. The file is complete or not there at all.
///
/// HTML holds everything; JSON the data; CSV and text the tables, CSV of plots alone their numbers; PNG the first picture, or the plots where there is
/// none; JPEG the first picture; SVG the plots. Several plots go into files of their own ([`files_of`]).
///
/// # Errors
/// `Argument` for an unknown ending; `Missing` for an image of a report without any; `Io`.
pub fn save(report: &dyn Show, path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    let ending = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_lowercase();
    let plots = |draw: &dyn Fn(&Plot) -> Result<Vec<u8>>| {
        let plots = report.plots();
        if plots.is_empty() {
            return Err(Error::missing("there is no plot in this report").hint("save it as .html, .csv or .json"));
        }
        let drawn = plots.iter().map(draw).collect::<Result<Vec<_>>>()?;
        files_of(report, path).iter().zip(drawn).try_for_each(|(path, bytes)| write_file(path, &bytes))
    };
    let bytes = match ending.as_str() {
        "html" | "htm" => {
            let title = report.tables().first().map(|t| t.title.clone()).unwrap_or_default();
            html_page(report, if title.is_empty() { "Compresso report" } else { &title })?.into_bytes()
        }
        "json" => format!("{:#}\n", report.data()).into_bytes(),
        "csv" => {
            let numbers = || report.plots().iter().flat_map(plot_tables).collect::<Vec<Table>>();
            let tables = Some(report.tables()).filter(|t| !t.is_empty()).unwrap_or_else(numbers);
            if tables.is_empty() {
                return Err(Error::missing("there is no table in this report").hint("save it as .json").file(path));
            }
            csv(&tables).into_bytes()
        }
        "txt" | "md" => format!("{}\n", text(report, &Style::plain())).into_bytes(),
        "png" => match report.pictures().first() {
            Some(picture) => picture.png()?,
            None => return plots(&|plot| plot_png(plot, 2.0)),
        },
        "jpg" | "jpeg" => match report.pictures().first() {
            Some(picture) => picture.jpeg()?,
            None => return Err(Error::missing("there is no picture in this report").hint("save a plot as .png or .svg").file(path)),
        },
        "svg" => return plots(&|plot| plot_svg(plot).map(String::into_bytes)),
        other => {
            let e = Error::argument(format!("a report cannot be saved as '.{other}'"));
            return Err(e.hint(format!("use one of .{}", FORMATS.join(", ."))).file(path));
        }
    };
    write_file(path, &bytes)
}

/// The files that [`save`] writes of a report: the path alone, but of several plots `x.png`, `x-2.png` and so on.
pub fn files_of(report: &dyn Show, path: impl AsRef<Path>) -> Vec<PathBuf> {
    let path = path.as_ref();
    let ending = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
    let plots = match ending.to_lowercase().as_str() {
        "svg" => report.plots().len(),
        "png" if report.pictures().is_empty() => report.plots().len(),
        _ => 1,
    };
    let stem = path.file_stem().and_then(|s| s.to_str()).unwrap_or_default();
    let numbered = (2..=plots).map(|n| path.with_file_name(format!("{stem}-{n}.{ending}")));
    std::iter::once(path.to_path_buf()).chain(numbered).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::report::{Cell, Picture, Table};

    struct Sample;
    impl Show for Sample {
        fn tables(&self) -> Vec<Table> {
            let mut t = Table::new("T", &["name", ">n"]);
            t.row([Cell::from("a, \"b\""), Cell::count(3_157_200)]);
            t.row([Cell::from("open"), Cell::unknown()]);
            vec![t]
        }
        fn data(&self) -> serde_json::Value {
            serde_json::json!({ "n": 1 })
        }
    }

    #[test]
    fn the_ending_chooses_the_format() {
        let dir = tempfile::tempdir().unwrap();
        let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
        for name in ["r.csv", "r.json", "r.html", "r.txt"] {
            save(&Sample, dir.path().join(name)).unwrap();
        }
        assert_eq!(read("r.csv"), "name,n\n\"a, \"\"b\"\"\",3157200\nopen,\n");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&read("r.json")).unwrap()["n"], 1);
        assert!(read("r.html").starts_with("<!doctype html>"));
        assert!(read("r.txt").contains("| a, \"b\" |  3.16 M |\n| open   | unknown |"), "{}", read("r.txt"));
        assert!(read("r.html").contains("unknown"));
    }

    struct Two;
    impl Show for Two {
        fn tables(&self) -> Vec<Table> {
            Vec::new()
        }
        fn plots(&self) -> Vec<Plot> {
            ["first", "second"].map(|t| Plot::default().titled(t, "", "")).to_vec()
        }
        fn data(&self) -> serde_json::Value {
            serde_json::Value::Null
        }
    }

    #[test]
    fn every_plot_has_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p.svg");
        save(&Two, &path).unwrap();
        let files = files_of(&Two, &path);
        assert_eq!(files, [path, dir.path().join("p-2.svg")]);
        let texts: Vec<String> = files.iter().map(|f| std::fs::read_to_string(f).unwrap()).collect();
        assert!(texts[0].contains("first") && texts[1].contains("second"));
        save(&Two, dir.path().join("p.png")).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 4);
        assert_eq!(files_of(&Two, "p.html"), [PathBuf::from("p.html")]);
    }

    struct Seen;
    impl Show for Seen {
        fn tables(&self) -> Vec<Table> {
            Vec::new()
        }
        fn pictures(&self) -> Vec<Picture> {
            vec![Picture { title: "Some <cats>".into(), image: image::RgbImage::from_pixel(9, 7, image::Rgb([200, 10, 20])) }]
        }
        fn data(&self) -> serde_json::Value {
            serde_json::Value::Null
        }
    }

    #[test]
    fn pictures_are_saved_and_stand_in_pages() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["p.png", "p.jpg", "p.html"] {
            save(&Seen, dir.path().join(name)).unwrap();
        }
        assert_eq!(image::open(dir.path().join("p.png")).unwrap().into_rgb8(), Seen.pictures()[0].image);
        assert_eq!(image::image_dimensions(dir.path().join("p.jpg")).unwrap(), (9, 7));
        let page = std::fs::read_to_string(dir.path().join("p.html")).unwrap();
        assert!(page.contains("Some &lt;cats&gt;") && page.contains("src=\"data:image/jpeg;base64,/9j/"), "{page}");
        assert!(text(&Seen, &Style::plain()).contains("9 × 7 pixels: save it as .png"));
        assert_eq!(save(&Sample, dir.path().join("r.jpg")).unwrap_err().kind(), ErrorKind::Missing);
    }

    #[test]
    fn refusals_name_the_file_and_leave_none() {
        let dir = tempfile::tempdir().unwrap();
        let error = |name: &str| save(&Sample, dir.path().join(name)).unwrap_err();
        assert_eq!(error("r.png").kind(), ErrorKind::Missing);
        assert_eq!(save(&Seen, dir.path().join("p.csv")).unwrap_err().kind(), ErrorKind::Missing);
        assert!(error("r.xls").to_string().contains("use one of .html"));
        assert_eq!(error("no/such/r.csv").kind(), ErrorKind::Io);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
