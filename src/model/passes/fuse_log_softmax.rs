//! Makes LogSoftmax of the Log of a Softmax ([LogSoftmax](https://onnx.ai/onnx/operators/onnx__LogSoftmax.html)), which keeps the
//! digits of small probabilities.

use super::{Pass, PassContext, Rewrite};
use crate::graph::Node;
use crate::ops::math::LOG;
use crate::ops::softmax::{LOG_SOFTMAX, SOFTMAX};
use compresso_base::error::Result;

/// Makes one LogSoftmax of a Softmax and a Log.
#[derive(Debug, Clone, Copy)]
pub struct FuseLogSoftmax;

impl Pass for FuseLogSoftmax {
    fn name(&self) -> &'static str {
        "fuse_consecutive_log_softmax"
    }
    fn summary(&self) -> &'static str {
        "Makes one LogSoftmax of a Softmax and the Log of it"
    }
    fn rewrite<'g>(&self, cx: &PassContext<'g>) -> Result<Rewrite<'g>> {
        let mut out = cx.rewrite();
        for (i, log) in cx.graph().nodes().iter().enumerate().filter(|(_, n)| n.is(LOG)) {
            let Some((p, softmax)) = log.input(0).and_then(|x| cx.producer(x)).filter(|(_, n)| n.is(SOFTMAX)) else { continue };
            if cx.sole_reader(&softmax.outputs[0]).is_none() {
                out.refused.push(format!("{} stays: '{}' has other readers", softmax.label(), softmax.outputs[0]));
                continue;
            }
            let joined = Node::new(LOG_SOFTMAX, softmax.name.clone(), softmax.inputs.clone(), log.outputs.clone());
            out.patch.remove(p);
            *out.patch.edit(i) = Node { attrs: softmax.attrs.clone(), ..joined };
            out.done.push(format!("{} and {} become LogSoftmax", softmax.label(), log.label()));
        }
        Ok(out)
    }
}
