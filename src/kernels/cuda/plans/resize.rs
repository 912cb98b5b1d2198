use super::super::plan::{Arg, Constant, Element, Plan, count, int};
use crate::resize::AxisMap;
use compresso_base::error::{Error, Result};

/// # Errors
/// `Shape` for a table that has other sizes, or reads outside of the axis.
fn check(map: &AxisMap) -> Result<()> {
    let sizes = map.index.len() == map.output * map.taps && map.weight.len() == map.index.len();
    if sizes && map.index.iter().all(|&i| (i as usize) < map.input) {
        return Ok(());
    }
    Err(Error::shape(format!("a table of {} weights for {} outputs of {} inputs", map.weight.len(), map.output, map.input)))
}

/// `x: [outer, map.input, inner]` to `[outer, map.output, inner]`.
pub fn resize_axis(map: &AxisMap, outer: usize, inner: usize) -> Result<Plan> {
    check(map)?;
    let n = outer * map.output * inner;
    let mut p = Plan::floats(&[outer * map.input * inner])?;
    let index = map.index.iter().map(|&i| count(i as usize)).collect::<Result<_>>()?;
    let index = p.constant(Constant::I32(index));
    let weight = p.constant(Constant::F32(map.weight.clone()));
    let y = p.result(Element::F32, n)?;
    p.each("resize_axis", n, [Arg::Buffer(0), index, weight, y, int(n)?, int(map.input)?, int(map.output)?, int(inner)?, int(map.taps)?]);
    Ok(p)
}

/// The gradient of the result to that of the input.
pub fn resize_axis_backward(map: &AxisMap, outer: usize, inner: usize) -> Result<Plan> {
    check(map)?;
    let n = outer * map.input * inner;
    let mut p = Plan::floats(&[outer * map.output * inner])?;
    let mut readers: Vec<Vec<(i32, f32)>> = vec![Vec::new(); map.input];
    for (t, (&i, &w)) in map.index.iter().zip(&map.weight).enumerate() {
        readers[i as usize].push((count(t / map.taps.max(1))?, w));
    }
    let mut start = vec![0];
    for r in &readers {
        start.push(start[start.len() - 1] + count(r.len())?);
    }
    let (reader, weight) = readers.into_iter().flatten().unzip();
    let start = p.constant(Constant::I32(start));
    let reader = p.constant(Constant::I32(reader));
    let weight = p.constant(Constant::F32(weight));
    let gx = p.result(Element::F32, n)?;
    p.each("resize_axis_backward", n, [Arg::Buffer(0), start, reader, weight, gx, int(n)?, int(map.input)?, int(map.output)?, int(inner)?]);
    Ok(p)
}
