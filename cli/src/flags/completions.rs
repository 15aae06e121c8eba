//! Flags of `gptjc completions` and `gptjc man`.

use clap::Args;
use clap_complete::Shell;
use std::path::PathBuf;

/// `gptjc completions`
#[derive(Debug, Args)]
pub(crate) struct CompletionsCommand {
    /// The shell
    #[arg(value_enum)]
    pub(crate) shell: Shell,
}

/// `gptjc man`
#[derive(Debug, Args)]
pub(crate) struct ManCommand {
    /// Directory to write gptjc.1, gptjc-train.1 and the others to; files of the same names are replaced
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
}
