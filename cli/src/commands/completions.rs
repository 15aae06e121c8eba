//! `gptjc completions` and `gptjc man`: what shells and `man` want to know of the commands.

use crate::console::Console;
use crate::error::CliError;
use crate::flags::{CompletionsCommand, ManCommand, help};
use gptjc_runtime::files::FileError;
use gptjc_runtime::files::atomic::write_bytes;
use std::fs;
use std::path::Path;

/// Prints the script that completes command lines in a shell.
pub(crate) fn run(command: &CompletionsCommand, console: Console) -> Result<(), CliError> {
    let mut script = Vec::new();
    clap_complete::generate(command.shell, &mut help::command(), "gptjc", &mut script);
    console.line(&String::from_utf8_lossy(&script));
    Ok(())
}

/// Writes a manual page for the program and one for each command.
pub(crate) fn manual(command: &ManCommand, console: Console) -> Result<(), CliError> {
    let directory = &command.directory;
    fs::create_dir_all(directory)
        .map_err(|source| FileError::new("create the directory", directory, source))?;
    let mut program = help::command();
    program.build();
    let mut pages = vec![write_page(directory, "gptjc".to_owned(), &program)?];
    for command in program.get_subcommands().filter(|command| !command.is_hide_set()) {
        pages.push(write_page(directory, format!("gptjc-{}", command.get_name()), command)?);
    }
    console.line(&format!("wrote {} manual pages to {}", pages.len(), directory.display()));
    Ok(())
}

/// Writes the page of `command` and returns its file's name.
fn write_page(directory: &Path, name: String, command: &clap::Command) -> Result<String, CliError> {
    let file = format!("{name}.1");
    let path = directory.join(&file);
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone())
        .title(name)
        .render(&mut page)
        .map_err(|source| FileError::new("write", &path, source))?;
    write_bytes(&path, &page)?;
    Ok(file)
}
