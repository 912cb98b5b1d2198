//! Heat maps as text: a shade and a text per cell.

use super::{HeatMap, Ink, Plot, Style, printable};

/// Shades from 0 to 1.
const BLOCKS: [char; 5] = [' ', '░', '▒', '▓', '█'];

/// The rows of a heat map, within `width` columns: cells with their texts where there is room, else a block each.
pub(super) fn heat_text(plot: &Plot, heat: &HeatMap, style: &Style, width: usize) -> Vec<String> {
    let length = |s: &str| s.chars().count();
    let names: Vec<String> = heat.rows.iter().map(|n| printable(n)).collect();
    let margin = names.iter().map(|n| length(n)).max().unwrap_or(0).min(width / 4);
    let texts = (0..heat.rows.len()).flat_map(|r| (0..heat.columns.len()).map(move |c| length(heat.cell(r, c).1)));
    let widest = texts.max().unwrap_or(0);
    let columns = heat.columns.len().max(1);
    // A cell: its block, a blank, its text, a blank.
    let room = width.saturating_sub(margin + 2) / columns;
    let headers = heat.columns.iter().map(|c| length(c)).max().unwrap_or(0);
    let cell = (headers.max(widest + 2) + 1).min(room);
    let mut lines = Vec::new();
    let corner = [&plot.y_label, &plot.x_label].map(|l| printable(l));
    if corner.iter().all(|l| !l.is_empty()) {
        lines.push(style.paint(Ink::Dim, &format!("rows: {}, columns: {} (in the same order)", corner[0], corner[1])));
    }
    let with_text = cell >= widest + 3;
    if with_text {
        let header: String = heat.columns.iter().map(|c| format!(" {:>w$}", cut(&printable(c), cell - 1), w = cell - 1)).collect();
        lines.push(format!("{:margin$} {header}", ""));
    }
    for (row, name) in names.iter().enumerate() {
        let mut line = format!("{:>margin$} │", cut(name, margin));
        for column in 0..heat.columns.len() {
            let (shade, text) = heat.cell(row, column);
            // Nothing at all has no block; the least share has one.
            let level = if shade > 0.0 { ((heat.scale.depth(shade) * 4.0).ceil() as usize).clamp(1, 4) } else { 0 };
            let block = style.paint(Ink::Blue, &BLOCKS[level].to_string());
            if with_text {
                line += &format!("{:w$}{block} {text} ", "", w = cell - 3 - length(text));
            } else {
                line += &block;
            }
        }
        lines.push(line.trim_end().to_string());
    }
    let scale = &heat.scale;
    if !scale.name.is_empty() {
        let up_to = |quarters: f64| 100.0 * (quarters / 4.0).powf(1.0 / scale.bend);
        let of = if scale.most == 1.0 { String::new() } else { format!(" of {}", super::number(scale.most)) };
        let marks = format!("░ up to {:.0} %, ▒ {:.0} %, ▓ {:.0} %, █ 100 %{of}", up_to(1.0), up_to(2.0), up_to(3.0));
        lines.push(style.paint(Ink::Dim, &format!("{marks}: {}", printable(&scale.name))));
    }
    lines
}

/// The first characters of a text, with a mark when some are left out.
fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_string();
    }
    let mut short: String = text.chars().take(most.saturating_sub(1)).collect();
    short.push('…');
    short
}

#[cfg(test)]
mod tests {
    use super::*;
    use insta::assert_snapshot;

    #[test]
    fn counts_stand_beside_their_shades() {
        let names = ["RBC", "WBC", "background"].map(String::from).to_vec();
        let heat = HeatMap {
            rows: names.clone(),
            columns: names,
            shades: vec![vec![0.9, 0.0, 0.1], vec![0.3, 0.7, 0.0], vec![1.0, 0.0, 0.0]],
            texts: [["812", "", "90"], ["3", "7", ""], ["104", "", ""]].map(|r| r.map(String::from).to_vec()).to_vec(),
            scale: super::super::Scale::shares("share of the true class"),
        };
        let plot = Plot { x_label: "predicted".into(), y_label: "true".into(), ..Plot::default() };
        assert_snapshot!(heat_text(&plot, &heat, &Style::columns(80), 80).join("\n"), @r"
        rows: true, columns: predicted (in the same order)
                           RBC        WBC background
               RBC │     █ 812                  ░ 90
               WBC │       ▒ 3        ▓ 7
        background │     █ 104
        ░ up to 25 %, ▒ 50 %, ▓ 75 %, █ 100 %: share of the true class
        ");
        let bent = HeatMap { scale: super::super::Scale { name: "loss".into(), most: 0.2, bend: 0.5 }, ..heat.clone() };
        let last = heat_text(&plot, &bent, &Style::columns(80), 80).pop().unwrap();
        assert_eq!(last, "░ up to 6 %, ▒ 25 %, ▓ 56 %, █ 100 % of 0.2: loss");
        let narrow = heat_text(&plot, &heat, &Style::columns(30), 20);
        assert!(narrow.iter().any(|l| l.ends_with("│█ ░")), "{narrow:?}");
    }
}
