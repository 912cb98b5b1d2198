//! Weights that a graph stores as integers behind DequantizeLinear: training of a quantized model.

use super::scales::Scales;
use super::stored::Stored;
use super::{Parametrization, Tensors, fake_quantize};
use crate::train::params::Param;
use candle_core::{Device, Tensor};
use compresso_base::error::{At, Error, Result};
use compresso_model::ops::quantize::DEQUANTIZE_LINEAR;
use compresso_model::{Constant, Graph, Patch, ops};
use indexmap::IndexMap;

/// Trains what a quantized graph stores as integers, and leaves a quantized graph.
///
/// Each such weight or bias becomes a float32 parameter, which the forward pass rounds to the graph's own grid and gradients
/// pass; activations are rounded by the QuantizeLinear and DequantizeLinear of the graph, whose rules pass gradients too. At the
/// end the parameters are rounded for good: integers change, scales, zero points and nodes stay. Biases of more than 16 bits are
/// rounded only then, as their steps are finer than float32.
///
/// A parameter is named as before quantization where its integers are called `NAME_quantized`, else like the value that
/// DequantizeLinear makes. Weights keep to the bits that their largest integer needs, up to seven of which processors without VNNI ask for.
///
/// Scales can be trained too: [`QuantizedWeights::learned`].
#[derive(Debug, Default)]
pub struct QuantizedWeights {
    /// By parameter.
    pub(super) stored: IndexMap<String, Stored>,
    /// Scales and zero points of the parameters that are rounded in the forward pass.
    grids: IndexMap<String, (Tensor, Tensor)>,
    /// Where scales are trained.
    learned: Option<Scales>,
}

impl QuantizedWeights {
    /// With scales that are trained: those of weights, and those of the QuantizeLinear and DequantizeLinear of activations. Each is what the graph
    /// has times 2^θ; θ begins at 0 and follows the gradient of learned step size quantization (Esser et al. 2020), in the logarithm of the scale,
    /// where a step changes large and small scales by the same share (Jain et al. 2019, "Trained quantization thresholds"). Scales of
    /// activations that are the same number, with one zero point, stay the same. A bias of more than 16 bits whose scale is the product of
    /// those of its layer's input and weight keeps it so.
    #[must_use]
    pub fn learned(mut self) -> Self {
        self.learned = Some(Scales::default());
        self
    }
}

impl Parametrization for QuantizedWeights {
    fn name(&self) -> &'static str {
        "quantized"
    }
    fn rewrite(&mut self, graph: &Graph) -> Result<Option<Graph>> {
        self.stored.clear();
        let readers = graph.consumers();
        let is_parameter = |value: &str| -> Result<bool> {
            for &n in readers.get(value).into_iter().flatten() {
                let node = &graph.nodes()[n];
                if ops::find(node)?.params.iter().any(|&(slot, _)| node.input(slot) == Some(value)) {
                    return Ok(true);
                }
            }
            Ok(false)
        };
        let mut patch = Patch::new(graph);
        for (i, node) in graph.nodes().iter().enumerate().filter(|(_, n)| n.is(DEQUANTIZE_LINEAR)) {
            let Some(made) = node.output(0) else { continue };
            if graph.is_output(made) || !is_parameter(made)? {
                continue;
            }
            let Some((stored, float)) = Stored::of(graph, node).at(|| node.label())? else { continue };
            if self.stored.values().any(|s| s.integers == stored.integers) {
                let e =
                    Error::unsupported(format!("its integers '{}' are read by several nodes, which would train apart", stored.integers));
                return Err(e.at(node.label()).hint("train the float model before it is quantized"));
            }
            patch.remove(i);
            let before = stored.integers.strip_suffix("_quantized");
            let name = before.filter(|n| patch.fresh(n) == **n).unwrap_or(made).to_string();
            if name != made {
                patch.redirect(made, &name);
            }
            patch.set_constant(&name, float);
            self.stored.insert(name, stored);
        }
        let rewritten = if self.stored.is_empty() { None } else { Some(patch.apply()?) };
        if let Some(scales) = &mut self.learned {
            *scales = Scales::of(rewritten.as_ref().unwrap_or(graph), &self.stored)?;
        }
        Ok(rewritten)
    }
    fn start(&mut self, params: &[Param]) -> Result<Vec<Param>> {
        let mut grids = IndexMap::new();
        for p in params {
            if let Some(stored) = self.stored.get(&p.name).filter(|s| s.is_short()) {
                let spread = |v: &[f32]| Tensor::from_slice(v, stored.spread.as_slice(), p.var.device());
                grids.insert(p.name.clone(), (spread(&stored.scales)?, spread(&stored.zeros)?));
            }
        }
        self.grids = grids;
        let (grids, stored) = (&self.grids, &self.stored);
        let spread = |name: &str| stored.get(name).filter(|_| grids.contains_key(name)).map(|s| s.spread.as_slice());
        let variables = self.learned.as_mut().map(|scales| scales.start(params, spread)).transpose()?;
        Ok(variables.unwrap_or_default())
    }
    fn forward(&self, tensors: &mut Tensors) -> Result<()> {
        if let Some(scales) = &self.learned {
            scales.forward(tensors)?;
        }
        for (name, (scale, zero)) in &self.grids {
            let factor = self.learned.as_ref().map(|s| s.of_weight(name, tensors)).transpose()?.flatten();
            let scale = factor.map(|f| scale * f).transpose()?.unwrap_or_else(|| scale.clone());
            if let (Some(t), Some(stored)) = (tensors.get_mut(name), self.stored.get(name)) {
                *t = fake_quantize(t, &scale, Some(zero), stored.limits)?;
            }
        }
        Ok(())
    }
    fn finish(&self, tensors: &mut Tensors, constants: &mut IndexMap<String, Constant>) -> Result<()> {
        let scales = self.learned.as_ref().map(|s| s.finish(tensors, &self.stored)).transpose()?.unwrap_or_default();
        for (name, stored) in &self.stored {
            if let Some(t) = tensors.shift_remove(name) {
                let own = scales.of_parameters.get(name);
                if let Some(own) = own {
                    constants.insert(stored.scale.0.clone(), Constant::floats(&stored.scale.1, own)?);
                }
                let values = t.to_device(&Device::Cpu)?.flatten_all()?.to_vec1::<f32>()?;
                constants.insert(stored.integers.clone(), stored.integers(&values, own.unwrap_or(&stored.scales))?);
            }
        }
        constants.extend(scales.of_activations);
        Ok(())
    }
}
