//! How fast `predict` is.

use serde::Serialize;

/// How fast images went through. Times of stages are per image, of one thread; stages overlap.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Throughput {
    /// Images run.
    pub count: usize,
    /// Wall time of all.
    pub seconds: f64,
    /// Images run per second of wall time.
    pub images_per_second: f64,
    /// Images that the model ran on side by side.
    pub workers: usize,
    /// Threads for each of them.
    pub threads_per_worker: usize,
    /// Reading, decoding and fitting to the model's input.
    pub read_ms: f64,
    /// Running the model.
    pub run_ms: f64,
    /// Reading boxes from the outputs and suppressing.
    pub boxes_ms: f64,
    /// Drawing and encoding, where images are saved on the way.
    pub draw_ms: f64,
    /// The user stopped before the end.
    #[serde(skip)]
    pub cancelled: bool,
}

impl Throughput {
    /// In a line, for notes.
    pub fn line(&self) -> String {
        use compresso_base::report::{counted, millis as ms};
        let draw = if self.draw_ms > 0.0 { format!(", draw and write {}", ms(self.draw_ms)) } else { String::new() };
        format!(
            "{} in {}: {:.1} per second by {} of {}; each: read {}, run {}, boxes {}{draw}",
            counted(self.count, "image"),
            ms(self.seconds * 1000.0),
            self.images_per_second,
            counted(self.workers, "worker"),
            counted(self.threads_per_worker, "thread"),
            ms(self.read_ms),
            ms(self.run_ms),
            ms(self.boxes_ms),
        )
    }
}
