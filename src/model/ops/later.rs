//! Attributes that an operator got after its first version, and the value that says what held before it had them. From ONNX's
//! [changelog](https://github.com/onnx/onnx/blob/main/docs/Changelog.md).

use crate::graph::Attr;

/// The value of an attribute that changes nothing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Plain {
    /// This int.
    Int(i64),
    /// This string.
    Text(&'static str),
    /// A list of ones.
    Ones,
    /// Each value says something new.
    None,
}

/// Operators, the attribute, the operator set that it came with, and the value with which it may be left out.
type Row = (&'static [&'static str], &'static str, i64, Plain);

const RECURRENT: &[&str] = &["RNN", "GRU", "LSTM"];
const QUANTIZE: &[&str] = &["QuantizeLinear", "DequantizeLinear"];

const ROWS: &[Row] = &[
    (&["ArgMax", "ArgMin"], "select_last_index", 12, Plain::Int(0)),
    (&["Constant"], "value_float", 12, Plain::None),
    (&["Constant"], "value_floats", 12, Plain::None),
    (&["Constant"], "value_int", 12, Plain::None),
    (&["Constant"], "value_ints", 12, Plain::None),
    (&["Constant"], "value_string", 12, Plain::None),
    (&["Constant"], "value_strings", 12, Plain::None),
    (&["GatherND"], "batch_dims", 12, Plain::Int(0)),
    (QUANTIZE, "axis", 13, Plain::None),
    (&["ReduceSum"], "noop_with_empty_axes", 13, Plain::Int(0)),
    (&["BatchNormalization"], "training_mode", 14, Plain::Int(0)),
    (&["Reshape"], "allowzero", 14, Plain::Int(0)),
    (RECURRENT, "layout", 14, Plain::Int(0)),
    (&["Shape"], "start", 15, Plain::Int(0)),
    (&["Shape"], "end", 15, Plain::None),
    (&["ScatterElements", "ScatterND"], "reduction", 16, Plain::Text("none")),
    (&["RoiAlign"], "coordinate_transformation_mode", 16, Plain::Text("output_half_pixel")),
    (
        &[
            "ReduceL1",
            "ReduceL2",
            "ReduceLogSum",
            "ReduceLogSumExp",
            "ReduceMax",
            "ReduceMean",
            "ReduceMin",
            "ReduceProd",
            "ReduceSumSquare",
        ],
        "noop_with_empty_axes",
        18,
        Plain::Int(0),
    ),
    (&["Resize"], "antialias", 18, Plain::Int(0)),
    (&["Resize"], "axes", 18, Plain::None),
    (&["Resize"], "keep_aspect_ratio_policy", 18, Plain::Text("stretch")),
    (&["LpPool"], "ceil_mode", 18, Plain::Int(0)),
    (&["LpPool"], "dilations", 18, Plain::Ones),
    (&["AveragePool"], "dilations", 19, Plain::Ones),
    (&["Cast", "CastLike", "QuantizeLinear"], "saturate", 19, Plain::Int(1)),
    (QUANTIZE, "block_size", 21, Plain::Int(0)),
    (&["QuantizeLinear"], "output_dtype", 21, Plain::Int(0)),
    (&["QuantizeLinear"], "precision", 23, Plain::Int(0)),
    (&["DequantizeLinear"], "output_dtype", 23, Plain::Int(0)),
    (&["Cast", "CastLike"], "round_mode", 24, Plain::Text("up")),
];

/// The attributes of `op` that came after operator set `to`, the set with which each came, and the value that may be left out.
pub fn later(op: &str, to: i64) -> impl Iterator<Item = (&'static str, i64, Plain)> {
    ROWS.iter().filter(move |(ops, _, since, _)| *since > to && ops.contains(&op)).map(|&(_, name, since, plain)| (name, since, plain))
}

impl Plain {
    /// Whether an attribute has this value.
    pub fn is(self, value: &Attr) -> bool {
        match (self, value) {
            (Self::Int(plain), Attr::Int(v)) => *v == plain,
            (Self::Text(plain), Attr::Str(v)) => v.as_ref() == plain.as_bytes(),
            (Self::Ones, Attr::Ints(v)) => v.iter().all(|d| *d == 1),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::schema;

    #[test]
    fn every_attribute_is_one_that_its_operator_has() {
        for (ops, name, ..) in ROWS {
            for op in *ops {
                let known = schema::of("", op).unwrap_or_else(|| panic!("{op}"));
                assert!(known.attributes.iter().any(|a| a.name == *name), "{op} {name}");
            }
        }
    }
}
