//! What a worker and its parent say to each other.
//!
//! A frame is the mark `cmpr`, the length of a JSON text in bytes (u32, little-endian), the text, and after it the bytes of
//! the tensors that the text lists. The worker begins with [`Reply::Hello`], and then answers each request with one reply.

use crate::memory::Peak;
use crate::worker::{Opened, Order};
use candle_core::Device;
use compresso_base::error::{Error, ErrorKind, Result};
use compresso_exec::{Outputs, StepTime};
use compresso_model::{Constant, Element, Payload, Value};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::io::{self, Read, Write};

/// The argument that makes a program with the [`hook`](super::hook) a worker.
pub(super) const ARGUMENT: &str = "measure-worker";

/// Changes with every change of what follows.
pub const VERSION: u32 = 2;

const MARK: [u8; 4] = *b"cmpr";

/// What a worker is asked for.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// The first one.
    Open(Box<Order>),
    /// Runs on noise, each timed; answered by [`Reply::Times`].
    Step {
        /// How often.
        runs: usize,
    },
    /// Runs on noise as often as the time allows; answered by [`Reply::Ran`].
    RunFor {
        /// How long.
        seconds: f64,
    },
    /// Runs on the tensors of the frame.
    Run,
    /// Times the steps of the plan; answered by [`Reply::Profile`].
    Profile {
        /// Runs of which each step's least time counts.
        runs: usize,
    },
    /// Asks for the memory that was taken so far; answered by [`Reply::Peak`].
    Peak,
}

/// What a worker answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// Sent first, without being asked.
    Hello(Hello),
    /// The model is loaded, and has run once.
    Opened(Opened),
    /// Milliseconds of each run.
    Times(Vec<f64>),
    /// How often it ran.
    Ran(usize),
    /// The tensors of the frame.
    Outputs,
    /// The least time of each step.
    Profile(Vec<StepTime>),
    /// `None` where the system does not say it.
    Peak(Option<Peak>),
    /// The error that the request ended with.
    Failed(Failure),
}

/// Who a worker is. Parent and worker must agree in all of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The [`VERSION`] that it speaks.
    pub protocol: u32,
    /// Of this library.
    pub version: String,
    /// Not optimized.
    pub debug: bool,
}

impl Hello {
    /// What this program says.
    pub fn ours() -> Self {
        Self { protocol: VERSION, version: env!("CARGO_PKG_VERSION").into(), debug: cfg!(debug_assertions) }
    }
}

impl std::fmt::Display for Hello {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let build = if self.debug { "debug" } else { "release" };
        write!(f, "compresso {} ({build} build, protocol {})", self.version, self.protocol)
    }
}

/// An [`Error`] on its way.
#[derive(Debug, Serialize, Deserialize)]
pub struct Failure {
    kind: String,
    message: String,
    /// From the innermost to the outermost.
    places: Vec<String>,
    hint: Option<String>,
    cause: Option<String>,
}

const KINDS: [ErrorKind; 12] = [
    ErrorKind::Io,
    ErrorKind::Format,
    ErrorKind::Unsupported,
    ErrorKind::Shape,
    ErrorKind::DType,
    ErrorKind::Argument,
    ErrorKind::Missing,
    ErrorKind::Check,
    ErrorKind::Unavailable,
    ErrorKind::Cancelled,
    ErrorKind::Script,
    ErrorKind::Internal,
];

impl From<&Error> for Failure {
    fn from(e: &Error) -> Self {
        let mut places: Vec<String> = e.places().map(str::to_string).collect();
        places.reverse();
        Self {
            kind: format!("{:?}", e.kind()),
            message: e.message().into(),
            places,
            hint: e.suggestion().map(str::to_string),
            cause: std::error::Error::source(e).map(ToString::to_string),
        }
    }
}

impl From<Failure> for Error {
    fn from(f: Failure) -> Self {
        let kind = KINDS.into_iter().find(|k| format!("{k:?}") == f.kind).unwrap_or(ErrorKind::Internal);
        let mut e = f.places.into_iter().fold(Self::new(kind, f.message), Self::at);
        if let Some(hint) = f.hint {
            e = e.hint(hint);
        }
        match f.cause {
            Some(cause) => e.because(cause),
            None => e,
        }
    }
}

/// A message and its tensors.
#[derive(Debug, Serialize, Deserialize)]
struct Text<T> {
    message: T,
    tensors: Vec<Layout>,
}

/// A tensor after the text: raw ONNX data of an element type, by its code.
#[derive(Debug, Serialize, Deserialize)]
struct Layout {
    name: String,
    element: i32,
    dims: Vec<usize>,
    bytes: u64,
}

/// Writes a frame.
///
/// # Errors
/// Those of writing.
pub fn write<'a, T: Serialize>(
    out: &mut impl Write,
    message: &T,
    tensors: impl IntoIterator<Item = (&'a String, &'a Value)>,
) -> Result<()> {
    let mut layouts = Vec::new();
    let mut bodies = Vec::new();
    for (name, value) in tensors {
        let raw = Constant::from_storage(value.element, &value.tensor)?.to_raw()?;
        let (element, dims) = (value.element.code(), value.dims().to_vec());
        layouts.push(Layout { name: name.clone(), element, dims, bytes: raw.len() as u64 });
        bodies.push(raw);
    }
    let text = serde_json::to_vec(&Text { message, tensors: layouts }).map_err(|e| Error::internal("a message is no JSON").because(e))?;
    let length = u32::try_from(text.len()).map_err(|_| Error::internal("a message of 4 GB"))?;
    let mut write = || -> io::Result<()> {
        out.write_all(&[&MARK[..], &length.to_le_bytes(), &text].concat())?;
        bodies.iter().try_for_each(|b| out.write_all(b))?;
        out.flush()
    };
    write().map_err(|e| Error::new(ErrorKind::Io, "a message cannot be sent").because(e))
}

/// Reads a frame; `None` at the end of the input.
///
/// # Errors
/// `Format` for anything else than a frame, `Io` when it breaks off.
pub fn read<T: DeserializeOwned>(input: &mut impl Read) -> Result<Option<(T, Outputs)>> {
    let mut head = Vec::new();
    input.take(8).read_to_end(&mut head).map_err(broken)?;
    let Some((mark, length)) = head.split_first_chunk::<4>() else {
        return if head.is_empty() { Ok(None) } else { Err(no_frame(&head)) };
    };
    if *mark != MARK {
        return Err(no_frame(&head));
    }
    let length = length.try_into().map_err(|_| no_frame(&head))?;
    let text = exactly(input, u64::from(u32::from_le_bytes(length)))?;
    let text: Text<T> = serde_json::from_slice(&text).map_err(|e| Error::format("a message cannot be read").because(e))?;
    let mut tensors = Outputs::new();
    for layout in text.tensors {
        let element = Element::from_code(layout.element).ok_or_else(|| Error::format(format!("there is no type {}", layout.element)))?;
        let raw = exactly(input, layout.bytes)?;
        let constant = Constant::new(element, layout.dims, Payload::Raw(raw.into()))?;
        tensors.insert(layout.name, Value::of_constant(&constant, &Device::Cpu)?);
    }
    Ok(Some((text.message, tensors)))
}

/// Memory is taken as bytes come, whatever the length says.
fn exactly(input: &mut impl Read, length: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    input.take(length).read_to_end(&mut bytes).map_err(broken)?;
    if bytes.len() as u64 == length { Ok(bytes) } else { Err(Error::format(format!("{} bytes of {length} came", bytes.len()))) }
}

fn broken(e: io::Error) -> Error {
    Error::new(ErrorKind::Io, "a message cannot be received").because(e)
}

fn no_frame(head: &[u8]) -> Error {
    Error::format(format!("'{}' begins no message", String::from_utf8_lossy(head).escape_debug()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Tensor;

    fn tensors() -> Outputs {
        let floats = Tensor::new(&[[1.5f32, -2.0], [f32::INFINITY, 0.0]], &Device::Cpu).unwrap();
        let small = Tensor::new(&[-128i16, 127], &Device::Cpu).unwrap();
        [("x".to_string(), Value::plain(floats).unwrap()), ("q".to_string(), Value::new(Element::I8, small).unwrap())].into()
    }

    #[test]
    fn messages_and_tensors_arrive_as_they_were() {
        let order = Order {
            runtime: "native".into(),
            file: "/tmp/a b.onnx".into(),
            threads: 2,
            cores: vec![1],
            training: true,
            gpu: Some(1),
            seed: u64::MAX,
            memory: Some(1 << 40),
            names: compresso_target::Names::default(),
            inputs: vec![super::super::Input { name: "x".into(), element: 1, dims: vec![1, 3] }],
        };
        let mut wire = Vec::new();
        write(&mut wire, &Request::Open(Box::new(order.clone())), []).unwrap();
        write(&mut wire, &Request::Run, &tensors()).unwrap();
        let mut input = wire.as_slice();
        let (first, none) = read::<Request>(&mut input).unwrap().unwrap();
        assert!(matches!(first, Request::Open(o) if *o == order) && none.is_empty());
        let (second, got) = read::<Request>(&mut input).unwrap().unwrap();
        assert!(matches!(second, Request::Run));
        for ((name, sent), (other, got)) in tensors().iter().zip(&got) {
            assert_eq!(
                (name, sent.element, sent.dims(), sent.to_f64s().unwrap()),
                (other, got.element, got.dims(), got.to_f64s().unwrap())
            );
        }
        assert!(read::<Request>(&mut input).unwrap().is_none());
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        let mut wire = Vec::new();
        write(&mut wire, &Request::Run, &tensors()).unwrap();
        for cut in 1..wire.len() {
            assert!(read::<Request>(&mut &wire[..cut]).is_err(), "{cut} bytes of {}", wire.len());
        }
        let e = read::<Reply>(&mut &b"usage: compresso"[..]).unwrap_err();
        assert_eq!(e.message(), "'usage: c' begins no message");
        // A length that no memory holds.
        let huge = [&b"cmpr"[..], &u32::MAX.to_le_bytes(), b"{}"].concat();
        assert_eq!(read::<Reply>(&mut huge.as_slice()).unwrap_err().message(), "2 bytes of 4294967295 came");
    }

    #[test]
    fn errors_arrive_as_they_were() {
        let e = Error::dtype("no").because(Error::shape("inner")).hint("do").at("node 'a'").file("m.onnx");
        let back = Error::from(Failure::from(&e));
        assert_eq!((back.kind(), back.to_string()), (e.kind(), e.to_string()));
        assert!(KINDS.iter().all(|&k| Error::from(Failure::from(&Error::new(k, "x"))).kind() == k));
    }
}
