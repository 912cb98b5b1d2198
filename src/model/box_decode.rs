//! A description of a detector's outputs, for models whose form is not known.

use compresso_base::error::{Error, Result};
use std::ops::Range;

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
        /// Distances of the left, top, right and bottom side from a point of the grid cell that made the box, in cells (FCOS, NanoDet).
        Ltrb = "ltrb",
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
        /// The detector's confidence in the box.
        Score = "score",
        /// The class's number.
        Class = "class",
        /// The number of the image in the batch; rows with a negative one are empty.
        Batch = "batch",
    }
}

compresso_base::options! {
    /// How boxes, scores and classes are read from a detector's outputs: boxes with a score for each class (in one output
    /// or two), boxes with a score and a label each (three outputs), or rows of finished detections (`columns`). Boxes are finished, or
    /// relative to grid cells (`strides`) or to prior boxes of these (`shapes`).
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
        /// In one output, the scores stand before the box (NanoDet).
        pub scores_first: bool = false,
        /// Pixels per cell of each level, for boxes that are raw offsets from grid cells (YOLOX); empty for finished boxes.
        /// An output of one level may have its cells in two axes: `[batch, channels, rows, columns]`.
        pub strides: Vec<usize> = Vec::new(),
        /// Width and height in pixels of each prior box of a cell, level by level, for offsets from priors (SSD, RetinaNet): a
        /// list of [width, height] for each stride.
        pub shapes: Vec<Vec<Vec<f64>>> = Vec::new(),
        /// The point of a cell that offsets and distances start from: 0 its corner, 0.5 its middle. Left out: 0.5 with `shapes`, else 0.
        pub point: Option<f64> = None,
        /// Factors on the four numbers, such as [0.1, 0.1, 0.2, 0.2] of SSD; 1 when left out.
        pub variances: Vec<f64> = Vec::new(),
        /// Each of the four numbers is the mean of 0, 1, 2, … under a softmax of so many channels (NanoDet); 0 for plain numbers.
        pub bins: usize = 0,
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

/// Bins of a side that are believed.
const MAX_BINS: usize = 1024;

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
    /// One output `[batch, 4 + classes, boxes]`: centre x, centre y, width, height in input pixels, class probabilities (YOLOv8 and
    /// later).
    pub fn yolo(output: impl Into<String>) -> Self {
        let layout = Some(AnchorLayout::AnchorsLast);
        Self { boxes: Some(output.into()), format: BoxFormat::Cxcywh, layout, ..Self::default() }
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
    /// Channels of a box.
    pub fn box_width(&self) -> usize {
        4 * self.bins.max(1)
    }
    /// The channels of the box, in an output of so many that holds the scores too.
    pub fn box_channels(&self, channels: usize) -> Range<usize> {
        let width = self.box_width();
        let first = if self.scores_first { channels.saturating_sub(width) } else { usize::from(self.objectness_first) };
        first..first + width
    }
    /// The number of boxes that grid cells make of an image of this height and width; `None` for finished boxes.
    pub fn cell_boxes(&self, [height, width]: [usize; 2]) -> Option<usize> {
        let of = |(i, stride): (usize, &usize)| {
            let cells = height.div_ceil(*stride).checked_mul(width.div_ceil(*stride))?;
            cells.checked_mul(self.shapes.get(i).map_or(1, Vec::len))
        };
        let levels: Vec<usize> = self.strides.iter().enumerate().map(of).collect::<Option<_>>()?;
        (!levels.is_empty()).then(|| levels.iter().sum())
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
        self.check_cells().map_err(|e| e.at("option 'decode'"))?;
        if !self.objectness && (self.objectness_first || !self.powers.is_empty()) {
            return wrong("'objectness_first' and 'powers' need 'objectness'");
        }
        if (self.objectness_first || self.scores_first) && self.scores.is_some() {
            return wrong("'objectness_first' and 'scores_first' are for one output of boxes and scores");
        }
        if self.objectness_first && self.scores_first {
            return wrong("either 'objectness_first' or 'scores_first'");
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

    /// Checks what is said of boxes relative to grid cells.
    fn check_cells(&self) -> Result<()> {
        let wrong = |text: &str| Err(Error::argument(text));
        let relative = matches!(self.format, BoxFormat::Cxcywh | BoxFormat::Ltrb);
        if !self.strides.is_empty() && (!relative || self.normalized || self.strides.contains(&0)) {
            return wrong("'strides' must be above 0, and go with the format \"cxcywh\" or \"ltrb\" in pixels");
        }
        if self.strides.is_empty() {
            if self.centre != CellCentre::Offset || self.extent != CellExtent::Exp || self.point.is_some() || !self.shapes.is_empty() {
                return wrong("'centre', 'extent', 'point' and 'shapes' are for boxes relative to grid cells, which need 'strides'");
            }
            if self.format == BoxFormat::Ltrb || !self.variances.is_empty() || self.bins > 0 {
                return wrong("the format \"ltrb\", 'variances' and 'bins' are for boxes relative to grid cells, which need 'strides'");
            }
        }
        if (self.format == BoxFormat::Ltrb || !self.shapes.is_empty())
            && (self.centre != CellCentre::Offset || self.extent != CellExtent::Exp)
        {
            return wrong("'centre' and 'extent' are for boxes of the format \"cxcywh\" without 'shapes'");
        }
        let sides = self.shapes.iter().flatten();
        if !self.shapes.is_empty()
            && (self.format != BoxFormat::Cxcywh
                || self.shapes.len() != self.strides.len()
                || self.shapes.iter().any(Vec::is_empty)
                || sides.into_iter().any(|s| s.len() != 2 || s.iter().any(|v| !v.is_finite() || *v <= 0.0)))
        {
            return wrong("'shapes' go with the format \"cxcywh\", and need a list of [width, height], above 0, for each of the 'strides'");
        }
        if self.point.is_some_and(|p| !(0.0..=1.0).contains(&p)) {
            return wrong("'point' must be from 0, a cell's corner, to 1");
        }
        if !self.variances.is_empty() && (self.variances.len() != 4 || self.variances.iter().any(|v| !v.is_finite())) {
            return wrong(&format!("'variances' must be four numbers, one for each of a box, got {:?}", self.variances));
        }
        if self.bins == 1 || self.bins > MAX_BINS {
            return wrong(&format!("'bins' must be from 2 to {MAX_BINS}, or 0 for plain numbers, got {}", self.bins));
        }
        Ok(())
    }
}
