//! The kernels against their op.
