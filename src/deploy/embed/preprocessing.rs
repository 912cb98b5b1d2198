//! The steps from an image's bytes to a model's input, inside the graph.

use compresso_base::context::Context;
use compresso_base::error::{Error, Result};
use compresso_base::operation::{Arg, ArgKind, Operation, Options, Signature};
use compresso_learn::eval::InputForm;
use compresso_model::graph::ValueInfo;
use compresso_model::ops::arithmetic::{DIV, SUB};
use compresso_model::ops::cast::CAST;
use compresso_model::ops::gather::GATHER;
use compresso_model::ops::transpose::TRANSPOSE;
use compresso_model::{BoxDecode, Classify, Constant, Decode, Detect, Element, Fact, Graph, Model, Node, Patch, Preprocess, Task};

compresso_base::choice! {
    /// The order of the axes of an image input.
    pub enum ImageLayout {
        /// `[batch, height, width, channels]`, as cameras and decoders give images.
        Nhwc = "nhwc",
        /// `[batch, channels, height, width]`.
        Nchw = "nchw",
    }
}

compresso_base::options! {
    /// Options of `embed_preprocessing`.
    pub struct EmbedPreprocessing {
        /// The order of the axes of the new input: "nhwc" or "nchw".
        pub layout: ImageLayout = ImageLayout::Nhwc,
    }
}

/// The name of the new input.
const INPUT: &str = "image";

/// # Errors
/// `Argument` for a model that takes bytes already; `Unsupported` for one without an image input `[batch, channels, height, width]`, and for
/// tasks that know no other input than Ultralytics'.
impl Operation for EmbedPreprocessing {
    const SIGNATURE: Signature = Signature {
        name: "embed_preprocessing",
        summary: "Puts the scaling of pixels into the graph: the model takes the bytes of a red, green, blue image of its size",
        group: "deploy",
        args: &[Arg::new("m", ArgKind::Model)],
        returns: "model",
        fields: Self::FIELDS,
        examples: &[r#"embed_preprocessing(model("classifier", #{ image_size: 32 }), #{ layout: "nchw" })"#],
        keywords: &["uint8", "nhwc", "normalize", "mean", "std", "camera", "bytes", "export"],
    };
    type Inputs<'a> = &'a Model;
    type Output = Model;

    fn run(&self, model: &Model, ctx: &Context) -> Result<Model> {
        let (before, task) = plain(model.task())?;
        let graph = self.rewrite(model.graph(), &before)?;
        ctx.note(format!(
            "embed_preprocessing: the input '{}' takes bytes, {} ({}); the model is only run now, not trained",
            graph.feeds().next().map_or(INPUT, |i| &i.name),
            if self.layout == ImageLayout::Nhwc { "[batch, height, width, channels]" } else { "[batch, channels, height, width]" },
            if before.bgr { "red, green, blue, which the graph turns round" } else { "red, green, blue" },
        ));
        Ok(model.derive(graph, self.call([model.into()])).with_task(task))
    }
}

/// How images become the input of a model with this task, and its task when only bytes are left to be given.
fn plain(task: &Task) -> Result<(Preprocess, Task)> {
    match task {
        Task::Classify(c) => {
            let after = Preprocess { resize: c.preprocess.resize, crop: c.preprocess.crop, scale: 255.0, ..Preprocess::default() };
            Ok((c.preprocess.clone(), Task::Classify(Classify { preprocess: after, ..c.clone() })))
        }
        Task::Detect(d) => {
            let description = d.decode.clone().into_description();
            let BoxDecode { bgr, scale, ref mean, ref std, .. } = description;
            let before = Preprocess { bgr, scale, mean: mean.clone(), std: std.clone(), ..Preprocess::default() };
            let after = BoxDecode { bgr: false, scale: 255.0, mean: Vec::new(), std: Vec::new(), ..description };
            Ok((before, Task::Detect(Detect { decode: Decode::described(after), head: None, anchors: None, ..d.clone() })))
        }
        Task::Instances(_) => Err(Error::unsupported("models for masks, key points and turned boxes are fed as Ultralytics' are")),
        // Pixels from 0 to 1, as nothing says otherwise.
        Task::Unknown => Ok((Preprocess::default(), Task::Unknown)),
    }
}

impl EmbedPreprocessing {
    fn rewrite(&self, graph: &Graph, before: &Preprocess) -> Result<Graph> {
        let mut feeds = graph.feeds();
        let (Some(input), None) = (feeds.next(), feeds.next()) else {
            return Err(Error::unsupported("the model must have one input, the image"));
        };
        if !input.fact.element.is_float() {
            return Err(Error::argument(format!("the input '{}' takes {} already", input.name, input.fact.element)));
        }
        if InputForm::of_images(&input.fact) != Some(InputForm::ChannelsFirst) {
            let e = format!("the input '{}' must be an image [batch, channels, height, width], and it is {}", input.name, input.fact);
            return Err(Error::unsupported(e));
        }
        let mut patch = Patch::new(graph);
        let name = patch.fresh(INPUT);
        let shape = input.fact.shape.clone().map(|mut dims| {
            if self.layout == ImageLayout::Nhwc {
                dims[1..].rotate_left(1);
            }
            dims
        });
        let fact = Fact { shape, ..Fact::unranked(Element::U8) };
        let own = |i: &ValueInfo| if i.name == input.name { ValueInfo::new(name.clone(), fact.clone()) } else { i.clone() };
        patch.set_inputs(graph.inputs().iter().map(own).collect());
        let to = |element: Element| move |n: Node| n.int("to", i64::from(element.code()));
        let mut value = patch.op(CAST, INPUT, [name.as_str()], to(Element::F32));
        if self.layout == ImageLayout::Nhwc {
            value = patch.op(TRANSPOSE, INPUT, [value.as_str()], |n| n.ints("perm", &[0, 3, 1, 2]));
        }
        if before.bgr {
            let colours = input.fact.dim(1).filter(|c| *c >= 3).ok_or_else(|| Error::unsupported("the number of channels is left open"))?;
            let order: Vec<i64> = [2, 1, 0].into_iter().chain(3..colours as i64).collect();
            let order = patch.constant("image_order", Constant::ints(&order));
            value = patch.op(GATHER, INPUT, [value.as_str(), &order], |n| n.int("axis", 1));
        }
        if before.scale != 255.0 {
            let by = patch.constant("image_scale", Constant::scalar((255.0 / before.scale) as f32));
            value = patch.op(DIV, INPUT, [value.as_str(), &by], |n| n);
        }
        for (op, numbers) in [(SUB, &before.mean), (DIV, &before.std)] {
            if !numbers.is_empty() {
                let numbers: Vec<f32> = numbers.iter().map(|v| *v as f32).collect();
                let numbers = patch.constant("image_numbers", Constant::floats(&[1, numbers.len(), 1, 1], &numbers)?);
                value = patch.op(op, INPUT, [value.as_str(), &numbers], |n| n);
            }
        }
        // What the model has read so far is made by the last step.
        let node = patch.fresh("image_last");
        patch.add(to(input.fact.element)(Node::new(CAST, node, [value], [input.name.clone()])));
        patch.apply()
    }
}
