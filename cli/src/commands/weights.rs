//! The weights of a model, for commands that run it: checked, and in the layout that kernels read.
//!
//! Arithmetic in bf16 reads bf16. A checkpoint of another type is converted while it is loaded if that costs little, and
//! once for all runs into a directory of its own if it is a pickle or large: a pass over weights that are streamed would
//! read twice or four times the bytes, again and again. Where the values matter as they are, in f32 arithmetic or as
//! parameters that are trained, nothing is converted.

use super::byte_progress::ByteProgress;
use crate::console::Console;
use crate::error::CliError;
use crate::flags::values::human_bytes;
use gptjc_graphs::models::gptj::names;
use gptjc_graphs::plan::{ModelConfig, Plan, Precision};
use gptjc_runtime::convert::{ConvertRequest, convert, is_up_to_date, place};
use gptjc_runtime::hub::Repository;
use gptjc_runtime::merge::MAX_SHARD_BYTES;
use gptjc_runtime::validate::library::cache_folder;
use gptjc_runtime::weights::{Checkpoint, Format, TensorSpec, WeightDtype, WeightsError};
use std::path::{Path, PathBuf};

/// Weights of more bytes than this are converted once, not at every start.
const LARGE: u64 = 1 << 30;
/// Tensors without a use that are named.
const NAMED: usize = 3;

/// In which type weights are needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Needed {
    /// Whatever type they are stored in: values count as they are.
    AsStored,
    /// Rounded to bf16.
    Bf16,
}

impl Needed {
    /// What arithmetic in `precision` needs of weights that are not trained.
    pub(crate) fn frozen(precision: Precision) -> Self {
        match precision {
            Precision::Bf16 => Self::Bf16,
            Precision::F32 => Self::AsStored,
        }
    }

    /// What `plan` needs.
    pub(crate) fn of(plan: &Plan) -> Self {
        match plan.options.lora {
            Some(_) => Self::frozen(plan.options.precision()),
            None => Self::AsStored,
        }
    }
}

/// Names and shapes of the weights of `model`, in its order.
pub(crate) fn tensors(model: &ModelConfig) -> Vec<TensorSpec> {
    let tensors = names::checkpoint_tensors(model).into_iter();
    tensors.map(|(name, shape)| TensorSpec::new(name, shape)).collect()
}

/// Opens the weights in `directory`, after a check that they are those of `model`.
pub(crate) fn open(
    directory: &Path,
    model: &ModelConfig,
    needed: Needed,
    console: Console,
) -> Result<Checkpoint, CliError> {
    let repository = Repository::of_snapshot(directory);
    let failed = |source: WeightsError| {
        let (path, source) = (directory.to_owned(), source.into());
        match &repository {
            Some(repository) => {
                let advice = format!("download what is missing with\n{}", repository.download_command());
                CliError::WeightsOfHub { path, advice, source }
            }
            None => CliError::Weights { path, source },
        }
    };
    let checkpoint = Checkpoint::open(directory).map_err(failed)?;
    let tensors = tensors(model);
    warn(&checkpoint.check(&tensors).map_err(failed)?, console);
    let origin =
        repository.map_or_else(|| directory.to_owned(), |repository| PathBuf::from(repository.name()));
    let checkpoint = checkpoint.with_origin(origin);
    match needed == Needed::Bf16 && is_worth_converting(&checkpoint, &tensors) {
        true => converted(&checkpoint, &tensors, console),
        false => Ok(checkpoint),
    }
}

fn warn(unused: &[String], console: Console) {
    unused.iter().take(NAMED).for_each(|warning| console.warn(warning));
    if let Some(more) = unused.len().checked_sub(NAMED).filter(|&more| more > 0) {
        console.warn(&format!("{more} more tensors are not part of the model and are not used"));
    }
}

fn is_worth_converting(checkpoint: &Checkpoint, tensors: &[TensorSpec]) -> bool {
    let views = || tensors.iter().filter_map(|spec| checkpoint.tensor(&spec.name));
    let bytes: usize = views().map(|view| view.bytes.len()).sum();
    let is_other = views().any(|view| view.dtype != WeightDtype::Bf16);
    is_other && (checkpoint.format() == Format::Torch || bytes as u64 > LARGE)
}

/// What is asked for.
fn request<'a>(
    checkpoint: &'a Checkpoint,
    tensors: &'a [TensorSpec],
    directory: &'a Path,
) -> ConvertRequest<'a> {
    ConvertRequest {
        checkpoint,
        tensors,
        dtype: WeightDtype::Bf16,
        tokenizer_dir: None,
        directory,
        overwrite: true, // of an earlier conversion; anything else in the way is refused
        max_shard_bytes: MAX_SHARD_BYTES,
    }
}

/// The conversion of `checkpoint`: one that was made before, or one that is made now.
fn converted(
    checkpoint: &Checkpoint,
    tensors: &[TensorSpec],
    console: Console,
) -> Result<Checkpoint, CliError> {
    let failed = |source: gptjc_runtime::convert::ConvertError| CliError::Convert(source.into());
    let (source, cache) = (checkpoint.dir(), cache_folder());
    let candidates = place::candidates(source, cache.as_deref());
    let place = match candidates.into_iter().find(|place| is_up_to_date(&request(checkpoint, tensors, place)))
    {
        Some(place) => {
            console.note(&format!("weights are read from `{}`, converted to bf16 before", place.display()));
            place
        }
        None => {
            let place = place::choose(source, cache.as_deref()).map_err(failed)?;
            let request = request(checkpoint, tensors, &place);
            console.note(&format!(
                "the weights in `{}` are converted to bf16, once: `{}` takes {} and is used from now on",
                source.display(),
                place.display(),
                human_bytes(request.bytes())
            ));
            let bar = ByteProgress::new();
            let report = convert(&request, &mut |progress| bar.show(progress));
            drop(bar);
            console.note(report.map_err(failed)?.to_string().trim_end());
            place
        }
    };
    let made = Checkpoint::open(&place)
        .map_err(|source| CliError::Weights { path: place.clone(), source: source.into() })?;
    Ok(made.with_origin(checkpoint.origin().to_owned()))
}
