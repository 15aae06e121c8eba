//! The compiled `decode` entry point against Hugging Face's merged models: logits, and greedy continuations.
#![expect(clippy::unwrap_used, reason = "a helper of tests that cannot go on fails the test")]

use gptjc_runtime::adapter::Adapter;
use gptjc_runtime::train::Start;
use gptjc_runtime::validate::engine::Engine;
use gptjc_runtime::validate::native_engine::NativeEngine;
use gptjc_runtime::weights::Checkpoint;
use gptjc_tests::golden::{Golden, read_integers, read_tensors};
use std::sync::Arc;

/// An engine for the golden case's trained model, with runs of at most `slots` new tokens.
fn engine(golden: &Golden, sequences: u64, slots: u64) -> NativeEngine {
    let mut options = golden.compile_options();
    options.decode_sequences = sequences;
    options.decode_slots = slots;
    options.max_seq_length += 5;
    let plan = gptjc_compiler::compile(&options).unwrap();
    let dir = golden.dir.join("adapter_final");
    if golden.expected.hyper_parameters.full {
        let checkpoint = Arc::new(Checkpoint::open(&dir).unwrap());
        return NativeEngine::new(plan, checkpoint, Start::Fresh, 2).unwrap();
    }
    let start = Start::Adapter(Adapter::load(&dir).unwrap(), "adapter_final".to_owned());
    NativeEngine::new(plan, golden.checkpoint(), start, 2).unwrap()
}

/// The real tokens of each row of the case's first batch, and the columns that they stand in.
fn rows(golden: &Golden) -> Vec<(Vec<u32>, Vec<usize>)> {
    let hyper = &golden.expected.hyper_parameters;
    let batches = golden.dir.join("batches.safetensors");
    let (ids, mask) = (read_integers(&batches, "input_ids"), read_integers(&batches, "attention_mask"));
    (0..hyper.batch)
        .map(|row| {
            let real: Vec<usize> =
                (0..hyper.seq).filter(|column| mask[row * hyper.seq + column] == 1).collect();
            let tokens = real.iter().map(|column| ids[row * hyper.seq + column] as u32).collect();
            (tokens, real)
        })
        .collect()
}

fn check_logits(name: &str) {
    let golden = Golden::open(name);
    let expected = &read_tensors(&golden.dir.join("expected.safetensors"))["merged_logits"];
    let seq = golden.expected.hyper_parameters.seq;
    // Prompts taken whole, and in parts of 5 tokens.
    for slots in [64, 5] {
        let mut engine = engine(&golden, 2, slots);
        for (row, (tokens, columns)) in rows(&golden).into_iter().enumerate() {
            let found = engine.logits(&[tokens]).unwrap().remove(0);
            for (index, column) in columns.into_iter().enumerate() {
                let start = (row * seq + column) * found.vocabulary;
                let expected = &expected[start..start + found.vocabulary];
                let found = &found.values[index * found.vocabulary..][..found.vocabulary];
                let difference = found.iter().zip(expected).map(|(f, e)| (f - e).abs()).fold(0.0, f32::max);
                assert!(
                    difference <= 2e-5,
                    "{name}, row {row}, column {column}: logits differ by {difference:.2e}"
                );
            }
        }
    }
}

#[test]
fn logits_are_those_of_the_merged_model() {
    for name in ["plain", "padded", "accumulate", "full", "alltargets"] {
        check_logits(name);
    }
}

#[test]
fn greedy_continuations_are_those_of_the_merged_model() {
    for name in ["plain", "full", "alltargets"] {
        let golden = Golden::open(name);
        let hyper = &golden.expected.hyper_parameters;
        let generated = read_integers(&golden.dir.join("expected.safetensors"), "generated");
        let prompts: Vec<Vec<u32>> = rows(&golden).into_iter().map(|(tokens, _)| tokens).collect();
        let eos = u32::MAX; // the golden rows run to their full length
        for (sequences, slots) in [(2, 64), (1, 7)] {
            let answers = engine(&golden, sequences, slots).generate(&prompts, 5, eos).unwrap();
            for (row, answer) in answers.iter().enumerate() {
                let expected = &generated[row * (hyper.seq + 5) + hyper.seq..][..5];
                let found: Vec<i64> = answer.iter().map(|&token| i64::from(token)).collect();
                assert_eq!(found, expected, "{name}, row {row}");
            }
        }
    }
}

#[test]
fn scores_are_sums_of_log_probabilities() {
    let golden = Golden::open("plain");
    let mut engine = engine(&golden, 2, 64);
    let prompts: Vec<Vec<u32>> = rows(&golden).into_iter().map(|(tokens, _)| tokens[..9].to_vec()).collect();
    let candidates = [vec![3], vec![7, 11], vec![500, 2, 9]];
    let scores = engine.score(&prompts, &candidates).unwrap();
    for (prompt, scores) in prompts.iter().zip(scores) {
        for (candidate, score) in candidates.iter().zip(scores) {
            let mut row = prompt.clone();
            row.extend(candidate);
            let logits = engine.logits(&[row]).unwrap().remove(0);
            let mut expected = 0.0;
            for (index, &token) in candidate.iter().enumerate() {
                let at = (prompt.len() + index - 1) * logits.vocabulary;
                let row = &logits.values[at..at + logits.vocabulary];
                let sum: f64 = row.iter().map(|&x| f64::from(x).exp()).sum();
                expected += f64::from(row[token as usize]) - sum.ln();
            }
            assert!((f64::from(score) - expected).abs() < 1e-4, "{candidate:?}: {score} for {expected}");
        }
    }
}

#[test]
fn prompts_that_cannot_be_run_are_refused() {
    let golden = Golden::open("plain");
    let mut engine = engine(&golden, 2, 64);
    let mut refusal = |prompt: Vec<u32>| engine.generate(&[prompt], 5, 0).unwrap_err().to_string();
    assert!(refusal(vec![]).starts_with("row 0 of the batch has no tokens"));
    assert!(refusal(vec![1; 17]).starts_with("row 0 of the batch needs 22 positions, the model has 21"));
    assert!(refusal(vec![512]).starts_with("token 512 is outside of the model's vocabulary of 512"));
}
