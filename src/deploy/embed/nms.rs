//! Non-maximum suppression inside the graph.
//!
//! Nodes of operator set 11: each box keeps its best class; [NonMaxSuppression](https://onnx.ai/onnx/operators/onnx__NonMaxSuppression.html)
//! chooses boxes per class; the scores of the others become 0, and TopK of all classes together makes rows of a fixed number, in any
//! batch.

use compresso_base::context::Context;
use compresso_base::error::{Error, Result};
use compresso_base::operation::{Arg, ArgKind, Operation, Options, Signature, in_range};
use compresso_model::graph::ValueInfo;
use compresso_model::ops::activation::SIGMOID;
use compresso_model::ops::arithmetic::{ADD, MIN, MUL, SUB};
use compresso_model::ops::cast::CAST;
use compresso_model::ops::concat::CONCAT;
use compresso_model::ops::constant::CONSTANT_OF_SHAPE;
use compresso_model::ops::detection::NON_MAX_SUPPRESSION;
use compresso_model::ops::gather::{GATHER, GATHER_ELEMENTS};
use compresso_model::ops::logic::{EQUAL, GREATER, WHERE};
use compresso_model::ops::order::TOP_K;
use compresso_model::ops::scatter::SCATTER_ND;
use compresso_model::ops::shape::{RESHAPE, SHAPE};
use compresso_model::ops::slice::SLICE;
use compresso_model::ops::transpose::{EXPAND, TRANSPOSE};
use compresso_model::{
    AnchorLayout, BoxDecode, BoxFormat, Constant, Decode, Detect, Dim, Element, Fact, Graph, Model, Node, Patch, ScoreActivation, Task,
};

compresso_base::options! {
    /// Options of `embed_nms`.
    pub struct EmbedNms {
        /// Boxes of lower confidence are dropped.
        pub confidence: f64 = 0.25,
        /// A box is dropped that overlaps a better one by more than this (intersection over union).
        pub iou: f64 = 0.7,
        /// Rows of the output: the most boxes per image.
        pub max_detections: usize = 300,
        /// Boxes of different classes suppress each other.
        pub agnostic: bool = false,
    }
}

/// The name of the rows.
const OUTPUT: &str = "detections";

/// # Errors
/// `Unsupported` for a model that is no detector, and for boxes that the graph does not finish itself; `Argument` where nothing is to be
/// suppressed.
impl Operation for EmbedNms {
    const SIGNATURE: Signature = Signature {
        name: "embed_nms",
        summary: "Puts non-maximum suppression into a detector's graph: rows [left, top, right, bottom, score, class], best first, empty ones 0",
        group: "deploy",
        args: &[Arg::new("m", ArgKind::Model)],
        returns: "model",
        fields: Self::FIELDS,
        examples: &[r#"embed_nms(model("yolov8n", #{ image_size: 64 }), #{ max_detections: 100 })"#],
        keywords: &["nms", "suppression", "end-to-end", "overlap", "export", "boxes"],
    };
    type Inputs<'a> = &'a Model;
    type Output = Model;

    fn run(&self, model: &Model, ctx: &Context) -> Result<Model> {
        in_range("confidence", self.confidence, 0.0..=1.0)?;
        in_range("iou", self.iou, 0.0..=1.0)?;
        in_range("max_detections", self.max_detections as f64, 1.0..=65536.0)?;
        let task = detector(model.task())?;
        let (graph, decode) = self.rows(model.graph(), task)?;
        ctx.note(format!(
            "embed_nms: the output '{OUTPUT}' has up to {} rows per image; the model is only run now, not trained",
            self.max_detections
        ));
        let task = Detect { decode: Decode::described(decode), head: None, anchors: None, ..task.clone() };
        Ok(model.derive(graph, self.call([model.into()])).with_task(Task::Detect(task)))
    }
}

fn detector(task: &Task) -> Result<&Detect> {
    let e = match task {
        Task::Detect(d) if d.decode.suppresses() => return Ok(d),
        Task::Detect(_) => return Err(Error::argument("the model's detections are finished: it has nothing to suppress")),
        Task::Classify(_) => Error::unsupported("a classifier has no boxes to suppress"),
        Task::Instances(_) => Error::unsupported("suppression of objects with masks, key points or angles is not put into graphs yet"),
        Task::Unknown => Error::unsupported("it is not known what the outputs mean")
            .hint("say how boxes are read: model(path, #{ decode: #{ … } }), see help(\"model\")"),
    };
    Err(e)
}

impl EmbedNms {
    /// The graph with rows of detections in place of the outputs that the decoder read, and how they are read.
    fn rows(&self, graph: &Graph, task: &Detect) -> Result<(Graph, BoxDecode)> {
        let d = task.decode.clone().into_description();
        if d.is_finished() {
            let e = Error::unsupported("this detector's rows have a class each already, which is not suppressed inside of its graph");
            return Err(e.hint("predict and evaluate suppress them"));
        }
        if !d.strides.is_empty() || !d.powers.is_empty() || d.background.is_some() || d.activation == ScoreActivation::Softmax {
            let e = Error::unsupported(
                "this detector's boxes are finished outside of its graph, from grid cells, powers or a background class",
            );
            return Err(e.hint(
                "predict and evaluate suppress them; only finished boxes with a probability for each class can be suppressed inside",
            ));
        }
        if graph.opset() < 11 {
            return Err(Error::unsupported(format!("suppression needs operator set 11, the model has {}", graph.opset()))
                .hint("onnx_export(m, path, #{ opset: 13 }) raises it"));
        }
        if task.classes.is_empty() {
            return Err(
                Error::argument("the model's classes are not known").hint("name them: model(path, #{ classes: [\"cat\", \"dog\"] })")
            );
        }
        let facts = graph.facts()?;
        let mut steps = Steps { patch: Patch::new(graph), graph };
        let [boxes, scores] = steps.parts(&d, task.classes.len(), |name| facts.get(name))?;
        let fact = d.boxes.as_deref().and_then(|n| facts.get(n));
        let [channels, _] = channels(&d, task.classes.len());
        let anchors = fact.and_then(|f| f.dim(if steps.last(&d, fact, channels) { 1 } else { 2 }));
        let batch = fact.and_then(|f| f.shape.as_ref()).and_then(|s| s.first().cloned()).unwrap_or(Dim::Unknown);
        let rows = self.suppress(&mut steps, &d, task.classes.len(), anchors, &boxes, &scores)?;
        let mut patch = steps.patch;
        let count = anchors.map_or(Dim::Unknown, |a| Dim::Known(a.min(self.max_detections)));
        let read = d.outputs();
        let rest = graph.outputs().iter().filter(|o| !read.contains(&o.name.as_str())).cloned();
        let fact = Fact { shape: Some(vec![batch, count, Dim::Known(6)]), ..Fact::unranked(Element::F32) };
        let outputs: Vec<ValueInfo> = std::iter::once(ValueInfo::new(rows.clone(), fact)).chain(rest).collect();
        patch.set_outputs(outputs);
        let BoxDecode { normalized, bgr, scale, mean, std, .. } = d;
        let decode = BoxDecode { normalized, bgr, scale, mean, std, ..BoxDecode::end_to_end(rows) };
        Ok((patch.apply()?, decode))
    }

    /// From boxes `[batch, anchors, 4]` and probabilities `[batch, anchors, classes]` to rows.
    fn suppress(
        &self,
        s: &mut Steps<'_>,
        d: &BoxDecode,
        classes: usize,
        anchors: Option<usize>,
        boxes: &str,
        scores: &str,
    ) -> Result<String> {
        let one = s.ints(&[1]);
        let best = s.many(TOP_K, &[scores, &one], 2, |n| n.int("axis", 2));
        let [score, class] = [&best[0], &best[1]];
        let matrix = if self.agnostic || classes == 1 {
            score.clone()
        } else {
            // Zero but for the best class.
            let all = s.constant(Constant::ints(&(0..classes as i64).collect::<Vec<_>>()));
            let is_best = s.op(EQUAL, &[class, &all], |n| n);
            let zero = s.constant(Constant::scalar(0.0));
            s.op(WHERE, &[&is_best, score, &zero], |n| n)
        };
        let matrix = s.op(TRANSPOSE, &[&matrix], |n| n.ints("perm", &[0, 2, 1]));
        let (most, iou, least) =
            (s.ints(&[self.max_detections as i64]), s.floats(&[self.iou as f32])?, s.floats(&[self.confidence as f32])?);
        // Corners already, see `parts`.
        let format = if d.format == BoxFormat::Xywh { BoxFormat::Xyxy } else { d.format };
        let centre = i64::from(format == BoxFormat::Cxcywh);
        let chosen = s.op(NON_MAX_SUPPRESSION, &[boxes, &matrix, &most, &iou, &least], |n| n.int("center_point_box", centre));
        // Rows (batch, class, box): a box is there once at most.
        let which = s.ints(&[0, 2]);
        let pairs = s.op(GATHER, &[&chosen, &which], |n| n.int("axis", 1));
        let flat = s.ints(&[0, -1]);
        let score = s.op(RESHAPE, &[score, &flat], |n| n);
        let sizes = s.op(SHAPE, &[&score], |n| n);
        let none = s.op(CONSTANT_OF_SHAPE, &[&sizes], |n| n);
        let chosen_sizes = s.op(SHAPE, &[&chosen], |n| n);
        let count = s.slice(&chosen_sizes, 0, 1, 0);
        let unit = Constant::floats(&[1], &[1.0])?;
        let ones = s.op(CONSTANT_OF_SHAPE, &[&count], |n| n.attr("value", compresso_model::Attr::Tensor(unit)));
        let stays = s.op(SCATTER_ND, &[&none, &pairs, &ones], |n| n);
        let kept = s.op(MUL, &[&score, &stays], |n| n);
        let rows = match anchors {
            Some(anchors) => s.ints(&[anchors.min(self.max_detections) as i64]),
            None if s.graph.opset() < 12 => {
                return Err(Error::unsupported("the number of boxes is left open, which needs operator set 12")
                    .hint("open the model with image_size, or raise it: onnx_export(m, path, #{ opset: 13 })"));
            }
            None => {
                let anchors = s.slice(&sizes, 1, 2, 0);
                s.op(MIN, &[&anchors, &most], |n| n)
            }
        };
        let top = s.many(TOP_K, &[&kept, &rows], 2, |n| n.int("axis", 1));
        let column = s.ints(&[0, -1, 1]);
        let score = s.op(RESHAPE, &[&top[0], &column], |n| n);
        let at = s.op(RESHAPE, &[&top[1], &column], |n| n);
        let four = s.ints(&[1, 1, 4]);
        let wide = s.op(EXPAND, &[&at, &four], |n| n);
        let boxes = s.op(GATHER_ELEMENTS, &[boxes, &wide], |n| n.int("axis", 1));
        let boxes = s.corners(format, &boxes)?;
        let class = s.op(GATHER_ELEMENTS, &[class, &at], |n| n.int("axis", 1));
        let class = s.cast(&class, Element::F32);
        let row = s.op(CONCAT, &[&boxes, &score, &class], |n| n.int("axis", 2));
        let zero = s.constant(Constant::scalar(0.0));
        let is_row = s.op(GREATER, &[&score, &zero], |n| n);
        let is_row = s.cast(&is_row, Element::F32);
        let name = s.patch.fresh(OUTPUT);
        let node = s.patch.fresh(&format!("{PREFIX}_{MUL}"));
        s.patch.add(Node::new(MUL, node, [row, is_row], [name.clone()]));
        Ok(name)
    }
}

/// Channels of the output of boxes, and of the scores in it or beside it.
fn channels(d: &BoxDecode, classes: usize) -> [usize; 2] {
    let scored = classes + usize::from(d.objectness);
    [if d.scores.is_some() { 4 } else { 4 + scored }, scored]
}

/// How names of what is added begin.
const PREFIX: &str = "nms";

/// Nodes that are added to a graph.
struct Steps<'g> {
    patch: Patch<'g>,
    graph: &'g Graph,
}

impl Steps<'_> {
    /// Boxes `[batch, anchors, 4]`, as the description has them but for `Xywh`, which become corners, and a probability for each class `[batch, anchors, classes]`, from the outputs of the detector.
    fn parts<'f>(&mut self, d: &BoxDecode, classes: usize, fact: impl Fn(&str) -> Option<&'f Fact>) -> Result<[String; 2]> {
        let name = d.boxes.as_deref().ok_or_else(|| Error::argument("the description names no output of boxes"))?;
        let [own, scored] = channels(d, classes);
        let all = self.rows_of(d, name, fact(name), own)?;
        let last = i64::MAX;
        let apart = d.scores.as_deref();
        let (boxes, mut scores, mut objectness) = match apart {
            Some(scores) => {
                let scores = self.rows_of(d, scores, fact(scores), scored)?;
                (all, scores, None)
            }
            None if d.scores_first => (self.slice(&all, -4, last, 2), self.slice(&all, 0, -4, 2), None),
            None if d.objectness_first => (self.slice(&all, 1, 5, 2), self.slice(&all, 5, last, 2), Some(self.slice(&all, 0, 1, 2))),
            None => (self.slice(&all, 0, 4, 2), self.slice(&all, 4, last, 2), None),
        };
        if d.objectness && objectness.is_none() {
            objectness = Some(self.slice(&scores, 0, 1, 2));
            scores = self.slice(&scores, 1, last, 2);
        }
        if d.activation == ScoreActivation::Sigmoid {
            scores = self.op(SIGMOID, &[&scores], |n| n);
            objectness = objectness.map(|o| self.op(SIGMOID, &[&o], |n| n));
        }
        if let Some(o) = objectness {
            scores = self.op(MUL, &[&scores, &o], |n| n);
        }
        let boxes = if d.format == BoxFormat::Xywh { self.corners(BoxFormat::Xywh, &boxes)? } else { boxes };
        Ok([boxes, scores])
    }

    /// An output as `[batch, anchors, channels]` in float32.
    fn rows_of(&mut self, d: &BoxDecode, name: &str, fact: Option<&Fact>, channels: usize) -> Result<String> {
        if fact.and_then(Fact::rank) != Some(3) {
            return Err(Error::unsupported(format!("the output '{name}' must have three axes: batch, boxes, channels")));
        }
        let half = fact.is_some_and(|f| f.element != Element::F32);
        let value = if half { self.cast(name, Element::F32) } else { name.to_string() };
        Ok(if self.last(d, fact, channels) { value } else { self.op(TRANSPOSE, &[&value], |n| n.ints("perm", &[0, 2, 1])) })
    }

    /// Whether the channels of an output are its last axis. Where both ways fit, there are fewer channels than boxes.
    fn last(&self, d: &BoxDecode, fact: Option<&Fact>, channels: usize) -> bool {
        match d.layout {
            Some(layout) => layout == AnchorLayout::ChannelsLast,
            None => fact.is_some_and(|f| {
                let [first, last] = [f.dim(1), f.dim(2)];
                last == Some(channels) && (first != Some(channels) || first >= last) || first != Some(channels)
            }),
        }
    }

    /// Left, top, right, bottom of boxes `[batch, boxes, 4]`.
    fn corners(&mut self, format: BoxFormat, boxes: &str) -> Result<String> {
        match format {
            BoxFormat::Xyxy => return Ok(boxes.to_string()),
            BoxFormat::Yxyx => {
                let order = self.ints(&[1, 0, 3, 2]);
                return Ok(self.op(GATHER, &[boxes, &order], |n| n.int("axis", 2)));
            }
            _ => {}
        }
        let [first, second] = [self.slice(boxes, 0, 2, 2), self.slice(boxes, 2, 4, 2)];
        let [low, high] = match format {
            BoxFormat::Xywh => [first.clone(), self.op(ADD, &[&first, &second], |n| n)],
            BoxFormat::Cxcywh => {
                let half = self.constant(Constant::scalar(0.5));
                let half = self.op(MUL, &[&second, &half], |n| n);
                [self.op(SUB, &[&first, &half], |n| n), self.op(ADD, &[&first, &half], |n| n)]
            }
            _ => return Err(Error::unsupported("boxes are distances from grid cells")),
        };
        Ok(self.op(CONCAT, &[&low, &high], |n| n.int("axis", 2)))
    }

    fn op(&mut self, op: &str, inputs: &[&str], set: impl FnOnce(Node) -> Node) -> String {
        self.patch.op(op, PREFIX, inputs.iter().copied(), set)
    }

    fn many(&mut self, op: &str, inputs: &[&str], outputs: usize, set: impl FnOnce(Node) -> Node) -> Vec<String> {
        let name = self.patch.fresh(&format!("{PREFIX}_{op}"));
        let made: Vec<String> = (0..outputs).map(|i| self.patch.fresh(&format!("{name}_output_{i}"))).collect();
        self.patch.add(set(Node::new(op, name, inputs.iter().copied(), made.iter().map(String::as_str))));
        made
    }

    fn cast(&mut self, value: &str, to: Element) -> String {
        self.op(CAST, &[value], |n| n.int("to", i64::from(to.code())))
    }

    /// The part from `start` to `end` of an axis.
    fn slice(&mut self, value: &str, start: i64, end: i64, axis: i64) -> String {
        let [start, end, axis] = [start, end, axis].map(|i| self.ints(&[i]));
        self.op(SLICE, &[value, &start, &end, &axis], |n| n)
    }

    fn constant(&mut self, value: Constant) -> String {
        self.patch.constant(&format!("{PREFIX}_constant"), value)
    }

    fn ints(&mut self, values: &[i64]) -> String {
        self.constant(Constant::ints(values))
    }

    fn floats(&mut self, values: &[f32]) -> Result<String> {
        Ok(self.constant(Constant::floats(&[values.len()], values)?))
    }
}
