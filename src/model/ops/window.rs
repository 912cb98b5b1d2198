//! Attributes that Conv, ConvTranspose and the pools share: kernel_shape, strides, dilations, pads, auto_pad, ceil_mode.

use crate::graph::{Dim, Node};
use compresso_base::error::{Error, Result};
use compresso_kernels::Window;
use compresso_kernels::window::MAX_SPAN;

/// How padding is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AutoPad {
    /// As `pads` says.
    Explicit,
    /// The output has `ceil(input / stride)` positions; odd padding goes to the end.
    SameUpper,
    /// As [`AutoPad::SameUpper`], odd padding at the start.
    SameLower,
    /// No padding.
    Valid,
}

/// Window attributes for `rank` spatial axes, with the defaults filled in.
#[derive(Debug, Clone)]
pub struct WindowAttrs {
    /// Positions of the window per axis.
    pub kernel: Vec<usize>,
    /// Input positions from one window to the next, per axis.
    pub stride: Vec<usize>,
    /// Input positions from one position of the window to the next, per axis.
    pub dilation: Vec<usize>,
    /// Padding before the first input position of each axis; 0 unless `auto_pad` is [`AutoPad::Explicit`].
    pub pad_begin: Vec<usize>,
    /// As `pad_begin`, after the last one.
    pub pad_end: Vec<usize>,
    /// Whether padding is as above, or follows from the sizes.
    pub auto_pad: AutoPad,
    /// `ceil_mode`: the number of output positions is rounded up, not down.
    pub ceil: bool,
}

impl WindowAttrs {
    /// Reads a node's attributes. `kernel` is the shape of the weight's window where there is one.
    ///
    /// # Errors
    /// `Format` for lists of the wrong length, strides or dilations below 1 and unknown `auto_pad` values;
    /// `Unsupported` for negative padding; `Shape` for an empty window, and for numbers and windows above [`MAX_SPAN`].
    pub fn of(node: &Node, kernel: Option<&[usize]>, rank: usize) -> Result<Self> {
        let list = |name: &str, len: usize, fill: usize, least: i64| -> Result<Vec<usize>> {
            let Some(v) = node.find_ints(name)?.filter(|v| !v.is_empty()) else { return Ok(vec![fill; len]) };
            if v.len() != len {
                return Err(Error::format(format!("attribute '{name}' must have {len} entries for {rank} spatial axes, got {v:?}")));
            }
            v.iter()
                .map(|&x| match usize::try_from(x) {
                    Ok(u) if x >= least => Ok(u),
                    _ if least == 0 => Err(Error::unsupported(format!("attribute '{name}' has a negative entry: {v:?}"))),
                    _ => Err(Error::format(format!("entries of attribute '{name}' must be at least {least}, got {v:?}"))),
                })
                .collect()
        };
        let declared = match node.find_ints("kernel_shape")?.filter(|sizes| !sizes.is_empty()) {
            Some(_) => Some(list("kernel_shape", rank, 1, 1)?),
            None => None,
        };
        let kernel = match (kernel, declared) {
            (Some(k), Some(d)) if k != d => {
                return Err(Error::shape(format!("kernel_shape {d:?} differs from the weight's {k:?}")));
            }
            (Some(k), _) => k.to_vec(),
            (None, Some(d)) => d,
            (None, None) => return Err(Error::format("attribute 'kernel_shape' is missing")),
        };
        let auto_pad = match node.get_str("auto_pad", "NOTSET")? {
            "NOTSET" | "" => AutoPad::Explicit,
            "SAME_UPPER" => AutoPad::SameUpper,
            "SAME_LOWER" => AutoPad::SameLower,
            "VALID" => AutoPad::Valid,
            other => return Err(Error::format(format!("attribute 'auto_pad' has the unknown value '{other}'"))),
        };
        let pads = if auto_pad == AutoPad::Explicit { list("pads", 2 * rank, 0, 0)? } else { vec![0; 2 * rank] };
        let attrs = Self {
            kernel,
            stride: list("strides", rank, 1, 1)?,
            dilation: list("dilations", rank, 1, 1)?,
            pad_begin: pads[..rank].to_vec(),
            pad_end: pads[rank..].to_vec(),
            auto_pad,
            ceil: node.get_int("ceil_mode", 0)? != 0,
        };
        attrs.check()?;
        Ok(attrs)
    }

    /// Checks that sizes which are worked out from the attributes can be counted.
    fn check(&self) -> Result<()> {
        for d in 0..self.kernel.len() {
            let (kernel, stride, dilation) = (self.kernel[d], self.stride[d], self.dilation[d]);
            let Some(last) = kernel.checked_sub(1) else {
                return Err(Error::shape(format!("the window of spatial axis {d} is empty: it needs at least one position")));
            };
            let most = [stride, self.pad_begin[d], self.pad_end[d]].into_iter().max().unwrap_or(0);
            if most > MAX_SPAN || last.checked_mul(dilation).is_none_or(|n| n >= MAX_SPAN) {
                let pads = [self.pad_begin[d], self.pad_end[d]];
                return Err(Error::shape(format!(
                    "a window spans at most {MAX_SPAN} positions, and so do its stride and padding: spatial axis {d} has kernel {kernel}, dilation {dilation}, stride {stride} and pads {pads:?}"
                )));
            }
        }
        Ok(())
    }

    /// Input positions from the first to the last tap of axis `d`.
    pub fn extent(&self, d: usize) -> usize {
        self.dilation[d] * (self.kernel[d] - 1) + 1
    }

    /// Padding at both ends and size of the output of axis `d` for an input of `n`; `None` when the window does not fit.
    fn slide(&self, d: usize, n: usize) -> Option<(usize, usize, usize)> {
        let (stride, extent) = (self.stride[d], self.extent(d));
        match self.auto_pad {
            AutoPad::SameUpper | AutoPad::SameLower => {
                let out = n.div_ceil(stride);
                let total = (out.saturating_sub(1) * stride).saturating_add(extent).saturating_sub(n);
                let begin = if self.auto_pad == AutoPad::SameUpper { total / 2 } else { total - total / 2 };
                Some((begin, total - begin, out))
            }
            AutoPad::Valid | AutoPad::Explicit => {
                let (begin, end) = (self.pad_begin[d], self.pad_end[d]);
                let room = n.checked_add(begin + end)?.checked_sub(extent)?;
                let mut out = room / stride + 1;
                // A last, partial window counts only when it starts inside the input or the padding before it.
                if self.ceil && room % stride != 0 && out.saturating_mul(stride) < n + begin {
                    out += 1;
                }
                Some((begin, end, out))
            }
        }
    }

    /// Size of the output of axis `d`, also for symbolic inputs.
    pub fn output(&self, d: usize, input: &Dim) -> Result<Dim> {
        if let Dim::Known(n) = input {
            return match self.slide(d, *n) {
                Some((_, _, out)) => Ok(Dim::Known(out)),
                None => Err(self.too_large(d, *n)),
            };
        }
        let (stride, extent, pads) = (self.stride[d], self.extent(d), self.pad_begin[d] + self.pad_end[d]);
        if matches!(self.auto_pad, AutoPad::SameUpper | AutoPad::SameLower) {
            return Ok(if stride == 1 { input.clone() } else { input.map(&format!("ceil({{}}/{stride})"), |_| None) });
        }
        let shift = pads as i64 - extent as i64;
        Ok(match (stride, shift) {
            (1, -1) => input.clone(),
            (1, s) => input.map(&format!("({{}}{:+})", s + 1), |_| None),
            (_, s) => {
                let round = if self.ceil { "ceil" } else { "floor" };
                let inner = if s == 0 { "{}".to_string() } else { format!("({{}}{s:+})") };
                input.map(&format!("({round}({inner}/{stride})+1)"), |_| None)
            }
        })
    }

    /// The window over a known input.
    pub fn resolve(&self, input: &[usize]) -> Result<Window> {
        let mut w = Window {
            input: input.to_vec(),
            kernel: self.kernel.clone(),
            stride: self.stride.clone(),
            dilation: self.dilation.clone(),
            pad_begin: Vec::new(),
            pad_end: Vec::new(),
            output: Vec::new(),
        };
        for (d, &n) in input.iter().enumerate() {
            let (begin, end, out) = self.slide(d, n).ok_or_else(|| self.too_large(d, n))?;
            w.pad_begin.push(begin);
            w.pad_end.push(end);
            w.output.push(out);
        }
        w.check()?;
        Ok(w)
    }

    fn too_large(&self, d: usize, n: usize) -> Error {
        let (extent, padded) = (self.extent(d), n.saturating_add(self.pad_begin[d] + self.pad_end[d]));
        Error::shape(format!("the window spans {extent} positions of spatial axis {d}, which has {padded} with padding"))
    }
}
