//! Flags of `gptjc inspect`.

use super::values;
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// Windows of an epoch, if none are given.
pub(crate) const WINDOWS: u64 = 5000;
/// Epochs, if none are given: those of the reference workflow.
pub(crate) const EPOCHS: f64 = 3.0;
/// Share of positions with a label, if none is given: about that of MNLI rows, three tokens of a row of sixty.
pub(crate) const LABELLED_SHARE: f64 = 0.05;

/// `gptjc inspect`
#[derive(Debug, Args)]
pub(crate) struct InspectCommand {
    /// The plan
    #[arg(value_name = "PLAN")]
    pub(crate) plan: PathBuf,
    /// What to show [default: summary as text, fused as dot, all else]
    #[arg(long, value_enum)]
    pub(crate) show: Option<Show>,
    /// Show this entry point only [default: all of them; of graphs, micro_step]
    #[arg(long, value_name = "NAME")]
    pub(crate) entry: Option<String>,
    /// Of graphs, show this block only, by its number from 0
    #[arg(long, value_name = "N")]
    pub(crate) layer: Option<u32>,
    /// In which form
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
    /// File to write to; it appears whole or not at all [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) job: InspectJobFlags,
}

/// The job to predict.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "The job to predict")]
pub(crate) struct InspectJobFlags {
    /// Full windows of an epoch [default: 5000]
    #[arg(long, value_name = "N", value_parser = values::count)]
    pub(crate) windows: Option<u64>,
    /// Epochs [default: 3]
    #[arg(long, value_name = "X", value_parser = values::positive)]
    pub(crate) epochs: Option<f64>,
    /// Share of positions that have a label where prompts are masked [default: 0.05]
    #[arg(long, value_name = "X", value_parser = values::share_of_all)]
    pub(crate) labelled_share: Option<f64>,
}

impl InspectJobFlags {
    /// A flag that was typed.
    pub(crate) fn first_given(&self) -> Option<&'static str> {
        let given = [
            ("--windows", self.windows.is_some()),
            ("--epochs", self.epochs.is_some()),
            ("--labelled-share", self.labelled_share.is_some()),
        ];
        given.iter().find(|(_, given)| *given).map(|(flag, _)| *flag)
    }
}

/// Parts of what there is to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Show {
    /// Options, predicted memory and time, entry points, the whole job
    Summary,
    /// The training graph: primitive ops, before the passes
    Graph,
    /// The graph after the passes
    Fused,
    /// Every buffer and every step
    Plan,
    /// Regions, temporaries with offsets and lifetimes, streamed weights
    Memory,
    /// FLOPs, bytes and predicted time by kernel and by part of the model
    Costs,
    /// What each pass did, and what it missed and why
    Passes,
    /// All of it
    All,
}

impl Show {
    /// The word on the command line.
    pub(crate) fn word(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// True if `part` is to be shown.
    pub(crate) fn has(self, part: Show) -> bool {
        self == part || self == Show::All
    }

    /// True if that shows the prediction of a job.
    pub(crate) fn has_job(self) -> bool {
        self.has(Show::Summary) || self.has(Show::Costs)
    }
}

/// Forms of what is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people, on a terminal
    Text,
    /// A graph for Graphviz
    Dot,
    /// For programs; docs/inspect.md has the schema
    Json,
    /// One page for a browser, with nothing outside of it
    Html,
}

impl Format {
    /// The word on the command line.
    pub(crate) fn word(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}
