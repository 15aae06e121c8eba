//! `gptjc report`

use clap::Args;
use std::path::PathBuf;

/// `gptjc report`
#[derive(Debug, Args)]
pub(crate) struct ReportCommand {
    /// Output directories of training runs; several are compared side by side
    #[arg(required = true, value_name = "OUT")]
    pub(crate) runs: Vec<PathBuf>,
    /// File to write the page to [default: report.html in OUT, or here for several runs]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}
