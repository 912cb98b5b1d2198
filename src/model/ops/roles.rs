//! What the inputs of an operator are to it.

/// Which inputs of an operator are data, the values that it transforms. The others say how: weights, shapes, axes, bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Data {
    /// Those at these positions; none where only the shapes of the inputs count (Shape).
    At(&'static [usize]),
    /// All of them (Concat, MatMul).
    All,
    /// All of them, element by element, broadcast to one shape by NumPy's rules (Add, Where).
    Broadcast,
}

impl Data {
    pub fn has(self, input: usize) -> bool {
        match self {
            Self::At(inputs) => inputs.contains(&input),
            Self::All | Self::Broadcast => true,
        }
    }
}

/// What becomes of an operator's float32 inputs and outputs when a graph is converted to float16.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Float16Rule {
    /// All of them become float16, together.
    All,
    /// The same, but for the inputs at these positions, which ONNX has in float32 in every operator set.
    Except(&'static [usize]),
    /// None: ONNX has no float16 form of the operator, or its sums of squares and exponentials leave float16's range.
    Float32,
}
