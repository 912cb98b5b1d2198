//! From scores of slices to scores of channels.

compresso_base::choice! {
    /// What becomes of the scores that the slices of one group give a channel.
    pub enum Reduction {
        /// Their mean.
        Mean = "mean",
        /// Their sum.
        Sum = "sum",
        /// The largest of them.
        Max = "max",
        /// The score of the first slice: of the first layer of the group.
        First = "first",
    }
}

compresso_base::choice! {
    /// What makes scores of different layers comparable: how each slice's scores are changed before they are reduced.
    pub enum Normalization {
        /// Nothing.
        None = "none",
        /// Divided by their mean.
        Mean = "mean",
        /// Divided by the largest.
        Max = "max",
        /// Less their mean, divided by their standard deviation.
        Gaussian = "gaussian",
        /// The square over the sum of all squares that are not smaller, by Lee et al., "Layer-adaptive sparsity for the
        /// magnitude-based pruning" (2021).
        Lamp = "lamp",
    }
}

/// A shift and a scale: what is left to do of a normalization, which commutes with means over indices.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Unit {
    shift: f64,
    scale: f64,
}

impl Unit {
    /// 0 where the scores have no scale: all are alike.
    pub fn of(self, score: f64) -> f64 {
        if self.scale > 0.0 { (score - self.shift) / self.scale } else { 0.0 }
    }
}

impl Normalization {
    /// Changes the scores of a slice where that cannot wait, and gives what is left to do.
    pub(super) fn apply(self, scores: &mut [f64]) -> Unit {
        let n = scores.len().max(1) as f64;
        let mean = scores.iter().sum::<f64>() / n;
        let (shift, scale) = match self {
            Self::None => (0.0, 1.0),
            Self::Mean => (0.0, mean),
            Self::Max => (0.0, scores.iter().copied().fold(0.0, f64::max)),
            Self::Gaussian => (mean, (scores.iter().map(|s| (s - mean).powi(2)).sum::<f64>() / n).sqrt()),
            Self::Lamp => {
                lamp(scores);
                (0.0, 1.0)
            }
        };
        Unit { shift, scale }
    }
}

fn lamp(scores: &mut [f64]) {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]).then(b.cmp(&a)));
    let mut sum = 0.0;
    for i in order {
        let square = scores[i] * scores[i];
        sum += square;
        scores[i] = if sum > 0.0 { square / sum } else { 0.0 };
    }
}

/// The scores of one channel, one after the other.
#[derive(Debug, Clone, Copy)]
pub(super) struct Total {
    sum: f64,
    count: f64,
    max: f64,
    first: f64,
}

impl Total {
    pub fn new(score: f64) -> Self {
        Self { sum: score, count: 1.0, max: score, first: score }
    }
    pub fn add(&mut self, score: f64) {
        self.sum += score;
        self.count += 1.0;
        self.max = self.max.max(score);
    }
    pub fn reduced(&self, reduction: Reduction) -> f64 {
        match reduction {
            Reduction::Mean => self.sum / self.count,
            Reduction::Sum => self.sum,
            Reduction::Max => self.max,
            Reduction::First => self.first,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normalized(kind: Normalization, scores: &[f64]) -> Vec<f64> {
        let mut scores = scores.to_vec();
        let unit = kind.apply(&mut scores);
        scores.into_iter().map(|s| unit.of(s)).collect()
    }

    #[test]
    fn layers_of_any_size_of_weights_compare_once_normalized() {
        let scores = [1.0, 2.0, 3.0, 6.0];
        assert_eq!(normalized(Normalization::None, &scores), scores);
        assert_eq!(normalized(Normalization::Mean, &scores), [1.0 / 3.0, 2.0 / 3.0, 1.0, 2.0]);
        assert_eq!(normalized(Normalization::Max, &scores), [1.0 / 6.0, 2.0 / 6.0, 0.5, 1.0]);
        // Mean 3, variance (4 + 1 + 0 + 9) / 4.
        let deviation = 3.5f64.sqrt();
        assert_eq!(normalized(Normalization::Gaussian, &scores), [-2.0, -1.0, 0.0, 3.0].map(|s| s / deviation));
        assert_eq!(normalized(Normalization::Lamp, &scores), [1.0 / 50.0, 4.0 / 49.0, 9.0 / 45.0, 1.0]);
    }

    #[test]
    fn layers_of_equal_or_no_weights_give_numbers() {
        for kind in [Normalization::Mean, Normalization::Max, Normalization::Gaussian, Normalization::Lamp] {
            assert_eq!(normalized(kind, &[0.0, 0.0]), [0.0, 0.0], "{kind}");
            assert_eq!(normalized(kind, &[]), [0.0; 0], "{kind}");
        }
        assert_eq!(normalized(Normalization::Gaussian, &[2.0, 2.0]), [0.0, 0.0]);
        // Of equal weights, the later counts as larger.
        assert_eq!(normalized(Normalization::Lamp, &[2.0, 2.0]), [0.5, 1.0]);
    }

    #[test]
    fn reductions() {
        let mut total = Total::new(2.0);
        total.add(5.0);
        total.add(-1.0);
        let of = |r| total.reduced(r);
        assert_eq!([of(Reduction::Mean), of(Reduction::Sum), of(Reduction::Max), of(Reduction::First)], [2.0, 6.0, 5.0, 2.0]);
    }
}
