//! Building engines with trtexec, TensorRT's own command.

use super::{Precision, TensorrtExport};
use compresso_base::context::Context;
use compresso_base::error::{Error, Result};
use compresso_compress::quantize::calibrate;
use compresso_model::graph::specialize;
use compresso_model::{Fact, Graph, Task};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// What to build, and from what.
#[derive(Debug)]
pub(super) struct Build {
    onnx: String,
    /// File name of the engine.
    pub engine: String,
    precision: Precision,
    workspace: Option<usize>,
    /// `name:1x3x640x640` of each input with open sizes: smallest, tuned for, largest.
    shapes: Option<[String; 3]>,
}

impl Build {
    pub fn of(options: &TensorrtExport, graph: &Graph, task: &Task, onnx: &str, max_batch: usize) -> Result<Self> {
        let size = calibrate::image_size(graph, task).ok();
        let mut shapes: [Vec<String>; 3] = Default::default();
        for input in graph.feeds().filter(|i| i.fact.dims().is_none()) {
            for (list, batch) in shapes.iter_mut().zip([1, options.batch, max_batch]) {
                let fact: Fact = specialize(&input.fact, batch, size);
                let dims = fact.dims().ok_or_else(|| {
                    Error::argument(format!("the input '{}' is {}, with sizes left open", input.name, input.fact))
                        .hint("load the model with image_size: [height, width]")
                })?;
                let dims: Vec<String> = dims.iter().map(ToString::to_string).collect();
                list.push(format!("{}:{}", input.name, dims.join("x")));
            }
        }
        let shapes = (!shapes[0].is_empty()).then(|| shapes.map(|s| s.join(",")));
        let engine = Path::new(onnx).with_extension("engine").to_string_lossy().into_owned();
        Ok(Self { onnx: onnx.into(), engine, precision: options.precision, workspace: options.workspace, shapes })
    }

    /// trtexec's arguments, without the one that depends on its version.
    pub fn arguments(&self) -> Vec<String> {
        let mut args = vec![format!("--onnx={}", self.onnx), format!("--saveEngine={}", self.engine)];
        if let Some([min, opt, max]) = &self.shapes {
            args.extend([format!("--minShapes={min}"), format!("--optShapes={opt}"), format!("--maxShapes={max}")]);
        }
        args.extend(self.workspace.map(|mib| format!("--memPoolSize=workspace:{mib}")));
        args
    }

    /// A shell script that builds the engine beside itself.
    pub fn script(&self) -> String {
        let older = match self.precision {
            Precision::Fp32 => "",
            Precision::Fp16 => "--fp16",
            Precision::Int8 => "--int8",
        };
        let quoted: Vec<String> = self.arguments().iter().map(|a| format!("  '{}'", a.replace('\'', r"'\''"))).collect();
        format!(
            "#!/bin/sh\n\
             # Builds {engine} from {onnx}. Needs TensorRT's trtexec (on the PATH, or named by TRTEXEC) and an NVIDIA GPU.\n\
             set -eu\n\
             cd \"$(dirname \"$0\")\"\n\
             trtexec=\"${{TRTEXEC:-trtexec}}\"\n\
             # TensorRT 10 and newer take the precision from the graph; older ones are told.\n\
             if \"$trtexec\" --help 2>&1 | grep -q -e --stronglyTyped; then typed=--stronglyTyped; else typed='{older}'; fi\n\
             exec \"$trtexec\" $typed \\\n{args}\n",
            engine = self.engine,
            onnx = self.onnx,
            args = quoted.join(" \\\n")
        )
    }
}

pub(super) fn make_executable(path: &Path) -> Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).map_err(|e| Error::io(path, e))?;
    }
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}

/// trtexec: named by `TRTEXEC`, under `TENSORRT_DIR`, on the PATH, or where TensorRT's packages put it.
pub fn find_trtexec() -> Option<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let mut places: Vec<PathBuf> = variable("TRTEXEC").into_iter().collect();
    places.extend(variable("TENSORRT_DIR").map(|d| d.join("bin/trtexec")));
    places.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).map(|d| d.join("trtexec")));
    places.extend(["/usr/src/tensorrt/bin/trtexec", "/opt/tensorrt/bin/trtexec", "/usr/local/tensorrt/bin/trtexec"].map(PathBuf::from));
    places.into_iter().find(|p| p.is_file())
}

/// What an engine could not be built for want of.
pub(super) fn missing() -> String {
    let library = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/local/lib", "/usr/local/tensorrt/lib"]
        .iter()
        .flat_map(|d| std::fs::read_dir(d).into_iter().flatten().flatten())
        .map(|e| e.path())
        .find(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with("libnvinfer.so")));
    match library {
        Some(path) => format!("TensorRT's library is here ({}), but its command trtexec is not on the PATH", path.display()),
        None => "no TensorRT on this machine: neither trtexec (on the PATH, or named by TRTEXEC) nor libnvinfer".into(),
    }
}

/// Runs the build script. The inner error is the builder's last words.
pub(super) fn run(trtexec: &Path, folder: &Path, build: &Build, ctx: &Context) -> Result<std::result::Result<PathBuf, String>> {
    let log = folder.join("build.log");
    let file = std::fs::File::create(&log).map_err(|e| Error::io(&log, e))?;
    let errors = file.try_clone().map_err(|e| Error::io(&log, e))?;
    let mut child = Command::new("sh")
        .arg("build.sh")
        .current_dir(folder)
        .env("TRTEXEC", trtexec)
        .stdin(Stdio::null())
        .stdout(file)
        .stderr(errors)
        .spawn()
        .map_err(|e| Error::io("sh", e))?;
    let _progress = ctx.progress("build engine", 0);
    let status = loop {
        if let Some(status) = child.try_wait().map_err(|e| Error::io(trtexec, e))? {
            break status;
        }
        if let Err(e) = ctx.check() {
            let _ = child.kill();
            let _ = child.wait();
            return Err(e);
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    let engine = folder.join(&build.engine);
    if status.success() && engine.is_file() {
        return Ok(Ok(engine));
    }
    let text = std::fs::read_to_string(&log).unwrap_or_default();
    let last = text.lines().rev().find(|l| l.contains("[E]")).or_else(|| text.lines().last()).unwrap_or("no output");
    Ok(Err(format!("{last} (all of it in {})", log.display())))
}
