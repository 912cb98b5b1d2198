//! Values that share a scale.

use std::collections::{BTreeMap, HashMap};

/// Values to quantize, in groups that share a scale (union-find).
#[derive(Default)]
pub(super) struct Groups {
    index: HashMap<String, usize>,
    parent: Vec<usize>,
}

impl Groups {
    pub fn add(&mut self, value: &str) -> usize {
        let next = self.parent.len();
        let i = *self.index.entry(value.to_string()).or_insert(next);
        if i == next {
            self.parent.push(next);
        }
        i
    }
    pub fn has(&self, value: &str) -> bool {
        self.index.contains_key(value)
    }
    fn root(&self, mut i: usize) -> usize {
        while self.parent[i] != i {
            i = self.parent[i];
        }
        i
    }
    pub fn join(&mut self, a: &str, b: &str) {
        let (a, b) = (self.add(a), self.add(b));
        let (a, b) = (self.root(a), self.root(b));
        self.parent[a.max(b)] = a.min(b);
    }
    pub fn finish(&self) -> BTreeMap<String, usize> {
        self.index.iter().map(|(name, &i)| (name.clone(), self.root(i))).collect()
    }
}
