//! A Slurm of one node on this host, from the system's packages, for as long as a test runs.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

pub struct Cluster {
    folder: TempDir,
    munge: Child,
    controller: Option<Child>,
    node: Child,
}

fn program(name: &str) -> Option<String> {
    ["/usr/sbin", "/usr/bin"].iter().map(|d| format!("{d}/{name}")).find(|p| Path::new(p).is_file())
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Cluster {
    /// `None`, with a line that says so, where the programs are not installed or this user may not run them.
    pub fn start() -> Option<Self> {
        let missing: Vec<&str> = ["munged", "slurmctld", "slurmd", "sbatch"].into_iter().filter(|p| program(p).is_none()).collect();
        let user = Command::new("id").arg("-un").output().ok().map(|o| String::from_utf8_lossy(&o.stdout).trim().to_string())?;
        if !missing.is_empty() || user != "root" {
            let why = if missing.is_empty() { "slurmd wants root".into() } else { format!("without {}", missing.join(", ")) };
            eprintln!("left out: the sweep on Slurm ({why})");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        ["state", "spool", "munge"].iter().for_each(|d| std::fs::create_dir(folder.path().join(d)).unwrap());
        std::fs::write(at("munge/key"), [7; 1024]).unwrap();
        for (path, mode) in [(at("munge"), "755"), (at(""), "755"), (at("munge/key"), "400")] {
            assert!(Command::new("chmod").args([mode, &path]).status().unwrap().success());
        }
        let munge = Command::new(program("munged")?)
            .args(["--foreground", "--force", "--key-file", &at("munge/key"), "--socket", &at("munge/socket")])
            .args(["--pid-file", &at("munge/pid"), "--log-file", &at("munge/log"), "--seed-file", &at("munge/seed")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap().trim().to_string();
        let cores = std::thread::available_parallelism().unwrap().get();
        let (controller, node) = (free_port(), free_port());
        let lines = [
            format!("ClusterName=test\nSlurmctldHost={host}(127.0.0.1)\nSlurmUser=root\nSlurmdUser=root"),
            format!("AuthType=auth/munge\nAuthInfo=socket={}", at("munge/socket")),
            format!("SlurmctldPort={controller}\nSlurmdPort={node}"),
            format!("StateSaveLocation={}\nSlurmdSpoolDir={}", at("state"), at("spool")),
            format!("SlurmctldPidFile={}\nSlurmdPidFile={}", at("slurmctld.pid"), at("slurmd.pid")),
            format!("SlurmctldLogFile={}\nSlurmdLogFile={}", at("slurmctld.log"), at("slurmd.log")),
            "ProctrackType=proctrack/pgid\nTaskPlugin=task/none\nMpiDefault=none\nSwitchType=switch/none".into(),
            "SelectType=select/cons_tres\nSelectTypeParameters=CR_Core\nReturnToService=2".into(),
            "SchedulerParameters=sched_interval=1,batch_sched_delay=0\nMessageTimeout=2\nKillWait=1\nInactiveLimit=0\nJobAcctGatherType=jobacct_gather/none".into(),
            format!("NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} State=UNKNOWN"),
            format!("PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP\n"),
        ];
        std::fs::write(at("slurm.conf"), lines.join("\n")).unwrap();
        let node = daemon("slurmd", folder.path(), &["-D"]);
        let mut cluster = Self { folder, munge, controller: None, node };
        cluster.start_controller();
        let begin = Instant::now();
        while !cluster.state().contains("idle") {
            if begin.elapsed() > Duration::from_secs(30) {
                let log = |name: &str| std::fs::read_to_string(cluster.folder.path().join(name)).unwrap_or_default();
                panic!("the node does not come up: {}\n{}\n{}", cluster.state(), log("slurmctld.log"), log("slurmd.log"));
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        Some(cluster)
    }

    /// Makes a command see this cluster.
    pub fn environment(&self, command: &mut Command) {
        command.env("SLURM_CONF", self.folder.path().join("slurm.conf"));
    }

    pub fn start_controller(&mut self) {
        self.controller = Some(daemon("slurmctld", self.folder.path(), &["-D"]));
    }

    pub fn kill_controller(&mut self) {
        if let Some(mut controller) = self.controller.take() {
            controller.kill().unwrap();
            controller.wait().unwrap();
        }
    }

    /// What `sinfo` and `squeue` say.
    pub fn state(&self) -> String {
        let say = |tool: &str| {
            let mut command = Command::new(tool);
            self.environment(&mut command);
            let o = command.output().unwrap();
            format!("{}{}", String::from_utf8_lossy(&o.stdout), String::from_utf8_lossy(&o.stderr))
        };
        format!("{}{}", say("sinfo"), say("squeue"))
    }
}

fn daemon(name: &str, folder: &Path, args: &[&str]) -> Child {
    let mut command = Command::new(program(name).unwrap());
    command.args(args).args(["-f", &folder.join("slurm.conf").display().to_string()]);
    command.env("SLURM_CONF", folder.join("slurm.conf")).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap()
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // What watches over a job ends when it has told the controller how that ended.
        let begin = Instant::now();
        let mut queue = Command::new("squeue");
        self.environment(queue.arg("--noheader"));
        while begin.elapsed() < Duration::from_secs(10) && queue.output().is_ok_and(|o| !o.stdout.is_empty()) {
            std::thread::sleep(Duration::from_millis(200));
        }
        self.kill_controller();
        for child in [&mut self.node, &mut self.munge] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
