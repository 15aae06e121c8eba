//! Flags of `gptjc synth`.

use super::values;
use clap::{Args, ValueEnum};
use gptjc_runtime::synth::Layout;
use std::path::PathBuf;

/// How the checkpoint lies on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LayoutWord {
    /// model.safetensors, bf16
    Safetensors,
    /// Several files of safetensors and their index, bf16
    Sharded,
    /// pytorch_model.bin as torch.save writes it, f16
    BinF16,
    /// pytorch_model.bin as torch.save writes it, f32
    BinF32,
}

impl LayoutWord {
    /// The layout.
    pub(crate) fn layout(self) -> Layout {
        match self {
            Self::Safetensors => Layout::Safetensors,
            Self::Sharded => Layout::Sharded,
            Self::BinF16 => Layout::BinF16,
            Self::BinF32 => Layout::BinF32,
        }
    }
}

/// `gptjc synth`
#[derive(Debug, Args)]
pub(crate) struct SynthCommand {
    /// config.json of the model to make up; it is copied beside the weights
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// What the values depend on, besides the names of their tensors
    #[arg(long, value_name = "N", default_value_t = 42)]
    pub(crate) seed: u64,
    /// Directory to make; it appears whole or not at all
    #[arg(short, long, visible_alias = "output-dir", value_name = "DIR")]
    pub(crate) output: PathBuf,
    /// Files of weights
    #[arg(long, value_name = "LAYOUT", value_enum, default_value_t = LayoutWord::Safetensors)]
    pub(crate) layout: LayoutWord,
    /// Standard deviation of every weight; layer norms' are around 1, all others around 0
    #[arg(long, value_name = "X", default_value_t = 0.02, value_parser = values::positive)]
    pub(crate) std: f64,
    /// Bytes of a file of --layout sharded at most, such as 2GB
    #[arg(long, value_name = "BYTES", default_value = "10GB", value_parser = values::bytes)]
    pub(crate) max_shard_size: u64,
    /// Threads; changes no value [default: the cores that this process may use]
    #[arg(long, value_name = "N", value_parser = values::threads)]
    pub(crate) threads: Option<usize>,
}
