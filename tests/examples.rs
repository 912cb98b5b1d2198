//! The examples of `help()` run as they stand.

use compresso::Context;
use compresso::report::Style;
use compresso::shell::Buffer;
use compresso::shell::script::{Session, bindings};
use std::sync::Arc;

#[test]
fn every_example_runs() {
    let dir = tempfile::tempdir().unwrap();
    // Examples write files with plain names.
    std::env::set_current_dir(dir.path()).unwrap();
    let mut failures = Vec::new();
    let mut count = 0;
    for b in bindings() {
        for example in b.signature.examples {
            count += 1;
            let output = Arc::new(Buffer::new(Style::plain()));
            let mut session = Session::new(Context::new(), output.clone());
            match session.run(example, b.signature.name) {
                Ok(value) => session.show(&value).unwrap(),
                Err(f) => failures.push(f.render(&Style::plain())),
            }
        }
    }
    assert!(failures.is_empty(), "{} of {count} examples fail:\n{}", failures.len(), failures.join("\n\n"));
    println!("{count} examples ran");
}

#[test]
fn functions_of_the_library_have_examples() {
    let without: Vec<&str> = bindings().map(|b| &b.signature).filter(|s| s.examples.is_empty()).map(|s| s.name).collect();
    // These need files of the user's, or the user.
    assert_eq!(without, ["load", "runs", "sweep", "save", "read_text", "write_text", "input"]);
}
