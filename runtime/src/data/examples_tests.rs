//! Tests of [`super`] for rows that are not MNLI's; those are in `golden_tests`.

use super::*;
use crate::data::document::Separator;
use crate::data::packing::{PackingOptions, cut_long, pack};
use crate::data::rows::read_file;
use crate::data::window::{Window, WindowLimits};
use gptjc_graphs::plan::Packing;
use std::path::{Path, PathBuf};

fn repository_tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests")
}

fn tokenizer() -> GptJTokenizer {
    GptJTokenizer::from_dir(&repository_tests().join("tokenizer")).unwrap()
}

fn two() -> NonZeroUsize {
    NonZeroUsize::new(2).unwrap()
}

fn rows(name: &str, contents: &str) -> Rows {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(name);
    std::fs::write(&path, contents).unwrap();
    read_file(&path, None, &Separator::BlankLine).unwrap().rows
}

/// The learned part of an example and the rest, as text.
fn parts(example: &Example, tokenizer: &GptJTokenizer) -> (String, String) {
    let at = example.labels.iter().position(Option::is_some).unwrap();
    assert!(example.labels[at..].iter().all(Option::is_some));
    let text = |ids: &[u32]| tokenizer.decode(ids, false).unwrap();
    (text(&example.ids[..at]), text(&example.ids[at..]))
}

#[test]
fn completions_are_learned_with_the_end_of_text() {
    let tokenizer = tokenizer();
    let rows = rows(
        "a.jsonl",
        "{\"prompt\": \"2 + 2 =\", \"completion\": \" 4\"}\n{\"prompt\": \"p\", \"completion\": null}\n\
         {\"input\": \"\", \"output\": \"x<|endoftext|>\"}\n",
    );
    let Rows::Completions(found) = &rows else { panic!("{rows:?}") };
    assert_eq!(found.iter().map(|row| row.line).collect::<Vec<_>>(), [1, 3]);
    let examples = tokenize(&rows, &ExampleOptions::default(), &tokenizer, two()).unwrap();
    assert_eq!(parts(&examples[0], &tokenizer), ("2 + 2 =".into(), " 4<|endoftext|>".into()));
    assert_eq!(parts(&examples[1], &tokenizer), (String::new(), "x<|endoftext|>".into()));
    let options = ExampleOptions { train_on_inputs: true, ..ExampleOptions::default() };
    let examples = tokenize(&rows, &options, &tokenizer, two()).unwrap();
    assert_eq!(parts(&examples[0], &tokenizer), (String::new(), "2 + 2 = 4<|endoftext|>".into()));
}

#[test]
fn documents_are_learned_whole() {
    let tokenizer = tokenizer();
    let examples = |rows: &Rows| tokenize(rows, &ExampleOptions::default(), &tokenizer, two()).unwrap();
    let found = examples(&rows("a.txt", "One.\nTwo.\n\nThree.\n"));
    let texts: Vec<_> = found.iter().map(|example| parts(example, &tokenizer).1).collect();
    assert_eq!(texts, ["One.\nTwo.<|endoftext|>", "Three.<|endoftext|>"]);
    let found = examples(&rows("a.jsonl", "{\"text\": \" a\"}\n{\"text\": null}\n{\"text\": \"b\"}"));
    let texts: Vec<_> = found.iter().map(|example| parts(example, &tokenizer).1).collect();
    assert_eq!(texts, [" a<|endoftext|>", "b<|endoftext|>"]);
}

#[test]
fn pieces_change_no_token() {
    let tokenizer = tokenizer();
    let line = "  The \u{2009}clerk's café\tsaid:\n\n \"No.\"\nIt's 1,000.00 \n x\n\u{a0}y\nz";
    let text = line.repeat(3 * PIECE / line.len());
    let cut: Vec<&str> = pieces(&text).collect();
    assert!(cut.len() > 1 && cut.iter().rev().skip(1).all(|piece| piece.len() >= PIECE));
    assert_eq!(cut.concat(), text);
    let whole = tokenizer.encode(&text).unwrap();
    let joined: Vec<u32> = cut.iter().flat_map(|piece| tokenizer.encode(piece).unwrap()).collect();
    assert!(joined == whole, "{} tokens, expected {}", joined.len(), whole.len());
    let endless = "a".repeat(2 * PIECE);
    assert_eq!(pieces(&endless).count(), 1, "where nothing can be cut, nothing is");
}

#[test]
fn long_documents_are_cut_and_lose_nothing() {
    let tokenizer = tokenizer();
    let rows = rows("a.txt", "one two three four five six seven");
    let examples = tokenize(&rows, &ExampleOptions::default(), &tokenizer, two()).unwrap();
    assert_eq!(examples[0].ids.len(), 8);
    let limits = WindowLimits { window_length: 3, n_positions: 2048, vocab_size: 50400 };
    let cut = cut_long(examples.clone(), 3);
    assert_eq!(cut.iter().map(|example| example.ids.len()).collect::<Vec<_>>(), [3, 3, 2]);
    for packing in [Packing::Segments, Packing::Pad] {
        let packed = pack(&cut, &PackingOptions { packing, limits, max_windows: None }).unwrap();
        let tokens: Vec<u32> = packed.windows.iter().flat_map(|window| window.tokens.clone()).collect();
        assert_eq!(tokens, examples[0].ids);
        assert_eq!(packed.report.truncated_examples, 0);
    }
    let packed = pack(&cut, &PackingOptions { packing: Packing::Concat, limits, max_windows: None }).unwrap();
    assert_eq!((packed.windows.len(), packed.report.remainder_tokens), (2, 2));
}

fn windows(path: &Path, packing: Packing) -> Vec<Window> {
    let read = read_file(path, None, &Separator::File).unwrap();
    assert_eq!((read.rows.len(), read.skipped.no_label), (11, 1), "{}", path.display());
    let examples = tokenize(&read.rows, &ExampleOptions::default(), &tokenizer(), two()).unwrap();
    let limits = WindowLimits { window_length: 64, n_positions: 2048, vocab_size: 50400 };
    pack(&examples, &PackingOptions { packing, limits, max_windows: None }).unwrap().windows
}

#[test]
fn json_lines_tsv_and_parquet_give_the_same_windows() {
    let rows = repository_tests().join("rows");
    for &packing in Packing::ALL {
        let expected = windows(&rows.join("train.jsonl"), packing);
        for other in ["GLUE/MNLI/train.tsv", "hub/mnli/train-00000-of-00001.parquet"] {
            assert_eq!(windows(&rows.join(other), packing), expected, "{other}, {packing}");
        }
    }
}
