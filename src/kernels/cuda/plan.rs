//! What runs on a device: buffers, and kernels with their geometry.

use crate::window::Window2;
use compresso_base::error::{Error, Result};

/// Threads of a block. Kernels that reduce within a block rely on it.
pub const THREADS: u32 = 256;

/// Most blocks of a kernel whose threads stride over their elements: enough for several waves of the largest GPUs.
const MOST_BLOCKS: usize = 1 << 15;

/// Most blocks along the second axis of a grid, a limit of CUDA's.
const MOST_ROWS: usize = 65_535;

/// Most elements of a tensor: kernels count them in 32 bits.
pub const MAX_ELEMENTS: usize = i32::MAX as usize;

/// Type of the elements of a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element {
    /// 32-bit floats.
    F32,
    /// 32-bit integers with a sign.
    I32,
    /// 32-bit integers without one.
    U32,
    /// Bytes; of either sign.
    U8,
}

impl Element {
    /// Bytes of an element.
    pub fn bytes(self) -> usize {
        if self == Self::U8 { 1 } else { 4 }
    }
}

/// Memory of the device that kernels read or write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Buffer {
    /// What it holds.
    pub element: Element,
    /// Number of elements.
    pub len: usize,
}

/// A table that kernels read.
#[derive(Debug, Clone, PartialEq)]
pub enum Constant {
    /// A buffer of [`Element::F32`].
    F32(Vec<f32>),
    /// A buffer of [`Element::I32`].
    I32(Vec<i32>),
}

/// An argument of a kernel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Arg {
    /// The number of a buffer: inputs first, then constants, then what is made.
    Buffer(usize),
    /// An `int`, by value.
    Int(i32),
    /// A `float`, by value.
    Float(f32),
    /// Input, kernel, stride, dilation, padding and output, each height and width.
    Window([i32; 12]),
}

/// A kernel on a grid of blocks of `block` threads.
#[derive(Debug, Clone, PartialEq)]
pub struct Launch {
    /// Its name in the sources; [`module_of`](super::module_of) finds the module.
    pub kernel: &'static str,
    /// Blocks along the first and the second axis.
    pub grid: [u32; 2],
    /// Threads of a block.
    pub block: u32,
    /// In the order of the kernel's parameters.
    pub args: Vec<Arg>,
}

/// Kernels that run one after another, as the functions of [`plans`](super::plans) put them together: nothing else makes a plan, so that
/// one that was tested is right for the buffers that it says. Launches with an empty grid are left out.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plan {
    /// What the caller gives.
    pub(crate) inputs: Vec<Buffer>,
    pub(crate) constants: Vec<Constant>,
    /// What kernels write. None is read before it is written.
    pub(crate) made: Vec<Buffer>,
    /// The numbers of the buffers that the caller gets.
    pub(crate) results: Vec<usize>,
    pub(crate) launches: Vec<Launch>,
}

impl Plan {
    /// A plan that reads inputs of these elements and lengths; their numbers are those of their places.
    ///
    /// # Errors
    /// `Unsupported` for more than [`MAX_ELEMENTS`].
    pub(super) fn of(inputs: &[(Element, usize)]) -> Result<Self> {
        let inputs = inputs.iter().map(|&(element, len)| count(len).map(|_| Buffer { element, len }));
        Ok(Self { inputs: inputs.collect::<Result<_>>()?, ..Self::default() })
    }
    /// A plan that reads floats.
    pub(super) fn floats(lens: &[usize]) -> Result<Self> {
        Self::of(&lens.iter().map(|&n| (Element::F32, n)).collect::<Vec<_>>())
    }
    /// A table; before anything is made.
    pub(super) fn constant(&mut self, table: Constant) -> Arg {
        debug_assert!(self.made.is_empty(), "constants come before what is made");
        self.constants.push(table);
        Arg::Buffer(self.inputs.len() + self.constants.len() - 1)
    }
    pub(super) fn scratch(&mut self, element: Element, len: usize) -> Result<Arg> {
        count(len)?;
        self.made.push(Buffer { element, len });
        Ok(Arg::Buffer(self.inputs.len() + self.constants.len() + self.made.len() - 1))
    }
    pub(super) fn result(&mut self, element: Element, len: usize) -> Result<Arg> {
        let arg = self.scratch(element, len)?;
        if let Arg::Buffer(i) = arg {
            self.results.push(i);
        }
        Ok(arg)
    }
    /// A kernel whose threads stride over `n` elements.
    pub(super) fn each(&mut self, kernel: &'static str, n: usize, args: impl IntoIterator<Item = Arg>) {
        self.grid(kernel, [n.div_ceil(THREADS as usize).min(MOST_BLOCKS), 1], args);
    }
    /// A kernel with a block for each of `rows`, or one that strides over them where there are too many.
    pub(super) fn rows(&mut self, kernel: &'static str, rows: usize, args: impl IntoIterator<Item = Arg>) {
        self.grid(kernel, [rows.min(MOST_BLOCKS), 1], args);
    }
    /// A kernel with `columns` blocks for each of `rows`; it strides over the rows.
    pub(super) fn plane(&mut self, kernel: &'static str, columns: usize, rows: usize, args: impl IntoIterator<Item = Arg>) {
        self.grid(kernel, [columns, rows.min(MOST_ROWS)], args);
    }
    /// A kernel that needs all of its blocks.
    ///
    /// # Errors
    /// `Unsupported` where CUDA has no such grid.
    pub(super) fn tiles(&mut self, kernel: &'static str, grid: [usize; 2], block: u32, args: impl IntoIterator<Item = Arg>) -> Result<()> {
        if grid[1] > MOST_ROWS {
            return Err(Error::unsupported(format!("the kernel {kernel} of {} blocks along one axis, CUDA has {MOST_ROWS}", grid[1])));
        }
        self.grid(kernel, grid, args);
        if let Some(launch) = self.launches.last_mut().filter(|l| l.kernel == kernel) {
            launch.block = block;
        }
        Ok(())
    }
    fn grid(&mut self, kernel: &'static str, grid: [usize; 2], args: impl IntoIterator<Item = Arg>) {
        if grid.contains(&0) {
            return;
        }
        // At most MAX_ELEMENTS columns and MOST_ROWS rows.
        let grid = grid.map(|n| n as u32);
        self.launches.push(Launch { kernel, grid, block: THREADS, args: args.into_iter().collect() });
    }
    /// The element and length of each buffer, by number.
    pub fn buffers(&self) -> impl Iterator<Item = Buffer> + '_ {
        let constants = self.constants.iter().map(|c| match c {
            Constant::F32(v) => Buffer { element: Element::F32, len: v.len() },
            Constant::I32(v) => Buffer { element: Element::I32, len: v.len() },
        });
        self.inputs.iter().copied().chain(constants).chain(self.made.iter().copied())
    }
}

/// A count as kernels take it.
///
/// # Errors
/// `Unsupported` above [`MAX_ELEMENTS`].
pub(super) fn count(n: usize) -> Result<i32> {
    i32::try_from(n).map_err(|_| Error::unsupported(format!("kernels on CUDA take tensors of at most {MAX_ELEMENTS} elements, got {n}")))
}

/// A count as an argument.
pub(super) fn int(n: usize) -> Result<Arg> {
    count(n).map(Arg::Int)
}

/// # Errors
/// `Shape` for a window out of range, `Unsupported` for one whose positions do not fit 32 bits.
pub(super) fn window(w: &Window2) -> Result<Arg> {
    w.check()?;
    let mut all = [0; 12];
    let pairs = [w.input, w.kernel, w.stride, w.dilation, w.pad, w.output];
    for (to, n) in all.iter_mut().zip(pairs.as_flattened()) {
        *to = count(*n)?;
    }
    count(w.span(0).max(w.span(1)))?;
    Ok(Arg::Window(all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grids_cover_their_elements_within_cudas_limits() {
        let grid = |make: &dyn Fn(&mut Plan)| {
            let mut plan = Plan::default();
            make(&mut plan);
            plan.launches.first().map(|l| l.grid)
        };
        assert_eq!(grid(&|p| p.each("k", 1, [])), Some([1, 1]));
        assert_eq!(grid(&|p| p.each("k", 257, [])), Some([2, 1]));
        assert_eq!(grid(&|p| p.each("k", MAX_ELEMENTS, [])), Some([MOST_BLOCKS as u32, 1]));
        assert_eq!(grid(&|p| p.plane("k", 3, 70_000, [])), Some([3, 65_535]));
        // Nothing to do is no launch: CUDA refuses an empty grid.
        assert_eq!(grid(&|p| p.each("k", 0, [])), None);
        assert_eq!(grid(&|p| p.plane("k", 0, 4, [])), None);
        let mut plan = Plan::default();
        assert!(plan.tiles("k", [1, 65_536], 32, []).is_err() && plan.launches.is_empty());
    }

    #[test]
    fn what_does_not_fit_32_bits_is_refused() {
        assert!(Plan::floats(&[MAX_ELEMENTS]).is_ok());
        let e = Plan::floats(&[MAX_ELEMENTS + 1]).unwrap_err();
        assert!(e.to_string().contains("2147483647"), "{e}");
    }
}
