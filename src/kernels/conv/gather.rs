//! Copies of parts of images, padded and split by stride, in which every tap of a window is a plain offset.

use super::grown;
use super::winograd::tiles;
use crate::level::Level;

/// Which part of an image is copied, and how it is laid out.
///
/// Element `(channel, phase_y, phase_x, t, u)` of the copy is the input at row `t · step[0] + phase_y + origin[0]` and
/// column `u · step[1] + phase_x + origin[1]`, or 0 outside. So a window with stride `step` becomes one with stride 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gather {
    /// Height and width of the image.
    pub size: [usize; 2],
    pub step: [usize; 2],
    pub origin: [isize; 2],
    /// Phases that are stored in each direction, at most `step`.
    pub phases: [usize; 2],
    /// Rows and columns of each phase.
    pub rows: usize,
    pub pitch: usize,
}

/// Floats after the last element that vectors may read.
pub const SLACK: usize = 64;

impl Gather {
    /// Elements from one phase to the next. Kept off multiples of 4 KiB, which would share sets of the cache.
    pub fn plane(&self) -> usize {
        let n = self.rows * self.pitch;
        if n.is_multiple_of(256) { n + 16 } else { n }
    }
    /// Elements from one channel to the next.
    pub fn channel(&self) -> usize {
        self.plane() * self.phases[0] * self.phases[1]
    }
    /// Offset, within a channel, of what lies `shift` input rows and columns after the position of an output.
    pub fn offset(&self, shift: [usize; 2]) -> usize {
        let phase = (shift[0] % self.step[0]) * self.phases[1] + shift[1] % self.step[1];
        phase * self.plane() + shift[0] / self.step[0] * self.pitch + shift[1] / self.step[1]
    }
    /// Copies `channels` planes of `x` into `to`.
    pub fn copy(&self, channels: usize, x: &[f32], to: &mut Vec<f32>) {
        let len = channels * self.channel() + SLACK;
        self.copy_to(channels, x, grown(to, len));
    }
    /// As [`Gather::copy`], into a slice of `channels · channel() + SLACK` floats.
    pub fn copy_to(&self, channels: usize, x: &[f32], to: &mut [f32]) {
        let len = channels * self.channel() + SLACK;
        let area = self.size[0] * self.size[1];
        for c in 0..channels {
            let image = &x[c * area..][..area];
            for py in 0..self.phases[0] {
                for px in 0..self.phases[1] {
                    let start = c * self.channel() + (py * self.phases[1] + px) * self.plane();
                    let plane = &mut to[start..][..self.plane()];
                    self.copy_phase(image, self.origin[0] + py as isize, self.origin[1] + px as isize, plane);
                }
            }
        }
        to[len - SLACK..len].fill(0.0);
    }

    fn copy_phase(&self, image: &[f32], first_row: isize, first_column: isize, plane: &mut [f32]) {
        let [height, width] = self.size;
        let step = self.step[1];
        // Columns u with 0 <= u · step + first_column < width.
        let before = ((-first_column).max(0) as usize).div_ceil(step).min(self.pitch);
        let end = (width as isize - first_column).max(0) as usize;
        let inside = end.div_ceil(step).clamp(before, self.pitch);
        let (rows, rest) = plane.split_at_mut(self.rows * self.pitch);
        rest.fill(0.0);
        for (t, row) in rows.chunks_exact_mut(self.pitch).enumerate() {
            let y = (t * self.step[0]) as isize + first_row;
            if y < 0 || y as usize >= height || before == inside {
                row.fill(0.0);
                continue;
            }
            let column = ((before * step) as isize + first_column) as usize;
            let source = &image[y as usize * width + column..(y as usize + 1) * width];
            let (left, middle) = row.split_at_mut(before);
            let (middle, right) = middle.split_at_mut(inside - before);
            left.fill(0.0);
            right.fill(0.0);
            match step {
                1 => middle.copy_from_slice(&source[..middle.len()]),
                2 => halve(source, middle),
                _ => middle.iter_mut().zip(source.iter().step_by(step)).for_each(|(m, s)| *m = *s),
            }
        }
    }
}

/// Every second element, from the first on.
fn halve(from: &[f32], to: &mut [f32]) {
    // The last one may have no neighbour.
    let pairs = to.len().min(from.len() / 2);
    let done = if pairs < 8 { 0 } else { pairs };
    if done > 0 {
        tiles::halve(Level::best(), from, &mut to[..done]);
    }
    to[done..].iter_mut().zip(from[2 * done..].iter().step_by(2)).for_each(|(t, v)| *t = *v);
}

/// Elements of both, of one length, in turn.
pub fn join(even: &[f32], odd: &[f32], to: &mut [f32]) {
    if even.len() >= 8 {
        return tiles::join(Level::best(), even, odd, to);
    }
    to.as_chunks_mut::<2>().0.iter_mut().zip(even).zip(odd).for_each(|((t, &a), &b)| *t = [a, b]);
}
