//! Matrix products: with a constant matrix as InnerProduct, of two values as MatMul.

use super::build::{Build, Held, input};
use super::elementwise::{ADD, MUL};
use super::integers::numbers;
use super::moves::permute;
use super::net::{Blob, Layer, Weight};
use super::window::Numbers;
use compresso_base::error::{Error, Result};
use compresso_base::memory;
use compresso_model::Node;

/// Rows times a constant matrix, whose numbers are turned to `[outputs, inputs]`.
fn inner(
    cx: &mut Build<'_>,
    (rows, k, n): (usize, usize, usize),
    by_output: bool,
    numbers: Numbers,
    bias: Option<Vec<f32>>,
) -> Result<Held> {
    fn turn<T: Copy>(v: &[T], k: usize, n: usize) -> Vec<T> {
        (0..n * k).map(|i| v[i % k * n + i / k]).collect()
    }
    let weight = match numbers.weight {
        weight if by_output => weight,
        Weight::Tagged(v) => Weight::Tagged(turn(&v, k, n)),
        Weight::Exact(v) => Weight::Exact(turn(&v, k, n)),
        Weight::Plain(v) => Weight::Plain(turn(&v, k, n)),
        Weight::Int8(v) => Weight::Int8(turn(&v, k, n)),
    };
    let mut layer = Layer::new("InnerProduct").int(0, n).int(1, usize::from(bias.is_some())).int(2, n * k).weight(weight);
    layer.weights.extend(bias.map(Weight::Plain));
    if let Some((input, weights)) = numbers.scales {
        let weights = if weights.len() == 1 { memory::repeated(weights[0], n, || format!("{n} scales"))? } else { weights };
        let turned = weights.iter().map(|s| 1.0 / s).collect();
        layer = layer.int(8, 1).weight(Weight::Plain(turned)).weight(Weight::Plain(vec![1.0 / input]));
    }
    let (from, to) = if rows == 1 { (vec![k], vec![n]) } else { (vec![rows, k], vec![rows, n]) };
    let x = cx.view(&numbers.source, &from)?;
    Ok(Held { blob: cx.layer(layer, &[x]), shape: to })
}

pub(super) fn matmul(cx: &mut Build<'_>, node: &Node) -> Result<()> {
    let (mut a, mut b) = (cx.input_dims(node, 0)?, cx.input_dims(node, 1)?);
    if a.len() == 1 {
        a.insert(0, 1);
    }
    if b.len() == 1 {
        b.push(1);
    }
    let ([batch_a @ .., m, k], [batch_b @ .., _, n]) = (a.as_slice(), b.as_slice()) else {
        return Err(Error::unsupported("it multiplies scalars"));
    };
    let (m, k, n) = (*m, *k, *n);
    let (count_a, count_b) = (batch_a.iter().product::<usize>(), batch_b.iter().product::<usize>());
    let names = (input(node, 0)?, input(node, 1)?);
    if count_b == 1
        && let Some(numbers) = numbers(cx, node, n, true)?
    {
        let held = inner(cx, (count_a * m, k, n), false, numbers, None)?;
        return cx.made(node, held.blob, held.shape);
    }
    let (view_a, view_b, out) = if count_b == 1 {
        (vec![count_a * m, k], vec![k, n], vec![count_a * m, n])
    } else if count_a == 1 || batch_a == batch_b || count_a == count_b && long(batch_a) == long(batch_b) {
        (vec![count_a, m, k], vec![count_b, k, n], vec![count_b, m, n])
    } else {
        let rank = batch_a.len().max(batch_b.len());
        let padded = |s: &[usize]| -> Vec<usize> { std::iter::repeat_n(1, rank - s.len()).chain(s.iter().copied()).collect() };
        let (pa, pb) = (padded(batch_a), padded(batch_b));
        let used: Vec<usize> = (0..rank).filter(|&i| pa[i] != 1 || pb[i] != 1).collect();
        let [c, d] = used[..] else {
            return Err(Error::unsupported(format!("matrices {a:?} and {b:?} are broadcast along more than two axes")));
        };
        (vec![pa[c], pa[d], m, k], vec![pb[c], pb[d], k, n], vec![pa[c].max(pb[c]), pa[d].max(pb[d]), m, n])
    };
    let views = [cx.view(names.0, &view_a)?, cx.view(names.1, &view_b)?];
    let blob = cx.layer(Layer::new("MatMul"), &views);
    cx.made(node, blob, out)
}

/// The sizes other than 1.
fn long(dims: &[usize]) -> Vec<usize> {
    dims.iter().copied().filter(|&d| d != 1).collect()
}

pub(super) fn gemm(cx: &mut Build<'_>, node: &Node) -> Result<()> {
    let (alpha, beta) = (node.get_float("alpha", 1.0)?, node.get_float("beta", 1.0)?);
    let (turn_a, turn_b) = (node.get_int("transA", 0)? != 0, node.get_int("transB", 0)? != 0);
    let (a, b) = (cx.input_dims(node, 0)?, cx.input_dims(node, 1)?);
    let ([a0, a1], [b0, b1]) = (&a[..], &b[..]) else { return Err(Error::shape(format!("it multiplies {a:?} with {b:?}"))) };
    let (m, k) = if turn_a { (*a1, *a0) } else { (*a0, *a1) };
    let n = if turn_b { *b0 } else { *b1 };
    let bias = match node.input(2) {
        Some(name) => cx.constant(name).map(|c| (c.dims().to_vec(), c.to_f32s())),
        None => None,
    };
    // One for all columns, or one for each.
    let bias = match bias {
        Some((dims, values)) => {
            let values: Vec<f32> = values?.iter().map(|v| v * beta).collect();
            match values.len() {
                1 => Some(memory::repeated(values[0], n, || format!("a bias of {n}"))?),
                count if count == n && dims.last() == Some(&n) => Some(values),
                _ => None,
            }
        }
        None => None,
    };
    if !turn_a
        && alpha.is_finite()
        && let Some(mut numbers) = numbers(cx, node, n, alpha == 1.0)?
    {
        if let Weight::Tagged(v) = &mut numbers.weight {
            v.iter_mut().for_each(|v| *v *= alpha);
        }
        let inside = bias.is_some();
        let held = inner(cx, (m, k, n), turn_b, numbers, bias)?;
        return plus(cx, node, held, if inside { None } else { node.input(2) }, beta, (m, n));
    }
    let one = |cx: &mut Build<'_>, i: usize, dims: &[usize], turned: bool| -> Result<Blob> {
        let blob = cx.view(input(node, i)?, dims)?;
        Ok(if turned { permute(cx, blob, dims, &[1, 0])?.blob } else { blob })
    };
    let views = [one(cx, 0, &a, turn_a)?, one(cx, 1, &b, turn_b)?];
    let mut blob = cx.layer(Layer::new("MatMul"), &views);
    if alpha != 1.0 {
        blob = cx.layer(Layer::new("BinaryOp").int(0, MUL.op).int(1, 1).float(2, alpha), &[blob]);
    }
    plus(cx, node, Held { blob, shape: vec![m, n] }, node.input(2), beta, (m, n))
}

/// A product and what is added to it.
fn plus(cx: &mut Build<'_>, node: &Node, product: Held, summand: Option<&str>, beta: f32, (m, n): (usize, usize)) -> Result<()> {
    let Some(name) = summand else { return cx.made(node, product.blob, product.shape) };
    let dims = cx.dims(name)?;
    let shape: Vec<usize> = std::iter::repeat_n(1, 2 - dims.len().min(2)).chain(dims).collect();
    let mut c = cx.view(name, &shape)?;
    if beta != 1.0 {
        c = cx.layer(Layer::new("BinaryOp").int(0, MUL.op).int(1, 1).float(2, beta), &[c]);
    }
    let x = cx.reshaped(&product, &[m, n])?;
    let blob = cx.layer(Layer::new("BinaryOp").int(0, ADD.op), &[x, c]);
    cx.made(node, blob, vec![m, n])
}
