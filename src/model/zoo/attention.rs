//! Attention over positions (Wang et al. 2024, "YOLOv10") and over channels (Hu et al. 2017, "Squeeze-and-Excitation
//! Networks").

use super::blocks::{Act, Blocks, Conv, Feature};
use crate::{Constant, Node};
use compresso_base::error::{Error, Result};

/// Channels of one attention head.
const HEAD: usize = 64;

impl Blocks {
    /// Half of the channels goes through `n` attention blocks and is joined with the other half (YOLO11).
    pub fn c2psa(&mut self, name: &str, x: &Feature, n: usize, expansion: f64) -> Result<Feature> {
        let hidden = ((x.channels as f64 * expansion) as usize).max(1);
        let y = self.conv(&format!("{name}.cv1"), x, Conv::new(2 * hidden, 1))?;
        let [a, mut b] = self.halves(name, &y);
        for i in 0..n {
            let block = format!("{name}.m.{i}");
            let y = self.attention(&format!("{block}.attn"), &b)?;
            b = self.add(&format!("{block}.attn"), &b, &y);
            let y = self.conv(&format!("{block}.ffn.0"), &b, Conv::new(2 * hidden, 1))?;
            let y = self.conv(&format!("{block}.ffn.1"), &y, Conv::new(hidden, 1).act(Act::None))?;
            b = self.add(&format!("{block}.ffn"), &b, &y);
        }
        let all = self.concat(name, &[&a, &b]);
        self.conv(&format!("{name}.cv2"), &all, Conv::new(x.channels, 1))
    }

    /// Scaled dot products between positions, with heads of 64 channels and keys of half a head's channels; a depthwise
    /// convolution of the values tells positions apart.
    fn attention(&mut self, name: &str, x: &Feature) -> Result<Feature> {
        let c = x.channels;
        let heads = (c / HEAD).max(1);
        let (value, key) = (c / heads, c / heads / 2);
        if value * heads != c || key == 0 {
            return Err(Error::shape(format!("{c} channels do not divide into {heads} heads of even size")));
        }
        let (h, d, k) = (heads as i64, value as i64, key as i64);
        let qkv = self.conv(&format!("{name}.qkv"), x, Conv::new(c + 2 * key * heads, 1).act(Act::None))?;
        let shape = self.ints(&format!("{name}.qkv.shape"), &[0, h, 2 * k + d, -1]);
        let qkv = self.named("Reshape", &format!("{name}.qkv"), &[&qkv.value, &shape]);
        let sizes = self.ints(&format!("{name}.split"), &[k, k, d]);
        let path = self.graph.path(&format!("{name}.Split"));
        let [q, k, v] = [0, 1, 2].map(|i| format!("{path}_output_{i}"));
        self.graph.node(Node::new("Split", path, [qkv, sizes], [q.clone(), k.clone(), v.clone()]).int("axis", 2));
        let swap = |n: Node| n.ints("perm", &[0, 1, 3, 2]);
        let q = self.node("Transpose", &format!("{name}.q"), &[&q], swap);
        let scores = self.named("MatMul", &format!("{name}.scores"), &[&q, &k]);
        let scale = self.graph.constant(&format!("{name}.scale"), Constant::scalar((key as f32).powf(-0.5)));
        let scores = self.named("Mul", &format!("{name}.scores"), &[&scores, &scale]);
        let shares = self.node("Softmax", &format!("{name}.scores"), &[&scores], |n| n.int("axis", -1));
        let shares = self.node("Transpose", &format!("{name}.scores"), &[&shares], swap);
        let mixed = self.named("MatMul", &format!("{name}.mixed"), &[&v, &shares]);
        let map = self.ints(&format!("{name}.map"), &[0, c as i64, x.size[0] as i64, x.size[1] as i64]);
        let mixed = x.with(self.named("Reshape", &format!("{name}.mixed"), &[&mixed, &map]));
        let v = x.with(self.named("Reshape", &format!("{name}.v"), &[&v, &map]));
        let places = self.conv(&format!("{name}.pe"), &v, Conv::new(c, 3).groups(c).act(Act::None))?;
        let y = self.add(name, &mixed, &places);
        self.conv(&format!("{name}.proj"), &y, Conv::new(c, 1).act(Act::None))
    }

    /// Scales each channel by what a bottleneck of two linear layers (`name.fc.0`, `name.fc.2`) makes of all channels'
    /// means.
    pub fn squeeze_excite(&mut self, name: &str, x: &Feature, reduction: usize) -> Result<Feature> {
        let y = self.pooled(name, x);
        let y = self.linear(&format!("{name}.fc.0"), &y, (x.channels / reduction).max(1))?;
        let y = self.activate(&format!("{name}.fc.1"), &y, Act::Relu);
        let y = self.linear(&format!("{name}.fc.2"), &y, x.channels)?;
        let y = self.named("Sigmoid", &format!("{name}.fc.3"), &[&y.value]);
        let axes = self.ints(&format!("{name}.axes"), &[2, 3]);
        let y = self.named("Unsqueeze", name, &[&y, &axes]);
        Ok(x.with(self.named("Mul", name, &[&x.value, &y])))
    }
}
