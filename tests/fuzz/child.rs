//! Cases in a process of their own. It writes the number of each case to a file before it runs it, and each fault after.

use crate::{mutate, targets};
use std::collections::BTreeMap;
use std::fmt;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

/// Address space of a process, in KiB.
const SPACE: u32 = 3_000_000;
/// A case that works longer is a fault, and one that works longer than the second ends its process. Time in which a busy machine lets others work
/// does not count, but for what waits for ever.
const LONG: Duration = Duration::from_secs(20);
const ENDLESS: Duration = Duration::from_secs(60);
const WAITING: Duration = Duration::from_secs(900);
/// The variable that tells a process its job.
const JOB: &str = "COMPRESSO_FUZZ_JOB";

/// Cases of a target.
pub struct Job {
    pub target: String,
    pub first: u64,
    pub count: u64,
    pub time: Duration,
}

impl Job {
    /// The job of this process, if it has one.
    pub fn asked() -> Option<Self> {
        let text = std::env::var(JOB).ok()?;
        let mut parts = text.split(' ');
        let mut next = || parts.next().expect("four parts");
        let target = next().to_string();
        let mut number = || next().parse().expect("a number");
        Some(Self { target, first: number(), count: number(), time: Duration::from_secs(number()) })
    }
}

/// For how long a process has worked, all its threads together; where the system does not say, for how long this one has been there.
fn worked(process: u32) -> Duration {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    let ticks = || -> Option<u64> {
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        // Behind the name in brackets: in user's and in system's mode, in hundredths of a second.
        let mut numbers = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
        Some(numbers.next()?.parse::<u64>().ok()? + numbers.next()?.parse::<u64>().ok()?)
    };
    ticks().map_or_else(|| BEGAN.get_or_init(Instant::now).elapsed(), |n| Duration::from_millis(10 * n))
}

/// Files by which parent and child speak: the number of the case that runs, a fault in each line, an operator that came through in each line.
fn places(folder: &Path) -> [PathBuf; 3] {
    ["case", "faults", "operators"].map(|name| folder.join(name))
}

/// Where the last panic arose.
static PLACE: Mutex<String> = Mutex::new(String::new());

/// Runs the cases of a job in this process.
pub fn run(job: &Job, seeds: &[Vec<u8>]) {
    let [number, faults, operators] = places(Path::new(&std::env::var_os("COMPRESSO_FUZZ_FOLDER").expect("with the job")));
    let number = std::fs::File::create(number).unwrap();
    let append = |path| std::fs::File::options().append(true).create(true).open(path).unwrap();
    let mut faults = append(faults);
    let target = targets::named(&job.target).unwrap();
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map_or_else(String::new, |l| format!("{}:{}", l.file(), l.line()));
        *PLACE.lock().unwrap() = place;
    }));
    let began = Instant::now();
    let mut done = 0u64;
    // Asking the system takes as long as a short case: once a second is enough, and counts at most so much too long.
    let work = || (worked(std::process::id()), Instant::now());
    let mut before = work();
    for index in job.first..job.first.saturating_add(job.count) {
        if began.elapsed() > job.time {
            break;
        }
        number.write_all_at(&index.to_le_bytes(), 0).unwrap();
        done += 1;
        let case = mutate::case(target.name, seeds, index);
        if before.1.elapsed() > Duration::from_secs(1) {
            before = work();
        }
        let start = Instant::now();
        let ended = catch_unwind(AssertUnwindSafe(|| target.run(&case)));
        let what = match ended {
            Err(panic) => {
                let text = panic.downcast_ref::<&str>().map(ToString::to_string).or_else(|| panic.downcast_ref::<String>().cloned());
                format!("{} ({})", text.unwrap_or_default(), PLACE.lock().unwrap())
            }
            Ok(()) if start.elapsed() <= LONG => continue,
            Ok(()) => match work().0.saturating_sub(before.0) {
                time if time > LONG => format!("took {:.0} s of work", time.as_secs_f64()),
                _ => continue,
            },
        };
        let line: String = what.chars().map(|c| if c.is_control() { ' ' } else { c }).take(2000).collect();
        writeln!(faults, "{index} {line}").unwrap();
    }
    let mut operators = append(operators);
    for operator in targets::judge::operators() {
        writeln!(operators, "{operator}").unwrap();
    }
    let through = targets::judge::THROUGH.load(Ordering::Relaxed);
    number.write_all_at(&[u64::MAX, done, through].map(u64::to_le_bytes).concat(), 0).unwrap();
    targets::files::sweep();
}

/// What was found: by target and kind, the first case of each and how many there are.
#[derive(Default)]
pub struct Faults(BTreeMap<(String, String), (u64, u64, String)>);

impl Faults {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    pub fn add(&mut self, target: &str, case: u64, what: String) {
        // Numbers, names and shapes differ from case to case.
        let mut kind = String::new();
        for c in what.chars().filter(|c| !c.is_ascii_digit()).take(160) {
            kind.push(c);
        }
        let place = what.rsplit('(').next().unwrap_or_default().to_string();
        let entry = self.0.entry((target.to_string(), format!("{place} {kind}"))).or_insert((case, 0, what));
        entry.1 += 1;
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "COMPRESSO_FUZZ_CASE=… runs one of these:")?;
        self.0.iter().try_for_each(|((target, _), (case, times, what))| writeln!(f, "{target}:{case} ({times} times): {what}"))
    }
}

/// Runs a job in processes of its own: a process that ends early is followed by one that begins after its case. Returns how many cases of the last one
/// came through.
pub fn watch(job: &Job, faults: &mut Faults) -> u64 {
    let began = Instant::now();
    let folder = tempfile::tempdir().unwrap();
    let [number, list, operators] = places(folder.path());
    let mut first = job.first;
    let end = job.first.saturating_add(job.count);
    let (mut ran, mut through) = (0, 0);
    loop {
        let left = job.time.saturating_sub(began.elapsed()).as_secs();
        let words = format!("{} {first} {} {left}", job.target, end - first);
        std::fs::write(&number, first.to_le_bytes()).unwrap();
        let case = || std::fs::read(&number).ok().and_then(|b| Some(u64::from_le_bytes(b.get(..8)?.try_into().ok()?)));
        let mut child = Command::new("sh")
            .args(["-c", &format!("ulimit -v {SPACE}; ulimit -c 0; exec \"$@\""), "sh"])
            .arg(std::env::current_exe().unwrap())
            .args(["whatever_is_read_ends_in_an_error_at_worst", "--exact", "--nocapture"])
            .env(JOB, words)
            .env("COMPRESSO_FUZZ_FOLDER", folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = child.stderr.take().unwrap();
        let reader = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            // What it said last is enough.
            std::io::Read::read_to_end(&mut said, &mut bytes).map(|_| bytes.split_off(bytes.len().saturating_sub(600)))
        });
        let now = |child: &std::process::Child| (worked(child.id()), Instant::now());
        let (mut latest, mut since) = (case(), now(&child));
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break Some(status);
            }
            std::thread::sleep(Duration::from_millis(20));
            if case() != latest {
                (latest, since) = (case(), now(&child));
            } else if worked(child.id()).saturating_sub(since.0) > ENDLESS || since.1.elapsed() > WAITING {
                child.kill().unwrap();
                child.wait().unwrap();
                break None;
            }
        };
        let said = reader.join().unwrap().unwrap_or_default();
        // Files of a process that was ended stay behind.
        let _ = std::fs::remove_dir_all(targets::files::of_process(child.id()));
        match case() {
            Some(u64::MAX) => {
                let bytes = std::fs::read(&number).unwrap();
                let at = |i: usize| u64::from_le_bytes(bytes[i..i + 8].try_into().unwrap());
                ran += at(8);
                through = at(16);
                break;
            }
            Some(at) => {
                let why = status.map_or("did not end".to_string(), |s| format!("the process ended with {s}"));
                faults.add(&job.target, at, format!("{why}: {}", String::from_utf8_lossy(&said).replace('\n', " ")));
                ran += at + 1 - first;
                first = at + 1;
                if first >= end {
                    break;
                }
            }
            None => panic!("the number of the case is lost"),
        }
    }
    for line in std::fs::read_to_string(&list).unwrap_or_default().lines() {
        let (index, what) = line.split_once(' ').unwrap();
        faults.add(&job.target, index.parse().unwrap(), what.to_string());
    }
    println!(
        "{}: {ran} cases, {through} of them through, in {:.0} s, {} kinds of faults so far",
        job.target,
        began.elapsed().as_secs_f64(),
        faults.0.len()
    );
    // Of processes that ended by themselves.
    let listed = std::fs::read_to_string(&operators).unwrap_or_default();
    let came: std::collections::BTreeSet<&str> = listed.lines().collect();
    if !came.is_empty() {
        let missing: Vec<&str> = compresso::model::ops::registry::all().map(|op| op.name).filter(|name| !came.contains(name)).collect();
        println!("  {} operators came through, not {}", came.len(), missing.join(", "));
    }
    through
}
