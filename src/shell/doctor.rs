//! `compresso doctor`: what this machine has, what each part is needed for, and how to get what is missing.

use crate::measure::runtimes::{RUNTIMES, RuntimeSpec, find_library};
use crate::report::{Graphics, Show, Style, Table, bytes};
use crate::shell::jupyter::install;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// One thing that was looked for.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// What was looked for: `GPU`, the name of a runtime.
    pub part: &'static str,
    /// Whether it is there and can be used.
    pub found: bool,
    /// What was found, or why it cannot be used.
    pub detail: String,
    /// What cannot be done, or is slow, without it.
    pub needed_for: &'static str,
    /// How to get it, when it is missing.
    pub get: &'static str,
}

/// Everything that was looked for.
#[derive(Debug, Clone, Serialize)]
pub struct Diagnosis {
    /// In the order in which they are shown.
    pub findings: Vec<Finding>,
}

/// Looks at the machine. Takes up to a second: it loads the libraries that it finds.
pub fn diagnose() -> Diagnosis {
    let mut findings = vec![build(), cpu(), memory(), gpu()];
    findings.extend(RUNTIMES.iter().map(|r| runtime(r)));
    findings.extend([tensorrt(), jupyter(), terminal()]);
    Diagnosis { findings }
}

impl Show for Diagnosis {
    fn tables(&self) -> Vec<Table> {
        let mut t = Table::new(concat!("compresso ", env!("CARGO_PKG_VERSION")), &["part", "found", "detail", "needed for"]);
        for f in &self.findings {
            t.row([f.part, if f.found { "yes" } else { "no" }, &f.detail, f.needed_for]);
        }
        vec![t]
    }
    fn notes(&self) -> Vec<String> {
        self.findings.iter().filter(|f| !f.found && !f.get.is_empty()).map(|f| format!("{}: {}", f.part, f.get)).collect()
    }
    fn data(&self) -> serde_json::Value {
        let entry = |f: &Finding| (f.part.to_lowercase(), serde_json::json!({ "found": f.found, "detail": f.detail }));
        self.findings.iter().map(entry).collect::<serde_json::Map<_, _>>().into()
    }
}

fn build() -> Finding {
    let cuda = match (cfg!(feature = "cuda"), option_env!("COMPRESSO_CUDA")) {
        (true, Some(libraries)) => format!("with CUDA, whose libraries are {libraries}"),
        (true, None) => "with CUDA".to_string(),
        (false, _) => "without CUDA".to_string(),
    };
    let profile = if cfg!(debug_assertions) { "debug build, slow" } else { "release build" };
    let detail = format!("{}-{}, {profile}, {cuda}", std::env::consts::ARCH, std::env::consts::OS);
    Finding { part: "Build", found: true, detail, needed_for: "everything", get: "" }
}

fn cpu() -> Finding {
    let model = cpu_model().unwrap_or_else(|| "unknown model".into());
    let logical = std::thread::available_parallelism().map_or(1, usize::from);
    let features = cpu_features();
    let features = if features.is_empty() { "no vector extensions known".to_string() } else { features.join(", ") };
    let detail = format!("{model}, {logical} threads; {features}");
    Finding { part: "CPU", found: true, detail, needed_for: "everything; AVX-512 and VNNI make matrix products and int8 fast", get: "" }
}

fn cpu_model() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|l| l.starts_with("model name") || l.starts_with("Model"))?;
    Some(line.split_once(':')?.1.trim().to_string())
}

fn cpu_features() -> Vec<&'static str> {
    #[cfg(target_arch = "x86_64")]
    {
        let all = [
            ("AVX2", std::arch::is_x86_feature_detected!("avx2")),
            ("FMA", std::arch::is_x86_feature_detected!("fma")),
            ("AVX-512", std::arch::is_x86_feature_detected!("avx512f")),
            ("VNNI", std::arch::is_x86_feature_detected!("avx512vnni")),
        ];
        all.into_iter().filter(|f| f.1).map(|f| f.0).collect()
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        Vec::new()
    }
}

fn memory() -> Finding {
    let kind = sysinfo::RefreshKind::nothing().with_memory(sysinfo::MemoryRefreshKind::everything());
    let (found, detail) = match sysinfo::System::new_with_specifics(kind) {
        Ok(s) => (true, format!("{} in all, {} free", bytes(s.total_memory()), bytes(s.available_memory()))),
        Err(e) => (false, format!("unknown: {e}")),
    };
    Finding { part: "Memory", found, detail, needed_for: "training: a few GB", get: "" }
}

fn gpu() -> Finding {
    let (found, detail) = match gpus() {
        Ok(list) if list.is_empty() => (false, "the driver sees no GPU".to_string()),
        Ok(list) => (true, list.join("; ")),
        Err(e) => (false, e),
    };
    let detail = if found && !cfg!(feature = "cuda") { format!("{detail} (this build does not use it)") } else { detail };
    let get = "install an NVIDIA driver, and a build with CUDA (scripts/cuda-build.sh makes one on any machine)";
    Finding { part: "GPU", found, detail, needed_for: "device(\"cuda\"); power of GPU runs", get }
}

fn gpus() -> Result<Vec<String>, String> {
    let nvml = nvml_wrapper::Nvml::init().map_err(|_| "no NVIDIA driver (libnvidia-ml)".to_string())?;
    let driver = nvml.sys_driver_version().unwrap_or_else(|_| "unknown".into());
    let count = nvml.device_count().map_err(|e| e.to_string())?;
    let describe = |i| {
        let device = nvml.device_by_index(i)?;
        Ok(format!("cuda:{i} {}, {}, driver {driver}", device.name()?, bytes(device.memory_info()?.total)))
    };
    (0..count).map(describe).collect::<Result<_, nvml_wrapper::error::NvmlError>>().map_err(|e| e.to_string())
}

fn runtime(spec: &RuntimeSpec) -> Finding {
    let (found, detail) = match (spec.find)() {
        Ok(f) => (true, format!("{} {}", f.version, f.place.map_or("in this program".into(), |p| format!("at {}", p.display())))),
        Err(absent) => (false, absent.reason),
    };
    Finding { part: spec.name, found, detail, needed_for: "benchmark: times and accuracy in this runtime", get: spec.get }
}

fn tensorrt() -> Finding {
    let library = find_library("libnvinfer", &["COMPRESSO_TENSORRT"], "tensorrt_libs");
    let tool = on_path("trtexec").or_else(|| existing(&["/usr/src/tensorrt/bin/trtexec", "/usr/local/tensorrt/bin/trtexec"]));
    let parts: Vec<String> = [library.map(|p| format!("library {}", p.display())), tool.map(|p| format!("trtexec {}", p.display()))]
        .into_iter()
        .flatten()
        .collect();
    let (found, detail) = if parts.is_empty() { (false, "no libnvinfer and no trtexec".into()) } else { (true, parts.join(", ")) };
    let get = "install TensorRT (https://developer.nvidia.com/tensorrt); tensorrt_export writes its files without it";
    Finding { part: "TensorRT", found, detail, needed_for: "building engines from tensorrt_export's files", get }
}

fn jupyter() -> Finding {
    let kernels = install::installed();
    let list = match kernels.as_slice() {
        [] => "no kernels of compresso".to_string(),
        some => {
            let one = |k: &install::Installed| match k.problem() {
                Some(problem) => format!("{} ({problem}: install it again)", k.name),
                None => k.name.clone(),
            };
            format!("kernels {}", some.iter().map(one).collect::<Vec<_>>().join(", "))
        }
    };
    let program = on_path("jupyter");
    let found = program.is_some() && !kernels.is_empty() && kernels.iter().all(|k| k.problem().is_none());
    let detail = match &program {
        Some(path) => format!("{}, {list}", path.display()),
        None => format!("no jupyter on the PATH, {list}"),
    };
    let get = if program.is_some() { "compresso kernel install" } else { "pip install jupyterlab, then compresso kernel install" };
    Finding { part: "Jupyter", found, detail, needed_for: "notebooks", get }
}

fn terminal() -> Finding {
    let style = Style::stdout();
    let (found, detail) = match style.graphics {
        Graphics::None => (false, "shows no images; plots are drawn in characters"),
        Graphics::Kitty => (true, "kitty images"),
        Graphics::Iterm2 => (true, "iTerm2 images"),
        Graphics::Sixel => (true, "sixel images"),
    };
    let get = "use kitty, WezTerm, iTerm2, foot or another terminal with images; COMPRESSO_GRAPHICS=kitty|iterm2|sixel forces one";
    Finding { part: "Images", found, detail: detail.into(), needed_for: "plots as pictures at the prompt", get }
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|p| p.join(program)).find(|p| p.is_file())
}

fn existing(paths: &[&str]) -> Option<PathBuf> {
    paths.iter().map(Path::new).find(|p| p.is_file()).map(Path::to_path_buf)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_parts_say_how_to_get_them() {
        let d = diagnose();
        for part in ["CPU", "GPU", "TensorRT", "onnxruntime", "Jupyter"] {
            let f = d.findings.iter().find(|f| f.part == part).unwrap();
            assert!(!f.detail.is_empty() && !f.needed_for.is_empty());
            assert!(f.found || d.notes().iter().any(|n| n.starts_with(part)), "{f:?}");
        }
        // What nothing here runs on or writes for is not looked for.
        assert!(d.findings.iter().all(|f| f.part != "OpenVINO"));
        assert!(d.data()["cpu"]["detail"].as_str().unwrap().contains("threads"));
    }
}
