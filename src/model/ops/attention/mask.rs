//! Which keys are open to which queries, and what is added to their scores.

use crate::element::Element;
use crate::ops::ints::{broadcast_dims, broadcast_offsets, count};
use crate::ops::run::Exec;
use candle_core::Tensor;
use compresso_base::error::{Error, Result};

/// What the mask, the order of positions, windows and counts of keys say together. Tensors broadcast to `[b, n, s, t]`.
pub(super) struct Mask {
    /// Numbers that are added to the scores.
    pub added: Option<Tensor>,
    /// 1 where a key is closed to a query.
    pub blocked: Option<Tensor>,
    /// 1 for queries that no key is open to, `[…, s, 1]`.
    pub dead: Option<Tensor>,
}

/// Where the positions of queries begin, among those of keys, in each image or in all.
fn offsets(cx: &Exec<'_>, [b, _, s, t]: [usize; 4]) -> Result<(Vec<i64>, Option<Vec<i64>>)> {
    let Some(counts) = cx.ints(6)? else {
        let past = cx.get(4).map_or(0, |p| p.dims().get(2).copied().unwrap_or(0));
        return Ok((vec![i64::try_from(past).unwrap_or(i64::MAX)], None));
    };
    if counts.len() != b || counts.iter().any(|&n| usize::try_from(n).map_or(true, |n| n > t)) {
        return Err(Error::shape(format!("expected {b} counts of keys from 0 to {t}, got {counts:?}")));
    }
    Ok((counts.iter().map(|n| n - s as i64).collect(), Some(counts)))
}

/// An attribute that is −1 (no bound) or a number of positions.
fn window(cx: &Exec<'_>, name: &str) -> Result<Option<i64>> {
    match cx.node.get_int(name, -1)? {
        -1 => Ok(None),
        n if n >= 0 => Ok(Some(n)),
        n => Err(Error::format(format!("attribute '{name}' must be -1 or more, got {n}"))),
    }
}

impl Mask {
    /// The mask of a node for `[b, n, s, t]` scores.
    ///
    /// # Errors
    /// `Shape` for a mask or counts that do not fit; `Format` for wrong attributes.
    pub fn of(cx: &Exec<'_>, dims: [usize; 4]) -> Result<Self> {
        let [_, _, s, t] = dims;
        let causal = cx.node.get_int("is_causal", 0)? != 0;
        let (left, right) = (window(cx, "left_window_size")?, window(cx, "right_window_size")?);
        let (starts, counts) = offsets(cx, dims)?;
        let ordered = causal || left.is_some() || right.is_some();
        let given = cx.get(3);
        if given.is_none() && !ordered && counts.is_none() {
            return Ok(Self { added: None, blocked: None, dead: None });
        }
        // The mask's own axes, with its last one filled up by closed keys.
        let (mut own, mut closed, mut added) = (vec![1, 1, 1, 1], vec![false], None);
        if let Some(mask) = given {
            let had = mask.dims();
            let wrong = || Error::shape(format!("a mask {had:?} does not fit scores {dims:?}"));
            if had.is_empty() || had.len() > 4 || had[had.len() - 1] > t {
                return Err(wrong());
            }
            own = vec![1; 4 - had.len()];
            own.extend(had);
            let short = own[3] < t;
            if own.iter().zip(dims).take(3).any(|(&m, n)| m != 1 && m != n) {
                return Err(wrong());
            }
            count(&[own[0], own[1], own[2], t])?;
            let rows = own[..3].iter().product::<usize>();
            let width = own[3];
            if mask.element == Element::Bool {
                closed = mask.to_i64s()?.iter().map(|&v| v == 0).collect();
            } else if mask.element.is_float() {
                closed = mask.to_f64s()?.iter().map(|&v| v == f64::NEG_INFINITY).collect();
                let numbers = mask.tensor.reshape(own.as_slice())?;
                added = Some(if short { numbers.pad_with_zeros(3, 0, t - width)? } else { numbers });
            } else {
                return Err(Error::dtype(format!("expected a mask of bool or floating point, got {}", mask.element)));
            }
            if short {
                let full = |row: usize| closed[row * width..(row + 1) * width].iter().copied().chain(std::iter::repeat_n(true, t - width));
                closed = (0..rows).flat_map(full).collect();
                own[3] = t;
            }
        }
        let order = [starts.len(), 1, if ordered { s } else { 1 }, t];
        let shape = broadcast_dims(&own, &order)?;
        let at = broadcast_offsets(&own, &shape);
        let (per_image, per_head) = (shape[1] * shape[2] * shape[3], shape[2] * shape[3]);
        let open = |i: usize| {
            let image = i / per_image;
            let (query, key) = ((i % per_head / shape[3]) as i64, (i % shape[3]) as i64);
            let place = query.saturating_add(starts[image.min(starts.len() - 1)]);
            !closed[at[i]]
                && (!causal || key <= place)
                && left.is_none_or(|l| place.saturating_sub(key) <= l)
                && right.is_none_or(|r| key.saturating_sub(place) <= r)
                && counts.as_ref().is_none_or(|c| key < c[image])
        };
        let blocked: Vec<u8> = (0..shape.iter().product()).map(|i| u8::from(!open(i))).collect();
        let dead: Vec<u8> = blocked.chunks(shape[3].max(1)).map(|row| u8::from(row.iter().all(|&b| b == 1))).collect();
        let device = cx.device();
        let rows = [shape[0], shape[1], shape[2], 1];
        let dead = if dead.contains(&1) { Some(Tensor::from_vec(dead, rows.as_slice(), &device)?) } else { None };
        Ok(Self { added, blocked: Some(Tensor::from_vec(blocked, shape, &device)?), dead })
    }
}
