//! The prompt, driven through a terminal.

#![cfg(unix)]

use rexpect::session::{PtySession, spawn_command};
use std::process::Command;

/// Bracketed paste is switched on once for each input: the prompt is ready. (The prompt itself is drawn again and again.)
const READY: &str = "\x1b[?2004h";

/// A prompt in a terminal without colours, with its own history file.
struct Repl {
    pty: PtySession,
    _home: tempfile::TempDir,
}

impl Repl {
    fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap())
    }
    fn start_in(home: tempfile::TempDir) -> Self {
        Self::start_with(home, 120, "xterm")
    }
    fn start_with(home: tempfile::TempDir, columns: usize, terminal: &str) -> Self {
        Self::begin(home, columns, terminal, "cat")
    }
    fn start_paged(home: tempfile::TempDir, pager: &str) -> Self {
        Self::begin(home, 120, "xterm", pager)
    }
    fn begin(home: tempfile::TempDir, columns: usize, terminal: &str, pager: &str) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("stty cols {columns} rows 40; exec {}", env!("CARGO_BIN_EXE_compresso"))]);
        command.env("COMPRESSO_HISTORY", home.path().join("history")).env("NO_COLOR", "1").env("TERM", terminal).env("LANG", "C.UTF-8");
        command.env("COMPRESSO_GRAPHICS", "none").env("PAGER", pager).current_dir(home.path());
        let mut pty = spawn_command(command, Some(20_000)).unwrap();
        pty.exp_string("help() lists the functions").unwrap();
        if terminal != "dumb" {
            pty.exp_string(READY).unwrap();
        }
        Self { pty, _home: home }
    }
    /// Sends an input and waits for `wanted` in what is shown.
    fn expect(&mut self, input: &str, wanted: &str) {
        self.pty.send_line(input).unwrap();
        self.pty.exp_string(wanted).unwrap_or_else(|e| panic!("{input}: {e}"));
        self.pty.exp_string(READY).unwrap();
    }
    fn send(&mut self, keys: &str) {
        self.pty.send(keys).unwrap();
        self.pty.flush().unwrap();
    }
}

#[test]
fn values_help_and_errors() {
    let mut r = Repl::start();
    r.expect("20 + 22", "42");
    r.expect("let m = model(\"classifier\", #{ classes: 3, image_size: 32 })", "");
    r.expect("m", "Model: classifier of 3 classes, 32 x 32");
    r.expect("help(\"prune\")", "Share to remove");
    for asked in ["help prune", ":help prune", "?prune", "prune?"] {
        r.expect(asked, "Share to remove");
    }
    r.expect("?prunne", "did you mean help(\"prune\")?");
    r.expect("prun(m)", "did you mean 'prune'?");
    r.expect("m.prune(#{ ratoi: 1 })", "did you mean 'ratio'?");
    r.expect(":nope", "there is no command ':nope'");
    r.expect(":vasr", "did you mean ':vars'?");
    r.expect("m?", "m is a model: Model: classifier of 3 classes");
    r.expect("help(\"predictions\")", "images[0].detections");
}

#[test]
fn earlier_values_are_kept_timed_and_undone() {
    let mut r = Repl::start();
    r.expect("let a = 20;", "");
    r.expect("a + 1", "21");
    r.expect("_ * 2", "42");
    r.expect("Out[2] + Out[3]", "63");
    r.expect("switch 7 { 1 => 2, _ => 70 + 7 }", "77");
    r.expect("a = 5;", "");
    r.expect(":undo", "before the last input that changed them: a = 5;");
    r.expect("a * 1000", "20000");
    r.expect("%time a + 0", "took ");
    r.expect("%timeit a + 0", "median ");
    r.expect("!echo one$((1 + 1))three", "one2three");
    r.expect("!exit 3", "the command ended with exit status: 3");
    r.expect(":vars", "whole number");
    r.expect("a.nope", "a whole number has no field 'nope'");
    r.expect(":save kept.rhai", "inputs in kept.rhai");
    r.expect("print(read_text(\"kept.rhai\").contains(\"nope\"))", "false");
    r.expect("a = 7;", "");
    r.expect(":load kept.rhai", "");
    r.expect("a + 3000", "3020");
    r.expect(":history undo", ":undo");
    r.expect(":cd nowhere", "no such file or folder");
}

#[test]
fn a_training_that_was_not_saved_is_asked_for() {
    let mut r = Repl::start();
    r.expect("let m = model(\"yolov8n\", #{ classes: 3, image_size: 32, width: 0.0625 });", "");
    r.expect("let t = train(m, dataset(\"shapes\", #{ images: 4, size: 32 }), #{ epochs: 1, batch: 2 });", "");
    r.pty.send_line("exit").unwrap();
    r.pty.exp_string("not saved: t. Leave? [y/N]").unwrap();
    r.expect("n", "");
    r.expect("1 + 41", "42");
    // In lists, and as the last value; what is made of an unsaved model is lost with it.
    r.expect("let t = [#{ m: t }]; let q = prune(t[0].m);", "");
    r.pty.send_line("exit").unwrap();
    r.pty.exp_string("not saved: t, q. Leave? [y/N]").unwrap();
    r.expect("n", "");
    r.expect("let kept = t[0].m; t = (); q = (); kept", "Model: detector");
    r.expect("kept = ();", "");
    r.pty.send_line("exit").unwrap();
    r.pty.exp_string("not saved: _. Leave? [y/N]").unwrap();
    r.expect("n", "");
    r.expect("let t = _;", "");
    r.expect("save(t, \"t.onnx\")", "");
    r.pty.send_line("exit").unwrap();
    r.pty.exp_eof().unwrap();
}

/// Lines that come while an input runs, typed or pasted without brackets.
#[test]
fn lines_typed_ahead_are_all_run() {
    let mut r = Repl::start();
    r.send("print(\"beg\" + \"in\"); sleep(1);\n1000 + 1\n2000 + 2\nlet f = |x| {\nx * 3\n};\nf.call(1001)\n");
    for shown in ["begin", "\n1001", "\n2002", "\n3003"] {
        r.pty.exp_string(shown).unwrap_or_else(|e| panic!("{shown}: {e}"));
    }
}

#[test]
fn saved_sessions_run_and_looks_are_not_undone() {
    let mut r = Repl::start();
    r.expect("let a = 20;", "");
    r.expect("a + 1", "21");
    r.expect("_ * 2", "42");
    r.expect("Out[2] + Out[3]", "63");
    r.expect("a += 1;", "");
    r.expect("a", "21");
    r.expect("m = 3", "let m = ");
    r.expect(":undo", "before the last input that changed them: a += 1;");
    r.expect("a", "20");
    r.expect("%foo", "there is no %foo");
    r.expect(":history Out", "  [4]  Out[2] + Out[3]");
    r.expect(":save kept.rhai", "inputs in kept.rhai");
    let text = std::fs::read_to_string(r._home.path().join("kept.rhai")).unwrap();
    assert!(text.contains("let out_2 = a + 1;\nlet out_3 = out_2 * 2;\nout_2 + out_3;\n"), "{text}");
    r.expect(":load kept.rhai", "");
    r.expect("out_2 + out_3", "63");
}

#[test]
fn what_exceeds_the_screen_goes_through_the_pager() {
    let home = tempfile::tempdir().unwrap();
    let pager = home.path().join("pager");
    std::fs::write(&pager, "#!/bin/sh\ncat > /dev/null\necho pa''ged\n").unwrap();
    Command::new("chmod").args(["+x", pager.to_str().unwrap()]).status().unwrap();
    let mut r = Repl::start_paged(home, pager.to_str().unwrap());
    r.expect("help()", "paged");
    r.expect("help(prune)", "paged");
    r.expect("1 + 1", "2");
}

/// What the terminal was given; it comes byte by byte.
fn text(bytes: &str) -> String {
    String::from_utf8_lossy(&bytes.chars().map(|c| c as u8).collect::<Vec<_>>()).into_owned()
}

/// Lines of a narrow terminal hold whole words and numbers.
#[test]
fn eighty_columns_break_no_word() {
    let mut r = Repl::start_with(tempfile::tempdir().unwrap(), 80, "xterm");
    r.expect("let m = model(\"classifier\", #{ classes: 3, image_size: 32 });", "");
    r.pty.send_line("benchmark([[\"base\", m], [\"pruned\", prune(m)]], #{ runs: 3, runtimes: [\"native\"], power: false })").unwrap();
    let shown = text(&r.pty.exp_string("memory is what loading and running").unwrap());
    let shown = &shown[shown.rfind("Benchmark\r\n").expect("a title")..];
    for whole in ["│ model", "p50 ms", "images/s", "speed-up", "peak memory", "in all rows: runtime native"] {
        assert!(shown.contains(whole), "{whole}: {shown}");
    }
    assert!(shown.lines().filter(|l| l.contains('│')).all(|l| l.trim_end().chars().count() <= 80), "{shown}");
}

#[test]
fn a_dumb_terminal_gets_plain_lines() {
    let mut r = Repl::start_with(tempfile::tempdir().unwrap(), 80, "dumb");
    r.pty.send_line("20 + 22").unwrap();
    r.pty.exp_string("42").unwrap();
    r.pty.send_line("plot([1, 2, 3])").unwrap();
    r.pty.send_line("98 + 1").unwrap();
    let shown = text(&r.pty.exp_string("99").unwrap());
    assert!(shown.contains("3.0 ┤") && !shown.contains('\x1b'), "{shown:?}");
}

#[test]
fn an_open_bracket_goes_on_in_the_next_line() {
    let mut r = Repl::start();
    r.pty.send_line("let f = |x| {").unwrap();
    r.pty.send_line("x * 2").unwrap();
    r.expect("};", "");
    r.expect("f.call(21)", "42");
}

#[test]
fn tab_completes_functions_options_words_and_fields() {
    let mut r = Repl::start();
    r.expect("let big = model(\"classifier\", #{ classes: 3, image_size: 32 });", "");
    r.send("quantize\t");
    r.pty.exp_string("quantize(").unwrap();
    r.send("big, #{ per\t");
    r.pty.exp_string("per_channel: ").unwrap();
    r.send("true, mode: \"dyn\t");
    r.pty.exp_string("dynamic\"").unwrap();
    // Drops the input.
    r.send("\x03");
    r.pty.exp_string(READY).unwrap();
    r.send("big.opse\t");
    r.pty.exp_string("big.opset").unwrap();
    r.expect("", "17");
    r.send("prune(big, #{ \t\t");
    r.pty.exp_string("min_channels").unwrap();
    r.send("\x03");
    r.pty.exp_string(READY).unwrap();
}

#[test]
fn ctrl_c_cancels_what_runs_and_keeps_the_session() {
    let mut r = Repl::start();
    r.expect("let kept = 7;", "");
    r.pty.send_line("print(\"running\"); loop { kept += 0; }").unwrap();
    // Once echoed, once printed.
    r.pty.exp_string("\nrunning").unwrap();
    r.pty.send_control('c').unwrap();
    r.pty.exp_string("cancelled").unwrap();
    r.pty.exp_string(READY).unwrap();
    r.expect("kept", "7");
}

#[test]
fn a_terminating_signal_ends_the_prompt_and_what_runs() {
    use rexpect::process::{Signal, WaitStatus};
    for running in [false, true] {
        let r = &mut Repl::start();
        if running {
            r.pty.send_line("print(\"o\" + \"n\"); loop { }").unwrap();
            r.pty.exp_string("on").unwrap();
        }
        // The shell has become the program.
        r.pty.process_mut().signal(Signal::SIGTERM).unwrap();
        r.pty.exp_eof().unwrap();
        assert!(matches!(r.pty.process().wait(), Ok(WaitStatus::Exited(_, 143))), "running: {running}");
    }
}

#[test]
fn ctrl_c_stops_a_training_and_keeps_what_it_reached() {
    let mut r = Repl::start();
    r.expect("let m = model(\"yolov8n\", #{ classes: 3, image_size: 32, width: 0.0625 });", "");
    r.expect("let d = dataset(\"shapes\", #{ images: 4, size: 32 });", "");
    let mut cancel = |input: &str| {
        r.pty.send_line(input).unwrap();
        // The bar of the second epoch: the first is complete.
        r.pty.exp_string("epoch 2/").unwrap();
        r.pty.send_control('c').unwrap();
        r.pty.exp_string(READY).unwrap();
    };
    cancel("let t = train(m, d, #{ epochs: 100000, batch: 2 });");
    // The rest of this input does not run.
    cancel("let u = train(m, d, #{ epochs: 100000, batch: 2 }).prune(); print(\"went on\");");
    r.expect("t", "Model: detector of 3 classes");
    r.expect("partial", "Model: detector of 3 classes");
    r.expect("u", "unknown variable 'u'");
}

#[test]
fn ctrl_d_leaves_and_history_stays() {
    let home = tempfile::tempdir().unwrap();
    let mut r = Repl::start_in(home);
    r.expect("let answer = 6 * 7;", "");
    r.pty.send_control('d').unwrap();
    r.pty.exp_eof().unwrap();
    let home = r._home;
    assert!(std::fs::read_to_string(home.path().join("history")).unwrap().contains("let answer = 6 * 7;"));
    let mut r = Repl::start_in(home);
    // The arrow upwards brings the last input back.
    r.send("\x1b[A");
    r.pty.exp_string("let answer = 6 * 7;").unwrap();
    r.expect("", "");
    r.expect("answer", "42");
}
