//! Turns Constant nodes into stored constants ([Constant](https://onnx.ai/onnx/operators/onnx__Constant.html)).

use super::{Pass, PassContext, Rewrite};
use crate::ops::constant::literal;
use compresso_base::error::Result;

/// Stores what Constant nodes hold beside the graph's other constants.
#[derive(Debug, Clone, Copy)]
pub struct ExtractConstants;

impl Pass for ExtractConstants {
    fn name(&self) -> &'static str {
        "extract_constant_to_initializer"
    }
    fn summary(&self) -> &'static str {
        "Stores what Constant nodes hold beside the graph's other constants"
    }
    fn rewrite<'g>(&self, cx: &PassContext<'g>) -> Result<Rewrite<'g>> {
        let mut out = cx.rewrite();
        for (i, node) in cx.graph().nodes().iter().enumerate() {
            let (Some(value), Some(name)) = (literal(node), node.output(0)) else { continue };
            if cx.stays(name) {
                out.refused.push(format!("{} stays: a node must make '{name}'", node.label()));
                continue;
            }
            out.patch.remove(i);
            out.patch.set_constant(name, value);
            out.done.push(format!("{} becomes a stored constant", node.label()));
        }
        Ok(out)
    }
}
