//! Models: opening, running, looking at them.

use super::{report, signature, trained};
use crate::error::Result;
use crate::exec::Forward;
use crate::learn::eval::Predict;
use crate::learn::train::Train;
use crate::model::names::fits;
use crate::model::{Load, Loaded, ModelOptions, Resize, Summarize, Value};
use crate::operation::{Arg, ArgKind, Operation};
use crate::report::CsvValue;
use crate::shell::script::call::{Binding, Call};
use crate::shell::script::value::{ModelValue, from_json, no_field};
use candle_core::Device;
use rhai::{Dynamic, Map};

pub(super) const TABLE: &[Binding] = &[
    Binding { signature: ModelOptions::SIGNATURE, call: |c| Ok(Dynamic::from(ModelValue::from(c.run::<ModelOptions>()?))) },
    Binding { signature: Load::SIGNATURE, call: load },
    Binding { signature: Resize::SIGNATURE, call: |c| Ok(Dynamic::from(ModelValue::from(c.run::<Resize>()?))) },
    Binding { signature: Train::SIGNATURE, call: |c| Ok(trained(c, c.run::<Train>()?)) },
    Binding { signature: Predict::SIGNATURE, call: predict },
    Binding { signature: Summarize::SIGNATURE, call: |c| Ok(report(c.run::<Summarize>()?)) },
    Binding {
        signature: signature(
            ("models", "layers"),
            "All layers of a model with operator, output, parameters and multiply-accumulates: `summary` with `layers: true`. The field of this name \
             has them as a list of maps",
            &[Arg::new("m", ArgKind::Model)],
            "report",
            &["model(\"classifier\", #{ classes: 3, image_size: 32 }).layers()"],
            &["nodes", "modules", "named_modules", "children", "look"],
        ),
        call: |c| Ok(report(Summarize { layers: true, ..Summarize::default() }.run(&c.model(0)?, &c.ctx)?)),
    },
    Binding { signature: Forward::SIGNATURE, call: forward },
    Binding {
        signature: signature(
            ("models", "weights"),
            "The stored tensors of a model by name: one by its whole name, else a map of all that a pattern fits, a layer, a block or one with * and ?",
            &[Arg::new("m", ArgKind::Model), Arg::optional("pattern", ArgKind::Text)],
            "tensor or map of tensors",
            &[
                "weights(model(\"classifier\", #{ classes: 3, image_size: 32 }), \"model.0\").keys()",
                "hist(weights(model(\"classifier\", #{ classes: 3, image_size: 32 }), \"model.0.conv.weight\"))",
            ],
            &["parameters", "constants", "kernel", "look"],
        ),
        call: stored,
    },
];

fn stored(c: &Call<'_>) -> Result<Dynamic> {
    let model = c.model(0)?;
    let all = model.graph().constants();
    let value = |constant| Value::of_constant(constant, &Device::Cpu).map(Dynamic::from);
    if !c.has(1) {
        return all.iter().map(|(name, w)| Ok((name.as_str().into(), value(w)?))).collect::<Result<Map>>().map(Into::into);
    }
    let pattern = c.text(1)?;
    if let Some(one) = all.get(&pattern) {
        return value(one);
    }
    let fitting = all.iter().filter(|(name, _)| fits(&pattern, name));
    let found = fitting.map(|(name, w)| Ok((name.as_str().into(), value(w)?))).collect::<Result<Map>>()?;
    if found.is_empty() {
        return Err(no_field("the model's weights", &pattern, &all.keys().map(String::as_str).take(12).collect::<Vec<_>>()));
    }
    Ok(found.into())
}

fn load(c: &Call<'_>) -> Result<Dynamic> {
    Ok(match c.run::<Load>()? {
        Loaded::Model(m) => Dynamic::from(ModelValue::from(m)),
        Loaded::Tensor(t) => Dynamic::from(t),
        Loaded::Tensors(all) => all.into_iter().map(|(k, v)| (k.into(), Dynamic::from(v))).collect::<Map>().into(),
        Loaded::Data(json) => from_json(&json),
        Loaded::Rows(rows) => {
            let cell = |v: CsvValue| match v {
                CsvValue::Empty => Dynamic::UNIT,
                CsvValue::Bool(b) => b.into(),
                CsvValue::Whole(n) => n.into(),
                CsvValue::Number(x) => x.into(),
                CsvValue::Text(text) => text.into(),
            };
            let row = |row: Vec<(String, CsvValue)>| row.into_iter().map(|(name, v)| (name.into(), cell(v))).collect::<Map>();
            rows.into_iter().map(|r| Dynamic::from_map(row(r))).collect::<Vec<_>>().into()
        }
    })
}

/// What was seen. When the user stopped it, the session keeps that too, for the script ends here.
fn predict(c: &Call<'_>) -> Result<Dynamic> {
    let found = c.run::<Predict>()?;
    let cancelled = found.cancelled;
    let value = report(found);
    if cancelled {
        c.shared.keep_partial(value.clone());
    }
    Ok(value)
}

fn forward(c: &Call<'_>) -> Result<Dynamic> {
    let outputs = c.run::<Forward>()?;
    Ok(outputs.into_iter().map(|(name, v)| (name.into(), Dynamic::from(v))).collect::<Map>().into())
}
