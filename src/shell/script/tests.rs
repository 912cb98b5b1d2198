use super::*;
use crate::report::Style;
use crate::shell::Buffer;
use insta::assert_snapshot;

fn session() -> (Session, Arc<Buffer>) {
    let output = Arc::new(Buffer::new(Style::plain()));
    (Session::new(Context::new(), output.clone()), output)
}

/// What the prompt shows for `code`, or the error.
fn shown(code: &str) -> String {
    let (mut s, output) = session();
    let text = match s.run(code, "<test>") {
        Ok(v) => s.show(&v).map_or_else(|e| e.to_string(), |()| output.take()),
        Err(f) => f.render(&Style::plain()),
    };
    text.trim_end().to_string()
}

#[test]
fn values_are_shown() {
    for (code, text) in [
        ("1 + 1", "2"),
        ("1.5", "1.5"),
        ("\"a\" + \"b\"", "ab"),
        ("()", ""),
        ("let x = 3;", ""),
        ("1 + 1; // one", ""),
        ("#{ b: [1, 2], a: \"x\" }", "#{ a: \"x\", b: [1, 2] }"),
        ("tensor([[1, 2], [3, 4]])", "float32[2, 2]: 1, 2, 3, 4"),
        ("tensor([[1, 2], [3, 4]])[1][0]", "3.0"),
        ("(tensor([1, 2]) * 2 + 1).to_list()", "[3.0, 5.0]"),
        ("round_to(2.0 / 3, 2)", "0.67"),
        ("table([#{ n: 1, model: \"a\" }])", "| model | n |\n|-------|---|\n| a     | 1 |"),
        (
            "table([#{ a: 1, b: 0.12345 }, #{ a: 2, b: 0.5 }], #{ sort: \"-b\", digits: 2 })",
            "| a |    b |\n|---|------|\n| 2 | 0.50 |\n| 1 | 0.12 |",
        ),
    ] {
        assert_eq!(shown(code), text, "{code}");
    }
}

#[test]
fn a_name_that_nothing_defines_is_an_error_wherever_it_stands() {
    for code in ["nothing_so_named", "nothing_so_named;", "nothing_so_named; 3", "fn f() { nothing_so_named; 3 } f()"] {
        assert!(shown(code).contains("nothing_so_named"), "{code}: {}", shown(code));
    }
}

#[test]
fn lists_are_sorted_by_functions() {
    for (code, text) in [
        ("let a = [3, 1, 2]; a.sort(|x, y| x - y); a", "[1, 2, 3]"),
        ("let a = [3, 1, 2]; a.sort_by(|x, y| x > y); a", "[3, 2, 1]"),
        ("let a = [0.5, 0.25, 0.75]; a.sort(|x, y| x - y); a", "[0.25, 0.5, 0.75]"),
        ("[[2, \"b\"], [1, \"z\"], [2, \"a\"]].order(|x, y| x[0] - y[0])", "[[1, \"z\"], [2, \"b\"], [2, \"a\"]]"),
        ("[5, 4, 3, 2, 1].order_by(|x, y| true)", "[5, 4, 3, 2, 1]"),
        ("let a = [1, 3, 5, 2, 4]; a.dedup(|x, y| x % 2 == y % 2); a", "[1, 2]"),
        ("let a = [3, 1, 2]; try { a.sort(|x, y| throw \"no\") } catch (e) { print(e) } a", "no\n[3, 1, 2]"),
        ("let a = []; a.sort(|x, y| x - y); a.sort(); a", "[]"),
    ] {
        assert_eq!(shown(code), text, "{code}");
    }
    assert!(shown("[1, 2].order(|x, y| \"x\")").contains("a number or true and false"));
}

#[test]
fn an_unknown_option_names_function_and_nearest() {
    assert_snapshot!(shown("let m = model(\"classifier\", #{ clases: 3 });"), @r#"
    error: model has no option 'clases'
      --> <test>:1:9
       |
     1 | let m = model("classifier", #{ clases: 3 });
       |         ^^^^^
       help: did you mean 'classes'?
    "#);
}

#[test]
fn a_wrong_argument_shows_the_usage() {
    assert_snapshot!(shown("prune(3)"), @r"
    error: prune expects a model as argument 1 ('m'), got 3
      --> <test>:1:1
       |
     1 | prune(3)
       | ^^^^^
       help: usage: prune(m: model[, d: dataset][, #{…}]) -> model
    ");
    let told = |code: &str, text: &str| assert!(shown(code).contains(text), "{}", shown(code));
    told("take(1, 2, 3)", "take takes at most 2 arguments, got 3");
    told("model()", "model needs text as argument 1 ('source')");
    told("train(model(\"classifier\"))", "train needs a dataset as argument 2 ('data')");
    // Options are no named arguments, and no arguments by place.
    told("benchmark(1, runs: 10)", "options stand in a map: benchmark(models, #{ runs: 10 })");
    told("prune(model(\"classifier\"), 0.5)", "options stand in a map, such as #{ ratio: 0.5 }");
    told("print 3", "calls have parentheses: print(x)");
}

#[test]
fn unknown_names_suggest_the_nearest() {
    for (code, hint) in [
        ("prun(1)", "did you mean 'prune'?"),
        ("let model_a = 1; model_b + 1", "did you mean 'model_a'?"),
        ("fn my_step(x) { x } my_stap(1)", "did you mean 'my_step'?"),
        ("let m = model(\"classifier\", #{ classes: 2, image_size: 32 }); m.parms", "did you mean 'params'?"),
        ("model(\"yolov8q\")", "did you mean 'yolov8n'?"),
        ("help(\"prunne\")", "did you mean help(\"prune\")?"),
        ("summary", "call it: summary("),
    ] {
        let text = shown(code);
        assert!(text.contains(hint), "{code}: {text}");
    }
}

#[test]
fn errors_in_functions_show_the_calls() {
    let code = "fn inner(x) {\n  nothing(x)\n}\nfn outer(x) { inner(x) }\nouter(1)";
    assert_snapshot!(shown(code), @r"
    error: unknown function 'nothing'
      --> <test>:2:3
       |
     2 |   nothing(x)
       |   ^^^^^^^
       help: help() lists the functions
       in inner(), called at <test>:4:15
       in outer(), called at <test>:5:1
    ");
}

#[test]
fn functions_of_earlier_inputs_keep_their_text() {
    let (mut s, _) = session();
    s.run("fn bad(x) {\n  x.nope\n}", "input 1").unwrap();
    let f = s.run("let a = 1;\nbad(a)", "input 2").unwrap_err();
    assert_eq!(f.at.as_ref().map(|a| (a.source.as_str(), a.line, a.text.as_str())), Some(("input 1", 2, "  x.nope")));
    assert_eq!(f.trace[0].1.as_ref().map(|a| (a.source.as_str(), a.line)), Some(("input 2", 2)));
    assert!(s.variables().iter().any(|v| v.0 == "a"), "variables set before the error stay");
}

#[test]
fn other_errors_read_well() {
    for (code, message) in [
        ("\"a\" * 2", "'*' does not work between text and a whole number"),
        ("let a = 1; a.b", "a whole number has no field 'b'"),
        ("let a = 1; a.b = 2", "the field 'b' of a whole number cannot be set"),
        ("let m = #{ a: 1 }; m.b", "the map has no entry 'b'"),
        ("throw \"bad\"", "bad"),
        ("prune()", "prune needs a model as argument 1 ('m')"),
        ("let x = [1, 2", "syntax error: expecting ']' to end this array literal"),
        ("let x = 1; if x { 2 }", "expected true or false, got a whole number"),
        ("fn f(n) { f(n + 1) } f(0)", "functions call each other too deeply"),
        ("tensor([[1, 2], [3]])", "the lists are not equally long"),
        ("zeros([2, -1])", "a shape is a list of whole numbers like [1, 3, 64, 64], got -1"),
        ("zeros([2]) + zeros([3])", "the shapes [2] and [3] do not fit together"),
        ("threads(0)", "the number of threads must be 1 to 1024, got 0"),
        ("device(\"tpu\")", "there is no device 'tpu'"),
        ("save(1, \"/dev/null/x.json\")", ""),
    ] {
        let text = shown(code);
        let head = text.lines().next().unwrap_or_else(|| panic!("no error: {code}"));
        assert!(
            head.starts_with(&format!("error: {message}")) || (message.is_empty() && head.starts_with("error: file")),
            "{code}: {text}"
        );
    }
}

#[test]
fn handles_in_option_maps_are_refused() {
    let text = shown("let m = model(\"classifier\", #{ classes: 2, image_size: 32 }); prune(m, #{ ratio: m })");
    assert!(text.starts_with("error: 'ratio' is a model; only numbers"), "{text}");
    let text = shown("let m = model(\"classifier\", #{ classes: 2, image_size: 32 }); prune(m, #{ exclude: [|| 1] })");
    assert!(text.starts_with("error: 'exclude.0' is a function"), "{text}");
}

#[test]
fn scripts_catch_errors_with_their_kind() {
    let code = "let seen = (); try { prune(3) } catch (e) { seen = [e.kind, e.message, type_of(e)]; } seen";
    assert_eq!(shown(code), "[\"argument\", \"prune expects a model as argument 1 ('m'), got 3\", \"Error\"]");
    assert!(shown("try { prune(3) } catch (e) { print(e); throw e }").starts_with("error: prune expects a model"));
}

#[test]
fn a_set_flag_stops_script_and_functions_and_cannot_be_caught() {
    let (mut s, _) = session();
    let cancel = s.shared().context().cancel;
    let stopper = std::thread::spawn({
        let cancel = cancel.clone();
        move || {
            std::thread::sleep(std::time::Duration::from_millis(50));
            cancel.cancel();
        }
    });
    let f = s.run("let n = 0; try { loop { n += 1; } } catch { } n", "<test>").unwrap_err();
    stopper.join().unwrap();
    assert!(f.is_cancelled());
    assert_eq!(exit_code(&f), 130);
    cancel.reset();
    assert!(s.run("n", "<test>").is_ok(), "the session goes on and keeps its variables");
}

#[test]
fn completeness_is_the_parsers() {
    let (s, _) = session();
    let incomplete = [
        "let x = [1,",
        "if true {",
        "foo(",
        "let x =",
        "fn f(",
        "`a ${1",
        "/* a",
        "#{ a: 1",
        "x.",
        "1 +",
        "let s = `two\nlines",
        "if x { 1 } else",
    ];
    for code in incomplete {
        assert_eq!(s.completeness(code), Completeness::Incomplete, "{code}");
    }
    for code in ["1", "let x = 1;", "", "// a", "fn f() { 1 }"] {
        assert_eq!(s.completeness(code), Completeness::Complete, "{code}");
    }
    for code in ["}", "let 3 = 4;", "foo)", "\"a\nb", "1 + )"] {
        assert_eq!(s.completeness(code), Completeness::Invalid, "{code}");
    }
}

#[test]
fn args_are_seen_inside_functions() {
    let (mut s, output) = session();
    s.set_args(vec!["a".into(), "b".into()]);
    s.run("fn n() { args.len() } print(n()); print(args[1])", "<test>").unwrap();
    assert_eq!(output.take(), "2\nb\n");
}

#[test]
fn a_model_tells_how_it_was_made() {
    let code = "model(\"classifier\", #{ classes: 2, image_size: 32 }).prune(#{ ratio: 0.25 }).script";
    assert_eq!(shown(code), "let m = model(\"classifier\", #{ classes: 2, image_size: 32 });\nm = prune(m, #{ ratio: 0.25 });");
}

#[test]
fn the_script_of_a_model_remakes_it() {
    let dir = tempfile::tempdir().unwrap();
    let saved = |script: &str, name: &str| {
        let (mut s, output) = session();
        let path = dir.path().join(name);
        s.run(&format!("{script}\nsave(m, {path:?});"), "<test>").unwrap();
        output.take();
        s.run("print(m.script)", "<test>").unwrap();
        (output.take(), std::fs::read(path).unwrap())
    };
    let code = r#"
        let options = #{ epochs: 1, batch: 4, learning_rate: 0.001 };
        let d = dataset("shapes", #{ images: 16, size: 64 });
        let teacher = model("yolov8n", #{ classes: 3, image_size: 64, width: 0.125, depth: 0.33 }).train(d, options);
        let m = model("yolov8n", #{ classes: 3, image_size: 64, width: 0.0625, depth: 0.33 });
        m = distill(m, teacher, d.split("train").take(8), dataset("shapes", #{ images: 16, size: 64, split: "val" }), options);
        m = prune(m, d.take(2), #{ ratio: 0.25, importance: "l1" });
        m = quantize(m, d.split("train").splits(#{ train: 0.5, val: 0.5, test: 0 }).split("val"), #{ images: 4 });
    "#;
    let (script, file) = saved(code, "first.safetensors");
    let (again, copy) = saved(&script, "second.safetensors");
    assert_eq!(script, again);
    assert!(file == copy, "{script}");
    for part in [
        r#"let d = dataset("shapes", #{ images: 16, size: 64 });"#,
        r#"distill(m, model("yolov8n", #{ classes: 3, image_size: 64, width: 0.125, depth: 0.33 }).train(d, #{"#,
        r#", d2.take(8), d.split("val"), #{"#,
        r#"m = prune(m, d.take(2), #{"#,
        r#"m = quantize(m, d2.splits(#{ train: 0.5, val: 0.5, test: 0.0 }).split("val"), #{ images: 4 });"#,
    ] {
        assert!(script.contains(part), "{part} is missing in\n{script}");
    }
    assert_eq!(script.matches("dataset(").count(), 1, "{script}");
}

#[test]
fn the_script_of_an_exported_model_exports_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("e.onnx");
    let classifier = "let m = model(\"classifier\", #{ classes: 3, image_size: 32 });";
    let code = format!("{classifier} onnx_export(m, {path:?}); let e = model({path:?});");
    let script = shown(&format!("{code} e.script"));
    assert_eq!(script, format!("{classifier}\nonnx_export(m, {path:?});\nm = model({path:?});"));
    let first = std::fs::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    session().0.run(&script, "<test>").unwrap();
    assert!(std::fs::read(&path).unwrap() == first);
    // As a teacher it is the file.
    let data = "dataset(\"shapes\", #{ images: 8, size: 32, classes: 3, task: \"classify\" })";
    let distilled = shown(&format!("{code} distill(m, e, {data}, #{{ epochs: 1 }}).script"));
    assert!(distilled.contains(&format!("distill(m, model({path:?}), {data}, ")), "{distilled}");
}

#[test]
fn every_function_has_one_name_a_summary_and_a_usage() {
    let mut names: Vec<&str> = bindings().map(|b| b.signature.name).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count, "a name stands twice");
    for b in bindings() {
        let s = &b.signature;
        assert!(!s.summary.is_empty() && !s.returns.is_empty(), "{}", s.name);
        assert!(s.args.iter().skip_while(|a| !a.optional).all(|a| a.optional), "{}: optional arguments come last", s.name);
        assert!(help_text(s.name, &Style::plain()).unwrap().starts_with(&s.usage()));
    }
    let all = overview(&Style::plain());
    assert!(bindings().all(|b| all.contains(b.signature.name)));
}

#[test]
fn help_finds_functions_by_keyword() {
    assert!(help_text("int8", &Style::plain()).unwrap().contains("quantize"));
    assert!(help_text("session", &Style::plain()).unwrap().contains("seed"));
}

/// The failure of `main.rhai` among these files, and the folder.
fn imported(files: &[(&str, &str)]) -> (Failure, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("parts")).unwrap();
    for (name, text) in files {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    let failure = session().0.run_file(&dir.path().join("main.rhai"), Vec::new()).unwrap_err();
    (failure, dir)
}

#[test]
fn errors_in_imported_scripts_name_their_files() {
    let place = |spot: &Option<failure::Spot>, dir: &tempfile::TempDir| {
        let spot = spot.as_ref().unwrap();
        (spot.source.strip_prefix(&format!("{}/", dir.path().display())).unwrap().to_string(), spot.line, spot.text.trim().to_string())
    };
    let at = |file: &str, line: usize, text: &str| (file.to_string(), line, text.to_string());
    // A function of a module, called from the script, and one that it calls.
    let tools = "\nfn inner(x) {\n  nothing(x)\n}\nfn outer(x) { inner(x) }\n";
    let (f, dir) = imported(&[("main.rhai", "import \"parts/tools\" as t;\nt::outer(3);"), ("parts/tools.rhai", tools)]);
    assert_eq!(place(&f.at, &dir), at("parts/tools.rhai", 3, "nothing(x)"));
    assert_eq!(f.trace.iter().map(|t| t.0.as_str()).collect::<Vec<_>>(), ["inner", "outer"]);
    assert_eq!(place(&f.trace[0].1, &dir), at("parts/tools.rhai", 5, "fn outer(x) { inner(x) }"));
    assert_eq!(place(&f.trace[1].1, &dir), at("main.rhai", 2, "t::outer(3);"));
    // The script has a function of the same name.
    let main = "import \"parts/tools\" as t;\nfn inner(x) { x }\nfn run() { t::inner(3) }\nrun()";
    let (f, dir) = imported(&[("main.rhai", main), ("parts/tools.rhai", tools)]);
    assert_eq!(place(&f.at, &dir), at("parts/tools.rhai", 3, "nothing(x)"));
    assert_eq!(place(&f.trace[0].1, &dir), at("main.rhai", 3, "fn run() { t::inner(3) }"));
    assert_eq!(place(&f.trace[1].1, &dir), at("main.rhai", 4, "run()"));
    // What a module does when it is imported, from a function too; and a syntax error in it.
    for (main, bad) in [
        ("import \"bad\" as b;", "let x = 1;\nprune(3);"),
        ("fn f() { import \"bad\" as b; 1 }\nf()", "let x = 1;\nprune(3);"),
        ("import \"bad\" as b;", "let x = 1;\nlet y = ;"),
        ("import \"middle\" as m;", "let x = 1;\nnope"),
    ] {
        let (f, dir) = imported(&[("main.rhai", main), ("bad.rhai", bad), ("middle.rhai", "import \"bad\" as b;")]);
        assert_eq!(place(&f.at, &dir), at("bad.rhai", 2, bad.lines().last().unwrap()), "{main}");
    }
    // One that is not there is the importing script's error.
    let (f, dir) = imported(&[("main.rhai", "let a = 1;\nimport \"lost\" as l;")]);
    assert_eq!(place(&f.at, &dir), at("main.rhai", 2, "import \"lost\" as l;"));
}

#[test]
fn lists_and_maps_are_saved_as_tables_of_numbers_or_refused() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().display();
    let saved = |value: &str, ending: &str| {
        session().0.run(&format!("save({value}, \"{folder}/x.{ending}\")"), "<test>").map_err(|f| f.render(&Style::plain()))?;
        Ok::<_, String>(std::fs::read_to_string(dir.path().join(format!("x.{ending}"))).unwrap())
    };
    for (value, text) in [
        ("[#{ a: 1, b: \"x, y\" }, #{ a: 2.5, b: \"q\\\"r\" }]", "b,a\n\"x, y\",1\n\"q\"\"r\",2.5\n"),
        ("[#{ a: 0.123456789 }, #{ a: 12345678 }]", "a\n0.123456789\n12345678\n"),
        ("[[\"model\", \"mAP\"], [\"a\", 0.25], [\"b\", 3]]", "model,mAP\na,0.25\nb,3\n"),
        ("[[1, 2], [3, 4.5]]", "1,2\n1,2\n3,4.5\n"),
        ("[1, 2]", "value\n1\n2\n"),
        ("#{ a: 1, b: \"t\" }", "name,value\na,1\nb,t\n"),
        ("table([#{ n: 3, m: 0.5 }])", "m,n\n0.5,3\n"),
    ] {
        assert_eq!(saved(value, "csv").unwrap(), text, "{value}");
    }
    let json: serde_json::Value = serde_json::from_str(&saved("table([#{ n: 3, m: 0.123456789, t: \"4\" }])", "json").unwrap()).unwrap();
    assert_eq!(json["rows"][0], serde_json::json!({ "t": "4", "m": 0.123_456_789, "n": 3 }));
    for (value, ending, part) in
        [("3", "csv", "a table is made of a list of maps, a map or a report"), ("[1, 2]", "xls", "cannot be saved as '.xls'")]
    {
        let e = saved(value, ending).unwrap_err();
        assert!(e.contains(part) && e.contains(&format!("x.{ending}")), "{e}");
    }
}

#[test]
fn a_let_that_is_run_again_drops_what_it_hides() {
    let (mut session, output) = session();
    session.run("let a = [1]; const B = 2; let f = || a.push(7);", "one").unwrap();
    for _ in 0..3 {
        session.run("let c = #{ x: [1, 2] }; let b2 = B + 1;", "again").unwrap();
    }
    assert_eq!(session.scope.len(), 5, "{:?}", session.variables());
    // What a closure shares is still shared, and a constant still one.
    session.run("f.call(); print(a); print(b2)", "two").unwrap();
    assert_eq!(output.take(), "[1, 7]\n3\n");
    assert!(session.run("B = 3", "three").unwrap_err().error.message().contains("constant"));
    session.run("let B = 5; let B = 6; print(B)", "four").unwrap();
    assert_eq!((session.scope.len(), output.take().as_str()), (5, "6\n"));
}

#[test]
fn long_lists_are_cut_off_where_they_are_shown() {
    let text = shown("let a = []; for i in 0..5000 { a.push(i); } a");
    assert!(text.ends_with("  999,\n  … 4000 more\n]\n") || text.ends_with("  999,\n  … 4000 more\n]"), "{}", &text[text.len() - 60..]);
    // All inner ones together.
    let text = shown("let a = []; a.pad(400, 7); let b = []; b.pad(400, a); b");
    assert!(text.lines().count() < 2000 && text.contains("… 397 more"), "{} lines", text.lines().count());
    assert_eq!(shown("[(), #{ x: () }]").trim(), "[(), #{ x: () }]");
}

#[test]
fn whole_numbers_are_divided_exactly() {
    for (code, text) in [
        ("1 / 2", "0.5"),
        ("6 / 3", "2"),
        ("let a = 7; let b = 2; a / b", "3.5"),
        ("let a = 7; a /= 2; a", "3.5"),
        ("let a = 8; a /= 2; a", "4"),
        ("let m = #{ n: 3 }; m.n /= 2; m.n", "1.5"),
        ("[7, 8].map(|x| x / 2)", "[3.5, 4]"),
        ("7 / 2.0", "3.5"),
        ("[div(7, 2), div(-7, 2), 7 % 2]", "[3, -4, 1]"),
        ("[int(3.7), int(\"12\"), float(\"1e-3\")]", "[3, 12, 0.001]"),
        ("[sqrt(4), 2.5.floor(), 3.round()]", "[2.0, 2.0, 3.0]"),
        ("let s = 0; for i in range(4) { s += i } s", "6"),
        ("(tensor([2, 4]) / 2).to_list()", "[1.0, 2.0]"),
        ("fmt(0.81234, \".3f\") + `${fmt(0.5, \".1%\")}`", "0.81250.0%"),
    ] {
        assert_eq!(shown(code), text, "{code}");
    }
    for code in ["1 / 0", "let a = 1; a / 0", "let a = 1; a /= 0;", "div(1, 0)"] {
        assert!(shown(code).starts_with("error: division by zero: 1 / 0"), "{code}: {}", shown(code));
    }
}

#[test]
fn lists_have_what_results_need() {
    for (code, text) in [
        ("let a = [3, 1, 2]; [a.sum(), a.min(), a.max(), a.mean(), a.median()]", "[6, 1, 3, 2.0, 2.0]"),
        ("[0.5, 1].sum()", "1.5"),
        ("[[2, 4, 4, 4, 5, 5, 7, 9].std(), [3].std(), [1, 2, 3, 4].quantile(0.25)]", "[2.138089935299395, 0.0, 1.75]"),
        ("tensor([3, 1, 2]).median()", "2.0"),
        ("random([1, 3, 8, 6]).slice(1, 0, 2).slice(-1, -2).shape", "[1, 2, 8, 2]"),
        ("tensor([[1, 2], [3, 4]]).slice(0, 1).to_list()", "[[3.0, 4.0]]"),
        (
            "let m = model(\"classifier\", #{ classes: 2, image_size: 32 }); weights(m, \"model.0.conv.weight\").shape == m.weights(\"model.0\")[\"model.0.conv.weight\"].shape",
            "true",
        ),
        ("[1, 2, 3].zip([\"a\", \"b\"])", "[[1, \"a\"], [2, \"b\"]]"),
        ("[\"a\", \"b\"].enumerate()", "[[0, \"a\"], [1, \"b\"]]"),
        ("[1, 0.5, \"x\"].join(\", \")", "1, 0.5, x"),
        ("[#{ k: \"a\", n: 1 }, #{ k: \"b\", n: 2 }, #{ k: \"a\", n: 3 }].group_by(\"k\").a.map(|r| r.n)", "[1, 3]"),
        ("[1, 2, 3].group_by(|n| n % 2).keys()", "[\"0\", \"1\"]"),
        ("let r = [#{ n: 2 }, #{ n: 1 }]; r.sort_by(\"n\"); r", "[#{ n: 1 }, #{ n: 2 }]"),
        ("[#{ n: 2 }, #{ n: 3 }, #{ n: 1 }].order_by(\"n\", true).map(|r| r.n)", "[3, 2, 1]"),
        ("[\"bb\", \"a\", \"ccc\"].order_by(|t| t.len())", "[\"a\", \"bb\", \"ccc\"]"),
        ("let by = 10; [3, 1, 2].order_by(|x| by - x)", "[3, 2, 1]"),
        ("let total = 0; [1, 2].for_each(|x| total += x); total", "3"),
        ("let seen = []; [\"a\", \"b\"].for_each(|x, i| seen.push([x, i])); seen", "[[\"a\", 0], [\"b\", 1]]"),
        ("let l = [1, 2]; l.for_each(|| this *= 10); l", "[10, 20]"),
        ("env(\"NO_SUCH_VARIABLE\", \"7\")", "7"),
    ] {
        assert_eq!(shown(code), text, "{code}");
    }
    for (code, text) in [
        ("[].mean()", "the list is empty"),
        ("zeros([2, 3]).slice(1, 3)", "axis 1 has 3 parts"),
        ("zeros([2, 3]).slice(2, 0)", "a tensor of rank 2 has no axis 2"),
        ("weights(model(\"classifier\", #{ classes: 2, image_size: 32 }), \"model.0.conv.wieght\")", "did you mean 'model.0.conv.weight'?"),
        ("[1, \"x\"].sum()", "item 1 of the list is no number but \"x\""),
        ("[#{ ms: 1 }].mean()", "list.map(|row| row.name)"),
        ("[#{ ms: 1 }].sort_by(\"mss\")", "did you mean 'ms'?"),
        ("[1, \"x\"].order_by(|x| x)", "1 and \"x\" have no order"),
        ("[1].group_by(|x| x.nope)", "a whole number has no field 'nope'"),
        ("[1].group_by(|x| prune(x))", "prune expects a model as argument 1"),
    ] {
        assert!(shown(code).contains(text), "{code}: {}", shown(code));
    }
}

#[test]
fn a_closure_that_fails_is_shown_where_it_fails() {
    let text = shown("let rows = [1];\nrows.group_by(|x|\n  prune(x))");
    assert!(text.contains("--> <test>:3:3") && text.contains("in a closure"), "{text}");
}

#[test]
fn people_from_python_are_told_how_it_is_said() {
    for (code, hint) in [
        ("let x = None;", "nothing is ()"),
        ("let x = True;", "write true"),
        ("let a = true; if a and a { 1 }", "write && for 'and'"),
        ("let a = true; if not a { 1 }", "write ! for 'not'"),
        ("let a = 1; if a == 1 { 2 } elif a == 2 { 3 }", "write else if"),
        ("def f(x): x + 1", "functions are fn name(x)"),
        ("lambda x: x", "|x| x + 1"),
        ("import numpy", "nothing needs to be imported"),
        ("import numpy as np", "nothing needs to be imported"),
        ("let m = 3; prune(ratio=0.3)", "options stand in a map: prune(m, #{ ratio: 0.3 })"),
        ("let m = 3; prune(m, ratio=0.3)", "options stand in a map: prune(m, #{ ratio: 0.3 })"),
        ("let m = 3; prune(m, { ratio: 0.3 })", "maps begin with #: #{ ratio: 0.3 }"),
        ("let d = {\"a\": 1};", "maps begin with #: #{ a: 1 }"),
        ("let m = model(\"classifier\"); prune(m, #{ ratio: 30 })", "it is a share: 30 % is 0.3"),
        ("for i in range(3): print(i)", "blocks stand in braces"),
        ("# comment", "comments begin with //"),
        ("x = 3", "let x = … makes a variable"),
        ("let x = 1; x++", "write x += 1"),
        ("f\"abc\"", "between back quotes"),
        ("print(f\"{x}\")", "between back quotes"),
        ("[x*2 for x in [1,2]]", "list.map(|x| x * 2)"),
        ("3 if true else 4", "if condition { a } else { b }"),
        ("let (a, b) = [1, 2];", "taken out one by one"),
        ("let x = [1, 2]; x.append(3)", "list.push(x) adds an item"),
        ("str(3)", "is x as text"),
        ("assert(1 == 2)", "throw"),
        ("null", "nothing is ()"),
        ("let s = 1; fn f() { s + 1 } f()", "functions see their arguments and their own variables alone"),
        ("let cfg = #{ ratio: 1 }; cfg.ratoi", "did you mean 'ratio'?"),
        ("let cfg = #{ ratio: 1, epochs: 2 }; cfg.q", "its entries are epochs, ratio"),
        ("let rows = [#{ map50: 1 }]; rows.map(|r| r.mpa50)", "did you mean 'map50'?"),
        ("[1][3]", "places are counted from 0"),
    ] {
        let text = shown(code);
        assert!(text.starts_with("error:") && text.contains(hint), "{code}: {text}");
    }
}

#[test]
fn no_message_names_a_type_of_rust() {
    let foreign = [
        "i64", "f64", "u8", "usize", "String", "Dynamic", "FnPtr", "rhai::", "std::", "&mut", "Box<", "Result<", "ErrorIn", "EvalAlt",
        "Error(",
    ];
    for code in [
        "print(\"a\", \"b\")",
        "[1, 2].append(3)",
        "range(\"x\")",
        "\"a\".pad(1, 2, 3)",
        "[1].map(3)",
        "[1].map(|x| x.foo())",
        "time_s(|| nope(1))",
        "time_s(|| 1 + \"a\" * 2)",
        "sort(1)",
        "[1].filter(\"x\")",
        "1.foo",
        "let x = 3; x()",
        "sin(\"a\")",
        "\"abc\"[10]",
        "for x in 3 { }",
        "if 1 { }",
        "let a = [1, 2]; a[\"x\"]",
        "#{ a: 1 }[3]",
        "\"a\" - 1",
        "!3",
        "-\"a\"",
        "parse_int(\"x\")",
        "switch 1 { 1 => nope() }",
        "let f = |x| x; f.call()",
        "call(3)",
        "1 in 3",
        "throw 3",
        "import \"nowhere\" as n;",
        "[1, 2].reduce(|a| a.b)",
        "\"x\".split(3, 4, 5)",
        "blob(-1, -2, -3)",
        "[3, 1].sort(|a, b| \"x\")",
        "1 << \"a\"",
        "let x = 5; x.y.z = 3",
        "9223372036854775807 + 1",
    ] {
        let text = shown(code);
        // The line of the script is no message.
        let said: Vec<&str> = text.lines().filter(|l| !l.contains(" | ")).collect();
        assert!(foreign.iter().all(|word| !said.iter().any(|l| l.contains(word))), "{code}: {text}");
    }
}

#[test]
fn help_on_results_lists_their_fields() {
    let text = help_text("predictions", &Style::plain()).unwrap();
    assert!(text.contains("| images[0].detections") && text.contains("help(\"predict\")"), "{text}");
    assert!(help_text("evaluation", &Style::columns(80)).unwrap().lines().all(|l| l.chars().count() <= 80));
    assert!(overview(&Style::columns(80)).lines().all(|l| l.chars().count() <= 80));
}

#[test]
fn what_is_saved_is_loaded_again() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().display();
    for (value, ending) in [
        ("[#{ a: 1, b: \"x, y\" }, #{ a: 2.5, b: \"z\" }]", "csv"),
        ("[#{ id: \"42\", code: \"007\", good: true, ms: 0.5 }, #{ id: \"a\", code: \"x\", good: false, ms: 3 }]", "csv"),
        ("[#{ a: [1, #{ b: () }] }, 2.5, true]", "json"),
        ("#{ a: 0.1 }", "json"),
    ] {
        let code = format!(
            "let v = {value}; save(v, \"{folder}/x.{ending}\"); [load(\"{folder}/x.{ending}\") == v, load(\"{folder}/x.{ending}\")]"
        );
        assert!(shown(&code).replace(['\n', ' '], "").starts_with("[true,"), "{}", shown(&code));
    }
    assert_eq!(
        shown(&format!("save([[1, 2], [3, 4]], \"{folder}/x.npy\"); load(\"{folder}/x.npy\").to_list()")),
        "[[1.0, 2.0], [3.0, 4.0]]"
    );
    assert_eq!(shown(&format!("write_text(\"{folder}/new/a.txt\", \"one\\ntwo\"); read_text(\"{folder}/new/a.txt\")")), "one\ntwo");
    assert_eq!(shown(&format!("glob(\"{folder}/*/?.txt\")")), format!("[\"{folder}/new/a.txt\"]"));
}

#[test]
fn rows_are_plotted_by_the_names_of_their_columns() {
    let rows = "let rows = [#{ ratio: 0.2, map50: 0.8, on: \"a\" }, #{ ratio: 0.4, map50: 0.7, on: \"b\" }, #{ ratio: 0.6, map50: 0.5, on: \"a\" }];";
    let mut session = session().0;
    session.run(&format!("{rows} let p = plot(rows, #{{ x: \"ratio\", y: \"map50\", by: \"on\" }});"), "<test>").unwrap();
    let plot = session.scope.get("p").unwrap().clone().cast::<crate::report::Plot>();
    let series: Vec<(&str, usize)> = plot.series.iter().map(|s| (s.name.as_str(), s.points.len())).collect();
    assert_eq!((series, plot.x_label.as_str(), plot.y_label.as_str()), (vec![("a", 2), ("b", 1)], "ratio", "map50"));
    let text = shown(&format!("{rows} plot(rows)"));
    assert!(text.contains("such as #{ x: \"map50\", y: \"ratio\" }"), "{text}");
    assert!(shown(&format!("{rows} plot(rows, #{{ x: \"ratoi\", y: \"map50\" }})")).contains("did you mean 'ratio'?"));
    let text = shown("hist([1, 1, 2, 5], #{ bins: 2 })");
    assert!(text.contains(" 3") && text.contains(" 1") && text.contains("count"), "{text}");
}

#[test]
fn quiet_leaves_out_notes_and_keeps_results() {
    let notes = Arc::new(crate::context::Notes::default());
    let output = Arc::new(Buffer::new(Style::plain()));
    let mut s = Session::new(Context::new().with_progress(notes.clone()), output.clone());
    let code = "let d = dataset(\"shapes\", #{ images: 4, size: 32, task: \"classify\", classes: 2 }); \
                print(evaluate(model(\"classifier\", #{ classes: 2, image_size: 32 }), d).images);";
    s.run(&format!("quiet(); {code}"), "<test>").unwrap();
    assert_eq!(notes.take(), Vec::<String>::new());
    let printed = output.take();
    s.run(&format!("quiet(false); {code}"), "<test>").unwrap();
    assert!(!notes.take().is_empty() && output.take() == printed && !printed.is_empty());
}

#[test]
fn a_model_is_shown_as_a_card() {
    let text = shown("model(\"classifier\", #{ classes: [\"cat\", \"dog\"], image_size: 32 })");
    assert!(text.starts_with("Model: classifier of 2 classes, 32 x 32\n"), "{text}");
    for part in ["| classes    ", "cat, dog", "| parameters ", "| MACs ", "| made by", "with parameters"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let blocks = shown("let m = model(\"yolov8n\"); show(m)");
    assert!(blocks.contains("Blocks") && blocks.contains("layers: true") && blocks.lines().count() < 60, "{blocks}");
    let layers = shown("let m = model(\"yolov8n\"); show(summary(m, #{ layers: true }))");
    assert!(layers.contains("model.22.cv2.0.0.conv") && layers.lines().count() > 200, "{layers}");
}

#[test]
fn rows_are_joined_and_layers_listed() {
    let joined =
        shown("[#{ n: \"a\", ms: 3 }, #{ n: \"b\", ms: 4 }].join_by([#{ n: \"a\", f: 0.8 }, #{ n: \"a\", f: 0.7, ms: 9 }], \"n\")");
    assert_eq!(joined.replace(['\n', ' '], ""), "[#{f:0.8,ms:3,n:\"a\"},#{f:0.7,ms:3,n:\"a\"}]");
    assert!(shown("[#{ a: 1 }].join_by([#{ b: 1 }], \"a\")").contains("'a'"));
    let layers = shown("model(\"classifier\", #{ classes: 2, image_size: 32 }).layers()");
    assert!(layers.contains("model.0.conv.Conv") && layers.lines().count() > 40, "{layers}");
}
