//! The anchor-free detection head of YOLOv8 and its decoding into boxes and scores.

use super::anchors;
use super::blocks::{Blocks, Conv, Feature};
use super::grid::Grid;
use super::site::{Made, Site};
use crate::{BoxDecode, Constant, Decode, Detect, DetectHead, Node, Task};
use compresso_base::error::Result;

/// What the branches that give class logits are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Branches {
    /// Two 3 × 3 convolutions (YOLOv8).
    Conv,
    /// Two pairs of a depthwise and a pointwise convolution (YOLO11).
    DwConv,
    /// Two depthwise separable blocks; the branches of the boxes too.
    Separable,
}

/// Which of a head's branches are built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Assigned {
    /// Those for which several boxes are right for an object; of these the best is kept.
    OneToMany,
    /// Those for which one box is right for an object (YOLOv10): nothing is suppressed.
    OneToOne,
}

/// The convolutions of a head.
#[derive(Debug, Clone)]
pub struct Head {
    /// What the names of its weights start with.
    pub name: String,
    pub classes: usize,
    pub reg_max: usize,
    pub assigned: Assigned,
    pub strides: Vec<usize>,
    branches: Branches,
}

/// What a head's convolutions give, all levels in one.
#[derive(Debug)]
pub struct Raw {
    /// `[batch, 4 · reg_max, anchors]`.
    pub boxes: String,
    /// Logits `[batch, classes, anchors]`.
    pub scores: String,
    pub head: DetectHead,
}

/// Where the objects of all anchors lie.
#[derive(Debug)]
pub enum Boxes {
    /// As [`Head::distances`] says it.
    Upright(String),
    /// Centre, width and height in pixels: `[batch, 4, anchors]`.
    Turned(String),
}

/// The module `Detect`. Branches are YOLO11's where an architecture has its blocks, unless the second argument says which.
pub fn emit(s: &mut Site<'_>) -> Result<Made> {
    let usual = if s.plan.arch.layers.iter().any(|l| l.module == "C3k2") { "dwconv" } else { "conv" };
    let branches = match s.layer.text(1, "branches", usual)? {
        "conv" => Branches::Conv,
        "dwconv" => Branches::DwConv,
        "separable" => Branches::Separable,
        // As YOLOv5's files say it.
        "anchors" => return anchors::emit(s),
        other => return Err(s.layer.error(format!("argument 2 (branches) must be conv, dwconv or separable, got {other}"))),
    };
    let head = Head::of(s, branches)?;
    let raw = head.emit(s.b, s.inputs)?;
    let grid = Grid::new(s.b, &head.name, s.inputs, &head.strides)?;
    let boxes = Boxes::Upright(head.distances(s.b, &raw.boxes)?);
    head.end(s.b, boxes, &raw.scores, &grid, None);
    let mut detect = Detect {
        classes: s.plan.classes.clone(),
        image_size: s.plan.image,
        decode: Decode::Yolo { output: "output0".into() },
        head: Some(raw.head),
        anchors: None,
    };
    if head.assigned == Assigned::OneToOne {
        detect.decode = Decode::described(BoxDecode::end_to_end("output0"));
    }
    Ok(Made::End(Box::new(Task::Detect(detect))))
}

impl Head {
    /// The head that a layer asks for, with the kind of branches that its weights or its architecture have.
    pub fn usual(s: &mut Site<'_>) -> Result<Self> {
        let modern = s.plan.arch.layers.iter().any(|l| l.module == "C3k2");
        Self::of(s, if modern { Branches::DwConv } else { Branches::Conv })
    }

    fn of(s: &mut Site<'_>, usual: Branches) -> Result<Self> {
        let name = s.scope.clone();
        let has = |b: &Blocks, prefix: &str| b.given(&format!("{name}.{prefix}cv3.0.2.weight")).is_some();
        let (many, one) = (has(s.b, ""), has(s.b, "one2one_"));
        let wanted = s.plan.arch.end_to_end.unwrap_or(s.layer.module == "v10Detect");
        // A network that was made ready for inference has lost the branches that it does not need.
        let finishes = if s.b.is_new() { wanted } else { one && (wanted || !many) };
        let assigned = if finishes { Assigned::OneToOne } else { Assigned::OneToMany };
        let mut branches = if s.layer.module == "v10Detect" { Branches::DwConv } else { usual };
        if !s.b.is_new() && branches != Branches::Separable {
            let pairs = s.b.given(&format!("{name}.{}cv3.0.0.0.conv.weight", assigned.prefix())).is_some();
            branches = if pairs { Branches::DwConv } else { Branches::Conv };
        }
        match assigned {
            Assigned::OneToOne => ["cv2.", "cv3.", "cv4.", "cv4_kpts."].iter().for_each(|part| s.b.leave_out(&format!("{name}.{part}"))),
            Assigned::OneToMany => s.b.leave_out(&format!("{name}.one2one_")),
        }
        Ok(Self { name, classes: s.plan.classes.len(), reg_max: s.plan.arch.reg_max, assigned, strides: s.strides()?, branches })
    }

    /// Emits the convolutions on one feature map per level.
    pub fn emit(&self, b: &mut Blocks, levels: &[Feature]) -> Result<Raw> {
        let Self { classes, reg_max, .. } = *self;
        let first = levels.first().map_or(16, |l| l.channels);
        let box_width = 16.max(first / 4).max(4 * reg_max);
        let class_width = first.max(classes.min(100));
        let of_boxes = if self.branches == Branches::Separable { self.branches } else { Branches::Conv };
        let mut head = DetectHead { boxes: Vec::new(), scores: Vec::new(), strides: self.strides.clone(), reg_max };
        for (i, (x, &stride)) in levels.iter().zip(&self.strides).enumerate() {
            // Near distances are likelier at first, so that initial boxes are about five cells wide, not as wide as possible.
            let near = match reg_max {
                1 => vec![2.0; 4],
                _ => (0..4 * reg_max).map(|k| 1.0 - 0.3 * (k % reg_max) as f32).collect(),
            };
            head.boxes.push(self.branch(b, "cv2", i, x, box_width, of_boxes, near)?);
            // A prior of about five objects in an image of 640 pixels.
            let cells = (640.0 / stride as f32).powi(2);
            let prior = vec![(5.0 / classes as f32 / cells).ln(); classes];
            head.scores.push(self.branch(b, "cv3", i, x, class_width, self.branches, prior)?);
        }
        let boxes = self.joined(b, &head.boxes, 4 * reg_max, "boxes");
        let scores = self.joined(b, &head.scores, classes, "scores");
        Ok(Raw { boxes, scores, head })
    }

    /// One more branch of two 3 × 3 convolutions on each level: `[batch, out, anchors]`. `last`: what the last, pointwise
    /// convolution is called where it stands apart from the two, which are then as wide as `wide`.
    pub fn more(&self, b: &mut Blocks, levels: &[Feature], out: usize, last: Option<(&str, usize)>) -> Result<String> {
        let width = last.map_or(out, |(_, wide)| wide).max(levels.first().map_or(0, |l| l.channels / 4));
        let mut values = Vec::with_capacity(levels.len());
        for (i, x) in levels.iter().enumerate() {
            values.push(match last {
                None => self.branch(b, "cv4", i, x, width, Branches::Conv, vec![0.0; out])?,
                Some((part, _)) => {
                    let y = self.trunk(b, "cv4", i, x, width, Branches::Conv)?;
                    let name = format!("{}.{}{part}.{i}", self.name, self.assigned.prefix());
                    b.conv2d(&name, &y, Conv::new(out, 1), Some(vec![0.0; out]))?.value
                }
            });
        }
        Ok(self.joined(b, &values, out, "cv4"))
    }

    fn branch(&self, b: &mut Blocks, part: &str, i: usize, x: &Feature, width: usize, of: Branches, bias: Vec<f32>) -> Result<String> {
        let y = self.trunk(b, part, i, x, width, of)?;
        let name = format!("{}.{}{part}.{i}.2", self.name, self.assigned.prefix());
        Ok(b.conv2d(&name, &y, Conv::new(bias.len(), 1), Some(bias))?.value)
    }

    fn trunk(&self, b: &mut Blocks, part: &str, i: usize, x: &Feature, width: usize, of: Branches) -> Result<Feature> {
        let name = format!("{}.{}{part}.{i}", self.name, self.assigned.prefix());
        let mut y = x.clone();
        for step in 0..2 {
            let name = format!("{name}.{step}");
            y = match of {
                Branches::Conv => b.conv(&name, &y, Conv::new(width, 3))?,
                Branches::DwConv => {
                    let y = b.conv(&format!("{name}.0"), &y, Conv::new(y.channels, 3).groups(y.channels))?;
                    b.conv(&format!("{name}.1"), &y, Conv::new(width, 1))?
                }
                Branches::Separable => b.separable(&name, &y, width, 1)?,
            };
        }
        Ok(y)
    }

    /// The levels' maps of `channels` as `[batch, channels, anchors]`.
    pub fn joined(&self, b: &mut Blocks, values: &[String], channels: usize, what: &str) -> String {
        let name = &self.name;
        let shape = b.graph.constant(&format!("{name}.{what}.shape"), Constant::ints(&[0, channels as i64, -1]));
        let parts: Vec<String> = values.iter().map(|v| b.named("Reshape", &format!("{name}.{what}"), &[v, &shape])).collect();
        let path = b.graph.path(&format!("{name}.{what}.Concat"));
        b.graph.node(Node::new("Concat", path, parts, [""]).int("axis", 2))
    }

    /// The distances of each box's sides from its cell's centre, in cells: `[batch, 4, anchors]`. Each is the mean of its
    /// distribution.
    pub fn distances(&self, b: &mut Blocks, boxes: &str) -> Result<String> {
        let Self { name, reg_max, .. } = self;
        if *reg_max == 1 {
            return Ok(boxes.to_string());
        }
        let shape = b.graph.constant(&format!("{name}.dfl.shape"), Constant::ints(&[0, 4, *reg_max as i64, -1]));
        let sides = b.named("Reshape", &format!("{name}.dfl"), &[boxes, &shape]);
        let path = b.graph.path(&format!("{name}.dfl.Transpose"));
        let sides = b.graph.node(Node::new("Transpose", path, [sides], [""]).ints("perm", &[0, 2, 1, 3]));
        let path = b.graph.path(&format!("{name}.dfl.Softmax"));
        let bins = b.graph.node(Node::new("Softmax", path, [sides], [""]).int("axis", 1));
        let steps: Vec<f32> = (0..*reg_max).map(|i| i as f32).collect();
        let w = b.graph.constant(&format!("{name}.dfl.conv.weight"), Constant::floats(&[1, *reg_max, 1, 1], &steps)?);
        let mean = b.named("Conv", &format!("{name}.dfl.conv"), &[&bins, &w]);
        let shape = b.graph.constant(&format!("{name}.distance.shape"), Constant::ints(&[0, 4, -1]));
        Ok(b.named("Reshape", &format!("{name}.distance"), &[&mean, &shape]))
    }

    /// Joins boxes, probabilities and `more` channels of each anchor in the output `output0`: as rows of finished detections where one
    /// box is right for an object, else for all anchors.
    pub fn end(&self, b: &mut Blocks, boxes: Boxes, scores: &str, grid: &Grid, more: Option<(&str, usize)>) {
        let scores = b.named("Sigmoid", &format!("{}.probabilities", self.name), &[scores]);
        let finished = self.assigned == Assigned::OneToOne;
        let boxes = match boxes {
            Boxes::Turned(boxes) => boxes,
            Boxes::Upright(distances) if finished => grid.corners(b, &distances),
            Boxes::Upright(distances) => grid.centred(b, &distances),
        };
        if finished {
            grid.finished(b, &boxes, &scores, self.classes, more);
        } else {
            let parts: Vec<&str> = [boxes.as_str(), &scores].into_iter().chain(more.map(|(value, _)| value)).collect();
            b.output_of(&self.name, &parts);
        }
        b.graph.output("output0");
    }
}

impl Assigned {
    /// What the names of the branches start with.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::OneToMany => "",
            Self::OneToOne => "one2one_",
        }
    }
}
