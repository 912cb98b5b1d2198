//! The course of a benchmark.

use super::layers::Layers;
use super::report::{BenchmarkReport, Row, slower_integers};
use super::seat::{Room, Seat, place};
use super::server::{Load, Served, Server};
use super::{Benchmark, Scenario};
use crate::environment::Environment;
use crate::power::Meter;
use crate::runtimes::{Files, RUNTIMES, RuntimeName, RuntimeSpec};
use crate::statistics::Speedup;
use crate::timing::{Subject, interleaved};
use crate::worker::{Fault, program};
use candle_core::DeviceLocation;
use compresso_base::context::Context;
use compresso_base::error::{Error, ErrorKind, Result};
use compresso_base::operation::in_range;
use compresso_learn::data::{DataKind, Dataset};
use compresso_learn::eval::judged;
use compresso_model::Model;
use compresso_model::ops::quantized_node;
use std::path::PathBuf;
use std::time::Instant;

/// Times each model in each runtime, in turns.
///
/// Each has a process of its own, where a program for it is found (see [`program::find`]) and `isolate` is not turned off.
/// A runtime that is not on this machine or that refuses a model, and a process that ends, are left out with a warning,
/// unless the runtime was asked for by name and is missing, or nothing is left.
///
/// # Errors
/// `Argument` for options out of range; `Unavailable` for a runtime that was asked for and is missing; whatever running
/// reports.
pub fn benchmark(models: &[(String, Model)], data: Option<&Dataset>, options: &Benchmark, ctx: &Context) -> Result<BenchmarkReport> {
    options.check()?;
    let threads = options.threads.unwrap_or(ctx.threads);
    in_range("threads", threads as f64, 1.0..=1024.0)?;
    if models.is_empty() {
        return Err(Error::argument("there is no model to benchmark"));
    }
    let mut warnings = Vec::new();
    let specs = chosen(options, &mut warnings)?;
    if options.training && data.is_some() {
        warnings.push("the dataset is not used: training steps are timed on noise".into());
    }
    if cfg!(debug_assertions) {
        warnings.push("this is a debug build: its own figures are slow".into());
    }
    let data_for_accuracy = data.filter(|_| options.accuracy && !options.training);
    if let Some(data) = data_for_accuracy {
        fits_one(models, data, options)?;
    }
    let program = if options.isolate { worker_program(&mut warnings, ctx)? } else { None };
    if options.cores.is_some() && program.is_none() {
        warnings.push("option 'cores' is for processes of their own: these ran where the system put them".into());
    }
    let room = Room { options, threads, program: program.as_deref(), ctx };
    let mut seats = load(models, &specs, &room, &mut warnings)?;
    let samples = time(&mut seats, options, &mut warnings, ctx)?;
    let mut meters = Meters::new(options.power);
    let mut rows = Vec::new();
    for (seat, samples) in seats.iter_mut().zip(samples) {
        let Some(samples) = samples else { continue };
        let server = serve(seat, &samples, options, &mut warnings, ctx)?;
        let meter = meters.of(seat.spec, options, ctx);
        let beside = seat.beside(meter, data_for_accuracy, &room, &mut warnings)?;
        rows.push(Row { server, ..seat.row(&samples, beside)? });
    }
    if let Some((first, others)) = rows.split_first_mut() {
        others.iter_mut().for_each(|r| r.speedup = Speedup::of(&r.samples_ms, &first.samples_ms));
    }
    let quantized = |name: &str| models.iter().any(|(n, m)| n == name && quantized_node(m.graph()).is_some());
    warnings.extend(slower_integers(&rows, quantized));
    let layers = if options.layers { layers(models, &room, &mut warnings)? } else { Vec::new() };
    let report = BenchmarkReport {
        layers,
        environment: Environment::now(versions(&seats)),
        threads,
        cores: options.cores.clone().filter(|_| program.is_some()),
        training: options.training,
        scenario: options.scenario,
        isolated: program.is_some(),
        dataset: data_for_accuracy.map(Dataset::label),
        rows,
        warnings,
    };
    ctx.note(report.line());
    Ok(report)
}

/// A sensor, or why there is none.
type Sensor = Result<Meter, String>;

/// The sensors of what models run on, each tried when it is first asked for.
struct Meters {
    asked: bool,
    cpu: Option<Sensor>,
    gpu: Option<Sensor>,
}

impl Meters {
    fn new(asked: bool) -> Self {
        Self { asked, cpu: None, gpu: None }
    }
    fn of(&mut self, spec: &RuntimeSpec, options: &Benchmark, ctx: &Context) -> &Sensor {
        let gpu = gpu_of(spec, options.training, ctx);
        let asked = self.asked;
        let slot = if gpu.is_some() { &mut self.gpu } else { &mut self.cpu };
        slot.get_or_insert_with(|| if asked { meter(gpu) } else { Err("not asked for".into()) })
    }
}

/// The GPU that a model runs on in a runtime.
fn gpu_of(spec: &RuntimeSpec, training: bool, ctx: &Context) -> Option<usize> {
    let device = match ctx.device.location() {
        DeviceLocation::Cuda { gpu_id } => Some(gpu_id),
        _ => None,
    };
    if spec.name == "cuda" { Some(device.unwrap_or(0)) } else { device.filter(|_| training) }
}

fn meter(gpu: Option<usize>) -> Sensor {
    gpu.map_or_else(Meter::cpu, |gpu| Meter::gpu(gpu as u32))
}

/// The sensor of what runs models of a runtime, with what is wrong with each where none reports.
///
/// # Errors
/// `Unavailable`; `Argument` for a runtime that there is not.
pub fn sensor(runtime: &RuntimeName, ctx: &Context) -> Result<Meter> {
    meter(gpu_of(runtime.spec()?, false, ctx)).map_err(|why| Error::unavailable(format!("no sensor reports energy here: {why}")))
}

/// Of models that labels of this kind can judge, at least one has the dataset's classes: better said now than after all was timed.
///
/// # Errors
/// `Argument`: why the first of them cannot be judged, when none can.
fn fits_one(models: &[(String, Model)], data: &Dataset, options: &Benchmark) -> Result<()> {
    let judging = options.judging();
    let able = models.iter().filter(|(_, m)| DataKind::of_task(m.task()) == Some(data.kind));
    let mut first = None;
    for (name, model) in able {
        match judged(model.task(), data, &judging) {
            Ok(_) => return Ok(()),
            Err(e) => drop(first.get_or_insert_with(|| e.at(format!("accuracy of '{name}'")))),
        }
    }
    first.map_or(Ok(()), Err)
}

/// The runtimes that the options name, or all that are on this machine.
fn chosen(options: &Benchmark, warnings: &mut Vec<String>) -> Result<Vec<&'static RuntimeSpec>> {
    let fits = |spec: &RuntimeSpec| !options.training || spec.train.is_some();
    let Some(names) = &options.runtimes else {
        let mut found = Vec::new();
        let mut absent = Vec::new();
        for &spec in RUNTIMES.iter().filter(|s| s.usual && fits(s)) {
            match (spec.find)() {
                Ok(_) => found.push(spec),
                Err(e) => absent.push(format!("{} ({})", spec.name, e.reason)),
            }
        }
        if !absent.is_empty() {
            warnings.push(format!("left out: {}; `compresso doctor` says how to get it", absent.join(", ")));
        }
        return Ok(found);
    };
    if names.is_empty() {
        return Err(Error::argument("option 'runtimes' is empty"));
    }
    let specs = names.iter().map(|n| n.spec()).collect::<Result<Vec<_>>>()?;
    if let Some(spec) = specs.iter().find(|s| !fits(s)) {
        let able: Vec<&str> = RUNTIMES.iter().filter(|s| fits(s)).map(|s| s.name).collect();
        let e = Error::argument(format!("option 'training' cannot be used with {}, which does not train", spec.name));
        return Err(e.hint(format!("runtimes that train: {}", able.join(", "))));
    }
    specs.iter().try_for_each(|s| s.require().map(drop))?;
    Ok(specs)
}

fn worker_program(warnings: &mut Vec<String>, ctx: &Context) -> Result<Option<PathBuf>> {
    match program::find(&ctx.cancel) {
        Ok(program) => Ok(Some(program)),
        Err(Fault::Ended(reason)) => {
            let what = "all models are measured in this process, without memory, as no program for others is found";
            warnings.push(format!("{what} ({reason}); {} names one", program::VARIABLE));
            Ok(None)
        }
        Err(fault) => Err(fault.error()),
    }
}

fn load<'a>(
    models: &'a [(String, Model)],
    specs: &[&'static RuntimeSpec],
    room: &Room<'a>,
    warnings: &mut Vec<String>,
) -> Result<Vec<Seat<'a>>> {
    let mut seats: Vec<Seat<'a>> = Vec::new();
    let mut refused = None;
    for (name, model) in models {
        let files = Files::new(model)?;
        let mut batch = room.options.batch;
        for &spec in specs {
            room.ctx.check()?;
            match room.seat(name, &files, spec, room.options.training) {
                Ok(seat) => {
                    if seat.batch != batch {
                        batch = seat.batch;
                        warnings.push(format!("'{name}' has a fixed batch of {batch}"));
                    }
                    seats.push(seat);
                }
                Err(Fault::Ended(how)) => {
                    warnings.push(format!("{} is left out: {how}", place(name, spec)));
                    refused = Some(Error::internal(how).at(format!("model {}", place(name, spec))));
                }
                Err(Fault::Error(e)) if e.kind() == ErrorKind::Unsupported => {
                    warnings.push(format!("'{name}' does not run in {}: {}", spec.name, e.message()));
                    refused = Some(e);
                }
                Err(Fault::Error(e)) => return Err(e.at(format!("model {}", place(name, spec)))),
            }
        }
    }
    match (seats.is_empty(), refused) {
        (true, Some(e)) => Err(e),
        _ => Ok(seats),
    }
}

/// The samples of each seat; `None`, with a warning, where its process ended.
fn time(seats: &mut [Seat<'_>], options: &Benchmark, warnings: &mut Vec<String>, ctx: &Context) -> Result<Vec<Option<Vec<f64>>>> {
    let mut ends: Vec<Option<String>> = vec![None; seats.len()];
    let mut subjects: Vec<Subject<'_>> = Vec::new();
    for (seat, end) in seats.iter_mut().zip(&mut ends) {
        let place = seat.place();
        let (steps, mean) = seat.query;
        let carrier = &mut seat.carrier;
        let figure = move |times: &[f64]| times.iter().sum::<f64>() / if mean { times.len() as f64 } else { 1.0 };
        subjects.push(Box::new(move |queries| match carrier.step(queries * steps) {
            Ok(times) => Ok(Some(times.chunks(steps).map(figure).collect())),
            Err(Fault::Ended(how)) => {
                *end = Some(format!("{place} is left out: {how}"));
                Ok(None)
            }
            Err(Fault::Error(e)) => Err(e.at(format!("model {place}"))),
        }));
    }
    let by_time = match options.scenario {
        Scenario::Server => false,
        Scenario::Offline => options.seconds.is_some(),
        Scenario::SingleStream | Scenario::MultiStream => options.seconds.is_some() || options.runs == 0,
    };
    let samples = if by_time {
        let first = interleaved(&mut subjects, options.warmup, 2, "benchmark", ctx)?;
        let steps = if options.scenario == Scenario::Offline { options.query(1).0 as f64 } else { 1.0 };
        let round: f64 = first.iter().flat_map(|s| s.iter().copied().reduce(f64::min)).sum::<f64>() * steps;
        interleaved(&mut subjects, 0, options.queries_in(round, first.len()), "benchmark", ctx)?
    } else {
        interleaved(&mut subjects, options.warmup, options.queries(), "benchmark", ctx)?
    };
    drop(subjects);
    if let [Some(how), rest @ ..] = ends.as_slice()
        && rest.iter().all(Option::is_some)
    {
        return Err(Error::internal(how.clone()));
    }
    let samples = samples.into_iter().zip(&ends).map(|(s, end)| end.is_none().then_some(s)).collect();
    warnings.extend(ends.into_iter().flatten());
    Ok(samples)
}

/// The greatest rate of queries that a seat answers in time, where the scenario asks for it; `None`, with a warning, when its process ends.
fn serve(seat: &mut Seat<'_>, samples: &[f64], options: &Benchmark, warnings: &mut Vec<String>, ctx: &Context) -> Result<Option<Server>> {
    let Some(bound_ms) = options.latency_ms else { return Ok(None) };
    let load = Load { bound_ms, percentile: options.percentile, seconds: options.seconds, seed: ctx.seed };
    let capacity = 1e3 * samples.len() as f64 / samples.iter().sum::<f64>();
    let place = seat.place();
    match load.search(&mut Served { carrier: &mut *seat.carrier, begin: Instant::now(), ctx }, capacity) {
        Ok(server) => Ok(Some(server)),
        Err(Fault::Ended(how)) => {
            warnings.push(format!("{place} stopped under load: {how}"));
            Ok(None)
        }
        Err(Fault::Error(e)) => Err(e),
    }
}

/// Times the steps of each model's plan, in the first runtime that tells them.
fn layers(models: &[(String, Model)], room: &Room<'_>, warnings: &mut Vec<String>) -> Result<Vec<Layers>> {
    let Some(spec) = RUNTIMES.iter().copied().find(|s| s.profiles && (s.find)().is_ok()) else { return Ok(Vec::new()) };
    let mut all = Vec::new();
    for (name, model) in models {
        let files = Files::new(model)?;
        let steps = room.seat(name, &files, spec, false).and_then(|mut seat| seat.carrier.profile(room.options.fixed_runs()));
        match steps {
            Ok(steps) => all.push(Layers { name: name.clone(), steps }),
            Err(Fault::Ended(how)) => warnings.push(format!("no steps of '{name}': {how}")),
            Err(Fault::Error(e)) if e.kind() == ErrorKind::Unsupported => warnings.push(format!("no steps of '{name}': {}", e.message())),
            Err(Fault::Error(e)) => return Err(e),
        }
    }
    Ok(all)
}

/// Name and version of each runtime in use that is not part of this library.
fn versions(seats: &[Seat<'_>]) -> Vec<String> {
    let mut versions: Vec<String> = Vec::new();
    for spec in seats.iter().map(|s| s.spec) {
        if let Ok(found) = (spec.find)()
            && found.place.is_some()
        {
            let version = format!("{} {}", spec.name, found.version);
            if !versions.contains(&version) {
                versions.push(version);
            }
        }
    }
    versions
}
