use super::super::plan::{Arg, Element, Plan, int};
use crate::activation::Activation;
use compresso_base::error::Result;

/// The number of a curve and its parameters, as the kernels know it (`Curve` of common.cuh).
pub(super) fn code(f: Activation) -> [Arg; 3] {
    let (kind, a, b) = match f {
        Activation::Relu => (1, 0.0, 0.0),
        Activation::LeakyRelu { alpha } => (2, alpha, 0.0),
        Activation::ThresholdedRelu { alpha } => (3, alpha, 0.0),
        Activation::Elu { alpha } => (4, alpha, 0.0),
        Activation::Selu { alpha, gamma } => (5, alpha, gamma),
        Activation::Celu { alpha } => (6, alpha, 0.0),
        Activation::Sigmoid => (7, 0.0, 0.0),
        Activation::Swish { alpha } => (8, alpha, 0.0),
        Activation::HardSigmoid { alpha, beta } => (9, alpha, beta),
        Activation::HardSwish => (10, 0.0, 0.0),
        Activation::Softplus => (11, 0.0, 0.0),
        Activation::Softsign => (12, 0.0, 0.0),
        Activation::Tanh => (13, 0.0, 0.0),
        Activation::Clip { min, max } => (14, min, max),
        Activation::Erf => (15, 0.0, 0.0),
        Activation::Gelu => (16, 0.0, 0.0),
        Activation::GeluTanh => (17, 0.0, 0.0),
        Activation::Mish => (18, 0.0, 0.0),
    };
    [Arg::Int(kind), Arg::Float(a), Arg::Float(b)]
}

/// Nothing.
pub(super) const IDENTITY: [Arg; 3] = [Arg::Int(0), Arg::Float(0.0), Arg::Float(0.0)];

/// `x` to `y`, of `n` elements.
pub fn activation(n: usize, f: Activation) -> Result<Plan> {
    let mut p = Plan::floats(&[n])?;
    let y = p.result(Element::F32, n)?;
    p.each("activation", n, [Arg::Buffer(0), y, int(n)?].into_iter().chain(code(f)));
    Ok(p)
}

/// `x`, `y` and the gradient of `y` to that of `x`.
pub fn activation_backward(n: usize, f: Activation) -> Result<Plan> {
    let mut p = Plan::floats(&[n, n, n])?;
    let gx = p.result(Element::F32, n)?;
    p.each("activation_backward", n, [Arg::Buffer(0), Arg::Buffer(1), Arg::Buffer(2), gx, int(n)?].into_iter().chain(code(f)));
    Ok(p)
}
