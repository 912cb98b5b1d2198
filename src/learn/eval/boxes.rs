//! Geometry of boxes.

use crate::data::BBox;

impl BBox {
    /// From centre, width and height.
    pub fn from_centre(cx: f32, cy: f32, w: f32, h: f32) -> Self {
        Self { x1: cx - w / 2.0, y1: cy - h / 2.0, x2: cx + w / 2.0, y2: cy + h / 2.0 }
    }
    /// Centre, width and height.
    pub fn to_centre(self) -> [f32; 4] {
        [(self.x1 + self.x2) / 2.0, (self.y1 + self.y2) / 2.0, self.width(), self.height()]
    }
    /// From left to right, in pixels; negative where the edges are the wrong way round.
    pub fn width(&self) -> f32 {
        self.x2 - self.x1
    }
    /// As [`BBox::width`], from top to bottom.
    pub fn height(&self) -> f32 {
        self.y2 - self.y1
    }
    /// In square pixels; 0 where an edge is the wrong way round.
    pub fn area(&self) -> f32 {
        self.width().max(0.0) * self.height().max(0.0)
    }
    /// Whether all four edges are finite numbers.
    pub fn is_finite(&self) -> bool {
        [self.x1, self.y1, self.x2, self.y2].iter().all(|v| v.is_finite())
    }
    /// Whether at least half of the other box is inside.
    pub fn contains_most_of(&self, other: &Self) -> bool {
        let w = (self.x2.min(other.x2) - self.x1.max(other.x1)).max(0.0);
        let h = (self.y2.min(other.y2) - self.y1.max(other.y1)).max(0.0);
        2.0 * w * h >= other.area()
    }
    /// Intersection over union, 0 where both are empty.
    ///
    /// ```
    /// # use compresso_learn::data::BBox;
    /// let a = BBox { x1: 0.0, y1: 0.0, x2: 2.0, y2: 2.0 };
    /// let b = BBox { x1: 1.0, y1: 0.0, x2: 3.0, y2: 2.0 };
    /// assert_eq!(a.iou(&b), 1.0 / 3.0);
    /// ```
    pub fn iou(&self, other: &Self) -> f32 {
        let w = (self.x2.min(other.x2) - self.x1.max(other.x1)).max(0.0);
        let h = (self.y2.min(other.y2) - self.y1.max(other.y1)).max(0.0);
        let both = w * h;
        let any = self.area() + other.area() - both;
        if any > 0.0 { both / any } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn centre_form_is_inverted() {
        let b = BBox { x1: 1.0, y1: 2.0, x2: 5.0, y2: 10.0 };
        assert_eq!(b.to_centre(), [3.0, 6.0, 4.0, 8.0]);
        let [x, y, w, h] = b.to_centre();
        assert_eq!(BBox::from_centre(x, y, w, h), b);
    }

    #[test]
    fn empty_boxes_overlap_nothing() {
        let point = BBox { x1: 1.0, y1: 1.0, x2: 1.0, y2: 1.0 };
        assert_eq!(point.iou(&point), 0.0);
        let turned = BBox { x1: 3.0, y1: 3.0, x2: 1.0, y2: 1.0 };
        assert_eq!(turned.iou(&BBox { x1: 0.0, y1: 0.0, x2: 9.0, y2: 9.0 }), 0.0);
    }
}
