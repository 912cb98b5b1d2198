//! A smaller model of the same architecture that starts from a model's best channels.

use super::criteria::Importance;
use super::gather::{Evidence, Gathered};
use super::score::Scoring;
use super::select::to_sizes;
use super::{Analysis, Prune, Removal, head_values};
use candle_core::Device;
use compresso_base::context::Context;
use compresso_base::error::{At, Error, Result};
use compresso_base::operation::{Arg, ArgKind, Argument, Operation, Options, Signature, decode, in_range};
use compresso_learn::data::Dataset;
use compresso_model::zoo::{Factors, factors, is_name};
use compresso_model::{Constant, Graph, Model, ModelOptions, Patch};
use std::collections::HashMap;

compresso_base::options! {
    /// Options of `student`.
    pub struct Student {
        /// Share of the model's channels.
        pub width: f64 = 0.5,
        /// Share of the model's repeated blocks.
        pub depth: f64 = 1.0,
        /// Name of the zoo's architecture that the model has, for one that does not come from the zoo, such as a .pt file: "yolov8n".
        pub architecture: Option<String> = None,
        /// By what the channels that stay are chosen, as in `prune`; left out: "l2".
        pub importance: Option<Importance> = None,
        /// Images that the importance looks at, where it looks at some.
        pub images: usize = 100,
    }
}

/// A model of the zoo, narrower and shallower, with the weights of the channels that matter most in the given one (He et al., "Channel
/// pruning for accelerating very deep neural networks", 2017, start a student so). Of repeated blocks the first ones stay.
///
/// Its shapes are those that the architecture has at this width and depth, so that it is the model that `model` builds, with other weights.
///
/// # Errors
/// `Unsupported` for models that are not the zoo's, or were pruned since, and for channels that cannot be matched; `Argument` for options
/// out of range.
impl Operation for Student {
    const SIGNATURE: Signature = Signature {
        name: "student",
        summary: "A narrower and shallower model of the same zoo architecture, started from the model's best channels",
        group: "compress",
        args: &[Arg::new("m", ArgKind::Model), Arg::optional("d", ArgKind::Dataset)],
        returns: "model",
        fields: Self::FIELDS,
        examples: &[
            "let m = model(\"yolov8n\", #{ classes: 3, image_size: 64 });\nlet s = student(m, #{ width: 0.5 });\nprint(`${m.params} → ${s.params}`);",
        ],
        keywords: &["distill", "smaller", "narrower", "shallower", "initialize", "channels", "teacher"],
    };
    type Inputs<'a> = (&'a Model, Option<&'a Dataset>);
    type Output = Model;

    fn run(&self, (model, data): Self::Inputs<'_>, ctx: &Context) -> Result<Model> {
        let share = (std::ops::Bound::Excluded(0.0), std::ops::Bound::Included(1.0));
        in_range("width", self.width, share)?;
        in_range("depth", self.depth, share)?;
        in_range("images", self.images as f64, 1.0..)?;
        let (name, own) = match &self.architecture {
            Some(name) => (name.as_str(), ModelOptions::default()),
            None => origin(model)?,
        };
        let named = factors(name)?;
        let of = |width: f64, depth: f64| -> Result<Model> {
            let Factors { width: w, depth: d } = named;
            let (width, depth) = (own.width.unwrap_or(w) * width, own.depth.unwrap_or(d) * depth);
            let size = model.task().image_size().map(|[h, w]| serde_json::json!([h, w]));
            let classes = Some(serde_json::json!(model.task().classes()));
            let options = ModelOptions {
                classes,
                image_size: size,
                width: Some(width),
                depth: Some(depth),
                attention: own.attention.clone(),
                ..ModelOptions::default()
            };
            options.run(name, ctx)
        };
        let whole = of(1.0, 1.0)?;
        if whole.graph().constants().iter().any(|(n, c)| model.graph().constant(n).is_none_or(|m| m.dims() != c.dims())) {
            let e = Error::unsupported(format!("the model has other layers than the zoo's {name}"));
            return Err(e.hint("a pruned model is a student already; prune(m, #{ scope: \"layer\" }) narrows any model"));
        }
        let shallow = if self.depth < 1.0 { leading(model.graph(), of(1.0, self.depth)?.graph())? } else { model.graph().clone() };
        let wanted = of(self.width, self.depth)?;
        let graph = self.narrowed(&shallow, &wanted, model, data, ctx)?;
        let args = std::iter::once(model.into()).chain(data.map(Into::into));
        let student = model.derive(graph, self.call(args).seeded(ctx.seed));
        let [before, after] = [model.params()?, student.params()?];
        ctx.note(format!("student: {before} → {after} parameters, from the channels of the model that matter most"));
        Ok(student)
    }
}

impl Student {
    /// The graph of `wanted`, with the weights of the channels of `graph` that score highest.
    fn narrowed(&self, graph: &Graph, wanted: &Model, model: &Model, data: Option<&Dataset>, ctx: &Context) -> Result<Graph> {
        let found = Analysis::new(graph, &head_values(model.task()))?;
        let groups: Vec<_> = found.groups.0.iter().collect();
        let importance = self.importance.unwrap_or(Importance::L2);
        let options = Prune { ratio: 1.0 - self.width, importance: Some(importance), images: self.images, ..Prune::default() };
        let scoring = Scoring::new(&options, importance.criterion());
        let gathered = Gathered::new(scoring.criterion, &found, Evidence::new(&options, model.task(), data), ctx)?;
        let scores = scoring.scores(&gathered, &groups, ctx)?;
        let sizes: HashMap<&str, &[usize]> = wanted.graph().constants().iter().map(|(n, c)| (n.as_str(), c.dims())).collect();
        let removal = Removal::new(&found, to_sizes(&found, &groups, &scores, &sizes));
        let cut = removal.pruned().at(|| "student".to_string())?;
        let mut patch = Patch::new(wanted.graph());
        for (name, constant) in wanted.graph().constants().iter().filter(|(_, c)| c.element().is_float()) {
            match cut.constant(name) {
                Some(from) if from.dims() == constant.dims() => patch.set_constant(name, from.clone()),
                from => {
                    let has = from.map_or_else(|| "nothing".to_string(), |c| format!("{:?}", c.dims()));
                    let e =
                        Error::unsupported(format!("'{name}' is {:?} in the student, and {has} is left of the model's", constant.dims()));
                    return Err(e.hint("prune(m, #{ scope: \"layer\" }) narrows any model, to sizes of its own"));
                }
            }
        }
        patch.apply()
    }
}

/// The zoo's name of a model and the options that it was built with.
fn origin(model: &Model) -> Result<(&str, ModelOptions)> {
    let unknown = || {
        let e = Error::unsupported("a student has an architecture of the zoo, and this model does not say which it has");
        e.hint("name it in option 'architecture'; prune(m, #{ scope: \"layer\" }) narrows any model")
    };
    let call = model.recipe().and_then(|r| r.steps().first().copied()).filter(|c| c.operation == ModelOptions::SIGNATURE.name);
    let call = call.ok_or_else(unknown)?;
    match call.args.first() {
        Some(Argument::Value(serde_json::Value::String(name))) if is_name(name) => {
            let options: ModelOptions = decode(serde_json::Value::Object(call.options.clone()))?;
            Ok((name, options))
        }
        _ => Err(unknown()),
    }
}

/// A graph with the constants of `from`: those that are shorter there along an axis take its first rows, which belong to the first blocks.
fn leading(from: &Graph, to: &Graph) -> Result<Graph> {
    let mut patch = Patch::new(to);
    for (name, constant) in to.constants().iter().filter(|(_, c)| c.element().is_float()) {
        let Some(whole) = from.constant(name).filter(|c| c.dims().len() == constant.dims().len()) else { continue };
        let mut tensor = whole.tensor(&Device::Cpu)?;
        for (axis, (&has, &wanted)) in whole.dims().iter().zip(constant.dims()).enumerate() {
            if wanted > has {
                return Err(Error::internal(format!("'{name}' grows in a shallower model")));
            }
            tensor = tensor.narrow(axis, 0, wanted)?;
        }
        patch.set_constant(name, Constant::from_storage(constant.element(), &tensor.contiguous()?)?);
    }
    patch.apply()
}

#[cfg(test)]
mod tests {
    use super::*;
    use compresso_base::operation::Operation;
    use serde_json::json;

    fn net(name: &str, width: f64, depth: f64) -> Model {
        let options = ModelOptions {
            classes: Some(json!(3)),
            image_size: Some(json!(64)),
            width: Some(width),
            depth: Some(depth),
            seed: Some(5),
            ..ModelOptions::default()
        };
        options.run(name, &Context::new()).unwrap()
    }

    #[test]
    fn a_student_has_the_shapes_of_the_architecture_and_rows_of_its_teacher() {
        for name in ["yolov8n", "yolo11n", "yolov5nu", "yolo26n"] {
            let (teacher, plain) = (net(name, 0.25, 0.33), net(name, 0.125, 0.33));
            let student = Student::default().run((&teacher, None), &Context::new()).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(student.graph().nodes(), plain.graph().nodes(), "{name}");
            let dims = |m: &Model| m.graph().constants().iter().map(|(n, c)| (n.clone(), c.dims().to_vec())).collect::<Vec<_>>();
            assert_eq!(dims(&student), dims(&plain), "{name}");
            // Each filter of the first layer is one of the teacher's, and they are those of the largest norms.
            let filters = |m: &Model| -> Vec<Vec<f32>> {
                let c = m.graph().constant("model.0.conv.weight").unwrap();
                c.to_f32s().unwrap().chunks(27).map(<[f32]>::to_vec).collect()
            };
            let (own, all) = (filters(&student), filters(&teacher));
            assert!(own.iter().all(|f| all.contains(f)) && own.len() * 2 == all.len(), "{name}");
            assert_eq!(student.steps().last().unwrap().operation, "student");
        }
    }

    #[test]
    fn depth_keeps_the_first_blocks() {
        let teacher = net("yolov8n", 0.25, 0.67);
        let student = Student { width: 1.0, depth: 0.5, ..Student::default() }.run((&teacher, None), &Context::new()).unwrap();
        assert!(student.params().unwrap() < teacher.params().unwrap());
        let name = "model.4.m.0.cv1.conv.weight";
        assert_eq!(student.graph().constant(name), teacher.graph().constant(name));
        assert!(student.graph().constant("model.4.m.3.cv1.conv.weight").is_none());
    }

    #[test]
    fn the_same_size_is_the_same_model_and_others_are_refused() {
        let teacher = net("yolov8n", 0.125, 0.33);
        let same = Student { width: 1.0, ..Student::default() }.run((&teacher, None), &Context::new()).unwrap();
        assert_eq!(same.graph().constants(), teacher.graph().constants());
        let text = |m: &Model, s: Student| s.run((m, None), &Context::new()).unwrap_err().to_string();
        assert!(text(&teacher, Student { width: 0.0, ..Student::default() }).contains("option 'width'"));
        let pruned = Prune { ratio: 0.5, align: 1, ..Prune::default() }.apply(&teacher, None, &Context::new()).unwrap();
        assert!(text(&pruned, Student::default()).contains("other layers than the zoo's"));
        let bare = Model::new(teacher.graph().clone(), teacher.task().clone());
        let other = Student { architecture: Some("yolo11n".into()), ..Student::default() };
        assert!(text(&bare, other).contains("other layers than the zoo's yolo11n"));
        assert!(text(&bare, Student::default()).contains("option 'architecture'"));
    }
}
