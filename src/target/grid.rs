//! Integers that quantized values may take.

use compresso_model::Element;

/// The integers that quantized values may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grid {
    /// The type that holds them.
    pub element: Element,
    /// The least.
    pub low: i32,
    /// The greatest.
    pub high: i32,
    /// Zero point in the middle of the grid.
    pub symmetric: bool,
}

impl Grid {
    /// uint8, 0 to 255, any zero point.
    pub const UINT8: Self = Self { element: Element::U8, low: 0, high: 255, symmetric: false };
    /// int8, -127 to 127, zero point 0.
    pub const INT8: Self = Self { element: Element::I8, low: -127, high: 127, symmetric: true };
    /// int16, -32767 to 32767, zero point 0.
    pub const INT16: Self = Self { element: Element::I16, low: -32767, high: 32767, symmetric: true };

    /// The same with one bit less, for processors whose 8-bit products overflow 16 bits when they are added up (x86
    /// without VNNI): int8 -64 to 64, uint8 0 to 127.
    #[must_use]
    pub fn reduced(self) -> Self {
        match self.element {
            Element::U8 => Self { high: 127, ..self },
            _ => Self { low: -64, high: 64, ..self },
        }
    }

    /// The same type with the integers of so many bits, as many on either side of zero: 4 bits are -7 to 7.
    ///
    /// # Panics
    /// When `bits` is not 2 to 16.
    #[must_use]
    pub fn around_zero(self, bits: usize) -> Self {
        assert!((2..=16).contains(&bits), "a grid of {bits} bits");
        let high = (1 << (bits - 1)) - 1;
        Self { low: -high, high, symmetric: true, ..self }
    }
}
