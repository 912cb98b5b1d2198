//! Makes Gemm of a matrix product and the addition of a bias, and lets it read matrices that a Transpose turns.
//!
//! ONNX: [Gemm](https://onnx.ai/onnx/operators/onnx__Gemm.html), [MatMul](https://onnx.ai/onnx/operators/onnx__MatMul.html).

use super::fuse_transposes::order;
use super::{Pass, PassContext, Rewrite};
use crate::graph::{Attr, Dim, Node};
use crate::ops::arithmetic::ADD;
use crate::ops::matmul::{GEMM, MATMUL};
use crate::ops::transpose::TRANSPOSE;
use compresso_base::error::Result;
use std::collections::HashSet;

/// Makes one Gemm of a product of two matrices and the addition of a bias.
#[derive(Debug, Clone, Copy)]
pub struct FuseMatMulAdd;

/// Lets Gemm read matrices as they are before a Transpose.
#[derive(Debug, Clone, Copy)]
pub struct FuseTransposeGemm;

impl Pass for FuseMatMulAdd {
    fn name(&self) -> &'static str {
        "fuse_matmul_add_bias_into_gemm"
    }
    fn summary(&self) -> &'static str {
        "Makes one Gemm of a product of two matrices and the addition of a bias"
    }
    fn rewrite<'g>(&self, cx: &PassContext<'g>) -> Result<Rewrite<'g>> {
        let mut out = cx.rewrite();
        let mut touched: HashSet<usize> = HashSet::new();
        for (i, add) in cx.graph().nodes().iter().enumerate().filter(|(_, n)| n.is(ADD)) {
            for (value, bias) in [(0, 1), (1, 0)] {
                let (Some(value), Some(bias)) = (add.input(value), add.input(bias)) else { continue };
                let Some((p, product)) = cx.producer(value).filter(|(p, n)| n.is(MATMUL) && !touched.contains(p)) else { continue };
                if let Err(reason) = matrices(cx, product, value, bias)? {
                    let line = format!("{} stays: {reason}", add.label());
                    if !out.refused.contains(&line) {
                        out.refused.push(line);
                    }
                    continue;
                }
                touched.insert(p);
                out.patch.remove(p);
                let inputs = [product.inputs[0].as_str(), product.inputs[1].as_str(), bias];
                *out.patch.edit(i) = Node::new(GEMM, product.name.clone(), inputs, [add.outputs[0].as_str()]);
                out.done.push(format!("{} and {} become Gemm", product.label(), add.label()));
                break;
            }
        }
        Ok(out)
    }
}

/// Why the two are no Gemm.
fn matrices(cx: &PassContext<'_>, product: &Node, value: &str, bias: &str) -> Result<Result<(), String>> {
    if cx.sole_reader(value).is_none() {
        return Ok(Err(format!("'{value}' has other readers, or is read twice")));
    }
    let facts = cx.facts()?;
    let shape = |name: &str| facts.get(name).and_then(|f| f.shape.clone());
    let two = product.inputs.iter().all(|x| shape(x).is_some_and(|s| s.len() == 2));
    let (true, Some(of)) = (two, shape(value)) else { return Ok(Err(format!("{} is not of two matrices", product.label()))) };
    if !facts.get(value).is_some_and(|f| f.element.is_float()) {
        return Ok(Err("Gemm of integers is not had everywhere".into()));
    }
    // The bias must spread over the product, not the product over the bias.
    let spreads = shape(bias).is_some_and(|s| {
        s.len() <= 2 && s.iter().rev().zip(of.iter().rev()).all(|(b, d)| *b == Dim::Known(1) || b == d && *b != Dim::Unknown)
    });
    Ok(if spreads { Ok(()) } else { Err(format!("'{bias}' does not spread over the product")) })
}

impl Pass for FuseTransposeGemm {
    fn name(&self) -> &'static str {
        "fuse_transpose_into_gemm"
    }
    fn summary(&self) -> &'static str {
        "Lets Gemm read matrices as they are before a Transpose"
    }
    fn rewrite<'g>(&self, cx: &PassContext<'g>) -> Result<Rewrite<'g>> {
        let mut out = cx.rewrite();
        for (i, gemm) in cx.graph().nodes().iter().enumerate().filter(|(_, n)| n.is(GEMM)) {
            for (input, flag) in [(0, "transA"), (1, "transB")] {
                let Some((_, transpose)) = gemm.input(input).and_then(|x| cx.producer(x)).filter(|(_, n)| n.is(TRANSPOSE)) else {
                    continue;
                };
                let (Some(source), true) = (transpose.input(0), order(cx, transpose)? == Some(vec![1, 0])) else { continue };
                let turned = i64::from(gemm.get_int(flag, 0)? == 0);
                let edited = out.patch.edit(i);
                edited.inputs[input] = source.to_string();
                edited.attrs.insert(flag.into(), Attr::Int(turned));
                out.done.push(format!("{} turns '{source}' itself, past {}", gemm.label(), transpose.label()));
            }
        }
        Ok(out)
    }
}
