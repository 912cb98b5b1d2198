//! The whole state of a training in a file, so that it can go on as if it had never stopped.
//!
//! A .safetensors file: `weight.*` and `variable.*` (the objective's own), the optimizer's moments `first.*` and `second.*`,
//! what parametrizations remember `parametrization.*` (what they train stands among the weights), the moving average `average.*`, the best weights `best.*` with their `score`, and the history, `epochs`, a row of numbers
//! per epoch. The metadata under `training` says the rest. Everything random depends on seed, epoch and step alone, so there
//! is no generator to keep.

use super::history::{Epoch, History};
use super::run::{Best, Run};
use super::scaler::Scaler;
use super::step::{Stepper, StepperState};
use candle_core::{Device, Tensor};
use compresso_base::error::{At, Error, Result};
use compresso_base::operation::changed;
use compresso_model::Constant;
use compresso_model::weights::safetensors::{self, File};
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::path::Path;

const KEY: &str = "training";
const VERSION: u32 = 1;

/// What stands in the metadata.
#[derive(Debug, Serialize, Deserialize)]
struct Card {
    version: u32,
    /// Dataset, split and number of images; seed.
    data: (String, String, usize),
    seed: u64,
    options: Map<String, Value>,
    /// Complete epochs.
    epochs: usize,
    steps: i32,
    averages: u64,
    best: Option<usize>,
    /// Names of the columns of `epochs` beyond [`COLUMNS`].
    parts: Vec<String>,
    scores: Vec<String>,
    stopped_early: bool,
    skipped_steps: usize,
    /// Names of the parametrizations that were given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    parametrizations: Vec<String>,
    /// Good and bad steps of float16's scale, whose value stands in the tensor `scale`.
    scaler: Option<(u32, u32)>,
}

/// Columns of `epochs` that there are always: epoch, loss, learning rate, norm of the gradients, seconds, images per second.
const COLUMNS: usize = 6;

/// Writes the state after the last complete epoch, whole or not at all.
///
/// # Errors
/// `Io`, with the file.
pub(super) fn save(path: &Path, run: &Run<'_>, stepper: &Stepper<'_>) -> Result<()> {
    let history = &run.history;
    let state = stepper.state()?;
    let mut tensors: IndexMap<String, Constant> = IndexMap::new();
    let mut put = |name: String, t: &Tensor| -> Result<()> {
        tensors.insert(name, Constant::from_tensor(&t.to_device(&Device::Cpu)?.contiguous()?)?);
        Ok(())
    };
    for (name, t) in stepper.params.tensors() {
        put(format!("weight.{name}"), &t)?;
    }
    let (own, variables) = stepper.names();
    for (name, t) in variables.iter().zip(&state.variables) {
        put(format!("variable.{name}"), t)?;
    }
    for (name, (first, second)) in own.iter().chain(&variables).zip(&state.moments) {
        put(format!("first.{name}"), first)?;
        if let Some(second) = second {
            put(format!("second.{name}"), second)?;
        }
    }
    for (name, t) in &state.parametrizations {
        put(format!("parametrization.{name}"), t)?;
    }
    if let Some(ema) = &run.ema {
        for (name, t) in ema.tensors()? {
            put(format!("average.{name}"), &t)?;
        }
    }
    if let Some(best) = &run.best {
        put("score".into(), &Tensor::new(best.score, &Device::Cpu)?)?;
        for (name, t) in &best.tensors {
            put(format!("best.{name}"), t)?;
        }
    }
    if let Some(scaler) = &state.scaler {
        put("scale".into(), &Tensor::new(scaler.scale, &Device::Cpu)?)?;
    }
    let own = |names: Vec<&str>| names.into_iter().map(String::from).collect::<Vec<_>>();
    let (parts, scores) = (own(history.parts()), own(history.scores()));
    put("epochs".into(), &table(history, &parts, &scores)?)?;
    let card = Card {
        version: VERSION,
        data: (run.data.name.clone(), run.data.split.clone(), run.data.len()),
        seed: run.ctx.seed,
        options: changed(run.options),
        epochs: history.epochs.len(),
        steps: state.steps,
        averages: run.ema.as_ref().map_or(0, super::Ema::updates),
        best: run.best.as_ref().map(|b| b.epoch),
        parts,
        scores,
        stopped_early: history.stopped_early,
        skipped_steps: history.skipped_steps,
        parametrizations: own(stepper.parametrizations()),
        scaler: state.scaler.map(|s| (s.good, s.bad)),
    };
    let text = serde_json::to_string(&card).map_err(|e| Error::internal("the state does not serialize").because(e))?;
    safetensors::save(&tensors, &IndexMap::from([(KEY.to_string(), text)]), path)
}

/// The history as numbers; NaN where a part or score is missing.
fn table(history: &History, parts: &[String], scores: &[String]) -> Result<Tensor> {
    let mut rows = Vec::new();
    for e in &history.epochs {
        rows.extend([e.epoch as f64, e.loss, e.learning_rate, e.gradient_norm, e.seconds, e.images_per_second]);
        rows.extend(parts.iter().map(|p| e.parts.get(p).copied().unwrap_or(f64::NAN)));
        rows.extend(scores.iter().map(|s| e.scores.get(s).copied().unwrap_or(f64::NAN)));
    }
    let width = COLUMNS + parts.len() + scores.len();
    Ok(Tensor::from_vec(rows, (history.epochs.len(), width), &Device::Cpu)?)
}

/// Sets run and stepper to the state in the file; returns the number of complete epochs.
///
/// # Errors
/// `Io`, `Format`; `Argument` for the state of another training, saying what differs.
pub(super) fn load(path: &Path, run: &mut Run<'_>, stepper: &mut Stepper<'_>) -> Result<usize> {
    let done = restore(path, run, stepper).in_file(path)?;
    run.ctx.note(format!("train: going on after epoch {done} of {}, from {}", run.options.epochs, path.display()));
    Ok(done)
}

fn restore(path: &Path, run: &mut Run<'_>, stepper: &mut Stepper<'_>) -> Result<usize> {
    let bytes = compresso_base::files::read(path)?;
    let file = File::parse(bytes.into())?;
    let text = file.metadata.get(KEY).ok_or_else(|| Error::format("the file holds no state of a training"))?;
    let card: Card = serde_json::from_str(text).map_err(|e| Error::format(format!("the metadata '{KEY}' cannot be read")).because(e))?;
    same_training(&card, run, stepper)?;
    let saved = Saved { file: &file, device: &run.ctx.device };
    let current = stepper.params.tensors();
    let like = |prefix: &str| -> Result<IndexMap<String, Tensor>> {
        current.iter().map(|(n, t)| Ok((n.clone(), saved.tensor(&format!("{prefix}.{n}"), t.dims())?))).collect()
    };
    let state = stepper.state()?;
    let (own, variables) = stepper.names();
    let moments = own.iter().chain(&variables).zip(&state.moments).map(|(name, (first, second))| {
        let second = second.as_ref().map(|t| saved.tensor(&format!("second.{name}"), t.dims())).transpose()?;
        Ok((saved.tensor(&format!("first.{name}"), first.dims())?, second))
    });
    let moments = moments.collect::<Result<Vec<_>>>()?;
    let variables = variables.iter().zip(&state.variables).map(|(n, t)| saved.tensor(&format!("variable.{n}"), t.dims()));
    let scaler = match (state.scaler, card.scaler) {
        (Some(_), Some((good, bad))) => Some(Scaler { scale: saved.number("scale")?, good, bad }),
        _ => None,
    };
    let remembered = state.parametrizations.iter().map(|(n, t)| Ok((n.clone(), saved.any(&format!("parametrization.{n}"), t)?)));
    let parametrizations = remembered.collect::<Result<_>>()?;
    let state = StepperState { steps: card.steps, moments, variables: variables.collect::<Result<_>>()?, scaler, parametrizations };
    let weights = like("weight")?;
    if run.ema.is_some() {
        let averages = like("average")?;
        if let Some(ema) = &mut run.ema {
            ema.restore(card.averages, averages);
        }
    }
    run.best = match card.best {
        Some(epoch) => Some(Best { epoch, score: saved.number("score")?, tensors: like("best")? }),
        None => None,
    };
    run.history.epochs = saved.epochs(&card)?;
    run.history.stopped_early = card.stopped_early;
    run.history.skipped_steps = card.skipped_steps;
    stepper.restore(&weights, state)?;
    Ok(card.epochs)
}

/// The checkpoint is one of the training that is asked for.
fn same_training(card: &Card, run: &Run<'_>, stepper: &Stepper<'_>) -> Result<()> {
    let other = |what: String| {
        let e = Error::argument(format!("the checkpoint is that of another training: {what}"));
        Err(e.hint("give the same data, options and seed, or another file, or leave out 'resume' to begin anew"))
    };
    if card.version != VERSION {
        return Err(Error::unsupported(format!("the checkpoint has version {}, this program reads {VERSION}", card.version)));
    }
    let (name, split, images) = &card.data;
    if (name, split, *images) != (&run.data.name, &run.data.split, run.data.len()) {
        return other(format!("of {images} images of {name} {split}, not {} of {} {}", run.data.len(), run.data.name, run.data.split));
    }
    if card.seed != run.ctx.seed {
        return other(format!("its seed was {}, not {}", card.seed, run.ctx.seed));
    }
    let list = |names: &[&str]| if names.is_empty() { "none".to_string() } else { names.join(", ") };
    let (had, has) = (card.parametrizations.iter().map(String::as_str).collect::<Vec<_>>(), stepper.parametrizations());
    if had != has {
        return other(format!("its parametrizations were {}, not {}", list(&had), list(&has)));
    }
    let wanted = changed(run.options);
    let shown = |v: Option<&Value>| v.map_or_else(|| "the default".to_string(), Value::to_string);
    if let Some(name) = card.options.keys().chain(wanted.keys()).find(|n| card.options.get(*n) != wanted.get(*n)) {
        return other(format!("its '{name}' was {}, not {}", shown(card.options.get(name)), shown(wanted.get(name))));
    }
    if card.epochs > run.options.epochs {
        return Err(Error::format(format!("{} epochs of {} are done", card.epochs, run.options.epochs)));
    }
    Ok(())
}

struct Saved<'a> {
    file: &'a File,
    device: &'a Device,
}

impl Saved<'_> {
    fn tensor(&self, name: &str, dims: &[usize]) -> Result<Tensor> {
        let place = || format!("tensor '{name}'");
        let c = self
            .file
            .tensors
            .get(name)
            .ok_or_else(|| Error::missing("the checkpoint lacks it, so it is one of another model").at(place()))?;
        if c.dims() != dims {
            return Err(Error::argument(format!("it is {:?}, the model's is {dims:?}", c.dims())).at(place()));
        }
        c.tensor(self.device).at(place)
    }
    /// A tensor of the type and shape of another.
    fn any(&self, name: &str, like: &Tensor) -> Result<Tensor> {
        Ok(self.tensor(name, like.dims())?.to_dtype(like.dtype())?)
    }
    fn number(&self, name: &str) -> Result<f64> {
        Ok(self.tensor(name, &[])?.to_dtype(candle_core::DType::F64)?.to_scalar()?)
    }
    fn epochs(&self, card: &Card) -> Result<Vec<Epoch>> {
        let width = COLUMNS + card.parts.len() + card.scores.len();
        let t = self.tensor("epochs", &[card.epochs, width])?;
        let rows: Vec<Vec<f64>> = t.to_dtype(candle_core::DType::F64)?.to_vec2()?;
        let named = |names: &[String], values: &[f64]| -> IndexMap<String, f64> {
            names.iter().cloned().zip(values.iter().copied()).filter(|(_, v)| !v.is_nan()).collect()
        };
        let epoch = |r: &Vec<f64>| {
            let (parts, scores) = r[COLUMNS..].split_at(card.parts.len());
            Epoch {
                epoch: r[0] as usize,
                loss: r[1],
                learning_rate: r[2],
                gradient_norm: r[3],
                seconds: r[4],
                images_per_second: r[5],
                parts: named(&card.parts, parts),
                scores: named(&card.scores, scores),
            }
        };
        Ok(rows.iter().map(epoch).collect())
    }
}
