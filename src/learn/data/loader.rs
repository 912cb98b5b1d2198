//! Batches from a dataset, made ahead by worker threads.
//!
//! A batch depends only on the dataset, the options and its number, so the stream is the same whatever the number of
//! workers. Workers run at most a few batches ahead of the reader and stop when the loader is dropped.

use super::augment::Fitted;
use super::opacity::{opacity_of, still};
use super::rng::rng;
use super::{Augment, Batch, Dataset, GroundTruth, ImageForm, Letterbox, Sample};
use candle_core::{Device, Tensor};
use compresso_base::context::Context;
use compresso_base::error::{At, Error, ErrorKind, Result};
use image::RgbImage;
use rand::RngExt;
use rand::seq::SliceRandom;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

/// How a [`Loader`] reads.
#[derive(Debug, Clone)]
pub struct LoaderOptions {
    /// Images per batch; the last batch may have fewer.
    pub batch: usize,
    /// Height and width of the network's input.
    pub size: [usize; 2],
    /// Largest relative change of the size from batch to batch, in steps of 32 pixels.
    pub scale: f64,
    /// How images are varied; `None`: only letterboxed.
    pub augment: Option<Augment>,
    /// Another order each epoch.
    pub shuffle: bool,
    /// Decides, with `epoch`, what is drawn: order, sizes and augmentation.
    pub seed: u64,
    /// Number of this pass over the data: decides order and augmentation.
    pub epoch: u64,
    /// Worker threads; 0: the context's, at most 8.
    pub workers: usize,
    /// Images of the order that are passed over.
    pub skip: usize,
    /// Leaves out a last batch of fewer images.
    pub drop_last: bool,
    /// Channels of the images, and how they fit without augmentation.
    pub form: ImageForm,
}

impl Default for LoaderOptions {
    fn default() -> Self {
        Self {
            batch: 16,
            size: [640, 640],
            scale: 0.0,
            augment: None,
            shuffle: false,
            seed: 0,
            epoch: 0,
            workers: 0,
            skip: 0,
            drop_last: false,
            form: ImageForm::default(),
        }
    }
}

impl LoaderOptions {
    /// Height and width of a batch.
    pub fn size_of(&self, batch: usize) -> [usize; 2] {
        if self.scale == 0.0 {
            return self.size;
        }
        let gain = 1.0 + self.scale * rng(self.seed, &[SCALE, self.epoch, batch as u64]).random_range(-1.0..=1.0);
        self.size.map(|n| ((n as f64 * gain / GRID).round().max(1.0) * GRID) as usize)
    }
}

/// Sizes that vary are multiples of this many pixels, the largest stride of the YOLO family.
const GRID: f64 = 32.0;

/// Batches of one pass over a dataset, in order. Images that cannot be read are left out, with a note to the context.
pub struct Loader {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    ctx: Context,
    /// Batch to hand out next.
    next: usize,
    /// Images handed out, and left out.
    loaded: usize,
    skipped: usize,
    first_failure: Option<Error>,
    ended: bool,
}

struct Shared {
    dataset: Dataset,
    /// The opacity of its images, where the form asks for it.
    opacity: Option<Dataset>,
    options: LoaderOptions,
    /// Dataset index of each image, in reading order.
    order: Vec<usize>,
    batches: usize,
    /// Batches that may be in work or ready beyond the one being read.
    ahead: usize,
    ctx: Context,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Next batch that a worker takes.
    claim: usize,
    /// Batch that the reader waits for.
    reading: usize,
    ready: BTreeMap<usize, Made>,
    stop: bool,
}

/// A batch before it is a tensor.
#[derive(Default)]
struct Made {
    size: [usize; 2],
    pixels: Vec<f32>,
    targets: Vec<Vec<GroundTruth>>,
    labels: Vec<usize>,
    indices: Vec<usize>,
    letterboxes: Vec<Letterbox>,
    /// Images that could not be read.
    failures: Vec<Error>,
    /// What stopped the whole batch.
    fatal: Option<Error>,
}

impl Loader {
    /// Starts reading.
    ///
    /// # Errors
    /// `Argument` for a batch or size of zero and for an empty dataset.
    pub fn new(dataset: &Dataset, options: LoaderOptions, ctx: &Context) -> Result<Self> {
        if options.batch == 0 {
            return Err(Error::argument("a batch must have at least one image"));
        }
        if options.size.iter().any(|&s| s == 0 || s > 1 << 14) {
            return Err(Error::argument(format!("an image size must be between 1 and {} pixels, got {:?}", 1 << 14, options.size)));
        }
        if let Some(a) = &options.augment {
            a.check()?;
        }
        let n = dataset.len();
        if n == 0 {
            return Err(Error::argument(format!("dataset '{}' has no images", dataset.name)));
        }
        let mut order: Vec<usize> = (0..n).collect();
        if options.shuffle {
            order.shuffle(&mut rng(options.seed, &[PURPOSE, options.epoch]));
        }
        order.drain(..options.skip.min(n));
        let n = order.len();
        let batches = if options.drop_last { n / options.batch } else { n.div_ceil(options.batch) };
        let workers = if options.workers == 0 { ctx.threads.clamp(1, 8) } else { options.workers }.min(batches.max(1));
        let shared = Arc::new(Shared {
            dataset: dataset.clone(),
            opacity: options.form.is_opacity_read().then(|| opacity_of(dataset)),
            options,
            order,
            batches,
            ahead: workers + 1,
            ctx: ctx.clone(),
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let threads = (0..workers)
            .map(|i| {
                let shared = shared.clone();
                std::thread::Builder::new().name(format!("loader-{i}")).spawn(move || shared.work())
            })
            .collect::<std::io::Result<Vec<_>>>()
            .map_err(|e| Error::internal("could not start a loader thread").because(e))?;
        Ok(Self { shared, threads, ctx: ctx.clone(), next: 0, loaded: 0, skipped: 0, first_failure: None, ended: false })
    }

    /// Batches of the whole pass.
    pub fn batches(&self) -> usize {
        self.shared.batches
    }
    /// Images left out so far because they could not be read.
    pub fn skipped(&self) -> usize {
        self.skipped
    }

    /// Waits for batch `next`, or for the user's cancellation.
    fn wait(&self) -> Result<Made> {
        let mut state = self.shared.lock();
        state.reading = self.next;
        self.shared.changed.notify_all();
        loop {
            if let Some(made) = state.ready.remove(&self.next) {
                state.reading = self.next + 1;
                self.shared.changed.notify_all();
                return Ok(made);
            }
            self.ctx.check()?;
            state = match self.shared.changed.wait_timeout(state, Duration::from_millis(50)) {
                Ok((s, _)) => s,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
    }

    fn batch(&mut self, made: Made) -> Result<Option<Batch>> {
        for e in made.failures {
            self.skipped += 1;
            self.first_failure.get_or_insert(e);
        }
        if let Some(e) = made.fatal {
            return Err(e);
        }
        let n = made.indices.len();
        if n == 0 {
            return Ok(None);
        }
        self.loaded += n;
        let [h, w] = made.size;
        let images =
            Tensor::from_vec(made.pixels, (n, self.shared.options.form.channels, h, w), &Device::Cpu)?.to_device(&self.ctx.device)?;
        Ok(Some(Batch { images, targets: made.targets, labels: made.labels, indices: made.indices, letterboxes: made.letterboxes }))
    }

    /// At the end of the pass: the count of images left out and the first of them, or an error when there were no others.
    fn finish(&mut self) -> Option<Result<Batch>> {
        self.ended = true;
        let first = self.first_failure.take()?;
        let data = &self.shared.dataset;
        if self.loaded > 0 {
            // The passes after the first say it only when it becomes worse.
            if data.told.fetch_max(self.skipped, Ordering::Relaxed) < self.skipped {
                let (skipped, all, cause) = (self.skipped, self.loaded + self.skipped, first.to_string().replace('\n', " "));
                self.ctx.note(format!("left out {skipped} of {all} images, which cannot be read: first {cause}"));
            }
            return None;
        }
        let message = format!("none of the {} images of dataset '{}' could be read", self.skipped, self.shared.dataset.name);
        Some(Err(Error::new(first.kind(), message).because(first)))
    }
}

const PURPOSE: u64 = 0x006f_7264_6572;
const VARY: u64 = 0x7661_7279;
const SCALE: u64 = 0x0073_6361_6c65;

impl Iterator for Loader {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.ended {
            if self.next == self.shared.batches {
                return self.finish();
            }
            let made = self.wait().and_then(|made| {
                self.next += 1;
                self.batch(made)
            });
            match made {
                Ok(Some(batch)) => return Some(Ok(batch)),
                Ok(None) => {}
                Err(e) => {
                    self.ended = true;
                    return Some(Err(e));
                }
            }
        }
        None
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.changed.notify_all();
        for t in self.threads.drain(..) {
            // A worker that panicked has already reported through its batch.
            let _ = t.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// A worker's life: take the next batch number, make the batch, hand it in.
    fn work(&self) {
        loop {
            let mut state = self.lock();
            while !state.stop && state.claim < self.batches && state.claim >= state.reading + self.ahead {
                state = self.changed.wait(state).unwrap_or_else(std::sync::PoisonError::into_inner);
            }
            if state.stop || state.claim >= self.batches {
                return;
            }
            let number = state.claim;
            state.claim += 1;
            drop(state);
            let made = self.make(number);
            self.lock().ready.insert(number, made);
            self.changed.notify_all();
        }
    }

    fn make(&self, number: usize) -> Made {
        let options = &self.options;
        let at = number * options.batch;
        let size = options.size_of(number);
        let [h, w] = size;
        let indices = &self.order[at..(at + options.batch).min(self.order.len())];
        let mut made = Made { size, pixels: Vec::with_capacity(indices.len() * options.form.channels * h * w), ..Made::default() };
        for &i in indices {
            if self.lock().stop || self.ctx.check().is_err() {
                made.fatal = Some(Error::cancelled());
                return made;
            }
            // Decoders of other crates read what users bring; a panic there is a bad image, not the end of the process.
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.fit(i, size)))
                .unwrap_or_else(|_| Err(Error::internal(format!("reading image {i} of dataset '{}' panicked", self.dataset.name))));
            match result {
                Ok((f, opacity)) => {
                    options.form.append(&f.image, opacity.as_ref(), &mut made.pixels);
                    made.targets.push(f.targets);
                    made.labels.extend(f.label);
                    made.indices.push(i);
                    made.letterboxes.push(f.letterbox);
                }
                Err(e) if matches!(e.kind(), ErrorKind::Cancelled | ErrorKind::Argument) => {
                    made.fatal = Some(e);
                    return made;
                }
                Err(e) => made.failures.push(e),
            }
        }
        made
    }

    /// Image `i` at the network's size, and its opacity.
    fn fit(&self, i: usize, size: [usize; 2]) -> Result<(Fitted, Option<RgbImage>)> {
        let fitted = self.fitted(&self.dataset, self.options.augment.as_ref(), i, size)?;
        let Some(opacity) = &self.opacity else { return Ok((fitted, None)) };
        let quiet = self.options.augment.as_ref().map(still);
        Ok((fitted, Some(self.fitted(opacity, quiet.as_ref(), i, size)?.image)))
    }

    fn fitted(&self, data: &Dataset, augment: Option<&Augment>, i: usize, size: [usize; 2]) -> Result<Fitted> {
        if let Some(augment) = augment {
            return augment.apply(data, i, size, &mut rng(self.options.seed, &[VARY, self.options.epoch, i as u64]));
        }
        let sample: Sample = data.source.get_at(i, size).at(|| format!("dataset '{}'", data.name))?;
        let (image, fit) = self.options.form.fit(&sample.image, size)?;
        let targets = sample.targets.iter().map(|t| GroundTruth { class: t.class, bbox: fit.forward(t.bbox) }).collect();
        Ok(Fitted { image, targets, label: sample.label, letterbox: fit })
    }
}
