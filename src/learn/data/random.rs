//! `random`: seeded noise for timing and calibration, without labels.

use super::rng::rng;
use super::{Sample, Source};
use compresso_base::error::Result;
use image::RgbImage;
use rand::Rng;

/// Images of independent uniform pixels, at the size that the reader asks for.
pub(super) struct Noise {
    pub images: usize,
    /// Height and width; `None`: the network's input.
    pub size: Option<[usize; 2]>,
    pub seed: u64,
}

/// Keeps this source's numbers apart from others'.
const PURPOSE: u64 = 0x006e_6f69_7365;

impl Source for Noise {
    fn len(&self) -> usize {
        self.images
    }
    fn get(&self, i: usize) -> Result<Sample> {
        self.get_at(i, [640, 640])
    }
    fn get_at(&self, i: usize, size: [usize; 2]) -> Result<Sample> {
        let [h, w] = self.size.unwrap_or(size);
        let mut image = RgbImage::new(w as u32, h as u32);
        rng(self.seed, &[PURPOSE, i as u64]).fill_bytes(&mut image);
        Ok(Sample { name: format!("random/{i}"), image, targets: Vec::new(), label: None })
    }
    fn classes_of(&self, _: usize) -> Result<Vec<usize>> {
        Ok(Vec::new())
    }
}
