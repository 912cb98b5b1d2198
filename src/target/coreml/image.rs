//! An input that is an image of bytes, and what makes the model's numbers of them.

use super::lower::broadcast;
use super::program::{Kind, Literal, Program, Ref, Type};
use compresso_base::error::{Error, Result};
use compresso_model::{Decode, Detect, Fact, Task};

/// How the bytes of an image become what the model takes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pixels {
    /// The input.
    pub name: String,
    /// Blue, green, red.
    pub bgr: bool,
    /// On numbers from 0 to 1.
    scale: f64,
    mean: Vec<f64>,
    std: Vec<f64>,
}

impl Pixels {
    /// As the task's images are.
    pub fn of(name: &str, task: &Task) -> Self {
        let (bgr, scale, mean, std) = match task {
            Task::Classify(c) => (c.preprocess.bgr, c.preprocess.scale, c.preprocess.mean.clone(), c.preprocess.std.clone()),
            Task::Detect(Detect { decode: Decode::Described(d), .. }) => (d.bgr, d.scale, d.mean.clone(), d.std.clone()),
            _ => (false, 1.0, Vec::new(), Vec::new()),
        };
        Self { name: name.into(), bgr, scale, mean, std }
    }
    /// The model's numbers of an image with bytes from 0 to 255.
    ///
    /// # Errors
    /// `Argument` for an input that is no image.
    pub fn write(&self, net: &mut Program, bytes: Ref, fact: &Fact) -> Result<Ref> {
        let Type { kind, dims } = net.made(bytes).clone();
        if kind != Kind::F32 || dims.len() != 4 || dims[0] != 1 || !matches!(dims[1], 1 | 3) {
            return Err(Error::argument(format!("an image is float32 [1, 3, height, width] or [1, 1, height, width], got {fact}"))
                .hint("leave out image: true"));
        }
        let mut value = bytes;
        let factor = [self.scale / 255.0];
        for (operation, numbers) in [("mul", factor.as_slice()), ("sub", &self.mean), ("real_div", &self.std)] {
            let shape: &[usize] = match numbers.len() {
                0 => continue,
                1 => &[],
                n => &[1, n, 1, 1],
            };
            if broadcast(&dims, shape)? != dims {
                return Err(Error::argument(format!("the task's images have {} channels, the input {}", numbers.len(), dims[1])));
            }
            let numbers: Vec<f32> = numbers.iter().map(|&n| n as f32).collect();
            let with = net.constant(&format!("{}_{operation}_by", self.name), Literal::floats(kind, shape, &numbers));
            let inputs = vec![("x", vec![value]), ("y", vec![with])];
            value = net.operation(&format!("{}_{operation}", self.name), operation, inputs, Vec::new(), vec![Type::new(kind, &dims)])[0];
        }
        Ok(value)
    }
}
