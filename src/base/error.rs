//! One error type for the whole library.
//!
//! An [`Error`] says what went wrong, where (file, node, option), why (its causes) and, where we know,
//! what to do. Callers branch on [`Error::kind`]; people read its `Display`.

use std::fmt;
use std::path::Path;

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, for callers that branch on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A file could not be read or written.
    Io,
    /// A file or text is malformed.
    Format,
    /// Valid, but not something this version can do.
    Unsupported,
    /// Shapes, ranks or channel counts do not fit together.
    Shape,
    /// An element type does not fit.
    DType,
    /// An option or argument is unknown, of the wrong type or out of range.
    Argument,
    /// A name (value, node, file, class, layer) does not exist.
    Missing,
    /// A result did not pass its own check (equality after pruning, NaN loss, …).
    Check,
    /// A runtime, tool or device that is needed is not on this machine.
    Unavailable,
    /// The user cancelled the operation.
    Cancelled,
    /// A script failed to parse or run.
    Script,
    /// More memory is needed than there is.
    Memory,
    /// A bug in this crate or a library below it.
    Internal,
}

/// An error with its place, causes and a suggestion. Cheap to move.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: ErrorKind,
    message: String,
    /// Places, innermost first: "node 'conv1' (Conv)", "file model.onnx", "option 'ratio'".
    places: Vec<String>,
    hint: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// A new error of a kind. The message is a clause without a full stop, in lower case.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner { kind, message: message.into(), places: Vec::new(), hint: None, source: None }))
    }
    /// [`ErrorKind::Format`].
    pub fn format(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Format, message)
    }
    /// [`ErrorKind::Unsupported`].
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unsupported, message)
    }
    /// [`ErrorKind::Shape`].
    pub fn shape(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Shape, message)
    }
    /// [`ErrorKind::DType`].
    pub fn dtype(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::DType, message)
    }
    /// [`ErrorKind::Argument`].
    pub fn argument(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Argument, message)
    }
    /// [`ErrorKind::Missing`].
    pub fn missing(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Missing, message)
    }
    /// [`ErrorKind::Check`].
    pub fn check(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Check, message)
    }
    /// [`ErrorKind::Unavailable`].
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unavailable, message)
    }
    /// [`ErrorKind::Internal`].
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }
    /// [`ErrorKind::Cancelled`].
    pub fn cancelled() -> Self {
        Self::new(ErrorKind::Cancelled, "cancelled")
    }
    /// An I/O failure on `path`.
    pub fn io(path: impl AsRef<Path>, source: std::io::Error) -> Self {
        let message = match source.kind() {
            std::io::ErrorKind::NotFound => "no such file or folder".to_string(),
            std::io::ErrorKind::PermissionDenied => "permission denied".to_string(),
            std::io::ErrorKind::AlreadyExists => "a file of this name is there, where a folder is needed".to_string(),
            std::io::ErrorKind::NotADirectory => "a part of the path is a file, not a folder".to_string(),
            _ => source.to_string(),
        };
        let e = Self::new(ErrorKind::Io, message).file(path);
        match crate::sandbox::folder().filter(|_| source.kind() == std::io::ErrorKind::PermissionDenied) {
            Some(folder) => e.hint(format!("the sandbox lets scripts use {} alone", folder.display())),
            None => e,
        }
    }

    /// Adds a place, for example `node 'conv1' (Conv)`. Call from the inside out.
    #[must_use]
    pub fn at(mut self, place: impl Into<String>) -> Self {
        let place = place.into();
        if self.0.places.last() != Some(&place) {
            self.0.places.push(place);
        }
        self
    }
    /// Adds a file as a place.
    #[must_use]
    pub fn file(self, path: impl AsRef<Path>) -> Self {
        self.at(format!("file {}", path.as_ref().display()))
    }
    /// Sets what the user can do about it (one sentence, lower case, no full stop).
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }
    /// Keeps the error that caused this one.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// What sort of failure it is.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }
    /// Whether the user stopped the work.
    pub fn is_cancelled(&self) -> bool {
        self.0.kind == ErrorKind::Cancelled
    }
    /// The message alone, without places, causes and hint.
    pub fn message(&self) -> &str {
        &self.0.message
    }
    /// Places from the outermost to the innermost.
    pub fn places(&self) -> impl Iterator<Item = &str> {
        self.0.places.iter().rev().map(String::as_str)
    }
    /// The texts of the causes, outermost first. A cause that became the message is not said again; it stays as the source, for
    /// callers that look for its type.
    pub fn causes(&self) -> impl Iterator<Item = String> {
        std::iter::successors(std::error::Error::source(self), |cause| cause.source())
            .map(ToString::to_string)
            .filter(|text| first_line(text) != self.0.message)
    }
    /// What the user can do about it.
    pub fn suggestion(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for place in self.places() {
            write!(f, "{place}: ")?;
        }
        f.write_str(&self.0.message)?;
        for text in self.causes() {
            write!(f, "\n  because: {text}")?;
        }
        if let Some(hint) = &self.0.hint {
            write!(f, "\n  help: {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|e| e as _)
    }
}

impl From<candle_core::Error> for Error {
    fn from(e: candle_core::Error) -> Self {
        // An error of ours that travelled through a candle operation comes back as itself.
        if is_cancellation(&e) { Self::cancelled() } else { Self::new(kind_of(&e), first_line(&e.to_string())).because(e) }
    }
}

/// What candle objects to in the inputs of an operation is no fault of this program.
fn kind_of(e: &candle_core::Error) -> ErrorKind {
    use candle_core::Error as Candle;
    match e {
        Candle::UnexpectedDType { .. } | Candle::DTypeMismatchBinaryOp { .. } | Candle::UnsupportedDTypeForOp(..) => ErrorKind::DType,
        Candle::DimOutOfRange { .. }
        | Candle::DuplicateDimIndex { .. }
        | Candle::UnexpectedNumberOfDims { .. }
        | Candle::UnexpectedShape { .. }
        | Candle::ShapeMismatchBinaryOp { .. }
        | Candle::ShapeMismatchCat { .. }
        | Candle::ShapeMismatchSplit { .. }
        | Candle::EmptyTensor { .. }
        | Candle::NarrowInvalidArgs { .. }
        | Candle::InvalidIndex { .. }
        | Candle::BroadcastIncompatibleShapes { .. } => ErrorKind::Shape,
        Candle::WithBacktrace { inner, .. } | Candle::WithPath { inner, .. } | Candle::Context { inner, .. } => kind_of(inner),
        _ => ErrorKind::Internal,
    }
}

/// With backtraces switched on, candle puts its errors into others.
fn is_cancellation(e: &candle_core::Error) -> bool {
    use candle_core::Error as Candle;
    match e {
        Candle::Wrapped(inner) => inner.to_string() == CANCELLED,
        Candle::WithBacktrace { inner, .. } | Candle::WithPath { inner, .. } | Candle::Context { inner, .. } => is_cancellation(inner),
        _ => false,
    }
}

/// The text under which a cancellation travels through candle.
pub const CANCELLED: &str = "compresso: cancelled";

fn first_line(s: &str) -> String {
    s.lines().next().unwrap_or_default().to_string()
}

/// Adds a place to the error of a result.
pub trait At<T> {
    /// Adds a place, made only when there is an error.
    fn at(self, place: impl FnOnce() -> String) -> Result<T>;
    /// Adds the file being read or written.
    fn in_file(self, path: impl AsRef<Path>) -> Result<T>;
}

impl<T, E: Into<Error>> At<T> for std::result::Result<T, E> {
    fn at(self, place: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|e| e.into().at(place()))
    }
    fn in_file(self, path: impl AsRef<Path>) -> Result<T> {
        self.map_err(|e| e.into().file(path))
    }
}

/// The candidate nearest to `word` by edit distance, when it is near enough to be a likely typo.
///
/// ```
/// assert_eq!(compresso_base::error::nearest("ration", ["ratio", "scope"]), Some("ratio"));
/// assert_eq!(compresso_base::error::nearest("xyz", ["ratio", "scope"]), None);
/// ```
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (word.chars().count() / 3).max(1) + usize::from(word.len() > 4);
    candidates
        .into_iter()
        .map(|c| (edit_distance(&word.to_lowercase(), &c.to_lowercase()), c))
        .filter(|(d, c)| *d <= limit || (word.len() >= 3 && c.starts_with(word)))
        .min_by_key(|(d, _)| *d)
        .map(|(_, c)| c)
}

/// Optimal string alignment distance (insert, delete, replace, swap of neighbours).
fn edit_distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0usize; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    for (j, cell) in rows[0].iter_mut().enumerate() {
        *cell = j;
    }
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let replace = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replace.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_orders_place_message_cause_hint() {
        let e = Error::shape("expected 3 channels, got 4")
            .because(std::io::Error::other("low level"))
            .hint("pass an RGB image")
            .at("node 'conv1' (Conv)")
            .file("m.onnx");
        assert_eq!(
            e.to_string(),
            "file m.onnx: node 'conv1' (Conv): expected 3 channels, got 4\n  because: low level\n  help: pass an RGB image"
        );
        assert_eq!(e.kind(), ErrorKind::Shape);
    }

    #[test]
    fn errors_of_candle_are_told_once_and_stay_reachable() {
        let from: Error = candle_core::Error::Msg("no such axis".into()).into();
        assert_eq!(from.to_string(), "no such axis");
        assert!(std::error::Error::source(&from).unwrap().is::<candle_core::Error>());
        let zeros = |dims: &[usize]| candle_core::Tensor::zeros(dims, candle_core::DType::F32, &candle_core::Device::Cpu).unwrap();
        let wrong = (zeros(&[2]) + zeros(&[3])).unwrap_err();
        assert_eq!(Error::from(wrong.with_path("x")).kind(), ErrorKind::Shape);
        for cancelled in [
            candle_core::Error::wrap(CANCELLED),
            candle_core::Error::wrap(CANCELLED).with_path("x"),
            candle_core::Error::wrap(CANCELLED).context("y"),
        ] {
            assert!(Error::from(cancelled).is_cancelled());
        }
    }

    #[test]
    fn nearest_finds_typos_and_rejects_strangers() {
        assert_eq!(nearest("epohcs", ["epochs", "batch"]), Some("epochs"));
        assert_eq!(nearest("temp", ["temperature", "alpha"]), Some("temperature"));
        assert_eq!(nearest("q", ["temperature", "alpha"]), None);
    }
}
