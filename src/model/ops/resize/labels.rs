//! Channel rule of Resize and Upsample.

use crate::graph::normalize_axis;
use crate::ops::channels::{self, Channels, Site, Size};
use compresso_base::error::Result;

/// Channels through resizing: axes that keep their size stay apart.
pub(super) fn resize(cx: &mut Channels<'_>) -> Result<()> {
    let (from, to) = (cx.shape(0)?, cx.out_shape(0)?);
    let axes = channels::through_except(cx, |a| from[a] != to[a] || from[a].known().is_none())?;
    let zero = cx.zero(0);
    cx.set_zero(0, zero);
    if cx.node.input(3).is_some() {
        let targets: Vec<usize> = match cx.node.find_ints("axes")? {
            Some(list) => list.iter().map(|&a| normalize_axis(a, from.len())).collect::<Result<_>>()?,
            None => (0..from.len()).collect(),
        };
        let size = |&a: &usize| match &axes[a] {
            Some(l) => Size::Count(l.clone()),
            None => to[a].known().map_or(Size::Open, |n| Size::Fixed(n as i64)),
        };
        let sizes = targets.iter().map(size).collect();
        cx.sizes(Site::Input(3), sizes);
    }
    Ok(())
}
