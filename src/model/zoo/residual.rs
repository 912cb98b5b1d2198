//! Blocks of mobile networks (Howard et al. 2017, "MobileNets"; Sandler et al. 2018, "MobileNetV2") and of residual
//! networks (He et al. 2015, "Deep Residual Learning"), with torchvision's names of constants.

use super::blocks::{Act, Blocks, Conv, Feature};
use super::site::{Made, Site, under};
use compresso_base::error::Result;

impl Blocks {
    /// A depthwise 3 × 3 and a pointwise convolution (`name.depthwise`, `name.pointwise`, with biases), each with batch norm
    /// (`name.bn1`, `name.bn2`) and ReLU6.
    pub fn separable(&mut self, name: &str, x: &Feature, out: usize, stride: usize) -> Result<Feature> {
        let c = Conv { stride, ..Conv::new(x.channels, 3).groups(x.channels) };
        let y = self.conv2d(&format!("{name}.depthwise"), x, c, Some(vec![0.0; x.channels]))?;
        let y = self.norm(&format!("{name}.bn1"), &y)?;
        let y = self.activate(&format!("{name}.relu"), &y, Act::Relu6);
        let y = self.conv2d(&format!("{name}.pointwise"), &y, Conv::new(out, 1), Some(vec![0.0; out]))?;
        let y = self.norm(&format!("{name}.bn2"), &y)?;
        Ok(self.activate(&format!("{name}.relu"), &y, Act::Relu6))
    }

    /// Convolution, batch norm, activation, under two names.
    pub fn conv_norm(&mut self, [conv, norm]: [&str; 2], x: &Feature, c: Conv) -> Result<Feature> {
        let y = self.conv2d(conv, x, c, None)?;
        let y = self.norm(norm, &y)?;
        Ok(self.activate(norm, &y, c.act))
    }

    /// MobileNetV2's block: widened by `expansion`, a depthwise convolution, narrowed without an activation; with a
    /// shortcut where the shape stays.
    pub fn inverted_residual(&mut self, name: &str, x: &Feature, out: usize, stride: usize, expansion: usize) -> Result<Feature> {
        let mut y = x.clone();
        let mut place = 0;
        if expansion > 1 {
            let names = [format!("{name}.conv.0.0"), format!("{name}.conv.0.1")];
            y = self.conv_norm([&names[0], &names[1]], &y, Conv::new(x.channels * expansion, 1).act(Act::Relu6))?;
            place = 1;
        }
        let names = [format!("{name}.conv.{place}.0"), format!("{name}.conv.{place}.1")];
        let c = Conv { stride, ..Conv::new(y.channels, 3).groups(y.channels).act(Act::Relu6) };
        y = self.conv_norm([&names[0], &names[1]], &y, c)?;
        let names = [format!("{name}.conv.{}", place + 1), format!("{name}.conv.{}", place + 2)];
        y = self.conv_norm([&names[0], &names[1]], &y, Conv::new(out, 1).act(Act::None))?;
        Ok(if stride == 1 && x.channels == out { self.add(name, x, &y)? } else { y })
    }

    /// A 7 × 7 convolution and a max pool, each halving the size.
    pub fn resnet_stem(&mut self, name: &str, x: &Feature, out: usize) -> Result<Feature> {
        let names = [under(name, "conv1"), under(name, "bn1")];
        let c = Conv { stride: 2, ..Conv::new(out, 7).act(Act::Relu) };
        let y = self.conv_norm([&names[0], &names[1]], x, c)?;
        Ok(self.max_pool(&under(name, "maxpool"), &y, 3, 2))
    }

    /// ResNet's block: convolutions of these kernels and widths, the one of `kernel` 3 that comes first strided; a shortcut,
    /// projected (`name.downsample`) where the shape changes.
    pub fn residual(&mut self, name: &str, x: &Feature, layers: &[(usize, usize)], stride: usize) -> Result<Feature> {
        let mut y = x.clone();
        let strided = layers.iter().position(|(_, kernel)| *kernel > 1).unwrap_or(0);
        for (i, &(out, kernel)) in layers.iter().enumerate() {
            let names = [format!("{name}.conv{}", i + 1), format!("{name}.bn{}", i + 1)];
            let act = if i + 1 < layers.len() { Act::Relu } else { Act::None };
            let c = Conv { stride: if i == strided { stride } else { 1 }, ..Conv::new(out, kernel).act(act) };
            y = self.conv_norm([&names[0], &names[1]], &y, c)?;
        }
        let mut shortcut = x.clone();
        if stride > 1 || x.channels != y.channels {
            let names = [format!("{name}.downsample.0"), format!("{name}.downsample.1")];
            let c = Conv { stride, ..Conv::new(y.channels, 1).act(Act::None) };
            shortcut = self.conv_norm([&names[0], &names[1]], x, c)?;
        }
        let y = self.add(name, &shortcut, &y)?;
        Ok(self.activate(name, &y, Act::Relu))
    }
}

/// Argument `i` as a stride of 1 or 2.
fn stride(s: &Site<'_>, i: usize) -> Result<usize> {
    match s.layer.size(i, "stride", Some(1))? {
        n @ (1 | 2) => Ok(n),
        n => Err(s.layer.error(format!("argument {} (stride) must be 1 or 2, got {n}", i + 1))),
    }
}

/// Repeats beyond the first have stride 1.
pub fn separable(s: &mut Site<'_>) -> Result<Made> {
    let (out, mut stride) = (s.channels(0)?, stride(s, 1)?);
    s.chain(|b, name, x| b.separable(name, x, out, std::mem::replace(&mut stride, 1)))
}

pub fn resnet_stem(s: &mut Site<'_>) -> Result<Made> {
    let out = s.channels(0)?;
    Ok(Made::Feature(s.b.resnet_stem(&s.scope, &s.inputs[0], out)?))
}

/// A stage of residual blocks, numbered even when there is one; repeats beyond the first have stride 1.
fn stage(s: &mut Site<'_>, layers: &[(usize, usize)]) -> Result<Made> {
    let mut stride = stride(s, 1)?;
    let mut y: Feature = s.inputs[0].clone();
    for i in 0..s.repeats {
        y = s.b.residual(&format!("{}.{i}", s.scope), &y, layers, std::mem::replace(&mut stride, 1))?;
    }
    Ok(Made::Feature(y))
}

pub fn basic_block(s: &mut Site<'_>) -> Result<Made> {
    let out = s.channels(0)?;
    stage(s, &[(out, 3), (out, 3)])
}

/// Channels are those of the output, four times those inside.
pub fn resnet_bottleneck(s: &mut Site<'_>) -> Result<Made> {
    let out = s.channels(0)?;
    let inner = (out / 4).max(1);
    stage(s, &[(inner, 1), (inner, 3), (out, 1)])
}

pub fn conv_norm_relu6(s: &mut Site<'_>) -> Result<Made> {
    let (out, k, stride) = (s.channels(0)?, s.odd(1, 3)?, stride(s, 2)?);
    let c = Conv { stride, ..Conv::new(out, k).act(Act::Relu6) };
    let names = [format!("{}.0", s.scope), format!("{}.1", s.scope)];
    Ok(Made::Feature(s.b.conv_norm([&names[0], &names[1]], &s.inputs[0], c)?))
}

pub fn inverted_residual(s: &mut Site<'_>) -> Result<Made> {
    let (out, mut stride) = (s.channels(0)?, stride(s, 1)?);
    let expansion = s.layer.size(2, "expansion", Some(6))?;
    if expansion > 64 {
        return Err(s.layer.error(format!("argument 3 (expansion) must be at most 64, got {expansion}")));
    }
    s.chain(|b, name, x| b.inverted_residual(name, x, out, std::mem::replace(&mut stride, 1), expansion))
}
