//! ONNX files for other runtimes.

use super::embed::{EmbedNms, EmbedPreprocessing, ImageLayout};
use compresso_base::context::Context;
use compresso_base::error::{Error, Result};
use compresso_base::operation::{Arg, ArgKind, Argument, Operation, Options, Signature};
use compresso_base::report::{Cell, Show, Table, bytes};
use compresso_model::{Model, passes};
use compresso_target as target;
use serde::Serialize;
use std::path::{Path, PathBuf};

compresso_base::options! {
    /// Options of `onnx_export`.
    pub struct OnnxExport {
        /// Fold batch norms and constants and drop what inference does not need. The file then trains no further.
        pub simplify: bool = true,
        /// The operator set of the file, 11 to 21, where every operator's meaning can be kept; the model's own when left out.
        pub opset: Option<i64> = None,
        /// Suppress overlapping boxes inside the graph, as `embed_nms` does.
        pub nms: bool = false,
        /// Take the bytes of an image, as `embed_preprocessing` does: "nhwc" or "nchw".
        pub preprocessing: Option<ImageLayout> = None,
        /// Tensors of 1 KiB and more stand in a second file, named like the first with .data added, which must stay beside it. Models of more
        /// than 2 GB are written so in any case.
        pub external_data: bool = false,
    }
}

/// An ONNX file that was written.
#[derive(Debug, Clone, Serialize)]
pub struct OnnxFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its size, with that of the file of its tensors, if they have one.
    pub bytes: u64,
    /// Version of the ONNX operator set.
    pub opset: i64,
    /// Nodes of the graph.
    pub nodes: usize,
    /// What the passes did, one line each.
    pub changes: Vec<String>,
}

/// Writes a model to an `.onnx` file, which appears whole or not at all. Its folder is made.
///
/// # Errors
/// `Argument` for another ending; `Io`; `Unsupported` when the operator set cannot say what the model does; those of `embed_nms` and
/// `embed_preprocessing`.
impl Operation for OnnxExport {
    const SIGNATURE: Signature = Signature {
        name: "onnx_export",
        summary: "Writes a model as an ONNX file for inference, batch norms folded; save(m, path) keeps the model as it is",
        group: "deploy",
        args: &[Arg::new("m", ArgKind::Model), Arg::new("path", ArgKind::Text)],
        returns: "report",
        fields: Self::FIELDS,
        examples: &[r#"onnx_export(model("classifier", #{ image_size: 32 }), "classifier.onnx").bytes"#],
        keywords: &["save", "export", "onnxruntime", "file", "deploy"],
    };
    type Inputs<'a> = (&'a Model, &'a Path);
    type Output = OnnxFile;

    fn run(&self, (model, path): (&Model, &Path), ctx: &Context) -> Result<OnnxFile> {
        if path.extension().is_none_or(|e| !e.eq_ignore_ascii_case("onnx")) {
            return Err(Error::argument("the file name must end in .onnx").file(path));
        }
        compresso_base::files::make_parent(path)?;
        let mut embedded = model.clone();
        if self.nms {
            embedded = EmbedNms::default().run(&embedded, ctx)?;
        }
        if let Some(layout) = self.preprocessing {
            embedded = EmbedPreprocessing { layout }.run(&embedded, ctx)?;
        }
        let convert = self.opset.map(|to| convert(embedded.graph().opset(), to)).transpose()?;
        let mut list: Vec<&dyn passes::Pass> = Vec::new();
        if self.simplify {
            list.extend(target::onnx::SPEC.pipeline.passes());
        }
        list.extend(convert.iter().map(AsRef::as_ref));
        let simple = passes::run(embedded.graph(), &list, &[])?;
        ctx.check()?;
        let changes: Vec<String> = simple.changes().map(str::to_string).collect();
        let made = if changes.is_empty() && !self.nms && self.preprocessing.is_none() {
            embedded
        } else {
            let file = path.to_string_lossy().into_owned();
            embedded.derive(simple.graph, self.call([model.into(), Argument::Target(file.clone())]).writing(file))
        };
        if self.external_data {
            made.save_external(path)?;
        } else {
            made.save(path)?;
        }
        let mut size = std::fs::metadata(path).map_err(|e| Error::io(path, e))?.len();
        // Where no tensor is large there is no second file.
        let data = compresso_model::onnx::data_path(path);
        if self.external_data && data.is_file() {
            size += std::fs::metadata(&data).map_err(|e| Error::io(&data, e))?.len();
        }
        ctx.note(format!("onnx_export: {}, {}, {} nodes", path.display(), bytes(size), made.graph().nodes().len()));
        Ok(OnnxFile { path: path.to_path_buf(), bytes: size, opset: made.graph().opset(), nodes: made.graph().nodes().len(), changes })
    }
}

/// The pass that leads from an operator set to another.
fn convert(from: i64, to: i64) -> Result<Box<dyn passes::Pass>> {
    if !(11..=21).contains(&to) {
        return Err(Error::argument(format!("option 'opset' must be 11 to 21, got {to}")));
    }
    Ok(if to < from { Box::new(passes::LowerOpset::to(to)?) } else { Box::new(passes::RaiseOpset::to(to)?) })
}

impl OnnxExport {
    /// As [`OnnxExport::run`], to any kind of path.
    ///
    /// # Errors
    /// As there.
    pub fn apply(&self, model: &Model, path: impl AsRef<Path>, ctx: &Context) -> Result<OnnxFile> {
        self.run((model, path.as_ref()), ctx)
    }
}

impl Show for OnnxFile {
    fn tables(&self) -> Vec<Table> {
        let mut t = Table::new("ONNX file", &["file", ">size", ">operator set", ">nodes"]);
        t.row([
            Cell::from(self.path.display().to_string()),
            Cell::bytes(self.bytes),
            self.opset.to_string().into(),
            self.nodes.to_string().into(),
        ]);
        vec![t]
    }
    fn data(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}
