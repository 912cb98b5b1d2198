//! RT-DETR's decoder (Zhao et al. 2023, "DETRs Beat YOLOs on Real-time Object Detection"): queries chosen from the cells of
//! all levels are refined by layers of attention among them and of deformable attention to the cells (Zhu et al. 2020,
//! "Deformable DETR").

use super::blocks::{Act, Blocks, Conv};
use super::sequence::Sequence;
use super::site::{Made, Site};
use crate::{Attr, BoxDecode, Constant, Decode, Detect, Node, Task};
use compresso_base::error::Result;

/// The size of a first box, in parts of the image, at the finest level; twice as much at each further one.
const FIRST_SIZE: f32 = 0.05;
/// Distance from the image's border, in parts of it, within which no box starts.
const BORDER: f32 = 0.01;
/// The least that logarithms are taken of.
const LEAST: f32 = 1e-5;

/// Sizes of a decoder.
struct Decoder {
    name: String,
    width: usize,
    points: usize,
    heads: usize,
    hidden: usize,
    /// Height and width of each level.
    levels: Vec<[usize; 2]>,
}

/// The module `RTDETRDecoder`. Its output is rows `[batch, detections, 6]`: centre x, centre y, width, height in parts of the
/// image, score, class.
pub fn emit(s: &mut Site<'_>) -> Result<Made> {
    let layer = s.layer;
    let width = layer.count(1, "width", 256, 1 << 14)?;
    let (queries, points) = (layer.count(2, "queries", 300, 10_000)?, layer.count(3, "points", 4, 64)?);
    let (heads, depth) = (layer.count(4, "heads", 8, 64)?, layer.count(5, "layers", 6, 64)?);
    let hidden = layer.count(6, "hidden", 1024, 1 << 16)?;
    if !width.is_multiple_of(heads) {
        return Err(layer.error(format!("{width} channels do not divide into {heads} heads")));
    }
    let (name, classes) = (s.scope.clone(), s.plan.classes.len());
    let levels = s.inputs.iter().map(|x| x.size).collect();
    let d = Decoder { name: name.clone(), width, points, heads, hidden, levels };
    // What only training needs.
    s.b.leave_out(&format!("{name}.denoising_class_embed."));
    (0..depth - 1).for_each(|i| s.b.leave_out(&format!("{name}.dec_score_head.{i}.")));

    let mut parts = Vec::new();
    for (i, x) in s.inputs.iter().enumerate() {
        let names = [format!("{name}.input_proj.{i}.0"), format!("{name}.input_proj.{i}.1")];
        let y = s.b.conv_norm([&names[0], &names[1]], x, Conv::new(width, 1).act(Act::None))?;
        parts.push(s.b.unrolled(&names[0], &y));
    }
    let values: Vec<&str> = parts.iter().map(|p| p.value.as_str()).collect();
    let value = s.b.node("Concat", &name, &values, |n| n.int("axis", 1));
    let cells = Sequence { value, positions: parts.iter().map(|p| p.positions).sum(), channels: width };
    let (mut query, mut reference, count) = d.queries(s.b, &cells, queries, classes)?;
    let mut scores = query.clone();
    let at = format!("{name}.query_pos_head");
    let placing =
        [s.b.linear_layer(&format!("{at}.layers.0"), 4, 2 * width)?, s.b.linear_layer(&format!("{at}.layers.1"), 2 * width, width)?];
    for i in 0..depth {
        let places = s.b.apply(&placing[0], &reference);
        let places = places.with(s.b.named("Relu", &at, &[&places.value]));
        let places = s.b.apply(&placing[1], &places);
        query = d.layer(s.b, i, &query, &places, &reference, &cells)?;
        let moved = s.b.perceptron(&format!("{name}.dec_bbox_head.{i}"), &query, &[width, width, 4])?;
        let before = d.logits(s.b, &reference);
        let boxes = s.b.sum(&name, &moved, &before);
        reference = boxes.with(s.b.named("Sigmoid", &name, &[&boxes.value]));
        if i + 1 == depth {
            scores = s.b.dense(&format!("{name}.dec_score_head.{i}"), &query, classes)?;
        }
    }
    let scores = s.b.named("Sigmoid", &format!("{name}.scores"), &[&scores.value]);
    // As many detections as queries were asked for, though a small image may have fewer cells.
    let most = queries.min(count * classes);
    s.b.best(&name, &reference.value, &scores, classes, most, None);
    s.b.graph.output("output0");
    Ok(Made::End(Box::new(Task::Detect(Detect {
        classes: s.plan.classes.clone(),
        image_size: s.plan.image,
        decode: Decode::described(BoxDecode::query_rows("output0")),
        head: None,
        anchors: None,
    }))))
}

impl Decoder {
    /// The queries that the cells of best score make, their boxes, and how many there are.
    fn queries(&self, b: &mut Blocks, cells: &Sequence, most: usize, classes: usize) -> Result<(Sequence, Sequence, usize)> {
        let name = &self.name;
        let (logits, inside) = self.first_boxes();
        let seen = match inside.iter().all(|&v| v == 1.0) {
            true => cells.clone(),
            false => {
                let mask = b.graph.constant(&format!("{name}.inside"), Constant::floats(&[1, cells.positions, 1], &inside)?);
                cells.with(b.named("Mul", &format!("{name}.inside"), &[&cells.value, &mask]))
            }
        };
        let y = b.dense(&format!("{name}.enc_output.0"), &seen, self.width)?;
        let y = b.layer_norm(&format!("{name}.enc_output.1"), &y)?;
        let scores = b.dense(&format!("{name}.enc_score_head"), &y, classes)?;
        let best = b.node("ReduceMax", &format!("{name}.queries"), &[&scores.value], |n| n.ints("axes", &[-1]).int("keepdims", 0));
        let count = most.min(cells.positions);
        let k = b.ints(&format!("{name}.queries.count"), &[count as i64]);
        let path = b.graph.path(&format!("{name}.queries.TopK"));
        let at = format!("{path}_output_1");
        b.graph.node(Node::new("TopK", path.clone(), [best, k], [format!("{path}_output_0"), at.clone()]).int("axis", 1));
        // In a node of its own: a setting, not a parameter.
        let path = b.graph.path(&format!("{name}.first_boxes.Constant"));
        let logits = Attr::Tensor(Constant::floats(&[cells.positions, 4], &logits)?);
        let first =
            b.graph.node(Node::new("Constant", path.clone(), Vec::<String>::new(), [format!("{path}_output_0")]).attr("value", logits));
        let first = b.node("Gather", &format!("{name}.first_boxes"), &[&first, &at], |n| n.int("axis", 0));
        let last = b.ints(&format!("{name}.queries.last"), &[2]);
        let places = b.named("Unsqueeze", &format!("{name}.queries"), &[&at, &last]);
        let repeats = b.ints(&format!("{name}.queries.repeats"), &[1, 1, self.width as i64]);
        let places = b.named("Tile", &format!("{name}.queries"), &[&places, &repeats]);
        let value = b.node("GatherElements", &format!("{name}.queries"), &[&y.value, &places], |n| n.int("axis", 1));
        let query = Sequence { value, positions: count, channels: self.width };
        let moved = b.perceptron(&format!("{name}.enc_bbox_head"), &query, &[self.width, self.width, 4])?;
        let boxes = b.named("Add", &format!("{name}.enc_bbox_head"), &[&moved.value, &first]);
        let reference = moved.with(b.named("Sigmoid", &format!("{name}.enc_bbox_head"), &[&boxes]));
        Ok((query, reference, count))
    }

    /// Logits of the box that each cell starts from, and 1 for the cells that may start one, 0 for those at the border.
    fn first_boxes(&self) -> (Vec<f32>, Vec<f32>) {
        let (mut logits, mut inside) = (Vec::new(), Vec::new());
        for (i, &[height, width]) in self.levels.iter().enumerate() {
            let side = FIRST_SIZE * 2f32.powi(i32::try_from(i).unwrap_or(i32::MAX));
            for cell in 0..height * width {
                let at = |n: usize, of: usize| (n as f32 + 0.5) / of as f32;
                let first = [at(cell % width, width), at(cell / width, height), side, side];
                let valid = first.iter().all(|v| (BORDER..1.0 - BORDER).contains(v) && *v != BORDER);
                inside.push(if valid { 1.0 } else { 0.0 });
                logits.extend(first.map(|v| if valid { (v / (1.0 - v)).ln() } else { f32::INFINITY }));
            }
        }
        (logits, inside)
    }

    /// `ln(x / (1 − x))`, both kept away from zero.
    fn logits(&self, b: &mut Blocks, x: &Sequence) -> Sequence {
        let name = format!("{}.logits", self.name);
        let [zero, one, least] =
            [("zero", 0.0), ("one", 1.0), ("least", LEAST)].map(|(n, v)| b.graph.constant(&format!("{name}.{n}"), Constant::scalar(v)));
        let x1 = b.named("Clip", &name, &[&x.value, &zero, &one]);
        let x2 = b.named("Sub", &name, &[&one, &x1]);
        let [x1, x2] = [x1, x2].map(|v| b.named("Max", &name, &[&v, &least]));
        let y = b.named("Div", &name, &[&x1, &x2]);
        x.with(b.named("Log", &name, &[&y]))
    }

    fn layer(
        &self,
        b: &mut Blocks,
        i: usize,
        query: &Sequence,
        places: &Sequence,
        reference: &Sequence,
        cells: &Sequence,
    ) -> Result<Sequence> {
        let name = format!("{}.decoder.layers.{i}", self.name);
        let y = b.heads(&format!("{name}.self_attn"), query, &places.value, self.heads)?;
        let y = b.sum(&name, query, &y);
        let x = b.layer_norm(&format!("{name}.norm1"), &y)?;
        let placed = b.sum(&name, &x, places);
        let y = self.deformable(b, &format!("{name}.cross_attn"), &placed, reference, cells)?;
        let y = b.sum(&name, &x, &y);
        let x = b.layer_norm(&format!("{name}.norm2"), &y)?;
        let y = b.dense(&format!("{name}.linear1"), &x, self.hidden)?;
        let y = y.with(b.named("Relu", &name, &[&y.value]));
        let y = b.dense(&format!("{name}.linear2"), &y, self.width)?;
        let y = b.sum(&name, &x, &y);
        b.layer_norm(&format!("{name}.norm3"), &y)
    }

    /// Each query's heads read a few points of each level, about its box.
    fn deformable(&self, b: &mut Blocks, name: &str, query: &Sequence, reference: &Sequence, cells: &Sequence) -> Result<Sequence> {
        let (n, count) = (query.positions as i64, self.levels.len() * self.points);
        let (h, d, all) = (self.heads as i64, (self.width / self.heads) as i64, count as i64);
        let value = b.dense(&format!("{name}.value_proj"), cells, self.width)?;
        // [batch · heads, channels, cells].
        let split = b.ints(&format!("{name}.value.split"), &[0, cells.positions as i64, h, d]);
        let value = b.named("Reshape", &format!("{name}.value"), &[&value.value, &split]);
        let value = b.node("Transpose", &format!("{name}.value"), &[&value], |n| n.ints("perm", &[0, 2, 3, 1]));
        let flat = b.ints(&format!("{name}.value.flat"), &[-1, d, cells.positions as i64]);
        let value = b.named("Reshape", &format!("{name}.value"), &[&value, &flat]);
        let sizes: Vec<i64> = self.levels.iter().map(|[h, w]| (h * w) as i64).collect();
        let values = split_along(b, &format!("{name}.value"), &value, &sizes, 2);

        // Points lie about the box's centre, in parts of half its size: [batch · heads, queries, points of all levels, 2].
        let offsets = b.dense(&format!("{name}.sampling_offsets"), query, 2 * self.heads * count)?;
        let shape = b.ints(&format!("{name}.points.shape"), &[0, n, h, all, 2]);
        let offsets = b.named("Reshape", &format!("{name}.points"), &[&offsets.value, &shape]);
        let shape = b.ints(&format!("{name}.box.shape"), &[0, n, 1, 1, 4]);
        let boxes = b.named("Reshape", &format!("{name}.box"), &[&reference.value, &shape]);
        let parts = split_along(b, &format!("{name}.box"), &boxes, &[2, 2], 4);
        let (centre, size) = (&parts[0], &parts[1]);
        let reach = b.graph.constant(&format!("{name}.reach"), Constant::scalar(0.5 / self.points as f32));
        let [two, one] = [("two", 2.0), ("one", 1.0)].map(|(n, v)| b.graph.constant(&format!("{name}.{n}"), Constant::scalar(v)));
        let off = b.named("Mul", &format!("{name}.points"), &[&offsets, size]);
        let off = b.named("Mul", &format!("{name}.points"), &[&off, &reach]);
        let at = b.named("Add", &format!("{name}.points"), &[centre, &off]);
        // From −1 to 1, as the sampling counts.
        let at = b.named("Mul", &format!("{name}.points"), &[&at, &two]);
        let at = b.named("Sub", &format!("{name}.points"), &[&at, &one]);
        let at = b.node("Transpose", &format!("{name}.points"), &[&at], |n| n.ints("perm", &[0, 2, 1, 3, 4]));
        let shape = b.ints(&format!("{name}.points.flat"), &[-1, n, all, 2]);
        let at = b.named("Reshape", &format!("{name}.points"), &[&at, &shape]);
        let points = split_along(b, &format!("{name}.points"), &at, &vec![self.points as i64; self.levels.len()], 2);

        let shares = b.dense(&format!("{name}.attention_weights"), query, self.heads * count)?;
        let shape = b.ints(&format!("{name}.shares.shape"), &[0, n, h, all]);
        let shares = b.named("Reshape", &format!("{name}.shares"), &[&shares.value, &shape]);
        let shares = b.node("Softmax", &format!("{name}.shares"), &[&shares], |n| n.int("axis", -1));
        let shares = b.node("Transpose", &format!("{name}.shares"), &[&shares], |n| n.ints("perm", &[0, 2, 1, 3]));
        let shape = b.ints(&format!("{name}.shares.flat"), &[-1, 1, n, all]);
        let shares = b.named("Reshape", &format!("{name}.shares"), &[&shares, &shape]);

        let mut read = Vec::new();
        for (i, [height, width]) in self.levels.iter().enumerate() {
            let shape = b.ints(&format!("{name}.level.{i}"), &[-1, d, *height as i64, *width as i64]);
            let map = b.named("Reshape", &format!("{name}.level.{i}"), &[&values[i], &shape]);
            read.push(b.node("GridSample", &format!("{name}.level.{i}"), &[&map, &points[i]], |n| n.int("align_corners", 0)));
        }
        let read: Vec<&str> = read.iter().map(String::as_str).collect();
        let read = b.node("Concat", name, &read, |n| n.int("axis", 3));
        let weighed = b.named("Mul", name, &[&read, &shares]);
        let axes = b.ints(&format!("{name}.axes"), &[3]);
        let mixed = b.node("ReduceSum", name, &[&weighed, &axes], |n| n.int("keepdims", 0));
        let shape = b.ints(&format!("{name}.joined"), &[-1, self.width as i64, n]);
        let mixed = b.named("Reshape", name, &[&mixed, &shape]);
        let mixed = query.with(b.node("Transpose", name, &[&mixed], |n| n.ints("perm", &[0, 2, 1])));
        b.dense(&format!("{name}.output_proj"), &mixed, self.width)
    }
}

/// A value in parts of these sizes along an axis.
fn split_along(b: &mut Blocks, name: &str, value: &str, sizes: &[i64], axis: i64) -> Vec<String> {
    let list = b.ints(&format!("{name}.sizes"), sizes);
    let path = b.graph.path(&format!("{name}.Split"));
    let parts: Vec<String> = (0..sizes.len()).map(|i| format!("{path}_output_{i}")).collect();
    b.graph.node(Node::new("Split", path, [value.to_string(), list], parts.clone()).int("axis", axis));
    parts
}
