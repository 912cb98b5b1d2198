//! Numbers as people read them.

/// Three significant digits with a unit prefix: `512`, `3.16 K`, `8.74 G`.
///
/// ```
/// assert_eq!(compresso_base::report::count(3_157_200), "3.16 M");
/// assert_eq!(compresso_base::report::count(512), "512");
/// ```
pub fn count(n: u64) -> String {
    scaled(n as f64, 1000.0, &["", " K", " M", " G", " T", " P", " E"])
}

/// So many of something.
///
/// ```
/// use compresso_base::report::counted;
/// assert_eq!([counted(1, "thread"), counted(2, "thread"), counted(0, "class")], ["1 thread", "2 threads", "0 classes"]);
/// ```
pub fn counted(n: usize, what: &str) -> String {
    match n {
        1 => format!("1 {what}"),
        _ if what.ends_with('s') => format!("{n} {what}es"),
        _ => format!("{n} {what}s"),
    }
}

/// Bytes in powers of 1000: `512 B`, `12.3 MB`.
pub fn bytes(n: u64) -> String {
    scaled(n as f64, 1000.0, &[" B", " kB", " MB", " GB", " TB", " PB", " EB"])
}

/// Milliseconds, or seconds and minutes when long: `0.123 ms`, `44.5 ms`, `1.23 s`, `2 min 05 s`.
pub fn millis(ms: f64) -> String {
    if !ms.is_finite() {
        return number(ms);
    }
    if ms.abs() >= 60_000.0 {
        let seconds = (ms / 1000.0).round();
        return format!("{} min {:02} s", (seconds / 60.0).trunc(), (seconds % 60.0).abs());
    }
    if ms.abs() >= 1000.0 { format!("{} s", significant(ms / 1000.0, 3)) } else { format!("{} ms", significant(ms, 3)) }
}

/// A number with up to four significant digits, without trailing zeros: `0.8238`, `1235`, `1.2e-7`.
pub fn number(x: f64) -> String {
    if !x.is_finite() {
        return x.to_string();
    }
    if x != 0.0 && (x.abs() < 1e-4 || x.abs() >= 1e15) {
        let text = format!("{x:.3e}");
        let (digits, power) = text.split_once('e').unwrap_or((&text, "0"));
        return format!("{}e{power}", trim_zeros(digits));
    }
    trim_zeros(&significant(x, 4)).to_string()
}

/// A share as per cent: `percent(0.345)` is `34.5 %`.
pub fn percent(x: f64) -> String {
    format!("{:.1} %", x * 100.0)
}

/// `x` with `digits` significant digits, without exponent; digits before the point are never dropped.
fn significant(x: f64, digits: usize) -> String {
    let magnitude = if x == 0.0 { 0 } else { x.abs().log10().floor() as i32 };
    let decimals = |m: i32| usize::try_from(digits as i32 - 1 - m).unwrap_or(0);
    let text = format!("{x:.*}", decimals(magnitude));
    // Rounding up may have added a digit: 9.996 → 10.00.
    let rounded = text.parse::<f64>().map_or(0.0, f64::abs);
    if rounded > 0.0 && rounded.log10().floor() as i32 > magnitude { format!("{x:.*}", decimals(magnitude + 1)) } else { text }
}

/// A number rounded to so many digits after the point; one that rounding would make infinite stays.
pub fn round_to(x: f64, digits: i32) -> f64 {
    let unit = 10f64.powi(digits.clamp(-300, 300));
    let rounded = (x * unit).round() / unit;
    if rounded.is_finite() { rounded } else { x }
}

fn trim_zeros(text: &str) -> &str {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text }
}

fn scaled(mut x: f64, base: f64, units: &[&str]) -> String {
    let mut unit = 0;
    // 999.5 would read "1000": it belongs to the next unit.
    while x >= base - 0.5 && unit + 1 < units.len() {
        x /= base;
        unit += 1;
    }
    let text = if unit == 0 { format!("{x}") } else { significant(x, 3) };
    format!("{text}{}", units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well_at_every_size() {
        let counts = [(0, "0"), (999, "999"), (1000, "1.00 K"), (999_949, "1.00 M"), (3_157_200, "3.16 M"), (8_740_000_000, "8.74 G")];
        for (n, text) in counts {
            assert_eq!(count(n), text);
        }
        assert_eq!(bytes(12_345_678), "12.3 MB");
        let numbers =
            [(0.0, "0"), (0.82376, "0.8238"), (1234.6, "1235"), (1.0, "1"), (0.000_000_12, "1.2e-7"), (9.99996, "10"), (-0.5, "-0.5")];
        for (x, text) in numbers {
            assert_eq!(number(x), text, "{x}");
        }
        for (ms, text) in [(0.1234, "0.123 ms"), (44.53, "44.5 ms"), (1234.0, "1.23 s"), (125_000.0, "2 min 05 s"), (9.996, "10.0 ms")] {
            assert_eq!(millis(ms), text);
        }
        assert_eq!(percent(0.3449), "34.5 %");
        assert_eq!(number(f64::NAN), "NaN");
    }
}
