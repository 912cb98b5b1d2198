//! Reads pickles of protocols 0 to 5 into a [`Heap`], without calling anything.
//!
//! The machine is the one that Python's `pickletools` documents: opcodes that work on a stack, with marks and a memo.
//! Where Python would call a function or make an object of a class, a [`Record`] says what it would have been.

mod scalar;

use super::object::{Global, Heap, Id, Object, Record};
use super::policy;
use compresso_base::error::{Error, Result};
use std::collections::HashMap;

/// A pickle's objects and the one that it stands for.
#[derive(Debug)]
pub struct Pickle {
    pub heap: Heap,
    pub root: Id,
    /// Bytes that it took.
    pub length: usize,
}

/// Longest pickle that is read; the tensors' elements lie outside of it.
const MOST_BYTES: usize = 128 << 20;
/// Most marks at a time, and so most containers that are being filled; Python itself allows some hundred.
const MOST_DEPTH: usize = 10_000;
/// Most objects that are numbered for later use.
const MOST_MEMO: usize = 4 << 20;

/// Reads one pickle at the start of `data`. Memory grows with what is read only, never with what a length says.
///
/// # Errors
/// `Format`, naming the byte, for damaged data; `Unsupported`, naming the function, for what could run code.
pub fn unpickle(data: &[u8]) -> Result<Pickle> {
    let data = &data[..data.len().min(MOST_BYTES)];
    let mut m = Machine { data, at: 0, stack: Vec::new(), marks: Vec::new(), memo: HashMap::new(), heap: Heap::new(), lookup: None };
    loop {
        let start = m.at;
        match m.step() {
            Ok(None) => {}
            Ok(Some(root)) => {
                if let Some(lookup) = m.lookup
                    && (root == lookup || m.heap.iter().any(|o| o.holds(lookup)))
                {
                    policy::refuse(m.heap.global(lookup))?;
                }
                return Ok(Pickle { length: m.at, heap: m.heap, root });
            }
            Err(e) => return Err(e.at(format!("byte {start} of the pickle"))),
        }
    }
}

struct Machine<'d> {
    data: &'d [u8],
    at: usize,
    stack: Vec<Id>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: HashMap<u64, Id>,
    heap: Heap,
    /// Python's `getattr`, if the pickle names it. It may only be called, and only to name a method of a network.
    lookup: Option<Id>,
}

impl<'d> Machine<'d> {
    /// Runs one opcode; the root after the last.
    fn step(&mut self) -> Result<Option<Id>> {
        let [code] = self.take_array()?;
        match code {
            b'.' => return self.pop().map(Some),
            0x80 => {
                let [version] = self.take_array()?;
                if version > 5 {
                    return Err(Error::unsupported(format!("version {version} of the pickle protocol is not known")));
                }
            }
            // Frames say how much to read ahead; all is here already.
            0x95 => {
                let length = u64::from_le_bytes(self.take_array()?);
                if length > (self.data.len() - self.at) as u64 {
                    return Err(short());
                }
            }
            b'(' => {
                if self.marks.len() >= MOST_DEPTH {
                    return Err(Error::unsupported(format!("objects are nested more than {MOST_DEPTH} deep")));
                }
                self.marks.push(self.stack.len());
            }
            b'0' => self.pop_or_mark()?,
            b'1' => {
                self.pop_to_mark()?;
            }
            b'2' => {
                let top = self.top()?;
                self.stack.push(top);
            }
            b'N' => self.stack.push(Heap::NONE),
            0x88 => self.stack.push(Heap::TRUE),
            0x89 => self.stack.push(Heap::FALSE),
            b')' => self.stack.push(Heap::EMPTY),
            b'q' | b'r' | b'p' | 0x94 => self.put(code)?,
            b'h' | b'j' | b'g' => self.get(code)?,
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.global(module, name)?;
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let text = |id| self.heap.text(id).map(String::from).ok_or_else(|| Error::format("the name of a class is no text"));
                let (module, name) = (text(module)?, text(name)?);
                self.global(module, name)?;
            }
            0x82..=0x84 => {
                let e = Error::unsupported("the file names code by a number of the extension registry");
                return Err(e.hint("it was refused and nothing was run"));
            }
            b'P' => {
                let id = self.line()?;
                let id = self.add(Object::Text(id.into()))?;
                self.push(Object::Persistent(id))?;
            }
            b'Q' => {
                let id = self.pop()?;
                self.push(Object::Persistent(id))?;
            }
            b'R' | b'i' | b'o' | 0x81 | 0x92 | b'b' => self.object(code)?,
            b']' | b'l' | b'a' | b'e' | b'}' | b'd' | b's' | b'u' | 0x8f | 0x90 | 0x91 | b't' | 0x85..=0x87 => self.container(code)?,
            _ => self.scalar(code)?,
        }
        Ok(None)
    }

    /// Opcodes that make and fill tuples, lists, sets and dicts.
    fn container(&mut self, code: u8) -> Result<()> {
        match code {
            b't' => {
                let items = self.pop_to_mark()?;
                self.push(Object::Tuple(items.into()))?;
            }
            0x85..=0x87 => {
                let from = self.stack.len().checked_sub(usize::from(code - 0x84)).filter(|&f| f >= self.floor()).ok_or_else(empty)?;
                let items = self.stack.split_off(from);
                self.push(Object::Tuple(items.into()))?;
            }
            b']' => self.push(Object::List(Vec::new()))?,
            b'l' => {
                let items = self.pop_to_mark()?;
                self.push(Object::List(items))?;
            }
            b'}' => self.push(Object::Dict(Vec::new()))?,
            b'd' => {
                let items = self.pop_to_mark()?;
                self.push(Object::Dict(pairs(&items)?))?;
            }
            0x8f => self.push(Object::Set(Vec::new()))?,
            0x91 => {
                let items = self.pop_to_mark()?;
                self.push(Object::Set(items))?;
            }
            b'a' | b'e' | 0x90 => {
                let items = if code == b'a' { vec![self.pop()?] } else { self.pop_to_mark()? };
                let target = self.top()?;
                match self.heap.get_mut(target) {
                    Some(Object::List(list)) if code != 0x90 => list.extend(items),
                    Some(Object::Set(set)) if code == 0x90 => set.extend(items),
                    Some(Object::Record(r)) => r.items.extend(items),
                    _ => return Err(Error::format("appends to what is no list")),
                }
            }
            _ => {
                let items = if code == b's' {
                    let (value, key) = (self.pop()?, self.pop()?);
                    vec![key, value]
                } else {
                    self.pop_to_mark()?
                };
                let entries = pairs(&items)?;
                let target = self.top()?;
                match self.heap.get_mut(target) {
                    Some(Object::Dict(dict)) => dict.extend(entries),
                    Some(Object::Record(r)) => r.entries.extend(entries),
                    _ => return Err(Error::format("sets an entry of what is no dict")),
                }
            }
        }
        Ok(())
    }

    /// Opcodes at which Python would call something.
    fn object(&mut self, code: u8) -> Result<()> {
        let (class, args) = match code {
            b'b' => {
                let (state, target) = (self.pop()?, self.top()?);
                let Some(Object::Record(r)) = self.heap.get_mut(target) else {
                    return Err(Error::format("sets the attributes of what is no object"));
                };
                r.state = Some(state);
                return Ok(());
            }
            b'i' => {
                let (module, name) = (self.line()?, self.line()?);
                let args = self.pop_to_mark()?;
                self.global(module, name)?;
                (self.pop()?, self.add(Object::Tuple(args.into()))?)
            }
            b'o' => {
                let mut all = self.pop_to_mark()?;
                if all.is_empty() {
                    return Err(empty());
                }
                let class = all.remove(0);
                (class, self.add(Object::Tuple(all.into()))?)
            }
            0x92 => {
                let (keywords, args, class) = (self.pop()?, self.pop()?, self.pop()?);
                let entries = self.heap.entries(keywords).is_some_and(|e| e.is_empty());
                if !entries {
                    return Err(Error::unsupported("an object made with named arguments is not supported"));
                }
                (class, args)
            }
            _ => {
                let (args, class) = (self.pop()?, self.pop()?);
                (class, args)
            }
        };
        if self.heap.global(class).is_none() {
            return Err(Error::format("calls what is no class or function"));
        }
        if self.lookup == Some(class) && !(code == b'R' && self.is_method(args)) {
            policy::refuse(self.heap.global(class))?;
        }
        self.push(Object::Record(Box::new(Record { class, args, state: None, items: Vec::new(), entries: Vec::new() })))
    }

    fn global(&mut self, module: String, name: String) -> Result<()> {
        let global = Global { module, name };
        if policy::is_lookup(&global) {
            let id = match self.lookup {
                Some(id) => id,
                None => self.add(Object::Global(Box::new(global)))?,
            };
            self.lookup = Some(id);
            self.stack.push(id);
            return Ok(());
        }
        policy::check(&global)?;
        self.push(Object::Global(Box::new(global)))
    }

    /// Whether these are a module of a network and the name of one of its ways to run, as folding of batch norms leaves
    /// them: `(module, "forward_fuse")`.
    fn is_method(&self, args: Id) -> bool {
        let Some(&[target, name]) = self.heap.sequence(args) else { return false };
        let of_network = self.heap.class(target).is_some_and(policy::is_class);
        of_network && self.heap.text(name).is_some_and(|n| matches!(n, "forward" | "forward_fuse" | "forward_split"))
    }

    fn put(&mut self, code: u8) -> Result<()> {
        let key = match code {
            b'q' => u64::from(u8::from_le_bytes(self.take_array()?)),
            b'r' => u64::from(u32::from_le_bytes(self.take_array()?)),
            b'p' => self.line()?.parse().map_err(|_| Error::format("the place in the memo is no number"))?,
            _ => self.memo.len() as u64,
        };
        let top = self.top()?;
        if self.memo.len() >= MOST_MEMO {
            return Err(too_many());
        }
        self.memo.insert(key, top);
        Ok(())
    }

    fn get(&mut self, code: u8) -> Result<()> {
        let key = match code {
            b'h' => u64::from(u8::from_le_bytes(self.take_array()?)),
            b'j' => u64::from(u32::from_le_bytes(self.take_array()?)),
            _ => self.line()?.parse().map_err(|_| Error::format("the place in the memo is no number"))?,
        };
        let id = *self.memo.get(&key).ok_or_else(|| Error::format(format!("the memo has nothing at {key}")))?;
        self.stack.push(id);
        Ok(())
    }

    fn add(&mut self, object: Object) -> Result<Id> {
        self.heap.add(object).ok_or_else(too_many)
    }
    fn push(&mut self, object: Object) -> Result<()> {
        let id = self.add(object)?;
        self.stack.push(id);
        Ok(())
    }
    /// Height of the stack at the last mark, below which nothing is popped.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }
    fn pop(&mut self) -> Result<Id> {
        if self.stack.len() <= self.floor() {
            return Err(empty());
        }
        self.stack.pop().ok_or_else(empty)
    }
    fn top(&self) -> Result<Id> {
        if self.stack.len() <= self.floor() {
            return Err(empty());
        }
        self.stack.last().copied().ok_or_else(empty)
    }
    fn pop_or_mark(&mut self) -> Result<()> {
        if self.stack.len() > self.floor() {
            self.stack.pop();
            return Ok(());
        }
        self.marks.pop().map(|_| ()).ok_or_else(empty)
    }
    fn pop_to_mark(&mut self) -> Result<Vec<Id>> {
        let mark = self.marks.pop().ok_or_else(|| Error::format("there is no mark"))?;
        Ok(self.stack.split_off(mark))
    }

    fn take(&mut self, length: usize) -> Result<&'d [u8]> {
        let end = self.at.checked_add(length).ok_or_else(short)?;
        let bytes = self.data.get(self.at..end).ok_or_else(short)?;
        self.at = end;
        Ok(bytes)
    }
    fn take_array<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.take(N)?.try_into().map_err(|_| short())
    }
    /// The text up to the next line break.
    fn line(&mut self) -> Result<String> {
        Ok(String::from_utf8_lossy(self.line_bytes()?).trim_end_matches('\r').to_string())
    }
    fn line_bytes(&mut self) -> Result<&'d [u8]> {
        let rest = self.data.get(self.at..).unwrap_or_default();
        let length = rest.iter().position(|&b| b == b'\n').ok_or_else(short)?;
        self.at += length + 1;
        Ok(&rest[..length])
    }
}

fn short() -> Error {
    Error::format("the pickle ends too early")
}

fn too_many() -> Error {
    Error::unsupported("the file has more objects than a checkpoint could need")
}

fn empty() -> Error {
    Error::format("the stack is empty")
}

fn pairs(items: &[Id]) -> Result<Vec<(Id, Id)>> {
    let (pairs, []) = items.as_chunks::<2>() else { return Err(Error::format("a dict has a key without a value")) };
    Ok(pairs.iter().map(|&[k, v]| (k, v)).collect())
}
