//! The project's own chores, run as `cargo xtask <chore>`.
//!
//! There is one so far, `tidy`: it checks what `rustc` and `clippy` cannot see, namely the shape of the
//! source tree. It changes no file and depends on no other package of the workspace, so that it still
//! runs when those do not compile.
#![forbid(unsafe_code)]

mod source;
mod tidy;
mod tree;

use std::io::Write;
use std::process::ExitCode;

use crate::tree::Tree;

const USAGE: &str = "usage: cargo xtask tidy\n\n  tidy   check the source tree: file and function sizes, module docs, places of `unsafe`, crate edges,\n         what the runtime imports, one stem an op, hygiene of text";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["tidy"] => tidy_here(),
        ["help" | "--help" | "-h"] => print(USAGE).map(|()| ExitCode::SUCCESS),
        _ => Err(format!("unknown arguments `{}`\n{USAGE}", words.join(" "))),
    };
    outcome.unwrap_or_else(|message| {
        // Nothing is left to report to if standard error is closed.
        let _ = writeln!(std::io::stderr(), "xtask: {message}");
        ExitCode::from(2)
    })
}

/// Runs every check over the workspace that holds the current directory.
fn tidy_here() -> Result<ExitCode, String> {
    let here =
        std::env::current_dir().map_err(|error| format!("cannot tell the current directory: {error}"))?;
    let root = tree::workspace_root(&here).map_err(|error| error.to_string())?;
    let tree = Tree::open(&root).map_err(|error| error.to_string())?;
    let report = tidy::run(&tree).map_err(|error| error.to_string())?;
    print(&report.to_string())?;
    Ok(if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(text: &str) -> Result<(), String> {
    writeln!(std::io::stdout(), "{text}").map_err(|error| format!("cannot write to standard output: {error}"))
}
