//! Reads the arguments of an architecture's layers.

use super::yaml::{ArchitectureLayer, Value};
use compresso_base::error::{Error, Result};

impl ArchitectureLayer {
    /// An error at this layer's line.
    pub fn error(&self, message: impl Into<String>) -> Error {
        Error::format(message).at(self.place())
    }
    /// Where it stands.
    pub fn place(&self) -> String {
        format!("line {} ({})", self.line, self.module)
    }
    /// Argument `i` as a whole number from 0 to `most`; 0 when it is left out.
    pub fn whole(&self, i: usize, name: &str, most: usize) -> Result<usize> {
        let v = match self.args.get(i) {
            None | Some(Value::Null) => Some(0),
            Some(Value::Int(v)) => usize::try_from(*v).ok().filter(|v| *v <= most),
            Some(_) => None,
        };
        v.ok_or_else(|| self.error(format!("argument {} ({name}) must be a whole number from 0 to {most}, got {:?}", i + 1, self.args[i])))
    }
    /// Argument `i` as a whole number of at least 1, or the default when it is left out.
    pub fn size(&self, i: usize, name: &str, default: Option<usize>) -> Result<usize> {
        match (self.args.get(i), default) {
            (Some(Value::Int(v)), _) if (1..=1 << 20).contains(v) => Ok(usize::try_from(*v).unwrap_or(1)),
            (None | Some(Value::Null), Some(d)) => Ok(d),
            (None, None) => Err(self.error(format!("argument {} ({name}) is missing", i + 1))),
            (Some(v), _) => Err(self.error(format!("argument {} ({name}) must be a whole number from 1 to 1048576, got {v:?}", i + 1))),
        }
    }
    /// Argument `i` as a number above 0 and at most `most`, or the default.
    pub fn factor(&self, i: usize, name: &str, default: f64, most: f64) -> Result<f64> {
        let v = match self.args.get(i) {
            None | Some(Value::Null) => default,
            Some(Value::Float(v)) => *v,
            Some(Value::Int(v)) => *v as f64,
            Some(_) => f64::NAN,
        };
        if v > 0.0 && v <= most {
            return Ok(v);
        }
        Err(self.error(format!("argument {} ({name}) must be a number above 0 and at most {most}, got {:?}", i + 1, self.args[i])))
    }
    /// Argument `i` as text, or the default.
    pub fn text<'a>(&'a self, i: usize, name: &str, default: &'a str) -> Result<&'a str> {
        match self.args.get(i) {
            None | Some(Value::Null) => Ok(default),
            Some(Value::Text(t)) => Ok(t),
            Some(v) => Err(self.error(format!("argument {} ({name}) must be text, got {v:?}", i + 1))),
        }
    }
    /// Argument `i` as true or false, or the default.
    pub fn flag(&self, i: usize, name: &str, default: bool) -> Result<bool> {
        match self.args.get(i) {
            None | Some(Value::Null) => Ok(default),
            Some(Value::Bool(b)) => Ok(*b),
            Some(v) => Err(self.error(format!("argument {} ({name}) must be true or false, got {v:?}", i + 1))),
        }
    }
    /// Argument `i` as a whole number from 1 to `most`; `default` where it is left out.
    pub fn count(&self, i: usize, name: &str, default: usize, most: usize) -> Result<usize> {
        match self.size(i, name, Some(default))? {
            n if n <= most => Ok(n),
            n => Err(self.error(format!("argument {} ({name}) must be at most {most}, got {n}", i + 1))),
        }
    }
    /// Argument `i` as a list of whole numbers from `least` to `most`.
    pub fn sizes(&self, i: usize, name: &str, least: usize, most: usize) -> Result<Vec<usize>> {
        match self.args.get(i) {
            Some(Value::Sizes(v)) if !v.is_empty() && v.len() <= 64 && v.iter().all(|n| (least..=most).contains(n)) => Ok(v.clone()),
            _ => Err(self.error(format!("argument {} ({name}) must be a list of whole numbers from {least} to {most}", i + 1))),
        }
    }
}
