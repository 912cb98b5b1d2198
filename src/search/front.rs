//! Candidates that no other one beats.

/// What a candidate is judged by; more is better in each.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// How good it is.
    pub score: f64,
    /// How many times as fast as the model as given.
    pub speed: f64,
    /// How many times as small.
    pub small: f64,
}

impl Point {
    fn all(self) -> [f64; 3] {
        [self.score, self.speed, self.small]
    }
    /// At least as good in all, and better in one.
    pub fn beats(self, other: Self) -> bool {
        let pairs = || self.all().into_iter().zip(other.all());
        pairs().all(|(a, b)| a >= b) && pairs().any(|(a, b)| a > b)
    }
}

/// For each point whether no other beats it (the Pareto front).
pub fn front(points: &[Point]) -> Vec<bool> {
    points.iter().map(|p| !points.iter().any(|q| q.beats(*p))).collect()
}

/// The area of score against time saved that the points cover: the share of the unit square below and left of them, where `score` is taken as
/// a share of `best` and time saved as 1 − 1 / speed. 0 for the model as given alone.
pub fn hypervolume(points: &[Point], best: f64) -> f64 {
    let mut corners: Vec<(f64, f64)> = points.iter().map(|p| (1.0 - 1.0 / p.speed.max(1.0), (p.score / best).clamp(0.0, 1.0))).collect();
    // From the fastest to the slowest; each adds what is above those before it.
    corners.sort_by(|a, b| b.0.total_cmp(&a.0));
    let (mut area, mut height) = (0.0, 0.0);
    for (i, &(saved, score)) in corners.iter().enumerate() {
        height = f64::max(height, score);
        let next = corners.get(i + 1).map_or(0.0, |c| c.0);
        area += (saved - next) * height;
    }
    area
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(score: f64, speed: f64, small: f64) -> Point {
        Point { score, speed, small }
    }

    #[test]
    fn points_that_another_beats_are_off_the_front() {
        let points = [point(0.8, 1.0, 1.0), point(0.8, 2.0, 4.0), point(0.7, 4.0, 4.0), point(0.6, 4.0, 3.0), point(0.1, 1.0, 9.0)];
        assert_eq!(front(&points), [false, true, true, false, true]);
        // Two that are alike do not beat each other.
        assert_eq!(front(&[points[0]; 2]), [true, true]);
        assert!(front(&[]).is_empty());
    }

    #[test]
    fn the_hypervolume_is_the_area_of_the_steps() {
        assert_eq!(hypervolume(&[point(0.8, 1.0, 1.0)], 0.8), 0.0);
        let two = [point(0.8, 2.0, 1.0), point(0.4, 4.0, 1.0)];
        // Half of the square as high as the score, and a quarter half as high.
        assert!((hypervolume(&two, 0.8) - (0.5 + 0.25 * 0.5)).abs() < 1e-12);
        // A point inside the area adds nothing, in whichever order.
        let with = [two[1], point(0.3, 3.0, 1.0), two[0]];
        assert!((hypervolume(&with, 0.8) - hypervolume(&two, 0.8)).abs() < 1e-12);
    }
}
