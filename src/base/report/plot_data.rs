//! The numbers of a plot.

use super::{Cell, Plot, SeriesKind, Table};

/// What a plot shows as tables, one for each panel.
pub fn plot_tables(plot: &Plot) -> Vec<Table> {
    if !plot.panels.is_empty() {
        return plot.panels.iter().flat_map(plot_tables).collect();
    }
    if let Some(heat) = &plot.heat {
        let headers: Vec<String> = std::iter::once(String::new()).chain(heat.columns.iter().map(|c| format!(">{c}"))).collect();
        let mut table = Table::new(plot.title.clone(), &headers.iter().map(String::as_str).collect::<Vec<_>>());
        for (r, name) in heat.rows.iter().enumerate() {
            let cells = (0..heat.columns.len()).map(|c| match heat.cell(r, c) {
                (shade, "") => Cell::number(shade * heat.scale.most),
                (_, text) => text.into(),
            });
            table.row(std::iter::once(Cell::from(name)).chain(cells));
        }
        return vec![table];
    }
    if let Some(flame) = &plot.flame {
        return vec![super::flame::table(plot, flame)];
    }
    let all = &plot.series;
    let series = all.len() > 1;
    let named = all.iter().any(|s| !s.labels.is_empty());
    // The place of a bar is only where it stands.
    let placed = !(named && all.iter().all(|s| s.kind == SeriesKind::Bars));
    let axis = |label: &str, name: &str| format!(">{}", if label.is_empty() { name } else { label });
    let (x, y) = (axis(&plot.x_label, "x"), axis(&plot.y_label, "y"));
    let headers = [series.then_some("series"), named.then_some("name"), placed.then_some(x.as_str()), Some(y.as_str())];
    let mut table = Table::new(plot.title.clone(), &headers.into_iter().flatten().collect::<Vec<_>>());
    for s in all {
        for (i, p) in s.points.iter().enumerate() {
            let name = || Cell::from(s.labels.get(i).map_or("", String::as_str));
            let cells = [series.then(|| Cell::from(&s.name)), named.then(name), placed.then(|| Cell::number(p.0)), Some(Cell::number(p.1))];
            table.row(cells.into_iter().flatten());
        }
    }
    vec![table]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{HeatMap, Scale, Series, save};

    fn line(name: &str, points: &[(f64, f64)]) -> Series {
        Series { name: name.into(), points: points.to_vec(), ..Series::default() }
    }

    #[test]
    fn every_point_is_a_row() {
        let two = Plot { series: vec![line("train", &[(1.0, 0.5), (2.0, 0.25)]), line("val", &[(1.0, 0.75)])], ..Plot::default() };
        let table = &plot_tables(&two.titled("Loss", "epoch", "loss"))[0];
        assert_eq!((table.headers.join(" "), table.rows.len()), ("series epoch loss".into(), 3));
        assert_eq!(table.rows[2], ["val", "1", "0.75"]);
        let labels = vec!["a".to_string(), "b".into()];
        let bars = Series { kind: SeriesKind::Bars, labels, ..line("", &[(0.0, 3.0), (1.0, 4.0)]) };
        let table = &plot_tables(&Plot { series: vec![bars], ..Plot::default() })[0];
        assert_eq!((table.headers.join(" "), table.rows[1].join(" ")), ("name y".into(), "b 4".into()));
    }

    #[test]
    fn panels_and_heat_maps_have_tables_and_plots_are_saved_as_csv() {
        let names = |n: &[&str]| n.iter().map(ToString::to_string).collect::<Vec<_>>();
        let heat = HeatMap {
            rows: names(&["cat"]),
            columns: names(&["cat", "dog"]),
            shades: vec![vec![0.5, 0.25]],
            texts: vec![vec!["5".into(), String::new()]],
            scale: Scale { most: 20.0, ..Scale::default() },
        };
        let heat = Plot { heat: Some(heat), ..Plot::default() };
        assert_eq!(plot_tables(&heat)[0].rows, [["cat", "5", "5"]]);
        let both = Plot::multiples("", vec![heat, Plot { series: vec![line("", &[(1.0, 2.5)])], ..Plot::default() }]);
        assert_eq!(plot_tables(&both).len(), 2);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p.csv");
        save(&both.panels[1], &path).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "x,y\n1,2.5\n");
    }
}
