//! A carrier in a process of its own, as its parent sees it.

use super::protocol::{ARGUMENT, Hello, Reply, Request, read, write};
use super::{Carrier, Fault, Opened, Order, cores};
use crate::memory::Peak;
use compresso_base::context::Cancel;
use compresso_base::error::{Error, ErrorKind, Result};
use compresso_exec::{Outputs, StepTime};
use compresso_model::Value;
use std::collections::HashMap;
use std::io::Read;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// How long a program may take to say that it is a worker.
const HELLO: Duration = Duration::from_secs(30);
/// How often cancellation is looked for.
const LOOK: Duration = Duration::from_millis(100);
/// How long an ending process may take to end.
const END: Duration = Duration::from_secs(2);

/// A process that carries a model. It is killed when this is dropped.
pub struct Process {
    child: Child,
    input: ChildStdin,
    replies: Receiver<Result<(Reply, Outputs)>>,
    /// The last lines of its standard error, sent once it has ended.
    last_words: Receiver<String>,
    cancel: Cancel,
    opened: Opened,
}

impl Process {
    /// What starts a program that calls [`hook`](super::hook) as a worker.
    pub fn command(program: &Path) -> Command {
        let mut command = Command::new(program);
        command.arg(ARGUMENT);
        command
    }

    /// Starts a worker, on these cores where there are some, and waits until it says who it is.
    ///
    /// # Errors
    /// `Ended` when it is no worker; `Error` for a cancellation.
    pub(super) fn start(mut command: Command, cores: &[usize], cancel: &Cancel) -> Result<(Self, Hello), Fault> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        #[cfg(unix)]
        {
            use std::os::unix::process::CommandExt;
            // Ctrl-C goes to the parent alone, which ends its workers.
            command.process_group(0);
        }
        if std::env::var_os("CANDLE_NUM_THREADS").is_none() {
            // candle's own threads spin while they wait, on the cores of others.
            command.env("CANDLE_NUM_THREADS", "1");
        }
        let mut child = command.spawn().map_err(|e| Fault::Ended(format!("it does not start ({e})")))?;
        if !cores.is_empty() {
            cores::keep(child.id(), cores)?;
        }
        let (Some(input), Some(output), Some(errors)) = (child.stdin.take(), child.stdout.take(), child.stderr.take()) else {
            return Err(Error::internal("a worker without pipes").into());
        };
        let (replies, received) = channel();
        std::thread::spawn(move || {
            let mut output = output;
            while let Some(reply) = read(&mut output).transpose() {
                let last = reply.is_err();
                if replies.send(reply).is_err() || last {
                    break;
                }
            }
        });
        let (words, last_words) = channel();
        std::thread::spawn(move || {
            let _ = words.send(tail(errors));
        });
        let mut process = Self { child, input, replies: received, last_words, cancel: cancel.clone(), opened: Opened::default() };
        match process.receive(Some(HELLO))? {
            (Reply::Hello(hello), _) => Ok((process, hello)),
            (other, _) => Err(Fault::Ended(format!("it began with {other:?}"))),
        }
    }

    /// Starts a worker that loads a model and runs it once.
    ///
    /// # Errors
    /// As [`Local::open`](super::Local::open); `Ended` when the process does.
    pub fn open(command: Command, order: &Order, cancel: &Cancel) -> Result<Self, Fault> {
        let (mut process, _) = Self::start(command, &order.cores, cancel)?;
        match process.ask(&Request::Open(Box::new(order.clone())), None)? {
            (Reply::Opened(opened), _) => {
                process.opened = opened;
                Ok(process)
            }
            other => Err(unexpected(&other.0)),
        }
    }

    fn ask(&mut self, request: &Request, tensors: Option<&HashMap<String, Value>>) -> Result<(Reply, Outputs), Fault> {
        match write(&mut self.input, request, tensors.into_iter().flatten()) {
            // The process has ended, and so have its replies.
            Err(e) if e.kind() == ErrorKind::Io => {}
            sent => sent?,
        }
        match self.receive(None)? {
            (Reply::Failed(failure), _) => Err(Error::from(failure).into()),
            reply => Ok(reply),
        }
    }

    fn receive(&mut self, patience: Option<Duration>) -> Result<(Reply, Outputs), Fault> {
        let start = Instant::now();
        loop {
            match self.replies.recv_timeout(LOOK) {
                Ok(Ok(reply)) => return Ok(reply),
                Ok(Err(e)) => return Err(self.ended(Some(&e))),
                Err(RecvTimeoutError::Disconnected) => return Err(self.ended(None)),
                Err(RecvTimeoutError::Timeout) => {
                    self.cancel.check()?;
                    if patience.is_some_and(|p| start.elapsed() > p) {
                        return Err(Fault::Ended("it does not answer".into()));
                    }
                }
            }
        }
    }

    /// How the process ended, and what it last wrote; `broken` says why its answer cannot be read.
    fn ended(&mut self, broken: Option<&Error>) -> Fault {
        if self.cancel.is_cancelled() {
            return Fault::Error(Error::cancelled());
        }
        let until = Instant::now() + END;
        let mut status = self.child.try_wait();
        while matches!(status, Ok(None)) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
            status = self.child.try_wait();
        }
        let mut text = match (status, broken) {
            (Ok(Some(status)), _) if !status.success() => how(status),
            (Ok(_), Some(e)) => e.message().to_string(),
            (Ok(_), None) => "the process closed its output".into(),
            (Err(e), _) => e.to_string(),
        };
        let _ = self.child.kill();
        let words = self.last_words.recv_timeout(END).unwrap_or_default();
        if !words.is_empty() {
            text += &format!(": {words}");
        }
        Fault::Ended(text)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Carrier for Process {
    fn opened(&self) -> Opened {
        self.opened
    }
    fn step(&mut self, runs: usize) -> Result<Vec<f64>, Fault> {
        match self.ask(&Request::Step { runs }, None)? {
            (Reply::Times(times), _) if times.len() == runs => Ok(times),
            other => Err(unexpected(&other.0)),
        }
    }
    fn run_for(&mut self, seconds: f64) -> Result<usize, Fault> {
        match self.ask(&Request::RunFor { seconds }, None)? {
            (Reply::Ran(runs), _) => Ok(runs),
            other => Err(unexpected(&other.0)),
        }
    }
    fn run(&mut self, feeds: &HashMap<String, Value>) -> Result<Outputs, Fault> {
        match self.ask(&Request::Run, Some(feeds))? {
            (Reply::Outputs, outputs) => Ok(outputs),
            other => Err(unexpected(&other.0)),
        }
    }
    fn profile(&mut self, runs: usize) -> Result<Vec<StepTime>, Fault> {
        match self.ask(&Request::Profile { runs }, None)? {
            (Reply::Profile(steps), _) => Ok(steps),
            other => Err(unexpected(&other.0)),
        }
    }
    fn peak(&mut self) -> Result<Option<Peak>, Fault> {
        match self.ask(&Request::Peak, None)? {
            (Reply::Peak(peak), _) => Ok(peak),
            other => Err(unexpected(&other.0)),
        }
    }
}

fn unexpected(reply: &Reply) -> Fault {
    Error::internal(format!("a worker answered with {reply:?}")).into()
}

/// `the process was ended by signal 11 (SIGSEGV)`
fn how(status: ExitStatus) -> String {
    #[cfg(unix)]
    {
        use std::os::unix::process::ExitStatusExt;
        if let Some(signal) = status.signal() {
            let name = match signal {
                4 => " (SIGILL)",
                6 => " (SIGABRT)",
                8 => " (SIGFPE)",
                9 => " (SIGKILL, as by a system that runs out of memory)",
                11 => " (SIGSEGV)",
                15 => " (SIGTERM)",
                _ => "",
            };
            return format!("the process was ended by signal {signal}{name}");
        }
    }
    match status.code() {
        Some(code) => format!("the process ended with status {code}"),
        None => "the process ended".into(),
    }
}

/// The last lines of a stream, read to its end, in one.
fn tail(mut stream: impl Read) -> String {
    const KEPT: usize = 2048;
    let (mut kept, mut chunk) = (Vec::new(), [0; KEPT]);
    while let Ok(n @ 1..) = stream.read(&mut chunk) {
        kept.extend_from_slice(&chunk[..n]);
        let surplus = kept.len().saturating_sub(KEPT);
        kept.drain(..surplus);
    }
    let text = String::from_utf8_lossy(&kept);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    lines[lines.len().saturating_sub(3)..].join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_words_are_kept() {
        let noise = "x".repeat(10_000);
        assert_eq!(tail(format!("{noise}\na\n\n b \nc\nd\n").as_bytes()), "b c d");
        assert_eq!(tail(&b""[..]), "");
    }

    #[cfg(unix)]
    #[test]
    fn programs_that_are_no_workers_say_what_they_do() {
        let start = |program: &str| match Process::start(Process::command(Path::new(program)), &[], &Cancel::new()) {
            Err(Fault::Ended(how)) => how,
            other => panic!("{program}: {:?}", other.map(|p| p.1)),
        };
        assert!(start("/no/such/program").starts_with("it does not start"));
        assert_eq!(start("/bin/echo"), "'measure-' begins no message");
        assert_eq!(start("/bin/false"), "the process ended with status 1");
        let cancel = Cancel::new();
        cancel.cancel();
        assert!(matches!(Process::start(Process::command(Path::new("/bin/cat")), &[], &cancel), Err(Fault::Error(e)) if e.is_cancelled()));
    }
}
