//! `resize`: a model for images of another height and width.
//!
//! Convolutions take any size. What a graph holds for one size alone are the cells of a detection head, written out as constants, and numbers of
//! cells in shapes; these are made anew. What else depends on the size no longer fits, and is refused.

use super::graph::Dim;
use super::ops::{order::TOP_K, shape::RESHAPE, transpose::EXPAND};
use super::{Constant, Element, Fact, Graph, Model, Patch, Task, ValueInfo, has_channels_last, size_of};
use compresso_base::context::Context;
use compresso_base::error::{At, Error, Result};
use compresso_base::operation::{Arg, ArgKind, Operation, Options, Signature};
use serde_json::Value as Json;

compresso_base::options! {
    /// Options of `resize`.
    pub struct Resize {
        /// Height and width of the images in pixels: one number or [height, width].
        pub size: Option<Json> = None,
    }
}

/// Strides of heads that do not say theirs.
const STRIDES: [usize; 3] = [8, 16, 32];
const HINT: &str = "open or export the model with that size: model(\"x.pt\", #{ image_size: 256 })";

/// # Errors
/// `Argument` for sizes that are none, or no multiple of the head's strides; `Unsupported` for a model that has a layer for one size.
impl Operation for Resize {
    const SIGNATURE: Signature = Signature {
        name: "resize",
        summary: "The model for images of another size: fewer pixels take less time, small objects are lost first",
        group: "models",
        args: &[Arg::new("m", ArgKind::Model)],
        returns: "model",
        fields: Self::FIELDS,
        examples: &[r#"resize(model("yolov8n", #{ classes: 3, width: 0.125, image_size: 96 }), #{ size: 64 }).macs"#],
        keywords: &["input size", "image size", "resolution", "pixels", "smaller images"],
    };
    type Inputs<'a> = &'a Model;
    type Output = Model;

    fn run(&self, model: &Model, ctx: &Context) -> Result<Model> {
        let wanted = self.size.as_ref().ok_or_else(|| {
            let e = Error::argument("resize needs the option 'size'");
            e.hint("height and width of the images in pixels, such as resize(m, #{ size: 256 })")
        })?;
        let new = size_of("size", wanted)?;
        let (place, old) = image_of(model)?;
        if old == new {
            return Ok(model.clone());
        }
        let graph = Sizes::of(model, old, new)?.resized(model.graph(), &place)?;
        let resized = model.derive(graph, self.call([model.into()])).with_task(model.task().clone().with_image_size(new));
        let resized = if matches!(model.task(), Task::Unknown) { resized.with_image_size(new) } else { resized };
        let macs = |m: &Model| m.macs().map(|n| n.map_or_else(|| "unknown".into(), compresso_base::report::count));
        ctx.note(format!("resize: {}×{} → {}×{} pixels, {} → {} MACs", old[0], old[1], new[0], new[1], macs(model)?, macs(&resized)?));
        Ok(resized)
    }
}

/// The image input, the axis of its height, and its height and width.
fn image_of(model: &Model) -> Result<((String, usize), [usize; 2])> {
    let no_image = || Error::unsupported("resize needs a model with one input of images, [batch, channels, height, width]");
    let mut feeds = model.graph().feeds();
    let (Some(input), None) = (feeds.next(), feeds.next()) else { return Err(no_image()) };
    let shape = input.fact.shape.as_ref().filter(|s| s.len() == 4).ok_or_else(no_image)?;
    let height = if has_channels_last(|axis| shape.get(axis).and_then(Dim::known)) { 1 } else { 2 };
    let own = shape[height].known().zip(shape[height + 1].known()).map(|(h, w)| [h, w]);
    let size = own.or_else(|| model.image_size()).ok_or_else(|| Error::argument("the model does not say the size of its images"))?;
    Ok(((input.name.clone(), height), size))
}

/// Both sizes, and the cells of the head's levels at each.
struct Sizes {
    old: [usize; 2],
    new: [usize; 2],
    strides: Vec<usize>,
}

/// What a constant says of each cell.
#[derive(Clone, Copy)]
enum Cells {
    /// Column and row, plus this much, in cells or in pixels.
    Places {
        shift: f64,
        pixels: bool,
    },
    Strides,
}

const CELLS: [Cells; 4] = [
    Cells::Places { shift: 0.5, pixels: false },
    Cells::Places { shift: 0.0, pixels: false },
    Cells::Places { shift: 0.5, pixels: true },
    Cells::Strides,
];

impl Sizes {
    fn of(model: &Model, old: [usize; 2], new: [usize; 2]) -> Result<Self> {
        let detect = model.task().detect();
        let own = detect.and_then(|d| {
            let anchors = d.anchors.as_ref().map(|a| a.strides.clone());
            d.head.as_ref().map(|h| h.strides.clone()).or(anchors)
        });
        let finds = matches!(model.task(), Task::Detect(_) | Task::Instances(_));
        let strides = own.unwrap_or_else(|| STRIDES.to_vec());
        let largest = strides.iter().copied().max().filter(|_| finds).unwrap_or(1);
        if new.iter().any(|side| side % largest != 0) {
            let e = Error::argument(format!("option 'size' is {}×{}, no multiple of the largest stride, {largest}", new[0], new[1]));
            let near = |side: usize| (side + largest / 2).max(largest) / largest * largest;
            return Err(e.hint(format!("[{}, {}] is", near(new[0]), near(new[1]))));
        }
        Ok(Self { old, new, strides })
    }

    fn count(&self, [h, w]: [usize; 2]) -> usize {
        self.strides.iter().map(|s| (h / s) * (w / s)).sum()
    }

    /// The numbers for each cell of a size, level by level and row by row: of places all columns, then all rows.
    fn cells(&self, what: Cells, [h, w]: [usize; 2]) -> Vec<f64> {
        let mut parts = [Vec::new(), Vec::new()];
        for &s in &self.strides {
            for cell in 0..(h / s) * (w / s) {
                let (row, column) = (cell / (w / s), cell % (w / s));
                match what {
                    Cells::Places { shift, pixels } => {
                        let scale = if pixels { s as f64 } else { 1.0 };
                        parts[0].push((column as f64 + shift) * scale);
                        parts[1].push((row as f64 + shift) * scale);
                    }
                    Cells::Strides => parts[0].push(s as f64),
                }
            }
        }
        parts.concat()
    }

    /// The constant for the new size; `None` of one that knows no size.
    fn constant(&self, constant: &Constant) -> Result<Option<Constant>> {
        let (old, new) = (self.count(self.old), self.count(self.new));
        let Some(axis) = constant.dims().iter().position(|d| *d == old && old > 1) else { return Ok(None) };
        if !constant.element().is_float() {
            return Ok(None);
        }
        let has = constant.to_f64s()?;
        let same = |what: &Cells| {
            let cells = self.cells(*what, self.old);
            cells.len() == has.len() && cells.iter().zip(&has).all(|(a, b)| (a - b).abs() < 1e-3)
        };
        let Some(what) = CELLS.iter().find(|w| same(w)) else { return Ok(None) };
        let mut dims = constant.dims().to_vec();
        dims[axis] = new;
        Constant::rounded(constant.element(), &dims, self.cells(*what, self.new)).map(Some)
    }

    /// A shape whose last number is one of cells: of all levels, or of the one whose map, `data`, it flattens; or one that ends with
    /// the map whose cells `data` has. Others may be channels.
    fn shape(&self, numbers: &[i64], data: Option<&Fact>) -> Option<Vec<i64>> {
        let (last, rest) = numbers.split_last()?;
        let scaled = |map: [usize; 2]| {
            let stride = self.strides.iter().find(|s| self.old.map(|side| side / **s) == map)?;
            Some(self.new.map(|side| side / stride))
        };
        if let ([front @ .., h, w], Some(cells)) = (numbers, data.and_then(|d| d.shape.as_ref()?.last()?.known()))
            && let (Ok(h), Ok(w)) = (usize::try_from(*h), usize::try_from(*w))
            && h.checked_mul(w) == Some(cells)
            && let Some(map) = scaled([h, w])
        {
            return Some([front, &map.map(|n| n as i64)].concat());
        }
        let new = if *last == self.count(self.old) as i64 {
            self.count(self.new)
        } else {
            let [.., h, w] = data?.shape.as_deref()? else { return None };
            let map = [h.known()?, w.known()?];
            if *last != (map[0] * map[1]) as i64 {
                return None;
            }
            scaled(map)?.iter().product()
        };
        Some([rest, &[new as i64]].concat())
    }

    fn resized(&self, graph: &Graph, (input, height): &(String, usize)) -> Result<Graph> {
        let cells = self.count(self.new) as i64;
        let facts = graph.facts()?;
        let mut patch = Patch::new(graph);
        let mut inputs = graph.inputs().to_vec();
        for shape in inputs.iter_mut().filter(|i| i.name == *input).filter_map(|i| i.fact.shape.as_mut()) {
            (shape[*height], shape[height + 1]) = (self.new[0].into(), self.new[1].into());
        }
        patch.set_inputs(inputs);
        for (name, constant) in graph.constants() {
            if let Some(new) = self.constant(constant).at(|| format!("constant '{name}'"))? {
                patch.set_constant(name, new);
            }
        }
        for (at, node) in graph.nodes().iter().enumerate() {
            let Some(name) = node.input(1) else { continue };
            let Some(constant) = graph.constant(name).filter(|c| c.element() == Element::I64) else { continue };
            let numbers = constant.to_i64s()?;
            let new = match node.op.as_str() {
                RESHAPE | EXPAND => self.shape(&numbers, node.input(0).and_then(|data| facts.get(data))),
                // No more detections than there are cells.
                TOP_K => numbers.first().and_then(|k| (*k > cells).then(|| vec![cells])),
                _ => None,
            };
            if let Some(new) = new {
                let name = patch.constant(&format!("{name}.resized"), Constant::ints(&new));
                patch.edit(at).inputs[1] = name;
            }
        }
        // Declared shapes are those of the old size.
        let outputs: Vec<ValueInfo> =
            graph.outputs().iter().map(|o| ValueInfo { fact: Fact { shape: None, ..o.fact.clone() }, ..o.clone() }).collect();
        patch.set_outputs(outputs);
        for node in graph.nodes() {
            for name in node.outputs.iter().filter(|n| graph.declared(n).is_some() && !graph.is_output(n)) {
                if let Some(shape) = graph.declared(name).and_then(|f| f.shape.clone()) {
                    patch.reshape_value(name, shape.iter().map(|_| Dim::Unknown).collect());
                }
            }
        }
        let refused = |e: Error| {
            let what = format!("a part of the model is made for {}×{} pixels: {}", self.old[0], self.old[1], e.message());
            e.places().fold(Error::unsupported(what), |e, place| e.at(place.to_string())).hint(HINT)
        };
        let made = patch.apply().map_err(refused)?;
        let facts = made.facts().map_err(refused)?;
        let mut outputs = Vec::new();
        for old in graph.outputs() {
            let fact = facts.get(&old.name).cloned().ok_or_else(|| Error::missing(format!("output '{}' is gone", old.name)))?;
            // Cells that went astray into the batch would show here.
            if let (Some(a), Some(b)) = (&old.fact.shape, &fact.shape)
                && (a.len() != b.len() || a.first() != b.first())
            {
                return Err(refused(Error::shape(format!("output '{}' becomes {fact}, from {}", old.name, old.fact))));
            }
            outputs.push(ValueInfo::new(old.name.clone(), fact));
        }
        let mut patch = Patch::new(&made);
        patch.set_outputs(outputs);
        patch.apply()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zoo::{ZooOptions, build};
    use compresso_base::error::ErrorKind;
    use serde_json::json;

    fn zoo(name: &str, side: usize) -> Model {
        build(name, &ZooOptions { width: Some(0.125), image_size: Some([side, side]), ..ZooOptions::default() }).unwrap()
    }
    fn resize(model: &Model, size: Json) -> Result<Model> {
        Resize { size: Some(size) }.run(model, &Context::new())
    }

    /// Constants, facts and task are those of the zoo's model for that size, whose weights have the same seed.
    #[test]
    fn a_resized_detector_is_the_one_built_for_that_size() {
        for (name, from, to) in
            [("yolov8n", 64, 96), ("yolov5nu", 96, 64), ("yolov10n", 128, 160), ("yolov10n", 128, 64), ("classifier", 64, 40)]
        {
            let (made, built) = (resize(&zoo(name, from), json!(to)).unwrap(), zoo(name, to));
            assert_eq!(made.task(), built.task(), "{name}");
            for (constant, expected) in built.graph().constants() {
                // What shapes are made of has a new name, where it changes.
                let renamed = format!("{constant}.resized");
                let mut all = made.graph().constants().iter();
                let Some((_, got)) = all.find(|(name, _)| *name == constant || name.starts_with(&renamed)) else {
                    assert!(constant.ends_with("best.count"), "{name}: no {constant}");
                    continue;
                };
                assert_eq!((got.dims(), got.to_f64s().unwrap()), (expected.dims(), expected.to_f64s().unwrap()), "{name}: {constant}");
            }
            for output in built.graph().outputs() {
                assert_eq!(made.graph().facts().unwrap()[&output.name], built.graph().facts().unwrap()[&output.name], "{name}");
            }
            assert_eq!(made.macs().unwrap(), built.macs().unwrap(), "{name}");
        }
    }

    /// As simplified files have it: cells and numbers of cells written out for one size and batch.
    #[test]
    fn what_a_file_holds_for_one_size_follows() {
        let fixed = |side: usize| zoo("yolov8n", side).with_fixed_sizes(1, None).unwrap();
        let [small, large] = [fixed(64), fixed(96)];
        let baked = |model: &Model, cells: i64| {
            let mut patch = Patch::new(model.graph());
            for (at, node) in model.graph().nodes().iter().enumerate().filter(|(_, n)| n.op == "Reshape") {
                let shape = model.graph().constant(&node.inputs[1]).unwrap().to_i64s().unwrap();
                if shape[..] == [0, 4, -1] {
                    let name = patch.constant("baked", Constant::ints(&[1, 4, cells]));
                    patch.edit(at).inputs[1] = name;
                }
            }
            Model::new(patch.apply().unwrap(), model.task().clone())
        };
        let (from, expected) = (baked(&small, 84), baked(&large, 189));
        let made = resize(&from, json!([96, 96])).unwrap();
        let shape = |m: &Model| m.graph().facts().unwrap()["output0"].clone();
        assert_eq!(shape(&made), shape(&expected));
        assert_ne!(shape(&made), shape(&from));
    }

    #[test]
    fn what_cannot_follow_is_refused_with_its_place() {
        let e = resize(&zoo("yolov8n", 64), json!(100)).unwrap_err();
        assert!(e.kind() == ErrorKind::Argument && e.to_string().contains("[96, 96] is"), "{e}");
        assert!(Resize::default().run(&zoo("yolov8n", 64), &Context::new()).is_err());
        // A layer that is as wide as the image has pixels.
        let mut b = crate::GraphBuilder::new("g", 17);
        let x = b.input("x", Fact::known(Element::F32, &[1, 3, 8, 8]));
        let flat = b.op("Flatten", &[&x]);
        let w = b.constant("w", Constant::floats(&[192, 2], &[0.5; 384]).unwrap());
        let y = b.op("MatMul", &[&flat, &w]);
        b.output(&y);
        let model = Model::new(b.finish().unwrap(), Task::Unknown);
        let e = resize(&model, json!(32)).unwrap_err();
        assert!(e.kind() == ErrorKind::Unsupported && e.to_string().contains("made for 8×8 pixels"), "{e}");
        assert_eq!(resize(&model, json!(8)).unwrap().graph().inputs(), model.graph().inputs());
    }
}
