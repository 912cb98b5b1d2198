//! Detection: NonMaxSuppression.
//!
//! <https://onnx.ai/onnx/operators/onnx__NonMaxSuppression.html>.

use super::cost;
use super::def::{OpDef, operators};
use super::facts::fact;
use super::ints::Ints;
use super::roles::{Data, Float16Rule};
use super::run::Exec;
use crate::element::Element;
use crate::graph::{Dim, Fact, Infer};
use crate::value::Value;
use compresso_base::error::{Error, Result};

operators! {
    pub const NON_MAX_SUPPRESSION: &str = "NonMaxSuppression";
}

/// Suppression of overlapping boxes.
pub const OPS: &[OpDef] = &[OpDef::new(NON_MAX_SUPPRESSION, &[10, 11], infer, suppress)
    .cost(cost::per_input)
    .data(Data::At(&[0, 1]))
    .float16(Float16Rule::Float32)];

fn infer(_: &Infer<'_>) -> Result<Vec<Fact>> {
    Ok(vec![fact(Element::I64, Some(vec![Dim::Unknown, Dim::Known(3)]))])
}

/// Corners (low y, low x, high y, high x) of a box given by two opposite corners or by its centre and size.
fn corners(b: &[f32], center: bool) -> [f32; 4] {
    if center {
        let (x, y, w, h) = (b[0], b[1], b[2] / 2.0, b[3] / 2.0);
        [y - h, x - w, y + h, x + w]
    } else {
        [b[0].min(b[2]), b[1].min(b[3]), b[0].max(b[2]), b[1].max(b[3])]
    }
}

/// Intersection over union.
fn overlap(a: &[f32; 4], b: &[f32; 4]) -> f32 {
    let area = |c: &[f32; 4]| (c[2] - c[0]) * (c[3] - c[1]);
    let (h, w) = (a[2].min(b[2]) - a[0].max(b[0]), a[3].min(b[3]) - a[1].max(b[1]));
    let inner = h.max(0.0) * w.max(0.0);
    let union = area(a) + area(b) - inner;
    if union > 0.0 { inner / union } else { 0.0 }
}

/// Rows (batch, class, box) of the boxes that stay, per batch and class in order of score.
fn suppress(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let (boxes, scores) = (cx.input(0)?, cx.input(1)?);
    let (&[batch, count, four], &[score_batch, classes, score_count]) = (boxes.dims(), scores.dims()) else {
        return Err(Error::shape(format!("expected boxes [b, n, 4] and scores [b, c, n], got {:?} and {:?}", boxes.dims(), scores.dims())));
    };
    if four != 4 || batch != score_batch || count != score_count {
        return Err(Error::shape(format!("expected boxes [b, n, 4] and scores [b, c, n], got {:?} and {:?}", boxes.dims(), scores.dims())));
    }
    let first = |i: usize| -> Result<Option<f32>> { Ok(cx.get(i).map(Value::to_f32s).transpose()?.and_then(|v| v.first().copied())) };
    let most = cx.ints(2)?.and_then(|v| v.first().copied()).map_or(0, |v| usize::try_from(v).unwrap_or(0));
    let (iou, least) = (first(3)?.unwrap_or(0.0), first(4)?);
    let center = cx.node.get_int("center_point_box", 0)? != 0;
    let (b, s) = (boxes.to_f32s()?, scores.to_f32s()?);
    let mut rows = Vec::new();
    for image in 0..batch {
        let all: Vec<[f32; 4]> = (0..count).map(|i| corners(&b[(image * count + i) * 4..][..4], center)).collect();
        for class in 0..classes {
            let score = &s[(image * classes + class) * count..][..count];
            let mut order: Vec<usize> = (0..count).filter(|&i| least.is_none_or(|t| score[i] > t)).collect();
            order.sort_by(|&x, &y| score[y].total_cmp(&score[x]));
            let mut kept: Vec<usize> = Vec::new();
            for i in order {
                if kept.len() >= most {
                    break;
                }
                if kept.iter().all(|&k| overlap(&all[k], &all[i]) <= iou) {
                    kept.push(i);
                    rows.extend([image as i64, class as i64, i as i64]);
                }
            }
        }
    }
    Ok(vec![Ints { dims: vec![rows.len() / 3, 3], data: rows }.into_value(Element::I64, boxes.tensor.device())?])
}
