//! `gptjc validate --compare`: a second engine on the same rows, and the first node where an export leaves its bound.

use super::engine::{OnnxEngine, Source, check_built_in, onnx_runtime, open_onnx, thread_count};
use super::export::rebuild;
use super::validate::rows_bar;
use crate::console::Console;
use crate::error::CliError;
use crate::flags::{EngineFlags, EngineName, ValidateCommand};
use gptjc_graphs::onnx::ElementType;
use gptjc_graphs::onnx::gptj::ExportOptions;
use gptjc_graphs::plan::Precision;
use gptjc_runtime::validate::Engine;
use gptjc_runtime::validate::compare::{Compared, Comparison, compare};
use gptjc_runtime::validate::mnli::{Options, Row};
use gptjc_runtime::validate::nodes::{NodeSearch, ProbedRow, find_first_node};
use gptjc_runtime::validate::onnx_directory::OnnxDirectory;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Rows, and how they are asked about.
pub(crate) struct Asked<'a> {
    pub(crate) rows: &'a [Row],
    pub(crate) options: &'a Options,
    /// Tokens of the longest row with its answer.
    pub(crate) longest: usize,
    pub(crate) decode: &'a dyn Fn(&[u32]) -> String,
}

/// What is tested: the export if there is one, else the model.
pub(crate) fn tested(command: &ValidateCommand) -> EngineFlags {
    let flags = command.engine.clone();
    match (command.compare, &flags.onnx) {
        (Some(_), Some(_)) => EngineFlags { model: None, adapter: None, precision: None, ..flags },
        _ => flags,
    }
}

/// Asks both engines.
pub(crate) fn run(
    command: &ValidateCommand,
    engine: EngineName,
    tested: Source,
    asked: &Asked<'_>,
    console: Console,
) -> Result<Compared, CliError> {
    if engine == EngineName::Native && command.engine.onnx.is_none() {
        return Err(CliError::Usage {
            what: "--model is compiled already, and --compare native asks for the same".to_owned(),
            advice: "give --compare ort, or an export to compare it with: --onnx DIR".to_owned(),
        });
    }
    check_built_in(engine)?;
    let reference = Reference::new(command, engine)?;
    let mut engines = [
        tested.open(&self::tested(command), asked.longest, asked.rows.len(), console)?,
        reference.open(asked, console)?,
    ];
    let bar = rows_bar(3 * asked.rows.len());
    let [tested, other] = &mut engines;
    let compared =
        compare(tested.as_mut(), other.as_mut(), asked.rows, asked.options, asked.decode, &mut |done| {
            bar.set_position(done as u64);
        });
    bar.finish_and_clear();
    let path = &command.validation_file;
    let mut compared =
        compared.map_err(|source| CliError::Validate { path: path.clone(), source: source.into() })?;
    if let Some(onnx) = command.engine.onnx.as_ref().filter(|_| command.compare_nodes) {
        // Two models at a time are enough.
        drop(engines);
        compared.comparison.nodes =
            Some(reference.search(onnx, &compared.comparison, asked.rows, console)?);
    }
    Ok(compared)
}

/// The model that an engine is compared with.
struct Reference<'a> {
    command: &'a ValidateCommand,
    engine: EngineName,
    model: &'a Path,
    /// Where graphs are made again.
    scratch: TempDir,
}

impl<'a> Reference<'a> {
    fn new(command: &'a ValidateCommand, engine: EngineName) -> Result<Self, CliError> {
        let Some(model) = command.engine.model.as_deref() else { return Err(CliError::NoModel) };
        let scratch = tempfile::Builder::new().prefix("gptjc-compare-").tempdir();
        let scratch = scratch.map_err(|source| CliError::Read { path: std::env::temp_dir(), source })?;
        Ok(Self { command, engine, model, scratch })
    }

    fn open(&self, asked: &Asked<'_>, console: Console) -> Result<Box<dyn Engine>, CliError> {
        let flags = &self.command.engine;
        match self.engine {
            EngineName::Ort => open_onnx(&self.f32_export(console)?, OnnxEngine::Ort, flags.threads),
            EngineName::Tract => open_onnx(&self.f32_export(console)?, OnnxEngine::Tract, flags.threads),
            EngineName::Native => {
                let precision = Some(flags.precision.unwrap_or(Precision::F32));
                let flags = EngineFlags { onnx: None, engine: None, precision, ..flags.clone() };
                Source::find(&flags, console)?.open(&flags, asked.longest, asked.rows.len(), console)
            }
        }
    }

    /// The model as a plain export, made once.
    fn f32_export(&self, console: Console) -> Result<PathBuf, CliError> {
        let directory = self.scratch.path().join("f32");
        if !directory.exists() {
            self.rebuild(&ExportOptions::plain(ElementType::F32, None), &directory, console)?;
        }
        Ok(directory)
    }

    fn rebuild(&self, options: &ExportOptions, directory: &Path, console: Console) -> Result<(), CliError> {
        rebuild(self.model, self.command.engine.adapter.as_deref(), options, directory, console)
    }

    /// The first node of the export in `onnx` that is off, on the row whose logits differ most.
    fn search(
        &self,
        onnx: &Path,
        comparison: &Comparison,
        rows: &[Row],
        console: Console,
    ) -> Result<NodeSearch, CliError> {
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| CliError::Weights {
            path: onnx.to_owned(),
            source,
        };
        let found = OnnxDirectory::open(onnx).map_err(|source| failed(source.into()))?;
        let options = ExportOptions::of_metadata(&found.metadata).map_err(|source| failed(source.into()))?;
        let plain = ExportOptions::plain(ElementType::F32, None);
        let directory = match options {
            Some(options) if options.matrices != plain.matrices || options.lm_head != plain.lm_head => {
                let directory = self.scratch.path().join("widened");
                self.rebuild(&ExportOptions { widened: true, ..options }, &directory, console)?;
                directory
            }
            Some(_) => self.f32_export(console)?,
            None => {
                console.warn(&format!(
                    "`{}` was not exported by this program: only values of the same names are compared",
                    onnx.display()
                ));
                self.f32_export(console)?
            }
        };
        // The comparison was over these rows, of which there is at least one.
        let worst = &rows[comparison.logits.worst_index];
        let row = ProbedRow { row: worst.row, tokens: &worst.prompt };
        let threads = thread_count(self.command.engine.threads);
        find_first_node(onnx, &directory, &onnx_runtime()?, threads, row)
            .map_err(|source| failed(source.into()))
    }
}
