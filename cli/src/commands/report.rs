//! `gptjc report`: what runs left, as one web page.

use crate::console::Console;
use crate::error::CliError;
use crate::flags::ReportCommand;
use crate::report::{named, render};
use gptjc_runtime::files::atomic::write_bytes;
use gptjc_runtime::record::Collected;
use std::path::PathBuf;

/// Name of the page, if none is given.
const PAGE: &str = "report.html";

/// Runs the command.
pub(crate) fn run(command: &ReportCommand, console: Console) -> Result<(), CliError> {
    let load =
        |directory: &PathBuf| Collected::load(directory).map_err(|source| CliError::Report(source.into()));
    let runs: Vec<Collected> = command.runs.iter().map(load).collect::<Result<_, _>>()?;
    let output = command.output.clone().unwrap_or_else(|| match command.runs.as_slice() {
        [one] => one.join(PAGE),
        _ => PAGE.into(),
    });
    for gap in runs.iter().flat_map(|found| &found.missing) {
        console.warn(gap);
    }
    let page = render(&named(runs));
    write_bytes(&output, page.as_bytes())?;
    console.line(&format!("wrote {}: {} bytes", output.display(), page.len()));
    Ok(())
}
