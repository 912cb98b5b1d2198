//! ONNX files for other runtimes.

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
        /// Raise an older operator set to 13, the first with quantization per channel.
        pub raise_opset: bool = false,
    }
}

/// An ONNX file that was written.
#[derive(Debug, Clone, Serialize)]
pub struct OnnxFile {
    pub path: PathBuf,
    pub bytes: u64,
    pub opset: i64,
    pub nodes: usize,
    /// What the passes did, one line each.
    pub changes: Vec<String>,
}

/// Writes a model to an `.onnx` file, which appears whole or not at all. Its folder is made.
///
/// # Errors
/// `Argument` for another ending; `Io`; `Unsupported` when the operator set cannot be raised.
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
        let mut list: Vec<&dyn passes::Pass> = Vec::new();
        if self.simplify {
            list.extend(target::onnx::SPEC.pipeline.passes());
        }
        if self.raise_opset {
            list.push(&passes::RaiseOpset::PER_CHANNEL);
        }
        let simple = passes::run(model.graph(), &list, &[])?;
        ctx.check()?;
        let changes: Vec<String> = simple.changes().map(str::to_string).collect();
        let made = if changes.is_empty() {
            model.clone()
        } else {
            let file = path.to_string_lossy().into_owned();
            model.derive(simple.graph, self.call([model.into(), Argument::Target(file.clone())]).writing(file))
        };
        made.save(path)?;
        let size = std::fs::metadata(path).map_err(|e| Error::io(path, e))?.len();
        ctx.note(format!("onnx_export: {}, {}, {} nodes", path.display(), bytes(size), made.graph().nodes().len()));
        Ok(OnnxFile { path: path.to_path_buf(), bytes: size, opset: made.graph().opset(), nodes: made.graph().nodes().len(), changes })
    }
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
