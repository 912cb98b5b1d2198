use super::*;
use serde_json::json;

fn opened(args: impl IntoIterator<Item = Argument<Recipe>>) -> Recipe {
    let Value::Object(options) = json!({ "classes": 2, "image_size": 32, "width": 0.125 }) else { unreachable!("a map") };
    Recipe::of(Call::new("model", args, options).seeded(1))
}

fn classifier() -> Recipe {
    opened([Argument::Value("classifier".into())])
}

fn after(operation: &str, args: impl IntoIterator<Item = Argument<Recipe>>) -> Recipe {
    Recipe::of(Call::new(operation, args, Map::new()))
}

#[test]
fn a_recipe_gives_the_value_and_the_recipe_itself() {
    let made = classifier().replay(&Context::new()).unwrap().model().unwrap();
    assert_eq!(made.recipe(), Some(&classifier()));
    let shapes = after("dataset", [Argument::Value("shapes".into())]);
    let taken =
        after("take", [Argument::Call(after("split", [Argument::Call(shapes), Argument::Value("val".into())])), Argument::Value(5.into())]);
    let Remade::Dataset(d) = taken.replay(&Context::new()).unwrap() else { panic!("a dataset") };
    assert_eq!((d.len(), d.split.as_str()), (5, "val"));
    assert!(taken.replay(&Context::new()).unwrap().model().unwrap_err().to_string().contains("that of dataset 'shapes'"));
}

#[test]
fn what_cannot_be_run_says_why() {
    let text = |r: Recipe| r.replay(&Context::new()).unwrap_err().to_string();
    let with = |operation: &str, second: Argument<Recipe>| after(operation, [Argument::Call(classifier()), second]);
    let e = text(after("prun", [Argument::Call(classifier())]));
    assert!(e.contains("call 2 of the recipe (prun): there is no operation 'prun'") && e.contains("is it 'prune'?"), "{e}");
    let e = text(after("prune", [Argument::Named("net".into())]));
    assert!(e.contains("argument 'm'") && e.contains("only its name is known"), "{e}");
    let e = text(with("prune", Argument::Script("dataset(\"a\")".into())));
    assert!(e.contains("argument 'd'") && e.contains("kept this as a script: dataset(\"a\")"), "{e}");
    let e = text(with("prune", Argument::Call(classifier())));
    assert!(e.contains("expected dataset, got a model"), "{e}");
    let e = text(with("take", Argument::Value("many".into())));
    assert!(e.contains("expected dataset, got a model"), "{e}");
    let e = text(with("onnx_export", Argument::Target("/tmp/m.tflite".into())));
    assert!(e.contains("must end in .onnx"), "{e}");
    let many = [classifier(), classifier(), classifier()].map(Argument::Call);
    assert!(text(after("prune", many)).contains("it was given 3 arguments"));
    let mut call = Call::new("model", [Argument::Value("classifier".into())], Map::new());
    call.options.insert("widht".into(), 1.into());
    assert!(text(Recipe::of(call)).contains("did you mean 'width'?"));
}
