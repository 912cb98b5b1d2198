//! NCNN's network as data: layers that read and make numbered blobs.

/// A blob's number.
pub(super) type Blob = usize;

/// A layer's parameter.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Param {
    Int(i64),
    Float(f32),
    Ints(Vec<i64>),
    Floats(Vec<f32>),
}

/// Numbers of a layer, as they stand in the file of weights.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Weight {
    /// Behind a tag that says their type: float32 or float16, whichever the file is to have.
    Tagged(Vec<f32>),
    /// Behind the tag of float32, whatever the file has.
    Exact(Vec<f32>),
    /// Float32 without a tag.
    Plain(Vec<f32>),
    /// int8 behind its tag.
    Int8(Vec<i8>),
}

#[derive(Debug, Clone, Default)]
pub(super) struct Layer {
    pub kind: &'static str,
    pub name: String,
    pub inputs: Vec<Blob>,
    pub outputs: Vec<Blob>,
    pub params: Vec<(u32, Param)>,
    pub weights: Vec<Weight>,
}

impl Layer {
    pub(super) fn new(kind: &'static str) -> Self {
        Self { kind, ..Self::default() }
    }
    #[must_use]
    pub(super) fn int(mut self, id: u32, value: usize) -> Self {
        // Sizes of tensors fit: inference counts their elements.
        self.params.push((id, Param::Int(i64::try_from(value).unwrap_or(i64::MAX))));
        self
    }
    #[must_use]
    pub(super) fn float(mut self, id: u32, value: f32) -> Self {
        self.params.push((id, Param::Float(value)));
        self
    }
    #[must_use]
    pub(super) fn ints(mut self, id: u32, values: impl IntoIterator<Item = usize>) -> Self {
        let values = values.into_iter().map(|v| i64::try_from(v).unwrap_or(i64::MAX)).collect();
        self.params.push((id, Param::Ints(values)));
        self
    }
    #[must_use]
    pub(super) fn weight(mut self, weight: Weight) -> Self {
        self.weights.push(weight);
        self
    }
    /// Width, height, depth and channels of a shape, as Input, MemoryData and Reshape have them.
    #[must_use]
    pub(super) fn sizes(self, shape: &[usize]) -> Self {
        let ids: &[u32] = match shape.len() {
            1 => &[0],
            2 => &[1, 0],
            3 => &[2, 1, 0],
            _ => &[2, 11, 1, 0],
        };
        ids.iter().zip(shape).rev().fold(self, |layer, (&id, &size)| layer.int(id, size))
    }
}

/// Layers in the order in which they run.
#[derive(Debug, Clone, Default)]
pub(super) struct Net {
    pub layers: Vec<Layer>,
    /// How many blobs there are.
    pub blobs: usize,
    pub outputs: Vec<Blob>,
}

impl Net {
    pub(super) fn blob(&mut self) -> Blob {
        self.blobs += 1;
        self.blobs - 1
    }

    /// Drops the layers that nothing reads, but for inputs, and gives every reader of a blob one of its own: a layer takes what it reads,
    /// so that blobs with several readers go through a Split. The network's outputs are readers; what is an input as well
    /// goes through a Split of one.
    pub(super) fn finish(mut self) -> Self {
        let mut read = vec![0usize; self.blobs];
        let mut kept = Vec::with_capacity(self.layers.len());
        self.outputs.iter().for_each(|&b| read[b] += 1);
        for layer in std::mem::take(&mut self.layers).into_iter().rev() {
            if layer.kind == "Input" || layer.outputs.iter().any(|&b| read[b] > 0) {
                layer.inputs.iter().for_each(|&b| read[b] += 1);
                kept.push(layer);
            }
        }
        // For each blob with several readers, those that are left for them, the next one last.
        let mut parts: Vec<Vec<Blob>> = vec![Vec::new(); self.blobs];
        let outputs = self.outputs.clone();
        for mut layer in kept.into_iter().rev() {
            for blob in &mut layer.inputs {
                *blob = parts[*blob].pop().unwrap_or(*blob);
            }
            let made = layer.outputs.clone();
            let is_input = layer.kind == "Input";
            self.layers.push(layer);
            for blob in made {
                if read[blob] > 1 || is_input && outputs.contains(&blob) {
                    let copies: Vec<Blob> = (0..read[blob]).map(|_| self.blob()).collect();
                    let name = format!("split_{blob}");
                    self.layers.push(Layer { name, inputs: vec![blob], outputs: copies.clone(), ..Layer::new("Split") });
                    parts[blob] = copies.into_iter().rev().collect();
                }
            }
        }
        for blob in &mut self.outputs {
            *blob = parts[*blob].pop().unwrap_or(*blob);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(kind: &'static str, inputs: &[Blob], outputs: &[Blob]) -> Layer {
        Layer { inputs: inputs.to_vec(), outputs: outputs.to_vec(), ..Layer::new(kind) }
    }

    #[test]
    fn every_reader_has_a_blob_of_its_own_and_what_nothing_reads_is_dropped() {
        let layers = vec![
            layer("Input", &[], &[0]),
            layer("ReLU", &[0], &[1]),
            layer("BinaryOp", &[1, 1], &[2]),
            layer("Sigmoid", &[1], &[3]),
            layer("TanH", &[0], &[4]),
        ];
        let net = Net { layers, blobs: 5, outputs: vec![2, 3, 0, 1] }.finish();
        let kinds: Vec<&str> = net.layers.iter().map(|l| l.kind).collect();
        assert_eq!(kinds, ["Input", "Split", "ReLU", "Split", "BinaryOp", "Sigmoid"]);
        let mut read: Vec<Blob> = net.layers.iter().flat_map(|l| l.inputs.clone()).chain(net.outputs.clone()).collect();
        let count = read.len();
        read.sort_unstable();
        read.dedup();
        assert_eq!(read.len(), count);
        let made: Vec<Blob> = net.layers.iter().flat_map(|l| l.outputs.clone()).collect();
        assert!(made.iter().all(|b| read.contains(b)) && made.len() == count);
        let through = Net { layers: vec![layer("Input", &[], &[0])], blobs: 1, outputs: vec![0] }.finish();
        assert_eq!((through.layers[1].kind, through.outputs[0]), ("Split", 1));
    }
}
