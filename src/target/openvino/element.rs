//! Names of element types in the IR.

use compresso_base::error::{Error, Result};
use compresso_model::Element;

/// Element types that the IR and the CPU plugin have: ours, as attributes name them, as ports do.
const NAMES: &[(Element, &str, &str)] = &[
    (Element::F32, "f32", "FP32"),
    (Element::F16, "f16", "FP16"),
    (Element::BF16, "bf16", "BF16"),
    (Element::F64, "f64", "FP64"),
    (Element::I8, "i8", "I8"),
    (Element::U8, "u8", "U8"),
    (Element::I16, "i16", "I16"),
    (Element::U16, "u16", "U16"),
    (Element::I32, "i32", "I32"),
    (Element::U32, "u32", "U32"),
    (Element::I64, "i64", "I64"),
    (Element::U64, "u64", "U64"),
    (Element::Bool, "boolean", "BOOL"),
];

fn find(element: Element) -> Result<&'static (Element, &'static str, &'static str)> {
    NAMES.iter().find(|(e, ..)| *e == element).ok_or_else(|| Error::unsupported(format!("OpenVINO's writer has no {element} tensors")))
}

/// As attributes name it: `f32`.
///
/// # Errors
/// `Unsupported` for one that the IR lacks.
pub(super) fn attribute(element: Element) -> Result<&'static str> {
    find(element).map(|n| n.1)
}

/// As ports name it: `FP32`.
///
/// # Errors
/// As [`attribute`].
pub(super) fn precision(element: Element) -> Result<&'static str> {
    find(element).map(|n| n.2)
}
