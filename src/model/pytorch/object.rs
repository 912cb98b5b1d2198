//! What a pickle describes, as plain data: nothing is ever called, classes are names.

use std::borrow::Cow;
use std::fmt;

/// An object of a [`Heap`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Id(u32);

/// A pickled object. Containers hold ids, so that objects may be shared and contain themselves.
#[derive(Debug, Clone, PartialEq)]
pub enum Object {
    None,
    Bool(bool),
    Int(i64),
    /// An integer of more than 64 bits: two's complement, little-endian.
    Long(Box<[u8]>),
    Float(f64),
    Text(Box<str>),
    Bytes(Box<[u8]>),
    Tuple(Box<[Id]>),
    List(Vec<Id>),
    Set(Vec<Id>),
    /// Later entries of a key count.
    Dict(Vec<(Id, Id)>),
    Global(Box<Global>),
    Record(Box<Record>),
    /// What lies outside of the pickle; PyTorch keeps the elements of tensors so.
    Persistent(Id),
}

impl Object {
    /// Whether it contains another one, other than as the class that it is of.
    pub fn holds(&self, id: Id) -> bool {
        let entry = |&(k, v): &(Id, Id)| k == id || v == id;
        match self {
            Self::Tuple(items) => items.contains(&id),
            Self::List(items) | Self::Set(items) => items.contains(&id),
            Self::Dict(entries) => entries.iter().any(entry),
            Self::Record(r) => r.args == id || r.state == Some(id) || r.items.contains(&id) || r.entries.iter().any(entry),
            Self::Persistent(p) => *p == id,
            _ => false,
        }
    }
}

/// The name of a class or function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Global {
    pub module: String,
    pub name: String,
}

impl Global {
    pub fn is(&self, module: &str, name: &str) -> bool {
        self.module == module && self.name == name
    }
}

impl fmt::Display for Global {
    /// `module.name`, shortened and without control characters, as both come from the file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in [&*self.module, ".", &self.name] {
            for c in part.chars().take(80).flat_map(char::escape_debug) {
                write!(f, "{c}")?;
            }
        }
        Ok(())
    }
}

/// An object of a class, or what a function would give: the name and what would be passed to it. It is never made.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// A [`Object::Global`].
    pub class: Id,
    /// A [`Object::Tuple`].
    pub args: Id,
    /// Attributes, mostly a [`Object::Dict`].
    pub state: Option<Id>,
    /// What is appended, as to a list.
    pub items: Vec<Id>,
    /// What is set by key, as in a dict.
    pub entries: Vec<(Id, Id)>,
}

/// All objects of a pickle.
#[derive(Debug)]
pub struct Heap {
    objects: Vec<Object>,
}

/// Most objects that a pickle may hold; checkpoints have some ten thousand.
const MOST_OBJECTS: usize = 4 << 20;
/// Most attributes that an object may have.
const MOST_ATTRIBUTES: usize = 4096;

impl Heap {
    pub const NONE: Id = Id(0);
    pub const FALSE: Id = Id(1);
    pub const TRUE: Id = Id(2);
    pub const EMPTY: Id = Id(3);

    pub fn new() -> Self {
        Self { objects: vec![Object::None, Object::Bool(false), Object::Bool(true), Object::Tuple(Box::default())] }
    }
    /// Adds an object; `None` when there are too many.
    pub fn add(&mut self, object: Object) -> Option<Id> {
        if self.objects.len() >= MOST_OBJECTS {
            return None;
        }
        self.objects.push(object);
        u32::try_from(self.objects.len() - 1).ok().map(Id)
    }
    pub fn get(&self, id: Id) -> &Object {
        // Ids are made by `add` alone, and objects are never dropped; an id of another heap finds nothing.
        self.objects.get(id.0 as usize).unwrap_or(&Object::None)
    }
    pub fn get_mut(&mut self, id: Id) -> Option<&mut Object> {
        self.objects.get_mut(id.0 as usize)
    }
    pub fn iter(&self) -> impl Iterator<Item = &Object> {
        self.objects.iter()
    }

    pub fn text(&self, id: Id) -> Option<&str> {
        if let Object::Text(t) = self.get(id) { Some(t) } else { None }
    }
    pub fn int(&self, id: Id) -> Option<i64> {
        match self.get(id) {
            Object::Int(i) => Some(*i),
            Object::Bool(b) => Some(i64::from(*b)),
            _ => None,
        }
    }
    pub fn size(&self, id: Id) -> Option<usize> {
        self.int(id).and_then(|i| usize::try_from(i).ok())
    }
    pub fn number(&self, id: Id) -> Option<f64> {
        match self.get(id) {
            Object::Float(f) => Some(*f),
            _ => self.int(id).map(|i| i as f64),
        }
    }
    pub fn global(&self, id: Id) -> Option<&Global> {
        if let Object::Global(g) = self.get(id) { Some(g) } else { None }
    }
    pub fn record(&self, id: Id) -> Option<&Record> {
        if let Object::Record(r) = self.get(id) { Some(r) } else { None }
    }
    /// The elements of a tuple or list; `torch.Size` is one too.
    pub fn sequence(&self, id: Id) -> Option<&[Id]> {
        match self.get(id) {
            Object::Tuple(items) => Some(items),
            Object::List(items) => Some(items),
            Object::Record(r) if self.global(r.class)?.is("torch", "Size") => match self.sequence_of_plain(r.args)? {
                [only] => self.sequence_of_plain(*only),
                _ => None,
            },
            _ => None,
        }
    }
    fn sequence_of_plain(&self, id: Id) -> Option<&[Id]> {
        match self.get(id) {
            Object::Tuple(items) => Some(items),
            Object::List(items) => Some(items),
            _ => None,
        }
    }
    /// Whole numbers of a tuple or list, or one number.
    pub fn sizes(&self, id: Id) -> Option<Vec<usize>> {
        match self.sequence(id) {
            Some(items) => items.iter().map(|&i| self.size(i)).collect(),
            None => self.size(id).map(|n| vec![n]),
        }
    }
    /// The entries of a dict, or of an object that is one.
    pub fn entries(&self, id: Id) -> Option<Cow<'_, [(Id, Id)]>> {
        match self.get(id) {
            Object::Dict(entries) => Some(Cow::Borrowed(entries)),
            Object::Record(r) => {
                let class = self.global(r.class)?;
                if class.module != "collections" || !matches!(&*class.name, "OrderedDict" | "defaultdict") {
                    return None;
                }
                // Older Pythons pass pairs to the class.
                let given = self.sequence(r.args).and_then(|a| a.last()).and_then(|&a| self.sequence(a)).unwrap_or_default();
                if given.is_empty() {
                    return Some(Cow::Borrowed(&r.entries));
                }
                let pair = |&p: &Id| if let Some(&[k, v]) = self.sequence(p) { Some((k, v)) } else { None };
                Some(Cow::Owned(given.iter().filter_map(pair).chain(r.entries.iter().copied()).collect()))
            }
            _ => None,
        }
    }
    /// The value under a text key of a dict.
    pub fn entry(&self, dict: Id, key: &str) -> Option<Id> {
        self.entries(dict)?.iter().rev().find(|(k, _)| self.text(*k) == Some(key)).map(|(_, v)| *v)
    }
    /// The class of an object.
    pub fn class(&self, id: Id) -> Option<&Global> {
        let r = self.record(id)?;
        let class = self.global(r.class)?;
        if class.name == "_reconstructor" && matches!(&*class.module, "copyreg" | "copy_reg") {
            return self.global(*self.sequence(r.args)?.first()?);
        }
        Some(class)
    }
    /// An attribute of an object.
    pub fn attribute(&self, id: Id, name: &str) -> Option<Id> {
        let state = self.record(id)?.state?;
        // Objects with slots have two dicts.
        let dict = match self.get(state) {
            Object::Tuple(parts) => *parts.first()?,
            _ => state,
        };
        match self.get(dict) {
            Object::Dict(entries) if entries.len() > MOST_ATTRIBUTES => None,
            _ => self.entry(dict, name),
        }
    }
}
