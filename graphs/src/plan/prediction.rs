//! What the compiler expects of a plan.

/// Memory and time that a plan is expected to take on its target, with every extent at its bound.
///
/// An optimizer step is `micro_steps` runs of `micro_step` and one of `apply`. All numbers are 0 in a plan that decodes.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Prediction {
    /// Bytes of memory at the peak: resident weights as far as they are touched and their copies, the persistent, arena and stream
    /// regions, and `process_bytes`.
    #[prost(uint64, tag = "1")]
    pub peak_bytes: u64,
    /// Bytes of resident weights that are touched: all but the rows of the embedding table that no token of a
    /// micro-batch asks for.
    #[prost(uint64, tag = "2")]
    pub touched_weight_bytes: u64,
    /// Bytes that the process needs besides: program, stacks, packing buffers of kernels, data.
    #[prost(uint64, tag = "3")]
    pub process_bytes: u64,
    /// Runs of `micro_step` in an optimizer step.
    #[prost(uint64, tag = "4")]
    pub micro_steps: u64,
    /// Seconds of an optimizer step.
    #[prost(double, tag = "5")]
    pub seconds: f64,
    /// Seconds of it that the steps wait for loads.
    #[prost(double, tag = "6")]
    pub wait_seconds: f64,
    /// Bytes that an optimizer step reads from the checkpoint.
    #[prost(uint64, tag = "7")]
    pub read_bytes: u64,
    /// Floating-point operations of an optimizer step, recomputation included.
    #[prost(uint64, tag = "8")]
    pub flops: u64,
    /// Floating-point operations of it that are done a second time.
    #[prost(uint64, tag = "9")]
    pub recomputed_flops: u64,
    /// Bytes that an optimizer step moves, each operand and result of a step once.
    #[prost(uint64, tag = "10")]
    pub moved_bytes: u64,
    /// Blocks whose activations are computed a second time.
    #[prost(uint64, tag = "11")]
    pub recomputed_blocks: u64,
    /// Bytes of the copies of weights that are there besides the first: one for each further NUMA node.
    #[prost(uint64, tag = "12")]
    pub weight_copy_bytes: u64,
}
