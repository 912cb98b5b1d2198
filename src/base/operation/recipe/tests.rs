use super::*;
use serde_json::json;

fn call(operation: &str, args: impl IntoIterator<Item = Argument<Recipe>>, options: Value) -> Call<Recipe> {
    let Value::Object(options) = options else { panic!("{options} is no map") };
    Call::new(operation, args, options)
}

fn of(recipe: &Recipe) -> Argument<Recipe> {
    Argument::Call(recipe.clone())
}

fn model() -> Recipe {
    Recipe::of(call("model", [Argument::Value("yolov8n".into())], json!({})).seeded(0))
}

fn data() -> Recipe {
    Recipe::of(call("dataset", [Argument::Value("shapes".into())], json!({ "images": 8 })).seeded(0))
}

fn distilled(student: &Recipe, teacher: &Recipe) -> Recipe {
    let taken = Recipe::of(call("take", [of(&data()), Argument::Value(4.into())], json!({})));
    Recipe::of(call("distill", [of(student), of(teacher), of(&taken)], json!({ "epochs": 1 })).seeded(0))
}

fn operations(recipe: &Recipe) -> Vec<&str> {
    recipe.calls().iter().map(|c| c.operation.as_str()).collect()
}

#[test]
fn what_is_used_twice_stands_in_the_list_once() {
    let teacher = Recipe::of(call("train", [of(&model()), of(&data())], json!({})).seeded(0));
    let made = distilled(&model(), &teacher);
    assert_eq!(operations(&made), ["model", "dataset", "train", "take", "distill"]);
    assert_eq!(made.last().given().collect::<Vec<_>>(), [0, 2, 3]);
    assert_eq!(made.steps().iter().map(|c| c.operation.as_str()).collect::<Vec<_>>(), ["model", "distill"]);
    assert_eq!(made.at(2), teacher);
    // Another seed makes another dataset of an equal call.
    let other = Recipe::of(call("dataset", [Argument::Value("shapes".into())], json!({ "images": 8 })).seeded(7));
    assert_eq!(operations(&Recipe::of(call("train", [of(&teacher), of(&other)], json!({})))).len(), 5);
}

#[test]
fn thirty_rounds_of_self_distillation_stay_small() {
    let mut made = model();
    for _ in 0..30 {
        made = distilled(&made, &made);
    }
    assert_eq!(made.calls().len(), 1 + 2 + 30);
    let text = serde_json::to_string(&made).unwrap();
    assert!(text.len() < 10_000, "{} bytes", text.len());
    assert_eq!(serde_json::from_str::<Recipe>(&text).unwrap(), made);
}

#[test]
fn the_form_in_files_is_short_and_checked() {
    let pruned = Recipe::of(call("prune", [of(&model())], json!({ "ratio": 0.4 })).seeded(0));
    let written = json!({ "version": 1, "calls": [
        { "operation": "model", "args": [{ "value": "yolov8n" }], "seed": 0 },
        { "operation": "prune", "args": [{ "call": 0 }], "options": { "ratio": 0.4 }, "seed": 0 },
    ] });
    assert_eq!(serde_json::to_value(&pruned).unwrap(), written);
    let read = |v: Value| serde_json::from_value::<Recipe>(v).map_err(|e| e.to_string());
    assert_eq!(read(written.clone()).unwrap(), pruned);
    let mut newer = written.clone();
    newer["version"] = 2.into();
    newer["calls"] = "in another form".into();
    assert!(read(newer).unwrap_err().contains("version 2"));
    let mut looped = written.clone();
    looped["calls"][0]["args"][0] = json!({ "call": 0 });
    assert!(read(looped).unwrap_err().contains("call 0 of the recipe (model) was given the result of call 0"));
    assert!(read(json!({ "version": 1, "calls": [] })).unwrap_err().contains("1 to"));
}

#[test]
fn equal_prefixes_have_equal_hashes_and_others_do_not() {
    let step = |before: &Recipe, options: Value| Recipe::of(call("prune", [of(before)], options).seeded(0));
    let (a, b) = (step(&model(), json!({ "ratio": 0.4 })), step(&model(), json!({ "ratio": 0.4, "align": 4 })));
    let twice = step(&a, json!({ "align": 4, "ratio": 0.1 }));
    assert_eq!(twice.prefix(2).unwrap().hash(), a.hash());
    assert_eq!(twice.hash(), step(&a, json!({ "ratio": 0.1, "align": 4 })).hash(), "the order of options says nothing");
    assert!(a.hash().is_some() && a.hash() != b.hash() && a.hash() != model().hash());
    let seeded = Recipe::of(call("model", [Argument::Value("yolov8n".into())], json!({})).seeded(1));
    assert_ne!(seeded.hash(), model().hash());
    assert!(twice.prefix(0).is_none() && twice.prefix(4).is_none());
    // Changes of this value make stored results useless.
    assert_eq!(model().hash().unwrap().to_string(), "88ffc69668436a6a67136aba4b77a18dbaa62e13b1d0b16c91a97367eeda4893");
}

#[test]
fn files_count_by_content() {
    let opened = |path: &str, content: Option<&str>| {
        Recipe::of(call("model", [Argument::File { path: path.into(), sha256: content.map(Digest::of) }], json!({})))
    };
    assert_eq!(opened("a/m.onnx", Some("x")).hash(), opened("/b/m.onnx", Some("x")).hash());
    assert_ne!(opened("m.onnx", Some("x")).hash(), opened("m.onnx", Some("y")).hash());
    assert_eq!(opened("m.onnx", None).hash(), None);
    let weights = |path: &str, content: &str| {
        let zoo = call("model", [Argument::Value("yolov8n".into())], json!({ "weights": path }));
        Recipe::of(zoo.reading("weights", Digest::of(content))).hash().unwrap()
    };
    assert_eq!(weights("a.pt", "x"), weights("b.pt", "x"));
    assert_ne!(weights("a.pt", "x"), weights("a.pt", "y"));
    let exported = |path: &str| {
        let args = [of(&model()), Argument::Target(path.into())];
        Recipe::of(call("onnx_export", args, json!({})).writing(path)).hash().unwrap()
    };
    assert_eq!(exported("a.onnx"), exported("b.onnx"), "where a result is written is no part of it");
    for unknown in [Argument::Named("m".into()), Argument::Script("m()".into())] {
        let made = Recipe::of(call("prune", [of(&Recipe::of(call("model", [unknown], json!({}))))], json!({})));
        assert_eq!(made.hash(), None);
    }
}

#[test]
fn recipes_part_where_they_first_differ() {
    let prune = |before: &Recipe, ratio: f64| Recipe::of(call("prune", [of(before)], json!({ "ratio": ratio })).seeded(0));
    let parting = |a: &Recipe, b: &Recipe| a.compare(b).map(|p| (p.common, p.place, p.left, p.right));
    let wanted = |common: usize, place: &str, left: &str, right: &str| Some((common, place.into(), left.into(), right.into()));
    let a = prune(&model(), 0.4);
    assert_eq!(parting(&a, &prune(&model(), 0.4)), None);
    assert_eq!(parting(&a, &prune(&model(), 0.5)), wanted(1, "prune: option 'ratio'", "0.4", "0.5"));
    assert_eq!(parting(&prune(&a, 0.1), &a), wanted(2, "step", "prune", "nothing"));
    assert_eq!(parting(&distilled(&model(), &a), &a), wanted(1, "operation", "distill", "prune"));
    let other = prune(&model(), 0.2);
    assert_eq!(
        parting(&distilled(&model(), &a), &distilled(&model(), &other)),
        wanted(1, "distill: argument 2: prune: option 'ratio'", "0.4", "0.2")
    );
    assert_eq!(a.compare(&prune(&model(), 0.5)).unwrap().to_string(), "the same for 1 steps, then prune: option 'ratio': 0.4 and 0.5");
}

/// A teacher that had a teacher that had a teacher: recipes of files may be as deep as they are long.
#[test]
fn deep_recipes_compare_without_a_deep_stack() {
    let deep = |ratio: f64| {
        let mut calls = vec![Call::new("model", [Argument::Value("a".into())], Map::new())];
        calls.push(Call::new("prune", [Argument::Call(0)], Map::from_iter([("ratio".to_string(), json!(ratio))])));
        calls.extend((2..60_000).map(|at| Call::new("distill", [Argument::Call(0), Argument::Call(at - 1)], Map::new())));
        Recipe::checked(calls).unwrap()
    };
    let parting = std::thread::Builder::new().stack_size(1 << 18).spawn(move || deep(0.4).compare(&deep(0.5)).unwrap());
    let parting = parting.unwrap().join().unwrap();
    assert_eq!(parting.common, 1);
    assert!(parting.place.ends_with("distill: argument 2: prune: option 'ratio'"));
    assert_eq!(parting.place.matches("distill").count(), 59_998);
}
