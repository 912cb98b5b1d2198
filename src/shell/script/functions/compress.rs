//! Pruning, quantization, distillation.

use super::{made, signature, trained};
use crate::compress::distill::Distill;
use crate::compress::prune::{self, Prune};
use crate::compress::quantize::Quantize;
use crate::operation::{Arg, ArgKind, Operation};
use crate::shell::script::call::Binding;
use crate::shell::script::value::Report;
use rhai::Dynamic;

pub(super) const TABLE: &[Binding] = &[
    Binding { signature: Prune::SIGNATURE, call: |c| Ok(made(c.run::<Prune>()?)) },
    Binding {
        signature: signature(
            ("compress", "prune_groups"),
            "The groups of channels of a model that can only be pruned together",
            &[Arg::new("m", ArgKind::Model)],
            "report",
            &["prune_groups(model(\"classifier\", #{ classes: 3, image_size: 32 }))"],
            &["layers", "channels", "dependencies", "structure"],
        ),
        call: |c| {
            let m = c.model(0)?;
            Ok(Dynamic::from(Report::new(prune::groups(m.graph(), &prune::head_values(m.task()))?)))
        },
    },
    Binding { signature: Quantize::SIGNATURE, call: |c| Ok(made(c.run::<Quantize>()?)) },
    Binding { signature: Distill::SIGNATURE, call: |c| Ok(trained(c, c.run::<Distill>()?)) },
];
