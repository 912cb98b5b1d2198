//! Zeros that stay zero.

use super::{Parametrization, Tensors};
use crate::train::params::{MASKS_KEY, Param};
use compresso_base::error::{At, Error, Result};
use compresso_model::Graph;
use compresso_model::ops::ParamKind;
use std::collections::HashSet;

/// Keeps the zeros of weights, so that a sparse model is trained without losing its sparsity (Zhu & Gupta 2017, "To prune,
/// or not to prune"). Which elements these are is seen once, when training begins.
#[derive(Debug, Clone)]
pub struct Mask {
    /// Names of the masked parameters; `None`: all weights.
    names: Option<HashSet<String>>,
    masks: Tensors,
}

impl Mask {
    /// Of these parameters.
    pub fn new(names: impl IntoIterator<Item = String>) -> Self {
        Self { names: Some(names.into_iter().collect()), masks: Tensors::new() }
    }
    /// Of every weight that has zeros; biases and norms are left alone.
    pub fn of_all_weights() -> Self {
        Self { names: None, masks: Tensors::new() }
    }
    /// Of the parameters that a sparse model lists under [`MASKS_KEY`] in its metadata.
    ///
    /// # Errors
    /// `Format` for a broken list.
    pub fn listed(graph: &Graph) -> Result<Self> {
        let names: Vec<String> = match graph.metadata().get(MASKS_KEY) {
            None => Vec::new(),
            Some(text) => serde_json::from_str(text)
                .map_err(|e| Error::format("expected a list of constant names").because(e))
                .at(|| format!("metadata '{MASKS_KEY}'"))?,
        };
        Ok(Self::new(names))
    }
}

impl Parametrization for Mask {
    fn name(&self) -> &'static str {
        "mask"
    }
    fn start(&mut self, params: &[Param]) -> Result<Vec<Param>> {
        let masked = |p: &&Param| match &self.names {
            Some(names) => names.contains(&p.name),
            None => p.kind == ParamKind::Weight,
        };
        let mut masks = Tensors::new();
        for p in params.iter().filter(masked) {
            let value = p.var.as_tensor().detach();
            let zeros = value.eq(0f32)?.to_dtype(candle_core::DType::F32)?;
            if zeros.max_all()?.to_scalar::<f32>()? > 0.0 {
                masks.insert(p.name.clone(), zeros.affine(-1.0, 1.0)?.to_dtype(value.dtype())?);
            }
        }
        self.masks = masks;
        Ok(Vec::new())
    }
    fn forward(&self, tensors: &mut Tensors) -> Result<()> {
        for (name, mask) in &self.masks {
            if let Some(t) = tensors.get_mut(name) {
                *t = (&*t * mask)?;
            }
        }
        Ok(())
    }
}
