//! Models that were exported for one image at a time.

use super::batch::takes_any_batch;
use super::tests::{constants, narrow, quick, shapes};
use compresso_base::context::Context;
use compresso_base::operation::Operation;
use compresso_model::graph::Dim;
use compresso_model::ops::shape::RESHAPE;
use compresso_model::{Constant, Element, Fact, GraphBuilder, Model, Patch, Task};

/// The model as exporters write it: batches of one image, the one in all sizes that are written out.
fn for_one_image(model: &Model) -> Model {
    let fixed = model.with_fixed_sizes(1, Some([64, 64])).unwrap();
    let (graph, facts) = (fixed.graph(), fixed.graph().facts().unwrap());
    let mut patch = Patch::new(graph);
    let mut written = 0;
    for (i, node) in graph.nodes().iter().enumerate().filter(|(_, n)| n.is(RESHAPE)) {
        let dims = facts.get(&node.outputs[0]).and_then(Fact::dims).unwrap();
        let sizes: Vec<i64> = dims.iter().map(|&d| d as i64).collect();
        let name = patch.constant("sizes", Constant::ints(&sizes));
        patch.edit(i).inputs[1] = name;
        written += 1;
    }
    assert!(written > 0);
    Model::new(patch.apply().unwrap(), model.task().clone())
}

#[test]
fn a_model_for_one_image_is_trained_on_batches_to_the_same_weights() {
    let data = shapes(16);
    for name in ["yolov8n", "yolo11n", "yolov10n"] {
        let open = narrow(name, &data, 64);
        let fixed = for_one_image(&open);
        let train = |m: &Model| quick(1).run((m, &data, None), &Context::new()).unwrap();
        let (a, b) = (train(&open), train(&fixed));
        let (loss, other) = (a.history.epochs[0].loss, b.history.epochs[0].loss);
        assert!((loss - other).abs() < 1e-5 * loss, "{name}: {loss} {other}");
        let (ours, theirs) = (constants(&a.model), constants(&b.model));
        let own = |all: &[(String, Vec<f32>)], name: &str| all.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone());
        for (name, weights) in &ours {
            assert!(own(&theirs, name).is_none_or(|w| w == *weights), "{name} is trained otherwise");
        }
        assert_eq!(b.model.graph().inputs()[0].fact.dims(), Some(vec![1, 3, 64, 64]), "it stays a model for one image");
    }
}

#[test]
fn images_that_depend_on_each_other_stay_in_their_batches() {
    let model = |mix: bool| {
        let mut b = GraphBuilder::new("g", 17);
        let x = b.input("x", Fact::known(Element::F32, &[1, 3, 4, 4]));
        let y = if mix { b.node(compresso_model::Node::new("LpNormalization", "", [x.as_str()], [""]).int("axis", 0)) } else { x };
        let y = b.op("Relu", &[&y]);
        b.output(&y);
        Model::new(b.finish().unwrap(), Task::Unknown)
    };
    assert!(takes_any_batch(&model(false), &Context::new()).unwrap());
    assert!(!takes_any_batch(&model(true), &Context::new()).unwrap(), "sizes follow, but a norm goes over all images");
    let open = compresso_model::graph::open_batch(model(false).graph()).unwrap().unwrap();
    assert_eq!(open.inputs()[0].fact.shape.as_ref().unwrap()[0], Dim::symbol("batch"));
}
