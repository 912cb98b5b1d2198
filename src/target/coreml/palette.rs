//! Palettes: few numbers that stand for all of a weight, chosen so that the squares of the differences are least (k-means on a line).

/// Rounds of k-means; what still moves after them moves little.
const ROUNDS: usize = 60;

/// At most `count` numbers, ascending, for these; `count` is at least 1. The same for the same numbers, on every machine. Numbers that have no
/// more different values are kept as they are; zeros stay zero where they are as many as a number of the palette stands for on average.
pub(super) fn palette(values: &[f32], count: usize) -> Vec<f32> {
    let mut sorted: Vec<f32> = values.iter().copied().filter(|v| v.is_finite()).collect();
    sorted.sort_unstable_by(f32::total_cmp);
    let mut distinct = sorted.clone();
    distinct.dedup();
    if distinct.len() <= count {
        return distinct;
    }
    // Sums of the first numbers and of their squares, so that those of any run are differences.
    let (mut sums, mut squares) = (vec![0.0], vec![0.0]);
    let (mut sum, mut square) = (0.0, 0.0);
    for v in &sorted {
        sum += f64::from(*v);
        square += f64::from(*v).powi(2);
        sums.push(sum);
        squares.push(square);
    }
    let mut centres = cut(&sorted, &sums, &squares, count);
    for _ in 0..ROUNDS {
        let moved = means(&sorted, &sums, &centres);
        if moved == centres {
            break;
        }
        centres = moved;
    }
    let mut palette: Vec<f32> = centres.iter().map(|c| *c as f32).collect();
    let zeros = sorted.partition_point(|v| *v <= 0.0) - sorted.partition_point(|v| *v < 0.0);
    if zeros * count >= sorted.len()
        && let Some(least) = palette.iter_mut().min_by(|a, b| a.abs().total_cmp(&b.abs()))
    {
        *least = 0.0;
    }
    palette.dedup();
    palette
}

/// A first palette: of runs of the sorted numbers, the one that its mean stands for worst is cut at its mean, again and again.
fn cut(sorted: &[f32], sums: &[f64], squares: &[f64], count: usize) -> Vec<f64> {
    let mean = |&(a, b): &(usize, usize)| (sums[b] - sums[a]) / (b - a) as f64;
    let error = |run: &(usize, usize)| squares[run.1] - squares[run.0] - mean(run).powi(2) * (run.1 - run.0) as f64;
    let mut runs = vec![(0, sorted.len())];
    while runs.len() < count {
        let worst = (0..runs.len()).max_by(|&i, &j| error(&runs[i]).total_cmp(&error(&runs[j])));
        let Some(worst) = worst.filter(|&i| runs[i].1 - runs[i].0 > 1) else { break };
        let (first, end) = runs[worst];
        let middle = mean(&runs[worst]);
        let at = (first + sorted[first..end].partition_point(|v| f64::from(*v) <= middle)).clamp(first + 1, end - 1);
        runs.splice(worst..=worst, [(first, at), (at, end)]);
    }
    runs.iter().map(mean).collect()
}

/// The mean of the numbers next to each centre; a centre without numbers stays.
fn means(sorted: &[f32], sums: &[f64], centres: &[f64]) -> Vec<f64> {
    let mut moved = Vec::with_capacity(centres.len());
    let mut first = 0;
    for (i, centre) in centres.iter().enumerate() {
        let end = match centres.get(i + 1) {
            Some(next) => sorted.partition_point(|v| f64::from(*v) <= f64::midpoint(*centre, *next)).max(first),
            None => sorted.len(),
        };
        moved.push(if end > first { (sums[end] - sums[first]) / (end - first) as f64 } else { *centre });
        first = end;
    }
    moved
}

/// The palette's number next to each value.
pub(super) fn indices(values: &[f32], palette: &[f32]) -> Vec<u8> {
    let borders: Vec<f64> = palette.windows(2).map(|w| f64::midpoint(f64::from(w[0]), f64::from(w[1]))).collect();
    let at = |v: &f32| borders.partition_point(|b| *b < f64::from(*v));
    values.iter().map(|v| u8::try_from(at(v)).unwrap_or(u8::MAX)).collect()
}

/// Numbers of `bits` bits in a row, the lowest bits of a byte first.
pub(super) fn packed(indices: &[u8], bits: u32) -> Vec<u8> {
    let mut bytes = vec![0u8; (indices.len() * bits as usize).div_ceil(8)];
    for (i, &index) in indices.iter().enumerate() {
        let at = i * bits as usize;
        let wide = u16::from(index) << (at % 8);
        bytes[at / 8] |= wide as u8;
        if let Some(next) = bytes.get_mut(at / 8 + 1) {
            *next |= (wide >> 8) as u8;
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(values: &[f32], palette: &[f32]) -> f64 {
        indices(values, palette).iter().zip(values).map(|(&i, v)| f64::from(palette[usize::from(i)] - v).powi(2)).sum()
    }

    /// The least sum of squares of all ways to cut the sorted numbers into runs.
    fn best(values: &[f32], count: usize) -> f64 {
        let mut sorted: Vec<f64> = values.iter().map(|v| f64::from(*v)).collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let n = sorted.len();
        let sums = |f: fn(f64) -> f64| {
            std::iter::once(0.0)
                .chain(sorted.iter().scan(0.0, move |sum, v| {
                    *sum += f(*v);
                    Some(*sum)
                }))
                .collect::<Vec<f64>>()
        };
        let (sum, square) = (sums(|v| v), sums(|v| v * v));
        let cost = |a: usize, b: usize| square[b] - square[a] - (sum[b] - sum[a]).powi(2) / (b - a) as f64;
        let mut least: Vec<f64> = (0..=n).map(|b| if b == 0 { 0.0 } else { cost(0, b) }).collect();
        for _ in 1..count {
            least = (0..=n).map(|b| (0..b).map(|a| least[a] + cost(a, b)).fold(least[b], f64::min)).collect();
        }
        least[n]
    }

    #[test]
    fn a_palette_is_near_the_best_there_is() {
        // Sums of sines are dense in the middle, as weights are.
        let values: Vec<f32> = (0..300u16).map(|i| (f32::from(i) * 0.7).sin() * (f32::from(i) * 0.31).sin().powi(3)).collect();
        for count in [2, 4, 16, 64] {
            let made = palette(&values, count);
            assert!(made.len() <= count && made.is_sorted());
            let (ours, least) = (error(&values, &made), best(&values, count));
            assert!(ours <= 1.25 * least, "{count}: {ours} against {least}");
        }
    }

    #[test]
    fn few_values_are_kept_and_zeros_stay_zero() {
        let few = [0.5f32, -1.0, 0.5, 2.0, 0.0];
        assert_eq!(palette(&few, 4), [-1.0, 0.0, 0.5, 2.0]);
        assert_eq!(error(&few, &palette(&few, 4)), 0.0);
        let pruned: Vec<f32> = (0..400u16).map(|i| if i % 2 == 0 { 0.0 } else { (f32::from(i) * 0.7).sin() }).collect();
        assert!(palette(&pruned, 16).contains(&0.0));
        assert_eq!(palette(&[], 4).len(), 0);
    }

    #[test]
    fn indices_are_packed_from_the_lowest_bit_on() {
        assert_eq!(packed(&[0, 3, 2, 1, 3], 2), [0b0110_1100, 0b11]);
        assert_eq!(packed(&[0b10_0001, 0b11_0010], 6), [0b1010_0001, 0b1100]);
        assert_eq!(packed(&[200, 7], 8), [200, 7]);
    }
}
