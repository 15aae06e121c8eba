//! `gptjc data`: reads, tokenizes and packs as a run would, and shows what became of the data.

use super::page;
use super::sources::{TrainSource, find_all};
use super::{Phases, Prepared, ReadFile, TextPath, WindowShape};
use crate::console::Console;
use crate::error::CliError;
use crate::flags::compile::SEQUENCE;
use crate::flags::{DataCommand, ModelFlags, WindowFlags};
use crate::settings;
use gptjc_graphs::plan::{ModelConfig, Packing};
use gptjc_runtime::data::examples::Example;
use gptjc_runtime::data::mnli::Label;
use gptjc_runtime::data::packing::PackingReport;
use gptjc_runtime::data::rows::Skipped;
use gptjc_runtime::data::survey::{Lengths, Run, WindowUse, label_counts, runs_of_example, runs_of_window};
use gptjc_runtime::data::table::Container;
use gptjc_runtime::data::tokenizer::GptJTokenizer;
use gptjc_runtime::data::window::{Window, WindowLimits};
use gptjc_runtime::topology::Topology;
use serde::Serialize;
use std::path::Path;

/// What became of the data to train on, or to evaluate on.
#[derive(Debug, Serialize)]
pub(super) struct Section {
    pub(super) files: Vec<File>,
    /// Rows with each label.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) labels: Option<Vec<LabelCount>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) lengths: Option<Lengths>,
    pub(super) packing: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) lost: Option<Lost>,
    pub(super) windows: WindowUse,
    pub(super) labelled_share: f64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) examples: Vec<Shown>,
    /// The segments of the first window.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) first_window: Vec<Vec<Part>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) seconds: Option<Seconds>,
}

/// A file that was read.
#[derive(Debug, Serialize)]
pub(super) struct File {
    pub(super) path: String,
    pub(super) format: &'static str,
    pub(super) container: &'static str,
    pub(super) rows: usize,
    pub(super) skipped: Skipped,
}

/// How many rows have a label.
#[derive(Debug, Serialize)]
pub(super) struct LabelCount {
    pub(super) label: &'static str,
    pub(super) rows: u64,
}

/// What is in no window.
#[derive(Debug, Serialize)]
pub(super) struct Lost {
    pub(super) truncated_examples: usize,
    pub(super) truncated_tokens: usize,
    pub(super) answers_lost: usize,
    pub(super) remainder_tokens: usize,
    pub(super) windows_cut: usize,
}

/// An example as text.
#[derive(Debug, Serialize)]
pub(super) struct Shown {
    pub(super) file: String,
    /// Line of the file, or row if it has no lines.
    pub(super) line: u64,
    #[serde(skip)]
    pub(super) line_noun: &'static str,
    pub(super) tokens: usize,
    pub(super) learned: usize,
    pub(super) parts: Vec<Part>,
}

/// A part of a text.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Part {
    pub(super) text: String,
    /// True if its tokens are in the loss.
    pub(super) learned: bool,
    /// True if its last token is the end of text.
    #[serde(skip)]
    pub(super) ends_text: bool,
}

/// What the phases took.
#[derive(Debug, Serialize)]
pub(super) struct Seconds {
    pub(super) read: f64,
    pub(super) load_tokenizer: f64,
    pub(super) tokenize: f64,
    pub(super) pack: f64,
    pub(super) total: f64,
}

/// What was found.
#[derive(Debug, Serialize)]
pub(super) struct Survey {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) training: Option<Section>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) evaluation: Option<Section>,
}

/// Runs the command.
pub(crate) fn run(command: &DataCommand, console: Console) -> Result<(), CliError> {
    let (train, validation) = find_all(&command.data, console)?;
    let flags = ModelFlags { model: command.model.clone(), ..ModelFlags::default() };
    let model_dir = command.model.is_some().then(|| settings::model_dir(&flags)).transpose()?;
    let has_config = model_dir.is_some_and(|directory| directory.join("config.json").is_file());
    let model = has_config.then(|| settings::model_config(&flags)).transpose()?;
    let threads = command.threads.unwrap_or_else(|| Topology::host().threads());
    let tokenizer_dir = model_dir.or(command.data.tokenizer_name.as_deref()).unwrap_or(Path::new("."));
    let shape = shape(command, model.as_ref())?;
    let mut text = TextPath::new(&command.data, tokenizer_dir, shape, threads, console);
    if !has_config {
        text.shape.limits.vocab_size = text.tokenizer()?.vocab_size();
    }
    let training = train.map(|source| training(&text, &source, command.examples)).transpose()?;
    let evaluation = validation.map(|files| {
        let prepared = text.prepare(&files, text.validation_request(Some(command.examples)))?;
        section(&text, Packing::Pad, prepared)
    });
    let survey = Survey { training, evaluation: evaluation.transpose()? };
    if command.json {
        return console.json(&survey);
    }
    console.line(&page::page(&survey));
    Ok(())
}

/// What windows must fit; without a config, only their length is known.
fn shape(command: &DataCommand, model: Option<&ModelConfig>) -> Result<WindowShape, CliError> {
    let (packing, dataset_concatenation) = (command.packing, command.dataset_concatenation);
    let windows = WindowFlags { packing, dataset_concatenation, ..WindowFlags::default() };
    let packing = settings::packing(&windows)?.unwrap_or(Packing::Concat);
    let n_positions = model.map_or(u64::MAX, |model| model.n_positions);
    let limits = WindowLimits {
        window_length: command.max_seq_length.unwrap_or(SEQUENCE.min(n_positions)) as usize,
        n_positions: n_positions as usize,
        vocab_size: model.map_or(usize::MAX, |model| model.vocab_size as usize),
    };
    Ok(WindowShape { limits, packing })
}

fn training(text: &TextPath<'_>, source: &TrainSource, shown: usize) -> Result<Section, CliError> {
    let files = match source {
        TrainSource::Tokens(path, batches) => {
            let windows = text.token_windows(path, batches)?;
            return tokens_section(text, path, &windows, shown);
        }
        TrainSource::Rows(files) => files,
    };
    let prepared = text.prepare(files, text.training_request(Some(shown)))?;
    section(text, text.shape.packing, prepared)
}

/// What became of batches that were tokenised elsewhere: all there is to say is about windows.
fn tokens_section(
    text: &TextPath<'_>,
    path: &Path,
    windows: &[Window],
    shown: usize,
) -> Result<Section, CliError> {
    let used = WindowUse::of(windows, text.shape.limits.window_length);
    Ok(Section {
        files: vec![File {
            path: path.display().to_string(),
            format: "pre-tokenised batches",
            container: "safetensors",
            rows: windows.len(),
            skipped: Skipped::NOTHING,
        }],
        labels: None,
        lengths: None,
        packing: "none",
        lost: None,
        labelled_share: used.labelled_share(),
        windows: used,
        examples: Vec::new(),
        first_window: first_window(text, windows, shown)?,
        seconds: None,
    })
}

fn section(text: &TextPath<'_>, packing: Packing, prepared: Prepared) -> Result<Section, CliError> {
    let used = WindowUse::of(&prepared.packed.windows, text.shape.limits.window_length);
    let files = prepared.files.iter().map(|file| File {
        path: file.path.display().to_string(),
        format: file.format.name(),
        container: file.container.unwrap_or("text"),
        rows: file.rows,
        skipped: file.skipped,
    });
    Ok(Section {
        files: files.collect(),
        labels: labels(&prepared),
        packing: packing.word(),
        lost: Some(prepared.packed.report.into()),
        labelled_share: used.labelled_share(),
        windows: used,
        examples: shown(text, &prepared)?,
        first_window: first_window(text, &prepared.packed.windows, prepared.shown.len())?,
        seconds: Some(prepared.took.into()),
        lengths: prepared.lengths,
    })
}

/// How many rows have each label.
fn labels(prepared: &Prepared) -> Option<Vec<LabelCount>> {
    let counts: Vec<[u64; 3]> = prepared.rows.iter().filter_map(label_counts).collect();
    let sum = |label: Label| LabelCount {
        label: label.word(),
        rows: counts.iter().map(|counts| counts[usize::from(label.id())]).sum(),
    };
    (!counts.is_empty()).then(|| Label::ALL.map(sum).into())
}

/// The first examples as text.
fn shown(text: &TextPath<'_>, prepared: &Prepared) -> Result<Vec<Shown>, CliError> {
    let rows = prepared.files.iter().zip(&prepared.rows);
    let places = rows.flat_map(|(file, rows)| (0..rows.len()).map(move |index| (file, rows.line(index))));
    let show = |(example, (file, line)): (&Example, (&ReadFile, Option<u64>))| {
        let runs = runs_of_example(example);
        let learned = runs.iter().filter(|run| run.learned).map(|run| run.ids.len()).sum();
        Ok(Shown {
            file: file.path.display().to_string(),
            line: line.unwrap_or_default(),
            line_noun: if file.container == Some(Container::Parquet.name()) { "row" } else { "line" },
            tokens: example.ids.len(),
            learned,
            parts: parts(text.tokenizer()?, &runs)?,
        })
    };
    prepared.shown.iter().zip(places).map(show).collect()
}

/// The segments of the first window as text, if anything is to be shown.
fn first_window(text: &TextPath<'_>, windows: &[Window], shown: usize) -> Result<Vec<Vec<Part>>, CliError> {
    let Some(window) = windows.first().filter(|_| shown > 0) else { return Ok(Vec::new()) };
    let tokenizer = text.tokenizer()?;
    runs_of_window(window).iter().map(|runs| parts(tokenizer, runs)).collect()
}

/// Runs of tokens as text, cut after each end of text. A letter of several tokens that is cut in two shows as the sign for
/// what is no letter.
fn parts(tokenizer: &GptJTokenizer, runs: &[Run]) -> Result<Vec<Part>, CliError> {
    let is_end = |id: &u32| *id == tokenizer.eos_id();
    let mut parts = Vec::with_capacity(runs.len());
    for run in runs {
        for ids in run.ids.split_inclusive(is_end) {
            let text = tokenizer.decode(ids, false);
            let text = text.map_err(|source| CliError::Tokenizer(source.into()))?;
            parts.push(Part { text, learned: run.learned, ends_text: ids.last().is_some_and(is_end) });
        }
    }
    Ok(parts)
}

impl From<PackingReport> for Lost {
    fn from(report: PackingReport) -> Self {
        Self {
            truncated_examples: report.truncated_examples,
            truncated_tokens: report.truncated_tokens,
            answers_lost: report.answers_lost,
            remainder_tokens: report.remainder_tokens,
            windows_cut: report.windows_cut,
        }
    }
}

impl From<Phases> for Seconds {
    fn from(took: Phases) -> Self {
        let seconds = [took.read, took.tokenizer, took.tokenize, took.pack].map(|phase| phase.as_secs_f64());
        let [read, load_tokenizer, tokenize, pack] = seconds;
        Self { read, load_tokenizer, tokenize, pack, total: seconds.iter().sum() }
    }
}
