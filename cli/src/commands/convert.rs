//! `gptjc convert`: a model in the layout that kernels read, and what rounding cost.

use super::byte_progress::ByteProgress;
use super::model::{Model, check_tokenizer};
use crate::console::Console;
use crate::error::CliError;
use crate::flags::ConvertCommand;
use gptjc_runtime::convert::{ConvertRequest, convert, is_up_to_date};
use serde_json::json;

/// Runs the command.
pub(crate) fn run(command: &ConvertCommand, console: Console) -> Result<(), CliError> {
    let model = Model::open(&command.model, console)?;
    check_tokenizer(&command.model, &command.made, console)?;
    let directory = &command.made.output;
    let request = ConvertRequest {
        checkpoint: &model.checkpoint,
        tensors: &model.tensors,
        dtype: command.dtype.weight(),
        tokenizer_dir: command.made.tokenizer.as_deref(),
        directory,
        overwrite: command.made.overwrite_output_dir,
        max_shard_bytes: command.max_shard_size,
    };
    if is_up_to_date(&request) {
        if command.json {
            return console.json(&json!({"directory": directory, "up_to_date": true}));
        }
        console.line(&format!("{} is up to date: nothing was written", directory.display()));
        return Ok(());
    }
    let bar = ByteProgress::new();
    let report = convert(&request, &mut |progress| bar.show(progress));
    drop(bar);
    let report = report.map_err(|source| CliError::Convert(source.into()))?;
    match command.json {
        true => console.json(&report),
        false => {
            console.line(&report.to_string());
            Ok(())
        }
    }
}
