//! What errors say, caught and not.

use super::*;
use crate::report::Style;
use crate::shell::Buffer;

/// What the prompt shows for `code`, or the error.
fn shown(code: &str) -> String {
    let output = Arc::new(Buffer::new(Style::plain()));
    let mut session = Session::new(Context::new(), output.clone());
    match session.run(code, "<test>") {
        Ok(v) => session.show(&v).map_or_else(|e| e.to_string(), |()| output.take()).trim_end().to_string(),
        Err(f) => f.render(&Style::plain()),
    }
}

#[test]
fn caught_errors_have_message_kind_and_hint() {
    for (code, text) in [
        ("throw \"x\"", "x | script |"),
        ("prunn(1)", "unknown function 'prunn' | script | did you mean 'prune'?"),
        ("let x = nope", "unknown variable 'nope' | script |"),
        ("[1][3]", "the list has 1 item and no place 3 | script | places are counted from 0, and from the end with -1, -2, …"),
        ("let m = #{ a: 1 }; let x = m.b", "the map has no entry 'b' | missing |"),
        (
            "[1].filter(|a, b, c| a)",
            "the closure takes another number of arguments: it was given 2 | argument | its arguments stand between the bars: |a, b| a + b",
        ),
        ("1 / 0", "division by zero: 1 / 0 | argument |"),
        ("prune(3)", "prune expects a model as argument 1 ('m'), got 3 | argument | usage: prune(m: model[, d: dataset][, #{…}]) -> model"),
    ] {
        let code = format!("try {{ {code}; }} catch (e) {{ return `${{e.message}} | ${{e.kind}} | ${{e.hint}}`; }}");
        assert_eq!(shown(&code), text, "{code}");
    }
    // What a script throws stays what it is.
    assert_eq!(shown("try { throw #{ code: 7 } } catch (e) { return e.code; }"), "7");
    assert_eq!(shown("let n = 0; try { throw \"a\" } catch (e) { if e == \"a\" { n = 1; } } n"), "1");
    // Thrown again, it is the same error.
    assert!(shown("try { let x = nope; } catch (e) { throw e }").starts_with("error: unknown variable 'nope'"));
}

#[test]
fn carets_stand_where_the_user_wrote() {
    let text = shown("try { 1 + 1 } catch (e) { } nope");
    assert!(text.contains("--> <test>:1:29") && text.lines().last().unwrap().ends_with(&format!("{}^^^^", " ".repeat(28))), "{text}");
}

#[test]
fn a_part_of_a_list_is_shown_how_to_take() {
    assert!(shown("[1, 2, 3][0:2]").contains("a part of a list is list.extract(0..2)"), "{}", shown("[1, 2, 3][0:2]"));
    let text = shown("[1, 2, 3][0..2]");
    assert!(text.contains("expected a whole number, got a range") && text.contains("list.extract(0..2)"), "{text}");
    assert_eq!(shown("[1, 2, 3].extract(0..2)"), "[1, 2]");
    assert_eq!(shown("\"abc\".sub_string(0..2)"), "ab");
}

#[test]
fn python_s_pairs_are_refused_and_functions_have_help() {
    let text = shown("for (i, x) in enumerate([1, 2]) {\n}");
    assert!(text.contains("<test>:1:1") && text.contains("for (x, i) in list"), "{text}");
    assert!(shown("help(prune)").contains("Share to remove") && shown("help(prune);").contains("Share to remove"));
    assert_eq!(shown("[-7 % 3, div(-7, 3), 7 / 2, 6 / 2]"), "[-1, -3, 3.5, 3]");
}

/// Whatever is done wrong, messages speak of values as scripts know them.
#[test]
fn no_message_names_a_type_of_rust() {
    let values = [
        "1",
        "1.5",
        "\"a\"",
        "'a'",
        "true",
        "()",
        "[1]",
        "#{ a: 1 }",
        "|x| x",
        "0..2",
        "0..=2",
        "blob(2)",
        "tensor([1])",
        "model(\"classifier\", #{ classes: 2, image_size: 32 })",
        "dataset(\"random\", #{ images: 2 })",
        "plot([1])",
        "table([#{ a: 1 }])",
        "now()",
        "timestamp()",
    ];
    let mut calls: Vec<String> = [
        "[1, 2, 3][0..2]",
        "[1, 2, 3][0:2]",
        "\"abc\"[0..9]",
        "[1][\"a\"]",
        "#{ a: 1 }[0]",
        "5[0]",
        "().x",
        "1.x",
        "let a = 1; a.b = 2",
        "for x in 5 { }",
        "[1].sort(1)",
        "[3, \"a\"].sort()",
        "if 1 { }",
        "while \"a\" { }",
        "let a = [1]; a[5]",
        "let f = |x| x; f.call()",
        "9223372036854775807 + 1",
        "1 % 0",
        "0x",
        "switch",
        "\"a\" * 2",
        "let x = 1; x()",
        "range(1, 2, 0)",
        "parse_int(\"x\")",
        "[1].map(5)",
        "[1].reduce(1, 2)",
        "1.max()",
        "len(5)",
        "prune(5)",
        "prune(1, 2, 3, 4)",
        "throw [1]",
        "let a = 1; a.push(2)",
        "-\"a\"",
        "!5",
        "this",
        "[1].filter(|a, b, c| a)",
    ]
    .map(String::from)
    .to_vec();
    for v in values {
        calls.extend([
            format!("{v} + ()"),
            format!("-({v})"),
            format!("({v})[0..1]"),
            format!("({v}).nope"),
            format!("({v}).nope()"),
            format!("prune({v})"),
            format!("({v})[\"a\"]"),
            format!("for x in {v} {{ x.nope }}"),
            format!("if {v} {{ }}"),
            format!("sqrt({v})"),
            format!("[1][{v}]"),
            format!("let s = {v}; s.y = 1"),
        ]);
    }
    let output = Arc::new(Buffer::new(Style::plain()));
    for call in &calls {
        let mut session = Session::new(Context::new(), output.clone());
        for code in [call.clone(), format!("try {{ {call}; }} catch (e) {{ print(`${{e.message}} ${{e.hint}} ${{e.kind}}`); }}")] {
            let failed = session.run(&code, "<test>").map_or_else(|f| f.render(&Style::plain()), |_| String::new());
            // The line of the script is quoted.
            let said = format!("{}{}", failed.replace(&code, ""), output.take());
            for word in [
                "::",
                "i64",
                "f64",
                "ImmutableString",
                "Dynamic",
                "INT",
                "FLOAT",
                "FnPtr",
                "ErrorIn",
                "alloc",
                "&str",
                "usize",
                "Array",
                "getter",
                "property not found",
            ] {
                assert!(!said.contains(word), "{code}\n{said}");
            }
        }
    }
}
