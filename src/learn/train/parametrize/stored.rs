//! How integers that a graph stores stand for the numbers of a parameter.

use super::Limits;
use compresso_base::error::{Error, Result};
use compresso_model::graph::normalize_axis;
use compresso_model::{Constant, Element, Graph, Node, Payload};

/// How the integers of a parameter stand for numbers.
#[derive(Debug)]
pub(super) struct Stored {
    /// The constant that holds them.
    pub(super) integers: String,
    /// The constant that holds their scales, and its shape.
    pub(super) scale: (String, Vec<usize>),
    element: Element,
    dims: Vec<usize>,
    /// Shape in which scales and zero points are broadcast.
    pub(super) spread: Vec<usize>,
    pub(super) scales: Vec<f32>,
    pub(super) zeros: Vec<f32>,
    pub(super) limits: Limits,
}

impl Stored {
    /// What a DequantizeLinear reads, if it is constants in a form that can be written again.
    pub(super) fn of(graph: &Graph, node: &Node) -> Result<Option<(Self, Constant)>> {
        let constant = |i: usize| node.input(i).and_then(|n| graph.constant(n));
        let (Some(integers), Some(scale)) = (constant(0), constant(1)) else { return Ok(None) };
        let element = integers.element();
        let Some((low, high)) = element.int_range() else { return Ok(None) };
        let whole_bytes = matches!(element.bits(), 8 | 16 | 32);
        if !whole_bytes || scale.element() != Element::F32 || node.get_int("block_size", 0)? != 0 || node.get_int("output_dtype", 0)? > 1 {
            return Ok(None);
        }
        let dims = integers.dims().to_vec();
        let scales = scale.to_f32s()?;
        let zeros: Vec<f32> = match (node.input(2), constant(2)) {
            (None, _) => vec![0.0; scales.len()],
            (_, Some(c)) => c.to_f32s()?,
            (Some(_), None) => return Ok(None),
        };
        let spread = if scales.len() == 1 {
            vec![1; dims.len()]
        } else {
            let axis = normalize_axis(node.get_int("axis", 1)?, dims.len())?;
            (0..dims.len()).map(|d| if d == axis { dims[d] } else { 1 }).collect()
        };
        if spread.iter().product::<usize>() != scales.len() || zeros.len() != scales.len() {
            return Err(Error::shape(format!("{} scales and {} zero points for {dims:?}", scales.len(), zeros.len())));
        }
        let values = integers.to_i64s()?;
        let largest = values.iter().map(|v| v.abs()).max().unwrap_or(0);
        let around_zero = element == Element::I8 && zeros.iter().all(|z| *z == 0.0);
        let limits = match largest {
            0..=31 if around_zero => {
                [1.0, 3.0, 7.0, 15.0, 31.0].into_iter().find(|&l| largest as f64 <= l).map_or((-31.0, 31.0), |l| (-l, l))
            }
            32..=64 if around_zero => (-64.0, 64.0),
            65..=127 if around_zero => (-127.0, 127.0),
            _ => (low as f64, high as f64),
        };
        let (of, count) = (scale_of(&spread, &dims), dims.iter().product::<usize>());
        let floats: Vec<f32> = (0..count).map(|i| (values[i] - zeros[of(i)] as i64) as f32 * scales[of(i)]).collect();
        let float = Constant::floats(&dims, &floats)?;
        let [integers, name] = [0, 1].map(|i| node.inputs[i].clone());
        let scale = (name, scale.dims().to_vec());
        Ok(Some((Self { integers, scale, element, dims, spread, scales, zeros, limits }, float)))
    }

    /// True where float32 can count the steps.
    pub(super) fn is_short(&self) -> bool {
        self.element.bits() <= 16
    }

    /// The integers nearest to `values` under these scales.
    pub(super) fn integers(&self, values: &[f32], scales: &[f32]) -> Result<Constant> {
        let of = scale_of(&self.spread, &self.dims);
        let round = |(i, &v): (usize, &f32)| -> i64 {
            let (scale, zero) = (scales[of(i)], self.zeros[of(i)]);
            let q = if self.is_short() {
                f64::from((v / scale).round_ties_even() + zero)
            } else {
                (f64::from(v) / f64::from(scale)).round_ties_even() + f64::from(zero)
            };
            q.clamp(self.limits.0, self.limits.1) as i64
        };
        let bytes = self.element.bits() / 8;
        let raw: Vec<u8> = values.iter().enumerate().flat_map(|v| round(v).to_le_bytes().into_iter().take(bytes)).collect();
        Constant::new(self.element, self.dims.clone(), Payload::Raw(raw.into()))
    }
}

/// Which scale an element has.
fn scale_of(spread: &[usize], dims: &[usize]) -> impl Fn(usize) -> usize + use<> {
    // All indices have the one scale where no axis is spread.
    let (inner, size) = spread.iter().position(|&n| n > 1).map_or((1, 1), |a| (dims[a + 1..].iter().product(), dims[a]));
    move |i| i / inner % size
}
