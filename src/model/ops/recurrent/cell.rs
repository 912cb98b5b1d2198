//! One step of a recurrent layer, and the functions that it applies.

use super::Kind;
use crate::graph::Node;
use crate::ops::elementwise::{Binary, binary};
use candle_core::Tensor;
use compresso_base::error::{Error, Result};
use compresso_kernels::activation::Activation;
use compresso_kernels::ops::activate;

/// A function that the specification names.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Function {
    Plain(Activation),
    /// `alpha · x + beta`
    Affine(f64, f64),
    /// `alpha · tanh(beta · x)`
    ScaledTanh(f64, f64),
}

impl Function {
    fn of(name: &str, alphas: &mut impl Iterator<Item = f32>, betas: &mut impl Iterator<Item = f32>) -> Result<Self> {
        let lower = name.to_lowercase();
        let mut alpha = |default: f32| alphas.next().unwrap_or(default);
        Ok(Self::Plain(match lower.as_str() {
            "relu" => Activation::Relu,
            "tanh" => Activation::Tanh,
            "sigmoid" => Activation::Sigmoid,
            "softsign" => Activation::Softsign,
            "softplus" => Activation::Softplus,
            "leakyrelu" => Activation::LeakyRelu { alpha: alpha(0.01) },
            "thresholdedrelu" => Activation::ThresholdedRelu { alpha: alpha(1.0) },
            "elu" => Activation::Elu { alpha: alpha(1.0) },
            "hardsigmoid" => Activation::HardSigmoid { alpha: alpha(0.2), beta: betas.next().unwrap_or(0.5) },
            "affine" => return Ok(Self::Affine(alpha(1.0).into(), betas.next().unwrap_or(0.0).into())),
            "scaledtanh" => return Ok(Self::ScaledTanh(alpha(1.0).into(), betas.next().unwrap_or(1.0).into())),
            _ => {
                let e = Error::unsupported(format!("a recurrent layer with the activation '{name}' is not supported"));
                return Err(e.hint(
                    "Relu, Tanh, Sigmoid, Softsign, Softplus, LeakyRelu, ThresholdedRelu, Elu, HardSigmoid, Affine and ScaledTanh are",
                ));
            }
        }))
    }
    fn apply(self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Plain(f) => activate(x, f),
            Self::Affine(alpha, beta) => Ok(x.affine(alpha, beta)?),
            Self::ScaledTanh(alpha, beta) => Ok((activate(&(x * beta)?, Activation::Tanh)? * alpha)?),
        }
    }
}

/// The functions of a layer without the attribute `activations`.
fn defaults(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Rnn => &["Tanh"],
        Kind::Gru => &["Sigmoid", "Tanh"],
        Kind::Lstm => &["Sigmoid", "Tanh", "Tanh"],
    }
}

/// True when a layer applies the functions that it applies without the attribute `activations`: those of the state are 0 at 0.
pub(super) fn has_defaults(node: &Node) -> bool {
    !node.attrs.contains_key("activations")
}

/// The functions of each direction.
///
/// # Errors
/// `Unsupported` for a function that is not known; `Format` for another number of them.
pub(super) fn functions(node: &Node, kind: Kind, directions: usize) -> Result<Vec<Vec<Function>>> {
    use crate::graph::Attr;
    let each = defaults(kind).len();
    let names: Vec<String> = match node.attrs.get("activations") {
        None => defaults(kind).iter().cycle().take(each * directions).map(ToString::to_string).collect(),
        Some(Attr::Strs(names)) => names.iter().map(|n| String::from_utf8_lossy(n).into_owned()).collect(),
        Some(_) => return Err(Error::format("attribute 'activations' must be strings")),
    };
    if names.len() != each * directions {
        return Err(Error::format(format!("expected {each} activations for each of {directions} directions, got {}", names.len())));
    }
    let mut alphas = node.find_floats("activation_alpha")?.unwrap_or_default().iter().copied();
    let mut betas = node.find_floats("activation_beta")?.unwrap_or_default().iter().copied();
    let all = names.iter().map(|n| Function::of(n, &mut alphas, &mut betas)).collect::<Result<Vec<_>>>()?;
    Ok(all.chunks(each).map(<[Function]>::to_vec).collect())
}

/// What the steps of one direction share.
pub(super) struct Cell {
    pub kind: Kind,
    pub hidden: usize,
    /// `[h, g·h]`, for products with the state from the left; of a GRU, the first two gates.
    pub recurrent: Tensor,
    /// `[h, h]`: the last gate of a GRU.
    pub reset: Option<Tensor>,
    /// Of the state, `[1, h]`; only where it must be added inside the product (GRU's last gate).
    pub inner_bias: Option<Tensor>,
    /// Of gates i, o and f, `[1, h]` each.
    pub peepholes: Option<[Tensor; 3]>,
    pub functions: Vec<Function>,
    pub clip: Option<f32>,
    /// LSTM: the forget gate is 1 less the input gate.
    pub coupled: bool,
    /// GRU: the reset gate multiplies after the product with the weights, not before it.
    pub reset_after: bool,
}

/// The state between steps, `[b, h]` each.
#[derive(Clone)]
pub(super) struct State {
    pub hidden: Tensor,
    pub cell: Option<Tensor>,
}

impl Cell {
    fn part(&self, gates: &Tensor, i: usize) -> Result<Tensor> {
        Ok(gates.narrow(1, i * self.hidden, self.hidden)?)
    }
    /// Function `i` of a clipped argument.
    fn apply(&self, i: usize, x: &Tensor) -> Result<Tensor> {
        match self.clip {
            Some(c) => self.functions[i].apply(&activate(x, Activation::Clip { min: -c, max: c })?),
            None => self.functions[i].apply(x),
        }
    }
    /// The state after a step whose products with the data, biases added, are `x`, `[b, g·h]`.
    ///
    /// # Errors
    /// Whatever candle reports.
    pub fn step(&self, x: &Tensor, state: &State) -> Result<State> {
        match self.kind {
            Kind::Rnn => {
                let sum = (x + state.hidden.matmul(&self.recurrent)?)?;
                Ok(State { hidden: self.apply(0, &sum)?, cell: None })
            }
            Kind::Gru => self.gru(x, &state.hidden),
            Kind::Lstm => self.lstm(x, state),
        }
    }

    fn gru(&self, x: &Tensor, h: &Tensor) -> Result<State> {
        let n = self.hidden;
        let weight = self.reset.as_ref().ok_or_else(|| Error::internal("a GRU without its last gate"))?;
        let both = (x.narrow(1, 0, 2 * n)? + h.matmul(&self.recurrent)?)?;
        let both = self.apply(0, &both)?;
        let (update, reset) = (self.part(&both, 0)?, self.part(&both, 1)?);
        let biased = |product: Tensor| -> Result<Tensor> {
            match &self.inner_bias {
                Some(b) => binary(Binary::Add, &product, b),
                None => Ok(product),
            }
        };
        let inner = if self.reset_after { (reset * biased(h.matmul(weight)?)?)? } else { biased((reset * h)?.matmul(weight)?)? };
        let new = self.apply(1, &(self.part(x, 2)? + inner)?)?;
        // (1 − z) · new + z · h
        let hidden = (&new + (update * (h - &new)?)?)?;
        Ok(State { hidden, cell: None })
    }

    fn lstm(&self, x: &Tensor, state: &State) -> Result<State> {
        let old = state.cell.as_ref().ok_or_else(|| Error::internal("an LSTM without a cell"))?;
        let gates = (x + state.hidden.matmul(&self.recurrent)?)?;
        let gate = |i: usize, peep: usize, cell: &Tensor| -> Result<Tensor> {
            let sum = self.part(&gates, i)?;
            match &self.peepholes {
                Some(p) => self.apply(0, &(sum + binary(Binary::Mul, cell, &p[peep])?)?),
                None => self.apply(0, &sum),
            }
        };
        let input = gate(0, 0, old)?;
        let forget = if self.coupled { input.affine(-1.0, 1.0)? } else { gate(2, 2, old)? };
        let new = self.apply(1, &self.part(&gates, 3)?)?;
        let cell = ((forget * old)? + (input * new)?)?;
        let output = gate(1, 1, &cell)?;
        let hidden = (output * self.functions[2].apply(&cell)?)?;
        Ok(State { hidden, cell: Some(cell) })
    }
}
