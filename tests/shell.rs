//! The command line: exit codes, output, errors.

use insta::assert_snapshot;
use std::io::Write;
use std::process::{Command, Output, Stdio};

fn compresso(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_compresso")).args(args).stdin(Stdio::null()).output().unwrap()
}

fn eval(code: &str) -> Output {
    compresso(&["eval", code])
}

fn stdout(o: &Output) -> String {
    String::from_utf8(o.stdout.clone()).unwrap()
}

fn stderr(o: &Output) -> String {
    String::from_utf8(o.stderr.clone()).unwrap()
}

#[test]
fn eval_prints_the_value_and_run_does_not() {
    let o = eval("1 + 1");
    assert_eq!((o.status.code(), stdout(&o).as_str(), stderr(&o).as_str()), (Some(0), "2\n", ""));
    assert_eq!(stdout(&eval("let x = 1;")), "");
    assert_eq!(stdout(&compresso(&["-c", "1 + 1"])), "2\n");
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("s.rhai");
    std::fs::write(&script, "#!/usr/bin/env -S compresso run\nprint(args);\nargs.len()").unwrap();
    let o = compresso(&["run", script.to_str().unwrap(), "a", "--threads"]);
    assert_eq!((o.status.code(), stdout(&o).as_str()), (Some(0), "[\"a\", \"--threads\"]\n"));
}

#[test]
fn a_script_can_be_piped_in() {
    let mut child =
        Command::new(env!("CARGO_BIN_EXE_compresso")).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"let x = 2;\nprint(x * 21);\nnope").unwrap();
    let o = child.wait_with_output().unwrap();
    assert_eq!((o.status.code(), stdout(&o).as_str()), (Some(1), "42\n"));
    assert!(stderr(&o).contains("--> <stdin>:3:1"), "{}", stderr(&o));
}

#[test]
fn options_before_and_after_the_command() {
    assert_eq!(stdout(&compresso(&["--threads", "3", "eval", "threads()"])), "3\n");
    assert_eq!(stdout(&compresso(&["eval", "--seed", "9", "seed()"])), "9\n");
    for (args, text) in
        [(["--threads", "0", "eval", "1"], "the number of threads"), (["--device", "cuda:x", "eval", "1"], "no device 'cuda:x'")]
    {
        let o = compresso(&args);
        assert_eq!(o.status.code(), Some(2));
        assert!(stderr(&o).contains(text), "{}", stderr(&o));
    }
}

/// Where there is no GPU, or no CUDA in the build: one error, after which the shell goes on.
#[test]
fn without_a_gpu_the_device_is_one_clear_error() {
    let script = "try { device(\"cuda:0\") } catch (e) { print(`${e}`) } print(device(\"auto\")); print(device())";
    let o = compresso(&["eval", script]);
    assert_eq!(o.status.code(), Some(0), "{}", stderr(&o));
    let text = stdout(&o);
    if text == "cuda:0\ncuda:0\n" {
        return eprintln!("there is a GPU: nothing to refuse");
    }
    assert!(text.starts_with("this build of compresso has no CUDA") || text.starts_with("device cuda:0 cannot be used: "), "{text}");
    assert!(text.ends_with("\ncpu\ncpu\n"), "{text}");
    let o = compresso(&["--device", "cuda:0", "eval", "1"]);
    assert_eq!((o.status.code(), stdout(&o).as_str()), (Some(1), ""));
    assert!(!stderr(&o).contains("panicked"), "{}", stderr(&o));
    assert_eq!(stderr(&o).lines().filter(|l| l.starts_with("error")).count(), 1, "{}", stderr(&o));
}

#[test]
fn errors_have_place_caret_and_suggestion() {
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("s.rhai");
    std::fs::write(
        &script,
        "fn shrink(m) {\n    m.prune(#{ ratoi: 0.3 })\n}\n\nlet m = model(\"classifier\", #{ classes: 2, image_size: 32 });\nshrink(m);\n",
    )
    .unwrap();
    let o = compresso(&["run", script.to_str().unwrap()]);
    assert_eq!((o.status.code(), stdout(&o).as_str()), (Some(1), ""));
    let text = stderr(&o).replace(dir.path().to_str().unwrap(), "DIR");
    assert_snapshot!(text, @r"
    error: prune has no option 'ratoi'
      --> DIR/s.rhai:2:7
       |
     2 |     m.prune(#{ ratoi: 0.3 })
       |       ^^^^^
       help: did you mean 'ratio'?
       in shrink(), called at DIR/s.rhai:6:1
    ");
}

#[test]
fn missing_files_and_unknown_commands() {
    let o = compresso(&["run", "no-such-script.rhai"]);
    assert_eq!((o.status.code(), stderr(&o).as_str()), (Some(1), "error: file no-such-script.rhai: no such file or folder\n"));
    let o = eval("model(\"no-such-model.onnx\")");
    assert!(stderr(&o).starts_with("error: file no-such-model.onnx: no such file or folder\n"), "{}", stderr(&o));
    assert_eq!(compresso(&["frobnicate"]).status.code(), Some(2));
    assert_eq!(compresso(&["run"]).status.code(), Some(2));
}

#[test]
fn without_a_terminal_there_are_no_escape_codes() {
    let code = "help(\"prune\"); show(model(\"classifier\", #{ classes: 2, image_size: 32 })); plot([1, 2, 3])";
    for o in [eval(code), eval("nope()"), compresso(&["doctor"])] {
        assert!(!o.stdout.contains(&0x1b) && !o.stderr.contains(&0x1b));
        assert!(!(o.stdout.is_empty() && o.stderr.is_empty()));
    }
    assert!(stdout(&eval(code)).contains("| MACs"));
}

#[test]
fn doctor_lists_what_it_looked_for() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("d.json");
    let o = compresso(&["doctor", "--save", file.to_str().unwrap()]);
    assert_eq!(o.status.code(), Some(0));
    for part in ["CPU", "GPU", "TensorRT", "onnxruntime", "Jupyter"] {
        assert!(stdout(&o).contains(part), "{part}");
    }
    let json: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    assert_eq!(json["cpu"]["found"], true);
}

#[test]
fn results_are_data_and_files() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path().display();
    let code = format!(
        "let m = model(\"classifier\", #{{ classes: 2, image_size: 32 }}); save(m, \"{d}/new/m.onnx\"); \
         let again = model(\"{d}/new/m.onnx\"); if again.macs != m.macs {{ throw \"other\" }} \
         let r = summary(again); save(r, \"{d}/r.html\"); plot(#{{ a: [1, 2, 3] }}, \"{d}/p.png\"); save(random([2, 3]), \"{d}/t.npy\"); \
         print(load(\"{d}/t.npy\").shape); compare(m, again, #{{ images: 2 }}).max_abs"
    );
    let o = eval(&code);
    assert_eq!(stdout(&o), "[2, 3]\n0.0\n", "{}", stderr(&o));
    for name in ["new/m.onnx", "r.html", "p.png", "t.npy"] {
        assert!(dir.path().join(name).is_file(), "{name}");
    }
}

#[cfg(unix)]
#[test]
fn ctrl_c_cancels_a_loop_without_end() {
    let script = "print(\"on\"); let n = 0; loop { n += 1; }";
    let mut child =
        Command::new(env!("CARGO_BIN_EXE_compresso")).args(["eval", script]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // The first printed line shows that the script runs.
    let mut first = [0u8; 3];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut first).unwrap();
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let o = child.wait_with_output().unwrap();
    assert_eq!((o.status.code(), stderr(&o).as_str()), (Some(130), "cancelled\n"));
}

#[test]
fn small_mistakes_are_told_plainly() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), "x").unwrap();
    let at = |code: &str| {
        let o = Command::new(env!("CARGO_BIN_EXE_compresso"))
            .args(["eval", code])
            .env("HOME", dir.path())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        format!("{}{}", stdout(&o), stderr(&o))
    };
    let file = dir.path().join("file/x.json");
    let said = at(&format!("save(1.5, {file:?})"));
    assert!(!said.contains("os error") && said.contains("a file"), "{said}");
    assert!(at("show()").contains("show needs a value as argument 1"), "{}", at("show()"));
    let said = at("help(\"prun\")");
    assert!(said.contains("  prune  ") && said.contains("  prune_groups  "), "{said}");
    let said = at("model(\"classifier\", #{ classes: [\"a\", \"b\", \"a\"] })");
    assert!(said.contains("option 'classes' names 'a' twice"), "{said}");
    // As in a shell.
    assert_eq!(at("save(#{ a: 1 }, \"~/kept.json\"); load(\"~/kept.json\").a"), "1\n");
    assert!(dir.path().join("kept.json").is_file());
}

#[test]
fn operations_are_commands() {
    let dir = tempfile::tempdir().unwrap();
    let at = |args: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_compresso")).args(args).current_dir(dir.path()).stdin(Stdio::null()).output().unwrap()
    };
    let o = at(&["prune", "classifier", "--ratio", "0.25", "-o", "new/small.onnx"]);
    assert_eq!(o.status.code(), Some(0), "{}", stderr(&o));
    assert!(stdout(&o).starts_with("Model: classifier"), "{}", stdout(&o));
    let params = |model: &str| -> u64 {
        let o = at(&["summary", model, "--json", "--quiet"]);
        assert!(stderr(&o).is_empty(), "{}", stderr(&o));
        serde_json::from_str::<serde_json::Value>(&stdout(&o)).unwrap()["params"].as_u64().unwrap()
    };
    assert!(params("new/small.onnx") < params("classifier"));
    let o = at(&["prune", "classifier", "--ratio", "30"]);
    assert!(o.status.code() == Some(1) && stderr(&o).contains("it is a share: 30 % is 0.3"), "{}", stderr(&o));
    let o = at(&["prune", "classifier", "--ratoi", "0.3"]);
    assert!(o.status.code() == Some(2) && stderr(&o).contains("did you mean --ratio?"), "{}", stderr(&o));
    let o = at(&["prune", "classifier", "-o"]);
    assert!(o.status.code() == Some(2) && stderr(&o).contains("-o needs a file"), "{}", stderr(&o));
    let o = at(&["prune", "--help"]);
    assert!(
        stdout(&o).starts_with("usage: compresso prune MODEL [--data DATA]") && stdout(&o).contains("Share to remove"),
        "{}",
        stdout(&o)
    );
}

/// `--help` in a pipe is as wide as people read.
#[test]
fn help_is_found_and_narrow() {
    for (args, part) in [
        (&["help"][..], "Usage: compresso"),
        (&["--help"], "Usage: compresso"),
        (&["help", "run"], "Run a script"),
        (&["help", "prune"], "usage: compresso prune MODEL"),
        (&["help", "onnx-export"], "usage: compresso onnx_export"),
        (&["help", "predictions"], "images[0].detections"),
        (&["prune", "--help"], "Share to remove"),
        (&["train", "-h"], "epochs"),
    ] {
        let o = compresso(args);
        assert_eq!(o.status.code(), Some(0), "{args:?}: {}", stderr(&o));
        assert!(stdout(&o).contains(part), "{args:?}: {}", stdout(&o));
        // Examples are lines to copy.
        let text = stdout(&o);
        let prose = text.split("\nExamples").next().unwrap();
        assert!(prose.lines().all(|l| l.chars().count() <= 140), "{args:?}: {}", prose.lines().find(|l| l.chars().count() > 140).unwrap());
    }
    let o = compresso(&["help", "prunne"]);
    assert!(o.status.code() == Some(2) && stderr(&o).contains("did you mean"), "{}", stderr(&o));
}

#[test]
fn new_projects_run_and_notebooks_come_from_scripts() {
    let dir = tempfile::tempdir().unwrap();
    let at = |folder: &std::path::Path, args: &[&str]| {
        let o = Command::new(env!("CARGO_BIN_EXE_compresso")).args(args).current_dir(folder).stdin(Stdio::null()).output().unwrap();
        (o.status.code(), stdout(&o) + &stderr(&o))
    };
    let (code, text) = at(dir.path(), &["new", "cells"]);
    assert!(code == Some(0) && text.contains("cells/experiment.ipynb"), "{text}");
    let project = dir.path().join("cells");
    let (code, text) = at(&project, &["run", "experiment.rhai"]);
    assert!(code == Some(0) && text.contains("pruned") && project.join("out/int8.onnx").is_file(), "{text}");
    // It learns what the pictures show, and keeps it.
    let report: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(project.join("out/report.json")).unwrap()).unwrap();
    let scores: Vec<f64> = report["rows"].as_array().unwrap().iter().map(|r| r["map50"].as_f64().unwrap()).collect();
    assert!(scores.len() == 3 && scores.iter().all(|s| *s > 0.85), "{scores:?}");
    assert_eq!(at(dir.path(), &["new", "cells"]).0, Some(1));
    // The notebook says the same as the script, and runs as one.
    assert_eq!(at(&project, &["notebook", "experiment.ipynb"]).0, Some(2), "the script is there");
    assert_eq!(at(&project, &["notebook", "experiment.ipynb", "-o", "again.rhai"]), (Some(0), "again.rhai\n".into()));
    let bare = |name: &str| {
        let text = std::fs::read_to_string(project.join(name)).unwrap();
        text.lines()
            .filter(|l| !l.trim().is_empty() && !l.starts_with("// %%") && !l.starts_with("#!"))
            .map(String::from)
            .collect::<Vec<_>>()
    };
    assert_eq!(bare("again.rhai"), bare("experiment.rhai"));
    let (code, text) = at(&project, &["notebook", "data.yaml", "-o", "x.ipynb"]);
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(at(&project, &["notebook", "missing.rhai"]).0, Some(1));
}

#[test]
fn mistyped_commands_are_told_the_nearest() {
    for (typed, hint) in
        [("rn", "did you mean 'run'?"), ("evaluat", "did you mean 'evaluate'?"), ("s.rhai", "compresso run s.rhai"), ("xyzzy", "--help")]
    {
        let o = compresso(&[typed]);
        assert!(o.status.code() == Some(2) && stderr(&o).contains(hint), "{typed}: {}", stderr(&o));
    }
}

#[test]
fn shells_complete_commands_and_options() {
    let script = stdout(&compresso(&["completions", "bash"]));
    let check = format!(
        "{script}\nCOMP_WORDS=(compresso prune --rat); COMP_CWORD=2; _compresso; echo ${{COMPREPLY[0]}}\nCOMP_WORDS=(compresso quan); COMP_CWORD=1; _compresso; echo ${{COMPREPLY[0]}}"
    );
    let o = Command::new("bash").args(["-c", &check]).output().unwrap();
    assert_eq!((stdout(&o).as_str(), stderr(&o).as_str()), ("--ratio\nquantize\n", ""));
    for shell in ["zsh", "fish"] {
        assert!(stdout(&compresso(&["completions", shell])).contains("quantize"));
    }
    assert!(stderr(&compresso(&["completions", "tcsh"])).contains("bash, zsh or fish"));
}
