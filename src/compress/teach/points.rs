//! Where a model's feature maps are compared.

use compresso_base::error::{Error, Result};
use compresso_learn::train::ancestors;
use compresso_model::ops::{is_expectation, stored_weight};
use compresso_model::{Facts, Graph, Model, Task};
use indexmap::IndexMap;

/// Names of the feature maps `[batch, channels, height, width]` that a model's head reads, largest first.
///
/// Of a detector whose raw head is known, for each level the last map on which both its boxes and its scores depend. Of other models the
/// layers with weights that no other such layer follows are the head's last ones; for each size of what they read, the last map of that
/// size on which all of them depend. Where they read no maps, as in classifiers and transformers, the last map of all.
///
/// # Errors
/// `Unsupported` for a model without feature maps.
pub fn points(model: &Model, facts: &Facts) -> Result<Vec<String>> {
    let graph = model.graph();
    let levels: Vec<Vec<String>> = match model.task() {
        Task::Detect(d) if d.head.is_some() => {
            let head = d.head.iter().flat_map(|h| h.boxes.iter().zip(&h.scores));
            head.map(|(boxes, scores)| vec![boxes.clone(), scores.clone()]).collect()
        }
        Task::Classify(_) => Vec::new(),
        _ => {
            let mut by_size: IndexMap<[usize; 2], Vec<String>> = IndexMap::new();
            for input in read_last(graph) {
                by_size.entry(size(facts, &input).unwrap_or_default()).or_default().push(input);
            }
            by_size.swap_remove(&[0, 0]);
            by_size.into_values().collect()
        }
    };
    let mut found: Vec<String> = levels.iter().filter_map(|values| last_common(graph, facts, values)).collect();
    if found.is_empty() {
        let outputs: Vec<String> = match model.task() {
            Task::Classify(c) => vec![c.output.clone()],
            _ => graph.outputs().iter().map(|o| o.name.clone()).collect(),
        };
        found.extend(last_common(graph, facts, &outputs));
    }
    if found.is_empty() {
        let e = Error::unsupported("this model has no feature maps [batch, channels, height, width] on which its outputs depend");
        return Err(e.hint("name values in option 'features', or compare logits alone"));
    }
    found.sort_by_key(|name| std::cmp::Reverse(size(facts, name).unwrap_or_default()));
    found.dedup();
    Ok(found)
}

/// Height and width of a value that is a feature map of more than one place.
fn size(facts: &Facts, name: &str) -> Option<[usize; 2]> {
    let fact = facts.get(name).filter(|f| f.rank() == Some(4) && f.element.is_float())?;
    let [height, width] = [fact.dim(2)?, fact.dim(3)?];
    (fact.dim(1)? > 1 && height * width > 1).then_some([height, width])
}

/// The last feature map on which all these values depend, of the size of the first that has one, or which is the only value itself.
fn last_common(graph: &Graph, facts: &Facts, values: &[String]) -> Option<String> {
    let wanted = values.iter().find_map(|v| size(facts, v));
    let fits = |name: &String| size(facts, name).is_some_and(|s| wanted.is_none_or(|w| w == s));
    if let [one] = values
        && wanted.is_some()
    {
        return Some(one.clone());
    }
    let mut sets = values.iter().map(|v| ancestors(graph, std::slice::from_ref(v)));
    let first = sets.next()?;
    let others: Vec<Vec<usize>> = sets.collect();
    let common = first.into_iter().rev().filter(|i| others.iter().all(|o| o.binary_search(i).is_ok()));
    common.filter_map(|i| graph.nodes()[i].outputs.first().cloned()).find(fits)
}

/// What the layers with weights read that no other such layer follows.
fn read_last(graph: &Graph) -> Vec<String> {
    let makers = graph.producers();
    let outputs: Vec<String> = graph.outputs().iter().map(|o| o.name.clone()).collect();
    let mut followed = vec![false; graph.nodes().len()];
    let mut last = Vec::new();
    for i in ancestors(graph, &outputs).into_iter().rev() {
        let node = &graph.nodes()[i];
        let layer = stored_weight(graph, &makers, node).is_ok_and(|w| w.is_some()) && !is_expectation(graph, &makers, node);
        if layer && !followed[i] {
            last.extend(node.input(0).map(str::to_string));
        }
        if layer || followed[i] {
            let before = node.inputs.iter().map(String::as_str).chain(node.captured());
            before.filter_map(|name| makers.get(name)).for_each(|&j| followed[j] = true);
        }
    }
    last.reverse();
    last
}

#[cfg(test)]
mod tests {
    use super::*;
    use compresso_model::graph::infer_at;
    use compresso_model::zoo::{ZooOptions, build};

    fn found(name: &str, task: bool) -> Vec<(String, [usize; 2])> {
        let options = ZooOptions { image_size: Some([64, 64]), width: Some(0.0625), depth: Some(0.33), ..ZooOptions::default() };
        let model = build(name, &options).unwrap();
        let model = if task { model } else { Model::new(model.graph().clone(), Task::Unknown) };
        let facts = infer_at(model.graph(), 1, Some([64, 64])).unwrap();
        points(&model, &facts).unwrap().into_iter().map(|p| (p.clone(), size(&facts, &p).unwrap())).collect()
    }

    #[test]
    fn the_head_is_found_without_knowing_what_the_model_is_for() {
        for name in ["yolov8n", "yolo11n", "yolov5nu", "yolov10n"] {
            let known = found(name, true);
            assert_eq!(known.iter().map(|p| p.1).collect::<Vec<_>>(), [[8, 8], [4, 4], [2, 2]], "{name}");
            assert_eq!(found(name, false), known, "{name}");
        }
    }

    #[test]
    fn prototypes_and_levels_of_models_for_masks_are_found() {
        let known = found("yolov8n-seg", true);
        let sizes: Vec<_> = known.iter().map(|p| p.1).collect();
        assert_eq!(sizes, [[16, 16], [8, 8], [4, 4], [2, 2]], "{known:?}");
    }

    #[test]
    fn classifiers_have_the_map_before_their_pool() {
        let options = ZooOptions { image_size: Some([32, 32]), ..ZooOptions::default() };
        let model = build("classifier", &options).unwrap();
        let facts = infer_at(model.graph(), 1, Some([32, 32])).unwrap();
        let [point] = &points(&model, &facts).unwrap()[..] else { panic!("one map") };
        assert!(size(&facts, point).is_some());
        assert_eq!(points(&Model::new(model.graph().clone(), Task::Unknown), &facts).unwrap(), std::slice::from_ref(point));
    }
}
