//! The data path against `tests/golden/tokens.json`, written by Hugging Face's tokenizer: ids, masks, windows.

use super::examples::{Example, ExampleError, ExampleOptions, tokenize_row, tokenize_rows};
use super::mnli::{MnliReader, MnliRow, Purpose};
use super::packing::{PackingOptions, pack};
use super::prompt::PromptTemplate;
use super::tokenizer::GptJTokenizer;
use super::window::{IGNORED_LABEL, WindowLimits};
use gptjc_graphs::plan::Packing;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

#[derive(Deserialize)]
struct Golden {
    window: usize,
    rows: Vec<GoldenRow>,
    windows: Vec<Vec<u32>>,
    windows_labels_masked: Vec<Vec<i64>>,
    strings: BTreeMap<String, Vec<u32>>,
}

#[derive(Deserialize)]
struct GoldenRow {
    row: serde_json::Value,
    prompt: String,
    input_ids: Vec<u32>,
    labels_masked: Vec<i64>,
}

fn repository_tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests")
}

fn golden() -> Golden {
    let text = std::fs::read_to_string(repository_tests().join("golden/tokens.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn tokenizer() -> GptJTokenizer {
    GptJTokenizer::from_dir(&repository_tests().join("tokenizer")).unwrap()
}

fn signed(labels: &[Option<u32>]) -> Vec<i64> {
    labels.iter().map(|label| label.map_or(IGNORED_LABEL, i64::from)).collect()
}

fn examples(golden: &Golden, train_on_inputs: bool, threads: usize) -> Vec<Example> {
    let jsonl: String = golden.rows.iter().map(|row| format!("{}\n", row.row)).collect();
    let reader = MnliReader::json_lines(Path::new("golden"), jsonl.as_bytes(), Purpose::Training);
    let rows: Vec<_> = reader.collect::<Result<_, _>>().unwrap();
    let options = ExampleOptions { train_on_inputs, ..ExampleOptions::default() };
    tokenize_rows(&rows, &options, &tokenizer(), NonZeroUsize::new(threads).unwrap()).unwrap()
}

fn concat(golden: &Golden) -> PackingOptions {
    let limits = WindowLimits { window_length: golden.window, n_positions: 2048, vocab_size: 50400 };
    PackingOptions { packing: Packing::Concat, limits, max_windows: None }
}

#[test]
fn strings_have_the_reference_ids() {
    let tokenizer = tokenizer();
    for (text, ids) in &golden().strings {
        assert_eq!(&tokenizer.encode(text).unwrap(), ids, "{text:?}");
    }
}

#[test]
fn rows_have_the_reference_prompts_ids_and_masks() {
    let golden = golden();
    assert_eq!(golden.rows.len(), 96);
    let examples = examples(&golden, false, 2);
    assert_eq!(examples.len(), golden.rows.len());
    for (index, (example, expected)) in examples.iter().zip(&golden.rows).enumerate() {
        assert_eq!(example.ids, expected.input_ids, "row {index}");
        assert_eq!(signed(&example.labels), expected.labels_masked, "row {index}");
        let line = expected.row.to_string();
        let row = MnliReader::json_lines(Path::new("golden"), line.as_bytes(), Purpose::Validation).next();
        assert_eq!(PromptTemplate::default().prompt(&row.unwrap().unwrap()), expected.prompt, "row {index}");
    }
}

#[test]
fn training_on_inputs_labels_every_token() {
    for example in examples(&golden(), true, 1) {
        assert_eq!(example.labels, example.ids.iter().copied().map(Some).collect::<Vec<_>>());
    }
}

#[test]
fn a_row_without_a_label_is_no_example() {
    let row = MnliRow { premise: "p".into(), hypothesis: "h".into(), label: None, line: 7 };
    let error = tokenize_row(&row, &ExampleOptions::default(), &tokenizer()).unwrap_err();
    assert!(matches!(error, ExampleError::NoLabel { line: 7 }), "{error:?}");
    assert_eq!(error.to_string(), "the row of line 7 has no label to train on");
}

#[test]
fn examples_do_not_depend_on_the_number_of_threads() {
    let golden = golden();
    let one = examples(&golden, false, 1);
    for threads in [2, 5, 96, 200] {
        assert_eq!(examples(&golden, false, threads), one, "{threads} threads");
    }
}

#[test]
fn concatenated_windows_are_the_reference_windows() {
    let golden = golden();
    let packed = pack(&examples(&golden, false, 2), &concat(&golden)).unwrap();
    assert_eq!(packed.windows.len(), golden.windows.len());
    for (index, window) in packed.windows.iter().enumerate() {
        assert_eq!(window.tokens, golden.windows[index], "window {index}");
        assert_eq!(window.positions, (0..golden.window as u32).collect::<Vec<_>>(), "window {index}");
        assert_eq!(window.segments, [golden.window as u32], "window {index}");
        // The reference shifts inside the loss; a window holds what each slot is to predict.
        let (last, targets) = window.targets.split_last().unwrap();
        assert_eq!(signed(targets), golden.windows_labels_masked[index][1..], "window {index}");
        assert_eq!(*last, None, "window {index}");
    }
}

#[test]
fn the_sample_limit_counts_windows() {
    let golden = golden();
    let examples = examples(&golden, false, 2);
    let all = pack(&examples, &concat(&golden)).unwrap();
    let five = pack(&examples, &PackingOptions { max_windows: Some(5), ..concat(&golden) }).unwrap();
    assert_eq!(five.windows, all.windows[..5]);
    assert_eq!(five.report.windows_cut, all.windows.len() - 5);
}
