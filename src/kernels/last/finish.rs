//! What follows a sum: activation, residual, activation, and the way to memory.

use super::Epilogue;
use super::tile::COLUMNS;
use crate::kernels::activation::{Activation, sigmoid, wide};

/// Sums of up to 16 pixels and 16 channels.
#[repr(align(64))]
pub struct Sums(pub [[f32; COLUMNS]; 16]);

/// Applies an epilogue to the first `to.len()` rows and stores `n` channels of each.
///
/// # Safety
/// Each pointer of `to` has `n <= 16` writable values and, with a residual, each of `residual` (as many) `n` readable ones.
#[inline]
pub unsafe fn finish(epilogue: &Epilogue, sums: &mut Sums, to: &[*mut f32], residual: &[*const f32], n: usize) {
    wide(
        #[inline(always)]
        || {
            let rows = &mut sums.0[..to.len()];
            activate(epilogue.act, rows);
            if epilogue.residual {
                for (row, &from) in rows.iter_mut().zip(residual) {
                    // SAFETY: as the caller vouches.
                    unsafe {
                        if n == COLUMNS {
                            let values = from.cast::<[f32; COLUMNS]>().read_unaligned();
                            row.iter_mut().zip(values).for_each(|(r, v)| *r += v);
                        } else {
                            row[..n].iter_mut().enumerate().for_each(|(c, r)| *r += *from.add(c));
                        }
                    }
                }
                activate(epilogue.then, rows);
            } else if epilogue.then.is_some() {
                activate(epilogue.then, rows);
            }
            for (row, &to) in rows.iter().zip(to) {
                // SAFETY: as the caller vouches.
                unsafe {
                    if n == COLUMNS {
                        to.cast::<[f32; COLUMNS]>().write_unaligned(*row);
                    } else {
                        row[..n].iter().enumerate().for_each(|(c, &v)| *to.add(c) = v);
                    }
                }
            }
        },
    );
}

#[inline(always)]
fn activate(act: Option<Activation>, rows: &mut [[f32; COLUMNS]]) {
    match act {
        None => {}
        Some(Activation::Relu) => rows.iter_mut().flatten().for_each(|v| *v = if *v < 0.0 { 0.0 } else { *v }),
        Some(Activation::Swish { alpha: 1.0 }) => {
            for row in rows {
                row.iter_mut().for_each(|v| *v *= sigmoid(*v));
            }
        }
        Some(act) => {
            for row in rows {
                let x = *row;
                act.forward(&x, row);
            }
        }
    }
}
