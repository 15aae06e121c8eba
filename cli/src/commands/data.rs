//! The windows of a run, from pre-tokenised batches or from rows of text.

use crate::console::Console;
use crate::error::CliError;
use crate::flags::DataFlags;
use gptjc_graphs::plan::{CompileOptions, Packing};
use gptjc_runtime::data::examples::{ExampleOptions, tokenize_rows};
use gptjc_runtime::data::mnli::{self, MnliRow, Purpose};
use gptjc_runtime::data::packing::{PackingOptions, PackingReport, pack};
use gptjc_runtime::data::pretokenized::TokenBatches;
use gptjc_runtime::data::prompt::PromptTemplate;
use gptjc_runtime::data::tokenizer::GptJTokenizer;
use gptjc_runtime::data::window::{Window, WindowLimits, labels_predicted_by_padding};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

/// Names under which rows to train on are looked for.
const TRAIN_FILES: [&str; 2] = ["train.jsonl", "multinli_1.0_train.jsonl"];
/// Names under which rows to evaluate on are looked for: of MNLI's two splits, the matched one.
const VALIDATION_FILES: [&str; 4] =
    ["validation_matched.jsonl", "dev_matched.jsonl", "validation.jsonl", "multinli_1.0_dev_matched.jsonl"];

/// What a run is trained on.
pub(crate) enum TrainSource {
    /// Pre-tokenised batches, in the order given.
    Tokens(PathBuf, TokenBatches),
    /// Rows of text.
    Rows(PathBuf),
}

/// Where the data of a run are.
pub(crate) struct Sources {
    /// To train on.
    pub(crate) train: TrainSource,
    /// To evaluate on after training.
    pub(crate) validation: Option<PathBuf>,
}

/// Finds the data that `flags` name; `do_eval` as it was typed.
pub(crate) fn find(flags: &DataFlags, do_eval: Option<bool>, console: Console) -> Result<Sources, CliError> {
    let directory = dataset_directory(flags, console)?;
    let train = match (&flags.train_tokens, &flags.train_file) {
        (Some(path), _) => TrainSource::Tokens(
            path.clone(),
            TokenBatches::open(path).map_err(|source| CliError::Tokens(source.into()))?,
        ),
        (None, Some(path)) => TrainSource::Rows(path.clone()),
        (None, None) => {
            TrainSource::Rows(look_up(directory.as_deref(), &TRAIN_FILES, "train", "--train-file FILE")?)
        }
    };
    let validation = match (do_eval, &flags.validation_file) {
        (Some(false), _) | (None, None) => None,
        (_, Some(path)) => Some(path.clone()),
        (Some(true), None) => {
            Some(look_up(directory.as_deref(), &VALIDATION_FILES, "evaluate", "--validation-file FILE")?)
        }
    };
    Ok(Sources { train, validation })
}

/// The directory that `--data-dir` or `--dataset-name` names.
fn dataset_directory(flags: &DataFlags, console: Console) -> Result<Option<PathBuf>, CliError> {
    if let Some(config) = flags.dataset_config_name.as_deref().filter(|&name| name != "mnli") {
        return Err(CliError::Usage {
            what: format!("--dataset-config-name {config} is not possible"),
            advice: "gptjc has a prompt for `mnli` only".to_owned(),
        });
    }
    let Some(name) = flags.dataset_name.as_deref() else { return Ok(flags.data_dir.clone()) };
    match (name, &flags.data_dir) {
        ("glue", directory) => {
            if let Some(path) = &flags.train_file {
                console.note(&format!("--dataset-name glue: rows are read from {}", path.display()));
            }
            Ok(directory.clone())
        }
        (_, None) if Path::new(name).is_dir() => Ok(Some(name.into())),
        (_, Some(directory)) => Err(CliError::Flags {
            first: format!("--dataset-name {name}"),
            second: format!("--data-dir {}", directory.display()),
        }),
        (_, None) => Err(CliError::Usage {
            what: format!("there is no dataset `{name}`"),
            advice:
                "gptjc never opens the network: give --dataset-name glue with --data-dir DIR, a directory, \
                     or --train-file FILE"
                    .to_owned(),
        }),
    }
}

/// The first of `names` in `directory`.
fn look_up(directory: Option<&Path>, names: &[&str], purpose: &str, flag: &str) -> Result<PathBuf, CliError> {
    let usage = |what, advice| CliError::Usage { what, advice };
    let Some(directory) = directory else {
        let what = format!("there is nothing to {purpose} on");
        return Err(usage(what, format!("give {flag}, or --data-dir DIR with {}", names.join(" or "))));
    };
    let found = names.iter().map(|name| directory.join(name)).find(|path| path.is_file());
    found.ok_or_else(|| {
        let what = format!(
            "there is nothing to {purpose} on in `{}`: expected {}",
            directory.display(),
            names.join(" or ")
        );
        usage(what, format!("give another --data-dir, or {flag}"))
    })
}

/// What is evaluated on.
pub(crate) struct Validation {
    /// For the loss: a window for each row, whatever the packing of training.
    pub(crate) windows: Vec<Window>,
    /// For accuracy: the rows, each with a label.
    pub(crate) rows: Vec<MnliRow>,
}

/// Where text becomes windows.
pub(crate) struct TextPath<'a> {
    /// Flags of the data.
    pub(crate) flags: &'a DataFlags,
    /// Directory of the tokenizer, unless a flag names another.
    pub(crate) model_dir: &'a Path,
    /// What windows must fit.
    pub(crate) options: &'a CompileOptions,
    /// Threads that tokenise.
    pub(crate) threads: usize,
    /// Where to say what happened.
    pub(crate) console: Console,
    pub(crate) tokenizer: std::cell::OnceCell<GptJTokenizer>,
}

impl TextPath<'_> {
    fn limits(&self) -> WindowLimits {
        WindowLimits {
            window_length: self.options.max_seq_length as usize,
            n_positions: self.options.model.n_positions as usize,
            vocab_size: self.options.model.vocab_size as usize,
        }
    }

    /// The windows to train on.
    pub(crate) fn training(&self, source: &TrainSource) -> Result<Vec<Window>, CliError> {
        let max_windows = self.flags.max_train_samples.map(|windows| windows as usize);
        match source {
            TrainSource::Tokens(path, batches) => {
                let mut windows = self.token_windows(path, batches)?;
                windows.truncate(max_windows.unwrap_or(windows.len()));
                Ok(windows)
            }
            TrainSource::Rows(path) => self.text_windows(path, self.options.packing(), None, max_windows),
        }
    }

    /// The windows to evaluate on: one row each, whatever the packing of training.
    pub(crate) fn validation(&self, path: &Path) -> Result<Validation, CliError> {
        let max_rows = self.flags.max_eval_samples.map(|rows| rows as usize);
        let windows = self.text_windows(path, Packing::Pad, max_rows, None)?;
        let read = mnli::read_file(path, Purpose::Training);
        let mut rows =
            read.map_err(|source| CliError::Rows { path: path.to_owned(), source: source.into() })?.rows;
        rows.truncate(max_rows.unwrap_or(rows.len()));
        Ok(Validation { windows, rows })
    }

    /// The tokenizer.
    pub(crate) fn tokenizer(&self) -> Result<&GptJTokenizer, CliError> {
        if let Some(tokenizer) = self.tokenizer.get() {
            return Ok(tokenizer);
        }
        let directory = self.flags.tokenizer_name.as_deref().unwrap_or(self.model_dir);
        let loaded =
            GptJTokenizer::from_dir(directory).map_err(|source| CliError::Tokenizer(source.into()))?;
        Ok(self.tokenizer.get_or_init(|| loaded))
    }

    fn token_windows(&self, path: &Path, batches: &TokenBatches) -> Result<Vec<Window>, CliError> {
        let limits = self.limits();
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
        Ok(windows)
    }

    fn text_windows(
        &self,
        path: &Path,
        packing: Packing,
        max_rows: Option<usize>,
        max_windows: Option<usize>,
    ) -> Result<Vec<Window>, CliError> {
        let read = mnli::read_file(path, Purpose::Training);
        let mut read =
            read.map_err(|source| CliError::Rows { path: path.to_owned(), source: source.into() })?;
        if read.skipped.no_label + read.skipped.blank_lines > 0 {
            self.console.note(&format!("{}: skipped {}", path.display(), read.skipped));
        }
        read.rows.truncate(max_rows.unwrap_or(read.rows.len()));
        let directory = self.flags.tokenizer_name.as_deref().unwrap_or(self.model_dir);
        let tokenizer =
            GptJTokenizer::from_dir(directory).map_err(|source| CliError::Tokenizer(source.into()))?;
        let options = self.example_options()?;
        let threads = NonZeroUsize::new(self.threads).unwrap_or(NonZeroUsize::MIN);
        let examples = tokenize_rows(&read.rows, &options, &tokenizer, threads)
            .map_err(|source| CliError::Examples { path: path.to_owned(), source: source.into() })?;
        let packed = pack(&examples, &PackingOptions { packing, limits: self.limits(), max_windows })
            .map_err(|source| CliError::Packing { path: path.to_owned(), source: source.into() })?;
        self.tell(path, packed.windows.len(), &packed.report);
        Ok(packed.windows)
    }

    pub(crate) fn example_options(&self) -> Result<ExampleOptions, CliError> {
        let template = match &self.flags.prompt_template {
            Some(template) => {
                template.parse::<PromptTemplate>().map_err(|source| CliError::Template(source.into()))?
            }
            None => PromptTemplate::default(),
        };
        let (label_style, train_on_inputs) = (self.flags.label_style, self.flags.train_on_inputs);
        Ok(ExampleOptions { template, label_style, train_on_inputs })
    }

    /// What packing did.
    fn tell(&self, path: &Path, windows: usize, report: &PackingReport) {
        self.console.note(&format!(
            "{}: {} examples, {windows} windows, {} tokens, {} of them labelled",
            path.display(),
            report.examples,
            report.slots,
            report.labelled
        ));
        if report.truncated_examples > 0 {
            self.console.warn(&format!(
                "{}: {} examples are longer than --max-seq-length {} and lost their end ({} tokens), {} of them all of \
                 their labels",
                path.display(),
                report.truncated_examples,
                self.options.max_seq_length,
                report.truncated_tokens,
                report.answers_lost
            ));
        }
    }
}
