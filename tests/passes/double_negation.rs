//! Removes the negation of a negation ([Neg](https://onnx.ai/onnx/operators/onnx__Neg.html)).

use compresso::Result;
use compresso::model::passes::{Pass, PassContext, Rewrite};

/// Removes the negation of a negation.
#[derive(Debug, Clone, Copy)]
pub struct DoubleNegation;

impl Pass for DoubleNegation {
    fn name(&self) -> &'static str {
        "double_negation"
    }
    fn summary(&self) -> &'static str {
        "Removes the negation of a negation"
    }
    fn rewrite<'g>(&self, cx: &PassContext<'g>) -> Result<Rewrite<'g>> {
        let mut out = cx.rewrite();
        for (i, outer) in cx.graph().nodes().iter().enumerate().filter(|(_, n)| n.is("Neg")) {
            let Some((_, inner)) = cx.producer(&outer.inputs[0]).filter(|(_, n)| n.is("Neg")) else { continue };
            if cx.stays(&outer.outputs[0]) {
                out.refused.push(format!("{} stays: it gives '{}' its name", outer.label(), outer.outputs[0]));
                continue;
            }
            out.patch.remove(i);
            out.patch.redirect(&outer.outputs[0], &inner.inputs[0]);
            out.done.push(format!("{} is taken out: it undoes {}", outer.label(), inner.label()));
        }
        Ok(out)
    }
}
