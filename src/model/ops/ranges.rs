//! Which numbers an attribute may have. Specifications say it in words, so the table is ours; `schema.txt` says where the attributes stand. Shape rules
//! and forward computations may rely on it: sums and products of a few such numbers do not overflow.

use crate::graph::Attr;
use compresso_base::error::{Error, Result};

/// No axis is longer, and no window, step or pad.
const LONGEST: i64 = (1 << 31) - 1;
/// No tensor has more axes.
const AXES: i64 = 64;

/// Attributes, in all operators that have them, with the least and the largest number that each may be or hold.
const RANGES: &[(&str, i64, i64)] = &[
    ("axes", -AXES, AXES),
    ("axis", -AXES, AXES),
    ("batch_axis", -AXES, AXES),
    ("batch_dims", 0, AXES),
    ("block_size", 0, LONGEST),
    ("blocksize", 1, 1 << 15),
    ("chunk_size", 1, LONGEST),
    ("dilations", 1, LONGEST),
    ("group", 1, LONGEST),
    ("hidden_size", 1, LONGEST),
    ("k", -LONGEST, LONGEST),
    ("kernel_shape", 1, LONGEST),
    ("kv_num_heads", 1, LONGEST),
    ("num_groups", 1, LONGEST),
    ("num_heads", 0, LONGEST),
    ("num_outputs", 1, LONGEST),
    ("num_scan_inputs", 1, LONGEST),
    ("offset_group", 1, LONGEST),
    ("output_height", 1, LONGEST),
    ("output_padding", 0, LONGEST),
    ("output_shape", 0, LONGEST),
    ("output_width", 1, LONGEST),
    ("p", 1, LONGEST),
    ("pads", -LONGEST, LONGEST),
    ("paddings", -LONGEST, LONGEST),
    ("perm", 0, AXES),
    ("pooled_shape", 1, LONGEST),
    ("q_num_heads", 1, LONGEST),
    ("rotary_embedding_dim", 0, LONGEST),
    ("sample_size", 0, LONGEST),
    ("sampling_ratio", 0, 1 << 10),
    ("size", 1, LONGEST),
    ("split", 0, i64::MAX),
    ("stash_type", 0, AXES),
    ("strides", 1, LONGEST),
    ("time_axis", -AXES, AXES),
];

/// Checks the numbers of one attribute.
///
/// # Errors
/// `Format` for a number out of range.
pub fn check(name: &str, value: &Attr) -> Result<()> {
    let numbers = match value {
        Attr::Int(v) => std::slice::from_ref(v),
        Attr::Ints(v) => v.as_slice(),
        _ => return Ok(()),
    };
    let Some(&(_, least, most)) = RANGES.iter().find(|r| r.0 == name) else { return Ok(()) };
    match numbers.iter().find(|n| !(least..=most).contains(*n)) {
        Some(n) => Err(Error::format(format!("attribute '{name}' must be from {least} to {most}, got {n}"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::{registry, schema};
    use compresso_base::error::ErrorKind;

    #[test]
    fn the_table_names_attributes_that_hold_numbers() {
        let known: Vec<_> = registry::all().filter_map(|op| schema::of(op.domain, op.name)).flat_map(|s| &s.attributes).collect();
        for (name, least, most) in RANGES {
            assert!(known.iter().any(|a| a.name == *name && a.kinds.contains(['i', 'I'])), "no operator has '{name}'");
            assert!(least < most, "{name}");
        }
    }

    #[test]
    fn numbers_out_of_range_are_named() {
        check("kernel_shape", &Attr::Ints(vec![1, 3])).unwrap();
        check("group", &Attr::Int(1)).unwrap();
        check("value_int", &Attr::Int(i64::MIN)).unwrap();
        for (name, value) in [("kernel_shape", Attr::Ints(vec![3, 0])), ("strides", Attr::Ints(vec![1 << 62])), ("group", Attr::Int(0))] {
            let e = check(name, &value).unwrap_err();
            assert!(e.kind() == ErrorKind::Format && e.message().contains(name), "{e}");
        }
    }
}
