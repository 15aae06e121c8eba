//! Flags of `gptjc convert`.

use super::export::{MadeDirectory, StoredType};
use super::values;
use clap::Args;
use std::path::PathBuf;

/// `gptjc convert`
#[derive(Debug, Args)]
pub(crate) struct ConvertCommand {
    /// Model: a directory, or owner/name in the Hugging Face cache; safetensors or pytorch_model.bin, one file or shards
    #[arg(long, visible_alias = "model-name-or-path", value_name = "MODEL")]
    pub(crate) model: PathBuf,
    /// Revision of a --model that is named as on the hub [default: main]
    #[arg(long, visible_alias = "model-revision", value_name = "REVISION")]
    pub(crate) revision: Option<String>,
    /// Type in which weights are stored; bf16 is what kernels read without converting
    #[arg(long, value_name = "TYPE", value_enum, default_value_t = StoredType::Bf16)]
    pub(crate) dtype: StoredType,
    /// Bytes of a file of weights at most, such as 2GB
    #[arg(long, value_name = "BYTES", default_value = "5GB", value_parser = values::bytes)]
    pub(crate) max_shard_size: u64,
    #[command(flatten)]
    pub(crate) made: MadeDirectory,
    /// Print the report as JSON, with the numbers of every tensor
    #[arg(long)]
    pub(crate) json: bool,
}
