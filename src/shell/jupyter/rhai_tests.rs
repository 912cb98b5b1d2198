use super::*;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What a cell sent, in order.
#[derive(Default)]
struct Record(Mutex<Vec<String>>);

impl Record {
    fn push(&self, line: String) {
        self.0.lock().unwrap().push(line);
    }
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

fn mimes(media: &Media) -> String {
    media.0.iter().map(|m| m.0.as_str()).collect::<Vec<_>>().join(" ")
}

impl Outputs for Record {
    fn stdout(&self, text: &str) {
        self.push(format!("out {text}"));
    }
    fn stderr(&self, text: &str) {
        self.push(format!("err {text}"));
    }
    fn display(&self, media: Media) {
        self.push(format!("display {}", mimes(&media)));
    }
    fn display_as(&self, _: &str, media: Media) {
        self.push(format!("progress {}", media.get("text/plain").unwrap()));
    }
    fn update(&self, _: &str, media: Media) {
        self.push(format!("update {}", media.get("text/plain").unwrap()));
    }
    fn clear(&self, wait: bool) {
        self.push(format!("clear {wait}"));
    }
    fn set_next_input(&self, text: &str) {
        self.push(format!("next {text}"));
    }
    fn page(&self, media: Media) {
        self.push(format!("page {}", mimes(&media)));
    }
    fn input(&self, prompt: &str, _: bool) -> Result<String> {
        Ok(format!("answer to {prompt}"))
    }
}

struct Lab {
    cells: RhaiCells,
    record: Arc<Record>,
    number: usize,
}

impl Lab {
    fn new() -> Self {
        Self { cells: RhaiCells::new(Context::new()), record: Arc::default(), number: 0 }
    }
    fn run(&mut self, code: &str) -> Result<Option<Media>, CellError> {
        self.number += 1;
        self.cells.execute(code, &Cell { number: self.number, id: None, removed: Vec::new(), outputs: self.record.clone() })
    }
    fn text(&mut self, code: &str) -> String {
        self.run(code).unwrap().unwrap().get("text/plain").unwrap().to_string()
    }
}

#[test]
fn values_prints_and_reports() {
    let mut lab = Lab::new();
    assert_eq!(lab.text("let x = 20; x + 1"), "21");
    assert_eq!(lab.run("let y = 3;").unwrap(), None);
    assert_eq!(lab.run("print(\"a\"); input(\"Name? \")").unwrap(), Some(Media::text("answer to Name? ")));
    assert_eq!(lab.record.take(), ["out a\n"]);
    let table = lab.run("table([#{ a: 1 }])").unwrap().unwrap();
    assert_eq!(mimes(&table), "text/plain text/html");
    assert_eq!(mimes(&lab.run("plot([1, 2, 3])").unwrap().unwrap()), "text/plain image/svg+xml");
    assert_eq!(lab.record.take(), ["display text/plain text/html"], "its numbers");
    let card = lab.run("model(\"yolov8n\", #{ classes: 2, width: 0.125 })").unwrap().unwrap();
    assert!(card.get("text/html").unwrap().contains("MACs"), "{card:?}");
    lab.run("show(plot([1, 2, 3])); show(table([#{ a: 1 }])); clear_output(true);").unwrap();
    assert_eq!(
        lab.record.take(),
        ["display text/plain text/html", "display text/plain image/svg+xml", "display text/plain text/html", "clear true"]
    );
    lab.run("help(\"prune\")").unwrap();
    lab.run("prune?").unwrap();
    assert_eq!(lab.record.take(), ["display text/plain text/html", "page text/plain text/html"]);
    assert!(lab.run("?nothing_like_this").unwrap_err().message.contains("nothing is known"));
}

#[test]
fn a_report_is_several_outputs_of_which_the_last_is_the_result() {
    let mut lab = Lab::new();
    let last = lab.run("let d = dataset(\"shapes\", #{ images: 4, size: 32 }); show(d); plots(d)[0]").unwrap().unwrap();
    assert_eq!(mimes(&last), "text/plain image/svg+xml");
    let shown = lab.record.take();
    assert_eq!(shown[0], "display text/plain text/html");
    assert!(shown.len() > 1, "{shown:?}");
}

#[test]
fn errors_have_a_caret_and_state_stays() {
    let mut lab = Lab::new();
    let e = lab.run("let kept = 5;\nmodell(\"x\")").unwrap_err();
    assert_eq!(e.name, "Script");
    let text = e.traceback.join("\n");
    assert!(text.contains("cell 1:2:1") && text.contains("^^^^^^") && text.contains("did you mean"), "{text}");
    assert_eq!(lab.text("kept"), "5");
}

#[test]
fn magics_run_save_and_load() {
    let mut lab = Lab::new();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("session.rhai");
    assert_eq!(lab.text("%time let a = 4;\na"), "4");
    assert!(lab.record.take()[0].starts_with("out took "));
    lab.run("let b = 6;").unwrap();
    lab.run("nothing_like_this()").unwrap_err();
    lab.run(&format!("%save {}", path.display())).unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "let a = 4;\n\na;\n\nlet b = 6;\n");
    lab.record.take();
    lab.run(&format!("%load {}", path.display())).unwrap();
    assert_eq!(lab.record.take(), ["next let a = 4;\n\na;\n\nlet b = 6;\n"]);
    let e = lab.run("%time\n\nlet = 3").unwrap_err();
    assert!(e.traceback.join("\n").contains("cell 6:3:"), "{e:?}");
}

#[test]
fn an_interrupt_ends_a_cell_and_keeps_what_was_there() {
    let mut lab = Lab::new();
    lab.run("let n = 0;").unwrap();
    let interrupt = lab.cells.interrupter();
    let done = Arc::new(AtomicBool::new(false));
    let watcher = std::thread::spawn({
        let done = done.clone();
        move || {
            while !done.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(100));
                interrupt();
            }
        }
    });
    let e = lab.run("loop { n += 1; }").unwrap_err();
    done.store(true, Ordering::Relaxed);
    watcher.join().unwrap();
    assert_eq!(e.name, "Cancelled");
    assert!(lab.text("n").parse::<i64>().unwrap() > 0);
}

#[test]
fn suggestions_replace_what_front_ends_closed() {
    let mut lab = Lab::new();
    lab.run("let detector = 1;").unwrap();
    let c = lab.cells.complete("det", 3);
    assert_eq!((c.start, c.end, c.matches[0].text.as_str(), c.matches[0].kind.as_str()), (0, 3, "detector", "instance"));
    let code = "model(\"yolov8\")";
    let c = lab.cells.complete(code, 13);
    assert_eq!((c.start, c.end, c.matches[0].text.as_str()), (7, 14, "yolov8n\""));
    assert_eq!(lab.cells.complete("%ti", 3).matches[0].text, "%time");
}

#[test]
fn help_beside_a_cell() {
    let mut lab = Lab::new();
    lab.run("let n = 12;").unwrap();
    for (code, cursor) in [("prune(m, #{ ratio: 0.5 })", 2), ("prune(", 6), ("prune(m, #{ ratio: 0.5 })", 14)] {
        let help = lab.cells.inspect(code, cursor, 0).unwrap();
        assert!(help.get("text/html").unwrap().contains(">ratio</td>"), "{code}");
        assert!(help.get("text/plain").unwrap().starts_with("prune(m: model"), "{help:?}");
    }
    assert_eq!(lab.cells.inspect("n + 1", 1, 0).unwrap().get("text/plain"), Some("n: whole number\n12"));
    assert_eq!(lab.cells.inspect("zzz", 1, 0), None);
    assert!(!lab.cells.inspect("prune", 2, 0).unwrap().get("text/html").unwrap().contains("Examples"));
    assert!(lab.cells.inspect("prune", 2, 1).unwrap().get("text/html").unwrap().contains("Examples"));
}

#[test]
fn completeness_and_the_next_indent() {
    let mut lab = Lab::new();
    assert_eq!(lab.cells.is_complete("let a = 1;"), IsComplete::Complete);
    assert_eq!(lab.cells.is_complete("for i in 0..3 {\n    if i > 1 {"), IsComplete::Incomplete { indent: " ".repeat(8) });
    assert_eq!(lab.cells.is_complete("let 3 = 4;"), IsComplete::Invalid);
    assert_eq!(lab.cells.is_complete("%%time\nfor {"), IsComplete::Complete);
}

#[test]
fn training_shows_one_output_that_changes() {
    let mut lab = Lab::new();
    let code = "let d = dataset(\"shapes\", #{ images: 64, size: 64 });
let m = model(\"yolov8n\", #{ classes: d.classes, image_size: 64, width: 0.125, depth: 0.34 });
let t = train(m, d, #{ epochs: 6, batch: 4 });";
    lab.run(code).unwrap();
    let record = lab.record.take();
    let count = |start: &str| record.iter().filter(|l| l.starts_with(start)).count();
    assert_eq!(count("progress "), 1, "{record:?}");
    assert!(record.iter().any(|l| l.starts_with("progress ") && l.contains('/')), "{record:?}");
}

/// A notebook whose cells have names, run in any order; what each cell shows since it last ran.
struct Notebook {
    lab: Lab,
    shown: std::collections::HashMap<&'static str, Arc<Record>>,
}

impl Notebook {
    fn run(&mut self, id: &'static str, code: &str) {
        let record: Arc<Record> = Arc::default();
        self.shown.insert(id, record.clone());
        self.lab.number += 1;
        let cell = Cell { number: self.lab.number, id: Some(id.into()), removed: Vec::new(), outputs: record };
        drop(self.lab.cells.execute(code, &cell));
    }
    /// The cells that are marked.
    fn stale(&self) -> String {
        let marked = |r: &Record| r.0.lock().unwrap().iter().any(|l| l == "display text/plain text/html");
        let mut all: Vec<&str> = self.shown.iter().filter(|(_, r)| marked(r)).map(|(id, _)| *id).collect();
        all.sort_unstable();
        all.join(" ")
    }
}

#[test]
fn cells_are_stale_when_what_they_read_has_changed() {
    let mut n = Notebook { lab: Lab::new(), shown: Default::default() };
    n.run("a", "let ratio = 0.3;");
    n.run("b", "let twice = ratio * 2.0;");
    n.run("c", "print(`${twice}`)");
    n.run("d", "fn half(x) { x / 2.0 }");
    n.run("e", "print(half(1.0))");
    n.run("f", "let twice = twice + 1.0;");
    assert_eq!(n.stale(), "", "a notebook that runs from top to bottom");
    n.run("a", "let ratio = 0.3; // the same");
    assert_eq!(n.stale(), "");
    n.run("a", "let ratio = 0.4;");
    assert_eq!(n.stale(), "b c f", "what reads it, and what reads that");
    n.run("b", "let twice = ratio * 2.0;");
    assert_eq!(n.stale(), "c f");
    n.run("c", "print(twice)");
    n.run("d", "fn half(x) { x / 2 }");
    assert_eq!(n.stale(), "e f");
    assert_eq!(n.lab.cells.cells.stale().len(), 2);
    // It reads what it made itself: what it began with comes from elsewhere.
    n.run("f", "let twice = twice + 1.0;");
    n.run("f", "let twice = twice + 1.0;");
    n.run("b", "let twice = ratio * 3.0;");
    assert_eq!(n.stale(), "c e f");
    // Failures change what they change.
    n.run("e", "print(half(1.0))");
    n.run("a", "let ratio = 0.5; nothing_like_this()");
    assert_eq!(n.stale(), "b c f");
    n.lab.run("%stale").unwrap();
    assert!(n.lab.record.take().iter().any(|l| l.starts_with("out stale: [")));
}
