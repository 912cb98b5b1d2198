//! The sockets of a kernel, and messages on them.
//!
//! Jupyter messaging protocol 5.3 (<https://jupyter-client.readthedocs.io/en/stable/messaging.html>). Each socket has tasks of
//! its own on two threads, so that heartbeat and control answer while a cell runs.

use crate::error::{Error, Result};
use jupyter_protocol::{ConnectionInfo, Header, JupyterMessage, JupyterMessageContent, UnknownMessage};
use jupyter_zmq_client as zmq;
use serde_json::{Value as Json, json};
use std::collections::{HashSet, VecDeque};
use std::path::Path;
use tokio::sync::mpsc;
use zeromq::{SocketRecv, SocketSend};

/// Messages that wait to be sent on one socket before a sender has to wait.
const QUEUE: usize = 1024;
/// Signatures that are remembered: a message seen before is dropped.
const REMEMBERED: usize = 16_384;
/// Stream text longer than this is sent in pieces.
const LONGEST_STREAM: usize = 1 << 16;

/// A message from a front end, its signature verified.
#[derive(Debug, Clone)]
pub struct Request {
    identities: Vec<bytes::Bytes>,
    header: Header,
    /// What the front end says beside the content, such as the cell's id.
    pub metadata: Json,
    /// The fields of its message type.
    pub content: Json,
}

impl Request {
    /// The message type, such as `execute_request`.
    pub fn kind(&self) -> &str {
        &self.header.msg_type
    }
    /// The message type of the answer; `None` for a message that is not a request.
    pub fn reply_kind(&self) -> Option<String> {
        Some(format!("{}_reply", self.kind().strip_suffix("_request")?))
    }
    /// Text of the content's field; empty when it is missing.
    pub fn text(&self, field: &str) -> &str {
        self.content[field].as_str().unwrap_or_default()
    }
    /// The content's field as true or false; `default` when it is missing.
    pub fn flag(&self, field: &str, default: bool) -> bool {
        self.content[field].as_bool().unwrap_or(default)
    }
}

/// A message to a front end.
pub struct Outgoing {
    kind: String,
    content: Json,
    parent: Option<Request>,
    /// Sent to the peer that the parent came from (replies), not to all (iopub).
    addressed: bool,
}

/// Sends on one socket, in order, from any thread.
#[derive(Clone)]
pub struct Sender(mpsc::Sender<Outgoing>);

impl Sender {
    fn send(&self, message: Outgoing) {
        // The other end is gone only when the process ends.
        match tokio::runtime::Handle::try_current() {
            Err(_) => drop(self.0.blocking_send(message)),
            // Inside a task nothing may block; the queue is long.
            Ok(_) => drop(self.0.try_send(message)),
        }
    }
    /// To all front ends.
    pub fn publish(&self, kind: &str, content: Json, parent: Option<&Request>) {
        self.send(Outgoing { kind: kind.into(), content, parent: parent.cloned(), addressed: false });
    }
    /// To the front end that sent `parent`.
    pub fn reply(&self, kind: &str, content: Json, parent: &Request) {
        self.send(Outgoing { kind: kind.into(), content, parent: Some(parent.clone()), addressed: true });
    }
    /// Waits, for at most a second, until all has been handed to the socket.
    pub fn drain(&self) {
        for _ in 0..100 {
            if self.0.capacity() == self.0.max_capacity() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}

/// What arrives on a socket that can be read.
pub type Incoming = mpsc::UnboundedReceiver<Request>;

/// Puts a request among those that arrive.
pub type Handover = mpsc::UnboundedSender<Request>;

/// A kernel's sockets.
pub struct Wire {
    pub iopub: Sender,
    pub shell: (Sender, Incoming),
    /// Among those of the shell socket.
    pub handover: Handover,
    pub control: (Sender, Incoming),
    pub stdin: (Sender, Incoming),
}

/// Reads a connection file.
///
/// # Errors
/// `Io`; `Format` for a file that is none, for a signature scheme other than HMAC-SHA256, and for an address that other
/// machines reach without a key.
pub fn connection(path: &Path) -> Result<ConnectionInfo> {
    let text = std::fs::read(path).map_err(|e| Error::io(path, e))?;
    let info: ConnectionInfo =
        serde_json::from_slice(&text).map_err(|e| Error::format("this is no connection file of Jupyter").because(e).file(path))?;
    let wrong = |what: String| Err(Error::format(what).file(path));
    if info.signature_scheme != "hmac-sha256" {
        return wrong(format!("messages are signed with 'hmac-sha256' here, not with {:?}", info.signature_scheme));
    }
    let local = matches!(info.transport, jupyter_protocol::connection_info::Transport::IPC)
        || info.ip == "localhost"
        || info.ip.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    if !local && info.key.is_empty() {
        return wrong(format!("anyone who reaches {} could run code here: the key must not be empty", info.ip));
    }
    if !local {
        eprintln!("compresso: this kernel listens on {}, which other machines may reach", info.ip);
    }
    Ok(info)
}

/// Binds the sockets and starts their tasks on the current runtime.
///
/// # Errors
/// `Io` when an address cannot be bound.
pub async fn bind(info: &ConnectionInfo) -> Result<Wire> {
    let session = uuid::Uuid::new_v4().to_string();
    let failed =
        |socket: &str, at: String, e: zmq::RuntimeError| Error::io(Path::new(&format!("{socket} at {at}")), std::io::Error::other(e));
    let iopub = zmq::create_kernel_iopub_connection(info, &session).await.map_err(|e| failed("iopub socket", info.iopub_url(), e))?;
    let shell = zmq::create_kernel_shell_connection(info, &session).await.map_err(|e| failed("shell socket", info.shell_url(), e))?;
    let control =
        zmq::create_kernel_control_connection(info, &session).await.map_err(|e| failed("control socket", info.control_url(), e))?;
    let stdin = zmq::create_kernel_stdin_connection(info, &session).await.map_err(|e| failed("stdin socket", info.stdin_url(), e))?;
    let mut heart = zmq::create_kernel_heartbeat_connection(info).await.map_err(|e| failed("heartbeat socket", info.hb_url(), e))?;
    tokio::spawn(async move {
        loop {
            // The answer is what came.
            let beat = heart.socket.recv().await;
            let answered = match beat {
                Ok(beat) => heart.socket.send(beat).await,
                Err(e) => Err(e),
            };
            if answered.is_err() {
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    });
    let (handover, requests) = mpsc::unbounded_channel();
    let (send, receive) = shell.split();
    reader(receive, handover.clone());
    Ok(Wire { iopub: writer(iopub), shell: (writer(send), requests), handover, control: both(control), stdin: both(stdin) })
}

fn both(connection: zmq::Connection<zeromq::RouterSocket>) -> (Sender, Incoming) {
    let (send, receive) = connection.split();
    let (sender, incoming) = mpsc::unbounded_channel();
    reader(receive, sender);
    (writer(send), incoming)
}

fn writer<S: zeromq::SocketSend + Send + 'static>(mut connection: zmq::Connection<S>) -> Sender {
    let (sender, mut queue) = mpsc::channel::<Outgoing>(QUEUE);
    tokio::spawn(async move {
        let mut next = None;
        loop {
            let Some(mut message) = (match next.take() {
                Some(m) => Some(m),
                None => queue.recv().await,
            }) else {
                return;
            };
            // Lines that wait go out together.
            while let Ok(following) = queue.try_recv() {
                if let Some(rest) = joined(&mut message, following) {
                    next = Some(rest);
                    break;
                }
            }
            let kind = message.kind.clone();
            if let Err(e) = connection.send(message.into()).await {
                // The peer has gone; there is nobody to tell.
                eprintln!("compresso: a {kind} message could not be sent: {e}");
            }
        }
    });
    Sender(sender)
}

/// Appends the text of a stream message to one of the same stream before it; gives back what does not fit.
fn joined(message: &mut Outgoing, following: Outgoing) -> Option<Outgoing> {
    let parent = |m: &Outgoing| m.parent.as_ref().map(|p| p.header.msg_id.clone());
    let same = message.kind == "stream"
        && following.kind == "stream"
        && message.content["name"] == following.content["name"]
        && parent(message) == parent(&following);
    match (message.content.get_mut("text"), following.content["text"].as_str()) {
        (Some(Json::String(text)), Some(more)) if same && text.len() + more.len() <= LONGEST_STREAM => {
            text.push_str(more);
            None
        }
        _ => Some(following),
    }
}

impl From<Outgoing> for JupyterMessage {
    fn from(m: Outgoing) -> Self {
        let content = UnknownMessage { msg_type: m.kind.clone(), content: m.content };
        let mut message = Self::new(JupyterMessageContent::UnknownMessage(content), None);
        message.header.username = "kernel".into();
        let (parent, identities) = match m.parent {
            Some(r) => (Some(r.header), r.identities),
            None => (None, Vec::new()),
        };
        message.parent_header = parent;
        // Subscribers filter by the first frame.
        message.zmq_identities = if m.addressed { identities } else { vec![m.kind.into_bytes().into()] };
        message
    }
}

fn reader(mut connection: zmq::Connection<zeromq::RouterRecvHalf>, sender: Handover) {
    tokio::spawn(async move {
        let mut seen = Seen::default();
        loop {
            let Ok(frames) = connection.socket.recv().await else {
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                continue;
            };
            match parse(frames, &connection, &mut seen) {
                Ok(request) => {
                    if sender.send(request).is_err() {
                        return;
                    }
                }
                Err(why) => eprintln!("compresso: a message was dropped: {why}"),
            }
        }
    });
}

fn parse(frames: zeromq::ZmqMessage, connection: &zmq::Connection<zeromq::RouterRecvHalf>, seen: &mut Seen) -> Result<Request, String> {
    let signature = frames.iter().skip_while(|f| f.as_ref() != b"<IDS|MSG>").nth(1).cloned();
    let raw = zmq::RawMessage::from_multipart(frames, &connection.mac).map_err(|e| match e {
        zmq::RuntimeError::VerifyError(_) | zmq::RuntimeError::DecodeError(_) => "its signature is wrong".to_string(),
        e => e.to_string(),
    })?;
    if let Some(signature) = signature.filter(|s| connection.mac.is_some() && !s.is_empty())
        && !seen.is_new(signature.to_vec())
    {
        return Err("it was received before".into());
    }
    request(raw)
}

/// The request in the frames of one message, as a kernel without a key reads it.
///
/// # Errors
/// What is wrong with it.
pub fn read(frames: Vec<bytes::Bytes>) -> Result<Request, String> {
    let message = zeromq::ZmqMessage::try_from(frames).map_err(|e| e.to_string())?;
    request(zmq::RawMessage::from_multipart(message, &None).map_err(|e| e.to_string())?)
}

fn request(raw: zmq::RawMessage) -> Result<Request, String> {
    let part = |i: usize, name: &str| -> Result<Json, String> {
        serde_json::from_slice(&raw.jparts[i]).map_err(|e| format!("its {name} is no JSON: {e}"))
    };
    let header: Header = serde_json::from_slice(&raw.jparts[0]).map_err(|e| format!("its header is wrong: {e}"))?;
    let object =
        |i: usize, name: &str| part(i, name).and_then(|j| if j.is_object() { Ok(j) } else { Err(format!("its {name} is no object")) });
    object(1, "parent header")?;
    let (metadata, content) = (object(2, "metadata")?, object(3, "content")?);
    Ok(Request { identities: raw.zmq_identities, header, metadata, content })
}

/// The signatures of the messages received last.
#[derive(Default)]
struct Seen {
    set: HashSet<Vec<u8>>,
    order: VecDeque<Vec<u8>>,
}

impl Seen {
    fn is_new(&mut self, signature: Vec<u8>) -> bool {
        if !self.set.insert(signature.clone()) {
            return false;
        }
        self.order.push_back(signature);
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.set.remove(&oldest);
        }
        true
    }
}

/// The content of a failed reply.
pub fn error_content(error: &super::CellError) -> Json {
    json!({ "status": "error", "ename": error.name, "evalue": error.message, "traceback": error.traceback })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(name: &str, text: &str) -> Outgoing {
        Outgoing { kind: "stream".into(), content: json!({ "name": name, "text": text }), parent: None, addressed: false }
    }

    #[test]
    fn waiting_lines_of_one_stream_are_sent_together() {
        let mut first = stream("stdout", "a\n");
        assert!(joined(&mut first, stream("stdout", "b\n")).is_none());
        assert_eq!(first.content["text"], "a\nb\n");
        assert!(joined(&mut first, stream("stderr", "c\n")).is_some());
        assert!(joined(&mut first, stream("stdout", &"x".repeat(LONGEST_STREAM))).is_some());
        assert_eq!(first.content["text"], "a\nb\n");
        let status = || Outgoing { kind: "status".into(), content: json!({ "execution_state": "busy" }), parent: None, addressed: false };
        let mut first = status();
        assert!(joined(&mut first, status()).is_some());
        assert_eq!(first.content, status().content);
    }

    #[test]
    fn a_message_seen_before_is_not_new_until_it_is_forgotten() {
        let mut seen = Seen::default();
        assert!(seen.is_new(vec![0; 4]));
        assert!(!seen.is_new(vec![0; 4]));
        for i in 1..=REMEMBERED as u32 {
            assert!(seen.is_new(i.to_le_bytes().to_vec()));
        }
        assert!(seen.is_new(vec![0; 4]));
    }

    #[test]
    fn an_open_address_needs_a_key() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.json");
        let write = |ip: &str, key: &str, scheme: &str| {
            let json = json!({ "ip": ip, "transport": "tcp", "shell_port": 1, "iopub_port": 2, "stdin_port": 3, "control_port": 4,
                "hb_port": 5, "key": key, "signature_scheme": scheme });
            std::fs::write(&path, json.to_string()).unwrap();
        };
        write("127.0.0.1", "", "hmac-sha256");
        connection(&path).unwrap();
        write("0.0.0.0", "k", "hmac-sha256");
        connection(&path).unwrap();
        write("0.0.0.0", "", "hmac-sha256");
        assert!(connection(&path).unwrap_err().to_string().contains("key must not be empty"));
        write("127.0.0.1", "k", "hmac-md5");
        assert!(connection(&path).unwrap_err().to_string().contains("hmac-md5"));
        std::fs::write(&path, "{}").unwrap();
        assert!(connection(&path).unwrap_err().to_string().contains("no connection file"));
    }
}
