//! Changed files, scripts and messages, and graphs of all operators with odd attributes: an error at worst, within seconds.
//!
//! Each target (`fuzz/targets.rs`) runs in a process of its own with little address space, so that what ends a process is traced to its case.
//! The suite runs some hundred cases of each, always the same ones. For long runs:
//!
//! ```sh
//! COMPRESSO_FUZZ=20000 cargo test --release --test fuzz -- --nocapture            # so many cases of each target
//! COMPRESSO_FUZZ=1200s COMPRESSO_FUZZ_TARGET=graph cargo test --release --test fuzz -- --nocapture
//! COMPRESSO_FUZZ_CASE=graph:1234 cargo test --release --test fuzz -- --nocapture   # one case, here
//! ```
//!
//! `COMPRESSO_FUZZ_FROM=20000` begins with another case than the first.

#[path = "fuzz/child.rs"]
mod child;
#[path = "fuzz/found.rs"]
mod found;
#[path = "fuzz/mutate.rs"]
mod mutate;
#[path = "fuzz/targets.rs"]
mod targets;

use child::{Faults, Job};
use std::time::Duration;
use targets::{TARGETS, Target};

fn set(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|v| !v.is_empty())
}

fn number(text: &str) -> u64 {
    text.parse().unwrap_or_else(|_| panic!("'{text}' is no number"))
}

/// The seeds of a target: fixtures up to 32 KiB with its endings, its texts.
fn seeds(target: &Target) -> Vec<Vec<u8>> {
    let mut files = Vec::new();
    let mut folders = vec![compresso_test_support::fixture("")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().and_then(|e| e.to_str()).is_some_and(|e| target.seeds.contains(&e)) {
                files.push(path);
            }
        }
    }
    files.sort();
    let small = files.iter().map(|f| std::fs::read(f).unwrap()).filter(|b| b.len() <= 1 << 15);
    let texts = target.texts.iter().map(|t| t.as_bytes().to_vec());
    small.chain(texts).chain(targets::made_seeds(target.name)).collect()
}

#[test]
fn whatever_is_read_ends_in_an_error_at_worst() {
    if let Some(job) = Job::asked() {
        return child::run(&job, &seeds(targets::named(&job.target).unwrap()));
    }
    if let Some(one) = set("COMPRESSO_FUZZ_CASE") {
        let (name, index) = one.split_once(':').expect("NAME:NUMBER");
        let target = targets::named(name).unwrap();
        let case = mutate::case(name, &seeds(target), number(index));
        let path = std::env::temp_dir().join(format!("compresso-fuzz-{name}-{index}"));
        std::fs::write(&path, targets::file_of(name, &case).unwrap_or_else(|| case.clone())).unwrap();
        println!("{}", path.display());
        return target.run(&case);
    }
    let (mut cases, mut time) = (None, Duration::from_secs(120));
    if let Some(asked) = set("COMPRESSO_FUZZ") {
        match asked.strip_suffix('s') {
            Some(seconds) => (cases, time) = (Some(u64::MAX), Duration::from_secs(number(seconds))),
            None => (cases, time) = (Some(number(&asked)), Duration::MAX),
        }
    }
    let first = set("COMPRESSO_FUZZ_FROM").map_or(0, |n| number(&n));
    let only = set("COMPRESSO_FUZZ_TARGET");
    let mut faults = Faults::default();
    for target in TARGETS.iter().filter(|t| only.as_ref().is_none_or(|o| o == t.name)) {
        // The seeds as they are, and so many changed ones.
        let count = cases.unwrap_or(target.short + seeds(target).len() as u64);
        let through = child::watch(&Job { target: target.name.to_string(), first, count, time }, &mut faults);
        // A target whose cases all end at the first check tests that check.
        if first == 0 && through * 200 < count.min(target.short) {
            faults.add(target.name, 0, format!("only {through} of {count} cases came through"));
        }
    }
    assert!(faults.is_empty(), "{faults}");
}
