//! `gptjc merge`: a model with its adapter merged into it, and what that changed.

use super::byte_progress::ByteProgress;
use super::compile;
use super::model::{Model, check_tokenizer, note_left_out};
use crate::console::Console;
use crate::error::CliError;
use crate::flags::MergeCommand;
use crate::settings;
use gptjc_graphs::plan::{ModelConfig, Plan, Precision};
use gptjc_runtime::adapter::Adapter;
use gptjc_runtime::data::mnli::{self, Purpose};
use gptjc_runtime::data::prompt::TemplateError;
use gptjc_runtime::data::tokenizer::GptJTokenizer;
use gptjc_runtime::machine;
use gptjc_runtime::merge::compare::{Answers, Continuations, answer, compare};
use gptjc_runtime::merge::rows::{encode_rows, longest};
use gptjc_runtime::merge::{MergeReport, MergeRequest, check, merge};
use gptjc_runtime::train::Start;
use gptjc_runtime::validate::Engine;
use gptjc_runtime::validate::mnli::Row;
use gptjc_runtime::validate::native_engine::NativeEngine;
use gptjc_runtime::weights::{Checkpoint, WeightDtype};
use std::path::Path;
use std::sync::Arc;

/// Rows that are scored side by side, and new tokens of a run.
const BATCH: u64 = 8;
const SLOTS: u64 = 256;

/// Runs the command.
pub(crate) fn run(command: &MergeCommand, console: Console) -> Result<(), CliError> {
    let model = Model::open(&command.model, console)?;
    let (adapter, fit) = model.adapter(&command.adapter)?;
    check_tokenizer(&command.model, &command.made, console)?;
    note_left_out(&fit, console);
    let request = MergeRequest {
        checkpoint: &model.checkpoint,
        tensors: &model.tensors,
        adapter: &adapter,
        adapter_dir: &command.adapter,
        dtype: command.dtype.map(|dtype| dtype.weight()),
        tokenizer_dir: command.made.tokenizer.as_deref(),
        directory: &command.made.output,
        overwrite: command.made.overwrite_output_dir,
        max_shard_bytes: command.max_shard_size,
    };
    check(&request).map_err(|source| CliError::Merge(source.into()))?;
    // What cannot be compared is known before anything is written, and one model at a time is in memory.
    let examination = Examination::of(command, model.config, &adapter, &model.checkpoint)?;
    let apart = match &examination {
        Some(examination) => Some(examination.apart(&command.model, &command.adapter, &adapter)?.1),
        None => None,
    };
    let bar = ByteProgress::new();
    let mut report = merge(&request, &mut |progress| bar.show(progress))
        .map_err(|source| CliError::Merge(source.into()))?;
    drop(bar);
    if let (Some(examination), Some(apart)) = (examination, apart) {
        let (engine, merged) = examination.merged(&command.made.output)?;
        report.comparison = Some(compare(engine, &apart, &merged));
    }
    print(&report, command.json, console);
    Ok(())
}

fn print(report: &MergeReport, as_json: bool, console: Console) {
    if as_json {
        // Strings and numbers: there is nothing that cannot be written.
        console.line(&serde_json::to_string_pretty(report).unwrap_or_default());
    } else {
        console.line(&report.to_string());
    }
}

/// Rows to score, and the plan to score them with.
///
/// The merged model runs on the plan of the model with its adapter, and a new adapter: its B are zero, so that it adds
/// nothing, exactly.
struct Examination {
    rows: Vec<Row>,
    continuations: Continuations,
    plan: Plan,
    threads: usize,
}

impl Examination {
    /// Reads the rows, if there are any to read, and compiles the plan.
    fn of(
        command: &MergeCommand,
        config: ModelConfig,
        adapter: &Adapter,
        checkpoint: &Checkpoint,
    ) -> Result<Option<Self>, CliError> {
        let flags = &command.comparison;
        let Some(path) = &flags.validation_file else { return Ok(None) };
        let read = mnli::read_file(path, Purpose::Validation);
        let mut rows =
            read.map_err(|source| CliError::Rows { path: path.clone(), source: source.into() })?.rows;
        rows.truncate(flags.max_eval_samples.map_or(usize::MAX, |rows| rows as usize));
        let directory = command.made.tokenizer.as_deref().unwrap_or(&command.model);
        let tokenizer =
            GptJTokenizer::from_dir(directory).map_err(|source| CliError::Tokenizer(source.into()))?;
        let template = match &flags.prompt_template {
            Some(template) => {
                template.parse().map_err(|source: TemplateError| CliError::Template(source.into()))?
            }
            None => Default::default(),
        };
        let encoded = encode_rows(&rows, &template, flags.label_style, &tokenizer);
        let (rows, continuations) =
            encoded.map_err(|source| CliError::Examples { path: path.clone(), source: source.into() })?;

        let mut options = settings::defaults(config, machine::host(), Some(adapter));
        let stored = command.dtype.map(|dtype| dtype.weight());
        let stored = stored.or_else(|| Some(checkpoint.tensor("lm_head.weight")?.dtype));
        let precision = if stored == Some(WeightDtype::Bf16) { Precision::Bf16 } else { Precision::F32 };
        options.precision = precision.into();
        options.max_seq_length = (longest(&rows, &continuations) as u64).min(config.n_positions);
        (options.decode_sequences, options.decode_slots) = (BATCH, SLOTS);
        let plan = compile::plan(&options)?;
        let threads = flags.threads.unwrap_or(options.target.cores.max(1) as usize);
        Ok(Some(Self { rows, continuations, plan, threads }))
    }

    /// What the model says with its adapter apart.
    fn apart(&self, model: &Path, path: &Path, adapter: &Adapter) -> Result<(String, Answers), CliError> {
        self.ask(model, Start::Adapter(adapter.clone(), path.display().to_string()))
    }

    /// What the merged model says.
    fn merged(&self, directory: &Path) -> Result<(String, Answers), CliError> {
        self.ask(directory, Start::Fresh)
    }

    fn ask(&self, directory: &Path, start: Start) -> Result<(String, Answers), CliError> {
        let checkpoint = Checkpoint::open(directory)
            .map_err(|source| CliError::Weights { path: directory.to_owned(), source: source.into() })?;
        let engine = NativeEngine::new(self.plan.clone(), Arc::new(checkpoint), start, self.threads);
        let mut engine = engine.map_err(|source| CliError::Run(source.into()))?;
        let answers = answer(&mut engine, &self.rows, &self.continuations, BATCH as usize, &mut |_| {});
        Ok((engine.name(), answers.map_err(|source| CliError::Answer(source.into()))?))
    }
}
