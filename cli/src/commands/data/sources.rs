//! Which files a run reads.

use crate::console::Console;
use crate::error::CliError;
use crate::flags::DataFlags;
use gptjc_runtime::data::dataset::{self, Split};
use gptjc_runtime::data::pretokenized::TokenBatches;
use gptjc_runtime::hub::{Caches, Kind, Repository};
use std::path::{Path, PathBuf};

/// GLUE on the hub.
const GLUE: &str = "nyu-mll/glue";
/// The configuration that is taken when none is named.
const MNLI: &str = "mnli";

/// What a run is trained on.
pub(crate) enum TrainSource {
    /// Pre-tokenised batches, in the order given.
    Tokens(PathBuf, TokenBatches),
    /// Rows of text, file after file.
    Rows(Vec<PathBuf>),
}

/// Where the data of a run are.
pub(crate) struct Sources {
    /// To train on.
    pub(crate) train: TrainSource,
    /// To evaluate on.
    pub(crate) validation: Option<Vec<PathBuf>>,
}

/// Finds the data that `flags` name; `do_eval` as it was typed.
pub(crate) fn find(flags: &DataFlags, do_eval: Option<bool>, console: Console) -> Result<Sources, CliError> {
    let validation = match (do_eval, flags.validation_file.as_slice()) {
        (Some(false), _) | (None, []) => None,
        (Some(true), []) => Some(look_up(flags, flags.eval_split.unwrap_or_default().split())?),
        (_, files) => Some(files.to_vec()),
    };
    Ok(Sources { train: train(flags, console)?, validation })
}

/// Finds the data to train on.
fn train(flags: &DataFlags, console: Console) -> Result<TrainSource, CliError> {
    if let Some(path) = &flags.train_tokens {
        let batches = TokenBatches::open(path).map_err(|source| CliError::Tokens(source.into()))?;
        return Ok(TrainSource::Tokens(path.clone(), batches));
    }
    if flags.train_file.is_empty() {
        return look_up(flags, Split::Train).map(TrainSource::Rows);
    }
    check_config(flags)?;
    if let (Some(name), Some(file)) = (&flags.dataset_name, flags.train_file.first()) {
        console.note(&format!("--dataset-name {name}: rows are read from {}", file.display()));
    }
    Ok(TrainSource::Rows(flags.train_file.clone()))
}

/// The files of `split` in the dataset that is named, which must be there.
fn look_up(flags: &DataFlags, split: Split) -> Result<Vec<PathBuf>, CliError> {
    let (purpose, flag) = match split {
        Split::Train => ("train", "--train-file FILE"),
        Split::Matched | Split::Mismatched => ("evaluate", "--validation-file FILE"),
    };
    let names = format!("{} (.jsonl, .tsv, .csv, .parquet, .txt)", split.stems().join(" or "));
    let Some(directory) = directory(flags)? else {
        return Err(CliError::Usage {
            what: format!("there is nothing to {purpose} on"),
            advice: format!("give {flag}, or --data-dir DIR with {names}, or --dataset-name glue"),
        });
    };
    files(flags, &directory, split)?.ok_or_else(|| CliError::Usage {
        what: format!("there is nothing to {purpose} on in `{}`: expected {names}", directory.display()),
        advice: format!("give another --data-dir, or {flag}"),
    })
}

/// The files of `split` in the dataset that is named, if one is and has them.
fn search(flags: &DataFlags, split: Split) -> Result<Option<Vec<PathBuf>>, CliError> {
    match directory(flags)? {
        Some(directory) => files(flags, &directory, split),
        None => Ok(None),
    }
}

fn files(flags: &DataFlags, directory: &Path, split: Split) -> Result<Option<Vec<PathBuf>>, CliError> {
    let config = flags.dataset_config_name.as_deref().unwrap_or(MNLI);
    dataset::files(directory, config, split).map_err(|source| CliError::Dataset(source.into()))
}

/// Everything that `flags` name, for the dry run: what is not there need not be, unless it was asked for.
pub(super) fn find_all(
    flags: &DataFlags,
    console: Console,
) -> Result<(Option<TrainSource>, Option<Vec<PathBuf>>), CliError> {
    let validation = match (flags.validation_file.as_slice(), flags.eval_split) {
        ([], Some(split)) => Some(look_up(flags, split.split())?),
        ([], None) => search(flags, Split::Matched)?,
        (files, _) => Some(files.to_vec()),
    };
    let named = flags.train_tokens.is_some() || !flags.train_file.is_empty();
    let train = match (named, &validation) {
        (false, Some(_)) => search(flags, Split::Train)?.map(TrainSource::Rows),
        _ => Some(train(flags, console)?),
    };
    Ok((train, validation))
}

/// The directory that `--data-dir` or `--dataset-name` names.
fn directory(flags: &DataFlags) -> Result<Option<PathBuf>, CliError> {
    check_config(flags)?;
    let Some(name) = flags.dataset_name.as_deref() else { return Ok(flags.data_dir.clone()) };
    match (&flags.data_dir, is_glue(name)) {
        (Some(directory), true) => Ok(Some(directory.clone())),
        (Some(directory), false) => Err(CliError::Flags {
            first: format!("--dataset-name {name}"),
            second: format!("--data-dir {}", directory.display()),
        }),
        (None, false) if Path::new(name).is_dir() => Ok(Some(name.into())),
        (None, is_glue) => {
            let config = if is_glue { Some(MNLI) } else { flags.dataset_config_name.as_deref() };
            let repository = Repository::new(Kind::Dataset, if is_glue { GLUE } else { name }, None);
            match repository.ok().filter(|repository| repository.name().contains('/')) {
                Some(repository) => cached(repository, config).map(Some),
                None => Err(no_dataset(name)),
            }
        }
    }
}

fn no_dataset(name: &str) -> CliError {
    CliError::Usage {
        what: format!("there is no dataset `{name}`"),
        advice: "gptjc never opens the network: give --dataset-name glue with --data-dir DIR, a dataset of the Hugging \
                 Face cache as OWNER/NAME, a directory, or --train-file FILE"
            .to_owned(),
    }
}

fn is_glue(name: &str) -> bool {
    name == "glue" || name == GLUE
}

/// Of GLUE, only MNLI has a prompt.
fn check_config(flags: &DataFlags) -> Result<(), CliError> {
    let other = flags.dataset_config_name.as_deref().filter(|&name| name != MNLI);
    match (other, flags.dataset_name.as_deref()) {
        (Some(config), None) => Err(CliError::Usage {
            what: format!("--dataset-config-name {config} is of no dataset"),
            advice: "give --dataset-name, or leave it out".to_owned(),
        }),
        (Some(config), Some(name)) if is_glue(name) => Err(CliError::Usage {
            what: format!("--dataset-config-name {config} is not possible"),
            advice: "gptjc has a prompt for `mnli` only; write other tasks as prompt and completion"
                .to_owned(),
        }),
        _ => Ok(()),
    }
}

/// The snapshot of a dataset in the Hugging Face cache; of its files, those in the folder `config` are needed.
fn cached(repository: Repository, config: Option<&str>) -> Result<PathBuf, CliError> {
    let pattern = config.map(|config| format!("{config}/*"));
    let repository = match &pattern {
        Some(pattern) => repository.including(&[pattern]),
        None => repository,
    };
    let snapshot = Caches::of_process().find(&repository);
    Ok(snapshot.map_err(|source| CliError::Dataset(source.into()))?.directory)
}
