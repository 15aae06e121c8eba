//! Attention is what the ops that it is fused from compute.
