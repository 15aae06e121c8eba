//! The plan as a file.
//!
//! Little-endian: 8 bytes of magic, format version (u32), length of the body (u64), CRC-32 of the body (u32), and the body:
//! one protobuf message. The version stands before anything that may have another meaning in it.

use super::wire_layout::Kind;
use super::{CompileOptions, FORMAT_VERSION, Plan, verify};
use crate::wire::{self, WireError};
use prost::Message;

/// First bytes of a plan file.
pub const MAGIC: &[u8; 8] = b"gptjplan";

/// Bytes that are not a usable plan.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// Not a plan at all.
    #[error(
        "this is not a gptjc plan: expected the first 8 bytes to be `gptjplan`; write one with `gptjc compile`"
    )]
    Magic,
    /// A plan that is cut off.
    #[error(
        "the plan is cut off: expected {expected} bytes, found {found}; write it again with `gptjc compile`"
    )]
    Truncated {
        /// Bytes that the file should have.
        expected: u64,
        /// Bytes that it has.
        found: u64,
    },
    /// A plan whose bytes have changed.
    #[error(
        "the plan is damaged: its checksum is {found:08x} and should be {expected:08x}; write it again with `gptjc compile`"
    )]
    Checksum {
        /// Checksum in the file.
        expected: u32,
        /// Checksum of the body.
        found: u32,
    },
    /// A body that is no plan.
    #[error("the plan cannot be decoded: {0}; write it again with `gptjc compile`")]
    Decode(#[from] prost::DecodeError),
    /// A body that is no message, or would take much more memory than its bytes.
    #[error("the plan cannot be decoded: {0}; write it again with `gptjc compile`")]
    Wire(#[from] WireError),
    /// A plan of another version.
    #[error(
        "the plan has format version {found}, this gptjc reads version {expected}; \
         renew it with `gptjc compile --from OLD.plan -o NEW.plan`"
    )]
    Version {
        /// Version of the file.
        found: u32,
        /// Version that this program reads.
        expected: u32,
    },
    /// A plan that contradicts itself.
    #[error("the plan contradicts itself: {0}; write it again with `gptjc compile`")]
    Invalid(#[from] verify::PlanError),
}

/// Bytes in memory that any plan may take.
const CONSTANT: usize = 64 << 10;

const HEADER: usize = MAGIC.len() + 4 + 8 + 4;

/// The plan as bytes. Equal plans give equal bytes.
pub fn encode(plan: &Plan) -> Vec<u8> {
    let body = plan.encode_to_vec();
    let mut bytes = Vec::with_capacity(HEADER + body.len());
    bytes.extend(MAGIC);
    bytes.extend(plan.format_version.to_le_bytes());
    bytes.extend((body.len() as u64).to_le_bytes());
    bytes.extend(crc32fast::hash(&body).to_le_bytes());
    bytes.extend(body);
    bytes
}

/// What a plan of any version was compiled for, at the tags that every version keeps.
#[derive(Clone, PartialEq, prost::Message)]
struct OptionsOnly {
    #[prost(message, required, tag = "3")]
    options: CompileOptions,
}

/// Version and body of a plan file whose length and checksum are right.
fn open(bytes: &[u8]) -> Result<(u32, &[u8]), ArtifactError> {
    let rest = bytes.strip_prefix(MAGIC.as_slice()).ok_or(ArtifactError::Magic)?;
    let truncated = |expected: u64| ArtifactError::Truncated { expected, found: bytes.len() as u64 };
    let header = || truncated(HEADER as u64);
    let (version, rest) = rest.split_first_chunk().ok_or_else(header)?;
    let (length, rest) = rest.split_first_chunk().ok_or_else(header)?;
    let (checksum, body) = rest.split_first_chunk().ok_or_else(header)?;
    let length = u64::from_le_bytes(*length);
    if body.len() as u64 != length {
        return Err(truncated(length.saturating_add(HEADER as u64)));
    }
    let (expected, found) = (u32::from_le_bytes(*checksum), crc32fast::hash(body));
    if expected != found {
        return Err(ArtifactError::Checksum { expected, found });
    }
    Ok((u32::from_le_bytes(*version), body))
}

/// What a plan was compiled for, whatever version of the format it has: enough to compile it again.
///
/// # Errors
/// [`ArtifactError`] if the bytes are not a plan or are damaged.
pub fn decode_options(bytes: &[u8]) -> Result<CompileOptions, ArtifactError> {
    let (_, body) = open(bytes)?;
    wire::check(body, Kind::OptionsOnly, CONSTANT)?;
    Ok(OptionsOnly::decode(body)?.options)
}

/// Reads and verifies a plan.
///
/// # Errors
/// [`ArtifactError`] if the bytes are not a plan, are damaged, are of another version or contradict themselves.
pub fn decode(bytes: &[u8]) -> Result<Plan, ArtifactError> {
    let (found, body) = open(bytes)?;
    if found != FORMAT_VERSION {
        return Err(ArtifactError::Version { found, expected: FORMAT_VERSION });
    }
    wire::check(body, Kind::Plan, CONSTANT)?;
    let plan = Plan::decode(body)?;
    verify::verify(&plan)?;
    Ok(plan)
}
