//! Attention over positions (Wang et al. 2024, "YOLOv10"; Tian et al. 2025, "YOLOv12") and over channels (Hu et al. 2017, "Squeeze-and-Excitation
//! Networks").

use super::blocks::{Act, Blocks, Conv, Feature};
use crate::{Constant, Node};
use compresso_base::error::{Error, Result};

/// Channels of one attention head in the blocks of YOLOv10 and YOLO11.
const HEAD: usize = 64;
/// Channels of one head of area attention.
const AREA_HEAD: usize = 32;

/// Number of heads of an attention over so many channels, and channels of a key; `area`: of area attention.
pub(crate) fn attention_heads(channels: usize, area: bool) -> (usize, usize) {
    let count = (channels / if area { AREA_HEAD } else { HEAD }).max(1);
    (count, channels / count / if area { 1 } else { 2 })
}

/// Attention between the positions of a map.
#[derive(Debug, Clone, Copy)]
struct Heads {
    count: usize,
    /// Channels of a head's queries and keys; its values have `channels / count`.
    key: usize,
    /// Parts of the map, of whole rows where they divide, that are attended to on their own.
    areas: usize,
    /// Kernel of the depthwise convolution that tells positions apart.
    kernel: usize,
}

impl Blocks {
    /// Half of the channels goes through `n` attention blocks and is joined with the other half (YOLO11).
    pub fn c2psa(&mut self, name: &str, x: &Feature, n: usize, expansion: f64) -> Result<Feature> {
        let blocks: Vec<_> = (0..n).map(|i| format!("{name}.m.{i}")).collect();
        self.half_attended(name, x, &blocks, expansion)
    }

    /// As [`Blocks::c2psa`] with one block, whose weights stand under the module's own name (YOLOv10).
    pub fn psa(&mut self, name: &str, x: &Feature, expansion: f64) -> Result<Feature> {
        self.half_attended(name, x, &[name.to_string()], expansion)
    }

    fn half_attended(&mut self, name: &str, x: &Feature, blocks: &[String], expansion: f64) -> Result<Feature> {
        let hidden = ((x.channels as f64 * expansion) as usize).max(1);
        let y = self.conv(&format!("{name}.cv1"), x, Conv::new(2 * hidden, 1))?;
        let [a, mut b] = self.halves(name, &y);
        for block in blocks {
            b = self.psa_block(block, &b)?;
        }
        let all = self.concat(name, &[&a, &b]);
        self.conv(&format!("{name}.cv2"), &all, Conv::new(x.channels, 1))
    }

    /// Attention and two pointwise convolutions, each with a shortcut.
    pub fn psa_block(&mut self, name: &str, x: &Feature) -> Result<Feature> {
        let c = x.channels;
        let (count, key) = attention_heads(c, false);
        let heads = Heads { count, key, areas: 1, kernel: 3 };
        self.attended(name, x, heads, "ffn", 2 * c)
    }

    /// Area attention and two pointwise convolutions, the first `ratio` times as wide, each with a shortcut (Tian et al.
    /// 2025, "YOLOv12").
    pub fn area_block(&mut self, name: &str, x: &Feature, areas: usize, ratio: f64) -> Result<Feature> {
        let c = x.channels;
        let (count, key) = attention_heads(c, true);
        let heads = Heads { count, key, areas, kernel: 7 };
        self.attended(name, x, heads, "mlp", ((c as f64 * ratio) as usize).max(1))
    }

    fn attended(&mut self, name: &str, x: &Feature, heads: Heads, net: &str, hidden: usize) -> Result<Feature> {
        let attn = format!("{name}.attn");
        let y = self.attention(&attn, x, heads)?;
        let x = self.add(&attn, x, &y)?;
        let net = format!("{name}.{net}");
        let y = self.conv(&format!("{net}.0"), &x, Conv::new(hidden, 1))?;
        let y = self.conv(&format!("{net}.1"), &y, Conv::new(x.channels, 1).act(Act::None))?;
        self.add(&net, &x, &y)
    }

    /// Scaled dot products between positions; a depthwise convolution of the values tells positions apart.
    fn attention(&mut self, name: &str, x: &Feature, heads: Heads) -> Result<Feature> {
        let (c, Heads { count, key, areas, kernel }) = (x.channels, heads);
        let value = c / count;
        if value * count != c || key == 0 {
            return Err(Error::shape(format!("{c} channels do not divide into {count} heads of even size")));
        }
        let positions = x.size[0] * x.size[1];
        if !positions.is_multiple_of(areas) {
            let e = Error::shape(format!("the {positions} positions of a map of {:?} do not divide into {areas} areas", x.size));
            return Err(e.hint("choose an image size that is a multiple of 64"));
        }
        let (h, d, k, areas) = (count as i64, value as i64, key as i64, areas as i64);
        let wide = c + 2 * key * count;
        let qkv = self.conv(&format!("{name}.qkv"), x, Conv::new(wide, 1).act(Act::None))?;
        if qkv.channels != wide {
            return Err(Error::shape(format!("queries, keys and values have {} channels, expected {wide}", qkv.channels)));
        }
        // [batch, heads, channels, positions], or [batch, areas, heads, channels, positions of an area].
        let (shape, channels) = if areas > 1 { (vec![0, h, 2 * k + d, areas, -1], 3) } else { (vec![0, h, 2 * k + d, -1], 2) };
        let shape = self.ints(&format!("{name}.qkv.shape"), &shape);
        let mut qkv = self.named("Reshape", &format!("{name}.qkv"), &[&qkv.value, &shape]);
        if areas > 1 {
            qkv = self.node("Transpose", &format!("{name}.qkv"), &[&qkv], |n| n.ints("perm", &[0, 3, 1, 2, 4]));
        }
        let sizes = self.ints(&format!("{name}.split"), &[k, k, d]);
        let [q, k, v] = self.split(name, &qkv, &sizes, channels);
        let perm: &[i64] = if areas > 1 { &[0, 1, 2, 4, 3] } else { &[0, 1, 3, 2] };
        let swap = |n: Node| n.ints("perm", perm);
        let q = self.node("Transpose", &format!("{name}.q"), &[&q], swap);
        let scores = self.named("MatMul", &format!("{name}.scores"), &[&q, &k]);
        let scale = self.graph.constant(&format!("{name}.scale"), Constant::scalar((key as f32).powf(-0.5)));
        let scores = self.named("Mul", &format!("{name}.scores"), &[&scores, &scale]);
        let shares = self.node("Softmax", &format!("{name}.scores"), &[&scores], |n| n.int("axis", -1));
        let shares = self.node("Transpose", &format!("{name}.scores"), &[&shares], swap);
        let mixed = self.named("MatMul", &format!("{name}.mixed"), &[&v, &shares]);
        let map = self.ints(&format!("{name}.map"), &[0, c as i64, x.size[0] as i64, x.size[1] as i64]);
        let mut laid_out = |what: &str, y: String| {
            let path = format!("{name}.{what}");
            let y = if areas > 1 { self.node("Transpose", &path, &[&y], |n| n.ints("perm", &[0, 2, 3, 1, 4])) } else { y };
            x.with(self.named("Reshape", &path, &[&y, &map]))
        };
        let (mixed, v) = (laid_out("mixed", mixed), laid_out("v", v));
        let places = self.conv(&format!("{name}.pe"), &v, Conv::new(c, kernel).groups(c).act(Act::None))?;
        let y = self.add(name, &mixed, &places)?;
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
