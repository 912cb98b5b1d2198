//! The process that runs cells: interrupting it, ending it, and with it the compiler.

use crate::shell::interrupt::PATIENCE;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, System, UpdateKind};

/// How long an interrupted cell may go on before its process is killed.
const GRACE: Duration = Duration::from_secs(5);

/// How often an interrupted cell's compiler is looked for: it may be about to start.
const LOOK: Duration = Duration::from_millis(200);

/// A handle that stays valid when the process is started anew.
pub type Handle = Arc<Mutex<std::process::Child>>;

/// How a cell has ended.
#[derive(Debug, PartialEq, Eq)]
pub enum CellEnd {
    Alone,
    Interrupted,
    /// Interrupted before anything of it ran: what the compiler says about its end is of no use.
    Uncompiled,
}

/// The process that runs cells. Clones are the same process.
#[derive(Clone)]
pub struct Child {
    handle: Handle,
    /// Where cells are written and compiled, when that is known.
    folder: Option<PathBuf>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// Counts the cells.
    cell: u64,
    running: bool,
    /// When the running cell was first interrupted.
    first: Option<Instant>,
    /// The interrupt has ended the compiler.
    uncompiled: bool,
    /// Objects that were there when the cell began.
    objects: usize,
    /// The process still has to hear that its work may go on.
    told: bool,
}

impl Child {
    pub fn new(handle: Handle, crate_folder: Option<PathBuf>) -> Self {
        // Processes are found by it, which know it by its own name.
        let folder = crate_folder.map(|f| f.canonicalize().unwrap_or(f));
        Self { handle, folder, state: Arc::default() }
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

    pub fn cell_ends(&self) -> CellEnd {
        let mut state = self.state();
        state.running = false;
        match (state.first.take(), std::mem::take(&mut state.uncompiled)) {
            (None, _) => CellEnd::Alone,
            (Some(_), false) => CellEnd::Interrupted,
            (Some(_), true) => CellEnd::Uncompiled,
        }
    }

    /// The process is a new one, which knows of no interrupt.
    pub fn replaced(&self) {
        self.state().told = false;
    }

    /// Asks the running cell to end. Its compiler is ended. A cell that runs and does not end is killed with its process: some
    /// seconds later, or at once when it is asked again after [`PATIENCE`].
    pub fn interrupt(&self) {
        let mut state = self.state();
        if !state.running {
            return;
        }
        match state.first {
            Some(first) if first.elapsed() < PATIENCE => {}
            Some(_) if self.is_compiled(&state) => self.stop(),
            Some(_) => {}
            None => {
                state.first = Some(Instant::now());
                state.told = true;
                self.signal(Signal::INT);
                let (child, cell) = (self.clone(), state.cell);
                std::thread::spawn(move || {
                    let first = Instant::now();
                    loop {
                        let mut state = child.state();
                        if !state.running || state.cell != cell {
                            return;
                        }
                        if child.is_compiled(&state) {
                            if first.elapsed() >= GRACE {
                                return child.stop();
                            }
                        } else {
                            state.uncompiled |= child.stop_compiler();
                        }
                        drop(state);
                        std::thread::sleep(LOOK);
                    }
                });
            }
        }
    }

    /// Whether the running cell may run: until it is compiled nothing of it does.
    fn is_compiled(&self, state: &State) -> bool {
        self.folder.is_none() || self.count_objects() > state.objects
    }

    /// Kills what works in the folder of cells: cargo, rustc and the linker. Says whether there was any.
    fn stop_compiler(&self) -> bool {
        let Some(folder) = &self.folder else { return false };
        let Ok(mut system) = System::new() else { return false };
        let what = ProcessRefreshKind::nothing().with_cwd(UpdateKind::Always).without_tasks();
        system.refresh_processes_specifics(ProcessesToUpdate::All, true, what);
        let compilers = system.processes().values().filter(|p| p.cwd() == Some(folder));
        compilers.filter(|p| p.kill()).count() > 0
    }

    /// Ends the process at once.
    pub fn stop(&self) {
        self.signal(Signal::KILL);
    }

    /// Ends the process for good and takes away what the compiler wrote for it.
    pub fn end(&self) {
        self.stop();
        // A folder that the user has named stays.
        let temporary = std::env::temp_dir().canonicalize().unwrap_or_else(|_| std::env::temp_dir());
        let own = |f: &&PathBuf| f.starts_with(&temporary) && f.file_name().is_some_and(|n| n.to_string_lossy().starts_with(".tmp"));
        if let Some(folder) = self.folder.as_ref().filter(own) {
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
        let Some(folder) = self.folder.as_ref().map(|f| f.join("target")) else { return 0 };
        let is_object = |path: &Path| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(OBJECT_PREFIX));
        let inside = |folder: &Path| std::fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path()).collect::<Vec<_>>();
        // target/TRIPLE/debug[/deps]
        let triples = inside(&folder).into_iter().map(|t| t.join("debug"));
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
        assert_eq!((child.cell_ends(), child.cell_ends()), (CellEnd::Interrupted, CellEnd::Alone));
    }

    #[test]
    fn an_interrupt_ends_the_compiler() {
        let (child, dir) = shell("trap '' INT; echo r; while :; do sleep 0.05; done");
        wait_for_ready(&child);
        child.cell_begins();
        child.interrupt();
        // It starts late, and again.
        for _ in 0..2 {
            let begin = Instant::now();
            let mut compiler = Command::new("sleep").arg("60").current_dir(dir.path()).spawn().unwrap();
            assert!(!compiler.wait().unwrap().success());
            assert!(begin.elapsed() < Duration::from_secs(30));
        }
        assert!(child.handle.lock().unwrap().try_wait().unwrap().is_none(), "what holds the variables lives");
        assert_eq!(child.cell_ends(), CellEnd::Uncompiled);
        child.stop();
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
