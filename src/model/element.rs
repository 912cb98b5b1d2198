//! Element types of ONNX and how candle stores them.

use candle_core::DType;
use std::fmt;

/// An ONNX element type (`TensorProto.DataType`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Element {
    /// float32.
    F32,
    /// uint8.
    U8,
    /// int8.
    I8,
    /// uint16.
    U16,
    /// int16.
    I16,
    /// int32.
    I32,
    /// int64.
    I64,
    /// Texts of any length.
    Str,
    /// True or false, a byte each.
    Bool,
    /// float16: IEEE 754 binary16.
    F16,
    /// float64.
    F64,
    /// uint32.
    U32,
    /// uint64.
    U64,
    /// Complex numbers: pairs of float32.
    Complex64,
    /// Complex numbers: pairs of float64.
    Complex128,
    /// bfloat16: the upper half of a float32.
    BF16,
    /// 4 bits of exponent, 3 of mantissa, without infinities (Micikevicius et al. 2022, "FP8 Formats for Deep Learning").
    F8E4M3FN,
    /// 4 bits of exponent, 3 of mantissa, without infinities and a negative zero (Noune et al. 2022, "8-bit Numerical Formats").
    F8E4M3FNUZ,
    /// 5 bits of exponent, 2 of mantissa, with infinities.
    F8E5M2,
    /// 5 bits of exponent, 2 of mantissa, without infinities and a negative zero.
    F8E5M2FNUZ,
    /// uint4, two in a byte.
    U4,
    /// int4, two in a byte.
    I4,
    /// 2 bits of exponent, 1 of mantissa, two in a byte (OCP Microscaling Formats).
    F4E2M1,
    /// Powers of two, 8 bits of exponent: the scales of OCP Microscaling Formats.
    F8E8M0,
    /// uint2, four in a byte.
    U2,
    /// int2, four in a byte.
    I2,
    /// 2 bits of exponent, 3 of mantissa (OCP Microscaling Formats).
    F6E2M3,
    /// 3 bits of exponent, 2 of mantissa (OCP Microscaling Formats).
    F6E3M2,
}

const CODES: [(Element, i32, &str); 28] = [
    (Element::F32, 1, "float32"),
    (Element::U8, 2, "uint8"),
    (Element::I8, 3, "int8"),
    (Element::U16, 4, "uint16"),
    (Element::I16, 5, "int16"),
    (Element::I32, 6, "int32"),
    (Element::I64, 7, "int64"),
    (Element::Str, 8, "string"),
    (Element::Bool, 9, "bool"),
    (Element::F16, 10, "float16"),
    (Element::F64, 11, "float64"),
    (Element::U32, 12, "uint32"),
    (Element::U64, 13, "uint64"),
    (Element::Complex64, 14, "complex64"),
    (Element::Complex128, 15, "complex128"),
    (Element::BF16, 16, "bfloat16"),
    (Element::F8E4M3FN, 17, "float8e4m3fn"),
    (Element::F8E4M3FNUZ, 18, "float8e4m3fnuz"),
    (Element::F8E5M2, 19, "float8e5m2"),
    (Element::F8E5M2FNUZ, 20, "float8e5m2fnuz"),
    (Element::U4, 21, "uint4"),
    (Element::I4, 22, "int4"),
    (Element::F4E2M1, 23, "float4e2m1"),
    (Element::F8E8M0, 24, "float8e8m0"),
    (Element::U2, 25, "uint2"),
    (Element::I2, 26, "int2"),
    (Element::F6E2M3, 27, "float6e2m3"),
    (Element::F6E3M2, 28, "float6e3m2"),
];

impl Element {
    /// The ONNX code, or `None` for a code this version does not know.
    pub fn from_code(code: i32) -> Option<Self> {
        CODES.iter().find(|(_, c, _)| *c == code).map(|(e, _, _)| *e)
    }
    /// The ONNX code (`TensorProto.DataType`).
    pub fn code(self) -> i32 {
        CODES.iter().find(|(e, _, _)| *e == self).map_or(0, |(_, c, _)| *c)
    }
    /// The name in messages and schemas, such as `float32`.
    pub fn name(self) -> &'static str {
        CODES.iter().find(|(e, _, _)| *e == self).map_or("?", |(_, _, n)| n)
    }
    /// The type of a name such as `float32`.
    pub fn from_name(name: &str) -> Option<Self> {
        CODES.iter().find(|(_, _, n)| *n == name).map(|(e, _, _)| *e)
    }
    /// Bits of one element in ONNX raw data; 0 for strings.
    pub fn bits(self) -> usize {
        match self {
            Self::Str => 0,
            Self::U2 | Self::I2 => 2,
            Self::U4 | Self::I4 | Self::F4E2M1 => 4,
            Self::F6E2M3 | Self::F6E3M2 => 6,
            Self::U8 | Self::I8 | Self::Bool | Self::F8E4M3FN | Self::F8E4M3FNUZ | Self::F8E5M2 | Self::F8E5M2FNUZ | Self::F8E8M0 => 8,
            Self::U16 | Self::I16 | Self::F16 | Self::BF16 => 16,
            Self::F32 | Self::I32 | Self::U32 => 32,
            Self::F64 | Self::I64 | Self::U64 | Self::Complex64 => 64,
            Self::Complex128 => 128,
        }
    }
    /// Bytes of `count` packed elements in ONNX raw data, or `None` on overflow.
    pub fn bytes(self, count: usize) -> Option<usize> {
        Some(count.checked_mul(self.bits())?.div_ceil(8))
    }
    /// True for the floats that can be computed with: float16, bfloat16, float32, float64.
    pub fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F16 | Self::F64 | Self::BF16)
    }
    /// True for integers of any width; bool is none.
    pub fn is_int(self) -> bool {
        matches!(
            self,
            Self::U8
                | Self::I8
                | Self::U16
                | Self::I16
                | Self::I32
                | Self::I64
                | Self::U32
                | Self::U64
                | Self::U4
                | Self::I4
                | Self::U2
                | Self::I2
        )
    }
    /// Smallest and largest value of an integer type of at most 32 bits.
    pub fn int_range(self) -> Option<(i64, i64)> {
        Some(match self {
            Self::U2 => (0, 3),
            Self::I2 => (-2, 1),
            Self::U4 => (0, 15),
            Self::I4 => (-8, 7),
            Self::U8 => (0, 255),
            Self::I8 => (-128, 127),
            Self::U16 => (0, 65535),
            Self::I16 => (-32768, 32767),
            Self::I32 => (i64::from(i32::MIN), i64::from(i32::MAX)),
            Self::U32 => (0, i64::from(u32::MAX)),
            _ => return None,
        })
    }
    /// The candle type that holds this element when a graph runs. Every value of the element fits exactly, except that
    /// uint64 above `i64::MAX` is refused on conversion. Types without one cannot be computed with.
    pub fn storage(self) -> Option<DType> {
        Some(match self {
            Self::F32 => DType::F32,
            Self::F64 => DType::F64,
            Self::F16 => DType::F16,
            Self::BF16 => DType::BF16,
            Self::U8 | Self::Bool | Self::U4 | Self::U2 => DType::U8,
            Self::I8 | Self::I16 | Self::I4 | Self::I2 => DType::I16,
            Self::I32 | Self::U16 => DType::I32,
            Self::U32 => DType::U32,
            Self::I64 | Self::U64 => DType::I64,
            _ => return None,
        })
    }
    /// The element that a plain candle tensor stands for.
    pub fn of(dtype: DType) -> Option<Self> {
        Some(match dtype {
            DType::F32 => Self::F32,
            DType::F64 => Self::F64,
            DType::F16 => Self::F16,
            DType::BF16 => Self::BF16,
            DType::U8 => Self::U8,
            DType::I16 => Self::I16,
            DType::I32 => Self::I32,
            DType::U32 => Self::U32,
            DType::I64 => Self::I64,
            _ => return None,
        })
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
