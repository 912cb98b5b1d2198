//! Which classes and functions a pickle may name.
//!
//! Nothing that a pickle names is ever called here. A file that names what could run code is refused all the same: it was
//! made to attack whoever opens it with another program.

use super::object::Global;
use compresso_base::error::{Error, Result};

/// Functions and classes with lower-case names that stand for plain data.
const PLAIN: &[(&str, &[&str])] = &[
    (
        "builtins",
        &[
            "bool",
            "bytearray",
            "bytes",
            "complex",
            "dict",
            "float",
            "frozenset",
            "int",
            "list",
            "long",
            "object",
            "range",
            "set",
            "slice",
            "str",
            "tuple",
            "unicode",
            "xrange",
        ],
    ),
    ("collections", &["Counter", "OrderedDict", "defaultdict", "deque"]),
    ("copyreg", &["_reconstructor"]),
    ("_codecs", &["encode"]),
    ("argparse", &["Namespace"]),
    ("types", &["SimpleNamespace"]),
    ("functools", &["partial"]),
    ("datetime", &["date", "datetime", "time", "timedelta", "timezone"]),
    ("decimal", &["Decimal"]),
    ("fractions", &["Fraction"]),
    ("uuid", &["UUID"]),
    ("pathlib", &["Path", "PosixPath", "PurePath", "PurePosixPath", "PureWindowsPath", "WindowsPath"]),
    ("pathlib._local", &["Path", "PosixPath", "PurePath", "PurePosixPath", "PureWindowsPath", "WindowsPath"]),
    ("torch", &["device", "dtype", "contiguous_format", "channels_last", "preserve_format", "strided"]),
    ("torch.serialization", &["_get_layout"]),
    ("models.common", &["autoShape"]),
    ("torch._tensor", &["_rebuild_from_type", "_rebuild_from_type_v2"]),
    ("numpy", &["bool_", "dtype", "ndarray", "number", "str_"]),
    ("numpy.core.multiarray", &["_reconstruct", "scalar"]),
    ("numpy._core.multiarray", &["_reconstruct", "scalar"]),
    ("numpy.core.numeric", &["_frombuffer"]),
    ("numpy._core.numeric", &["_frombuffer"]),
    ("numpy.random._pickle", &["__bit_generator_ctor", "__generator_ctor", "__randomstate_ctor"]),
];

/// Modules whose functions compute with tensors only; networks keep them as attributes.
const MATHEMATICS: [&str; 3] = ["torch.nn.functional", "torch._C._nn", "torch.nn.init"];

/// Packages of Python's standard library and its package managers, which hold all that is needed to take over a machine.
const STANDARD: &str = " __builtin__ __future__ _abc _ast _asyncio _bisect _bootsubprocess _codecs _collections \
    _collections_abc _compat_pickle _compression _contextvars _crypt _csv _ctypes _curses _datetime _dbm _decimal _elementtree \
    _frozen_importlib _frozen_importlib_external _functools _gdbm _hashlib _heapq _imp _interpreters _io _json _locale _lsprof _lzma \
    _markupbase _multibytecodec _multiprocessing _opcode _operator _osx_support _pickle _posixshmem _posixsubprocess _py_abc _pydecimal \
    _pyio _queue _random _scproxy _signal _sitebuiltins _socket _sqlite3 _sre _ssl _stat _string _strptime _struct _symtable _thread \
    _threading_local _tkinter _tracemalloc _uuid _warnings _weakref _weakrefset _winapi _winreg abc aifc annotationlib antigravity \
    argparse array ast asynchat asyncio asyncore atexit audioop base64 bdb binascii bisect builtins bz2 cPickle cProfile calendar cgi \
    cgitb chunk cmath cmd code codecs codeop collections colorsys commands compileall compression concurrent configparser contextlib \
    contextvars copy copy_reg copyreg crypt csv ctypes curses dataclasses datetime dbm decimal difflib dis distutils doctest easy_install \
    email encodings ensurepip enum errno faulthandler fcntl filecmp fileinput fnmatch fractions ftplib functools gc genericpath getopt \
    getpass gettext glob graphlib grp gzip hashlib heapq hmac html http idlelib imaplib imghdr imp importlib inspect io ipaddress \
    itertools json keyword lib2to3 linecache locale logging lzma mailbox mailcap marshal math mimetypes mmap modulefinder msilib msvcrt \
    multiprocessing netrc nis nntplib nt ntpath nturl2path numbers opcode operator optparse os os2 ossaudiodev parser pathlib pdb pickle \
    pickletools pip pipes pkg_resources pkgutil platform plistlib poplib popen2 posix posixpath pprint profile pstats pty pwd py_compile \
    pyclbr pydoc pydoc_data pyexpat queue quopri random re readline reprlib resource rlcompleter runpy sched secrets select selectors \
    setuptools shelve shlex shutil signal site smtpd smtplib sndhdr socket socketserver spwd sqlite3 sre_compile sre_constants sre_parse \
    ssl stat statistics string stringprep struct subprocess sunau symtable sys sysconfig syslog tabnanny tarfile telnetlib tempfile \
    termios test textwrap this thread threading time timeit tkinter token tokenize tomllib trace traceback tracemalloc tty turtle types \
    typing unicodedata unittest urllib urllib2 uu uuid venv warnings wave weakref webbrowser wheel winreg winsound wsgiref xdrlib xml \
    xmlrpc zipapp zipfile zipimport zlib zoneinfo ";

/// Checks the name of a class or function.
///
/// # Errors
/// `Unsupported`, naming it, for everything that is not known to be plain data or looks like a class of a network.
pub fn check(global: &Global) -> Result<()> {
    if is_plain(global) || is_class(global) { Ok(()) } else { refuse(Some(global)) }
}

/// Python's function that takes an attribute of an object by name, the first step of many attacks.
pub fn is_lookup(global: &Global) -> bool {
    modern(&global.module) == "builtins" && global.name == "getattr"
}

/// The error for a name that is not allowed.
pub fn refuse(global: Option<&Global>) -> Result<()> {
    let Some(global) = global else { return Err(Error::internal("a name that is none was refused")) };
    let e = Error::unsupported(if is_standard(&global.module) {
        format!("the file tries to run code: it names {global}; it was refused and nothing was run")
    } else {
        format!("the file names the function {global}, which may run code when it is called; it was refused and nothing was run")
    });
    Err(e.hint("do not open it with other programs; ask its maker for the weights alone: torch.save(model.state_dict(), \"weights.pth\")"))
}

fn is_plain(global: &Global) -> bool {
    let (module, name) = (modern(&global.module), &*global.name);
    let listed = PLAIN.iter().any(|(m, names)| *m == module && names.contains(&name));
    let word = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') && !name.starts_with("__");
    listed
        || (module == "torch._utils" && word && name.starts_with("_rebuild_"))
        || (module == "torch" && word && is_number_type(name.trim_start_matches('q')))
        || (module == "numpy" && word && is_number_type(name))
        || (word && MATHEMATICS.contains(&module))
}

/// Python 2's names of modules as today's.
fn modern(module: &str) -> &str {
    match module {
        "__builtin__" => "builtins",
        "copy_reg" => "copyreg",
        other => other,
    }
}

/// `float32`, `uint8`, `bfloat16`, `float8_e4m3fn`, `bool`, …
fn is_number_type(name: &str) -> bool {
    let rest = ["float", "bfloat", "uint", "int", "complex"].iter().find_map(|kind| name.strip_prefix(kind));
    name == "bool" || name == "half" || name == "double" || rest.is_some_and(|r| r.is_empty() || r.as_bytes()[0].is_ascii_digit())
}

fn is_standard(module: &str) -> bool {
    let top = module.split('.').next().unwrap_or_default();
    top.is_empty() || STANDARD.split_ascii_whitespace().any(|m| m == top)
}

/// A class outside of the standard library, by Python's convention of capitals, which may follow a version.
pub fn is_class(global: &Global) -> bool {
    let capital = |part: &str| {
        let bare = part.trim_start_matches('_');
        // Classes of a version: v8DetectionLoss, v10Detect.
        let digit = |c: char| c.is_ascii_digit();
        let bare = bare.strip_prefix('v').filter(|rest| rest.starts_with(digit)).map_or(bare, |rest| rest.trim_start_matches(digit));
        bare.starts_with(|c: char| c.is_uppercase()) && !part.starts_with("__") && part.chars().all(|c| c.is_alphanumeric() || c == '_')
    };
    !is_standard(&global.module) && global.name.split('.').all(capital)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(path: &str) -> bool {
        let (module, name) = path.rsplit_once('.').unwrap();
        check(&Global { module: module.into(), name: name.into() }).is_ok()
    }

    #[test]
    fn networks_and_plain_data_are_allowed() {
        for path in [
            "torch.FloatStorage",
            "torch.BFloat16Storage",
            "torch.Size",
            "torch.float8_e4m3fn",
            "torch.qint8",
            "torch.device",
            "torch._utils._rebuild_tensor_v2",
            "torch.nn.functional.silu",
            "torch.nn.modules.conv.Conv2d",
            "ultralytics.nn.tasks.DetectionModel",
            "ultralytics.nn.modules.head.v10Detect",
            "ultralytics.utils.loss.v8DetectionLoss",
            "models.common.autoShape",
            "models.yolo.Model",
            "__main__.Net",
            "__builtin__.set",
            "collections.OrderedDict",
            "pathlib.PosixPath",
            "numpy.core.multiarray.scalar",
            "numpy.int64",
        ] {
            assert!(allowed(path), "{path}");
        }
    }

    #[test]
    fn what_runs_code_is_refused_by_name() {
        for path in [
            "os.system",
            "posix.system",
            "nt.system",
            "os.path.Popen",
            "subprocess.Popen",
            "subprocess.check_output",
            "builtins.eval",
            "builtins.exec",
            "builtins.getattr",
            "builtins.__import__",
            "builtins.open",
            "__builtin__.compile",
            "sys.exit",
            "runpy.run_path",
            "shutil.rmtree",
            "socket.socket",
            "importlib.import_module",
            "importlib.machinery.SourceFileLoader",
            "ctypes.CDLL",
            "webbrowser.open",
            "pickle.loads",
            "_pickle.Unpickler",
            "timeit.timeit",
            "pty.spawn",
            "code.InteractiveInterpreter",
            "operator.attrgetter",
            "types.CodeType",
            "functools.reduce",
            "torch.load",
            "torch.hub.load",
            "torch.storage._load_from_bytes",
            "torch._utils.__builtins__",
            "numpy.load",
            "numpy.testing._private.utils.runstring",
            "pip.main",
            "ultralytics.utils.downloads.download",
            "__main__.run",
            "models.v10.vDetect8",
            "models.v10.v10detect",
            ".Net",
        ] {
            assert!(!allowed(path), "{path}");
        }
        let e = |module: &str, name: &str| check(&Global { module: module.into(), name: name.into() }).map_err(|e| e.to_string());
        assert!(e("os", "system").unwrap_err().contains("the file tries to run code: it names os.system"));
        // Attributes of a harmless class are no way around it.
        assert!(e("torch.nn", "Module.__init__.__globals__").is_err());
        assert!(e("collections", "OrderedDict.__class__").is_err());
        assert!(e("torch.nn", "Module.load").is_err());
        let odd = e("o\u{1b}[2Js", &"x".repeat(5000)).unwrap_err();
        assert!(!odd.contains('\u{1b}') && odd.len() < 600, "{odd}");
    }
}
