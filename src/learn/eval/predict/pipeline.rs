//! Many images through a model: threads that read, run, and draw and write, with bounded room between them.
//!
//! Images are handed out in their order. At most a window of them is in memory, whatever their number.

use super::Predict;
use super::prediction::{Found, Places, Prediction, Ranked, Spot};
use super::throughput::Throughput;
use crate::data::{Dataset, ImageForm, Letterbox, Source, grey_image};
use crate::eval::{Detection, ImageRunner, Limits, Part, decode, instances, nms};
use candle_core::{Device, Tensor};
use compresso_base::context::Context;
use compresso_base::error::{Error, ErrorKind, Result};
use compresso_base::operation::in_range;
use compresso_exec::Outputs;
use compresso_model::size_of;
use compresso_model::{Classify, Detect, Instances, Model, Task};
use image::RgbImage;
use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Runs a model on all images of a dataset (as it is, without choosing a split) and hands each prediction with its image to
/// `visit`, in order. Gives the throughput and why images were skipped. With the option `save`, images are drawn
/// meanwhile, and appear together in the end. When the user cancels, it ends as soon as possible, `cancelled` is set, and what was drawn stays.
///
/// # Errors
/// `Unsupported` for a model whose task is not known; `Argument` for options out of range; what running the model, writing
/// or `visit` reports; when no image can be read, why the first cannot.
pub fn predict_each(
    model: &Model,
    images: &Dataset,
    options: &Predict,
    ctx: &Context,
    visit: &mut dyn FnMut(Prediction, &RgbImage) -> Result<()>,
) -> Result<(Throughput, Vec<String>)> {
    each(model, images, options, ctx, visit, false)
}

/// As [`predict_each`], for measurements: each worker runs its first images twice, and the first of these runs, which plans, counts for no stage.
///
/// # Errors
/// As there.
pub fn predict_measured(
    model: &Model,
    images: &Dataset,
    options: &Predict,
    ctx: &Context,
    visit: &mut dyn FnMut(Prediction, &RgbImage) -> Result<()>,
) -> Result<(Throughput, Vec<String>)> {
    each(model, images, options, ctx, visit, true)
}

fn each(
    model: &Model,
    images: &Dataset,
    options: &Predict,
    ctx: &Context,
    visit: &mut dyn FnMut(Prediction, &RgbImage) -> Result<()>,
    warm: bool,
) -> Result<(Throughput, Vec<String>)> {
    let size = checked(model, options)?;
    let n = images.len();
    let workers = match options.workers {
        _ if !ctx.device.is_cpu() => 1,
        0 => ctx.threads,
        w => w,
    };
    let workers = workers.clamp(1, n.max(1));
    let threads = (ctx.threads / workers).max(1);
    let helpers = ctx.threads.clamp(1, 8).min(n.max(1));
    let mut places = options.save.as_ref().map(|path| Places::new(path, n)).transpose()?;
    let line = Line { window: 2 * workers * options.batch + helpers, warm, ..Line::new(model, images, options, size, threads, ctx) };
    let start = Instant::now();
    let mut end = End::default();
    let collected = std::thread::scope(|scope| {
        let spawn = |name: &str, count: usize, work: fn(&Line<'_>)| -> Result<()> {
            for i in 0..count {
                let line = &line;
                std::thread::Builder::new()
                    .name(format!("{name}-{i}"))
                    .spawn_scoped(scope, move || work(line))
                    .map_err(|e| Error::internal("could not start a thread").because(e))?;
            }
            Ok(())
        };
        let result = spawn("read", helpers, |l| l.read_all())
            .and_then(|()| spawn("run", workers, |l| l.run_all()))
            .and_then(|()| spawn("draw", if places.is_some() { helpers } else { 0 }, |l| l.draw_all()))
            .and_then(|()| line.collect(&mut places, &mut end, visit));
        // Those that wait leave; after an error, those with work too.
        let mut state = line.lock();
        state.ended = true;
        state.stop = result.is_err();
        line.changed.notify_all();
        result
    });
    let failure = line.lock().failure.take();
    let cancelled = ctx.check().is_err();
    match (collected, failure) {
        (Err(e), _) | (Ok(()), Some(e)) if !(cancelled && e.is_cancelled()) => return Err(e),
        _ => {}
    }
    if let (0, Some(first), false) = (end.seen, end.first_skip.take(), cancelled) {
        return Err(Error::new(first.kind(), format!("none of the {n} images could be read")).because(first));
    }
    line.lock().drawing.clear();
    if let Some(places) = places {
        places.commit()?;
    }
    if end.skipped.len() > MAX_NOTES {
        ctx.note(format!("skipped {} images that could not be read", end.skipped.len()));
    }
    let throughput = line.throughput(&end, start, workers, cancelled);
    Ok((throughput, end.skipped))
}

/// The options in their ranges, and height and width of the input.
fn checked(model: &Model, options: &Predict) -> Result<[usize; 2]> {
    in_range("confidence", options.confidence, 0.0..=1.0)?;
    in_range("iou", options.iou, 0.0..=1.0)?;
    in_range("max_detections", options.max_detections as f64, 1.0..)?;
    in_range("workers", options.workers as f64, 0.0..=256.0)?;
    in_range("batch", options.batch as f64, 1.0..=1024.0)?;
    in_range("wait_ms", options.wait_ms, 0.0..=60_000.0)?;
    let Some(own) = model.task().image_size() else {
        return Err(Error::unsupported("the model's task is not known, so its outputs cannot be read")
            .hint("forward(m, x) gives the raw outputs; or load it with model(path, #{ decode: … }), see help(\"decode\")"));
    };
    options.size.as_ref().map_or(Ok(own), |v| size_of("size", v))
}

/// As [`predict_measured`], by this thread alone, image after image: what workers are measured against. Nothing is saved.
///
/// # Errors
/// As there; images that cannot be read are errors.
pub fn predict_serially(
    model: &Model,
    images: &Dataset,
    options: &Predict,
    ctx: &Context,
    visit: &mut dyn FnMut(Prediction, &RgbImage) -> Result<()>,
) -> Result<(Throughput, Vec<String>)> {
    let size = checked(model, options)?;
    let line = Line { warm: true, ..Line::new(model, images, options, size, 1, ctx) };
    let mut runner = ImageRunner::new(model, &line.ctx);
    let (start, mut end) = (Instant::now(), End::default());
    for index in 0..images.len() {
        ctx.check()?;
        let item = timed(&line.clock.read, || line.read(index))?;
        let mut seen = line.see(&mut runner, vec![item])?;
        if let Some((prediction, image)) = seen.pop() {
            end.seen += 1;
            visit(prediction, &image)?;
        }
    }
    Ok((line.throughput(&end, start, 1, false), end.skipped))
}

/// Images that are named one by one when they are skipped.
const MAX_NOTES: usize = 5;

/// Nanoseconds of all threads in each stage.
#[derive(Default)]
struct Clock {
    read: AtomicU64,
    run: AtomicU64,
    boxes: AtomicU64,
    draw: AtomicU64,
}

fn timed<T>(stage: &AtomicU64, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = work();
    stage.fetch_add(u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    result
}

/// What was handed out.
#[derive(Default)]
struct End {
    seen: usize,
    skipped: Vec<String>,
    first_skip: Option<Error>,
}

/// What all threads share.
struct Line<'a> {
    model: &'a Model,
    source: Arc<dyn Source>,
    options: &'a Predict,
    /// Height and width of the input.
    size: [usize; 2],
    form: ImageForm,
    /// With the threads of one worker.
    ctx: Context,
    images: usize,
    /// Images that may be in work beyond those handed out.
    window: usize,
    /// Workers run their first images twice, so that planning is not timed.
    warm: bool,
    state: Mutex<State>,
    changed: Condvar,
    clock: Clock,
}

#[derive(Default)]
struct State {
    /// Next image to read.
    claim: usize,
    /// Images handed out.
    emitted: usize,
    /// Read, in wait for the model.
    read: VecDeque<Item>,
    /// Run, in wait for their turn.
    seen: BTreeMap<usize, Outcome>,
    /// In wait to be drawn.
    drawing: VecDeque<(Prediction, RgbImage, Spot)>,
    /// Nothing more is to come.
    ended: bool,
    /// All must leave.
    stop: bool,
    /// What went wrong in drawing or writing.
    failure: Option<Error>,
}

/// An image at the model's size.
struct Item {
    index: usize,
    name: String,
    image: RgbImage,
    pixels: Vec<f32>,
    fit: Letterbox,
}

enum Outcome {
    Seen(Prediction, RgbImage),
    Skipped(Error),
    Failed(Error),
}

impl<'a> Line<'a> {
    /// With the threads of one worker, and no room for images in wait.
    fn new(model: &'a Model, images: &Dataset, options: &'a Predict, size: [usize; 2], threads: usize, ctx: &Context) -> Self {
        let mut shared = ctx.clone();
        shared.threads = threads;
        Self {
            model,
            source: images.source.clone(),
            options,
            size,
            form: ImageForm::of(model.graph(), model.task()),
            ctx: shared,
            images: images.len(),
            window: 1,
            warm: false,
            state: Mutex::default(),
            changed: Condvar::new(),
            clock: Clock::default(),
        }
    }

    fn throughput(&self, end: &End, start: Instant, workers: usize, cancelled: bool) -> Throughput {
        let seconds = start.elapsed().as_secs_f64();
        let each = |stage: &AtomicU64| stage.load(Ordering::Relaxed) as f64 / 1e6 / end.seen.max(1) as f64;
        Throughput {
            count: end.seen,
            seconds,
            images_per_second: if seconds > 0.0 { end.seen as f64 / seconds } else { 0.0 },
            workers,
            threads_per_worker: self.ctx.threads,
            read_ms: each(&self.clock.read),
            run_ms: each(&self.clock.run),
            boxes_ms: each(&self.clock.boxes),
            draw_ms: each(&self.clock.draw),
            cancelled,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `ready` gives something; `None` when it is time to leave.
    fn wait<T>(&self, mut ready: impl FnMut(&mut State) -> Option<T>) -> Option<T> {
        let mut state = self.lock();
        loop {
            if state.stop || self.ctx.check().is_err() {
                return None;
            }
            if let Some(found) = ready(&mut state) {
                drop(state);
                self.changed.notify_all();
                return Some(found);
            }
            state = self.changed.wait_timeout(state, Duration::from_millis(50)).map_or_else(|e| e.into_inner().0, |(s, _)| s);
        }
    }

    fn settle(&self, index: usize, outcome: Outcome) {
        self.lock().seen.insert(index, outcome);
        self.changed.notify_all();
    }

    /// A reader's life.
    fn read_all(&self) {
        let next = |s: &mut State| {
            if s.claim >= self.images {
                return Some(None);
            }
            (s.claim < s.emitted + self.window).then(|| {
                s.claim += 1;
                Some(s.claim - 1)
            })
        };
        while let Some(Some(index)) = self.wait(next) {
            // Decoders of other crates read what users bring; a panic there is a bad image, not the end of the process.
            let read = timed(&self.clock.read, || catch_unwind(AssertUnwindSafe(|| self.read(index))));
            match read.unwrap_or_else(|_| Err(Error::internal(format!("reading image {index} panicked")))) {
                Ok(item) => {
                    self.lock().read.push_back(item);
                    self.changed.notify_all();
                }
                Err(e) if matches!(e.kind(), ErrorKind::Cancelled | ErrorKind::Argument) => self.settle(index, Outcome::Failed(e)),
                Err(e) => self.settle(index, Outcome::Skipped(e)),
            }
        }
    }

    fn read(&self, index: usize) -> Result<Item> {
        let sample = self.source.get_at(index, self.size)?;
        let (fitted, fit) = self.form.fit(&sample.image, self.size)?;
        let mut pixels = Vec::with_capacity(self.form.channels * self.size[0] * self.size[1]);
        let opacity = if self.form.is_opacity_read() { self.source.opacity_of(index)? } else { None };
        let opacity = opacity.map(|g| self.form.fit(&grey_image(&g), self.size)).transpose()?.map(|fitted| fitted.0);
        self.form.append(&fitted, opacity.as_ref(), &mut pixels);
        Ok(Item { index, name: sample.name, image: sample.image, pixels, fit })
    }

    /// A worker's life: one engine, image by image.
    fn run_all(&self) {
        let mut runner = ImageRunner::new(self.model, &self.ctx);
        let next = |s: &mut State| match s.read.pop_front() {
            Some(item) => Some(Some(item)),
            None => s.ended.then_some(None),
        };
        while let Some(Some(item)) = self.wait(next) {
            let items = self.batch(item);
            let names: Vec<(usize, String)> = items.iter().map(|i| (i.index, i.name.clone())).collect();
            match catch_unwind(AssertUnwindSafe(|| self.see(&mut runner, items))) {
                Ok(Ok(seen)) => {
                    for ((index, _), (prediction, image)) in names.iter().zip(seen) {
                        self.settle(*index, Outcome::Seen(prediction, image));
                    }
                }
                // The first is told; all of the batch failed alike.
                Ok(Err(e)) => {
                    let mut first = Some(e);
                    for (index, name) in &names {
                        let e = first.take().unwrap_or_else(|| Error::check("the batch that it was in failed"));
                        self.settle(*index, Outcome::Failed(e.at(format!("image {name}"))));
                    }
                }
                Err(_) => {
                    for (index, name) in &names {
                        let e = Error::internal("running the model panicked");
                        self.settle(*index, Outcome::Failed(e.at(format!("image {name}"))));
                    }
                }
            }
        }
    }

    /// An image, and those that come within the deadline, until the batch is full.
    fn batch(&self, first: Item) -> Vec<Item> {
        let mut items = vec![first];
        let until = Instant::now() + Duration::from_secs_f64(self.options.wait_ms / 1e3);
        let mut state = self.lock();
        while items.len() < self.options.batch {
            if let Some(item) = state.read.pop_front() {
                items.push(item);
                continue;
            }
            let left = until.saturating_duration_since(Instant::now());
            // The last images are not waited for: none come after them.
            if left.is_zero() || state.stop || state.claim >= self.images {
                break;
            }
            state = self.changed.wait_timeout(state, left).map_or_else(|e| e.into_inner().0, |(s, _)| s);
        }
        drop(state);
        self.changed.notify_all();
        items
    }

    /// Runs the model on a batch and reads its outputs.
    fn see(&self, runner: &mut ImageRunner<'_>, items: Vec<Item>) -> Result<Vec<(Prediction, RgbImage)>> {
        let [h, w] = self.size;
        let count = items.len();
        let plans = self.warm && !runner.is_planned();
        let mut run = || {
            let mut pixels = Vec::with_capacity(items.iter().map(|i| i.pixels.len()).sum());
            items.iter().for_each(|i| pixels.extend_from_slice(&i.pixels));
            let input = Tensor::from_vec(pixels, (count, self.form.channels, h, w), &Device::Cpu)?.to_device(&self.ctx.device)?;
            runner.run(&input)
        };
        if plans {
            run()?;
        }
        let outputs = timed(&self.clock.run, run)?;
        let seen = |(i, item): (usize, Item)| {
            let Item { index, name, image, fit, .. } = item;
            let mut prediction = Prediction::of_source(name, image.dimensions(), &self.source, index, self.size);
            timed(&self.clock.boxes, || {
                let outputs = if count == 1 { outputs.clone() } else { of_image(&outputs, i)? };
                match self.model.task() {
                    Task::Unknown => Err(Error::internal("a model without a task was run")),
                    Task::Instances(task) => self.instances(task, &outputs, &fit, &mut prediction),
                    // With the size that the boxes are relative to.
                    Task::Detect(task) => {
                        self.detections(&Detect { image_size: self.size, ..task.clone() }, &outputs, &fit, &mut prediction)
                    }
                    Task::Classify(task) => self.ranking(task, &outputs, &mut prediction),
                }
            })?;
            Ok((prediction, image))
        };
        items.into_iter().enumerate().map(seen).collect()
    }

    fn detections(&self, task: &Detect, outputs: &Outputs, fit: &Letterbox, prediction: &mut Prediction) -> Result<()> {
        let o = self.options;
        let found = decode(task, outputs, o.confidence as f32, false)?.into_iter().next().unwrap_or_default();
        let iou = if task.decode.suppresses() { o.iou as f32 } else { f32::INFINITY };
        let kept = nms(found, iou, o.agnostic, o.max_detections).into_iter();
        prediction.detections = kept.map(|d| named(&task.classes, Detection { bbox: fit.inverse(d.bbox), ..d }, None)).collect();
        Ok(())
    }

    fn instances(&self, task: &Instances, outputs: &Outputs, fit: &Letterbox, prediction: &mut Prediction) -> Result<()> {
        let Predict { confidence, iou, agnostic, max_detections: max, .. } = *self.options;
        let limits = Limits { confidence: confidence as f32, iou: iou as f32, agnostic, max };
        let all = instances(task, outputs, self.size, fit, limits, &self.ctx)?.into_iter();
        prediction.detections = all.map(|i| named(&task.classes, i.detection, Some(i.part))).collect();
        Ok(())
    }

    fn ranking(&self, task: &Classify, outputs: &Outputs, prediction: &mut Prediction) -> Result<()> {
        let value = outputs.get(&task.output).ok_or_else(|| Error::missing(format!("the model gave no output '{}'", task.output)))?;
        let logits = value.to_f32s()?;
        if logits.iter().any(|v| v.is_nan()) {
            return Err(Error::check("the classifier's output holds NaN").at(format!("output '{}'", task.output)));
        }
        let high = logits.iter().copied().fold(f32::MIN, f32::max);
        let powers: Vec<f32> = logits.iter().map(|v| (v - high).exp()).collect();
        let sum: f32 = powers.iter().sum();
        let mut order: Vec<usize> = (0..logits.len()).collect();
        order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
        let ranked = |c: usize| Ranked { label: name(&task.classes, c), class: c, score: powers[c] / sum };
        prediction.classes = order.into_iter().take(self.options.top).map(ranked).collect();
        Ok(())
    }

    /// A drawer's life.
    fn draw_all(&self) {
        let next = |s: &mut State| match s.drawing.pop_front() {
            Some(work) => Some(Some(work)),
            None => s.ended.then_some(None),
        };
        while let Some(Some((prediction, image, spot))) = self.wait(next) {
            let drawn = timed(&self.clock.draw, || {
                catch_unwind(AssertUnwindSafe(|| spot.write(prediction.draw_on(&image)?)))
                    .unwrap_or_else(|_| Err(Error::internal("drawing panicked").file(&spot.path)))
            });
            if let Err(e) = drawn {
                self.lock().failure.get_or_insert(e);
                self.changed.notify_all();
            }
        }
    }

    /// Hands out the predictions in their order.
    fn collect(
        &self,
        places: &mut Option<Places>,
        end: &mut End,
        visit: &mut dyn FnMut(Prediction, &RgbImage) -> Result<()>,
    ) -> Result<()> {
        let mut progress = self.ctx.progress("predict", self.images as u64);
        for index in 0..self.images {
            let turn = |s: &mut State| match s.failure.take() {
                Some(e) => Some(Outcome::Failed(e)),
                None => s.seen.remove(&index),
            };
            match self.wait(turn).ok_or_else(Error::cancelled)? {
                Outcome::Failed(e) => return Err(e),
                Outcome::Skipped(e) => {
                    let text = e.to_string();
                    if end.skipped.len() < MAX_NOTES {
                        self.ctx.note(format!("skipped: {}", text.replace('\n', " ")));
                    }
                    end.skipped.push(text);
                    end.first_skip.get_or_insert(e);
                    progress.step("")?;
                }
                Outcome::Seen(mut prediction, image) => {
                    end.seen += 1;
                    let name = prediction.name.clone();
                    if let Some(places) = places {
                        let spot = places.file(&name, index);
                        prediction.saved = Some(spot.path.clone());
                        visit(prediction.clone(), &image)?;
                        let mut work = Some((prediction, image, spot));
                        let room = |s: &mut State| (s.drawing.len() < self.window).then(|| s.drawing.extend(work.take()));
                        self.wait(room).ok_or_else(Error::cancelled)?;
                    } else {
                        visit(prediction, &image)?;
                    }
                    progress.step(name)?;
                }
            }
            self.lock().emitted = index + 1;
            self.changed.notify_all();
        }
        Ok(())
    }
}

/// What a batch's outputs say of one of its images.
fn of_image(outputs: &Outputs, i: usize) -> Result<Outputs> {
    outputs.iter().map(|(name, v)| Ok((name.clone(), v.with(v.tensor.narrow(0, i, 1)?)?))).collect()
}

fn named(classes: &[String], d: Detection, part: Option<Part>) -> Found {
    Found { label: name(classes, d.class), class: d.class, score: d.score, bbox: d.bbox, part }
}

fn name(classes: &[String], class: usize) -> String {
    classes.get(class).cloned().unwrap_or_else(|| class.to_string())
}
