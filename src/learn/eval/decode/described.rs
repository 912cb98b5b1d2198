//! Outputs that a description says how to read.

use super::cells::{anchors, expectations};
use super::{Read, sigmoid, softmax, unfit};
use crate::data::BBox;
use crate::eval::Detection;
use compresso_base::error::{At, Error, Result};
use compresso_model::{AnchorLayout, BoxDecode, BoxFormat, RowPart, ScoreActivation};

pub(super) fn decode(read: &Read<'_>, d: &BoxDecode) -> Result<Vec<Vec<Detection>>> {
    let boxes = d.boxes.as_deref().ok_or_else(|| Error::argument("the description names no output of boxes"))?;
    let mut boxes = Output::read(read, boxes)?;
    if let ([stride], &[n, channels, rows, columns], None) = (d.strides.as_slice(), boxes.dims.as_slice(), &d.scores)
        && [rows, columns] == read.task.image_size.map(|size| size.div_ceil(*stride))
    {
        boxes.dims = vec![n, channels, rows * columns];
        return scored(read, &BoxDecode { layout: Some(AnchorLayout::AnchorsLast), ..d.clone() }, &boxes, None);
    }
    if !d.columns.is_empty() {
        return rows(read, d, &boxes).at(|| format!("output '{}'", boxes.name));
    }
    let scores = d.scores.as_deref().map(|name| Output::read(read, name)).transpose()?;
    let labels = d.labels.as_deref().map(|name| Output::read(read, name)).transpose()?;
    match (&scores, &labels) {
        (Some(scores), Some(labels)) => labelled(read, d, &boxes, scores, labels),
        (scores, _) => scored(read, d, &boxes, scores.as_ref()),
    }
}

/// An output by its name.
struct Output {
    name: String,
    dims: Vec<usize>,
    data: Vec<f32>,
}

impl Output {
    fn read(read: &Read<'_>, name: &str) -> Result<Self> {
        let (dims, data) = read.output(name).at(|| format!("output '{name}'"))?;
        Ok(Self { name: name.to_string(), dims, data })
    }

    /// As `[batch, anchors, channels]`; `fits` says whether a number of channels is right.
    fn grid(&self, layout: Option<AnchorLayout>, anchors: Option<usize>, expected: &str, fits: impl Fn(usize) -> bool) -> Result<Grid<'_>> {
        let wrong = || unfit(expected, &self.dims).at(format!("output '{}'", self.name));
        // Axes of size 1 in the middle, as in [batch, boxes, 1, 4], and a missing batch axis say nothing.
        let mut dims = self.dims.clone();
        while dims.len() > 3 {
            let middle = (1..dims.len() - 1).find(|&i| dims[i] == 1).ok_or_else(wrong)?;
            dims.remove(middle);
        }
        if dims.len() == 2 {
            dims.insert(0, 1);
        }
        let &[batch, a, b] = dims.as_slice() else { return Err(wrong()) };
        let right = |n: usize, channels: usize| fits(channels) && anchors.is_none_or(|a| a == n);
        let last = match layout {
            Some(AnchorLayout::ChannelsLast) => true,
            Some(AnchorLayout::AnchorsLast) => false,
            // Where both ways fit, there are fewer channels than boxes.
            None => right(a, b) && (b <= a || !right(b, a)),
        };
        let (anchors, channels) = if last { (a, b) } else { (b, a) };
        if !right(anchors, channels) {
            return Err(wrong());
        }
        Ok(Grid { data: &self.data, batch, anchors, channels, last })
    }

    /// One number for each box: `[batch, boxes]`, with axes of size 1 anywhere.
    fn list(&self, batch: usize, anchors: usize) -> Result<&[f32]> {
        if self.data.len() == batch * anchors {
            return Ok(&self.data);
        }
        Err(unfit(&format!("[{batch}, {anchors}], a number for each box"), &self.dims).at(format!("output '{}'", self.name)))
    }
}

struct Grid<'a> {
    data: &'a [f32],
    batch: usize,
    anchors: usize,
    channels: usize,
    /// Channels are the last axis.
    last: bool,
}

impl Grid<'_> {
    fn at(&self, image: usize, anchor: usize, channel: usize) -> f32 {
        let inside = if self.last { anchor * self.channels + channel } else { channel * self.anchors + anchor };
        self.data[image * self.anchors * self.channels + inside]
    }
}

/// Boxes with a score for each class.
fn scored(read: &Read<'_>, d: &BoxDecode, boxes: &Output, scores: Option<&Output>) -> Result<Vec<Vec<Detection>>> {
    let known = read.task.classes.len();
    let extra = usize::from(d.objectness) + usize::from(d.background.is_some());
    let enough = |n: usize| if known == 0 { n > extra } else { n == known + extra };
    let parts = format!(
        "{}{known} classes{}",
        if d.objectness { "objectness + " } else { "" },
        if d.background.is_some() { " + background" } else { "" }
    );
    let width = d.box_width();
    // With the channels of the box and those of the scores; an objectness that comes first stands apart.
    let (places, values, at, scored) = match scores {
        Some(scores) => {
            let places = boxes.grid(d.layout, None, &format!("[batch, boxes, {width}]"), |n| n == width)?;
            let expected = format!("[{}, {}, {parts}]", places.batch, places.anchors);
            let values = scores.grid(d.layout, Some(places.anchors), &expected, enough)?;
            if values.batch != places.batch {
                return Err(unfit(&expected, &scores.dims).at(format!("output '{}'", scores.name)));
            }
            let all = 0..values.channels;
            (places, values, 0..width, all)
        }
        None => {
            let expected = format!("[batch, boxes, {width} + {parts}]");
            let joint = || boxes.grid(d.layout, None, &expected, |n| n.checked_sub(width).is_some_and(|n| n > 0 && enough(n)));
            let values = joint()?;
            let at = d.box_channels(values.channels);
            let scored = if d.scores_first { 0..at.start } else { at.end..values.channels };
            (joint()?, values, at, scored)
        }
    };
    let cells = anchors(read, d, places.anchors).at(|| format!("output '{}'", boxes.name))?;
    // An objectness among the scores is none of them.
    let before = usize::from(d.objectness && !d.objectness_first);
    if let Some(b) = d.background.filter(|&b| b >= scored.len() - before) {
        let e = Error::argument(format!("there is no class {b} among {} scores", scored.len()));
        return Err(e.at("'background' of the description"));
    }
    let (mut logits, mut bins) = (Vec::new(), Vec::new());
    let all = (0..places.batch).map(|n| {
        let mut found = Vec::new();
        for a in 0..places.anchors {
            logits.clear();
            logits.extend(scored.clone().map(|c| values.at(n, a, c)));
            let object = match d.objectness {
                true if d.objectness_first => activated(d, values.at(n, a, 0)),
                true => activated(d, logits.remove(0)),
                false => 1.0,
            };
            match d.activation {
                ScoreActivation::None => {}
                ScoreActivation::Sigmoid => logits.iter_mut().for_each(|v| *v = sigmoid(*v)),
                ScoreActivation::Softmax => softmax(&mut logits),
            }
            if let Some(b) = d.background {
                logits.remove(b);
            }
            let raw = if d.bins == 0 {
                std::array::from_fn(|c| places.at(n, a, at.start + c))
            } else {
                bins.clear();
                bins.extend(at.clone().map(|c| places.at(n, a, c)));
                expectations(&mut bins)
            };
            let bbox = match cells.get(a) {
                None => placed(read, d, raw),
                Some(anchor) => anchor.place(read, d, raw),
            };
            match d.powers.as_slice() {
                &[of_object, of_score] => {
                    let object = object.max(0.0).powf(of_object as f32);
                    read.push(&mut found, bbox, logits.iter().map(|&v| v.max(0.0).powf(of_score as f32) * object));
                }
                _ => read.push(&mut found, bbox, logits.iter().map(|&v| v * object)),
            }
        }
        found
    });
    Ok(all.collect())
}

/// Boxes with a score and a label each.
fn labelled(read: &Read<'_>, d: &BoxDecode, boxes: &Output, scores: &Output, labels: &Output) -> Result<Vec<Vec<Detection>>> {
    // Images without any box give outputs without values.
    if boxes.data.is_empty() {
        return Ok(vec![Vec::new()]);
    }
    let places = boxes.grid(d.layout, None, "[batch, boxes, 4]", |n| n == 4)?;
    let (scores, labels) = (scores.list(places.batch, places.anchors)?, labels.list(places.batch, places.anchors)?);
    let mut all = Vec::new();
    for n in 0..places.batch {
        let mut found = Vec::new();
        for a in 0..places.anchors {
            let i = n * places.anchors + a;
            let bbox = placed(read, d, std::array::from_fn(|c| places.at(n, a, c)));
            take(read, d, &mut found, bbox, activated(d, scores[i]), labels[i])?;
        }
        all.push(found);
    }
    Ok(all)
}

/// Rows of finished detections.
fn rows(read: &Read<'_>, d: &BoxDecode, output: &Output) -> Result<Vec<Vec<Detection>>> {
    let width = d.row_width();
    let dims = &output.dims;
    let expected = || format!("[batch, detections, {width}]");
    if dims.len() < 2 || dims.last() != Some(&width) {
        return Err(unfit(&expected(), dims));
    }
    // Rows that say their image are of one list, as are those of an output without a batch axis.
    let single = dims.len() == 2 || d.columns.contains(&RowPart::Batch);
    let images = if single { 1 } else { dims[0] };
    if !single && dims.len() > 3 && dims[1..dims.len() - 2].iter().any(|&n| n != 1) {
        return Err(unfit(&expected(), dims));
    }
    let mut all = Vec::new();
    for n in 0..images {
        let per_image = output.data.len() / images.max(1);
        let mut found = Vec::new();
        for row in output.data[n * per_image..][..per_image].chunks_exact(width) {
            let (mut at, mut place, mut score, mut class, mut image) = (0, [0f32; 4], 0f32, 0f32, 0f32);
            for part in &d.columns {
                match part {
                    RowPart::Box => place.copy_from_slice(&row[at..at + 4]),
                    RowPart::Score => score = activated(d, row[at]),
                    RowPart::Class => class = row[at],
                    RowPart::Batch => image = row[at],
                }
                at += if *part == RowPart::Box { 4 } else { 1 };
            }
            if image >= 0.0 {
                take(read, d, &mut found, placed(read, d, place), score, class)?;
            }
        }
        all.push(found);
    }
    Ok(all)
}

/// Takes up one finished detection.
fn take(read: &Read<'_>, d: &BoxDecode, found: &mut Vec<Detection>, bbox: BBox, score: f32, label: f32) -> Result<()> {
    if score <= read.confidence || !bbox.is_finite() || label < 0.0 {
        return Ok(());
    }
    let number = label.round() as usize;
    let class = match d.background {
        Some(b) if number == b => return Ok(()),
        Some(b) if number > b => number - 1,
        _ => number,
    };
    let known = read.task.classes.len();
    if known > 0 && class >= known {
        let e = Error::check(format!("a detection is of class {number}, but there are names of {known} classes"));
        return Err(e.hint("labels that count from 1 need `background: 0`; else give all names with option 'classes'"));
    }
    found.push(Detection { class, score, bbox });
    Ok(())
}

fn activated(d: &BoxDecode, score: f32) -> f32 {
    if d.activation == ScoreActivation::Sigmoid { sigmoid(score) } else { score }
}

/// The box of four numbers, in input pixels.
fn placed(read: &Read<'_>, d: &BoxDecode, v: [f32; 4]) -> BBox {
    let b = match d.format {
        BoxFormat::Xyxy => BBox { x1: v[0], y1: v[1], x2: v[2], y2: v[3] },
        BoxFormat::Xywh => BBox { x1: v[0], y1: v[1], x2: v[0] + v[2], y2: v[1] + v[3] },
        BoxFormat::Cxcywh => BBox::from_centre(v[0], v[1], v[2], v[3]),
        BoxFormat::Yxyx => BBox { x1: v[1], y1: v[0], x2: v[3], y2: v[2] },
        // Distances are from cells, which `BoxDecode::check` demands.
        BoxFormat::Ltrb => BBox { x1: -v[0], y1: -v[1], x2: v[2], y2: v[3] },
    };
    if !d.normalized {
        return b;
    }
    let [height, width] = read.task.image_size.map(|s| s as f32);
    BBox { x1: b.x1 * width, y1: b.y1 * height, x2: b.x2 * width, y2: b.y2 * height }
}
