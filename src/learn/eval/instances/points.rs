//! Key points of an object.

use serde::Serialize;

/// A key point in pixels of the image.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct KeyPoint {
    /// From the left of the image.
    pub x: f32,
    /// From the top of the image.
    pub y: f32,
    /// Probability that it is seen, where the model says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub visibility: Option<f32>,
}

impl KeyPoint {
    /// Whether it is likelier seen than not; always, where the model does not say it.
    pub fn is_seen(&self) -> bool {
        self.visibility.is_none_or(|v| v > 0.5)
    }
}

/// The points of a person in COCO's order.
pub(super) const PERSON_POINTS: [&str; 17] = [
    "nose",
    "left eye",
    "right eye",
    "left ear",
    "right ear",
    "left shoulder",
    "right shoulder",
    "left elbow",
    "right elbow",
    "left wrist",
    "right wrist",
    "left hip",
    "right hip",
    "left knee",
    "right knee",
    "left ankle",
    "right ankle",
];

/// Which of [`PERSON_POINTS`] are joined (the `skeleton` of COCO's category `person`, counted from 0).
pub(super) const PERSON_BONES: [[usize; 2]; 19] = [
    [15, 13],
    [13, 11],
    [16, 14],
    [14, 12],
    [11, 12],
    [5, 11],
    [6, 12],
    [5, 6],
    [5, 7],
    [6, 8],
    [7, 9],
    [8, 10],
    [1, 2],
    [0, 1],
    [0, 2],
    [1, 3],
    [2, 4],
    [3, 5],
    [4, 6],
];

/// Which of so many points are joined by lines; none, unless they are a person's.
pub fn bones(points: usize) -> &'static [[usize; 2]] {
    if points == PERSON_POINTS.len() { &PERSON_BONES } else { &[] }
}

/// The name of point `i` (from 0) of so many.
pub fn point_name(i: usize, points: usize) -> String {
    match PERSON_POINTS.get(i) {
        Some(name) if points == PERSON_POINTS.len() => (*name).to_string(),
        _ => format!("point {}", i + 1),
    }
}
