//! What happens to an image before a convolution of one tap, worked out as it is read.

use super::{Lower, Op};
use crate::compiled::tensor::Id;
use compresso_kernels::Window;
use compresso_kernels::activation::Activation;
use compresso_kernels::channels_last::conv::prepares;
use compresso_kernels::channels_last::strided::Binary;

/// `act(x · scale · factor + shift)`, with one number of each for a channel.
#[derive(Debug, Clone, Default)]
pub struct Before {
    pub scale: Option<Vec<f32>>,
    pub shift: Option<Vec<f32>>,
    pub act: Option<Activation>,
    /// The step's last operand is `[n, channels, 1, 1]` of factors.
    pub factor: bool,
}

/// The image that a convolution reads instead, and what it does to it.
pub(super) struct Taken {
    pub image: Id,
    pub factor: Option<Id>,
    pub before: Before,
}

impl Lower<'_> {
    /// Takes out the step that made the image `id`, the value `name`, for the convolution of the current node, if nothing else needs
    /// that image and the convolution can do as much itself.
    pub(super) fn take_before(&mut self, name: &str, id: Id, window: &Window, groups: usize) -> Option<Taken> {
        let only = self.sole_reader(name) == Some(self.node) && self.tensors.own_root(id) == id;
        let root = |v: &super::Val| matches!(v, super::Val::Float(other) if self.tensors.own_root(*other) == id);
        if !only || self.values.iter().any(|(other, v)| other != name && root(v)) {
            return None;
        }
        let touches = |ids: &[Id]| ids.iter().any(|&other| self.tensors.own_root(other) == id);
        let at = self.steps.iter().rposition(|s| touches(&s.writes))?;
        if self.steps.iter().any(|s| touches(&s.reads)) || self.steps[at].writes != [id] {
            return None;
        }
        let step = &self.steps[at];
        let dims = self.tensors[id].dims.clone();
        let last = |other: Id| {
            let strides = self.tensors.layout(other).map(|l| l.strides);
            self.tensors[other].dims.len() == 4 && strides.is_some_and(|s| s[1] == 1)
        };
        let taken = match (&step.op, step.reads.as_slice()) {
            (Op::PerChannel(p), &[image]) => {
                let before = Before { scale: Some(p.scale.clone()), shift: Some(p.shift.clone()), act: p.act, factor: false };
                Taken { image, factor: None, before }
            }
            (Op::Binary(Binary::Mul), &[a, b]) => {
                let vector = [dims[0], *dims.get(1)?, 1, 1];
                let (image, factor) = match (self.tensors[a].dims == vector, self.tensors[b].dims == vector) {
                    (false, true) => (a, b),
                    (true, false) => (b, a),
                    _ => return None,
                };
                Taken { image, factor: Some(factor), before: Before { factor: true, ..Before::default() } }
            }
            _ => return None,
        };
        let fits = window.as_2d().is_some_and(|w| prepares(&w, groups, dims[1], taken.before.act));
        if !fits || self.tensors[taken.image].dims != dims || !last(taken.image) || taken.factor.is_some_and(|f| !last(f)) {
            return None;
        }
        self.remove_step(at);
        Some(taken)
    }
}
