//! What each operator of ONNX becomes, and in which forms it is taken.

mod activation;
mod conv;
mod elementwise;
mod matmul;
mod moves;
mod pool;
mod reduce;
mod resize;
mod sample;
mod spread;
mod window;

use super::builder::Builder;
use super::rounding;
use crate::Op;
use compresso_base::error::{At, Error, Result};
use compresso_model::Node;

type Write = fn(&mut Builder<'_>, &Node) -> Result<()>;

/// Every operator that is taken, with what writes it.
const TABLE: &[(Op, Write)] = &[
    (Op::any("Conv").when(conv::takes), conv::conv),
    (Op::any("ConvTranspose").when(conv::takes_transposed), conv::conv_transpose),
    (Op::any("MatMul"), matmul::matmul),
    (Op::any("Gemm"), matmul::gemm),
    (Op::any("MaxPool").when(pool::takes), pool::max_pool),
    (Op::any("AveragePool").when(pool::takes), pool::average_pool),
    (Op::any("GlobalAveragePool"), pool::global),
    (Op::any("GlobalMaxPool"), pool::global),
    (Op::any("Resize").when(resize::takes), resize::resize),
    (Op::any("Upsample").when(resize::takes), resize::resize),
    (Op::any("Add"), elementwise::arithmetic),
    (Op::any("Sub"), elementwise::arithmetic),
    (Op::any("Mul"), elementwise::arithmetic),
    (Op::any("Div"), elementwise::arithmetic),
    (Op::any("Min"), elementwise::arithmetic),
    (Op::any("Max"), elementwise::arithmetic),
    (Op::any("Sum"), elementwise::arithmetic),
    (Op::any("Mean"), elementwise::arithmetic),
    (Op::any("Mod").when(elementwise::takes_mod), elementwise::arithmetic),
    (Op::any("Pow"), elementwise::power),
    (Op::any("Less"), elementwise::logic),
    (Op::any("LessOrEqual"), elementwise::logic),
    (Op::any("Greater"), elementwise::logic),
    (Op::any("GreaterOrEqual"), elementwise::logic),
    (Op::any("Equal"), elementwise::logic),
    (Op::any("And"), elementwise::logic),
    (Op::any("Or"), elementwise::logic),
    (Op::any("Xor"), elementwise::logic),
    (Op::any("Where"), elementwise::choose),
    (Op::any("PRelu"), elementwise::prelu),
    (Op::any("Cast").when(elementwise::takes_cast), elementwise::cast),
    (Op::any("Relu"), activation::function),
    (Op::any("Sigmoid"), activation::function),
    (Op::any("Tanh"), activation::function),
    (Op::any("Exp"), activation::function),
    (Op::any("Log"), activation::function),
    (Op::any("Sqrt"), activation::function),
    (Op::any("Abs"), activation::function),
    (Op::any("Neg"), activation::function),
    (Op::any("Floor"), activation::function),
    (Op::any("Ceil"), activation::function),
    (Op::any("Round"), activation::function),
    (Op::any("Sin"), activation::function),
    (Op::any("Cos"), activation::function),
    (Op::any("Sign"), activation::function),
    (Op::any("Not"), activation::function),
    (Op::any("HardSwish"), activation::function),
    (Op::any("HardSigmoid"), activation::function),
    (Op::any("LeakyRelu"), activation::function),
    (Op::any("Elu"), activation::function),
    (Op::any("Selu"), activation::function),
    (Op::any("Celu"), activation::function),
    (Op::any("Gelu"), activation::function),
    (Op::any("Mish"), activation::function),
    (Op::any("Swish"), activation::function),
    (Op::any("Softplus"), activation::function),
    (Op::any("Softsign"), activation::function),
    (Op::any("Reciprocal"), activation::function),
    (Op::any("Clip"), activation::function),
    (Op::any("Erf"), activation::erf_or_gelu),
    (Op::any("Softmax").when(reduce::takes_softmax), reduce::softmax),
    (Op::any("LogSoftmax").when(reduce::takes_softmax), reduce::softmax),
    (Op::any("ReduceMean"), reduce::reduce),
    (Op::any("ReduceSum"), reduce::reduce),
    (Op::any("ReduceMax"), reduce::reduce),
    (Op::any("ReduceMin"), reduce::reduce),
    (Op::any("ReduceProd"), reduce::reduce),
    (Op::any("ReduceL1"), reduce::reduce),
    (Op::any("ReduceL2"), reduce::reduce),
    (Op::any("ReduceSumSquare"), reduce::reduce),
    (Op::any("ArgMax").when(reduce::takes_arg), reduce::arg),
    (Op::any("ArgMin").when(reduce::takes_arg), reduce::arg),
    (Op::any("TopK").when(reduce::takes_top_k), reduce::top_k),
    (Op::any("CumSum"), reduce::cumulative_sum),
    (Op::any("LayerNormalization").when(reduce::takes_layer_norm), reduce::layer_norm),
    (Op::any("RMSNormalization"), reduce::layer_norm),
    (Op::any("InstanceNormalization"), reduce::instance_norm),
    (Op::any("GroupNormalization"), reduce::instance_norm),
    (Op::any("BatchNormalization"), reduce::batch_norm),
    (Op::any("Identity"), moves::identity),
    (Op::any("Dropout"), moves::identity),
    (Op::any("Transpose"), moves::transpose),
    (Op::any("Reshape"), moves::reshape),
    (Op::any("Flatten"), moves::reshape),
    (Op::any("Squeeze"), moves::reshape),
    (Op::any("Unsqueeze"), moves::reshape),
    (Op::any("Concat"), moves::concat),
    (Op::any("Split"), moves::split),
    (Op::any("Slice"), moves::slice),
    (Op::any("Gather"), moves::gather),
    (Op::any("GatherND").when(moves::takes_gather_nd), moves::gather_nd),
    (Op::any("GatherElements"), moves::gather_elements),
    (Op::any("GridSample").when(sample::takes), sample::grid_sample),
    (Op::any("Pad").when(moves::takes_pad), moves::pad),
    (Op::any("Tile"), moves::repeat),
    (Op::any("Expand"), moves::repeat),
    (Op::any("DepthToSpace"), moves::depth_space),
    (Op::any("SpaceToDepth"), moves::depth_space),
    (Op::any("QuantizeLinear").when(rounding::takes), rounding::quantize),
    (Op::any("DequantizeLinear").when(rounding::takes), rounding::dequantize),
    // What is computed before the file is written, once all sizes are known.
    (Op::any("Constant"), unknown),
    (Op::any("ConstantOfShape"), unknown),
    (Op::any("Shape"), unknown),
    (Op::any("Size"), unknown),
    (Op::any("Range"), unknown),
    (Op::any("If"), unknown),
    (Op::any("Loop"), unknown),
    (Op::any("Sequence*"), unknown),
    (Op::any("SplitToSequence"), unknown),
    (Op::any("ConcatFromSequence"), unknown),
];

/// The operators that are taken.
pub(super) const OPERATORS: &[Op] = &operators();

const fn operators() -> [Op; TABLE.len()] {
    let mut ops = [TABLE[0].0; TABLE.len()];
    let mut i = 0;
    while i < ops.len() {
        ops[i] = TABLE[i].0;
        i += 1;
    }
    ops
}

/// Writes a node.
///
/// # Errors
/// `Unsupported` for one that the runtime cannot compute, at the node.
pub(super) fn write(b: &mut Builder<'_>, node: &Node) -> Result<()> {
    if without_elements(b, node)? {
        return Ok(());
    }
    let entry = TABLE.iter().find(|(op, _)| op.is(b.graph, node));
    let refused = || Error::unsupported(format!("TensorFlow Lite does not take the operator {} as it is used here", node.op));
    entry.ok_or_else(refused).and_then(|(_, write)| write(b, node)).at(|| node.label())
}

/// True for a node whose result has no elements, and is only joined with others: joining leaves it out.
///
/// # Errors
/// `Unsupported` where something else is done with it.
fn without_elements(b: &Builder<'_>, node: &Node) -> Result<bool> {
    let mut none = false;
    for y in node.outputs.iter().filter(|y| !y.is_empty()) {
        if !b.dims(y).at(|| node.label())?.contains(&0) {
            continue;
        }
        if b.graph.is_output(y) || b.readers(y).iter().any(|&i| !b.graph.nodes()[i].is("Concat")) {
            return Err(Error::unsupported(format!("'{y}' has no elements")).at(node.label()));
        }
        none = node.outputs.len() == 1;
    }
    Ok(none)
}

fn unknown(_: &mut Builder<'_>, _: &Node) -> Result<()> {
    let e = Error::unsupported("what it makes must be known before the model runs");
    Err(e.hint("open the model with fixed sizes: image_size: [height, width], batch: 1"))
}
