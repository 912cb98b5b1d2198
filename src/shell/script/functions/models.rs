//! Models: opening, running, looking at them.

use super::{report, trained};
use crate::error::Result;
use crate::exec::Forward;
use crate::learn::eval::Predict;
use crate::learn::train::Train;
use crate::model::{Load, Loaded, ModelOptions, Summarize};
use crate::operation::Operation;
use crate::shell::script::call::{Binding, Call};
use crate::shell::script::value::{ModelValue, from_json};
use rhai::{Dynamic, Map};

pub(super) const TABLE: &[Binding] = &[
    Binding { signature: ModelOptions::SIGNATURE, call: |c| Ok(Dynamic::from(ModelValue::from(c.run::<ModelOptions>()?))) },
    Binding { signature: Load::SIGNATURE, call: load },
    Binding { signature: Train::SIGNATURE, call: |c| Ok(trained(c, c.run::<Train>()?)) },
    Binding { signature: Predict::SIGNATURE, call: predict },
    Binding { signature: Summarize::SIGNATURE, call: |c| Ok(report(c.run::<Summarize>()?)) },
    Binding { signature: Forward::SIGNATURE, call: forward },
];

fn load(c: &Call<'_>) -> Result<Dynamic> {
    Ok(match c.run::<Load>()? {
        Loaded::Model(m) => Dynamic::from(ModelValue::from(m)),
        Loaded::Tensor(t) => Dynamic::from(t),
        Loaded::Tensors(all) => all.into_iter().map(|(k, v)| (k.into(), Dynamic::from(v))).collect::<Map>().into(),
        Loaded::Data(json) => from_json(&json),
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
