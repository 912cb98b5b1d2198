//! Which cells of the head answer for which objects: task-aligned assignment (Feng et al. 2021, "TOOD").

use super::geometry::complete_iou;
use crate::data::GroundTruth;

/// The cells of all levels of a head, numbered level by level, row by row.
#[derive(Debug, Clone)]
pub struct Grid {
    /// In the order in which cells are numbered.
    pub levels: Vec<Level>,
}

/// The cells of one level.
#[derive(Debug, Clone, Copy)]
pub struct Level {
    /// Rows of cells.
    pub height: usize,
    /// Cells in a row.
    pub width: usize,
    /// Input pixels per cell.
    pub stride: f32,
    /// Number of the first cell.
    pub start: usize,
}

impl Grid {
    /// From height, width and stride of each level.
    pub fn new(levels: impl IntoIterator<Item = (usize, usize, usize)>) -> Self {
        let mut start = 0;
        let levels = levels.into_iter().map(|(height, width, stride)| {
            let level = Level { height, width, stride: stride as f32, start };
            start += height * width;
            level
        });
        Self { levels: levels.collect() }
    }
    /// Number of cells.
    pub fn len(&self) -> usize {
        self.levels.last().map_or(0, |l| l.start + l.height * l.width)
    }
    /// Whether there is no cell.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Level of a cell and its place there.
    pub fn locate(&self, cell: usize) -> (usize, usize) {
        let level = self.levels.partition_point(|l| l.start <= cell) - 1;
        (level, cell - self.levels[level].start)
    }
}

impl Level {
    /// Centre of a cell, in cells.
    pub fn centre(&self, place: usize) -> (f32, f32) {
        ((place % self.width) as f32 + 0.5, (place / self.width) as f32 + 0.5)
    }
}

/// Settings of the assignment.
#[derive(Debug, Clone, Copy)]
pub struct Assigner {
    /// Cells per object.
    pub top: usize,
    /// Exponent of the class probability in the alignment.
    pub alpha: f32,
    /// Exponent of the overlap in the alignment.
    pub beta: f32,
    /// Pixels below which a side of an object counts as twice as many when its candidates are looked for.
    pub smallest: f32,
}

impl Default for Assigner {
    fn default() -> Self {
        Self { top: 10, alpha: 0.5, beta: 6.0, smallest: 0.0 }
    }
}

/// A cell that answers for an object.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Assigned {
    /// Number of the cell in the [`Grid`].
    pub cell: usize,
    /// Index of the object.
    pub target: usize,
    /// Class probability that the cell should give.
    pub score: f32,
}

/// A cell whose centre lies in an object's box.
struct Candidate {
    cell: usize,
    overlap: f32,
    alignment: f32,
}

impl Assigner {
    /// Assigns cells of one image to its objects, in order of cells.
    ///
    /// An object's candidates are the cells whose centre lies in its box, sides below `smallest` widened (small target aware
    /// assignment: with the cell of the finest level as `smallest`, every object has at least four); the `top` with the largest alignment
    /// `probability^alpha · overlap^beta` are its own. A cell that several objects want goes to the one that it overlaps
    /// most. Scores are alignments scaled per object so that the largest equals the object's largest overlap.
    /// `probability(cell, class)` and `bbox(cell)` (left, top, right, bottom in pixels) are what the head predicts.
    pub fn assign(
        &self,
        grid: &Grid,
        targets: &[GroundTruth],
        probability: impl Fn(usize, usize) -> f32,
        mut bbox: impl FnMut(usize) -> [f32; 4],
    ) -> Vec<Assigned> {
        let mut candidates: Vec<Vec<Candidate>> = Vec::with_capacity(targets.len());
        // Objects that want a cell: their number and the first of them.
        let mut wanted: Vec<(u32, u32)> = vec![(0, 0); grid.len()];
        for (t, target) in targets.iter().enumerate() {
            let truth = [target.bbox.x1, target.bbox.y1, target.bbox.x2, target.bbox.y2];
            let mut found = Vec::new();
            for_cells_inside(grid, self.reach(truth), |cell| {
                let overlap = complete_iou(truth, bbox(cell)).max(0.0);
                let alignment = probability(cell, target.class).powf(self.alpha) * overlap.powf(self.beta);
                found.push(Candidate { cell, overlap, alignment });
            });
            // A stable order: by alignment, then by cell.
            let mut order: Vec<usize> = (0..found.len()).filter(|&i| found[i].alignment > 0.0).collect();
            order.sort_by(|&a, &b| found[b].alignment.total_cmp(&found[a].alignment));
            for &i in order.iter().take(self.top) {
                let (count, first) = &mut wanted[found[i].cell];
                if *count == 0 {
                    *first = t as u32;
                }
                *count += 1;
            }
            candidates.push(found);
        }
        let mut owner: Vec<Option<u32>> = wanted.iter().map(|&(count, first)| (count > 0).then_some(first)).collect();
        if wanted.iter().any(|w| w.0 > 1) {
            let mut best = vec![f32::NEG_INFINITY; grid.len()];
            for (t, found) in candidates.iter().enumerate() {
                for c in found.iter().filter(|c| wanted[c.cell].0 > 1) {
                    if c.overlap > best[c.cell] {
                        best[c.cell] = c.overlap;
                        owner[c.cell] = Some(t as u32);
                    }
                }
            }
        }
        let mut assigned = Vec::new();
        for (t, found) in candidates.iter().enumerate() {
            let mine = || found.iter().filter(|c| owner[c.cell] == Some(t as u32));
            let most_aligned = mine().map(|c| c.alignment).fold(0.0, f32::max);
            let most_overlap = mine().map(|c| c.overlap).fold(0.0, f32::max);
            let score = |c: &Candidate| c.alignment * most_overlap / (most_aligned + 1e-9);
            assigned.extend(mine().map(|c| Assigned { cell: c.cell, target: t, score: score(c) }));
        }
        assigned.sort_by_key(|a| a.cell);
        assigned
    }

    /// Where the centres of an object's candidates lie: its box, with short sides widened about their middle. A box without area
    /// stays without.
    fn reach(&self, bbox: [f32; 4]) -> [f32; 4] {
        let wide = |low: f32, high: f32| {
            let short = high > low && high - low < self.smallest;
            // A little more than twice, so that there are two centres within it wherever it lies.
            let (middle, half) = ((low + high) / 2.0, self.smallest * 1.001);
            if short { [middle - half, middle + half] } else { [low, high] }
        };
        if bbox[2] <= bbox[0] || bbox[3] <= bbox[1] {
            return bbox;
        }
        let ([left, right], [top, bottom]) = (wide(bbox[0], bbox[2]), wide(bbox[1], bbox[3]));
        [left, top, right, bottom]
    }
}

/// Calls `f` for each cell whose centre lies strictly inside the box.
fn for_cells_inside(grid: &Grid, bbox: [f32; 4], mut f: impl FnMut(usize)) {
    for level in &grid.levels {
        // One cell of slack on each side; the exact condition follows.
        let range = |low: f32, high: f32, n: usize| {
            let first = ((low / level.stride - 0.5).floor().max(0.0)) as usize;
            let last = ((high / level.stride - 0.5).ceil() + 1.0).clamp(0.0, n as f32) as usize;
            first..last
        };
        for y in range(bbox[1], bbox[3], level.height) {
            let centre = (y as f32 + 0.5) * level.stride;
            if (centre - bbox[1]).min(bbox[3] - centre) <= 1e-9 {
                continue;
            }
            for x in range(bbox[0], bbox[2], level.width) {
                let centre = (x as f32 + 0.5) * level.stride;
                if (centre - bbox[0]).min(bbox[2] - centre) > 1e-9 {
                    f(level.start + y * level.width + x);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::BBox;

    fn target(class: usize, x1: f32, y1: f32, x2: f32, y2: f32) -> GroundTruth {
        GroundTruth { class, bbox: BBox { x1, y1, x2, y2 } }
    }

    #[test]
    fn only_cells_with_their_centre_inside_are_candidates() {
        let grid = Grid::new([(4, 4, 8), (2, 2, 16)]);
        let mut cells = Vec::new();
        // Centres of the first level: 4, 12, 20, 28; a centre on the edge is outside.
        for_cells_inside(&grid, [4.0, 5.0, 21.0, 13.0], |c| cells.push(c));
        assert_eq!(cells, [5, 6, 16]);
        assert_eq!(grid.locate(16), (1, 0));
        assert_eq!(grid.locate(15), (0, 15));
    }

    #[test]
    fn a_contested_cell_goes_to_the_larger_overlap_and_scores_peak_at_it() {
        let grid = Grid::new([(4, 4, 8)]);
        let predicted = [0.0, 0.0, 16.0, 16.0];
        let targets = [target(0, 0.0, 0.0, 24.0, 24.0), target(1, 0.0, 0.0, 16.0, 16.0)];
        let got = Assigner::default().assign(&grid, &targets, |_, _| 0.5, |_| predicted);
        // Cells 0, 1, 4, 5 lie in both and go to the second, whose box is predicted exactly.
        for a in got.iter().filter(|a| [0, 1, 4, 5].contains(&a.cell)) {
            assert_eq!(a.target, 1);
            assert!((a.score - 1.0).abs() < 1e-5);
        }
        assert_eq!(got.iter().filter(|a| a.target == 1).count(), 4);
        assert!(got.iter().any(|a| a.target == 0));
    }

    #[test]
    fn short_sides_are_widened_to_four_cells() {
        let grid = Grid::new([(4, 4, 8)]);
        let aware = Assigner { smallest: 8.0, ..Assigner::default() };
        // Between the centres 12 and 20 of both axes there is none: without help, the object is nobody's.
        let small = [target(0, 13.0, 14.0, 18.0, 18.0)];
        let exact = [13.0, 14.0, 18.0, 18.0];
        assert!(Assigner::default().assign(&grid, &small, |_, _| 0.5, |_| exact).is_empty());
        let cells: Vec<usize> = aware.assign(&grid, &small, |_, _| 0.5, |_| exact).iter().map(|a| a.cell).collect();
        assert_eq!(cells, [5, 6, 9, 10]);
        // The narrow side alone is widened, about its middle; a side of 8 pixels is not short.
        assert_eq!(aware.reach([13.0, 0.0, 15.0, 8.0]), [14.0 - 8.008, 0.0, 14.0 + 8.008, 8.0]);
        // Boxes without area stay nobody's.
        assert_eq!(aware.reach([4.0, 4.0, 4.0, 9.0]), [4.0, 4.0, 4.0, 9.0]);
        // Whatever its place, a small object has at least four cells.
        for k in 0..40 {
            let at = 8.0 + k as f32 * 0.4;
            let one = [target(0, at, at, at + 1.0, at + 1.0)];
            let found = aware.assign(&grid, &one, |_, _| 0.5, |_| [at, at, at + 1.0, at + 1.0]);
            assert!(found.len() >= 4, "{at}: {found:?}");
        }
    }

    #[test]
    fn boxes_without_area_or_outside_get_nothing() {
        let grid = Grid::new([(2, 2, 8)]);
        let targets = [target(0, 4.0, 4.0, 4.0, 4.0), target(0, -90.0, -90.0, -20.0, -20.0), target(0, 90.0, 0.0, 99.0, 9.0)];
        assert!(Assigner::default().assign(&grid, &targets, |_, _| 0.5, |_| [0.0, 0.0, 8.0, 8.0]).is_empty());
    }
}
