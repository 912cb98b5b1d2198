//! The operators: one file per family, one table entry per operator.
//!
//! An [`OpDef`] owns everything the library knows of an operator: shape rule, forward computation (differentiable where
//! the operator is), cost, channel rule for pruning, quantization and float16 rules, which inputs are data, where the channels
//! of its weight lie. Each family file has a `pub const OPS: &[OpDef]`; [`FAMILIES`] lists them. See docs/adding-an-op.md.
//!
//! What looks for one certain operator in a graph names it by the constant that its file has for it
//! (`node.is(conv::CONV)`); what asks for a property of operators reads it from their table entries ([`find`]).

pub mod activation;
pub mod arithmetic;
pub mod attention;
pub mod backward;
pub mod cast;
pub mod cat;
pub mod channels;
pub mod concat;
pub mod constant;
pub mod control;
pub mod conv;
pub mod cost;
pub mod def;
pub mod deform_conv;
pub mod detection;
pub mod einsum;
pub mod elementwise;
pub mod facts;
pub mod gather;
pub mod grid_sample;
pub mod ints;
pub mod later;
pub mod limits;
pub mod logic;
pub mod loss;
pub mod math;
pub mod matmul;
pub mod norm;
pub mod order;
pub mod pool;
pub mod product;
pub mod qlinear;
pub mod quantize;
pub mod query;
pub mod random;
pub mod ranges;
pub mod rearrange;
pub mod recurrent;
pub mod reduce;
pub mod region;
pub mod registry;
pub mod resize;
pub mod roles;
pub mod rotary;
pub mod run;
pub mod scan;
pub mod scatter;
pub mod schema;
pub mod sequence;
pub mod shape;
pub mod shrink;
pub mod slice;
pub mod softmax;
pub mod spectrum;
pub mod stream;
#[cfg(test)]
mod tests;
pub mod transpose;
pub mod unique;
pub mod unpool;
pub mod weight;
pub mod window;

pub use backward::{Back, BackwardRule, Flow};
pub use channels::Channels;
pub use constant::literal;
pub use cost::CostInput;
pub use def::{OWN_DOMAIN, OpDef, ParamKind, QuantRule};
pub use facts::infer_same;
pub use query::{LayerWeight, carried, is_expectation, is_quantized, layer_weight, moves, quantized_node, stored_weight};
pub use registry::{FAMILIES, all, find};
pub use roles::{Data, Float16Rule, Span};
pub use run::{Exec, MixedPrecision, RunMode};
pub use weight::{ChannelAxis, WeightAxes, WeightRule};
