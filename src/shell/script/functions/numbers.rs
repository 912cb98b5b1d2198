//! Numbers: exact division, whole numbers where the language's own functions want others, numbers as text.

use super::signature;
use crate::error::{Error, Result};
use crate::operation::{Arg, ArgKind};
use crate::shell::script::call::{Binding, Call};
use crate::shell::script::raised::raise;
use crate::shell::script::value::to_f64;
use crate::shell::script::words::describe;
use rhai::{Dynamic, Engine, EvalAltResult, FLOAT, INT, NativeCallContext, Position};
use std::any::TypeId;

type Raised<T> = std::result::Result<T, Box<EvalAltResult>>;

pub(super) const TABLE: &[Binding] = &[
    Binding {
        signature: signature(
            ("numbers", "div"),
            "The whole quotient of two whole numbers, rounded down; '/' is exact",
            &[Arg::new("a", ArgKind::Int), Arg::new("b", ArgKind::Int)],
            "whole number",
            &["div(7, 2)", "[7 / 2, 6 / 2, div(7, 2)]"],
            &["divide", "quotient", "floor", "integer"],
        ),
        call: |c| match (c.int(0)?, c.int(1)?) {
            (a, 0) => Err(by_zero(a)),
            (a, b) => a.checked_div_euclid(b).map(|q| floored(a, b, q).into()).ok_or_else(|| too_large(a, b)),
        },
    },
    Binding {
        signature: signature(
            ("numbers", "int"),
            "A whole number from a number, cut off after the point, or from text",
            &[Arg::new("x", ArgKind::OneOf(&[ArgKind::Number, ArgKind::Text]))],
            "whole number",
            &["int(3.7)", "int(\"12\")"],
            &["whole", "integer", "parse", "truncate"],
        ),
        call: int,
    },
    Binding {
        signature: signature(
            ("numbers", "float"),
            "A number from a whole number or from text",
            &[Arg::new("x", ArgKind::OneOf(&[ArgKind::Number, ArgKind::Text]))],
            "number",
            &["float(3)", "float(\"1e-3\")"],
            &["parse", "decimal"],
        ),
        call: |c| match c.number(0) {
            Ok(x) => Ok(x.into()),
            Err(_) => c.text(0)?.trim().parse::<FLOAT>().map(Into::into).map_err(|_| no_number(c.arg(0))),
        },
    },
    Binding {
        signature: signature(
            ("numbers", "round_to"),
            "A number rounded to so many digits after the point",
            &[Arg::new("x", ArgKind::Number), Arg::new("digits", ArgKind::Int)],
            "number",
            &["round_to(2.0 / 3, 2)"],
            &["round", "digits"],
        ),
        call: |c| {
            let digits = i32::try_from(c.int(1)?.clamp(-300, 300)).unwrap_or(0);
            Ok(crate::report::round_to(c.number(0)?, digits).into())
        },
    },
    Binding {
        signature: signature(
            ("numbers", "fmt"),
            "A value as text in Python's way of formats: \".3f\", \"8.2f\", \".2e\", \".1%\", \",\", \"05d\", \"<12\", \"+.2f\"",
            &[Arg::new("x", ArgKind::OneOf(&[ArgKind::Number, ArgKind::Text])), Arg::new("format", ArgKind::Text)],
            "text",
            &["fmt(0.81234, \".3f\")", "`mAP50 ${fmt(0.81234, \".1%\")}`", "fmt(3157200, \",\")"],
            &["format", "digits", "decimals", "printf", "text"],
        ),
        call: |c| formatted(c.arg(0), &c.text(1)?).map(Into::into),
    },
];

fn by_zero(a: INT) -> Error {
    Error::argument(format!("division by zero: {a} / 0"))
}

fn too_large(a: INT, b: INT) -> Error {
    Error::argument(format!("{a} / {b} is larger than any whole number"))
}

/// The quotient rounded down, of the one whose remainder is not negative.
fn floored(a: INT, b: INT, euclid: INT) -> INT {
    if b < 0 && a.rem_euclid(b) != 0 { euclid - 1 } else { euclid }
}

fn no_number(x: &Dynamic) -> Error {
    Error::argument(format!("{} is no number", describe(x)))
}

fn int(c: &Call<'_>) -> Result<Dynamic> {
    if let Ok(n) = c.arg(0).as_int() {
        return Ok(n.into());
    }
    let x = match to_f64(c.arg(0)) {
        Some(x) => x,
        None => {
            let text = c.text(0)?;
            if let Ok(n) = text.trim().parse::<INT>() {
                return Ok(n.into());
            }
            text.trim().parse::<FLOAT>().map_err(|_| no_number(c.arg(0)))?
        }
    };
    // Numbers of this size and above are whole, and need not be exact as INT.
    if x.trunc().abs() < 9e18 { Ok((x.trunc() as INT).into()) } else { Err(Error::argument(format!("{x} is no whole number"))) }
}

/// A whole number where the division has no remainder, else a number.
fn quotient(a: INT, b: INT) -> Result<Dynamic> {
    match b {
        0 => Err(by_zero(a)),
        _ if a.checked_rem(b).ok_or_else(|| too_large(a, b))? == 0 => Ok((a / b).into()),
        _ => Ok((a as FLOAT / b as FLOAT).into()),
    }
}

/// `/` of whole numbers, ranges from 0, and functions of numbers on whole ones.
pub(in crate::shell::script) fn register_numbers(engine: &mut Engine) {
    // Without this the engine divides whole numbers itself.
    engine.set_fast_operators(false);
    let whole = [TypeId::of::<INT>(), TypeId::of::<INT>()];
    let operands = |args: &[&mut Dynamic]| (args[0].as_int().unwrap_or(0), args[1].as_int().unwrap_or(0));
    engine.register_raw_fn("/", whole, move |_: NativeCallContext<'_>, args: &mut [&mut Dynamic]| -> Raised<Dynamic> {
        let (a, b) = operands(args);
        quotient(a, b).map_err(|e| raise(e, Position::NONE))
    });
    engine.register_raw_fn("/=", whole, move |_: NativeCallContext<'_>, args: &mut [&mut Dynamic]| -> Raised<()> {
        let (a, b) = operands(args);
        *args[0] = quotient(a, b).map_err(|e| raise(e, Position::NONE))?;
        Ok(())
    });
    engine.register_fn("range", |to: INT| 0..to);
    let functions: [(&str, fn(FLOAT) -> FLOAT); 11] = [
        ("sqrt", FLOAT::sqrt),
        ("exp", FLOAT::exp),
        ("ln", FLOAT::ln),
        ("log", FLOAT::log10),
        ("sin", FLOAT::sin),
        ("cos", FLOAT::cos),
        ("tan", FLOAT::tan),
        ("floor", FLOAT::floor),
        ("ceiling", FLOAT::ceil),
        ("round", FLOAT::round),
        ("to_float", |x| x),
    ];
    for (name, f) in functions {
        engine.register_fn(name, move |x: INT| f(x as FLOAT));
    }
}

/// `[fill][<>^=][+][0][width][,][.digits][fegd%s]`, the common part of Python's formats.
fn formatted(value: &Dynamic, spec: &str) -> Result<String> {
    let wrong = || {
        let e = Error::argument(format!("\"{spec}\" is no format"));
        e.hint("formats are those of Python, such as \".3f\", \"8.2f\", \".2e\", \".1%\", \",\", \"05d\", \"<12\"")
    };
    let chars: Vec<char> = spec.chars().collect();
    let is_align = |c: Option<&char>| c.is_some_and(|c| matches!(c, '<' | '>' | '^'));
    let (mut fill, mut align, mut at) = (' ', None, 0);
    if is_align(chars.get(1)) {
        (fill, align, at) = (chars[0], Some(chars[1]), 2);
    } else if is_align(chars.first()) {
        (align, at) = (Some(chars[0]), 1);
    }
    let mut take = |wanted: char| {
        let there = chars.get(at) == Some(&wanted);
        at += usize::from(there);
        there
    };
    let plus = take('+');
    let zeros = take('0');
    let digits = |at: &mut usize| {
        let text: String = chars[*at..].iter().take_while(|c| c.is_ascii_digit()).collect();
        *at += text.len();
        text.parse::<usize>().ok().filter(|n| *n <= 1000)
    };
    let mut place = at;
    let width = digits(&mut place).unwrap_or(0);
    let grouped = chars.get(place) == Some(&',');
    place += usize::from(grouped);
    let mut precision = None;
    if chars.get(place) == Some(&'.') {
        place += 1;
        precision = Some(digits(&mut place).ok_or_else(wrong)?);
    }
    let kind = chars.get(place).copied();
    if place + usize::from(kind.is_some()) != chars.len() {
        return Err(wrong());
    }
    let (body, negative) = match (to_f64(value), kind) {
        (_, Some('s')) | (None, None) => {
            let text = value.to_string();
            (precision.map_or(text.clone(), |n| text.chars().take(n).collect()), None)
        }
        (Some(x), kind) => {
            let size = x.abs();
            let body = match kind {
                Some('f') => format!("{size:.*}", precision.unwrap_or(6)),
                Some('%') => format!("{:.*}%", precision.unwrap_or(6), size * 100.0),
                Some('e') => exponential(size, precision.unwrap_or(6)),
                Some('d') if value.is_int() && precision.is_none() => value.to_string().trim_start_matches('-').to_string(),
                Some('d') => return Err(wrong().hint(format!("'d' is for whole numbers; int(x) makes one of {}", describe(value)))),
                Some('g') => general(size, precision.unwrap_or(6)),
                None if precision.is_some() => general(size, precision.unwrap_or(6)),
                None => value.to_string().trim_start_matches('-').to_string(),
                Some(_) => return Err(wrong()),
            };
            (body, Some(x.is_sign_negative() && !x.is_nan()))
        }
        (None, Some(_)) => return Err(no_number(value).hint(format!("\"{spec}\" is a format of numbers"))),
    };
    let body = if grouped { thousands(&body) } else { body };
    let sign = match negative {
        Some(true) => "-",
        Some(false) if plus => "+",
        _ => "",
    };
    let missing = width.saturating_sub(sign.chars().count() + body.chars().count());
    let pad = |n: usize| fill.to_string().repeat(n);
    Ok(match align.unwrap_or(if negative.is_some() { '>' } else { '<' }) {
        _ if zeros && align.is_none() => format!("{sign}{}{body}", "0".repeat(missing)),
        '<' => format!("{sign}{body}{}", pad(missing)),
        '^' => format!("{}{sign}{body}{}", pad(missing / 2), pad(missing - missing / 2)),
        _ => format!("{}{sign}{body}", pad(missing)),
    })
}

/// `1.50e-03`
fn exponential(x: FLOAT, digits: usize) -> String {
    let text = format!("{x:.digits$e}");
    match text.split_once('e') {
        Some((number, power)) => {
            let (sign, power) = power.strip_prefix('-').map_or(('+', power), |p| ('-', p));
            format!("{number}e{sign}{power:0>2}")
        }
        None => text,
    }
}

/// So many significant digits, without zeros at the end; very large and very small numbers with an exponent.
fn general(x: FLOAT, digits: usize) -> String {
    let digits = digits.max(1);
    let trimmed =
        |text: &str| if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_string() } else { text.to_string() };
    let scientific = exponential(x, digits - 1);
    let Some((number, power)) = scientific.split_once('e') else { return scientific };
    match power.parse::<i64>() {
        Ok(p) if p < -4 || p >= digits as i64 => format!("{}e{power}", trimmed(number)),
        Ok(p) => trimmed(&format!("{x:.*}", usize::try_from(digits as i64 - 1 - p).unwrap_or(0))),
        Err(_) => scientific,
    }
}

fn thousands(number: &str) -> String {
    let end = number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len());
    let (whole, rest) = number.split_at(end);
    let mut out = String::new();
    for (i, c) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_those_of_python() {
        // What Python's format() gives.
        for (x, spec, text) in [
            (Dynamic::from(0.81234), ".3f", "0.812"),
            (Dynamic::from(-0.5), "8.2f", "   -0.50"),
            (Dynamic::from(0.00123), ".2e", "1.23e-03"),
            (Dynamic::from(0.345), ".1%", "34.5%"),
            (Dynamic::from(3_157_200_i64), ",", "3,157,200"),
            (Dynamic::from(1234.5), ",.2f", "1,234.50"),
            (Dynamic::from(7_i64), "05d", "00007"),
            (Dynamic::from(-7_i64), "05d", "-0007"),
            (Dynamic::from(0.25), "+.2f", "+0.25"),
            (Dynamic::from("ab"), "<5", "ab   "),
            (Dynamic::from("ab"), "*^6", "**ab**"),
            (Dynamic::from("ab"), ">4", "  ab"),
            (Dynamic::from(1e-7), ".3g", "1e-07"),
            (Dynamic::from(123_456.0), ".3g", "1.23e+05"),
            (Dynamic::from(0.5), ".3g", "0.5"),
            (Dynamic::from(3_i64), ".1f", "3.0"),
        ] {
            assert_eq!(formatted(&x, spec).unwrap(), text, "{spec}");
        }
        for (x, spec) in [(Dynamic::from(1.5), "d"), (Dynamic::from("a"), ".2f"), (Dynamic::from(1.5), ".2q"), (Dynamic::from(1.5), ".f")] {
            assert!(formatted(&x, spec).is_err(), "{spec}");
        }
    }

    #[test]
    fn whole_quotients_round_down() {
        for (a, b, q) in [(7, 2, 3), (-7, 2, -4), (7, -2, -4), (-7, -2, 3), (6, -2, -3), (0, 5, 0)] {
            assert_eq!(floored(a, b, a.div_euclid(b)), q, "{a} / {b}");
        }
        assert!(quotient(INT::MIN, -1).is_err() && quotient(1, 0).is_err());
        assert_eq!(quotient(6, 3).unwrap().as_int(), Ok(2));
        assert_eq!(quotient(7, 2).unwrap().as_float(), Ok(3.5));
    }
}
