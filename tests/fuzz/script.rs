//! Scripts, with all operations of the session.

use super::{data, files, judge, watch};
use compresso::report::Style;
use compresso::shell::{Buffer, script::Session};
use std::sync::Arc;

pub const SCRIPTS: &[&str] = &[
    "let m = model(\"classifier\", #{ classes: 3, image_size: 32 }); let p = prune(m, #{ ratio: 0.5 }); show(summary(p)); m.parameters",
    "let a = []; for i in 0..10 { a.push(i * 2); } a.map(|x| x + 1).reduce(|s, x| s + x, 0)",
    "let x = 1; x + 2",
    "#{ a: [1, 2.5, \"x\"], b: () }",
    "for i in 0..3 { print(i) }",
    "let t = zeros([2, 3]); t + 1.0; print(t); t.shape; random([4, 4])[0]",
    "fn f(n) { if n < 2 { n } else { f(n - 1) + f(n - 2) } } f(12); `a${1 + 2}b`.pad(20, \"x\").sub_string(1, 3)",
    "let d = dataset(\"shapes\", #{ images: 4, size: 32, classes: 2 }); d.len; d[0]; forward(model(\"classifier\"), random([1, 3, 32, 32]))",
    "switch 3 { 1 => 2, 3 if true => \"x\", _ => throw #{ a: [1, 2, 3] } }; try { 1 / 0 } catch (e) { print(e) } help(\"prune\")",
    "let b = blob(10, 7); b[3] = 0xff; b.parse_le_int(0, 8); let c = 1 << 62; c * 2; parse_int(\"9223372036854775808\"); timestamp().elapsed",
];

/// One script in a session of its own, in a folder of its own.
pub fn run(bytes: &[u8]) {
    let code = String::from_utf8_lossy(bytes);
    // A changed text may name any file; long calls are those of other tests.
    if data::leaves(bytes) || ["train", "distill", "benchmark", "sleep", "exit", "kernel"].iter().any(|word| code.contains(word)) {
        return;
    }
    let folder = files::folder().join("script");
    std::fs::create_dir_all(&folder).expect("a place for files");
    std::env::set_current_dir(&folder).expect("it was made");
    let output = Arc::new(Buffer::new(Style::columns(80)));
    let mut session = Session::new(watch::context(), output.clone());
    let said = match session.run(&code, "fuzz") {
        Ok(value) => {
            judge::through();
            session.show(&value).map_or_else(|e| e.to_string(), |()| String::new())
        }
        Err(failure) => failure.error.to_string(),
    };
    judge::text(&said);
    judge::text(&output.take());
    session.completeness(&code);
    std::env::set_current_dir(files::folder()).expect("it was made");
    std::fs::remove_dir_all(&folder).expect("only this process writes there");
}
