//! The files of `torch.save`: a zip archive of a pickle and the tensors' elements, or, before PyTorch 1.6, pickles
//! followed by the elements.

use super::object::{Global, Heap, Id, Object};
use super::unpickle::{Pickle, unpickle};
use crate::Element;
use bytes::Bytes;
use compresso_base::error::{At, Error, Result};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io::{Cursor, Read};
use std::path::Path;
use zip::{CompressionMethod, ZipArchive};

/// A file of `torch.save`. Elements of tensors are read when they are asked for.
#[derive(Debug)]
pub struct Checkpoint {
    pub heap: Heap,
    pub root: Id,
    storages: Storages,
    /// Storages that were read, by key.
    read: RefCell<HashMap<String, Bytes>>,
    /// Bytes that may still be copied out of the file: a hostile file names the same ones again and again.
    budget: Cell<usize>,
}

#[derive(Debug)]
enum Storages {
    /// The archive, and the folder in it with the elements.
    Zip(Box<RefCell<ZipArchive<Cursor<Bytes>>>>, String),
    /// All were found when the file was opened.
    Legacy,
}

/// The number at the start of files of PyTorch before 1.6.
const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];

impl Checkpoint {
    /// Opens a file.
    ///
    /// # Errors
    /// `Io`, `Format`; `Unsupported` for other PyTorch files, and for those that name what could run code.
    pub fn open(path: &Path) -> Result<Self> {
        let bytes = compresso_base::files::read(path)?;
        Self::parse(bytes.into()).in_file(path)
    }

    /// The checkpoint in the bytes of a file.
    pub fn parse(bytes: Bytes) -> Result<Self> {
        if bytes.starts_with(b"PK\x03\x04") {
            return Self::zip(bytes);
        }
        if bytes.get(257..262) == Some(b"ustar") {
            let e = Error::unsupported("the format that PyTorch had before version 0.1.10 is not supported");
            return Err(e.hint("load it with PyTorch and save it again: torch.save(torch.load(\"old.pt\"), \"new.pt\")"));
        }
        Self::legacy(&bytes)
    }

    fn zip(bytes: Bytes) -> Result<Self> {
        let length = bytes.len();
        let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(|e| Error::format("not a readable zip archive").because(e))?;
        let names: Vec<String> = archive.file_names().filter_map(|n| n.ok().map(|n| n.to_string())).collect();
        let inside = |name: &str| names.iter().find_map(|n| n.strip_suffix(name).filter(|f| f.is_empty() || f.ends_with('/')));
        if inside("constants.pkl").is_some() {
            let e = Error::unsupported("the file is a TorchScript program, not a checkpoint");
            return Err(e.hint("load the checkpoint that it was made from, or export the model as .onnx"));
        }
        let Some(folder) = inside("data.pkl").map(String::from) else {
            return Err(Error::format("the zip archive has no 'data.pkl', as files of torch.save have"));
        };
        let budget = Cell::new(length.saturating_mul(2));
        if names.contains(&format!("{folder}byteorder")) {
            let order = entry(&mut archive, &format!("{folder}byteorder"), &budget)?;
            if order.trim_ascii() != b"little" {
                return Err(Error::unsupported("the checkpoint was saved on a big-endian machine")
                    .hint("load it there and save it as .safetensors"));
            }
        }
        let name = format!("{folder}data.pkl");
        let data = entry(&mut archive, &name, &budget)?;
        let Pickle { heap, root, .. } = unpickle(&data).at(|| format!("entry '{name}'"))?;
        let storages = Storages::Zip(Box::new(RefCell::new(archive)), format!("{folder}data/"));
        Ok(Self { heap, root, storages, read: RefCell::default(), budget })
    }

    fn legacy(bytes: &Bytes) -> Result<Self> {
        let not_torch = |e: Error| Error::format("neither a zip archive nor pickles, as torch.save makes").because(e);
        let first = unpickle(bytes).map_err(|e| if e.kind() == compresso_base::ErrorKind::Unsupported { e } else { not_torch(e) })?;
        if !matches!(first.heap.get(first.root), Object::Long(n) if **n == MAGIC) {
            let e = Error::unsupported("the file is a pickle, but not one of torch.save");
            return Err(e.hint("load it with Python and save its tensors with torch.save or as .safetensors"));
        }
        // Magic number, version, facts of the machine, the object, the keys of storages.
        let mut at = first.length;
        let mut next = |what: &str| -> Result<Pickle> {
            let p = unpickle(&bytes[at..]).at(|| what.to_string())?;
            at += p.length;
            Ok(p)
        };
        next("version")?;
        let system = next("facts of the machine")?;
        if system.heap.entry(system.root, "little_endian").is_some_and(|v| matches!(system.heap.get(v), Object::Bool(false))) {
            return Err(Error::unsupported("the checkpoint was saved on a big-endian machine"));
        }
        let Pickle { heap, root, .. } = next("object")?;
        let keys = next("keys of storages")?;
        let listed = keys.heap.sequence(keys.root).ok_or_else(|| Error::format("the list of storages is no list"))?;
        let mut kinds = HashMap::new();
        for object in heap.iter() {
            if let Object::Persistent(id) = object
                && let Ok(s) = Storage::of(&heap, *id)
            {
                kinds.insert(s.key.to_string(), s.element);
            }
        }
        let mut read = HashMap::new();
        for &key in listed {
            let key = keys.heap.text(key).ok_or_else(|| Error::format("the key of a storage is no text"))?;
            let place = |e: Error| e.at(format!("storage '{key}'"));
            let element = *kinds.get(key).ok_or_else(|| place(Error::format("no tensor says its type")))?;
            let short = || place(Error::format("the file ends too early"));
            let count: [u8; 8] = bytes.get(at..at.saturating_add(8)).and_then(|b| b.try_into().ok()).ok_or_else(short)?;
            let length = usize::try_from(i64::from_le_bytes(count)).ok().and_then(|n| element.bytes(n)).ok_or_else(short)?;
            let end = at.checked_add(8).and_then(|a| a.checked_add(length)).filter(|&e| e <= bytes.len()).ok_or_else(short)?;
            read.insert(key.to_string(), bytes.slice(at + 8..end));
            at = end;
        }
        let budget = Cell::new(bytes.len().saturating_mul(2));
        Ok(Self { heap, root, storages: Storages::Legacy, read: RefCell::new(read), budget })
    }

    /// Takes `length` bytes from what may be copied out of the file.
    pub fn spend(&self, length: usize) -> Result<()> {
        spend(&self.budget, length)
    }

    /// The element type and the elements of the storage that a persistent id stands for.
    pub fn storage(&self, id: Id) -> Result<(Element, Bytes)> {
        let Object::Persistent(id) = self.heap.get(id) else { return Err(Error::format("a tensor without a storage")) };
        let storage = Storage::of(&self.heap, *id)?;
        let place = |e: Error| e.at(format!("storage '{}'", storage.key.escape_debug()));
        let known = self.read.borrow().get(storage.key).cloned();
        let bytes = match (known, &self.storages) {
            (Some(bytes), _) => bytes,
            (None, Storages::Legacy) => return Err(place(Error::format("the file does not hold it"))),
            (None, Storages::Zip(archive, folder)) => {
                let bytes: Bytes =
                    entry(&mut archive.borrow_mut(), &format!("{folder}{}", storage.key), &self.budget).map_err(place)?.into();
                self.read.borrow_mut().insert(storage.key.to_string(), bytes.clone());
                bytes
            }
        };
        let needs = storage.element.bytes(storage.count);
        if needs.is_none_or(|n| n > bytes.len()) {
            let e =
                Error::format(format!("{} elements of {} were announced, there are {} bytes", storage.count, storage.element, bytes.len()));
            return Err(place(e));
        }
        Ok((storage.element, bytes))
    }
}

fn spend(budget: &Cell<usize>, length: usize) -> Result<()> {
    let left = budget.get().checked_sub(length);
    budget.set(left.ok_or_else(|| Error::format("the tensors would take far more memory than the file"))?);
    Ok(())
}

/// The bytes of an entry, which torch.save never compresses.
fn entry(archive: &mut ZipArchive<Cursor<Bytes>>, name: &str, budget: &Cell<usize>) -> Result<Vec<u8>> {
    let place = || format!("entry '{}'", name.escape_debug());
    let bad = |e: zip::result::ZipError| Error::format("it cannot be read").because(e);
    let mut entry = archive.by_name(name).map_err(bad).at(place)?;
    if entry.compression() != CompressionMethod::Stored {
        let e = Error::unsupported("it is compressed, which torch.save never does");
        return Err(e.hint("load it with PyTorch and save it again").at(place()));
    }
    let size = usize::try_from(entry.size()).unwrap_or(usize::MAX);
    spend(budget, size).at(place)?;
    let mut bytes = Vec::new();
    entry.by_ref().take(size as u64).read_to_end(&mut bytes).map_err(|e| Error::format("its data is damaged").because(e)).at(place)?;
    if bytes.len() != size {
        return Err(Error::format(format!("it has {} bytes, the archive says {size}", bytes.len())).at(place()));
    }
    Ok(bytes)
}

/// What a persistent id says: `("storage", class, key, device, number of elements)`.
struct Storage<'h> {
    element: Element,
    key: &'h str,
    count: usize,
}

impl<'h> Storage<'h> {
    fn of(heap: &'h Heap, id: Id) -> Result<Self> {
        let bad = || Error::format("a storage is not described as PyTorch does");
        let parts = heap.sequence(id).ok_or_else(bad)?;
        let (&[kind, class, key, _device, count], rest) = parts.split_first_chunk::<5>().ok_or_else(bad)?;
        if heap.text(kind) != Some("storage") {
            return Err(bad());
        }
        if rest.iter().any(|&r| *heap.get(r) != Object::None) {
            return Err(Error::unsupported("storages that are parts of others are not supported"));
        }
        let class = heap.global(class).ok_or_else(bad)?;
        let count = heap.size(count).ok_or_else(bad)?;
        Ok(Self { element: element(class)?, key: heap.text(key).ok_or_else(bad)?, count })
    }
}

/// The element type of a class of storages. Those without a type are bytes.
fn element(class: &Global) -> Result<Element> {
    let kind = class.name.strip_suffix("Storage").filter(|_| matches!(&*class.module, "torch" | "torch.storage" | "torch.cuda"));
    Ok(match kind {
        Some("Float") => Element::F32,
        Some("Double") => Element::F64,
        Some("Half") => Element::F16,
        Some("BFloat16") => Element::BF16,
        Some("Long") => Element::I64,
        Some("Int") => Element::I32,
        Some("Short") => Element::I16,
        Some("Char") => Element::I8,
        Some("Byte" | "Untyped") => Element::U8,
        Some("Bool") => Element::Bool,
        _ => return Err(Error::unsupported(format!("storages of type {class} are not supported"))),
    })
}
