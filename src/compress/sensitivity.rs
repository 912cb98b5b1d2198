//! `sensitivity`: what a model loses where a part of it alone is changed, by pruning or by quantization.

use crate::prune::{Importance, Measure, PruneSensitivity, Removals};
use crate::quantize::{Layers, Quantize, QuantizeSensitivity};
use compresso_base::context::Context;
use compresso_base::error::{Error, Result};
use compresso_base::operation::{Arg, ArgKind, Operation, Options, Signature, decode, idle};
use compresso_base::report::{Plot, Show, Table};
use compresso_learn::data::Dataset;
use compresso_model::Model;
use serde::Serialize;
use serde_json::{Map, Value};

compresso_base::choice! {
    /// What a model is sensitive to.
    pub enum Subject {
        /// The removal of channels, group by group.
        Prune = "prune",
        /// The rounding of weights and activations, layer by layer.
        Quantize = "quantize",
    }
}

compresso_base::options! {
    /// Options of `sensitivity`.
    pub struct Sensitivity {
        /// To what: "prune", the removal of channels of one group after the other; "quantize", INT8 of one layer after the other.
        pub of: Subject = Subject::Prune,
        /// "error": squared difference of the outputs from the unchanged model's (of "prune" as a share of their variance, of "quantize" as
        /// signal over noise); "score": loss of mAP50-95 or top-1 on up to 64 images of the dataset, of "quantize" beside the error.
        pub measure: Measure = Measure::Error,
        /// Images on which outputs are compared. Of "prune", the importance looks at as many; of "quantize", they take no part in calibration
        /// where there are others.
        pub images: usize = 16,
        /// Layers to leave out: names of layers, groups or weights, as in `prune` and `quantize`.
        pub exclude: Vec<String> = Vec::new(),
        /// Only these layers; empty for all.
        pub include: Vec<String> = Vec::new(),
        /// Of "prune": shares of the channels of a group that are removed, each below 1.
        pub ratios: Vec<f64> = vec![0.1, 0.25, 0.5, 0.75],
        /// Of "prune": by what the channels of a group are ranked, as in `prune`; left out: "reconstruction".
        pub importance: Option<Importance> = None,
        /// Of "prune": what the removal from one group may cost; the report's `ratios` are the shares at which each group loses that much.
        pub tolerance: f64 = 0.01,
        /// Of "quantize": options of `quantize`, such as #{ observer: "mse", weight_bits: 4, images: 32 }; its `images` are those of calibration.
        pub quantize: Map<String, Value> = Map::new(),
    }
}

/// What `sensitivity` found.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum SensitivityReport {
    /// Of the removal of channels, group by group.
    Prune(PruneSensitivity),
    /// Of the rounding of weights and activations, layer by layer.
    Quantize(QuantizeSensitivity),
}

/// # Errors
/// `Argument` for options out of range; `Unsupported` for models in which nothing can be pruned, or quantized, or that cannot be fed with images,
/// and for scores of those that have none on the dataset; `Cancelled`.
impl Operation for Sensitivity {
    const SIGNATURE: Signature = Signature {
        name: "sensitivity",
        summary: "What a model loses when channels of one group after the other are removed, or one layer after the other is quantized",
        group: "compress",
        args: &[Arg::new("m", ArgKind::Model), Arg::new("d", ArgKind::Dataset)],
        returns: "report",
        fields: Self::FIELDS,
        examples: &[
            r#"let m = model("classifier", #{ classes: 3, image_size: 32 }); let d = dataset("shapes", #{ images: 8, size: 32, classes: 3, task: "classify" }); sensitivity(m, d, #{ images: 4, ratios: [0.25, 0.5] })"#,
            r#"let m = model("classifier", #{ classes: 3, image_size: 32 }); sensitivity(m, dataset("random", #{ images: 8 }), #{ of: "quantize", images: 2, quantize: #{ images: 4 } })"#,
        ],
        keywords: &["prune", "quantize", "int8", "layers", "ratios", "curves", "heat map", "analysis", "mixed precision", "sqnr", "guilty"],
    };
    type Inputs<'a> = (&'a Model, &'a Dataset);
    type Output = SensitivityReport;

    fn run(&self, (model, data): (&Model, &Dataset), ctx: &Context) -> Result<SensitivityReport> {
        let (others, of): (&[&str], _) = match self.of {
            Subject::Prune => (&["quantize"], "with of: \"prune\""),
            Subject::Quantize => (&["ratios", "importance", "tolerance"], "with of: \"quantize\""),
        };
        ctx.note_each(idle("sensitivity", self, others, of));
        match self.of {
            Subject::Prune => Removals {
                ratios: self.ratios.clone(),
                measure: self.measure,
                importance: self.importance,
                images: self.images,
                tolerance: self.tolerance,
                exclude: self.exclude.clone(),
                include: self.include.clone(),
            }
            .measure(model, data, ctx)
            .map(SensitivityReport::Prune),
            Subject::Quantize => Layers { quantize: self.quantization()?, images: self.images, scored: self.measure == Measure::Score }
                .measure(model, data, ctx)
                .map(SensitivityReport::Quantize),
        }
    }
}

impl Sensitivity {
    /// How the model is quantized.
    fn quantization(&self) -> Result<Quantize> {
        let mut options = self.quantize.clone();
        for (name, list) in [("exclude", &self.exclude), ("include", &self.include)] {
            if options.contains_key(name) {
                return Err(
                    Error::argument(format!("option 'quantize' names '{name}'")).hint(format!("'{name}' is an option of sensitivity"))
                );
            }
            options.insert(name.into(), list.clone().into());
        }
        decode(options.into()).map_err(|e| e.at("option 'quantize'"))
    }
}

impl SensitivityReport {
    /// The shares that each group of channels may lose, by its name, as `prune` takes them; none of quantization.
    pub fn ratios(&self) -> Map<String, Value> {
        match self {
            Self::Prune(report) => report.ratios.clone(),
            Self::Quantize(_) => Map::new(),
        }
    }
    fn shown(&self) -> &dyn Show {
        match self {
            Self::Prune(report) => report,
            Self::Quantize(report) => report,
        }
    }
}

impl Show for SensitivityReport {
    fn tables(&self) -> Vec<Table> {
        self.shown().tables()
    }
    fn plots(&self) -> Vec<Plot> {
        self.shown().plots()
    }
    fn notes(&self) -> Vec<String> {
        self.shown().notes()
    }
    fn data(&self) -> Value {
        self.shown().data()
    }
}
