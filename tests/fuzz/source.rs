//! Choices that follow from bytes, so that a fuzzer that changes bytes changes choices.

/// Reads bytes in order; zeros after the end.
#[derive(Debug, Clone)]
pub struct Source<'a>(pub &'a [u8]);

impl Source<'_> {
    pub fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first
    }
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    /// Of `0..n`, and 0 for no numbers at all.
    pub fn below(&mut self, n: usize) -> usize {
        let wide = if n > 256 { usize::from(self.byte()) << 8 | usize::from(self.byte()) } else { usize::from(self.byte()) };
        wide % n.max(1)
    }
    /// True in so many of 256 cases; false once the bytes have ended.
    pub fn chance(&mut self, of_256: u8) -> bool {
        !self.is_empty() && self.byte() < of_256
    }
    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}
