//! Sorting by a function of the script, in place of the language's own, which goes on after an error and after Ctrl-C.

use rhai::{Array, Dynamic, Engine, EvalAltResult, FnPtr, NativeCallContext};

type Raised<T> = Result<T, Box<EvalAltResult>>;

/// `sort`, `sort_by`, `order`, `order_by` and `dedup` with a function. What it raises ends them, with the list as it was.
pub(in crate::shell::script) fn register_sorting(engine: &mut Engine) {
    for name in ["sort", "sort_by"] {
        engine.register_fn(name, |context: NativeCallContext, list: &mut Array, comparer: FnPtr| -> Raised<()> {
            *list = sorted(list.clone(), |a, b| is_after(&context, &comparer, a, b))?;
            Ok(())
        });
    }
    for name in ["order", "order_by"] {
        engine.register_fn(name, |context: NativeCallContext, list: Array, comparer: FnPtr| -> Raised<Array> {
            sorted(list, |a, b| is_after(&context, &comparer, a, b))
        });
    }
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

/// Whether `a` belongs behind `b`: the function gives a number above 0, or false.
fn is_after(context: &NativeCallContext, comparer: &FnPtr, a: &Dynamic, b: &Dynamic) -> Raised<bool> {
    let order = comparer.call_within_context::<Dynamic>(context, (a.clone(), b.clone()))?;
    if let Ok(n) = order.as_int() {
        return Ok(n > 0);
    }
    if let Ok(x) = order.as_float() {
        return Ok(x > 0.0);
    }
    let before = order.as_bool().map_err(|got| format!("sorting expects a function that gives a number or true and false, got {got}"))?;
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
