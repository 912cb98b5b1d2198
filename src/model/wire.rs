//! What a file had of an item of the graph.

use bytes::Bytes;

/// How a file encoded an item of the graph: its own protobuf message (of the model, for a graph). Export starts from it,
/// so that what the library does not use (documentation, which empty fields were present, field order, unknown fields)
/// is written back, byte for byte where the item did not change. Owned by `model::onnx`.
#[derive(Clone, Default)]
pub(crate) struct Wire(pub(crate) Option<Bytes>);

impl PartialEq for Wire {
    /// Always equal: an encoding never changes what a graph means.
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "Wire(..)" } else { "Wire" })
    }
}
