//! The example of docs/adding-an-operation.md, compiled and run. It stands there word for word, which a test checks.

// begin
use compresso::model::{Constant, Model, Patch};
use compresso::operation::{Arg, ArgKind, Operation, Options, Signature, in_range};
use compresso::{Context, Result};

compresso::options! {
    /// Scales the weights of a model.
    pub struct Scale {
        /// Factor on each weight, above 0.
        pub factor: f64 = 2.0,
        /// Weights to scale begin with this.
        pub prefix: String = String::new(),
    }
}

impl Operation for Scale {
    const SIGNATURE: Signature = Signature {
        name: "scale",
        summary: "A model with larger or smaller weights",
        group: "compress",
        args: &[Arg::new("m", ArgKind::Model)],
        returns: "model",
        fields: Self::FIELDS,
        examples: &[r#"scale(model("classifier"), #{ factor: 0.5 })"#],
        keywords: &["weights", "multiply"],
    };
    type Inputs<'a> = &'a Model;
    type Output = Model;

    fn run(&self, model: &Model, ctx: &Context) -> Result<Model> {
        in_range("factor", self.factor, f64::MIN_POSITIVE..)?;
        let mut patch = Patch::new(model.graph());
        let mut scaled = 0;
        for (name, weight) in model.graph().constants() {
            ctx.check()?;
            if name.starts_with(&self.prefix) && weight.element().is_float() {
                let values: Vec<f32> = weight.to_f32s()?.iter().map(|v| v * self.factor as f32).collect();
                patch.set_constant(name, Constant::floats(weight.dims(), &values)?);
                scaled += 1;
            }
        }
        ctx.note(format!("scale: {scaled} weights"));
        Ok(model.derive(patch.apply()?, self.call([model.into()])))
    }
}
// end

use compresso::model::ModelOptions;
use compresso::operation::{Argument, decode};

#[test]
fn the_example_is_the_one_of_the_document() {
    let read = |path: &str| std::fs::read_to_string(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    let own = read("tests/adding_an_operation.rs");
    let code = own.split_once("// begin\n").and_then(|(_, rest)| rest.split_once("// end\n")).unwrap().0;
    assert!(read("docs/adding-an-operation.md").contains(&format!("```rust\n{code}```")), "the document shows another operation");
}

#[test]
fn the_example_scales_weights_and_keeps_how() {
    let ctx = Context::new();
    let small = ModelOptions { classes: Some(2.into()), image_size: Some(32.into()), width: Some(0.125), ..ModelOptions::default() };
    let m = small.run("classifier", &ctx).unwrap();
    let scale: Scale = decode(serde_json::json!({ "factor": 4, "prefix": "model.0" })).unwrap();
    let scaled = scale.run(&m, &ctx).unwrap();
    for (name, before) in m.graph().constants().iter().filter(|(_, c)| c.element().is_float()) {
        let factor = if name.starts_with("model.0") { 4.0 } else { 1.0 };
        let wanted: Vec<f32> = before.to_f32s().unwrap().iter().map(|v| v * factor).collect();
        assert_eq!(scaled.graph().constants()[name].to_f32s().unwrap(), wanted, "{name}");
    }
    let recipe = scaled.recipe().unwrap();
    assert_eq!((recipe.last().operation.as_str(), &recipe.last().args[..]), ("scale", &[Argument::Call(0)][..]));
    assert_eq!(recipe.last().options["factor"], 4.0);
    assert!(Scale { factor: 0.0, ..Scale::default() }.run(&m, &ctx).unwrap_err().to_string().contains("option 'factor'"));
}
