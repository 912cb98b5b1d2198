//! Gradients of a run, node by node.
//!
//! A node whose operator has a rule ([`OpDef::backward`](compresso_model::ops::OpDef)) is run without candle's bookkeeping and
//! differentiated by the rule, which says what it hands back: sums are then made in place. Other nodes are differentiated by
//! candle, each on its own.

use candle_core::backprop::GradStore;
use candle_core::{CpuStorage, CustomOp1, DType, Layout, Shape, Tensor, Var};
use compresso_base::context::Cancel;
use compresso_base::error::{At, Error, Result};
use compresso_kernels::ops::{self, add_assign};
use compresso_model::ops::{Back, BackwardRule, Exec, Flow};
use compresso_model::{Node, Value};
use std::collections::{HashMap, HashSet};

use super::Params;
use super::precision::{round, short_of};

/// What a run remembers for its backward pass.
#[derive(Default)]
pub struct Tape<'g> {
    records: Vec<Record<'g>>,
    /// Names of the values that gradients flow through.
    live: HashSet<String>,
    /// The outputs, as variables of candle's.
    outputs: Vec<(String, Tensor)>,
}

struct Record<'g> {
    node: &'g Node,
    opset: i64,
    made: Vec<Value>,
    how: How,
}

enum How {
    Rule {
        rule: BackwardRule,
        inputs: Vec<Option<Value>>,
        needs: Vec<bool>,
        /// Short numbers that are imitated.
        short: Option<DType>,
    },
    /// Variables that stood in for the values of these names.
    Candle(Vec<(String, Tensor)>),
}

/// A gradient, and whether nothing else holds its memory.
struct Sum {
    tensor: Tensor,
    own: bool,
}

impl<'g> Tape<'g> {
    /// For gradients with respect to the variables among `params`.
    pub fn new(params: &Params) -> Self {
        let live = params.iter().filter(|(_, t)| t.track_op()).map(|(n, _)| n.clone()).collect();
        Self { live, ..Self::default() }
    }
    pub(super) fn is_live(&self, name: &str) -> bool {
        self.live.contains(name)
    }
    pub(super) fn by_rule(&mut self, cx: &Exec<'_>, node: &'g Node, rule: BackwardRule, inputs: &[Option<Value>], made: &[Value]) {
        let needs = node.inputs.iter().map(|n| self.is_live(n)).collect();
        self.live.extend(node.outputs.iter().filter(|n| !n.is_empty()).cloned());
        let how = How::Rule { rule, inputs: inputs.to_vec(), needs, short: short_of(cx.mode.precision, node) };
        self.records.push(Record { node, opset: cx.opset, made: made.to_vec(), how });
    }
    /// Takes what candle has tracked from `variables` on, and gives it without.
    pub(super) fn by_candle(&mut self, node: &'g Node, opset: i64, variables: Vec<(String, Tensor)>, made: Vec<Value>) -> Vec<Value> {
        let plain = made.iter().map(Value::detach).collect();
        for (name, value) in node.outputs.iter().zip(&made) {
            if !name.is_empty() && value.tensor.track_op() {
                self.live.insert(name.clone());
            }
        }
        self.records.push(Record { node, opset, made, how: How::Candle(variables) });
        plain
    }
    /// Makes variables of the outputs that gradients flow through.
    pub(super) fn finish(&mut self, outputs: &mut super::Outputs) -> Result<()> {
        for (name, value) in outputs.iter_mut().filter(|(n, _)| self.live.contains(*n)) {
            value.tensor = Var::from_tensor(&value.tensor)?.into_inner();
            self.outputs.push((name.clone(), value.tensor.clone()));
        }
        Ok(())
    }

    /// The gradients of the variables that the run was given, by name. `store` has those of the outputs, which are taken
    /// out of it. Between nodes, `cancel` is checked.
    ///
    /// # Errors
    /// `Cancelled`; whatever a rule reports, with its node.
    pub fn backward(self, store: &mut GradStore, cancel: Option<&Cancel>) -> Result<HashMap<String, Tensor>> {
        let mut sums: HashMap<String, Sum> = HashMap::new();
        for (name, tensor) in &self.outputs {
            if let Some(g) = store.remove(tensor) {
                add(&mut sums, name, Flow::Shared(g.detach()), tensor.dims())?;
            }
        }
        let mode = compresso_model::ops::RunMode { training: true, ..Default::default() };
        for record in self.records.into_iter().rev() {
            if let Some(c) = cancel {
                c.check()?;
            }
            let Record { node, opset, made, how } = record;
            let mut gradients: Vec<Option<Tensor>> = node.outputs.iter().map(|n| sums.remove(n).map(|s| s.tensor)).collect();
            if gradients.iter().all(Option::is_none) {
                continue;
            }
            let place = || format!("gradient of {}", node.label());
            match how {
                How::Rule { rule, inputs, needs, short } => {
                    if let Some(short) = short {
                        for g in gradients.iter_mut().flatten() {
                            *g = round(g, short)?;
                        }
                    }
                    let cx = Exec::new(node, opset, &inputs, &mode);
                    let flows = rule(&Back { cx: &cx, made: &made, gradients, needs: &needs }).at(place)?;
                    for (i, flow) in flows.into_iter().filter(|(i, _)| needs[*i]) {
                        let flow = match (short, flow) {
                            (Some(short), Flow::Own(g) | Flow::Shared(g)) => Flow::Own(round(&g, short)?),
                            (_, flow) => flow,
                        };
                        add(&mut sums, &node.inputs[i], flow, cx.input(i)?.dims()).at(place)?;
                    }
                }
                How::Candle(variables) => {
                    let made = made.into_iter().zip(gradients).filter_map(|(v, g)| Some((v.tensor, g?)));
                    let Some(mut store) = through_candle(made).at(place)? else { continue };
                    for (name, variable) in variables {
                        if let Some(g) = store.remove(&variable) {
                            add(&mut sums, &name, Flow::Shared(g.detach()), variable.dims()).at(place)?;
                        }
                    }
                }
            }
        }
        Ok(sums.into_iter().map(|(name, sum)| (name, sum.tensor)).collect())
    }
}

/// Adds to the gradient of a value of the shape `dims`.
fn add(sums: &mut HashMap<String, Sum>, name: &str, flow: Flow, dims: &[usize]) -> Result<()> {
    let before = sums.remove(name);
    let sum = match (before, flow) {
        (None, Flow::Own(tensor)) => Sum { tensor, own: true },
        (None, Flow::Shared(tensor)) => Sum { tensor, own: false },
        (Some(Sum { tensor, own: true }), Flow::Own(g) | Flow::Shared(g)) | (Some(Sum { tensor: g, own: false }), Flow::Own(tensor)) => {
            Sum { tensor: add_assign(&tensor, &g)?, own: true }
        }
        (Some(Sum { tensor, own: false }), Flow::Shared(g)) => {
            Sum { tensor: ops::add(&ops::contiguous(&tensor)?, &ops::contiguous(&g)?)?, own: true }
        }
        (before, Flow::Part { axis, start, gradient }) => {
            let whole = match before {
                Some(Sum { tensor, own: true }) if tensor.is_contiguous() => tensor,
                Some(Sum { tensor, .. }) => ops::copied(&tensor)?,
                None => Tensor::zeros(dims, gradient.dtype(), gradient.device())?,
            };
            add_assign(&whole.narrow(axis, start, gradient.dim(axis)?)?, &gradient)?;
            Sum { tensor: whole, own: true }
        }
    };
    if sum.tensor.dims() != dims {
        return Err(Error::internal(format!("a gradient of the shape {:?} for a value of {dims:?}", sum.tensor.dims())));
    }
    sums.insert(name.to_string(), sum);
    Ok(())
}

/// Candle's backward pass from tensors with given gradients; `None` when there are none.
///
/// # Errors
/// Whatever candle reports.
pub fn through_candle(made: impl IntoIterator<Item = (Tensor, Tensor)>) -> Result<Option<GradStore>> {
    let mut total: Option<Tensor> = None;
    for (tensor, gradient) in made {
        let seed = if gradient.device().is_cpu() {
            tensor.apply_op1(Seed(gradient))?
        } else {
            (tensor * gradient)?.sum_all()?.to_dtype(DType::F32)?
        };
        total = Some(match total {
            Some(t) => (t + seed)?,
            None => seed,
        });
    }
    Ok(total.map(|t| t.backward()).transpose()?)
}

/// A zero with a given gradient.
struct Seed(Tensor);

impl CustomOp1 for Seed {
    fn name(&self) -> &'static str {
        "seed"
    }
    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(vec![0.0]), Shape::from(())))
    }
    fn bwd(&self, _: &Tensor, _: &Tensor, _: &Tensor) -> candle_core::Result<Option<Tensor>> {
        Ok(Some(self.0.clone()))
    }
}
