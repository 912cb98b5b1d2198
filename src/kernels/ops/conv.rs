use super::add::contiguous;
use super::storage::{Candle, floats, output, read};
use crate::conv::{self, ConvShape};
use crate::out::fresh;
use candle_core::{CpuStorage, CustomOp2, CustomOp3, DType, Layout, Shape, Tensor};
use compresso_base::error::{Error, Result};

/// Convolution with an optional bias.
///
/// # Shapes
/// `x: [batch, in_channels, input…]`, `w: [out_channels, in_channels / groups, kernel…]`, `bias: [out_channels]`, result
/// `[batch, out_channels, output…]`, as `s` says.
///
/// # Errors
/// `Shape` when the sizes are out of range or the tensors have others.
pub fn conv(s: &ConvShape, x: &Tensor, w: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if super::device::takes(x) && s.groups == s.in_channels && s.groups > 1 {
        let single = |t: &Tensor| contiguous(&t.to_dtype(DType::F32)?);
        check(s, x.elem_count(), w.elem_count(), None, bias.map(|b| (b.elem_count(), s.out_channels)))?;
        if let Some(y) = super::device::depthwise(s, &single(x)?, &single(w)?, bias.map(single).transpose()?.as_ref())? {
            return Ok(y.to_dtype(x.dtype())?);
        }
    }
    if !x.device().is_cpu() {
        return on_device(s, x, w, bias, false);
    }
    run(s, x, w, bias, false)
}

/// # Errors
/// `Shape` when the sizes are out of range or tensors of such lengths do not have them.
fn check(s: &ConvShape, x: usize, w: usize, y: Option<usize>, bias: Option<(usize, usize)>) -> Result<()> {
    s.check()?;
    let fits = (x, w) == (s.x_len(), s.w_len()) && y.is_none_or(|n| n == s.y_len()) && bias.is_none_or(|(n, channels)| n == channels);
    if fits {
        return Ok(());
    }
    let expected = (s.x_len(), s.w_len(), s.y_len());
    Err(Error::shape(format!(
        "a convolution of {expected:?} values, weights and results got {x}, {w} and {y:?}, and {bias:?} biases of channels"
    )))
}

/// Gradients of [`conv()`] with respect to `x`, `w` and the bias, those that `needs` asks for, from that of its result. All
/// tensors are float32 on the CPU.
pub fn conv_backward(s: &ConvShape, x: &Tensor, w: &Tensor, gy: &Tensor, needs: [bool; 3]) -> Result<[Option<Tensor>; 3]> {
    check(s, x.elem_count(), w.elem_count(), Some(gy.elem_count()), None)?;
    let gy = contiguous(gy)?;
    let gy_values = read(&gy)?;
    let mut gradients = [None, None, None];
    if needs[0] {
        let w = w.contiguous()?;
        let w = read(&w)?;
        let gx = fresh(x.elem_count(), |gx| conv::backward_data(s, &w, &gy_values, gx));
        gradients[0] = Some(Tensor::from_vec(gx, x.shape(), x.device())?);
    }
    if needs[1] {
        let x = contiguous(x)?;
        let x = read(&x)?;
        let gw = fresh(w.elem_count(), |gw| conv::backward_weight(s, &x, &gy_values, gw));
        gradients[1] = Some(Tensor::from_vec(gw, w.shape(), w.device())?);
    }
    if needs[2] {
        let mut gb = vec![0.0; s.out_channels];
        conv::sum_planes(s.out_channels, s.window.output_len(), &gy_values, &mut gb);
        gradients[2] = Some(Tensor::from_vec(gb, s.out_channels, w.device())?);
    }
    Ok(gradients)
}

/// Transposed convolution: the gradient of the convolution `s` with respect to its data, as a forward operation.
///
/// # Shapes
/// `x: [batch, s.out_channels, s.window.output…]`, `w: [s.out_channels, s.in_channels / groups, kernel…]`,
/// `bias: [s.in_channels]`, result `[batch, s.in_channels, s.window.input…]`.
pub fn conv_transpose(s: &ConvShape, x: &Tensor, w: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    if !x.device().is_cpu() {
        return on_device(s, x, w, bias, true);
    }
    run(s, x, w, bias, true)
}

fn run(s: &ConvShape, x: &Tensor, w: &Tensor, bias: Option<&Tensor>, transposed: bool) -> Result<Tensor> {
    let dtype = x.dtype();
    if !dtype.is_float() {
        return Err(Error::dtype(format!("expected floating point, got {dtype:?}")));
    }
    s.check()?;
    let (found, channels) = (x.elem_count(), if transposed { s.in_channels } else { s.out_channels });
    let (x_len, y_len) = if transposed { (s.x_len(), Some(found)) } else { (found, None) };
    check(s, x_len, w.elem_count(), y_len, bias.map(|b| (b.elem_count(), channels)))?;
    let single = |t: &Tensor| contiguous(&t.to_dtype(DType::F32)?);
    let (x, w) = (single(x)?, single(w)?);
    let op = Convolution { shape: s.clone(), transposed };
    let y = match bias {
        Some(b) => x.apply_op3(&w, &single(b)?, op)?,
        None => x.apply_op2(&w, op)?,
    };
    Ok(y.to_dtype(dtype)?)
}

struct Convolution {
    shape: ConvShape,
    transposed: bool,
}

impl Convolution {
    fn forward(&self, x: &[f32], w: &[f32], bias: Option<&[f32]>) -> Candle<(CpuStorage, Shape)> {
        let s = &self.shape;
        let spatial = if self.transposed { &s.window.input } else { &s.window.output };
        let channels = if self.transposed { s.in_channels } else { s.out_channels };
        let dims: Vec<usize> = [s.batch, channels].into_iter().chain(spatial.iter().copied()).collect();
        if !self.transposed {
            return output(fresh(s.y_len(), |y| conv::forward(s, x, w, bias, y)), dims);
        }
        let y = fresh(s.x_len(), |y| {
            let y = conv::backward_data(s, w, x, y);
            if let Some(bias) = bias {
                let plane = s.window.input_len();
                for (row, i) in y.chunks_exact_mut(plane.max(1)).zip(0..) {
                    let b = bias[i % channels];
                    row.iter_mut().for_each(|v| *v += b);
                }
            }
            y
        });
        output(y, dims)
    }

    fn backward(&self, x: &Tensor, w: &Tensor, gy: &Tensor) -> Candle<(Option<Tensor>, Option<Tensor>)> {
        let s = &self.shape;
        let gy = read(gy)?;
        let mut grad_x = None;
        if x.track_op() {
            let w = read(w)?;
            let gx = fresh(x.elem_count(), |gx| match self.transposed {
                true => conv::forward(s, &gy, &w, None, gx),
                false => conv::backward_data(s, &w, &gy, gx),
            });
            grad_x = Some(Tensor::from_vec(gx, x.shape(), x.device())?);
        }
        let mut grad_w = None;
        if w.track_op() {
            let x_values = read(x)?;
            let gw = fresh(w.elem_count(), |gw| match self.transposed {
                true => conv::backward_weight(s, &gy, &x_values, gw),
                false => conv::backward_weight(s, &x_values, &gy, gw),
            });
            grad_w = Some(Tensor::from_vec(gw, w.shape(), w.device())?);
        }
        Ok((grad_x, grad_w))
    }
}

impl CustomOp2 for Convolution {
    fn name(&self) -> &'static str {
        "convolution"
    }
    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Candle<(CpuStorage, Shape)> {
        self.forward(floats(s1, l1)?, floats(s2, l2)?, None)
    }
    fn bwd(&self, x: &Tensor, w: &Tensor, _: &Tensor, gy: &Tensor) -> Candle<(Option<Tensor>, Option<Tensor>)> {
        self.backward(x, w, &gy.contiguous()?)
    }
}

impl CustomOp3 for Convolution {
    fn name(&self) -> &'static str {
        "convolution"
    }
    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Candle<(CpuStorage, Shape)> {
        self.forward(floats(s1, l1)?, floats(s2, l2)?, Some(floats(s3, l3)?))
    }
    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        bias: &Tensor,
        _: &Tensor,
        gy: &Tensor,
    ) -> Candle<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let gy = gy.contiguous()?;
        let (gx, gw) = self.backward(x, w, &gy)?;
        let mut gb = None;
        if bias.track_op() {
            let mut sums = vec![0.0; bias.elem_count()];
            let spatial = if self.transposed { self.shape.window.input_len() } else { self.shape.window.output_len() };
            conv::sum_planes(sums.len(), spatial, &read(&gy)?, &mut sums);
            gb = Some(Tensor::from_vec(sums, bias.shape(), bias.device())?);
        }
        Ok((gx, gw, gb))
    }
}

/// The same by candle's operations, for two spatial axes or one.
fn on_device(s: &ConvShape, x: &Tensor, w: &Tensor, bias: Option<&Tensor>, transposed: bool) -> Result<Tensor> {
    let win = s.window.as_2d().ok_or_else(|| Error::unsupported("three-dimensional convolution runs on the CPU only"))?;
    let flat = s.window.rank() == 1;
    let (mut x, w) = if flat { (x.unsqueeze(2)?, w.unsqueeze(2)?) } else { (x.clone(), w.clone()) };
    let pick = |[h, w]: [usize; 2], what: &str, skip: bool| {
        if h == w || skip {
            Ok(w)
        } else {
            Err(Error::unsupported(format!("different {what} of height and width ({h} and {w}) run on the CPU only")))
        }
    };
    let stride = pick(win.stride, "strides", flat)?;
    let dilation = pick(win.dilation, "dilations", flat || win.kernel[0] == 1)?;
    let y = if transposed {
        if s.groups != 1 {
            return Err(Error::unsupported("grouped transposed convolution runs on the CPU only"));
        }
        // All of what the window reaches, then cut out the wanted part.
        let mut y = x.conv_transpose2d(&w, 0, 0, stride, dilation)?;
        for d in 0..2 {
            let missing = (win.pad[d] + win.input[d]).saturating_sub(y.dim(d + 2)?);
            if missing > 0 {
                y = y.pad_with_zeros(d + 2, 0, missing)?;
            }
            y = y.narrow(d + 2, win.pad[d], win.input[d])?;
        }
        y
    } else {
        for d in 0..2 {
            let reach = (win.output[d] - 1) * win.stride[d] + (win.kernel[d] - 1) * win.dilation[d] + 1;
            let (before, inside) = (win.pad[d], win.input[d]);
            let after = reach.saturating_sub(before + inside);
            if before + after > 0 {
                x = x.pad_with_zeros(d + 2, before, after)?;
            }
            if reach < before + inside {
                x = x.narrow(d + 2, 0, reach)?;
            }
        }
        x.conv2d(&w, 0, stride, dilation, s.groups)?
    };
    let y = match bias {
        Some(b) => y.broadcast_add(&b.reshape((1, b.elem_count(), 1, 1))?)?,
        None => y,
    };
    Ok(if flat { y.squeeze(2)? } else { y })
}
