//! What calibration keeps of the values it sees.

use super::affine::Range;

/// Smallest and largest value of one tensor, over all images, per channel (axis 1).
#[derive(Debug, Clone, Default)]
pub struct MinMax {
    channels: Vec<Range>,
    /// True once a value was NaN or infinite.
    broken: bool,
}

impl MinMax {
    /// Looks at a tensor in row-major order. Tensors of rank 0 and 1 count as one channel.
    pub fn see(&mut self, values: &[f32], dims: &[usize]) {
        let channels = if dims.len() >= 2 { dims[1] } else { 1 };
        if self.channels.len() != channels {
            // Another channel count on a later image: keep one range for all.
            let all = self.range();
            self.channels = vec![Range::EMPTY; if self.channels.is_empty() { channels } else { 1 }];
            self.channels[0] = self.channels[0].join(all);
        }
        let inner: usize = if dims.len() >= 2 { dims[2..].iter().product() } else { values.len() };
        if inner == 0 || values.is_empty() {
            return;
        }
        let count = self.channels.len();
        for (i, chunk) in values.chunks_exact(inner).enumerate() {
            let found = min_max(chunk);
            self.broken |= !found.min.is_finite() || !found.max.is_finite();
            let c = i % count;
            self.channels[c] = self.channels[c].join(found);
        }
    }
    /// The range over all channels; empty before anything was seen.
    pub fn range(&self) -> Range {
        self.channels.iter().fold(Range::EMPTY, |a, &b| a.join(b))
    }
    pub fn channels(&self) -> &[Range] {
        &self.channels
    }
    /// True once a value was NaN or infinite.
    pub fn is_broken(&self) -> bool {
        self.broken
    }
    /// Largest magnitude of a channel over that of the middle one: how badly one scale serves all channels.
    pub fn spread(&self) -> f32 {
        let mut sizes: Vec<f32> = self.channels.iter().map(|r| r.magnitude()).filter(|&m| m > 0.0).collect();
        sizes.sort_by(f32::total_cmp);
        match (sizes.last(), sizes.get(sizes.len() / 2)) {
            (Some(&top), Some(&middle)) => top / middle,
            _ => 1.0,
        }
    }
}

/// Eight running extremes side by side, which compilers turn into vector instructions. NaN shows as a NaN sum.
fn min_max(values: &[f32]) -> Range {
    let mut low = [f32::INFINITY; 8];
    let mut high = [f32::NEG_INFINITY; 8];
    let mut sum = [0f32; 8];
    let (chunks, rest) = values.as_chunks::<8>();
    for chunk in chunks {
        for i in 0..8 {
            low[i] = low[i].min(chunk[i]);
            high[i] = high[i].max(chunk[i]);
            sum[i] += chunk[i] * 0.0;
        }
    }
    for &v in rest {
        low[0] = low[0].min(v);
        high[0] = high[0].max(v);
        sum[0] += v * 0.0;
    }
    if sum.iter().any(|s| s.is_nan()) {
        return Range { min: f32::NEG_INFINITY, max: f32::INFINITY };
    }
    Range { min: low.into_iter().fold(f32::INFINITY, f32::min), max: high.into_iter().fold(f32::NEG_INFINITY, f32::max) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_are_told_apart_and_images_add_up() {
        let mut m = MinMax::default();
        // [1, 2, 3]: channel 0 is 1..3, channel 1 is -9..0.
        m.see(&[1.0, 2.0, 3.0, -9.0, 0.0, -1.0], &[1, 2, 3]);
        m.see(&[0.5, 2.0, 3.0, -1.0, 7.0, -1.0], &[1, 2, 3]);
        assert_eq!(m.channels(), [Range { min: 0.5, max: 3.0 }, Range { min: -9.0, max: 7.0 }]);
        assert_eq!(m.range(), Range { min: -9.0, max: 7.0 });
        assert!(!m.is_broken());
    }

    #[test]
    fn nan_is_noticed_wherever_it_stands() {
        for at in [0, 7, 8, 16] {
            let mut values = vec![1.0; 17];
            values[at] = f32::NAN;
            let mut m = MinMax::default();
            m.see(&values, &[17]);
            assert!(m.is_broken(), "position {at}");
        }
    }

    #[test]
    fn spread_compares_the_largest_channel_with_the_middle_one() {
        let mut m = MinMax::default();
        m.see(&[640.0, 1.0, 0.5, 1.0, 0.0], &[1, 5, 1]);
        assert_eq!(m.spread(), 640.0);
    }
}
