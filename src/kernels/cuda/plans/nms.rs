use super::super::plan::{Arg, Element, Plan, int};
use compresso_base::error::{Error, Result};

/// Most boxes: a bit of each fits the shared memory of a block.
pub const MOST_BOXES: usize = 32_768;

/// Boxes compared by one block; `WARP` of the kernels.
const GROUP: usize = 32;

/// Boxes `[n, 4]` (left, top, right, bottom), best first, and their classes `[n]` (32 bits) to `[n]` bytes: 1 where no better kept box of
/// the class overlaps by more than `iou`.
///
/// # Errors
/// `Unsupported` above [`MOST_BOXES`].
pub fn nms(n: usize, iou: f32) -> Result<Plan> {
    if n > MOST_BOXES {
        return Err(Error::unsupported(format!("non-maximum suppression of more than {MOST_BOXES} boxes at once, got {n}")));
    }
    let mut p = Plan::of(&[(Element::F32, 4 * n), (Element::I32, n)])?;
    let words = n.div_ceil(GROUP);
    let keep = p.result(Element::U8, n)?;
    let mask = p.scratch(Element::U32, n * words)?;
    p.tiles("nms_mask", [words, words], GROUP as u32, [Arg::Buffer(0), Arg::Buffer(1), mask, int(n)?, Arg::Float(iou)])?;
    p.rows("nms_scan", usize::from(n > 0), [mask, keep, int(n)?, int(words)?]);
    Ok(p)
}
