//! The Rust types of ONNX's protobuf messages, made of the official description by protox and prost-build.
//!
//! The result is checked in, so that users build neither a protobuf compiler nor a code generator. Same
//! description, same bytes. The description itself is not checked in: its hash in the header says which it was.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// Where the types go, seen from the workspace.
const OUTPUT: &str = "graphs/src/onnx/proto.rs";

/// Writes [`OUTPUT`] under `root` from the description in `proto`, and says where it went.
///
/// # Errors
/// A text that names the file and what is wrong with it.
pub(crate) fn generate(proto: &Path, root: &Path) -> Result<PathBuf, String> {
    let description =
        std::fs::read(proto).map_err(|error| format!("cannot read `{}`: {error}", proto.display()))?;
    let types = compile(proto)?;
    let output = root.join(OUTPUT);
    let text = format!("{}{types}", header(&description));
    std::fs::write(&output, text).map_err(|error| format!("cannot write `{}`: {error}", output.display()))?;
    Ok(output)
}

fn compile(proto: &Path) -> Result<String, String> {
    let folder = proto.parent().unwrap_or(Path::new("."));
    let messages = protox::compile([proto], [folder])
        .map_err(|error| format!("cannot compile `{}`: {error}", proto.display()))?;
    let modules = messages
        .file
        .into_iter()
        .map(|file| (prost_build::Module::from_protobuf_package_name(file.package()), file))
        .collect();
    let mut config = prost_build::Config::new();
    config.disable_comments(["."]);
    let made = config
        .generate(modules)
        .map_err(|error| format!("cannot make Rust types of `{}`: {error}", proto.display()))?;
    made.into_values().next().ok_or_else(|| format!("`{}` describes no message", proto.display()))
}

fn header(description: &[u8]) -> String {
    let mut hash = String::new();
    for byte in Sha256::digest(description) {
        // Writing to a String does not fail.
        let _ = write!(hash, "{byte:02x}");
    }
    format!(
        "//! ONNX's protobuf messages as prost types: what `model.onnx` consists of. Made by a program, not edited by hand.\n\
         //!\n\
         //! Made by `cargo xtask onnx-proto --proto onnx.proto`, with protox and prost-build, from the `onnx.proto`\n\
         //! of the PyPI package `onnx` (SHA-256 of the file:\n\
         //! {hash}).\n\
         //! The description, of which this is a translation, is Copyright (c) ONNX Project Contributors and\n\
         //! licensed under the Apache License, Version 2.0 (SPDX-License-Identifier: Apache-2.0).\n\n"
    )
}
