//! Made-up models and data for measuring.

use crate::commands::weights::tensors;
use crate::error::CliError;
use gptjc_graphs::plan::ModelConfig;
use gptjc_runtime::data::window::Window;
use gptjc_runtime::diagnosis::free_disk_bytes;
use gptjc_runtime::files::FileError;
use gptjc_runtime::synth::{Layout, OldBuffers, SynthRequest, synth};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A file system in memory, where a Linux has one.
const IN_MEMORY: &str = "/dev/shm";

/// A GPT-J of these sizes, with GPT-J-6B's share of rotated lanes and number of positions.
pub(super) fn config(layers: u64, width: u64, heads: u64, vocabulary: u64) -> ModelConfig {
    let head = width / heads.max(1);
    ModelConfig {
        n_layer: layers,
        n_embd: width,
        n_head: heads,
        // 64 of 256 lanes.
        rotary_dim: (head / 4).next_multiple_of(2).min(head),
        n_inner: 4 * width,
        vocab_size: vocabulary,
        n_positions: 2048,
        layer_norm_epsilon: 1e-5,
    }
}

/// Windows of `sequence` random tokens in segments of at most `segment`, of which a share has labels.
pub(super) fn windows(
    count: u64,
    sequence: u64,
    segment: u64,
    labelled_share: f64,
    vocabulary: u64,
) -> Vec<Window> {
    let (sequence, segment) = (sequence as usize, segment.clamp(1, sequence) as usize);
    let token = |index: u64| (index.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 33) % vocabulary.max(1);
    (0..count)
        .map(|window| {
            let first = window * sequence as u64;
            let tokens: Vec<u32> = (0..sequence as u64).map(|index| token(first + index) as u32).collect();
            // Labels at the end of a segment, as the answer to a prompt has them.
            let has_label = |slot: usize| {
                let (place, length) = (slot % segment, segment.min(sequence - slot / segment * segment));
                place as f64 >= length as f64 * (1.0 - labelled_share) - 1e-9
            };
            let targets = (0..sequence)
                .map(|slot| has_label(slot).then(|| token(first + slot as u64 + 1) as u32))
                .collect();
            Window {
                positions: (0..sequence).map(|slot| (slot % segment) as u32).collect(),
                segments: (0..sequence)
                    .step_by(segment)
                    .map(|at| segment.min(sequence - at) as u32)
                    .collect(),
                tokens,
                targets,
            }
        })
        .collect()
}

/// A directory with random weights, in memory if they fit there; removed when it is dropped.
pub(super) struct SyntheticModel {
    directory: TempDir,
}

impl SyntheticModel {
    /// Makes the weights of `config`.
    pub(super) fn new(config: &ModelConfig, threads: usize) -> Result<Self, CliError> {
        let tensors = tensors(config);
        let bytes = 2 * tensors.iter().map(|spec| spec.len() as u64).sum::<u64>();
        let place = place(bytes);
        let directory = tempfile::Builder::new()
            .prefix("gptjc-bench-")
            .tempdir_in(&place)
            .map_err(|source| FileError::new("make a directory in", &place, source))?;
        let request = SynthRequest {
            tensors: &tensors,
            old_buffers: OldBuffers { layers: 0, positions: 0 },
            config: b"{}\n",
            seed: 1,
            std: 0.02,
            layout: Layout::Safetensors,
            max_shard_bytes: u64::MAX,
            threads,
            directory: &directory.path().join("model"),
        };
        synth(&request, &|_| {}).map_err(|source| CliError::Synth(source.into()))?;
        Ok(Self { directory })
    }

    /// Where the weights are.
    pub(super) fn path(&self) -> PathBuf {
        self.directory.path().join("model")
    }
}

/// Where `bytes` of weights go: into memory, if that leaves as much again.
fn place(bytes: u64) -> PathBuf {
    let in_memory = Path::new(IN_MEMORY);
    let fits = in_memory.is_dir() && free_disk_bytes(in_memory).is_some_and(|free| free / 2 >= bytes);
    if fits { in_memory.to_owned() } else { std::env::temp_dir() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_fill_a_window_and_labels_end_them() {
        let made = windows(2, 10, 4, 0.5, 100);
        assert_eq!(made.len(), 2);
        let window = &made[0];
        assert_eq!(window.segments, [4, 4, 2]);
        assert_eq!(window.positions, [0, 1, 2, 3, 0, 1, 2, 3, 0, 1]);
        let labelled: Vec<bool> = window.targets.iter().map(Option::is_some).collect();
        assert_eq!(labelled, [false, false, true, true, false, false, true, true, false, true]);
        assert!(window.tokens.iter().all(|&token| token < 100));
        assert!(windows(1, 7, 99, 1.0, 100)[0].targets.iter().all(Option::is_some));
        assert_ne!(made[0].tokens, made[1].tokens);
    }

    #[test]
    fn a_config_of_any_width_has_an_even_number_of_rotated_lanes() {
        assert_eq!(config(2, 4096, 16, 50400).rotary_dim, 64);
        assert_eq!(config(2, 24, 4, 50).rotary_dim, 2);
    }
}
