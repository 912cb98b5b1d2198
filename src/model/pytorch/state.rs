//! State dicts: the parameters and buffers of a network by name.

use super::archive::Checkpoint;
use super::object::{Id, Object};
use crate::Constant;
use compresso_base::error::{Error, Result};
use indexmap::IndexMap;

/// Where trainers keep the network or its weights in a checkpoint, in the order of preference: averaged weights first.
const KEYS: [&str; 12] =
    ["ema", "params_ema", "model_ema", "model", "state_dict", "model_state_dict", "state", "module", "net", "network", "params", "weights"];

/// What is worth loading in a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// A whole network.
    Module(Id),
    /// Tensors by name.
    Tensors(Id),
}

/// A module of a network.
#[derive(Debug)]
pub struct Module {
    /// `model.0.conv`; empty for the network itself.
    pub path: String,
    pub id: Id,
}

/// Bounds of a network, so that one that contains itself, or names of any length, are told from real ones.
const MOST_MODULES: usize = 20_000;
const MOST_TENSORS: usize = 100_000;
const MOST_DEPTH: usize = 32;
const LONGEST_NAME: usize = 100;

impl Checkpoint {
    /// The network or the weights in the file.
    ///
    /// # Errors
    /// `Format` when there is neither.
    pub fn content(&self) -> Result<Content> {
        let of = |id: Id| {
            if self.is_module(id) {
                return Some(Content::Module(id));
            }
            let entries = self.heap.entries(id)?;
            entries.iter().any(|(k, v)| self.heap.text(*k).is_some() && self.is_tensor(*v)).then_some(Content::Tensors(id))
        };
        let inner = || KEYS.iter().filter_map(|key| self.heap.entry(self.root, key)).find_map(of);
        if self.is_module(self.root) {
            return Ok(Content::Module(self.root));
        }
        inner().or_else(|| of(self.root)).ok_or_else(|| {
            let keys: Vec<String> = match self.heap.entries(self.root) {
                Some(e) => e.iter().take(12).filter_map(|(k, _)| self.heap.text(*k)).map(|k| format!("'{}'", k.escape_debug())).collect(),
                None => Vec::new(),
            };
            let e = Error::format("the checkpoint holds neither a network nor a dict of tensors");
            if keys.is_empty() { e } else { e.hint(format!("it has the keys {}", keys.join(", "))) }
        })
    }

    fn is_module(&self, id: Id) -> bool {
        self.heap.attribute(id, "_modules").is_some() && self.heap.attribute(id, "_parameters").is_some()
    }

    /// The network and all modules in it, outer ones first, in the order of PyTorch's `named_modules`.
    ///
    /// # Errors
    /// `Format` for a network that no network could be, such as one that contains itself.
    pub fn modules(&self, root: Id) -> Result<Vec<Module>> {
        let mut found = Vec::new();
        let mut stack = vec![(String::new(), root, 0)];
        while let Some((path, id, depth)) = stack.pop() {
            if depth > MOST_DEPTH || found.len() + stack.len() > MOST_MODULES {
                return Err(Error::format("the modules of the network are nested too deeply, or in themselves"));
            }
            let children = self.heap.attribute(id, "_modules").and_then(|m| self.heap.entries(m));
            for (key, child) in children.iter().flat_map(|c| c.iter().rev()).take(MOST_MODULES) {
                // A module that is left out is None.
                if *self.heap.get(*child) != Object::None {
                    stack.push((join(&path, self.name(*key)?), *child, depth + 1));
                }
            }
            found.push(Module { path, id });
        }
        Ok(found)
    }

    /// Parameters and buffers of a network, as PyTorch's `state_dict` names them.
    ///
    /// # Errors
    /// `Format`, `Unsupported`, naming the tensor.
    pub fn state_dict(&self, root: Id) -> Result<IndexMap<String, Constant>> {
        let mut tensors = IndexMap::new();
        for module in self.modules(root)? {
            for kind in ["_parameters", "_buffers"] {
                let Some(dict) = self.heap.attribute(module.id, kind) else { continue };
                let entries = self.heap.entries(dict).unwrap_or_default();
                for (key, value) in entries.iter() {
                    if tensors.len() >= MOST_TENSORS {
                        return Err(Error::unsupported(format!("the network has more than {MOST_TENSORS} tensors")));
                    }
                    if *self.heap.get(*value) == Object::None {
                        continue;
                    }
                    let name = join(&module.path, self.name(*key)?);
                    let tensor = self.tensor(*value).map_err(|e| e.at(format!("tensor '{name}'")))?;
                    tensors.insert(name, tensor);
                }
            }
        }
        Ok(tensors)
    }

    /// The tensors of a dict, by name; what else is in it is left out.
    ///
    /// # Errors
    /// `Format`, `Unsupported`, naming the tensor.
    pub fn tensors(&self, dict: Id) -> Result<IndexMap<String, Constant>> {
        let mut tensors = IndexMap::new();
        for (key, value) in self.heap.entries(dict).unwrap_or_default().iter() {
            let Some(name) = self.heap.text(*key).filter(|_| self.is_tensor(*value)) else { continue };
            let tensor = self.tensor(*value).map_err(|e| e.at(format!("tensor '{}'", name.escape_debug())))?;
            tensors.insert(name.to_string(), tensor);
        }
        Ok(tensors)
    }

    /// The name of a module or tensor.
    fn name(&self, key: Id) -> Result<&str> {
        let name = self.heap.text(key).filter(|n| n.len() <= LONGEST_NAME && !n.contains(char::is_control));
        name.ok_or_else(|| Error::format("a module or tensor has no usable name"))
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_string() } else { format!("{path}.{name}") }
}
