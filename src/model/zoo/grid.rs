//! From distances to boxes: the cells of a head's levels, and the end of its graph.

use super::blocks::{Blocks, Feature};
use crate::{Constant, Node};
use compresso_base::error::Result;

/// Most detections of a head that finishes them.
const MOST_DETECTIONS: usize = 300;

/// The cells of all levels, as constants of the graph.
#[derive(Debug)]
pub struct Grid {
    name: String,
    /// Centres in cells, `[1, 2, anchors]`.
    pub centres: String,
    /// Pixels per cell, `[1, 1, anchors]`.
    pub scale: String,
    pub anchors: usize,
    /// Centres and pixels per cell as numbers: x of all, then y of all.
    pub points: [Vec<f32>; 2],
    pub strides: Vec<f32>,
}

impl Grid {
    pub fn new(b: &mut Blocks, name: &str, levels: &[Feature], strides: &[usize]) -> Result<Self> {
        let (mut points, mut scale) = ([Vec::new(), Vec::new()], Vec::new());
        for (level, &stride) in levels.iter().zip(strides) {
            for row in 0..level.size[0] {
                for column in 0..level.size[1] {
                    points[0].push(column as f32 + 0.5);
                    points[1].push(row as f32 + 0.5);
                    scale.push(stride as f32);
                }
            }
        }
        let anchors = scale.len();
        let centres = b.graph.constant(&format!("{name}.anchors"), Constant::floats(&[1, 2, anchors], &points.concat())?);
        let pixels = b.graph.constant(&format!("{name}.strides"), Constant::floats(&[1, 1, anchors], &scale)?);
        Ok(Self { name: name.to_string(), centres, scale: pixels, anchors, points, strides: scale })
    }

    /// Distances as those before (left, top) and those after (right, bottom), `[batch, 2, anchors]` each.
    pub fn sides(&self, b: &mut Blocks, distances: &str) -> [String; 2] {
        let name = &self.name;
        let sizes = b.graph.constant(&format!("{name}.sides"), Constant::ints(&[2, 2]));
        b.split(name, distances, &sizes, 1)
    }

    fn ends(&self, b: &mut Blocks, distances: &str) -> [String; 2] {
        let [before, after] = self.sides(b, distances);
        let low = b.named("Sub", &format!("{}.low", self.name), &[&self.centres, &before]);
        [low, b.named("Add", &format!("{}.high", self.name), &[&self.centres, &after])]
    }

    /// Left, top, right, bottom in pixels: `[batch, 4, anchors]`.
    pub fn corners(&self, b: &mut Blocks, distances: &str) -> String {
        let [low, high] = self.ends(b, distances);
        let all = b.node("Concat", &format!("{}.xyxy", self.name), &[&low, &high], |n| n.int("axis", 1));
        self.pixels(b, &all)
    }

    /// Centre x, centre y, width, height in pixels: `[batch, 4, anchors]`.
    pub fn centred(&self, b: &mut Blocks, distances: &str) -> String {
        let name = &self.name;
        let [low, high] = self.ends(b, distances);
        let sum = b.named("Add", &format!("{name}.centre"), &[&low, &high]);
        let half = b.graph.constant(&format!("{name}.half"), Constant::scalar(0.5));
        let centre = b.named("Mul", &format!("{name}.centre"), &[&sum, &half]);
        let extent = b.named("Sub", &format!("{name}.extent"), &[&high, &low]);
        let all = b.node("Concat", &format!("{name}.xywh"), &[&centre, &extent], |n| n.int("axis", 1));
        self.pixels(b, &all)
    }

    /// Cells as pixels.
    pub fn pixels(&self, b: &mut Blocks, boxes: &str) -> String {
        b.named("Mul", &format!("{}.pixels", self.name), &[boxes, &self.scale])
    }

    /// The best detections, best first, as [`Blocks::best`] gives them. Boxes are `[batch, 4, anchors]`, scores
    /// `[batch, classes, anchors]`, the channels of `more` `[batch, more, anchors]`.
    pub fn finished(&self, b: &mut Blocks, boxes: &str, scores: &str, classes: usize, more: Option<(&str, usize)>) {
        let name = &self.name;
        let mut rows = |what: &str, value: &str| b.node("Transpose", &format!("{name}.{what}"), &[value], |n| n.ints("perm", &[0, 2, 1]));
        let (boxes, scores) = (rows("boxes", boxes), rows("scores", scores));
        let more = more.map(|(value, width)| (rows("more", value), width));
        b.best(name, &boxes, &scores, classes, MOST_DETECTIONS.min(self.anchors), more);
    }
}

impl Blocks {
    /// The best `most` detections, best first, as rows `[batch, most, 6 + more]` under the name `output0`: a box, its score,
    /// its class, and `more` values. Boxes are `[batch, anchors, 4]`, scores `[batch, anchors, classes]`, `more` has a name
    /// and a width: `[batch, anchors, width]`.
    pub fn best(&mut self, name: &str, boxes: &str, scores: &str, classes: usize, most: usize, more: Option<(String, usize)>) {
        let head = name;
        let name = format!("{head}.best");
        // Every class of every anchor is a candidate: number of the anchor times the number of classes, plus the class.
        let flat = self.ints(&format!("{name}.flat"), &[0, -1]);
        let scores = self.named("Reshape", &format!("{name}.scores"), &[scores, &flat]);
        let count = self.ints(&format!("{name}.count"), &[most as i64]);
        let path = self.graph.path(&format!("{name}.TopK"));
        let [best, at] = [0, 1].map(|i| format!("{path}_output_{i}"));
        self.graph.node(Node::new("TopK", path, [scores, count], [best.clone(), at.clone()]).int("axis", 1));
        let number = self.ints(&format!("{name}.classes"), &[classes as i64]);
        let anchor = self.named("Div", &format!("{name}.anchor"), &[&at, &number]);
        let whole = self.named("Mul", &format!("{name}.class"), &[&anchor, &number]);
        let class = self.named("Sub", &format!("{name}.class"), &[&at, &whole]);
        let class = self.node("Cast", &format!("{name}.class"), &[&class], |n| n.int("to", 1));
        let last = self.ints(&format!("{name}.last"), &[2]);
        let mut column = |what: &str, value: &str| self.named("Unsqueeze", &format!("{name}.{what}"), &[value, &last]);
        let (anchor, best, class) = (column("anchor", &anchor), column("score", &best), column("class", &class));
        let mut chosen = |what: &str, value: &str, width: usize| {
            let repeats = self.ints(&format!("{name}.{what}.repeats"), &[1, 1, width as i64]);
            let places = self.named("Tile", &format!("{name}.{what}"), &[&anchor, &repeats]);
            self.node("GatherElements", &format!("{name}.{what}"), &[value, &places], |n| n.int("axis", 1))
        };
        let mut parts = vec![chosen("boxes", boxes, 4)];
        let more = more.map(|(value, width)| chosen("more", &value, width));
        parts.extend([best, class]);
        parts.extend(more);
        let path = self.graph.path(&format!("{head}.Concat"));
        self.graph.node(Node::new("Concat", path, parts, ["output0"]).int("axis", 2));
    }

    /// Channels of several values `[batch, channels, anchors]` joined as the graph's `output0`.
    pub fn output_of(&mut self, name: &str, parts: &[&str]) {
        let path = self.graph.path(&format!("{name}.Concat"));
        self.graph.node(Node::new("Concat", path, parts.iter().copied(), ["output0"]).int("axis", 1));
    }
}
