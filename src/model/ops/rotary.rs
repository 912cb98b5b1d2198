//! RotaryEmbedding: turns pairs of numbers by angles that follow from their position.
//!
//! <https://onnx.ai/onnx/operators/onnx__RotaryEmbedding.html>. Version 23 is the only one. Differentiable.

use super::cost;
use super::def::OpDef;
use super::elementwise::{Binary, binary};
use super::facts::infer_same;
use super::gather::index;
use super::ints::Ints;
use super::run::Exec;
use super::slice::select;
use crate::value::Value;
use candle_core::Tensor;
use compresso_base::error::{Error, Result};

/// Rotary embeddings of positions (Su et al. 2021, "RoFormer").
pub const OPS: &[OpDef] = &[OpDef::new("RotaryEmbedding", &[23], infer_same, rotate).sums().cost(cost::per_output)];

/// Rows of a cache for each position of each sequence, `[b, s, 1, half]`.
fn angles(cx: &Exec<'_>, input: usize, [b, s, half]: [usize; 3]) -> Result<Tensor> {
    let cache = cx.tensor(input)?;
    let found = match cx.get(3) {
        None => cache.clone(),
        Some(ids) => {
            let ids = Ints::of(ids)?;
            if cache.rank() != 2 || ids.dims != [b, s] {
                return Err(Error::shape(format!(
                    "expected a cache [positions, {half}] and positions [{b}, {s}], got {:?} and {:?}",
                    cache.dims(),
                    ids.dims
                )));
            }
            let rows = ids.data.iter().map(|&i| index(i, cache.dims()[0])).collect::<Result<Vec<_>>>()?;
            select(cache, 0, &rows)?.reshape((b, s, cache.dims()[1]))?
        }
    };
    if found.dims() != [b, s, half] {
        return Err(Error::shape(format!("expected sines and cosines of shape {:?}, got {:?}", [b, s, half], found.dims())));
    }
    Ok(found.unsqueeze(2)?)
}

fn rotate(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let x = cx.tensor(0)?;
    let size = |name: &str| -> Result<usize> {
        let n = cx.node.get_int(name, 0)?;
        usize::try_from(n).map_err(|_| Error::format(format!("attribute '{name}' must not be negative, got {n}")))
    };
    let (packed, heads) = (x.rank() == 3, size("num_heads")?);
    // [b, s, heads, d]
    let wide = match *x.dims() {
        [_, _, _, _] => x.transpose(1, 2)?,
        [b, s, all] if heads > 0 && all.is_multiple_of(heads) => x.reshape((b, s, heads, all / heads))?,
        [_, _, all] => return Err(Error::shape(format!("attribute 'num_heads' ({heads}) must divide the {all} columns"))),
        _ => return Err(Error::shape(format!("expected three or four axes, got {:?}", x.dims()))),
    };
    let (b, s, n, d) = wide.dims4()?;
    let turned = Some(size("rotary_embedding_dim")?).filter(|&r| r > 0).unwrap_or(d);
    if turned > d || !turned.is_multiple_of(2) {
        return Err(Error::shape(format!("an even number of at most {d} columns can be turned, got {turned}")));
    }
    if x.elem_count() == 0 || turned == 0 {
        return cx.one(x.clone());
    }
    let half = turned / 2;
    let (cos, sin) = (angles(cx, 1, [b, s, half])?, angles(cx, 2, [b, s, half])?);
    let part = wide.narrow(3, 0, turned)?;
    let interleaved = cx.node.get_int("interleaved", 0)? != 0;
    let (first, second) = if interleaved {
        let pairs = part.contiguous()?.reshape((b, s, n, half, 2))?;
        (pairs.narrow(4, 0, 1)?.squeeze(4)?, pairs.narrow(4, 1, 1)?.squeeze(4)?)
    } else {
        (part.narrow(3, 0, half)?, part.narrow(3, half, half)?)
    };
    let product = |a: &Tensor, b: &Tensor| binary(Binary::Mul, a, b);
    let real = (product(&first, &cos)? - product(&second, &sin)?)?;
    let imaginary = (product(&first, &sin)? + product(&second, &cos)?)?;
    let new = if interleaved {
        Tensor::stack(&[&real, &imaginary], 4)?.reshape((b, s, n, turned))?
    } else {
        Tensor::cat(&[&real, &imaginary], 3)?
    };
    let new = if turned < d { Tensor::cat(&[&new, &wide.narrow(3, turned, d - turned)?.contiguous()?], 3)? } else { new };
    let new = if packed { new.reshape(x.shape())? } else { new.transpose(1, 2)?.contiguous()? };
    cx.one(new)
}
