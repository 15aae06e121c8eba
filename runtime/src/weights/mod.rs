//! Reading weights: files of safetensors and of `torch.save`, Hugging Face model directories, elements as f32 and bf16.
//!
//! Everything is checked when it is opened or by [`Checkpoint::check`], before any work starts; the tensors
//! themselves stay in the mapped file until they are read.
//! Does not: download, or know what a GPT-J is: the caller lists the tensors it expects as [`TensorSpec`]s.

mod checkpoint;
pub mod convert;
mod error;
mod index;
pub(crate) mod layout;
pub mod safetensors_file;
mod safetensors_header;
mod tensor_spec;
mod torch;

pub use checkpoint::{Checkpoint, Format, TensorView, WeightDtype};
pub use error::WeightsError;
pub use safetensors_file::{SafetensorsError, SafetensorsFile};
pub use tensor_spec::TensorSpec;
pub use torch::{PickleProblem, TorchError};

#[cfg(test)]
pub(crate) mod test_files;
