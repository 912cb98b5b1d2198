//! Modules compiled by NVRTC, once per machine: what was compiled is kept on disk and in the process.

use super::module::{Module, OPTIONS, cache_name};
use candle_core::cuda_backend::cudarc::nvrtc::{self, CompileOptions};
use compresso_base::error::{Error, Result};
use compresso_base::files;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// A module as PTX, and the name that it has in the caches.
pub struct Compiled {
    pub name: String,
    pub ptx: String,
}

/// The module for an architecture (80 for compute capability 8.0).
///
/// # Errors
/// `Unavailable` when NVRTC is not there, `Internal` with its words when it refuses the source.
pub fn compiled(module: &'static Module, architecture: u32) -> Result<Arc<Compiled>> {
    static ALL: Mutex<Option<HashMap<(&'static str, u32), Arc<Compiled>>>> = Mutex::new(None);
    let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
    let all = all.get_or_insert_default();
    if let Some(found) = all.get(&(module.name, architecture)) {
        return Ok(found.clone());
    }
    let name = cache_name(module, architecture, version()?, OPTIONS);
    let path = folder().map(|f| f.join(&name));
    let kept = path.as_ref().and_then(|p| files::read_text(p).ok());
    let ptx = match kept {
        Some(ptx) => ptx,
        None => {
            let ptx = compile(module, architecture)?;
            // A cache that cannot be written costs half a second in the next process.
            let _ = path.map(|p| files::cache_write(p, |out| out.write_all(ptx.as_bytes()).map_err(|e| Error::io("cache", e))));
            ptx
        }
    };
    let made = Arc::new(Compiled { name, ptx });
    all.insert((module.name, architecture), made.clone());
    Ok(made)
}

/// `compresso/cuda` among the user's caches.
fn folder() -> Option<PathBuf> {
    let named = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    let base = named("XDG_CACHE_HOME").or_else(|| named("HOME").map(|h| h.join(".cache")))?;
    Some(base.join("compresso").join("cuda"))
}

/// Major and minor version of NVRTC.
fn version() -> Result<(u32, u32)> {
    let (mut major, mut minor) = (0, 0);
    // SAFETY: both are places for an int, which is all that the function writes.
    let status = unsafe { nvrtc::sys::nvrtcVersion(&mut major, &mut minor) };
    match (status, u32::try_from(major), u32::try_from(minor)) {
        (nvrtc::sys::nvrtcResult::NVRTC_SUCCESS, Ok(major), Ok(minor)) => Ok((major, minor)),
        _ => Err(Error::unavailable("NVRTC, NVIDIA's run-time compiler, was not found")
            .hint("install CUDA's libnvrtc (pip install nvidia-cuda-nvrtc) and put its folder on LD_LIBRARY_PATH")),
    }
}

fn compile(module: &Module, architecture: u32) -> Result<String> {
    let mut options = vec![format!("--gpu-architecture=compute_{architecture}")];
    options.extend(OPTIONS.iter().map(ToString::to_string));
    let options = CompileOptions { options, name: Some(format!("{}.cu", module.name)), ..CompileOptions::default() };
    let made = nvrtc::compile_ptx_with_opts(module.source(), options);
    made.map(|ptx| ptx.to_src()).map_err(|e| Error::internal(format!("NVRTC refuses the kernels of {}: {e:?}", module.name)))
}

#[cfg(test)]
mod tests {
    use super::super::MODULES;
    use super::*;
    use compresso_base::error::ErrorKind;

    /// NVRTC needs no GPU; where it is missing, the error says how to get it.
    #[test]
    fn modules_are_compiled_at_run_time() {
        match version() {
            Err(e) => {
                assert_eq!(e.kind(), ErrorKind::Unavailable);
                eprintln!("kernels are not compiled: {e}");
            }
            Ok(_) => {
                for m in MODULES {
                    let ptx = compile(m, 80).unwrap();
                    assert!(ptx.contains(".target sm_80") && m.kernels().all(|k| ptx.contains(&format!(".entry {k}("))), "{}", m.name);
                }
                let bad = Module { name: "bad", text: "extern \"C\" __global__ void f() { g(); }" };
                assert!(compile(&bad, 80).unwrap_err().to_string().contains("bad.cu"));
            }
        }
    }
}
