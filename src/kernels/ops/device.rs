//! Tensor functions by the kernels of [`cuda`](crate::cuda), differentiable.
//!
//! A kernel runs first; what it made then becomes a node of candle's graph, whose gradient other kernels make.

use super::storage::Candle;
use crate::activation::Activation;
use crate::conv::ConvShape;
use crate::cuda::plans::{self, Channels, Depthwise, Grid};
use crate::cuda::{Plan, run, storages};
use crate::norm::Then;
use crate::resize::AxisMap;
use crate::softmax::Kind;
use crate::window::Window;
use candle_core::op::BackpropOp;
use candle_core::{CpuStorage, CudaStorage, CustomOp1, CustomOp2, CustomOp3, DType, Layout, Shape, Storage, Tensor};
use compresso_base::error::{Error, Result};
use std::sync::{Mutex, PoisonError};

/// Whether the kernels take a tensor. Wider floats and empty tensors are candle's.
pub fn takes(x: &Tensor) -> bool {
    x.device().is_cuda() && x.dtype().is_float() && x.dtype() != DType::F64 && x.elem_count() > 0
}

/// The gradients of the arguments, from them, the result and its gradient.
type Backward = Box<dyn Fn(&[&Tensor], &Tensor, &Tensor) -> Result<Vec<Option<Tensor>>> + Send + Sync>;

struct Node {
    name: &'static str,
    /// Until candle takes it.
    made: Mutex<Option<CudaStorage>>,
    shape: Shape,
    backward: Backward,
}

impl Node {
    fn take(&self) -> Candle<(CudaStorage, Shape)> {
        let made = self.made.lock().unwrap_or_else(PoisonError::into_inner).take();
        let made = made.ok_or_else(|| candle_core::Error::Msg(format!("{} runs once", self.name)).bt())?;
        Ok((made, self.shape.clone()))
    }
    fn gradients<const N: usize>(&self, args: [&Tensor; N], y: &Tensor, gy: &Tensor) -> Candle<[Option<Tensor>; N]> {
        let gy = gy.contiguous()?;
        let all = (self.backward)(&args, y, &gy).map_err(candle_core::Error::wrap)?;
        let shaped = all.into_iter().zip(args).map(|(g, arg)| g.map(|g| g.reshape(arg.shape())).transpose());
        let shaped = shaped.collect::<Candle<Vec<_>>>()?;
        shaped.try_into().map_err(|_| candle_core::Error::Msg(format!("{} has other arguments", self.name)).bt())
    }
    fn elsewhere<T>(&self) -> Candle<T> {
        Err(candle_core::Error::Msg(format!("{} of a GPU on the CPU", self.name)).bt())
    }
}

impl CustomOp1 for Node {
    fn name(&self) -> &'static str {
        self.name
    }
    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Candle<(CpuStorage, Shape)> {
        self.elsewhere()
    }
    fn cuda_fwd(&self, _: &CudaStorage, _: &Layout) -> Candle<(CudaStorage, Shape)> {
        self.take()
    }
    fn bwd(&self, a: &Tensor, y: &Tensor, gy: &Tensor) -> Candle<Option<Tensor>> {
        self.gradients([a], y, gy).map(|[a]| a)
    }
}

impl CustomOp2 for Node {
    fn name(&self) -> &'static str {
        self.name
    }
    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Candle<(CpuStorage, Shape)> {
        self.elsewhere()
    }
    fn cuda_fwd(&self, _: &CudaStorage, _: &Layout, _: &CudaStorage, _: &Layout) -> Candle<(CudaStorage, Shape)> {
        self.take()
    }
    fn bwd(&self, a: &Tensor, b: &Tensor, y: &Tensor, gy: &Tensor) -> Candle<(Option<Tensor>, Option<Tensor>)> {
        self.gradients([a, b], y, gy).map(|[a, b]| (a, b))
    }
}

impl CustomOp3 for Node {
    fn name(&self) -> &'static str {
        self.name
    }
    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Candle<(CpuStorage, Shape)> {
        self.elsewhere()
    }
    fn cuda_fwd(
        &self,
        _: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
    ) -> Candle<(CudaStorage, Shape)> {
        self.take()
    }
    fn bwd(&self, a: &Tensor, b: &Tensor, c: &Tensor, y: &Tensor, gy: &Tensor) -> Candle<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        self.gradients([a, b, c], y, gy).map(|[a, b, c]| (a, b, c))
    }
}

/// What a kernel made of one to three tensors, as a node of candle's graph.
fn node(
    name: &'static str,
    made: Option<CudaStorage>,
    args: &[&Tensor],
    shape: impl Into<Shape>,
    backward: impl Fn(&[&Tensor], &Tensor, &Tensor) -> Result<Vec<Option<Tensor>>> + Send + Sync + 'static,
) -> Result<Tensor> {
    let node = Node { name, made: Mutex::new(made), shape: shape.into(), backward: Box::new(backward) };
    Ok(match *args {
        [a] => a.apply_op1(node)?,
        [a, b] => a.apply_op2(b, node)?,
        [a, b, c] => a.apply_op3(b, c, node)?,
        _ => return Err(Error::internal(format!("{name} of {} tensors", args.len()))),
    })
}

/// The first result of a plan.
fn first(plan: Result<Plan>, given: &[&Tensor]) -> Result<Option<CudaStorage>> {
    Ok(storages(&plan?, given)?.into_iter().next())
}

/// The results of a plan as gradients of the first arguments.
fn gradients(plan: Result<Plan>, given: &[&Tensor]) -> Result<Vec<Option<Tensor>>> {
    Ok(run(&plan?, given)?.into_iter().map(Some).collect())
}

pub fn activate(x: &Tensor, f: Activation) -> Result<Tensor> {
    let n = x.elem_count();
    let back = move |args: &[&Tensor], y: &Tensor, gy: &Tensor| gradients(plans::activation_backward(n, f), &[args[0], y, gy]);
    node("activation", first(plans::activation(n, f), &[x])?, &[x], x.shape(), back)
}

/// Planes of `[batch, channels, w.input…]`, and the shape after a pool.
fn pooled(w: &Window, x: &Tensor) -> (usize, Vec<usize>) {
    let lead = &x.dims()[..2];
    (lead.iter().product(), lead.iter().chain(&w.output).copied().collect())
}

pub fn max_pool(w: &Window, x: &Tensor) -> Result<Tensor> {
    let (planes, shape) = pooled(w, x);
    let window = w.clone();
    let back = move |args: &[&Tensor], _: &Tensor, gy: &Tensor| gradients(plans::max_pool_backward(&window, planes), &[args[0], gy]);
    node("max-pool", first(plans::max_pool(w, planes), &[x])?, &[x], shape, back)
}

pub fn average_pool(w: &Window, x: &Tensor, padding: bool) -> Result<Tensor> {
    let (planes, shape) = pooled(w, x);
    let window = w.clone();
    let back = move |_: &[&Tensor], _: &Tensor, gy: &Tensor| gradients(plans::average_pool_backward(&window, planes, padding), &[gy]);
    node("average-pool", first(plans::average_pool(w, planes, padding), &[x])?, &[x], shape, back)
}

pub fn resize_axis(map: &AxisMap, x: &Tensor, axis: usize) -> Result<Tensor> {
    let mut dims = x.dims().to_vec();
    let (outer, inner) = (dims[..axis].iter().product(), dims[axis + 1..].iter().product());
    dims[axis] = map.output;
    let table = map.clone();
    let back = move |_: &[&Tensor], _: &Tensor, gy: &Tensor| gradients(plans::resize_axis_backward(&table, outer, inner), &[gy]);
    node("resize", first(plans::resize_axis(map, outer, inner), &[x])?, &[x], dims, back)
}

pub fn softmax(x: &Tensor, axis: usize, kind: Kind) -> Result<Tensor> {
    let dims = x.dims();
    let (outer, n, inner) = (dims[..axis].iter().product(), dims[axis], dims[axis + 1..].iter().product());
    let back = move |_: &[&Tensor], y: &Tensor, gy: &Tensor| gradients(plans::softmax_backward(kind, outer, n, inner), &[y, gy]);
    node("softmax", first(plans::softmax(kind, outer, n, inner), &[x])?, &[x], dims, back)
}

/// As `ops::batch_norm`, of contiguous float32 tensors.
pub fn batch_norm(x: &Tensor, scale: &Tensor, bias: &Tensor, epsilon: f64, then: Then) -> Result<(Tensor, Tensor, Tensor)> {
    let (c, epsilon) = (Channels::of(x.dims()), epsilon as f32);
    let statistics = run(&plans::channel_statistics(c)?, &[x])?.remove(0);
    let made = first(plans::batch_norm(c, epsilon, then), &[x, scale, bias, &statistics])?;
    let kept = statistics.clone();
    let back = move |args: &[&Tensor], _: &Tensor, gy: &Tensor| {
        let plan = plans::batch_norm_backward(c, epsilon, then)?;
        let all = run(&plan, &[args[0], args[1], args[2], &kept, gy])?;
        let of = |row: usize| Ok::<_, Error>(Some(all[1].narrow(0, row * c.channels, c.channels)?));
        Ok(vec![Some(all[0].clone()), of(0)?, of(1)?])
    };
    let y = node("batch-norm", made, &[x, scale, bias], x.shape(), back)?;
    Ok((y, statistics.narrow(0, 0, c.channels)?, statistics.narrow(0, c.channels, c.channels)?))
}

/// A depthwise convolution; `None` for others. Tensors are contiguous and float32.
pub fn depthwise(s: &ConvShape, x: &Tensor, w: &Tensor, bias: Option<&Tensor>) -> Result<Option<Tensor>> {
    let Some(d) = Depthwise::of(s)? else { return Ok(None) };
    let shape: Vec<usize> = [s.batch, s.out_channels].into_iter().chain(s.window.output.iter().copied()).collect();
    let args: Vec<&Tensor> = [x, w].into_iter().chain(bias).collect();
    let made = first(plans::depthwise(&d, bias.is_some()), &args)?;
    let back = move |args: &[&Tensor], _: &Tensor, gy: &Tensor| {
        let mut all = gradients(plans::depthwise_backward(&d), &[args[0], args[1], gy])?;
        if args.len() == 3 {
            let axes: Vec<usize> = (0..gy.rank()).filter(|&a| a != 1).collect();
            all.push(Some(gy.sum(axes)?));
        }
        Ok(all)
    };
    node("depthwise", made, &args, shape, back).map(Some)
}

/// Layer normalization of rows of `n` elements, with mean and `1 / sqrt(var + epsilon)` of each.
pub fn layer_norm(x: &Tensor, scale: &Tensor, bias: &Tensor, epsilon: f64) -> Result<(Tensor, Tensor, Tensor)> {
    let n = scale.elem_count();
    let rows = x.elem_count() / n;
    let mut all = storages(&plans::layer_norm(rows, n, epsilon as f32)?, &[x, scale, bias])?.into_iter();
    let (made, moments) = (all.next(), all.next().ok_or_else(|| Error::internal("a normalization without moments"))?);
    let moments = Tensor::from_storage(Storage::Cuda(moments), 2 * rows, BackpropOp::none(), false);
    let kept = moments.clone();
    let back = move |args: &[&Tensor], _: &Tensor, gy: &Tensor| {
        let made = run(&plans::layer_norm_backward(rows, n)?, &[args[0], args[1], &kept, gy])?;
        Ok(vec![Some(made[0].clone()), Some(made[1].narrow(0, 0, n)?), Some(made[1].narrow(0, n, n)?)])
    };
    let y = node("layer-norm", made, &[x, scale, bias], x.shape(), back)?;
    Ok((y, moments.narrow(0, 0, rows)?, moments.narrow(0, rows, rows)?))
}

/// Rounding to a grid with a scale and a zero point per channel, `[channels]` each; gradients as LSQ has them.
pub fn fake_quantize(c: Channels, x: &Tensor, scale: &Tensor, zero: &Tensor, grid: Grid) -> Result<Tensor> {
    let learned = scale.track_op();
    let made = first(plans::fake_quantize(c, grid), &[x, scale, zero])?;
    let kept = zero.clone();
    let back = move |args: &[&Tensor], _: &Tensor, gy: &Tensor| {
        let all = run(&plans::fake_quantize_backward(c, grid, learned)?, &[args[0], args[1], &kept, gy])?;
        let by_scale = all.get(1).map(|g| g.narrow(0, 0, c.channels)).transpose()?;
        Ok(vec![Some(all[0].clone()), by_scale])
    };
    node("fake-quantize", made, &[x, scale], x.shape(), back)
}
