//! From the outputs of a model for masks, key points or turned boxes to objects in the image.

use super::mask::Prototypes;
use super::part::Part;
use super::points::KeyPoint;
use super::turned::{Most, Spread, TurnedBox};
use crate::data::{BBox, Letterbox};
use crate::eval::decode::{read_output, unfit};
use crate::eval::nms::{Detection, best_apart, best_first};
use compresso_base::context::Context;
use compresso_base::error::{At, Error, Result};
use compresso_exec::Outputs;
use compresso_model::{InstanceKind, Instances};

/// An object in pixels of the image.
#[derive(Debug, Clone, PartialEq)]
pub struct Instance {
    /// Its class, score and upright box, which for a turned box is the one around it.
    pub detection: Detection,
    /// Its mask, key points or turned box.
    pub part: Part,
}

/// Which objects are kept.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Objects of this score and less are dropped.
    pub confidence: f32,
    /// A box that overlaps a better one by more is dropped, unless the model has suppressed already. Of turned boxes the
    /// probabilistic overlap counts.
    pub iou: f32,
    /// Boxes of different classes suppress each other.
    pub agnostic: bool,
    /// Most objects.
    pub max: usize,
}

/// The objects that a model has found in one image, best first. Its input was of `[height, width]`, and `fit` says where the
/// image lay in it.
///
/// # Errors
/// `Missing` for an output that is not there, `Shape` for one of another form, `Check` for one that holds NaN; `Cancelled`.
pub fn instances(
    task: &Instances,
    outputs: &Outputs,
    input: [usize; 2],
    fit: &Letterbox,
    limits: Limits,
    ctx: &Context,
) -> Result<Vec<Instance>> {
    let first = task.outputs.first().ok_or_else(|| Error::argument("the model's task names no output"))?;
    let place = || format!("output '{first}'");
    let (dims, values) = read_output(outputs, first).at(place)?;
    let rows = Rows::of(task, &dims, &values).at(place)?;
    let found = rows.candidates(limits.confidence).at(place)?;
    let boxes: Vec<Detection> = found.iter().map(|c| c.detection).collect();
    let kept = match task.kind {
        _ if task.finished => best_first(&boxes).into_iter().take(limits.max).collect(),
        InstanceKind::Turned => {
            let turned: Vec<TurnedBox> = found.iter().map(|c| rows.turned(c)).collect();
            turned_apart(&boxes, &turned, limits, ctx)?
        }
        _ => best_apart(&boxes, limits.iou, limits.agnostic, limits.max),
    };
    let kept = kept.into_iter().map(|i| &found[i]);
    match task.kind {
        InstanceKind::Masks { prototypes } => masks(task, outputs, prototypes, input, fit, &rows, kept, ctx),
        InstanceKind::KeyPoints { points, numbers } => Ok(kept.map(|c| rows.points(c, points, numbers, fit)).collect()),
        InstanceKind::Turned => Ok(kept.map(|c| turned_in_image(c.detection, rows.turned(c), fit)).collect()),
    }
}

/// How many numbers an object has besides box, scores and class.
fn more(kind: InstanceKind) -> Result<usize> {
    match kind {
        InstanceKind::Masks { prototypes } => Ok(prototypes),
        InstanceKind::KeyPoints { points, numbers: numbers @ (2 | 3) } => Ok(points * numbers),
        InstanceKind::KeyPoints { numbers, .. } => {
            Err(Error::unsupported(format!("key points of {numbers} numbers; they have 2 (x, y) or 3 (and a visibility)")))
        }
        InstanceKind::Turned => Ok(1),
    }
}

/// An output of one image, object by object or number by number.
struct Rows<'a> {
    values: &'a [f32],
    /// Objects, or anchors.
    count: usize,
    /// Numbers of each.
    width: usize,
    /// Each object's numbers stand together.
    finished: bool,
    classes: usize,
    /// Where the numbers begin that only this kind of objects has.
    more: usize,
    kind: InstanceKind,
}

/// An object that may be kept: its number in the output, and its box in input pixels.
struct Candidate {
    number: usize,
    detection: Detection,
}

impl<'a> Rows<'a> {
    fn of(task: &Instances, dims: &[usize], values: &'a [f32]) -> Result<Self> {
        let (more, classes) = (more(task.kind)?, task.classes.len());
        let (width, expected) = if task.finished {
            (6 + more, format!("[1, detections, {}]", 6 + more))
        } else {
            (4 + classes + more, format!("[1, 4 + {classes} classes + {more}, anchors]"))
        };
        let &[1, a, b] = dims else { return Err(unfit(&expected, dims)) };
        let (count, own) = if task.finished { (a, b) } else { (b, a) };
        if own != width || (classes == 0 && !task.finished) {
            return Err(unfit(&expected, dims));
        }
        Ok(Self { values, count, width, finished: task.finished, classes, more: width - more, kind: task.kind })
    }

    fn at(&self, object: usize, number: usize) -> f32 {
        self.values[if self.finished { object * self.width + number } else { number * self.count + object }]
    }

    /// Class and score of each object.
    fn best(&self) -> Vec<(f32, f32)> {
        if self.finished {
            return (0..self.count).map(|n| (self.at(n, 5), self.at(n, 4))).collect();
        }
        let mut best = vec![(0.0, f32::NEG_INFINITY); self.count];
        for class in 0..self.classes {
            for (b, &score) in best.iter_mut().zip(&self.values[(4 + class) * self.count..]) {
                if score > b.1 {
                    *b = (class as f32, score);
                }
            }
        }
        best
    }

    /// The objects whose best class has a higher score, and whose numbers are finite.
    fn candidates(&self, confidence: f32) -> Result<Vec<Candidate>> {
        let mut found = Vec::new();
        for (number, (class, score)) in self.best().into_iter().enumerate() {
            let is_whole = |i: usize| self.at(number, i).is_finite();
            if score <= confidence || !(0..4).chain(self.more..self.width).all(is_whole) {
                continue;
            }
            let class = class.round();
            if class < 0.0 || class >= self.classes as f32 {
                let e = Error::check(format!("an object is of class {class}, but there are names of {} classes", self.classes));
                return Err(e.hint("give all names with option 'classes'"));
            }
            let v = std::array::from_fn(|i| self.at(number, i));
            let bbox = match (self.finished, self.kind) {
                (true, InstanceKind::Masks { .. } | InstanceKind::KeyPoints { .. }) => {
                    let [x1, y1, x2, y2] = v;
                    BBox { x1, y1, x2, y2 }
                }
                _ => BBox::from_centre(v[0], v[1], v[2], v[3]),
            };
            found.push(Candidate { number, detection: Detection { class: class as usize, score, bbox } });
        }
        Ok(found)
    }

    fn more(&self, c: &Candidate) -> Vec<f32> {
        (self.more..self.width).map(|i| self.at(c.number, i)).collect()
    }

    /// In input pixels.
    fn turned(&self, c: &Candidate) -> TurnedBox {
        let [cx, cy, width, height] = std::array::from_fn(|i| self.at(c.number, i));
        TurnedBox { cx, cy, width, height, angle: self.at(c.number, self.more) }
    }

    /// In pixels of the image, inside of it.
    fn points(&self, c: &Candidate, points: usize, numbers: usize, fit: &Letterbox) -> Instance {
        let values = self.more(c);
        let point = |p: &[f32]| {
            let at = fit.inverse(BBox { x1: p[0], y1: p[1], x2: p[0], y2: p[1] });
            KeyPoint { x: at.x1, y: at.y1, visibility: p.get(2).copied() }
        };
        let all = values.chunks_exact(numbers).take(points).map(point).collect();
        Instance { detection: in_image(c.detection, fit), part: Part::KeyPoints(all) }
    }
}

fn in_image(d: Detection, fit: &Letterbox) -> Detection {
    Detection { bbox: fit.inverse(d.bbox), ..d }
}

fn turned_in_image(d: Detection, b: TurnedBox, fit: &Letterbox) -> Instance {
    let Letterbox { scale, pad_x, pad_y, original: (width, height) } = *fit;
    let turned = TurnedBox {
        cx: (b.cx - pad_x) / scale,
        cy: (b.cy - pad_y) / scale,
        width: b.width / scale,
        height: b.height / scale,
        angle: b.angle,
    };
    let around = turned.upright();
    let (x, y) = (|v: f32| v.clamp(0.0, width as f32), |v: f32| v.clamp(0.0, height as f32));
    let bbox = BBox { x1: x(around.x1), y1: y(around.y1), x2: x(around.x2), y2: y(around.y2) };
    Instance { detection: Detection { bbox, ..d }, part: Part::Turned(turned) }
}

/// The masks of objects; those without a pixel are dropped.
fn masks<'c>(
    task: &Instances,
    outputs: &Outputs,
    count: usize,
    input: [usize; 2],
    fit: &Letterbox,
    rows: &Rows<'_>,
    kept: impl Iterator<Item = &'c Candidate>,
    ctx: &Context,
) -> Result<Vec<Instance>> {
    let second = task.outputs.get(1).ok_or_else(|| Error::argument("the model's task names no output of prototypes"))?;
    let place = || format!("output '{second}'");
    let (dims, values) = read_output(outputs, second).at(place)?;
    let (height, width) = match dims.as_slice() {
        &[1, n, height, width] if n == count && height > 0 && width > 0 => (height, width),
        _ => return Err(unfit(&format!("[1, {count}, height, width]"), &dims).at(place())),
    };
    let prototypes = Prototypes { values: &values, height, width, input, fit };
    let mut all = Vec::new();
    for c in kept {
        let detection = in_image(c.detection, fit);
        let mask = prototypes.mask(&rows.more(c), detection.bbox, ctx)?;
        if mask.area() > 0 {
            all.push(Instance { detection, part: Part::Mask(mask) });
        }
    }
    Ok(all)
}

/// The best turned boxes: one is dropped when any better one of its class, dropped or not, overlaps it by `iou` or more (the
/// "fast" suppression of Bolya et al. 2019, which Ultralytics uses for turned boxes).
fn turned_apart(boxes: &[Detection], turned: &[TurnedBox], limits: Limits, ctx: &Context) -> Result<Vec<usize>> {
    let most = Most::new(f64::from(limits.iou));
    let mut kept = Vec::new();
    let mut better: Vec<Vec<Spread>> = Vec::new();
    for i in best_first(boxes) {
        if kept.len() >= limits.max {
            break;
        }
        ctx.check()?;
        let class = if limits.agnostic { 0 } else { boxes[i].class };
        if better.len() <= class {
            better.resize(class + 1, Vec::new());
        }
        let own = Spread::of(&turned[i]);
        if better[class].iter().all(|b| !most.is_reached(b, &own)) {
            kept.push(i);
        }
        better[class].push(own);
    }
    Ok(kept)
}
