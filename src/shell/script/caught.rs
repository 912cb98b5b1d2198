//! What `catch (e)` gives a script: for an error of the engine `e.message`, `e.kind` and `e.hint`, as for one of a function.
//!
//! The engine gives a map with names of its own, and has no place at which another value could be put. So the text that is compiled
//! has a call behind the brace of each `catch` (`inserted`).

use super::error::Explain;
use super::inserted::CALLED;
use super::raised::{Raised, lower_first};
use crate::error::{Error, ErrorKind};
use rhai::{Dynamic, Engine, EvalAltResult, ImmutableString, Map, NativeCallContext, Position};
use std::path::PathBuf;
use std::sync::Arc;

pub(super) fn register(engine: &mut Engine) {
    engine.register_fn(CALLED, |native: NativeCallContext<'_>, value: Dynamic| match value.read_lock::<Map>().map(|m| m.clone()) {
        Some(map) => explained(native.engine(), &map).map_or(value, |e| Dynamic::from(Raised(Arc::new(e)))),
        None => value,
    });
    // Of a text that a script has thrown.
    engine.register_get("message", |text: &mut ImmutableString| text.clone());
    engine.register_get("kind", |_: &mut ImmutableString| ImmutableString::from("script"));
    engine.register_get("hint", |_: &mut ImmutableString| ());
}

/// How the engine begins what it says of a function that is not there.
const NO_FUNCTION: &str = "Function not found: ";

/// The error that the engine has made a map of; `None` of a map that a script threw.
fn explained(engine: &Engine, map: &Map) -> Option<Error> {
    let text = |name: &str| map.get(name).and_then(|v| v.clone().into_string().ok());
    let number = |name: &str| map.get(name).and_then(|v| v.as_int().ok());
    let (kind, message) = (text("error")?, text("message")?);
    let nowhere = Position::NONE;
    let error = match kind.as_str() {
        "ErrorFunctionNotFound" => EvalAltResult::ErrorFunctionNotFound(text("function")?, nowhere),
        "ErrorVariableNotFound" => EvalAltResult::ErrorVariableNotFound(text("variable")?, nowhere),
        "ErrorPropertyNotFound" => EvalAltResult::ErrorPropertyNotFound(text("variable")?, nowhere),
        "ErrorArrayBounds" => EvalAltResult::ErrorArrayBounds(usize::try_from(number("length")?).ok()?, number("index")?, nowhere),
        "ErrorStringBounds" => EvalAltResult::ErrorStringBounds(usize::try_from(number("length")?).ok()?, number("index")?, nowhere),
        "ErrorMismatchDataType" => EvalAltResult::ErrorMismatchDataType(text("requested")?, text("actual")?, nowhere),
        "ErrorDotExpr" => EvalAltResult::ErrorDotExpr(text("property")?, nowhere),
        "ErrorIndexingType" => EvalAltResult::ErrorIndexingType(text("type")?, nowhere),
        "ErrorFor" => EvalAltResult::ErrorFor(nowhere),
        // What arose in a function that was called has its name alone; the text is that of the error inside.
        other if other.starts_with("Error") && message.starts_with(NO_FUNCTION) => {
            // Where it arose is said behind the types of its arguments.
            let end = message.find(')').map_or(message.len(), |at| at + 1);
            EvalAltResult::ErrorFunctionNotFound(message[NO_FUNCTION.len()..end].to_string(), nowhere)
        }
        other if other.starts_with("Error") => {
            return Some(Error::new(ErrorKind::Script, lower_first(message.split(" (line ").next().unwrap_or(&message))));
        }
        _ => return None,
    };
    let explain = Explain {
        source: ("", ""),
        function_source: &|_| None,
        module_file: &|_| PathBuf::new(),
        variables: Vec::new(),
        entries: &Vec::new,
        functions: Vec::new(),
        most_operations: u64::MAX,
        builtins: &|| engine.gen_fn_signatures(true),
    };
    Some(explain.leaf(&error, None))
}
