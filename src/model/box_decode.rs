//! A description of a detector's outputs, for models whose form is not known.

use compresso_base::error::{Error, Result};

compresso_base::choice! {
    /// What the four numbers of a box are.
    pub enum BoxFormat {
        /// Left, top, right, bottom.
        Xyxy = "xyxy",
        /// Left, top, width, height.
        Xywh = "xywh",
        /// Centre x, centre y, width, height.
        Cxcywh = "cxcywh",
        /// Top, left, bottom, right.
        Yxyx = "yxyx",
    }
}

compresso_base::choice! {
    /// The order of the axes of an output.
    pub enum AnchorLayout {
        /// `[batch, anchors, channels]`.
        ChannelsLast = "channels_last",
        /// `[batch, channels, anchors]`.
        AnchorsLast = "anchors_last",
    }
}

compresso_base::choice! {
    /// What makes probabilities of the scores.
    pub enum ScoreActivation {
        /// They are probabilities.
        None = "none",
        /// Of each score on its own; of the objectness too.
        Sigmoid = "sigmoid",
        /// Over the classes of a box, the background among them.
        Softmax = "softmax",
    }
}

compresso_base::choice! {
    /// How the centre of a box lies to the grid cell that made it.
    pub enum CellCentre {
        /// The numbers are the distance from the cell's corner, in cells (YOLOX).
        Offset = "offset",
        /// Their hyperbolic tangent is (FastestDet).
        Tanh = "tanh",
    }
}

compresso_base::choice! {
    /// How the size of a box follows from its two numbers.
    pub enum CellExtent {
        /// Their exponential, in cells (YOLOX).
        Exp = "exp",
        /// Their logistic function, in parts of the image (FastestDet).
        Sigmoid = "sigmoid",
    }
}

compresso_base::choice! {
    /// A part of a row of an output of finished detections.
    pub enum RowPart {
        /// Four numbers.
        Box = "box",
        Score = "score",
        /// The class's number.
        Class = "class",
        /// The number of the image in the batch; rows with a negative one are empty.
        Batch = "batch",
    }
}

compresso_base::options! {
    /// How boxes, scores and classes are read from a detector's outputs: boxes with a score for each class (in one output
    /// or two), boxes with a score and a label each (three outputs), or rows of finished detections (`columns`).
    #[derive(PartialEq)]
    pub struct BoxDecode {
        /// The output whose first four channels are a box; the only output when left out.
        pub boxes: Option<String> = None,
        /// The output of scores: of every class, or of the label. When left out, the channels after the box.
        pub scores: Option<String> = None,
        /// The output of class numbers, one for each box.
        pub labels: Option<String> = None,
        /// Rows of finished detections, such as ["box", "score", "class"] or ["batch", "class", "score", "box"].
        pub columns: Vec<RowPart> = Vec::new(),
        /// What the four numbers of a box are.
        pub format: BoxFormat = BoxFormat::Xyxy,
        /// Boxes are in parts of the input's width and height, not in its pixels.
        pub normalized: bool = false,
        /// The order of the axes; found out by the sizes when left out.
        pub layout: Option<AnchorLayout> = None,
        /// The first score is that of an object of any class; it multiplies the others.
        pub objectness: bool = false,
        /// The objectness stands before the box, not between box and classes.
        pub objectness_first: bool = false,
        /// The powers to which objectness and score are raised before they are multiplied; 1 both when left out.
        pub powers: Vec<f64> = Vec::new(),
        /// What makes probabilities of the scores.
        pub activation: ScoreActivation = ScoreActivation::None,
        /// The number, among the scores or labels, of the class that stands for nothing: 0 in SSD and torchvision.
        pub background: Option<usize> = None,
        /// Pixels per cell of each level, for boxes that are raw offsets from grid cells (YOLOX); empty for finished boxes.
        /// An output of one level may have its cells in two axes: `[batch, channels, rows, columns]`.
        pub strides: Vec<usize> = Vec::new(),
        /// How the centre of such a box lies to its cell.
        pub centre: CellCentre = CellCentre::Offset,
        /// How the size of such a box follows from its numbers.
        pub extent: CellExtent = CellExtent::Exp,
        /// Whether overlapping boxes are still to be suppressed; when left out, where there is a score for each class.
        pub nms: Option<bool> = None,
        /// The model takes blue, green, red, not red, green, blue.
        pub bgr: bool = false,
        /// Factor on pixel values, which are 0 to 1: 255 for a model that takes bytes.
        pub scale: f64 = 1.0,
        /// What is then taken off each of the three channels.
        pub mean: Vec<f64> = Vec::new(),
        /// What each of the three channels is then divided by.
        pub std: Vec<f64> = Vec::new(),
    }
}

/// Pixels per cell of FastestDet.
pub(crate) const FASTEST_DET_STRIDE: usize = 16;

impl BoxDecode {
    /// Rows of `[left, top, right, bottom, score, class]` in input pixels, as end-to-end exports give them.
    pub fn end_to_end(output: impl Into<String>) -> Self {
        Self { boxes: Some(output.into()), columns: vec![RowPart::Box, RowPart::Score, RowPart::Class], ..Self::default() }
    }
    /// Rows of `[centre x, centre y, width, height, score, class]`, boxes in parts of the image, as exports of RT-DETR give
    /// them.
    pub fn query_rows(output: impl Into<String>) -> Self {
        Self { format: BoxFormat::Cxcywh, normalized: true, ..Self::end_to_end(output) }
    }
    /// One output `[batch, queries, 4 + classes]` of such boxes and a probability for each class, as earlier exports of
    /// RT-DETR give them. Nothing is to be suppressed.
    pub fn query_scores(output: impl Into<String>) -> Self {
        let layout = Some(AnchorLayout::ChannelsLast);
        Self { boxes: Some(output.into()), format: BoxFormat::Cxcywh, normalized: true, layout, nms: Some(false), ..Self::default() }
    }
    /// One output `[batch, boxes, 5 + classes]`: centre x, centre y, width, height in input pixels, objectness, class
    /// probabilities.
    pub fn yolov5(output: impl Into<String>) -> Self {
        let layout = Some(AnchorLayout::ChannelsLast);
        Self { boxes: Some(output.into()), format: BoxFormat::Cxcywh, layout, objectness: true, ..Self::default() }
    }
    /// One output `[batch, 5 + classes, rows, columns]`: objectness, a box relative to its cell of 16 pixels, class
    /// probabilities, and a score of objectness^0.6 · probability^0.4 (FastestDet's reference decoder). Its images are
    /// blue, green, red, as OpenCV reads them.
    pub fn fastest_det(output: impl Into<String>) -> Self {
        Self {
            boxes: Some(output.into()),
            format: BoxFormat::Cxcywh,
            objectness: true,
            objectness_first: true,
            powers: vec![0.6, 0.4],
            strides: vec![FASTEST_DET_STRIDE],
            centre: CellCentre::Tanh,
            extent: CellExtent::Sigmoid,
            bgr: true,
            ..Self::default()
        }
    }
    /// Names of the outputs that are read, without repeats.
    pub fn outputs(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for name in [&self.boxes, &self.scores, &self.labels].into_iter().flatten() {
            if !names.contains(&name.as_str()) {
                names.push(name);
            }
        }
        names
    }
    /// Whether each box has one class already.
    pub fn is_finished(&self) -> bool {
        !self.columns.is_empty() || self.labels.is_some()
    }
    /// Whether overlapping boxes are still to be suppressed.
    pub fn suppresses(&self) -> bool {
        self.nms.unwrap_or(!self.is_finished())
    }
    /// Numbers in a row of finished detections.
    pub fn row_width(&self) -> usize {
        self.columns.iter().map(|c| if *c == RowPart::Box { 4 } else { 1 }).sum()
    }

    /// Checks that the parts of the description fit together.
    ///
    /// # Errors
    /// `Argument`, naming the part.
    pub fn check(&self) -> Result<()> {
        let wrong = |text: &str| Err(Error::argument(text).at("option 'decode'"));
        let count = |part| self.columns.iter().filter(|c| **c == part).count();
        if !self.columns.is_empty() {
            if [RowPart::Box, RowPart::Score, RowPart::Class].map(count) != [1, 1, 1] || count(RowPart::Batch) > 1 {
                return wrong("'columns' must name \"box\", \"score\" and \"class\" once each, and may name \"batch\"");
            }
            if self.scores.is_some() || self.labels.is_some() {
                return wrong("'columns' describe one output; leave 'scores' and 'labels' out");
            }
        }
        if self.labels.is_some() && self.scores.is_none() {
            return wrong("'labels' need 'scores', an output with a score for each box");
        }
        if self.is_finished() && (self.objectness || !self.strides.is_empty() || self.activation == ScoreActivation::Softmax) {
            return wrong("'objectness', 'strides' and the activation \"softmax\" are for outputs with a score for each class");
        }
        if !self.strides.is_empty() && (self.format != BoxFormat::Cxcywh || self.normalized || self.strides.contains(&0)) {
            return wrong("'strides' must be above 0, and go with the format \"cxcywh\" in pixels");
        }
        if self.strides.is_empty() && (self.centre != CellCentre::Offset || self.extent != CellExtent::Exp) {
            return wrong("'centre' and 'extent' are for boxes relative to grid cells, which need 'strides'");
        }
        if !self.objectness && (self.objectness_first || !self.powers.is_empty()) {
            return wrong("'objectness_first' and 'powers' need 'objectness'");
        }
        if self.objectness_first && self.scores.is_some() {
            return wrong("'objectness_first' is for one output of boxes and scores");
        }
        if !(self.powers.is_empty() || self.powers.len() == 2 && self.powers.iter().all(|p| p.is_finite() && *p > 0.0)) {
            return wrong(&format!("'powers' must be two numbers above 0, of the objectness and of the scores, got {:?}", self.powers));
        }
        for (name, list) in [("mean", &self.mean), ("std", &self.std)] {
            if !list.is_empty() && list.len() != 3 || list.iter().any(|v| !v.is_finite()) {
                return wrong(&format!("'{name}' must be three numbers, one for each channel, got {list:?}"));
            }
        }
        if self.std.contains(&0.0) || !self.scale.is_finite() || self.scale == 0.0 {
            return wrong("'std' and 'scale' must not be 0");
        }
        Ok(())
    }
}
