//! What stands before RT-DETR's decoder (Zhao et al. 2023, "DETRs Beat YOLOs on Real-time Object Detection"): the backbones
//! PP-HGNetV2 and ResNet, the encoder's attention, and the blocks that join levels.

use super::blocks::{Act, Blocks, Conv, Feature};
use super::sequence::Sequence;
use super::site::{Made, Site};
use crate::Constant;
use compresso_base::error::Result;

/// A convolution without padding.
fn bare(out: usize, kernel: usize) -> Conv {
    Conv { pad: 0, ..Conv::new(out, kernel).act(Act::Relu) }
}

impl Blocks {
    /// One more row below and column to the right, of zeros.
    fn extended(&mut self, name: &str, x: &Feature) -> Feature {
        let pads = self.ints(&format!("{name}.pads"), &[0, 0, 0, 0, 0, 0, 1, 1]);
        Feature { value: self.named("Pad", name, &[&x.value, &pads]), channels: x.channels, size: x.size.map(|n| n + 1) }
    }
    /// A map as a sequence of its cells, row by row.
    pub fn unrolled(&mut self, name: &str, x: &Feature) -> Sequence {
        let shape = self.ints(&format!("{name}.unrolled"), &[0, x.channels as i64, -1]);
        let y = self.named("Reshape", name, &[&x.value, &shape]);
        let value = self.node("Transpose", name, &[&y], |n| n.ints("perm", &[0, 2, 1]));
        Sequence { value, positions: x.size[0] * x.size[1], channels: x.channels }
    }
}

/// The module `HGStem`.
pub fn hg_stem(s: &mut Site<'_>) -> Result<Made> {
    let (inner, out) = (s.layer.size(0, "inner", None)?, s.layer.size(1, "channels", None)?);
    s.chain(|b, name, x| {
        let at = |part: &str| format!("{name}.{part}");
        let strided = |out: usize| Conv { stride: 2, ..Conv::new(out, 3).act(Act::Relu) };
        let x = b.conv(&at("stem1"), x, strided(inner))?;
        let x = b.extended(&at("stem1"), &x);
        let y = b.conv(&at("stem2a"), &x, bare(inner / 2, 2))?;
        let y = b.extended(&at("stem2a"), &y);
        let y = b.conv(&at("stem2b"), &y, bare(inner, 2))?;
        let value = b.node("MaxPool", name, &[&x.value], |n| n.ints("kernel_shape", &[2, 2]).ints("strides", &[1, 1]));
        let pooled = Feature { value, channels: x.channels, size: x.size.map(|n| n - 1) };
        let all = b.concat(name, &[&pooled, &y]);
        let y = b.conv(&at("stem3"), &all, strided(inner))?;
        b.conv(&at("stem4"), &y, bare(out, 1))
    })
}

/// The module `HGBlock`: convolutions in a row, all of which are joined and squeezed.
pub fn hg_block(s: &mut Site<'_>) -> Result<Made> {
    let (inner, out, k) = (s.layer.size(0, "inner", None)?, s.layer.size(1, "channels", None)?, s.odd(2, 3)?);
    let (light, shortcut) = (s.layer.flag(3, "light", false)?, s.layer.flag(4, "shortcut", false)?);
    let (name, x) = (s.scope.clone(), s.inputs[0].clone());
    let mut parts = vec![x.clone()];
    for i in 0..s.repeats {
        let (block, y) = (format!("{name}.m.{i}"), parts[i].clone());
        parts.push(if light {
            let y = s.b.conv(&format!("{block}.conv1"), &y, bare(inner, 1).act(Act::None))?;
            s.b.conv(&format!("{block}.conv2"), &y, Conv::new(inner, k).groups(y.channels).act(Act::Relu))?
        } else {
            s.b.conv(&block, &y, Conv::new(inner, k).act(Act::Relu))?
        });
    }
    let all = s.b.concat(&name, &parts.iter().collect::<Vec<_>>());
    let y = s.b.conv(&format!("{name}.sc"), &all, bare(out / 2, 1))?;
    let y = s.b.conv(&format!("{name}.ec"), &y, bare(out, 1))?;
    if shortcut && x.channels == y.channels { s.b.add(&name, &x, &y).map(Made::Feature) } else { Ok(Made::Feature(y)) }
}

/// The module `ResNetLayer`: the stem, or a stage of bottlenecks.
pub fn resnet_layer(s: &mut Site<'_>) -> Result<Made> {
    let (width, stride) = (s.layer.size(1, "channels", None)?, s.layer.count(2, "stride", 1, 2)?);
    let (first, n, e) = (s.layer.flag(3, "first", false)?, s.layer.count(4, "repeats", 1, 64)?, s.layer.count(5, "expansion", 4, 8)?);
    let (name, x) = (s.scope.clone(), s.inputs[0].clone());
    if first {
        let y = s.b.conv(&format!("{name}.layer.0"), &x, Conv { stride: 2, ..Conv::new(width, 7) })?;
        return Ok(Made::Feature(s.b.max_pool(&format!("{name}.layer.1"), &y, 3, 2)));
    }
    let mut y = x;
    for i in 0..n {
        let (block, stride, x) = (format!("{name}.layer.{i}"), if i == 0 { stride } else { 1 }, y);
        y = s.b.conv(&format!("{block}.cv1"), &x, Conv::new(width, 1))?;
        y = s.b.conv(&format!("{block}.cv2"), &y, Conv { stride, ..Conv::new(width, 3) })?;
        y = s.b.conv(&format!("{block}.cv3"), &y, Conv::new(e * width, 1).act(Act::None))?;
        let projected = stride > 1 || x.channels != y.channels;
        let narrow = Conv { stride, ..Conv::new(y.channels, 1).act(Act::None) };
        let x = if projected { s.b.conv(&format!("{block}.shortcut.0"), &x, narrow)? } else { x };
        y = s.b.add(&block, &y, &x)?;
        y = s.b.activate(&block, &y, Act::Relu);
    }
    Ok(Made::Feature(y))
}

/// The module `RepC3`: reparametrized convolutions in a row beside a pointwise one.
pub fn rep_c3(s: &mut Site<'_>) -> Result<Made> {
    let (out, e) = (s.channels(0)?, s.layer.factor(1, "expansion", 1.0, 4.0)?);
    let hidden = ((out as f64 * e) as usize).max(1);
    let (name, x) = (s.scope.clone(), s.inputs[0].clone());
    let mut a = s.b.conv(&format!("{name}.cv1"), &x, Conv::new(hidden, 1))?;
    for i in 0..s.repeats {
        a = s.b.rep_conv(&format!("{name}.m.{i}"), &a, hidden)?;
    }
    let b = s.b.conv(&format!("{name}.cv2"), &x, Conv::new(hidden, 1))?;
    let y = s.b.add(&name, &a, &b)?;
    let y = if hidden == out { y } else { s.b.conv(&format!("{name}.cv3"), &y, Conv::new(out, 1))? };
    Ok(Made::Feature(y))
}

/// The module `AIFI`: an encoder layer on all cells of a map.
pub fn aifi(s: &mut Site<'_>) -> Result<Made> {
    let (hidden, heads) = (s.layer.size(0, "hidden", Some(2048))?, s.layer.count(1, "heads", 8, 64)?);
    let (name, x, b) = (s.scope.clone(), s.inputs[0].clone(), &mut *s.b);
    let sequence = b.unrolled(&name, &x);
    let places = places(x.size, x.channels);
    let places = b.graph.constant(&format!("{name}.places"), Constant::floats(&[1, sequence.positions, x.channels], &places)?);
    let y = b.heads(&format!("{name}.ma"), &sequence, &places, heads)?;
    let y = b.sum(&name, &sequence, &y);
    let attended = b.layer_norm(&format!("{name}.norm1"), &y)?;
    let y = b.dense(&format!("{name}.fc1"), &attended, hidden)?;
    let y = b.gelu(&format!("{name}.act"), &y);
    let y = b.dense(&format!("{name}.fc2"), &y, x.channels)?;
    let y = b.sum(&name, &attended, &y);
    let y = b.layer_norm(&format!("{name}.norm2"), &y)?;
    let y = b.node("Transpose", &name, &[&y.value], |n| n.ints("perm", &[0, 2, 1]));
    let shape = b.ints(&format!("{name}.map"), &[0, x.channels as i64, x.size[0] as i64, x.size[1] as i64]);
    Ok(Made::Feature(x.with(b.named("Reshape", &name, &[&y, &shape]))))
}

/// Sines and cosines of row and column at a quarter of the channels' frequencies each, `[positions, channels]`, row after row.
fn places([height, width]: [usize; 2], channels: usize) -> Vec<f32> {
    let quarter = channels / 4;
    let frequencies: Vec<f64> = (0..quarter).map(|i| 10_000f64.powf(-(i as f64) / quarter as f64)).collect();
    let mut values = Vec::with_capacity(height * width * channels);
    for p in 0..height * width {
        let (row, column) = ((p / width) as f64, (p % width) as f64);
        for at in [row, column] {
            values.extend(frequencies.iter().map(|f| (at * f).sin() as f32));
            values.extend(frequencies.iter().map(|f| (at * f).cos() as f32));
        }
        values.resize((p + 1) * channels, 0.0);
    }
    values
}
