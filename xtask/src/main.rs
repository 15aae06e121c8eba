//! The project's own chores, run as `cargo xtask <chore>`.
//!
//! `tidy` checks what `rustc` and `clippy` cannot see, namely the shape of the source tree; it changes no file.
//! `onnx-proto` writes the Rust types of ONNX's protobuf messages anew. No chore depends on another package of
//! the workspace, so that they still run when those do not compile.
#![forbid(unsafe_code)]

#[cfg(feature = "onnx-proto")]
mod onnx_proto;
mod source;
mod tidy;
mod tree;

use std::io::Write;
use std::process::ExitCode;

use crate::tree::Tree;

const USAGE: &str = "usage: cargo xtask tidy\n       cargo xtask onnx-proto --proto FILE\n\n  tidy   check the source tree: file and function sizes, module docs, places of `unsafe`, crate edges,\n         what the runtime imports, one stem an op, hygiene of text\n  onnx-proto\n         write graphs/src/onnx/proto.rs from FILE, the onnx.proto of the PyPI package `onnx`";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["tidy"] => tidy_here(),
        ["onnx-proto", "--proto", file] => onnx_proto_here(file),
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

/// Writes `graphs/src/onnx/proto.rs` from the protobuf description in `file`.
#[cfg(feature = "onnx-proto")]
fn onnx_proto_here(file: &str) -> Result<ExitCode, String> {
    let here =
        std::env::current_dir().map_err(|error| format!("cannot tell the current directory: {error}"))?;
    let root = tree::workspace_root(&here).map_err(|error| error.to_string())?;
    let written = onnx_proto::generate(file.as_ref(), &root)?;
    print(&format!("wrote {}", written.display()))?;
    Ok(ExitCode::SUCCESS)
}

/// Says how to build the chore: its protobuf compiler is behind a feature.
#[cfg(not(feature = "onnx-proto"))]
fn onnx_proto_here(file: &str) -> Result<ExitCode, String> {
    Err(format!(
        "this chore is not built in; run `cargo run --release --package xtask --features onnx-proto -- \
         onnx-proto --proto {file}`"
    ))
}

fn print(text: &str) -> Result<(), String> {
    writeln!(std::io::stdout(), "{text}").map_err(|error| format!("cannot write to standard output: {error}"))
}
