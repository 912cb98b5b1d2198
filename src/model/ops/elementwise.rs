//! Differentiable elementwise computation on float tensors, with broadcasting.
//!
//! candle broadcasts by strides, but sums the gradient of a broadcast operand element by element with a division each;
//! [`binary`] sums it axis group by axis group. [`Map1`] and [`Map2`] bring functions that candle lacks.

use super::ints::{broadcast_dims, broadcast_offsets, count, offsets};
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CudaStorage, CustomOp1, CustomOp2, DType, Layout, Result as CandleResult, Shape, Tensor, op};
use compresso_base::error::{Error, Result};
use compresso_kernels::ops;
use half::{bf16, f16};
use std::sync::Arc;

/// A binary operation with a kernel in candle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Binary {
    /// `a + b`.
    Add,
    /// `a − b`.
    Sub,
    /// `a · b`.
    Mul,
    /// `a / b`.
    Div,
    /// The smaller of both.
    Min,
    /// The larger of both.
    Max,
}

/// Applies a binary operation to float tensors of one type, with ONNX (multidirectional) broadcasting.
///
/// # Errors
/// `Shape` when the shapes do not broadcast.
pub fn binary(kind: Binary, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    if a.dims() == b.dims() {
        return Ok(match kind {
            Binary::Add => ops::add(a, b)?,
            Binary::Sub => a.sub(b)?,
            Binary::Mul => ops::multiply(a, b)?,
            Binary::Div => a.div(b)?,
            Binary::Min => a.minimum(b)?,
            Binary::Max => a.maximum(b)?,
        });
    }
    let dims = broadcast_dims(a.dims(), b.dims())?;
    if dims.contains(&0) {
        return Ok(Tensor::zeros(dims, a.dtype(), a.device())?);
    }
    match kind {
        Binary::Mul if ops::plane(a, b).is_some() => ops::multiply(a, b),
        Binary::Mul if ops::plane(b, a).is_some() => ops::multiply(b, a),
        _ => Ok(a.apply_op2(b, Broadcast { kind, dims })?),
    }
}

struct Broadcast {
    kind: Binary,
    dims: Vec<usize>,
}

impl Broadcast {
    fn run<S: BackendStorage>(&self, s1: &S, l1: &Layout, s2: &S, l2: &Layout) -> CandleResult<(S, Shape)> {
        let shape = Shape::from(self.dims.as_slice());
        let (l1, l2) = (l1.broadcast_as(&shape)?, l2.broadcast_as(&shape)?);
        let out = match self.kind {
            Binary::Add => s1.binary_impl::<op::Add>(s2, &l1, &l2)?,
            Binary::Sub => s1.binary_impl::<op::Sub>(s2, &l1, &l2)?,
            Binary::Mul => s1.binary_impl::<op::Mul>(s2, &l1, &l2)?,
            Binary::Div => s1.binary_impl::<op::Div>(s2, &l1, &l2)?,
            Binary::Min => s1.binary_impl::<op::Minimum>(s2, &l1, &l2)?,
            Binary::Max => s1.binary_impl::<op::Maximum>(s2, &l1, &l2)?,
        };
        Ok((out, shape))
    }
}

impl CustomOp2 for Broadcast {
    fn name(&self) -> &'static str {
        "broadcast-binary"
    }
    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> CandleResult<(CpuStorage, Shape)> {
        self.run(s1, l1, s2, l2)
    }
    fn cuda_fwd(&self, s1: &CudaStorage, l1: &Layout, s2: &CudaStorage, l2: &Layout) -> CandleResult<(CudaStorage, Shape)> {
        self.run(s1, l1, s2, l2)
    }
    fn bwd(&self, a: &Tensor, b: &Tensor, res: &Tensor, grad: &Tensor) -> CandleResult<(Option<Tensor>, Option<Tensor>)> {
        let (a, b, res) = (a.detach(), b.detach(), res.detach());
        let both = |ga: CandleResult<Tensor>, gb: CandleResult<Tensor>| -> CandleResult<_> {
            Ok((Some(sum_to(&ga?, a.dims())?), Some(sum_to(&gb?, b.dims())?)))
        };
        // Where both operands of a minimum or maximum are equal each gets half.
        let choose = || -> CandleResult<_> {
            let picks = |x: &Tensor| res.broadcast_eq(x)?.to_dtype(grad.dtype());
            let (pa, pb) = (picks(&a)?, picks(&b)?);
            let share = (grad / (&pa + &pb)?)?;
            Ok((pa * &share, pb * &share))
        };
        match self.kind {
            Binary::Add => both(Ok(grad.clone()), Ok(grad.clone())),
            Binary::Sub => both(Ok(grad.clone()), grad.neg()),
            Binary::Mul => both(grad.broadcast_mul(&b), grad.broadcast_mul(&a)),
            Binary::Div => {
                let ga = grad.broadcast_div(&b)?;
                let gb = ga.mul(&res)?.neg();
                both(Ok(ga), gb)
            }
            Binary::Min | Binary::Max => {
                let (ga, gb) = choose()?;
                both(ga, gb)
            }
        }
    }
}

/// Sums a gradient over the axes along which an operand of shape `dims` was broadcast.
pub fn sum_to(grad: &Tensor, dims: &[usize]) -> CandleResult<Tensor> {
    if grad.dims() == dims {
        return Ok(grad.clone());
    }
    let lead = grad.rank() - dims.len();
    let axes: Vec<usize> = (0..grad.rank()).filter(|&i| i < lead || (dims[i - lead] == 1 && grad.dims()[i] != 1)).collect();
    sum_keepdim(grad, &axes)?.reshape(dims)
}

/// The sum over axes, which stay with size 1. Trailing axes first: candle sums those at memory speed.
pub fn sum_keepdim(x: &Tensor, axes: &[usize]) -> CandleResult<Tensor> {
    let rank = x.rank();
    let mut tail = rank;
    while tail > 0 && (axes.contains(&(tail - 1)) || x.dims()[tail - 1] == 1) {
        tail -= 1;
    }
    let trailing: Vec<usize> = (tail..rank).filter(|a| axes.contains(a)).collect();
    let rest: Vec<usize> = axes.iter().copied().filter(|&a| a < tail).collect();
    let x = if trailing.is_empty() { x.clone() } else { x.contiguous()?.sum_keepdim((tail..rank).collect::<Vec<_>>())? };
    if rest.is_empty() { Ok(x) } else { x.sum_keepdim(rest) }
}

/// A function of one float that candle lacks.
pub struct Map1 {
    /// What candle's errors call it.
    pub name: &'static str,
    /// The function, computed in float64 for every type.
    pub f: fn(f64) -> f64,
    /// Derivative from the argument and the result.
    pub slope: fn(f64, f64) -> f64,
}

impl CustomOp1 for &'static Map1 {
    fn name(&self) -> &'static str {
        self.name
    }
    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> CandleResult<(CpuStorage, Shape)> {
        Ok((map_storage(self.name, s, l, self.f)?, l.shape().clone()))
    }
    fn bwd(&self, arg: &Tensor, res: &Tensor, grad: &Tensor) -> CandleResult<Option<Tensor>> {
        let slope = Map2 { name: self.name, f: Arc::new(self.slope), slopes: None };
        Ok(Some((arg.detach().apply_op2_no_bwd(&res.detach(), &slope)? * grad)?))
    }
}

/// Applies a function of one float; on other devices than the CPU by way of the CPU.
pub fn map1(x: &Tensor, map: &'static Map1) -> Result<Tensor> {
    let device = x.device().clone();
    Ok(x.to_device(&candle_core::Device::Cpu)?.apply_op1(map)?.to_device(&device)?)
}

/// A function of two floats that candle lacks, with broadcasting.
pub struct Map2 {
    /// What candle's errors call it.
    pub name: &'static str,
    /// The function, computed in float64 for every type.
    pub f: Arc<dyn Fn(f64, f64) -> f64 + Send + Sync>,
    /// Derivatives by the first and second operand, from both operands.
    pub slopes: Option<[fn(f64, f64) -> f64; 2]>,
}

impl CustomOp2 for Map2 {
    fn name(&self) -> &'static str {
        self.name
    }
    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> CandleResult<(CpuStorage, Shape)> {
        let dims = broadcast_dims(l1.dims(), l2.dims()).map_err(candle_core::Error::wrap)?;
        count(&dims).map_err(candle_core::Error::wrap)?;
        let (ia, ib) = (broadcast_offsets(l1.dims(), &dims), broadcast_offsets(l2.dims(), &dims));
        let f = &self.f;
        macro_rules! run {
            ($kind:ident, $a:expr, $b:expr, $to:expr, $from:expr) => {{
                let (a, b) = (gather($a, l1), gather($b, l2));
                CpuStorage::$kind(ia.iter().zip(&ib).map(|(&i, &j)| $from(f($to(a[i]), $to(b[j])))).collect())
            }};
        }
        let out = match (s1, s2) {
            (CpuStorage::F32(a), CpuStorage::F32(b)) => run!(F32, a, b, f64::from, |v| v as f32),
            (CpuStorage::F64(a), CpuStorage::F64(b)) => run!(F64, a, b, |v| v, |v| v),
            (CpuStorage::F16(a), CpuStorage::F16(b)) => run!(F16, a, b, f16::to_f64, f16::from_f64),
            (CpuStorage::BF16(a), CpuStorage::BF16(b)) => run!(BF16, a, b, bf16::to_f64, bf16::from_f64),
            _ => return Err(candle_core::Error::UnsupportedDTypeForOp(s1.dtype(), self.name)),
        };
        Ok((out, Shape::from(dims)))
    }
    fn bwd(&self, a: &Tensor, b: &Tensor, _: &Tensor, grad: &Tensor) -> CandleResult<(Option<Tensor>, Option<Tensor>)> {
        let Some(slopes) = self.slopes else { return Err(candle_core::Error::BackwardNotSupported { op: self.name }) };
        let part = |slope: fn(f64, f64) -> f64, of: &Tensor| -> CandleResult<Option<Tensor>> {
            if !of.track_op() {
                return Ok(None);
            }
            let map = Self { name: self.name, f: Arc::new(slope), slopes: None };
            Ok(Some(sum_to(&(a.detach().apply_op2_no_bwd(&b.detach(), &map)? * grad)?, of.dims())?))
        };
        Ok((part(slopes[0], a)?, part(slopes[1], b)?))
    }
}

/// Applies a function of two floats, with broadcasting; on other devices than the CPU by way of the CPU.
pub fn map2(a: &Tensor, b: &Tensor, map: Map2) -> Result<Tensor> {
    broadcast_dims(a.dims(), b.dims())?;
    let device = a.device().clone();
    let cpu = &candle_core::Device::Cpu;
    Ok(a.to_device(cpu)?.apply_op2(&b.to_device(cpu)?, map)?.to_device(&device)?)
}

fn gather<'a, T: Copy>(data: &'a [T], layout: &Layout) -> std::borrow::Cow<'a, [T]> {
    match ops::place(layout) {
        Some((a, b)) => (&data[a..b]).into(),
        None => offsets(layout.dims(), layout.stride()).into_iter().map(|i| data[layout.start_offset() + i]).collect::<Vec<_>>().into(),
    }
}

fn map_storage(name: &'static str, s: &CpuStorage, l: &Layout, f: fn(f64) -> f64) -> CandleResult<CpuStorage> {
    Ok(match s {
        CpuStorage::F32(v) => CpuStorage::F32(gather(v, l).iter().map(|&v| f(f64::from(v)) as f32).collect()),
        CpuStorage::F64(v) => CpuStorage::F64(gather(v, l).iter().map(|&v| f(v)).collect()),
        CpuStorage::F16(v) => CpuStorage::F16(gather(v, l).iter().map(|&v| f16::from_f64(f(v.to_f64()))).collect()),
        CpuStorage::BF16(v) => CpuStorage::BF16(gather(v, l).iter().map(|&v| bf16::from_f64(f(v.to_f64()))).collect()),
        _ => return Err(candle_core::Error::UnsupportedDTypeForOp(s.dtype(), name)),
    })
}

/// Checks that two operands have one element type.
pub fn same_type(a: DType, b: DType) -> Result<()> {
    if a == b { Ok(()) } else { Err(Error::dtype(format!("expected operands of one type, got {a:?} and {b:?}"))) }
}
