//! The jobs of a sweep as processes of this machine.

use crate::job::{Job, Settings};
use compresso_base::context::Context;
use compresso_base::error::{Error, Result};
use std::fs::File;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

/// How often it is looked who has ended.
const LOOK: Duration = Duration::from_millis(20);
/// How long a process may take to end when it is told to.
const PATIENCE: Duration = Duration::from_secs(2);

/// A process, and the pipe at whose end it ends too: it does not outlive this one, however that ends.
struct Running<'a> {
    job: &'a Job,
    child: Child,
    tether: Option<ChildStdin>,
}

/// All processes that run. They end when this is dropped.
#[derive(Default)]
struct Pool<'a>(Vec<Running<'a>>);

impl Drop for Pool<'_> {
    fn drop(&mut self) {
        self.0.iter_mut().for_each(|r| drop(r.tether.take()));
        let until = Instant::now() + PATIENCE;
        for running in &mut self.0 {
            while Instant::now() < until && matches!(running.child.try_wait(), Ok(None)) {
                std::thread::sleep(LOOK);
            }
            let _ = running.child.kill();
            let _ = running.child.wait();
        }
    }
}

/// Runs the jobs, `workers` at a time. `ended` is told of each, with its exit code; none for one that a signal ended.
///
/// # Errors
/// `Cancelled`, after all processes have ended; `Io` where none can be started; what `ended` reports.
pub fn run(
    jobs: &[&Job],
    workers: usize,
    settings: &Settings,
    ctx: &Context,
    ended: &mut dyn FnMut(&Job, Option<i32>) -> Result<()>,
) -> Result<()> {
    let mut waiting = jobs.iter();
    let mut pool = Pool::default();
    loop {
        ctx.check()?;
        while pool.0.len() < workers
            && let Some(job) = waiting.next()
        {
            pool.0.push(start(job, settings)?);
        }
        if pool.0.is_empty() {
            return Ok(());
        }
        let mut i = 0;
        while i < pool.0.len() {
            match pool.0[i].child.try_wait().map_err(|e| Error::internal("a process cannot be waited for").because(e))? {
                Some(status) => ended(pool.0.remove(i).job, status.code())?,
                None => i += 1,
            }
        }
        std::thread::sleep(LOOK);
    }
}

fn start<'a>(job: &'a Job, settings: &Settings) -> Result<Running<'a>> {
    let path = job.log();
    let log = File::create(&path).map_err(|e| Error::io(&path, e))?;
    let errors = log.try_clone().map_err(|e| Error::io(&path, e))?;
    let mut command = Command::new(&settings.program);
    command.args(settings.arguments(job)).arg("--tethered").stdin(Stdio::piped()).stdout(log).stderr(errors);
    #[cfg(unix)]
    {
        use std::os::unix::process::CommandExt;
        // Ctrl-C goes to the sweep alone, which ends its processes.
        command.process_group(0);
    }
    let mut child = command.spawn().map_err(|e| Error::io(&settings.program, e))?;
    let tether = child.stdin.take();
    Ok(Running { job, child, tether })
}
