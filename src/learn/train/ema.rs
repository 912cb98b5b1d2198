//! Exponential moving average of parameters and running statistics.

use super::optimizer::{slice, slice_mut};
use super::params::ParamSet;
use candle_core::{CpuStorage, InplaceOp2, Layout, Tensor};
use compresso_base::error::{Error, Result};
use compresso_kernels::update;
use indexmap::IndexMap;

/// A moving average of all tensors of a [`ParamSet`]. At update t its decay is `decay · (1 − exp(−t / ramp))`, so that
/// the first updates follow the weights closely.
#[derive(Debug)]
pub struct Ema {
    decay: f64,
    ramp: f64,
    updates: u64,
    tensors: IndexMap<String, Tensor>,
}

impl Ema {
    /// Begins with the current values. `decay` is a share from 0 to 1, `ramp` a number of updates.
    pub fn new(params: &ParamSet, decay: f64, ramp: f64) -> Result<Self> {
        let tensors = params.tensors().into_iter().map(|(n, t)| Ok((n, t.copy()?))).collect::<Result<_>>()?;
        Ok(Self { decay, ramp, updates: 0, tensors })
    }
    /// Moves the average towards the current values.
    ///
    /// # Errors
    /// `Internal` when `params` are not those of [`Ema::new`].
    pub fn update(&mut self, params: &ParamSet) -> Result<()> {
        self.updates += 1;
        let decay = self.decay * (1.0 - (-(self.updates as f64) / self.ramp).exp());
        for (name, value) in params.tensors() {
            let average = self.tensors.get_mut(&name).ok_or_else(|| Error::internal(format!("no average of '{name}'")))?;
            if average.device().is_cpu() {
                average.inplace_op2(&value.contiguous()?, &Mix(decay as f32))?;
            } else {
                *average = ((&*average * decay)? + (value * (1.0 - decay))?)?;
            }
        }
        Ok(())
    }
    /// Updates so far.
    pub fn updates(&self) -> u64 {
        self.updates
    }
    /// Goes on from averages that were taken before.
    pub fn restore(&mut self, updates: u64, tensors: IndexMap<String, Tensor>) {
        (self.updates, self.tensors) = (updates, tensors);
    }
    /// The averages by name; a copy that later updates do not touch.
    pub fn tensors(&self) -> Result<IndexMap<String, Tensor>> {
        self.tensors.iter().map(|(n, t)| Ok((n.clone(), t.copy()?))).collect()
    }
}

/// a ← decay · a + (1 − decay) · b
struct Mix(f32);

impl InplaceOp2 for Mix {
    fn name(&self) -> &'static str {
        "moving average"
    }
    fn cpu_fwd(&self, s1: &mut CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> candle_core::Result<()> {
        update::mix(slice_mut(s1, l1)?, slice(s2, l2)?, self.0);
        Ok(())
    }
}
