//! Memory for results that kernels write without reading it first.

use std::mem::MaybeUninit;

/// Floats that a kernel writes, every one, before anyone reads them: they need not be initialized, which would cost another
/// pass over the memory.
#[derive(Debug)]
pub struct Out<'a>(&'a mut [MaybeUninit<f32>]);

impl<'a> From<&'a mut [f32]> for Out<'a> {
    fn from(values: &'a mut [f32]) -> Self {
        let len = values.len();
        // SAFETY: floats are floats that may be uninitialized, of the same layout; what is written through `Out` are floats.
        Self(unsafe { std::slice::from_raw_parts_mut(values.as_mut_ptr().cast(), len) })
    }
}

impl<'a> From<&'a mut Vec<f32>> for Out<'a> {
    fn from(values: &'a mut Vec<f32>) -> Self {
        Self::from(values.as_mut_slice())
    }
}

impl<'a, const N: usize> From<&'a mut [f32; N]> for Out<'a> {
    fn from(values: &'a mut [f32; N]) -> Self {
        Self::from(values.as_mut_slice())
    }
}

impl<'a> Out<'a> {
    /// Floats that are to be written.
    pub fn len(&self) -> usize {
        self.0.len()
    }
    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    /// Writes one value everywhere.
    pub fn fill(self, value: f32) -> &'a mut [f32] {
        self.0.iter_mut().for_each(|v| {
            v.write(value);
        });
        // SAFETY: every one has been written.
        unsafe { self.written() }
    }
    /// The floats, to be written only: with initialized values.
    pub(crate) fn cells(&mut self) -> &mut [MaybeUninit<f32>] {
        self.0
    }
    /// The floats, once they are written.
    ///
    /// # Safety
    /// Every one has been written.
    pub(crate) unsafe fn written(self) -> &'a mut [f32] {
        // SAFETY: as the caller vouches.
        unsafe { self.0.assume_init_mut() }
    }
}

/// A vector of `len` floats of which `make` writes every one; it gives back what it was given, written.
///
/// # Panics
/// When `make` gives back something else.
pub fn fresh(len: usize, make: impl for<'a> FnOnce(Out<'a>) -> &'a mut [f32]) -> Vec<f32> {
    let mut values = Vec::with_capacity(len);
    let room = &mut values.spare_capacity_mut()[..len];
    let start = room.as_ptr().cast::<f32>();
    let made = make(Out(room));
    assert!(std::ptr::eq(made.as_ptr(), start) && made.len() == len, "a result in other memory than was given");
    // SAFETY: the capacity is there, and a slice of all of its floats exists, so they are initialized.
    unsafe { values.set_len(len) };
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_what_was_written() {
        assert_eq!(fresh(3, |out| out.fill(2.0)), [2.0; 3]);
        assert!(fresh(0, |out| out.fill(1.0)).is_empty());
        let mut values = vec![f32::NAN; 2];
        assert_eq!(Out::from(&mut values).fill(0.5), [0.5; 2]);
    }

    #[test]
    #[should_panic(expected = "in other memory")]
    fn other_memory_is_refused() {
        fresh(2, |_| Vec::leak(vec![1.0; 2]));
    }
}
