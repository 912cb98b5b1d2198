//! Memory and order of a planned network: jobs on slots of one arena.
//!
//! This is where the promise that jobs rely on is kept: every slot is checked against what the job declares and against its
//! buffer when a step is added, inputs when a step is run, and only one step runs at a time.

use super::job::{Args, Job};
use super::memory::Memory;
use super::operand::{Operand, Place};
use super::team::Team;
use compresso_base::error::{Error, Result};
/// What a slot lies in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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
    /// Which memory.
    pub buffer: Buffer,
    /// Of the first element of the first image.
    pub offset: usize,
    /// From one image to the next.
    pub image: usize,
    /// From the first byte to the last of one image, both included.
    pub reach: usize,
}

impl Slot {
    /// The input that it lies in.
    fn input(&self) -> Option<usize> {
        match self.buffer {
            Buffer::Input(i) => Some(i),
            Buffer::Arena | Buffer::Constants => None,
        }
    }
    /// Bytes from the first of the first image to the last of the last; `None` when they cannot be counted.
    fn bytes(&self, images: usize) -> Option<usize> {
        match images {
            0 => Some(0),
            n => self.image.checked_mul(n - 1)?.checked_add(self.reach),
        }
    }
    /// # Errors
    /// `Argument` when the slot reaches beyond the buffer.
    fn range(&self, images: usize, size: usize) -> Result<std::ops::Range<usize>> {
        let end = self.bytes(images).and_then(|n| n.checked_add(self.offset)).filter(|end| *end <= size);
        let end = end.ok_or_else(|| Error::argument(format!("{images} images of {self:?} do not lie in a buffer of {size} bytes")))?;
        Ok(self.offset..end)
    }
}

/// A job on slots, for each of `images` images.
pub struct Step {
    /// What is done with each image.
    pub job: Box<dyn Job>,
    /// Images, each with its own place in every slot ([`Slot::image`]).
    pub images: usize,
    /// Where the job's inputs lie, in its order.
    pub inputs: Vec<Slot>,
    /// Where its outputs lie, in its order; all in the arena.
    pub outputs: Vec<Slot>,
}

impl std::fmt::Debug for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.job.name())
    }
}

/// What every run must give as an input.
#[derive(Debug, Clone, Copy)]
struct Input {
    /// Least size in bytes.
    bytes: usize,
    /// What its address must be a multiple of, for the steps that read it.
    alignment: usize,
}

/// Jobs in order, with their memory and threads.
pub struct Program {
    steps: Vec<Step>,
    arena: Memory,
    constants: Memory,
    scratch: Vec<Memory>,
    inputs: Vec<Input>,
    team: Team,
}

impl std::fmt::Debug for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Program").field("steps", &self.steps).field("arena", &self.arena.len()).finish_non_exhaustive()
    }
}

impl Program {
    /// A program of no steps over an arena of `arena` bytes; `inputs` are the sizes of each run's inputs in bytes.
    ///
    /// # Errors
    /// `Unavailable` when there is not so much memory or the threads cannot be started.
    pub fn new(arena: usize, constants: &[u8], inputs: Vec<usize>, threads: usize) -> Result<Self> {
        let team = Team::new(threads).map_err(|e| Error::unavailable("threads cannot be started").because(e))?;
        let mut memory = Memory::new(constants.len())?;
        memory.bytes_mut()[..constants.len()].copy_from_slice(constants);
        let inputs = inputs.into_iter().map(|bytes| Input { bytes, alignment: 1 }).collect();
        Ok(Self { steps: Vec::new(), arena: Memory::new(arena)?, constants: memory, scratch: Vec::new(), inputs, team })
    }

    /// Adds a step; returns its number.
    ///
    /// # Errors
    /// `Argument` when the slots are not those that the job declares, a slot is not aligned or reaches beyond its buffer, or
    /// an output lies outside the arena or across another slot of the step.
    pub fn push(&mut self, step: Step) -> Result<usize> {
        let Step { job, images, inputs, outputs } = &step;
        let named = |e: Error| e.at(job.name());
        let operands = job.operands();
        let places = |slots: &[Slot]| slots.iter().map(|s| self.place(s)).collect::<Result<Vec<_>>>();
        let (from, to) = (places(inputs).map_err(named)?, places(outputs).map_err(named)?);
        operands.check(&from, &to, *images).map_err(named)?;
        let all = || operands.inputs().iter().zip(inputs).chain(operands.outputs().iter().zip(outputs));
        let refused = if inputs.len() + outputs.len() > MOST_SLOTS {
            Some(format!("at most {MOST_SLOTS} slots, got {}", inputs.len() + outputs.len()))
        } else if let Some(slot) = outputs.iter().find(|s| s.buffer != Buffer::Arena) {
            Some(format!("outputs must lie in the arena, got {slot:?}"))
        } else if let Some((operand, slot)) = all().find(|(o, s)| s.reach < o.bytes()) {
            Some(format!("the job reaches over {} bytes of {slot:?}", operand.bytes()))
        } else if job.parts().checked_mul(*images).is_none() {
            Some(format!("{images} images of {} parts", job.parts()))
        } else {
            None
        };
        if let Some(rule) = refused {
            return Err(named(Error::argument(rule)));
        }
        let read: Vec<(usize, usize)> =
            operands.inputs().iter().zip(inputs).filter_map(|(o, s)| Some((s.input()?, alignment(o)))).collect();
        for (input, alignment) in read {
            let input = &mut self.inputs[input];
            input.alignment = input.alignment.max(alignment);
        }
        self.steps.push(step);
        Ok(self.steps.len() - 1)
    }

    /// # Errors
    /// `Argument` for an input that there is not.
    fn place(&self, slot: &Slot) -> Result<Place> {
        let (memory, size) = match slot.buffer {
            Buffer::Arena => (0, self.arena.len()),
            Buffer::Constants => (1, self.constants.len()),
            Buffer::Input(i) => {
                let input = self.inputs.get(i).ok_or_else(|| Error::argument(format!("no input {i} of {}", self.inputs.len())))?;
                (2 + i, input.bytes)
            }
        };
        Ok(Place { memory, size, offset: slot.offset, image: slot.image })
    }

    /// All steps, in the order in which they were added.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }
    /// Bytes of the arena.
    pub fn arena_bytes(&self) -> usize {
        self.arena.len()
    }
    /// Threads that share the parts of a step, the caller's among them.
    pub fn threads(&self) -> usize {
        self.team.threads()
    }
    /// Inputs that a run takes.
    pub fn input_count(&self) -> usize {
        self.inputs.len()
    }

    /// Runs one step.
    ///
    /// # Errors
    /// `Argument` when there is no such step, or an input is shorter than said or not aligned; `Unavailable` when there is no
    /// memory for the step's scratch.
    pub fn run(&mut self, step: usize, inputs: &[&[u8]]) -> Result<()> {
        let fits = |i: &[u8], n: &Input| i.len() >= n.bytes && i.as_ptr().addr().is_multiple_of(n.alignment);
        if inputs.len() != self.inputs.len() || !inputs.iter().zip(&self.inputs).all(|(i, n)| fits(i, n)) {
            let found: Vec<usize> = inputs.iter().map(|i| i.len()).collect();
            return Err(Error::argument(format!("a program with the inputs {:?} got inputs of {found:?} bytes", self.inputs)));
        }
        let Self { steps, arena, constants, scratch, team, .. } = self;
        let count = steps.len();
        let step = steps.get(step).ok_or_else(|| Error::argument(format!("no step {step} of {count}")))?;
        let Step { job, images, inputs: from, outputs: to } = step;
        if job.operands().is_empty() {
            return Ok(());
        }
        let needed = job.scratch();
        if scratch.len() < team.threads() || scratch[0].len() < needed {
            *scratch = (0..team.threads()).map(|_| Memory::new(needed)).collect::<Result<_>>()?;
        }
        let starts = &*scratch;
        let base = |s: &Slot| match s.buffer {
            Buffer::Arena => Address(arena.start()),
            Buffer::Constants => Address(constants.start()),
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
            // SAFETY: `push` has checked that every operand lies aligned inside its buffer and that no output lies across
            // another operand of any image, `run` that the inputs are as long as said and aligned; `&mut self` keeps others
            // away from the arena, parts write elements of their own by contract, and the scratch memory is this thread's.
            unsafe { job.run(part, Args { inputs: &read[..inputs.len()], outputs }, starts[thread].start()) };
        });
        Ok(())
    }

    /// The bytes of a slot, of `images` images.
    ///
    /// # Errors
    /// `Argument` when the slot reaches beyond its buffer or lies in an input that is not given.
    pub fn read<'a>(&'a self, slot: &Slot, images: usize, inputs: &[&'a [u8]]) -> Result<&'a [u8]> {
        let bytes = match slot.buffer {
            Buffer::Arena => self.arena.bytes(),
            Buffer::Constants => self.constants.bytes(),
            Buffer::Input(i) => inputs.get(i).ok_or_else(|| Error::argument(format!("no input {i} of {}", inputs.len())))?,
        };
        Ok(&bytes[slot.range(images, bytes.len())?])
    }
    /// The bytes of a slot of the arena, for writing.
    ///
    /// # Errors
    /// `Argument` when the slot lies elsewhere or reaches beyond the arena.
    pub fn write(&mut self, slot: &Slot, images: usize) -> Result<&mut [u8]> {
        if slot.buffer != Buffer::Arena {
            return Err(Error::argument(format!("only the arena is written, got {slot:?}")));
        }
        let bytes = self.arena.bytes_mut();
        let range = slot.range(images, bytes.len())?;
        Ok(&mut bytes[range])
    }
}

/// What addresses of an operand must be a multiple of.
fn alignment(operand: &Operand) -> usize {
    operand.element().bytes()
}

/// Floats as they lie in memory.
pub fn as_bytes(floats: &[f32]) -> &[u8] {
    // SAFETY: any byte of a float is a byte, and the length is that of the slice.
    unsafe { std::slice::from_raw_parts(floats.as_ptr().cast(), std::mem::size_of_val(floats)) }
}

/// Bytes of the arena as the floats that a step has written.
///
/// # Errors
/// `Argument` when they do not begin and end with a float.
pub fn as_floats(bytes: &[u8]) -> Result<&[f32]> {
    // SAFETY: any four bytes are a float.
    let (before, floats, after) = unsafe { bytes.align_to::<f32>() };
    if before.is_empty() && after.is_empty() {
        return Ok(floats);
    }
    Err(Error::argument(format!("{} bytes that begin or end inside of a float", bytes.len())))
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
