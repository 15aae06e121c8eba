//! Why a pickle is refused.

/// Why a pickle is refused. Places are bytes from its beginning.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::weights::torch) enum PickleError {
    /// It ends before its last opcode.
    #[error("the pickle ends in byte {at}, in the middle; copy or download the file again")]
    Truncated {
        /// Where it ends.
        at: usize,
    },
    /// An opcode that no state dict needs.
    #[error("byte {at} of the pickle is opcode {opcode:#04x}, which no state dict needs")]
    Opcode {
        /// Where.
        at: usize,
        /// Which.
        opcode: u8,
    },
    /// A name of Python that no state dict needs.
    #[error(
        "it asks for `{name}` (byte {at} of the pickle), which is no part of a state dict: gptjc runs no code of a file. \
         Save the state dict alone: torch.save(model.state_dict(), FILE)"
    )]
    Global {
        /// Where.
        at: usize,
        /// The name, shortened if it is long.
        name: String,
    },
    /// Opcodes that do not fit each other.
    #[error("byte {at} of the pickle: {what}; copy or download the file again")]
    Malformed {
        /// Where.
        at: usize,
        /// What is wrong.
        what: &'static str,
    },
    /// It takes more memory than a state dict of its length.
    #[error("byte {at} of the pickle: it would take more memory than any state dict of its length")]
    Memory {
        /// Where.
        at: usize,
    },
}
