//! Scales of a quantized graph that are trained.

use super::Tensors;
use super::stored::Stored;
use crate::train::params::Param;
use candle_core::{Device, Tensor};
use compresso_base::error::{Error, Result};
use compresso_model::ops::quantize::{DEQUANTIZE_LINEAR, QUANTIZE_LINEAR};
use compresso_model::ops::{self, ParamKind};
use compresso_model::{Constant, Element, Graph};
use indexmap::IndexMap;
use std::collections::HashMap;

/// Which scales there are, and how those of biases follow from them. A trained scale is the graph's own times 2^θ.
#[derive(Debug, Default)]
pub(super) struct Scales {
    activations: Vec<Shared>,
    /// Weights whose scales nothing else reads.
    weights: Vec<String>,
    /// Scales of these biases are the products of those of an activation (by its constant) and a weight (by its parameter).
    biases: IndexMap<String, (String, String)>,
}

/// Constants that hold one scale.
#[derive(Debug)]
struct Shared {
    names: Vec<String>,
    dims: Vec<usize>,
    values: Vec<f32>,
    zeros: Vec<i64>,
}

/// What is stored in the end.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// By constant.
    pub of_activations: IndexMap<String, Constant>,
    /// By parameter.
    pub of_parameters: HashMap<String, Vec<f32>>,
}

fn variable(name: &str) -> String {
    format!("log2_scale.{name}")
}

fn factor(theta: &Tensor) -> Result<Tensor> {
    Ok((theta * std::f64::consts::LN_2)?.exp()?)
}

fn numbers(t: &Tensor) -> Result<Vec<f32>> {
    Ok(t.to_device(&Device::Cpu)?.flatten_all()?.to_vec1()?)
}

impl Scales {
    /// Of a graph whose weights are floats, and how they were stored.
    pub fn of(graph: &Graph, stored: &IndexMap<String, Stored>) -> Result<Self> {
        let readers = graph.consumers();
        let rounds = |node: &compresso_model::Node| node.is(QUANTIZE_LINEAR) || node.is(DEQUANTIZE_LINEAR);
        let given = |name: &str| graph.inputs().iter().any(|i| i.name == name);
        let mut activations: Vec<Shared> = Vec::new();
        for node in graph.nodes().iter().filter(|n| rounds(n) && n.input(0).is_some_and(|x| graph.constant(x).is_none())) {
            let Some(name) = node.input(1).filter(|n| !given(n)) else { continue };
            let alone =
                readers.get(name).is_some_and(|r| r.iter().all(|&i| rounds(&graph.nodes()[i]) && graph.nodes()[i].input(1) == Some(name)));
            let Some(scale) = graph.constant(name).filter(|c| alone && c.element() == Element::F32) else { continue };
            let zeros = match node.input(2).map(|z| graph.constant(z)) {
                None => Vec::new(),
                Some(Some(zero)) => zero.to_i64s()?,
                Some(None) => continue,
            };
            let (dims, values) = (scale.dims().to_vec(), scale.to_f32s()?);
            let known = activations.iter().any(|s| s.names.iter().any(|n| n == name));
            if known || !values.iter().all(|v| v.is_normal() && *v > 0.0) {
                continue;
            }
            match activations.iter_mut().find(|s| s.dims == dims && s.values == values && s.zeros == zeros) {
                Some(shared) => shared.names.push(name.to_string()),
                None => activations.push(Shared { names: vec![name.to_string()], dims, values, zeros }),
            }
        }
        let uses = |name: &str| stored.values().filter(|s| s.scale.0 == name).count() + readers.get(name).map_or(0, Vec::len);
        let own =
            |s: &Stored| s.is_short() && uses(&s.scale.0) == 1 && !given(&s.scale.0) && s.scales.iter().all(|v| v.is_normal() && *v > 0.0);
        let weights = stored.iter().filter(|(_, s)| own(s)).map(|(n, _)| n.clone()).collect();
        let producers = graph.producers();
        let mut biases = IndexMap::new();
        for (name, bias) in stored.iter().filter(|(_, s)| !s.is_short() && uses(&s.scale.0) == 1 && !given(&s.scale.0)) {
            let Some([reader]) = readers.get(name.as_str()).map(Vec::as_slice) else { continue };
            let node = &graph.nodes()[*reader];
            let Some(rule) = ops::find(node)?.weight else { continue };
            let input = node.input(0).and_then(|x| producers.get(x)).map(|&p| &graph.nodes()[p]).filter(|p| p.is(DEQUANTIZE_LINEAR));
            let (Some(input), Some(weight)) = (input.and_then(|p| p.input(1)), node.input(rule.input)) else { continue };
            let (Some(x), Some(w)) = (graph.constant(input), stored.get(weight)) else { continue };
            let x = x.to_f32s()?;
            let product = |(i, &b): (usize, &f32)| {
                let whole = x[0] * w.scales[if w.scales.len() == 1 { 0 } else { i }];
                (whole - b).abs() <= 1e-5 * b.abs()
            };
            if x.len() == 1
                && matches!(w.scales.len(), n if n == 1 || n == bias.scales.len())
                && bias.scales.iter().enumerate().all(product)
            {
                biases.insert(name.clone(), (input.to_string(), weight.to_string()));
            }
        }
        Ok(Self { activations, weights, biases })
    }

    /// What is trained: of weights one number for each scale, whose shape `spread` gives for those that are rounded. What a bias follows from that
    /// stays as it is stays too.
    pub fn start<'a>(&mut self, params: &[Param], spread: impl Fn(&str) -> Option<&'a [usize]>) -> Result<Vec<Param>> {
        let trained = |name: &str| params.iter().any(|p| p.name == name);
        let held: Vec<_> = self.biases.iter().filter(|(bias, _)| !trained(bias)).map(|(_, from)| from.clone()).collect();
        self.activations.retain(|s| !held.iter().any(|(input, _)| s.names.contains(input)));
        self.weights.retain(|w| trained(w) && spread(w).is_some() && !held.iter().any(|(_, weight)| weight == w));
        let Some(device) = params.first().map(|p| p.var.device()) else { return Ok(Vec::new()) };
        let zeros = |name: &str, dims: &[usize]| {
            Param::new(variable(name), &Tensor::zeros(dims, candle_core::DType::F32, device)?, ParamKind::Scale)
        };
        let mut own = Vec::new();
        for shared in &self.activations {
            own.push(zeros(&shared.names[0], &shared.dims)?);
        }
        for p in params.iter().filter(|p| self.weights.contains(&p.name)) {
            own.push(zeros(&p.name, spread(&p.name).unwrap_or_default())?);
        }
        Ok(own)
    }

    /// Puts scales of activations under their names.
    pub fn forward(&self, tensors: &mut Tensors) -> Result<()> {
        for shared in &self.activations {
            let scale = self.of_activation(shared, tensors)?;
            tensors.extend(shared.names.iter().map(|n| (n.clone(), scale.clone())));
        }
        Ok(())
    }

    fn of_activation(&self, shared: &Shared, tensors: &Tensors) -> Result<Tensor> {
        let name = variable(&shared.names[0]);
        let theta = tensors.get(&name).ok_or_else(|| Error::internal(format!("no tensor '{name}'")))?;
        let own = Tensor::from_slice(&shared.values, shared.dims.as_slice(), theta.device())?;
        Ok((factor(theta)? * own)?)
    }

    /// What the scales of a weight are multiplied with, where they are trained.
    pub fn of_weight(&self, name: &str, tensors: &Tensors) -> Result<Option<Tensor>> {
        tensors.get(&variable(name)).map(factor).transpose()
    }

    /// All scales from trained tensors, which are taken out.
    pub fn finish(&self, tensors: &mut Tensors, stored: &IndexMap<String, Stored>) -> Result<Found> {
        let mut found = Found::default();
        let mut inputs: HashMap<&str, f32> = HashMap::new();
        for shared in &self.activations {
            let values = numbers(&self.of_activation(shared, tensors)?)?;
            for name in &shared.names {
                inputs.insert(name, values[0]);
                found.of_activations.insert(name.clone(), Constant::floats(&shared.dims, &values)?);
            }
        }
        for name in &self.weights {
            let Some(by) = self.of_weight(name, tensors)? else { continue };
            let by = numbers(&by)?;
            let scales = &stored[name].scales;
            found
                .of_parameters
                .insert(name.clone(), scales.iter().enumerate().map(|(i, s)| s * by[if by.len() == 1 { 0 } else { i }]).collect());
        }
        for (name, (input, weight)) in &self.biases {
            let Some(&x) = inputs.get(input.as_str()) else { continue };
            let w = found.of_parameters.get(weight).unwrap_or(&stored[weight].scales);
            let of = |i: usize| x * w[if w.len() == 1 { 0 } else { i }];
            found.of_parameters.insert(name.clone(), (0..stored[name].scales.len()).map(of).collect());
        }
        Ok(found)
    }
}
