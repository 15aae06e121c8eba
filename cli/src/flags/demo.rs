//! Flags of `gptjc demo`.

use clap::Args;
use std::path::PathBuf;

/// `gptjc demo`
#[derive(Debug, Args)]
pub(crate) struct DemoCommand {
    /// Directory for everything that is made; it must be empty or not there [default: the first of gptjc-demo,
    /// gptjc-demo-2, … that is not there]
    #[arg(short, long, value_name = "DIR")]
    pub(crate) output_dir: Option<PathBuf>,
    /// Only show that all of it works, in a few seconds: fewer rows and steps, from which the model learns little
    #[arg(long)]
    pub(crate) quick: bool,
}
