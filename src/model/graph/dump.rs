//! A graph as stable, readable text: one line per node.

use super::{Attr, Facts, Graph};
use std::fmt::Write;

impl Graph {
    /// One line per input, constant, node and output. Stable, so that it can stand in a snapshot.
    ///
    /// ```text
    /// graph yolov8 (opset 17)
    ///   in  images: float32[batch, 3, 640, 640]
    ///   %a = Conv(images, w, b) {strides: [2, 2]} : float32[batch, 16, 320, 320]
    ///   out output0: float32[batch, 84, 8400]
    /// ```
    pub fn dump(&self, facts: Option<&Facts>) -> String {
        let mut s = format!("graph {} (opset {})\n", self.name, self.opset());
        for i in self.feeds() {
            let _ = writeln!(s, "  in  {}: {}", i.name, i.fact);
        }
        for (name, c) in &self.constants {
            let _ = writeln!(s, "  const {name}: {c:?}");
        }
        for n in &self.nodes {
            let domain = if n.domain.is_empty() { String::new() } else { format!("{}.", n.domain) };
            let _ = write!(s, "  {} = {domain}{}({})", n.outputs.join(", "), n.op, n.inputs.join(", "));
            if !n.attrs.is_empty() {
                let mut attrs: Vec<String> = n.attrs.iter().map(|(k, v)| format!("{k}: {}", show(v))).collect();
                attrs.sort();
                let _ = write!(s, " {{{}}}", attrs.join(", "));
            }
            if let Some(facts) = facts {
                let types: Vec<String> = n.outputs.iter().map(|o| facts.get(o).map_or("?".into(), ToString::to_string)).collect();
                let _ = write!(s, " : {}", types.join(", "));
            }
            s.push('\n');
        }
        for o in &self.outputs {
            let _ = writeln!(s, "  out {}: {}", o.name, o.fact);
        }
        s
    }
}

fn show(a: &Attr) -> String {
    match a {
        Attr::Float(v) => format!("{v:?}"),
        Attr::Int(v) => v.to_string(),
        Attr::Str(v) => format!("{:?}", String::from_utf8_lossy(v)),
        Attr::Tensor(c) => format!("{c:?}"),
        Attr::Graph(g) => format!("graph of {} nodes", g.nodes.len()),
        Attr::Floats(v) => format!("{v:?}"),
        Attr::Ints(v) => format!("{v:?}"),
        Attr::Strs(v) => format!("{:?}", v.iter().map(|b| String::from_utf8_lossy(b)).collect::<Vec<_>>()),
        Attr::Tensors(v) => format!("{v:?}"),
        Attr::Graphs(v) => format!("{} graphs", v.len()),
        Attr::Opaque(b) => format!("{} opaque bytes", b.len()),
    }
}
