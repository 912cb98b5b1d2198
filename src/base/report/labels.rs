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

/// Where the line to a label ends that stands more than `near` from its mark; nothing for others, which need no line.
pub(super) fn leader(at: (i32, i32), spot: Rect, near: i32) -> Option<(i32, i32)> {
    let edge = (at.0.clamp(spot.left, spot.right), at.1.clamp(spot.top, spot.bottom));
    ((edge.0 - at.0).abs().max((edge.1 - at.1).abs()) > near).then_some(edge)
}

/// What a line from a mark to its label covers, but for the mark itself.
pub(super) fn along_leader(at: (i32, i32), edge: (i32, i32), near: i32) -> impl Iterator<Item = Rect> {
    let mark = Rect::around(at, near / 2);
    Rect::along(at, edge, (near / 4).max(1)).filter(move |r| r.overlap(&mark) == 0)
}

/// Where to put a label of `size` for the mark at `at`: the free place nearest to the mark, within `bounds`, to which a line runs free as well
/// where it is more than `near` away; where none is free, the one that covers least.
pub(super) fn place_label(at: (i32, i32), size: (i32, i32), gap: i32, near: i32, bounds: Rect, taken: &[Rect]) -> Rect {
    let (w, h) = size;
    let at_corner = |left: i32, top: i32| Rect { left, top, right: left + w, bottom: top + h };
    let mut best: Option<(i64, Rect)> = None;
    for ring in 0..8 {
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
            let line: Vec<Rect> = leader(at, spot, near).into_iter().flat_map(|edge| along_leader(at, edge, near)).collect();
            let covered: i64 = taken.iter().map(|t| t.overlap(&spot) + line.iter().map(|l| t.overlap(l)).sum::<i64>()).sum();
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
            let spot = place_label(p, (80, 14), 9, 16, bounds, &taken);
            assert!(spot.inside(&bounds), "{p:?} {spot:?}");
            assert!(taken.iter().all(|t| t.overlap(&spot) == 0), "{p:?} {spot:?}");
            taken.push(spot);
        }
    }

    #[test]
    fn lines_to_labels_cross_no_label() {
        let bounds = Rect { left: 0, top: 0, right: 600, bottom: 400 };
        let points = [(160, 140), (166, 142), (158, 150), (170, 136), (164, 146), (174, 148)];
        let marks: Vec<Rect> = points.iter().map(|p| Rect::around(*p, 6)).collect();
        let (mut labels, mut lines): (Vec<Rect>, Vec<Rect>) = (Vec::new(), Vec::new());
        for p in points {
            let taken: Vec<Rect> = marks.iter().chain(&labels).chain(&lines).copied().collect();
            let spot = place_label(p, (60, 12), 9, 16, bounds, &taken);
            let line: Vec<Rect> = leader(p, spot, 16).into_iter().flat_map(|edge| along_leader(p, edge, 16)).collect();
            assert!(labels.iter().all(|l| line.iter().all(|r| r.overlap(l) == 0)), "{p:?} crosses a label");
            assert!(lines.iter().all(|l| l.overlap(&spot) == 0), "{p:?} stands on a line");
            labels.push(spot);
            lines.extend(line);
        }
        assert!(!lines.is_empty());
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
            let spot = place_label(p, (90, 14), 10, 16, bounds, &taken);
            assert!(line.iter().all(|l| l.overlap(&spot) == 0), "{p:?} {spot:?}");
            taken.push(spot);
        }
    }
}
