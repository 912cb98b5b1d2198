//! The anchor-based detection head of YOLOv5 and its decoding into boxes, objectness and scores.

use super::blocks::Conv;
use super::site::{Made, Site};
use crate::{AnchorHead, BoxDecode, Constant, Decode, Detect, Node, Task};
use compresso_base::error::Result;

/// Values per anchor before the classes: box and objectness.
const FIXED: usize = 5;

/// The module `DetectAnchors`: one pointwise convolution per level, decoded to `[batch, boxes, 5 + classes]` (centre x,
/// centre y, width, height in input pixels, objectness, class probabilities), level by level, anchor by anchor, row by row.
pub fn emit(s: &mut Site<'_>) -> Result<Made> {
    let strides = s.strides()?;
    let anchors = s.plan.arch.anchors.clone();
    if anchors.len() != s.inputs.len() {
        let e = s.layer.error(format!("has {} levels, but 'anchors' lists {}", s.inputs.len(), anchors.len()));
        return Err(e.hint("give widths and heights for each level, such as anchors: [[10, 13, 16, 30], [30, 61, 62, 45]]"));
    }
    let (name, classes) = (s.scope.clone(), s.plan.classes.len());
    let width = FIXED + classes;
    let mut head = AnchorHead { outputs: Vec::new(), anchors, strides };
    let mut flat = Vec::new();
    for (i, x) in s.inputs.iter().enumerate() {
        let count = head.anchors[i].len();
        let bias = prior(classes, head.strides[i]).repeat(count);
        let y = s.b.conv2d(&format!("{name}.m.{i}"), x, Conv::new(count * width, 1), Some(bias))?;
        head.outputs.push(y.value.clone());
        let level = format!("{name}.level.{i}");
        let shape = s.b.ints(&format!("{level}.shape"), &[0, count as i64, width as i64, (x.size[0] * x.size[1]) as i64]);
        let y = s.b.named("Reshape", &level, &[&y.value, &shape]);
        let y = s.b.node("Transpose", &level, &[&y], |n| n.ints("perm", &[0, 1, 3, 2]));
        let shape = s.b.ints(&format!("{level}.flat"), &[0, -1, width as i64]);
        flat.push(s.b.named("Reshape", &level, &[&y, &shape]));
    }
    let parts: Vec<&str> = flat.iter().map(String::as_str).collect();
    let all = s.b.node("Concat", &name, &parts, |n| n.int("axis", 1));
    let all = s.b.named("Sigmoid", &name, &[&all]);

    // A centre is (2 p − 0.5 + cell) · stride, a size 4 p² · anchor, with p the sigmoid of the logit.
    let (mut reach, mut origin, mut size) = (Vec::new(), Vec::new(), Vec::new());
    for ((x, anchors), &stride) in s.inputs.iter().zip(&head.anchors).zip(&head.strides) {
        for anchor in anchors {
            for cell in 0..x.size[0] * x.size[1] {
                let at = [cell % x.size[1], cell / x.size[1]];
                reach.push(2.0 * stride as f32);
                origin.extend(at.map(|n| (n as f32 - 0.5) * stride as f32));
                size.extend(anchor.map(|n| 4.0 * n as f32));
            }
        }
    }
    let total = reach.len();
    let reach = s.b.graph.constant(&format!("{name}.reach"), Constant::floats(&[1, total, 1], &reach)?);
    let origin = s.b.graph.constant(&format!("{name}.origin"), Constant::floats(&[1, total, 2], &origin)?);
    let size = s.b.graph.constant(&format!("{name}.size"), Constant::floats(&[1, total, 2], &size)?);
    let sizes = s.b.ints(&format!("{name}.sides"), &[2, 2, (1 + classes) as i64]);
    let [centre, extent, rest] = s.b.split(&name, &all, &sizes, 2);
    let centre = s.b.named("Mul", &format!("{name}.centre"), &[&centre, &reach]);
    let centre = s.b.named("Add", &format!("{name}.centre"), &[&centre, &origin]);
    let extent = s.b.named("Mul", &format!("{name}.extent"), &[&extent, &extent]);
    let extent = s.b.named("Mul", &format!("{name}.extent"), &[&extent, &size]);
    let path = s.b.graph.path(&format!("{name}.boxes.Concat"));
    let output = s.b.graph.node(Node::new("Concat", path, [centre, extent, rest], ["output0"]).int("axis", 2));
    s.b.graph.output(&output);
    Ok(Made::End(Box::new(Task::Detect(Detect {
        classes: s.plan.classes.clone(),
        image_size: s.plan.image,
        decode: Decode::described(BoxDecode::yolov5(output)),
        head: None,
        anchors: Some(head),
    }))))
}

/// Initial biases of one anchor: about eight objects in an image of 640 pixels, all classes alike.
fn prior(classes: usize, stride: usize) -> Vec<f32> {
    let cells = (640.0 / stride as f32).powi(2);
    let class = if classes > 1 { (0.6 / (classes as f32 - 1.0)).ln() } else { 0.0 };
    let mut biases = vec![0.0; 4];
    biases.push((8.0 / cells).ln());
    biases.extend(std::iter::repeat_n(class, classes));
    biases
}
