//! Plans on the CPU: the kernels as a C++ program under AddressSanitizer and UndefinedBehaviorSanitizer.

use super::super::{Arg, COMMON, Constant, MODULES, Module, Plan};
use std::cell::RefCell;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

/// The compiled program; `None`, told once, where there is no C++ compiler.
fn program() -> Option<&'static PathBuf> {
    static PROGRAM: OnceLock<Option<PathBuf>> = OnceLock::new();
    let build = || {
        let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".into());
        if Command::new(&compiler).arg("--version").output().is_err() {
            eprintln!("there is no C++ compiler ({compiler}): the CUDA kernels are not emulated");
            return None;
        }
        let folder = std::env::temp_dir().join(format!("compresso-cuda-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let kernels: Vec<&str> = MODULES.iter().flat_map(Module::kernels).collect();
        let table = kernels.iter().map(|k| format!("KERNEL({k}),")).collect::<String>();
        let mut text = format!("{}\n#line 1 \"common.cuh\"\n{COMMON}\n", include_str!("shim.h"));
        for m in MODULES {
            text += &format!("#line 1 \"{}.cu\"\n{}\n", m.name, m.text);
        }
        text += &format!("#line 1 \"main.h\"\n{}\nint main() {{ return emulate({{{table}}}); }}\n", include_str!("main.h"));
        let (source, program) = (folder.join("kernels.cpp"), folder.join("kernels"));
        std::fs::write(&source, text).unwrap();
        let flags =
            ["-std=c++17", "-O1", "-g1", "-Wall", "-Wno-unknown-pragmas", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"];
        let made = Command::new(&compiler).args(flags).arg(&source).arg("-o").arg(&program).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        Some(program)
    };
    PROGRAM.get_or_init(build).as_ref()
}

fn text(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend((bytes.len() as u32).to_ne_bytes());
    out.extend(bytes);
}

/// What the program says to a request; each thread has one of its own that answers many.
///
/// # Errors
/// What it said as it failed.
fn answer(program: &Path, request: &[u8], size: usize) -> Result<Vec<u8>, String> {
    thread_local! {
        static CHILD: RefCell<Option<Child>> = const { RefCell::new(None) };
    }
    CHILD.with_borrow_mut(|own| {
        let start = || {
            let mut command = Command::new(program);
            command.env("ASAN_OPTIONS", "detect_leaks=0").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            command.spawn().unwrap()
        };
        let mut child = own.take().unwrap_or_else(start);
        let mut bytes = vec![0; size];
        // It reads a request to its end before it answers.
        let sent = child.stdin.as_mut().unwrap().write_all(request).and_then(|()| child.stdin.as_mut().unwrap().flush());
        if sent.and_then(|()| child.stdout.as_mut().unwrap().read_exact(&mut bytes)).is_ok() {
            *own = Some(child);
            return Ok(bytes);
        }
        let done = child.wait_with_output().unwrap();
        Err(String::from_utf8_lossy(&done.stderr).into_owned())
    })
}

/// Runs a plan; the bytes of its results. `None` where kernels cannot be emulated.
pub fn run(plan: &Plan, inputs: &[Vec<u8>]) -> Option<Vec<Vec<u8>>> {
    let program = program()?;
    let constants = plan.constants.iter().map(|c| match c {
        Constant::F32(v) => v.iter().flat_map(|x| x.to_ne_bytes()).collect(),
        Constant::I32(v) => v.iter().flat_map(|x| x.to_ne_bytes()).collect::<Vec<u8>>(),
    });
    let given: Vec<Vec<u8>> = inputs.iter().cloned().chain(constants).collect();
    let sizes: Vec<usize> = plan.buffers().map(|b| b.len * b.element.bytes()).collect();
    let mut request = Vec::new();
    let number = |out: &mut Vec<u8>, n: usize| out.extend((n as u32).to_ne_bytes());
    number(&mut request, given.len());
    number(&mut request, sizes.len());
    for (i, &size) in sizes.iter().enumerate() {
        match given.get(i) {
            Some(bytes) => {
                assert_eq!(bytes.len(), size, "input {i}");
                text(&mut request, bytes);
            }
            None => number(&mut request, size),
        }
    }
    number(&mut request, plan.launches.len());
    for launch in &plan.launches {
        text(&mut request, launch.kernel.as_bytes());
        launch.grid.into_iter().chain([launch.block]).for_each(|n| request.extend(n.to_ne_bytes()));
        let letter = |a: &Arg| match a {
            Arg::Buffer(_) => b'b',
            Arg::Int(_) => b'i',
            Arg::Float(_) => b'f',
            Arg::Window(_) => b'w',
        };
        text(&mut request, &launch.args.iter().map(letter).collect::<Vec<u8>>());
        for arg in &launch.args {
            match arg {
                Arg::Buffer(i) => text(&mut request, &(*i as u32).to_ne_bytes()),
                Arg::Int(n) => text(&mut request, &n.to_ne_bytes()),
                Arg::Float(x) => text(&mut request, &x.to_ne_bytes()),
                Arg::Window(w) => text(&mut request, &w.iter().flat_map(|n| n.to_ne_bytes()).collect::<Vec<u8>>()),
            }
        }
    }
    let stdout = answer(program, &request, sizes.iter().sum()).unwrap_or_else(|why| panic!("{:?}\n{why}", plan.launches));
    let start = |i: usize| sizes[..i].iter().sum::<usize>();
    Some(plan.results.iter().map(|&i| stdout[start(i)..start(i) + sizes[i]].to_vec()).collect())
}
