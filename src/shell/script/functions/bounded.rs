//! The engine's own functions that make much out of little, or wait: the same, but they ask for memory first and hear Ctrl-C.

use crate::error::Result;
use crate::memory::claim;
use crate::shell::script::Shared;
use crate::shell::script::raised::raise;
use rhai::{Array, Blob, Dynamic, Engine, EvalAltResult, ImmutableString, Position};
use std::sync::Arc;
use std::time::{Duration, Instant};

type Raise<T> = std::result::Result<T, Box<EvalAltResult>>;

/// How often a wait looks whether it is cancelled.
const LOOK: Duration = Duration::from_millis(20);

/// Registers them over the engine's.
pub(in crate::shell::script) fn register_bounded(engine: &mut Engine, shared: &Arc<Shared>) {
    engine.register_fn("blob", |len: i64| blob(len, 0));
    engine.register_fn("blob", blob);
    engine.register_fn("pad", |b: &mut Blob, len: i64, value: i64| -> Raise<()> {
        let len = wanted(len, b.len(), 1)?;
        b.resize(len, byte(value));
        Ok(())
    });
    engine.register_fn("pad", |list: &mut Array, len: i64, item: Dynamic| -> Raise<()> {
        let len = wanted(len, list.len(), bytes_of(&item))?;
        list.resize(len, item);
        Ok(())
    });
    engine.register_fn("pad", |text: &mut ImmutableString, len: i64, with: char| pad(text, len, &with.to_string()));
    engine.register_fn("pad", |text: &mut ImmutableString, len: i64, with: &str| pad(text, len, with));
    engine.register_fn("replace", |text: &mut ImmutableString, find: &str, with: &str| replace(text, find, with));
    engine.register_fn("replace", |text: &mut ImmutableString, find: &str, with: char| replace(text, find, &with.to_string()));
    engine.register_fn("replace", |text: &mut ImmutableString, find: char, with: &str| replace(text, &find.to_string(), with));
    engine.register_fn("replace", |text: &mut ImmutableString, find: char, with: char| replace(text, &find.to_string(), &with.to_string()));
    let s = shared.clone();
    engine.register_fn("sleep", move |seconds: f64| sleep(&s, seconds));
    let s = shared.clone();
    engine.register_fn("sleep", move |seconds: i64| sleep(&s, seconds as f64));
}

fn raised<T>(result: Result<T>) -> Raise<T> {
    result.map_err(|e| raise(e, Position::NONE))
}

/// The low byte, as the engine's functions on blobs take numbers.
fn byte(value: i64) -> u8 {
    (value & 0xff) as u8
}

fn blob(len: i64, value: i64) -> Raise<Blob> {
    Ok(vec![byte(value); wanted(len, 0, 1)?])
}

/// The length that a container of `now` items gets, `now` or more, when each new one takes `each` bytes.
fn wanted(len: i64, now: usize, each: u64) -> Raise<usize> {
    let Some(more) = usize::try_from(len).ok().and_then(|len| len.checked_sub(now)) else { return Ok(now) };
    raised(claim((more as u64).saturating_mul(each), || format!("a length of {len}")))?;
    Ok(now + more)
}

/// What a copy of a value takes, in bytes; the stack bounds its depth where it was made.
fn bytes_of(value: &Dynamic) -> u64 {
    let own = size_of::<Dynamic>() as u64;
    let inner = if let Ok(list) = value.as_array_ref() {
        list.iter().map(bytes_of).sum()
    } else if let Ok(map) = value.as_map_ref() {
        map.iter().map(|(k, v)| k.len() as u64 + bytes_of(v)).sum()
    } else if let Ok(blob) = value.as_blob_ref() {
        blob.len() as u64
    } else {
        0
    };
    own + inner
}

/// `text` with `with` repeated at its end until it has `len` characters.
fn pad(text: &mut ImmutableString, len: i64, with: &str) -> Raise<()> {
    let now = text.chars().count();
    // At most four bytes a character.
    let more = wanted(len, now, 4)? - now;
    if more > 0 && !with.is_empty() {
        let end: String = with.chars().cycle().take(more).collect();
        *text = format!("{text}{end}").into();
    }
    Ok(())
}

fn replace(text: &mut ImmutableString, find: &str, with: &str) -> Raise<()> {
    if with.len() > find.len() {
        let more = (text.matches(find).count() as u64).saturating_mul((with.len() - find.len()) as u64);
        raised(claim(more, || "the text with its replacements".to_string()))?;
    }
    *text = text.as_str().replace(find, with).into();
    Ok(())
}

/// Waits; a wait of no or a negative length is none.
fn sleep(shared: &Shared, seconds: f64) -> Raise<()> {
    // Longer than anyone waits is for ever.
    let time = Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX);
    let (start, cancel) = (Instant::now(), shared.context().cancel);
    while let Some(left) = time.checked_sub(start.elapsed()).filter(|left| !left.is_zero()) {
        raised(cancel.check())?;
        std::thread::sleep(left.min(LOOK));
    }
    Ok(())
}
