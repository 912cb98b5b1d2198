//! Finds free places for the labels of points.

/// A rectangle in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rect {
    pub left: i32,
    pub top: i32,
    pub right: i32,
    pub bottom: i32,
}

impl Rect {
    /// The square that reaches `radius` from a point.
    pub fn around(at: (i32, i32), radius: i32) -> Self {
        Self { left: at.0 - radius, top: at.1 - radius, right: at.0 + radius, bottom: at.1 + radius }
    }
    /// Small squares along a line, which a label must not cross.
    pub fn along(from: (i32, i32), to: (i32, i32), step: i32) -> impl Iterator<Item = Self> {
        let (dx, dy) = (to.0 - from.0, to.1 - from.1);
        let count = (dx.abs().max(dy.abs()) / step.max(1)).max(1);
        (0..=count).map(move |i| Self::around((from.0 + dx * i / count, from.1 + dy * i / count), (step / 2).max(1)))
    }
    fn overlap(&self, other: &Self) -> i64 {
        let w = self.right.min(other.right) - self.left.max(other.left);
        let h = self.bottom.min(other.bottom) - self.top.max(other.top);
        i64::from(w.max(0)) * i64::from(h.max(0))
    }
    fn inside(&self, outer: &Self) -> bool {
        self.left >= outer.left && self.right <= outer.right && self.top >= outer.top && self.bottom <= outer.bottom
    }
}

/// Where to put a label of `size` for the mark at `at`: the free place nearest to the mark, within `bounds`; where
/// none is free, the one that covers least.
pub(super) fn place_label(at: (i32, i32), size: (i32, i32), gap: i32, bounds: Rect, taken: &[Rect]) -> Rect {
    let (w, h) = size;
    let at_corner = |left: i32, top: i32| Rect { left, top, right: left + w, bottom: top + h };
    let mut best: Option<(i64, Rect)> = None;
    for ring in 0..6 {
        let d = gap + ring * (h / 2 + gap / 2);
        let (x, y) = at;
        let spots = [
            (x + d, y - h / 2),
            (x - d - w, y - h / 2),
            (x - w / 2, y - d - h),
            (x - w / 2, y + d),
            (x + gap, y - d - h / 2),
            (x + gap, y + d - h / 2),
            (x - gap - w, y - d - h / 2),
            (x - gap - w, y + d - h / 2),
        ];
        for (left, top) in spots {
            let spot = at_corner(left, top);
            if !spot.inside(&bounds) {
                continue;
            }
            let covered: i64 = taken.iter().map(|t| t.overlap(&spot)).sum();
            if covered == 0 {
                return spot;
            }
            if best.is_none_or(|(least, _)| covered < least) {
                best = Some((covered, spot));
            }
        }
    }
    best.map_or_else(|| at_corner(at.0 + gap, at.1 - h / 2), |(_, spot)| spot)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_a_cluster_do_not_overlap() {
        let bounds = Rect { left: 0, top: 0, right: 800, bottom: 500 };
        let points = [(400, 250), (404, 252), (396, 249), (402, 247), (790, 10), (3, 490)];
        let mut taken: Vec<Rect> = points.iter().map(|p| Rect::around(*p, 6)).collect();
        for p in points {
            let spot = place_label(p, (80, 14), 9, bounds, &taken);
            assert!(spot.inside(&bounds), "{p:?} {spot:?}");
            assert!(taken.iter().all(|t| t.overlap(&spot) == 0), "{p:?} {spot:?}");
            taken.push(spot);
        }
    }

    /// A front of a trade-off: the labels of its points stand beside the line, not on it.
    #[test]
    fn labels_keep_off_lines() {
        let bounds = Rect { left: 0, top: 0, right: 800, bottom: 500 };
        let points = [(100, 400), (220, 260), (400, 180), (700, 150)];
        let line: Vec<Rect> = points.windows(2).flat_map(|p| Rect::along(p[0], p[1], 4)).collect();
        assert!(line.iter().any(|r| r.inside(&Rect { left: 155, top: 320, right: 165, bottom: 340 })), "the line is followed");
        let mut taken: Vec<Rect> = points.iter().map(|p| Rect::around(*p, 7)).chain(line.iter().copied()).collect();
        for p in points {
            let spot = place_label(p, (90, 14), 10, bounds, &taken);
            assert!(line.iter().all(|l| l.overlap(&spot) == 0), "{p:?} {spot:?}");
            taken.push(spot);
        }
    }
}
