//! Cells of Rust notebooks, run as the kernel runs them.
#![cfg(feature = "evcxr")]

use compresso::Context;
use compresso::report::Media;
use compresso::shell::jupyter::rust::{BuildOptions, Library, RustCells, RustOptions, build};
use compresso::shell::jupyter::{Cell, CellError, IsComplete, Language, Outputs};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// What a cell puts out, in order: kind and text.
#[derive(Default)]
struct Seen {
    all: Mutex<Vec<(&'static str, Media)>>,
}

impl Seen {
    fn add(&self, kind: &'static str, media: Media) {
        self.all.lock().unwrap().push((kind, media));
    }
    fn of(&self, kind: &str) -> Vec<Media> {
        self.all.lock().unwrap().iter().filter(|(k, _)| *k == kind).map(|(_, m)| m.clone()).collect()
    }
    fn text(&self, kind: &str) -> String {
        self.of(kind).iter().filter_map(|m| m.get("text/plain").map(str::to_string)).collect()
    }
}

impl Outputs for Seen {
    fn stdout(&self, text: &str) {
        self.add("stdout", Media::text(text));
    }
    fn stderr(&self, text: &str) {
        self.add("stderr", Media::text(text));
    }
    fn display(&self, media: Media) {
        self.add("display", media);
    }
    fn display_as(&self, _: &str, media: Media) {
        self.add("progress", media);
    }
    fn update(&self, _: &str, media: Media) {
        self.add("progress", media);
    }
    fn clear(&self, _: bool) {
        self.all.lock().unwrap().clear();
    }
    fn set_next_input(&self, _: &str) {}
    fn page(&self, media: Media) {
        self.add("page", media);
    }
    fn input(&self, prompt: &str, _: bool) -> compresso::Result<String> {
        Ok(format!("answer to {prompt}"))
    }
}

fn library() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let build_once = || {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("rust-kernel");
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().map(Path::to_path_buf);
        build(&BuildOptions { folder: Some(folder.clone()), target }, &Context::new()).unwrap();
        folder
    };
    BUILT.get_or_init(build_once).clone()
}

struct Session {
    cells: RustCells,
    count: usize,
    _alone: MutexGuard<'static, ()>,
}

impl Session {
    fn new() -> Self {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let runtime = Some(PathBuf::from(env!("CARGO_BIN_EXE_compresso")));
        let start = Instant::now();
        let cells = RustCells::new(&RustOptions { library: Some(library()), runtime, ..RustOptions::default() }).unwrap();
        eprintln!("a session starts in {:.1} s", start.elapsed().as_secs_f64());
        Self { cells, count: 0, _alone: alone }
    }
    fn run(&mut self, code: &str) -> (Result<Option<Media>, CellError>, Arc<Seen>) {
        let seen = Arc::new(Seen::default());
        (self.run_with(code, &seen), seen)
    }
    fn run_with(&mut self, code: &str, seen: &Arc<Seen>) -> Result<Option<Media>, CellError> {
        self.count += 1;
        let start = Instant::now();
        let result = self.cells.execute(code, &Cell { number: self.count, id: None, removed: Vec::new(), outputs: seen.clone() });
        eprintln!("cell {} took {:.2} s: {}", self.count, start.elapsed().as_secs_f64(), code.lines().next().unwrap_or_default());
        result
    }
    /// Runs a cell and interrupts it once it has put out something of a kind, and again after a while if it is asked to; gives
    /// how long it went on after the first interrupt, too.
    fn interrupted(&mut self, code: &str, kind: &'static str, again: Option<Duration>) -> (Result<Option<Media>, CellError>, Duration) {
        let seen = Arc::new(Seen::default());
        let (watched, interrupt) = (seen.clone(), self.cells.interrupter());
        let waker = std::thread::spawn(move || {
            let start = Instant::now();
            while watched.of(kind).is_empty() && start.elapsed() < Duration::from_secs(120) {
                std::thread::sleep(Duration::from_millis(20));
            }
            let first = Instant::now();
            interrupt();
            if let Some(pause) = again {
                std::thread::sleep(pause);
                interrupt();
            }
            first
        });
        let result = self.run_with(code, &seen);
        let end = Instant::now();
        (result, end.saturating_duration_since(waker.join().unwrap()))
    }
    /// The text of a cell's value.
    fn value(&mut self, code: &str) -> String {
        let (result, seen) = self.run(code);
        let media = result.unwrap_or_else(|e| panic!("{code}\n{}\n{}", e.traceback.join("\n"), seen.text("stderr")));
        media.and_then(|m| m.get("text/plain").map(str::to_string)).unwrap_or_default()
    }
    fn error(&mut self, code: &str) -> CellError {
        self.run(code).0.expect_err(code)
    }
    fn child(&self) -> u32 {
        let mut own = Vec::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
            let (Some(open), Some(close)) = (stat.find('('), stat.rfind(')')) else { continue };
            let rest: Vec<&str> = stat[close + 1..].split_whitespace().collect();
            if stat[open + 1..close].starts_with("compresso") && rest[1] == std::process::id().to_string() {
                own.push(stat.split(' ').next().unwrap().parse().unwrap());
            }
        }
        own[0]
    }
}

fn plain(e: &CellError) -> String {
    let text = e.traceback.join("\n");
    let mut out = String::new();
    let mut rest = text.as_str();
    while let Some(at) = rest.find("\x1b[") {
        out += &rest[..at];
        rest = rest[at..].split_once('m').map_or("", |(_, r)| r);
    }
    out + rest
}

/// State of the library is one for all cells: without the shared object both tensors would have the id 1, and one's gradient
/// would be taken for the other's.
#[test]
fn tensors_of_two_cells_differ_and_gradients_cross_cells() {
    let mut s = Session::new();
    s.value("let a = candle_core::Var::new(&[2f32, 3.0], &candle_core::Device::Cpu)?;");
    s.value("let b = candle_core::Var::new(&[5f32, 7.0], &candle_core::Device::Cpu)?;");
    assert_eq!(s.value("a.as_tensor().id() == b.as_tensor().id()"), "false");
    s.value("let y = (a.as_tensor() * b.as_tensor())?.sum_all()?;");
    s.value("let gradients = y.backward()?;");
    assert_eq!(s.value("gradients.get(a.as_tensor()).map(|g| g.to_vec1::<f32>().unwrap())"), "Some([5.0, 7.0])");
    assert_eq!(s.value("gradients.get(b.as_tensor()).map(|g| g.to_vec1::<f32>().unwrap())"), "Some([2.0, 3.0])");
    // The id that the library counts is the cells' too.
    assert_eq!(s.value("zeros(&[2])?.tensor.id() == a.as_tensor().id()"), "false");
}

#[test]
fn values_display_inline_and_what_is_printed_streams() {
    let mut s = Session::new();
    assert_eq!(s.value("6 * 7"), "42");
    let (result, seen) = s.run("println!(\"one\"); eprintln!(\"two\"); print!(\"three\"); eprint!(\"four\")");
    assert_eq!(result, Ok(None));
    assert_eq!((seen.text("stdout").as_str(), seen.text("stderr").as_str()), ("one\nthree", "two\nfour"));
    s.value("let m = model(\"classifier\", ModelOptions { classes: Some(3.into()), image_size: Some(32.into()), ..default() })?;");
    assert!(s.value("m").starts_with("Model: classifier of 3 classes, 32 x 32"), "in passing a model is a line");
    s.value("let small = prune(&m, None, Prune { ratio: 0.4, ..default() })?;");
    let (_, seen) = s.run("show(&small)");
    assert!(seen.of("display")[0].get("text/html").unwrap().contains("<table"), "{:?}", seen.of("display"));
    // A report: its tables, then plots of their own; the last output is the cell's value.
    s.value("let losses = plot([(\"train\", vec![3.0, 2.0, 1.0]), (\"val\", vec![3.5, 2.5, 2.0])])?;");
    let (result, _) = s.run("losses");
    assert!(result.unwrap().unwrap().get("image/svg+xml").unwrap().starts_with("<svg"));
    let (result, _) = s.run("benchmark(models! { base: m, small: small }, None, Benchmark { runs: 3, warmup: 1, ..default() })?");
    assert!(result.is_ok());
    assert!(s.value("forward(&m, &random(&[1, 3, 32, 32])?, &[])?").contains("float32[1, 3]"));
    assert_eq!(s.value("small.steps().iter().map(|s| s.operation.clone()).collect::<Vec<_>>()"), "[\"model\", \"prune\"]");
    let (result, seen) = s.run("input(\"name: \")?");
    assert_eq!(result.unwrap().unwrap().get("text/plain"), Some("\"answer to name: \""), "{:?}", seen.text("stderr"));
    let all = s.cells.complete("let q = prune(&m, None, Prune { rat", 34);
    assert!(all.matches.iter().any(|m| m.text.starts_with("ratio")), "{all:?}");
    let all = s.cells.complete("prun", 4);
    assert!(all.matches.iter().any(|m| m.text.starts_with("prune(") && m.about.contains("channels")), "{all:?}");
    assert!(s.cells.inspect("quantize", 4, 0).unwrap().get("text/html").unwrap().contains("8 bits"));
    assert_eq!(s.cells.is_complete("fn f() {"), IsComplete::Incomplete { indent: "    ".into() });
    assert_eq!(s.cells.evaluate("1 + 1").unwrap().get("text/plain"), Some("2"));
}

#[test]
fn every_kind_of_value_is_shown() {
    let mut s = Session::new();
    assert_eq!(s.value("let answer = 3; answer"), "3");
    assert_eq!(s.value("let text = String::from(\"a\"); text"), "\"a\"");
    assert_eq!(s.value("&text[..1]"), "\"a\"");
    assert_eq!(s.value("for i in 0..2 { let _ = i; }"), "");
    assert_eq!(s.value("if answer > 2 { println!(\"more\") }"), "");
    // Results, references to them, and those whose last `?` is left out; what was shown is still there.
    let table = "table(\"Sizes\", &[\">size\"], [[7]])";
    s.value(&format!("let sizes = {table};"));
    for code in ["sizes", "&sizes", "Ok::<_, Error>(sizes)", &format!("let t = {table}; t"), table] {
        assert!(s.value(code).contains("│    7 │"), "{code}");
    }
    assert_eq!(s.value("plot([1.0, 2.0])").lines().count(), s.value("plot([1.0, 2.0])?").lines().count());
    assert!(s.value("plot(&table(\"\", &[\"a\"], [[1]]))").starts_with("Err("));
    // A type's own way, as crates for evcxr have it; without any, its name.
    s.value("struct Own; impl Own { fn evcxr_display(&self) { println!(\"EVCXR_BEGIN_CONTENT text/html\\n<b>own</b>\\nEVCXR_END_CONTENT\"); } }");
    let (result, _) = s.run("Own");
    assert_eq!(result.unwrap().unwrap().get("text/html"), Some("<b>own</b>"));
    s.value("trait Pic { fn evcxr_display(&self) -> bool; } struct P; impl Pic for P { fn evcxr_display(&self) -> bool { show_html(\"<i>p</i>\"); true } }");
    let (result, seen) = s.run("P");
    assert_eq!((result, seen.of("display")[0].get("text/html")), (Ok(None), Some("<i>p</i>")));
    s.value("struct Bare;");
    assert!(s.value("Bare").starts_with("a value of type") && s.value("Bare").ends_with("Bare"));
    assert_eq!(s.value("|x: i32| x + 1").split(" of ").next(), Some("a value"));
    // Through a mutable reference, in a box; what evcxr looks for in lines; names that the wrapping could have.
    assert!(s.value("let mut t = table(\"Sizes\", &[\"size\"], [[7]]); t.row([\"8\".to_string()]); &mut t").contains("│ 8"));
    assert!(s.value(&format!("Box::new({table})")).contains("│    7 │"));
    assert_eq!(s.value("\"EVCXR_BEGIN_CONTENT text/html\""), "\"EVCXR_BEGIN_CONTENT text/html\"");
    s.value("const value: i32 = 3; const own: i32 = 4; trait Tell { fn tell(&self) {} } impl<T> Tell for T {}");
    assert_eq!(s.value("value + own"), "7");
}

#[test]
fn commands_and_odd_cells() {
    let mut s = Session::new();
    // What a command puts out comes before the value.
    let (result, seen) = s.run("!echo hi\nlet x = 1;\nx + 1");
    assert_eq!(result.unwrap().unwrap().get("text/plain"), Some("2"));
    assert!(seen.of("display")[0].get("text/plain").unwrap().contains("hi"), "{:?}", seen.of("display"));
    assert!(plain(&s.error(":fmt {:#?}\nx")).contains(":fmt does nothing here"));
    assert_eq!(s.value("x"), "1");
    // Two threads ask one after the other.
    let ask = "{ let [a, b] = [\"a\", \"b\"].map(|q| std::thread::spawn(move || input(q))); (a.join().unwrap()?, b.join().unwrap()?) }";
    assert_eq!(s.value(ask), "(\"answer to a\", \"answer to b\")");
    // The second of two equal lines.
    let text = plain(&s.error("let mut n = 1u8;\nn = n.checked_sub(1).unwrap();\nn = n.checked_sub(1).unwrap();"));
    assert!(text.contains("3 | n = "), "{text}");
    // An expression of a front end is interrupted as a cell is.
    let interrupt = s.cells.interrupter();
    let waker = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_secs(2));
        interrupt();
    });
    assert_eq!(s.cells.evaluate("loop { ctx().check()?; }").unwrap_err().name, "Cancelled");
    waker.join().unwrap();
    // Bytes that are no text end the process, and only that.
    assert_eq!(s.error("use std::io::Write; std::io::stdout().write_all(b\"\\xff\\n\")?;").name, "ProcessKilled");
    assert_eq!(s.value("zeros(&[2])?"), "float32[2]: 0, 0");
    // What a cell has started ends with it.
    let code = "std::process::Command::new(\"sleep\").arg(\"600\").spawn()?; println!(\"begun\"); loop {}";
    let (result, late) = s.interrupted(code, "stdout", None);
    assert!(result.is_err() && late < Duration::from_secs(60), "{late:?}");
    // A session that is cleared begins anew.
    s.value("let kept = 1;");
    s.value(":clear");
    assert_eq!(s.error("kept").name, "CompileError");
    assert_eq!(s.value("zeros(&[2])?"), "float32[2]: 0, 0");
    s.value(":restart");
    assert_eq!(s.error("prune(&model(\"clasifier\", default())?, None, default())?;").name, "Missing");
    assert_eq!(s.error("panic!(\"here\")").message, "the code panicked: here");
}

#[test]
fn errors_say_where_and_variables_stay() {
    let mut s = Session::new();
    s.value("let kept = vec![1, 2, 3];");
    let e = s.error("let a = 1;\nlet n: u32 = \"text\";");
    assert_eq!((e.name.as_str(), e.message.as_str()), ("CompileError", "mismatched types"));
    let text = plain(&e);
    assert!(text.contains("--> cell 2:2:14") && text.contains("2 | let n: u32 = \"text\";") && text.contains("^^^^^^"), "{text}");
    let e = s.error("let other = 7;\nlet none: Option<u32> = None;\nnone.unwrap();");
    assert_eq!(e.name, "Panic");
    let text = plain(&e);
    assert!(text.contains("called `Option::unwrap()`") && text.contains("3 | none.unwrap();"), "{text}");
    assert_eq!(s.value("kept.len()"), "3");
    let e = s.error("prune(&model(\"clasifier\", default())?, None, default())?;");
    assert_eq!(e.name, "Missing");
    assert!(plain(&e).contains("help: did you mean"), "{}", plain(&e));
    let e = s.error("std::fs::read_to_string(\"/no/such/file\")?");
    assert_eq!((e.name.as_str(), e.message.as_str()), ("Error", "No such file or directory (os error 2)"));
    assert_eq!(s.value("kept.len()"), "3");
    // Places in the last expression are those of the cell, though the compiler gets it in a macro.
    let e = s.error("let one = 1;\n  one + \"text\".len() as i32 + nothing");
    let text = plain(&e);
    let caret = text.lines().find(|l| l.contains("^^^^^^^")).unwrap_or_else(|| panic!("{text}"));
    let code = text.lines().find(|l| l.contains("as i32 + nothing")).unwrap();
    assert_eq!(caret.find('^'), code.find("nothing"), "{text}");
    assert!(text.contains("cell 8:2:"), "{text}");
    let text = plain(&s.error("let list: Vec<i32> = vec![];\nlist[3]"));
    assert!(text.contains("2 | list[3]"), "{text}");
    // A thread's panic that somebody catches ends nothing.
    let (result, seen) = s.run("let r = std::thread::spawn(|| { panic!(\"inside\") }).join().is_err(); r");
    assert_eq!(result.unwrap().unwrap().get("text/plain"), Some("true"));
    assert!(seen.text("stderr").contains("inside"));
}

#[test]
fn an_interrupt_ends_an_operation_and_a_killed_process_is_replaced() {
    let mut s = Session::new();
    s.value("let kept = 5;");
    s.value("fn twice(x: i32) -> i32 { x * 2 }");
    let data = "dataset(\"shapes\", DataOptions { images: Some(400), size: Some(64.into()), ..default() })?";
    s.value(&format!("let d = {data};"));
    s.value("let m = model(\"classifier\", ModelOptions { classes: Some(3.into()), image_size: Some(64.into()), ..default() })?;");
    let code = "let x = benchmark(&m, None, Benchmark { runs: 1000000, ..default() })?;";
    let (result, late) = s.interrupted(code, "progress", None);
    assert_eq!(result.unwrap_err().name, "Cancelled");
    assert!(late < Duration::from_secs(1), "{late:?}");
    // What comes after runs, with what was there before.
    assert_eq!(s.value("kept + twice(2)"), "9");
    assert_eq!(s.value("predict(&m, &take(&d, 4), default())?.data().is_object()"), "true");
    // A loop that listens to nothing is killed when it is interrupted again.
    let (result, _) = s.interrupted("println!(\"begun\"); loop { std::hint::black_box(1); }", "stdout", Some(Duration::from_millis(1600)));
    let e = result.unwrap_err();
    assert_eq!((e.name.as_str(), e.message.as_str()), ("ProcessKilled", "the process was killed: variables are lost"));
    assert_eq!(s.value("twice(4)"), "8");
    assert_eq!(s.error("kept").name, "CompileError");
    // So is one that somebody else kills.
    let child = s.child().to_string();
    assert!(std::process::Command::new("kill").args(["-KILL", &child]).status().unwrap().success());
    assert_eq!(s.error("twice(5)").name, "ProcessKilled");
    assert_eq!(s.value("zeros(&[2])?"), "float32[2]: 0, 0");
    assert_eq!(s.value("std::env::var(\"CANDLE_NUM_THREADS\").unwrap_or_default()"), "\"1\"");
}

#[test]
fn a_library_of_another_version_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let refused = Library::open(folder.path()).unwrap_err().to_string();
    assert!(refused.contains("compresso kernel install --rust"), "{refused}");
}
