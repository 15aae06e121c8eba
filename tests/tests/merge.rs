//! A merged directory is a model: without the adapter it says what the base model says with it, and what Hugging Face's
//! merged model says.
#![expect(clippy::unwrap_used, reason = "a helper of tests that cannot go on fails the test")]

use gptjc_runtime::adapter::Adapter;
use gptjc_runtime::merge::{MAX_SHARD_BYTES, MergeRequest, merge};
use gptjc_runtime::train::Start;
use gptjc_runtime::validate::Engine;
use gptjc_runtime::validate::native_engine::NativeEngine;
use gptjc_runtime::weights::{Checkpoint, TensorSpec};
use gptjc_tests::golden::{Golden, read_integers, read_tensors};
use std::path::Path;
use std::sync::Arc;

/// Merges the golden adapter in f32 into `directory`.
fn merge_into(golden: &Golden, directory: &Path) {
    let checkpoint = Checkpoint::open(&golden.dir.join("model")).unwrap();
    let spec = |name: &str| TensorSpec::new(name, checkpoint.tensor(name).unwrap().shape);
    let tensors: Vec<TensorSpec> = checkpoint.names().map(spec).collect();
    let adapter_dir = golden.dir.join("adapter_final");
    let adapter = Adapter::load(&adapter_dir).unwrap();
    let request = MergeRequest {
        checkpoint: &checkpoint,
        tensors: &tensors,
        adapter: &adapter,
        adapter_dir: &adapter_dir,
        dtype: None,
        tokenizer_dir: None,
        directory,
        overwrite: false,
        max_shard_bytes: MAX_SHARD_BYTES,
    };
    merge(&request, &mut |_| {}).unwrap();
}

/// Logits of `rows` by the model in `checkpoint`, with the golden adapter apart or with no adapter at all.
fn logits(golden: &Golden, checkpoint: &Path, with_adapter: bool, rows: &[Vec<u32>]) -> Vec<Vec<f32>> {
    let mut options = golden.compile_options();
    (options.decode_sequences, options.decode_slots) = (2, 64);
    let start = match with_adapter {
        true => Start::Adapter(Adapter::load(&golden.dir.join("adapter_final")).unwrap(), "final".to_owned()),
        false => {
            options.lora = None;
            Start::Fresh
        }
    };
    let plan = gptjc_compiler::compile(&options).unwrap();
    let checkpoint = Arc::new(Checkpoint::open(checkpoint).unwrap());
    let mut engine = NativeEngine::new(plan, checkpoint, start, 2).unwrap();
    engine.logits(rows).unwrap().into_iter().map(|row| row.values).collect()
}

#[test]
fn a_merged_directory_says_what_the_model_says_with_its_adapter() {
    for name in ["plain", "alltargets"] {
        let golden = Golden::open(name);
        let parent = tempfile::tempdir().unwrap();
        let merged = parent.path().join("merged");
        merge_into(&golden, &merged);
        let hyper = &golden.expected.hyper_parameters;
        let ids = read_integers(&golden.dir.join("batches.safetensors"), "input_ids");
        let rows: Vec<Vec<u32>> = (0..hyper.batch)
            .map(|row| ids[row * hyper.seq..][..hyper.seq].iter().map(|&id| id as u32).collect())
            .collect();
        let found = logits(&golden, &merged, false, &rows).concat();
        let apart = logits(&golden, &golden.dir.join("model"), true, &rows).concat();
        let base = logits(&golden, &golden.dir.join("model"), false, &rows).concat();
        let expected = &read_tensors(&golden.dir.join("expected.safetensors"))["merged_logits"];
        let difference = |one: &[f32], other: &[f32]| {
            assert_eq!(one.len(), other.len(), "{name}");
            one.iter().zip(other).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
        };
        let (to_apart, to_expected) = (difference(&found, &apart), difference(&found, expected));
        assert!(to_apart <= 1e-5, "{name}: {to_apart:.2e} from the adapter apart");
        assert!(to_expected <= 1e-5, "{name}: {to_expected:.2e} from Hugging Face's merged model");
        assert!(difference(&found, &base) > 1e-3, "{name}: the adapter changes nothing");
    }
}
