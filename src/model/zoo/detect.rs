//! The anchor-free detection head of YOLOv8 and its decoding into boxes and scores.

use super::anchors;
use super::blocks::{Blocks, Conv, Feature};
use super::site::{Made, Site};
use crate::{Constant, Decode, Detect, DetectHead, Node, Task};
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
    let strides = s.strides()?;
    let (classes, reg_max) = (s.plan.classes.len(), s.plan.arch.reg_max);
    let (output, head) = detect(s.b, &s.scope, s.inputs, classes, &strides, reg_max, branches)?;
    s.b.graph.output(&output);
    Ok(Made::End(Box::new(Task::Detect(Detect {
        classes: s.plan.classes.clone(),
        image_size: s.plan.image,
        decode: Decode::Yolo { output },
        head: Some(head),
        anchors: None,
    }))))
}

/// Emits the head on one feature map per level; returns the decoded output `[batch, 4 + classes, anchors]` (centre x,
/// centre y, width, height in input pixels, then class probabilities) and the raw values that training needs.
fn detect(
    b: &mut Blocks,
    name: &str,
    levels: &[Feature],
    classes: usize,
    strides: &[usize],
    reg_max: usize,
    branches: Branches,
) -> Result<(String, DetectHead)> {
    let first = levels.first().map_or(16, |l| l.channels);
    let box_width = 16.max(first / 4).max(4 * reg_max);
    let class_width = first.max(classes.min(100));
    let of_boxes = if branches == Branches::Separable { branches } else { Branches::Conv };
    let mut head = DetectHead { boxes: Vec::new(), scores: Vec::new(), strides: strides.to_vec(), reg_max };
    for (i, x) in levels.iter().enumerate() {
        let branch = |b: &mut Blocks, name: &str, width: usize, branches: Branches, bias: Vec<f32>| -> Result<String> {
            let mut y = x.clone();
            for step in 0..2 {
                let name = format!("{name}.{i}.{step}");
                y = match branches {
                    Branches::Conv => b.conv(&name, &y, Conv::new(width, 3))?,
                    Branches::DwConv => {
                        let y = b.conv(&format!("{name}.0"), &y, Conv::new(y.channels, 3).groups(y.channels))?;
                        b.conv(&format!("{name}.1"), &y, Conv::new(width, 1))?
                    }
                    Branches::Separable => b.separable(&name, &y, width, 1)?,
                };
            }
            Ok(b.conv2d(&format!("{name}.{i}.2"), &y, Conv::new(bias.len(), 1), Some(bias))?.value)
        };
        // Near distances are likelier at first, so that initial boxes are about five cells wide, not as wide as possible.
        let near = (0..4 * reg_max).map(|k| 1.0 - 0.3 * (k % reg_max) as f32).collect();
        head.boxes.push(branch(b, &format!("{name}.cv2"), box_width, of_boxes, near)?);
        // A prior of about five objects in an image of 640 pixels.
        let cells = (640.0 / strides[i] as f32).powi(2);
        let prior = vec![(5.0 / classes as f32 / cells).ln(); classes];
        head.scores.push(branch(b, &format!("{name}.cv3"), class_width, branches, prior)?);
    }
    let flat = |b: &mut Blocks, values: &[String], channels: usize, what: &str| -> String {
        let shape = b.graph.constant(&format!("{name}.{what}.shape"), Constant::ints(&[0, channels as i64, -1]));
        let parts: Vec<String> = values.iter().map(|v| b.named("Reshape", &format!("{name}.{what}"), &[v, &shape])).collect();
        let path = b.graph.path(&format!("{name}.{what}.Concat"));
        b.graph.node(Node::new("Concat", path, parts, [""]).int("axis", 2))
    };
    let boxes = flat(b, &head.boxes, 4 * reg_max, "boxes");
    let scores = flat(b, &head.scores, classes, "scores");

    // Each side's distance is the mean of its distribution, in cells.
    let shape = b.graph.constant(&format!("{name}.dfl.shape"), Constant::ints(&[0, 4, reg_max as i64, -1]));
    let sides = b.named("Reshape", &format!("{name}.dfl"), &[&boxes, &shape]);
    let path = b.graph.path(&format!("{name}.dfl.Transpose"));
    let sides = b.graph.node(Node::new("Transpose", path, [sides], [""]).ints("perm", &[0, 2, 1, 3]));
    let path = b.graph.path(&format!("{name}.dfl.Softmax"));
    let bins = b.graph.node(Node::new("Softmax", path, [sides], [""]).int("axis", 1));
    let steps: Vec<f32> = (0..reg_max).map(|i| i as f32).collect();
    let w = b.graph.constant(&format!("{name}.dfl.conv.weight"), Constant::floats(&[1, reg_max, 1, 1], &steps)?);
    let mean = b.named("Conv", &format!("{name}.dfl.conv"), &[&bins, &w]);
    let shape = b.graph.constant(&format!("{name}.distance.shape"), Constant::ints(&[0, 4, -1]));
    let distance = b.named("Reshape", &format!("{name}.distance"), &[&mean, &shape]);

    // Cell centres, and pixels per cell, of every anchor.
    let (mut centres, mut scale) = ([Vec::new(), Vec::new()], Vec::new());
    for (level, &stride) in levels.iter().zip(strides) {
        for row in 0..level.size[0] {
            for column in 0..level.size[1] {
                centres[0].push(column as f32 + 0.5);
                centres[1].push(row as f32 + 0.5);
                scale.push(stride as f32);
            }
        }
    }
    let anchors = scale.len();
    let centres = b.graph.constant(&format!("{name}.anchors"), Constant::floats(&[1, 2, anchors], &centres.concat())?);
    let scale = b.graph.constant(&format!("{name}.strides"), Constant::floats(&[1, 1, anchors], &scale)?);
    let sizes = b.graph.constant(&format!("{name}.sides"), Constant::ints(&[2, 2]));
    let path = b.graph.path(&format!("{name}.Split"));
    let (before, after) = (format!("{path}_output_0"), format!("{path}_output_1"));
    b.graph.node(Node::new("Split", path, [distance, sizes], [before.clone(), after.clone()]).int("axis", 1));
    let low = b.named("Sub", &format!("{name}.low"), &[&centres, &before]);
    let high = b.named("Add", &format!("{name}.high"), &[&centres, &after]);
    let sum = b.named("Add", &format!("{name}.centre"), &[&low, &high]);
    let half = b.graph.constant(&format!("{name}.half"), Constant::scalar(0.5));
    let centre = b.named("Mul", &format!("{name}.centre"), &[&sum, &half]);
    let extent = b.named("Sub", &format!("{name}.extent"), &[&high, &low]);
    let path = b.graph.path(&format!("{name}.xywh.Concat"));
    let xywh = b.graph.node(Node::new("Concat", path, [centre, extent], [""]).int("axis", 1));
    let pixels = b.named("Mul", &format!("{name}.pixels"), &[&xywh, &scale]);
    let probabilities = b.named("Sigmoid", &format!("{name}.probabilities"), &[&scores]);
    let path = b.graph.path(&format!("{name}.Concat"));
    let output = b.graph.node(Node::new("Concat", path, [pixels, probabilities], ["output0"]).int("axis", 1));
    Ok((output, head))
}
