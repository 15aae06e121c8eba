//! The plan as a file: eight bytes of magic, then one protobuf message.

use super::{CompileOptions, FORMAT_VERSION, Plan, verify};
use prost::Message;

/// First bytes of a plan file.
pub const MAGIC: &[u8; 8] = b"gptjplan";

/// Bytes that are not a usable plan.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// Not a plan at all.
    #[error("this is not a gptjc plan: expected the first 8 bytes to be `gptjplan`; write one with `gptjc compile`")]
    Magic,
    /// A plan that is cut off or damaged.
    #[error("the plan is damaged: {0}; write it again with `gptjc compile`")]
    Decode(#[from] prost::DecodeError),
    /// A plan of another version.
    #[error(
        "the plan has format version {found} (written by gptjc {compiler}), this gptjc reads version {expected}; \
         renew it with `gptjc compile --from OLD.plan -o NEW.plan`"
    )]
    Version {
        /// Version of the file.
        found: u32,
        /// Version that this program reads.
        expected: u32,
        /// Version of the compiler that wrote it.
        compiler: String,
    },
    /// A plan that contradicts itself.
    #[error("the plan contradicts itself: {0}; write it again with `gptjc compile`")]
    Invalid(#[from] verify::PlanError),
}

/// The header fields, which every version of the format keeps in place.
#[derive(Clone, PartialEq, prost::Message)]
struct Header {
    #[prost(uint32, tag = "1")]
    format_version: u32,
    #[prost(string, tag = "2")]
    compiler_version: String,
}

/// What a plan was compiled for, which every version of the format keeps in place too.
#[derive(Clone, PartialEq, prost::Message)]
struct Renewable {
    #[prost(message, required, tag = "3")]
    options: CompileOptions,
}

/// The plan as bytes. Equal plans give equal bytes.
pub fn encode(plan: &Plan) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    plan.encode_raw(&mut bytes);
    bytes
}

/// Reads and verifies a plan.
///
/// # Errors
/// [`ArtifactError`] if the bytes are not a plan, are damaged, are of another version or contradict themselves.
pub fn decode(bytes: &[u8]) -> Result<Plan, ArtifactError> {
    let body = bytes.strip_prefix(MAGIC.as_slice()).ok_or(ArtifactError::Magic)?;
    let header = Header::decode(body)?;
    if header.format_version != FORMAT_VERSION {
        let (found, compiler) = (header.format_version, header.compiler_version);
        return Err(ArtifactError::Version { found, expected: FORMAT_VERSION, compiler });
    }
    let plan = Plan::decode(body)?;
    verify::verify(&plan)?;
    Ok(plan)
}

/// Reads only what a plan was compiled for, whatever its version, so that it can be compiled again.
///
/// # Errors
/// [`ArtifactError::Magic`] or [`ArtifactError::Decode`] if the bytes are not a plan or are damaged.
pub fn decode_options(bytes: &[u8]) -> Result<CompileOptions, ArtifactError> {
    let body = bytes.strip_prefix(MAGIC.as_slice()).ok_or(ArtifactError::Magic)?;
    Ok(Renewable::decode(body)?.options)
}
