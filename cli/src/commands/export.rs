//! `gptjc export`: a model, with its adapter merged into it, as an ONNX directory.

use super::byte_progress::ByteProgress;
use super::model::{Model, check_tokenizer, note_left_out};
use crate::console::Console;
use crate::error::CliError;
use crate::flags::ExportCommand;
use crate::flags::values::human_bytes;
use gptjc_graphs::onnx::gptj::{ExportOptions, GptjShape, LoraMerge, inference_model};
use gptjc_graphs::plan::ModelConfig;
use gptjc_runtime::adapter::Adapter;
use gptjc_runtime::export::{CheckpointSource, ExportReport, ExportRequest, export, sidecars_of_model};
use std::time::Instant;

/// Runs the command.
pub(crate) fn run(command: &ExportCommand, console: Console) -> Result<(), CliError> {
    let begun = Instant::now();
    let model = Model::open(&command.model, console)?;
    let adapter = match &command.adapter {
        Some(path) => {
            let (adapter, fit) = model.adapter(path)?;
            note_left_out(&fit, console);
            Some(adapter)
        }
        None => None,
    };
    check_tokenizer(&command.model, &command.made, console)?;
    let options = ExportOptions { matrices: command.dtype.element(), lora: adapter.as_ref().map(lora) };
    let graph = inference_model(&shape(&model.config), &options)
        .map_err(|source| CliError::OnnxGraph(source.into()))?;
    let sidecars = sidecars_of_model(&command.model, command.made.tokenizer.as_deref());
    let sidecars = sidecars.map_err(|source| CliError::Export(source.into()))?;
    let request = ExportRequest {
        model: &graph,
        sidecars: &sidecars,
        directory: &command.made.output,
        overwrite: command.made.overwrite_output_dir,
    };
    let source = CheckpointSource::new(&model.checkpoint, adapter.as_ref());
    let bar = ByteProgress::new();
    let report = export(&request, &source, &mut |progress| bar.show(progress))
        .map_err(|source| CliError::Export(source.into()))?;
    drop(bar);
    console.line(&summary(&report, begun.elapsed().as_secs_f64()));
    Ok(())
}

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
    format!(
        "wrote {}: {} tensors, {} of them merged with the adapter, {} of weights and {} of graph, {seconds:.1} s",
        report.directory.display(),
        report.tensors,
        report.merged,
        human_bytes(report.data_bytes),
        human_bytes(report.model_bytes),
    )
}
