use super::*;
use serde_json::Map;

fn call(operation: &str, args: impl IntoIterator<Item = Argument<Recipe>>, options: Value) -> Call<Recipe> {
    let Value::Object(options) = options else { panic!("{options} is no map") };
    Call::new(operation, args, options)
}

fn of(recipe: &Recipe) -> Argument<Recipe> {
    Argument::Call(recipe.clone())
}

fn opened(operation: &str, name: &str, options: Value, seed: u64) -> Recipe {
    Recipe::of(call(operation, [Argument::Value(name.into())], options).seeded(seed))
}

#[test]
fn what_is_read_once_stands_where_it_is_read() {
    let m = opened("model", "yolov8n", json!({ "classes": 3 }), 0);
    let d = Recipe::of(call("take", [of(&opened("dataset", "shapes", json!({}), 0)), Argument::Value(8.into())], json!({})));
    let pruned = Recipe::of(call("prune", [of(&m), of(&d)], json!({ "ratio": 0.4 })).seeded(0));
    assert_eq!(
        script(&pruned),
        "let m = model(\"yolov8n\", #{ classes: 3 });\nm = prune(m, dataset(\"shapes\").take(8), #{ ratio: 0.4 });"
    );
    let listed = steps(&pruned);
    assert_eq!(listed[0], json!({ "operation": "model", "args": ["\"yolov8n\""], "options": { "classes": 3 } }));
    assert_eq!(listed[1]["args"], json!(["dataset(\"shapes\").take(8)"]));
}

#[test]
fn what_is_read_twice_has_a_variable() {
    let d = opened("dataset", "shapes", json!({}), 0);
    let m = opened("model", "a", json!({}), 0);
    let teacher = Recipe::of(call("train", [of(&opened("model", "b", json!({}), 0)), of(&d)], json!({})).seeded(0));
    let distilled = Recipe::of(call("distill", [of(&m), of(&teacher), of(&d)], json!({})).seeded(0));
    // The student's beginning is a teacher later.
    let again = Recipe::of(call("distill", [of(&distilled), of(&m), of(&d)], json!({})).seeded(0));
    let wanted = "let m = model(\"a\");\nlet m2 = m;\nlet d = dataset(\"shapes\");\nm = distill(m, model(\"b\").train(d), d);\nm = distill(m, m2, d);";
    assert_eq!(script(&again), wanted);
    let own = Recipe::of(call("distill", [of(&m), of(&m), of(&d)], json!({})).seeded(0));
    assert_eq!(script(&own), "let m = model(\"a\");\nm = distill(m, m, dataset(\"shapes\"));");
}

#[test]
fn what_is_written_to_a_file_is_opened() {
    let m = opened("model", "yolov8n", json!({}), 0);
    let args = [of(&m), Argument::Target("out".into()), of(&opened("dataset", "a", json!({}), 0))];
    let written = Recipe::of(call("tensorrt_export", args, json!({})).writing("out/m_fp16.onnx"));
    let pruned = Recipe::of(call("prune", [of(&written)], json!({ "ratio": 0.4 })).seeded(0));
    let wanted = "let m = model(\"yolov8n\");\ntensorrt_export(m, \"out\", dataset(\"a\"));\nm = model(\"out/m_fp16.onnx\");\nm = prune(m, #{ ratio: 0.4 });";
    assert_eq!(script(&pruned), wanted);
    assert_eq!(steps(&pruned)[1]["file"], "out/m_fp16.onnx");
    let student = Recipe::of(call("distill", [of(&m), of(&written), of(&opened("dataset", "b", json!({}), 0))], json!({})).seeded(0));
    let wanted = "let m = model(\"yolov8n\");\nm.tensorrt_export(\"out\", dataset(\"a\"));\nm = distill(m, model(\"out/m_fp16.onnx\"), dataset(\"b\"));";
    assert_eq!(script(&student), wanted);
}

#[test]
fn other_seeds_than_the_first_are_set() {
    let one = Recipe::of(call("prune", [of(&opened("model", "a", json!({}), 7))], json!({})).seeded(7));
    assert_eq!(script(&one), "seed(7);\nlet m = model(\"a\");\nm = prune(m);");
    let d = opened("dataset", "shapes", json!({}), 3);
    let mixed = Recipe::of(call("train", [of(&opened("model", "a", json!({}), 0)), of(&d)], json!({})).seeded(0));
    assert_eq!(script(&mixed), "let m = model(\"a\");\nseed(3);\nlet d = dataset(\"shapes\");\nseed(0);\nm = train(m, d);");
}

#[test]
fn texts_of_earlier_versions_and_unknown_beginnings_stay_as_they_are() {
    let named = Recipe::of(Call::new("model", [Argument::Named("net".into())], Map::new()));
    let made = Recipe::of(call("prune", [of(&named), Argument::Script("dataset(\"a\").take(8)".into())], json!({ "ratio": 0.4 })));
    assert_eq!(script(&made), "let m = model(\"net\");\nm = prune(m, dataset(\"a\").take(8), #{ ratio: 0.4 });");
    assert_eq!(steps(&made).as_array().unwrap().len(), 1, "the beginning is no step");
}

#[test]
fn deep_expressions_are_cut_and_shared_ones_stay_short() {
    let mut d = opened("dataset", "shapes", json!({}), 0);
    for n in 0..200 {
        d = Recipe::of(call("take", [of(&d), Argument::Value(n.into())], json!({})));
    }
    let mut m = opened("model", "a", json!({}), 0);
    for _ in 0..30 {
        m = Recipe::of(call("distill", [of(&m), of(&m), of(&d)], json!({})).seeded(0));
    }
    let text = script(&m);
    assert!(text.len() < 10_000, "{text}");
    assert!(text.lines().all(|l| l.matches(".take(").count() <= MAX_DEPTH + 1), "{text}");
}
