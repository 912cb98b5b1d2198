//! The process that runs cells: interrupting it, ending it.

use crate::shell::interrupt::PATIENCE;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long an interrupted cell may go on before its process is killed.
const GRACE: Duration = Duration::from_secs(5);

/// A handle that stays valid when the process is started anew.
pub type Handle = Arc<Mutex<std::process::Child>>;

/// The process that runs cells. Clones are the same process.
#[derive(Clone)]
pub struct Child {
    handle: Handle,
    /// Where the compiler puts the code of cells, when that is known.
    objects: Option<PathBuf>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// Counts the cells.
    cell: u64,
    running: bool,
    /// When the running cell was first interrupted.
    first: Option<Instant>,
    /// Objects that were there when the cell began.
    objects: usize,
    /// The process still has to hear that its work may go on.
    told: bool,
}

impl Child {
    pub fn new(handle: Handle, crate_folder: Option<PathBuf>) -> Self {
        Self { handle, objects: crate_folder.map(|f| f.join("target")), state: Arc::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Number of the process.
    pub fn id(&self) -> u32 {
        self.handle.lock().unwrap_or_else(PoisonError::into_inner).id()
    }

    pub fn cell_begins(&self) {
        let objects = self.count_objects();
        let mut state = self.state();
        if std::mem::take(&mut state.told) {
            self.signal(Signal::USR1);
        }
        *state = State { cell: state.cell + 1, running: true, objects, ..State::default() };
    }

    /// Whether the cell was interrupted.
    pub fn cell_ends(&self) -> bool {
        let mut state = self.state();
        state.running = false;
        state.first.take().is_some()
    }

    /// The process is a new one, which knows of no interrupt.
    pub fn replaced(&self) {
        self.state().told = false;
    }

    /// Asks the running cell to end. A cell that does not is killed with its process: some seconds later, or at once when
    /// it is asked again after [`PATIENCE`].
    pub fn interrupt(&self) {
        let mut state = self.state();
        if !state.running {
            return;
        }
        match state.first {
            Some(first) if first.elapsed() < PATIENCE => {}
            Some(_) => self.kill_if_running(&state),
            None => {
                state.first = Some(Instant::now());
                state.told = true;
                self.signal(Signal::INT);
                let (child, cell) = (self.clone(), state.cell);
                std::thread::spawn(move || {
                    std::thread::sleep(GRACE);
                    let state = child.state();
                    if state.running && state.cell == cell {
                        child.kill_if_running(&state);
                    }
                });
            }
        }
    }

    /// Kills the process unless the cell is still being compiled, when nothing of it runs.
    fn kill_if_running(&self, state: &State) {
        if self.objects.is_none() || self.count_objects() > state.objects {
            self.stop();
        }
    }

    /// Ends the process at once.
    pub fn stop(&self) {
        self.signal(Signal::KILL);
    }

    /// Ends the process for good and takes away what the compiler wrote for it.
    pub fn end(&self) {
        self.stop();
        let folder = self.objects.as_deref().and_then(Path::parent);
        // A folder that the user has named stays.
        let own = |f: &&Path| f.starts_with(std::env::temp_dir()) && f.file_name().is_some_and(|n| n.to_string_lossy().starts_with(".tmp"));
        if let Some(folder) = folder.filter(own) {
            let _ = std::fs::remove_dir_all(folder);
        }
    }

    fn signal(&self, signal: Signal) {
        let mut child = self.handle.lock().unwrap_or_else(PoisonError::into_inner);
        // A process that has ended may have left its number to another.
        if matches!(child.try_wait(), Ok(None)) {
            let id = Pid::from_child(&child);
            // What a cell has started holds its outputs open and would keep the cell running.
            let _ = if signal == Signal::USR1 { kill_process(id, signal) } else { kill_process_group(id, signal) };
        }
    }

    /// Cells that the compiler has finished. evcxr runs one as soon as it is there.
    fn count_objects(&self) -> usize {
        let Some(folder) = &self.objects else { return 0 };
        let is_object = |path: &Path| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(OBJECT_PREFIX));
        let inside = |folder: &Path| std::fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path()).collect::<Vec<_>>();
        // target/TRIPLE/debug[/deps]
        let triples = inside(folder).into_iter().map(|t| t.join("debug"));
        triples.flat_map(|debug| [inside(&debug), inside(&debug.join("deps"))]).flatten().filter(|p| is_object(p)).count()
    }
}

/// How the files begin that evcxr makes of compiled cells.
const OBJECT_PREFIX: &str = "libcode_";

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};

    /// A process that ends with 7 on SIGINT, unless it is deaf to it.
    fn shell(script: &str) -> (Child, tempfile::TempDir) {
        let process = Command::new("sh").args(["-c", script]).process_group(0).stdout(Stdio::piped()).spawn().unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("target/t/debug")).unwrap();
        (Child::new(Arc::new(Mutex::new(process)), Some(dir.path().to_path_buf())), dir)
    }

    fn wait_for_ready(child: &Child) {
        let mut ready = [0; 1];
        let mut stdout = child.handle.lock().unwrap().stdout.take().unwrap();
        std::io::Read::read_exact(&mut stdout, &mut ready).unwrap();
    }

    #[test]
    fn an_interrupt_reaches_a_running_cell_only() {
        let (child, _dir) = shell("trap 'exit 7' INT; echo r; while :; do sleep 0.05; done");
        wait_for_ready(&child);
        child.interrupt();
        std::thread::sleep(Duration::from_millis(200));
        assert!(child.handle.lock().unwrap().try_wait().unwrap().is_none());
        child.cell_begins();
        child.interrupt();
        assert_eq!(child.handle.lock().unwrap().wait().unwrap().code(), Some(7));
        assert!(child.cell_ends() && !child.cell_ends());
    }

    #[test]
    fn a_second_interrupt_kills_what_runs_and_spares_what_is_compiled() {
        let (child, dir) = shell("trap '' INT; echo r; while :; do sleep 0.05; done");
        wait_for_ready(&child);
        child.cell_begins();
        child.interrupt();
        std::thread::sleep(PATIENCE);
        child.interrupt();
        assert!(child.handle.lock().unwrap().try_wait().unwrap().is_none(), "nothing runs yet");
        std::fs::write(dir.path().join("target/t/debug/libcode_1.so"), b"").unwrap();
        child.interrupt();
        assert!(!child.handle.lock().unwrap().wait().unwrap().success());
    }
}
