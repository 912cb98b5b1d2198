//! Register tiles of convolution: sums of products of a few pixels for the [`LANES`] output channels of a [`Panel`], and
//! what makes reals or bytes of them.

use super::pack::{Ends, LANES, ORDER, Panel};
use super::quant::Quant;
use crate::level::Level;

#[cfg(target_arch = "x86_64")]
mod groups;
mod sums;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use sums::MAX_PIXELS;

/// The kernel of one panel as that of several.
macro_rules! alone {
    ($f:path) => {{
        unsafe fn run(panels: &[&Panel], ends: &[&Ends], at: &[*const u8], to: &[*mut u8], pitch: usize, quant: Option<Quant>) {
            // SAFETY: the caller's promise, for the one panel.
            unsafe { $f(panels[0], ends[0], at, to[0], pitch, quant) };
        }
        &[run as Run]
    }};
}
/// One way to compute tiles.
#[derive(Debug, Clone, Copy)]
pub struct TileKernel {
    /// Pixels that are computed at once; a run takes a multiple of it, up to [`MAX_PIXELS`].
    pub pixels: usize,
    /// Sums are made in 16 bits: panels need groups.
    pub grouped: bool,
    pub name: &'static str,
    /// For one panel, and for more that have the same offsets, where that takes fewer loads than one after the other.
    several: &'static [Run],
}

/// Writes [`LANES`] results of each panel for each pixel `p` at `to + p · pitch` (in bytes): bytes with a [`Quant`], float32
/// without. `ends` are those of the panels, or what they are for a measured input.
///
/// # Safety
/// The machine has the instructions. There are as many panels as the function is for, and as many of `ends` and `to`. Each of `at` is
/// where a pixel's window begins: all that the steps of the panels read there is readable. The results are writable.
pub type Run = unsafe fn(panels: &[&Panel], ends: &[&Ends], at: &[*const u8], to: &[*mut u8], pitch: usize, quant: Option<Quant>);

/// Most panels that a tile takes.
pub const MOST_PANELS: usize = 4;

impl TileKernel {
    pub fn dense(level: Level) -> Self {
        #[cfg(target_arch = "x86_64")]
        match level {
            Level::Portable => {}
            Level::Avx512 if x86::has_vnni() => {
                return Self { pixels: 1, grouped: false, name: "avx512 vnni", several: VNNI };
            }
            Level::Avx2 | Level::Avx512 if x86::has_avx_vnni() => {
                return Self { pixels: 6, grouped: false, name: "avx vnni", several: alone!(x86::avx_vnni) };
            }
            Level::Avx2 | Level::Avx512 => return Self { pixels: 3, grouped: true, name: "avx2", several: alone!(x86::dense) },
        }
        let _ = level;
        Self { pixels: 1, grouped: false, name: "portable", several: alone!(dense) }
    }

    pub fn depthwise(level: Level) -> Self {
        #[cfg(target_arch = "x86_64")]
        if level != Level::Portable {
            return Self { pixels: 2, grouped: false, name: "avx2", several: alone!(x86::depthwise) };
        }
        let _ = level;
        Self { pixels: 1, grouped: false, name: "portable", several: alone!(depthwise) }
    }

    /// How many of so many panels that have the same offsets are taken next, and by what.
    pub fn next(&self, left: usize) -> (usize, Run) {
        let most = self.several.len();
        // Rather twice three than four and two, rather three and two than four and one.
        let count = if most == MOST_PANELS && matches!(left, 5 | 6 | 9) { 3 } else { left.clamp(1, most) };
        (count, self.several[count - 1])
    }
}

/// Tiles of one to four panels.
#[cfg(target_arch = "x86_64")]
const VNNI: &[Run] = &[x86::vnni::<8, 1>, x86::vnni::<8, 2>, x86::vnni::<8, 3>, x86::vnni::<6, 4>];

unsafe fn dense(panel: &Panel, ends: &Ends, at: &[*const u8], to: *mut u8, pitch: usize, quant: Option<Quant>) {
    for (p, at) in at.iter().enumerate() {
        let mut sums = ends.start;
        for (&offset, step) in panel.offsets.iter().zip(&panel.steps) {
            // SAFETY: a step of the panel reads here.
            let x = unsafe { at.add(offset as usize).cast::<[u8; 4]>().read() }.map(i32::from);
            for (sum, w) in sums.iter_mut().zip(step.0.chunks_exact(4)) {
                *sum += x.iter().zip(w).map(|(x, &w)| x * i32::from(w)).sum::<i32>();
            }
        }
        // SAFETY: the results of a pixel.
        unsafe { finish(ends, &sums, to.add(p * pitch), quant) };
    }
}

unsafe fn depthwise(panel: &Panel, ends: &Ends, at: &[*const u8], to: *mut u8, pitch: usize, quant: Option<Quant>) {
    for (p, at) in at.iter().enumerate() {
        let mut sums = ends.start;
        for (offsets, step) in panel.offsets.chunks_exact(2).zip(&panel.steps) {
            for (k, &offset) in offsets.iter().enumerate() {
                // SAFETY: a step of the panel reads here.
                let x = unsafe { at.add(offset as usize).cast::<[u8; LANES]>().read() };
                for (lane, sum) in sums.iter_mut().enumerate() {
                    let at = (lane * 2 + k) * 2;
                    let w = i16::from_ne_bytes([step.0[at] as u8, step.0[at + 1] as u8]);
                    *sum += i32::from(x[ORDER[lane]]) * i32::from(w);
                }
            }
        }
        // SAFETY: the results of a pixel.
        unsafe { finish(ends, &sums, to.add(p * pitch), quant) };
    }
}

/// # Safety
/// The [`LANES`] results at `to` are writable.
unsafe fn finish(ends: &Ends, sums: &[i32; LANES], to: *mut u8, quant: Option<Quant>) {
    let mut reals = [0.0; LANES];
    for (lane, channel) in ORDER.into_iter().enumerate() {
        reals[channel] = sums[lane] as f32 * ends.scales[lane] + ends.bias[lane];
    }
    // SAFETY: the caller's promise.
    unsafe {
        match quant {
            Some(q) => to.cast::<[u8; LANES]>().write(reals.map(|real| q.byte(real))),
            None => to.cast::<[f32; LANES]>().write_unaligned(reals),
        }
    }
}
