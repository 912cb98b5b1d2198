//! Blocks of YOLOv9 (Wang et al. 2024, "YOLOv9") and convolutions of two branches that become one for inference (Ding et
//! al. 2021, "RepVGG").

use super::blocks::{Act, Blocks, Conv, Feature};
use super::site::{Made, Site};
use compresso_base::error::Result;

impl Blocks {
    /// The sum of two convolutions of these names and kernels with batch norm, then SiLU. Where the given weights have
    /// been joined, one convolution (`name.conv`) of the first kernel.
    pub fn reparametrized(
        &mut self,
        name: &str,
        x: &Feature,
        out: usize,
        [first, second]: [(&str, usize); 2],
        groups: usize,
    ) -> Result<Feature> {
        if self.given(&format!("{name}.conv.weight")).is_some() {
            return self.conv(name, x, Conv::new(out, first.1).groups(groups));
        }
        let [a, b] = [first, second]
            .map(|(part, kernel)| self.conv(&format!("{name}.{part}"), x, Conv::new(out, kernel).groups(groups).act(Act::None)));
        let y = self.add(name, &a?, &b?)?;
        Ok(self.activate(&format!("{name}.act"), &y, Act::Silu))
    }

    /// A 3 × 3 convolution with a parallel pointwise one, then SiLU.
    pub fn rep_conv(&mut self, name: &str, x: &Feature, out: usize) -> Result<Feature> {
        self.reparametrized(name, x, out, [("conv1", 3), ("conv2", 1)], 1)
    }

    /// A cross-stage partial block of reparametrized bottlenecks.
    fn rep_csp(&mut self, name: &str, x: &Feature, out: usize, n: usize) -> Result<Feature> {
        let hidden = (out / 2).max(1);
        let mut a = self.conv(&format!("{name}.cv1"), x, Conv::new(hidden, 1))?;
        for i in 0..n {
            let block = format!("{name}.m.{i}");
            let y = self.rep_conv(&format!("{block}.cv1"), &a, hidden)?;
            let y = self.conv(&format!("{block}.cv2"), &y, Conv::new(hidden, 3))?;
            a = self.add(&block, &a, &y)?;
        }
        let b = self.conv(&format!("{name}.cv2"), x, Conv::new(hidden, 1))?;
        let all = self.concat(name, &[&a, &b]);
        self.conv(&format!("{name}.cv3"), &all, Conv::new(out, 1))
    }

    /// Layers in a row, all of which are joined: `inner` makes branch 2 and 3 from the one before.
    fn elan(
        &mut self,
        name: &str,
        x: &Feature,
        [out, wide]: [usize; 2],
        mut inner: impl FnMut(&mut Self, &str, &Feature) -> Result<Feature>,
    ) -> Result<Feature> {
        let y = self.conv(&format!("{name}.cv1"), x, Conv::new(wide, 1))?;
        let [a, b] = self.halves(name, &y);
        let c = inner(self, &format!("{name}.cv2"), &b)?;
        let d = inner(self, &format!("{name}.cv3"), &c)?;
        let all = self.concat(name, &[&a, &b, &c, &d]);
        self.conv(&format!("{name}.cv4"), &all, Conv::new(out, 1))
    }

    /// The mean of each 2 × 2 window, at every place.
    fn smoothed(&mut self, name: &str, x: &Feature) -> Feature {
        let value = self.node("AveragePool", name, &[&x.value], |n| n.ints("kernel_shape", &[2, 2]).ints("strides", &[1, 1]));
        Feature { value, channels: x.channels, size: x.size.map(|n| n.saturating_sub(1)) }
    }
}

fn half_stride(out: usize) -> Conv {
    Conv { stride: 2, ..Conv::new(out, 3) }
}

/// The module `ELAN1`.
pub fn elan1(s: &mut Site<'_>) -> Result<Made> {
    let (sizes, inner) = ([s.channels(0)?, s.layer.size(1, "inner", None)?], s.layer.size(2, "branch", None)?);
    Ok(Made::Feature(s.b.elan(&s.scope, &s.inputs[0], sizes, |b, name, y| b.conv(name, y, Conv::new(inner, 3)))?))
}

/// The module `RepNCSPELAN4`.
pub fn rep_ncsp_elan4(s: &mut Site<'_>) -> Result<Made> {
    let (sizes, inner) = ([s.channels(0)?, s.layer.size(1, "inner", None)?], s.layer.size(2, "branch", None)?);
    let n = s.layer.count(3, "repeats", 1, 32)?;
    Ok(Made::Feature(s.b.elan(&s.scope, &s.inputs[0], sizes, |b, name, y| {
        let y = b.rep_csp(&format!("{name}.0"), y, inner, n)?;
        b.conv(&format!("{name}.1"), &y, Conv::new(inner, 3))
    })?))
}

/// The module `RepConv`.
pub fn rep_conv(s: &mut Site<'_>) -> Result<Made> {
    let out = s.channels(0)?;
    s.chain(|b, name, x| b.rep_conv(name, x, out))
}

/// The module `AConv`: smoothed, then a convolution that halves the size.
pub fn a_conv(s: &mut Site<'_>) -> Result<Made> {
    let out = s.channels(0)?;
    s.chain(|b, name, x| {
        let y = b.smoothed(name, x);
        b.conv(&format!("{name}.cv1"), &y, half_stride(out))
    })
}

/// The module `ADown`: smoothed; half of the channels by a strided convolution, half by a max pool and a pointwise one.
pub fn a_down(s: &mut Site<'_>) -> Result<Made> {
    let half = (s.channels(0)? / 2).max(1);
    s.chain(|b, name, x| {
        let y = b.smoothed(name, x);
        let [first, second] = b.halves(name, &y);
        let first = b.conv(&format!("{name}.cv1"), &first, half_stride(half))?;
        let second = b.max_pool(name, &second, 3, 2);
        let second = b.conv(&format!("{name}.cv2"), &second, Conv::new(half, 1))?;
        Ok(b.concat(name, &[&first, &second]))
    })
}

/// The module `SPPELAN`: three max pools in a row, all of which are joined.
pub fn spp_elan(s: &mut Site<'_>) -> Result<Made> {
    let (out, wide, k) = (s.channels(0)?, s.layer.size(1, "inner", None)?, s.odd(2, 5)?);
    s.chain(|b, name, x| {
        let mut parts = vec![b.conv(&format!("{name}.cv1"), x, Conv::new(wide, 1))?];
        for i in 0..3 {
            parts.push(b.max_pool(name, &parts[i].clone(), k, 1));
        }
        let all = b.concat(name, &parts.iter().collect::<Vec<_>>());
        b.conv(&format!("{name}.cv5"), &all, Conv::new(out, 1))
    })
}

/// The module `CBLinear`: a pointwise convolution whose channels are parts for several readers.
pub fn cb_linear(s: &mut Site<'_>) -> Result<Made> {
    let sizes = s.layer.sizes(0, "channels", 1, 1 << 16)?;
    let total = sizes.iter().sum();
    let y = s.b.conv2d(&format!("{}.conv", s.scope), &s.inputs[0], Conv::new(total, 1), Some(vec![0.0; total]))?;
    Ok(Made::Parts(s.b.parts(&s.scope, &y, &sizes)))
}

/// The module `CBFuse`: one part of each input but the last, enlarged to the last one's size, and all summed.
pub fn cb_fuse(s: &mut Site<'_>) -> Result<Made> {
    let chosen = s.layer.sizes(0, "parts", 0, 63)?;
    let Some((last, others)) = s.groups.split_last().filter(|(_, o)| o.len() == chosen.len()) else {
        return Err(s.layer.error(format!("chooses {} parts of {} layers and the last", chosen.len(), s.groups.len().saturating_sub(1))));
    };
    let mut sum = s.inputs[last.clone()].first().cloned().ok_or_else(|| s.layer.error("needs an input"))?;
    for (i, (range, part)) in others.iter().zip(chosen).enumerate() {
        let x = s.inputs[range.clone()]
            .get(part)
            .cloned()
            .ok_or_else(|| s.layer.error(format!("layer {i} of its inputs has no part {part}")))?;
        let factors = [0, 1].map(|a| (sum.size[a] / x.size[a].max(1)).max(1));
        if x.size.map(|n| n * factors[0]) != sum.size {
            return Err(s.layer.error(format!("cannot enlarge a map of {:?} to {:?}", x.size, sum.size)));
        }
        let name = format!("{}.{i}", s.scope);
        let x = if factors[0] > 1 { s.b.upsample(&name, &x, factors[0])? } else { x };
        sum = s.b.add(&name, &sum, &x)?;
    }
    Ok(Made::Feature(sum))
}
