//! Plans on a GPU.

use super::compile::{Compiled, compiled};
use super::module::module_of;
use super::plan::{Arg, Buffer, Constant, Element, Launch, Plan};
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, CudaView, DeviceRepr, LaunchConfig, PushKernelArg};
use candle_core::cuda_backend::{CudaDType, CudaDevice, CudaStorage, WrapErr};
use candle_core::op::BackpropOp;
use candle_core::{Device, Storage, Tensor};
use compresso_base::error::{Error, Result};

/// A buffer that is only read.
enum Given<'a> {
    F32(CudaView<'a, f32>),
    I32(CudaView<'a, i32>),
    U32(CudaView<'a, u32>),
    U8(CudaView<'a, u8>),
}

/// A buffer that kernels write.
enum Made {
    F32(CudaSlice<f32>),
    I32(CudaSlice<i32>),
    U32(CudaSlice<u32>),
    U8(CudaSlice<u8>),
}

impl Made {
    fn new(device: &CudaDevice, b: Buffer) -> Result<Self> {
        fn alloc<T: DeviceRepr>(device: &CudaDevice, len: usize) -> Result<CudaSlice<T>> {
            // SAFETY: a plan's kernels write every element before one is read; the emulator's tests hold that.
            Ok(unsafe { device.alloc::<T>(len) }?)
        }
        Ok(match b.element {
            Element::F32 => Self::F32(alloc(device, b.len)?),
            Element::I32 => Self::I32(alloc(device, b.len)?),
            Element::U32 => Self::U32(alloc(device, b.len)?),
            Element::U8 => Self::U8(alloc(device, b.len)?),
        })
    }
    fn into_storage(self, device: &CudaDevice) -> CudaStorage {
        let device = device.clone();
        match self {
            Self::F32(s) => CudaStorage::wrap_cuda_slice(s, device),
            Self::I32(s) => CudaStorage::wrap_cuda_slice(s, device),
            Self::U32(s) => CudaStorage::wrap_cuda_slice(s, device),
            Self::U8(s) => CudaStorage::wrap_cuda_slice(s, device),
        }
    }
}

/// Runs a plan on the device of its inputs, which are contiguous and of the elements and lengths that it says. Gives its results as
/// flat tensors.
///
/// # Errors
/// `Shape` or `DType` for other inputs; what the compiler or the driver report.
pub fn run(plan: &Plan, inputs: &[&Tensor]) -> Result<Vec<Tensor>> {
    let buffers: Vec<Buffer> = plan.buffers().collect();
    let lens = plan.results.iter().map(|&i| buffers[i].len);
    let flat = |(storage, len)| Tensor::from_storage(Storage::Cuda(storage), len, BackpropOp::none(), false);
    Ok(storages(plan, inputs)?.into_iter().zip(lens).map(flat).collect())
}

/// As [`run`], as memory.
pub fn storages(plan: &Plan, inputs: &[&Tensor]) -> Result<Vec<CudaStorage>> {
    let Some(Device::Cuda(device)) = inputs.first().map(|t| t.device()) else {
        return Err(Error::internal("kernels of CUDA on another device"));
    };
    if inputs.len() != plan.inputs.len() {
        return Err(Error::internal(format!("a plan of {} inputs got {}", plan.inputs.len(), inputs.len())));
    }
    let held: Vec<_> = inputs.iter().map(|t| t.storage_and_layout()).collect();
    let mut given = Vec::new();
    for ((storage, layout), buffer) in held.iter().zip(&plan.inputs) {
        let range = layout.contiguous_offsets().filter(|(start, end)| end - start == buffer.len);
        let (Storage::Cuda(storage), Some((start, end))) = (&**storage, range) else {
            return Err(Error::shape(format!("kernels of CUDA take {} contiguous elements, got {layout:?}", buffer.len)));
        };
        fn view<T: CudaDType>(s: &CudaStorage, start: usize, end: usize) -> Result<CudaView<'_, T>> {
            Ok(s.as_cuda_slice::<T>()?.slice(start..end))
        }
        given.push(match buffer.element {
            Element::F32 => Given::F32(view(storage, start, end)?),
            Element::I32 => Given::I32(view(storage, start, end)?),
            Element::U32 => Given::U32(view(storage, start, end)?),
            Element::U8 => Given::U8(view(storage, start, end)?),
        });
    }
    let tables = plan.constants.iter().map(|c| match c {
        Constant::F32(v) => Ok(Made::F32(device.clone_htod(v)?)),
        Constant::I32(v) => Ok(Made::I32(device.clone_htod(v)?)),
    });
    // Before what is made, as the plan numbers them.
    let tables = tables.collect::<Result<Vec<_>>>()?;
    let made = plan.made.iter().map(|&b| Made::new(device, b)).collect::<Result<Vec<_>>>()?;
    let mut own: Vec<Made> = tables.into_iter().chain(made).collect();
    let (major, minor) = device.cuda_stream().context().compute_capability().w()?;
    let architecture = u32::try_from(10 * major + minor).map_err(|_| Error::internal("a negative compute capability"))?;
    for launch in &plan.launches {
        let module = module_of(launch.kernel).ok_or_else(|| Error::internal(format!("no kernel {}", launch.kernel)))?;
        launch_one(device, &*compiled(module, architecture)?, launch, &given, &mut own)?;
    }
    drop(given);
    let first = plan.inputs.len();
    let mut own: Vec<Option<Made>> = own.into_iter().map(Some).collect();
    let take = |&i: &usize| own.get_mut(i - first).and_then(Option::take).map(|m| m.into_storage(device));
    plan.results.iter().map(take).collect::<Option<_>>().ok_or_else(|| Error::internal("a result of a plan twice"))
}

fn launch_one(device: &CudaDevice, module: &Compiled, launch: &Launch, given: &[Given<'_>], own: &mut [Made]) -> Result<()> {
    let function = device.get_or_load_custom_func(launch.kernel, &module.name, &module.ptx)?;
    let mut builder = function.builder();
    let mut own: Vec<Option<&mut Made>> = own.iter_mut().map(Some).collect();
    for arg in &launch.args {
        match arg {
            Arg::Int(v) => builder.arg(v),
            Arg::Float(v) => builder.arg(v),
            Arg::Window(v) => builder.arg(v),
            Arg::Buffer(i) if *i < given.len() => match &given[*i] {
                Given::F32(v) => builder.arg(v),
                Given::I32(v) => builder.arg(v),
                Given::U32(v) => builder.arg(v),
                Given::U8(v) => builder.arg(v),
            },
            Arg::Buffer(i) => match own.get_mut(i - given.len()).and_then(Option::take) {
                Some(Made::F32(v)) => builder.arg(v),
                Some(Made::I32(v)) => builder.arg(v),
                Some(Made::U32(v)) => builder.arg(v),
                Some(Made::U8(v)) => builder.arg(v),
                None => return Err(Error::internal(format!("buffer {i} of {} twice", launch.kernel))),
            },
        };
    }
    let [x, y] = launch.grid;
    let config = LaunchConfig { grid_dim: (x, y, 1), block_dim: (launch.block, 1, 1), shared_mem_bytes: 0 };
    // SAFETY: the arguments are those of the kernel's signature and the buffers as long as it needs: the emulator's tests hold both for
    // the functions of `plans`, which alone make plans.
    unsafe { builder.launch(config) }.w()?;
    Ok(())
}
