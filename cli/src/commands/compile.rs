//! `gptjc compile`: a plan from a config and flags, or from an old plan. Reads no weights.

use crate::console::Console;
use crate::error::CliError;
use crate::flags::CompileCommand;
use crate::flags::values::human_bytes;
use crate::settings::{defaults, model_config, overlay, partial, read_plan_options};
use gptjc_compiler::MemoryNeed;
use gptjc_graphs::plan::{CompileOptions, Plan, artifact};
use gptjc_runtime::files::atomic::write_bytes;
use gptjc_runtime::machine;

/// Runs the command.
pub(crate) fn run(command: &CompileCommand, console: Console) -> Result<(), CliError> {
    let options = options(command)?;
    let plan = plan(&options)?;
    note_partial(&options, console);
    write_bytes(&command.output, &artifact::encode(&plan))?;
    console.line(&format!("wrote {}: {}", command.output.display(), summary(&plan)));
    Ok(())
}

/// Says which layers have adapters, if not all have.
pub(crate) fn note_partial(options: &CompileOptions, console: Console) {
    let lora = options.lora.as_ref();
    if let Some(note) = lora.and_then(|lora| partial(lora, options.model.n_layer)) {
        console.note(&note);
    }
}

/// Compiles `options`.
pub(crate) fn plan(options: &CompileOptions) -> Result<Plan, CliError> {
    gptjc_compiler::compile(options).map_err(|source| CliError::Compile(source.into()))
}

fn options(command: &CompileCommand) -> Result<CompileOptions, CliError> {
    let flags = &command.compile;
    let mut options = match &command.from {
        Some(old) => {
            let mut options = read_plan_options(old)?;
            if flags.model.model.is_some() || flags.model.config_name.is_some() {
                options.model = model_config(&flags.model)?;
            }
            options
        }
        None => defaults(model_config(&flags.model)?, machine::host(), None),
    };
    overlay(flags, &mut options)?;
    Ok(options)
}

/// A plan in one line.
pub(crate) fn summary(plan: &Plan) -> String {
    let need = MemoryNeed::of(plan);
    let steps: usize = plan.entries.iter().map(|entry| entry.steps.len()).sum();
    format!(
        "{steps} steps, micro-batches of {} window(s) of {} tokens, {} of memory",
        plan.options.micro_batch,
        plan.options.max_seq_length,
        human_bytes(need.total())
    )
}
