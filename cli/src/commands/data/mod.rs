//! The windows of a run, from pre-tokenised batches or from rows of text; and the dry run that shows them.

mod page;
mod sources;
pub(crate) mod survey;

pub(crate) use sources::{TrainSource, find};

use crate::console::Console;
use crate::error::CliError;
use crate::flags::DataFlags;
use gptjc_graphs::plan::{CompileOptions, Packing};
use gptjc_runtime::data::examples::{Example, ExampleOptions, tokenize};
use gptjc_runtime::data::format::Format;
use gptjc_runtime::data::mnli::MnliRow;
use gptjc_runtime::data::packing::{Packed, PackingError, PackingOptions, PackingReport, cut_long, pack};
use gptjc_runtime::data::pretokenized::TokenBatches;
use gptjc_runtime::data::prompt::PromptTemplate;
use gptjc_runtime::data::rows::{self, Rows, RowsOfFile, Skipped};
use gptjc_runtime::data::survey::Lengths;
use gptjc_runtime::data::tokenizer::GptJTokenizer;
use gptjc_runtime::data::window::{Window, WindowLimits, labels_predicted_by_padding};
use std::cell::OnceCell;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What text is made into.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WindowShape {
    /// What windows must fit.
    pub(crate) limits: WindowLimits,
    /// How examples share the windows to train on.
    pub(crate) packing: Packing,
}

impl WindowShape {
    /// What a plan with `options` takes.
    pub(crate) fn of(options: &CompileOptions) -> Self {
        let limits = WindowLimits {
            window_length: options.max_seq_length as usize,
            n_positions: options.model.n_positions as usize,
            vocab_size: options.model.vocab_size as usize,
        };
        Self { limits, packing: options.packing() }
    }
}

/// What is evaluated on.
pub(crate) struct Validation {
    /// For the loss: a window for each row, whatever the packing of training, and several for a long document.
    pub(crate) windows: Vec<Window>,
    /// For accuracy: the rows of MNLI, each with a label; none of other formats.
    pub(crate) rows: Vec<MnliRow>,
}

/// Where text becomes windows.
pub(crate) struct TextPath<'a> {
    flags: &'a DataFlags,
    tokenizer_dir: &'a Path,
    shape: WindowShape,
    threads: NonZeroUsize,
    console: Console,
    tokenizer: OnceCell<GptJTokenizer>,
}

/// A file that was read.
struct ReadFile {
    path: PathBuf,
    format: Format,
    container: Option<&'static str>,
    rows: usize,
    skipped: Skipped,
}

/// How rows are made into windows.
#[derive(Clone, Copy)]
struct Request {
    packing: Packing,
    max_rows: Option<usize>,
    max_windows: Option<usize>,
    /// In a dry run, how many of the first examples are kept; then there may be no window.
    shown: Option<usize>,
}

/// Windows, and what became of the rows on the way.
struct Prepared {
    files: Vec<ReadFile>,
    /// The rows of each file.
    rows: Vec<Rows>,
    /// Of the examples, before long ones are cut.
    lengths: Option<Lengths>,
    /// The first examples, before long ones are cut.
    shown: Vec<Example>,
    packed: Packed,
    took: Phases,
}

/// How long the phases took.
#[derive(Clone, Copy, Debug, Default)]
struct Phases {
    read: Duration,
    tokenizer: Duration,
    tokenize: Duration,
    pack: Duration,
}

impl<'a> TextPath<'a> {
    /// Makes windows of `shape`; the tokenizer is in `model_dir`, unless a flag names another directory.
    pub(crate) fn new(
        flags: &'a DataFlags,
        model_dir: &'a Path,
        shape: WindowShape,
        threads: usize,
        console: Console,
    ) -> Self {
        let tokenizer_dir = flags.tokenizer_name.as_deref().unwrap_or(model_dir);
        let threads = NonZeroUsize::new(threads).unwrap_or(NonZeroUsize::MIN);
        Self { flags, tokenizer_dir, shape, threads, console, tokenizer: OnceCell::new() }
    }

    /// The tokenizer, loaded when it is first needed.
    pub(crate) fn tokenizer(&self) -> Result<&GptJTokenizer, CliError> {
        if let Some(tokenizer) = self.tokenizer.get() {
            return Ok(tokenizer);
        }
        let loaded = GptJTokenizer::from_dir(self.tokenizer_dir);
        let loaded = loaded.map_err(|source| CliError::Tokenizer(source.into()))?;
        Ok(self.tokenizer.get_or_init(|| loaded))
    }

    /// How rows become examples.
    pub(crate) fn example_options(&self) -> Result<ExampleOptions, CliError> {
        let template = match &self.flags.prompt_template {
            Some(template) => {
                template.parse::<PromptTemplate>().map_err(|source| CliError::Template(source.into()))?
            }
            None => PromptTemplate::default(),
        };
        let (label_style, train_on_inputs) =
            (self.flags.label_style.unwrap_or_default(), self.flags.train_on_inputs);
        Ok(ExampleOptions { template, label_style, train_on_inputs })
    }

    /// The windows to train on.
    pub(crate) fn training(&self, source: &TrainSource) -> Result<Vec<Window>, CliError> {
        match source {
            TrainSource::Tokens(path, batches) => self.token_windows(path, batches),
            TrainSource::Rows(files) => {
                let prepared = self.prepare(files, self.training_request(None))?;
                self.tell(&prepared);
                Ok(prepared.packed.windows)
            }
        }
    }

    /// What to evaluate on: rows without a label are left out, then the first `--max-eval-samples` kept.
    pub(crate) fn validation(&self, files: &[PathBuf]) -> Result<Validation, CliError> {
        let prepared = self.prepare(files, self.validation_request(None))?;
        self.tell(&prepared);
        let rows = prepared.rows.into_iter().filter_map(|rows| match rows {
            Rows::Mnli(rows) => Some(rows),
            Rows::Completions(_) | Rows::Documents(_) => None,
        });
        Ok(Validation { windows: prepared.packed.windows, rows: rows.flatten().collect() })
    }

    fn max_windows(&self) -> Option<usize> {
        self.flags.max_train_samples.map(|windows| windows as usize)
    }

    fn training_request(&self, shown: Option<usize>) -> Request {
        Request { packing: self.shape.packing, max_rows: None, max_windows: self.max_windows(), shown }
    }

    fn validation_request(&self, shown: Option<usize>) -> Request {
        let max_rows = self.flags.max_eval_samples.map(|rows| rows as usize);
        Request { packing: Packing::Pad, max_rows, max_windows: None, shown }
    }

    fn token_windows(&self, path: &Path, batches: &TokenBatches) -> Result<Vec<Window>, CliError> {
        let limits = self.shape.limits;
        batches.check(limits.vocab_size).map_err(|source| CliError::Tokens(source.into()))?;
        let (mut windows, mut unused) = (Vec::new(), 0);
        for step in 0..batches.steps() {
            for (row, columns) in batches.rows(step).enumerate() {
                let ids: Vec<i64> = columns.tokens.iter().map(|&id| i64::from(id)).collect();
                let mask: Vec<i64> = columns.mask.iter().map(|&used| i64::from(used)).collect();
                let labels: Vec<i64> = columns.labels.iter().map(|&label| i64::from(label)).collect();
                unused += labels_predicted_by_padding(&mask, &labels);
                let window = Window::from_padded_row(&ids, &mask, &labels, &limits).map_err(|source| {
                    let source = source.into();
                    CliError::TokenRow { path: path.to_owned(), step, row, source }
                })?;
                windows.push(window);
            }
        }
        if unused > 0 {
            self.console.warn(&format!(
                "{unused} labels follow padding, so nothing predicts them: they are left out"
            ));
        }
        windows.truncate(self.max_windows().unwrap_or(windows.len()));
        Ok(windows)
    }

    /// Reads `files` and makes windows of them.
    fn prepare(&self, files: &[PathBuf], request: Request) -> Result<Prepared, CliError> {
        let mut took = Phases::default();
        let (files, rows) = timed(&mut took.read, || self.read(files, request.max_rows))?;
        let tokenizer = timed(&mut took.tokenizer, || self.tokenizer())?;
        let options = self.example_options()?;
        let mut examples = Vec::new();
        for (file, rows) in files.iter().zip(&rows) {
            let tokenized = timed(&mut took.tokenize, || tokenize(rows, &options, tokenizer, self.threads));
            let failed = |source| CliError::Examples { path: file.path.clone(), source };
            examples.extend(tokenized.map_err(|source| failed(source.into()))?);
        }
        let lengths = Lengths::of(&examples);
        let shown = examples[..request.shown.unwrap_or(0).min(examples.len())].to_vec();
        let packed = timed(&mut took.pack, || self.pack(&files, examples, request))?;
        Ok(Prepared { files, rows, lengths, shown, packed, took })
    }

    fn pack(
        &self,
        files: &[ReadFile],
        mut examples: Vec<Example>,
        request: Request,
    ) -> Result<Packed, CliError> {
        let limits = self.shape.limits;
        if files.iter().any(|file| file.format == Format::Text) {
            examples = cut_long(examples, limits.window_length);
        }
        let options = PackingOptions { packing: request.packing, limits, max_windows: request.max_windows };
        match pack(&examples, &options) {
            Ok(packed) => Ok(packed),
            Err(error @ PackingError::NoWindows { tokens, .. }) if request.shown.is_some() => {
                self.console.warn(&error.to_string());
                let report = PackingReport { remainder_tokens: tokens, ..PackingReport::default() };
                Ok(Packed { windows: Vec::new(), report })
            }
            Err(source) => Err(CliError::Packing { path: name_of(files).into(), source: source.into() }),
        }
    }

    /// The rows of `files`, which must have one format.
    fn read(
        &self,
        files: &[PathBuf],
        max_rows: Option<usize>,
    ) -> Result<(Vec<ReadFile>, Vec<Rows>), CliError> {
        let separator = self.flags.document_separator.clone().unwrap_or_default();
        let (mut read, mut all) = (Vec::<ReadFile>::with_capacity(files.len()), Vec::new());
        let mut left = max_rows.unwrap_or(usize::MAX);
        for path in files {
            if left == 0 {
                break;
            }
            let found = rows::read_file(path, self.flags.data_format, &separator)
                .map_err(|source| CliError::Rows { path: path.clone(), source: source.into() })?;
            self.check_flags(path, &found)?;
            let RowsOfFile { format, container, mut rows, skipped } = found;
            if let Some(other) = read.iter().find(|other| other.format != format) {
                return Err(CliError::Usage {
                    what: format!(
                        "`{}` is {}, but `{}` is {}",
                        path.display(),
                        format.name(),
                        other.path.display(),
                        other.format.name()
                    ),
                    advice: "give files of one format, or say with --data-format what they are".to_owned(),
                });
            }
            rows.truncate(left);
            left -= rows.len();
            let container = container.map(|container| container.name());
            read.push(ReadFile { path: path.clone(), format, container, rows: rows.len(), skipped });
            all.push(rows);
        }
        Ok((read, all))
    }

    /// Refuses flags that would do nothing to a file.
    fn check_flags(&self, path: &Path, found: &RowsOfFile) -> Result<(), CliError> {
        let useless = |flag: &str, what: &str| CliError::Usage {
            what: format!("--{flag} is for {what}, and `{}` is {}", path.display(), found.format.name()),
            advice: format!("leave --{flag} out, or say with --data-format what the file is"),
        };
        let of_mnli = [
            ("prompt-template", self.flags.prompt_template.is_some()),
            ("label-style", self.flags.label_style.is_some()),
        ];
        if let Some((flag, _)) = of_mnli.iter().find(|(_, typed)| *typed && found.format != Format::Mnli) {
            return Err(useless(flag, Format::Mnli.name()));
        }
        if self.flags.document_separator.is_some() && found.format != Format::Text {
            return Err(useless("document-separator", Format::Text.name()));
        }
        match (&self.flags.document_separator, found.container) {
            (Some(_), Some(container)) => Err(CliError::Usage {
                what: format!(
                    "--document-separator is for text files, and `{}` is {}, where a row is a document",
                    path.display(),
                    container.name()
                ),
                advice: "leave --document-separator out".to_owned(),
            }),
            _ => Ok(()),
        }
    }

    /// What was left out, and what packing did.
    fn tell(&self, prepared: &Prepared) {
        for file in prepared.files.iter().filter(|file| file.skipped != Skipped::NOTHING) {
            self.console.note(&format!("{}: skipped {}", file.path.display(), file.skipped));
        }
        let Prepared { files, lengths, packed, .. } = prepared;
        let (name, report) = (name_of(files), &packed.report);
        let examples = lengths.as_ref().map_or(0, |lengths| lengths.examples);
        self.console.note(&format!(
            "{name}: {examples} examples, {} windows, {} tokens, {} of them labelled",
            packed.windows.len(),
            report.slots,
            report.labelled
        ));
        if let Some(warning) = truncation(report, self.shape.limits.window_length) {
            self.console.warn(&format!("{name}: {warning}"));
        }
    }
}

/// The first file, and how many more there are.
fn name_of(files: &[ReadFile]) -> String {
    match files {
        [] => String::new(),
        [one] => one.path.display().to_string(),
        [first, others @ ..] => format!("{} and {} more", first.path.display(), others.len()),
    }
}

/// What long examples lost.
fn truncation(report: &PackingReport, window_length: usize) -> Option<String> {
    let PackingReport { truncated_examples, truncated_tokens, answers_lost, .. } = report;
    (*truncated_examples > 0).then(|| {
        format!(
            "{truncated_examples} examples are longer than --max-seq-length {window_length} and lost their end \
             ({truncated_tokens} tokens), {answers_lost} of them all of their labels"
        )
    })
}

/// Runs `work`, whose time is added to `total`.
fn timed<T>(total: &mut Duration, work: impl FnOnce() -> T) -> T {
    let started = Instant::now();
    let done = work();
    *total += started.elapsed();
    done
}
