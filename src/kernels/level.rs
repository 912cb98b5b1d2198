//! Instruction sets, chosen at run time.

use compresso_base::error::{Error, Result};

/// Instructions to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// None but those that the program is compiled for; on any machine.
    Portable,
    /// AVX2 and FMA of x86-64.
    Avx2,
    /// AVX-512F of x86-64.
    Avx512,
}

impl Level {
    /// The best that this machine has.
    pub fn best() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if std::arch::is_x86_feature_detected!("avx512f") {
                return Self::Avx512;
            }
            if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
                return Self::Avx2;
            }
        }
        Self::Portable
    }
    /// True when this machine can run it.
    pub fn available(self) -> bool {
        self as u8 <= Self::best() as u8
    }
    /// # Errors
    /// `Unavailable` when this machine cannot run it.
    pub fn check(self) -> Result<()> {
        if self.available() {
            return Ok(());
        }
        Err(Error::unavailable(format!("this machine has the instructions of {:?}, not of {self:?}", Self::best())))
    }
    /// Floats of a vector.
    pub fn lanes(self) -> usize {
        if self == Self::Avx512 { 16 } else { 8 }
    }
    /// Heights of the tiles of `conv::tile::multiply` that cover `rows` output channels with the least waste.
    pub fn heights(self, rows: usize) -> Vec<usize> {
        let (tall, low) = match self {
            Self::Avx512 => (8, 4),
            Self::Avx2 => (6, 4),
            Self::Portable => (4, 4),
        };
        let (mut full, rest) = (rows / tall, rows % tall);
        let lows = match rest {
            0 => 0,
            // Two more rows than a multiple of six: 6 + 2 = 4 + 4.
            1 | 2 if tall == 6 && full > 0 => {
                full -= 1;
                2
            }
            _ if rest <= low => 1,
            _ => {
                full += 1;
                0
            }
        };
        [vec![tall; full], vec![low; lows]].concat()
    }
    /// Rows of a tile of `conv::tile::accumulate`.
    pub fn taps(self) -> usize {
        if self == Self::Avx512 { 8 } else { 6 }
    }
}
