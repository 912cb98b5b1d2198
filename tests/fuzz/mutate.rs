//! Cases from seeds: a case follows from the name of its target and its number.

use compresso_test_support::Draw;

/// Numbers where sizes go wrong.
const EXTREMES: [u64; 10] = [0, 1, 255, 1 << 15, 1 << 31, (1 << 31) - 1, u32::MAX as u64, 1 << 62, i64::MAX as u64, u64::MAX];
/// Longest case, in bytes.
const LONGEST: usize = 1 << 16;

/// Case number `index`: the seeds as they are first, then changed ones.
pub fn case(name: &str, seeds: &[Vec<u8>], index: u64) -> Vec<u8> {
    if let Some(seed) = usize::try_from(index).ok().and_then(|i| seeds.get(i)) {
        return seed.clone();
    }
    let mut draw = Draw(name.bytes().fold(index, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)));
    draw.bits();
    let mut bytes = match seeds.len() {
        // What is made from bytes starts from any bytes.
        0 => (0..64 + below(&mut draw, 600)).map(|_| (draw.bits() >> 40) as u8).collect(),
        n => seeds[below(&mut draw, n)].clone(),
    };
    // A single change often gets further than many.
    for _ in 0..[1, 1, 1, 2, 3, 5][below(&mut draw, 6)] {
        let other = if seeds.is_empty() { Vec::new() } else { seeds[below(&mut draw, seeds.len())].clone() };
        change(&mut bytes, &other, &mut draw);
    }
    bytes.truncate(LONGEST);
    bytes
}

fn below(draw: &mut Draw, n: usize) -> usize {
    ((draw.bits() >> 33) as usize) % n.max(1)
}

/// One change: bits, bytes, numbers, cuts, repetitions, pieces of another seed.
fn change(bytes: &mut Vec<u8>, other: &[u8], draw: &mut Draw) {
    if bytes.is_empty() {
        bytes.push(draw.bits() as u8);
        return;
    }
    let at = below(draw, bytes.len());
    let end = at + below(draw, (bytes.len() - at).min(64)) + 1;
    let extreme = EXTREMES[below(draw, EXTREMES.len())];
    match below(draw, 11) {
        0 => bytes[at] ^= 1 << below(draw, 8),
        1 => bytes[at] = (draw.bits() >> 40) as u8,
        2 => bytes.truncate(at),
        3 => drop(bytes.drain(at..end)),
        4 => {
            let piece = bytes[at..end].to_vec();
            let times = 1 << below(draw, 8);
            bytes.splice(at..at, piece.repeat(times));
        }
        5 if !other.is_empty() => {
            let from = below(draw, other.len());
            let to = from + below(draw, other.len() - from) + 1;
            bytes.splice(at..end, other[from..to].iter().copied());
        }
        6 => write(bytes, at, &extreme.to_le_bytes()[..8.min(1 << below(draw, 4))]),
        7 => write(bytes, at, &extreme.to_be_bytes()),
        8 => drop(bytes.splice(at..=at, varint(extreme))),
        9 => number(bytes, at, extreme),
        _ => {
            let with = bytes[below(draw, bytes.len())];
            bytes[at] = with;
        }
    }
}

fn write(bytes: &mut [u8], at: usize, with: &[u8]) {
    for (to, from) in bytes[at..].iter_mut().zip(with) {
        *to = *from;
    }
}

/// A number as protobuf has it.
fn varint(mut n: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
    out
}

/// The next number in digits becomes another.
fn number(bytes: &mut Vec<u8>, at: usize, n: u64) {
    let Some(from) = bytes[at..].iter().position(u8::is_ascii_digit).map(|i| at + i) else { return };
    let to = bytes[from..].iter().position(|b| !b.is_ascii_digit()).map_or(bytes.len(), |i| from + i);
    let text = match n % 5 {
        0 => format!("-{n}"),
        1 => format!("{n}.5"),
        2 => "1e308".to_string(),
        3 => "nan".to_string(),
        _ => n.to_string(),
    };
    bytes.splice(from..to, text.bytes());
}
