//! Protobuf messages, as far as a model file needs them. <https://protobuf.dev/programming-guides/encoding/>

/// A message in the making; fields stand in the order in which they are added.
#[derive(Debug, Default, Clone)]
pub(super) struct Message(Vec<u8>);

fn put(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

impl Message {
    pub fn new() -> Self {
        Self::default()
    }
    /// A number; 0 is what a reader takes for one that is left out.
    #[must_use]
    pub fn number(mut self, field: u32, value: u64) -> Self {
        if value != 0 {
            put(&mut self.0, u64::from(field) << 3);
            put(&mut self.0, value);
        }
        self
    }
    #[must_use]
    pub fn bytes(mut self, field: u32, value: &[u8]) -> Self {
        put(&mut self.0, (u64::from(field) << 3) | 2);
        put(&mut self.0, value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }
    #[must_use]
    pub fn text(self, field: u32, value: &str) -> Self {
        self.bytes(field, value.as_bytes())
    }
    #[must_use]
    pub fn message(self, field: u32, value: &Self) -> Self {
        self.bytes(field, &value.0)
    }
    /// A list of numbers, packed; negative ones as in `int32` and `int64`.
    #[must_use]
    pub fn numbers(self, field: u32, values: impl Iterator<Item = i64>) -> Self {
        let mut packed = Vec::new();
        values.for_each(|v| put(&mut packed, v as u64));
        self.bytes(field, &packed)
    }
    /// An entry of a map from texts.
    #[must_use]
    pub fn entry(self, field: u32, key: &str, value: &Self) -> Self {
        self.message(field, &Self::new().text(1, key).message(2, value))
    }
    pub fn finish(self) -> Vec<u8> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of the format's own documentation.
    #[test]
    fn fields_are_encoded_as_the_documentation_has_them() {
        assert_eq!(Message::new().number(1, 150).finish(), [0x08, 0x96, 0x01]);
        assert_eq!(Message::new().text(2, "testing").finish(), b"\x12\x07testing");
        assert_eq!(Message::new().message(3, &Message::new().number(1, 150)).finish(), [0x1a, 0x03, 0x08, 0x96, 0x01]);
        assert_eq!(Message::new().numbers(6, [3, 270, 86942].into_iter()).finish(), [0x32, 6, 3, 0x8e, 2, 0x9e, 0xa7, 5]);
        assert_eq!(Message::new().numbers(1, [-2].into_iter()).finish()[..3], [0x0a, 10, 0xfe]);
        assert!(Message::new().number(1, 0).finish().is_empty());
    }
}
