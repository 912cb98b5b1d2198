//! One model in one runtime, while it is measured.

use super::Benchmark;
use super::inputs::{inputs, size};
use super::report::Row;
use crate::memory::Peak;
use crate::power::Meter;
use crate::runtimes::{Files, RuntimeSpec};
use crate::timing::Latency;
use crate::worker::{Carrier, Fault, Order, carry};
use candle_core::{DeviceLocation, Tensor};
use compresso_base::context::Context;
use compresso_base::error::{Error, ErrorKind, Result};
use compresso_base::memory;
use compresso_learn::data::{Dataset, ImageForm};
use compresso_learn::eval::{Evaluation, evaluate_as, run_images_with};
use compresso_model::Model;
use std::path::Path;

/// How models are loaded.
pub(super) struct Room<'a> {
    pub options: &'a Benchmark,
    pub threads: usize,
    /// The program of workers; without one, all run in this process.
    pub program: Option<&'a Path>,
    pub ctx: &'a Context,
}

/// A loaded model.
pub(super) struct Seat<'a> {
    pub name: &'a str,
    /// As the user gave it, and as it is in the file that the runtime opened.
    pub given: &'a Model,
    pub model: Model,
    pub spec: &'static RuntimeSpec,
    pub batch: usize,
    /// Height and width of the images.
    pub size: Option<[usize; 2]>,
    /// Steps of a query, and whether its figure is their mean.
    pub query: (usize, bool),
    pub carrier: Box<dyn Carrier + 'a>,
}

/// What the sensors and the dataset said, beside the times.
#[derive(Default)]
pub(super) struct Beside {
    pub peak: Option<Peak>,
    /// Watts, and joules per image.
    pub power: Option<(f64, f64)>,
    pub power_reason: Option<String>,
    pub accuracy: Option<Evaluation>,
}

impl<'a> Room<'a> {
    /// Loads a model into a runtime, for training or inference, and runs it once.
    pub fn seat(&self, name: &'a str, files: &Files<'a>, spec: &'static RuntimeSpec, training: bool) -> Result<Seat<'a>, Fault> {
        let size = size(files.model(), self.options)?;
        let (file, model) = files.of(&spec.artefact, self.options.batch, size, training)?;
        let inputs = inputs(&model, self.options)?;
        let batch = inputs.first().and_then(|i| i.dims.first().copied()).unwrap_or(1);
        let order = Order {
            runtime: spec.name.into(),
            file,
            threads: self.threads,
            cores: self.options.cores.clone().unwrap_or_default(),
            training,
            gpu: match self.ctx.device.location() {
                DeviceLocation::Cuda { gpu_id } => Some(gpu_id),
                _ => None,
            },
            seed: self.ctx.seed,
            memory: memory::limit(),
            names: (spec.artefact.names)(model.graph()),
            inputs,
        };
        let carrier = carry(spec, &order, self.program, self.ctx)?;
        Ok(Seat { name, given: files.model(), model, spec, batch, size, query: self.options.query(batch), carrier })
    }
}

impl Seat<'_> {
    /// As messages name it.
    pub fn place(&self) -> String {
        place(self.name, self.spec)
    }

    /// Memory, power and accuracy. When the process ends meanwhile, what is known by then, and how it ended.
    ///
    /// # Errors
    /// What running reports; `Cancelled`.
    pub fn beside(
        &mut self,
        meter: &Result<Meter, String>,
        data: Option<&Dataset>,
        room: &Room<'_>,
        warnings: &mut Vec<String>,
    ) -> Result<Beside> {
        let mut found = Beside::default();
        match self.fill(&mut found, meter, data, room, warnings) {
            Err(Fault::Ended(how)) => warnings.push(format!("{} stopped before all was measured: {how}", self.place())),
            Err(Fault::Error(e)) => return Err(e),
            Ok(()) => {}
        }
        Ok(found)
    }

    fn fill(
        &mut self,
        found: &mut Beside,
        meter: &Result<Meter, String>,
        data: Option<&Dataset>,
        room: &Room<'_>,
        warnings: &mut Vec<String>,
    ) -> Result<(), Fault> {
        found.peak = self.carrier.peak()?;
        let power = match meter {
            Ok(meter) => self.power(meter)?,
            Err(reason) => Err(reason.clone()),
        };
        match power {
            Ok(power) => found.power = Some(power),
            Err(reason) => found.power_reason = Some(reason),
        }
        if let Some(data) = data {
            found.accuracy = self.judge(data, room, warnings)?;
        }
        Ok(())
    }

    /// Runs for a while under a power meter: mean watts and joules per image, or why they are not known.
    fn power(&mut self, meter: &Meter) -> Result<Result<(f64, f64), String>, Fault> {
        let (runs, energy) = meter.measure(|| self.carrier.run_for(0.5));
        let images = (runs?.max(1) * self.batch) as f64;
        Ok(energy.and_then(|e| {
            if e.joules > 0.0 { Ok((e.watts(), e.joules / images)) } else { Err(format!("{} reported no energy", meter.name())) }
        }))
    }

    /// Accuracy in this runtime; `None`, with a warning, when the dataset does not fit the model.
    fn judge(&mut self, data: &Dataset, room: &Room<'_>, warnings: &mut Vec<String>) -> Result<Option<Evaluation>, Fault> {
        let settings = room.options.judging();
        let (model, carrier) = (&self.model, &mut self.carrier);
        let mut ended = None;
        let mut run = |images: &Tensor| {
            run_images_with(model, images, &mut |feeds| {
                carrier.run(feeds).map_err(|fault| match fault {
                    Fault::Error(e) => e,
                    Fault::Ended(how) => Error::internal(ended.insert(how).clone()),
                })
            })
        };
        let form = ImageForm::of(model.graph(), model.task());
        let found = evaluate_as(&form, &mut run, model.task(), data, &settings, room.ctx);
        if let Some(how) = ended {
            return Err(Fault::Ended(how));
        }
        // Of each model once, whatever the number of runtimes.
        let mut told = |line: String| {
            if !warnings.contains(&line) {
                warnings.push(line);
            }
        };
        match found {
            Ok(found) => {
                found.warnings.iter().for_each(|w| told(format!("accuracy of '{}': {w}", self.name)));
                Ok(Some(found))
            }
            Err(e) if matches!(e.kind(), ErrorKind::Argument | ErrorKind::Unsupported) => {
                let hint = e.suggestion().map(|h| format!(" ({h})")).unwrap_or_default();
                told(format!("no accuracy of '{}': {}{hint}", self.name, e.message()));
                Ok(None)
            }
            Err(e) => Err(e.into()),
        }
    }

    /// # Errors
    /// `Internal` without samples; what the model's costs report.
    pub fn row(&self, samples: &[f64], beside: Beside) -> Result<Row> {
        let stats = if self.size == self.model.image_size() { self.model.stats()? } else { self.model.stats_at(self.size)? };
        let latency = Latency::of(samples).ok_or_else(|| Error::internal("no run was measured"))?;
        let Beside { peak, power, power_reason, accuracy } = beside;
        // Of offline turns the samples are means of a batch.
        let images = match self.query {
            (steps, false) => steps * self.batch,
            (_, true) => self.batch,
        };
        Ok(Row {
            name: self.name.into(),
            runtime: self.spec.name.into(),
            params: stats.params,
            macs: stats.macs,
            size_bytes: self.given.encoded()?.len() as u64,
            batch: self.batch,
            throughput: images as f64 * 1e3 / latency.mean_ms,
            latency,
            opened: self.carrier.opened(),
            server: None,
            speedup: None,
            samples_ms: samples.to_vec(),
            peak_memory_bytes: peak.map(|p| p.added),
            steady_memory_bytes: peak.map(|p| p.steady),
            process_memory_bytes: peak.map(|p| p.process),
            power_w: power.map(|p| p.0),
            energy_j: power.map(|p| p.1),
            power_reason,
            map50: accuracy.as_ref().and_then(|a| a.map50),
            map: accuracy.as_ref().and_then(|a| a.map),
            top1: accuracy.as_ref().and_then(|a| a.top1),
        })
    }
}

/// `'base' in onnxruntime`
pub(super) fn place(name: &str, spec: &RuntimeSpec) -> String {
    format!("'{name}' in {}", spec.name)
}
