//! `gptjc export`: a model, with its adapter merged into it, as an ONNX directory.

use super::byte_progress::ByteProgress;
use super::engine::{OnnxEngine, Source, onnx_runtime, open_onnx};
use super::model::{Model, check_tokenizer, note_left_out};
use super::questions::{ask, by_scores, read_rows};
use super::validate::rows_bar;
use crate::console::Console;
use crate::error::CliError;
use crate::flags::values::human_bytes;
use crate::flags::{CheckFlags, EngineFlags, ExportCommand, MadeDirectory};
use gptjc_graphs::onnx::gptj::{ExportOptions, GptjShape, LoraMerge, inference_model};
use gptjc_graphs::onnx::{Blockwise, Storage};
use gptjc_graphs::plan::{ModelConfig, Precision};
use gptjc_runtime::adapter::Adapter;
use gptjc_runtime::export::{
    CheckpointSource, ExportError, ExportReport, ExportRequest, export, sidecars_of_model, write_report,
};
use gptjc_runtime::validate::compare::{Comparison, compare};
use gptjc_runtime::validate::mnli::{Options, Row, check_lengths};
use std::path::Path;
use std::time::Instant;

/// Runs the command.
pub(crate) fn run(command: &ExportCommand, console: Console) -> Result<(), CliError> {
    let begun = Instant::now();
    let model = Model::open(&command.model, console)?;
    let adapter = command.adapter.as_deref().map(|path| adapter_of(&model, path, console)).transpose()?;
    check_tokenizer(&command.model, &command.made, console)?;
    let options = options(command)?;
    let check = Check::of(command, console)?;
    let mut report = write(&command.model, &model, adapter.as_ref(), options, &command.made)?;
    console.line(&summary(&report, begun.elapsed().as_secs_f64()));
    if let Some(check) = check {
        let comparison = check.run(&report.directory, console)?;
        console.line(&format!("\n{comparison}"));
        report.check = Some(comparison);
        write_report(&report)?;
    }
    Ok(())
}

/// Exports a model again, as `options` say, to compare another export with.
pub(crate) fn rebuild(
    model_dir: &Path,
    adapter: Option<&Path>,
    options: &ExportOptions,
    directory: &Path,
    console: Console,
) -> Result<(), CliError> {
    let model = Model::open(model_dir, console)?;
    let adapter = adapter.map(|path| adapter_of(&model, path, console)).transpose()?;
    let made = MadeDirectory { output: directory.to_owned(), overwrite_output_dir: false, tokenizer: None };
    write(model_dir, &model, adapter.as_ref(), options.clone(), &made)?;
    Ok(())
}

/// The adapter in `path`, of which it is said where it is not.
fn adapter_of(model: &Model, path: &Path, console: Console) -> Result<Adapter, CliError> {
    let (adapter, fit) = model.adapter(path)?;
    note_left_out(&fit, console);
    Ok(adapter)
}

/// Writes an export directory.
fn write(
    model_dir: &Path,
    model: &Model,
    adapter: Option<&Adapter>,
    options: ExportOptions,
    made: &MadeDirectory,
) -> Result<ExportReport, CliError> {
    let options = ExportOptions { lora: adapter.map(lora), ..options };
    let graph = inference_model(&shape(&model.config), &options)
        .map_err(|source| CliError::OnnxGraph(source.into()))?;
    let failed = |source: ExportError| CliError::Export(source.into());
    let sidecars = sidecars_of_model(model_dir, made.tokenizer.as_deref()).map_err(failed)?;
    let request = ExportRequest {
        model: &graph,
        sidecars: &sidecars,
        directory: &made.output,
        overwrite: made.overwrite_output_dir,
    };
    let source = CheckpointSource::new(&model.checkpoint, adapter);
    let bar = ByteProgress::new();
    export(&request, &source, &mut |progress| bar.show(progress)).map_err(failed)
}

/// How weights are stored.
fn options(command: &ExportCommand) -> Result<ExportOptions, CliError> {
    let flags = &command.quantisation;
    let Some(bits) = command.dtype.bits() else {
        if let Some(flag) = flags.first_typed() {
            return Err(CliError::Usage {
                what: format!("{flag} is about quantised matrices, and --dtype asks for none"),
                advice: "give --dtype int8 or --dtype int4 with it".to_owned(),
            });
        }
        return Ok(match command.dtype.storage(DEFAULT_BLOCK) {
            Storage::Plain(element) => ExportOptions::plain(element, None),
            Storage::Blocks(blockwise) => ExportOptions::quantised(blockwise, None),
        });
    };
    let size = flags.block_size.unwrap_or(DEFAULT_BLOCK);
    let mut options = ExportOptions::quantised(Blockwise { bits, size }, None);
    options.lm_head = flags.lm_head.map_or(options.lm_head, |dtype| dtype.storage(size));
    options.accuracy_level = flags.accuracy_level.unwrap_or(options.accuracy_level);
    Ok(options)
}

/// Values of a block if nobody asks for another number: of the sizes that four bits are used with, the smaller ones lose
/// less and take more space for scales (32: 5.1 bits a value in all).
const DEFAULT_BLOCK: usize = 32;

/// What is merged.
fn lora(adapter: &Adapter) -> LoraMerge {
    let modules = adapter.modules().into_iter().map(str::to_owned).collect();
    LoraMerge { scaling: adapter.config.scaling(), modules }
}

fn shape(config: &ModelConfig) -> GptjShape {
    GptjShape {
        n_layer: config.n_layer as usize,
        n_embd: config.n_embd as usize,
        n_head: config.n_head as usize,
        rotary_dim: config.rotary_dim as usize,
        n_inner: config.n_inner as usize,
        vocab_size: config.vocab_size as usize,
        n_positions: config.n_positions as usize,
        layer_norm_epsilon: config.layer_norm_epsilon,
    }
}

fn summary(report: &ExportReport, seconds: f64) -> String {
    let mut text = format!(
        "wrote {}: {} tensors, {} of them merged with the adapter, {} of weights and {} of graph, {seconds:.1} s",
        report.directory.display(),
        report.tensors(),
        report.merged(),
        human_bytes(report.data_bytes),
        human_bytes(report.model_bytes),
    );
    for storage in &report.storages {
        text.push_str(&format!("\n  {storage}"));
    }
    text
}

/// Rows to ask the export and the model about.
///
/// The reference is the compiled plan in f32, with the adapter apart: it shares no line with the graph that is exported, and
/// needs no second export on the disk.
struct Check<'a> {
    flags: &'a CheckFlags,
    path: &'a Path,
    rows: Vec<Row>,
    options: Options,
    longest: usize,
    reference: (EngineFlags, Source),
}

impl<'a> Check<'a> {
    /// Reads the rows, if there are any to read, and finds all that the check needs, before anything is written.
    fn of(command: &'a ExportCommand, console: Console) -> Result<Option<Self>, CliError> {
        let flags = &command.check;
        let Some(path) = &flags.check_file else { return Ok(None) };
        let engine = EngineFlags {
            onnx: None,
            model: Some(command.model.clone()),
            engine: None,
            // Names of the hub are directories by now.
            revision: None,
            adapter: command.adapter.clone(),
            precision: Some(Precision::F32),
            tokenizer: command.made.tokenizer.clone(),
            batch_size: BATCH,
            threads: flags.threads,
        };
        let source = Source::find(&engine, console)?;
        let tokenizer = source.tokenizer(&engine)?;
        let rows = read_rows(path, flags.max_check_samples, console)?;
        let template = flags.prompt_template.as_deref();
        let asked = ask(path, &rows, template, flags.label_style, &tokenizer)?;
        let options = by_scores(&asked, BATCH as usize, tokenizer.eos_id());
        let longest = check_lengths(&asked.rows, &options, source.positions())
            .map_err(|source| CliError::Validate { path: path.clone(), source: source.into() })?;
        onnx_runtime()?;
        Ok(Some(Check { flags, path, rows: asked.rows, options, longest, reference: (engine, source) }))
    }

    fn run(self, directory: &Path, console: Console) -> Result<Comparison, CliError> {
        let (engine, source) = self.reference;
        let mut tested = open_onnx(directory, OnnxEngine::Ort, self.flags.threads)?;
        let mut reference = source.open(&engine, self.longest, self.rows.len(), console)?;
        let bar = rows_bar(3 * self.rows.len());
        // Answers are scores: nothing is generated that would have to be read.
        let decode = |_: &[u32]| String::new();
        let compared =
            compare(tested.as_mut(), reference.as_mut(), &self.rows, &self.options, &decode, &mut |done| {
                bar.set_position(done as u64);
            });
        bar.finish_and_clear();
        let compared = compared
            .map_err(|source| CliError::Validate { path: self.path.to_owned(), source: source.into() })?;
        Ok(compared.comparison)
    }
}

/// Rows that run together in a check.
const BATCH: u64 = 8;
