//! The conditions under which something was measured.

use serde::Serialize;
use std::time::{SystemTime, UNIX_EPOCH};

/// What a figure depends on beside the model.
#[derive(Debug, Clone, Serialize)]
pub struct Environment {
    /// The processor's model name.
    pub cpu: String,
    /// Cores that this process may use.
    pub cores: usize,
    /// Vector instructions that matter to the kernels.
    pub features: Vec<&'static str>,
    /// Main memory of the machine; 0 where it is not known.
    pub memory_bytes: u64,
    /// Operating system and version.
    pub system: String,
    /// Version of this library, and whether it is optimized.
    pub version: String,
    /// Name and version of each other runtime that was used.
    pub runtimes: Vec<String>,
    /// UTC, as 2026-01-31T12:00:00Z.
    pub date: String,
    /// Processes that ran or waited to, on average over the last minute, those measured among them.
    pub load: Option<f64>,
    /// What sets the clock of the processor: `performance`, `powersave`, …
    pub governor: Option<String>,
    /// Clock of the fastest core at this moment, in MHz.
    pub clock_mhz: Option<f64>,
}

impl Environment {
    /// The conditions at this moment, with names and versions of the other runtimes as given.
    pub fn now(runtimes: Vec<String>) -> Self {
        let memory = sysinfo::System::new().map_or(0, |mut s| {
            s.refresh_memory();
            s.total_memory()
        });
        let build = if cfg!(debug_assertions) { " (debug build)" } else { "" };
        Self {
            cpu: cpu_model().unwrap_or_else(|| "unknown processor".into()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            features: features(),
            memory_bytes: memory,
            system: sysinfo::System::long_os_version().unwrap_or_else(|_| std::env::consts::OS.into()),
            version: format!("compresso {}{build}", env!("CARGO_PKG_VERSION")),
            runtimes,
            date: utc_now(),
            load: std::fs::read_to_string("/proc/loadavg").ok().and_then(|t| t.split_whitespace().next()?.parse().ok()),
            governor: std::fs::read_to_string("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").ok().map(|t| t.trim().into()),
            clock_mhz: clock(&std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default()),
        }
    }
    /// The conditions in lines.
    pub fn lines(&self) -> Vec<String> {
        let mut first = format!("{}, {} cores", self.cpu, self.cores);
        if !self.features.is_empty() {
            first += &format!(" ({})", self.features.join(", "));
        }
        let mut versions = vec![self.version.clone()];
        versions.extend(self.runtimes.iter().cloned());
        let mut lines = vec![first, format!("{}; {}; {}", versions.join(", "), self.system, self.date)];
        let load = self.load.map(|l| format!("load {l:.1}"));
        let clock = self.clock_mhz.map(|mhz| format!("{:.2} GHz", mhz / 1e3));
        let governor = self.governor.as_ref().map(|g| format!("governor {g}"));
        let state: Vec<String> = [load, clock, governor].into_iter().flatten().collect();
        lines.extend((!state.is_empty()).then(|| state.join(", ")));
        lines
    }
}

fn cpu_model() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|l| l.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_string())
}

fn clock(cpuinfo: &str) -> Option<f64> {
    let of = |line: &str| line.strip_prefix("cpu MHz")?.split_once(':')?.1.trim().parse::<f64>().ok();
    cpuinfo.lines().filter_map(of).reduce(f64::max)
}

/// The vector instruction sets of this processor.
pub fn features() -> Vec<&'static str> {
    #[cfg(target_arch = "x86_64")]
    {
        let mut found = Vec::new();
        macro_rules! detect {
            ($($name:tt),+) => { $(if std::arch::is_x86_feature_detected!($name) { found.push($name); })+ };
        }
        detect!("avx2", "fma", "avx512f", "avx512vnni");
        found
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        Vec::new()
    }
}

/// This second in UTC, as 2026-01-31T12:00:00Z.
pub fn utc_now() -> String {
    utc(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs()))
}

/// Seconds since 1970 as a UTC date and time (proleptic Gregorian calendar).
fn utc(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Years run from March, so that the leap day comes last: 400 years have 146 097 days.
    let days = days + 719_468;
    let era = days / 146_097;
    let day = days % 146_097;
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = era * 400 + year + carry;
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3_600, rest / 60 % 60, rest % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `date -u -d @SECONDS +%FT%TZ`.
    #[test]
    fn dates_are_the_calendars() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(utc(seconds), text);
        }
    }

    #[test]
    fn the_clock_is_the_fastest_cores() {
        assert_eq!(clock("cpu MHz\t\t: 2100.0\nflags : x\ncpu MHz\t\t: 2800.5\n"), Some(2800.5));
        assert_eq!(clock("flags : x\n"), None);
    }

    #[test]
    fn this_machine_is_described() {
        let e = Environment::now(vec!["onnxruntime 1.24".into()]);
        assert!(e.cores >= 1 && e.memory_bytes > 1 << 20);
        assert!(e.lines()[1].contains("compresso") && e.lines()[1].contains("onnxruntime 1.24"));
    }
}
