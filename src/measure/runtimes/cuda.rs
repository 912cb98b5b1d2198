//! This library on an NVIDIA GPU: node by node, with its own kernels where candle has none.

use super::{Absent, Found, ONNX, Opening, Runtime, RuntimeSpec};
use candle_core::Device;
use compresso_base::error::Result;
use compresso_exec::{Outputs, Params, Run, run};
use compresso_model::{Graph, Value, onnx};
use std::collections::HashMap;
use std::sync::OnceLock;

pub(super) const SPEC: RuntimeSpec = RuntimeSpec {
    name: "cuda",
    summary: "This library on an NVIDIA GPU, without a plan",
    get: "scripts/cuda-build.sh builds compresso with CUDA; it needs an NVIDIA driver",
    find,
    artefact: ONNX,
    open,
    worker: None,
    usual: false,
    train: None,
    profiles: false,
};

fn find() -> std::result::Result<Found, Absent> {
    let absent = |reason: String| Absent { reason, searched: Vec::new() };
    if !candle_core::utils::cuda_is_available() {
        return Err(absent("this build has no CUDA".into()));
    }
    // Making a device takes tenths of a second.
    static DEVICE: OnceLock<Option<String>> = OnceLock::new();
    let fault = || Device::new_cuda(0).err().map(|e| e.to_string().lines().next().unwrap_or_default().to_string());
    match DEVICE.get_or_init(fault) {
        None => Ok(Found { version: env!("CARGO_PKG_VERSION").into(), place: None }),
        Some(reason) => Err(absent(reason.clone())),
    }
}

/// A graph whose weights are on the device.
struct OnGpu {
    graph: Graph,
    weights: Params,
    device: Device,
    fed: HashMap<String, Value>,
}

fn open<'a>(opening: &Opening<'a>) -> Result<Box<dyn Runtime + 'a>> {
    let graph = onnx::load(&opening.file)?;
    let device = if opening.ctx.device.is_cuda() { opening.ctx.device.clone() } else { Device::new_cuda(0)? };
    let mut weights = Params::new();
    // Integers are mostly shapes, which operators read on the host.
    for (name, constant) in graph.constants().iter().filter(|(_, c)| c.element().is_float()) {
        weights.insert(name.clone(), Value::of_constant(constant, &device)?.tensor);
    }
    Ok(Box::new(OnGpu { graph, weights, device, fed: HashMap::new() }))
}

impl OnGpu {
    fn on_device(&self, feeds: &HashMap<String, Value>) -> Result<HashMap<String, Value>> {
        feeds.iter().map(|(name, v)| Ok((name.clone(), v.with(v.tensor.to_device(&self.device)?)?))).collect()
    }
    /// Waits for the device, so that a time is that of the whole run.
    fn finished(&self, feeds: &HashMap<String, Value>) -> Result<Outputs> {
        let options = Run { params: Some(&self.weights), device: Some(self.device.clone()), ..Run::default() };
        let outputs = run(&self.graph, feeds, options)?;
        self.device.synchronize()?;
        Ok(outputs)
    }
}

impl Runtime for OnGpu {
    fn run(&mut self, feeds: &HashMap<String, Value>) -> Result<Outputs> {
        let outputs = self.finished(&self.on_device(feeds)?)?;
        outputs.into_iter().map(|(name, v)| Ok((name, v.with(v.tensor.to_device(&Device::Cpu)?)?))).collect()
    }
    fn feed(&mut self, feeds: &HashMap<String, Value>) -> Result<()> {
        self.fed = self.on_device(feeds)?;
        Ok(())
    }
    fn step(&mut self) -> Result<()> {
        self.finished(&self.fed).map(drop)
    }
}
