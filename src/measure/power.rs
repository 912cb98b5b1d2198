//! Power, where a sensor truly reports it.
//!
//! Sensors, in order: the processor's energy counters (`/sys/class/powercap`, Intel and AMD RAPL), the same through
//! `perf stat`, and for models on an NVIDIA GPU the card's energy counter (NVML). A sensor is used only after a self-test:
//! its counter must rise while the processor works. Virtual machines often show counters that never move.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A sensor that passed its self-test.
#[derive(Debug)]
pub enum Meter {
    /// Energy counter files and the values at which they wrap around, in microjoules.
    Powercap(Vec<(PathBuf, u64)>),
    /// `perf stat` on the whole machine.
    Perf,
    /// Index of an NVIDIA GPU.
    Nvml(u32),
}

/// Energy and time of a piece of work.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Energy {
    /// Energy of the whole processor or GPU.
    pub joules: f64,
    /// Wall time.
    pub seconds: f64,
}

impl Energy {
    /// Mean power in watts.
    pub fn watts(self) -> f64 {
        self.joules / self.seconds
    }
}

impl Meter {
    /// The sensor of the processor, or why there is none.
    ///
    /// # Errors
    /// Each sensor with what is wrong with it, in a line.
    pub fn cpu() -> Result<Self, String> {
        let mut reasons = Vec::new();
        match powercap(Path::new("/sys/class/powercap")) {
            Ok(zones) => match tested(Self::Powercap(zones)) {
                Ok(meter) => return Ok(meter),
                Err(e) => reasons.push(format!("powercap: {e}")),
            },
            Err(e) => reasons.push(format!("powercap: {e}")),
        }
        match perf_available().and_then(|()| tested(Self::Perf)) {
            Ok(meter) => return Ok(meter),
            Err(e) => reasons.push(format!("perf: {e}")),
        }
        Err(reasons.join("; "))
    }

    /// The sensor of NVIDIA GPU `index`, or why there is none.
    ///
    /// # Errors
    /// What NVML says.
    pub fn gpu(index: u32) -> Result<Self, String> {
        let meter = Self::Nvml(index);
        meter
            .measure(|| std::thread::sleep(Duration::from_millis(200)))
            .1
            .and_then(|e| if e.joules > 0.0 { Ok(meter) } else { Err("the card's energy counter does not move".into()) })
    }

    /// As reports name it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Powercap(_) => "RAPL (powercap)",
            Self::Perf => "RAPL (perf)",
            Self::Nvml(_) => "NVML",
        }
    }

    /// Runs `work` and says what it took. All of the machine counts, not this process alone.
    pub fn measure<T>(&self, work: impl FnOnce() -> T) -> (T, Result<Energy, String>) {
        let before = match self.start() {
            Ok(b) => b,
            Err(e) => return (work(), Err(e)),
        };
        let start = Instant::now();
        let result = work();
        let seconds = start.elapsed().as_secs_f64();
        let energy = self.joules_since(before).map(|joules| Energy { joules, seconds });
        (result, energy)
    }

    fn start(&self) -> Result<Reading, String> {
        Ok(match self {
            Self::Powercap(zones) => Reading::Counters(zones.iter().map(|(p, _)| counter(p)).collect::<Result<_, _>>()?),
            Self::Perf => Reading::Child(perf_start()?),
            Self::Nvml(index) => Reading::Counters(vec![nvml_millijoules(*index)?]),
        })
    }

    #[expect(clippy::cast_precision_loss, reason = "energy differences are far below 2^53 microjoules")]
    fn joules_since(&self, before: Reading) -> Result<f64, String> {
        match (self, before) {
            (Self::Powercap(zones), Reading::Counters(old)) => {
                let mut total = 0.0;
                for ((path, wrap), old) in zones.iter().zip(old) {
                    total += risen(old, counter(path)?, *wrap) as f64 / 1e6;
                }
                Ok(total)
            }
            (Self::Nvml(index), Reading::Counters(old)) => {
                Ok(nvml_millijoules(*index)?.saturating_sub(old.first().copied().unwrap_or(0)) as f64 / 1e3)
            }
            (_, Reading::Child(child)) => perf_stop(child),
            _ => Err("the reading is of another sensor".into()),
        }
    }
}

enum Reading {
    Counters(Vec<u64>),
    Child(Child),
}

/// A meter, if its counter rises while one core computes for a moment.
fn tested(meter: Meter) -> Result<Meter, String> {
    let busy = || {
        let until = Instant::now() + Duration::from_millis(150);
        let mut x = 1u64;
        while Instant::now() < until {
            for _ in 0..10_000 {
                x = std::hint::black_box(x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
            }
        }
    };
    match meter.measure(busy).1 {
        Ok(e) if e.joules > 0.0 => Ok(meter),
        Ok(_) => Err("the energy counter does not move (usual in virtual machines)".into()),
        Err(e) => Err(e),
    }
}

/// Energy counters of whole processor packages below `root`.
fn powercap(root: &Path) -> Result<Vec<(PathBuf, u64)>, String> {
    let entries = std::fs::read_dir(root).map_err(|_| format!("no {}", root.display()))?;
    let mut zones = Vec::new();
    let mut denied = false;
    for folder in entries.flatten().map(|e| e.path()) {
        // `intel-rapl:0` is a package, `intel-rapl:0:1` a part of it.
        let name = folder.file_name().and_then(|n| n.to_str()).unwrap_or_default().to_string();
        if name.matches(':').count() != 1 || !name.contains("rapl") || name.contains("mmio") {
            continue;
        }
        let path = folder.join("energy_uj");
        match counter(&path) {
            Ok(_) => zones.push((path, counter(&folder.join("max_energy_range_uj")).unwrap_or(u64::MAX))),
            Err(_) => denied |= path.exists(),
        }
    }
    match (zones.is_empty(), denied) {
        (false, _) => Ok(zones),
        (true, true) => Err("the energy counters may only be read by root".into()),
        (true, false) => Err("no energy counters (no RAPL on this machine)".into()),
    }
}

fn counter(path: &Path) -> Result<u64, String> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    text.trim().parse().map_err(|_| format!("{} holds no number", path.display()))
}

/// How far a counter that wraps around at `wrap` has risen.
fn risen(old: u64, new: u64, wrap: u64) -> u64 {
    if new >= old { new - old } else { new + (wrap - old) }
}

const PERF_EVENT: &str = "power/energy-pkg/";

fn perf_available() -> Result<(), String> {
    if Path::new("/sys/bus/event_source/devices/power/events/energy-pkg").exists() {
        Ok(())
    } else {
        Err("no energy events (no RAPL on this machine)".into())
    }
}

/// `perf stat` counts until its command ends; the command is `cat`, which ends when its input closes.
fn perf_start() -> Result<Child, String> {
    Command::new("perf")
        .args(["stat", "-a", "-x", ";", "-e", PERF_EVENT, "--", "cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| format!("perf cannot be run: {e}"))
}

fn perf_stop(mut child: Child) -> Result<f64, String> {
    drop(child.stdin.take());
    let mut text = String::new();
    if let Some(mut out) = child.stderr.take() {
        out.read_to_string(&mut text).map_err(|e| e.to_string())?;
    }
    child.wait().map_err(|e| e.to_string())?;
    perf_joules(&text)
}

/// Reads `12.34;Joules;power/energy-pkg/;…`.
fn perf_joules(text: &str) -> Result<f64, String> {
    let line = text.lines().find(|l| l.contains(PERF_EVENT)).ok_or_else(|| text.lines().next().unwrap_or("no output").to_string())?;
    let value = line.split(';').next().unwrap_or_default();
    value.trim().parse().map_err(|_| format!("perf reports {value}"))
}

fn nvml_millijoules(index: u32) -> Result<u64, String> {
    let nvml = nvml_wrapper::Nvml::init().map_err(|e| format!("no NVIDIA driver ({e})"))?;
    let device = nvml.device_by_index(index).map_err(|e| e.to_string())?;
    device.total_energy_consumption().map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_wrap_around() {
        assert_eq!(risen(10, 25, 100), 15);
        assert_eq!(risen(90, 5, 100), 15);
    }

    #[test]
    fn packages_are_found_and_their_parts_are_not() {
        let root = tempfile::tempdir().unwrap();
        for (name, energy) in [("intel-rapl:0", "1000"), ("intel-rapl:0:0", "400"), ("intel-rapl", ""), ("dtpm", "1")] {
            let zone = root.path().join(name);
            std::fs::create_dir(&zone).unwrap();
            std::fs::write(zone.join("energy_uj"), energy).unwrap();
            std::fs::write(zone.join("max_energy_range_uj"), "65532610987\n").unwrap();
        }
        let zones = powercap(root.path()).unwrap();
        assert_eq!(zones, [(root.path().join("intel-rapl:0/energy_uj"), 65_532_610_987)]);
    }

    #[test]
    fn a_counter_that_stands_still_fails_the_self_test() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("energy_uj");
        std::fs::write(&path, "5000").unwrap();
        let e = tested(Meter::Powercap(vec![(path, u64::MAX)])).unwrap_err();
        assert!(e.contains("does not move"), "{e}");
        assert!(powercap(root.path()).unwrap_err().contains("no energy counters"));
    }

    #[test]
    fn perfs_answer_is_read() {
        assert_eq!(perf_joules("12.50;Joules;power/energy-pkg/;100;100.00;;\n"), Ok(12.5));
        assert!(perf_joules("<not counted>;Joules;power/energy-pkg/;0;100.00;;\n").is_err());
        assert!(perf_joules("Error: no permission\n").is_err());
    }

    #[test]
    fn this_machine_reports_power_or_says_why_not() {
        match Meter::cpu() {
            Ok(meter) => assert!(meter.measure(|| std::thread::sleep(Duration::from_millis(300))).1.unwrap().watts() > 0.0),
            Err(reason) => assert!(reason.contains("powercap") && reason.contains("perf"), "{reason}"),
        }
    }
}
