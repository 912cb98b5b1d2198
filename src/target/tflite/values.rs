//! The tensors that hold a value, and the one in which an operator reads it.

use super::builder::{Builder, Form};
use super::codes;
use super::layout::{permuted, places, plain, same_elements};
use super::model::{Grid, Kind, Type};
use compresso_base::error::{Error, Result};

impl Builder<'_> {
    pub fn hold(&mut self, name: &str, perm: Vec<usize>, tensor: usize, form: Form) {
        self.held.entry(name.into()).or_default().list(form).push((perm, tensor));
    }
    /// The tensors that hold a value.
    pub fn views(&mut self, name: &str, form: Form) -> Vec<(Vec<usize>, usize)> {
        self.held.get_mut(name).map(|h| h.list(form).clone()).unwrap_or_default()
    }
    /// True when the value is there in integers.
    pub fn is_rounded(&self, name: &str) -> bool {
        self.held.get(name).is_some_and(|h| !h.rounded.is_empty())
    }
    /// The scale of a value that is there in integers.
    pub fn grid(&self, name: &str) -> Option<Grid> {
        let &(_, t) = self.held.get(name)?.rounded.first()?;
        self.of(t).grid.clone()
    }
    /// One value is another one, with other axes: `new_axes` gives for each axis of `from` the one it is in `to`.
    pub fn relabel(&mut self, from: &str, to: &str, new_axes: &[usize]) {
        for form in [Form::Real, Form::Rounded] {
            for (perm, t) in self.views(from, form) {
                self.hold(to, permuted(new_axes, &perm), t, form);
            }
        }
    }
    /// The order in which a value is held; its own for a constant.
    pub fn order(&self, name: &str) -> Result<Vec<usize>> {
        let held = self.held.get(name).and_then(|h| h.real.first().or(h.rounded.first()));
        match held {
            Some((perm, _)) => Ok(perm.clone()),
            None => Ok(plain(self.dims(name)?.len())),
        }
    }

    /// The tensor that holds a value in this order.
    pub fn read(&mut self, name: &str, perm: &[usize], form: Form) -> Result<usize> {
        let views = self.views(name, form);
        if let Some((_, t)) = views.iter().find(|(p, _)| p == perm) {
            return Ok(*t);
        }
        if views.is_empty() && form == Form::Real && self.is_rounded(name) {
            // All orders in which it is there in integers are looked at first.
            let at = self.order(name)?;
            let at = if self.views(name, Form::Rounded).iter().any(|(p, _)| p == perm) { perm.to_vec() } else { at };
            let t = self.read(name, &at, Form::Rounded)?;
            let made = Type { kind: Kind::F32, grid: None, ..self.of(t).clone() };
            let real = self.op(codes::dequantize(), &[t], made);
            self.hold(name, at, real, Form::Real);
            return self.read(name, perm, form);
        }
        if let Some(c) = self.constant(name).cloned() {
            let t = self.constant_tensor(name, &c, perm)?;
            self.hold(name, perm.to_vec(), t, form);
            return Ok(t);
        }
        let dims = self.dims(name)?;
        // One whose elements lie in the same order costs least.
        let view = views.iter().find(|(p, _)| same_elements(&dims, p, perm)).or(views.first());
        let (from, t) = view.cloned().ok_or_else(|| Error::internal(format!("'{name}' is read before it is made")))?;
        let place = places(&from);
        let t = self.transpose(t, &permuted(&place, perm))?;
        self.hold(name, perm.to_vec(), t, form);
        Ok(t)
    }

    /// The tensor of a value with axes of size one put before its own until it has `perm.len()` axes, in this order.
    pub fn read_ranked(&mut self, name: &str, perm: &[usize], form: Form) -> Result<usize> {
        let dims = self.dims(name)?;
        let (rank, own) = (perm.len(), dims.len());
        if own == rank {
            return self.read(name, perm, form);
        }
        let lead = rank
            .checked_sub(own)
            .ok_or_else(|| Error::unsupported(format!("'{name}' has {own} axes where what it is combined with has {rank}")))?;
        // The order of its own axes that is wanted.
        let wanted: Vec<usize> = perm.iter().filter(|&&a| a >= lead).map(|a| a - lead).collect();
        let t = self.read(name, &wanted, form)?;
        // A number needs no axes, and neither do ones that stand before all others.
        let ones = perm.iter().take_while(|&&a| a < lead).count();
        if own == 0 || ones == lead {
            return Ok(t);
        }
        let shape: Vec<usize> = perm.iter().map(|&a| if a < lead { 1 } else { dims[a - lead] }).collect();
        self.reshape(t, &shape)
    }
}
