//! Masks: kept as run lengths, made from prototypes.

use crate::data::{BBox, Letterbox};
use compresso_base::context::Context;
use compresso_base::error::{Error, Result};
use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};
use std::ops::Range;

/// Which pixels of an image belong to an object, as run lengths.
///
/// As JSON it is COCO's compressed form: `size` (height, width) and `counts`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mask {
    width: u32,
    height: u32,
    /// Lengths of runs of pixels, outside and inside in turn, the first outside, down the columns from left to right.
    runs: Vec<u32>,
}

impl Mask {
    /// From lengths of runs of pixels, outside and inside in turn, the first outside, down the columns from left to right.
    ///
    /// # Errors
    /// `Shape` when they do not make up the image.
    pub fn from_runs(width: u32, height: u32, runs: Vec<u32>) -> Result<Self> {
        let pixels: u64 = runs.iter().map(|&r| u64::from(r)).sum();
        if pixels != u64::from(width) * u64::from(height) {
            return Err(Error::shape(format!("the runs have {pixels} pixels, the image has {width}×{height}")));
        }
        Ok(Self { width, height, runs })
    }
    /// Width and height of the image.
    pub fn size(&self) -> (u32, u32) {
        (self.width, self.height)
    }
    /// Run lengths; see [`Mask::from_runs`].
    pub fn runs(&self) -> &[u32] {
        &self.runs
    }
    /// Pixels that belong to the object.
    pub fn area(&self) -> u64 {
        self.runs.iter().skip(1).step_by(2).map(|&r| u64::from(r)).sum()
    }
    /// The pixels that belong to the object: a column, and rows of it.
    pub fn columns(&self) -> impl Iterator<Item = (u32, Range<u32>)> + '_ {
        let height = u64::from(self.height.max(1));
        let mut end = 0u64;
        let run = move |(i, &length): (usize, &u32)| {
            let start = end;
            end += u64::from(length);
            (i % 2 == 1 && length > 0).then_some(start..end)
        };
        self.runs.iter().enumerate().filter_map(run).flat_map(move |run| {
            (run.start / height..run.end.div_ceil(height)).map(move |column| {
                let row = |at: u64| (at.clamp(column * height, (column + 1) * height) - column * height) as u32;
                (column as u32, row(run.start)..row(run.end))
            })
        })
    }
    /// The runs as a text, as the COCO API packs them: from the fourth on each as its difference from the one but last, in
    /// groups of 5 bits, lowest first, a sixth bit for more to come, plus 48.
    pub fn counts(&self) -> String {
        let mut text = String::new();
        for (i, &run) in self.runs.iter().enumerate() {
            let mut rest = i64::from(run) - if i > 2 { i64::from(self.runs[i - 2]) } else { 0 };
            loop {
                let group = (rest & 0x1f) as u8;
                rest >>= 5;
                // The highest bit of the last group is the sign.
                let ends = rest == if group & 0x10 == 0 { 0 } else { -1 };
                text.push(char::from(48 + group + if ends { 0 } else { 0x20 }));
                if ends {
                    break;
                }
            }
        }
        text
    }
}

impl Serialize for Mask {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut mask = serializer.serialize_struct("mask", 2)?;
        mask.serialize_field("size", &[self.height, self.width])?;
        mask.serialize_field("counts", &self.counts())?;
        mask.end()
    }
}

/// Runs in the making.
#[derive(Default)]
struct Runs {
    runs: Vec<u32>,
    end: u64,
}

impl Runs {
    /// The pixels up to `at` are of one kind, after those of the other.
    fn up_to(&mut self, at: u64) -> Result<()> {
        let run = u32::try_from(at - self.end).map_err(|_| Error::unsupported("a mask of more than 4 294 967 295 pixels"))?;
        self.runs.push(run);
        self.end = at;
        Ok(())
    }
    /// Adds pixels of the object, after those before.
    fn add(&mut self, inside: Range<u64>) -> Result<()> {
        if inside.start == self.end && !self.runs.is_empty() {
            self.end -= u64::from(self.runs.pop().unwrap_or_default());
        } else {
            self.up_to(inside.start)?;
        }
        self.up_to(inside.end)
    }
}

/// The prototypes of an image's masks (Bolya et al. 2019, "YOLACT").
pub(super) struct Prototypes<'a> {
    /// `[prototypes, height, width]`, over the input of the model.
    pub values: &'a [f32],
    pub height: usize,
    pub width: usize,
    /// Height and width of the input.
    pub input: [usize; 2],
    pub fit: &'a Letterbox,
}

/// Between which cells of a row of prototypes a pixel lies, and the weight of the second.
type Tap = (usize, usize, f32);

impl Prototypes<'_> {
    /// The mask of an object: where the sum of the prototypes, weighed by `coefficients`, is above 0, its sigmoid above a half,
    /// sampled bilinearly at the centre of each of the image's pixels, inside of the box in pixels of the image.
    ///
    /// # Errors
    /// `Cancelled`.
    pub fn mask(&self, coefficients: &[f32], bbox: BBox, ctx: &Context) -> Result<Mask> {
        let (width, height) = self.fit.original;
        let (columns, rows) = (within(bbox.x1, bbox.x2, width), within(bbox.y1, bbox.y2, height));
        let across = self.taps(columns.clone(), self.fit.pad_x, self.input[1], self.width);
        let down = self.taps(rows.clone(), self.fit.pad_y, self.input[0], self.height);
        let mut runs = Runs::default();
        if let (Some(&(left, ..)), Some(&(_, right, _)), Some(&(top, ..)), Some(&(_, bottom, _))) =
            (across.first(), across.last(), down.first(), down.last())
        {
            let (cells, lines) = (right - left + 1, bottom - top + 1);
            let mut logits = vec![0f32; cells * lines];
            for (c, prototype) in coefficients.iter().zip(self.values.chunks_exact(self.height * self.width)) {
                for (y, line) in logits.chunks_exact_mut(cells).enumerate() {
                    let at = (top + y) * self.width + left;
                    line.iter_mut().zip(&prototype[at..at + cells]).for_each(|(sum, p)| *sum += c * p);
                }
            }
            let mut column = vec![0f32; lines];
            for (x, &(a, b, w)) in columns.zip(&across) {
                ctx.check()?;
                for (v, line) in column.iter_mut().zip(logits.chunks_exact(cells)) {
                    *v = line[a - left] + (line[b - left] - line[a - left]) * w;
                }
                let inside = |&(a, b, w): &Tap| column[a - top] + (column[b - top] - column[a - top]) * w > 0.0;
                let start = u64::from(x) * u64::from(height);
                let mut from = None;
                for (y, tap) in rows.clone().zip(&down) {
                    match (inside(tap), from) {
                        (true, None) => from = Some(y),
                        (false, Some(first)) => {
                            runs.add(start + u64::from(first)..start + u64::from(y))?;
                            from = None;
                        }
                        _ => {}
                    }
                }
                if let Some(first) = from {
                    runs.add(start + u64::from(first)..start + u64::from(rows.end))?;
                }
            }
        }
        let all = u64::from(width) * u64::from(height);
        if runs.end < all || runs.runs.is_empty() {
            runs.up_to(all)?;
        }
        Ok(Mask { width, height, runs: runs.runs })
    }

    /// For pixels of one axis of the image: `input` pixels of the model are `cells` cells of the prototypes.
    fn taps(&self, pixels: Range<u32>, pad: f32, input: usize, cells: usize) -> Vec<Tap> {
        let per_pixel = cells as f64 / input as f64;
        let tap = |i: u32| {
            let at = ((f64::from(i) + 0.5) * f64::from(self.fit.scale) + f64::from(pad)) * per_pixel - 0.5;
            let at = at.clamp(0.0, (cells - 1) as f64);
            let first = at.floor();
            (first as usize, (first as usize + 1).min(cells - 1), (at - first) as f32)
        };
        pixels.map(tap).collect()
    }
}

/// The pixels of an axis that begin between two sides of a box, which is how Ultralytics cuts masks.
fn within(from: f32, to: f32, pixels: u32) -> Range<u32> {
    let at = |side: f32| side.ceil().clamp(0.0, pixels as f32) as u32;
    let first = at(from);
    first..at(to).max(first)
}
