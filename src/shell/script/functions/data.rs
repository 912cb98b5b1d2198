//! Datasets.

use super::report;
use crate::learn::data::{DataOptions, GridOptions, Split, SplitOptions, Take};
use crate::operation::Operation;
use crate::shell::script::call::Binding;
use rhai::Dynamic;

pub(super) const TABLE: &[Binding] = &[
    Binding { signature: DataOptions::SIGNATURE, call: |c| Ok(Dynamic::from(c.run::<DataOptions>()?)) },
    Binding { signature: Split::SIGNATURE, call: |c| Ok(Dynamic::from(c.run::<Split>()?)) },
    Binding { signature: SplitOptions::SIGNATURE, call: |c| Ok(Dynamic::from(c.run::<SplitOptions>()?)) },
    Binding { signature: GridOptions::SIGNATURE, call: |c| Ok(report(c.run::<GridOptions>()?)) },
    Binding { signature: Take::SIGNATURE, call: |c| Ok(Dynamic::from(c.run::<Take>()?)) },
];
