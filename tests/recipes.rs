//! Recipes: run again without the script language, in scripts, in other processes, from files of an earlier version.

mod common;

use common::noted;
use compresso::compress::distill::Distill;
use compresso::compress::prune::{Prune, Student};
use compresso::compress::quantize::Quantize;
use compresso::compress::recover::Recover;
use compresso::deploy::{OnnxExport, Replay, TensorrtExport};
use compresso::learn::data::{DataOptions, DataTask, Dataset};
use compresso::learn::train::Train;
use compresso::model::{LoadOptions, ModelOptions};
use compresso::operation::{Argument, Operation, Recipe, decode};
use compresso::report::Style;
use compresso::shell::{Buffer, script::Session, script::recipe_script};
use compresso::{Context, Model};
use proptest::prelude::*;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

fn classifier(width: f64, ctx: &Context) -> Model {
    let options = ModelOptions { classes: Some(3.into()), image_size: Some(32.into()), width: Some(width), ..ModelOptions::default() };
    options.run("classifier", ctx).unwrap()
}

fn shapes(ctx: &Context) -> Dataset {
    let options = DataOptions { images: Some(8), size: Some(32.into()), task: DataTask::Classify, ..DataOptions::default() };
    options.run("shapes", ctx).unwrap()
}

fn quick() -> Train {
    Train { epochs: 1, batch: 4, ..Train::default() }
}

fn pruning(ratio: f64) -> Prune {
    Prune { ratio, align: 1, min_channels: 2, ..Prune::default() }
}

/// Train, prune, train, quantize.
fn compressed(ctx: &Context) -> Model {
    let d = shapes(ctx);
    let m = quick().run((&classifier(0.125, ctx), &d, None), ctx).unwrap().model;
    let m = pruning(0.3).run((&m, None), ctx).unwrap().model;
    let m = quick().run((&m, &d, Some(&d.split("val").unwrap())), ctx).unwrap().model;
    Quantize { images: 4, ..Quantize::default() }.run((&m, Some(&d.take(4))), ctx).unwrap().model
}

/// A student, from a teacher that was trained and pruned.
fn distilled(ctx: &Context) -> Model {
    let d = shapes(ctx);
    let teacher = quick().run((&classifier(0.25, ctx), &d, None), ctx).unwrap().model;
    let teacher = pruning(0.2).run((&teacher, Some(&d)), ctx).unwrap().model;
    let options = Distill { temperature: Some(2.0), train: Train { accumulate: 2, ..quick() }, ..Distill::default() };
    options.run((&classifier(0.125, ctx), &teacher, &d, None), ctx).unwrap().model
}

/// A student of its teacher's channels, pruned and fine-tuned, and recovered without labels.
fn recovered(ctx: &Context) -> Model {
    let d = shapes(ctx);
    let teacher = quick().run((&classifier(0.25, ctx), &d, None), ctx).unwrap().model;
    let m = Student::default().run((&teacher, None), ctx).unwrap();
    let small = Prune { fine_tune: 1, ..pruning(0.3) }.run((&m, Some(&d)), ctx).unwrap().model;
    Recover { epochs: 1, batch: 4, ..Recover::default() }.run((&small, &m, &d), ctx).unwrap().model
}

fn saved(m: &Model, path: &Path) -> Vec<u8> {
    m.save(path).unwrap();
    std::fs::read(path).unwrap()
}

#[test]
fn replayed_models_are_saved_to_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    for (name, make) in [("compressed", compressed as fn(&Context) -> Model), ("distilled", distilled), ("recovered", recovered)] {
        let first = saved(&make(&Context::new().with_seed(5)), &path(&format!("{name}.onnx")));
        let opened = Model::load(path(&format!("{name}.onnx")), &LoadOptions::default()).unwrap();
        // The seed is the recipe's, not the context's.
        let again = opened.recipe().unwrap().replay(&Context::new()).unwrap().model().unwrap();
        assert!(saved(&again, &path("again.onnx")) == first, "{name}: {:?}", opened.recipe().unwrap().compare(again.recipe().unwrap()));
    }
}

#[test]
fn files_and_exports_are_replayed_and_changed_files_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let ctx = Context::new();
    let foreign = dir.path().join("foreign.onnx");
    compresso::model::onnx::save(classifier(0.125, &ctx).graph(), &foreign).unwrap();
    let opened = Model::load(&foreign, &LoadOptions::default()).unwrap();
    let to: PathBuf = dir.path().join("out/exported.onnx");
    OnnxExport::default().run((&opened, &to), &ctx).unwrap();
    let exported = Model::load(&to, &LoadOptions::default()).unwrap();
    let made = pruning(0.5).run((&exported, None), &ctx).unwrap().model;
    let recipe = made.recipe().unwrap();
    assert_eq!(recipe.steps().iter().map(|s| s.operation.as_str()).collect::<Vec<_>>(), ["model", "onnx_export", "prune"]);
    let first = saved(&made, &dir.path().join("first.onnx"));
    std::fs::remove_file(&to).unwrap();
    let again = recipe.replay(&ctx).unwrap().model().unwrap();
    assert!(to.exists() && saved(&again, &dir.path().join("again.onnx")) == first);
    compresso::model::onnx::save(classifier(0.25, &ctx).graph(), &foreign).unwrap();
    let e = recipe.replay(&ctx).unwrap_err().to_string();
    assert!(e.contains("call 1 of the recipe (model)") && e.contains("has changed since"), "{e}");
}

/// Train, prune, quantize, with options on which no result depends set or left.
fn told(set: bool, checkpoint: &Path, ctx: &Context) -> Model {
    let d = shapes(ctx);
    let pictures = DataOptions { images: Some(4), size: Some(32.into()), ..DataOptions::default() }.run("random", ctx).unwrap();
    let train = match set {
        true => Train { workers: Some(2), checkpoint: Some(checkpoint.into()), resume: true, ..quick() },
        false => quick(),
    };
    let m = train.run((&classifier(0.125, ctx), &d, None), ctx).unwrap().model;
    let m = Prune { score: !set, ..pruning(0.3) }.run((&m, Some(&pictures)), ctx).unwrap().model;
    Quantize { images: 4, score: !set, ..Quantize::default() }.run((&m, Some(&pictures)), ctx).unwrap().model
}

#[test]
fn options_on_which_no_result_depends_are_no_part_of_recipes() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let checkpoint = path("state.safetensors");
    let (plain, said) = noted(|ctx| told(false, &checkpoint, ctx));
    assert_eq!(said.matches("with the unchanged model 1.000 →").count(), 2, "{said}");
    let (quiet, said) = noted(|ctx| told(true, &checkpoint, ctx));
    assert!(!said.contains("with the unchanged model") && checkpoint.exists(), "{said}");
    let (a, b) = (plain.recipe().unwrap(), quiet.recipe().unwrap());
    assert_eq!(a, b);
    assert!(a.hash().is_some() && a.hash() == b.hash());
    let first = saved(&plain, &path("plain.onnx"));
    assert!(first == saved(&quiet, &path("quiet.onnx")));
    // Run again, nothing is told and no state is kept, whatever a recipe of an earlier version says.
    std::fs::remove_file(&checkpoint).unwrap();
    let mut calls = b.calls().to_vec();
    for call in &mut calls {
        let mut set = |option: &str, value: serde_json::Value| call.options.insert(option.into(), value);
        match call.operation.as_str() {
            "train" => drop(set("checkpoint", serde_json::json!(checkpoint))),
            "prune" | "quantize" => drop(set("score", true.into())),
            _ => {}
        }
    }
    let early = Recipe::checked(calls).unwrap();
    assert_ne!(&early, b);
    let (again, said) = noted(|ctx| early.replay(ctx).unwrap().model().unwrap());
    assert!(!said.contains("with the unchanged model") && !checkpoint.exists(), "{said}");
    assert_eq!(again.recipe(), Some(b));
    assert!(saved(&again, &path("again.onnx")) == first);
}

#[test]
fn exports_judge_what_they_quantize_once_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let ctx = Context::new();
    let (m, d) = (classifier(0.125, &ctx), DataOptions { images: Some(4), ..DataOptions::default() }.run("random", &ctx).unwrap());
    for (score, times) in [(true, 1), (false, 0)] {
        let options: TensorrtExport =
            decode(serde_json::json!({ "precision": "int8", "images": 4, "score": score, "build": false })).unwrap();
        let (made, said) = noted(|ctx| options.apply(&m, dir.path(), Some(&d), ctx));
        made.unwrap();
        assert_eq!(said.matches("with the unchanged model 1.000 →").count(), times, "{said}");
    }
}

/// What this test file prints when it runs itself.
const ASKED: &str = "COMPRESSO_TEST_PRINTS_HASHES";

fn hashes() -> String {
    let made = compressed(&Context::new());
    let recipe = made.recipe().unwrap();
    (1..=recipe.steps().len()).map(|n| format!("{} ", recipe.prefix(n).unwrap().hash().unwrap())).collect()
}

#[test]
fn equal_prefixes_have_equal_hashes_in_every_process() {
    if std::env::var_os(ASKED).is_some() {
        println!("hashes: {}", hashes());
        return;
    }
    let own = hashes();
    let name = "equal_prefixes_have_equal_hashes_in_every_process";
    let other = Command::new(std::env::current_exe().unwrap()).args(["--exact", name, "--nocapture"]).env(ASKED, "1").output().unwrap();
    let other = String::from_utf8(other.stdout).unwrap();
    assert!(other.contains(&format!("hashes: {own}")), "{own} is not in {other}");
    // A recipe that goes another way later has the same beginning.
    let ctx = Context::new();
    let trained = quick().run((&classifier(0.125, &ctx), &shapes(&ctx), None), &ctx).unwrap().model;
    let parted = pruning(0.6).run((&trained, None), &ctx).unwrap().model;
    let recipe = parted.recipe().unwrap();
    let of: Vec<String> = (1..=3).map(|n| recipe.prefix(n).unwrap().hash().unwrap().to_string()).collect();
    let wanted: Vec<&str> = own.split_whitespace().collect();
    assert!(of[..2] == wanted[..2] && of[2] != wanted[2], "{of:?} and {wanted:?}");
}

#[test]
fn thirty_rounds_of_self_distillation_keep_the_saved_steps_small() {
    let dir = tempfile::tempdir().unwrap();
    let ctx = Context::new();
    let d = shapes(&ctx);
    let mut m = classifier(0.0625, &ctx);
    let plain = m.graph().clone();
    for _ in 0..30 {
        // Stands in for the training, which would change the weights only.
        let options = Distill { train: quick(), ..Distill::default() };
        let call = options.call([(&m).into(), (&m).into(), (&d).into()]).seeded(0);
        m = m.derive(plain.clone(), call);
    }
    let path = dir.path().join("m.onnx");
    m.save(&path).unwrap();
    let kept = Model::load(&path, &LoadOptions::default()).unwrap();
    assert_eq!(kept.steps().len(), 31);
    let bytes = kept.graph().metadata()["compresso"].len();
    assert!(bytes < 100_000, "{bytes} bytes");
    assert!(recipe_script(kept.recipe().unwrap()).len() < 100_000);
}

#[test]
fn a_file_of_version_0_1_opens_and_keeps_its_script() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/recipe/steps_0_1.onnx");
    let m = Model::load(&path, &LoadOptions::default()).unwrap();
    let source = std::fs::read_to_string(path.with_extension("rhai")).unwrap();
    let script: String = source.lines().filter(|l| l.starts_with("let m") || l.starts_with("m =")).collect::<Vec<_>>().join("\n");
    let recipe = m.recipe().unwrap();
    assert_eq!(recipe_script(recipe), script);
    assert!(matches!(&recipe.steps()[1].args[1], Argument::Script(text) if text.starts_with("dataset(\"shapes\"")));
    assert!(recipe.hash().is_none() && recipe.prefix(1).unwrap().hash().is_some());
    let e = recipe.replay(&Context::new()).unwrap_err().to_string();
    assert!(e.contains("kept this as a script: dataset("), "{e}");
    // Untouched, it is saved as it was.
    let dir = tempfile::tempdir().unwrap();
    assert!(saved(&m, &dir.path().join("copy.onnx")) == std::fs::read(&path).unwrap());
}

/// Runs a script whose last variable `m` is a model, and gives the recipe that its file keeps.
fn recipe_of(script: &str, folder: &Path) -> Recipe {
    let mut session = Session::new(Context::new(), Arc::new(Buffer::new(Style::plain())));
    let path = folder.join("of_script.onnx");
    session.run(&format!("{script}\nsave(m, {path:?});"), "<recipe>").unwrap_or_else(|f| panic!("{}\n{script}", f.render(&Style::plain())));
    Model::load(&path, &LoadOptions::default()).unwrap().recipe().unwrap().clone()
}

/// One more call on models and datasets that are there.
#[derive(Debug, Clone)]
enum Next {
    Seed(u64),
    Model(u8),
    Dataset(u8),
    Take(usize, u8),
    Split(usize, bool),
    Prune(usize, u8, Option<usize>),
    Quantize(usize),
    Distill(usize, usize, usize),
}

fn next() -> impl Strategy<Value = Next> {
    let at = 0usize..8;
    prop_oneof![
        1 => (0u64..3).prop_map(Next::Seed),
        2 => (1u8..3).prop_map(Next::Model),
        2 => (4u8..6).prop_map(Next::Dataset),
        3 => (at.clone(), 1u8..4).prop_map(|(d, n)| Next::Take(d, n)),
        2 => (at.clone(), any::<bool>()).prop_map(|(d, val)| Next::Split(d, val)),
        5 => (at.clone(), 0u8..3, proptest::option::of(at.clone())).prop_map(|(m, r, d)| Next::Prune(m, r, d)),
        1 => at.clone().prop_map(Next::Quantize),
        4 => (at.clone(), at.clone(), at).prop_map(|(s, t, d)| Next::Distill(s, t, d)),
    ]
}

fn run(calls: Vec<Next>) -> Model {
    let mut ctx = Context::new();
    let mut models = vec![classifier(0.0625, &ctx)];
    let mut data = vec![shapes(&ctx)];
    let mut made = models[0].clone();
    for call in calls {
        let model = |at: usize| models[at % models.len()].clone();
        let dataset = |at: usize| data[at % data.len()].clone();
        match call {
            Next::Seed(seed) => {
                ctx = ctx.with_seed(seed);
                continue;
            }
            Next::Model(n) => made = classifier(0.0625 * f64::from(n), &ctx),
            Next::Dataset(images) => {
                let options =
                    DataOptions { images: Some(images.into()), size: Some(32.into()), task: DataTask::Classify, ..DataOptions::default() };
                data.push(options.run("shapes", &ctx).unwrap());
                continue;
            }
            Next::Take(at, n) => {
                let taken = dataset(at).take(n.into());
                data.push(taken);
                continue;
            }
            Next::Split(at, val) => {
                let chosen = dataset(at).split(if val { "val" } else { "train" });
                data.extend(chosen.ok());
                continue;
            }
            Next::Prune(m, ratio, d) => {
                // Some small models cannot lose more, and quantized ones none.
                let options = pruning(0.1 + 0.1 * f64::from(ratio));
                match options.run((&model(m), d.map(dataset).as_ref()), &ctx) {
                    Ok(pruned) => made = pruned.model,
                    Err(_) => continue,
                }
            }
            Next::Quantize(m) => {
                let options: Quantize = decode(serde_json::json!({ "mode": "dynamic" })).unwrap();
                match options.run((&model(m), None), &ctx) {
                    Ok(quantized) => made = quantized.model,
                    Err(_) => continue,
                }
            }
            Next::Distill(student, teacher, d) => {
                let options = Distill { train: Train { batch: 2, ..quick() }, ..Distill::default() };
                match options.run((&model(student), &model(teacher), &dataset(d), None), &ctx) {
                    Ok(trained) => made = trained.model,
                    Err(_) => continue,
                }
            }
        }
        models.push(made.clone());
    }
    made
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]
    #[test]
    fn the_script_of_a_recipe_makes_the_recipe(calls in proptest::collection::vec(next(), 1..10)) {
        let made = run(calls);
        let recipe = made.recipe().unwrap();
        let script = recipe_script(recipe);
        let dir = tempfile::tempdir().unwrap();
        let again = recipe_of(&script, dir.path());
        prop_assert!(recipe.compare(&again).is_none(), "{:?}\n{script}", recipe.compare(&again));
        prop_assert_eq!(&again, recipe, "{}", script);
    }
}

/// Names of the functions that a source file of the prelude has.
fn functions(file: &str) -> Vec<String> {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("notebooks/prelude/src").join(file)).unwrap();
    let names = text.lines().filter_map(|l| l.strip_prefix("pub fn ")).map(|l| l.split(['(', '<']).next().unwrap().to_string());
    names.collect()
}

#[test]
fn rust_notebooks_have_every_operation() {
    let known: Vec<String> = ["operations.rs", "results.rs", "session.rs", "tensors.rs"].into_iter().flat_map(functions).collect();
    assert!(known.len() > 30, "{known:?}");
    let groups = ["models", "data", "compress", "deploy", "measure"];
    let all: Vec<&str> =
        compresso::shell::script::bindings().map(|b| b.signature).filter(|s| groups.contains(&s.group)).map(|s| s.name).collect();
    assert!(all.len() > 15, "{all:?}");
    let missing: Vec<&&str> = all.iter().filter(|n| !known.iter().any(|k| k == **n)).collect();
    assert!(missing.is_empty(), "the prelude lacks {missing:?}");
}
