//! A job on slices.

use super::job::{Args, Job};
use super::memory::Memory;
use super::operand::{Element, Operand, Place};
use compresso_base::error::{Error, Result};

mod sealed {
    pub trait Sealed {}
    impl Sealed for u8 {}
    impl Sealed for f32 {}
}

/// Types of which operands are made.
pub trait Scalar: Copy + sealed::Sealed {
    /// The element type of operands that lie in slices of it.
    const ELEMENT: Element;
}

impl Scalar for u8 {
    const ELEMENT: Element = Element::U8;
}

impl Scalar for f32 {
    const ELEMENT: Element = Element::F32;
}

/// Runs all parts of a job on slices, one after the other.
///
/// # Errors
/// `Argument` when there are not as many slices as the job has operands, or one has another type or is shorter than its
/// operand reaches, `Unavailable` when there is no memory for its scratch; nothing is run then.
pub fn run_alone<I: Scalar, O: Scalar>(job: &dyn Job, inputs: &[&[I]], outputs: &mut [&mut [O]]) -> Result<()> {
    let operands = job.operands();
    let from = places(operands.inputs(), inputs.iter().map(|s| s.len()), I::ELEMENT, 0);
    let to = places(operands.outputs(), outputs.iter().map(|s| s.len()), O::ELEMENT, inputs.len());
    from.and_then(|from| operands.check(&from, &to?, 1)).map_err(|e| e.at(job.name()))?;
    if operands.is_empty() {
        return Ok(());
    }
    let from: Vec<*const u8> = inputs.iter().map(|s| s.as_ptr().cast()).collect();
    let to: Vec<*mut u8> = outputs.iter_mut().map(|s| s.as_mut_ptr().cast()).collect();
    let scratch = Memory::new(job.scratch())?;
    for part in 0..job.parts() {
        // SAFETY: the check has compared the slices, which are aligned for their type, with all operands; this thread alone
        // uses them; and the scratch memory is large enough.
        unsafe { job.run(part, Args { inputs: &from, outputs: &to }, scratch.start()) };
    }
    Ok(())
}

/// Slices of so many elements as places, each in a memory of its own, numbered from `first` on.
///
/// # Errors
/// `Argument` for slices of another type than the operand.
fn places(operands: &[Operand], lengths: impl Iterator<Item = usize>, element: Element, first: usize) -> Result<Vec<Place>> {
    if let Some(other) = operands.iter().find(|o| o.element() != element) {
        return Err(Error::argument(format!("expected slices of {:?}, got {element:?}", other.element())));
    }
    Ok(lengths.enumerate().map(|(i, n)| Place { memory: first + i, size: n * element.bytes(), offset: 0, image: 0 }).collect())
}
