//! Layers as products of matrices: the rows of its input that a layer multiplies with its weight, and the weight in that form.

use compresso_base::error::{Error, Result};
use compresso_exec::compiled::Seen;
use compresso_model::ops::conv::CONV;
use compresso_model::ops::matmul::{GEMM, MATMUL};
use compresso_model::ops::window::WindowAttrs;
use compresso_model::{Graph, Node, ops};

/// A layer's weight as `[groups · outputs, length]`, each row one output's, of rows of `length` numbers for each group.
#[derive(Debug)]
pub(super) struct Matrix {
    pub groups: usize,
    /// Output channels of a group.
    pub outputs: usize,
    pub length: usize,
    form: Form,
}

#[derive(Debug)]
enum Form {
    /// Channel by channel of a group, the taps of the window in each.
    Conv(WindowAttrs),
    /// The last axis of the input; whether the weight has the outputs on its last axis.
    Product { transposed: bool },
}

impl Matrix {
    /// `None` for layers of another form: ConvTranspose, products with a transposed input or a batch of weights.
    ///
    /// # Errors
    /// `Format` for wrong attributes.
    pub fn of(graph: &Graph, node: &Node) -> Result<Option<Self>> {
        let Some(weight) = ops::layer_weight(graph, node)? else { return Ok(None) };
        let dims = weight.constant.dims();
        if node.is(CONV) && dims.len() >= 3 {
            let groups = usize::try_from(node.get_int("group", 1)?).unwrap_or(1).max(1);
            let attrs = WindowAttrs::of(node, Some(&dims[2..]), dims.len() - 2)?;
            let (outputs, length) = (dims[0] / groups, dims[1..].iter().product());
            return Ok(Some(Self { groups, outputs, length, form: Form::Conv(attrs) }));
        }
        let [rows, columns] = *dims else { return Ok(None) };
        let transposed = match node.op.as_str() {
            GEMM if node.get_int("transA", 0)? == 0 => node.get_int("transB", 0)? == 0,
            MATMUL => true,
            _ => return Ok(None),
        };
        let (outputs, length) = if transposed { (columns, rows) } else { (rows, columns) };
        Ok(Some(Self { groups: 1, outputs, length, form: Form::Product { transposed } }))
    }
    /// Numbers in the weight's own order, in the form of the matrix.
    pub fn pack(&self, values: &[f32]) -> Vec<f32> {
        match self.form {
            Form::Product { transposed: true } => transpose(values, self.length, self.outputs),
            _ => values.to_vec(),
        }
    }
    /// The other way.
    pub fn unpack(&self, matrix: &[f32]) -> Vec<f32> {
        match self.form {
            Form::Product { transposed: true } => transpose(matrix, self.outputs, self.length),
            _ => matrix.to_vec(),
        }
    }
    /// How many rows an input of this shape has for each group.
    ///
    /// # Errors
    /// `Shape` for an input that the layer does not take.
    pub fn positions(&self, dims: &[usize]) -> Result<usize> {
        Ok(match &self.form {
            Form::Conv(attrs) => dims[0] * attrs.resolve(&dims[2..])?.output_len(),
            Form::Product { .. } => dims[..dims.len().saturating_sub(1)].iter().product(),
        })
    }
    /// The rows at some positions of an input, for each group `[positions, length]`.
    ///
    /// # Errors
    /// As [`Matrix::positions`].
    pub fn rows(&self, input: &Seen<'_>, positions: &[usize]) -> Result<Vec<Vec<f32>>> {
        let (dims, strides) = (input.dims, input.strides);
        let at = |linear: usize, dims: &[usize], strides: &[usize]| {
            let mut left = linear;
            dims.iter().zip(strides).rev().fold(0, |offset, (&n, &stride)| {
                let here = left % n;
                left /= n;
                offset + here * stride
            })
        };
        let mut rows: Vec<Vec<f32>> = (0..self.groups).map(|_| Vec::with_capacity(positions.len() * self.length)).collect();
        match &self.form {
            Form::Conv(attrs) => {
                let window = attrs.resolve(&dims[2..])?;
                let (outputs, taps) = (window.output_len(), window.kernel_len());
                let channels = self.length / taps;
                if dims[1] != channels * self.groups {
                    return Err(Error::shape(format!("{} channels for a layer of {}", dims[1], channels * self.groups)));
                }
                for &position in positions {
                    let (image, output) = (position / outputs, position % outputs);
                    let places: Vec<Option<usize>> =
                        (0..taps).map(|tap| Some(at(window.read(output, tap)?, &dims[2..], &strides[2..]))).collect();
                    for (g, rows) in rows.iter_mut().enumerate() {
                        for c in g * channels..(g + 1) * channels {
                            let base = image * strides[0] + c * strides[1];
                            rows.extend(places.iter().map(|p| p.map_or(0.0, |p| input.values[base + p])));
                        }
                    }
                }
            }
            Form::Product { .. } => {
                let last = dims.len() - 1;
                for &position in positions {
                    let base = at(position, &dims[..last], &strides[..last]);
                    rows[0].extend((0..self.length).map(|k| input.values[base + k * strides[last]]));
                }
            }
        }
        Ok(rows)
    }
}

fn transpose(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    (0..columns).flat_map(|c| (0..rows).map(move |r| values[r * columns + c])).collect()
}
