//! Heads that find more of an object than its box: a mask, key points, or the angle of a turned box.

use super::blocks::{Blocks, Conv, Feature};
use super::detect::{Assigned, Boxes, Head, Raw};
use super::grid::Grid;
use super::site::{Made, Site};
use crate::{Constant, InstanceKind, Instances, Task};
use compresso_base::error::{Error, Result};

/// The boxes and scores of a head, and what it finds besides.
struct Ends<'s, 'a> {
    s: &'s mut Site<'a>,
    head: Head,
    raw: Raw,
    grid: Grid,
}

impl<'s, 'a> Ends<'s, 'a> {
    fn new(s: &'s mut Site<'a>) -> Result<Self> {
        let head = Head::usual(s)?;
        let raw = head.emit(s.b, s.inputs)?;
        let grid = Grid::new(s.b, &head.name, s.inputs, &head.strides)?;
        Ok(Self { s, head, raw, grid })
    }

    /// Declares the outputs: boxes (of [`Head::distances`], upright, unless `turned` gives them), scores, and `more`
    /// channels for each anchor; then `others`.
    fn finish(self, kind: InstanceKind, turned: Option<String>, more: (String, usize), others: Vec<String>) -> Result<Made> {
        let Self { s, head, raw, grid } = self;
        let boxes = match turned {
            Some(boxes) => Boxes::Turned(boxes),
            None => Boxes::Upright(head.distances(s.b, &raw.boxes)?),
        };
        head.end(s.b, boxes, &raw.scores, &grid, Some((&more.0, more.1)));
        let mut outputs = vec!["output0".to_string()];
        for (i, value) in others.iter().enumerate() {
            outputs.push(format!("output{}", i + 1));
            s.b.graph.output_as(value, &outputs[i + 1]);
        }
        let finished = head.assigned == Assigned::OneToOne;
        let (classes, image_size) = (s.plan.classes.clone(), s.plan.image);
        Ok(Made::End(Box::new(Task::Instances(Instances { kind, classes, image_size, outputs, finished }))))
    }
}

/// The module `Segment`: a mask is the sum of prototypes, weighed by an anchor's coefficients (Bolya et al. 2019,
/// "YOLACT"). A second output has the prototypes, `[batch, masks, height / 4, width / 4]`.
pub fn segment(s: &mut Site<'_>) -> Result<Made> {
    let masks = s.layer.count(1, "masks", 32, 1024)?;
    let width = s.plan.channels(s.layer.size(2, "channels", Some(256))?);
    let ends = Ends::new(s)?;
    let (name, levels) = (ends.head.name.clone(), ends.s.inputs);
    let coefficients = ends.head.more(ends.s.b, levels, masks, None)?;
    let mut first = levels.first().cloned().ok_or_else(|| ends.s.layer.error("needs an input"))?;
    let proto = format!("{name}.proto");
    if is_newer(ends.s) {
        first = refined(ends.s.b, &proto, levels, first, width)?;
    }
    let prototypes = prototypes(ends.s.b, &proto, &first, width, masks)?;
    ends.finish(InstanceKind::Masks { prototypes: masks }, None, (coefficients, masks), vec![prototypes])
}

/// Whether the head is one of YOLO26, which has other inner parts.
fn is_newer(s: &Site<'_>) -> bool {
    s.layer.module.ends_with("26")
}

/// The map of the first level with those of the others, as wide and as large, added (YOLO26).
fn refined(b: &mut Blocks, name: &str, levels: &[Feature], mut sum: Feature, width: usize) -> Result<Feature> {
    // What only training needs.
    b.leave_out(&format!("{name}.semseg."));
    for (i, x) in levels.iter().enumerate().skip(1) {
        let part = format!("{name}.feat_refine.{}", i - 1);
        let y = b.conv(&part, x, Conv::new(sum.channels, 1))?;
        let y = b.upsample(&part, &y, (sum.size[0] / y.size[0].max(1)).max(1))?;
        sum = b.add(&part, &sum, &y)?;
    }
    b.conv(&format!("{name}.feat_fuse"), &sum, Conv::new(width, 3))
}

fn prototypes(b: &mut Blocks, name: &str, x: &Feature, width: usize, masks: usize) -> Result<String> {
    let y = b.conv(&format!("{name}.cv1"), x, Conv::new(width, 3))?;
    let y = b.doubled(&format!("{name}.upsample"), &y, width)?;
    let y = b.conv(&format!("{name}.cv2"), &y, Conv::new(width, 3))?;
    let y = b.conv(&format!("{name}.cv3"), &y, Conv::new(masks, 1))?;
    if y.channels != masks {
        return Err(Error::shape(format!("there are {} prototypes for {masks} coefficients", y.channels)));
    }
    Ok(y.value)
}

/// The module `Pose`: key points in pixels, each with its visibility when it has three numbers.
pub fn pose(s: &mut Site<'_>) -> Result<Made> {
    let [points, numbers] = s.plan.arch.key_points;
    if numbers < 2 {
        return Err(s.layer.error(format!("a key point has 2 or 3 numbers, not {numbers}")));
    }
    let ends = Ends::new(s)?;
    let width = points * numbers;
    let newer = is_newer(ends.s);
    // YOLO26's branches are wide enough for a deviation of each point, which only its training reads.
    let last = newer.then_some(("cv4_kpts", width + 2 * points));
    for part in ["flow_model.", "cv4_sigma.", "one2one_cv4_sigma."] {
        ends.s.b.leave_out(&format!("{}.{part}", ends.head.name));
    }
    let raw = ends.head.more(ends.s.b, ends.s.inputs, width, last)?;
    let (b, name, grid) = (&mut *ends.s.b, format!("{}.points", ends.head.name), &ends.grid);
    let shape = b.ints(&format!("{name}.shape"), &[0, points as i64, numbers as i64, -1]);
    let mut at = b.named("Reshape", &name, &[&raw, &shape]);
    let mut seen = None;
    if numbers == 3 {
        let sizes = b.ints(&format!("{name}.split"), &[2, 1]);
        let [place, visibility] = b.split(&name, &at, &sizes, 2);
        at = place;
        seen = Some(b.named("Sigmoid", &name, &[&visibility]));
    }
    // A point is (2 p + centre − 0.5) · stride, the centre in cells; in YOLO26 (p + centre) · stride.
    let (n, factor, shift) = if newer { (grid.anchors, 1.0, 0.0) } else { (grid.anchors, 2.0, 0.5) };
    let reach: Vec<f32> = grid.strides.iter().map(|s| factor * s).collect();
    let origin: Vec<f32> = grid.points.iter().flat_map(|p| p.iter().zip(&grid.strides).map(|(c, s)| (c - shift) * s)).collect();
    let reach = b.graph.constant(&format!("{name}.reach"), Constant::floats(&[1, 1, 1, n], &reach)?);
    let origin = b.graph.constant(&format!("{name}.origin"), Constant::floats(&[1, 1, 2, n], &origin)?);
    let at = b.named("Mul", &name, &[&at, &reach]);
    let mut at = b.named("Add", &name, &[&at, &origin]);
    if let Some(seen) = seen {
        at = b.node("Concat", &name, &[&at, &seen], |n| n.int("axis", 2));
    }
    let flat = b.ints(&format!("{name}.flat"), &[0, width as i64, -1]);
    let at = b.named("Reshape", &name, &[&at, &flat]);
    ends.finish(InstanceKind::KeyPoints { points, numbers }, None, (at, width), Vec::new())
}

/// (sigmoid − 1/4) · π.
fn limited(b: &mut Blocks, name: &str, raw: &str) -> String {
    let part = b.named("Sigmoid", name, &[raw]);
    let limits = [("quarter", 0.25), ("pi", std::f32::consts::PI)];
    let [quarter, pi] = limits.map(|(n, v)| b.graph.constant(&format!("{name}.{n}"), Constant::scalar(v)));
    let part = b.named("Sub", name, &[&part, &quarter]);
    b.named("Mul", name, &[&part, &pi])
}

/// The module `OBB`: boxes turned about their centre by an angle in radians, which is the last channel: from −π/4 to 3π/4,
/// in YOLO26 any.
pub fn obb(s: &mut Site<'_>) -> Result<Made> {
    if s.layer.size(1, "angles", Some(1))? != 1 {
        return Err(s.layer.error("argument 2 (angles) must be 1"));
    }
    let ends = Ends::new(s)?;
    let newer = is_newer(ends.s);
    let raw = ends.head.more(ends.s.b, ends.s.inputs, 1, None)?;
    let distances = ends.head.distances(ends.s.b, &ends.raw.boxes)?;
    let (b, name, grid) = (&mut *ends.s.b, format!("{}.turned", ends.head.name), &ends.grid);
    let angle = if newer { raw } else { limited(b, &name, &raw) };

    // The box's centre lies off the cell's, along the turned axes, by half the difference of opposite sides.
    let [before, after] = grid.sides(b, &distances);
    let difference = b.named("Sub", &name, &[&after, &before]);
    let half = b.graph.constant(&format!("{name}.half"), Constant::scalar(0.5));
    let off = b.named("Mul", &name, &[&difference, &half]);
    let sizes = b.ints(&format!("{name}.split"), &[1, 1]);
    let [x, y] = b.split(&name, &off, &sizes, 1);
    let (cos, sin) = (b.named("Cos", &name, &[&angle]), b.named("Sin", &name, &[&angle]));
    let product = |b: &mut Blocks, v: &str, w: &str| b.named("Mul", &name, &[v, w]);
    let (xc, ys, xs, yc) = (product(b, &x, &cos), product(b, &y, &sin), product(b, &x, &sin), product(b, &y, &cos));
    let across = b.named("Sub", &name, &[&xc, &ys]);
    let down = b.named("Add", &name, &[&xs, &yc]);
    let centre = b.node("Concat", &name, &[&across, &down], |n| n.int("axis", 1));
    let centre = b.named("Add", &name, &[&centre, &grid.centres]);
    let extent = b.named("Add", &name, &[&before, &after]);
    let boxes = b.node("Concat", &name, &[&centre, &extent], |n| n.int("axis", 1));
    let boxes = grid.pixels(b, &boxes);
    ends.finish(InstanceKind::Turned, Some(boxes), (angle, 1), Vec::new())
}
