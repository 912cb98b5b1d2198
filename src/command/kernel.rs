//! Kernels: installing and running them.

use super::arguments::Kernel;
use compresso::shell::jupyter::{self, RhaiCells, install};
use compresso::shell::{Console, Front, Output, watch_interrupts};
use compresso::{Context, Error};
use std::path::{Path, PathBuf};

pub fn run_kernel(kernel: Kernel, context: Context, console: &Console) -> compresso::Result<()> {
    match kernel {
        Kernel::Rhai { connection_file, library } => rhai_kernel(&connection_file, library, context),
        Kernel::Rust { connection_file, library } => rust_kernel(&connection_file, library, context),
        Kernel::Install { place, library } => {
            watch_interrupts(context.cancel.clone(), Front::Command)
                .map_err(|e| Error::internal("signals cannot be watched").because(e))?;
            let specs = place.specs();
            let extra = if specs.contains(&install::RUST) { build_library(library, &context)? } else { Vec::new() };
            for spec in specs {
                let folder = install::install(&spec, place.prefix.as_deref(), &extra)?;
                console.print(&format!("{} is in {}", spec.display_name, folder.display()));
            }
            Ok(())
        }
        Kernel::Uninstall(place) => {
            for spec in place.specs() {
                let there = install::uninstall(&spec, place.prefix.as_deref())?;
                console.print(&format!("{} {}", spec.display_name, if there { "is removed" } else { "was not installed" }));
            }
            Ok(())
        }
    }
}

#[cfg(not(feature = "evcxr"))]
fn rhai_kernel(connection_file: &Path, _: Option<PathBuf>, context: Context) -> compresso::Result<()> {
    jupyter::serve(connection_file, jupyter::RHAI, || Ok(Box::new(RhaiCells::new(context))))
}

#[cfg(not(feature = "evcxr"))]
fn rust_kernel(_: &Path, _: Option<PathBuf>, _: Context) -> compresso::Result<()> {
    Err(jupyter::no_rust())
}

#[cfg(not(feature = "evcxr"))]
fn build_library(_: Option<PathBuf>, _: &Context) -> compresso::Result<Vec<String>> {
    Err(jupyter::no_rust())
}

#[cfg(feature = "evcxr")]
fn rhai_kernel(connection_file: &Path, library: Option<PathBuf>, context: Context) -> compresso::Result<()> {
    let options = rust_options(library, &context);
    jupyter::serve(connection_file, jupyter::RHAI, || Ok(Box::new(RhaiCells::new(context).with_rust(options))))
}

#[cfg(feature = "evcxr")]
fn rust_kernel(connection_file: &Path, library: Option<PathBuf>, context: Context) -> compresso::Result<()> {
    use jupyter::rust::{ABOUT, RustCells};
    let options = rust_options(library, &context);
    jupyter::serve(connection_file, ABOUT, move || Ok(Box::new(RustCells::new(&options)?)))
}

#[cfg(feature = "evcxr")]
fn rust_options(library: Option<PathBuf>, context: &Context) -> jupyter::rust::RustOptions {
    jupyter::rust::RustOptions {
        library,
        threads: Some(context.threads),
        device: Some(compresso::context::device_name(&context.device)),
        seed: Some(context.seed),
        ..jupyter::rust::RustOptions::default()
    }
}

/// Arguments of a kernel that uses the built library.
#[cfg(feature = "evcxr")]
fn build_library(folder: Option<PathBuf>, context: &Context) -> compresso::Result<Vec<String>> {
    use jupyter::rust::{BuildOptions, build};
    let library = build(&BuildOptions { folder, ..BuildOptions::default() }, context)?;
    Ok(vec!["--library".into(), library.folder().display().to_string()])
}
