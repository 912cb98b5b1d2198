//! Texts of messages.

use super::proto::StringStringEntryProto;
use indexmap::IndexMap;

/// Text entries as a map; of entries with the same key, the last counts.
pub fn entries(list: &[StringStringEntryProto]) -> IndexMap<String, String> {
    list.iter().map(|e| (e.key.clone().unwrap_or_default(), e.value.clone().unwrap_or_default())).collect()
}

/// Writes a text field, leaving its presence alone where it already says the same.
pub fn set(field: &mut Option<String>, value: &str) {
    if field.as_deref().unwrap_or("") != value {
        *field = Some(value.to_string());
    }
}
