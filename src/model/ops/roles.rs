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
    /// True where the input at this position is data.
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
    /// None: ONNX has no float16 form of the operator, or it computes with numbers that leave float16's range or places of an image
    /// that float16 would move.
    Float32,
}

/// How large an operator's results are beside what it reads. Float16 holds nothing above 65504, and below 0.00006 ever fewer digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Span {
    /// About as large: where what it reads fits float16, so does what it makes.
    Same,
    /// Some units, whatever it reads (Sigmoid, Softmax, normalisations).
    Bounded,
    /// Numbers near zero whose digits matter, or that come from such numbers (roots, logarithms, reciprocals).
    Fine,
    /// Numbers that can be far larger (Exp, powers, sums over many elements).
    Wide,
}
