//! Memory and order of a planned network: jobs on slots of one arena.
//!
//! This is where the promise that jobs rely on is kept: every slot is checked against its buffer when a step is added, and
//! only one step runs at a time.

use super::team::Team;
use super::{Args, Job};
use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};

/// What a slot lies in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Buffer {
    /// Memory of the program, written by steps.
    Arena,
    /// Values that were given with the program.
    Constants,
    /// The n-th input of a run, of the size given when the program was made.
    Input(usize),
}

/// Where a view lies: bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    pub buffer: Buffer,
    /// Of the first element of the first image.
    pub offset: usize,
    /// From one image to the next.
    pub image: usize,
    /// From the first byte to the last of one image, both included.
    pub reach: usize,
}

/// A job on slots, for each of `images` images.
pub struct Step {
    pub job: Box<dyn Job>,
    pub images: usize,
    pub inputs: Vec<Slot>,
    pub outputs: Vec<Slot>,
}

impl std::fmt::Debug for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.job.name())
    }
}

/// Memory aligned to cache lines.
struct Memory {
    start: *mut u8,
    layout: Layout,
}

// SAFETY: the memory is owned, and reached through `&` and `&mut` of its owner only.
unsafe impl Send for Memory {}
// SAFETY: as above; shared references only read.
unsafe impl Sync for Memory {}

impl Memory {
    fn new(bytes: usize) -> Self {
        let layout = Layout::from_size_align(bytes.max(64), 64).expect("an arena smaller than the address space");
        // SAFETY: the size is not zero.
        let start = unsafe { alloc_zeroed(layout) };
        if start.is_null() {
            handle_alloc_error(layout);
        }
        Self { start, layout }
    }
    fn bytes(&self) -> &[u8] {
        // SAFETY: the allocation is initialized and lives as long as `self`.
        unsafe { std::slice::from_raw_parts(self.start, self.layout.size()) }
    }
    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `self` is borrowed for writing.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.layout.size()) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: made with this layout.
        unsafe { dealloc(self.start, self.layout) };
    }
}

/// Jobs in order, with their memory and threads.
pub struct Program {
    steps: Vec<Step>,
    arena: Memory,
    constants: Memory,
    scratch: Vec<Memory>,
    inputs: Vec<usize>,
    team: Team,
}

impl std::fmt::Debug for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Program").field("steps", &self.steps).field("arena", &self.arena.layout.size()).finish_non_exhaustive()
    }
}

impl Program {
    /// A program of no steps over an arena of `arena` bytes; `inputs` are the sizes of each run's inputs in bytes.
    ///
    /// # Errors
    /// When the threads cannot be started.
    pub fn new(arena: usize, constants: &[u8], inputs: Vec<usize>, threads: usize) -> std::io::Result<Self> {
        let team = Team::new(threads)?;
        let mut memory = Memory::new(constants.len());
        memory.bytes_mut()[..constants.len()].copy_from_slice(constants);
        Ok(Self { steps: Vec::new(), arena: Memory::new(arena), constants: memory, scratch: Vec::new(), inputs, team })
    }

    /// Adds a step; returns its number.
    ///
    /// # Panics
    /// When a slot reaches beyond its buffer, or an output lies outside the arena or across an input of the same step.
    pub fn push(&mut self, step: Step) -> usize {
        let end = |s: &Slot| s.offset + s.image * step.images.saturating_sub(1) + s.reach;
        for s in step.inputs.iter().chain(&step.outputs) {
            let size = match s.buffer {
                Buffer::Arena => self.arena.layout.size(),
                Buffer::Constants => self.constants.layout.size(),
                Buffer::Input(i) => self.inputs[i],
            };
            assert!(end(s) <= size, "{}: a slot of {} bytes at {} in a buffer of {size}", step.job.name(), s.reach, s.offset);
        }
        assert!(step.inputs.len() + step.outputs.len() <= MOST_SLOTS, "{}: too many slots", step.job.name());
        assert!(step.outputs.iter().all(|s| s.buffer == Buffer::Arena), "{}: an output outside the arena", step.job.name());
        self.steps.push(step);
        self.steps.len() - 1
    }
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }
    /// Bytes of the arena.
    pub fn arena_bytes(&self) -> usize {
        self.arena.layout.size()
    }
    pub fn threads(&self) -> usize {
        self.team.threads()
    }
    /// Inputs that a run takes.
    pub fn input_count(&self) -> usize {
        self.inputs.len()
    }

    /// Runs one step.
    ///
    /// # Panics
    /// When an input is shorter than said.
    pub fn run(&mut self, step: usize, inputs: &[&[u8]]) {
        assert!(inputs.len() == self.inputs.len() && inputs.iter().zip(&self.inputs).all(|(i, n)| i.len() >= *n), "inputs of a program");
        let Self { steps, arena, constants, scratch, team, .. } = self;
        let Step { job, images, inputs: from, outputs: to } = &steps[step];
        let needed = job.scratch();
        if scratch.len() < team.threads() || scratch[0].layout.size() < needed {
            *scratch = (0..team.threads()).map(|_| Memory::new(needed)).collect();
        }
        let starts = &*scratch;
        let base = |s: &Slot| match s.buffer {
            Buffer::Arena => Address(arena.start),
            Buffer::Constants => Address(constants.start),
            Buffer::Input(i) => Address(inputs[i].as_ptr().cast_mut()),
        };
        let mut slots = [(Address(std::ptr::null_mut()), 0, 0); MOST_SLOTS];
        let reads = from.len();
        let slots = &mut slots[..reads + to.len()];
        slots.iter_mut().zip(from.iter().chain(to)).for_each(|(to, s)| *to = (base(s), s.offset, s.image));
        let slots = &*slots;
        let parts = job.parts();
        team.run(parts * images, &move |part, thread| {
            let (image, part) = (part / parts, part % parts);
            let at = |&(Address(start), offset, step): &(Address, usize, usize)| start.wrapping_add(offset + image * step);
            let mut addresses = [std::ptr::null_mut::<u8>(); MOST_SLOTS];
            let all = &mut addresses[..slots.len()];
            all.iter_mut().zip(slots).for_each(|(a, s)| *a = at(s));
            let (inputs, outputs) = all.split_at(reads);
            let mut read = [std::ptr::null::<u8>(); MOST_SLOTS];
            read.iter_mut().zip(inputs).for_each(|(r, &i)| *r = i);
            // SAFETY: `push` has checked that every view lies inside its buffer, `run` that the inputs are as long as said;
            // `&mut self` keeps others away from the arena, parts write elements of their own by contract, and the scratch
            // memory is this thread's.
            unsafe { job.run(part, Args { inputs: &read[..inputs.len()], outputs }, starts[thread].start) };
        });
    }

    /// The bytes of a slot, of `images` images.
    pub fn read<'a>(&'a self, slot: &Slot, images: usize, inputs: &[&'a [u8]]) -> &'a [u8] {
        let bytes = match slot.buffer {
            Buffer::Arena => self.arena.bytes(),
            Buffer::Constants => self.constants.bytes(),
            Buffer::Input(i) => inputs[i],
        };
        &bytes[slot.offset..][..slot.image * images.saturating_sub(1) + slot.reach]
    }
    /// The bytes of a slot of the arena, for writing.
    pub fn write(&mut self, slot: &Slot, images: usize) -> &mut [u8] {
        &mut self.arena.bytes_mut()[slot.offset..][..slot.image * images.saturating_sub(1) + slot.reach]
    }
}

/// Floats as they lie in memory.
pub fn as_bytes(floats: &[f32]) -> &[u8] {
    // SAFETY: any byte of a float is a byte, and the length is that of the slice.
    unsafe { std::slice::from_raw_parts(floats.as_ptr().cast(), std::mem::size_of_val(floats)) }
}

/// Bytes of the arena as the floats that a step has written.
///
/// # Panics
/// When they do not begin and end with a float.
pub fn as_floats(bytes: &[u8]) -> &[f32] {
    // SAFETY: any four bytes are a float.
    let (before, floats, after) = unsafe { bytes.align_to::<f32>() };
    assert!(before.is_empty() && after.is_empty(), "floats that begin or end inside of one");
    floats
}

/// Most inputs and outputs of a job together.
const MOST_SLOTS: usize = 16;

/// An address that may go to other threads.
#[derive(Clone, Copy)]
struct Address(*mut u8);

// SAFETY: an address alone; each use says why it may be followed.
unsafe impl Send for Address {}
// SAFETY: as above.
unsafe impl Sync for Address {}
