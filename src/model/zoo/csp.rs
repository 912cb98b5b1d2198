//! Cross-stage partial blocks (Wang et al. 2019, "CSPNet") as YOLOv5, YOLOv8 and YOLO11 have them.

use super::blocks::{Act, Blocks, Conv, Feature};
use compresso_base::error::Result;

/// What is inside the cross-stage partial blocks: two convolutions with an optional shortcut.
#[derive(Debug, Clone, Copy)]
pub struct Bottleneck {
    pub shortcut: bool,
    /// Kernels of the two convolutions.
    pub kernels: [usize; 2],
    /// Hidden channels per output channel.
    pub expansion: f64,
}

impl Default for Bottleneck {
    fn default() -> Self {
        Self { shortcut: true, kernels: [3, 3], expansion: 0.5 }
    }
}

/// A part of a channel count, at least 1.
fn part(channels: usize, expansion: f64) -> usize {
    ((channels as f64 * expansion) as usize).max(1)
}

impl Blocks {
    pub fn bottleneck(&mut self, name: &str, x: &Feature, out: usize, b: Bottleneck) -> Result<Feature> {
        let y = self.conv(&format!("{name}.cv1"), x, Conv::new(part(out, b.expansion), b.kernels[0]))?;
        let y = self.conv(&format!("{name}.cv2"), &y, Conv::new(out, b.kernels[1]))?;
        Ok(if b.shortcut && x.channels == out { self.add(name, x, &y)? } else { y })
    }

    /// As [`Blocks::c2f`] with compact inverted blocks of depthwise convolutions; `large`: one of them of 7 × 7 (Wang et al.
    /// 2024, "YOLOv10").
    pub fn c2f_cib(
        &mut self,
        name: &str,
        x: &Feature,
        out: usize,
        n: usize,
        shortcut: bool,
        large: bool,
        expansion: f64,
    ) -> Result<Feature> {
        self.split_and_join(name, x, out, n, expansion, |b, name, y| b.compact_inverted(name, y, shortcut, large))
    }

    /// As [`Blocks::c3k2`] with each bottleneck followed by an attention block (YOLO26).
    pub fn c3k2_attended(&mut self, name: &str, x: &Feature, out: usize, n: usize, expansion: f64, shortcut: bool) -> Result<Feature> {
        let inner = Bottleneck { shortcut, ..Bottleneck::default() };
        self.split_and_join(name, x, out, n, expansion, |b, name, y| {
            let y = b.bottleneck(&format!("{name}.0"), y, y.channels, inner)?;
            b.psa_block(&format!("{name}.1"), &y)
        })
    }

    /// Depthwise and pointwise convolutions in turn, widened to twice the channels in the middle.
    fn compact_inverted(&mut self, name: &str, x: &Feature, shortcut: bool, large: bool) -> Result<Feature> {
        let (c, at) = (x.channels, |i: usize| format!("{name}.cv1.{i}"));
        let y = self.conv(&at(0), x, Conv::new(c, 3).groups(c))?;
        let y = self.conv(&at(1), &y, Conv::new(2 * c, 1))?;
        let y = match large {
            true => self.reparametrized(&at(2), &y, y.channels, [("conv", 7), ("conv1", 3)], y.channels)?,
            false => self.conv(&at(2), &y, Conv::new(y.channels, 3).groups(y.channels))?,
        };
        let y = self.conv(&at(3), &y, Conv::new(c, 1))?;
        let y = self.conv(&at(4), &y, Conv::new(y.channels, 3).groups(y.channels))?;
        if shortcut { self.add(name, x, &y) } else { Ok(y) }
    }

    /// Two branches; `inner` makes block `i` of the second from the one before, and all are concatenated.
    fn split_and_join(
        &mut self,
        name: &str,
        x: &Feature,
        out: usize,
        n: usize,
        expansion: f64,
        mut inner: impl FnMut(&mut Self, &str, &Feature) -> Result<Feature>,
    ) -> Result<Feature> {
        let y = self.conv(&format!("{name}.cv1"), x, Conv::new(2 * part(out, expansion), 1))?;
        let mut parts = self.halves(name, &y).to_vec();
        let mut last = parts[1].clone();
        for i in 0..n {
            last = inner(self, &format!("{name}.m.{i}"), &last)?;
            parts.push(last.clone());
        }
        let all = self.concat(name, &parts.iter().collect::<Vec<_>>());
        self.conv(&format!("{name}.cv2"), &all, Conv::new(out, 1))
    }

    /// Two branches with the outputs of all bottlenecks concatenated (YOLOv8).
    pub fn c2f(&mut self, name: &str, x: &Feature, out: usize, n: usize, shortcut: bool, expansion: f64) -> Result<Feature> {
        let inner = Bottleneck { shortcut, expansion: 1.0, ..Bottleneck::default() };
        self.split_and_join(name, x, out, n, expansion, |b, name, y| b.bottleneck(name, y, y.channels, inner))
    }

    /// As [`Blocks::c2f`] with a narrower bottleneck, or a [`Blocks::c3k`] when `nested` (YOLO11).
    pub fn c3k2(&mut self, name: &str, x: &Feature, out: usize, n: usize, nested: bool, expansion: f64, shortcut: bool) -> Result<Feature> {
        let inner = Bottleneck { shortcut, ..Bottleneck::default() };
        self.split_and_join(name, x, out, n, expansion, |b, name, y| match nested {
            true => b.c3k(name, y, y.channels, 2, shortcut, 0.5, 3),
            false => b.bottleneck(name, y, y.channels, inner),
        })
    }

    /// Two branches, the first with `n` bottlenecks in a row, joined by a third convolution (YOLOv5).
    pub fn c3(&mut self, name: &str, x: &Feature, out: usize, n: usize, shortcut: bool, expansion: f64) -> Result<Feature> {
        self.three(name, x, out, n, expansion, Bottleneck { shortcut, kernels: [1, 3], expansion: 1.0 })
    }

    /// As [`Blocks::c3`] with square kernels of `k` throughout (YOLO11).
    pub fn c3k(&mut self, name: &str, x: &Feature, out: usize, n: usize, shortcut: bool, expansion: f64, k: usize) -> Result<Feature> {
        self.three(name, x, out, n, expansion, Bottleneck { shortcut, kernels: [k, k], expansion: 1.0 })
    }

    fn three(&mut self, name: &str, x: &Feature, out: usize, n: usize, expansion: f64, inner: Bottleneck) -> Result<Feature> {
        let hidden = part(out, expansion);
        let mut a = self.conv(&format!("{name}.cv1"), x, Conv::new(hidden, 1))?;
        for i in 0..n {
            a = self.bottleneck(&format!("{name}.m.{i}"), &a, hidden, inner)?;
        }
        let b = self.conv(&format!("{name}.cv2"), x, Conv::new(hidden, 1))?;
        let all = self.concat(name, &[&a, &b]);
        self.conv(&format!("{name}.cv3"), &all, Conv::new(out, 1))
    }

    /// Spatial pyramid pooling by `n` chained max pools (YOLOv5). `act` follows the first convolution.
    pub fn sppf(&mut self, name: &str, x: &Feature, out: usize, k: usize, n: usize, act: Act, shortcut: bool) -> Result<Feature> {
        let mut parts = vec![self.conv(&format!("{name}.cv1"), x, Conv::new(part(x.channels, 0.5), 1).act(act))?];
        for i in 0..n {
            parts.push(self.max_pool(name, &parts[i].clone(), k, 1));
        }
        let all = self.concat(name, &parts.iter().collect::<Vec<_>>());
        let y = self.conv(&format!("{name}.cv2"), &all, Conv::new(out, 1))?;
        Ok(if shortcut && x.channels == y.channels { self.add(name, x, &y)? } else { y })
    }
}
