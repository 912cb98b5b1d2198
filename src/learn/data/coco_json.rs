//! Reading the JSON of COCO annotations: item by item from the file, without what is not used (segmentations, captions).

use compresso_base::context::{Context, Progress};
use compresso_base::error::{Error, Result};
use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::cell::Cell;
use std::fmt;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

/// An identifier: a whole number as in COCO itself, or a text as some writers give.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Id {
    Number(i64),
    Text(Box<str>),
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(n) => n.fmt(f),
            Self::Text(t) => write!(f, "{t:?}"),
        }
    }
}

pub(super) struct Image {
    pub id: Id,
    pub file_name: String,
    /// In pixels, where they are stated.
    pub width: Option<f64>,
    pub height: Option<f64>,
}

pub(super) struct Annotation {
    pub id: Option<Id>,
    pub image: Id,
    pub category: Id,
    /// Left, top, width, height in pixels; `None` for anything but four numbers.
    pub bbox: Option<[f64; 4]>,
    /// Of the outline, in square pixels.
    pub area: Option<f64>,
    pub crowd: bool,
}

pub(super) struct Category {
    pub id: Id,
    pub name: String,
    pub supercategory: Option<String>,
}

/// The parts of a file, in its order.
#[derive(Default)]
pub(super) struct Contents {
    pub images: Vec<Image>,
    /// `None`: the file has no annotations, as one of a test set.
    pub annotations: Option<Vec<Annotation>>,
    pub categories: Vec<Category>,
}

/// Reads a file.
///
/// # Errors
/// `Io`; `Format` with line, column and key for anything that is not COCO's form.
pub(super) fn read(path: &Path, ctx: &Context) -> Result<Contents> {
    let file = compresso_base::files::open(path)?;
    let size = file.metadata().map_err(|e| Error::io(path, e))?.len();
    let progress = (size > LARGE).then(|| ctx.progress("read annotations", size.div_ceil(BLOCK as u64)));
    let reader = BufReader::with_capacity(BLOCK, Watched { file, progress });
    let key = Key::default();
    let mut json = serde_json::Deserializer::from_reader(reader);
    let read = Top { key: &key }.deserialize(&mut json).and_then(|c| {
        key.part.set("");
        json.end().map(|()| c)
    });
    read.map_err(|e| {
        if let Err(cancelled) = ctx.check() {
            return cancelled;
        }
        // serde_json's text ends in the line and column.
        let error = if e.is_io() { Error::io(path, e.into()) } else { Error::format(e.to_string()).file(path) };
        match key.to_string() {
            key if key.is_empty() => error,
            key => Error::new(error.kind(), error.message().to_string()).at(key).file(path),
        }
    })
}

/// Bytes that are read at once; between two such blocks the user may cancel.
const BLOCK: usize = 1 << 20;
/// Files above this show their progress.
const LARGE: u64 = 16 << 20;

/// A file whose reading shows progress and can be cancelled.
struct Watched {
    file: File,
    progress: Option<Progress>,
}

impl Read for Watched {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if let Some(p) = &mut self.progress {
            p.step("").map_err(|_| std::io::Error::other("cancelled"))?;
        }
        self.file.read(buffer)
    }
}

/// Where the reading is: `annotations[17].bbox`.
#[derive(Default)]
struct Key {
    part: Cell<&'static str>,
    index: Cell<Option<usize>>,
    field: Cell<&'static str>,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.part.get())?;
        if let Some(i) = self.index.get().filter(|_| !self.part.get().is_empty()) {
            write!(f, "[{i}]")?;
            if !self.field.get().is_empty() {
                write!(f, ".{}", self.field.get())?;
            }
        }
        Ok(())
    }
}

/// The outermost map.
struct Top<'a> {
    key: &'a Key,
}

impl<'de> DeserializeSeed<'de> for Top<'_> {
    type Value = Contents;
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Contents, D::Error> {
        d.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Top<'_> {
    type Value = Contents;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map with images, annotations and categories")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Contents, A::Error> {
        let mut all = Contents::default();
        let key = self.key;
        while let Some(name) = map.next_key::<String>()? {
            let Some(part) = ["images", "annotations", "categories"].into_iter().find(|p| *p == name) else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            key.part.set(part);
            key.index.set(None);
            match part {
                "images" => map.next_value_seed(List { key, take: &mut |e| e.image().map(|i| all.images.push(i)) })?,
                "categories" => map.next_value_seed(List { key, take: &mut |e| e.category().map(|c| all.categories.push(c)) })?,
                _ => {
                    let list = all.annotations.get_or_insert_default();
                    map.next_value_seed(List { key, take: &mut |e| e.annotation().map(|a| list.push(a)) })?;
                }
            }
            key.part.set("");
        }
        Ok(all)
    }
}

/// A list of entries, each handed on as soon as it is read.
struct List<'a> {
    key: &'a Key,
    take: &'a mut dyn FnMut(Entry) -> Result<(), &'static str>,
}

impl<'de> DeserializeSeed<'de> for List<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        d.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for List<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        for i in 0.. {
            self.key.index.set(Some(i));
            self.key.field.set("");
            let Some(entry) = list.next_element_seed(EntrySeed { key: self.key })? else { break };
            self.key.field.set("");
            (self.take)(entry).map_err(|field| A::Error::custom(format!("the field '{field}' is missing")))?;
        }
        Ok(())
    }
}

/// The fields of an entry of any part.
#[derive(Default)]
struct Entry {
    id: Option<Id>,
    file_name: Option<String>,
    width: Option<f64>,
    height: Option<f64>,
    name: Option<String>,
    supercategory: Option<String>,
    image_id: Option<Id>,
    category_id: Option<Id>,
    bbox: Option<[f64; 4]>,
    area: Option<f64>,
    crowd: bool,
}

impl Entry {
    fn image(self) -> Result<Image, &'static str> {
        let file_name = self.file_name.ok_or("file_name")?;
        Ok(Image { id: self.id.ok_or("id")?, file_name, width: self.width, height: self.height })
    }
    fn annotation(self) -> Result<Annotation, &'static str> {
        let (image, category) = (self.image_id.ok_or("image_id")?, self.category_id.ok_or("category_id")?);
        Ok(Annotation { id: self.id, image, category, bbox: self.bbox, area: self.area, crowd: self.crowd })
    }
    fn category(self) -> Result<Category, &'static str> {
        Ok(Category { id: self.id.ok_or("id")?, name: self.name.ok_or("name")?, supercategory: self.supercategory })
    }
}

struct EntrySeed<'a> {
    key: &'a Key,
}

impl<'de> DeserializeSeed<'de> for EntrySeed<'_> {
    type Value = Entry;
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Entry, D::Error> {
        d.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for EntrySeed<'_> {
    type Value = Entry;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entry, A::Error> {
        let mut e = Entry::default();
        while let Some(Name(name)) = map.next_key()? {
            self.key.field.set(name);
            match name {
                "id" => e.id = map.next_value()?,
                "file_name" => e.file_name = map.next_value()?,
                "width" => e.width = map.next_value::<Number>()?.0,
                "height" => e.height = map.next_value::<Number>()?.0,
                "name" => e.name = map.next_value()?,
                "supercategory" => e.supercategory = map.next_value()?,
                "image_id" => e.image_id = map.next_value()?,
                "category_id" => e.category_id = map.next_value()?,
                "bbox" => e.bbox = map.next_value::<Option<Four>>()?.and_then(|f| f.0),
                "area" => e.area = map.next_value::<Number>()?.0,
                // Written as 0 and 1, now and then as false and true.
                "iscrowd" => e.crowd = map.next_value::<Number>()?.0.is_some_and(|v| v != 0.0),
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
            self.key.field.set("");
        }
        Ok(e)
    }
}

/// The name of a field that is read; empty for any other.
struct Name(&'static str);

const NAMES: [&str; 11] =
    ["id", "file_name", "width", "height", "name", "supercategory", "image_id", "category_id", "bbox", "area", "iscrowd"];

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V;
        impl Visitor<'_> for V {
            type Value = Name;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }
            fn visit_str<E: serde::de::Error>(self, v: &str) -> Result<Name, E> {
                Ok(Name(NAMES.into_iter().find(|n| *n == v).unwrap_or_default()))
            }
        }
        d.deserialize_str(V)
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V;
        impl Visitor<'_> for V {
            type Value = Id;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number or a text")
            }
            fn visit_i64<E: serde::de::Error>(self, v: i64) -> Result<Id, E> {
                Ok(Id::Number(v))
            }
            fn visit_u64<E: serde::de::Error>(self, v: u64) -> Result<Id, E> {
                i64::try_from(v).map(Id::Number).map_err(|_| E::custom("the number is too large"))
            }
            fn visit_f64<E: serde::de::Error>(self, v: f64) -> Result<Id, E> {
                // Whole numbers that went through floating point: 12.0.
                if v.fract() == 0.0 && v.abs() < 9e15 {
                    Ok(Id::Number(v as i64))
                } else {
                    Err(E::custom(format!("{v} is no whole number")))
                }
            }
            fn visit_str<E: serde::de::Error>(self, v: &str) -> Result<Id, E> {
                Ok(Id::Text(v.into()))
            }
        }
        d.deserialize_any(V)
    }
}

/// A number, also written as text or true/false; `None` for null and for texts that are no number.
struct Number(Option<f64>);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V;
        impl Visitor<'_> for V {
            type Value = Number;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number")
            }
            fn visit_bool<E>(self, v: bool) -> Result<Number, E> {
                Ok(Number(Some(f64::from(u8::from(v)))))
            }
            fn visit_i64<E>(self, v: i64) -> Result<Number, E> {
                Ok(Number(Some(v as f64)))
            }
            fn visit_u64<E>(self, v: u64) -> Result<Number, E> {
                Ok(Number(Some(v as f64)))
            }
            fn visit_f64<E>(self, v: f64) -> Result<Number, E> {
                Ok(Number(Some(v)))
            }
            fn visit_str<E>(self, v: &str) -> Result<Number, E> {
                Ok(Number(v.trim().parse().ok()))
            }
            fn visit_unit<E>(self) -> Result<Number, E> {
                Ok(Number(None))
            }
        }
        d.deserialize_any(V)
    }
}

/// A list of four numbers; `None` for a list of another length. An entry that is no number becomes NaN.
struct Four(Option<[f64; 4]>);

impl<'de> Deserialize<'de> for Four {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Four;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of four numbers")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Four, A::Error> {
                let mut sides = [f64::NAN; 4];
                for side in &mut sides {
                    match list.next_element::<Number>()? {
                        Some(v) => *side = v.0.unwrap_or(f64::NAN),
                        None => return Ok(Four(None)),
                    }
                }
                let mut whole = true;
                while list.next_element::<IgnoredAny>()?.is_some() {
                    whole = false;
                }
                Ok(Four(whole.then_some(sides)))
            }
        }
        d.deserialize_seq(V)
    }
}
