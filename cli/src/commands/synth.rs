//! `gptjc synth`: a random checkpoint of any size.

use super::byte_progress::ByteProgress;
use super::weights::tensors;
use crate::console::Console;
use crate::error::CliError;
use crate::flags::SynthCommand;
use crate::flags::values::human_bytes;
use gptjc_graphs::models::gptj::config;
use gptjc_runtime::export::ExportProgress;
use gptjc_runtime::machine;
use gptjc_runtime::synth::{OldBuffers, SynthRequest, synth};

/// Runs the command.
pub(crate) fn run(command: &SynthCommand, console: Console) -> Result<(), CliError> {
    let path = &command.config;
    let json =
        std::fs::read_to_string(path).map_err(|source| CliError::Read { path: path.clone(), source })?;
    let config = config::parse(&json)
        .map_err(|source| CliError::Config { path: path.clone(), source: source.into() })?;
    let tensors = tensors(&config);
    let request = SynthRequest {
        tensors: &tensors,
        old_buffers: OldBuffers { layers: config.n_layer as usize, positions: config.n_positions as usize },
        config: json.as_bytes(),
        seed: command.seed,
        std: command.std,
        layout: command.layout.layout(),
        max_shard_bytes: command.max_shard_size,
        threads: command.threads.unwrap_or_else(|| machine::host().cores.max(1) as usize),
        directory: &command.output,
    };
    let bar = ByteProgress::new();
    let made = synth(&request, &|progress| {
        bar.show(ExportProgress { tensor: "", bytes: progress.bytes, total_bytes: progress.total_bytes });
    });
    drop(bar);
    let made = made.map_err(|source| CliError::Synth(source.into()))?;
    console.line(&format!(
        "wrote {}: {} parameters, {} in {} file(s), {:.1} s",
        command.output.display(),
        made.parameters,
        human_bytes(made.bytes),
        made.files.len(),
        made.seconds
    ));
    Ok(())
}
