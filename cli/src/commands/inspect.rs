//! `gptjc inspect`: what a plan holds and why.

use crate::console::Console;
use crate::error::CliError;
use crate::flags::InspectCommand;
use crate::flags::inspect::{Format, Show};
use crate::inspect::{View, dot, html, job, json, text};
use crate::settings::read_plan;
use gptjc_compiler::explain;
use gptjc_graphs::plan::Plan;
use gptjc_runtime::files::atomic::write_bytes;

/// Runs the command.
pub(crate) fn run(command: &InspectCommand, console: Console) -> Result<(), CliError> {
    let show = shown(command)?;
    let plan = read_plan(&command.plan)?;
    check(command, &plan)?;
    let entry = command.entry.as_deref();
    let report = explain::report(&plan, entry, &job(&command.job))
        .map_err(|source| CliError::Compile(source.into()))?;
    let entry = entry.and_then(|name| plan.entry(name)).map(|entry| entry.name.as_str());
    let view = View { plan: &plan, report, show, layer: command.layer, entry };
    let page = match command.format {
        Format::Text => text::render(&view)?,
        Format::Dot => dot::render(&view),
        Format::Json => json::render(&view)?,
        Format::Html => html::render(&view),
    };
    match &command.output {
        Some(path) => {
            write_bytes(path, page.as_bytes())?;
            console.line(&format!("wrote {}: {} bytes", path.display(), page.len()));
        }
        None => console.line(&page),
    }
    Ok(())
}

fn usage<T>(what: String, advice: &str) -> Result<T, CliError> {
    Err(CliError::Usage { what, advice: advice.to_owned() })
}

/// What to show; an error if the form cannot show it, or a flag is about something else.
fn shown(command: &InspectCommand) -> Result<Show, CliError> {
    let (show, format) = match (command.show, command.format) {
        (None, Format::Text) => (Show::Summary, Format::Text),
        (None, Format::Dot) => (Show::Fused, Format::Dot),
        (None, format) => (Show::All, format),
        (Some(show), format) => (show, format),
    };
    let is_graph = matches!(show, Show::Graph | Show::Fused);
    let cannot = || format!("--format {} cannot show {}", format.word(), show.word());
    if format == Format::Dot && !is_graph {
        return usage(cannot(), "give --show graph or --show fused, or another --format");
    }
    if format == Format::Html && show != Show::All {
        return usage(cannot(), "the page shows everything: leave --show out, or give another --format");
    }
    let shows_a_part = is_graph && matches!(format, Format::Text | Format::Dot);
    if command.layer.is_some() && !shows_a_part {
        let what = "--layer is about graphs as text or DOT".to_owned();
        return usage(what, "give --show graph or --show fused, and --format text or dot");
    }
    if let Some(flag) = command.job.first_given()
        && !show.has_job()
    {
        return usage(
            format!("{flag} is about the whole job, which --show {} leaves out", show.word()),
            "give --show summary, costs or all",
        );
    }
    Ok(show)
}

/// Refuses entry points and blocks that the plan does not have.
fn check(command: &InspectCommand, plan: &Plan) -> Result<(), CliError> {
    if let Some(name) = &command.entry
        && plan.entry(name).is_none()
    {
        let known: Vec<&str> = plan.entries.iter().map(|entry| entry.name.as_str()).collect();
        let advice = format!("give one of {}", known.join(", "));
        return usage(format!("the plan has no entry point `{name}`"), &advice);
    }
    let layers = plan.options.model.n_layer;
    if let Some(layer) = command.layer
        && u64::from(layer) >= layers
    {
        let advice = format!("give a block from 0 to {}", layers.saturating_sub(1));
        return usage(format!("the model has no block {layer}"), &advice);
    }
    Ok(())
}
