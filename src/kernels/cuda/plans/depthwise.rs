use super::super::plan::{Arg, Element, Plan, int, window};
use crate::conv::ConvShape;
use compresso_base::error::Result;

/// A convolution in which each output channel reads one input channel.
#[derive(Debug, Clone)]
pub struct Depthwise {
    shape: ConvShape,
    window: Arg,
    multiplier: usize,
}

impl Depthwise {
    /// `None` for other convolutions, and for three axes.
    ///
    /// # Errors
    /// `Shape` for sizes out of range, `Unsupported` for what does not fit 32 bits.
    pub fn of(s: &ConvShape) -> Result<Option<Self>> {
        s.check()?;
        let Some(w) = s.window.as_2d().filter(|_| s.groups == s.in_channels && s.in_channels > 0) else { return Ok(None) };
        Ok(Some(Self { shape: s.clone(), window: window(&w)?, multiplier: s.out_channels / s.in_channels }))
    }
    fn counts(&self) -> Result<[Arg; 2]> {
        Ok([int(self.shape.in_channels)?, int(self.multiplier)?])
    }
}

/// `x`, `w` and, where `biased`, the bias to `y`.
pub fn depthwise(d: &Depthwise, biased: bool) -> Result<Plan> {
    let s = &d.shape;
    let [channels, multiplier] = d.counts()?;
    let bias = if biased { Some(s.out_channels) } else { None };
    let mut p = Plan::floats(&[s.x_len(), s.w_len()].into_iter().chain(bias).collect::<Vec<_>>())?;
    let y = p.result(Element::F32, s.y_len())?;
    // Without a bias the weights stand for it, unread.
    let bias = Arg::Buffer(if biased { 2 } else { 1 });
    p.each(
        "depthwise",
        s.y_len(),
        [Arg::Buffer(0), Arg::Buffer(1), bias, y, int(s.y_len())?, channels, multiplier, Arg::Int(i32::from(biased)), d.window],
    );
    Ok(p)
}

/// `x`, `w` and the gradient of `y` to those of `x` and `w`.
pub fn depthwise_backward(d: &Depthwise) -> Result<Plan> {
    let s = &d.shape;
    let [channels, multiplier] = d.counts()?;
    let mut p = Plan::floats(&[s.x_len(), s.w_len(), s.y_len()])?;
    let gx = p.result(Element::F32, s.x_len())?;
    let gw = p.result(Element::F32, s.w_len())?;
    let [x, w, gy] = [0, 1, 2].map(Arg::Buffer);
    p.each("depthwise_backward_data", s.x_len(), [w, gy, gx, int(s.x_len())?, channels, multiplier, d.window]);
    int(s.batch * s.window.output_len())?;
    p.plane("depthwise_backward_weight", s.window.kernel_len(), s.out_channels, [x, gy, gw, int(s.batch)?, channels, multiplier, d.window]);
    Ok(p)
}
