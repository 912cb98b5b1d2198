//! What no output depends on is left out.

use super::model::File;
use bytes::Bytes;
use std::collections::HashMap;

/// The file without operators, tensors and constants that no output depends on. Inputs stay.
pub(super) fn prune(file: File) -> File {
    let mut used = vec![false; file.tensors.len()];
    file.inputs.iter().chain(&file.outputs).for_each(|&t| used[t] = true);
    let mut operators = Vec::new();
    for op in file.operators.into_iter().rev() {
        if op.outputs.iter().any(|&t| used[t]) {
            op.inputs.iter().chain(&op.outputs).for_each(|&t| used[t] = true);
            operators.push(op);
        }
    }
    operators.reverse();
    // Numbers anew, in the old order.
    let (mut tensors, mut buffers, mut number) = (Vec::new(), vec![Bytes::new()], HashMap::new());
    for (i, mut tensor) in file.tensors.into_iter().enumerate().filter(|&(i, _)| used[i]) {
        number.insert(i, tensors.len());
        if tensor.buffer != 0 {
            buffers.push(file.buffers[tensor.buffer].clone());
            tensor.buffer = buffers.len() - 1;
        }
        tensors.push(tensor);
    }
    let renumber = |list: &[usize]| list.iter().filter_map(|t| number.get(t).copied()).collect::<Vec<_>>();
    for op in &mut operators {
        (op.inputs, op.outputs) = (renumber(&op.inputs), renumber(&op.outputs));
    }
    let (inputs, outputs) = (renumber(&file.inputs), renumber(&file.outputs));
    File { tensors, operators, buffers, inputs, outputs, ..file }
}
