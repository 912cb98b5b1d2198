//! Functions of lists that call functions of the script, in place of the language's own, whose sorting goes on after an error and after Ctrl-C,
//! and whose `for_each` tells the place where the item is asked for.

use crate::error::Error;
use crate::shell::script::raised::raise;
use crate::shell::script::value::{no_field, to_f64};
use crate::shell::script::words::describe;
use rhai::{Array, Dynamic, Engine, EvalAltResult, FnPtr, ImmutableString, NativeCallContext};
use std::cmp::Ordering;

/// `sort_by` and `order_by` with keys of one type.
macro_rules! register_by {
    ($engine:ident, $key:ty) => {
        $engine.register_fn("sort_by", |context: NativeCallContext, list: &mut Array, by: $key| -> Raised<Array> {
            *list = ordered(&context, list.clone(), &by.into(), false)?;
            Ok(list.clone())
        });
        $engine.register_fn("sort_by", |context: NativeCallContext, list: &mut Array, by: $key, descending: bool| -> Raised<Array> {
            *list = ordered(&context, list.clone(), &by.into(), descending)?;
            Ok(list.clone())
        });
        $engine.register_fn("order_by", |context: NativeCallContext, list: Array, by: $key| -> Raised<Array> {
            ordered(&context, list, &by.into(), false)
        });
        $engine.register_fn("order_by", |context: NativeCallContext, list: Array, by: $key, descending: bool| -> Raised<Array> {
            ordered(&context, list, &by.into(), descending)
        });
    };
}

type Raised<T> = Result<T, Box<EvalAltResult>>;

/// `sort`, `sort_by`, `order`, `order_by` and `dedup` with a function. What it raises ends them, with the list as it was.
pub(in crate::shell::script) fn register_sorting(engine: &mut Engine) {
    engine.register_fn("sort", |context: NativeCallContext, list: &mut Array, comparer: FnPtr| -> Raised<()> {
        *list = sorted(list.clone(), |a, b| is_after(&context, &comparer, a, b))?;
        Ok(())
    });
    engine.register_fn("order", |context: NativeCallContext, list: Array, comparer: FnPtr| -> Raised<Array> {
        sorted(list, |a, b| is_after(&context, &comparer, a, b))
    });
    // The engine's own take functions, so these do as well as any value.
    register_by!(engine, FnPtr);
    register_by!(engine, ImmutableString);
    // The engine's own gives the place, not the item, to a function of one argument.
    engine.register_fn("for_each", |context: NativeCallContext, list: &mut Array, f: FnPtr| -> Raised<()> {
        for (i, this) in list.iter_mut().enumerate() {
            let (item, place) = (this.clone(), Dynamic::from(i as i64));
            let others = |result: &Result<Dynamic, Box<EvalAltResult>>| result.as_ref().is_err_and(|e| takes_others(e, f.fn_name()));
            let mut result = f.call_raw(&context, Some(&mut *this), [item.clone()]);
            if others(&result) {
                result = f.call_raw(&context, Some(&mut *this), [item, place]);
            }
            if others(&result) {
                result = f.call_raw(&context, Some(&mut *this), <[Dynamic; 0]>::default());
            }
            let _ = result?;
        }
        Ok(())
    });
    engine.register_fn("dedup", |context: NativeCallContext, list: &mut Array, same: FnPtr| -> Raised<()> {
        let mut kept: Array = Vec::with_capacity(list.len());
        for item in list.iter() {
            let repeated = match kept.last() {
                Some(last) => same.call_within_context::<bool>(&context, (item.clone(), last.clone()))?,
                None => false,
            };
            if !repeated {
                kept.push(item.clone());
            }
        }
        *list = kept;
        Ok(())
    });
}

/// A list by an entry of its rows, by a function of one item, or by a function that compares two.
fn ordered(context: &NativeCallContext, list: Array, key: &Dynamic, descending: bool) -> Raised<Array> {
    let lift = |e: Error| raise(e, context.call_position());
    let keys: Option<Vec<Dynamic>> = if let Ok(name) = key.as_immutable_string_ref() {
        Some(list.iter().map(|row| key_of(row, &name).map_err(lift)).collect::<Raised<_>>()?)
    } else {
        let Some(f) = key.read_lock::<FnPtr>() else {
            return Err(lift(Error::argument(format!("sort_by expects a name or a function, got {}", describe(key)))));
        };
        keys(context, &list, &f)?
    };
    match keys {
        Some(keys) => {
            let pairs: Array = keys.into_iter().zip(list).map(|(k, v)| vec![k, v].into()).collect();
            let part = |pair: &Dynamic, i: usize| pair.as_array_ref().map_or(Dynamic::UNIT, |p| p[i].clone());
            let after = |a: &Dynamic, b: &Dynamic| -> Raised<bool> {
                let found = ordering(&part(a, 0), &part(b, 0)).map_err(lift)?;
                Ok(if descending { found.is_lt() } else { found.is_gt() })
            };
            Ok(sorted(pairs, after)?.iter().map(|pair| part(pair, 1)).collect())
        }
        None => {
            let Some(f) = key.read_lock::<FnPtr>() else { return Ok(list) };
            // Equals stay in their order either way.
            sorted(list, |a, b| if descending { is_after(context, &f, b, a) } else { is_after(context, &f, a, b) })
        }
    }
}

/// What a function of one item says of each; `None` for one that takes two.
fn keys(context: &NativeCallContext, list: &Array, f: &FnPtr) -> Raised<Option<Vec<Dynamic>>> {
    let mut keys = Vec::with_capacity(list.len());
    for item in list {
        match f.call_within_context::<Dynamic>(context, (item.clone(),)) {
            Ok(key) => keys.push(key),
            Err(e) if takes_others(&e, f.fn_name()) => return Ok(None),
            Err(e) => return Err(e),
        }
    }
    Ok(Some(keys))
}

/// Whether a call failed since the function takes another number of arguments.
fn takes_others(e: &EvalAltResult, name: &str) -> bool {
    matches!(e, EvalAltResult::ErrorFunctionNotFound(call, _) if call.split(' ').next() == Some(name))
}

/// An entry of a row.
///
/// # Errors
/// `Missing`, with what the row has; `Argument` for what is no row.
pub(super) fn key_of(row: &Dynamic, name: &str) -> crate::error::Result<Dynamic> {
    let map = row.as_map_ref().map_err(|_| Error::argument(format!("rows are maps like #{{ {name}: … }}, got {}", describe(row))))?;
    map.get(name).cloned().ok_or_else(|| no_field("the row", name, &map.keys().map(|k| k.as_str()).collect::<Vec<_>>()))
}

/// The order of two numbers, texts, truths or lists of these; nothing comes last.
///
/// # Errors
/// `Argument` for values of different kinds, or of kinds without an order.
pub(super) fn ordering(a: &Dynamic, b: &Dynamic) -> crate::error::Result<Ordering> {
    if let (Ok(a), Ok(b)) = (a.as_int(), b.as_int()) {
        return Ok(a.cmp(&b));
    }
    if let (Some(a), Some(b)) = (to_f64(a), to_f64(b)) {
        return Ok(a.total_cmp(&b));
    }
    if let (Ok(a), Ok(b)) = (a.as_immutable_string_ref(), b.as_immutable_string_ref()) {
        return Ok(a.cmp(&b));
    }
    if let (Ok(a), Ok(b)) = (a.as_bool(), b.as_bool()) {
        return Ok(a.cmp(&b));
    }
    if a.is_unit() || b.is_unit() {
        return Ok(a.is_unit().cmp(&b.is_unit()));
    }
    if let (Ok(a), Ok(b)) = (a.as_array_ref(), b.as_array_ref()) {
        for (x, y) in a.iter().zip(b.iter()) {
            let found = ordering(x, y)?;
            if found.is_ne() {
                return Ok(found);
            }
        }
        return Ok(a.len().cmp(&b.len()));
    }
    Err(Error::argument(format!("{} and {} have no order", describe(a), describe(b))))
}

/// Whether `a` belongs behind `b`: the function gives a number above 0, or false.
fn is_after(context: &NativeCallContext, comparer: &FnPtr, a: &Dynamic, b: &Dynamic) -> Raised<bool> {
    let order = comparer.call_within_context::<Dynamic>(context, (a.clone(), b.clone()))?;
    if let Ok(n) = order.as_int() {
        return Ok(n > 0);
    }
    if let Ok(x) = order.as_float() {
        return Ok(x > 0.0);
    }
    let wrong = |_| format!("sorting expects a function that gives a number or true and false, got {}", describe(&order));
    let before = order.as_bool().map_err(wrong)?;
    Ok(!before)
}

/// Merges sorted runs of doubling length. The order of equals stays; a function that orders nothing consistently does no harm.
fn sorted(mut list: Array, mut is_after: impl FnMut(&Dynamic, &Dynamic) -> Raised<bool>) -> Raised<Array> {
    let mut run = 1;
    while run < list.len() {
        let mut merged = Vec::with_capacity(list.len());
        for pair in list.chunks(2 * run) {
            let (mut left, mut right) = pair.split_at(run.min(pair.len()));
            while let (Some(a), Some(b)) = (left.first(), right.first()) {
                if is_after(a, b)? {
                    merged.push(b.clone());
                    right = &right[1..];
                } else {
                    merged.push(a.clone());
                    left = &left[1..];
                }
            }
            merged.extend_from_slice(left);
            merged.extend_from_slice(right);
        }
        list = merged;
        run *= 2;
    }
    Ok(list)
}
