//! Names of what a plan keeps from one run of an entry point to the next: [`Memory::State`](super::Memory::State).

/// Partial sums of the loss, one for each level of the tree over windows.
pub const LOSS_STACK: &str = "loss.sum";

/// Partial sums of a parameter's gradient, one for each level of the tree over windows.
pub fn gradient_stack(parameter: &str) -> String {
    format!("gradient.{parameter}")
}

/// AdamW's first moment of a parameter.
pub fn first_moment(parameter: &str) -> String {
    format!("adam.m.{parameter}")
}

/// AdamW's second moment of a parameter.
pub fn second_moment(parameter: &str) -> String {
    format!("adam.v.{parameter}")
}
