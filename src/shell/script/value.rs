//! Values of the script language and their JSON.

use crate::error::{Error, Result, nearest};
use crate::learn::data::Dataset;
use crate::model::{Made, Value};
use crate::report::{Plot, Show, Table};
use rhai::{Dynamic, FLOAT, INT, Map};
use serde_json::Value as Json;
use std::path::Path;
use std::sync::{Arc, OnceLock};

/// A model as scripts hold it.
pub type ModelValue = Made<Report>;

/// A result that can be shown; its fields are those of [`Show::data`].
#[derive(Clone)]
pub struct Report {
    pub show: Arc<dyn Show>,
    data: Arc<OnceLock<Json>>,
    save: SaveAs,
}

/// Writes a result into a file or folder.
type SaveAs = Arc<dyn Fn(&Path) -> Result<()> + Send + Sync>;

impl Report {
    pub fn new(show: impl Show + 'static) -> Self {
        let show = Arc::new(show);
        let save: SaveAs = Arc::new({
            let show = show.clone();
            move |path| show.save_as(path)
        });
        Self { show, data: Arc::default(), save }
    }
    /// Saves by the path's ending, in the formats of the result's type.
    ///
    /// # Errors
    /// As [`crate::report::save`].
    pub fn save(&self, path: &Path) -> Result<()> {
        (self.save)(path)
    }
    pub fn data(&self) -> &Json {
        self.data.get_or_init(|| self.show.data())
    }
    /// Names of the fields.
    pub fn fields(&self) -> Vec<&str> {
        self.data().as_object().map(|o| o.keys().map(String::as_str).collect()).unwrap_or_default()
    }
    /// # Errors
    /// `Missing`, with the nearest name.
    pub fn field(&self, name: &str) -> Result<Dynamic> {
        match self.data().get(name) {
            Some(v) => Ok(from_json(v)),
            None => Err(no_field("this report", name, &self.fields())),
        }
    }
}

/// The error for a field that does not exist.
pub fn no_field(of: &str, name: &str, fields: &[&str]) -> Error {
    let e = Error::missing(format!("{of} has no field '{name}'"));
    match nearest(name, fields.iter().copied()) {
        Some(near) => e.hint(format!("did you mean '{near}'?")),
        None if fields.is_empty() => e,
        None => e.hint(format!("its fields are {}", fields.join(", "))),
    }
}

/// The name of a value's type, in the words that signatures use.
pub fn kind_of(value: &Dynamic) -> &'static str {
    if value.is_unit() {
        "nothing"
    } else if value.is::<ModelValue>() {
        "model"
    } else if value.is::<Dataset>() {
        "dataset"
    } else if value.is::<Report>() {
        "report"
    } else if value.is::<Value>() {
        "tensor"
    } else if value.is::<Plot>() {
        "plot"
    } else if value.is::<Table>() {
        "table"
    } else if value.is_string() || value.is_char() {
        "text"
    } else if value.is_int() {
        "whole number"
    } else if value.is_float() {
        "number"
    } else if value.is_bool() {
        "true or false"
    } else if value.is_array() {
        "list"
    } else if value.is_map() {
        "map"
    } else if value.is_fnptr() {
        "function"
    } else if value.is_timestamp() {
        "time"
    } else if value.is::<std::ops::Range<INT>>() || value.is::<std::ops::RangeInclusive<INT>>() {
        "range"
    } else if value.is::<super::raised::Raised>() {
        "error"
    } else {
        "value"
    }
}

/// The words for a Rhai type name in an error of the engine.
pub fn kind_of_type(name: &str) -> &str {
    match name.trim().trim_start_matches("&mut ") {
        "i64" | "INT" => "whole number",
        "f64" | "FLOAT" => "number",
        "string" | "&str" | "ImmutableString" | "&str | ImmutableString | String" | "String" | "char" => "text",
        "bool" => "true or false",
        "array" | "Array" => "list",
        "map" | "Map" => "map",
        "Fn" | "FnPtr" => "function",
        "()" => "nothing",
        "timestamp" => "time",
        "range" | "blob" => name,
        other if other.contains("ops::range::Range") || other.starts_with("range") => "range",
        "Blob" => "blob",
        other if other.ends_with("ModelValue") || other == "Model" => "model",
        other if other.ends_with("Dataset") => "dataset",
        other if other.ends_with("::Report") || other == "Report" => "report",
        other if other.ends_with("::Value") || other == "Tensor" => "tensor",
        other if other.ends_with("::Plot") || other == "Plot" => "plot",
        other if other.ends_with("::Table") || other == "Table" => "table",
        other if other.ends_with("Raised") || other == "Error" => "error",
        // Types that scripts have no name for.
        other if other.contains([':', '<']) => "value",
        other => other,
    }
}

/// JSON as script values: whole numbers become INT, others FLOAT, `null` becomes `()`.
pub fn from_json(json: &Json) -> Dynamic {
    match json {
        Json::Null => Dynamic::UNIT,
        Json::Bool(b) => (*b).into(),
        Json::Number(n) => match n.as_i64() {
            Some(i) => i.into(),
            None => n.as_f64().unwrap_or(f64::NAN).into(),
        },
        Json::String(s) => s.clone().into(),
        Json::Array(a) => a.iter().map(from_json).collect::<Vec<_>>().into(),
        Json::Object(o) => o.iter().map(|(k, v)| (k.as_str().into(), from_json(v))).collect::<Map>().into(),
    }
}

/// A plain script value as JSON.
///
/// # Errors
/// `Argument` for a model, dataset, tensor or function anywhere inside, naming the place: handles are arguments, not
/// options.
pub fn to_json(value: &Dynamic) -> Result<Json> {
    to_json_at(value, &mut Vec::new())
}

fn to_json_at(value: &Dynamic, path: &mut Vec<String>) -> Result<Json> {
    if value.is_unit() {
        return Ok(Json::Null);
    }
    if let Ok(b) = value.as_bool() {
        return Ok(Json::Bool(b));
    }
    if let Ok(i) = value.as_int() {
        return Ok(i.into());
    }
    if let Ok(x) = value.as_float() {
        // JSON has no NaN; the text fails to decode as a number and shows in the error.
        return Ok(serde_json::Number::from_f64(x).map_or_else(|| Json::String(x.to_string()), Json::Number));
    }
    if let Ok(s) = value.as_immutable_string_ref() {
        return Ok(Json::String(s.to_string()));
    }
    if let Ok(c) = value.as_char() {
        return Ok(Json::String(c.to_string()));
    }
    if let Ok(items) = value.as_array_ref() {
        let mut out = Vec::with_capacity(items.len());
        for (i, item) in items.iter().enumerate() {
            path.push(i.to_string());
            out.push(to_json_at(item, path)?);
            path.pop();
        }
        return Ok(Json::Array(out));
    }
    if let Ok(map) = value.as_map_ref() {
        let mut out = serde_json::Map::new();
        for (k, v) in map.iter() {
            path.push(k.to_string());
            out.insert(k.to_string(), to_json_at(v, path)?);
            path.pop();
        }
        return Ok(Json::Object(out));
    }
    if let Some(report) = value.read_lock::<Report>() {
        return Ok(report.data().clone());
    }
    let place = if path.is_empty() { "this value".to_string() } else { format!("'{}'", path.join(".")) };
    let kind = kind_of(value);
    Err(Error::argument(format!("{place} is a {kind}; only numbers, texts, lists and maps can stand here"))
        .hint(format!("pass a {kind} as an argument of its own, not inside a map")))
}

/// A number, from either kind.
pub fn to_f64(value: &Dynamic) -> Option<FLOAT> {
    value.as_float().ok().or_else(|| value.as_int().ok().map(|i| i as FLOAT))
}

/// Any count as a script number.
pub fn int(n: impl TryInto<INT>) -> Dynamic {
    n.try_into().unwrap_or(INT::MAX).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn json_goes_through_unchanged() {
        let v = json!({ "a": [1, 2.5, "x", null, true], "b": { "c": -3 } });
        assert_eq!(to_json(&from_json(&v)).unwrap(), v);
        assert!(from_json(&json!(3)).is_int() && from_json(&json!(3.5)).is_float());
    }

    #[test]
    fn handles_inside_maps_are_refused_by_name() {
        let mut inner = Map::new();
        inner.insert("teacher".into(), Dynamic::from(Value::ints(&[1], &candle_core::Device::Cpu).unwrap()));
        let mut map = Map::new();
        map.insert("kd".into(), inner.into());
        let e = to_json(&map.into()).unwrap_err();
        assert!(e.to_string().starts_with("'kd.teacher' is a tensor; only"), "{e}");
    }
}
