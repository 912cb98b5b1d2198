//! Layers as sums over numbers of their input: what is solved when their weights are found anew.

use compresso_base::error::{Error, Result};
use compresso_kernels::Window;
use compresso_model::ops::conv::CONV;
use compresso_model::ops::matmul::{GEMM, MATMUL};
use compresso_model::ops::{layer_weight, window::WindowAttrs};
use compresso_model::{Graph, Node, Value};
use rand::RngExt;

#[derive(Debug, Clone)]
enum Form {
    /// Weight `[out, in / groups, window…]`.
    Conv(WindowAttrs),
    /// Weight `[in, out]`; transposed `[out, in]`.
    Product { transposed: bool },
}

/// A layer whose output at a position is, in each of its groups, `y[o] = Σ_k x[k] · w[k, o]` and a bias, where `x` are the numbers of the
/// input that lie under the window.
#[derive(Debug, Clone)]
pub(super) struct Linear {
    form: Form,
    pub groups: usize,
    /// Inputs of a group: channels times positions of the window.
    pub inputs: usize,
    /// Outputs of a group.
    pub outputs: usize,
    /// Positions of the window: inputs that belong to one channel.
    pub taps: usize,
    pub weight: String,
}

impl Linear {
    /// `None` for nodes that are no such layers.
    ///
    /// # Errors
    /// `Unsupported` for unknown operators; `Format` for wrong attributes.
    pub fn of(graph: &Graph, node: &Node) -> Result<Option<Self>> {
        let Some(weight) = layer_weight(graph, node)? else { return Ok(None) };
        let (dims, name) = (weight.constant.dims(), weight.name.to_string());
        if node.input(0).is_none_or(|x| graph.constant(x).is_some()) || dims.contains(&0) || !weight.constant.element().is_float() {
            return Ok(None);
        }
        Ok(match (node.op.as_str(), dims) {
            (CONV, [out, inner, kernel @ ..]) if !kernel.is_empty() => {
                let groups = usize::try_from(node.get_int("group", 1)?).unwrap_or(1).max(1);
                let taps: usize = kernel.iter().product();
                let form = Form::Conv(WindowAttrs::of(node, Some(kernel), kernel.len())?);
                Some(Self { form, groups, inputs: inner * taps, outputs: out / groups, taps, weight: name })
            }
            (MATMUL, [inner, out]) => {
                Some(Self { form: Form::Product { transposed: false }, groups: 1, inputs: *inner, outputs: *out, taps: 1, weight: name })
            }
            (GEMM, [a, b])
                if node.get_int("transA", 0)? == 0 && node.get_float("alpha", 1.0)? == 1.0 && node.get_float("beta", 1.0)? == 1.0 =>
            {
                let transposed = node.get_int("transB", 0)? != 0;
                let (inputs, outputs) = if transposed { (*b, *a) } else { (*a, *b) };
                Some(Self { form: Form::Product { transposed }, groups: 1, inputs, outputs, taps: 1, weight: name })
            }
            _ => None,
        })
    }

    /// The axis of input and output that has the channels.
    pub fn axis(&self, rank: usize) -> usize {
        if matches!(self.form, Form::Conv(_)) { 1 } else { rank.saturating_sub(1) }
    }
    /// True where the bias is an input of the node, be it left out.
    pub fn takes_bias(node: &Node) -> bool {
        node.is(CONV)
    }

    /// The weights of each group as a matrix `[inputs, outputs]`.
    pub fn matrices(&self, stored: &[f64]) -> Vec<Vec<f64>> {
        let mut all = vec![vec![0.0; self.inputs * self.outputs]; self.groups];
        self.each(|group, at, from| all[group][at] = stored[from]);
        all
    }
    /// The inverse of [`Linear::matrices`].
    pub fn stored(&self, matrices: &[Vec<f64>]) -> Vec<f64> {
        let mut all = vec![0.0; self.groups * self.inputs * self.outputs];
        self.each(|group, at, to| all[to] = matrices[group][at]);
        all
    }
    /// Group, place in its matrix and place in the constant of each number.
    fn each(&self, mut f: impl FnMut(usize, usize, usize)) {
        let by_input = matches!(self.form, Form::Product { transposed: false });
        for (group, o, k) in (0..self.groups).flat_map(|g| (0..self.outputs).flat_map(move |o| (0..self.inputs).map(move |k| (g, o, k)))) {
            let stored = if by_input { k * self.outputs + o } else { (group * self.outputs + o) * self.inputs + k };
            f(group, k * self.outputs + o, stored);
        }
    }

    /// Draws at most `most` of the positions of an output, and gives for each group rows `[positions, inputs + outputs]` of what the layer
    /// reads there and what it is to give, `target`.
    ///
    /// # Errors
    /// `Shape` where input and target do not fit the layer.
    pub fn rows(&self, x: &Value, target: &Value, most: usize, rng: &mut impl RngExt) -> Result<Vec<Vec<f32>>> {
        let (dims, out) = (x.dims().to_vec(), target.dims().to_vec());
        let (x, y) = (x.to_f32s()?, target.to_f32s()?);
        let misfit = || Error::shape(format!("input {dims:?} and output {out:?} do not fit a layer {self:?}"));
        let width = self.inputs + self.outputs;
        let axis = self.axis(out.len());
        let (count, inner): (usize, usize) = (out.iter().product::<usize>() / out[axis].max(1), out[axis + 1..].iter().product());
        let channels = out[axis];
        if channels != self.groups * self.outputs || out.len() != dims.len() {
            return Err(misfit());
        }
        let positions = drawn(count, most, rng);
        let mut rows = vec![Vec::with_capacity(positions.len() * width); self.groups];
        let window = match &self.form {
            Form::Conv(attrs) => Some(attrs.resolve(&dims[2..])?),
            Form::Product { .. } if dims[dims.len() - 1] == self.inputs && count * self.inputs == x.len() => None,
            Form::Product { .. } => return Err(misfit()),
        };
        if window.as_ref().is_some_and(|w| w.output != out[2..] || dims[0] != out[0] || dims[1] * self.taps != self.groups * self.inputs) {
            return Err(misfit());
        }
        let mut taps: Vec<Option<usize>> = Vec::new();
        for at in positions {
            let (image, place) = (at / inner.max(1), at % inner.max(1));
            if let Some(window) = &window {
                under(window, place, &mut taps);
            }
            let area: usize = dims[2.min(dims.len())..].iter().product();
            for (group, rows) in rows.iter_mut().enumerate() {
                match &window {
                    None => rows.extend_from_slice(&x[at * self.inputs..][..self.inputs]),
                    Some(_) => {
                        let own = self.inputs / self.taps;
                        for c in group * own..(group + 1) * own {
                            let plane = &x[(image * dims[1] + c) * area..][..area];
                            rows.extend(taps.iter().map(|t| t.map_or(0.0, |t| plane[t])));
                        }
                    }
                }
                let own = group * self.outputs..(group + 1) * self.outputs;
                rows.extend(own.map(|c| y[(image * channels + c) * inner + place]));
            }
        }
        Ok(rows)
    }
}

/// At most `most` different numbers below `count`: one of each part of equal size.
fn drawn(count: usize, most: usize, rng: &mut impl RngExt) -> Vec<usize> {
    if count <= most {
        return (0..count).collect();
    }
    (0..most).map(|i| rng.random_range(i * count / most..(i + 1) * count / most)).collect()
}

/// Where in a plane of the input the window lies at an output position, tap by tap; `None` in the padding.
fn under(window: &Window, mut place: usize, taps: &mut Vec<Option<usize>>) {
    let rank = window.kernel.len();
    let mut start = vec![0isize; rank];
    for d in (0..rank).rev() {
        start[d] = (place % window.output[d] * window.stride[d]) as isize - window.pad_begin[d] as isize;
        place /= window.output[d];
    }
    taps.clear();
    for tap in 0..window.kernel.iter().product() {
        let (mut rest, mut offset, mut step) = (tap, Some(0usize), 1usize);
        for d in (0..rank).rev() {
            let at = start[d] + (rest % window.kernel[d] * window.dilation[d]) as isize;
            rest /= window.kernel[d];
            let inside = usize::try_from(at).ok().filter(|&at| at < window.input[d]);
            offset = offset.zip(inside).map(|(o, at)| o + at * step);
            step *= window.input[d];
        }
        taps.push(offset);
    }
}
